//! The short cut: a plain value transfer has the same result without an interpreter, ten times faster.
//!
//! Taken for calls of types 0, 1 and 2 from an account without code to an account without code that is no precompiled
//! contract, under the rules of Prague and Osaka. Whatever is unusual, every refusal included, goes the general way, so
//! that there is one source of error messages and of rare semantics.

use crate::{IronEvm, StateRead, StoreError};
use alloy_consensus::{Transaction, TxType};
use alloy_primitives::{TxKind, U256};
use ironlane_types::{AccountInfo, KECCAK_EMPTY, Outcome, Tx, intrinsic_gas, max_cost};
use revm::{context_interface::Cfg, primitives::hardfork::SpecId};

/// Whether the rules are those that this file implements.
pub(crate) fn supports(spec: SpecId) -> bool {
    matches!(spec, SpecId::PRAGUE | SpecId::OSAKA)
}

/// Executes a plain transfer, or does nothing and answers `None`.
pub(crate) fn transfer<R: StateRead>(evm: &mut IronEvm<R>, tx: &Tx) -> Result<Option<Outcome>, StoreError> {
    let envelope = &tx.envelope;
    let TxKind::Call(to) = envelope.kind() else { return Ok(None) };
    let dynamic_fee = match envelope.tx_type() {
        TxType::Legacy | TxType::Eip2930 => false,
        TxType::Eip1559 => true,
        TxType::Eip4844 | TxType::Eip7702 => return Ok(None),
    };
    // Precompiled contracts are all among the low addresses (the last of Osaka is 0x100).
    if to.0[..18] == [0; 18] {
        return Ok(None);
    }
    let base_fee = u128::from(evm.block().basefee);
    let fee_cap = envelope.max_fee_per_gas();
    let price = if dynamic_fee {
        let tip = envelope.max_priority_fee_per_gas().unwrap_or(0);
        if tip > fee_cap {
            return Ok(None);
        }
        fee_cap.min(base_fee.saturating_add(tip))
    } else {
        fee_cap
    };
    let gas_limit = envelope.gas_limit();
    // The rules are Prague's or Osaka's, and nothing is created.
    let (intrinsic, floor) = intrinsic_gas(envelope, true, true);
    let chain_ok = envelope.chain_id().is_none_or(|id| id == evm.cfg().chain_id);
    if !chain_ok
        || fee_cap < base_fee
        || gas_limit > evm.cfg().tx_gas_limit_cap()
        || gas_limit > evm.block().gas_limit
        || gas_limit < intrinsic.max(floor)
        || envelope.nonce() == u64::MAX
    {
        return Ok(None);
    }
    let gas_used = intrinsic.max(floor);
    let beneficiary = evm.block().beneficiary;
    let db = evm.db_mut();

    let (sender_at, sender) = db.locate(&tx.sender)?;
    let sender = sender.unwrap_or(NOBODY);
    if sender.code_hash != KECCAK_EMPTY || sender.nonce != envelope.nonce() {
        return Ok(None);
    }
    let value = envelope.value();
    if max_cost(envelope).is_none_or(|cost| cost > sender.balance) {
        return Ok(None);
    }
    // Accounts as they are, with room for additions: an account that exists although it is empty would have to go.
    let usable = |account: Option<AccountInfo>| match account {
        None => true,
        Some(info) => info.code_hash == KECCAK_EMPTY && !info.is_empty() && info.balance.bit_len() < 255,
    };
    let (receiver_at, receiver) = if to == tx.sender { (None, Some(sender)) } else { db.locate(&to)? };
    if (to != tx.sender && !usable(receiver)) || value.bit_len() >= 255 {
        return Ok(None);
    }
    let (reward_at, reward) = db.locate(&beneficiary)?;
    if reward.is_some_and(|info| info.is_empty() || info.balance.bit_len() >= 255) {
        return Ok(None);
    }

    // From here on nothing can fail.
    let fee = U256::from(gas_used) * U256::from(price);
    let paid = AccountInfo { nonce: sender.nonce + 1, balance: sender.balance - fee - value, ..sender };
    db.writes.put(sender_at, tx.sender, paid);
    if !value.is_zero() {
        let info = if to == tx.sender { paid } else { receiver.unwrap_or(NOBODY) };
        db.writes.put(receiver_at, to, AccountInfo { balance: info.balance + value, ..info });
    }
    let tip = U256::from(gas_used) * U256::from(price - base_fee);
    if !tip.is_zero() {
        // Sender and receiver may be the beneficiary: what was just written counts.
        let written =
            if beneficiary == tx.sender || beneficiary == to { db.account(&beneficiary)? } else { reward };
        let info = written.unwrap_or(NOBODY);
        db.writes.put(reward_at, beneficiary, AccountInfo { balance: info.balance + tip, ..info });
    }
    Ok(Some(Outcome {
        success: true,
        gas_used,
        effective_gas_price: price,
        logs: Vec::new(),
        contract_address: None,
    }))
}

const NOBODY: AccountInfo = AccountInfo { nonce: 0, balance: U256::ZERO, code_hash: KECCAK_EMPTY };
