//! Trie files: the arenas as they are in memory, behind a header (`docs/formats.md`, section *Trie file*).
//!
//! Free lists are not written: whoever opens a file scans the arenas anyway ([`check`]) and links what is free anew.
//! The container (a snapshot of the state crate) has the checksum; this module catches what a checksum cannot: records
//! that contradict each other, and nodes that hash to another root than the header names.

mod check;
mod verify;

use crate::{
    EMPTY_ROOT, Trie, TrieConfig, TrieError,
    nodes::{LEAF, NONE},
    values::StorageTrie,
};
use alloy_primitives::{B256, U256, keccak256};
use std::io::{self, Write};

/// First bytes of a trie file.
pub(crate) const MAGIC: [u8; 8] = *b"IRONTRIE";
/// Newest version that this program reads, and the one it writes.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the header. Each section begins at a multiple of [`ALIGN`].
pub(crate) const HEADER_BYTES: usize = 128;
const ALIGN: u64 = 64;
const STORAGE_BYTES: usize = 36;
const CODE_BYTES: usize = 32;
const WIDE_BYTES: usize = 36;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN as usize));

/// The header of a trie file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    root_hash: B256,
    root: u32,
    codes: u32,
    words: u64,
    leaves: u64,
    storages: u64,
    wide: u64,
    garbage: u64,
    accounts: u64,
    slots: u64,
}

/// Bytes in the file of a section, padding included; `None` when the count cannot be true.
fn section(count: u64, bytes_each: usize) -> Option<u64> {
    count.checked_mul(bytes_each as u64)?.checked_next_multiple_of(ALIGN)
}

impl Header {
    fn of(trie: &Trie) -> Header {
        let (tree, tables) = (&trie.tree, &trie.tables);
        Header {
            root_hash: trie.root_hash,
            root: trie.root,
            codes: tables.codes.len() as u32,
            words: tree.nodes.region.len() as u64,
            leaves: tree.leaves.region.len() as u64,
            storages: tables.storages.len() as u64,
            wide: tables.wide.len() as u64,
            garbage: tables.garbage.len() as u64,
            accounts: tables.accounts,
            slots: tables.slots,
        }
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        out[16..48].copy_from_slice(self.root_hash.as_slice());
        out[48..52].copy_from_slice(&self.root.to_le_bytes());
        out[52..56].copy_from_slice(&self.codes.to_le_bytes());
        let counts =
            [self.words, self.leaves, self.storages, self.wide, self.garbage, self.accounts, self.slots];
        for (slot, count) in out[56..].as_chunks_mut::<8>().0.iter_mut().zip(counts) {
            *slot = count.to_le_bytes();
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Header, TrieError> {
        let head = bytes.get(..HEADER_BYTES).unwrap_or_default();
        if head.is_empty() || head[..8] != MAGIC {
            return Err(TrieError::NotATrieFile { found: bytes[..bytes.len().min(8)].to_vec() });
        }
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let version = u32_at(8);
        if version > VERSION {
            return Err(TrieError::NewerVersion { found: version, supported: VERSION });
        }
        if version == 0 || u32_at(12) as usize != HEADER_BYTES {
            return Err(TrieError::Damaged { what: "the header's version or length is wrong", place: 8 });
        }
        let mut counts = head[56..].as_chunks::<8>().0.iter().map(|c| u64::from_le_bytes(*c));
        let mut count = || counts.next().unwrap_or_default();
        Ok(Header {
            root_hash: B256::from_slice(&head[16..48]),
            root: u32_at(48),
            codes: u32_at(52),
            words: count(),
            leaves: count(),
            storages: count(),
            wide: count(),
            garbage: count(),
            accounts: count(),
            slots: count(),
        })
    }

    /// Sections in the order of the file: count and bytes of an entry.
    fn sections(&self) -> [(u64, usize); 6] {
        [
            (self.words, 8),
            (self.leaves, 64),
            (self.storages, STORAGE_BYTES),
            (u64::from(self.codes), CODE_BYTES),
            (self.wide, WIDE_BYTES),
            (self.garbage, 4),
        ]
    }

    fn file_bytes(&self) -> Option<u64> {
        self.sections()
            .into_iter()
            .try_fold(HEADER_BYTES as u64, |sum, (count, each)| sum.checked_add(section(count, each)?))
    }
}

/// Writes entries, then zeros up to the next multiple of [`ALIGN`].
struct SectionWriter<'a> {
    w: &'a mut dyn Write,
    written: u64,
}

impl SectionWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.w.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        let padding = self.written.next_multiple_of(ALIGN) - self.written;
        self.put(&[0; ALIGN as usize][..padding as usize])
    }

    /// A section of small records, handed on in pieces.
    fn records<const N: usize>(&mut self, records: impl Iterator<Item = [u8; N]>) -> io::Result<()> {
        let mut piece = Vec::with_capacity(1 << 16);
        for record in records {
            piece.extend_from_slice(&record);
            if piece.len() + N > 1 << 16 {
                self.put(&piece)?;
                piece.clear();
            }
        }
        self.put(&piece)?;
        self.end()
    }
}

fn numbered(number: u32, word: &[u8; 32]) -> [u8; 36] {
    let mut record = [0; 36];
    record[..4].copy_from_slice(&number.to_le_bytes());
    record[4..].copy_from_slice(word);
    record
}

