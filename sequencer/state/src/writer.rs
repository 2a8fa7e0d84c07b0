//! The writing side: one thread applies changes to the unsealed version and seals it.

use crate::{
    State, StateError,
    index::IndexFull,
    record::Account,
    tables::{BATCH, Hint, Tables, WriterParts, encode_account, encode_slot, hash_to_words},
    undo::NOTHING_SEALED,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::*},
};

/// The writing side; there is one to a store.
#[derive(Debug)]
pub struct StateWriter {
    pub(crate) tables: Arc<Tables>,
    pub(crate) parts: WriterParts,
}

impl StateWriter {
    /// The account with all changes so far; `None`: it does not exist.
    #[inline]
    pub fn account(&self, address: &Address) -> Option<AccountInfo> {
        let t = &*self.tables;
        let number = t.find_account(t.key.address(address), address)?;
        t.info(&t.accounts.get(number).load(&t.wide).0)
    }

    /// Many accounts at once, memory fetched ahead. `out` has the length of `addresses`.
    pub fn accounts_batch(&self, addresses: &[Address], out: &mut [Option<AccountInfo>]) {
        assert_eq!(addresses.len(), out.len(), "one place for each address");
        let t = &*self.tables;
        let Ok(()) = t.find_accounts::<Infallible>(addresses, |i, number| {
            out[i] = number.and_then(|n| t.info(&t.accounts.get(n).load(&t.wide).0));
            Ok(())
        });
    }

    /// A storage slot with all changes so far; zero when never written.
    #[inline]
    pub fn storage(&self, address: &Address, key: U256) -> U256 {
        let t = &*self.tables;
        let Some(number) = t.find_account(t.key.address(address), address) else { return U256::ZERO };
        let account = t.accounts.get(number).load(&t.wide).0;
        if !account.exists || account.storage == 0 {
            return U256::ZERO;
        }
        let slot = t.find_slot(t.key.slot(account.storage, &key), account.storage, &key);
        slot.map_or(U256::ZERO, |n| t.slots.get(n).load().0)
    }

    /// Whether the account has, or once had, a non-zero slot since its storage was last wiped. `false` is certain.
    pub fn may_have_storage(&self, address: &Address) -> bool {
        let t = &*self.tables;
        let number = t.find_account(t.key.address(address), address);
        number.is_some_and(|n| t.accounts.get(n).load(&t.wide).0.storage != 0)
    }

    /// Code by its hash, without a copy; `None` when it was never given.
    pub fn code(&self, hash: &B256) -> Option<Bytes> {
        self.tables.code(hash)
    }

    /// Fetches these accounts' index lines and records into the cache.
    pub fn prefetch(&self, addresses: &[Address]) {
        for chunk in addresses.chunks(BATCH) {
            self.tables.prefetch_accounts(chunk.iter());
        }
    }

    /// Applies changes to the unsealed version. An error leaves them applied in part: stop.
    pub fn apply(&mut self, delta: &StateDelta) -> Result<(), StateError> {
        let mut apply = Apply { t: &self.tables, parts: &mut self.parts };
        for (hash, code) in &delta.codes {
            apply.code(hash, code)?;
        }
        for chunk in delta.accounts.chunks(BATCH) {
            let hints = apply.t.prefetch_accounts(chunk.iter().map(|account| &account.address));
            for (account, hint) in chunk.iter().zip(hints) {
                apply.account(hint, account)?;
            }
        }
        Ok(())
    }

    /// Publishes the unsealed version and returns its number; the next one begins.
    pub fn seal(&mut self) -> u64 {
        let t = &*self.tables;
        let version = t.unsealed.load(Relaxed);
        if t.undo.oldest() == NOTHING_SEALED {
            t.undo.start_at(version);
        }
        t.undo.seal(&mut self.parts.undo);
        let growths =
            self.parts.account_index.growths + self.parts.slot_index.growths + self.parts.code_index.growths;
        t.growths.store(growths, Relaxed);
        t.unsealed.store(version + 1, Release);
        version
    }

    /// Number of the unsealed version: what the next [`Self::seal`] returns.
    pub fn version(&self) -> u64 {
        self.tables.unsealed.load(Relaxed)
    }

    /// A reading side.
    pub fn state(&self) -> State {
        State { tables: self.tables.clone() }
    }
}

/// The writer at work: the tables and its own parts of them, borrowed apart.
struct Apply<'a> {
    t: &'a Tables,
    parts: &'a mut WriterParts,
}

