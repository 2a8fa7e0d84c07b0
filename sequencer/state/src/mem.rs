#![allow(unsafe_code)]
//! Reserved address space: tables that never move, grow by being touched, and can start as a private mapping of a
//! file. All pointer work of the store is here; what leaves this module are references to cells made of atomics, so
//! that everything above it is safe code.

use crate::StateError;
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    io,
    marker::PhantomData,
    os::fd::AsRawFd,
    sync::Mutex,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::*},
};

/// Bytes of a huge page on x86-64 and on AArch64 with 4 KiB pages.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Bytes of an ordinary page (a power of two that every supported page size divides or equals).
const PAGE_BYTES: usize = 4096;

/// Bytes that [`Table::release`] gives back in one step of an index's growth.
pub(crate) const RELEASE_STEP_BYTES: usize = HUGE_PAGE_BYTES;

#[cfg(target_endian = "big")]
compile_error!(
    "snapshots are little-endian and used in place: the state store needs a little-endian machine"
);

/// A type that a table may hold.
///
/// # Safety
/// - Every bit pattern, all zeros included, is a valid value.
/// - All of its bytes are atomics (no padding), so that a shared reference allows concurrent writes.
/// - Its size is a power of two or its alignment divides the page size (both hold for `repr(C)` structs of atomics).
pub(crate) unsafe trait Cell: Sync + Sized + 'static {}

// SAFETY: an atomic integer is valid for every bit pattern.
unsafe impl Cell for AtomicU8 {}
// SAFETY: as above.
unsafe impl Cell for AtomicU32 {}
// SAFETY: as above.
unsafe impl Cell for AtomicU64 {}
// SAFETY: an array of cells has no padding between them.
unsafe impl<T: Cell, const N: usize> Cell for [T; N] {}
// SAFETY: `repr(C, align(64))` over exactly 64 bytes of atomics.
unsafe impl Cell for crate::index::Line {}
// SAFETY: `repr(C)`, only atomics; its sizes are asserted beside it.
unsafe impl Cell for crate::record::AccountRecord {}
// SAFETY: as above.
unsafe impl Cell for crate::record::SlotRecord {}
// SAFETY: as above.
unsafe impl Cell for crate::record::CodeRecord {}

/// A table of `capacity` cells in reserved address space. Untouched cells read as zero and take no memory.
pub(crate) struct Table<T> {
    map: MmapRaw,
    base: *mut T,
    capacity: usize,
    huge_pages: bool,
    /// Bytes from the start that have memory, as far as [`Table::populate`] knows.
    populated: AtomicUsize,
    cells: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone, and `T: Cell` is `Sync` and valid from any thread.
unsafe impl<T: Cell> Send for Table<T> {}
// SAFETY: shared access hands out only `&T`, and `T: Cell` allows that from many threads.
unsafe impl<T: Cell> Sync for Table<T> {}

impl<T: Cell> Table<T> {
    /// Reserves address space for `capacity` cells.
    pub(crate) fn reserve(what: &'static str, capacity: usize, huge_pages: bool) -> Result<Self, StateError> {
        let bytes = capacity.max(1).saturating_mul(size_of::<T>()).next_multiple_of(HUGE_PAGE_BYTES);
        let with_slack = bytes.saturating_add(HUGE_PAGE_BYTES);
        let map = MmapOptions::new()
            .len(with_slack)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| StateError::Map { what, bytes: with_slack as u64, source })?;
        let map = MmapRaw::from(map);
        let skip = map.as_mut_ptr().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the mapping is one huge page longer than needed, so the aligned start and `bytes` after it are inside.
        let base = unsafe { map.as_mut_ptr().add(skip) }.cast::<T>();
        let populated = AtomicUsize::new(0);
        let table =
            Table { map, base, capacity: bytes / size_of::<T>(), huge_pages, populated, cells: PhantomData };
        table.advise_huge(0, bytes);
        Ok(table)
    }

    /// Cells that fit.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The cell at `i`.
    #[inline(always)]
    pub(crate) fn get(&self, i: usize) -> &T {
        assert!(i < self.capacity, "a cell number beyond the reserved table");
        // SAFETY: `i` is below the capacity that was mapped for reading and writing, the mapping lives as long as
        // `self`, and `T: Cell` is valid for whatever bytes are there.
        unsafe { &*self.base.add(i) }
    }

