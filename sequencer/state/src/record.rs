//! The records in the tables. Each is made of atomics under a sequence lock: the one writer makes the sequence number
//! odd, changes the fields and makes it even again; a reader that saw an odd or a changed number reads again.

use crate::mem::Table;
use alloy_primitives::{Address, U256};
use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence},
};

/// The account exists.
pub(crate) const FLAG_EXISTS: u32 = 1 << 31;
/// The balance does not fit 128 bits: `balance[0]` is the number of its wide cell.
pub(crate) const FLAG_WIDE: u32 = 1 << 30;
/// The rest of the word: number of the code plus one, zero for none.
pub(crate) const CODE_MASK: u32 = FLAG_WIDE - 1;

/// A balance above 2^128 - 1, in limbs, least significant first.
pub(crate) type WideCell = [AtomicU64; 4];

/// One account: a cache line.
#[repr(C, align(64))]
pub(crate) struct AccountRecord {
    address: [AtomicU32; 5],
    seq: AtomicU32,
    /// Flags and code number.
    code: AtomicU32,
    storage: AtomicU32,
    nonce: AtomicU64,
    balance: [AtomicU64; 2],
    /// Position in the undo log of what was before the newest version that changed this record.
    link: AtomicU64,
}

const _: () = assert!(size_of::<AccountRecord>() == 64);

/// The value of an account record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    pub(crate) exists: bool,
    /// Code number plus one; zero for none.
    pub(crate) code: u32,
    /// Id of its storage; zero while it never had any.
    pub(crate) storage: u32,
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
}

/// Compares and sets keys.
fn address_words(address: &Address) -> [u32; 5] {
    let b = &address.0.0;
    std::array::from_fn(|i| u32::from_le_bytes([b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]]))
}

/// Reads under a sequence lock until the number is even and unchanged.
#[inline(always)]
fn read_consistent<T>(seq: &AtomicU32, mut read: impl FnMut() -> T) -> T {
    loop {
        let before = seq.load(Acquire);
        if before & 1 == 0 {
            let value = read();
            fence(Acquire);
            if seq.load(Relaxed) == before {
                return value;
            }
        }
        spin_loop();
    }
}

/// Writes under a sequence lock. One writer.
#[inline(always)]
fn write_locked(seq: &AtomicU32, write: impl FnOnce()) {
    let before = seq.load(Relaxed);
    seq.store(before.wrapping_add(1), Relaxed);
    fence(Release);
    write();
    seq.store(before.wrapping_add(2), Release);
}

impl AccountRecord {
    /// Sets the key of a record that nobody else sees yet.
    pub(crate) fn init(&self, address: &Address) {
        for (cell, word) in self.address.iter().zip(address_words(address)) {
            cell.store(word, Relaxed);
        }
        self.seq.store(0, Relaxed);
        self.code.store(0, Relaxed);
        self.link.store(0, Relaxed);
    }

    #[inline(always)]
    pub(crate) fn is(&self, address: &Address) -> bool {
        let words = address_words(address);
        (0..5).all(|i| self.address[i].load(Relaxed) == words[i])
    }

    pub(crate) fn address(&self) -> Address {
        let mut bytes = [0; 20];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(&self.address) {
            chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        Address::from(bytes)
    }

    /// The value and its link, for the writer itself (nobody else writes).
    #[inline]
    pub(crate) fn load(&self, wide: &Table<WideCell>) -> (Account, u64) {
        let flags = self.code.load(Relaxed);
        let low = self.balance[0].load(Relaxed);
        let balance = if flags & FLAG_WIDE == 0 {
            U256::from_limbs([low, self.balance[1].load(Relaxed), 0, 0])
        } else {
            // A torn number reads as zero; the sequence number then has it read again.
            wide.try_get(low)
                .map_or(U256::ZERO, |cell| U256::from_limbs(std::array::from_fn(|i| cell[i].load(Relaxed))))
        };
        let account = Account {
            exists: flags & FLAG_EXISTS != 0,
            code: flags & CODE_MASK,
            storage: self.storage.load(Relaxed),
            nonce: self.nonce.load(Relaxed),
            balance,
        };
        (account, self.link.load(Relaxed))
    }

    /// The value and its link, consistent beside a writer.
    #[inline]
    pub(crate) fn read(&self, wide: &Table<WideCell>) -> (Account, u64) {
        read_consistent(&self.seq, || self.load(wide))
    }

    /// Sets value and link. `cell` holds a balance above 128 bits and is this record's own.
    pub(crate) fn write(&self, account: &Account, link: u64, cell: Option<(u64, &WideCell)>) {
        let limbs = *account.balance.as_limbs();
        let mut flags = account.code & CODE_MASK;
        if account.exists {
            flags |= FLAG_EXISTS;
        }
        write_locked(&self.seq, || {
            match cell {
                Some((number, cell)) => {
                    flags |= FLAG_WIDE;
                    (0..4).for_each(|i| cell[i].store(limbs[i], Relaxed));
                    self.balance[0].store(number, Relaxed);
                    self.balance[1].store(0, Relaxed);
                }
                None => (0..2).for_each(|i| self.balance[i].store(limbs[i], Relaxed)),
            }
            self.code.store(flags, Relaxed);
            self.storage.store(account.storage, Relaxed);
            self.nonce.store(account.nonce, Relaxed);
            self.link.store(link, Relaxed);
        });
    }

    /// The number of its wide cell, for the writer itself.
    pub(crate) fn wide_cell(&self) -> Option<u64> {
        (self.code.load(Relaxed) & FLAG_WIDE != 0).then(|| self.balance[0].load(Relaxed))
    }

    /// Whether a record that came from a file is at rest: no writer in it, no history behind it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.seq.load(Relaxed) == 0 && self.link.load(Relaxed) == 0
    }
}

