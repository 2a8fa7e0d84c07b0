//! Rows of `ironbench auth` for GPUs: throughput with several batches under way, latency of one batch at a time, and the rate
//! of the kernels alone, by batch size; and Keccak-256 on the same device.
//!
//! An engine that this host refuses gives no row but its reason. A device that needs seconds for a batch (a CPU that speaks
//! OpenCL) is not asked for larger ones.

use alloy_primitives::{Address, B256, U256, keccak256};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use ironlane_fpga::backend::gpu::{self, Config, Gpu, Hasher};
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverRequest, Refusal, Waker};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SIZES: [usize; 6] = [256, 1_024, 4_096, 16_384, 65_536, 262_144];
/// Distinct signatures, each by its own key; a larger batch repeats them.
const DISTINCT: usize = 4_096;
/// A batch that takes longer is the last of its device.
const BATCH_S_MAX: f64 = 3.0;
/// How long a device may take for one batch.
const ANSWER_MS_MAX: u32 = 120_000;
/// Messages that are hashed at a time.
const MESSAGES: usize = 1 << 20;

/// What a backend offers to this bench.
struct Backend {
    name: &'static str,
    devices: fn() -> Result<Vec<gpu::Device>, Refusal>,
    probe: fn(Config, Option<Waker>) -> Result<Gpu, Refusal>,
    recover_seconds: fn(&Config, &[RecoverRequest], u32) -> Result<f64, Refusal>,
    hasher: fn(&Config) -> Result<Hasher, Refusal>,
}

const BACKENDS: &[Backend] = &[
    Backend {
        name: "cuda",
        devices: gpu::cuda::devices,
        probe: gpu::cuda::probe,
        recover_seconds: gpu::cuda::recover_seconds,
        hasher: gpu::cuda::hasher,
    },
    #[cfg(feature = "opencl")]
    Backend {
        name: "opencl",
        devices: gpu::opencl::devices,
        probe: gpu::opencl::probe,
        recover_seconds: gpu::opencl::recover_seconds,
        hasher: gpu::opencl::hasher,
    },
];

/// Adds to `report` the rows of every GPU engine whose name begins with `engine`, under `rows`, `gpu_keccak` and `refused`.
pub(crate) fn add_rows(mut report: Value, engine: &str, seconds: f64, smoke: bool) -> anyhow::Result<Value> {
    let yardstick = report["libsecp_recover_us"].as_f64().context("the report has no yardstick")?;
    let (mut rows, mut hashes, mut refused) = (vec![], vec![], vec![]);
    for backend in BACKENDS.iter().filter(|backend| backend.name.starts_with(engine)) {
        let devices = match (backend.devices)() {
            Ok(devices) => devices,
            Err(refusal) => {
                refused.push(json!({ "engine": backend.name, "reason": refusal.reason }));
                continue;
            }
        };
        for device in devices {
            recovery(backend, &device, yardstick, seconds, smoke, &mut rows)?;
            hashes.push(hashing(backend, &device, smoke)?);
        }
    }
    let all = report["rows"].as_array_mut().context("the report has no rows")?;
    all.extend(rows);
    report["gpu_keccak"] = Value::Array(hashes);
    report["refused"] = Value::Array(refused);
    Ok(report)
}

fn config(device: &gpu::Device, batch_max: usize) -> Config {
    Config {
        device: device.index,
        batch_max,
        answer_ms_max: ANSWER_MS_MAX,
        linger_us: 0,
        ..Config::default()
    }
}

fn signed(count: usize) -> anyhow::Result<(Vec<RecoverRequest>, Vec<Address>)> {
    let distinct = count.min(DISTINCT);
    let (mut requests, mut senders) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for tag in 0..distinct as u64 {
        let secret = SecretKey::from_byte_array(keccak256(tag.to_be_bytes()).0)?;
        let hash = keccak256(tag.to_le_bytes());
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &secret);
        let (id, bytes) = signature.serialize_compact();
        let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
        requests.push(RecoverRequest { tag, hash, r, s, parity: i32::from(id) as u8, hint: None, source: 0 });
        let point = PublicKey::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
        senders.push(Address::from_slice(&keccak256(&point[1..])[12..]));
    }
    for tag in distinct..count {
        requests.push(RecoverRequest { tag: tag as u64, ..requests[tag % distinct] });
        senders.push(senders[tag % distinct]);
    }
    Ok((requests, senders))
}

