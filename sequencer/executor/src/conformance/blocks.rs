//! Blockchain tests: chains of blocks, invalid ones among them, through the importer.

use super::{Cases, Rig, read_json};
use crate::{
    ChainSpec, ForkSchedule, StateRoot,
    spec::{blob_params, parse_alloc},
};
use alloy_consensus::Header;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{B256, Bytes, U256};
use alloy_rlp::Decodable;
use ironlane_trie::TrieError;
use revm::primitives::hardfork::SpecId;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// When the second fork of a transition test begins.
const TRANSITION_TIME: u64 = 15_000;

#[derive(Deserialize)]
struct Unit {
    network: String,
    #[serde(rename = "genesisRLP")]
    genesis_rlp: Bytes,
    pre: Value,
    blocks: Vec<TestBlock>,
    lastblockhash: B256,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestBlock {
    rlp: Bytes,
    expect_exception: Option<String>,
}

/// What a test says about its chain.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    chainid: Option<U256>,
    blob_schedule: Option<BTreeMap<String, Schedule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schedule {
    target: U256,
    max: U256,
    base_fee_update_fraction: U256,
}

impl Config {
    pub(super) fn chain_id(&self) -> u64 {
        self.chainid.map_or(1, |id| id.saturating_to())
    }

    /// Parameters of a fork by its name in the test, or mainnet's.
    fn params(&self, forks: &ForkSchedule, time: u64, name: &str) -> Option<BlobParams> {
        if let Some(entry) = self.blob_schedule.as_ref().and_then(|schedule| schedule.get(name)) {
            let (target, max) = (entry.target.saturating_to(), entry.max.saturating_to());
            return Some(blob_params(
                forks,
                time,
                target,
                max,
                entry.base_fee_update_fraction.saturating_to(),
            ));
        }
        match name {
            "Cancun" => Some(BlobParams::cancun()),
            "Prague" => Some(BlobParams::prague()),
            "Osaka" => Some(BlobParams::osaka()),
            _ => None,
        }
    }

    /// Puts the test's own parameters in place of mainnet's for a chain that has one fork from genesis on.
    pub(super) fn set_blob_params(&self, forks: &mut ForkSchedule) {
        for (name, begins) in
            [("Cancun", forks.cancun_time), ("Prague", forks.prague_time), ("Osaka", forks.osaka_time)]
        {
            if begins.is_some()
                && let Some(params) = self.params(forks, 0, name)
            {
                forks.blob_schedule = vec![(0, params)];
            }
        }
    }
}

/// A fork by its name in test files.
pub(super) fn fork(name: &str) -> Option<SpecId> {
    Some(match name {
        "Frontier" => SpecId::FRONTIER,
        "Homestead" => SpecId::HOMESTEAD,
        "EIP150" => SpecId::TANGERINE,
        "EIP158" => SpecId::SPURIOUS_DRAGON,
        "Byzantium" => SpecId::BYZANTIUM,
        "ConstantinopleFix" => SpecId::PETERSBURG,
        "Istanbul" => SpecId::ISTANBUL,
        "Berlin" => SpecId::BERLIN,
        "London" => SpecId::LONDON,
        "Paris" | "Merge" => SpecId::MERGE,
        "Shanghai" => SpecId::SHANGHAI,
        "Cancun" => SpecId::CANCUN,
        "Prague" => SpecId::PRAGUE,
        "Osaka" => SpecId::OSAKA,
        _ => return None,
    })
}

/// The schedule of a test's network: one fork from genesis on, or two of which the second begins at time 15,000.
fn schedule(network: &str, config: &Config) -> Option<ForkSchedule> {
    if let Some(spec_id) = fork(network) {
        let mut forks = ForkSchedule::all_until(spec_id);
        config.set_blob_params(&mut forks);
        return Some(forks);
    }
    let (first, second) = network.strip_suffix("AtTime15k")?.split_once("To")?;
    // Forks that change blob parameters alone come after Osaka.
    let base = |name: &str| if name.starts_with("BPO") { Some(SpecId::OSAKA) } else { fork(name) };
    let mut forks = ForkSchedule::all_until(base(first)?);
    match base(second)? {
        SpecId::SHANGHAI => forks.shanghai_time = Some(TRANSITION_TIME),
        SpecId::CANCUN => forks.cancun_time = Some(TRANSITION_TIME),
        SpecId::PRAGUE => forks.prague_time = Some(TRANSITION_TIME),
        SpecId::OSAKA if first.starts_with("BPO") || first == "Osaka" => {}
        SpecId::OSAKA => forks.osaka_time = Some(TRANSITION_TIME),
        _ => return None,
    }
    let mut blob_schedule = Vec::new();
    for (time, name) in [(0, first), (TRANSITION_TIME, second)] {
        if let Some(params) = config.params(&forks, time, name) {
            blob_schedule.push((time, params));
        }
    }
    forks.blob_schedule = blob_schedule;
    Some(forks)
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
        match schedule(&unit.network, &unit.config) {
            Some(forks) => cases.record(&name, check(&unit, forks, rig)),
            None => cases.skip(&name, format!("network {} is not one of this executor's", unit.network)),
        }
    }
}

fn check<T: StateRoot, F: Fn() -> Result<T, TrieError> + Sync>(
    unit: &Unit,
    forks: ForkSchedule,
    rig: &Rig<F>,
) -> Result<(), String> {
    let alloc = parse_alloc(&unit.pre).map_err(|e| e.to_string())?;
    // The file holds the genesis as a whole block; its header is the first item in it.
    let mut genesis = &unit.genesis_rlp[..];
    alloy_rlp::Header::decode(&mut genesis).map_err(|e| format!("genesis: {e}"))?;
    let header = Header::decode(&mut genesis).map_err(|e| format!("genesis: {e}"))?;
    let spec = ChainSpec::new(unit.config.chain_id(), forks, header, alloc);
    let mut importer = rig.importer(spec)?;
    for (index, block) in unit.blocks.iter().enumerate() {
        match (importer.import(&block.rlp), &block.expect_exception) {
            (Ok(_), None) | (Err(_), Some(_)) => {}
            (Ok(_), Some(expected)) => {
                return Err(format!("block {index} was accepted, expected {expected}"));
            }
            (Err(reason), None) => return Err(format!("block {index}: {reason}")),
        }
    }
    if importer.head_hash() != unit.lastblockhash {
        return Err(format!("newest block {}, expected {}", importer.head_hash(), unit.lastblockhash));
    }
    Ok(())
}
