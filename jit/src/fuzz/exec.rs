//! One case through one engine, and everything that can be seen of it: what two engines are compared by.
//!
//! Engines differ in who runs a frame and in nothing else: validation, fees, frame initialisation and finalisation are
//! revm's own for all of them. The call tree is read where frames suspend and end.

use super::case::Case;
use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256, keccak256};
use revm::{
    Database, MainBuilder, MainnetEvm,
    bytecode::Bytecode,
    context::{Context, FrameStack, TxEnv, result::EVMError},
    context_interface::context::ContextError,
    handler::{
        EthFrame, EthPrecompiles, EvmTr, FrameInitOrResult, FrameResult, FrameTr, Handler, ItemOrResult,
        MainnetContext, MainnetHandler,
        evm::{ContextDbError, FrameInitResult},
        instructions::EthInstructions,
    },
    interpreter::{
        CallScheme, FrameInput, InstructionResult, interpreter::EthInterpreter, interpreter_types::MemoryTr,
    },
    primitives::hardfork::SpecId,
    state::{AccountInfo, AccountStatus},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

/// The context that fuzzed transactions run in.
pub type FuzzContext = MainnetContext<CaseDb>;
/// revm over it.
pub type FuzzEvm = MainnetEvm<FuzzContext>;
/// What one stretch of a frame ends with: a call to make or a result.
pub type FrameStep = Result<FrameInitOrResult<EthFrame<EthInterpreter>>, ContextError<Infallible>>;

/// Who runs frames.
pub trait Engine {
    /// Gets ready for a case: compiles, alters tables. Not called twice for one `run`.
    fn prepare(&mut self, case: &Case, evm: &mut FuzzEvm);
    /// Runs the frame on top of the stack until it suspends or ends.
    fn run_frame(&mut self, evm: &mut FuzzEvm) -> FrameStep;
    /// What went wrong in the engine itself since the last question.
    fn fault(&mut self) -> Option<String> {
        None
    }
}

/// revm's own interpreter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interpreter;

impl Engine for Interpreter {
    fn prepare(&mut self, _case: &Case, _evm: &mut FuzzEvm) {}

    fn run_frame(&mut self, evm: &mut FuzzEvm) -> FrameStep {
        evm.frame_run()
    }
}

/// The interpreter with one entry of its table changed: what a fuzzer that works must find.
#[derive(Debug, Clone, Copy)]
pub struct Altered {
    /// The opcode that is wrong.
    pub opcode: u8,
    /// The opcode whose implementation and gas it has.
    pub behaves_as: u8,
}

impl Engine for Altered {
    fn prepare(&mut self, _case: &Case, evm: &mut FuzzEvm) {
        let (from, to) = (self.behaves_as as usize, self.opcode);
        let instruction = evm.instruction.instruction_table()[from];
        let gas = evm.instruction.gas_table()[from];
        evm.instruction.insert_instruction(to, instruction, gas);
    }

    fn run_frame(&mut self, evm: &mut FuzzEvm) -> FrameStep {
        evm.frame_run()
    }
}

/// What was asked of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// An account.
    Account(Address),
    /// A slot.
    Slot(Address, U256),
    /// A block's hash.
    BlockHash(u64),
}

/// A case's pre-state, which remembers what was asked of it.
#[derive(Debug, Clone, Default)]
pub struct CaseDb {
    accounts: BTreeMap<Address, (AccountInfo, BTreeMap<U256, U256>)>,
    accesses: BTreeSet<Access>,
}

impl CaseDb {
    fn new(case: &Case) -> Self {
        let mut accounts = BTreeMap::new();
        let wealth = U256::ONE << 200;
        accounts
            .insert(case.sender, (AccountInfo { balance: wealth, ..Default::default() }, BTreeMap::new()));
        for account in &case.accounts {
            let code = Bytecode::new_raw_checked(account.code.clone())
                .unwrap_or_else(|_| Bytecode::new_legacy(account.code.clone()));
            let info = AccountInfo::new(account.balance, account.nonce, code.hash_slow(), code);
            accounts.insert(account.address, (info, account.storage.iter().copied().collect()));
        }
        Self { accounts, accesses: BTreeSet::new() }
    }
}

