//! The executor: opens a block, executes transactions in order, seals mini-blocks, closes the block.

use crate::{
    BlockError, BlockHashes, ChainSpec, CodeCache, Engine, ExecuteError, IronEvm, Parameters, StateDb,
    StateStore, StoreError, block_env, cfg_env, convert, direct, system, tx_env,
};
use alloy_consensus::Transaction;
use alloy_primitives::{Address, Bytes};
use ironlane_state::StateWriter;
use ironlane_types::{BlockContext, ClosedBlock, ExecutedTx, Outcome, Reject, StateDelta, Tx};
use revm::{
    context::{
        BlockEnv,
        result::{EVMError, ExecutionResult},
    },
    primitives::hardfork::SpecId,
};
use std::sync::Arc;

/// Transactions whose accounts are fetched together.
const PREFETCH: usize = 16;

/// How an [`Executor`] works; none of it changes a result.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// Take the short cut for plain value transfers.
    pub direct_transfers: bool,
    /// Bytes of analysed bytecode that are kept.
    pub code_cache_bytes: usize,
    /// Sequence number of the next transaction.
    pub next_seq: u64,
    /// What runs bytecode.
    pub engine: Engine,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self { direct_transfers: true, code_cache_bytes: 128 << 20, next_seq: 0, engine: Engine::Interpreter }
    }
}

/// How many transactions went which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecutorStats {
    /// By the short cut for plain transfers.
    pub direct: u64,
    /// By the EVM, interpreted or compiled.
    pub interpreted: u64,
    /// Refused.
    pub refused: u64,
}

/// Executes blocks over a state store that it owns.
///
/// ```text
/// open_block ─► execute* ─► seal_mini_block ─► execute* ─► seal_mini_block ─► … ─► close_block ─► open_block …
/// open_block ─► execute* ─► finish_block ─► commit_block or discard_block       (a foreign block, all or nothing)
/// ```
///
/// Calls out of this order are a mistake of the caller's and panic.
pub struct Executor<S: StateStore = StateWriter> {
    pub(crate) evm: IronEvm<S>,
    pub(crate) spec: Arc<ChainSpec>,
    direct_transfers: bool,
    next_seq: u64,
    stats: ExecutorStats,
    /// Changed accounts of the block before: room for as many is made at once.
    changed_before: usize,
    pub(crate) open: Option<OpenBlock>,
}

/// The block that is being executed.
#[derive(Clone)]
pub(crate) struct OpenBlock {
    pub(crate) context: BlockContext,
    pub(crate) parameters: Parameters,
    txs: Vec<Arc<ExecutedTx>>,
    gas_used: u64,
    blob_gas_used: u64,
    log_count: u32,
    /// What sealed mini-blocks of this block changed.
    flushed: StateDelta,
    sealed: bool,
    /// Post-block changes are made: only commit or discard may follow.
    finished: bool,
    /// For a discard.
    first_seq: u64,
}

impl OpenBlock {
    fn close(self, requests: Option<Vec<Bytes>>, state_version: u64) -> ClosedBlock {
        ClosedBlock {
            context: self.context,
            txs: self.txs,
            gas_used: self.gas_used,
            blob_gas_used: self.parameters.blob.map(|_| self.blob_gas_used),
            requests,
            delta: self.flushed,
            state_version,
            last_mini_block: None,
        }
    }
}

impl<S: StateStore> Executor<S> {
    /// An executor over `store`, which holds the state after the newest block. `hashes` knows the hashes of the last
    /// 256 blocks, the newest one perhaps later.
    pub fn new(spec: Arc<ChainSpec>, store: S, hashes: BlockHashes, config: ExecutorConfig) -> Self {
        let mut db = StateDb::new(store, hashes, CodeCache::new(config.code_cache_bytes));
        db.storage_only = spec.storage_only.clone();
        let parameters = Parameters { spec_id: SpecId::OSAKA, merged: true, blob: None };
        let mut evm = IronEvm::new(db, cfg_env(&spec, &parameters), BlockEnv::default());
        evm.set_engine(&config.engine);
        Self {
            evm,
            spec,
            direct_transfers: config.direct_transfers,
            next_seq: config.next_seq,
            stats: ExecutorStats::default(),
            changed_before: 0,
            open: None,
        }
    }

    /// The chain whose rules hold.
    pub fn spec(&self) -> &Arc<ChainSpec> {
        &self.spec
    }

    /// The state store.
    pub fn store(&self) -> &S {
        &self.evm.db().state
    }

    /// The state store, for what is not execution (a genesis, a snapshot).
    pub fn store_mut(&mut self) -> &mut S {
        assert!(self.open.is_none(), "the store is not to be written beside an open block");
        &mut self.evm.db_mut().state
    }

    /// Gives the store back.
    pub fn into_store(self) -> S {
        assert!(self.open.is_none(), "a block is open");
        self.evm.into_db().state
    }

