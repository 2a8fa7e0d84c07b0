//! One file of the archive: blocks one after another, and, once the file is finished, an index file beside it.
//!
//! `NNNNNNNNNNNN.seg` (named by its first block) begins with 32 bytes: `ILSEGMNT`, format version u32, zero u32, first
//! block u64, CRC-64/NVME of these 24. `NNNNNNNNNNNN.idx` begins with one page: `ILINDEX_`, version u32, zero u32, then as
//! u64: first block, blocks, transactions, length of the segment, height of the next mini-block, CRC-64/NVME of these 56;
//! then three tables (see `table.rs`): blocks by place (offset, first mini-block height), blocks by hash prefix
//! (place), transactions by hash prefix (place of the block << 32 | place in the block).

use super::record::{self, HEADER_LEN, Head, RecordHeader, TABLE_ENTRY_LEN, TableEntry, crc};
use super::table::{self, Entry, PAGE_LEN, Table};
use crate::HistoryError;
use alloy_primitives::B256;
use hashbrown::HashMap;
use ironlane_types::{ExecutedTx, MiniBlock};
use parking_lot::RwLock;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(super) const SEGMENT_HEADER_LEN: u64 = 32;
const FORMAT: u32 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"ILSEGMNT";
const INDEX_MAGIC: &[u8; 8] = b"ILINDEX_";

/// First eight bytes of a hash, as a number in the order of the hashes.
fn prefix(hash: &B256) -> u64 {
    u64::from_be_bytes(hash.0[..8].try_into().unwrap_or_default())
}

fn half(hash: &B256) -> u128 {
    u128::from_be_bytes(hash.0[..16].try_into().unwrap_or_default())
}

/// What is known about the blocks of the newest segment, in memory.
#[derive(Debug, Default)]
pub(super) struct ActiveIndex {
    /// Offset and first mini-block height, by place.
    blocks: Vec<Entry>,
    hashes: HashMap<B256, u32>,
    /// Half a hash is enough to tell transactions apart; the record holds all of it.
    txs: HashMap<u128, (u32, u32)>,
}

#[derive(Debug)]
enum Index {
    Active(RwLock<ActiveIndex>),
    Finished { path: PathBuf, blocks: u64, txs: u64 },
}

/// A segment, readable by many threads at once; only the archive's writer appends.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    path: PathBuf,
    index: Index,
}

/// What a scan of a segment file found.
pub(super) struct Scan {
    pub(super) index: ActiveIndex,
    /// Where the sound records end.
    pub(super) end: u64,
    /// Height of the next mini-block after them.
    pub(super) next_mini_block: u64,
}

pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:012}.seg"))
}

fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

