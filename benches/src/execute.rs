//! `ironbench execute`: execution alone. The same block of transactions by our executor over the state store, and by plain
//! revm over its in-memory `CacheDB`, in one process, in A-B-B-A order; the states afterwards must be equal.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::{eip2718::Encodable2718, eip7002, eip7251};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use anyhow::{Context as _, bail, ensure};
use ironlane_executor::{
    BlockHashes, ChainSpec, Engine, Executor, ExecutorConfig, ForkSchedule, NextBlock, OracleTrie, StateRoot,
    block_env, cfg_env, next_context,
    revm::{
        Context, ExecuteCommitEvm, MainBuilder, MainContext,
        bytecode::Bytecode,
        context::ContextTr,
        database::{CacheDB, EmptyDB},
        primitives::hardfork::SpecId,
        state::AccountInfo as RevmAccount,
    },
    tier::{Tier, TierConfig},
    tx_env,
};
use ironlane_state::{StateConfig, StateWriter, open_empty};
use ironlane_types::{AccountDelta, AccountInfo, BlockContext, KECCAK_EMPTY, StateDelta, Tx, TxEnvelope};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};

/// Options of `ironbench execute`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A small size, in a second: for tests.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// What the transactions do: transfer, erc20 or mixed.
    #[arg(long, default_value = "transfer")]
    pub(crate) workload: String,
    /// What executes them: sequential (revm's interpreter) or jit (everything compiled before it first runs).
    #[arg(long, default_value = "sequential")]
    pub(crate) engine: String,
    /// Transactions in the block.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) transactions: usize,
    /// Accounts that send, each with its own nonces.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) senders: usize,
    /// Accounts that receive; half of them exist before.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) recipients: usize,
    /// Rounds of ours, revm, revm, ours. Figures are medians.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
}

/// Transactions of a mini-block: ours publishes a version after each, as the node does under load.
const MINI_BLOCK: usize = 256;
/// Transactions whose accounts are fetched ahead together, as the node does.
const BATCH: usize = 16;
const CHAIN_ID: u64 = 1_515;
const TOKEN: Address = Address::new(*b"ironlane-bench-token");
const TOKEN_ARTIFACT: &str = include_str!("../../sequencer/contracts/token/Token.json");
const BENEFICIARY: Address = Address::repeat_byte(0xfe);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    Transfer,
    Erc20,
    Mixed,
}

impl Workload {
    fn parse(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "transfer" => Self::Transfer,
            "erc20" => Self::Erc20,
            "mixed" => Self::Mixed,
            "uniswap" => bail!(
                "the uniswap workload needs the pool contracts, which are not built: use transfer, erc20 or mixed"
            ),
            other => bail!("there is no workload `{other}`: use transfer, erc20 or mixed"),
        })
    }

    /// Whether transaction `index` calls the token: seven in ten transfers of value in the mix.
    fn is_token(self, index: usize) -> bool {
        match self {
            Self::Transfer => false,
            Self::Erc20 => true,
            Self::Mixed => index % 10 >= 7,
        }
    }
}

