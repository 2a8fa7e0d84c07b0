//! Time: a monotonic clock for intervals, a wall clock that never goes back for timestamps, and a simulated one for tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the process first asked; never goes back, stands still for nobody.
pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // One is added so that zero can mean "never".
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

/// Where a stage gets its time from.
pub trait Clock: Send + Sync {
    /// Nanoseconds of a clock that never goes back; its zero means nothing.
    fn now_ns(&self) -> u64;

    /// Unix time in microseconds, as the host says: it may jump either way.
    fn unix_us(&self) -> u64;
}

/// The host's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn unix_us(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
    }
}

/// A clock that moves only when told to. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct SimulatedClock(Arc<SimulatedTime>);

#[derive(Debug, Default)]
struct SimulatedTime {
    mono_ns: AtomicU64,
    unix_us: AtomicU64,
}

impl SimulatedClock {
    /// A clock that stands at this Unix time.
    pub fn at_unix_us(unix_us: u64) -> Self {
        let clock = Self::default();
        clock.0.unix_us.store(unix_us, Ordering::Release);
        clock
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, time: Duration) {
        self.0.mono_ns.fetch_add(time.as_nanos() as u64, Ordering::AcqRel);
        self.0.unix_us.fetch_add(time.as_micros() as u64, Ordering::AcqRel);
    }

    /// Sets the Unix time alone, as an operator or NTP would.
    pub fn set_unix_us(&self, unix_us: u64) {
        self.0.unix_us.store(unix_us, Ordering::Release);
    }
}

impl Clock for SimulatedClock {
    fn now_ns(&self) -> u64 {
        self.0.mono_ns.load(Ordering::Acquire)
    }

    fn unix_us(&self) -> u64 {
        self.0.unix_us.load(Ordering::Acquire)
    }
}

/// Unix time that never goes back. When the host's clock is set back, this one goes on at half speed until the host has
/// caught up; when it is set forward, it follows at once. So a jump of an hour either way neither stops the timestamps
/// nor lets them run backwards.
pub struct WallClock {
    clock: Arc<dyn Clock>,
    last: Mutex<Reading>,
}

#[derive(Clone, Copy)]
struct Reading {
    mono_ns: u64,
    unix_us: u64,
}

impl WallClock {
    /// A wall clock that never answers less than `floor_us`, the newest timestamp that was ever published (0: none).
    pub fn new(clock: Arc<dyn Clock>, floor_us: u64) -> Self {
        let first = Reading { mono_ns: clock.now_ns(), unix_us: clock.unix_us().max(floor_us) };
        Self { clock, last: Mutex::new(first) }
    }

    /// Microseconds of Unix time, never less than at any call before.
    pub fn unix_us(&self) -> u64 {
        // A reading is two integers, whole at every moment: a panic elsewhere does not spoil it.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mono_ns, host_us) = (self.clock.now_ns(), self.clock.unix_us());
        if host_us >= last.unix_us {
            *last = Reading { mono_ns, unix_us: host_us };
        } else {
            // Whole microseconds only, and the rest is kept for the next call: frequent calls must not stop the clock.
            let passed_us = mono_ns.saturating_sub(last.mono_ns) / 2000;
            last.mono_ns += passed_us * 2000;
            last.unix_us += passed_us;
        }
        last.unix_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: u64 = 3_600_000_000;
    const START_US: u64 = 1_700_000_000_000_000;

    #[test]
    fn it_never_goes_back_and_is_never_zero() {
        let mut last = 0;
        for _ in 0..1000 {
            let now = super::now_ns();
            assert!(now >= last && now > 0);
            last = now;
        }
    }

    #[test]
    fn the_wall_clock_follows_the_host() {
        let host = SimulatedClock::at_unix_us(START_US);
        let wall = WallClock::new(Arc::new(host.clone()), 0);
        assert_eq!(wall.unix_us(), START_US);
        host.advance(Duration::from_millis(5));
        assert_eq!(wall.unix_us(), START_US + 5000);
        host.set_unix_us(START_US + HOUR_US);
        assert_eq!(wall.unix_us(), START_US + HOUR_US);
    }

    #[test]
    fn a_host_set_back_by_an_hour_slows_it_and_never_reverses_it() {
        let host = SimulatedClock::at_unix_us(START_US);
        let wall = WallClock::new(Arc::new(host.clone()), 0);
        host.set_unix_us(START_US - HOUR_US);
        let mut last = wall.unix_us();
        assert_eq!(last, START_US);
        for _ in 0..10_000 {
            host.advance(Duration::from_nanos(700));
            let now = wall.unix_us();
            assert!(now >= last);
            last = now;
        }
        assert_eq!(last, START_US + 3500, "half of 7 ms has passed");
        host.advance(Duration::from_secs(2 * 3600 + 1));
        assert_eq!(wall.unix_us(), host.unix_us(), "the host has caught up");
    }

    #[test]
    fn it_starts_after_what_was_published() {
        let host = SimulatedClock::at_unix_us(START_US);
        let wall = WallClock::new(Arc::new(host.clone()), START_US + 10);
        assert_eq!(wall.unix_us(), START_US + 10);
        host.advance(Duration::from_millis(1));
        assert_eq!(wall.unix_us(), START_US + 1000);
    }

    #[test]
    fn threads_see_one_order() {
        let wall = WallClock::new(Arc::new(HostClock), 0);
        let newest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        let seen = newest.load(Ordering::Acquire);
                        let now = wall.unix_us();
                        assert!(now >= seen);
                        newest.fetch_max(now, Ordering::AcqRel);
                    }
                });
            }
        });
    }
}
