//! Calls that are executed and forgotten: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.
//!
//! A [`Simulator`] runs a request over one version of the state, as a block would, with three differences that make it
//! useful to ask: the sender needs no key and may be a contract, its nonce is not checked, and where no price is
//! offered the base fee is zero. Every run is bounded in gas, time and memory by [`SimulateLimits`].

use crate::simulate_evm::{SimulateEvm, Stop};
use crate::{BlockHashes, ChainSpec, CodeCache, StateDb, StateRead, StoreError, block_env, cfg_env};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256, keccak256};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest, state::StateOverride};
use ironlane_types::{AccountInfo, BlockContext, KECCAK_EMPTY};
use revm::{
    context::{
        BlockEnv, CfgEnv, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    context_interface::{block::BlobExcessGasAndPrice, either::Either},
    primitives::hardfork::SpecId,
    state::EvmState,
};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// Gas of a plain transfer: no transaction costs less.
const TRANSFER_GAS: u64 = 21_000;
/// What a call with value hands its callee for free.
const CALL_STIPEND: u64 = 2_300;
/// An estimate may be above the least possible by this part of itself (geth's figure).
const ESTIMATE_ERROR_RATIO: f64 = 0.015;
/// Rounds in which an access list must come to rest.
const ACCESS_LIST_ROUNDS: usize = 16;

/// How much one question may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulateLimits {
    /// Gas of one run.
    pub gas: u64,
    /// Time of all runs that the question needs.
    pub time: Duration,
    /// EVM memory of all frames together, in bytes. Looked at whenever a frame begins.
    pub memory_bytes: u64,
}

/// A request with what it changes before it runs.
#[derive(Debug, Clone, Default)]
pub struct Simulation {
    /// The transaction.
    pub request: TransactionRequest,
    /// Accounts as they should be.
    pub state: Option<StateOverride>,
    /// The block as it should be.
    pub block: Option<BlockOverrides>,
}

/// A run that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOutcome {
    /// What was returned; the code of the new contract for a create.
    pub output: Bytes,
    /// Gas charged.
    pub gas_used: u64,
    /// Logs, in order.
    pub logs: Vec<Log>,
}

/// What an access list comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessListOutcome {
    /// Everything that the transaction touches and that is not warm anyway.
    pub access_list: AccessList,
    /// Gas charged with that list.
    pub gas_used: u64,
    /// Why the transaction fails, if it does.
    pub error: Option<String>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    /// The request contradicts itself.
    #[error("{0}")]
    Request(String),
    /// The protocol forbids the transaction here.
    #[error("{0}")]
    Invalid(String),
    /// The contract reverted, with this output.
    #[error("execution reverted")]
    Reverted(Bytes),
    /// The EVM stopped: out of gas, invalid opcode, …
    #[error("{0}")]
    Halted(String),
    /// No amount of gas up to this is enough.
    #[error("gas required exceeds allowance ({0})")]
    GasRequired(u64),
    /// The time was up.
    #[error("execution aborted (timeout = {0:?})")]
    Timeout(Duration),
    /// The frames' memory together was above the limit.
    #[error("execution aborted (EVM memory above {0} bytes)")]
    Memory(u64),
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// revm reported what it should never report.
    #[error("the EVM failed: {0}")]
    Evm(String),
}

/// Runs requests of one chain. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Simulator {
    spec: Arc<ChainSpec>,
    hashes: BlockHashes,
    codes: CodeCache,
}

type Result<T> = std::result::Result<T, SimulateError>;

impl Simulator {
    /// `hashes` must be closed ([`BlockHashes::close`]): a question never waits for a block that is to come.
    pub fn new(spec: Arc<ChainSpec>, hashes: BlockHashes, codes: CodeCache) -> Self {
        Self { spec, hashes, codes }
    }

