//! Buffered writes and `fdatasync` on a thread of their own.
//!
//! For file systems without direct writes and kernels without io_uring. One round takes everything that waits, writes it,
//! then syncs each file once.

use super::fs::FsFolder;
use super::{Device, FileId, Waker, Write, Written, sys};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// See the module's documentation.
pub struct ThreadDevice {
    folder: FsFolder,
    files: Vec<Option<Arc<File>>>,
    to_thread: Option<Sender<(Arc<File>, Write)>>,
    from_thread: Receiver<Written>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

struct Bell {
    fd: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    /// In this order: whoever sees `rung` finds the descriptor readable and can clear it.
    fn ring(&self) {
        sys::eventfd_signal(&self.fd);
        self.rung.store(true, Ordering::Release);
    }
}

impl ThreadDevice {
    /// Starts the thread.
    pub fn new(folder: FsFolder) -> io::Result<Self> {
        let (to_thread, requests) = channel();
        let (answers, from_thread) = channel();
        let bell = Arc::new(Bell { fd: sys::eventfd()?, rung: AtomicBool::new(false) });
        let thread = std::thread::Builder::new().name("journal-write".into()).spawn({
            let bell = bell.clone();
            move || run(requests, answers, &bell)
        })?;
        Ok(Self {
            folder,
            files: Vec::new(),
            to_thread: Some(to_thread),
            from_thread,
            bell,
            thread: Some(thread),
        })
    }
}

fn run(requests: Receiver<(Arc<File>, Write)>, answers: Sender<Written>, bell: &Bell) {
    let mut round: Vec<(Arc<File>, Written)> = Vec::new();
    while let Ok(first) = requests.recv() {
        for (file, write) in std::iter::once(first).chain(requests.try_iter()) {
            let result = write_once(&file, &write);
            round.push((file, Written { write, result }));
        }
        // One sync serves all writes of the round to the same file; a failed one fails them all.
        let mut synced: HashMap<u32, Option<i32>> = HashMap::new();
        for (file, done) in &mut round {
            if done.result.is_ok() {
                let id = done.write.file.0;
                let failed = *synced
                    .entry(id)
                    .or_insert_with(|| file.sync_data().err().map(|e| e.raw_os_error().unwrap_or(libc::EIO)));
                if let Some(errno) = failed {
                    done.result = Err(io::Error::from_raw_os_error(errno));
                }
            }
        }
        for (_, done) in round.drain(..) {
            if answers.send(done).is_err() {
                return;
            }
        }
        bell.ring();
    }
}

fn write_once(file: &File, write: &Write) -> io::Result<usize> {
    loop {
        match file.write_at(&write.buf[write.range.clone()], write.offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Device for ThreadDevice {
    fn attach(&mut self, name: &str) -> io::Result<FileId> {
        let file = Arc::new(OpenOptions::new().write(true).open(self.folder.path(name))?);
        let free = self.files.iter().position(Option::is_none).unwrap_or_else(|| {
            self.files.push(None);
            self.files.len() - 1
        });
        self.files[free] = Some(file);
        Ok(FileId(free as u32))
    }

    fn detach(&mut self, file: FileId) {
        self.files[file.0 as usize] = None;
    }

    fn submit(&mut self, writes: &mut Vec<Write>) -> io::Result<()> {
        let gone = || io::Error::other("the journal's writer thread has ended");
        for write in writes.drain(..) {
            let file = self.files.get(write.file.0 as usize).and_then(Clone::clone);
            let file = file.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
            self.to_thread.as_ref().ok_or_else(gone)?.send((file, write)).map_err(|_| gone())?;
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Written> {
        if self.bell.rung.load(Ordering::Relaxed) && self.bell.rung.swap(false, Ordering::AcqRel) {
            sys::eventfd_clear(&self.bell.fd);
        }
        self.from_thread.try_recv().ok()
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.bell.fd.as_raw_fd())
    }

    fn waker(&self) -> Waker {
        let bell = self.bell.clone();
        Waker::new(move || bell.ring())
    }
}

impl Drop for ThreadDevice {
    fn drop(&mut self) {
        self.to_thread = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
