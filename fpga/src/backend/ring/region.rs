#![allow(unsafe_code)]
//! The memory that host and card share, and nothing else about it.
//!
//! Whoever is on the other side may write to it at any time, so every access is an atomic one of a whole word: there
//! is no reference into the region, and what was read is a copy. Offsets are checked against the mapping's length.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A shared mapping, readable and writable.
pub(crate) struct Region {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pointer is to a mapping that lives until drop, and every access through it is atomic.
unsafe impl Send for Region {}
// SAFETY: as above; no method hands out a reference into the mapping.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `bytes` of `fd` from `offset` on.
    pub(crate) fn map(fd: impl AsFd, offset: u64, bytes: usize) -> io::Result<Self> {
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_fd().as_raw_fd(),
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { base, bytes })
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.bytes,
            "offset {offset:#x} is outside the region"
        );
        // SAFETY: inside the mapping and aligned (both asserted, the base is a page); atomics may be shared with
        // writers elsewhere.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    fn word64(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset + 8 <= self.bytes,
            "offset {offset:#x} is outside the region"
        );
        // SAFETY: as in `word32`.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// Reads a 32-bit word.
    pub(crate) fn load(&self, offset: usize, order: Ordering) -> u32 {
        u32::from_le(self.word32(offset).load(order))
    }

    /// Writes a 32-bit word.
    pub(crate) fn store(&self, offset: usize, value: u32, order: Ordering) {
        self.word32(offset).store(value.to_le(), order);
    }

    /// Reads a 64-bit word.
    pub(crate) fn load64(&self, offset: usize) -> u64 {
        u64::from_le(self.word64(offset).load(Ordering::Relaxed))
    }

    /// Writes a 64-bit word.
    pub(crate) fn store64(&self, offset: usize, value: u64) {
        self.word64(offset).store(value.to_le(), Ordering::Relaxed);
    }

    /// Copies `N` bytes (a multiple of eight) out.
    pub(crate) fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut out = [0; N];
        for (i, word) in out.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.load64(offset + 8 * i).to_le_bytes());
        }
        out
    }

    /// Copies bytes (a multiple of eight) in.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        for (i, word) in bytes.chunks_exact(8).enumerate() {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.store64(offset + 8 * i, u64::from_le_bytes(eight));
        }
    }

    /// Writes an entry: everything but its last word, and then that word with release order.
    pub(crate) fn publish(&self, offset: usize, bytes: &[u8; 128]) {
        self.write(offset, &bytes[..120]);
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        self.store(offset + 120, half(120), Ordering::Relaxed);
        self.store(offset + 124, half(124), Ordering::Release);
    }

    /// Sets bytes to zero (a multiple of eight).
    pub(crate) fn clear(&self, offset: usize, bytes: usize) {
        for at in (offset..offset + bytes).step_by(8) {
            self.store64(at, 0);
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody has a reference into it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A memory file of fixed length: sealed, so that the other side can neither shrink nor grow it under the mapping.
pub(crate) fn sealed_memory(bytes: usize) -> io::Result<OwnedFd> {
    // SAFETY: a constant C string and flags; the result is checked.
    let raw = unsafe {
        libc::memfd_create(c"ironlane-offload".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let file = File::from(fd);
    file.set_len(bytes as u64)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: an fcntl that takes an integer, on a descriptor that is open.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file.into())
}

/// Whether a memory file can still be cut short by whoever else holds it (then mapping it would be a risk).
pub(crate) fn is_sealed(fd: impl AsFd) -> bool {
    // SAFETY: an fcntl without argument, on a descriptor that is open.
    let seals = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & libc::F_SEAL_SHRINK != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_shared_and_keeps_its_length() {
        let memory = sealed_memory(8192).expect("memfd");
        assert!(is_sealed(&memory));
        let (one, two) =
            (Region::map(&memory, 0, 8192).expect("map"), Region::map(&memory, 0, 8192).expect("map"));
        let entry: [u8; 128] = std::array::from_fn(|i| i as u8);
        one.publish(4096, &entry);
        assert_eq!(two.read::<128>(4096), entry);
        two.clear(4096, 128);
        assert_eq!(one.read::<128>(4096), [0; 128]);
        one.store(16, 0x0102_0304, Ordering::Release);
        assert_eq!(two.load(16, Ordering::Acquire), 0x0102_0304);
        assert!(File::from(memory).set_len(0).is_err(), "sealed memory cannot be cut");
    }

    #[test]
    #[should_panic(expected = "outside the region")]
    fn an_offset_outside_panics_instead_of_reading() {
        let memory = sealed_memory(4096).expect("memfd");
        let region = Region::map(&memory, 0, 4096).expect("map");
        region.load(4096, Ordering::Relaxed);
    }
}
