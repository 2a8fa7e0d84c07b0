//! `eth_config` (EIP-7910): which rules hold now, which come next.

use crate::api::Api;
use crate::error::Answer;
use crate::json::quantity;
use crate::params::Args;
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, Bytes};
use ironlane_executor::ChainSpec;
use revm::primitives::hardfork::SpecId;
use serde_json::{Map, Value, json};

/// EIP-7910's names of precompiled contracts, their addresses, and the fork that brought each.
const PRECOMPILES: &[(&str, u64, SpecId)] = &[
    ("ECREC", 0x01, SpecId::FRONTIER),
    ("SHA256", 0x02, SpecId::FRONTIER),
    ("RIPEMD160", 0x03, SpecId::FRONTIER),
    ("ID", 0x04, SpecId::FRONTIER),
    ("MODEXP", 0x05, SpecId::BYZANTIUM),
    ("BN254_ADD", 0x06, SpecId::BYZANTIUM),
    ("BN254_MUL", 0x07, SpecId::BYZANTIUM),
    ("BN254_PAIRING", 0x08, SpecId::BYZANTIUM),
    ("BLAKE2F", 0x09, SpecId::ISTANBUL),
    ("KZG_POINT_EVALUATION", 0x0a, SpecId::CANCUN),
    ("BLS12_G1ADD", 0x0b, SpecId::PRAGUE),
    ("BLS12_G1MSM", 0x0c, SpecId::PRAGUE),
    ("BLS12_G2ADD", 0x0d, SpecId::PRAGUE),
    ("BLS12_G2MSM", 0x0e, SpecId::PRAGUE),
    ("BLS12_PAIRING_CHECK", 0x0f, SpecId::PRAGUE),
    ("BLS12_MAP_FP_TO_G1", 0x10, SpecId::PRAGUE),
    ("BLS12_MAP_FP2_TO_G2", 0x11, SpecId::PRAGUE),
    ("P256VERIFY", 0x100, SpecId::OSAKA),
];

pub(crate) fn config(api: &Api, _: &Args) -> Answer {
    let spec = &api.ctx.spec;
    let now = api.head()?.header.timestamp;
    let times = fork_times(spec);
    let current = times.iter().rev().find(|time| **time <= now).copied().unwrap_or(0);
    let next = times.iter().find(|time| **time > now).copied();
    let last = times.last().copied().filter(|last| *last > now);
    Ok(json!({
        "current": describe(spec, current),
        "next": next.map(|time| describe(spec, time)),
        "last": last.map(|time| describe(spec, time)),
    }))
}

/// Times of the forks that are named by a time, genesis' own among them.
fn fork_times(spec: &ChainSpec) -> Vec<u64> {
    let forks = &spec.forks;
    let named = [forks.shanghai_time, forks.cancun_time, forks.prague_time, forks.osaka_time];
    let mut times: Vec<u64> = named.into_iter().flatten().collect();
    times.extend(forks.blob_schedule.iter().map(|(time, _)| *time));
    times.sort_unstable();
    times.dedup();
    times
}

fn describe(spec: &ChainSpec, time: u64) -> Value {
    // A fork named by a time comes after the merge, at whatever height.
    let rules = spec.forks.spec_id(u64::MAX, time, true);
    let blob = spec.blob_params(time).map(|params| {
        json!({
            "target": params.target_blob_count,
            "max": params.max_blob_count,
            "baseFeeUpdateFraction": params.update_fraction as u64,
        })
    });
    let precompiles: Map<String, Value> = PRECOMPILES
        .iter()
        .filter(|(_, _, since)| rules.is_enabled_in(*since))
        .map(|(name, address, _)| (name.to_string(), json!(address_of(*address))))
        .collect();
    json!({
        "activationTime": time,
        "blobSchedule": blob,
        "chainId": quantity(spec.chain_id),
        "forkId": Bytes::copy_from_slice(&fork_id(spec, time)),
        "precompiles": precompiles,
        "systemContracts": system_contracts(spec, rules),
    })
}

fn address_of(low: u64) -> Address {
    Address::left_padding_from(&low.to_be_bytes())
}

fn system_contracts(spec: &ChainSpec, rules: SpecId) -> Value {
    let mut out = Map::new();
    if rules.is_enabled_in(SpecId::CANCUN) {
        out.insert("BEACON_ROOTS_ADDRESS".into(), json!(eip4788::BEACON_ROOTS_ADDRESS));
    }
    if rules.is_enabled_in(SpecId::PRAGUE) {
        out.insert(
            "CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS".into(),
            json!(eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
        );
        out.insert("DEPOSIT_CONTRACT_ADDRESS".into(), json!(spec.deposit_contract));
        out.insert("HISTORY_STORAGE_ADDRESS".into(), json!(eip2935::HISTORY_STORAGE_ADDRESS));
        out.insert(
            "WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS".into(),
            json!(eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
        );
    }
    Value::Object(out)
}

/// EIP-2124 with EIP-6122: CRC-32 of the genesis hash and of every fork up to `time`, blocks before times, each once.
fn fork_id(spec: &ChainSpec, time: u64) -> [u8; 4] {
    let forks = &spec.forks;
    let mut blocks: Vec<u64> = [
        forks.homestead,
        forks.dao,
        forks.tangerine_whistle,
        forks.spurious_dragon,
        forks.byzantium,
        forks.constantinople,
        forks.petersburg,
        forks.istanbul,
        forks.muir_glacier,
        forks.berlin,
        forks.london,
        forks.arrow_glacier,
        forks.gray_glacier,
        forks.merge,
    ]
    .into_iter()
    .flatten()
    .filter(|block| *block > 0)
    .collect();
    blocks.sort_unstable();
    blocks.dedup();
    let genesis = spec.genesis.header.timestamp;
    let times = fork_times(spec).into_iter().filter(|fork| *fork > genesis && *fork <= time);
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
    crc.update(spec.genesis.hash.as_slice());
    blocks.into_iter().chain(times).for_each(|fork| crc.update(&fork.to_be_bytes()));
    (crc.finalize() as u32).to_be_bytes()
}