    /// The handle through which hashes become known.
    pub fn hashes(&self) -> &BlockHashes {
        &self.evm.db().hashes
    }

    /// Sequence number that the next executed transaction gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Counters since the start.
    pub fn stats(&self) -> ExecutorStats {
        self.stats
    }

    /// The open block's context.
    pub fn context(&self) -> Option<&BlockContext> {
        self.open.as_ref().map(|open| &open.context)
    }

    /// Gas that the open block has left (zero when none is open).
    pub fn gas_left(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.context.gas_limit - open.gas_used)
    }

    /// Transactions executed in the open block.
    pub fn tx_count(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.txs.len())
    }

    /// Fetches accounts into the processor's cache: senders and recipients of transactions that come soon.
    pub fn prefetch(&self, addresses: &[Address]) {
        self.evm.db().state.prefetch(addresses);
    }

    /// Fetches the senders and receivers of transactions that come soon. A batch of 8 to 32 hides most of the memory's
    /// latency.
    pub fn prefetch_transactions(&self, txs: &[Arc<Tx>]) {
        let mut addresses = [Address::ZERO; 2 * PREFETCH];
        for chunk in txs.chunks(PREFETCH) {
            let mut count = 0;
            for tx in chunk {
                for address in [Some(tx.sender), tx.envelope.to()].into_iter().flatten() {
                    addresses[count] = address;
                    count += 1;
                }
            }
            self.prefetch(&addresses[..count]);
        }
    }

    /// Opens a block: makes its environment and runs the system calls before its transactions (EIP-2935, EIP-4788).
    /// Its parent's hash may still be unknown. After an error no block is open and nothing changed.
    pub fn open_block(&mut self, context: BlockContext) -> Result<(), BlockError> {
        self.open_bare(context)?;
        system::before_transactions(self).inspect_err(|_| self.discard_block())
    }

    /// As [`Self::open_block`] without system calls: the environment that a state test runs one transaction in.
    pub(crate) fn open_bare(&mut self, context: BlockContext) -> Result<(), BlockError> {
        assert!(self.open.is_none(), "a block is open already");
        let parameters = self.spec.parameters(&context);
        system::check_context(&context, &parameters)?;
        self.evm.set_block(cfg_env(&self.spec, &parameters), block_env(&context, &parameters));
        self.open = Some(OpenBlock {
            context,
            parameters,
            txs: Vec::new(),
            gas_used: 0,
            blob_gas_used: 0,
            log_count: 0,
            flushed: StateDelta { accounts: Vec::with_capacity(self.changed_before), codes: Vec::new() },
            sealed: false,
            finished: false,
            first_seq: self.next_seq,
        });
        Ok(())
    }

    /// Executes a transaction whose sender is known. Refused: nothing changed.
    pub fn execute(&mut self, tx: Arc<Tx>) -> Result<Arc<ExecutedTx>, Reject> {
        self.try_execute(tx).map_err(|error| error.reject())
    }

    /// As [`Self::execute`], with all details of a refusal.
    pub fn try_execute(&mut self, tx: Arc<Tx>) -> Result<Arc<ExecutedTx>, ExecuteError> {
        self.execute_in_place(tx).inspect_err(|_| self.stats.refused += 1)
    }

    fn execute_in_place(&mut self, tx: Arc<Tx>) -> Result<Arc<ExecutedTx>, ExecuteError> {
        let open = self.open.as_ref().expect("a block is open");
        assert!(!open.finished, "the block is finished");
        let left = open.context.gas_limit - open.gas_used;
        let limit = tx.envelope.gas_limit();
        // A transaction above the whole block's limit gets revm's own answer.
        if limit > left && limit <= open.context.gas_limit {
            return Err(ExecuteError::BlockGas { limit, left });
        }
        let blob_gas = tx.envelope.blob_gas_used().unwrap_or(0);
        if let Some(blob) = open.parameters.blob.filter(|_| blob_gas > 0) {
            let left = blob.max_blob_gas_per_block().saturating_sub(open.blob_gas_used);
            if blob_gas > left {
                return Err(ExecuteError::BlobGas { wanted: blob_gas, left });
            }
        }
        let spec_id = open.parameters.spec_id;
        let direct = if self.direct_transfers && direct::supports(spec_id) {
            direct::transfer(&mut self.evm, &tx)?
        } else {
            None
        };
        let outcome = match direct {
            Some(outcome) => {
                self.stats.direct += 1;
                outcome
            }
            None => {
                let outcome = self.interpret(&tx, spec_id)?;
                self.stats.interpreted += 1;
                outcome
            }
        };
        let open = self.open.as_mut().expect("a block is open");
        open.gas_used += outcome.gas_used;
        open.blob_gas_used += blob_gas;
        let executed = Arc::new(ExecutedTx {
            seq: self.next_seq,
            cumulative_gas_used: open.gas_used,
            index_in_block: open.txs.len() as u32,
            first_log_index: open.log_count,
            tx,
            outcome,
        });
        open.log_count += executed.outcome.logs.len() as u32;
        open.txs.push(executed.clone());
        self.next_seq += 1;
        Ok(executed)
    }

    fn interpret(&mut self, tx: &Tx, spec_id: SpecId) -> Result<Outcome, ExecuteError> {
        let (result, state) = self.evm.transact(tx_env(tx)).map_err(|error| match error {
            EVMError::Transaction(invalid) => ExecuteError::Invalid(invalid),
            EVMError::Database(store) => ExecuteError::Store(store),
            other => ExecuteError::Evm(other.to_string()),
        })?;
        convert::commit(self.evm.db_mut(), spec_id, state)?;
        let gas_used = result.tx_gas_used();
        let effective_gas_price = tx.envelope.effective_gas_price(Some(self.evm.block().basefee));
        let contract_address = result.created_address();
        let (success, logs) = match result {
            ExecutionResult::Success { logs, .. } => (true, logs),
            // What a failed transaction logged is undone with the rest of it.
            ExecutionResult::Revert { .. } | ExecutionResult::Halt { .. } => (false, Vec::new()),
        };
        Ok(Outcome { success, gas_used, effective_gas_price, logs, contract_address })
    }

    /// Publishes what was executed since the last call: one version of the state. Answers its number.
    pub fn seal_mini_block(&mut self) -> Result<u64, BlockError> {
        let open = self.open.as_ref().expect("a block is open");
        assert!(!open.finished, "the block is finished");
        // The parent's hash may have come meanwhile; then this version already shows it.
        self.evm.db_mut().settle_history(false)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<u64, BlockError> {
        let open = self.open.as_mut().expect("a block is open");
        let db = self.evm.db_mut();
        let delta = db.writes.take();
        db.state.apply(&delta).map_err(|e| BlockError::Apply(e.to_string()))?;
        open.flushed.extend(delta);
        open.sealed = true;
        Ok(db.state.seal())
    }

    /// Ends the block: post-block changes (withdrawals, rewards, requests), the last version. Waits for the parent's
    /// hash where the block needs it.
    pub fn close_block(&mut self) -> Result<ClosedBlock, BlockError> {
        let requests = self.finish()?;
        let state_version = self.flush()?;
        let open = self.open.take().expect("a block is open");
        self.changed_before = open.flushed.accounts.len();
        Ok(open.close(requests, state_version))
    }

    /// Ends the block without publishing anything: [`Self::commit_block`] or [`Self::discard_block`] must follow.
    /// `state_version` is the version that committing publishes.
    pub fn finish_block(&mut self) -> Result<ClosedBlock, BlockError> {
        let requests = self.finish()?;
        let mut whole = self.open.as_ref().expect("a block is open").clone();
        whole.flushed.extend(self.evm.db().writes.delta());
        Ok(whole.close(requests, self.evm.db().state.version()))
    }

    fn finish(&mut self) -> Result<Option<Vec<Bytes>>, BlockError> {
        assert!(!self.open.as_ref().expect("a block is open").finished, "the block is finished");
        self.evm.db_mut().settle_history(true)?;
        let requests = system::after_transactions(self)?;
        self.open.as_mut().expect("a block is open").finished = true;
        Ok(requests)
    }

    /// Publishes a finished block; answers the version.
    pub fn commit_block(&mut self) -> Result<u64, BlockError> {
        assert!(self.open.as_ref().is_some_and(|open| open.finished), "a block is finished");
        let version = self.flush()?;
        self.open = None;
        Ok(version)
    }

    /// Forgets the open block, finished or not. Only while no mini-block of it was sealed.
    pub fn discard_block(&mut self) {
        let open = self.open.take().expect("a block is open");
        assert!(!open.sealed, "a sealed mini-block cannot be taken back");
        let db = self.evm.db_mut();
        db.writes.clear();
        db.history = None;
        self.next_seq = open.first_seq;
    }

    /// What the open block changed so far and did not seal, without forgetting it. Before Byzantium a receipt holds the
    /// state root after its transaction.
    pub(crate) fn pending_delta(&self) -> StateDelta {
        self.evm.db().writes.delta()
    }

    pub(crate) fn executed(&self) -> &[Arc<ExecutedTx>] {
        self.open.as_ref().map_or(&[], |open| &open.txs)
    }
}

impl<S: StateStore> std::fmt::Debug for Executor<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor")
            .field("next_seq", &self.next_seq)
            .field("open", &self.context())
            .finish_non_exhaustive()
    }
}

/// A failed read while a block is open is the block's failure.
impl From<EVMError<StoreError>> for BlockError {
    fn from(error: EVMError<StoreError>) -> Self {
        match error {
            EVMError::Database(store) => Self::Store(store),
            other => Self::Evm(other.to_string()),
        }
    }
}
