//! What reader and writer share: the tables, and how keys are found in them.

use crate::{
    StateConfig, StateError, StateStats,
    hash::HashKey,
    index::{Index, IndexWriter},
    mem::{ByteArena, Table},
    record::{Account, AccountRecord, CodeRecord, SlotRecord, WideCell},
    undo::{NOTHING_SEALED, Payload, UndoLog, UndoWriter},
};
use alloy_primitives::{Address, B256, Bytes, U256};
use ironlane_types::{AccountInfo, KECCAK_EMPTY};
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::*},
};

/// Most distinct codes (their numbers have 30 bits in an account record).
const MAX_CODES: usize = 1 << 26;
/// Most bytes of code.
const MAX_CODE_BYTES: usize = 64 << 30;
/// Most storages ever (an account that is wiped and written again takes a new one).
const MAX_STORAGES: usize = 1 << 30;
/// Keys looked up together: enough to hide memory latency, few enough for the line fill buffers and the first-level cache.
pub(crate) const BATCH: usize = 32;

/// Hash of an address, and the number under which its record probably is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hint {
    pub(crate) hash: u32,
    /// `u32::MAX`: nowhere.
    guess: u32,
}

/// The tables.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) key: HashKey,
    pub(crate) accounts: Table<AccountRecord>,
    pub(crate) account_count: AtomicU64,
    pub(crate) account_index: Index,
    pub(crate) slots: Table<SlotRecord>,
    pub(crate) slot_count: AtomicU64,
    pub(crate) slot_index: Index,
    pub(crate) codes: Table<CodeRecord>,
    pub(crate) code_count: AtomicU64,
    pub(crate) code_index: Index,
    pub(crate) code_bytes: ByteArena,
    /// Balances above 128 bits.
    pub(crate) wide: Table<WideCell>,
    pub(crate) wide_count: AtomicU64,
    /// By storage id: number of the account that it was made for, plus one.
    pub(crate) owners: Table<AtomicU32>,
    /// Next storage id; 0 means "no storage".
    pub(crate) next_storage: AtomicU64,
    pub(crate) undo: UndoLog,
    /// The version being written.
    pub(crate) unsealed: AtomicU64,
    pub(crate) growths: AtomicU64,
    /// Configured maxima (the tables' capacities are rounded up).
    pub(crate) max_accounts: u64,
    pub(crate) max_slots: u64,
}

/// The writer's parts of the indexes and the history.
#[derive(Debug)]
pub(crate) struct WriterParts {
    pub(crate) account_index: IndexWriter,
    pub(crate) slot_index: IndexWriter,
    pub(crate) code_index: IndexWriter,
    pub(crate) undo: UndoWriter,
    /// Wide cells to use again.
    pub(crate) free_wide: Vec<u64>,
}

impl Tables {
    /// Reserves everything, empty. `sized` is what the tables will hold at once.
    pub(crate) fn reserve(
        config: &StateConfig,
        key: HashKey,
        sized: (usize, usize),
    ) -> Result<(Tables, WriterParts), StateError> {
        // Numbers have 32 bits, and an index entry holds the number plus one.
        let max_accounts = config.max_accounts.min(u32::MAX as usize - 1);
        let max_slots = config.max_slots.min(u32::MAX as usize - 1);
        let huge = config.huge_pages;
        let (account_index, account_index_writer) =
            Index::reserve("account index", sized.0, max_accounts, huge)?;
        let (slot_index, slot_index_writer) = Index::reserve("slot index", sized.1, max_slots, huge)?;
        let (code_index, code_index_writer) = Index::reserve("code index", 256, MAX_CODES, false)?;
        let (undo, undo_writer) = UndoLog::reserve(config.undo_bytes, config.undo_bytes_max, huge)?;
        let tables = Tables {
            key,
            accounts: Table::reserve("accounts", max_accounts, huge)?,
            account_count: AtomicU64::new(0),
            account_index,
            slots: Table::reserve("slots", max_slots, huge)?,
            slot_count: AtomicU64::new(0),
            slot_index,
            codes: Table::reserve("codes", MAX_CODES, false)?,
            code_count: AtomicU64::new(0),
            code_index,
            code_bytes: ByteArena::reserve("code bytes", MAX_CODE_BYTES)?,
            wide: Table::reserve("wide balances", max_accounts, false)?,
            wide_count: AtomicU64::new(0),
            owners: Table::reserve("storage owners", MAX_STORAGES, false)?,
            next_storage: AtomicU64::new(1),
            undo,
            unsealed: AtomicU64::new(config.first_version),
            growths: AtomicU64::new(0),
            max_accounts: max_accounts as u64,
            max_slots: max_slots as u64,
        };
        let parts = WriterParts {
            account_index: account_index_writer,
            slot_index: slot_index_writer,
            code_index: code_index_writer,
            undo: undo_writer,
            free_wide: Vec::new(),
        };
        Ok((tables, parts))
    }

    #[inline]
    pub(crate) fn find_account(&self, hash: u32, address: &Address) -> Option<usize> {
        self.account_index.find(hash, |n| self.accounts.get(n as usize).is(address)).map(|n| n as usize)
    }

    #[inline]
    pub(crate) fn find_slot(&self, hash: u32, storage: u32, key: &U256) -> Option<usize> {
        self.slot_index.find(hash, |n| self.slots.get(n as usize).is(storage, key)).map(|n| n as usize)
    }

    pub(crate) fn find_code(&self, hash: &[u64; 4]) -> Option<usize> {
        self.code_index
            .find(self.key.code(hash), |n| self.codes.get(n as usize).hash() == *hash)
            .map(|n| n as usize)
    }

