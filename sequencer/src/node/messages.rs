//! What travels on the rings between stages.

use alloy_consensus::Header;
use alloy_primitives::B256;
use ironlane_types::{BlockContext, ExecutedTx, Origin, Reject};
use std::sync::Arc;

/// A sealed mini-block on its way to the journal.
#[derive(Debug)]
pub struct SealedMini {
    /// Height.
    pub height: u64,
    /// EVM block that it belongs to.
    pub block_number: u64,
    /// When it was sealed, microseconds of Unix time.
    pub timestamp_us: u64,
    /// When it was sealed, nanoseconds of the monotonic clock.
    pub sealed_ns: u64,
    /// Its transactions in order.
    pub txs: Vec<Arc<ExecutedTx>>,
    /// Who waits for each, and since when (monotonic nanoseconds).
    pub waiting: Vec<(Origin, u64)>,
    /// Version of the state store after it.
    pub state_version: u64,
}

/// `sequence` → `commit`, in the order in which the journal must hold them.
#[derive(Debug)]
pub enum CommitItem {
    /// A block opens.
    Open(Box<BlockContext>),
    /// A mini-block is sealed.
    Mini(Box<SealedMini>),
    /// A block closes.
    Close {
        /// Its height.
        number: u64,
        /// Gas used.
        gas_used: u64,
    },
}

/// `root` → `commit`: a block's hash and root, for the journal.
#[derive(Debug)]
pub struct Rooted {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
}

/// The end of a transaction's way, for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Who waits.
    pub origin: Origin,
    /// The transaction (zero where the bytes were not even decoded).
    pub hash: B256,
    /// What became of it.
    pub end: End,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Durable in a mini-block.
    Included {
        /// Ran to its end, or reverted.
        success: bool,
        /// Height of the mini-block.
        mini_block: u64,
        /// Place in it.
        position: u32,
        /// Sequence number.
        seq: u64,
        /// Gas used.
        gas_used: u64,
    },
    /// Refused or dropped.
    Rejected(Reject),
}

/// A verdict on its way to an ingest connection.
#[derive(Debug)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// The promise in its wire form, for connections that asked for promises.
    pub promise: Option<Box<[u8]>>,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, promise: None }
    }
}