impl Database for CaseDb {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        self.accesses.insert(Access::Account(address));
        Ok(self.accounts.get(&address).map(|(info, _)| info.clone()))
    }

    fn code_by_hash(&mut self, _hash: B256) -> Result<Bytecode, Infallible> {
        Ok(Bytecode::default())
    }

    fn storage(&mut self, address: Address, key: U256) -> Result<U256, Infallible> {
        self.accesses.insert(Access::Slot(address, key));
        Ok(self.accounts.get(&address).and_then(|(_, slots)| slots.get(&key).copied()).unwrap_or_default())
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        self.accesses.insert(Access::BlockHash(number));
        Ok(keccak256(number.to_be_bytes()))
    }
}

/// How a frame or a transaction ended, as precisely as the rules of the EVM tell ends apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Without error.
    Success(InstructionResult),
    /// By REVERT or something that acts like it.
    Revert(InstructionResult),
    /// With all its gas gone.
    Halt(InstructionResult),
    /// The transaction is invalid, as revm says it.
    Invalid(String),
}

impl End {
    fn of(result: InstructionResult) -> Self {
        if result.is_ok() {
            Self::Success(result)
        } else if result.is_revert() {
            Self::Revert(result)
        } else {
            Self::Halt(result)
        }
    }

    /// Whether this is a halt.
    pub fn is_halt(&self) -> bool {
        matches!(self, Self::Halt(_))
    }
}

/// Where a frame suspended or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It calls.
    Call {
        /// Frames below.
        depth: usize,
        /// Which of the four.
        scheme: CallScheme,
        /// Whose storage.
        target: Address,
        /// Whose code.
        code: Address,
        /// Said or moved, in wei.
        value: U256,
        /// Gas that goes along.
        gas: u64,
        /// Whether nothing may change.
        is_static: bool,
        /// Keccak of the call data.
        input: B256,
        /// Where the answer goes.
        output: std::ops::Range<usize>,
        /// Of the caller, at this moment.
        caller: Suspended,
    },
    /// It creates.
    Create {
        /// Frames below.
        depth: usize,
        /// In wei.
        value: U256,
        /// Gas that goes along.
        gas: u64,
        /// The salt of CREATE2.
        salt: Option<U256>,
        /// Keccak of the initcode.
        code: B256,
        /// Of the creator, at this moment.
        caller: Suspended,
    },
    /// It ends.
    End {
        /// Frames below.
        depth: usize,
        /// How.
        end: End,
        /// Gas left; nothing after a halt.
        gas: u64,
        /// Refund counter.
        refund: i64,
        /// What it returns.
        output: Bytes,
    },
}

/// A frame that waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    /// Left.
    pub gas: u64,
    /// Words on its stack.
    pub stack: usize,
    /// Keccak of its memory.
    pub memory: B256,
}

/// An account after the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostAccount {
    /// In wei.
    pub balance: U256,
    /// As it is then.
    pub nonce: u64,
    /// Of its code.
    pub code_hash: B256,
    /// Created, destroyed, touched.
    pub status: AccountStatus,
    /// Slots whose value changed.
    pub changes: BTreeMap<U256, U256>,
}

/// All that can be seen of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the transaction ended.
    pub end: End,
    /// As the receipt says it.
    pub gas_used: u64,
    /// Of gas, after its cap.
    pub refund: u64,
    /// Return data or created code.
    pub output: Bytes,
    /// Address of a created contract.
    pub created: Option<Address>,
    /// In order.
    pub logs: Vec<Log>,
    /// Accounts that the transaction touched.
    pub state: BTreeMap<Address, PostAccount>,
    /// The call tree.
    pub events: Vec<Event>,
    /// Everything asked of the pre-state.
    pub accesses: BTreeSet<Access>,
    /// Stretches of frames that ran.
    pub frames: usize,
}

/// A difference that no engine may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What differs, in words: `gas used`, `logs`, …
    pub field: &'static str,
    /// By the reference.
    pub expected: String,
    /// By the other.
    pub actual: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} differs: interpreter {}, other {}", self.field, self.expected, self.actual)
    }
}

