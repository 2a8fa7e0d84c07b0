//! Reasons by hash, of the last so many: what a sender is told who asks after a transaction that is no longer there.

use crate::hash::{Map, map};
use alloy_primitives::B256;
use ironlane_types::Reject;
use std::collections::VecDeque;

/// Remembers the last `capacity` reasons; the oldest is forgotten first.
#[derive(Debug)]
pub(crate) struct Memory {
    capacity: usize,
    order: VecDeque<B256>,
    reasons: Map<B256, Reject>,
}

impl Memory {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, order: VecDeque::new(), reasons: map() }
    }

    /// Remembers the newest reason of a transaction.
    pub(crate) fn insert(&mut self, hash: B256, reason: Reject) {
        if self.capacity == 0 {
            return;
        }
        if self.reasons.insert(hash, reason).is_some() {
            // A hash that is known keeps its age.
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.reasons.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, hash: &B256) -> Option<Reject> {
        self.reasons.get(hash).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_the_newest_reason_counts() {
        let mut memory = Memory::new(2);
        let hashes = [1, 2, 3].map(B256::with_last_byte);
        memory.insert(hashes[0], Reject::Expired);
        memory.insert(hashes[1], Reject::Replaced);
        memory.insert(hashes[1], Reject::Evicted);
        memory.insert(hashes[2], Reject::PoolFull);
        assert_eq!(memory.get(&hashes[0]), None);
        assert_eq!(memory.get(&hashes[1]), Some(Reject::Evicted));
        assert_eq!(memory.get(&hashes[2]), Some(Reject::PoolFull));
        let mut none = Memory::new(0);
        none.insert(hashes[0], Reject::Expired);
        assert_eq!(none.reasons.len(), 0, "a memory of nothing must stay empty");
    }
}