/// Sends `requests` once and waits for every answer.
fn round(engine: &mut Gpu, requests: &[RecoverRequest], senders: &[Address]) -> anyhow::Result<()> {
    let mut batch = requests.to_vec();
    let mut answers: Vec<RecoverAnswer> = Vec::with_capacity(requests.len());
    while answers.len() < requests.len() {
        let _full = engine.submit(&mut batch);
        if engine.poll(&mut answers) == 0 {
            std::thread::yield_now();
        }
        if let Some(failure) = engine.failure() {
            anyhow::bail!("{} failed: {failure}", engine.caps().name);
        }
    }
    for answer in answers {
        let expected = senders.get(answer.tag as usize).copied();
        ensure!(answer.result.ok() == expected, "{} answered {answer:?}", engine.caps().name);
    }
    Ok(())
}

fn recovery(
    backend: &Backend,
    device: &gpu::Device,
    yardstick: f64,
    seconds: f64,
    smoke: bool,
    rows: &mut Vec<Value>,
) -> anyhow::Result<()> {
    let sizes = if smoke { &SIZES[..1] } else { &SIZES[..] };
    for &size in sizes {
        let config = config(device, size);
        let under_way = config.batches;
        let mut engine = (backend.probe)(config.clone(), None)?;
        let (requests, senders) = signed(size)?;

        // One batch at a time.
        let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while latency.len() < 3 || (Instant::now() < end && !smoke) {
            let start = Instant::now();
            round(&mut engine, &requests, &senders)?;
            latency.record(start.elapsed().as_micros() as u64)?;
            if smoke || start.elapsed().as_secs_f64() > BATCH_S_MAX {
                break;
            }
        }
        let slow = latency.max() as f64 > BATCH_S_MAX * 1e6;

        // As many as it takes, and one more to fill.
        let (many, senders) = signed(size * (under_way + 1))?;
        let (start, mut rounds) = (Instant::now(), 0);
        while rounds == 0 || (start.elapsed().as_secs_f64() < seconds && !smoke) {
            round(&mut engine, &many, &senders)?;
            rounds += 1;
        }
        let us = start.elapsed().as_secs_f64() * 1e6 / (rounds * many.len()) as f64;
        drop(engine);
        let kernel_s = (backend.recover_seconds)(&config, &requests, if smoke || slow { 1 } else { 10 })?;
        rows.push(json!({
            "engine": backend.name,
            "device": device.name,
            "details": device.details,
            "batch": size,
            "batches_under_way": under_way,
            "distinct_senders": size.min(DISTINCT),
            "us_per_sig": us,
            "speedup": yardstick / us,
            "per_s": 1e6 / us,
            "kernel_per_s": size as f64 / kernel_s,
            "latency_us": {
                "p50": latency.value_at_quantile(0.5),
                "p99": latency.value_at_quantile(0.99),
                "max": latency.max(),
            },
        }));
        if slow {
            break;
        }
    }
    Ok(())
}

fn hashing(backend: &Backend, device: &gpu::Device, smoke: bool) -> anyhow::Result<Value> {
    let mut hasher = (backend.hasher)(&config(device, SIZES[0]))?;
    let count = if smoke { 1_000 } else { MESSAGES };
    let bytes: Vec<[u8; 32]> = (0..count as u64).map(|i| U256::from(i).to_be_bytes()).collect();
    let messages: Vec<&[u8]> = bytes.iter().map(|message| &message[..]).collect();
    let mut found = vec![B256::ZERO; count];
    let start = Instant::now();
    hasher.hash_many(&messages, &mut found)?;
    let journey = start.elapsed().as_secs_f64();
    for at in (0..count).step_by(97) {
        ensure!(found[at] == keccak256(bytes[at]), "{} hashed message {at} wrongly", backend.name);
    }
    let kernel = hasher.kernel_seconds(if smoke { 1 } else { 10 })?;
    Ok(json!({
        "engine": backend.name,
        "device": device.name,
        "message_bytes": 32,
        "messages": count,
        "per_s": count as f64 / journey,
        "kernel_per_s": count as f64 / kernel,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoke_run_has_a_row_or_a_reason_for_each_backend() {
        let report = json!({ "libsecp_recover_us": 40.0, "rows": [] });
        let report = add_rows(report, "", 0.0, true).unwrap();
        let names = |field: &str| -> Vec<String> {
            let all = report[field].as_array().unwrap();
            all.iter().map(|row| row["engine"].as_str().unwrap().to_owned()).collect()
        };
        let (rows, refused) = (names("rows"), names("refused"));
        assert_eq!(rows, names("gpu_keccak"));
        for backend in BACKENDS {
            assert!(rows.iter().chain(&refused).any(|name| name == backend.name), "{}", backend.name);
        }
        for row in report["rows"].as_array().unwrap() {
            assert!(row["per_s"].as_f64().unwrap() > 0.0 && row["kernel_per_s"].as_f64().unwrap() > 0.0);
        }
        let report = json!({ "libsecp_recover_us": 40.0, "rows": [] });
        let none = add_rows(report, "scalar", 0.0, true).unwrap();
        assert!(none["rows"].as_array().unwrap().is_empty());
    }
}