impl Outcome {
    /// The first difference to `other`, taking `self` as what is right.
    ///
    /// Everything that a contract, a receipt, a trie or a call trace shows must be equal, the reason of a halt and what
    /// was asked of the state until then included: compiled code leaves it to the interpreter to fail.
    pub fn mismatch(&self, other: &Self) -> Option<Mismatch> {
        fn differ<T: PartialEq + std::fmt::Debug>(field: &'static str, a: &T, b: &T) -> Option<Mismatch> {
            (a != b).then(|| Mismatch { field, expected: format!("{a:?}"), actual: format!("{b:?}") })
        }
        let events = self.events.iter().zip(&other.events).enumerate().find(|(_, (a, b))| a != b);
        events
            .map(|(index, (a, b))| Mismatch {
                field: "call tree",
                expected: format!("event {index}: {a:?}"),
                actual: format!("{b:?}"),
            })
            .or_else(|| differ("number of calls", &self.events.len(), &other.events.len()))
            .or_else(|| differ("end", &self.end, &other.end))
            .or_else(|| differ("gas used", &self.gas_used, &other.gas_used))
            .or_else(|| differ("refund", &self.refund, &other.refund))
            .or_else(|| differ("output", &self.output, &other.output))
            .or_else(|| differ("created address", &self.created, &other.created))
            .or_else(|| differ("logs", &self.logs, &other.logs))
            .or_else(|| differ("post-state", &self.state, &other.state))
            .or_else(|| differ("state accesses", &self.accesses, &other.accesses))
            .or_else(|| differ("number of frames", &self.frames, &other.frames))
    }
}

/// Runs `case` through `engine`.
pub fn run(case: &Case, engine: &mut dyn Engine) -> Outcome {
    let spec = case.spec;
    let mut context: FuzzContext = Context::new(CaseDb::new(case), spec);
    context.cfg.set_spec_and_mainnet_gas_params(spec);
    context.cfg.chain_id = 1;
    // Cases of real contracts ask for more than EIP-7825 allows.
    context.cfg.tx_gas_limit_cap = Some(u64::MAX);
    context.modify_block(|block| {
        block.number = U256::from(case.number);
        block.timestamp = U256::from(case.timestamp);
        block.gas_limit = u64::MAX;
        block.beneficiary = Address::repeat_byte(0xfe);
        block.basefee = if spec.is_enabled_in(SpecId::LONDON) { 7 } else { 0 };
        block.difficulty = U256::from(0x20_0000);
        block.prevrandao = spec.is_enabled_in(SpecId::MERGE).then(|| B256::repeat_byte(0xd1));
        if spec.is_enabled_in(SpecId::CANCUN) {
            block.set_blob_excess_gas_and_price(
                0,
                revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_CANCUN,
            );
        }
    });
    context.tx = transaction(case);
    let mut evm = Observed { inner: context.build_mainnet(), engine, events: Vec::new(), frames: 0 };
    evm.engine.prepare(case, &mut evm.inner);
    let mut handler =
        MainnetHandler::<Observed<'_>, EVMError<Infallible>, EthFrame<EthInterpreter>>::default();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handler.run(&mut evm)))
        .unwrap_or_else(|_| Err(EVMError::Custom("the engine panicked".into())));
    let state = evm.inner.ctx.journaled_state.inner.finalize();
    let accesses = std::mem::take(&mut evm.inner.ctx.journaled_state.database.accesses);
    let state = state
        .into_iter()
        .filter(|(_, account)| account.is_touched())
        .map(|(address, account)| {
            let changes = account
                .storage
                .iter()
                .filter(|(_, slot)| slot.is_changed())
                .map(|(key, slot)| (*key, slot.present_value))
                .collect();
            let post = PostAccount {
                balance: account.info.balance,
                nonce: account.info.nonce,
                code_hash: account.info.code_hash,
                status: account.status - AccountStatus::Cold,
                changes,
            };
            (address, post)
        })
        .collect();
    let (events, frames, fault) = (evm.events, evm.frames, evm.engine.fault());
    let top = events.iter().rev().find_map(|event| match event {
        Event::End { depth: 0, end, .. } => Some(end.clone()),
        _ => None,
    });
    match fault.map_or(result, |fault| Err(EVMError::Custom(fault))) {
        Ok(result) => {
            use revm::context::result::ExecutionResult;
            let end = match &result {
                // The first frame says it; a transaction to a precompile or to no code has none.
                ExecutionResult::Success { reason, .. } => End::Success((*reason).into()),
                ExecutionResult::Revert { .. } => End::Revert(InstructionResult::Revert),
                ExecutionResult::Halt { reason, .. } => match top {
                    Some(end @ End::Halt(_)) => end,
                    _ => End::Invalid(format!("{reason:?}")),
                },
            };
            Outcome {
                end,
                gas_used: result.tx_gas_used(),
                refund: result.gas().final_refunded(),
                output: result.output().cloned().unwrap_or_default(),
                created: result.created_address(),
                logs: result.into_logs(),
                state,
                events,
                accesses,
                frames,
            }
        }
        Err(error) => Outcome {
            end: End::Invalid(error.to_string()),
            gas_used: 0,
            refund: 0,
            output: Bytes::new(),
            created: None,
            logs: Vec::new(),
            state,
            events,
            accesses,
            frames,
        },
    }
}

