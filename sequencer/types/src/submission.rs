//! Bytes from a client, with the way back to it.

use alloy_primitives::{Address, Bytes};

/// Who sent a transaction: where its acknowledgement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Connection, as the ingest device numbers it; [`Origin::RPC_LANE`] for JSON-RPC.
    pub lane: u64,
    /// The client's own number for this transaction; echoed in the acknowledgement.
    pub tag: u64,
}

impl Origin {
    /// The lane of JSON-RPC submissions.
    pub const RPC_LANE: u64 = u64::MAX;
}

/// A transaction as it came in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Way back.
    pub origin: Origin,
    /// EIP-2718 bytes, nothing checked yet.
    pub raw: Bytes,
    /// Whom the client claims to be. Never trusted: it can only make authentication cheaper.
    pub sender_hint: Option<Address>,
    /// When the node first had all of its bytes: nanoseconds of the node's monotonic clock.
    pub received_ns: u64,
}
