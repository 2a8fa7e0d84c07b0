//! A thread that sleeps on the card's eventfd (L1) or looks at the ring from time to time (L2) and rings the owner.

use super::{HostRing, Watched, os};
use crate::{Waker, abi};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the thread sleeps at most.
const SLEEP_MAX: Duration = Duration::from_millis(100);

pub(crate) struct Watcher {
    shared: Arc<Shared>,
    waker: Waker,
    /// Ends the thread's sleep.
    stop_bell: Option<os::EventFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The owner wants to be rung once.
    armed: AtomicBool,
    /// Index of the completion that the owner waits for.
    next: AtomicU32,
}

impl Watcher {
    pub(crate) fn start(ring: &HostRing, waker: Waker) -> io::Result<Self> {
        let watched = ring.watched()?;
        let shared = Arc::new(Shared::default());
        let stop_bell = watched.event.as_ref().map(os::EventFd::try_clone).transpose()?;
        let (theirs, bell) = (shared.clone(), waker.clone());
        let thread = std::thread::Builder::new()
            .name("card-watch".into())
            .spawn(move || watch(&watched, &theirs, &bell))?;
        Ok(Self { shared, waker, stop_bell, thread: Some(thread) })
    }

    /// The owner waits for completion `next`, or waits no more.
    pub(crate) fn arm(&self, wanted: bool, next: u32) {
        self.shared.next.store(next, Ordering::Relaxed);
        let before = self.shared.armed.swap(wanted, Ordering::AcqRel);
        if wanted && !before && self.stop_bell.is_none() {
            if let Some(thread) = &self.thread {
                thread.thread().unpark();
            }
        }
    }

    /// Rings the owner at once.
    pub(crate) fn ring(&self) {
        if self.shared.armed.swap(false, Ordering::AcqRel) {
            (self.waker)();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        match (&self.stop_bell, &self.thread) {
            (Some(bell), _) => bell.ring(),
            (None, Some(thread)) => thread.thread().unpark(),
            (None, None) => {}
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(watched: &Watched, shared: &Shared, waker: &Waker) {
    let mut gone = false;
    while !shared.stop.load(Ordering::Acquire) {
        let armed = shared.armed.load(Ordering::Acquire);
        if gone {
            // Said once; the engine knows by itself from here on.
            std::thread::park_timeout(SLEEP_MAX);
            continue;
        }
        let rung = match (&watched.event, &watched.socket) {
            (Some(event), Some(socket)) => {
                let seen =
                    os::wait_readable([event.as_fd(), socket.as_fd()], SLEEP_MAX).unwrap_or([false; 2]);
                gone = seen[1];
                if seen[0] {
                    event.drain();
                }
                seen[0] || seen[1]
            }
            (Some(event), None) => {
                let [seen] = os::wait_readable([event.as_fd()], SLEEP_MAX).unwrap_or([false]);
                if seen {
                    event.drain();
                }
                seen
            }
            (None, _) => {
                std::thread::park_timeout(if armed { watched.poll } else { SLEEP_MAX });
                let next = shared.next.load(Ordering::Relaxed);
                let offset = abi::completion_at(next, watched.log2) + 124;
                armed && watched.region.load(offset, Ordering::Acquire) & 1 == abi::phase(next, watched.log2)
            }
        };
        if rung && shared.armed.swap(false, Ordering::AcqRel) {
            waker();
        }
    }
}