    /// Runs a request over `state` in the block that `context` describes.
    pub fn call(
        &self,
        state: impl StateRead,
        context: &BlockContext,
        simulation: &Simulation,
        limits: &SimulateLimits,
    ) -> Result<CallOutcome> {
        let mut run = self.prepare(state, context, simulation, limits)?;
        run.lift_gas_cap();
        let gas = simulation.request.gas.unwrap_or(u64::MAX).min(limits.gas).min(run.block_gas_limit);
        let (result, _) = run.transact(gas, None)?;
        let gas_used = result.tx_gas_used();
        match result {
            ExecutionResult::Success { output, logs, .. } => {
                Ok(CallOutcome { output: output.into_data(), gas_used, logs })
            }
            ExecutionResult::Revert { output, .. } => Err(SimulateError::Reverted(output)),
            ExecutionResult::Halt { reason, .. } => Err(SimulateError::Halted(halt_text(&reason))),
        }
    }

    /// The least gas limit, within 1.5%, with which the request succeeds.
    pub fn estimate_gas(
        &self,
        state: impl StateRead,
        context: &BlockContext,
        simulation: &Simulation,
        limits: &SimulateLimits,
    ) -> Result<u64> {
        let mut run = self.prepare(state, context, simulation, limits)?;
        let mut high = match simulation.request.gas {
            Some(gas) if gas >= TRANSFER_GAS => gas,
            _ => run.block_gas_limit,
        };
        high = high.min(limits.gas).min(run.block_gas_limit).min(run.tx_gas_cap);
        high = run.affordable(high)?;
        if run.is_plain_transfer()? && high >= TRANSFER_GAS {
            let (result, _) = run.transact(TRANSFER_GAS, None)?;
            if result.is_success() {
                return Ok(TRANSFER_GAS);
            }
        }
        let first = match run.transact(high, None) {
            Ok((result, _)) => result,
            // The intrinsic gas alone is above the allowance.
            Err(SimulateError::Invalid(text)) if is_gas_text(&text) => {
                return Err(SimulateError::GasRequired(high));
            }
            Err(error) => return Err(error),
        };
        let (spent, used) = match &first {
            ExecutionResult::Success { gas, .. } => (gas.total_gas_spent(), first.tx_gas_used()),
            ExecutionResult::Revert { output, .. } => return Err(SimulateError::Reverted(output.clone())),
            ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => {
                return Err(SimulateError::GasRequired(high));
            }
            ExecutionResult::Halt { reason, .. } => return Err(SimulateError::Halted(halt_text(reason))),
        };
        let mut low = used.saturating_sub(1);
        // Most need what they spent, plus what a call must hold back (EIP-150) and a stipend.
        let likely = (spent + CALL_STIPEND).saturating_mul(64) / 63;
        if likely < high {
            if run.succeeds(likely)? { high = likely } else { low = low.max(likely) }
        }
        while low + 1 < high {
            if (high - low) as f64 / (high as f64) < ESTIMATE_ERROR_RATIO {
                break;
            }
            // Most estimates are near the low end: do not look far above it.
            let middle = (low + (high - low) / 2).min(low.saturating_mul(2).max(low + 1));
            if run.succeeds(middle)? { high = middle } else { low = middle }
        }
        Ok(high)
    }

    /// The access list that the request would use, and the gas with it.
    pub fn create_access_list(
        &self,
        state: impl StateRead,
        context: &BlockContext,
        simulation: &Simulation,
        limits: &SimulateLimits,
    ) -> Result<AccessListOutcome> {
        let mut run = self.prepare(state, context, simulation, limits)?;
        run.lift_gas_cap();
        let gas = simulation.request.gas.unwrap_or(u64::MAX).min(limits.gas).min(run.block_gas_limit);
        let mut list = simulation.request.access_list.clone().unwrap_or_default();
        let mut round = 0;
        loop {
            let (result, touched) = run.transact(gas, Some(list.clone()))?;
            let next = run.access_list(&touched);
            round += 1;
            if next == list || round == ACCESS_LIST_ROUNDS {
                let error = match &result {
                    ExecutionResult::Success { .. } => None,
                    ExecutionResult::Revert { .. } => Some("execution reverted".to_string()),
                    ExecutionResult::Halt { reason, .. } => Some(halt_text(reason)),
                };
                return Ok(AccessListOutcome { access_list: next, gas_used: result.tx_gas_used(), error });
            }
            list = next;
        }
    }

