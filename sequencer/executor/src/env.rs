//! From our words to revm's: configuration, block and transaction environments.

use crate::{ChainSpec, Parameters};
use alloy_consensus::{EthereumTxEnvelope, Transaction, Typed2718};
use alloy_primitives::{B256, U256};
use ironlane_types::{BlockContext, Tx};
use revm::{
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::{block::BlobExcessGasAndPrice, either::Either},
};

/// revm's configuration for a block with these parameters (see [`ChainSpec::parameters`]).
pub fn cfg_env(spec: &ChainSpec, parameters: &Parameters) -> CfgEnv {
    let mut cfg = CfgEnv::new_with_spec(parameters.spec_id).with_chain_id(spec.chain_id);
    if let Some(blob) = parameters.blob {
        cfg.max_blobs_per_tx = Some(blob.max_blobs_per_tx);
        cfg.blob_base_fee_update_fraction = Some(blob.update_fraction as u64);
    }
    cfg
}

/// revm's block environment. A header makes the same through [`crate::ChainSpec::context_of`].
pub fn block_env(context: &BlockContext, parameters: &Parameters) -> BlockEnv {
    BlockEnv {
        number: U256::from(context.number),
        beneficiary: context.beneficiary,
        timestamp: U256::from(context.timestamp),
        gas_limit: context.gas_limit,
        basefee: context.base_fee.unwrap_or(0),
        difficulty: context.difficulty,
        prevrandao: parameters.merged.then_some(context.prev_randao),
        blob_excess_gas_and_price: parameters.blob.map(|blob| {
            BlobExcessGasAndPrice::new(context.excess_blob_gas.unwrap_or(0), blob.update_fraction as u64)
        }),
        slot_num: 0,
    }
}

/// revm's transaction environment.
pub fn tx_env(tx: &Tx) -> TxEnv {
    let envelope = &tx.envelope;
    let authorizations = match envelope {
        EthereumTxEnvelope::Eip7702(signed) => {
            signed.tx().authorization_list.iter().cloned().map(Either::Left).collect()
        }
        _ => Vec::new(),
    };
    TxEnv {
        tx_type: envelope.ty(),
        caller: tx.sender,
        gas_limit: envelope.gas_limit(),
        gas_price: envelope.max_fee_per_gas(),
        kind: envelope.kind(),
        value: envelope.value(),
        data: envelope.input().clone(),
        nonce: envelope.nonce(),
        chain_id: envelope.chain_id(),
        access_list: envelope.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: envelope.max_priority_fee_per_gas(),
        blob_hashes: envelope.blob_versioned_hashes().map(<[B256]>::to_vec).unwrap_or_default(),
        max_fee_per_blob_gas: envelope.max_fee_per_blob_gas().unwrap_or(0),
        authorization_list: authorizations,
    }
}
