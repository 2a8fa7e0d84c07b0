//! One case, timed by both engines.

use super::{
    KEEP_RATIO,
    cases::{Set, WorkCase},
};
use alloy_primitives::{B256, TxKind, U256, keccak256};
use anyhow::{Context as _, ensure};
use ironlane_jit::{CompiledCode, Compiler, fuzz::Case, run_frame};
use revm::{
    Context, MainBuilder, MainnetEvm,
    bytecode::Bytecode,
    context::{
        FrameStack, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason},
    },
    database::{CacheDB, EmptyDB},
    handler::{
        EthFrame, EthPrecompiles, EvmTr, FrameInitOrResult, FrameResult, FrameTr, Handler, MainnetContext,
        MainnetHandler,
        evm::{ContextDbError, FrameInitResult},
        instructions::EthInstructions,
    },
    interpreter::{interpreter::EthInterpreter, interpreter_types::LegacyBytecode},
    primitives::hardfork::SpecId,
    state::{AccountInfo, EvmState},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

/// A figure of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) set: Set,
    pub(super) interpreter_ns: f64,
    pub(super) jit_ns: f64,
    /// Half the distance between the quartiles, in parts of the median: of the interpreter, of the JIT.
    spread: [f64; 2],
    pub(super) compile_us: f64,
    /// Of the one code that took longest.
    pub(super) compile_us_max: f64,
    pub(super) code_bytes: u64,
    pub(super) bytecode_bytes: u64,
    blocks: u64,
    blocks_compiled: u64,
    codes: usize,
    gas: u64,
    end: String,
    pub(super) same_result: bool,
    samples: usize,
}

impl Row {
    /// Interpreter's time over compiled code's.
    pub(super) fn speedup(&self) -> f64 {
        self.interpreter_ns / self.jit_ns
    }

    /// With codes that lose given back to the interpreter.
    pub(super) fn kept_speedup(&self) -> f64 {
        if self.speedup() < KEEP_RATIO { 1.0 } else { self.speedup() }
    }

    pub(super) fn verdict(&self) -> &'static str {
        if self.speedup() < KEEP_RATIO { "goes back to the interpreter" } else { "compiled" }
    }

    pub(super) fn json(&self) -> Value {
        let bytes = self.bytecode_bytes.max(1) as f64;
        json!({
            "name": self.name,
            "set": self.set.name(),
            "interpreter_ns": self.interpreter_ns,
            "jit_ns": self.jit_ns,
            "speedup": self.speedup(),
            "interpreter_spread": self.spread[0],
            "jit_spread": self.spread[1],
            "samples": self.samples,
            "compile_us": self.compile_us,
            "compile_us_slowest_code": self.compile_us_max,
            "compile_us_per_byte": self.compile_us / bytes,
            "code_bytes": self.code_bytes,
            "bytecode_bytes": self.bytecode_bytes,
            "code_bytes_per_byte": self.code_bytes as f64 / bytes,
            "codes": self.codes,
            "blocks": self.blocks,
            "blocks_compiled": self.blocks_compiled,
            "gas": self.gas,
            "end": self.end,
            "verdict": self.verdict(),
            "same_result": self.same_result,
        })
    }
}

/// Transactions that go into one sample take at least so long together.
const SAMPLE: Duration = Duration::from_micros(200);
/// Rounds of A-B-B-A at least, each two samples of both.
const ROUNDS_MIN: usize = 3;
const ROUNDS_MAX: usize = 2_000;
/// Compilations that the compile time is the median of.
const COMPILATIONS: usize = 3;

