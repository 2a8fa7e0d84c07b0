#![allow(unsafe_code)]
//! Code memory: pages that are written once while they cannot run, then run while they cannot be written.
//!
//! Each piece of code has a mapping of its own with an inaccessible page before and after it, and is unmapped when its
//! owner is dropped; an `Arc` around the owner keeps code alive for as long as a frame runs in it.

use std::{io, ptr::NonNull};
use thiserror::Error;

/// Why code could not be put into memory.
#[derive(Debug, Error)]
pub enum CodeMemoryError {
    /// There is no code.
    #[error("there is no machine code to map")]
    Empty,
    /// The kernel refused memory or its protection.
    #[error(
        "the kernel refused {bytes} bytes of code memory ({source}): raise vm.max_map_count or free memory"
    )]
    Map {
        /// Bytes asked for, guard pages included.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Executable memory that holds one contract's machine code.
#[derive(Debug)]
pub struct CodeMemory {
    /// Start of the whole mapping, the first guard page.
    mapping: NonNull<u8>,
    mapping_len: usize,
    page: usize,
    text_len: usize,
}

// SAFETY: after construction the memory is only read and executed, by any number of threads, until it is dropped.
unsafe impl Send for CodeMemory {}
// SAFETY: as above; no method writes to it.
unsafe impl Sync for CodeMemory {}

impl CodeMemory {
    /// Maps `text` executable.
    pub fn new(text: &[u8]) -> Result<Self, CodeMemoryError> {
        if text.is_empty() {
            return Err(CodeMemoryError::Empty);
        }
        // SAFETY: sysconf reads a constant of the system.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let body = text.len().next_multiple_of(page);
        let mapping_len = body + 2 * page;
        let failed = |source| CodeMemoryError::Map { bytes: mapping_len, source };
        // SAFETY: a fresh anonymous mapping at an address the kernel chooses touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapping_len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let Some(mapping) = NonNull::new(address.cast::<u8>()) else {
            return Err(failed(io::Error::from(io::ErrorKind::OutOfMemory)));
        };
        let this = Self { mapping, mapping_len, page, text_len: text.len() };
        // SAFETY: the range is inside the mapping made above, which nothing else knows of yet.
        let body_ptr = unsafe { mapping.as_ptr().add(page) };
        // SAFETY: as above.
        if unsafe { libc::mprotect(body_ptr.cast(), body, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        // SAFETY: `body` bytes are writable from `body_ptr` on and hold at least `text.len()`; the rest is filled with
        // INT3, so that a stray jump traps.
        unsafe {
            std::ptr::write_bytes(body_ptr, 0xcc, body);
            std::ptr::copy_nonoverlapping(text.as_ptr(), body_ptr, text.len());
        }
        // SAFETY: as for the first mprotect. From here on the memory is never writable again.
        if unsafe { libc::mprotect(body_ptr.cast(), body, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        Ok(this)
    }

    /// Where the text begins.
    pub fn text(&self) -> *const u8 {
        // SAFETY: the mapping is longer than a page.
        unsafe { self.mapping.as_ptr().add(self.page) }
    }

    /// Length of the text in bytes.
    pub fn text_len(&self) -> usize {
        self.text_len
    }

    /// Bytes of address space that it takes, guard pages included.
    pub fn mapped_bytes(&self) -> usize {
        self.mapping_len
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, unmapped once; whoever runs the code holds an `Arc` to the owner.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.mapping_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn code_runs_and_cannot_be_written() {
        // mov eax, 42; ret
        let code = CodeMemory::new(&[0xb8, 42, 0, 0, 0, 0xc3]).expect("a page of memory");
        // SAFETY: the bytes above are a function of this signature.
        let answer = unsafe { std::mem::transmute::<*const u8, extern "C" fn() -> u32>(code.text()) }();
        assert_eq!(answer, 42);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("the kernel's own list");
        let start = format!("{:x}-", code.text() as usize);
        let line = maps.lines().find(|line| line.starts_with(&start)).expect("its own mapping");
        assert!(line.contains(" r-xp "), "{line}");
        let guards = [code.text() as usize - code.page, code.text() as usize + code.page];
        for guard in guards {
            let inside = maps.lines().find(|line| {
                let range = line.split(' ').next().unwrap_or_default();
                let mut ends = range.split('-').map(|end| usize::from_str_radix(end, 16).unwrap_or(0));
                let (low, high) = (ends.next().unwrap_or(0), ends.next().unwrap_or(0));
                low <= guard && guard < high
            });
            assert!(inside.is_some_and(|line| line.contains(" ---p ")), "guard page {guard:x}: {inside:?}");
        }
    }

    #[test]
    fn no_code_is_no_mapping() {
        assert!(matches!(CodeMemory::new(&[]), Err(CodeMemoryError::Empty)));
    }
}