    /// The cell at `i`, or `None` beyond the reserved space (for numbers that may be torn).
    #[inline]
    pub(crate) fn try_get(&self, i: u64) -> Option<&T> {
        (i < self.capacity as u64).then(|| self.get(i as usize))
    }

    /// Asks for the cell's cache line. Any number is allowed.
    #[inline(always)]
    pub(crate) fn prefetch(&self, i: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch never faults and changes no value, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.base.wrapping_add(i).cast::<i8>());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = i;
    }

    /// Gives memory to cells from the `used`-th on, up to the `until`-th, at most `step_bytes` of it, so that whoever
    /// writes there first does not wait for the kernel: clearing a huge page can take milliseconds. Called from a thread
    /// that has the time; changes no contents. Answers whether there was something to do.
    pub(crate) fn populate(&self, used: usize, until: usize, step_bytes: usize) -> bool {
        let bytes = |cells: usize| cells.min(self.capacity) * size_of::<T>();
        let from = self.populated.load(Relaxed).max(bytes(used).next_multiple_of(PAGE_BYTES));
        let until = bytes(until).next_multiple_of(HUGE_PAGE_BYTES).min(bytes(self.capacity));
        if from >= until {
            return false;
        }
        let to = from.saturating_add(step_bytes).min(until);
        // SAFETY: the range is page-aligned and inside this table's mapping; populating changes no contents. Where the
        // kernel refuses (before 5.14), the first write pays, as it would have.
        unsafe {
            libc::madvise(self.base.cast::<u8>().add(from).cast(), to - from, libc::MADV_POPULATE_WRITE);
        }
        self.populated.store(to, Relaxed);
        true
    }

    /// Makes cells `start .. start + len` read as zero again and returns their whole pages to the kernel. Readers that
    /// race with it see old values or zeros.
    pub(crate) fn release(&self, start: usize, len: usize) -> io::Result<()> {
        let from = (start * size_of::<T>()).next_multiple_of(PAGE_BYTES);
        let to =
            ((start + len) * size_of::<T>()).next_multiple_of(PAGE_BYTES).min(self.capacity * size_of::<T>());
        if from >= to {
            return Ok(());
        }
        // SAFETY: the range is page-aligned and inside this table's own mapping; anonymous zero pages are valid cells,
        // and the kernel swaps the mapping atomically with respect to page faults.
        let at = unsafe {
            libc::mmap(
                self.base.cast::<u8>().add(from).cast(),
                to - from,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.advise_huge(from, to - from);
        self.populated.fetch_min(from, Relaxed);
        Ok(())
    }

    /// Puts the first `cells` cells of `file` at the table's start: a private, copy-on-write mapping. Cells behind them,
    /// up to the end of the last page, then hold whatever the file has there.
    pub(crate) fn place_file(&self, file: &File, cells: usize) -> io::Result<()> {
        let bytes = (cells * size_of::<T>()).next_multiple_of(PAGE_BYTES);
        if cells == 0 {
            return Ok(());
        }
        if cells > self.capacity || file.metadata()?.len() < (cells * size_of::<T>()) as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the file is shorter or the table smaller than its rows",
            ));
        }
        // SAFETY: the range lies inside this table's own mapping; the file covers every page of it at least in part, so
        // that no access faults while the file keeps its length (snapshot files are never written again); `T: Cell` is
        // valid for any bytes.
        let at = unsafe {
            libc::mmap(
                self.base.cast(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Copies `bytes` to the table's start. For a table that nobody else sees yet.
    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.capacity * size_of::<T>(), "more bytes than the table holds");
        // SAFETY: the destination is inside the mapping, `&mut self` excludes readers, and any bytes are valid cells.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.cast::<u8>(), bytes.len()) }
    }

    /// Small tables keep ordinary pages: only what lies beyond the first huge page is advised.
    fn advise_huge(&self, from: usize, len: usize) {
        let (from, end) = (from.max(HUGE_PAGE_BYTES), from + len);
        if !self.huge_pages || from >= end {
            return;
        }
        // SAFETY: the range is inside this table's mapping; the advice changes no contents. A refusal (a kernel without
        // transparent huge pages) only costs speed.
        unsafe {
            libc::madvise(self.base.cast::<u8>().add(from).cast(), end - from, libc::MADV_HUGEPAGE);
        }
    }
}

impl<T> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("capacity", &self.capacity).field("mapped", &self.map.len()).finish()
    }
}