    /// Looks up many accounts; `each` gets the place in `addresses` and the record's number.
    #[inline]
    pub(crate) fn find_accounts<E>(
        &self,
        addresses: &[Address],
        mut each: impl FnMut(usize, Option<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (chunk_number, chunk) in addresses.chunks(BATCH).enumerate() {
            let hints = self.prefetch_accounts(chunk.iter());
            for (i, address) in chunk.iter().enumerate() {
                each(chunk_number * BATCH + i, self.find_account_by(hints[i], address))?;
            }
        }
        Ok(())
    }

    /// Fetches the index lines, then the records, of at most [`BATCH`] accounts, and says where they probably are.
    #[inline]
    pub(crate) fn prefetch_accounts<'a>(
        &self,
        addresses: impl Iterator<Item = &'a Address>,
    ) -> [Hint; BATCH] {
        let mut hints = [Hint::default(); BATCH];
        let mut len = 0;
        for (hint, address) in hints.iter_mut().zip(addresses) {
            hint.hash = self.key.address(address);
            self.account_index.prefetch(hint.hash);
            len += 1;
        }
        for hint in &mut hints[..len] {
            hint.guess = u32::MAX;
            if let Some(guess) = self.account_index.guess(hint.hash) {
                hint.guess = guess;
                self.accounts.prefetch(guess as usize);
            }
        }
        hints
    }

    /// As [`Self::find_account`], the guess first.
    #[inline]
    pub(crate) fn find_account_by(&self, hint: Hint, address: &Address) -> Option<usize> {
        if hint.guess != u32::MAX && self.accounts.get(hint.guess as usize).is(address) {
            return Some(hint.guess as usize);
        }
        self.find_account(hint.hash, address)
    }

    /// The public form of an account.
    #[inline]
    pub(crate) fn info(&self, account: &Account) -> Option<AccountInfo> {
        account.exists.then(|| AccountInfo {
            nonce: account.nonce,
            balance: account.balance,
            code_hash: self.code_hash(account.code),
        })
    }

    #[inline]
    fn code_hash(&self, code: u32) -> B256 {
        if code == 0 { KECCAK_EMPTY } else { words_to_hash(&self.codes.get(code as usize - 1).hash()) }
    }

    /// Code by its hash, without a copy.
    pub(crate) fn code(self: &Arc<Self>, hash: &B256) -> Option<Bytes> {
        if *hash == KECCAK_EMPTY {
            return Some(Bytes::new());
        }
        let (offset, len) = self.codes.get(self.find_code(&hash_to_words(hash))?).location()?;
        let code = CodeSlice { tables: self.clone(), at: offset as usize, len: len as usize };
        Some(Bytes(alloy_primitives::bytes::Bytes::from_owner(code)))
    }

    /// Newest sealed version, if any.
    pub(crate) fn sealed(&self) -> Option<u64> {
        let unsealed = self.unsealed.load(Acquire);
        if self.undo.oldest() == NOTHING_SEALED { None } else { unsealed.checked_sub(1) }
    }

    pub(crate) fn stats(&self) -> StateStats {
        let (accounts, slots) = (self.account_count.load(Acquire), self.slot_count.load(Acquire));
        StateStats {
            accounts,
            slots,
            codes: self.code_count.load(Acquire),
            code_bytes: self.code_bytes.len() as u64,
            account_table_bytes: accounts * size_of::<AccountRecord>() as u64 + self.account_index.bytes(),
            slot_table_bytes: slots * size_of::<SlotRecord>() as u64 + self.slot_index.bytes(),
            undo_bytes: self.undo.bytes(),
            oldest_version: self.undo.oldest(),
            unsealed_version: self.unsealed.load(Acquire),
            growths: self.growths.load(Relaxed),
        }
    }
}

/// A code's bytes, kept alive with the tables.
struct CodeSlice {
    tables: Arc<Tables>,
    at: usize,
    len: usize,
}

impl AsRef<[u8]> for CodeSlice {
    fn as_ref(&self) -> &[u8] {
        self.tables.code_bytes.get(self.at, self.len)
    }
}

pub(crate) fn hash_to_words(hash: &B256) -> [u64; 4] {
    *U256::from_le_bytes(hash.0).as_limbs()
}

pub(crate) fn words_to_hash(words: &[u64; 4]) -> B256 {
    B256::from(U256::from_limbs(*words).to_le_bytes::<32>())
}

/// An account as the history keeps it.
pub(crate) fn encode_account(account: &Account) -> Payload {
    let [a, b, c, d] = *account.balance.as_limbs();
    let flags = u64::from(account.exists) << 63 | u64::from(account.code) << 32 | u64::from(account.storage);
    [flags, account.nonce, a, b, c, d]
}

/// Inverse of [`encode_account`].
pub(crate) fn decode_account(payload: &Payload) -> Account {
    let [flags, nonce, a, b, c, d] = *payload;
    Account {
        exists: flags >> 63 == 1,
        code: (flags >> 32) as u32 & crate::record::CODE_MASK,
        storage: flags as u32,
        nonce,
        balance: U256::from_limbs([a, b, c, d]),
    }
}

/// A slot's value as the history keeps it.
pub(crate) fn encode_slot(value: &U256) -> Payload {
    let [a, b, c, d] = *value.as_limbs();
    [a, b, c, d, 0, 0]
}

/// Inverse of [`encode_slot`].
pub(crate) fn decode_slot(payload: &Payload) -> U256 {
    U256::from_limbs([payload[0], payload[1], payload[2], payload[3]])
}
