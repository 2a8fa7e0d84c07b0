//! Tests and measurements through the engine trait: the same for a card, a plug-in, a GPU and the CPU.

use super::vectors::{Case, Random, Vectors};
use super::{Outcome, Plan};
use crate::abi;
use crate::card::software;
use crate::patience::Patience;
use crate::{RecoverAnswer, RecoverEngine, RecoverError, RecoverRequest};
use alloy_primitives::Address;
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Batch sizes of the matrices.
const BATCHES: [usize; 8] = [1, 4, 16, 64, 256, 1_024, 4_096, 16_384];

type Right = Result<Address, RecoverError>;

fn question(case: &Case) -> (RecoverRequest, Right) {
    let right = match abi::error_of(case.right.status) {
        None => Ok(Address::from(case.right.address)),
        Some(error) => Err(error),
    };
    (software::request(&case.asked), right)
}

/// Latencies of one batch size.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cell {
    /// Requests submitted together.
    pub batch: usize,
    /// Batches in flight at the same time.
    pub depth: usize,
    /// Requests a second.
    pub throughput_per_s: f64,
    /// From submission to answer, microseconds: p50, p90, p99, p99.9, largest.
    pub latency_us: Quantiles,
}

/// Quantiles of a latency, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Quantiles {
    /// Half are below.
    pub p50: f64,
    /// 90% are below.
    pub p90: f64,
    /// 99% are below.
    pub p99: f64,
    /// 99.9% are below.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e3 }
    }
}

/// Asks every plain vector and every random signature, in several batch sizes.
pub fn check(
    engine: &mut dyn RecoverEngine,
    vectors: &Vectors,
    plan: &Plan,
    progress: &mut dyn FnMut(u64),
) -> Outcome {
    let directed: Vec<_> = vectors.plain().into_iter().map(question).collect();
    let random: Vec<_> = vectors.random.iter().map(question).collect();
    let mut outcome = Outcome::default();
    let capacity = engine.caps().capacity.max(1);
    for (name, cases, batch) in [
        ("directed vectors, one at a time", &directed[..directed.len().min(64)], 1),
        ("directed vectors", &directed[..], 97),
        ("directed vectors, all at once", &directed[..], usize::MAX),
        ("random signatures", &random[..], 1_000),
        ("full", &random[..random.len().min(2 * capacity + 1)], usize::MAX),
    ] {
        let (checked, result) = exchange(engine, cases, batch, plan.answer_limit);
        let failed = result.is_err();
        outcome.record(name, checked, result);
        progress(outcome.cases);
        if failed {
            // Without a reset in the trait there is no clean start; what follows would only repeat it.
            break;
        }
    }
    outcome
}

/// Runs cases through; returns how many answers were right before the first wrong one.
fn exchange(
    engine: &mut dyn RecoverEngine,
    cases: &[(RecoverRequest, Right)],
    batch: usize,
    limit: Duration,
) -> (u64, Result<(), String>) {
    let mut checked = 0;
    let mut answers: Vec<RecoverAnswer> = Vec::new();
    for part in cases.chunks(batch.max(1).min(cases.len().max(1))) {
        let mut left: Vec<RecoverRequest> = part
            .iter()
            .enumerate()
            // Tags with high bits set, to be returned whole.
            .map(|(i, (request, _))| RecoverRequest { tag: !(i as u64), ..*request })
            .collect();
        let mut answered = vec![false; part.len()];
        let mut open = part.len();
        let mut patience = Patience::new(limit);
        while open > 0 {
            let before = left.len();
            let _full = engine.submit(&mut left);
            answers.clear();
            let count = engine.poll(&mut answers);
            if count != answers.len() {
                return (checked, Err(format!("poll says {count} and gives {} answers", answers.len())));
            }
            for answer in &answers {
                let index = usize::try_from(!answer.tag).unwrap_or(usize::MAX);
                let Some((request, right)) = part.get(index) else {
                    return (checked, Err(format!("tag {:#x} was never submitted", answer.tag)));
                };
                if std::mem::replace(&mut answered[index], true) {
                    return (checked, Err(format!("tag {:#x} was answered twice", answer.tag)));
                }
                if answer.result != *right {
                    return (
                        checked,
                        Err(format!("{:?} instead of {right:?} for {request:?}", answer.result)),
                    );
                }
                open -= 1;
                checked += 1;
            }
            if count > 0 || left.len() < before {
                patience.renew();
            } else if patience.is_over() {
                return (checked, Err(format!("{open} requests had no answer within {limit:?}")));
            } else {
                std::thread::yield_now();
            }
        }
        if engine.in_flight() != 0 {
            return (checked, Err("everything is answered, yet the engine counts requests in flight".into()));
        }
    }
    (checked, Ok(()))
}

