//! libsecp256k1 on CPU threads: the engine that every host has and whose answers are trusted.
//!
//! Workers take small chunks, so that a batch of 64 spreads over all of them while a lone signature is started at once.

use super::pool::{Policy, Pooled, Work, engine};
use super::selftest;
use crate::keccak;
use crate::{RecoverAnswer, RecoverError, RecoverRequest, Refusal, Waker};
use alloy_primitives::{Address, B256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};

pub use super::pool::Config;

const NAME: &str = "scalar";

/// Signatures that a worker takes at most at a time: 8 × 40 µs is what a chunk may delay its first answer, and eight
/// public keys fill the widest Keccak.
const CHUNK_MAX: usize = 8;
/// Queued signatures for which it pays to wake one more worker: a wake-up costs about as much as one recovery.
const QUEUED_PER_WAKE: usize = 2;
const _: () = assert!(QUEUED_PER_WAKE <= CHUNK_MAX, "a chunk must be worth a wake-up");

const POLICY: Policy = Policy {
    // A fair share, so that one worker does not sit on what another could do now.
    share: |queued, workers| (queued / (2 * workers.max(1))).clamp(1, CHUNK_MAX),
    per_wake: QUEUED_PER_WAKE,
    second_from: 1,
};

/// The engine. Dropping it ends its threads.
pub struct Scalar(Pooled);

engine!(Scalar, 0);

/// Starts the engine and tests it with known answers.
///
/// # Errors
/// [`Refusal`] when a thread cannot be started or pinned, or an answer of the self-test is wrong.
pub fn probe(config: Config, waker: Option<Waker>) -> Result<Scalar, Refusal> {
    let mut engine = Scalar(Pooled::start(NAME, 1, config, POLICY, || Box::new(Libsecp))?);
    selftest::run(&mut engine, 1)?;
    // The self-test must not ring anybody's bell, hence only now.
    engine.0.set_waker(waker);
    Ok(engine)
}

struct Libsecp;

impl Work for Libsecp {
    fn recover(&mut self, requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>) {
        for chunk in requests.chunks(CHUNK_MAX) {
            recover_chunk(chunk, out);
        }
    }
}

/// Recovers the signers of up to [`CHUNK_MAX`] signatures and appends the answers in the same order.
pub(super) fn recover_chunk(requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>) {
    debug_assert!(requests.len() <= CHUNK_MAX);
    let mut keys = [[0u8; 64]; CHUNK_MAX];
    let mut hashes = [B256::ZERO; CHUNK_MAX];
    let first = out.len();
    for (request, key) in requests.iter().zip(&mut keys) {
        let result = public_key(request).map(|found| {
            *key = found;
            Address::ZERO
        });
        out.push(RecoverAnswer { tag: request.tag, result });
    }
    let views = keys.each_ref().map(|key| key.as_slice());
    keccak::hash_many(&views[..requests.len()], &mut hashes[..requests.len()]);
    for (answer, hash) in out[first..].iter_mut().zip(&hashes) {
        if let Ok(address) = &mut answer.result {
            *address = Address::from_slice(&hash[12..]);
        }
    }
}

/// The public key, x ‖ y, of the signer.
pub(super) fn public_key(request: &RecoverRequest) -> Result<[u8; 64], RecoverError> {
    request.check_ranges()?;
    let mut compact = [0u8; 64];
    compact[..32].copy_from_slice(&request.r.to_be_bytes::<32>());
    compact[32..].copy_from_slice(&request.s.to_be_bytes::<32>());
    let parity = if request.parity == 1 { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(&compact, parity).map_err(|_| RecoverError::NoKey)?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(request.hash.0), &signature)
        .map_err(|_| RecoverError::NoKey)?;
    let mut point = [0u8; 64];
    point.copy_from_slice(&key.serialize_uncompressed()[1..]);
    Ok(point)
}
