//! Waking a lane that sleeps.

use crate::sys;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// One per lane. Ringing costs a fence and a load while the lane is awake, one `write` when it sleeps.
///
/// No wake-up is lost: the producer publishes its item, then fences, then reads `asleep`; the lane sets `asleep`, then
/// fences, then looks at its rings once more before it sleeps. Whichever fence comes second sees what the other did.
#[derive(Clone, Debug)]
pub struct Doorbell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Doorbell {
    /// A doorbell of its own; lanes make theirs.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Inner { fd: sys::eventfd()?, asleep: AtomicBool::new(false) })))
    }

    /// Wakes the lane if it sleeps. Call it after the work is visible.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) && self.0.asleep.swap(false, Ordering::AcqRel) {
            sys::eventfd_signal(&self.0.fd);
        }
    }

    /// Says that the lane is about to sleep. It must look for work once more before it does.
    pub(crate) fn announce_sleep(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the lane is awake, and forgets old signals.
    pub(crate) fn awake(&self) {
        if !self.0.asleep.swap(false, Ordering::AcqRel) {
            sys::eventfd_clear(&self.0.fd);
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }
}
