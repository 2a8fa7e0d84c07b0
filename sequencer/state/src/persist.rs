//! The state's own files in a snapshot: writing them from a pinned view, and starting a store from them.
//!
//! Writing compacts: accounts that do not exist at the version, zero slots and the slots of wiped storages are left out,
//! and the indexes are built anew for what remains. Opening maps the row files at the start of the live tables, so that
//! nothing is copied or rebuilt; only the few codes are entered into their index again.

use crate::{
    PinnedView, SnapshotError, SnapshotFile, SnapshotReader, SnapshotWriter, State, StateConfig, StateError,
    StateWriter,
    archive::{self, AccountRow, ArchiveWriter, CodeRow, LineRow, SlotRow},
    hash::HashKey,
    index::{Index, IndexWriter, Line, SLACK_BUCKETS},
    mem::{Cell, Table},
    record::{Account, CODE_UNKNOWN, FLAG_EXISTS, FLAG_WIDE},
    tables::{Tables, WriterParts},
};
use alloy_primitives::{Address, U256};
use rkyv::rancor::Error;
use std::{
    io,
    sync::{Arc, atomic::Ordering::*},
};

const HEAD: &str = "state-head.rkyv";
const ACCOUNTS: &str = "state-accounts.rkyv";
const ACCOUNT_INDEX: &str = "state-account-index.rkyv";
const SLOTS: &str = "state-slots.rkyv";
const SLOT_INDEX: &str = "state-slot-index.rkyv";
const CODES: &str = "state-codes.rkyv";
const CODE_BYTES: &str = "state-code-bytes.rkyv";

/// What is not a row.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Head {
    /// The version that the snapshot holds.
    version: u64,
    /// Key of the indexes' hash.
    hash_key: [u64; 4],
    /// Next storage id.
    next_storage: u64,
    /// Balances above 128 bits, by wide cell, limbs least significant first.
    wide: Vec<[u64; 4]>,
}

impl PinnedView {
    /// Writes the state's files of this version into `snapshot`, beside a running writer. Takes about 13 bytes of
    /// scratch memory a record for the new index.
    pub fn write_snapshot(&self, snapshot: &mut SnapshotWriter) -> Result<(), StateError> {
        let t = &*self.tables;
        let next_storage = t.next_storage.load(Acquire);
        let mut live_storages = vec![0u64; next_storage.div_ceil(64) as usize];
        let mut wide: Vec<[u64; 4]> = Vec::new();

        let scratch = t.account_count.load(Acquire) as usize;
        let mut index = Scratch::reserve(scratch)?;
        write_rows(snapshot, ACCOUNTS, |rows| {
            for record in self.account_records() {
                let (number, account) = record?;
                let address = t.accounts.get(number).address();
                live_storages[account.storage as usize / 64] |= 1 << (account.storage % 64);
                rows.push(account_row(&address, &account, &mut wide))?;
                index.add(t.key.address(&address))?;
            }
            Ok(())
        })?;
        index.write(snapshot, ACCOUNT_INDEX)?;

        let mut index = Scratch::reserve(t.slot_count.load(Acquire) as usize)?;
        write_rows(snapshot, SLOTS, |rows| {
            for record in self.slot_records() {
                let (number, value) = record?;
                let slot = t.slots.get(number);
                let (storage, key) = (slot.storage(), slot.key());
                let live =
                    live_storages.get(storage as usize / 64).is_some_and(|w| w >> (storage % 64) & 1 == 1);
                if live && !value.is_zero() {
                    rows.push(slot_row(storage, &key, &value))?;
                    index.add(t.key.slot(storage, &key))?;
                }
            }
            Ok(())
        })?;
        index.write(snapshot, SLOT_INDEX)?;

        // Codes are only ever added, and an account of this version names only codes that are there by now.
        let mut code_end = 0;
        write_rows(snapshot, CODES, |rows| {
            for n in 0..t.code_count.load(Acquire) as usize {
                let record = t.codes.get(n);
                let (offset, len) = record.location().unwrap_or((0, CODE_UNKNOWN));
                if len != CODE_UNKNOWN {
                    code_end = code_end.max(offset as usize + len as usize);
                }
                rows.push(CodeRow {
                    hash: archive::words(record.hash()),
                    offset: offset.into(),
                    len: len.into(),
                })?;
            }
            Ok(())
        })?;
        snapshot.add_file(CODE_BYTES, |out| {
            let mut rows = ArchiveWriter::<u8>::new(out);
            rows.extend(t.code_bytes.get(0, code_end))?;
            rows.finish().map(drop)
        })?;

        let head = Head { version: self.version(), hash_key: t.key.0, next_storage, wide };
        snapshot.add_file(HEAD, |out| {
            let bytes = rkyv::to_bytes::<Error>(&head).map_err(io::Error::other)?;
            out.write_all(&bytes)
        })?;
        Ok(())
    }
}

