//! A lane: one thread that polls its stages, and sleeps when none has work.

use crate::gauge::LaneCounters;
use crate::topology::Policy;
use crate::{Doorbell, guard, now_ns, sys};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Items that a stage may handle before the next stage of its lane gets its turn.
const BUDGET: usize = 1024;
/// Time between two calls of `housekeep` while a lane is awake.
const HOUSEKEEP_NS: u64 = 1_000_000;
/// Longest sleep: `housekeep` runs at least this often.
const SLEEP_NS_MAX: u64 = 20_000_000;
const _: () = assert!(SLEEP_NS_MAX > HOUSEKEEP_NS, "a sleeping lane keeps house less often than a busy one");

/// A polled state machine with one concern. It owns meaning; the lane owns thread, core and clock.
pub trait Stage: Send {
    /// Its name in the topology.
    fn name(&self) -> &'static str;

    /// Handles up to `budget` items without ever blocking, and says how many; 0: nothing to do.
    fn poll(&mut self, budget: usize) -> usize;

    /// Timers and everything that is not worth a look at each poll. About every millisecond while the lane is awake, at
    /// least every 20 ms.
    fn housekeep(&mut self, _now_ns: u64) {}

    /// A descriptor that becomes readable when there is work that no doorbell announces, as an io_uring's.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    /// When `poll` must run again although nothing arrives, nanoseconds of [`now_ns`].
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// The node is about to stop: take nothing new from outside, finish what is inside. `poll` goes on being called.
    fn quiesce(&mut self) {}

    /// Whether nothing is under way that `poll` will still bring to an end (a write in flight, a batch with a worker). Asked
    /// only after `quiesce`; the rings need not be looked at.
    fn is_drained(&self) -> bool {
        true
    }

    /// The lane stops: flush what was promised. Called once, after the last poll.
    fn close(&mut self) {}
}

/// What a lane was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(crate) enum Order {
    /// Go on.
    Run = 0,
    /// Take nothing new from outside.
    Quiesce = 1,
    /// Stop.
    Stop = 2,
}

/// An [`Order`] that lanes look at once a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders(Arc<AtomicU8>);

impl Orders {
    pub(crate) fn give(&self, order: Order) {
        self.0.store(order as u8, Ordering::Release);
    }

    fn current(&self) -> Order {
        match self.0.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Quiesce,
            _ => Order::Stop,
        }
    }
}

/// A lane's thread, from start to stop.
pub(crate) struct LaneLoop {
    pub(crate) stages: Vec<Box<dyn Stage>>,
    pub(crate) doorbell: Doorbell,
    pub(crate) policy: Policy,
    pub(crate) spin_ns: u64,
    pub(crate) orders: Orders,
    pub(crate) counters: Arc<LaneCounters>,
}

impl LaneLoop {
    pub(crate) fn run(mut self) {
        let mut housekeep_at = 0;
        let mut idle_since = 0;
        let mut quiesced = false;
        loop {
            match self.orders.current() {
                Order::Run => {}
                Order::Quiesce => {
                    if !quiesced {
                        self.each(|stage| stage.quiesce());
                        quiesced = true;
                    }
                    let drained = self.stages.iter().all(|stage| stage.is_drained());
                    self.counters.set_drained(drained);
                }
                Order::Stop => break,
            }
            let done = self.poll_all();
            let now = now_ns();
            if now >= housekeep_at {
                self.each(|stage| stage.housekeep(now));
                housekeep_at = now + HOUSEKEEP_NS;
            }
            if done > 0 {
                idle_since = 0;
                continue;
            }
            if idle_since == 0 {
                idle_since = now;
            }
            if self.policy == Policy::Busy || now - idle_since < self.spin_ns {
                std::hint::spin_loop();
            } else {
                self.sleep(now);
                idle_since = 0;
                housekeep_at = 0;
            }
        }
        self.each(|stage| stage.close());
    }

    fn each(&mut self, mut act: impl FnMut(&mut dyn Stage)) {
        for stage in &mut self.stages {
            guard::set_stage(Some(stage.name()));
            act(stage.as_mut());
        }
        guard::set_stage(None);
    }

    fn poll_all(&mut self) -> usize {
        let mut done = 0;
        for (at, stage) in self.stages.iter_mut().enumerate() {
            guard::set_stage(Some(stage.name()));
            let items = stage.poll(BUDGET);
            if items > 0 {
                self.counters.add_items(at, items);
            }
            done += items;
        }
        guard::set_stage(None);
        done
    }

    /// Sleeps until the doorbell rings, a stage's descriptor is readable, or the next deadline.
    fn sleep(&mut self, now: u64) {
        self.doorbell.announce_sleep();
        // Work that came before the announcement did not ring, nor did an order: look once more.
        if self.poll_all() == 0 && self.orders.current() == Order::Run {
            let deadline = self.stages.iter().filter_map(|stage| stage.deadline_ns()).min();
            let wake_at = deadline.unwrap_or(u64::MAX).min(now + SLEEP_NS_MAX);
            let left = wake_at.saturating_sub(now_ns());
            if left > 0 {
                let mut fds = vec![sys::pollfd(self.doorbell.fd())];
                fds.extend(self.stages.iter().filter_map(|stage| stage.wake_fd()).map(sys::pollfd));
                sys::wait_readable(&mut fds, Duration::from_nanos(left));
                self.counters.add_sleep();
                if fds[0].revents != 0 {
                    self.doorbell.clear();
                }
            }
        }
        self.doorbell.awake();
    }
}
