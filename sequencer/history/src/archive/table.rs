//! A sorted table in pages, read with `pread`: 255 entries of 16 bytes to a page of 4 KiB, each page with its own
//! checksum, so that a lookup reads one or two pages and trusts nothing that it did not check.

use super::record::crc;
use crate::HistoryError;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) const PAGE_LEN: usize = 4_096;
const PER_PAGE: usize = 255;
const CRC_AT: usize = PER_PAGE * ENTRY_LEN;
const ENTRY_LEN: usize = 16;

const _: () = assert!(CRC_AT + 8 <= PAGE_LEN);

/// One entry: what it is sorted by, and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) value: u64,
}

/// Appends the pages of a table.
pub(super) fn write(out: &mut Vec<u8>, entries: &[Entry]) {
    for chunk in entries.chunks(PER_PAGE) {
        let start = out.len();
        for entry in chunk {
            out.extend_from_slice(&entry.key.to_le_bytes());
            out.extend_from_slice(&entry.value.to_le_bytes());
        }
        out.resize(start + CRC_AT, 0);
        let sum = crc(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(start + PAGE_LEN, 0);
    }
}

/// Bytes that a table of so many entries occupies.
pub(super) fn len(entries: u64) -> u64 {
    entries.div_ceil(PER_PAGE as u64) * PAGE_LEN as u64
}

/// A table inside a file.
pub(super) struct Table<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    /// Where its first page is.
    pub(super) at: u64,
    /// How many entries.
    pub(super) count: u64,
}

impl Table<'_> {
    /// The entry at a position.
    pub(super) fn get(&self, index: u64) -> Result<Option<Entry>, HistoryError> {
        if index >= self.count {
            return Ok(None);
        }
        let page = self.page(index / PER_PAGE as u64)?;
        Ok(page.get((index % PER_PAGE as u64) as usize).copied())
    }

    /// All values under a key.
    pub(super) fn find(&self, key: u64) -> Result<Vec<u64>, HistoryError> {
        let mut found = Vec::new();
        let Some(mut page) = self.first_page_reaching(key)? else { return Ok(found) };
        loop {
            let entries = self.page(page)?;
            found.extend(entries.iter().filter(|entry| entry.key == key).map(|entry| entry.value));
            page += 1;
            if page >= self.pages() || entries.last().is_none_or(|last| last.key > key) {
                return Ok(found);
            }
        }
    }

    /// The position of the last entry whose value is at most `value`; values must not decrease with position.
    pub(super) fn last_with_value_at_most(&self, value: u64) -> Result<Option<u64>, HistoryError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle)? {
                Some(entry) if entry.value <= value => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low.checked_sub(1))
    }

    fn pages(&self) -> u64 {
        self.count.div_ceil(PER_PAGE as u64)
    }

    /// The first page whose last key is not below `key`. Keys are prefixes of hashes, spread evenly, so the first guess
    /// is where an even spread puts the key; from there the interval is halved.
    fn first_page_reaching(&self, key: u64) -> Result<Option<u64>, HistoryError> {
        let (mut low, mut high) = (0, self.pages());
        let guess = ((u128::from(key) * u128::from(high)) >> 64) as u64;
        let mut probe = guess.min(high.saturating_sub(1));
        let mut step = 1;
        while low < high {
            let reaches = self.page(probe)?.last().is_some_and(|last| last.key >= key);
            if reaches {
                high = probe;
                probe = probe.saturating_sub(step).max(low);
            } else {
                low = probe + 1;
                probe = (probe + step).min(high.saturating_sub(1));
            }
            step *= 2;
            // Once the interval is shorter than the stride, halve it.
            if high.saturating_sub(low) <= step {
                probe = low + high.saturating_sub(low) / 2;
            }
        }
        Ok((low < self.pages()).then_some(low))
    }

    fn page(&self, page: u64) -> Result<Vec<Entry>, HistoryError> {
        let offset = self.at + page * PAGE_LEN as u64;
        let mut bytes = [0; PAGE_LEN];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| HistoryError::io("read", self.path, error))?;
        let sum = crc(&bytes[..CRC_AT]).to_le_bytes();
        if bytes[CRC_AT..CRC_AT + 8] != sum {
            return Err(HistoryError::Corrupt { file: self.path.to_path_buf(), offset, what: "index page" });
        }
        let entries = (self.count - page * PER_PAGE as u64).min(PER_PAGE as u64) as usize;
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum: u64, byte| (sum << 8) | u64::from(*byte));
        Ok(bytes[..entries * ENTRY_LEN]
            .chunks_exact(ENTRY_LEN)
            .map(|entry| Entry { key: word(&entry[..8]), value: word(&entry[8..]) })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    #[test]
    fn lookups_agree_with_a_map_for_even_and_skewed_keys() {
        for seed in 0..12u64 {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let count = [0, 1, 254, 255, 256, 5_000][seed as usize % 6];
            let mut model: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            let mut entries = Vec::new();
            for value in 0..count {
                // Odd seeds put all keys into a corner and repeat some.
                let key = if seed % 2 == 1 { rng.random_range(0..600) } else { rng.random() };
                entries.push(Entry { key, value });
                model.entry(key).or_default().push(value);
            }
            entries.sort_unstable();
            let mut bytes = vec![7; 100];
            write(&mut bytes, &entries);
            assert_eq!(bytes.len() as u64, 100 + len(count));
            let path = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(path.path(), &bytes).unwrap();
            let file = File::open(path.path()).unwrap();
            let table = Table { file: &file, path: path.path(), at: 100, count };
            for (key, values) in &model {
                assert_eq!(&table.find(*key).unwrap(), values);
            }
            for _ in 0..200 {
                let key = if seed % 2 == 1 { rng.random_range(0..700) } else { rng.random() };
                assert_eq!(table.find(key).unwrap(), model.get(&key).cloned().unwrap_or_default());
            }
            assert_eq!(table.get(count).unwrap(), None);
        }
    }
}
