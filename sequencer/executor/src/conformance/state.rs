//! State tests: one transaction over a pre-state (the format of ethereum/tests and of the execution-spec tests).

use super::{Cases, Rig, read_json};
use crate::{ChainSpec, ForkSchedule, StateRoot, decode_transaction, spec::parse_alloc};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use ironlane_trie::TrieError;
use ironlane_types::BlockContext;
use revm::primitives::hardfork::SpecId;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, sync::Arc};

#[derive(Deserialize)]
struct Unit {
    env: Env,
    pre: Value,
    post: BTreeMap<String, Vec<Post>>,
    #[serde(default)]
    config: super::blocks::Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Env {
    current_coinbase: Address,
    current_gas_limit: U256,
    current_number: U256,
    current_timestamp: U256,
    #[serde(default)]
    current_difficulty: U256,
    current_random: Option<U256>,
    current_base_fee: Option<U256>,
    current_excess_blob_gas: Option<U256>,
}

#[derive(Deserialize)]
struct Post {
    hash: B256,
    logs: B256,
    txbytes: Bytes,
    #[serde(rename = "expectException")]
    expect_exception: Option<String>,
}

pub(super) fn run<T: StateRoot, F: Fn() -> Result<T, TrieError> + Sync>(
    file: &Path,
    rig: &Rig<F>,
    cases: &mut Cases,
) {
    let units: BTreeMap<String, Unit> = match read_json(file) {
        Ok(units) => units,
        Err(reason) => return cases.record("(file)", Err(reason)),
    };
    for (name, unit) in units {
        for (fork, posts) in &unit.post {
            for (index, post) in posts.iter().enumerate() {
                let case = format!("{name} {fork}/{index}");
                match super::blocks::fork(fork) {
                    Some(spec_id) => cases.record(&case, check(&unit, spec_id, post, rig)),
                    None => cases.skip(&case, format!("fork {fork} is not one of this executor's")),
                }
            }
        }
    }
}

fn check<T: StateRoot, F: Fn() -> Result<T, TrieError> + Sync>(
    unit: &Unit,
    spec_id: SpecId,
    post: &Post,
    rig: &Rig<F>,
) -> Result<(), String> {
    let mut forks = ForkSchedule::all_until(spec_id);
    unit.config.set_blob_params(&mut forks);
    let alloc = parse_alloc(&unit.pre).map_err(|e| e.to_string())?;
    let header = Header { ommers_hash: EMPTY_OMMER_ROOT_HASH, ..Default::default() };
    let spec = ChainSpec::new(unit.config.chain_id(), forks, header, alloc);
    let alloc = spec.genesis.alloc.clone();
    let mut trie = rig.trie()?;
    trie.apply(&alloc);
    let mut executor = rig.executor(spec)?;
    executor.store_mut().apply(&alloc).map_err(|e| e.to_string())?;
    executor.store_mut().seal();

    let context = context(&unit.env, spec_id)?;
    // State tests define the hash of block n as that of its decimal digits.
    for number in context.number.saturating_sub(256)..context.number {
        executor.hashes().set(number, keccak256(number.to_string()));
    }
    executor.open_bare(context).map_err(|e| e.to_string())?;
    let outcome = match decode_transaction(post.txbytes.clone(), spec_id) {
        Ok(tx) => executor.try_execute(Arc::new(tx)).map_err(|e| e.to_string()),
        Err(reason) => Err(reason),
    };
    let logs: Vec<Log> = match (&outcome, &post.expect_exception) {
        (Ok(executed), None) => executed.outcome.logs.clone(),
        (Err(_), Some(_)) => Vec::new(),
        (Ok(_), Some(expected)) => return Err(format!("executed, expected {expected}")),
        (Err(reason), None) => return Err(format!("refused: {reason}")),
    };
    let logs_hash = keccak256(alloy_rlp::encode(&logs));
    if logs_hash != post.logs {
        return Err(format!("logs hash {logs_hash}, expected {}", post.logs));
    }
    trie.apply(&executor.pending_delta());
    executor.seal_mini_block().map_err(|e| e.to_string())?;
    let root = trie.root();
    if root != post.hash {
        return Err(format!("state root {root}, expected {}", post.hash));
    }
    Ok(())
}

fn context(env: &Env, spec_id: SpecId) -> Result<BlockContext, String> {
    let word = |value: U256, name: &str| {
        u64::try_from(value).map_err(|_| format!("env.{name} does not fit in 64 bits"))
    };
    let merged = spec_id.is_enabled_in(SpecId::MERGE);
    let since = |fork: SpecId| spec_id.is_enabled_in(fork);
    Ok(BlockContext {
        number: word(env.current_number, "currentNumber")?,
        timestamp: word(env.current_timestamp, "currentTimestamp")?,
        beneficiary: env.current_coinbase,
        gas_limit: u64::try_from(env.current_gas_limit).unwrap_or(u64::MAX),
        base_fee: match env.current_base_fee {
            Some(fee) => Some(word(fee, "currentBaseFee")?),
            None => since(SpecId::LONDON).then_some(0),
        },
        prev_randao: env.current_random.unwrap_or_default().into(),
        difficulty: if merged { U256::ZERO } else { env.current_difficulty },
        excess_blob_gas: match env.current_excess_blob_gas {
            Some(gas) => Some(word(gas, "currentExcessBlobGas")?),
            None => since(SpecId::CANCUN).then_some(0),
        },
        parent_beacon_block_root: since(SpecId::CANCUN).then_some(B256::ZERO),
        withdrawals: since(SpecId::SHANGHAI).then(Vec::new),
        ommers: Vec::new(),
        extra_data: Bytes::new(),
        nonce: Default::default(),
    })
}