/// Runs the bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let workload = Workload::parse(&args.workload)?;
    let engine = match args.engine.as_str() {
        "sequential" => Engine::Interpreter,
        "jit" => Engine::Jit(Tier::start(TierConfig::eager())?),
        "parallel" => bail!("this build has no parallel engine: use --engine sequential or jit"),
        other => bail!("there is no engine `{other}`: use --engine sequential or jit"),
    };
    let (transactions, senders, recipients, rounds) = if args.smoke {
        (2_000, 100, 2_000, 1)
    } else {
        (args.transactions, args.senders, args.recipients, args.rounds)
    };
    ensure!(transactions > 0 && senders > 0 && recipients > 0 && rounds > 0, "every size must be above zero");
    let bench = Bench::new(workload, transactions, senders, recipients, engine)?;

    let (mut direct, mut interpreted, mut revm) = (Vec::new(), Vec::new(), Vec::new());
    let mut digest = None;
    let mut agree = |round: &Run| -> anyhow::Result<()> {
        let first = *digest.get_or_insert((round.gas, round.root));
        ensure!(
            first == (round.gas, round.root),
            "{} gave gas {} and state {}, another way gave {} and {}",
            round.name,
            round.gas,
            round.root,
            first.0,
            first.1
        );
        Ok(())
    };
    for _ in 0..rounds {
        for way in [Way::Direct, Way::Revm, Way::Interpreter, Way::Interpreter, Way::Revm, Way::Direct] {
            let round = bench.run(way)?;
            agree(&round)?;
            match way {
                Way::Direct => direct.push(round.seconds),
                Way::Interpreter => interpreted.push(round.seconds),
                Way::Revm => revm.push(round.seconds),
            }
        }
    }
    let (gas, root) = digest.context("no round was run")?;
    let revm_seconds = median(&mut revm);
    let row = |name: &str, seconds: f64| {
        json!({
            "name": name,
            "tps": transactions as f64 / seconds,
            "mgas_per_s": gas as f64 / 1e6 / seconds,
            "vs_revm": revm_seconds / seconds,
            "us_per_tx": seconds * 1e6 / transactions as f64,
        })
    };
    let ours = median(&mut direct);
    let jit = match &bench.engine {
        Engine::Interpreter => Value::Null,
        Engine::Jit(tier) => {
            let stats = tier.stats();
            ensure!(stats.compiled_segments > 0 || workload == Workload::Transfer, "nothing ran compiled");
            json!({
                "compiled_segments": stats.compiled_segments,
                "interpreted_segments": stats.interpreted_segments,
                "compiled_gas": stats.compiled_gas,
                "codes": stats.compiled,
                "compile_us": stats.compile_us,
                "code_bytes": stats.cache_bytes,
            })
        }
    };
    Ok(json!({
        "bench": "execute",
        "workload": args.workload,
        "engine": args.engine,
        "transactions": transactions,
        "clock": if Clock::cpu_ns().is_some() { "thread_cpu" } else { "wall" },
        "tps": transactions as f64 / ours,
        "mgas_per_s": gas as f64 / 1e6 / ours,
        "vs_revm": revm_seconds / ours,
        "rows": [
            row("ironlane", ours),
            row("ironlane, no short cut for transfers", median(&mut interpreted)),
            row("revm over CacheDB", revm_seconds),
        ],
        "gas": gas,
        "state_root": root,
        "state_equal": true,
        "jit": jit,
    }))
}

#[derive(Debug, Clone, Copy)]
enum Way {
    /// Our executor as the node runs it.
    Direct,
    /// Our executor with every transaction in the EVM.
    Interpreter,
    /// Plain revm.
    Revm,
}

struct Run {
    name: &'static str,
    seconds: f64,
    gas: u64,
    root: B256,
}

struct Bench {
    spec: Arc<ChainSpec>,
    context: BlockContext,
    txs: Vec<Arc<Tx>>,
    /// How many of them run before the clock starts: memory is touched, code is analysed and compiled.
    warm: usize,
    engine: Engine,
}

impl Bench {
    fn new(
        workload: Workload,
        transactions: usize,
        senders: usize,
        recipients: usize,
        engine: Engine,
    ) -> anyhow::Result<Self> {
        let alloc = alloc(senders, recipients)?;
        let header = alloy_consensus::Header {
            gas_limit: 1 << 50,
            base_fee_per_gas: Some(1_000_000_000),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            ..Default::default()
        };
        let spec = Arc::new(ChainSpec::new(CHAIN_ID, ForkSchedule::all_until(SpecId::OSAKA), header, alloc));
        let next = NextBlock {
            timestamp: 1,
            beneficiary: BENEFICIARY,
            gas_limit: None,
            prev_randao: B256::ZERO,
            extra_data: Bytes::new(),
        };
        let context = next_context(&spec, &spec.genesis.header, next);
        let mut seed = 1u64;
        let warm = transactions / 2;
        let txs = (0..warm + transactions)
            .map(|index| {
                let to = recipient(splitmix(&mut seed) % recipients as u64);
                transaction(workload.is_token(index), sender(index % senders), (index / senders) as u64, to)
            })
            .collect();
        Ok(Self { spec, context, txs, warm, engine })
    }

    fn run(&self, way: Way) -> anyhow::Result<Run> {
        match way {
            Way::Direct => self.ours("ironlane", true),
            Way::Interpreter => self.ours("ironlane without the short cut", false),
            Way::Revm => self.revm(),
        }
    }

