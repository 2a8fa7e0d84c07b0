//! Waiting with a limit that a pause of the whole host does not use up.

use std::time::{Duration, Instant};

/// What one look may add: a longer gap means that this process was not running, and then neither was the other side.
const STEP_MAX: Duration = Duration::from_millis(10);

/// A limit on waiting that is looked at often.
pub(crate) struct Patience {
    limit: Duration,
    used: Duration,
    looked: Instant,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, used: Duration::ZERO, looked: Instant::now() }
    }

    /// Something moved: start again.
    pub(crate) fn renew(&mut self) {
        (self.used, self.looked) = (Duration::ZERO, Instant::now());
    }

    /// Time waited.
    pub(crate) fn used(&mut self) -> Duration {
        let now = Instant::now();
        self.used += now.duration_since(self.looked).min(STEP_MAX);
        self.looked = now;
        self.used
    }

    /// Whether the limit is passed.
    pub(crate) fn is_over(&mut self) -> bool {
        self.used() > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gap_counts_as_a_short_one() {
        let mut patience = Patience::new(Duration::from_millis(25));
        std::thread::sleep(Duration::from_millis(60));
        assert!(!patience.is_over() && patience.used() < Duration::from_millis(25));
        while !patience.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        patience.renew();
        assert!(!patience.is_over());
    }
}
