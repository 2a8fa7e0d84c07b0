//! Headers: from a closed block, and the context of the block after one.

use crate::ChainSpec;
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, proofs};
use alloy_eips::{Encodable2718, eip7685::Requests};
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256};
use alloy_trie::root::ordered_trie_root_with_encoder;
use ironlane_types::{BlockContext, ClosedBlock, ExecutedTx, SealedBlock};
use revm::primitives::hardfork::SpecId;
use std::sync::Arc;

/// What a sequencer decides about its next block; the rest follows from the parent and the rules.
#[derive(Debug, Clone)]
pub struct NextBlock {
    /// Unix time in seconds; raised to one above the parent's where it is not above it.
    pub timestamp: u64,
    /// Fee recipient.
    pub beneficiary: Address,
    /// Gas limit; `None`: the parent's.
    pub gas_limit: Option<u64>,
    /// PREVRANDAO.
    pub prev_randao: B256,
    /// Header `extraData`, at most 32 bytes.
    pub extra_data: Bytes,
}

/// The context of the block that a sequencer opens after `parent`. Of the parent only fields are read that are known when
/// it closes: neither its hash nor its state root.
pub fn next_context(spec: &ChainSpec, parent: &Header, next: NextBlock) -> BlockContext {
    let timestamp = next.timestamp.max(parent.timestamp + 1);
    let number = parent.number + 1;
    let parameters = spec.parameters_at(number, timestamp, U256::ZERO);
    let from = |fork: SpecId| parameters.spec_id.is_enabled_in(fork);
    BlockContext {
        number,
        timestamp,
        beneficiary: next.beneficiary,
        gas_limit: next.gas_limit.unwrap_or(parent.gas_limit),
        base_fee: spec.next_base_fee(parent, timestamp),
        prev_randao: next.prev_randao,
        difficulty: U256::ZERO,
        excess_blob_gas: from(SpecId::CANCUN)
            .then(|| spec.next_excess_blob_gas(parent, timestamp).unwrap_or(0)),
        parent_beacon_block_root: from(SpecId::CANCUN).then_some(B256::ZERO),
        withdrawals: from(SpecId::SHANGHAI).then(Vec::new),
        ommers: Vec::new(),
        extra_data: next.extra_data,
        nonce: B64::ZERO,
    }
}

/// The header of a closed block, all fields of its fork included.
pub fn assemble_header(block: &ClosedBlock, parent_hash: B256, state_root: B256) -> Header {
    header_with_receipts(block, parent_hash, state_root, receipts_root(&block.txs))
}

pub(crate) fn header_with_receipts(
    block: &ClosedBlock,
    parent_hash: B256,
    state_root: B256,
    receipts_root: B256,
) -> Header {
    let context = &block.context;
    Header {
        parent_hash,
        ommers_hash: if context.ommers.is_empty() {
            EMPTY_OMMER_ROOT_HASH
        } else {
            proofs::calculate_ommers_root(&context.ommers)
        },
        beneficiary: context.beneficiary,
        state_root,
        transactions_root: transactions_root(&block.txs),
        receipts_root,
        logs_bloom: logs_bloom(&block.txs),
        difficulty: context.difficulty,
        number: context.number,
        gas_limit: context.gas_limit,
        gas_used: block.gas_used,
        timestamp: context.timestamp,
        extra_data: context.extra_data.clone(),
        mix_hash: context.prev_randao,
        nonce: context.nonce,
        base_fee_per_gas: context.base_fee,
        withdrawals_root: context.withdrawals.as_ref().map(|list| proofs::calculate_withdrawals_root(list)),
        blob_gas_used: block.blob_gas_used,
        excess_blob_gas: context.excess_blob_gas,
        parent_beacon_block_root: context.parent_beacon_block_root,
        requests_hash: block.requests.as_ref().map(|list| Requests::new(list.clone()).requests_hash()),
        ..Default::default()
    }
}

/// Header, hash and body of a closed block.
pub fn seal_block(block: ClosedBlock, parent_hash: B256, state_root: B256) -> SealedBlock {
    let header = assemble_header(&block, parent_hash, state_root);
    sealed(block, header)
}

pub(crate) fn sealed(block: ClosedBlock, header: Header) -> SealedBlock {
    SealedBlock {
        hash: header.hash_slow(),
        header,
        txs: block.txs,
        withdrawals: block.context.withdrawals,
        ommers: block.context.ommers,
        state_version: block.state_version,
    }
}

/// Root over the transactions' canonical bytes.
pub(crate) fn transactions_root(txs: &[Arc<ExecutedTx>]) -> B256 {
    ordered_trie_root_with_encoder(txs, |tx, out| out.extend_from_slice(&tx.tx.raw))
}

/// Root over the receipts, each with the status of EIP-658.
pub(crate) fn receipts_root(txs: &[Arc<ExecutedTx>]) -> B256 {
    ordered_trie_root_with_encoder(txs, |tx, out| tx.receipt().encode_2718(out))
}

/// Bloom over all logs of the block.
pub(crate) fn logs_bloom(txs: &[Arc<ExecutedTx>]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in txs.iter().flat_map(|tx| &tx.outcome.logs) {
        bloom.accrue_log(log);
    }
    bloom
}