    fn prepare<R: StateRead>(
        &self,
        state: R,
        context: &BlockContext,
        simulation: &Simulation,
        limits: &SimulateLimits,
    ) -> Result<Run<R>> {
        let parameters = self.spec.parameters(context);
        let mut db = StateDb::new(state, self.hashes.clone(), self.codes.clone());
        db.storage_only = self.spec.storage_only.clone();
        if let Some(overrides) = &simulation.state {
            override_state(&mut db, overrides)?;
        }
        let mut cfg = cfg_env(&self.spec, &parameters);
        cfg.disable_nonce_check = true;
        let mut block = block_env(context, &parameters);
        if let Some(overrides) = &simulation.block {
            override_block(&mut block, overrides, &cfg)?;
        }
        let tx = self.tx_env(&simulation.request, &db)?;
        if tx.gas_price == 0 {
            // Who offers nothing is not refused, and sees a base fee of zero.
            block.basefee = 0;
        }
        let tx_gas_cap = if parameters.spec_id.is_enabled_in(SpecId::OSAKA) { 1 << 24 } else { u64::MAX };
        let block_gas_limit = block.gas_limit;
        let evm = SimulateEvm::new(db, cfg, block, Instant::now() + limits.time, limits.memory_bytes);
        Ok(Run { evm, tx, block_gas_limit, tx_gas_cap, limits: *limits })
    }

    fn tx_env<R: StateRead>(&self, request: &TransactionRequest, db: &StateDb<R>) -> Result<TxEnv> {
        let wrong = |text: &str| Err(SimulateError::Request(text.into()));
        let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
        if dynamic && request.gas_price.is_some() {
            return wrong("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified");
        }
        if let Some(id) = request.chain_id.filter(|id| *id != self.spec.chain_id) {
            return wrong(&format!("chainId does not match node's (have={id}, want={})", self.spec.chain_id));
        }
        let data = match (&request.input.input, &request.input.data) {
            (Some(input), Some(data)) if input != data => {
                return wrong("both \"data\" and \"input\" are set and not equal: use \"input\"");
            }
            (input, data) => input.as_ref().or(data.as_ref()).cloned().unwrap_or_default(),
        };
        let blob_hashes = request.blob_versioned_hashes.clone().unwrap_or_default();
        let authorizations = request.authorization_list.clone().unwrap_or_default();
        let tx_type = if !authorizations.is_empty() {
            4
        } else if !blob_hashes.is_empty() {
            3
        } else if dynamic {
            2
        } else {
            u8::from(request.access_list.is_some())
        };
        let caller = request.from.unwrap_or_default();
        let nonce = match request.nonce {
            Some(nonce) => nonce,
            None => db.account(&caller)?.map_or(0, |info| info.nonce),
        };
        Ok(TxEnv {
            tx_type,
            caller,
            gas_limit: 0,
            gas_price: request.gas_price.or(request.max_fee_per_gas).unwrap_or(0),
            kind: request.to.unwrap_or(TxKind::Create),
            value: request.value.unwrap_or_default(),
            data,
            nonce,
            chain_id: Some(self.spec.chain_id),
            access_list: request.access_list.clone().unwrap_or_default(),
            gas_priority_fee: (tx_type >= 2).then(|| request.max_priority_fee_per_gas.unwrap_or(0)),
            blob_hashes,
            max_fee_per_blob_gas: request.max_fee_per_blob_gas.unwrap_or(0),
            authorization_list: authorizations.into_iter().map(Either::Left).collect(),
        })
    }
}

/// A request ready to be run, more than once if need be.
struct Run<R: StateRead> {
    evm: SimulateEvm<R>,
    tx: TxEnv,
    block_gas_limit: u64,
    /// EIP-7825.
    tx_gas_cap: u64,
    limits: SimulateLimits,
}