/// Bytes that are appended, never changed, and never move.
#[derive(Debug)]
pub(crate) struct ByteArena {
    bytes: Table<AtomicU8>,
    published: AtomicUsize,
    append: Mutex<()>,
}

impl ByteArena {
    pub(crate) fn reserve(what: &'static str, capacity: usize) -> Result<Self, StateError> {
        let bytes = Table::reserve(what, capacity, false)?;
        Ok(ByteArena { bytes, published: AtomicUsize::new(0), append: Mutex::new(()) })
    }

    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.published.load(Acquire)
    }

    /// Bytes that it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends and returns where; `None` when full.
    pub(crate) fn push(&self, data: &[u8]) -> Option<usize> {
        let _one_at_a_time = self.append.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let at = self.published.load(Relaxed);
        if data.len() > self.bytes.capacity() - at {
            return None;
        }
        // SAFETY: the room was checked; bytes at and beyond `published` are seen by no reader, and the lock excludes
        // other appenders.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), self.bytes.base.cast::<u8>().add(at), data.len())
        };
        self.published.store(at + data.len(), Release);
        Some(at)
    }

    /// The bytes at `at`; empty when the range was never appended.
    pub(crate) fn get(&self, at: usize, len: usize) -> &[u8] {
        if at.checked_add(len).is_none_or(|end| end > self.published.load(Acquire)) {
            return &[];
        }
        // SAFETY: the range is below `published`, where nothing is written again, and the Acquire load above orders the
        // read behind the bytes' arrival.
        unsafe { std::slice::from_raw_parts(self.bytes.base.cast::<u8>().add(at), len) }
    }

    /// Starts as `len` bytes of `file`, in place.
    pub(crate) fn place_file(&mut self, file: &File, len: usize) -> io::Result<()> {
        self.bytes.place_file(file, len)?;
        self.published.store(len, Release);
        Ok(())
    }

    /// Starts as a copy of `data`.
    pub(crate) fn fill(&mut self, data: &[u8]) {
        self.bytes.fill(data);
        self.published.store(data.len(), Release);
    }
}

/// Row types of snapshots whose memory is their file's bytes.
///
/// # Safety
/// `repr(C)`, no padding, no interior mutability, every bit pattern valid.
pub(crate) unsafe trait Row: Copy + 'static {}

// SAFETY: `repr(C)` structs of byte arrays and little-endian integers; sizes are asserted beside them.
unsafe impl Row for crate::archive::AccountRow {}
// SAFETY: as above.
unsafe impl Row for crate::archive::SlotRow {}
// SAFETY: as above.
unsafe impl Row for crate::archive::CodeRow {}
// SAFETY: as above.
unsafe impl Row for crate::archive::LineRow {}
// SAFETY: a byte.
unsafe impl Row for u8 {}

/// The bytes of rows.
pub(crate) fn row_bytes<T: Row>(rows: &[T]) -> &[u8] {
    // SAFETY: `T: Row` has no padding, so all its bytes are initialised; the length is that of the slice.
    unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), size_of_val(rows)) }
}

/// Maps a file for reading.
pub(crate) fn map_read_only(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the files mapped here are a snapshot's: written once, synced, and never changed afterwards. Whoever
    // truncates one under a running node ends the process with SIGBUS; no wrong value is read.
    unsafe { memmap2::Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn populating_goes_step_by_step_ahead_of_what_is_used_and_changes_nothing() {
        let table =
            Table::<AtomicU64>::reserve("test", 4 * HUGE_PAGE_BYTES / 8, false).expect("a small table");
        table.get(3).store(7, Relaxed);
        let cells = HUGE_PAGE_BYTES / 8;
        assert!(
            table.populate(1, cells, HUGE_PAGE_BYTES / 2),
            "from the first whole page behind what is used"
        );
        assert!(table.populate(1, cells, HUGE_PAGE_BYTES / 2));
        assert!(!table.populate(1, cells, HUGE_PAGE_BYTES / 2), "all of it has memory");
        assert_eq!((table.get(3).load(Relaxed), table.get(cells - 1).load(Relaxed)), (7, 0));
        assert!(table.populate(cells, usize::MAX, usize::MAX), "more than there is ends at the table's end");
        assert!(!table.populate(cells, usize::MAX, usize::MAX));
        table.release(0, cells).expect("memory goes back");
        assert!(table.populate(0, cells, usize::MAX), "what went back may be wanted again");
    }
}
