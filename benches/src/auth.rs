//! `ironbench auth`: what it costs to find out who signed, engine by engine, beside libsecp256k1 in the same process.

use alloy_primitives::{Address, B256, U256, keccak256};
use anyhow::{Context, ensure};
use ironlane_fpga::backend::scalar;
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverRequest};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde_json::{Value, json};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Options of `ironbench auth`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ironbench auth --json --workers 2")]
pub(crate) struct Args {
    /// Worker threads of each engine; 0 means one a CPU.
    #[arg(long, default_value_t = 0)]
    pub(crate) workers: usize,
    /// Transactions a sender in each batch.
    #[arg(long, default_value_t = 1)]
    pub(crate) per_sender: usize,
    /// Seconds a row.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// The smallest size that still runs everything.
    #[arg(long)]
    pub(crate) smoke: bool,
}

/// How long an engine may take for one batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// A signed batch and its signers.
struct Batch {
    requests: Vec<RecoverRequest>,
    senders: Vec<Address>,
    distinct: usize,
}

fn batch(size: usize, per_sender: usize) -> anyhow::Result<Batch> {
    let distinct = size.div_ceil(per_sender.max(1));
    let keys = (0..distinct as u64)
        .map(|seed| SecretKey::from_byte_array(keccak256(seed.to_be_bytes()).0))
        .collect::<Result<Vec<_>, _>>()
        .context("a hash is no secret key")?;
    let (mut requests, mut senders) = (vec![], vec![]);
    for tag in 0..size {
        let key = &keys[tag % distinct];
        let hash = keccak256((tag as u64).to_le_bytes());
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), key);
        let (id, rs) = signature.serialize_compact();
        let word = |i: usize| U256::from_be_slice(&rs[i * 32..i * 32 + 32]);
        let parity = i32::from(id) as u8;
        requests.push(RecoverRequest { tag: tag as u64, hash, r: word(0), s: word(1), parity, hint: None, source: 0 });
        let point = PublicKey::from_secret_key(SECP256K1, key).serialize_uncompressed();
        senders.push(Address::from_slice(&keccak256(&point[1..])[12..]));
    }
    Ok(Batch { requests, senders, distinct })
}

/// The yardstick: one recovery after the other, on this thread, without the address.
fn libsecp_us(batch: &Batch, seconds: f64) -> anyhow::Result<f64> {
    let signed: Vec<_> = batch
        .requests
        .iter()
        .map(|q| {
            let mut rs = [0u8; 64];
            rs[..32].copy_from_slice(&q.r.to_be_bytes::<32>());
            rs[32..].copy_from_slice(&q.s.to_be_bytes::<32>());
            let id = RecoveryId::from_u8_masked(q.parity);
            Ok((Message::from_digest(q.hash.0), RecoverableSignature::from_compact(&rs, id)?))
        })
        .collect::<Result<_, secp256k1::Error>>()?;
    median_us(seconds, signed.len(), || {
        for (message, signature) in &signed {
            std::hint::black_box(SECP256K1.recover_ecdsa(*message, signature)?);
        }
        Ok(())
    })
}

/// Runs `work`, which does `count` items, for about so many seconds; the median time of an item in µs.
fn median_us(
    seconds: f64,
    count: usize,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut samples = vec![];
    while samples.len() < 3 || Instant::now() < end {
        let start = Instant::now();
        work()?;
        samples.push(start.elapsed().as_secs_f64() * 1e6 / count as f64);
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2])
}

/// A consumer that parks until the engine rings, as a stage does.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    fn ring(&self) {
        if let Ok(mut rung) = self.rung.lock() {
            *rung = true;
            self.wake.notify_one();
        }
    }

    fn wait(&self) -> anyhow::Result<()> {
        let rung = self.rung.lock().map_err(|_| anyhow::anyhow!("the engine panicked"))?;
        let (mut rung, late) = self
            .wake
            .wait_timeout_while(rung, BATCH_TIMEOUT, |rung| !*rung)
            .map_err(|_| anyhow::anyhow!("the engine panicked"))?;
        ensure!(!late.timed_out(), "the engine did not answer within {BATCH_TIMEOUT:?}");
        *rung = false;
        Ok(())
    }
}

/// One batch through the engine, every answer checked.
fn recover(engine: &mut dyn RecoverEngine, bell: &Bell, batch: &Batch) -> anyhow::Result<()> {
    let mut requests = batch.requests.clone();
    let mut answers: Vec<RecoverAnswer> = Vec::with_capacity(requests.len());
    while answers.len() < batch.requests.len() {
        let _full = engine.submit(&mut requests);
        if engine.poll(&mut answers) == 0 {
            bell.wait()?;
        }
    }
    for answer in answers {
        let expected = batch.senders.get(answer.tag as usize).copied();
        ensure!(
            answer.result.ok() == expected,
            "{} answered {:?} where {expected:?} signed",
            engine.caps().name,
            answer.result
        );
    }
    Ok(())
}

/// Runs the bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let cpus = std::thread::available_parallelism()?.get();
    let workers = if args.workers == 0 { cpus } else { args.workers };
    let seconds = if args.smoke { 0.0 } else { args.seconds };
    let sizes: &[usize] = if args.smoke { &[1, 8] } else { &[1, 4, 16, 64, 256, 1024] };
    let yardstick = libsecp_us(&batch(if args.smoke { 8 } else { 256 }, args.per_sender)?, seconds)?;

    let mut layouts = vec![1];
    if workers > 1 {
        layouts.push(workers);
    }
    let (mut rows, mut digest) = (vec![], B256::ZERO);
    for layout in layouts {
        let bell = Arc::new(Bell::default());
        let waker = bell.clone();
        let config = scalar::Config { workers: layout, ..scalar::Config::default() };
        let mut engine = scalar::probe(config, Some(Arc::new(move || waker.ring())))?;
        for size in sizes {
            let batch = batch(*size, args.per_sender)?;
            let us = median_us(seconds, *size, || recover(&mut engine, &bell, &batch))?;
            let senders: Vec<u8> = batch.senders.iter().flat_map(|s| s.0.0).collect();
            digest = keccak256([digest.as_slice(), &senders].concat());
            rows.push(json!({
                "engine": engine.caps().name,
                "workers": layout,
                "batch": size,
                "distinct_senders": batch.distinct,
                "us_per_sig": us,
                "speedup": yardstick / us,
            }));
        }
    }
    Ok(json!({
        "bench": "auth",
        "cpus": cpus,
        "libsecp_recover_us": yardstick,
        "rows": rows,
        "result_hash": digest,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoke_run_has_a_row_for_each_layout_and_size() {
        let args = Args { workers: 2, per_sender: 1, seconds: 1.0, smoke: true };
        let result = run(&args).unwrap();
        assert_eq!(result["rows"].as_array().unwrap().len(), 4);
        assert_eq!(result["result_hash"], run(&args).unwrap()["result_hash"], "the same work each time");
        assert!(result["libsecp_recover_us"].as_f64().unwrap() > 0.0);
    }
}