fn account_row(address: &Address, account: &Account, wide: &mut Vec<[u64; 4]>) -> AccountRow {
    let limbs = *account.balance.as_limbs();
    let (flags, balance) = if account.balance.bit_len() <= 128 {
        (FLAG_EXISTS, [limbs[0], limbs[1]])
    } else {
        wide.push(limbs);
        (FLAG_EXISTS | FLAG_WIDE, [wide.len() as u64 - 1, 0])
    };
    AccountRow {
        address: address.into_array(),
        seq: 0.into(),
        code: (flags | account.code).into(),
        storage: account.storage.into(),
        nonce: account.nonce.into(),
        balance: balance.map(Into::into),
        link: 0.into(),
    }
}

fn slot_row(storage: u32, key: &U256, value: &U256) -> SlotRow {
    let (key, value) = (archive::words(*key.as_limbs()), archive::words(*value.as_limbs()));
    SlotRow { storage: storage.into(), seq: 0.into(), key, value, link: 0.into() }
}

/// Writes one archived vector; a state error from inside comes out as itself.
fn write_rows<T: crate::mem::Row + rkyv::Portable>(
    snapshot: &mut SnapshotWriter,
    name: &str,
    fill: impl FnOnce(&mut ArchiveWriter<'_, T>) -> Result<(), FillError>,
) -> Result<(), StateError> {
    let mut stopped = None;
    let written = snapshot.add_file(name, |out| {
        let mut rows = ArchiveWriter::new(out);
        match fill(&mut rows) {
            Ok(()) => rows.finish().map(drop),
            Err(FillError::Io(e)) => Err(e),
            Err(FillError::State(e)) => {
                stopped = Some(e);
                Err(io::Error::other("stopped"))
            }
        }
    });
    match stopped {
        Some(e) => Err(e),
        None => Ok(written?),
    }
}

enum FillError {
    Io(io::Error),
    State(StateError),
}

impl From<io::Error> for FillError {
    fn from(e: io::Error) -> Self {
        FillError::Io(e)
    }
}

impl<E: Into<StateError>> From<E> for FillError {
    fn from(e: E) -> Self {
        FillError::State(e.into())
    }
}

/// The index of the rows being written.
struct Scratch {
    index: Index,
    writer: IndexWriter,
    rows: u32,
}

impl Scratch {
    fn reserve(rows: usize) -> Result<Scratch, StateError> {
        let (index, writer) = Index::reserve("snapshot's index", rows, rows.max(1 << 16), true)?;
        Ok(Scratch { index, writer, rows: 0 })
    }

    fn add(&mut self, hash: u32) -> Result<(), StateError> {
        let full = |_| StateError::Full { what: "snapshot's index entries", limit: u64::from(u32::MAX) };
        self.index.insert(&mut self.writer, hash, self.rows).map_err(full)?;
        self.rows += 1;
        Ok(())
    }

    fn write(self, snapshot: &mut SnapshotWriter, name: &str) -> Result<(), StateError> {
        write_rows(snapshot, name, |rows| {
            for line in self.index.lines() {
                rows.push(LineRow(std::array::from_fn(|i| line.0[i].load(Relaxed).into())))?;
            }
            Ok(())
        })
    }
}

/// A store that starts as `snapshot` left it, with the snapshot's version sealed; the next version follows it. The
/// maxima of `config` are raised to what the snapshot holds.
pub fn open_snapshot(
    config: StateConfig,
    snapshot: &SnapshotReader,
) -> Result<(State, StateWriter), StateError> {
    let height = snapshot.height();
    let damaged = |name: &str, reason: &str| SnapshotError::Damaged {
        height,
        reason: format!("file {name}: {reason}"),
    };
    let file = |name: &'static str| snapshot.file(name).map_err(|e| damaged(name, &e.to_string()));

    let head_file = file(HEAD)?;
    let head = rkyv::from_bytes::<Head, Error>(&head_file).map_err(|e| damaged(HEAD, &e.to_string()))?;
    let files = StateFiles {
        accounts: file(ACCOUNTS)?,
        account_index: file(ACCOUNT_INDEX)?,
        slots: file(SLOTS)?,
        slot_index: file(SLOT_INDEX)?,
        codes: file(CODES)?,
        code_bytes: file(CODE_BYTES)?,
        damaged: &damaged,
    };
    let (accounts, slots) = (files.accounts()?.len(), files.slots()?.len());
    if accounts >= u32::MAX as usize || slots >= u32::MAX as usize {
        return Err(damaged(HEAD, "it has more rows than a store can number").into());
    }

    let mut config = config;
    config.max_accounts = config.max_accounts.max(accounts).max(head.wide.len());
    config.max_slots = config.max_slots.max(slots);
    let rebuild = config.rebuild_index;
    let key = match rebuild {
        true => config.hash_key.map_or_else(HashKey::random, HashKey),
        false => HashKey(head.hash_key),
    };
    let sized = if rebuild { (config.accounts.max(accounts), config.slots.max(slots)) } else { (0, 0) };
    let (mut tables, mut parts) = Tables::reserve(&config, key, sized)?;
    let in_place = config.snapshot_in_place;

    place(&mut tables.accounts, &files.accounts, accounts, in_place, "accounts")?;
    place(&mut tables.slots, &files.slots, slots, in_place, "slots")?;
    tables.account_count.store(accounts as u64, Relaxed);
    tables.slot_count.store(slots as u64, Relaxed);
    load_codes(&mut tables, &mut parts, &files, in_place)?;
    load_wide(&tables, &head).map_err(|reason| damaged(HEAD, reason))?;
    check_accounts(&tables, &head).map_err(|reason| damaged(ACCOUNTS, reason))?;
    check_slots(&tables, &head).map_err(|reason| damaged(SLOTS, reason))?;
    if rebuild {
        rebuild_indexes(&tables, &mut parts).map_err(|reason| damaged(ACCOUNT_INDEX, reason))?;
    } else {
        let (bytes, lines) = (&files.account_index, files.lines(&files.account_index, ACCOUNT_INDEX)?);
        restore(&mut tables.account_index, &mut parts.account_index, lines, bytes, accounts, in_place)
            .map_err(|reason| damaged(ACCOUNT_INDEX, &reason))?;
        let (bytes, lines) = (&files.slot_index, files.lines(&files.slot_index, SLOT_INDEX)?);
        restore(&mut tables.slot_index, &mut parts.slot_index, lines, bytes, slots, in_place)
            .map_err(|reason| damaged(SLOT_INDEX, &reason))?;
    }

    let next = head.version.checked_add(1).filter(|v| *v < u64::MAX);
    tables.unsealed.store(next.ok_or_else(|| damaged(HEAD, "its version is out of range"))?, Relaxed);
    tables.undo.start_at(head.version);
    let tables = Arc::new(tables);
    Ok((State { tables: tables.clone() }, StateWriter { tables, parts }))
}

/// The files, with the sentence for a bad one.
struct StateFiles<'a> {
    accounts: SnapshotFile,
    account_index: SnapshotFile,
    slots: SnapshotFile,
    slot_index: SnapshotFile,
    codes: SnapshotFile,
    code_bytes: SnapshotFile,
    damaged: &'a dyn Fn(&str, &str) -> SnapshotError,
}

