#![allow(unsafe_code)]
//! Tables as rkyv archives whose rows are the tables' own bytes.
//!
//! A file is one archived vector: the rows from offset 0, then, aligned to 8, the vector's root (a relative pointer to
//! offset 0 and the count, both 64-bit little-endian). Mapped at the start of a live table, the rows are that table.
//! The types hold no pointers but the root's, so there is nothing to share, to nest or to loop.

use crate::{
    index::Line,
    mem::{Row, row_bytes},
    record::{AccountRecord, CodeRecord, SlotRecord},
};
use rkyv::{
    Archive, Place, Portable,
    bytecheck::CheckBytes,
    rancor::{Error, Strategy},
    rend::{u32_le, u64_le},
    ser::{Positional, Writer, WriterExt, writer::IoWriter},
    validation::archive::ArchiveValidator,
    vec::{ArchivedVec, VecResolver},
};
use std::{io, num::NonZeroUsize};

/// Depth at which validation gives up. A vector of plain rows has depth one.
const DEPTH_MAX: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// An account at rest, laid out as an account record.
#[derive(Debug, Clone, Copy, Portable, CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub(crate) struct AccountRow {
    pub(crate) address: [u8; 20],
    /// Sequence lock: zero.
    pub(crate) seq: u32_le,
    /// Flags (bit 31 exists, bit 30 wide balance) and code number plus one.
    pub(crate) code: u32_le,
    pub(crate) storage: u32_le,
    pub(crate) nonce: u64_le,
    /// Balance, or the number of the wide cell.
    pub(crate) balance: [u64_le; 2],
    /// Link into the history: zero.
    pub(crate) link: u64_le,
}

/// A slot at rest, laid out as a slot record.
#[derive(Debug, Clone, Copy, Portable, CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub(crate) struct SlotRow {
    pub(crate) storage: u32_le,
    /// Sequence lock: zero.
    pub(crate) seq: u32_le,
    pub(crate) key: [u64_le; 4],
    pub(crate) value: [u64_le; 4],
    /// Link into the history: zero.
    pub(crate) link: u64_le,
}

/// A code's hash and place, laid out as a code record.
#[derive(Debug, Clone, Copy, Portable, CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub(crate) struct CodeRow {
    pub(crate) hash: [u64_le; 4],
    pub(crate) offset: u64_le,
    pub(crate) len: u64_le,
}

/// An index bucket.
#[derive(Debug, Clone, Copy, Portable, CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
pub(crate) struct LineRow(pub(crate) [u64_le; crate::index::BUCKET_ENTRIES]);

const _: () = assert!(size_of::<AccountRow>() == size_of::<AccountRecord>());
const _: () = assert!(size_of::<SlotRow>() == size_of::<SlotRecord>());
const _: () = assert!(size_of::<CodeRow>() == size_of::<CodeRecord>());
const _: () = assert!(size_of::<LineRow>() == size_of::<Line>());

/// Little-endian words.
pub(crate) fn words(words: [u64; 4]) -> [u64_le; 4] {
    words.map(u64_le::from_native)
}

/// Stands for a vector of `usize` rows that were written already, at offset 0.
struct Written<T>(usize, std::marker::PhantomData<T>);

impl<T: Portable> Archive for Written<T> {
    type Archived = ArchivedVec<T>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<ArchivedVec<T>>) {
        ArchivedVec::resolve_from_len(self.0, resolver, out);
    }
}

/// Writes an archived vector, row by row.
pub(crate) struct ArchiveWriter<'a, T> {
    out: IoWriter<&'a mut dyn io::Write>,
    buffer: Vec<T>,
    rows: usize,
}

/// Rows written at a time.
const BUFFER_ROWS: usize = 1024;

impl<'a, T: Row + Portable> ArchiveWriter<'a, T> {
    pub(crate) fn new(out: &'a mut dyn io::Write) -> Self {
        ArchiveWriter { out: IoWriter::new(out), buffer: Vec::with_capacity(BUFFER_ROWS), rows: 0 }
    }

