//! `ironbench auth`: what it costs to find out who signed, engine by engine, beside libsecp256k1 in the same process.
//!
//! Each row runs the yardstick, the engine, the engine, the yardstick, a quarter of its time each, so that a drift of the
//! host's speed is in both. Batch verification is measured with known accounts and right hints, all senders different or
//! four transactions each; and with wrong hints at a steady rate, and from sources that earn trust and then abuse it,
//! against plain recovery in lanes.

use alloy_primitives::{Address, B256, U256, keccak256};
use anyhow::{Context, ensure};
use ironlane_fpga::backend::batch::{self, KeyCache};
use ironlane_fpga::backend::simd::{self, Vectors};
use ironlane_fpga::backend::{Config, scalar};
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverRequest, Waker};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde_json::{Value, json};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Options of `ironbench auth`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ironbench auth --json --engine batch --workers 2")]
pub(crate) struct Args {
    /// Worker threads of each engine, besides one; 0 means one a CPU.
    #[arg(long, default_value_t = 0)]
    pub(crate) workers: usize,
    /// Only engines whose name begins so.
    #[arg(long, default_value = "")]
    pub(crate) engine: String,
    /// Seconds a row, half of them for the yardstick.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// The smallest size that still runs everything.
    #[arg(long)]
    pub(crate) smoke: bool,
}

/// Signatures that the yardstick recovers at a time.
const YARDSTICK_MAX: usize = 256;
/// Signatures in which a source shows that its hints are right, and an engine gets to know the accounts.
const WARM_UP: usize = 512;
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
    let (mut requests, mut senders): (Vec<RecoverRequest>, _) = (vec![], vec![]);
    for tag in 0..size {
        let key = &keys[tag % distinct];
        let hash = keccak256((tag as u64).to_le_bytes());
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), key);
        let (id, rs) = signature.serialize_compact();
        let word = |i: usize| U256::from_be_slice(&rs[i * 32..i * 32 + 32]);
        let parity = i32::from(id) as u8;
        let point = PublicKey::from_secret_key(SECP256K1, key).serialize_uncompressed();
        let sender = Address::from_slice(&keccak256(&point[1..])[12..]);
        requests.push(RecoverRequest {
            tag: tag as u64,
            hash,
            r: word(0),
            s: word(1),
            parity,
            hint: Some(sender),
            source: 1,
        });
        senders.push(sender);
    }
    Ok(Batch { requests, senders, distinct })
}

/// The yardstick's input: what libsecp256k1 wants to have.
fn libsecp_input(batch: &Batch) -> anyhow::Result<Vec<(Message, RecoverableSignature)>> {
    let signed = batch.requests.iter().take(YARDSTICK_MAX).map(|q| {
        let mut rs = [0u8; 64];
        rs[..32].copy_from_slice(&q.r.to_be_bytes::<32>());
        rs[32..].copy_from_slice(&q.s.to_be_bytes::<32>());
        let id = RecoveryId::from_u8_masked(q.parity);
        Ok((Message::from_digest(q.hash.0), RecoverableSignature::from_compact(&rs, id)?))
    });
    Ok(signed.collect::<Result<_, secp256k1::Error>>()?)
}

/// The yardstick: one recovery after the other, on this thread, without the address.
fn libsecp(signed: &[(Message, RecoverableSignature)]) -> anyhow::Result<()> {
    for (message, signature) in signed {
        std::hint::black_box(SECP256K1.recover_ecdsa(*message, signature)?);
    }
    Ok(())
}

/// Runs `work`, which does `count` items, for about so many seconds and adds the times of an item in µs.
fn sample(
    seconds: f64,
    count: usize,
    samples: &mut Vec<f64>,
    work: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let enough = samples.len() + 2;
    while samples.len() < enough || Instant::now() < end {
        let start = Instant::now();
        work()?;
        samples.push(start.elapsed().as_secs_f64() * 1e6 / count as f64);
    }
    Ok(())
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// A thing to time: so many items a call.
type Timed<'a> = (usize, &'a mut dyn FnMut() -> anyhow::Result<()>);

