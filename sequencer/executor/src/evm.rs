//! revm's mainnet EVM over our store, with the one rule that revm leaves to its database: EIP-7610.

use crate::{StateDb, StateRead, StoreError, engine};
use alloy_primitives::{Address, Bytes, TxKind};
use ironlane_jit::tier::Runner;
use revm::{
    Context, MainBuilder, MainnetEvm,
    context::{
        BlockEnv, CfgEnv, ContextSetters, ContextTr, FrameStack, Journal, JournalTr, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    handler::{
        EthFrame, EthPrecompiles, EvmTr, FrameInitOrResult, FrameResult, Handler, ItemOrResult,
        MainnetHandler, SYSTEM_ADDRESS,
        evm::{ContextDbError, FrameInitResult},
        instructions::EthInstructions,
    },
    interpreter::{FrameInput, interpreter::EthInterpreter, interpreter_action::FrameInit},
    state::EvmState,
};

/// revm's context over a [`StateDb`].
pub type EvmContext<R> = Context<BlockEnv, TxEnv, CfgEnv, StateDb<R>, Journal<StateDb<R>>, ()>;
pub(crate) type Inner<R> = MainnetEvm<EvmContext<R>>;
type Error = EVMError<StoreError, InvalidTransaction>;

/// Gas of a system call (EIP-2935, EIP-4788, EIP-7002, EIP-7251): not taken from the block's.
const SYSTEM_CALL_GAS: u64 = 30_000_000;

/// The EVM that executes and simulates. One instance is reused from transaction to transaction.
///
/// It differs from revm's mainnet EVM in one point: creating a contract at an address that has storage, but neither
/// code nor nonce, fails as EIP-7610 says.
pub struct IronEvm<R: StateRead> {
    inner: Inner<R>,
    /// `None`: the interpreter runs everything.
    runner: Option<Box<Runner>>,
}

impl<R: StateRead> IronEvm<R> {
    /// An EVM with these rules and this block over `db`.
    pub fn new(db: StateDb<R>, cfg: CfgEnv, block: BlockEnv) -> Self {
        let mut context: EvmContext<R> = Context::new(db, cfg.spec);
        context.block = block;
        context.modify_cfg(|own| *own = cfg);
        Self { inner: context.build_mainnet(), runner: None }
    }

    /// Says what runs bytecode from the next frame on; the interpreter before the first call.
    pub fn set_engine(&mut self, engine: &crate::Engine) {
        self.runner = engine.runner();
    }

    /// What it reads from.
    pub fn db(&self) -> &StateDb<R> {
        self.inner.ctx.db()
    }

    /// What it reads from.
    pub fn db_mut(&mut self) -> &mut StateDb<R> {
        self.inner.ctx.db_mut()
    }

    /// Gives back what it reads from.
    pub fn into_db(self) -> StateDb<R> {
        self.inner.ctx.journaled_state.database
    }

    /// revm's context: configuration, block, journal.
    pub fn context(&mut self) -> &mut EvmContext<R> {
        &mut self.inner.ctx
    }

    /// The block that transactions run in.
    pub(crate) fn block(&self) -> &BlockEnv {
        &self.inner.ctx.block
    }

    /// The rules that transactions run by.
    pub(crate) fn cfg(&self) -> &CfgEnv {
        &self.inner.ctx.cfg
    }

    /// Whether calling the address runs a precompiled contract.
    pub(crate) fn is_precompile(&self, address: &Address) -> bool {
        self.inner.precompiles.contains(address)
    }

    /// Changes rules and block.
    pub fn set_block(&mut self, cfg: CfgEnv, block: BlockEnv) {
        let spec = cfg.spec;
        if self.inner.ctx.cfg.spec != spec {
            self.inner.instruction = EthInstructions::new_mainnet_with_spec(spec);
            self.inner.precompiles = EthPrecompiles::new(spec);
            // The journal keeps the precompiles of the old rules warm otherwise.
            let warm = self.inner.precompiles.warm_addresses().clone();
            self.inner.ctx.journal_mut().warm_precompiles(&warm);
        }
        self.inner.ctx.modify_cfg(|own| *own = cfg);
        self.inner.ctx.set_block(block);
    }

    /// Runs a transaction: its result, and what it changed (nothing of it is written yet). On an error the EVM is as
    /// before.
    pub fn transact(&mut self, tx: TxEnv) -> Result<(ExecutionResult<HaltReason>, EvmState), Error> {
        self.inner.ctx.set_tx(tx);
        let result = MainnetHandler::<Self, Error, EthFrame<EthInterpreter>>::default().run(self);
        let state = self.inner.ctx.journal_mut().finalize();
        Ok((result?, state))
    }

    /// Calls a system contract as the system address, outside of gas accounting.
    pub fn system_call(
        &mut self,
        contract: Address,
        input: Bytes,
    ) -> Result<(ExecutionResult<HaltReason>, EvmState), Error> {
        self.inner.ctx.set_tx(TxEnv {
            caller: SYSTEM_ADDRESS,
            gas_limit: SYSTEM_CALL_GAS,
            gas_price: 0,
            kind: TxKind::Call(contract),
            data: input,
            ..Default::default()
        });
        let result = MainnetHandler::<Self, Error, EthFrame<EthInterpreter>>::default().run_system_call(self);
        let state = self.inner.ctx.journal_mut().finalize();
        Ok((result?, state))
    }

    /// The address that a create frame will make a contract at, if creating there must fail for its storage alone.
    fn storage_collision(
        &mut self,
        frame: &FrameInit,
    ) -> Result<Option<Address>, ContextDbError<EvmContext<R>>> {
        let FrameInput::Create(inputs) = &frame.frame_input else { return Ok(None) };
        let journal = self.inner.ctx.journal_mut();
        let caller = journal.load_account(inputs.caller())?.data.info.clone();
        // These fail earlier, before the address is touched.
        if frame.depth > 1024 || caller.balance < inputs.value() || caller.nonce == u64::MAX {
            return Ok(None);
        }
        let address = inputs.created_address(caller.nonce);
        if !self.inner.ctx.db().has_only_storage(&address)? {
            return Ok(None);
        }
        let target = &self.inner.ctx.journal_mut().load_account(address)?.data.info;
        Ok((target.nonce == 0 && target.is_empty_code_hash()).then_some(address))
    }
}

impl<R: StateRead> EvmTr for IronEvm<R> {
    type Context = EvmContext<R>;
    type Instructions = EthInstructions<EthInterpreter, EvmContext<R>>;
    type Precompiles = EthPrecompiles;
    type Frame = EthFrame<EthInterpreter>;

    #[inline]
    fn all(&self) -> (&Self::Context, &Self::Instructions, &Self::Precompiles, &FrameStack<Self::Frame>) {
        self.inner.all()
    }

    #[inline]
    fn all_mut(
        &mut self,
    ) -> (&mut Self::Context, &mut Self::Instructions, &mut Self::Precompiles, &mut FrameStack<Self::Frame>)
    {
        self.inner.all_mut()
    }

    #[inline]
    fn frame_init(
        &mut self,
        frame: FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Self::Context>> {
        if self.inner.ctx.db().storage_only.is_empty() {
            return self.inner.frame_init(frame);
        }
        let Some(address) = self.storage_collision(&frame)? else { return self.inner.frame_init(frame) };
        // revm sees a collision by nonce or code; for the length of this check the account has a nonce.
        self.set_nonce(address, 1);
        let result = match self.inner.frame_init(frame)? {
            ItemOrResult::Result(result) => result,
            ItemOrResult::Item(_) => {
                return Err(ContextDbError::<Self::Context>::Custom(
                    "a collision did not stop a create frame".into(),
                ));
            }
        };
        self.set_nonce(address, 0);
        Ok(ItemOrResult::Result(result))
    }

    #[inline]
    fn frame_run(&mut self) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        match &mut self.runner {
            None => self.inner.frame_run(),
            Some(runner) => engine::frame_run(&mut self.inner, runner),
        }
    }

    #[inline]
    fn frame_return_result(
        &mut self,
        result: FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<Self::Context>> {
        self.inner.frame_return_result(result)
    }
}

impl<R: StateRead> IronEvm<R> {
    fn set_nonce(&mut self, address: Address, nonce: u64) {
        if let Some(account) = self.inner.ctx.journal_mut().inner.state.get_mut(&address) {
            account.info.nonce = nonce;
        }
    }
}
