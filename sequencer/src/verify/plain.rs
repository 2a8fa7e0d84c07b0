//! The second opinion: plain sequential revm over its own in-memory database, and a state root by full rebuild. Nothing of
//! the node's state store, executor or trie is used here.

use alloy_consensus::Transaction;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip6110::DEPOSIT_REQUEST_TYPE;
use alloy_eips::eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE};
use alloy_eips::eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::TrieAccount;
use alloy_trie::root::{state_root_unsorted, storage_root_unsorted};
use anyhow::{Context as _, bail, ensure};
use ironlane_executor::{ChainSpec, block_env, cfg_env, tx_env};
use ironlane_state::StateView;
use ironlane_types::{BlockContext, ClosedBlock, ExecutedTx, Outcome, StateDelta, Tx};
use revm::context::result::ExecutionResult;
use revm::database::{AccountState, CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode};
use revm::{Context, DatabaseCommit, ExecuteCommitEvm, MainBuilder, MainContext, SystemCallEvm};
use std::collections::HashMap;
use std::sync::Arc;

/// A chain executed the plain way.
pub(crate) struct PlainChain {
    spec: Arc<ChainSpec>,
    db: CacheDB<EmptyDB>,
    open: Option<Open>,
    next_seq: u64,
}

struct Open {
    context: BlockContext,
    txs: Vec<Arc<ExecutedTx>>,
    gas_used: u64,
    logs: u32,
}

macro_rules! evm {
    ($chain:expr, $context:expr) => {{
        let parameters = $chain.spec.parameters($context);
        Context::mainnet()
            .with_db(&mut $chain.db)
            .with_cfg(cfg_env(&$chain.spec, &parameters))
            .with_block(block_env($context, &parameters))
            .build_mainnet()
    }};
}

impl PlainChain {
    /// The state before block one.
    pub(crate) fn genesis(spec: Arc<ChainSpec>) -> Self {
        let mut db = CacheDB::new(EmptyDB::default());
        let alloc = &spec.genesis.alloc;
        let codes: HashMap<_, _> = alloc.codes.iter().map(|(hash, code)| (*hash, code)).collect();
        for account in &alloc.accounts {
            let Some(info) = account.info else { continue };
            put(&mut db, account.address, &info, codes.get(&info.code_hash).copied());
            account.slots.iter().for_each(|(key, value)| put_slot(&mut db, account.address, *key, *value));
        }
        Self { spec, db, open: None, next_seq: 0 }
    }

    /// The state of a snapshot; `next_seq` is the sequence number of the transaction after it.
    pub(crate) fn from_view(spec: Arc<ChainSpec>, view: &StateView, next_seq: u64) -> anyhow::Result<Self> {
        let mut db = CacheDB::new(EmptyDB::default());
        for account in view.accounts() {
            let (address, info) = account?;
            put(&mut db, address, &info, view.code(&info.code_hash).as_ref());
        }
        for slot in view.slots() {
            let (address, key, value) = slot?;
            put_slot(&mut db, address, key, value);
        }
        Ok(Self { spec, db, open: None, next_seq })
    }

    /// Opens a block whose parent has this hash.
    pub(crate) fn open(&mut self, context: BlockContext, parent_hash: B256) -> anyhow::Result<()> {
        ensure!(self.open.is_none(), "block {} opens inside another", context.number);
        self.db.cache.block_hashes.insert(U256::from(context.number - 1), parent_hash);
        let spec_id = self.spec.parameters(&context).spec_id;
        if let Some(root) = context.parent_beacon_block_root.filter(|_| spec_id.is_enabled_in(SpecId::CANCUN))
        {
            self.system_call(&context, BEACON_ROOTS_ADDRESS, root.into())?;
        }
        if spec_id.is_enabled_in(SpecId::PRAGUE) {
            self.system_call(&context, HISTORY_STORAGE_ADDRESS, parent_hash.into())?;
        }
        self.open = Some(Open { context, txs: Vec::new(), gas_used: 0, logs: 0 });
        Ok(())
    }

    /// Calls a system contract if it is there; answers what it returned.
    fn system_call(
        &mut self,
        context: &BlockContext,
        contract: Address,
        input: Bytes,
    ) -> anyhow::Result<Option<Bytes>> {
        let has_code =
            self.db.cache.accounts.get(&contract).is_some_and(|account| !account.info.is_empty_code_hash());
        if !has_code {
            return Ok(None);
        }
        let result = {
            let mut evm = evm!(self, context);
            evm.system_call(contract, input).map_err(|error| anyhow::anyhow!("system call: {error:?}"))?
        };
        self.db.commit(result.state);
        Ok(result.result.output().cloned())
    }