/// The bytes at the front of a segment file.
pub(super) fn segment_header(first: u64) -> [u8; SEGMENT_HEADER_LEN as usize] {
    let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
    bytes[..8].copy_from_slice(SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    let sum = crc(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

impl Segment {
    /// A segment that is being written.
    pub(super) fn active(dir: &Path, first: u64, index: ActiveIndex) -> Self {
        Segment { first, path: segment_path(dir, first), index: Index::Active(RwLock::new(index)) }
    }

    /// Opens a finished segment by its index file. `Ok(None)`: there is no index that fits, so it must be scanned.
    /// With the segment comes the height of the next mini-block.
    pub(super) fn finished(dir: &Path, first: u64) -> Result<Option<(Self, u64)>, HistoryError> {
        let path = segment_path(dir, first);
        let index = index_path(&path);
        let Ok(file) = File::open(&index) else { return Ok(None) };
        let len = std::fs::metadata(&path).map_err(|error| HistoryError::io("look at", &path, error))?.len();
        let mut page = [0; 64];
        if file.read_exact_at(&mut page, 0).is_err() || &page[..8] != INDEX_MAGIC {
            return Ok(None);
        }
        let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap_or_default());
        if word(56) != crc(&page[..56]) {
            return Ok(None);
        }
        check_format(&index, &page)?;
        let (blocks, txs) = (word(24), word(32));
        let index_len = file.metadata().map_err(|error| HistoryError::io("look at", &index, error))?.len();
        let expected = PAGE_LEN as u64 + 2 * table::len(blocks) + table::len(txs);
        if word(16) != first || word(40) != len || index_len != expected {
            return Ok(None);
        }
        Ok(Some((Segment { first, path, index: Index::Finished { path: index, blocks, txs } }, word(48))))
    }

    /// Reads a whole segment file and checks every byte of it; stops at the first record that is not sound.
    pub(super) fn scan(dir: &Path, first: u64) -> Result<Scan, HistoryError> {
        let path = segment_path(dir, first);
        let read = |error| HistoryError::io("read", &path, error);
        let file = File::open(&path).map_err(read)?;
        let len = file.metadata().map_err(read)?.len();
        let mut scan = Scan { index: ActiveIndex::default(), end: 0, next_mini_block: 0 };
        let mut front = [0; SEGMENT_HEADER_LEN as usize];
        if len < SEGMENT_HEADER_LEN {
            return Ok(scan);
        }
        file.read_exact_at(&mut front, 0).map_err(read)?;
        if &front[..8] == SEGMENT_MAGIC && front[24..] == crc(&front[..24]).to_le_bytes() {
            check_format(&path, &front)?;
        }
        if front != segment_header(first) {
            return Ok(scan);
        }
        scan.end = SEGMENT_HEADER_LEN;
        let mut header_bytes = [0; HEADER_LEN];
        while len - scan.end >= HEADER_LEN as u64 {
            file.read_exact_at(&mut header_bytes, scan.end).map_err(read)?;
            let Some(header) = RecordHeader::parse(&header_bytes) else { break };
            if header.len() > len - scan.end || header.number != first + scan.index.blocks.len() as u64 {
                break;
            }
            let mut record = vec![0; header.len() as usize];
            file.read_exact_at(&mut record, scan.end).map_err(read)?;
            let Some((head, minis, table)) = check_record(&header, &record) else { break };
            scan.next_mini_block = minis.last().map_or(head.first_mini_block, |mini| mini.header.height + 1);
            scan.index.add(
                scan.end,
                &head.hash,
                head.first_mini_block,
                table.iter().map(|entry| &entry.hash),
            );
            scan.end += header.len();
        }
        Ok(scan)
    }

    /// Notes a block that was appended at `offset`.
    pub(super) fn note<'a>(
        &self,
        offset: u64,
        hash: &B256,
        first_mini: u64,
        txs: impl Iterator<Item = &'a B256>,
    ) {
        if let Index::Active(index) = &self.index {
            index.write().add(offset, hash, first_mini, txs);
        }
    }

    /// Writes the index file of a segment that takes no more blocks, and returns the segment as finished.
    pub(super) fn finish(&self, len: u64, next_mini_block: u64) -> Result<Segment, HistoryError> {
        let Index::Active(index) = &self.index else {
            unreachable!("only the active segment is finished, and only once")
        };
        let path = index_path(&self.path);
        let index = index.read();
        let (blocks, txs) = (index.blocks.len() as u64, index.txs.len() as u64);
        let bytes = index.to_bytes(self.first, len, next_mini_block);
        drop(index);
        let temporary = path.with_extension("idx.new");
        let write = |error| HistoryError::io("write", &temporary, error);
        let file = File::create(&temporary).map_err(write)?;
        file.write_all_at(&bytes, 0).map_err(write)?;
        file.sync_data().map_err(write)?;
        std::fs::rename(&temporary, &path).map_err(|error| HistoryError::io("rename", &temporary, error))?;
        Ok(Segment {
            first: self.first,
            path: self.path.clone(),
            index: Index::Finished { path, blocks, txs },
        })
    }

    /// How many blocks.
    pub(super) fn blocks(&self) -> u64 {
        match &self.index {
            Index::Active(index) => index.read().blocks.len() as u64,
            Index::Finished { blocks, .. } => *blocks,
        }
    }

    /// The place of the block with this hash (one whose hash begins so; the caller compares).
    pub(super) fn places_of_block(&self, hash: &B256) -> Result<Vec<u64>, HistoryError> {
        match &self.index {
            Index::Active(index) => {
                Ok(index.read().hashes.get(hash).map(|place| u64::from(*place)).into_iter().collect())
            }
            Index::Finished { path, blocks, .. } => {
                let file = open(path)?;
                let at = PAGE_LEN as u64 + table::len(*blocks);
                Table { file: &file, path, at, count: *blocks }.find(prefix(hash))
            }
        }
    }

    /// Places (block, transaction) where a transaction with this hash may be.
    pub(super) fn places_of_tx(&self, hash: &B256) -> Result<Vec<(u64, u32)>, HistoryError> {
        match &self.index {
            Index::Active(index) => {
                let place = index.read().txs.get(&half(hash)).copied();
                Ok(place.map(|(block, tx)| (u64::from(block), tx)).into_iter().collect())
            }
            Index::Finished { path, blocks, txs } => {
                let file = open(path)?;
                let at = PAGE_LEN as u64 + 2 * table::len(*blocks);
                let found = Table { file: &file, path, at, count: *txs }.find(prefix(hash))?;
                Ok(found.into_iter().map(|value| (value >> 32, value as u32)).collect())
            }
        }
    }

    /// The place of the block that holds a mini-block height, if any block here can.
    pub(super) fn place_of_mini_block(&self, height: u64) -> Result<Option<u64>, HistoryError> {
        match &self.index {
            Index::Active(index) => {
                let places = index.read().blocks.partition_point(|entry| entry.value <= height);
                Ok((places as u64).checked_sub(1))
            }
            Index::Finished { path, blocks, .. } => {
                let file = open(path)?;
                Table { file: &file, path, at: PAGE_LEN as u64, count: *blocks }
                    .last_with_value_at_most(height)
            }
        }
    }

    /// Opens the record at a place for reading.
    pub(super) fn record(&self, place: u64) -> Result<Option<Record>, HistoryError> {
        let offset = match &self.index {
            Index::Active(index) => index.read().blocks.get(place as usize).map(|entry| entry.key),
            Index::Finished { path, blocks, .. } => {
                let file = open(path)?;
                let table = Table { file: &file, path, at: PAGE_LEN as u64, count: *blocks };
                table.get(place)?.map(|entry| entry.key)
            }
        };
        let Some(offset) = offset else { return Ok(None) };
        let mut record = Record { file: open(&self.path)?, path: self.path.clone(), offset, header: None };
        let bytes = record.read(0, HEADER_LEN as u64, "record header")?;
        let header = RecordHeader::parse(&bytes).filter(|header| header.number == self.first + place);
        record.header = Some(header.ok_or_else(|| record.damaged(0, "record header"))?);
        Ok(Some(record))
    }
}

/// A record opened for reading: parts are read, and checked, when asked for.
pub(super) struct Record {
    file: File,
    path: PathBuf,
    offset: u64,
    header: Option<RecordHeader>,
}

impl Record {
    fn header(&self) -> Result<RecordHeader, HistoryError> {
        self.header.ok_or_else(|| self.damaged(0, "record header"))
    }

    pub(super) fn tx_count(&self) -> Result<u32, HistoryError> {
        Ok(self.header()?.tx_count)
    }

    pub(super) fn head(&self) -> Result<Head, HistoryError> {
        let header = self.header()?;
        let bytes = self.read(header.head_at(), u64::from(header.head_len), "block header")?;
        record::decode_head(&header, &bytes).ok_or_else(|| self.damaged(header.head_at(), "block header"))
    }

    pub(super) fn mini_blocks(&self) -> Result<Vec<MiniBlock>, HistoryError> {
        let header = self.header()?;
        let bytes = self.read(header.minis_at(), u64::from(header.minis_len), "mini-blocks")?;
        record::decode_minis(&header, &bytes).ok_or_else(|| self.damaged(header.minis_at(), "mini-blocks"))
    }

    /// One transaction, read and checked without the rest of the block; `None`: the block has fewer.
    pub(super) fn tx(&self, index: u32) -> Result<Option<ExecutedTx>, HistoryError> {
        let header = self.header()?;
        if index >= header.tx_count {
            return Ok(None);
        }
        let at = header.table_at() + u64::from(index) * TABLE_ENTRY_LEN as u64;
        let row = self.read(at, TABLE_ENTRY_LEN as u64, "table of transactions")?;
        let entry = record::decode_entry(&row).ok_or_else(|| self.damaged(at, "table of transactions"))?;
        if u64::from(entry.offset) + u64::from(entry.len) > header.bodies_len {
            return Err(self.damaged(at, "table of transactions"));
        }
        let at = header.bodies_at() + u64::from(entry.offset);
        let body = self.read(at, u64::from(entry.len), "transaction")?;
        let tx = record::decode_tx(&entry, index, &body);
        tx.map(Some).ok_or_else(|| self.damaged(at, "transaction"))
    }

    /// All transactions in order.
    pub(super) fn txs(&self) -> Result<Vec<ExecutedTx>, HistoryError> {
        let header = self.header()?;
        let table_at = header.table_at();
        let bytes = self.read(table_at, header.len() - table_at, "transactions")?;
        let (rows, bodies) = bytes.split_at((header.bodies_at() - table_at) as usize);
        let rows = record::decode_table(&header, rows);
        let rows = rows.ok_or_else(|| self.damaged(table_at, "table of transactions"))?;
        rows.iter()
            .enumerate()
            .map(|(index, entry)| {
                let start = entry.offset as usize;
                let body = bodies.get(start..start.saturating_add(entry.len as usize));
                body.and_then(|body| record::decode_tx(entry, index as u32, body))
                    .ok_or_else(|| self.damaged(header.bodies_at() + u64::from(entry.offset), "transaction"))
            })
            .collect()
    }

    fn read(&self, at: u64, len: u64, what: &'static str) -> Result<Vec<u8>, HistoryError> {
        let mut bytes = vec![0; len as usize];
        match self.file.read_exact_at(&mut bytes, self.offset + at) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(self.damaged(at, what)),
            Err(error) => Err(HistoryError::io("read", &self.path, error)),
        }
    }

    fn damaged(&self, at: u64, what: &'static str) -> HistoryError {
        HistoryError::Corrupt { file: self.path.clone(), offset: self.offset + at, what }
    }
}

