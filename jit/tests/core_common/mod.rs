//! Two engines over the same small world: revm's own interpreter, and revm with every frame offered to compiled code.
#![allow(dead_code, unreachable_pub)]

use ironlane_jit::{CompiledCode, Compiler, run_frame};
use revm::{
    Context, Journal, MainBuilder, MainContext, MainnetEvm,
    bytecode::Bytecode,
    context::{
        BlockEnv, CfgEnv, ContextSetters, ContextTr, FrameStack, JournalTr, TxEnv,
        either::Either,
        result::{EVMError, ExecutionResult, HaltReason},
        transaction::{
            AccessList, AccessListItem, Authorization, RecoveredAuthority, RecoveredAuthorization,
        },
    },
    context_interface::block::BlobExcessGasAndPrice,
    database::{CacheDB, EmptyDB},
    handler::{
        EthFrame, EthPrecompiles, EvmTr, FrameInitOrResult, FrameResult, Handler, MainnetHandler,
        evm::{ContextDbError, FrameInitResult},
        instructions::EthInstructions,
    },
    interpreter::{interpreter::EthInterpreter, interpreter_action::FrameInit},
    primitives::{Address, B256, Bytes, TxKind, U256, hardfork::SpecId},
    state::{AccountInfo, EvmState},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

pub type Db = CacheDB<EmptyDB>;
pub type Ctx = Context<BlockEnv, TxEnv, CfgEnv, Db, Journal<Db>, ()>;
type Inner = MainnetEvm<Ctx>;
type Error = EVMError<Infallible>;

type ByCode = HashMap<(B256, SpecId), Option<Arc<CompiledCode>>>;

/// Compiled codes by hash and fork, made when first seen.
pub struct Codes {
    pub compiler: Compiler,
    codes: Mutex<ByCode>,
}

impl Codes {
    pub fn new(compiler: Compiler) -> Arc<Self> {
        Arc::new(Self { compiler, codes: Mutex::new(HashMap::new()) })
    }

    pub fn get(&self, hash: B256, spec: SpecId, code: &[u8]) -> Option<Arc<CompiledCode>> {
        let mut codes = self.codes.lock().expect("no panic while held");
        codes
            .entry((hash, spec))
            .or_insert_with(|| {
                // Empty or too long codes stay interpreted; anything else must compile.
                match self.compiler.compile(code, spec) {
                    Ok(artifact) => Some(CompiledCode::load(&artifact).expect("memory for code")),
                    Err(ironlane_jit::CompileError::Codegen(why)) => {
                        panic!("{why} in 0x{}", hex::encode(code))
                    }
                    Err(_) => None,
                }
            })
            .clone()
    }
}

/// An EVM that runs frames in compiled code, or in the interpreter where it has no codes.
pub struct Engine {
    pub inner: Inner,
    codes: Option<Arc<Codes>>,
    by_frame: HashMap<B256, Option<Arc<CompiledCode>>>,
}

impl Engine {
    pub fn new(case: &Case, codes: Option<Arc<Codes>>) -> Self {
        let mut cfg = CfgEnv::new_with_spec(case.spec);
        cfg.tx_chain_id_check = false;
        cfg.tx_gas_limit_cap = Some(u64::MAX);
        let context: Ctx =
            Context::mainnet().with_db(case.db.clone()).with_cfg(cfg).with_block(case.block.clone());
        Self { inner: context.build_mainnet(), codes, by_frame: HashMap::new() }
    }

    pub fn run(&mut self, tx: &TxEnv) -> (Result<ExecutionResult<HaltReason>, Error>, EvmState) {
        self.inner.ctx.set_tx(tx.clone());
        let result = MainnetHandler::<Self, Error, EthFrame<EthInterpreter>>::default().run(self);
        let state = self.inner.ctx.journal_mut().finalize();
        (result, state)
    }
}

impl EvmTr for Engine {
    type Context = Ctx;
    type Instructions = EthInstructions<EthInterpreter, Ctx>;
    type Precompiles = EthPrecompiles;
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
        self.inner.frame_init(frame)
    }

    fn frame_run(&mut self) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        let Some(codes) = &self.codes else { return self.inner.frame_run() };
        let frame = self.inner.frame_stack.get();
        let bytecode = &mut frame.interpreter.bytecode;
        let hash = bytecode.get_or_calculate_hash();
        let spec = self.inner.instruction.spec;
        let code = self
            .by_frame
            .entry(hash)
            .or_insert_with(|| codes.get(hash, spec, bytecode.original_byte_slice()));
        match code {
            Some(code) => run_frame(frame, &mut self.inner.ctx, &self.inner.instruction, code),
            None => self.inner.frame_run(),
        }
    }

    fn frame_return_result(
        &mut self,
        result: FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<Self::Context>> {
        self.inner.frame_return_result(result)
    }
}