fn transaction(case: &Case) -> TxEnv {
    let blobs = !case.blob_hashes.is_empty() && case.spec.is_enabled_in(SpecId::CANCUN) && case.to.is_some();
    TxEnv {
        tx_type: if blobs { 3 } else { 0 },
        caller: case.sender,
        nonce: case.account(case.sender).map_or(0, |sender| sender.nonce),
        gas_limit: case.gas_limit,
        gas_price: 10,
        gas_priority_fee: blobs.then_some(1),
        kind: case.to.map_or(TxKind::Create, TxKind::Call),
        value: case.value,
        data: case.data.clone(),
        chain_id: Some(1),
        blob_hashes: if blobs { case.blob_hashes.clone() } else { Vec::new() },
        max_fee_per_blob_gas: if blobs { 1_000 } else { 0 },
        ..Default::default()
    }
}

/// revm with frames given to the engine and their ends written down.
struct Observed<'a> {
    inner: FuzzEvm,
    engine: &'a mut dyn Engine,
    events: Vec<Event>,
    frames: usize,
}

impl Observed<'_> {
    fn record(&mut self, depth: usize, step: &FrameInitOrResult<EthFrame<EthInterpreter>>) {
        let frame = self.inner.frame_stack.get();
        let event = match step {
            ItemOrResult::Result(result) => {
                let (FrameResult::Call(_) | FrameResult::Create(_)) = result;
                let end = End::of(result.instruction_result());
                let gas = result.gas();
                Event::End {
                    depth,
                    gas: if end.is_halt() { 0 } else { gas.remaining() },
                    refund: gas.refunded(),
                    end,
                    output: result.output().into_data(),
                }
            }
            ItemOrResult::Item(init) => {
                let interpreter = &frame.interpreter;
                let memory = &interpreter.memory;
                let caller = Suspended {
                    gas: interpreter.gas.remaining(),
                    stack: interpreter.stack.len(),
                    memory: keccak256(&*memory.slice(0..memory.size())),
                };
                match &init.frame_input {
                    FrameInput::Call(call) => Event::Call {
                        depth,
                        scheme: call.scheme,
                        target: call.target_address,
                        code: call.bytecode_address,
                        value: call.value.get(),
                        gas: call.gas_limit,
                        is_static: call.is_static,
                        input: keccak256(call.input.bytes(&self.inner.ctx)),
                        output: call.return_memory_offset.clone(),
                        caller,
                    },
                    FrameInput::Create(create) => Event::Create {
                        depth,
                        value: create.value(),
                        gas: create.gas_limit(),
                        salt: match create.scheme() {
                            revm::interpreter::CreateScheme::Create2 { salt } => Some(salt),
                            _ => None,
                        },
                        code: keccak256(create.init_code()),
                        caller,
                    },
                    FrameInput::Empty => return,
                }
            }
        };
        self.events.push(event);
    }
}

impl EvmTr for Observed<'_> {
    type Context = FuzzContext;
    type Instructions = EthInstructions<EthInterpreter, FuzzContext>;
    type Precompiles = EthPrecompiles;
    type Frame = EthFrame<EthInterpreter>;

    fn all(&self) -> (&FuzzContext, &Self::Instructions, &EthPrecompiles, &FrameStack<Self::Frame>) {
        self.inner.all()
    }

    fn all_mut(
        &mut self,
    ) -> (&mut FuzzContext, &mut Self::Instructions, &mut EthPrecompiles, &mut FrameStack<Self::Frame>) {
        self.inner.all_mut()
    }

    fn frame_init(
        &mut self,
        init: <Self::Frame as FrameTr>::FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<FuzzContext>> {
        self.inner.frame_init(init)
    }

    fn frame_run(&mut self) -> FrameStep {
        let depth = self.inner.frame_stack.index().unwrap_or(0);
        self.frames += 1;
        let step = self.engine.run_frame(&mut self.inner)?;
        self.record(depth, &step);
        Ok(step)
    }

    fn frame_return_result(
        &mut self,
        result: FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<FuzzContext>> {
        self.inner.frame_return_result(result)
    }
}
