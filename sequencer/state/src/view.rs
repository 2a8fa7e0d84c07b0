//! The reading side: any number of threads, each at a sealed version.

use crate::{
    Expired, StateStats,
    record::{Account, AccountRecord, SlotRecord},
    tables::{Tables, decode_account, decode_slot},
    undo::NOTHING_SEALED,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use ironlane_types::AccountInfo;
use std::{
    ops::Deref,
    sync::{Arc, atomic::Ordering::*},
};

/// Memory that [`State::populate`] keeps ready in each table: a second's worth at 100,000 new records a second.
const POPULATED_AHEAD_BYTES: usize = 8 << 20;

/// The reading side. Cheap to clone, shared between threads.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) tables: Arc<Tables>,
}

impl State {
    /// The newest sealed version. Before the first seal every read through it answers [`Expired`].
    pub fn view(&self) -> StateView {
        let version = self.tables.sealed().unwrap_or_else(|| self.tables.unsealed.load(Acquire));
        StateView { tables: self.tables.clone(), version }
    }

    /// A given sealed version.
    pub fn view_at(&self, version: u64) -> Result<StateView, Expired> {
        let view = StateView { tables: self.tables.clone(), version };
        if self.tables.sealed().is_some_and(|newest| version <= newest)
            && version >= self.tables.undo.oldest()
        {
            Ok(view)
        } else {
            Err(view.expired())
        }
    }

    /// Gives memory to what will be written next, at most `step_bytes` of it, so that the writer never waits for the
    /// kernel to clear a page. For a background thread, again and again; answers whether there was something to do.
    pub fn populate(&self, step_bytes: usize) -> bool {
        let t = &*self.tables;
        let ahead = |count: u64, cell_bytes: usize| {
            let used = count as usize;
            (used, used + POPULATED_AHEAD_BYTES / cell_bytes)
        };
        let (accounts, accounts_until) = ahead(t.account_count.load(Acquire), size_of::<AccountRecord>());
        let (slots, slots_until) = ahead(t.slot_count.load(Acquire), size_of::<SlotRecord>());
        t.undo.populate(2 * POPULATED_AHEAD_BYTES, step_bytes)
            || t.accounts.populate(accounts, accounts_until, step_bytes)
            || t.slots.populate(slots, slots_until, step_bytes)
            || t.account_index.populate(step_bytes)
            || t.slot_index.populate(step_bytes)
    }

    /// The account as it is now, unsealed changes included (for admission). Consistent for this one account only.
    pub fn newest_account(&self, address: &Address) -> Option<AccountInfo> {
        let t = &*self.tables;
        let number = t.find_account(t.key.address(address), address)?;
        t.info(&t.accounts.get(number).read(&t.wide).0)
    }

    /// As [`Self::newest_account`] for many, memory fetched ahead. `out` has the length of `addresses`.
    pub fn newest_accounts(&self, addresses: &[Address], out: &mut [Option<AccountInfo>]) {
        assert_eq!(addresses.len(), out.len(), "one place for each address");
        let t = &*self.tables;
        let Ok(()) = t.find_accounts::<std::convert::Infallible>(addresses, |i, number| {
            out[i] = number.and_then(|n| t.info(&t.accounts.get(n).read(&t.wide).0));
            Ok(())
        });
    }

    /// Code by its hash, without a copy; `None` when it was never given. Code is never forgotten.
    pub fn code(&self, hash: &B256) -> Option<Bytes> {
        self.tables.code(hash)
    }

    /// Oldest version that can be read; `u64::MAX` before the first seal.
    pub fn oldest_version(&self) -> u64 {
        self.tables.undo.oldest()
    }

    /// Newest sealed version; `None` before the first seal.
    pub fn sealed_version(&self) -> Option<u64> {
        self.tables.sealed()
    }

    /// Sizes and counters.
    pub fn stats(&self) -> StateStats {
        self.tables.stats()
    }
}

/// One sealed version. Every method answers for exactly that version or says [`Expired`].
#[derive(Debug, Clone)]
pub struct StateView {
    pub(crate) tables: Arc<Tables>,
    version: u64,
}