    pub(crate) fn push(&mut self, row: T) -> io::Result<()> {
        self.buffer.push(row);
        if self.buffer.len() == BUFFER_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.buffer);
        let written = self.extend(&rows);
        self.buffer = rows;
        self.buffer.clear();
        written
    }

    /// Writes rows that are at hand as a slice.
    pub(crate) fn extend(&mut self, rows: &[T]) -> io::Result<()> {
        self.rows += rows.len();
        Writer::<Error>::write(&mut self.out, row_bytes(rows)).map_err(io::Error::other)
    }

    /// Writes the root; returns the number of rows.
    pub(crate) fn finish(mut self) -> io::Result<usize> {
        self.flush()?;
        WriterExt::<Error>::align_for::<ArchivedVec<T>>(&mut self.out).map_err(io::Error::other)?;
        debug_assert!(self.out.pos() >= self.rows * size_of::<T>());
        let root = Written::<T>(self.rows, std::marker::PhantomData);
        // SAFETY: the resolver names offset 0, where `rows` archived rows were written by this writer, and the position
        // was just aligned for the archived vector.
        unsafe { WriterExt::<Error>::resolve_aligned(&mut self.out, &root, VecResolver::from_pos(0)) }
            .map_err(io::Error::other)?;
        Ok(self.rows)
    }
}

/// The rows of an archived vector, after checking bounds, alignment and depth, and that they begin at offset 0.
pub(crate) fn rows<T>(bytes: &[u8]) -> Result<&[T], String>
where
    T: Portable + for<'a> CheckBytes<Strategy<ArchiveValidator<'a>, Error>>,
{
    let mut validator = ArchiveValidator::with_max_depth(bytes, Some(DEPTH_MAX));
    let rows = rkyv::api::access_with_context::<ArchivedVec<T>, _, Error>(bytes, &mut validator)
        .map_err(|e| format!("it is no valid archive: {e}"))?
        .as_slice();
    if !rows.is_empty() && !std::ptr::addr_eq(rows.as_ptr(), bytes.as_ptr()) {
        return Err("its rows do not begin at offset 0".into());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rkyv::util::AlignedVec;

    fn archive(n: u64) -> AlignedVec {
        let mut bytes = Vec::new();
        let mut writer = ArchiveWriter::<CodeRow>::new(&mut bytes);
        for i in 0..n {
            let row = CodeRow { hash: words([i; 4]), offset: i.into(), len: (2 * i).into() };
            writer.push(row).expect("write to memory");
        }
        assert_eq!(writer.finish().expect("write to memory"), n as usize);
        let mut aligned = AlignedVec::new();
        aligned.extend_from_slice(&bytes);
        aligned
    }

    #[test]
    fn rows_come_back_and_begin_at_zero() {
        for n in [0, 1, 1023, 1024, 1025, 5000] {
            let bytes = archive(n);
            assert_eq!(bytes.len() as u64, n * 48 + 16);
            let rows = rows::<CodeRow>(&bytes).expect("valid");
            assert_eq!(rows.len() as u64, n);
            assert!(rows.iter().enumerate().all(|(i, row)| row.len == 2 * i as u64));
        }
    }

    #[test]
    fn it_is_what_rkyv_itself_reads() {
        let bytes = archive(7);
        let vec = rkyv::access::<ArchivedVec<CodeRow>, Error>(&bytes).expect("valid");
        assert_eq!(vec[6].offset, 6);
    }

    #[test]
    fn forged_roots_are_refused() {
        let good = archive(20);
        let root = good.len() - 16;
        // A count beyond the file, up to one whose byte size overflows.
        for count in [21u64, 1 << 20, 1 << 60, u64::MAX / 48 + 2, u64::MAX] {
            let mut bytes = good.clone();
            bytes[root + 8..].copy_from_slice(&count.to_le_bytes());
            assert!(rows::<CodeRow>(&bytes).is_err(), "count {count}");
        }
        // A pointer elsewhere: outside, misaligned, or to a later row.
        for offset in
            [-(root as i64) - 48, -(root as i64) + 3, -(root as i64) + 48, 1 << 40, i64::MIN, i64::MAX]
        {
            let mut bytes = good.clone();
            bytes[root..root + 8].copy_from_slice(&offset.to_le_bytes());
            assert!(rows::<CodeRow>(&bytes).is_err(), "offset {offset}");
        }
        // Cut anywhere.
        for len in 0..good.len() {
            assert!(rows::<CodeRow>(&good[..len]).map_or(true, |r| r.len() != 20), "length {len}");
        }
        // Misaligned as a whole.
        let mut shifted = AlignedVec::<16>::new();
        shifted.push(0);
        shifted.extend_from_slice(&good);
        assert!(rows::<CodeRow>(&shifted[1..]).is_err());
    }
}