impl StateFiles<'_> {
    fn accounts(&self) -> Result<&[AccountRow], SnapshotError> {
        archive::rows(&self.accounts).map_err(|e| (self.damaged)(ACCOUNTS, &e))
    }

    fn slots(&self) -> Result<&[SlotRow], SnapshotError> {
        archive::rows(&self.slots).map_err(|e| (self.damaged)(SLOTS, &e))
    }

    fn codes(&self) -> Result<&[CodeRow], SnapshotError> {
        archive::rows(&self.codes).map_err(|e| (self.damaged)(CODES, &e))
    }

    fn code_bytes(&self) -> Result<&[u8], SnapshotError> {
        archive::rows(&self.code_bytes).map_err(|e| (self.damaged)(CODE_BYTES, &e))
    }

    fn lines(&self, file: &SnapshotFile, name: &str) -> Result<usize, SnapshotError> {
        let lines = archive::rows::<LineRow>(file).map_err(|e| (self.damaged)(name, &e))?.len();
        if lines <= SLACK_BUCKETS { Err((self.damaged)(name, "it has too few buckets")) } else { Ok(lines) }
    }
}

/// Puts a file's rows at a table's start. The caller has checked that the file begins with that many.
fn place<T: Cell>(
    table: &mut Table<T>,
    file: &SnapshotFile,
    rows: usize,
    in_place: bool,
    what: &'static str,
) -> Result<(), StateError> {
    let bytes = rows * size_of::<T>();
    if in_place {
        table.place_file(file.file(), rows).map_err(|source| StateError::Map {
            what,
            bytes: bytes as u64,
            source,
        })
    } else {
        table.fill(&file[..bytes]);
        Ok(())
    }
}

