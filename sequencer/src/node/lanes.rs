//! Which ingest connections want a promise with each acknowledgement.

use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A set that is empty most of the time and is asked for every mini-block.
#[derive(Debug, Default)]
pub struct PromiseLanes {
    count: AtomicUsize,
    lanes: RwLock<HashSet<u64>>,
}

impl PromiseLanes {
    /// A connection wants promises.
    pub fn insert(&self, lane: u64) {
        let mut lanes = self.lanes.write();
        lanes.insert(lane);
        self.count.store(lanes.len(), Ordering::Release);
    }

    /// A connection is gone.
    pub fn remove(&self, lane: u64) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut lanes = self.lanes.write();
            lanes.remove(&lane);
            self.count.store(lanes.len(), Ordering::Release);
        }
    }

    /// Whether this connection wants promises.
    pub fn contains(&self, lane: u64) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lanes.read().contains(&lane)
    }

    /// Whether any does.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::PromiseLanes;

    #[test]
    fn remembers_who_asked_until_they_leave() {
        let lanes = PromiseLanes::default();
        lanes.remove(3);
        assert!(!lanes.any() && !lanes.contains(3));
        lanes.insert(3);
        assert!(lanes.any() && lanes.contains(3) && !lanes.contains(4));
        lanes.remove(3);
        assert!(!lanes.any());
    }
}