    fn ours(&self, name: &'static str, direct_transfers: bool) -> anyhow::Result<Run> {
        let accounts = self.spec.genesis.alloc.accounts.len() * 2;
        let (_, mut store) = open_empty(StateConfig { accounts, slots: accounts, ..Default::default() })?;
        store.apply(&self.spec.genesis.alloc)?;
        store.seal();
        let hashes = BlockHashes::new();
        hashes.set(0, self.spec.genesis.hash);
        let engine = self.engine.clone();
        let config = ExecutorConfig { direct_transfers, engine, ..Default::default() };
        let mut executor: Executor<StateWriter> = Executor::new(self.spec.clone(), store, hashes, config);
        executor.open_block(self.context.clone())?;
        let mut execute = |txs: &[Arc<Tx>]| -> anyhow::Result<u64> {
            let mut gas = 0;
            for mini_block in txs.chunks(MINI_BLOCK) {
                for batch in mini_block.chunks(BATCH) {
                    executor.prefetch_transactions(batch);
                    for tx in batch {
                        gas += executor.try_execute(tx.clone())?.outcome.gas_used;
                    }
                }
                executor.seal_mini_block()?;
            }
            Ok(gas)
        };
        let (warm, timed) = self.txs.split_at(self.warm);
        execute(warm)?;
        let started = Clock::start();
        let gas = execute(timed)?;
        let seconds = started.seconds();
        executor.close_block()?;
        let store = executor.into_store();
        let root =
            self.root(|address| Ok(store.account(address)), |address, key| Ok(store.storage(address, key)))?;
        Ok(Run { name, seconds, gas, root })
    }

    fn revm(&self) -> anyhow::Result<Run> {
        let mut db = CacheDB::new(EmptyDB::new());
        for account in &self.spec.genesis.alloc.accounts {
            let Some(info) = account.info else { continue };
            let code = self.spec.genesis.alloc.codes.iter().find(|(hash, _)| *hash == info.code_hash);
            let code = code.map_or_else(Bytecode::default, |(_, code)| Bytecode::new_raw(code.clone()));
            db.insert_account_info(
                account.address,
                RevmAccount {
                    balance: info.balance,
                    nonce: info.nonce,
                    code_hash: info.code_hash,
                    code: Some(code),
                    account_id: None,
                },
            );
            for (key, value) in &account.slots {
                db.insert_account_storage(account.address, *key, *value)?;
            }
        }
        let parameters = self.spec.parameters(&self.context);
        let mut evm = Context::mainnet()
            .with_db(db)
            .with_cfg(cfg_env(&self.spec, &parameters))
            .with_block(block_env(&self.context, &parameters))
            .build_mainnet();
        let mut execute = |txs: &[Arc<Tx>]| -> anyhow::Result<u64> {
            let mut gas = 0;
            for tx in txs {
                gas += evm.transact_commit(tx_env(tx))?.tx_gas_used();
            }
            Ok(gas)
        };
        let (warm, timed) = self.txs.split_at(self.warm);
        execute(warm)?;
        let started = Clock::start();
        let gas = execute(timed)?;
        let seconds = started.seconds();
        let db = evm.ctx.db_mut();
        let root = self.root(
            |address| {
                let account = db.cache.accounts.get(address).and_then(|account| account.info());
                Ok(account.map(|i| AccountInfo {
                    nonce: i.nonce,
                    balance: i.balance,
                    code_hash: i.code_hash,
                }))
            },
            |address, key| {
                Ok(db
                    .cache
                    .accounts
                    .get(address)
                    .and_then(|a| a.storage.get(&key).copied())
                    .unwrap_or_default())
            },
        )?;
        Ok(Run { name: "revm", seconds, gas, root })
    }

    /// Root over all accounts that the block can have touched and the token's balances: the same list for every way.
    fn root(
        &self,
        account: impl Fn(&Address) -> anyhow::Result<Option<AccountInfo>>,
        storage: impl Fn(&Address, U256) -> anyhow::Result<U256>,
    ) -> anyhow::Result<B256> {
        let receivers = self.txs.iter().map(|tx| target(tx));
        let mut addresses: Vec<Address> =
            self.txs.iter().map(|tx| tx.sender).chain(receivers).chain([BENEFICIARY]).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let mut state = StateDelta::default();
        let mut token_slots = Vec::new();
        for address in addresses {
            let slot = balance_slot(address);
            token_slots.push((slot, storage(&TOKEN, slot)?));
            let info = account(&address)?;
            state.accounts.push(AccountDelta { address, info, storage_wiped: false, slots: Vec::new() });
        }
        let info = account(&TOKEN)?;
        state.accounts.push(AccountDelta { address: TOKEN, info, storage_wiped: false, slots: token_slots });
        let mut trie = OracleTrie::default();
        trie.apply(&state);
        Ok(trie.root())
    }
}