impl Apply<'_> {
    fn account(&mut self, hint: Hint, delta: &AccountDelta) -> Result<(), StateError> {
        let t = self.t;
        let found = t.find_account_by(hint, &delta.address);
        let Some(info) = &delta.info else {
            if let Some(number) = found {
                self.write_account(number, &Account::default());
            }
            return Ok(());
        };
        let code = self.code_number(&info.code_hash)?;
        let number = match found {
            Some(number) => number,
            None => self.create_account(hint.hash, &delta.address)?,
        };
        let current = t.accounts.get(number).load(&t.wide).0;
        let mut storage = if current.exists && !delta.storage_wiped { current.storage } else { 0 };
        if storage == 0 && delta.slots.iter().any(|(_, value)| !value.is_zero()) {
            storage = self.new_storage(number)?;
        }
        self.write_account(
            number,
            &Account { exists: true, code, storage, nonce: info.nonce, balance: info.balance },
        );
        if storage != 0 {
            if delta.slots.len() > 2 {
                delta
                    .slots
                    .iter()
                    .take(BATCH)
                    .for_each(|(key, _)| t.slot_index.prefetch(t.key.slot(storage, key)));
            }
            for (key, value) in &delta.slots {
                self.write_slot(storage, key, value)?;
            }
        }
        Ok(())
    }

    fn create_account(&mut self, hash: u32, address: &Address) -> Result<usize, StateError> {
        let t = self.t;
        let number = t.account_count.load(Relaxed);
        let full = StateError::Full { what: "accounts", limit: t.max_accounts };
        if number >= t.max_accounts {
            return Err(full);
        }
        let record = t.accounts.get(number as usize);
        record.init(address);
        record.write(&Account::default(), 0, None);
        t.account_count.store(number + 1, Release);
        t.account_index
            .insert(&mut self.parts.account_index, hash, number as u32)
            .map_err(|IndexFull| full)?;
        Ok(number as usize)
    }

    fn write_account(&mut self, number: usize, new: &Account) {
        let t = self.t;
        let record = t.accounts.get(number);
        let (old, link) = record.load(&t.wide);
        if old == *new {
            return;
        }
        let version = t.unsealed.load(Relaxed);
        let link = t.undo.record(&mut self.parts.undo, version, link, || encode_account(&old));
        let held = record.wide_cell();
        if new.balance.bit_len() <= 128 {
            record.write(new, link, None);
            self.parts.free_wide.extend(held);
        } else {
            let cell = held
                .or_else(|| self.parts.free_wide.pop())
                .unwrap_or_else(|| t.wide_count.fetch_add(1, Relaxed));
            record.write(new, link, Some((cell, t.wide.get(cell as usize))));
        }
    }

    fn new_storage(&mut self, account: usize) -> Result<u32, StateError> {
        let t = self.t;
        let id = t.next_storage.load(Relaxed);
        let Some(owner) = t.owners.try_get(id) else {
            return Err(StateError::Full { what: "storage ids", limit: t.owners.capacity() as u64 });
        };
        owner.store(account as u32 + 1, Release);
        t.next_storage.store(id + 1, Release);
        Ok(id as u32)
    }

    fn write_slot(&mut self, storage: u32, key: &U256, value: &U256) -> Result<(), StateError> {
        let t = self.t;
        let hash = t.key.slot(storage, key);
        let number = match t.find_slot(hash, storage, key) {
            Some(number) => number,
            None if value.is_zero() => return Ok(()),
            None => {
                let number = t.slot_count.load(Relaxed);
                let full = StateError::Full { what: "storage slots", limit: t.max_slots };
                if number >= t.max_slots {
                    return Err(full);
                }
                let record = t.slots.get(number as usize);
                record.init(storage, key);
                record.write(&U256::ZERO, 0);
                t.slot_count.store(number + 1, Release);
                t.slot_index
                    .insert(&mut self.parts.slot_index, hash, number as u32)
                    .map_err(|IndexFull| full)?;
                number as usize
            }
        };
        let record = t.slots.get(number);
        let (old, link) = record.load();
        if old != *value {
            let version = t.unsealed.load(Relaxed);
            let link = t.undo.record(&mut self.parts.undo, version, link, || encode_slot(&old));
            record.write(value, link);
        }
        Ok(())
    }

    /// Number of a code plus one, its hash entered when new; zero for no code.
    fn code_number(&mut self, hash: &B256) -> Result<u32, StateError> {
        if *hash == KECCAK_EMPTY {
            return Ok(0);
        }
        let words = hash_to_words(hash);
        let t = self.t;
        if let Some(number) = t.find_code(&words) {
            return Ok(number as u32 + 1);
        }
        let number = t.code_count.load(Relaxed);
        let full = StateError::Full { what: "codes", limit: t.codes.capacity() as u64 };
        let Some(record) = t.codes.try_get(number) else { return Err(full) };
        record.init(&words);
        t.code_count.store(number + 1, Release);
        t.code_index
            .insert(&mut self.parts.code_index, t.key.code(&words), number as u32)
            .map_err(|IndexFull| full)?;
        Ok(number as u32 + 1)
    }

    fn code(&mut self, hash: &B256, code: &Bytes) -> Result<(), StateError> {
        let number = self.code_number(hash)?;
        if number == 0 {
            return Ok(());
        }
        let t = self.t;
        let record = t.codes.get(number as usize - 1);
        if record.location().is_none() {
            let Some(at) = t.code_bytes.push(code) else {
                return Err(StateError::Full { what: "code bytes", limit: t.code_bytes.capacity() as u64 });
            };
            record.locate(at as u64, code.len() as u64);
        }
        Ok(())
    }
}