/// Runs a, b, b, a; the median time of an item of each in µs.
fn a_b_b_a(seconds: f64, a: Timed<'_>, b: Timed<'_>) -> anyhow::Result<(f64, f64)> {
    let (mut of_a, mut of_b) = (vec![], vec![]);
    sample(seconds / 4.0, a.0, &mut of_a, a.1)?;
    sample(seconds / 4.0, b.0, &mut of_b, b.1)?;
    sample(seconds / 4.0, b.0, &mut of_b, b.1)?;
    sample(seconds / 4.0, a.0, &mut of_a, a.1)?;
    Ok((median(&mut of_a), median(&mut of_b)))
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

/// An engine with the bell that it rings.
struct Bench {
    engine: Box<dyn RecoverEngine>,
    bell: Arc<Bell>,
}

impl Bench {
    fn recover(&mut self, batch: &Batch) -> anyhow::Result<()> {
        recover(self.engine.as_mut(), &self.bell, batch)
    }

    /// Lets the engine learn what it can.
    fn warm_up(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for _ in 0..WARM_UP.div_ceil(batch.requests.len()) + 1 {
            self.recover(batch)?;
        }
        Ok(())
    }
}

fn boxed(engine: impl RecoverEngine + 'static) -> Box<dyn RecoverEngine> {
    Box::new(engine)
}

/// Starts an engine by its name; `None`, with a word on stderr, where this CPU has not got it.
fn start(name: &str, workers: usize) -> Option<Bench> {
    let bell = Arc::new(Bell::default());
    let ring = bell.clone();
    let waker: Waker = Arc::new(move || ring.ring());
    let config = Config { workers, ..Config::default() };
    let keys = || Arc::new(KeyCache::new(16_384));
    let engine = match name {
        "simd-avx2" => simd::probe(Vectors::Avx2, config, Some(waker)).map(boxed),
        "simd-ifma" => simd::probe(Vectors::Ifma, config, Some(waker)).map(boxed),
        "batch-avx2" => batch::probe(Vectors::Avx2, keys(), config, Some(waker)).map(boxed),
        "batch-ifma" => batch::probe(Vectors::Ifma, keys(), config, Some(waker)).map(boxed),
        _ => scalar::probe(config, Some(waker)).map(boxed),
    };
    match engine {
        Ok(engine) => Some(Bench { engine, bell }),
        Err(refusal) => {
            eprintln!("{refusal}");
            None
        }
    }
}

/// Wrong hints in a batch, and where they come from.
#[derive(Debug, Clone, Copy)]
enum Poison {
    /// One hint in so many is another account's, all from one source.
    Steady(usize),
    /// Each batch comes from a source that has just earned its trust, and one hint in so many is wrong.
    Rotating(usize),
}

/// A poisoned run: so many batches, as they would come in, with the price of earning trust in them.
fn poisoned(clean: &Batch, poison: Poison, batches: usize) -> Vec<Batch> {
    let len = clean.requests.len();
    let mut out = vec![];
    for number in 0..batches {
        let copy = || Batch {
            requests: clean.requests.clone(),
            senders: clean.senders.clone(),
            distinct: clean.distinct,
        };
        let (every, source, mut batch) = match poison {
            Poison::Steady(every) => (every, 1, copy()),
            Poison::Rotating(every) => (every, 2 + number as u64, copy()),
        };
        for request in &mut batch.requests {
            request.source = source;
        }
        if let Poison::Rotating(_) = poison {
            let mut trust = copy();
            trust.requests.truncate(256);
            trust.senders.truncate(256);
            for request in &mut trust.requests {
                request.source = source;
            }
            out.push(trust);
        }
        for (place, request) in batch.requests.iter_mut().enumerate() {
            // Spread evenly, and elsewhere in each batch.
            if (place + number * 37 + every / 2).is_multiple_of(every) {
                request.hint = Some(clean.senders[(place + 1) % len]);
            }
        }
        out.push(batch);
    }
    out
}

/// Runs the bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let cpus = std::thread::available_parallelism()?.get();
    let workers = if args.workers == 0 { cpus } else { args.workers };
    let seconds = if args.smoke { 0.0 } else { args.seconds };
    let sizes: &[usize] = if args.smoke { &[1, 64] } else { &[1, 4, 16, 64, 256, 1024, 4096] };
    let signed = libsecp_input(&batch(if args.smoke { 8 } else { YARDSTICK_MAX }, 1)?)?;
    let mut yardsticks = vec![];

    let mut layouts = vec![1];
    if workers > 1 {
        layouts.push(workers);
    }
    let wanted = |name: &&str| name.starts_with(args.engine.as_str());
    let (mut rows, mut digest) = (vec![], B256::ZERO);
    for name in ["scalar", "simd-avx2", "simd-ifma", "batch-avx2", "batch-ifma"].into_iter().filter(wanted) {
        for layout in &layouts {
            let Some(mut bench) = start(name, *layout) else { break };
            let per_sender: &[usize] = if name.starts_with("batch") { &[1, 4] } else { &[1] };
            for (size, per_sender) in sizes.iter().flat_map(|size| per_sender.iter().map(|per| (*size, *per)))
            {
                let batch = batch(size, per_sender)?;
                bench.warm_up(&batch)?;
                let (yardstick, us) = a_b_b_a(
                    seconds,
                    (signed.len(), &mut || libsecp(&signed)),
                    (size, &mut || bench.recover(&batch)),
                )?;
                yardsticks.push(yardstick);
                let senders: Vec<u8> = batch.senders.iter().flat_map(|s| s.0.0).collect();
                digest = keccak256([digest.as_slice(), &senders].concat());
                rows.push(json!({
                    "engine": bench.engine.caps().name,
                    "workers": layout,
                    "batch": size,
                    "distinct_senders": batch.distinct,
                    "us_per_sig": us,
                    "speedup": yardstick / us,
                }));
            }
        }
    }
    for (name, plain) in [("batch-avx2", "simd-avx2"), ("batch-ifma", "simd-ifma")] {
        if wanted(&name) {
            rows.extend(poisoned_rows(name, plain, seconds, args.smoke)?);
        }
    }
    Ok(json!({
        "bench": "auth",
        "cpus": cpus,
        "libsecp_recover_us": median(&mut yardsticks),
        "rows": rows,
        "result_hash": digest,
    }))
}

