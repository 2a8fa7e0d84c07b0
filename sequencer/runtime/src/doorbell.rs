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

    /// Says that the lane is awake.
    pub(crate) fn awake(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }

    /// Forgets signals. Whoever rings may be held up between taking the flag and signalling, so a signal may be left over
    /// from an earlier sleep: it is cleared when a sleep ends because of it, not when the flag says so.
    pub(crate) fn clear(&self) {
        sys::eventfd_clear(&self.0.fd);
    }

    /// Whether somebody rang since the sleep was announced.
    #[cfg(test)]
    pub(crate) fn was_rung(&self) -> bool {
        !self.0.asleep.load(Ordering::Acquire)
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    fn readable(bell: &Doorbell, timeout: Duration) -> bool {
        let mut fds = [sys::pollfd(bell.fd())];
        sys::wait_readable(&mut fds, timeout);
        fds[0].revents != 0
    }

    #[test]
    fn an_awake_lane_costs_no_signal_and_a_sleeping_one_gets_one() {
        let bell = Doorbell::new().expect("an eventfd");
        bell.ring();
        assert!(!readable(&bell, Duration::ZERO), "nobody sleeps");
        bell.announce_sleep();
        bell.ring();
        bell.ring();
        assert!(readable(&bell, Duration::ZERO));
        bell.awake();
        bell.clear();
        assert!(!readable(&bell, Duration::ZERO), "signals do not pile up");
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        // Ping-pong over two bells: each side sleeps whenever the other has not answered yet. A lost wake-up shows as a
        // sleep that only its timeout ends.
        const ROUNDS: u64 = 20_000;
        let bells = [Doorbell::new().expect("an eventfd"), Doorbell::new().expect("an eventfd")];
        let ball = AtomicU64::new(0);
        let play = |side: u64| {
            let (mine, theirs) = (&bells[side as usize], &bells[1 - side as usize]);
            let mut turn = side;
            while turn < ROUNDS {
                let start = Instant::now();
                while ball.load(Ordering::Acquire) != turn {
                    mine.announce_sleep();
                    if ball.load(Ordering::Acquire) != turn {
                        assert!(
                            readable(mine, Duration::from_secs(10)),
                            "side {side}: turn {turn} was not rung"
                        );
                        mine.clear();
                    }
                    mine.awake();
                    assert!(start.elapsed() < Duration::from_secs(30), "side {side}: turn {turn} was lost");
                }
                ball.store(turn + 1, Ordering::Release);
                theirs.ring();
                turn += 2;
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| play(0));
            scope.spawn(|| play(1));
        });
        assert_eq!(ball.load(Ordering::Acquire), ROUNDS);
    }
}