fn restore(
    index: &mut Index,
    writer: &mut IndexWriter,
    lines: usize,
    file: &SnapshotFile,
    records: usize,
    in_place: bool,
) -> Result<(), String> {
    if lines > index.capacity_lines() {
        return Err("it has more buckets than its records need".into());
    }
    index
        .restore(writer, lines, records, |table: &mut Table<Line>| {
            place(table, file, lines, in_place, "index")
        })
        .map_err(|e: StateError| e.to_string())?;
    if index.is_sound(records) { Ok(()) } else { Err("its entries do not belong to its records".into()) }
}

fn load_codes(
    tables: &mut Tables,
    parts: &mut WriterParts,
    files: &StateFiles<'_>,
    in_place: bool,
) -> Result<(), StateError> {
    let (codes, bytes) = (files.codes()?, files.code_bytes()?);
    if codes.len() > tables.codes.capacity() || bytes.len() > tables.code_bytes.capacity() {
        return Err((files.damaged)(CODES, "it has more codes than a store can number").into());
    }
    if in_place {
        let source = files.code_bytes.file();
        let mapped = tables.code_bytes.place_file(source, bytes.len());
        mapped.map_err(|source| StateError::Map { what: "code bytes", bytes: bytes.len() as u64, source })?;
    } else {
        tables.code_bytes.fill(bytes);
    }
    for (number, row) in codes.iter().enumerate() {
        let hash = row.hash.map(|w| w.to_native());
        let (offset, len) = (row.offset.to_native(), row.len.to_native());
        if tables.find_code(&hash).is_some() {
            return Err((files.damaged)(CODES, "a code is in it twice").into());
        }
        let record = tables.codes.get(number);
        record.init(&hash);
        if len != CODE_UNKNOWN {
            if offset.checked_add(len).is_none_or(|end| end > bytes.len() as u64) {
                return Err((files.damaged)(CODES, "a code lies outside the code bytes").into());
            }
            record.locate(offset, len);
        }
        let full = |_| (files.damaged)(CODES, "its hashes cannot be indexed");
        tables
            .code_index
            .insert(&mut parts.code_index, tables.key.code(&hash), number as u32)
            .map_err(full)?;
    }
    tables.code_count.store(codes.len() as u64, Relaxed);
    Ok(())
}