/// Measures one cell: `depth` batches of `batch` requests in flight, for `time`.
///
/// # Errors
/// A sentence when the engine stops answering.
pub fn cell(
    engine: &mut dyn RecoverEngine,
    pool: &[RecoverRequest],
    batch: usize,
    depth: usize,
    time: Duration,
) -> Result<Cell, String> {
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(|e| e.to_string())?;
    let mut starts = vec![Instant::now(); batch * depth];
    let mut free: Vec<usize> = (0..batch * depth).rev().collect();
    let mut waiting: Vec<RecoverRequest> = Vec::new();
    let mut answers = Vec::new();
    let (mut done, mut next) = (0u64, 0usize);
    let began = Instant::now();
    let mut moved = began;
    loop {
        let running = began.elapsed() < time;
        while running && free.len() >= batch && waiting.is_empty() {
            let now = Instant::now();
            for _ in 0..batch {
                let Some(slot) = free.pop() else { break };
                starts[slot] = now;
                waiting.push(RecoverRequest { tag: slot as u64, ..pool[next % pool.len()] });
                next += 1;
            }
        }
        let _full = engine.submit(&mut waiting);
        answers.clear();
        if engine.poll(&mut answers) > 0 {
            moved = Instant::now();
            for answer in &answers {
                let slot = answer.tag as usize;
                let start = starts.get(slot).ok_or("an unknown tag came back")?;
                latency.saturating_record(moved.duration_since(*start).as_nanos() as u64);
                free.push(slot);
                done += 1;
            }
        } else {
            if !running && free.len() == batch * depth {
                break;
            }
            if moved.elapsed() > Duration::from_secs(5) {
                return Err(format!("no answer for 5 s at batches of {batch}, {depth} in flight"));
            }
            std::thread::yield_now();
        }
    }
    let seconds = moved.duration_since(began).as_secs_f64().max(1e-9);
    Ok(Cell { batch, depth, throughput_per_s: done as f64 / seconds, latency_us: Quantiles::of(&latency) })
}

/// Fills the matrix: batch sizes up to the engine's capacity, one and four batches in flight.
///
/// # Errors
/// As [`cell`].
pub fn measure(
    engine: &mut dyn RecoverEngine,
    vectors: &Vectors,
    plan: &Plan,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Cell>, String> {
    // Valid signatures only: a card may be quick to refuse.
    let pool: Vec<RecoverRequest> =
        vectors.random.iter().filter(|case| case.right.status == 0).map(|case| question(case).0).collect();
    if pool.is_empty() {
        return Err("there is nothing to measure with".into());
    }
    let capacity = engine.caps().capacity;
    let mut cells = Vec::new();
    for depth in [1, 4] {
        for batch in BATCHES.into_iter().filter(|batch| batch * depth <= capacity) {
            cells.push(cell(engine, &pool, batch, depth, plan.cell)?);
            progress(cells.len() as u64);
        }
    }
    Ok(cells)
}

/// What a soak came to.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Soak {
    /// Answers compared with libsecp256k1's.
    pub checked: u64,
    /// Seconds.
    pub seconds: f64,
    /// The first difference.
    pub difference: Option<String>,
}

/// Random requests against libsecp256k1 until `time` is over or something differs. Every round has new signatures.
pub fn soak(
    engine: &mut dyn RecoverEngine,
    plan: &Plan,
    time: Duration,
    progress: &mut dyn FnMut(u64),
) -> Soak {
    let began = Instant::now();
    let mut soak = Soak::default();
    let mut rng = Random::new(plan.seed ^ 0x736f_616b);
    while began.elapsed() < time && soak.difference.is_none() {
        let size = 256 + rng.below(1_024) as usize;
        let vectors = Vectors::only_random(rng.below(u64::MAX), size);
        let cases: Vec<_> = vectors.random.iter().map(question).collect();
        let batch = 1 + rng.below(size as u64) as usize;
        let (checked, result) = exchange(engine, &cases, batch, plan.answer_limit);
        soak.checked += checked;
        soak.difference = result.err();
        progress(soak.checked);
    }
    soak.seconds = began.elapsed().as_secs_f64();
    soak
}