/// Times `case` for about `time`.
pub(super) fn measure(work: &WorkCase, compiler: &Compiler, time: Duration) -> anyhow::Result<Row> {
    let case = &work.case;
    let mut evm = Timed::new(case);
    let tx = transaction(case);
    // Once by each engine, with all that can be seen; the first also tells which codes run.
    let (expected, state) = evm.execute(&tx)?;
    evm.codes = Some(Codes::default());
    let codes = evm.discover(&tx, compiler, case.spec)?;
    evm.codes = Some(codes.loaded);
    let (actual, state_compiled) = evm.execute(&tx)?;
    let same_result = actual == expected && state == state_compiled;
    let samples = evm.compare(&tx, time)?;
    let [interpreter, jit] = samples;
    let end = match &expected {
        ExecutionResult::Success { reason, .. } => format!("{reason:?}"),
        ExecutionResult::Revert { .. } => "Revert".into(),
        ExecutionResult::Halt { reason, .. } => format!("{reason:?}"),
    };
    Ok(Row {
        name: work.name.clone(),
        set: work.set,
        interpreter_ns: quantile(&interpreter, 0.5),
        jit_ns: quantile(&jit, 0.5),
        spread: [spread(&interpreter), spread(&jit)],
        samples: interpreter.len(),
        compile_us: codes.compile_us.iter().sum(),
        compile_us_max: codes.compile_us.iter().copied().fold(0.0, f64::max),
        code_bytes: codes.code_bytes,
        bytecode_bytes: codes.bytecode_bytes,
        blocks: codes.blocks,
        blocks_compiled: codes.blocks_compiled,
        codes: codes.compile_us.len(),
        gas: expected.tx_gas_used(),
        end,
        same_result,
    })
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

fn spread(sorted: &[f64]) -> f64 {
    (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2.0 / quantile(sorted, 0.5)
}

fn transaction(case: &Case) -> TxEnv {
    TxEnv {
        caller: case.sender,
        gas_limit: case.gas_limit,
        gas_price: 0,
        kind: case.to.map_or(TxKind::Create, TxKind::Call),
        value: case.value,
        data: case.data.clone(),
        chain_id: Some(1),
        ..TxEnv::default()
    }
}

type Db = CacheDB<EmptyDB>;
type Ctx = MainnetContext<Db>;
type Codes = HashMap<B256, Option<Arc<CompiledCode>>>;
type PostState = BTreeMap<alloy_primitives::Address, (U256, u64, B256, BTreeMap<U256, U256>)>;

/// What compiling the codes of a case cost.
struct Discovered {
    loaded: Codes,
    compile_us: Vec<f64>,
    code_bytes: u64,
    bytecode_bytes: u64,
    blocks: u64,
    blocks_compiled: u64,
}

/// revm whose frames go to compiled code where `codes` says so.
struct Timed {
    inner: MainnetEvm<Ctx>,
    codes: Option<Codes>,
    /// Codes that ran, while they are being found.
    seen: Option<HashMap<B256, Vec<u8>>>,
}

impl Timed {
    fn new(case: &Case) -> Self {
        let mut db = Db::new(EmptyDB::default());
        let wealth = AccountInfo { balance: U256::ONE << 200, ..AccountInfo::default() };
        db.insert_account_info(case.sender, wealth);
        for account in &case.accounts {
            let code = Bytecode::new_raw(account.code.clone());
            let balance = if account.address == case.sender { U256::ONE << 200 } else { account.balance };
            let info = AccountInfo::new(balance, account.nonce, code.hash_slow(), code);
            db.insert_account_info(account.address, info);
            for (key, value) in &account.storage {
                let Ok(()) = db.insert_account_storage(account.address, *key, *value);
            }
        }
        let mut context: Ctx = Context::new(db, case.spec);
        context.cfg.set_spec_and_mainnet_gas_params(case.spec);
        context.cfg.chain_id = 1;
        // Cases of the corpus ask for more than EIP-7825 allows, and send again and again with one nonce.
        context.cfg.tx_gas_limit_cap = Some(u64::MAX);
        context.cfg.disable_nonce_check = true;
        context.modify_block(|block| {
            block.number = U256::from(case.number);
            block.timestamp = U256::from(case.timestamp);
            block.gas_limit = u64::MAX;
            block.prevrandao = Some(B256::ZERO);
            if case.spec.is_enabled_in(SpecId::CANCUN) {
                block.set_blob_excess_gas_and_price(0, 3_338_477);
            }
        });
        Self { inner: context.build_mainnet(), codes: None, seen: None }
    }

    fn transact(&mut self, tx: &TxEnv) -> anyhow::Result<ExecutionResult<HaltReason>> {
        self.inner.ctx.tx = tx.clone();
        let mut handler = MainnetHandler::<Self, EVMError<Infallible>, EthFrame<EthInterpreter>>::default();
        handler.run(self).map_err(|error| anyhow::anyhow!("the transaction is invalid: {error}"))
    }

    fn reset(&mut self) -> EvmState {
        self.inner.ctx.journaled_state.inner.finalize()
    }

    fn execute(&mut self, tx: &TxEnv) -> anyhow::Result<(ExecutionResult<HaltReason>, PostState)> {
        let result = self.transact(tx)?;
        let state = self.reset().into_iter().filter(|(_, account)| account.is_touched());
        let state = state
            .map(|(address, account)| {
                let changed = account.storage.iter().filter(|(_, slot)| slot.is_changed());
                let slots = changed.map(|(key, slot)| (*key, slot.present_value)).collect();
                (address, (account.info.balance, account.info.nonce, account.info.code_hash, slots))
            })
            .collect();
        Ok((result, state))
    }

    /// Compiles every code that the transaction runs.
    fn discover(&mut self, tx: &TxEnv, compiler: &Compiler, spec: SpecId) -> anyhow::Result<Discovered> {
        self.seen = Some(HashMap::new());
        self.execute(tx)?;
        let mut found = Discovered {
            loaded: Codes::new(),
            compile_us: Vec::new(),
            code_bytes: 0,
            bytecode_bytes: 0,
            blocks: 0,
            blocks_compiled: 0,
        };
        for (hash, code) in self.seen.take().context("codes were looked for")? {
            if code.is_empty() {
                continue;
            }
            let mut times = Vec::new();
            let mut last = None;
            for _ in 0..COMPILATIONS {
                let start = Instant::now();
                let artifact = compiler.compile(&code, spec)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
                last = Some(artifact);
            }
            times.sort_by(f64::total_cmp);
            let artifact = last.context("compiled")?;
            found.compile_us.push(times[COMPILATIONS / 2]);
            found.code_bytes += u64::from(artifact.stats.text_bytes);
            found.bytecode_bytes += code.len() as u64;
            found.blocks += u64::from(artifact.stats.blocks);
            found.blocks_compiled += u64::from(artifact.stats.blocks_compiled);
            ensure!(keccak256(&code) == hash, "revm named a code by another hash than its own");
            found.loaded.insert(hash, Some(CompiledCode::load(&artifact)?));
        }
        Ok(found)
    }

    /// Sorted samples of ns a transaction: interpreter, compiled.
    fn compare(&mut self, tx: &TxEnv, time: Duration) -> anyhow::Result<[Vec<f64>; 2]> {
        let codes = self.codes.take();
        let mut engines = [None, codes];
        let start = Instant::now();
        self.transact(tx)?;
        self.reset();
        let once = start.elapsed().max(Duration::from_nanos(1));
        let batch = (SAMPLE.as_nanos() / once.as_nanos()).clamp(1, 1_000) as u32;
        let mut samples = [Vec::new(), Vec::new()];
        let begin = Instant::now();
        while samples[0].len() < 2 * ROUNDS_MIN
            || (begin.elapsed() < time && samples[0].len() < 2 * ROUNDS_MAX)
        {
            for engine in [0, 1, 1, 0] {
                self.codes = engines[engine].take();
                // The state after a transaction is thrown away outside the clock.
                let mut spent = Duration::ZERO;
                for _ in 0..batch {
                    let start = Instant::now();
                    black_box(self.transact(tx)?);
                    spent += start.elapsed();
                    self.reset();
                }
                engines[engine] = self.codes.take();
                samples[engine].push(spent.as_secs_f64() * 1e9 / f64::from(batch));
            }
        }
        for list in &mut samples {
            list.sort_by(f64::total_cmp);
        }
        Ok(samples)
    }
}

impl EvmTr for Timed {
    type Context = Ctx;
    type Instructions = EthInstructions<EthInterpreter, Ctx>;
    type Precompiles = EthPrecompiles;
    type Frame = EthFrame<EthInterpreter>;

    fn all(&self) -> (&Ctx, &Self::Instructions, &EthPrecompiles, &FrameStack<Self::Frame>) {
        self.inner.all()
    }

    fn all_mut(
        &mut self,
    ) -> (&mut Ctx, &mut Self::Instructions, &mut EthPrecompiles, &mut FrameStack<Self::Frame>) {
        self.inner.all_mut()
    }

    fn frame_init(
        &mut self,
        init: <Self::Frame as FrameTr>::FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Ctx>> {
        self.inner.frame_init(init)
    }

    fn frame_run(&mut self) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Ctx>> {
        let Some(codes) = &self.codes else { return self.inner.frame_run() };
        let frame = self.inner.frame_stack.get();
        let hash = frame.interpreter.bytecode.get_or_calculate_hash();
        if let Some(seen) = &mut self.seen {
            seen.entry(hash).or_insert_with(|| frame.interpreter.bytecode.bytecode_slice().to_vec());
        }
        match codes.get(&hash) {
            Some(Some(code)) => run_frame(frame, &mut self.inner.ctx, &self.inner.instruction, code),
            _ => self.inner.frame_run(),
        }
    }

    fn frame_return_result(
        &mut self,
        result: FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<Ctx>> {
        self.inner.frame_return_result(result)
    }
}