fn alloc(senders: usize, recipients: usize) -> anyhow::Result<StateDelta> {
    let artifact: Value = serde_json::from_str(TOKEN_ARTIFACT).context("the token's artifact is no JSON")?;
    let code =
        artifact["deployedBytecode"].as_str().context("the token's artifact has no deployedBytecode")?;
    let token: Bytes = code.parse().context("the token's bytecode is not hexadecimal")?;
    let mut alloc = StateDelta::default();
    let wealth = U256::from(10).pow(U256::from(24));
    let mut account = |address, nonce, balance, code: &Bytes, slots| {
        let code_hash = if code.is_empty() { KECCAK_EMPTY } else { keccak256(code) };
        if !code.is_empty() {
            alloc.codes.push((code_hash, code.clone()));
        }
        let info = Some(AccountInfo { nonce, balance, code_hash });
        alloc.accounts.push(AccountDelta { address, info, storage_wiped: false, slots });
    };
    let none = Bytes::new();
    for index in 0..senders {
        account(sender(index), 0, wealth, &none, Vec::new());
    }
    for index in (0..recipients as u64).step_by(2) {
        account(recipient(index), 0, U256::ONE, &none, Vec::new());
    }
    account(BENEFICIARY, 0, U256::ONE, &none, Vec::new());
    let balances = (0..senders).map(|index| (balance_slot(sender(index)), wealth)).collect();
    account(TOKEN, 1, U256::ZERO, &token, balances);
    // Without these no block of Prague can close.
    account(
        eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        1,
        U256::ZERO,
        &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
        Vec::new(),
    );
    account(
        eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
        1,
        U256::ZERO,
        &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
        Vec::new(),
    );
    Ok(alloc)
}

/// A type 2 transaction that is said to be from `sender`; authentication is another bench's.
fn transaction(token: bool, sender: Address, nonce: u64, to: Address) -> Arc<Tx> {
    let (target, value, input, gas_limit) = if token {
        // transfer(address,uint256) of one unit.
        let selector = &keccak256("transfer(address,uint256)")[..4];
        let input = [selector, to.into_word().as_slice(), &U256::ONE.to_be_bytes::<32>()].concat();
        (TOKEN, U256::ZERO, Bytes::from(input), 100_000)
    } else {
        (to, U256::ONE, Bytes::new(), 21_000)
    };
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(target),
        value,
        access_list: Default::default(),
        input,
    };
    let envelope = TxEnvelope::Eip1559(tx.into_signed(Signature::test_signature()));
    let raw = Bytes::from(envelope.encoded_2718());
    Arc::new(Tx { hash: keccak256(&raw), sender, envelope, raw })
}

/// Whom a transaction is for: the recipient of value or of the token.
fn target(tx: &Tx) -> Address {
    use alloy_consensus::Transaction;
    match tx.envelope.input().get(16..36) {
        Some(recipient) => Address::from_slice(recipient),
        None => tx.envelope.to().unwrap_or_default(),
    }
}

/// Storage slot of a token balance: the mapping is the contract's slot 0.
fn balance_slot(account: Address) -> U256 {
    let mut preimage = [0u8; 64];
    preimage[12..32].copy_from_slice(account.as_slice());
    keccak256(preimage).into()
}

fn sender(index: usize) -> Address {
    Address::from_word(keccak256((index as u64).to_be_bytes()))
}

fn recipient(index: u64) -> Address {
    Address::from_word(keccak256((u64::MAX - index).to_be_bytes()))
}

fn splitmix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Processor time of this thread, as the kernel counts it: neighbours on a shared host do not show in it. Wall time where
/// the kernel does not tell.
struct Clock {
    wall: Instant,
    cpu_ns: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu_ns: Self::cpu_ns() }
    }

    fn cpu_ns() -> Option<u64> {
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    }

    fn seconds(&self) -> f64 {
        match (self.cpu_ns, Self::cpu_ns()) {
            (Some(start), Some(end)) if end > start => (end - start) as f64 / 1e9,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(workload: &str, engine: &str) -> Args {
        Args {
            smoke: true,
            workload: workload.into(),
            engine: engine.into(),
            transactions: 0,
            senders: 0,
            recipients: 0,
            rounds: 0,
        }
    }

    #[test]
    fn every_workload_gives_the_same_state_by_every_way() {
        for (workload, engine) in [
            ("transfer", "sequential"),
            ("erc20", "sequential"),
            ("mixed", "sequential"),
            ("erc20", "jit"),
            ("mixed", "jit"),
        ] {
            let result = run(&args(workload, engine)).expect("runs");
            assert_eq!(result["state_equal"], true);
            assert!(result["vs_revm"].as_f64().is_some_and(|ratio| ratio > 0.0));
        }
    }

    #[test]
    fn what_is_not_there_is_refused_with_a_sentence() {
        for (workload, engine) in
            [("uniswap", "sequential"), ("nonsense", "sequential"), ("transfer", "parallel"), ("transfer", "x")]
        {
            let error = run(&args(workload, engine)).expect_err("refused").to_string();
            assert!(error.contains("use "), "{error}");
        }
    }
}