/// A transaction and the world it runs in.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub spec: SpecId,
    pub db: Db,
    pub block: BlockEnv,
    pub tx: TxEnv,
}

/// Everything observable of a run, as text that can be compared and read.
pub fn outcome(run: &(Result<ExecutionResult<HaltReason>, Error>, EvmState)) -> String {
    let mut accounts = BTreeMap::new();
    for (address, account) in &run.1 {
        let storage: BTreeMap<_, _> = account
            .storage
            .iter()
            .map(|(key, slot)| (*key, (slot.original_value, slot.present_value)))
            .collect();
        let info = &account.info;
        accounts.insert(*address, (info.balance, info.nonce, info.code_hash, account.status, storage));
    }
    format!("{:?}\n{accounts:?}", run.0)
}

/// Runs a case both ways; the difference, if there is one.
pub fn difference(case: &Case, codes: &Arc<Codes>) -> Option<String> {
    let expected = outcome(&Engine::new(case, None).run(&case.tx));
    let got = outcome(&Engine::new(case, Some(codes.clone())).run(&case.tx));
    (expected != got)
        .then(|| format!("{} in {:?}\n  interpreter {expected}\n  compiled    {got}", case.name, case.spec))
}

/// A call to a contract with this code, and nothing else in the world.
pub fn code_case(name: &str, spec: SpecId, code: Vec<u8>, gas_limit: u64, input: Vec<u8>) -> Case {
    let address = Address::repeat_byte(0xcc);
    let mut db = Db::default();
    put_account(&mut db, address, U256::from(7), 1, code.into());
    put_account(&mut db, Address::repeat_byte(0xaa), U256::from(1u64) << 100, 0, Bytes::new());
    let tx = TxEnv {
        caller: Address::repeat_byte(0xaa),
        kind: TxKind::Call(address),
        gas_limit,
        gas_price: 0,
        data: input.into(),
        chain_id: None,
        ..Default::default()
    };
    let mut block = BlockEnv { gas_limit: u64::MAX, number: U256::from(1000), ..Default::default() };
    block.prevrandao = Some(B256::repeat_byte(0x5a));
    block.blob_excess_gas_and_price = Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 });
    Case { name: name.into(), spec, db, block, tx }
}

pub fn put_account(db: &mut Db, address: Address, balance: U256, nonce: u64, code: Bytes) {
    let code = Bytecode::new_raw(code);
    db.insert_account_info(
        address,
        AccountInfo { balance, nonce, code_hash: code.hash_slow(), code: Some(code), ..Default::default() },
    );
}

// The corpus.

/// The folder of an archive of the corpus, unpacked once under target/corpus; `None` and a line of text where it is not.
pub fn corpus(archive: &str) -> Option<PathBuf> {
    static LOCK: OnceLock<Mutex<()>> = OnceLock::new();
    let _guard = LOCK.get_or_init(Mutex::default).lock();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let from =
        std::env::var_os("IRONLANE_CORPUS").map_or_else(|| root.join("../shared/corpus"), PathBuf::from);
    let packed = from.join(format!("{archive}.tar.xz"));
    if !packed.exists() {
        println!(
            "skipped: {} is not there (set IRONLANE_CORPUS to the folder that holds it)",
            packed.display()
        );
        return None;
    }
    let to = root.join("target/corpus").join(archive);
    if !to.join(".complete").exists() {
        // Several tests may come here at once, each in its own process: the last rename wins, all are the same.
        let part = root.join("target/corpus").join(format!("{archive}.{}", std::process::id()));
        std::fs::create_dir_all(&part).expect("target/corpus");
        let tar = std::process::Command::new("tar").arg("-xJf").arg(&packed).arg("-C").arg(&part).status();
        assert!(tar.is_ok_and(|status| status.success()), "tar unpacks {}", packed.display());
        std::fs::write(part.join(".complete"), []).expect("target/corpus");
        if std::fs::rename(&part, &to).is_err() {
            let _ = std::fs::remove_dir_all(&part);
        }
    }
    Some(to)
}

