//! Recovery in vector lanes: four signatures side by side with AVX2, eight with AVX-512 IFMA. Each signature stands for
//! itself, no hints are needed, and a bad one costs what a good one costs.
//!
//! Lanes cost the same full or empty, so a lone signature goes to libsecp256k1 instead, and takes no longer than with
//! [`scalar`](super::scalar).

use super::pool::{Config, Policy, Pooled, Work, engine};
use super::{scalar, selftest};
use crate::secp::{Affine, Isa, Outcome, Recoverer, Tables};
use crate::{RecoverAnswer, RecoverError, RecoverRequest, Refusal, Waker, keccak};
use alloy_primitives::{Address, B256, U256};
use std::sync::Arc;

/// Signatures that a worker takes at most at a time.
const CHUNK_MAX: usize = 128;
/// Signatures up to this number are quicker with libsecp256k1 (measured: `ironbench auth`).
const FEW: usize = 1;
/// Public keys that are hashed side by side.
const HASH_BATCH: usize = 64;
/// Queued signatures for which it pays to wake one more worker: enough to fill the lanes twice.
const QUEUED_PER_WAKE: usize = 16;

const POLICY: Policy = Policy {
    // Whole rows of lanes for everybody.
    share: |queued, workers| queued.div_ceil(workers.max(1)).next_multiple_of(8).min(CHUNK_MAX),
    per_wake: QUEUED_PER_WAKE,
    second_from: 1,
};

/// Vector instructions that an engine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vectors {
    /// AVX2: four lanes.
    Avx2,
    /// AVX-512 IFMA: eight lanes.
    Ifma,
}

impl Vectors {
    /// All kinds, widest first.
    pub const ALL: [Vectors; 2] = [Vectors::Ifma, Vectors::Avx2];

    /// Name of the recovery engine that uses them.
    pub const fn engine_name(self) -> &'static str {
        match self {
            Vectors::Avx2 => "simd-avx2",
            Vectors::Ifma => "simd-ifma",
        }
    }

    pub(super) fn isa(self, engine: &'static str) -> Result<Isa, Refusal> {
        match self {
            Vectors::Avx2 => Isa::avx2(),
            Vectors::Ifma => Isa::ifma(),
        }
        .map_err(|reason| Refusal { engine, reason: reason.into() })
    }
}

/// The engine. Dropping it ends its threads.
pub struct Simd(Pooled);

engine!(Simd, 0);

/// Starts the engine with these vectors and tests it with known answers.
///
/// # Errors
/// [`Refusal`] when the CPU lacks the instructions, a thread cannot be started or pinned, the system has no random
/// numbers, or an answer of the self-test is wrong.
pub fn probe(vectors: Vectors, config: Config, waker: Option<Waker>) -> Result<Simd, Refusal> {
    let name = vectors.engine_name();
    let isa = vectors.isa(name)?;
    let tables = Arc::new(tables(name)?);
    let make = || Box::new(Lanes::new(isa, tables.clone())) as Box<dyn Work>;
    let mut engine = Simd(Pooled::start(name, 64, config, POLICY, make)?);
    selftest::run(&mut engine, 16)?;
    engine.0.set_waker(waker);
    Ok(engine)
}

/// Starts the engine with the widest vectors that the CPU has.
///
/// # Errors
/// The refusals of all kinds of vectors, widest first.
pub fn probe_widest(config: &Config, waker: Option<&Waker>) -> Result<Simd, Vec<Refusal>> {
    let mut refusals = vec![];
    for vectors in Vectors::ALL {
        match probe(vectors, config.clone(), waker.cloned()) {
            Ok(engine) => return Ok(engine),
            Err(refusal) => refusals.push(refusal),
        }
    }
    Err(refusals)
}

/// Tables with a secret of this process.
pub(super) fn tables(engine: &'static str) -> Result<Tables, Refusal> {
    let mut secret = [0u8; 32];
    rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut secret)
        .map_err(|e| Refusal { engine, reason: format!("the system has no random numbers: {e}") })?;
    Ok(Tables::new(&U256::from_be_bytes(secret)))
}

/// What recovery found: the key and its address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signer {
    pub(super) key: Affine,
    pub(super) address: Address,
}

/// Recovery of any number of signatures with the buffers that it needs.
pub(super) struct Lanes {
    tables: Arc<Tables>,
    work: Recoverer,
    /// Requests whose ranges are right, with their places.
    good: Vec<RecoverRequest>,
    places: Vec<usize>,
    outcomes: Vec<Outcome>,
    found: Vec<Result<Signer, RecoverError>>,
}

impl Lanes {
    pub(super) fn new(isa: Isa, tables: Arc<Tables>) -> Self {
        Lanes {
            tables,
            work: Recoverer::new(isa),
            good: vec![],
            places: vec![],
            outcomes: vec![],
            found: vec![],
        }
    }

    /// The signer of each request, in order.
    pub(super) fn signers(&mut self, requests: &[RecoverRequest]) -> &[Result<Signer, RecoverError>] {
        self.good.clear();
        self.places.clear();
        self.found.clear();
        for (place, request) in requests.iter().enumerate() {
            match request.check_ranges() {
                Ok(()) => {
                    self.good.push(*request);
                    self.places.push(place);
                    self.found.push(Err(RecoverError::NoKey));
                }
                Err(error) => self.found.push(Err(error)),
            }
        }
        self.outcomes.clear();
        if self.good.len() > FEW {
            self.work.recover(&self.tables, &self.good, &mut self.outcomes);
        } else {
            self.outcomes.resize(self.good.len(), Outcome::Unsure);
        }
        for ((outcome, request), place) in self.outcomes.iter().zip(&self.good).zip(&self.places) {
            let key = match outcome {
                Outcome::Key(key) => Ok(*key),
                Outcome::NoKey => Err(RecoverError::NoKey),
                Outcome::Unsure => scalar::public_key(request).map(|key| Affine::from_bytes(&key)),
            };
            self.found[*place] = key.map(|key| Signer { key, address: Address::ZERO });
        }
        set_addresses(&mut self.found);
        &self.found
    }
}

/// Fills in the addresses of the keys.
fn set_addresses(found: &mut [Result<Signer, RecoverError>]) {
    for chunk in found.chunks_mut(HASH_BATCH) {
        let mut keys = [[0u8; 64]; HASH_BATCH];
        let mut hashes = [B256::ZERO; HASH_BATCH];
        for (signer, key) in chunk.iter().flatten().zip(&mut keys) {
            *key = signer.key.to_bytes();
        }
        let count = chunk.iter().flatten().count();
        let views = keys.each_ref().map(|key| key.as_slice());
        keccak::hash_many(&views[..count], &mut hashes[..count]);
        for (signer, hash) in chunk.iter_mut().flatten().zip(&hashes) {
            signer.address = Address::from_slice(&hash[12..]);
        }
    }
}

impl Work for Lanes {
    fn recover(&mut self, requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>) {
        let found = self.signers(requests);
        out.extend(requests.iter().zip(found).map(|(request, found)| RecoverAnswer {
            tag: request.tag,
            result: found.map(|signer| signer.address),
        }));
    }
}
