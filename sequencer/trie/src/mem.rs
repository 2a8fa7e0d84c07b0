#![allow(unsafe_code)]
//! Arenas in reserved address space: they never move, grow by being touched, and are plain slices to everything above.

use crate::TrieError;
use memmap2::{MmapOptions, MmapRaw};

const HUGE_PAGE_BYTES: usize = 2 << 20;

#[cfg(target_endian = "big")]
compile_error!("trie files are little-endian and copied as they are: the trie needs a little-endian machine");

/// A type that an arena may hold.
///
/// # Safety
/// Every bit pattern, all zeros included, is a valid value, there is no padding, and dropping does nothing.
pub(crate) unsafe trait Plain: Copy + 'static {}

// SAFETY: an integer has no padding and no invalid bit pattern.
unsafe impl Plain for u64 {}
// SAFETY: `repr(C)` over two byte arrays that fill its 64 bytes (asserted beside it).
unsafe impl Plain for crate::leaves::Leaf {}

/// A growing slice of `T` that never moves, in `capacity` reserved entries.
pub(crate) struct Region<T> {
    map: MmapRaw,
    base: *mut T,
    capacity: usize,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and `T: Plain` has no ties to a thread.
unsafe impl<T: Plain> Send for Region<T> {}
// SAFETY: shared access only reads plain values.
unsafe impl<T: Plain> Sync for Region<T> {}

impl<T: Plain> Region<T> {
    pub(crate) fn reserve(what: &'static str, capacity: usize, huge_pages: bool) -> Result<Self, TrieError> {
        let bytes = capacity.saturating_mul(size_of::<T>()).saturating_add(2 * HUGE_PAGE_BYTES);
        let map = MmapOptions::new()
            .len(bytes)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| TrieError::Reserve { what, bytes: bytes as u64, source })?;
        #[cfg(target_os = "linux")]
        if huge_pages {
            // A kernel without transparent huge pages refuses; the arena then works on ordinary ones.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let map = MmapRaw::from(map);
        let skip = map.as_mut_ptr().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the mapping is two huge pages longer than the entries, so the aligned start is inside it.
        let base = unsafe { map.as_mut_ptr().add(skip) }.cast::<T>();
        Ok(Region { map, base, capacity, len: 0 })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds `n` entries and returns the index of the first. New ones are zero.
    ///
    /// # Panics
    /// When the reserved space is used up: the operator's limit was reached, and half an update cannot be taken back.
    pub(crate) fn grow(&mut self, n: usize) -> usize {
        let first = self.len;
        assert!(
            n <= self.capacity - first,
            "the trie is full: {} entries of {} bytes are reserved; raise its limits and restart",
            self.capacity,
            size_of::<T>()
        );
        self.len += n;
        first
    }

    /// Forgets the last `n` entries, which keep their bytes.
    pub(crate) fn shrink(&mut self, n: usize) {
        assert!(n <= self.len);
        self.len -= n;
    }

    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `len <= capacity` entries lie inside the mapping, which lives as long as `self`; pages never written
        // read as zero, and any bytes are a valid `T`.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }

    #[inline(always)]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len) }
    }

    #[inline(always)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: as in `as_slice`; a `Plain` type has no padding, so all of its bytes are initialised.
        unsafe { std::slice::from_raw_parts(self.base.cast::<u8>(), self.len * size_of::<T>()) }
    }

    #[inline(always)]
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; whatever is written is a valid `T`, since every bit pattern is.
        unsafe { std::slice::from_raw_parts_mut(self.base.cast::<u8>(), self.len * size_of::<T>()) }
    }

    /// Replaces everything by `bytes`, which must be whole entries that fit.
    pub(crate) fn copy_from(&mut self, bytes: &[u8]) {
        assert!(bytes.len().is_multiple_of(size_of::<T>()) && bytes.len() / size_of::<T>() <= self.capacity);
        self.len = bytes.len() / size_of::<T>();
        self.as_bytes_mut().copy_from_slice(bytes);
    }

    /// Asks for the cache line at byte `at`. Any number is allowed.
    #[inline(always)]
    pub(crate) fn prefetch(&self, at: usize) {
        prefetch(self.base.cast::<u8>().wrapping_add(at));
    }
}

/// Asks for the cache line at an address. Any is allowed.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes no value, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

impl<T> std::fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len)
            .field("mapped", &self.map.len())
            .finish_non_exhaustive()
    }
}