/// All JSON files below a folder, in order.
pub fn json_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("0x0")
}

fn number(text: &str) -> Option<U256> {
    U256::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

fn short(text: &str) -> Option<u64> {
    u64::try_from(number(text)?).ok()
}

fn bytes(text: &str) -> Option<Bytes> {
    hex::decode(text.trim_start_matches("0x")).ok().map(Into::into)
}

fn spec_of(fork: &str) -> Option<SpecId> {
    Some(match fork {
        "Frontier" => SpecId::FRONTIER,
        "Homestead" => SpecId::HOMESTEAD,
        "EIP150" | "TangerineWhistle" => SpecId::TANGERINE,
        "EIP158" | "SpuriousDragon" => SpecId::SPURIOUS_DRAGON,
        "Byzantium" => SpecId::BYZANTIUM,
        "Constantinople" | "ConstantinopleFix" | "Petersburg" => SpecId::PETERSBURG,
        "Istanbul" => SpecId::ISTANBUL,
        "Berlin" => SpecId::BERLIN,
        "London" => SpecId::LONDON,
        "Merge" | "Paris" => SpecId::MERGE,
        "Shanghai" => SpecId::SHANGHAI,
        "Cancun" => SpecId::CANCUN,
        "Prague" => SpecId::PRAGUE,
        "Osaka" => SpecId::OSAKA,
        _ => return None,
    })
}

fn world(pre: &Value) -> Option<Db> {
    let mut db = Db::default();
    for (address, account) in pre.as_object()? {
        let address: Address = address.parse().ok()?;
        put_account(
            &mut db,
            address,
            number(text(account, "balance"))?,
            short(text(account, "nonce"))?,
            bytes(account["code"].as_str().unwrap_or("0x"))?,
        );
        for (key, value) in account["storage"].as_object().into_iter().flatten() {
            db.insert_account_storage(address, number(key)?, number(value.as_str()?)?).ok()?;
        }
    }
    Some(db)
}

fn access_list(value: &Value) -> Option<AccessList> {
    let mut items = Vec::new();
    for item in value.as_array()? {
        let storage_keys = item["storageKeys"]
            .as_array()?
            .iter()
            .map(|key| key.as_str()?.parse().ok())
            .collect::<Option<_>>()?;
        items.push(AccessListItem { address: text(item, "address").parse().ok()?, storage_keys });
    }
    Some(AccessList(items))
}

/// The cases of a state test file.
pub fn state_test(path: &Path) -> Vec<Case> {
    let file: Value =
        serde_json::from_slice(&std::fs::read(path).expect("a file of the corpus")).expect("JSON");
    let mut cases = Vec::new();
    for (name, test) in file.as_object().into_iter().flatten() {
        for (fork, posts) in test["post"].as_object().into_iter().flatten() {
            let Some(spec) = spec_of(fork) else { continue };
            for post in posts.as_array().into_iter().flatten() {
                cases.extend(state_case(name, spec, test, &post["indexes"]));
            }
        }
    }
    cases
}

fn state_case(name: &str, spec: SpecId, test: &Value, indexes: &Value) -> Option<Case> {
    let (env, tx) = (&test["env"], &test["transaction"]);
    let index = |key: &str| indexes[key].as_u64().unwrap_or(0) as usize;
    let excess = env.get("currentExcessBlobGas").and_then(|_| short(text(env, "currentExcessBlobGas")));
    let block = BlockEnv {
        number: number(text(env, "currentNumber"))?,
        beneficiary: text(env, "currentCoinbase").parse().ok()?,
        timestamp: number(text(env, "currentTimestamp"))?,
        gas_limit: short(text(env, "currentGasLimit")).unwrap_or(u64::MAX),
        basefee: short(text(env, "currentBaseFee"))?,
        difficulty: number(text(env, "currentDifficulty"))?,
        prevrandao: Some(number(text(env, "currentRandom"))?.into()),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
            excess_blob_gas: excess.unwrap_or(0),
            blob_gasprice: 1,
        }),
        ..Default::default()
    };
    let is_dynamic = tx.get("maxFeePerGas").is_some();
    let to = tx["to"].as_str().unwrap_or("");
    let lists = &tx["accessLists"];
    let list = lists[index("data")].as_array().map(|_| &lists[index("data")]);
    let mut authorizations = Vec::new();
    for item in tx["authorizationList"].as_array().into_iter().flatten() {
        let authorization = Authorization {
            chain_id: number(text(item, "chainId"))?,
            address: text(item, "address").parse().ok()?,
            nonce: short(text(item, "nonce"))?,
        };
        let signer =
            text(item, "signer").parse().map_or(RecoveredAuthority::Invalid, RecoveredAuthority::Valid);
        authorizations.push(Either::Right(RecoveredAuthorization::new_unchecked(authorization, signer)));
    }
    let blob_hashes: Vec<B256> = tx["blobVersionedHashes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|hash| hash.as_str()?.parse().ok())
        .collect::<Option<_>>()?;
    let tx_type = match () {
        () if tx.get("authorizationList").is_some() => 4,
        () if tx.get("blobVersionedHashes").is_some() => 3,
        () if is_dynamic => 2,
        () if list.is_some() => 1,
        () => 0,
    };
    let tx = TxEnv {
        tx_type,
        caller: text(tx, "sender").parse().ok()?,
        gas_limit: short(tx["gasLimit"][index("gas")].as_str()?)?,
        gas_price: u128::try_from(number(text(tx, if is_dynamic { "maxFeePerGas" } else { "gasPrice" }))?)
            .ok()?,
        gas_priority_fee: if is_dynamic {
            Some(u128::try_from(number(text(tx, "maxPriorityFeePerGas"))?).ok()?)
        } else {
            None
        },
        kind: if to.is_empty() { TxKind::Create } else { TxKind::Call(to.parse().ok()?) },
        value: number(tx["value"][index("value")].as_str()?)?,
        data: bytes(tx["data"][index("data")].as_str()?)?,
        nonce: short(text(tx, "nonce"))?,
        chain_id: None,
        access_list: list.and_then(access_list).unwrap_or_default(),
        blob_hashes,
        max_fee_per_blob_gas: u128::try_from(number(text(tx, "maxFeePerBlobGas"))?).ok()?,
        authorization_list: authorizations,
    };
    Some(Case { name: name.into(), spec, db: world(&test["pre"])?, block, tx })
}

/// A contract of the corpus's revmc set with its transaction.
pub fn contract_case(folder: &Path, name: &str) -> Option<Case> {
    let file: Value =
        serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).ok()?).ok()?;
    let test = file.as_object()?.values().next()?;
    let tx = &test["transaction"][0];
    let mut case = code_case(name, SpecId::OSAKA, vec![], 0, vec![]);
    case.db = world(&test["pre"])?;
    case.tx = TxEnv {
        caller: text(tx, "sender").parse().ok()?,
        kind: TxKind::Call(text(tx, "to").parse().ok()?),
        data: bytes(text(tx, "data"))?,
        gas_limit: short(text(tx, "gasLimit"))?,
        value: number(text(tx, "value"))?,
        gas_price: 0,
        chain_id: None,
        nonce: 0,
        ..Default::default()
    };
    let nonce = case.db.cache.accounts.get(&case.tx.caller).map_or(0, |account| account.info.nonce);
    case.tx.nonce = nonce;
    Some(case)
}
