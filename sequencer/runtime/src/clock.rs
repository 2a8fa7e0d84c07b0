//! The node's monotonic clock.

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since the process first asked; never goes back, stands still for nobody.
pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // One is added so that zero can mean "never".
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_never_goes_back_and_is_never_zero() {
        let mut last = 0;
        for _ in 0..1000 {
            let now = super::now_ns();
            assert!(now >= last && now > 0);
            last = now;
        }
    }
}