impl<R: StateRead> Run<R> {
    /// A question may use more gas than a transaction could.
    fn lift_gas_cap(&mut self) {
        self.evm.change_cfg(|cfg| cfg.tx_gas_limit_cap = Some(u64::MAX));
    }

    fn transact(
        &mut self,
        gas: u64,
        list: Option<AccessList>,
    ) -> Result<(ExecutionResult<HaltReason>, EvmState)> {
        let mut tx = self.tx.clone();
        tx.gas_limit = gas;
        if let Some(list) = list {
            tx.tx_type = tx.tx_type.max(1);
            tx.access_list = list;
        }
        let caller = tx.caller;
        let price = tx.gas_price;
        self.evm.transact(tx).map_err(|error| match (self.evm.stopped(), error) {
            (Some(Stop::Time), _) => SimulateError::Timeout(self.limits.time),
            (Some(Stop::Memory), _) => SimulateError::Memory(self.limits.memory_bytes),
            (None, EVMError::Transaction(invalid)) => {
                SimulateError::Invalid(invalid_text(&invalid, caller, price))
            }
            (None, EVMError::Database(store)) => SimulateError::Store(store),
            (None, other) => SimulateError::Evm(other.to_string()),
        })
    }

    fn succeeds(&mut self, gas: u64) -> Result<bool> {
        match self.transact(gas, None) {
            Ok((result, _)) => Ok(result.is_success()),
            Err(SimulateError::Invalid(text)) if is_gas_text(&text) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `gas`, or less if the sender cannot pay for so much at the price that it offers.
    fn affordable(&mut self, gas: u64) -> Result<u64> {
        if self.tx.gas_price == 0 {
            return Ok(gas);
        }
        let balance = self.evm.db().account(&self.tx.caller)?.unwrap_or_default().balance;
        let Some(available) = balance.checked_sub(self.tx.value) else {
            return Err(SimulateError::Invalid("insufficient funds for transfer".into()));
        };
        let allowance = available / U256::from(self.tx.gas_price);
        Ok(u64::try_from(allowance).unwrap_or(u64::MAX).min(gas))
    }

    fn is_plain_transfer(&mut self) -> Result<bool> {
        let TxKind::Call(to) = self.tx.kind else { return Ok(false) };
        let bare = self.tx.data.is_empty() && self.tx.tx_type < 3 && self.tx.access_list.is_empty();
        if !bare || self.evm.is_precompile(&to) {
            return Ok(false);
        }
        let info = self.evm.db().account(&to)?;
        Ok(info.is_none_or(|info| info.code_hash == KECCAK_EMPTY))
    }

    /// What was touched, but for what every transaction finds warm without naming it.
    fn access_list(&self, touched: &EvmState) -> AccessList {
        let created = match self.tx.kind {
            TxKind::Call(to) => to,
            TxKind::Create => self.tx.caller.create(self.tx.nonce),
        };
        let beneficiary = self.evm.beneficiary();
        let mut items = Vec::new();
        for address in touched.keys().collect::<BTreeSet<_>>() {
            let keys: BTreeSet<U256> = touched[address].storage.keys().copied().collect();
            let warm =
                [self.tx.caller, created, beneficiary].contains(address) || self.evm.is_precompile(address);
            if warm && keys.is_empty() {
                continue;
            }
            let storage_keys = keys.into_iter().map(B256::from).collect();
            items.push(AccessListItem { address: *address, storage_keys });
        }
        AccessList(items)
    }
}

fn override_state<R: StateRead>(db: &mut StateDb<R>, overrides: &StateOverride) -> Result<()> {
    for (address, change) in overrides {
        if change.state.is_some() && change.state_diff.is_some() {
            return Err(SimulateError::Request(format!(
                "account {address} has both 'state' and 'stateDiff'"
            )));
        }
        if change.move_precompile_to.is_some() {
            return Err(SimulateError::Request(
                "movePrecompileToAddress is not supported: override the code of another address instead"
                    .into(),
            ));
        }
        let known = db.account(address)?;
        let mut info = known.unwrap_or(AccountInfo { code_hash: KECCAK_EMPTY, ..AccountInfo::default() });
        info.balance = change.balance.unwrap_or(info.balance);
        info.nonce = change.nonce.unwrap_or(info.nonce);
        if let Some(code) = &change.code {
            info.code_hash = if code.is_empty() { KECCAK_EMPTY } else { keccak256(code) };
            db.writes.add_code(info.code_hash, code.clone());
        }
        if change.state.is_some() {
            db.writes.wipe_storage(*address);
        }
        db.writes.set_account(*address, info);
        for (key, value) in change.state.iter().chain(&change.state_diff).flatten() {
            db.writes.set_slot(*address, (*key).into(), (*value).into());
        }
    }
    Ok(())
}

fn override_block(block: &mut BlockEnv, overrides: &BlockOverrides, cfg: &CfgEnv) -> Result<()> {
    block.number = overrides.number.unwrap_or(block.number);
    block.difficulty = overrides.difficulty.unwrap_or(block.difficulty);
    block.timestamp = overrides.time.map_or(block.timestamp, U256::from);
    block.gas_limit = overrides.gas_limit.unwrap_or(block.gas_limit);
    block.beneficiary = overrides.coinbase.unwrap_or(block.beneficiary);
    block.prevrandao = overrides.random.or(block.prevrandao);
    if let Some(fee) = overrides.base_fee {
        block.basefee = u64::try_from(fee)
            .map_err(|_| SimulateError::Request("the base fee override does not fit in 64 bits".into()))?;
    }
    if let Some(fee) = overrides.blob_base_fee {
        let fee = u128::try_from(fee).map_err(|_| {
            SimulateError::Request("the blob base fee override does not fit in 128 bits".into())
        })?;
        let fraction = cfg.blob_base_fee_update_fraction.unwrap_or(1);
        let mut blob = BlobExcessGasAndPrice::new(0, fraction);
        blob.blob_gasprice = fee;
        block.blob_excess_gas_and_price = Some(blob);
    }
    Ok(())
}

/// Whether more gas could have helped.
fn is_gas_text(text: &str) -> bool {
    text.starts_with("intrinsic gas too low") || text.starts_with("insufficient gas for floor data gas cost")
}

/// geth's words.
fn invalid_text(invalid: &InvalidTransaction, caller: Address, price: u128) -> String {
    use InvalidTransaction as T;
    match invalid {
        T::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: address {caller} have {balance} want {fee}")
        }
        T::GasPriceLessThanBasefee => {
            format!("max fee per gas less than block base fee: address {caller}, maxFeePerGas: {price}")
        }
        T::PriorityFeeGreaterThanMaxFee => {
            format!(
                "max priority fee per gas higher than max fee per gas: address {caller}, maxFeePerGas: {price}"
            )
        }
        T::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        T::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
            format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}")
        }
        T::NonceOverflowInTransaction => format!("nonce has max value: address {caller}"),
        T::CreateInitCodeSizeLimit => "max initcode size exceeded".into(),
        other => other.to_string(),
    }
}

/// geth's words where it has some.
fn halt_text(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas".into(),
        HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode => "invalid opcode".into(),
        HaltReason::InvalidJump => "invalid jump destination".into(),
        HaltReason::StackUnderflow => "stack underflow".into(),
        HaltReason::StackOverflow => "stack limit reached 1024".into(),
        HaltReason::CreateCollision => "contract address collision".into(),
        HaltReason::NonceOverflow => "nonce uint64 overflow".into(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".into(),
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".into(),
        HaltReason::OutOfFunds => "insufficient balance for transfer".into(),
        HaltReason::CallTooDeep => "max call depth exceeded".into(),
        other => format!("execution halted: {other:?}"),
    }
}
