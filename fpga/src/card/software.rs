//! Answers submissions with libsecp256k1.

use super::Compute;
use crate::abi::{self, Capabilities, Completion, Submission, status};
use crate::{RecoverError, RecoverRequest, keccak};
use alloy_primitives::{Address, B256, U256, address, b256, uint};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};

/// The model card.
#[derive(Debug, Clone, Copy, Default)]
pub struct Software;

impl Compute for Software {
    fn capabilities(&self) -> Capabilities {
        let mut caps = Capabilities::new("Ironlane", "software card", env!("CARGO_PKG_VERSION"));
        caps.ops |= 1 << abi::OP_KECCAK;
        caps.features |= abi::FEATURE_ANY_S;
        caps.latency_us = 60;
        caps
    }

    fn answer(&mut self, batch: &[Submission], out: &mut Vec<Completion>) {
        out.extend(batch.iter().map(answer));
    }
}

/// Answers one well-formed submission.
pub fn answer(submission: &Submission) -> Completion {
    let mut completion = Completion {
        tag: submission.tag,
        op: submission.op,
        epoch: submission.epoch,
        status: status::OK,
        ..Completion::ZERO
    };
    match submission.op {
        abi::OP_RECOVER => match public_key(&request(submission), submission.flags & abi::FLAG_ANY_S != 0) {
            Ok(key) => {
                completion.public_key = key;
                completion.address = address_of(&key).into();
            }
            Err(error) => completion.status = abi::status_of(error),
        },
        abi::OP_KECCAK => {
            completion.public_key[..32].copy_from_slice(keccak::keccak256(&submission.message()).as_slice());
        }
        abi::OP_NOP => {}
        _ => completion.status = status::BAD_OP,
    }
    completion
}

/// Address of a public key x ‖ y.
pub fn address_of(key: &[u8; 64]) -> Address {
    Address::from_slice(&keccak::keccak256(key)[12..])
}

/// The request that a submission of [`abi::OP_RECOVER`] makes.
pub fn request(submission: &Submission) -> RecoverRequest {
    RecoverRequest {
        tag: submission.tag,
        hash: B256::from(submission.hash),
        r: U256::from_be_bytes(submission.r),
        s: U256::from_be_bytes(submission.s),
        parity: submission.v,
        hint: None,
        source: 0,
    }
}

/// The submission for a request.
pub fn submission(tag: u64, request: &RecoverRequest) -> Submission {
    Submission {
        tag,
        op: abi::OP_RECOVER,
        hash: request.hash.0,
        r: request.r.to_be_bytes(),
        s: request.s.to_be_bytes(),
        v: request.parity,
        ..Submission::ZERO
    }
}

/// The public key x ‖ y of a signer; `any_s` lets s go up to n − 1.
///
/// # Errors
/// As [`RecoverEngine`](crate::RecoverEngine) answers.
pub fn public_key(request: &RecoverRequest, any_s: bool) -> Result<[u8; 64], RecoverError> {
    match request.check_ranges() {
        Err(RecoverError::HighS) if any_s => {}
        checked => checked?,
    }
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

/// The signer, by libsecp256k1 in this thread.
///
/// # Errors
/// As [`RecoverEngine`](crate::RecoverEngine) answers.
pub fn recover(request: &RecoverRequest) -> Result<Address, RecoverError> {
    public_key(request, false).map(|key| address_of(&key))
}

/// The example of EIP-155.
pub(crate) fn known_answer() -> (RecoverRequest, Address) {
    let request = RecoverRequest {
        tag: 0,
        hash: b256!("daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53"),
        r: uint!(0x28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276_U256),
        s: uint!(0x67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83_U256),
        parity: 0,
        hint: None,
        source: 0,
    };
    (request, address!("9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"))
}