fn unnumbered(record: &[u8; 36]) -> (u32, [u8; 32]) {
    let mut word = [0; 32];
    word.copy_from_slice(&record[4..]);
    (u32::from_le_bytes([record[0], record[1], record[2], record[3]]), word)
}

impl Trie {
    /// Bytes that [`Trie::write_to`] will write.
    pub fn file_bytes(&self) -> u64 {
        Header::of(self).file_bytes().unwrap_or(u64::MAX)
    }

    /// Writes the trie as it was at the last [`Trie::root`] (`docs/formats.md`, section *Trie file*). The trie is held up
    /// as long as `w` takes: to a disk, write into memory first (a `Vec` of [`Trie::file_bytes`], about 0.1 s a GB) and
    /// let another thread store that.
    pub fn write_to(&self, w: &mut dyn Write) -> io::Result<()> {
        let (tree, tables) = (&self.tree, &self.tables);
        let mut w = SectionWriter { w, written: 0 };
        w.put(&Header::of(self).encode())?;
        w.put(tree.nodes.region.as_bytes())?;
        w.end()?;
        w.put(tree.leaves.region.as_bytes())?;
        w.end()?;
        w.records(tables.storages.iter().map(|s| numbered(s.root, &s.hash.0)))?;
        w.records(tables.codes.iter().map(|hash| hash.0))?;
        w.records(tables.wide.iter().map(|(leaf, balance)| numbered(*leaf, &balance.to_be_bytes())))?;
        w.records(tables.garbage.iter().map(|root| root.to_le_bytes()))
    }

    /// Takes a trie over from the bytes of a trie file, which are copied. Every length, every reference, the order of
    /// the keys and the root node's hash are checked: whatever the bytes are, the answer is a trie that can be used, or
    /// an error. What is not checked is whether each node has the hash that its parent names: [`Trie::verify`] does
    /// that.
    pub fn open(cfg: TrieConfig, bytes: &[u8]) -> Result<Trie, TrieError> {
        let header = Header::decode(bytes)?;
        let expected = header.file_bytes().unwrap_or(u64::MAX);
        if expected != bytes.len() as u64 {
            return Err(TrieError::WrongLength { expected, found: bytes.len() as u64 });
        }
        let mut trie = Trie::new(cfg)?;
        let (tree, tables) = (&mut trie.tree, &mut trie.tables);
        let mut rest = &bytes[HEADER_BYTES..];
        let mut sections = header.sections().into_iter().map(|(count, each)| {
            let (here, after) = rest.split_at(section(count, each).unwrap_or_default() as usize);
            rest = after;
            &here[..count as usize * each]
        });
        let mut next = || sections.next().unwrap_or_default();
        let allowed = tree.nodes.region.capacity() as u64;
        fits("branches", header.words, allowed, 8)?;
        fits("leaves", header.leaves, tree.leaves.region.capacity() as u64, 64)?;
        fits("storage trie records", header.storages, u64::from(u32::MAX), STORAGE_BYTES)?;
        tree.nodes.region.copy_from(next());
        tree.leaves.region.copy_from(next());
        let records = next().as_chunks::<STORAGE_BYTES>().0.iter().map(unnumbered);
        tables.storages = records.map(|(root, hash)| StorageTrie { root, hash: B256::from(hash) }).collect();
        tables.codes = next().as_chunks::<CODE_BYTES>().0.iter().map(|hash| B256::from(*hash)).collect();
        let records = next().as_chunks::<WIDE_BYTES>().0.iter().map(unnumbered);
        tables.wide = records.map(|(leaf, balance)| (leaf, U256::from_be_bytes(balance))).collect();
        tables.garbage = next().as_chunks::<4>().0.iter().map(|root| u32::from_le_bytes(*root)).collect();
        if tables.wide.len() as u64 != header.wide {
            return Err(TrieError::Damaged { what: "a leaf has two wide balances", place: header.wide });
        }
        (tables.accounts, tables.slots) = (header.accounts, header.slots);
        trie.root = header.root;
        trie.root_hash = header.root_hash;
        check::check(&mut trie)?;
        let computed = trie.hash_root_node();
        if computed != header.root_hash {
            return Err(TrieError::WrongRoot { stored: header.root_hash, computed });
        }
        Ok(trie)
    }

    /// What the root node hashes to, given what it says of its children.
    fn hash_root_node(&self) -> B256 {
        let mut rlp = Vec::new();
        if self.root == NONE {
            return EMPTY_ROOT;
        }
        if self.root & LEAF != 0 {
            self.tree.encode_leaf(&self.tables, self.root & !LEAF, 0, &mut Vec::new(), &mut rlp);
        } else {
            self.tree.encode_branch(self.root, &mut rlp);
            if self.tree.is_extended(self.root, 0) {
                let below = if rlp.len() < 32 { rlp.clone() } else { keccak256(&rlp).to_vec() };
                rlp.clear();
                self.tree.encode_extension(self.root, 0, &below, &mut rlp);
            }
        }
        keccak256(&rlp)
    }
}

fn fits(what: &'static str, count: u64, allowed: u64, bytes_each: usize) -> Result<(), TrieError> {
    let each = bytes_each as u64;
    if count == 0 {
        return Err(TrieError::Damaged { what: "a section lacks its reserved first record", place: 0 });
    }
    if count > allowed {
        let (found, allowed) = (count.saturating_mul(each), allowed.saturating_mul(each));
        return Err(TrieError::TooLarge { what, found, allowed });
    }
    Ok(())
}
