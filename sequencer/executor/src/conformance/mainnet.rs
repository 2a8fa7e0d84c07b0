//! Real mainnet blocks over the part of the state that they read.

use super::{Cases, ConformanceError, Rig, read_json};
use crate::{ChainSpec, ForkSchedule, StateRoot, header, recover_transaction, spec::parse_alloc};
use alloy_consensus::Header;
use alloy_eips::{eip4895::Withdrawal, eip7840::BlobParams};
use alloy_primitives::{B256, Bytes, U256};
use ironlane_trie::TrieError;
use ironlane_types::{StateDelta, TxEnvelope};
use revm::primitives::hardfork::SpecId;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

/// What all blocks of the corpus share.
pub(super) struct Shared {
    codes: HashMap<B256, Bytes>,
    hashes: BTreeMap<u64, B256>,
}

impl Shared {
    pub(super) fn read(folder: &Path) -> Result<Self, ConformanceError> {
        let io = |name: &str, reason: String| ConformanceError::Io {
            path: folder.join(name),
            source: std::io::Error::other(reason),
        };
        Ok(Self {
            codes: read_json(&folder.join("bytecodes.json")).map_err(|e| io("bytecodes.json", e))?,
            hashes: read_json(&folder.join("block_hashes.json")).map_err(|e| io("block_hashes.json", e))?,
        })
    }
}

#[derive(Deserialize)]
struct Block {
    #[serde(flatten)]
    header: Header,
    hash: B256,
    transactions: Vec<alloy_rpc_types_eth::Transaction<TxEnvelope>>,
    withdrawals: Option<Vec<Withdrawal>>,
}

/// Mainnet's activation blocks and times.
fn forks() -> ForkSchedule {
    ForkSchedule {
        homestead: Some(1_150_000),
        dao: Some(1_920_000),
        tangerine_whistle: Some(2_463_000),
        spurious_dragon: Some(2_675_000),
        byzantium: Some(4_370_000),
        constantinople: Some(7_280_000),
        petersburg: Some(7_280_000),
        istanbul: Some(9_069_000),
        muir_glacier: Some(9_200_000),
        berlin: Some(12_244_000),
        london: Some(12_965_000),
        arrow_glacier: Some(13_773_000),
        gray_glacier: Some(15_050_000),
        merge: Some(15_537_394),
        terminal_total_difficulty: Some(U256::from(58_750_000_000_000_000_000_000u128)),
        shanghai_time: Some(1_681_338_455),
        cancun_time: Some(1_710_338_135),
        prague_time: Some(1_746_612_311),
        osaka_time: Some(1_764_798_551),
        blob_schedule: vec![
            (1_710_338_135, BlobParams::cancun()),
            (1_746_612_311, BlobParams::prague()),
            (1_764_798_551, BlobParams::osaka()),
        ],
    }
}

pub(super) fn run<T: StateRoot, F: Fn() -> Result<T, TrieError> + Sync>(
    file: &Path,
    shared: &Shared,
    rig: &Rig<F>,
    cases: &mut Cases,
) {
    let name = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    cases.record(&name.unwrap_or_default(), check(file, shared, rig));
}

fn check<T: StateRoot, F: Fn() -> Result<T, TrieError> + Sync>(
    file: &Path,
    shared: &Shared,
    rig: &Rig<F>,
) -> Result<(), String> {
    let block: Block = read_json(file)?;
    let pre: Value = read_json(&file.with_file_name("pre_state.json"))?;
    let alloc = pre_state(&pre, shared)?;
    let spec = ChainSpec::new(1, forks(), Header::default(), alloc);
    let alloc = spec.genesis.alloc.clone();
    let context = spec.context_of(&block.header, block.withdrawals, Vec::new());
    let rules = spec.parameters(&context).spec_id;

    let mut executor = rig.executor(spec)?;
    executor.store_mut().apply(&alloc).map_err(|e| e.to_string())?;
    executor.store_mut().seal();
    let hashes = executor.hashes().clone();
    for (number, hash) in shared.hashes.range(context.number.saturating_sub(256)..context.number) {
        hashes.set(*number, *hash);
    }
    hashes.set(context.number - 1, block.header.parent_hash);

    executor.open_block(context).map_err(|e| e.to_string())?;
    for (index, tx) in block.transactions.into_iter().enumerate() {
        let sender = tx.inner.signer();
        let tx = recover_transaction(tx.inner.into_inner(), rules)
            .map_err(|e| format!("transaction {index}: {e}"))?;
        if tx.sender != sender {
            return Err(format!("transaction {index}: sender {}, expected {sender}", tx.sender));
        }
        executor.try_execute(Arc::new(tx)).map_err(|e| format!("transaction {index}: {e}"))?;
    }
    let closed = executor.close_block().map_err(|e| e.to_string())?;

    let same = |what: &str, found: String, expected: String| {
        if found == expected { Ok(()) } else { Err(format!("{what} {found}, expected {expected}")) }
    };
    same("gas used", closed.gas_used.to_string(), block.header.gas_used.to_string())?;
    same("bloom", header::logs_bloom(&closed.txs).to_string(), block.header.logs_bloom.to_string())?;
    // Before Byzantium receipts hold state roots, which a partial pre-state cannot give.
    if rules.is_enabled_in(SpecId::BYZANTIUM) {
        same(
            "receipts root",
            header::receipts_root(&closed.txs).to_string(),
            block.header.receipts_root.to_string(),
        )?;
    }
    same("hash", block.header.hash_slow().to_string(), block.hash.to_string())
}

/// The pre-state names code by hash; the rest is as in a genesis.
fn pre_state(pre: &Value, shared: &Shared) -> Result<StateDelta, String> {
    let mut alloc = parse_alloc(pre).map_err(|e| e.to_string())?;
    for account in &mut alloc.accounts {
        let entry = pre.get(format!("{:#x}", account.address));
        let Some(hash) = entry.and_then(|entry| entry.get("code_hash")).and_then(Value::as_str) else {
            continue;
        };
        let hash: B256 = hash.parse().map_err(|_| format!("code_hash of {}", account.address))?;
        if hash == ironlane_types::KECCAK_EMPTY {
            continue;
        }
        let code = shared.codes.get(&hash).ok_or_else(|| format!("no code {hash} in bytecodes.json"))?;
        if let Some(info) = &mut account.info {
            info.code_hash = hash;
        }
        alloc.codes.push((hash, code.clone()));
    }
    Ok(alloc)
}
