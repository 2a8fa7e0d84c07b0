//! What surrounds transactions in a block: system calls, withdrawals, rewards, requests, the DAO fork.

use crate::{BlockError, Executor, Parameters, StateDb, StateRead, StateStore, StoreError, convert};
use alloy_eips::{
    eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE},
    eip4788::BEACON_ROOTS_ADDRESS,
    eip6110::DEPOSIT_REQUEST_TYPE,
    eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE},
    eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE},
};
use alloy_primitives::{Address, B256, Bytes, Log, U256, b256, keccak256};
use ironlane_types::{AccountInfo, BlockContext, KECCAK_EMPTY};
use revm::primitives::hardfork::SpecId;
use std::sync::LazyLock;

/// The one chain whose DAO fork moved balances.
const MAINNET: u64 = 1;

/// `DepositEvent(bytes,bytes,bytes,bytes,bytes)` of the deposit contract.
const DEPOSIT_TOPIC: B256 = b256!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");
const WEI_PER_GWEI: u64 = 1_000_000_000;

static HISTORY_CODE_HASH: LazyLock<B256> = LazyLock::new(|| keccak256(&HISTORY_STORAGE_CODE));

/// Refuses a context that lacks what its fork needs.
pub(crate) fn check_context(context: &BlockContext, parameters: &Parameters) -> Result<(), BlockError> {
    let needs = |fork, there: bool, name| {
        if parameters.spec_id.is_enabled_in(fork) && !there {
            Err(BlockError::ContextField(name))
        } else {
            Ok(())
        }
    };
    needs(SpecId::LONDON, context.base_fee.is_some(), "base fee")?;
    needs(SpecId::SHANGHAI, context.withdrawals.is_some(), "withdrawals")?;
    needs(SpecId::CANCUN, context.excess_blob_gas.is_some(), "excess blob gas")?;
    needs(SpecId::CANCUN, context.parent_beacon_block_root.is_some(), "parent beacon block root")?;
    needs(SpecId::CANCUN, parameters.blob.is_some(), "blob parameters")
}

