//! What the open mini-block has written and the store has not seen yet.

use alloy_primitives::{Address, B256, Bytes, U256, map::AddressHashMap};
use hashbrown::HashMap;
use ironlane_types::{AccountDelta, AccountInfo, StateDelta};

/// New values by account and slot, each once: later writes replace earlier ones.
///
/// Reads ask here first and then the store. It is also where a simulation puts its state overrides.
#[derive(Debug, Clone, Default)]
pub struct WriteSet {
    /// Place in `accounts`.
    index: AddressHashMap<u32>,
    accounts: Vec<AccountDelta>,
    /// Place in the account's `slots`, by (place of the account, key).
    slot_index: HashMap<(u32, U256), u32>,
    codes: HashMap<B256, Bytes>,
}

impl WriteSet {
    /// The account as written here; `None`: not written, ask the store. `Some(None)`: it does not exist.
    #[inline]
    pub fn account(&self, address: &Address) -> Option<Option<AccountInfo>> {
        Some(self.accounts[*self.index.get(address)? as usize].info)
    }

    /// The slot as written here; `None`: not written, ask the store.
    #[inline]
    pub fn storage(&self, address: &Address, key: U256) -> Option<U256> {
        let at = *self.index.get(address)?;
        let account = &self.accounts[at as usize];
        if !account.slots.is_empty()
            && let Some(slot) = self.slot_index.get(&(at, key))
        {
            return Some(account.slots[*slot as usize].1);
        }
        account.storage_wiped.then_some(U256::ZERO)
    }

    /// Code written here.
    pub fn code(&self, hash: &B256) -> Option<&Bytes> {
        self.codes.get(hash)
    }

    fn entry(&mut self, address: Address) -> u32 {
        *self.index.entry(address).or_insert_with(|| {
            self.accounts.push(AccountDelta { address, info: None, storage_wiped: false, slots: Vec::new() });
            (self.accounts.len() - 1) as u32
        })
    }

    /// Place and value of an account that is written here. Places hold until the set is emptied.
    #[inline]
    pub(crate) fn locate(&self, address: &Address) -> Option<(u32, Option<AccountInfo>)> {
        let at = *self.index.get(address)?;
        Some((at, self.accounts[at as usize].info))
    }

    /// [`Self::set_account`] at a place that [`Self::locate`] found, which spares a look-up.
    #[inline]
    pub(crate) fn put(&mut self, at: Option<u32>, address: Address, info: AccountInfo) {
        match at {
            Some(at) => self.accounts[at as usize].info = Some(info),
            None => self.set_account(address, info),
        }
    }

    /// Whether the account's storage was wiped here.
    pub(crate) fn is_wiped(&self, address: &Address) -> bool {
        self.index.get(address).is_some_and(|at| self.accounts[*at as usize].storage_wiped)
    }

    /// Writes an account that exists, its storage untouched.
    #[inline]
    pub fn set_account(&mut self, address: Address, info: AccountInfo) {
        let at = self.entry(address);
        self.accounts[at as usize].info = Some(info);
    }

    /// Writes a slot of an account that [`Self::set_account`] wrote before.
    pub fn set_slot(&mut self, address: Address, key: U256, value: U256) {
        let at = self.entry(address);
        let slots = &mut self.accounts[at as usize].slots;
        match self.slot_index.entry((at, key)) {
            hashbrown::hash_map::Entry::Occupied(slot) => slots[*slot.get() as usize].1 = value,
            hashbrown::hash_map::Entry::Vacant(free) => {
                free.insert(slots.len() as u32);
                slots.push((key, value));
            }
        }
    }

    /// Forgets all storage that the account had before; slots written afterwards count.
    pub fn wipe_storage(&mut self, address: Address) {
        let at = self.entry(address);
        let account = &mut self.accounts[at as usize];
        account.storage_wiped = true;
        for (key, _) in account.slots.drain(..) {
            self.slot_index.remove(&(at, key));
        }
    }

    /// The account no longer exists, nor does its storage.
    pub fn delete_account(&mut self, address: Address) {
        self.wipe_storage(address);
        let at = self.entry(address);
        self.accounts[at as usize].info = None;
    }

    /// Code that an account written here has.
    pub fn add_code(&mut self, hash: B256, code: Bytes) {
        self.codes.insert(hash, code);
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.codes.is_empty()
    }

    /// All that was written, without forgetting it.
    pub fn delta(&self) -> StateDelta {
        StateDelta {
            accounts: self.accounts.clone(),
            codes: self.codes.iter().map(|(hash, code)| (*hash, code.clone())).collect(),
        }
    }

    /// All that was written; afterwards nothing is.
    pub fn take(&mut self) -> StateDelta {
        let delta =
            StateDelta { accounts: std::mem::take(&mut self.accounts), codes: self.codes.drain().collect() };
        self.reset(delta.accounts.len());
        delta
    }

    /// Forgets all that was written.
    pub fn clear(&mut self) {
        let used = self.accounts.len();
        self.accounts.clear();
        self.codes.clear();
        self.reset(used);
    }

    /// Empties the indexes. Clearing a hash map costs its capacity, so one that a burst blew up is replaced.
    fn reset(&mut self, used: usize) {
        if self.index.capacity() > 4096 && used * 16 < self.index.capacity() {
            self.index = AddressHashMap::with_capacity_and_hasher(used * 2, Default::default());
        } else {
            self.index.clear();
        }
        if self.slot_index.capacity() > 4096 && self.slot_index.len() * 16 < self.slot_index.capacity() {
            self.slot_index = HashMap::with_capacity(self.slot_index.len() * 2);
        } else {
            self.slot_index.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(nonce: u64) -> AccountInfo {
        AccountInfo { nonce, balance: U256::ZERO, code_hash: ironlane_types::KECCAK_EMPTY }
    }

    #[test]
    fn later_writes_win_and_wiping_hides_what_was_before() {
        let mut writes = WriteSet::default();
        let a = Address::with_last_byte(1);
        assert_eq!(writes.account(&a), None);
        writes.set_account(a, info(1));
        assert_eq!(writes.storage(&a, U256::ONE), None, "the store knows");
        writes.set_slot(a, U256::ONE, U256::from(5));
        writes.set_slot(a, U256::ONE, U256::from(6));
        assert_eq!(writes.storage(&a, U256::ONE), Some(U256::from(6)));
        writes.delete_account(a);
        assert_eq!(writes.account(&a), Some(None));
        assert_eq!(writes.storage(&a, U256::ONE), Some(U256::ZERO));
        writes.set_account(a, info(2));
        writes.set_slot(a, U256::from(2), U256::from(7));
        let delta = writes.take();
        assert_eq!(
            delta.accounts,
            vec![AccountDelta {
                address: a,
                info: Some(info(2)),
                storage_wiped: true,
                slots: vec![(U256::from(2), U256::from(7))]
            }]
        );
        assert!(writes.is_empty());
        assert_eq!(writes.storage(&a, U256::from(2)), None);
    }
}
