//! What the lanes did so far, readable from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of one lane. Only the lane writes; a plain load and store is enough, and cheaper than an atomic addition.
#[derive(Debug)]
pub(crate) struct LaneCounters {
    lane: String,
    stages: Vec<String>,
    items: Vec<AtomicU64>,
    sleeps: AtomicU64,
    drained: AtomicBool,
}

impl LaneCounters {
    pub(crate) fn new(lane: &str, stages: Vec<String>) -> Arc<Self> {
        let items = stages.iter().map(|_| AtomicU64::new(0)).collect();
        let (sleeps, drained) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { lane: lane.to_owned(), stages, items, sleeps, drained })
    }

    pub(crate) fn add_items(&self, stage: usize, items: usize) {
        let counter = &self.items[stage];
        counter.store(counter.load(Ordering::Relaxed) + items as u64, Ordering::Release);
    }

    pub(crate) fn add_sleep(&self) {
        self.sleeps.store(self.sleeps.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Release);
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Items of all stages.
    pub(crate) fn work(&self) -> u64 {
        self.items.iter().map(|items| items.load(Ordering::Acquire)).sum()
    }
}

/// Reads one lane's counters.
#[derive(Debug, Clone)]
pub struct LaneGauge(pub(crate) Arc<LaneCounters>);

impl LaneGauge {
    /// The lane's name.
    pub fn name(&self) -> &str {
        &self.0.lane
    }

    /// Each stage of the lane with the items that its `poll` has handled.
    pub fn stages(&self) -> impl Iterator<Item = (&str, u64)> {
        let items = self.0.items.iter().map(|items| items.load(Ordering::Relaxed));
        self.0.stages.iter().map(String::as_str).zip(items)
    }

    /// How often the lane went to sleep.
    pub fn sleeps(&self) -> u64 {
        self.0.sleeps.load(Ordering::Relaxed)
    }
}
