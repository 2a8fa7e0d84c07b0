//! Arithmetic on secp256k1 for whoever signs many and wants to know who: public values only, so nothing here runs in
//! constant time, and none of it may touch a secret key.
//!
//! From the bottom: `field` and `scalar` (one number at a time), `lanes` (many field elements side by side), `point`
//! (one point, exact in every case), `affine` (many additions with one inversion), `recover`. [`Isa`] is the
//! choice of the vector instructions: a value of it exists only where the CPU has them.

#![allow(unsafe_code)]

mod affine;
mod field;
mod inverse;
mod lanes;
mod msm;
mod point;
mod recover;
mod scalar;
mod verify;

pub(crate) use lanes::Affine;
pub(crate) use recover::{Outcome, Tables};

use crate::RecoverRequest;
#[cfg(target_arch = "x86_64")]
use lanes::{avx2, ifma};
use rand::CryptoRng;
use recover::Recovery;
use std::ops::Range;
use verify::Verification;

/// Vector instructions that this CPU has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Isa {
    /// Four lanes of 9 × 29 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Proof),
    /// Eight lanes of 5 × 52 bits.
    #[cfg(target_arch = "x86_64")]
    Ifma(ifma::Proof),
}

impl Isa {
    /// Four lanes; the error says what the CPU lacks.
    pub(crate) fn avx2() -> Result<Isa, &'static str> {
        #[cfg(target_arch = "x86_64")]
        return avx2::Proof::detect().map(Isa::Avx2);
        #[cfg(not(target_arch = "x86_64"))]
        Err("not an x86-64 CPU")
    }

    /// Eight lanes; the error says what the CPU lacks.
    pub(crate) fn ifma() -> Result<Isa, &'static str> {
        #[cfg(target_arch = "x86_64")]
        return ifma::Proof::detect().map(Isa::Ifma);
        #[cfg(not(target_arch = "x86_64"))]
        Err("not an x86-64 CPU")
    }
}

/// Recovers signatures with one kind of vectors; owns the buffers.
pub(crate) enum Recoverer {
    /// With AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Proof, Box<Recovery<avx2::Avx2>>),
    /// With AVX-512 IFMA.
    #[cfg(target_arch = "x86_64")]
    Ifma(ifma::Proof, Box<Recovery<ifma::Ifma>>),
}

impl Recoverer {
    pub(crate) fn new(isa: Isa) -> Recoverer {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(proof) => Recoverer::Avx2(proof, Box::new(Recovery::new(proof))),
            #[cfg(target_arch = "x86_64")]
            Isa::Ifma(proof) => Recoverer::Ifma(proof, Box::new(Recovery::new(proof))),
        }
    }

    /// Appends an outcome for each request. Ranges must have been checked.
    pub(crate) fn recover(&mut self, tables: &Tables, requests: &[RecoverRequest], out: &mut Vec<Outcome>) {
        for block in requests.chunks(recover::BLOCK) {
            match self {
                // SAFETY: the proof shows that the CPU has the features.
                #[cfg(target_arch = "x86_64")]
                Recoverer::Avx2(proof, work) => unsafe { block_avx2(work, *proof, tables, block, out) },
                // SAFETY: the proof shows that the CPU has the features.
                #[cfg(target_arch = "x86_64")]
                Recoverer::Ifma(proof, work) => unsafe { block_ifma(work, *proof, tables, block, out) },
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn block_avx2(
    work: &mut Recovery<avx2::Avx2>,
    proof: avx2::Proof,
    tables: &Tables,
    requests: &[RecoverRequest],
    out: &mut Vec<Outcome>,
) {
    work.block(proof, tables, requests, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512ifma")]
fn block_ifma(
    work: &mut Recovery<ifma::Ifma>,
    proof: ifma::Proof,
    tables: &Tables,
    requests: &[RecoverRequest],
    out: &mut Vec<Outcome>,
) {
    work.block(proof, tables, requests, out);
}

/// Verifies batches with one kind of vectors; owns the buffers. See `verify`.
pub(crate) enum Verifier {
    /// With AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Proof, Box<Verification<avx2::Avx2>>),
    /// With AVX-512 IFMA.
    #[cfg(target_arch = "x86_64")]
    Ifma(ifma::Proof, Box<Verification<ifma::Ifma>>),
}

impl Verifier {
    /// `spread` must be unknown to clients.
    pub(crate) fn new(isa: Isa, spread: u64) -> Verifier {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(proof) => Verifier::Avx2(proof, Box::new(Verification::new(proof, spread))),
            #[cfg(target_arch = "x86_64")]
            Isa::Ifma(proof) => Verifier::Ifma(proof, Box::new(Verification::new(proof, spread))),
        }
    }

    /// Takes a batch; see `Verification::prepare`.
    pub(crate) fn prepare(
        &mut self,
        requests: &[RecoverRequest],
        key_of: &[u32],
        keys: &[Affine],
        has_nonce: &mut Vec<bool>,
    ) {
        match self {
            // SAFETY: the proof shows that the CPU has the features.
            #[cfg(target_arch = "x86_64")]
            Verifier::Avx2(proof, work) => unsafe {
                prepare_avx2(work, *proof, requests, key_of, keys, has_nonce);
            },
            // SAFETY: the proof shows that the CPU has the features.
            #[cfg(target_arch = "x86_64")]
            Verifier::Ifma(proof, work) => unsafe {
                prepare_ifma(work, *proof, requests, key_of, keys, has_nonce);
            },
        }
    }

    /// Whether this part of the batch holds. `rng` must have been seeded after the batch was fixed.
    pub(crate) fn verify(&mut self, range: Range<usize>, rng: &mut impl CryptoRng) -> bool {
        match self {
            // SAFETY: the proof shows that the CPU has the features.
            #[cfg(target_arch = "x86_64")]
            Verifier::Avx2(proof, work) => unsafe { verify_avx2(work, *proof, range, rng) },
            // SAFETY: the proof shows that the CPU has the features.
            #[cfg(target_arch = "x86_64")]
            Verifier::Ifma(proof, work) => unsafe { verify_ifma(work, *proof, range, rng) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn prepare_avx2(
    work: &mut Verification<avx2::Avx2>,
    proof: avx2::Proof,
    requests: &[RecoverRequest],
    key_of: &[u32],
    keys: &[Affine],
    has_nonce: &mut Vec<bool>,
) {
    work.prepare(proof, requests, key_of, keys, has_nonce);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512ifma")]
fn prepare_ifma(
    work: &mut Verification<ifma::Ifma>,
    proof: ifma::Proof,
    requests: &[RecoverRequest],
    key_of: &[u32],
    keys: &[Affine],
    has_nonce: &mut Vec<bool>,
) {
    work.prepare(proof, requests, key_of, keys, has_nonce);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn verify_avx2(
    work: &mut Verification<avx2::Avx2>,
    proof: avx2::Proof,
    range: Range<usize>,
    rng: &mut impl CryptoRng,
) -> bool {
    work.verify(proof, range, rng)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512ifma")]
fn verify_ifma(
    work: &mut Verification<ifma::Ifma>,
    proof: ifma::Proof,
    range: Range<usize>,
    rng: &mut impl CryptoRng,
) -> bool {
    work.verify(proof, range, rng)
}

#[cfg(test)]
mod tests;