fn load_wide(tables: &Tables, head: &Head) -> Result<(), &'static str> {
    if head.wide.len() > tables.wide.capacity() || head.next_storage > tables.owners.capacity() as u64 {
        return Err("it names more cells than a store can number");
    }
    if head.next_storage == 0 {
        return Err("storage id 0 is given out");
    }
    for (number, limbs) in head.wide.iter().enumerate() {
        let cell = tables.wide.get(number);
        cell.iter().zip(limbs).for_each(|(cell, limb)| cell.store(*limb, Relaxed));
    }
    tables.wide_count.store(head.wide.len() as u64, Relaxed);
    tables.next_storage.store(head.next_storage, Relaxed);
    Ok(())
}

/// Every record at rest and every number in range; owners of storages are entered on the way.
fn check_accounts(tables: &Tables, head: &Head) -> Result<(), &'static str> {
    let codes = tables.code_count.load(Relaxed);
    let mut wide_cells = 0;
    for number in 0..tables.account_count.load(Relaxed) as usize {
        let record = tables.accounts.get(number);
        if !record.is_at_rest() {
            return Err("a record is not at rest");
        }
        let (account, _) = record.load(&tables.wide);
        if !account.exists
            || u64::from(account.code) > codes
            || u64::from(account.storage) >= head.next_storage
        {
            return Err("a record names a code or storage that is not there, or does not exist itself");
        }
        if let Some(cell) = record.wide_cell() {
            // Cells are numbered in the order of their accounts, which also makes each the account's own.
            if cell != wide_cells || cell >= head.wide.len() as u64 {
                return Err("a record names a wide balance that is not its own");
            }
            wide_cells += 1;
        }
        if account.storage != 0 {
            let owner = tables.owners.get(account.storage as usize);
            if owner.load(Relaxed) != 0 {
                return Err("two records share one storage");
            }
            owner.store(number as u32 + 1, Relaxed);
        }
    }
    Ok(())
}

fn check_slots(tables: &Tables, head: &Head) -> Result<(), &'static str> {
    for number in 0..tables.slot_count.load(Relaxed) as usize {
        let record = tables.slots.get(number);
        if !record.is_at_rest() {
            return Err("a record is not at rest");
        }
        if record.storage() == 0 || u64::from(record.storage()) >= head.next_storage {
            return Err("a record names a storage that is not there");
        }
    }
    Ok(())
}

/// Enters every record into fresh indexes; two of one key are refused.
fn rebuild_indexes(tables: &Tables, parts: &mut WriterParts) -> Result<(), &'static str> {
    let (twice, full) = ("two records have one key", "the records cannot be indexed");
    for number in 0..tables.account_count.load(Relaxed) as usize {
        let address = tables.accounts.get(number).address();
        let hash = tables.key.address(&address);
        if tables.find_account(hash, &address).is_some() {
            return Err(twice);
        }
        tables.account_index.insert(&mut parts.account_index, hash, number as u32).map_err(|_| full)?;
    }
    for number in 0..tables.slot_count.load(Relaxed) as usize {
        let record = tables.slots.get(number);
        let (storage, key) = (record.storage(), record.key());
        let hash = tables.key.slot(storage, &key);
        if tables.find_slot(hash, storage, &key).is_some() {
            return Err(twice);
        }
        tables.slot_index.insert(&mut parts.slot_index, hash, number as u32).map_err(|_| full)?;
    }
    Ok(())
}
