//! The EVM of simulations: ours, but it looks at the clock and at its memory whenever a frame begins, and lets a contract
//! be the sender.
//!
//! Between two frames gas alone is the bound: with 50 million gas a frame runs for a fraction of a second, and its
//! memory stays below 6 MiB (its price grows with the square).

use crate::{IronEvm, StateDb, StateRead, StoreError};
use alloy_primitives::Address;
use revm::{
    context::{
        BlockEnv, CfgEnv, ContextSetters, ContextTr, FrameStack, JournalTr, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    context_interface::{LocalContextTr, Transaction, journaled_state::account::JournaledAccountTr},
    handler::{
        EthFrame, EvmTr, FrameInitOrResult, FrameResult, Handler,
        evm::{ContextDbError, FrameInitResult},
        pre_execution::calculate_caller_fee,
    },
    interpreter::{InitialAndFloorGas, interpreter::EthInterpreter, interpreter_action::FrameInit},
    state::EvmState,
};
use std::marker::PhantomData;
use std::time::Instant;

type Error = EVMError<StoreError, InvalidTransaction>;

/// Why a run was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Time,
    Memory,
}

/// See the file's introduction.
pub(crate) struct SimulateEvm<R: StateRead> {
    inner: IronEvm<R>,
    deadline: Instant,
    memory_bytes: u64,
    stopped: Option<Stop>,
}

impl<R: StateRead> SimulateEvm<R> {
    pub(crate) fn new(
        db: StateDb<R>,
        cfg: CfgEnv,
        block: BlockEnv,
        deadline: Instant,
        memory_bytes: u64,
    ) -> Self {
        Self { inner: IronEvm::new(db, cfg, block), deadline, memory_bytes, stopped: None }
    }

    pub(crate) fn db(&self) -> &StateDb<R> {
        self.inner.db()
    }

    pub(crate) fn is_precompile(&self, address: &Address) -> bool {
        self.inner.is_precompile(address)
    }

    pub(crate) fn beneficiary(&self) -> Address {
        self.inner.block().beneficiary
    }

    pub(crate) fn change_cfg(&mut self, change: impl FnOnce(&mut CfgEnv)) {
        self.inner.context().modify_cfg(change);
    }

    /// Why the last run was ended from outside, if it was.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.stopped
    }

    /// Runs a transaction; nothing of it is written.
    pub(crate) fn transact(&mut self, tx: TxEnv) -> Result<(ExecutionResult<HaltReason>, EvmState), Error> {
        self.stopped = None;
        self.inner.context().set_tx(tx);
        let result = SimulateHandler(PhantomData).run(self);
        let state = self.inner.context().journal_mut().finalize();
        Ok((result?, state))
    }

    fn check_limits(&mut self) -> Result<(), ContextDbError<<Self as EvmTr>::Context>> {
        let memory = self.inner.ctx_ref().local().shared_memory_buffer().borrow().len() as u64;
        if memory > self.memory_bytes {
            self.stopped = Some(Stop::Memory);
        } else if Instant::now() >= self.deadline {
            self.stopped = Some(Stop::Time);
        } else {
            return Ok(());
        }
        Err(ContextDbError::<<Self as EvmTr>::Context>::Custom(
            "a limit of the simulation was reached".into(),
        ))
    }
}

impl<R: StateRead> EvmTr for SimulateEvm<R> {
    type Context = <IronEvm<R> as EvmTr>::Context;
    type Instructions = <IronEvm<R> as EvmTr>::Instructions;
    type Precompiles = <IronEvm<R> as EvmTr>::Precompiles;
    type Frame = EthFrame<EthInterpreter>;

    fn all(&self) -> (&Self::Context, &Self::Instructions, &Self::Precompiles, &FrameStack<Self::Frame>) {
        self.inner.all()
    }

    fn all_mut(
        &mut self,
    ) -> (&mut Self::Context, &mut Self::Instructions, &mut Self::Precompiles, &mut FrameStack<Self::Frame>)
    {
        self.inner.all_mut()
    }

    fn frame_init(
        &mut self,
        frame: FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Self::Context>> {
        self.check_limits()?;
        self.inner.frame_init(frame)
    }

    fn frame_run(&mut self) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        self.inner.frame_run()
    }

    fn frame_return_result(
        &mut self,
        result: FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<Self::Context>> {
        self.inner.frame_return_result(result)
    }
}

/// revm's order of things, without EIP-3607: whoever asks may take the part of a contract.
struct SimulateHandler<R>(PhantomData<R>);

impl<R: StateRead> Handler for SimulateHandler<R> {
    type Evm = SimulateEvm<R>;
    type Error = Error;
    type HaltReason = HaltReason;

    fn validate_against_state_and_deduct_caller(
        &self,
        evm: &mut Self::Evm,
        _gas: &mut InitialAndFloorGas,
    ) -> Result<(), Error> {
        let (block, tx, cfg, journal, _, _) = evm.ctx().all_mut();
        let mut caller = journal.load_account_with_code_mut(tx.caller())?.data;
        let balance = calculate_caller_fee(*caller.balance(), tx, block, cfg)?;
        caller.set_balance(balance);
        if tx.kind().is_call() {
            caller.bump_nonce();
        }
        Ok(())
    }
}