/// Before the first transaction.
pub(crate) fn before_transactions<S: StateStore>(executor: &mut Executor<S>) -> Result<(), BlockError> {
    let open = executor.open.as_ref().expect("a block is open");
    let (number, root, spec_id) =
        (open.context.number, open.context.parent_beacon_block_root, open.parameters.spec_id);
    if executor.spec.chain_id == MAINNET && executor.spec.forks.dao == Some(number) {
        return Err(BlockError::DaoFork);
    }
    if number == 0 {
        return Ok(());
    }
    if let Some(root) = root.filter(|_| spec_id.is_enabled_in(SpecId::CANCUN)) {
        call_if_present(executor, BEACON_ROOTS_ADDRESS, root.into(), spec_id)?;
    }
    if spec_id.is_enabled_in(SpecId::PRAGUE) {
        let db = executor.evm.db_mut();
        match db.account(&HISTORY_STORAGE_ADDRESS)? {
            // The contract of EIP-2935 itself: its effect is one known slot, so nothing waits for the hash.
            Some(info) if info.code_hash == *HISTORY_CODE_HASH => {
                db.defer_history(number);
                db.settle_history(false)?;
            }
            Some(info) if info.code_hash != KECCAK_EMPTY => {
                let parent = db.hashes.wait(number - 1)?;
                call_if_present(executor, HISTORY_STORAGE_ADDRESS, parent.into(), spec_id)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// After the last transaction. Answers the requests of EIP-7685, from Prague on.
pub(crate) fn after_transactions<S: StateStore>(
    executor: &mut Executor<S>,
) -> Result<Option<Vec<Bytes>>, BlockError> {
    let open = executor.open.as_ref().expect("a block is open");
    let parameters = open.parameters;
    let spec_id = parameters.spec_id;
    let context = open.context.clone();

    let reward = executor.spec.forks.block_reward(context.number, parameters.merged);
    if !reward.is_zero() {
        let db = executor.evm.db_mut();
        for ommer in &context.ommers {
            // Eighths of the reward: the nearer the ommer, the more.
            let eighths = U256::from((ommer.number + 8).saturating_sub(context.number));
            add_balance(db, ommer.beneficiary, eighths * reward / U256::from(8), spec_id)?;
        }
        let nephew = reward * U256::from(context.ommers.len()) / U256::from(32);
        add_balance(db, context.beneficiary, reward + nephew, spec_id)?;
    }
    if !spec_id.is_enabled_in(SpecId::PRAGUE) {
        withdraw(executor, &context, spec_id)?;
        return Ok(None);
    }
    let mut requests = Vec::new();
    let mut push = |kind: u8, data: &[u8]| {
        if !data.is_empty() {
            requests.push([&[kind], data].concat().into());
        }
    };
    let contract = executor.spec.deposit_contract;
    let mut deposits = Vec::new();
    for tx in executor.executed() {
        for log in tx.outcome.logs.iter().filter(|log| log.address == contract) {
            if log.topics().first() == Some(&DEPOSIT_TOPIC) {
                deposit(log, &mut deposits)?;
            }
        }
    }
    push(DEPOSIT_REQUEST_TYPE, &deposits);
    withdraw(executor, &context, spec_id)?;
    push(WITHDRAWAL_REQUEST_TYPE, &must_call(executor, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, spec_id)?);
    push(CONSOLIDATION_REQUEST_TYPE, &must_call(executor, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, spec_id)?);
    Ok(Some(requests))
}

fn withdraw<S: StateStore>(
    executor: &mut Executor<S>,
    context: &BlockContext,
    spec_id: SpecId,
) -> Result<(), BlockError> {
    for withdrawal in context.withdrawals.iter().flatten() {
        let wei = U256::from(withdrawal.amount) * U256::from(WEI_PER_GWEI);
        add_balance(executor.evm.db_mut(), withdrawal.address, wei, spec_id)?;
    }
    Ok(())
}

/// A system call whose failure does not matter (EIP-2935, EIP-4788): it changes nothing then.
fn call_if_present<S: StateStore>(
    executor: &mut Executor<S>,
    contract: Address,
    input: Bytes,
    spec_id: SpecId,
) -> Result<(), BlockError> {
    if !has_code(executor.evm.db(), &contract)? {
        return Ok(());
    }
    let (_, state) = executor.evm.system_call(contract, input)?;
    Ok(convert::commit(executor.evm.db_mut(), spec_id, state)?)
}

/// A system call that a block is invalid without (EIP-7002, EIP-7251). Answers what it returned.
fn must_call<S: StateStore>(
    executor: &mut Executor<S>,
    contract: Address,
    spec_id: SpecId,
) -> Result<Bytes, BlockError> {
    if !has_code(executor.evm.db(), &contract)? {
        return Err(BlockError::SystemContractMissing(contract));
    }
    let (result, state) = executor.evm.system_call(contract, Bytes::new())?;
    if !result.is_success() {
        return Err(BlockError::SystemCallFailed { address: contract, reason: format!("{result:?}") });
    }
    convert::commit(executor.evm.db_mut(), spec_id, state)?;
    Ok(result.into_output().unwrap_or_default())
}

fn has_code<R: StateRead>(db: &StateDb<R>, address: &Address) -> Result<bool, StoreError> {
    Ok(db.account(address)?.is_some_and(|info| info.code_hash != KECCAK_EMPTY))
}

/// Adds to a balance outside of transactions; EIP-161 removes what stays empty.
fn add_balance<R: StateRead>(
    db: &mut StateDb<R>,
    address: Address,
    wei: U256,
    spec_id: SpecId,
) -> Result<(), StoreError> {
    let before = db.account(&address)?;
    let mut info = before.unwrap_or(AccountInfo { nonce: 0, balance: U256::ZERO, code_hash: KECCAK_EMPTY });
    info.balance = info.balance.saturating_add(wei);
    if info.is_empty() && spec_id.is_enabled_in(SpecId::SPURIOUS_DRAGON) {
        if before.is_some() {
            db.writes.delete_account(address);
        }
    } else {
        db.writes.set_account(address, info);
    }
    Ok(())
}

/// Appends the request that a deposit log stands for (EIP-6110): public key, withdrawal credentials, amount, signature,
/// index, without the padding of the ABI. The layout must be exactly that of the contract.
fn deposit(log: &Log, requests: &mut Vec<u8>) -> Result<(), BlockError> {
    /// (offset word, position of the length word, length) of each of the five fields.
    const FIELDS: [(usize, usize, usize); 5] =
        [(0, 160, 48), (32, 256, 32), (64, 320, 8), (96, 384, 96), (128, 512, 8)];
    let data = &log.data.data;
    if data.len() != 576 {
        return Err(BlockError::DepositLog);
    }
    for (word, position, length) in FIELDS {
        let at = |offset: usize| U256::from_be_slice(&data[offset..offset + 32]);
        if at(word) != U256::from(position) || at(position) != U256::from(length) {
            return Err(BlockError::DepositLog);
        }
        requests.extend_from_slice(&data[position + 32..position + 32 + length]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deposit_topic_is_the_events() {
        assert_eq!(keccak256("DepositEvent(bytes,bytes,bytes,bytes,bytes)"), DEPOSIT_TOPIC);
    }
}
