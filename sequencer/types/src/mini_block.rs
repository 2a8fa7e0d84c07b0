//! The unit of order, durability and promise.

use crate::ExecutedTx;
use alloy_primitives::B256;
use std::sync::Arc;

/// What the sequencer signs, through its digest (see the `ironlane-promise` crate for the encoding).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MiniBlockHeader {
    /// Height since genesis, from 1, without gaps (0 is genesis itself).
    pub height: u64,
    /// Digest of the mini-block before; the genesis block's hash for height 1.
    pub parent: B256,
    /// EVM block that it belongs to.
    pub block_number: u64,
    /// Sequence number of its first transaction.
    pub first_seq: u64,
    /// How many transactions.
    pub tx_count: u32,
    /// When it was sealed: microseconds of Unix time, never decreasing.
    pub timestamp_us: u64,
    /// Merkle root over its transactions' leaves; zero when there are none.
    pub txs_root: B256,
}

/// A sealed mini-block with what it contains.
#[derive(Debug, Clone)]
pub struct MiniBlock {
    /// What is signed.
    pub header: MiniBlockHeader,
    /// Digest of `header`.
    pub digest: B256,
    /// The sequencer's signature over `digest`: r ‖ s ‖ parity (0 or 1).
    pub signature: [u8; 65],
    /// Its transactions in order.
    pub txs: Vec<Arc<ExecutedTx>>,
    /// Version of the state store that holds the state after this mini-block.
    pub state_version: u64,
}