impl ActiveIndex {
    fn add<'a>(&mut self, offset: u64, hash: &B256, first_mini: u64, txs: impl Iterator<Item = &'a B256>) {
        let place = self.blocks.len() as u32;
        self.blocks.push(Entry { key: offset, value: first_mini });
        self.hashes.insert(*hash, place);
        self.txs.extend(txs.enumerate().map(|(index, hash)| (half(hash), (place, index as u32))));
    }

    /// How many blocks.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    fn to_bytes(&self, first: u64, segment_len: u64, next_mini_block: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAGE_LEN + (self.txs.len() + 2 * self.blocks.len()) * 17);
        bytes.extend_from_slice(INDEX_MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let counts = [self.blocks.len() as u64, self.txs.len() as u64];
        for value in [first, counts[0], counts[1], segment_len, next_mini_block] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let sum = crc(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.resize(PAGE_LEN, 0);
        table::write(&mut bytes, &self.blocks);
        let mut entries: Vec<_> = self
            .hashes
            .iter()
            .map(|(hash, place)| Entry { key: prefix(hash), value: u64::from(*place) })
            .collect();
        entries.sort_unstable();
        table::write(&mut bytes, &entries);
        let mut entries: Vec<_> = self
            .txs
            .iter()
            .map(|(half, (block, tx))| Entry {
                key: (half >> 64) as u64,
                value: (u64::from(*block) << 32) | u64::from(*tx),
            })
            .collect();
        entries.sort_unstable();
        table::write(&mut bytes, &entries);
        bytes
    }
}

