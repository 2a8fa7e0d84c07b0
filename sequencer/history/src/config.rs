//! Limits of the history.

/// How much the history keeps, and where it cuts its files.
#[derive(Debug, Clone)]
pub struct HistoryConfig {
    /// Recent sealed blocks kept in memory, in bytes (approximate). Blocks that are not archived yet do not count as
    /// free to go: when they alone exceed this, [`crate::History::publish_block`] waits for the disk.
    pub memory_bytes: usize,
    /// A segment file of the archive is finished when it has reached this many bytes.
    pub segment_bytes: u64,
    /// A segment file is finished when it has this many blocks.
    pub segment_blocks: u32,
    /// Events that a subscriber may leave unread.
    pub event_capacity: usize,
    /// The archive is synced to stable storage at least this often while it grows, in milliseconds.
    pub sync_interval_ms: u64,
    /// Transaction positions for which room is made at start (memory is touched only when used).
    pub expected_txs: usize,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        HistoryConfig {
            memory_bytes: 512 << 20,
            segment_bytes: 256 << 20,
            segment_blocks: 65_536,
            event_capacity: 4_096,
            sync_interval_ms: 5_000,
            expected_txs: 400_000,
        }
    }
}
