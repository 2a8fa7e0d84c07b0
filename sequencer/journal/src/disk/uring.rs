//! Direct writes through io_uring.
//!
//! Files are open with `O_DIRECT | O_DSYNC`: a completed write is on stable storage, without a second request.
#![allow(unsafe_code)]

use super::fs::FsFolder;
use super::{Device, FileId, Waker, Write, Written, sys};
use io_uring::{IoUring, opcode, types};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// Writes that may be under way at once; the journal needs at most 9 (four commits, each with a slot page, and a settling
/// page).
const ENTRIES: u32 = 16;
/// `user_data` of the request that waits for a [`Waker`].
const WAKE: u64 = u64::MAX;

/// See the module's documentation.
pub struct UringDevice {
    ring: IoUring,
    folder: FsFolder,
    files: Vec<Option<File>>,
    /// Writes under way, by the `user_data` of their request.
    under_way: Vec<Option<Write>>,
    /// Readable when a waker was used; a poll request on it makes the ring readable then.
    wake: Arc<OwnedFd>,
    /// Requests are in the submission queue that the kernel has not taken yet.
    queued: bool,
}

impl UringDevice {
    /// Sets up the ring; fails where the kernel or a container refuses io_uring.
    pub fn new(folder: FsFolder) -> io::Result<Self> {
        let ring = IoUring::new(ENTRIES)?;
        let under_way = (0..ENTRIES).map(|_| None).collect();
        let wake = Arc::new(sys::eventfd()?);
        let mut device = Self { ring, folder, files: Vec::new(), under_way, wake, queued: false };
        device.watch()?;
        Ok(device)
    }

    /// Asks to be told once when a waker is used.
    fn watch(&mut self) -> io::Result<()> {
        let fd = types::Fd(self.wake.as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build().user_data(WAKE);
        // SAFETY: the request has no memory of ours; the descriptor is open for as long as the ring.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        self.queued = true;
        pushed.map_err(|_| io::Error::other("the submission queue is full"))?;
        self.enter(0)
    }

    fn enter(&mut self, wait: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wait) {
                Ok(_) => {
                    self.queued = false;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The kernel is short of memory for the moment: the requests stay queued, the next poll tries again.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) && wait == 0 => {
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl Device for UringDevice {
    fn attach(&mut self, name: &str) -> io::Result<FileId> {
        let flags = libc::O_DIRECT | libc::O_DSYNC;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(self.folder.path(name))?;
        let free = self.files.iter().position(Option::is_none).unwrap_or_else(|| {
            self.files.push(None);
            self.files.len() - 1
        });
        self.files[free] = Some(file);
        Ok(FileId(free as u32))
    }

    fn detach(&mut self, file: FileId) {
        debug_assert!(
            self.under_way.iter().flatten().all(|w| w.file != file),
            "a write is under way on this file"
        );
        self.files[file.0 as usize] = None;
    }

    fn submit(&mut self, writes: &mut Vec<Write>) -> io::Result<()> {
        for write in writes.drain(..) {
            let file = self.files.get(write.file.0 as usize).and_then(Option::as_ref);
            let fd = types::Fd(file.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?.as_raw_fd());
            let slot = self.under_way.iter().position(Option::is_none);
            let slot =
                slot.ok_or_else(|| io::Error::other("more writes at once than the ring has entries"))?;
            let bytes = &write.buf[write.range.clone()];
            let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let entry = opcode::Write::new(fd, bytes.as_ptr(), len)
                .offset(write.offset)
                .build()
                .user_data(slot as u64);
            self.under_way[slot] = Some(write);
            // SAFETY: the bytes are in an `AlignedBuf`, whose mapping does not move when its owner does; `under_way` owns
            // it until the completion is reaped in `poll`, or `drop` has waited for it. The file is open: `detach` is not
            // called while a write is under way, and the kernel holds its own reference once it has taken the request.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_err() {
                self.under_way[slot] = None;
                return Err(io::Error::other("the submission queue is full"));
            }
            self.queued = true;
        }
        self.enter(0)
    }

    fn poll(&mut self) -> Option<Written> {
        if self.queued {
            // A lasting failure shows itself as writes that never complete: nothing is reported durable.
            let _ = self.enter(0);
        }
        let mut entry = self.ring.completion().next()?;
        while entry.user_data() == WAKE {
            sys::eventfd_clear(&self.wake);
            // Without it wake-ups are lost, not writes: the lane looks in from time to time anyway.
            let _ = self.watch();
            entry = self.ring.completion().next()?;
        }
        let write = self.under_way.get_mut(entry.user_data() as usize)?.take()?;
        let result = match entry.result() {
            n if n >= 0 => Ok(n as usize),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        };
        Some(Written { write, result })
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.ring.as_raw_fd())
    }

    fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        Waker::new(move || sys::eventfd_signal(&wake))
    }
}

impl Drop for UringDevice {
    fn drop(&mut self) {
        while self.under_way.iter().any(Option::is_some) {
            if self.enter(1).is_err() {
                // The kernel may still read from these buffers: they must stay mapped.
                self.under_way.drain(..).for_each(std::mem::forget);
                return;
            }
            while self.poll().is_some() {}
        }
    }
}
