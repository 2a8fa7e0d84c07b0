//! A transaction before and after its execution.

use alloy_consensus::{
    EthereumTxEnvelope, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction, TxEip4844, TxType,
};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log};
use std::sync::Arc;

/// Any Ethereum transaction as it stands in a block (a blob transaction without its sidecar).
pub type TxEnvelope = EthereumTxEnvelope<TxEip4844>;

/// A decoded transaction whose sender is known to be right.
#[derive(Debug, Clone)]
pub struct Tx {
    /// Keccak-256 of `raw`.
    pub hash: B256,
    /// The signer.
    pub sender: Address,
    /// The decoded envelope.
    pub envelope: TxEnvelope,
    /// The canonical EIP-2718 bytes, as received.
    pub raw: Bytes,
}

impl Tx {
    /// The most that this transaction can take from its sender, in wei: value + gas limit × fee cap
    /// (+ blob gas × blob fee cap). `None` on overflow.
    pub fn max_cost(&self) -> Option<alloy_primitives::U256> {
        use alloy_primitives::U256;
        let tx = &self.envelope;
        let gas = U256::from(tx.gas_limit()).checked_mul(U256::from(tx.max_fee_per_gas()))?;
        let blob = match (tx.blob_gas_used(), tx.max_fee_per_blob_gas()) {
            (Some(used), Some(fee)) => U256::from(used).checked_mul(U256::from(fee))?,
            _ => U256::ZERO,
        };
        gas.checked_add(blob)?.checked_add(tx.value())
    }
}

/// What execution did with a transaction; everything of a receipt that does not depend on its place in the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `true`: ran to its end; `false`: reverted or halted (its gas is paid all the same).
    pub success: bool,
    /// Gas charged after refunds and the EIP-7623 floor.
    pub gas_used: u64,
    /// Price paid for each unit of gas, in wei.
    pub effective_gas_price: u128,
    /// Logs, in order.
    pub logs: Vec<Log>,
    /// Address of the contract that a successful create transaction made.
    pub contract_address: Option<Address>,
}

/// A transaction in its place: what a receipt is made of.
#[derive(Debug, Clone)]
pub struct ExecutedTx {
    /// Place in the sequencer's order since genesis, from 0, without gaps.
    pub seq: u64,
    /// The transaction.
    pub tx: Arc<Tx>,
    /// What it did.
    pub outcome: Outcome,
    /// Gas of this and all earlier transactions of the EVM block.
    pub cumulative_gas_used: u64,
    /// Place in the EVM block, from 0.
    pub index_in_block: u32,
    /// Logs of earlier transactions of the EVM block (the `logIndex` of this one's first log).
    pub first_log_index: u32,
}

impl ExecutedTx {
    /// The receipt that consensus hashes (EIP-658 form, with status).
    pub fn receipt(&self) -> ReceiptEnvelope {
        let receipt = Receipt {
            status: self.outcome.success.into(),
            cumulative_gas_used: self.cumulative_gas_used,
            logs: self.outcome.logs.clone(),
        };
        let bloom: Bloom = self.outcome.logs.iter().collect();
        let with = ReceiptWithBloom { receipt, logs_bloom: bloom };
        match self.tx.envelope.tx_type() {
            TxType::Legacy => ReceiptEnvelope::Legacy(with),
            TxType::Eip2930 => ReceiptEnvelope::Eip2930(with),
            TxType::Eip1559 => ReceiptEnvelope::Eip1559(with),
            TxType::Eip4844 => ReceiptEnvelope::Eip4844(with),
            TxType::Eip7702 => ReceiptEnvelope::Eip7702(with),
        }
    }
}
