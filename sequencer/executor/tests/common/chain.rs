//! Small chains for tests: stores, transactions without real signatures, contexts.

use alloy_consensus::{Signed, TxEip1559, TxEip2930, TxLegacy};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use ironlane_executor::{BlockHashes, ChainSpec, Executor, ExecutorConfig, NextBlock};
use ironlane_state::{StateConfig, StateWriter};
use ironlane_types::{Tx, TxEnvelope};
use std::sync::Arc;

pub(crate) fn store() -> StateWriter {
    let config =
        StateConfig { huge_pages: false, max_accounts: 1 << 16, max_slots: 1 << 16, ..Default::default() };
    ironlane_state::open_empty(config).expect("memory").1
}

/// An executor over the genesis of `spec`.
pub(crate) fn executor(spec: &Arc<ChainSpec>, config: ExecutorConfig) -> Executor<StateWriter> {
    let hashes = BlockHashes::new();
    hashes.set(0, spec.genesis.hash);
    let mut executor = Executor::new(spec.clone(), store(), hashes, config);
    executor.store_mut().apply(&spec.genesis.alloc).expect("room");
    executor.store_mut().seal();
    executor
}

pub(crate) fn next(timestamp: u64, beneficiary: Address) -> NextBlock {
    NextBlock { timestamp, beneficiary, gas_limit: None, prev_randao: B256::ZERO, extra_data: Bytes::new() }
}

/// What a transaction says, whatever its type.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) kind: u8,
    pub(crate) chain_id: Option<u64>,
    pub(crate) nonce: u64,
    pub(crate) gas_limit: u64,
    pub(crate) fee_cap: u128,
    pub(crate) tip: u128,
    pub(crate) to: TxKind,
    pub(crate) value: U256,
    pub(crate) input: Bytes,
    pub(crate) access_list: alloy_eips::eip2930::AccessList,
}

impl Call {
    pub(crate) fn plain(to: Address, nonce: u64) -> Self {
        Self {
            kind: 2,
            chain_id: Some(31337),
            nonce,
            gas_limit: 200_000,
            fee_cap: 5_000_000_000,
            tip: 1,
            to: TxKind::Call(to),
            value: U256::ZERO,
            input: Bytes::new(),
            access_list: Default::default(),
        }
    }

    /// The envelope with `sign` over its signing hash.
    pub(crate) fn envelope(self, sign: impl Fn(B256) -> Signature) -> TxEnvelope {
        use alloy_consensus::SignableTransaction;
        fn signed<T: SignableTransaction<Signature>>(tx: T, sign: impl Fn(B256) -> Signature) -> Signed<T> {
            let signature = sign(tx.signature_hash());
            tx.into_signed(signature)
        }
        let Self { kind, chain_id, nonce, gas_limit, fee_cap, tip, to, value, input, access_list } = self;
        match kind {
            0 => TxEnvelope::Legacy(signed(
                TxLegacy { chain_id, nonce, gas_price: fee_cap, gas_limit, to, value, input },
                sign,
            )),
            1 => TxEnvelope::Eip2930(signed(
                TxEip2930 {
                    chain_id: chain_id.unwrap_or(0),
                    nonce,
                    gas_price: fee_cap,
                    gas_limit,
                    to,
                    value,
                    access_list,
                    input,
                },
                sign,
            )),
            _ => TxEnvelope::Eip1559(signed(
                TxEip1559 {
                    chain_id: chain_id.unwrap_or(0),
                    nonce,
                    gas_limit,
                    max_fee_per_gas: fee_cap,
                    max_priority_fee_per_gas: tip,
                    to,
                    value,
                    access_list,
                    input,
                },
                sign,
            )),
        }
    }

    /// A transaction said to be from `sender`: the executor trusts who calls it with that.
    pub(crate) fn from(self, sender: Address) -> Arc<Tx> {
        use alloy_eips::Encodable2718;
        let envelope = self.envelope(|_| Signature::test_signature());
        let raw = Bytes::from(envelope.encoded_2718());
        Arc::new(Tx { hash: alloy_primitives::keccak256(&raw), sender, envelope, raw })
    }
}
