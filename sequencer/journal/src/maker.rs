//! Making segments ahead of their use.
//!
//! A segment is written in full with zeros before it is used: a direct write into it then changes nothing but data, which
//! makes it faster and lets a full disk be noticed here, long before a commit would fail. A thread of low ambition does it
//! in the background; where everything must be deterministic it is done inline.

use crate::buffer::AlignedBuf;
use crate::disk::{Folder, Waker, is_no_space};
use crate::format::{BLOCK, segment_name};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Zeros written at once.
const CHUNK: usize = 256 << 10;
/// Pause after each chunk while nobody waits, so that commits find the disk free.
const PACE: Duration = Duration::from_millis(2);
/// Time between two attempts when a segment could not be made.
const RETRY: Duration = Duration::from_millis(250);

const _: () = assert!(CHUNK.is_multiple_of(BLOCK));

/// A segment that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) index: u64,
    pub(crate) bytes: u64,
}

/// Asks for one more segment.
#[derive(Debug)]
pub(crate) enum Request {
    /// A segment of at least so many bytes.
    Make(u64),
    /// This segment is not needed any more: use it again, or remove it.
    Retire(Spare),
}

/// Makes segments in a folder, with rising indices.
pub(crate) struct Maker {
    folder: Arc<dyn Folder>,
    next_index: u64,
    next_bytes: u64,
    full_bytes: u64,
    retired: Vec<Spare>,
    zeros: AlignedBuf,
}

impl Maker {
    /// `first_bytes`: size of the next segment; each later one is four times larger, up to `full_bytes`.
    pub(crate) fn new(
        folder: Arc<dyn Folder>,
        next_index: u64,
        first_bytes: u64,
        full_bytes: u64,
    ) -> io::Result<Self> {
        let zeros = AlignedBuf::new(CHUNK)?;
        let next_bytes = first_bytes.min(full_bytes);
        Ok(Self { folder, next_index, next_bytes, full_bytes, retired: Vec::new(), zeros })
    }

    fn retire(&mut self, spare: Spare) -> io::Result<()> {
        if spare.bytes == self.full_bytes {
            self.retired.push(spare);
            return Ok(());
        }
        self.folder.remove(&segment_name(spare.index))
    }

    /// Makes a segment of at least `bytes_min` bytes; `pause` runs between two chunks and ends the work with `false`.
    pub(crate) fn make(&mut self, bytes_min: u64, pause: &mut dyn FnMut() -> bool) -> io::Result<Spare> {
        let index = self.next_index;
        let name = segment_name(index);
        if let Some(old) = self.retired.pop() {
            if old.bytes >= bytes_min {
                self.folder.rename(&segment_name(old.index), &name)?;
                self.next_index += 1;
                return Ok(Spare { index, bytes: old.bytes });
            }
            self.folder.remove(&segment_name(old.index))?;
        }
        let bytes = self.next_bytes.max(bytes_min.next_multiple_of(BLOCK as u64));
        let unfinished = format!("journal-{index:016x}.tmp");
        let made = self.fill(&unfinished, bytes, pause).and_then(|()| self.folder.rename(&unfinished, &name));
        if let Err(error) = made {
            // Frees what a full disk gave so far.
            let _ = self.folder.remove(&unfinished);
            return Err(error);
        }
        self.next_index += 1;
        self.next_bytes = (self.next_bytes * 4).min(self.full_bytes);
        Ok(Spare { index, bytes })
    }

    fn fill(&self, name: &str, bytes: u64, pause: &mut dyn FnMut() -> bool) -> io::Result<()> {
        let mut offset = 0;
        while offset < bytes {
            let n = (bytes - offset).min(CHUNK as u64);
            self.folder.write(name, offset, &self.zeros[..n as usize], offset + n == bytes)?;
            offset += n;
            if offset < bytes && !pause() {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
        }
        Ok(())
    }
}

/// Why a segment could not be made, in words for an operator.
fn reason(error: &io::Error) -> String {
    if is_no_space(error) {
        format!("no space on the device for the journal's next segment ({error}); free some space")
    } else {
        format!("the journal's next segment could not be made: {error}")
    }
}

/// A maker at work: inline, or on its thread.
pub(crate) enum Workshop {
    Inline(Box<Maker>),
    Thread(Background),
}

pub(crate) struct Background {
    requests: Option<Sender<Request>>,
    answers: Receiver<Result<Spare, String>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    hurry: AtomicBool,
    stop: AtomicBool,
}

impl Workshop {
    pub(crate) fn background(maker: Maker, waker: Waker) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let (outbox, answers) = sync_channel(16);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("journal-make".into()).spawn({
            let shared = shared.clone();
            move || run(maker, &inbox, &outbox, &shared, &waker)
        })?;
        Ok(Self::Thread(Background { requests: Some(requests), answers, shared, thread: Some(thread) }))
    }

    /// Places a request. An inline maker answers at once.
    pub(crate) fn request(&mut self, request: Request) -> Option<Result<Spare, String>> {
        match self {
            Self::Inline(maker) => match request {
                Request::Make(bytes_min) => Some(maker.make(bytes_min, &mut || true).map_err(|e| reason(&e))),
                Request::Retire(spare) => {
                    let _ = maker.retire(spare);
                    None
                }
            },
            Self::Thread(background) => {
                let _ = background.requests.as_ref().map(|requests| requests.send(request));
                None
            }
        }
    }

    /// An answer of the thread: a segment, or why there is none yet (it keeps trying).
    pub(crate) fn answer(&mut self) -> Option<Result<Spare, String>> {
        match self {
            Self::Inline(_) => None,
            Self::Thread(background) => background.answers.try_recv().ok(),
        }
    }

    /// Whether a request that failed must be placed again.
    pub(crate) fn forgets_failures(&self) -> bool {
        matches!(self, Self::Inline(_))
    }

    /// Whether someone waits for the segment: no pauses then.
    pub(crate) fn hurry(&self, hurry: bool) {
        if let Self::Thread(background) = self {
            background.shared.hurry.store(hurry, Ordering::Relaxed);
        }
    }
}

fn run(
    mut maker: Maker,
    requests: &Receiver<Request>,
    answers: &SyncSender<Result<Spare, String>>,
    shared: &Shared,
    waker: &Waker,
) {
    let mut wanted: Vec<u64> = Vec::new();
    loop {
        let next = if wanted.is_empty() {
            requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            requests.recv_timeout(Duration::ZERO)
        };
        match next {
            Ok(Request::Make(bytes_min)) => wanted.push(bytes_min),
            Ok(Request::Retire(spare)) => {
                if let Err(error) = maker.retire(spare) {
                    tracing::warn!("journal: a released segment could not be removed: {error}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let Some(bytes_min) = wanted.last().copied() else { continue };
                let mut pause = || {
                    if !shared.hurry.load(Ordering::Relaxed) {
                        std::thread::sleep(PACE);
                    }
                    !shared.stop.load(Ordering::Relaxed)
                };
                match maker.make(bytes_min, &mut pause) {
                    Ok(spare) => {
                        wanted.pop();
                        if answers.send(Ok(spare)).is_err() {
                            return;
                        }
                        waker.wake();
                    }
                    Err(_) if shared.stop.load(Ordering::Relaxed) => return,
                    Err(error) => {
                        if let Err(TrySendError::Disconnected(_)) = answers.try_send(Err(reason(&error))) {
                            return;
                        }
                        waker.wake();
                        std::thread::park_timeout(RETRY);
                    }
                }
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread may be in `send` on a full channel: take what it has.
            while !thread.is_finished() {
                while self.answers.try_recv().is_ok() {}
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = thread.join();
        }
    }
}
