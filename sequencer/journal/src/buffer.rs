//! Page-aligned memory for direct writes.
#![allow(unsafe_code)]

use crate::format::BLOCK;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Zeroed, page-aligned bytes in an anonymous mapping of their own. Untouched pages cost no memory.
#[derive(Debug)]
pub struct AlignedBuf {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and has no ties to a thread.
unsafe impl Send for AlignedBuf {}

impl AlignedBuf {
    /// Maps `len` zeroed bytes; `len` is rounded up to whole blocks.
    pub fn new(len: usize) -> io::Result<Self> {
        let len = len.max(1).next_multiple_of(BLOCK);
        // SAFETY: a new private anonymous mapping touches no existing memory; the result is checked below.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap answered a null address"))?;
        Ok(Self { at, len })
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `at` points to `len` initialised (zeroed) bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, which nothing refers to any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zeroed_and_writable() {
        let mut buf = AlignedBuf::new(5000).unwrap();
        assert_eq!(buf.len(), 2 * BLOCK);
        assert_eq!(buf.as_ptr() as usize % BLOCK, 0);
        assert!(buf.iter().all(|b| *b == 0));
        buf[8191] = 7;
        assert_eq!(buf[8191], 7);
    }
}