fn check_record(header: &RecordHeader, record: &[u8]) -> Option<(Head, Vec<MiniBlock>, Vec<TableEntry>)> {
    let part = |from: u64, to: u64| record.get(from as usize..to as usize);
    let head = record::decode_head(header, part(header.head_at(), header.minis_at())?)?;
    let minis = record::decode_minis(header, part(header.minis_at(), header.table_at())?)?;
    let table = record::decode_table(header, part(header.table_at(), header.bodies_at())?)?;
    let bodies = part(header.bodies_at(), header.len())?;
    let sound = table.iter().all(|entry| {
        let start = entry.offset as usize;
        bodies.get(start..start + entry.len as usize).is_some_and(|body| record::body_is_sound(entry, body))
    });
    sound.then_some((head, minis, table))
}

/// Both kinds of file have their version at byte 8.
fn check_format(path: &Path, bytes: &[u8]) -> Result<(), HistoryError> {
    let found = u32::from_le_bytes(bytes[8..12].try_into().unwrap_or_default());
    if found == FORMAT {
        return Ok(());
    }
    Err(HistoryError::Format { file: path.to_path_buf(), found, expected: FORMAT })
}

fn open(path: &Path) -> Result<File, HistoryError> {
    File::open(path).map_err(|error| HistoryError::io("open", path, error))
}
