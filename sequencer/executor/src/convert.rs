//! From revm's account states after one transaction to the write set.

use crate::{StateDb, StateRead, StoreError};
use ironlane_types::AccountInfo;
use revm::{primitives::hardfork::SpecId, state::EvmState};

/// Writes what one transaction or system call changed.
///
/// Follows EIP-161 from Spurious Dragon on (a touched, empty account ceases to exist), and before it lets empty
/// accounts exist; self-destructed accounts lose their storage; so do accounts that a contract is created over.
pub(crate) fn commit<R: StateRead>(
    db: &mut StateDb<R>,
    spec: SpecId,
    state: EvmState,
) -> Result<(), StoreError> {
    let clears_empty = spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
    for (address, mut account) in state {
        if !account.is_touched() {
            continue;
        }
        let existed = !account.is_loaded_as_not_existing();
        if account.is_selfdestructed() || (clears_empty && account.is_empty()) {
            if existed {
                db.writes.delete_account(address);
            }
            continue;
        }
        let created = account.is_created();
        let mut changed_slots = account.changed_storage_slots().peekable();
        if !created && changed_slots.peek().is_none() && !account.is_changed() {
            continue;
        }
        let info = AccountInfo {
            nonce: account.info.nonce,
            balance: account.info.balance,
            code_hash: account.info.code_hash,
        };
        if created && existed {
            db.writes.wipe_storage(address);
        }
        db.writes.set_account(address, info);
        for (key, slot) in changed_slots {
            db.writes.set_slot(address, *key, slot.present_value);
        }
        if let Some(code) = account.info.code.take()
            && !code.is_empty()
            && (created || code.is_eip7702())
            && db.writes.code(&info.code_hash).is_none()
            && db.state.code(&info.code_hash)?.is_none()
        {
            db.writes.add_code(info.code_hash, code.original_bytes());
            db.codes.insert(info.code_hash, code);
        }
    }
    Ok(())
}