/// One storage slot: 80 bytes.
#[repr(C)]
pub(crate) struct SlotRecord {
    storage: AtomicU32,
    seq: AtomicU32,
    key: [AtomicU64; 4],
    value: [AtomicU64; 4],
    link: AtomicU64,
}

const _: () = assert!(size_of::<SlotRecord>() == 80);

fn load_words(cells: &[AtomicU64; 4]) -> U256 {
    U256::from_limbs(std::array::from_fn(|i| cells[i].load(Relaxed)))
}

fn store_words(cells: &[AtomicU64; 4], value: &U256) {
    cells.iter().zip(value.as_limbs()).for_each(|(cell, limb)| cell.store(*limb, Relaxed));
}

impl SlotRecord {
    /// Sets the key of a record that nobody else sees yet.
    pub(crate) fn init(&self, storage: u32, key: &U256) {
        self.storage.store(storage, Relaxed);
        self.seq.store(0, Relaxed);
        store_words(&self.key, key);
        self.link.store(0, Relaxed);
    }

    #[inline(always)]
    pub(crate) fn is(&self, storage: u32, key: &U256) -> bool {
        let key = key.as_limbs();
        self.storage.load(Relaxed) == storage && (0..4).all(|i| self.key[i].load(Relaxed) == key[i])
    }

    pub(crate) fn storage(&self) -> u32 {
        self.storage.load(Relaxed)
    }

    pub(crate) fn key(&self) -> U256 {
        load_words(&self.key)
    }

    /// The value and its link, for the writer itself.
    #[inline]
    pub(crate) fn load(&self) -> (U256, u64) {
        (load_words(&self.value), self.link.load(Relaxed))
    }

    /// The value and its link, consistent beside a writer.
    #[inline]
    pub(crate) fn read(&self) -> (U256, u64) {
        read_consistent(&self.seq, || self.load())
    }

    pub(crate) fn write(&self, value: &U256, link: u64) {
        write_locked(&self.seq, || {
            store_words(&self.value, value);
            self.link.store(link, Relaxed);
        });
    }

    /// Whether a record that came from a file is at rest.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.seq.load(Relaxed) == 0 && self.link.load(Relaxed) == 0
    }
}

/// One code: its hash, and where its bytes are.
#[repr(C)]
pub(crate) struct CodeRecord {
    hash: [AtomicU64; 4],
    offset: AtomicU64,
    /// [`CODE_UNKNOWN`] while only the hash is known.
    len: AtomicU64,
}

const _: () = assert!(size_of::<CodeRecord>() == 48);

/// Length of a code of which only the hash is known.
pub(crate) const CODE_UNKNOWN: u64 = u64::MAX;

impl CodeRecord {
    /// Sets the hash of a record that nobody else sees yet; its bytes are unknown.
    pub(crate) fn init(&self, hash: &[u64; 4]) {
        self.hash.iter().zip(hash).for_each(|(cell, word)| cell.store(*word, Relaxed));
        self.len.store(CODE_UNKNOWN, Relaxed);
    }

    #[inline]
    pub(crate) fn hash(&self) -> [u64; 4] {
        std::array::from_fn(|i| self.hash[i].load(Relaxed))
    }

    /// Offset and length of the bytes, once known.
    pub(crate) fn location(&self) -> Option<(u64, u64)> {
        let len = self.len.load(Acquire);
        (len != CODE_UNKNOWN).then(|| (self.offset.load(Relaxed), len))
    }

    /// Says where the bytes are. Once.
    pub(crate) fn locate(&self, offset: u64, len: u64) {
        self.offset.store(offset, Relaxed);
        self.len.store(len, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::AtomicBool,
        thread,
        time::{Duration, Instant},
    };

    /// One writer overwrites one record as fast as it can; readers must never see fields of two writes.
    #[test]
    fn no_reader_sees_half_of_a_write() {
        let accounts = Table::<AccountRecord>::reserve("test", 1, false).expect("reserve");
        let slots = Table::<SlotRecord>::reserve("test", 1, false).expect("reserve");
        let wide = Table::<WideCell>::reserve("test", 2, false).expect("reserve");
        let (account, slot, stop) = (accounts.get(0), slots.get(0), AtomicBool::new(false));
        let of = |n: u64| {
            // Every other balance is wide, in turns of two cells.
            let limbs = if n.is_multiple_of(2) { [n, n, 0, 0] } else { [n; 4] };
            let balance = U256::from_limbs(limbs);
            Account { exists: true, code: n as u32 & CODE_MASK, storage: n as u32, nonce: n, balance }
        };
        let write = |n: u64| {
            let cell = (!n.is_multiple_of(2)).then(|| (n / 2 % 2, wide.get((n / 2 % 2) as usize)));
            account.write(&of(n), n, cell);
            slot.write(&U256::from_limbs([n; 4]), n);
        };
        write(0);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0u64;
                while !stop.load(Relaxed) {
                    let (value, link) = account.read(&wide);
                    assert_eq!(value, of(link));
                    let (value, link) = slot.read();
                    assert_eq!(value, U256::from_limbs([link; 4]));
                    reads += 1;
                }
                reads
            });
            let end = Instant::now() + Duration::from_millis(600);
            let mut n = 0;
            while Instant::now() < end {
                for _ in 0..1000 {
                    n += 1;
                    write(n);
                }
            }
            stop.store(true, Relaxed);
            assert!(reader.join().expect("no mixture") > 100);
        });
    }
}
