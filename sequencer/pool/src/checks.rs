//! What can be refused without knowing the sender: every check here is cheaper than a recovery.

use crate::config::PoolConfig;
use alloy_consensus::{Transaction, Typed2718};
use alloy_primitives::TxKind;
use ironlane_types::{Reject, TxEnvelope, intrinsic_gas};

pub(crate) use ironlane_types::max_cost;

/// Refuses what no sender could make right.
pub(crate) fn check(tx: &TxEnvelope, config: &PoolConfig, block_gas_max: u64) -> Result<(), Reject> {
    let rules = &config.rules;
    if tx.ty() == 4 && !rules.set_code {
        return Err(Reject::UnknownType);
    }
    match tx.chain_id() {
        Some(id) if id == config.chain_id => {}
        None if config.unprotected_allowed => {}
        _ => return Err(Reject::WrongChainId),
    }
    if let Some(list) = tx.authorization_list()
        && list.is_empty()
    {
        return Err(Reject::EmptyAuthorizations);
    }
    if tx.nonce() == u64::MAX {
        return Err(Reject::NonceMax);
    }
    if tx.kind() == TxKind::Create && rules.init_code_bytes_max.is_some_and(|max| tx.input().len() > max) {
        return Err(Reject::InitCodeTooLarge);
    }
    if rules.tx_gas_max.is_some_and(|max| tx.gas_limit() > max) {
        return Err(Reject::GasAboveTxCap);
    }
    if tx.gas_limit() > block_gas_max {
        return Err(Reject::GasAboveBlock);
    }
    if tx.max_priority_fee_per_gas().is_some_and(|tip| tip > tx.max_fee_per_gas()) {
        return Err(Reject::TipAboveFeeCap);
    }
    if tx.max_fee_per_gas() < config.limits.fee_cap_min_wei {
        return Err(Reject::FeeCapBelowBase);
    }
    let (intrinsic, floor) = intrinsic_gas(tx, rules.init_code_bytes_max.is_some(), rules.floor_gas);
    if tx.gas_limit() < intrinsic {
        return Err(Reject::IntrinsicGas);
    }
    if tx.gas_limit() < floor {
        return Err(Reject::FloorGas);
    }
    Ok(())
}
