//! What the journal asks of a disk, in two small traits: a [`Folder`] for the control plane (opening, recovery, making
//! segments) and a [`Device`] for the hot path (durable writes that complete later).
//!
//! | device | folder | when |
//! | --- | --- | --- |
//! | [`uring::UringDevice`] | [`fs::FsFolder`], direct | `O_DIRECT` and io_uring work |
//! | [`thread::ThreadDevice`] | [`fs::FsFolder`], buffered | everywhere else: tmpfs, containers without io_uring |
//! | [`sim::SimDisk`] | the same | tests: crashes, torn and lost writes, errors, all from one seed |

pub mod fs;
pub mod sim;
pub(crate) mod sys;
pub mod thread;
pub mod uring;

pub use crate::buffer::AlignedBuf;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A file that a [`Device`] has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId(pub u32);

/// A write under way. The buffer belongs to the device until it comes back in [`Written`].
#[derive(Debug)]
pub struct Write {
    /// The caller's number for it.
    pub tag: u64,
    /// Where to.
    pub file: FileId,
    /// Byte offset in the file, a multiple of a block.
    pub offset: u64,
    /// The bytes, and more.
    pub buf: AlignedBuf,
    /// Which of them; whole blocks.
    pub range: Range<usize>,
}

/// A write that has completed.
#[derive(Debug)]
pub struct Written {
    /// The write, with its buffer.
    pub write: Write,
    /// Bytes that are on stable storage (as after `fdatasync`), possibly fewer than were asked for.
    pub result: io::Result<usize>,
}

/// Durable writes that complete later. Owned by one stage, never blocks but in `attach` and when dropped.
pub trait Device: Send {
    /// Opens an existing file of the folder for writing.
    fn attach(&mut self, name: &str) -> io::Result<FileId>;
    /// Closes it. Nothing may be under way on it.
    fn detach(&mut self, file: FileId);
    /// Starts the writes, all of them in parallel, and empties the list.
    fn submit(&mut self, writes: &mut Vec<Write>) -> io::Result<()>;
    /// One write that has completed, in any order.
    fn poll(&mut self) -> Option<Written>;
    /// A descriptor that becomes readable when a write has completed.
    fn wake_fd(&self) -> Option<RawFd>;
    /// Makes that descriptor readable from another thread.
    fn waker(&self) -> Waker;
}

/// Wakes whoever waits for a [`Device`]: there is work that no write announces.
#[derive(Clone)]
pub struct Waker(Option<Arc<dyn Fn() + Send + Sync>>);

impl Waker {
    /// A waker that does this.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wake)))
    }

    /// A waker for a device that nobody waits for.
    pub fn none() -> Self {
        Self(None)
    }

    /// Wakes.
    pub fn wake(&self) {
        if let Some(wake) = &self.0 {
            wake();
        }
    }
}

/// Files by name. Every operation that changes names is durable when it returns.
pub trait Folder: Send + Sync {
    /// Files with their sizes in bytes.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Reads up to `out.len()` bytes at `offset`; 0 at the end.
    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `data` at `offset`, making the file when missing. With `sync` the whole file is durable afterwards.
    fn write(&self, name: &str, offset: u64, data: &[u8], sync: bool) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn cut(&self, name: &str, len: u64) -> io::Result<()>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Whether the error says that there is no room: a full device, a quota, a limit on the size of files.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}
