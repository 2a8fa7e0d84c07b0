//! What stages tell each other outside the rings: counters that one writes and others read, and the way to stop.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why the node no longer sequences.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{stage}: {reason}")]
pub struct Halt {
    /// Who saw it.
    pub stage: &'static str,
    /// A sentence for the operator.
    pub reason: String,
}

/// Counters with one writer each.
#[derive(Debug, Default)]
pub struct Shared {
    /// Mini-blocks sealed by `sequence`.
    sealed_height: AtomicU64,
    /// Newest mini-block on stable storage; written by `commit`.
    durable_height: AtomicU64,
    /// Newest EVM block whose `close` record is on stable storage; written by `commit`.
    durable_block: AtomicU64,
    /// Newest EVM block whose hash is known; written by `root`.
    rooted_block: AtomicU64,
    /// Journal position of each recent block's `close` record; written by `commit`, read by snapshots.
    close_positions: Mutex<std::collections::BTreeMap<u64, u64>>,
    /// Journal record up to which the oldest snapshot that is kept holds everything; written by snapshots, read by `commit`.
    covered: AtomicU64,
    /// The journal has no room: admission refuses until it has.
    paused: AtomicBool,
    halted: AtomicBool,
    halt: Mutex<Option<Halt>>,
    stopping: AtomicBool,
}

impl Shared {
    /// Counters as recovery left them.
    pub fn recovered(height: u64, rooted_block: u64) -> Self {
        let shared = Self::default();
        shared.sealed_height.store(height, Ordering::Relaxed);
        shared.durable_height.store(height, Ordering::Relaxed);
        shared.durable_block.store(rooted_block, Ordering::Relaxed);
        shared.rooted_block.store(rooted_block, Ordering::Relaxed);
        shared
    }

    /// `sequence` sealed the mini-block at this height.
    pub fn set_sealed(&self, height: u64) {
        self.sealed_height.store(height, Ordering::Release);
    }

    /// `commit` made everything up to this height durable.
    pub fn set_durable(&self, height: u64) {
        self.durable_height.store(height, Ordering::Release);
    }

    /// Newest durable height.
    pub fn durable(&self) -> u64 {
        self.durable_height.load(Ordering::Acquire)
    }

    /// Mini-blocks that are sealed and not yet durable.
    pub fn backlog(&self) -> u64 {
        let durable = self.durable_height.load(Ordering::Acquire);
        self.sealed_height.load(Ordering::Acquire).saturating_sub(durable)
    }

    /// `commit` made this block's `close` record durable; it stands at `position`.
    pub fn set_block_durable(&self, number: u64, position: u64) {
        let mut positions = self.close_positions.lock();
        positions.insert(number, position);
        while positions.len() > 4096 {
            positions.pop_first();
        }
        drop(positions);
        self.durable_block.store(number, Ordering::Release);
    }

    /// Newest block whose `close` record is durable.
    pub fn durable_block(&self) -> u64 {
        self.durable_block.load(Ordering::Acquire)
    }

    /// Journal position of a recent block's `close` record.
    pub fn close_position(&self, number: u64) -> Option<u64> {
        self.close_positions.lock().get(&number).copied()
    }

    /// The oldest snapshot that is kept holds the journal up to this record.
    pub fn set_covered(&self, position: u64) {
        self.covered.fetch_max(position, Ordering::AcqRel);
    }

    /// Journal record up to which no kept snapshot needs the journal.
    pub fn covered(&self) -> u64 {
        self.covered.load(Ordering::Acquire)
    }

    /// `root` knows this block's hash.
    pub fn set_rooted(&self, number: u64) {
        self.rooted_block.store(number, Ordering::Release);
    }

    /// Newest block whose hash is known.
    pub fn rooted(&self) -> u64 {
        self.rooted_block.load(Ordering::Acquire)
    }

    /// Pauses or resumes admission (no room for the journal).
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Whether new transactions may be taken.
    pub fn admitting(&self) -> bool {
        !self.paused.load(Ordering::Acquire) && !self.is_halted()
    }

    /// Stops the node: nothing more is signed or acknowledged. The first reason is kept.
    pub fn halt(&self, stage: &'static str, reason: impl Into<String>) {
        let halt = Halt { stage, reason: reason.into() };
        tracing::error!(stage, reason = %halt.reason, "the node halts: nothing more is acknowledged or signed");
        self.halt.lock().get_or_insert(halt);
        self.halted.store(true, Ordering::Release);
    }

    /// Whether the node halted.
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Why it halted.
    pub fn halt_reason(&self) -> Option<Halt> {
        self.halt.lock().clone()
    }

    /// The node is going down in an orderly way.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the node is going down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_keeps_its_first_reason_and_stops_admission() {
        let shared = Shared::default();
        assert!(shared.admitting());
        shared.halt("commit", "the journal failed");
        shared.halt("root", "later");
        assert!(!shared.admitting());
        assert_eq!(shared.halt_reason().expect("halted").stage, "commit");
    }

    #[test]
    fn the_backlog_is_what_is_sealed_and_not_durable() {
        let shared = Shared::recovered(10, 2);
        assert_eq!(shared.backlog(), 0);
        shared.set_sealed(12);
        assert_eq!(shared.backlog(), 2);
        shared.set_durable(12);
        assert_eq!(shared.backlog(), 0);
        shared.set_block_durable(3, 99);
        assert_eq!((shared.close_position(3), shared.durable_block()), (Some(99), 3));
    }
}