    /// Executes one transaction of the open block.
    pub(crate) fn execute(&mut self, tx: Arc<Tx>) -> anyhow::Result<Arc<ExecutedTx>> {
        let context = self.open.as_ref().context("a transaction outside a block")?.context.clone();
        let effective_gas_price = tx.envelope.effective_gas_price(context.base_fee);
        let result = {
            let mut evm = evm!(self, &context);
            evm.transact_commit(tx_env(&tx))
                .map_err(|error| anyhow::anyhow!("{} is refused: {error:?}", tx.hash))?
        };
        let gas_used = result.tx_gas_used();
        let contract_address = result.created_address();
        let (success, logs) = match result {
            ExecutionResult::Success { logs, .. } => (true, logs),
            _ => (false, Vec::new()),
        };
        let open = self.open.as_mut().context("a transaction outside a block")?;
        open.gas_used += gas_used;
        let outcome = Outcome { success, gas_used, effective_gas_price, logs, contract_address };
        let executed = Arc::new(ExecutedTx {
            seq: self.next_seq,
            cumulative_gas_used: open.gas_used,
            index_in_block: open.txs.len() as u32,
            first_log_index: open.logs,
            tx,
            outcome,
        });
        self.next_seq += 1;
        open.logs += executed.outcome.logs.len() as u32;
        open.txs.push(executed.clone());
        Ok(executed)
    }

    /// Closes the open block; everything of its header but the state root follows from the answer.
    pub(crate) fn close(&mut self) -> anyhow::Result<ClosedBlock> {
        let Open { context, txs, gas_used, .. } = self.open.take().context("no block is open")?;
        let spec_id = self.spec.parameters(&context).spec_id;
        let requests = if spec_id.is_enabled_in(SpecId::PRAGUE) {
            let deposit_contract = self.spec.deposit_contract;
            let deposits =
                txs.iter().flat_map(|tx| &tx.outcome.logs).any(|log| log.address == deposit_contract);
            if deposits {
                bail!(
                    "deposit requests (type {DEPOSIT_REQUEST_TYPE}) are L1's alone: this journal is not a sequencer's"
                );
            }
            let mut requests = Vec::new();
            for (contract, kind) in [
                (WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE),
                (CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE),
            ] {
                let output = self.system_call(&context, contract, Bytes::new())?.unwrap_or_default();
                if !output.is_empty() {
                    requests.push(Bytes::from([&[kind], &output[..]].concat()));
                }
            }
            Some(requests)
        } else {
            None
        };
        let blob_gas_used = spec_id.is_enabled_in(SpecId::CANCUN).then_some(0);
        Ok(ClosedBlock {
            context,
            txs,
            gas_used,
            blob_gas_used,
            requests,
            delta: StateDelta::default(),
            state_version: 0,
            last_mini_block: None,
        })
    }

    /// The state root, by building the whole trie anew.
    pub(crate) fn state_root(&self) -> B256 {
        let accounts = self.db.cache.accounts.iter().filter_map(|(address, account)| {
            let info = &account.info;
            // EIP-161 removes an empty account when it is touched; one that was empty before that fork, or in the genesis,
            // stays until then.
            let untouched = matches!(account.account_state, AccountState::None);
            if matches!(account.account_state, AccountState::NotExisting) || (info.is_empty() && !untouched) {
                return None;
            }
            let slots = account.storage.iter().filter(|(_, value)| !value.is_zero());
            let storage_root =
                storage_root_unsorted(slots.map(|(key, value)| (keccak256(B256::from(*key)), *value)));
            let leaf = TrieAccount {
                nonce: info.nonce,
                balance: info.balance,
                storage_root,
                code_hash: info.code_hash,
            };
            Some((keccak256(address), leaf))
        });
        state_root_unsorted(accounts)
    }
}

fn put(
    db: &mut CacheDB<EmptyDB>,
    address: Address,
    info: &ironlane_types::AccountInfo,
    code: Option<&Bytes>,
) {
    let plain = AccountInfo {
        balance: info.balance,
        nonce: info.nonce,
        code_hash: info.code_hash,
        code: code.map(|code| Bytecode::new_raw(code.clone())),
        ..AccountInfo::default()
    };
    db.insert_account_info(address, plain);
}

fn put_slot(db: &mut CacheDB<EmptyDB>, address: Address, key: U256, value: U256) {
    // An in-memory database over an empty one cannot fail.
    let _ = db.insert_account_storage(address, key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genesis_state_has_the_root_of_its_header() {
        let spec = Arc::new(ChainSpec::dev());
        let chain = PlainChain::genesis(spec.clone());
        assert_eq!(chain.state_root(), spec.genesis.header.state_root);
    }
}