impl StateView {
    /// Which.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An account; `None`: it does not exist.
    pub fn account(&self, address: &Address) -> Result<Option<AccountInfo>, Expired> {
        let t = &*self.tables;
        let number = t.find_account(t.key.address(address), address);
        Ok(self.account_at(number)?.and_then(|account| t.info(&account)))
    }

    /// Many accounts at once, memory fetched ahead. `out` has the length of `addresses`.
    pub fn accounts_batch(
        &self,
        addresses: &[Address],
        out: &mut [Option<AccountInfo>],
    ) -> Result<(), Expired> {
        assert_eq!(addresses.len(), out.len(), "one place for each address");
        self.tables.find_accounts(addresses, |i, number| {
            out[i] = self.account_at(number)?.and_then(|account| self.tables.info(&account));
            Ok(())
        })
    }

    /// A storage slot; zero when never written.
    pub fn storage(&self, address: &Address, key: U256) -> Result<U256, Expired> {
        let t = &*self.tables;
        let number = t.find_account(t.key.address(address), address);
        let Some(account) = self.account_at(number)? else { return Ok(U256::ZERO) };
        if !account.exists || account.storage == 0 {
            return Ok(U256::ZERO);
        }
        match t.find_slot(t.key.slot(account.storage, &key), account.storage, &key) {
            Some(number) => self.slot_at(number),
            None => Ok(U256::ZERO),
        }
    }

    /// Code by its hash, without a copy. Code is never forgotten, so this cannot expire.
    pub fn code(&self, hash: &B256) -> Option<Bytes> {
        self.tables.code(hash)
    }

    /// Every existing account, in no particular order. Ends with an error when the version expires on the way.
    pub fn accounts(&self) -> impl Iterator<Item = Result<(Address, AccountInfo), Expired>> + '_ {
        self.account_records().filter_map(|item| match item {
            Ok((number, account)) => {
                self.tables.info(&account).map(|info| Ok((self.tables.accounts.get(number).address(), info)))
            }
            Err(expired) => Some(Err(expired)),
        })
    }

    /// Every non-zero slot of an existing account as (owner, key, value), in no particular order. Ends with an error when
    /// the version expires on the way.
    pub fn slots(&self) -> impl Iterator<Item = Result<(Address, U256, U256), Expired>> + '_ {
        let t = &*self.tables;
        let mut live: (u32, Option<Address>) = (0, None);
        self.slot_records().filter_map(move |item| {
            let (number, value) = match item {
                Ok(slot) => slot,
                Err(expired) => return Some(Err(expired)),
            };
            if value.is_zero() {
                return None;
            }
            let record = t.slots.get(number);
            if live.0 != record.storage() {
                match self.owner(record.storage()) {
                    Ok(owner) => live = (record.storage(), owner),
                    Err(expired) => return Some(Err(expired)),
                }
            }
            live.1.map(|owner| Ok((owner, record.key(), value)))
        })
    }

    /// Keeps this version readable until the result is dropped, or until the history outgrows
    /// [`crate::StateConfig::undo_bytes_max`].
    pub fn pin(&self) -> Result<PinnedView, Expired> {
        if self.tables.sealed().is_some() && self.tables.undo.pin(self.version) {
            Ok(PinnedView { view: self.clone() })
        } else {
            Err(self.expired())
        }
    }

    /// The account that has this storage at this version.
    fn owner(&self, storage: u32) -> Result<Option<Address>, Expired> {
        let Some(number) = self.tables.owners.get(storage as usize).load(Acquire).checked_sub(1) else {
            return Ok(None);
        };
        let account = self.account_at(Some(number as usize))?;
        let lives = account.is_some_and(|a| a.exists && a.storage == storage);
        Ok(lives.then(|| self.tables.accounts.get(number as usize).address()))
    }

    /// The record's value at this version.
    #[inline]
    pub(crate) fn account_at(&self, number: Option<usize>) -> Result<Option<Account>, Expired> {
        let t = &*self.tables;
        let Some(number) = number else {
            return if self.version >= t.undo.oldest() { Ok(None) } else { Err(self.expired()) };
        };
        let (account, link) = t.accounts.get(number).read(&t.wide);
        t.undo.resolve(self.version, account, link, decode_account).map(Some).ok_or_else(|| self.expired())
    }

    #[inline]
    pub(crate) fn slot_at(&self, number: usize) -> Result<U256, Expired> {
        let (value, link) = self.tables.slots.get(number).read();
        self.tables.undo.resolve(self.version, value, link, decode_slot).ok_or_else(|| self.expired())
    }

    /// Existing accounts as (number, value). Ends after an error.
    pub(crate) fn account_records(&self) -> impl Iterator<Item = Result<(usize, Account), Expired>> + '_ {
        let count = self.tables.account_count.load(Acquire) as usize;
        let records = (0..count).filter_map(move |n| match self.account_at(Some(n)) {
            Ok(account) => account.filter(|a| a.exists).map(|a| Ok((n, a))),
            Err(expired) => Some(Err(expired)),
        });
        until_error(self.check().err(), records)
    }

    /// All slot records as (number, value), zeros and those of dead storages included. Ends after an error.
    pub(crate) fn slot_records(&self) -> impl Iterator<Item = Result<(usize, U256), Expired>> + '_ {
        let count = self.tables.slot_count.load(Acquire) as usize;
        until_error(self.check().err(), (0..count).map(move |n| Ok((n, self.slot_at(n)?))))
    }

    fn check(&self) -> Result<(), Expired> {
        if self.version >= self.tables.undo.oldest() { Ok(()) } else { Err(self.expired()) }
    }

    #[cold]
    pub(crate) fn expired(&self) -> Expired {
        let oldest = self.tables.undo.oldest();
        let newest = self.tables.unsealed.load(Acquire).saturating_sub(1);
        // Before the first seal there is none; the sentence then names the version that will be the first.
        let oldest = if oldest == NOTHING_SEALED { newest + 1 } else { oldest };
        Expired { asked: self.version, oldest, newest }
    }
}

