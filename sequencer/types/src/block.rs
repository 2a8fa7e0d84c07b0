//! EVM blocks: open, closed (all executed, root unknown), sealed (header and hash known).

use crate::{ExecutedTx, StateDelta};
use alloy_consensus::Header;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bytes};
use std::sync::Arc;

/// All that must be known before the first transaction of an EVM block runs. It is journalled when the block opens, so
/// that replay sees the same values. The parent's hash is not here: it follows from the parent, and the sequencer may
/// open a block before its parent's state root is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockContext {
    /// Height; genesis is 0.
    pub number: u64,
    /// Unix time in seconds, above the parent's.
    pub timestamp: u64,
    /// Fee recipient.
    pub beneficiary: Address,
    /// Gas limit of the block.
    pub gas_limit: u64,
    /// EIP-1559 base fee in wei; `None` before London.
    pub base_fee: Option<u64>,
    /// PREVRANDAO (EIP-4399), or the mix hash before the merge.
    pub prev_randao: B256,
    /// Difficulty (zero after the merge).
    pub difficulty: alloy_primitives::U256,
    /// EIP-4844 excess blob gas; `None` before Cancun.
    pub excess_blob_gas: Option<u64>,
    /// EIP-4788 root; `None` before Cancun. A sequencer's own blocks use zero.
    pub parent_beacon_block_root: Option<B256>,
    /// EIP-4895 withdrawals; `None` before Shanghai, empty on a sequencer's own blocks.
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// Uncles' beneficiaries and numbers (block rewards before the merge); empty on a sequencer's own blocks.
    pub ommers: Vec<Header>,
    /// Header `extraData`.
    pub extra_data: Bytes,
    /// Header `nonce` (zero after the merge).
    pub nonce: alloy_primitives::B64,
}

/// A block whose transactions are all executed and whose state root is still to be computed.
#[derive(Debug, Clone)]
pub struct ClosedBlock {
    /// What it was opened with.
    pub context: BlockContext,
    /// Its transactions in order.
    pub txs: Vec<Arc<ExecutedTx>>,
    /// Gas used by all.
    pub gas_used: u64,
    /// Blob gas used by all; `None` before Cancun.
    pub blob_gas_used: Option<u64>,
    /// EIP-7685 requests (type byte then data), `None` before Prague.
    pub requests: Option<Vec<Bytes>>,
    /// All that the block changed, system calls, rewards and withdrawals included.
    pub delta: StateDelta,
    /// Version of the state store that holds the state after this block.
    pub state_version: u64,
    /// Height of the last mini-block in it; `None` for imported blocks.
    pub last_mini_block: Option<u64>,
}

/// A finished block.
#[derive(Debug, Clone)]
pub struct SealedBlock {
    /// Keccak-256 of the header's RLP.
    pub hash: B256,
    /// The header.
    pub header: Header,
    /// Transactions in order, with their receipts.
    pub txs: Vec<Arc<ExecutedTx>>,
    /// EIP-4895 withdrawals, from Shanghai on.
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// Uncle headers.
    pub ommers: Vec<Header>,
    /// Version of the state store that holds the state after this block.
    pub state_version: u64,
}
