//! Batch verification with known public keys, falling back by itself to recovery in lanes.
//!
//! Recovery has to find out who signed; where the signer can be guessed and his key is known, checking the guess for
//! hundreds of signatures at once costs a fraction of it. A guess is the hint that came with the signature or, without
//! one, the account that has signed everything this source sent of late. The hint names an account and nothing more: it is
//! looked up in a bounded [`KeyCache`], which recoveries fill. An unknown account is recovered, and known from then on.
//!
//! A batch that holds proves every guess in it, with a chance of error of 2⁻¹²⁸ (see `secp::verify` for the equation and where
//! its random factors come from). A batch that does not is halved until the wrong ones are alone; those are recovered. So a
//! wrong hint means "recover it", never "reject it", and answers never depend on hints. What wrong hints may cost is
//! bounded: see `standing`.

mod keys;
mod standing;
mod work;

pub use keys::{KeyCache, NotAKey};
pub use work::Stats;

use super::pool::{Config, Policy, Pooled, engine};
use super::simd::{Vectors, tables};
use super::{selftest, simd};
use crate::{Refusal, Waker};
use std::sync::Arc;
use work::{Shared, Worker};

/// Signatures that a worker takes at most at a time.
const BATCH_MAX: usize = 4_096;
/// Below so many queued signatures a second worker is not worth its batch's fixed costs, and the first takes them all.
const SECOND_FROM: usize = 256;
/// Queued signatures for which it pays to wake one more worker.
const QUEUED_PER_WAKE: usize = 512;

const POLICY: Policy = Policy {
    // Batches form by backlog: all that is there, but no more than a fair share of much.
    share: |queued, workers| queued.div_ceil(workers.max(1)).max(QUEUED_PER_WAKE).min(BATCH_MAX),
    per_wake: QUEUED_PER_WAKE,
    second_from: SECOND_FROM,
};

/// Name of the engine that uses these vectors.
const fn name(vectors: Vectors) -> &'static str {
    match vectors {
        Vectors::Avx2 => "batch-avx2",
        Vectors::Ifma => "batch-ifma",
    }
}

/// The engine. Dropping it ends its threads.
pub struct Batch {
    pooled: Pooled,
    shared: Arc<Shared>,
}

engine!(Batch, pooled);

impl Batch {
    /// Counters since the start; they go on counting.
    pub fn stats(&self) -> Arc<Stats> {
        self.shared.stats.clone()
    }

    /// Where the engine looks for public keys. Whoever knows more may add them.
    pub fn keys(&self) -> Arc<KeyCache> {
        self.shared.keys.clone()
    }
}

/// Starts the engine with these vectors and tests it with known answers.
///
/// # Errors
/// [`Refusal`] when the CPU lacks the instructions, a thread cannot be started or pinned, the system has no random
/// numbers, or an answer of the self-test is wrong.
pub fn probe(
    vectors: Vectors,
    keys: Arc<KeyCache>,
    config: Config,
    waker: Option<Waker>,
) -> Result<Batch, Refusal> {
    let name = name(vectors);
    let isa = vectors.isa(name)?;
    let tables = Arc::new(tables(name)?);
    let shared = Arc::new(Shared::new(vectors, keys));
    let make = || -> Box<dyn super::pool::Work> {
        Box::new(Worker::new(simd::Lanes::new(isa, tables.clone()), isa, shared.clone()))
    };
    work::self_test(isa).map_err(|reason| Refusal { engine: name, reason })?;
    let pooled = Pooled::start(name, SECOND_FROM, config, POLICY, make)?;
    let mut engine = Batch { pooled, shared };
    selftest::run(&mut engine, 16)?;
    engine.shared.stats.reset();
    engine.pooled.set_waker(waker);
    Ok(engine)
}

/// Starts the engine with the widest vectors that the CPU has.
///
/// # Errors
/// The refusals of all kinds of vectors, widest first.
pub fn probe_widest(
    keys: &Arc<KeyCache>,
    config: &Config,
    waker: Option<&Waker>,
) -> Result<Batch, Vec<Refusal>> {
    let mut refusals = vec![];
    for vectors in Vectors::ALL {
        match probe(vectors, keys.clone(), config.clone(), waker.cloned()) {
            Ok(engine) => return Ok(engine),
            Err(refusal) => refusals.push(refusal),
        }
    }
    Err(refusals)
}