/// Passes items on up to and including the first error; `first` comes before all.
fn until_error<T>(
    first: Option<Expired>,
    items: impl Iterator<Item = Result<T, Expired>>,
) -> impl Iterator<Item = Result<T, Expired>> {
    let mut ended = false;
    first.map(Err).into_iter().chain(items).take_while(move |item| {
        let take = !ended;
        ended |= item.is_err();
        take
    })
}

/// A view whose version stays readable while this lives.
#[derive(Debug)]
pub struct PinnedView {
    view: StateView,
}

impl Deref for PinnedView {
    type Target = StateView;

    fn deref(&self) -> &StateView {
        &self.view
    }
}

impl Drop for PinnedView {
    fn drop(&mut self) {
        self.view.tables.undo.unpin(self.view.version);
    }
}

#[cfg(test)]
mod tests {
    use crate::{StateConfig, open_empty};
    use alloy_primitives::Address;
    use ironlane_types::{AccountDelta, AccountInfo, StateDelta};

    #[test]
    fn memory_is_made_ready_once_and_again_when_much_was_written() {
        let (state, mut writer) =
            open_empty(StateConfig { accounts: 1000, ..StateConfig::default() }).expect("empty");
        let ready = || (0..10_000).take_while(|_| state.populate(64 << 10)).count();
        assert!(ready() > 100);
        assert_eq!(ready(), 0, "nothing was written since");
        let account = |n: u32| {
            let info = Some(AccountInfo { nonce: n.into(), ..AccountInfo::default() });
            let address = Address::left_padding_from(&n.to_be_bytes());
            AccountDelta { address, info, storage_wiped: false, slots: vec![] }
        };
        writer
            .apply(&StateDelta { accounts: (0..50_000).map(account).collect(), codes: vec![] })
            .expect("room");
        writer.seal();
        assert!(ready() > 0, "the margin moved on");
        assert_eq!(
            state
                .view()
                .account(&Address::left_padding_from(&[0, 0, 195, 79]))
                .expect("newest")
                .map(|a| a.nonce),
            Some(49_999)
        );
    }
}