/// Batch verification under attack against plain recovery in the same lanes.
fn poisoned_rows(name: &str, plain: &str, seconds: f64, smoke: bool) -> anyhow::Result<Vec<Value>> {
    let (size, batches) = if smoke { (64, 2) } else { (1_024, 24) };
    let clean = batch(size, 1)?;
    let rates: &[usize] = if smoke { &[64] } else { &[1024, 512, 256, 128, 64, 16, 4, 1] };
    let poisons = rates.iter().map(|every| Poison::Steady(*every));
    let poisons = poisons.chain(rates.iter().take(4).map(|every| Poison::Rotating(*every)));
    let mut rows = vec![];
    for poison in poisons {
        let run = poisoned(&clean, poison, batches);
        let count = run.iter().map(|batch| batch.requests.len()).sum();
        let Some(mut simd) = start(plain, 1) else { return Ok(rows) };
        let mut of_simd = || run.iter().try_for_each(|batch| simd.recover(batch));
        // Each time a new engine, started and warmed up off the clock: what was learned of the sources would make the next
        // run easier.
        let mut times = vec![];
        let mut of_batch = || {
            let Some(mut bench) = start(name, 1) else { return Ok(()) };
            bench.warm_up(&clean)?;
            let start = Instant::now();
            run.iter().try_for_each(|batch| bench.recover(batch))?;
            times.push(start.elapsed().as_secs_f64() * 1e6 / count as f64);
            anyhow::Ok(())
        };
        let (us_simd, _) = a_b_b_a(seconds, (count, &mut of_simd), (count, &mut of_batch))?;
        if times.is_empty() {
            return Ok(rows);
        }
        let us = median(&mut times);
        let (kind, every) = match poison {
            Poison::Steady(every) => ("steady", every),
            Poison::Rotating(every) => ("rotating", every),
        };
        rows.push(json!({
            "engine": name,
            "workers": 1,
            "batch": size,
            "distinct_senders": clean.distinct,
            "poison": kind,
            "one_wrong_in": every,
            "us_per_sig": us,
            "vs_simd": us_simd / us,
        }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoke_run_has_a_row_for_each_engine_layout_and_size() {
        let args = Args { workers: 2, engine: String::new(), seconds: 1.0, smoke: true };
        let result = run(&args).unwrap();
        let rows = result["rows"].as_array().unwrap();
        let of = |name: &str| rows.iter().filter(|row| row["engine"] == name).count();
        assert_eq!(of("scalar"), 4);
        for (vectors, simd, batch) in
            [(Vectors::Avx2, "simd-avx2", "batch-avx2"), (Vectors::Ifma, "simd-ifma", "batch-ifma")]
        {
            if simd::probe(vectors, Config::default(), None).is_ok() {
                // Two layouts, two sizes; for batches with one and with four transactions a sender, and two attacks.
                assert_eq!((of(simd), of(batch)), (4, 10));
            }
        }
        assert_eq!(result["result_hash"], run(&args).unwrap()["result_hash"], "the same work each time");
        assert!(result["libsecp_recover_us"].as_f64().unwrap() > 0.0);
    }
}
