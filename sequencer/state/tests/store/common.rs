//! The oracle: ordered maps, one clone a version; and what the tests share.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use ironlane_state::{Expired, StateConfig, StateView};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use std::collections::BTreeMap;

/// Small reservations, so that many stores fit beside one another.
pub(crate) fn small() -> StateConfig {
    StateConfig {
        accounts: 0,
        slots: 0,
        max_accounts: 1 << 22,
        max_slots: 1 << 22,
        undo_bytes: 4 << 20,
        undo_bytes_max: 64 << 20,
        ..StateConfig::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) accounts: BTreeMap<Address, AccountInfo>,
    pub(crate) slots: BTreeMap<(Address, U256), U256>,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model { accounts: BTreeMap::new(), slots: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, delta: &StateDelta) {
        for account in &delta.accounts {
            let address = account.address;
            if account.info.is_none() || account.storage_wiped {
                self.slots.retain(|(owner, _), _| *owner != address);
            }
            let Some(info) = account.info else {
                self.accounts.remove(&address);
                continue;
            };
            self.accounts.insert(address, info);
            for (key, value) in &account.slots {
                if value.is_zero() {
                    self.slots.remove(&(address, *key));
                } else {
                    self.slots.insert((address, *key), *value);
                }
            }
        }
    }

    /// Everything the view says, as a model.
    pub(crate) fn of(view: &StateView) -> Result<Model, Expired> {
        let accounts = view.accounts().collect::<Result<_, _>>()?;
        let slots = view.slots().map(|s| s.map(|(owner, key, value)| ((owner, key), value)));
        Ok(Model { accounts, slots: slots.collect::<Result<_, _>>()? })
    }

    /// Point reads agree with the maps for these keys.
    pub(crate) fn check(
        &self,
        view: &StateView,
        addresses: &[Address],
        keys: &[U256],
    ) -> Result<(), Expired> {
        let mut batch = vec![None; addresses.len()];
        view.accounts_batch(addresses, &mut batch)?;
        for (address, batched) in addresses.iter().zip(batch) {
            let expected = self.accounts.get(address).copied();
            assert_eq!(view.account(address)?, expected, "{address} at {}", view.version());
            assert_eq!(batched, expected);
            for key in keys {
                let expected = self.slots.get(&(*address, *key)).copied().unwrap_or_default();
                assert_eq!(view.storage(address, *key)?, expected, "{address} {key} at {}", view.version());
            }
        }
        Ok(())
    }
}

pub(crate) fn address(n: u64) -> Address {
    let mut bytes = [0x5a; 20];
    bytes[12..].copy_from_slice(&n.to_be_bytes());
    Address::from(bytes)
}

pub(crate) fn plain(n: u64, nonce: u64, balance: U256) -> AccountDelta {
    let info = AccountInfo { nonce, balance, code_hash: KECCAK_EMPTY };
    AccountDelta { address: address(n), info: Some(info), storage_wiped: false, slots: vec![] }
}

pub(crate) fn one(account: AccountDelta) -> StateDelta {
    StateDelta { accounts: vec![account], codes: vec![] }
}

pub(crate) fn code(n: u8) -> (B256, Bytes) {
    let bytes = Bytes::from(vec![n; 1 + 37 * usize::from(n)]);
    (keccak256(&bytes), bytes)
}

/// A small generator; one seed, one run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
