//! Requests for recovery that engines on GPUs must answer as libsecp256k1 does.

use alloy_primitives::{B256, U256, uint};
use ironlane_fpga::backend::scalar;
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverRequest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

/// The group's order.
pub(crate) const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
/// The field's prime.
pub(crate) const P: U256 = uint!(0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256);

/// 1 / a modulo a prime.
pub(crate) fn inverse(a: U256, modulus: U256) -> U256 {
    a.pow_mod(modulus - U256::from(2), modulus)
}

pub(crate) fn sign(secret: &SecretKey, hash: B256) -> RecoverRequest {
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), secret);
    let (id, bytes) = signature.serialize_compact();
    RecoverRequest {
        tag: 0,
        hash,
        r: U256::from_be_slice(&bytes[..32]),
        s: U256::from_be_slice(&bytes[32..]),
        parity: i32::from(id) as u8,
        hint: None,
        source: 0,
    }
}

/// The signature that a nonce known to all would give: made for sums that meet equal points on their way.
fn sign_with_nonce(secret: u64, nonce: u64, hash: B256) -> RecoverRequest {
    let scalar = |value: u64| SecretKey::from_byte_array(B256::from(U256::from(value)).0).unwrap();
    let point = PublicKey::from_secret_key(SECP256K1, &scalar(nonce)).serialize_uncompressed();
    let r = U256::from_be_slice(&point[1..33]) % N;
    let z = U256::from_be_bytes(hash.0) % N;
    let sum = r.mul_mod(U256::from(secret), N).add_mod(z, N);
    let (mut s, mut parity) = (sum.mul_mod(inverse(U256::from(nonce), N), N), point[64] & 1);
    if s > N >> 1 {
        (s, parity) = (N - s, 1 - parity);
    }
    RecoverRequest { tag: 0, hash, r, s, parity, hint: None, source: 0 }
}

/// Signatures at the edges of every rule, then ordinary ones, `count` in all, tagged in order.
pub(crate) fn directed(count: usize) -> Vec<RecoverRequest> {
    let mut random = StdRng::seed_from_u64(7);
    let secret = SecretKey::from_byte_array([9; 32]).unwrap();
    let good = sign(&secret, B256::repeat_byte(3));
    let mut all = vec![good];
    let edits: [&dyn Fn(&mut RecoverRequest); 16] = [
        &|q| q.parity = 2,
        &|q| q.parity = 27,
        &|q| q.r = U256::ZERO,
        &|q| q.r = N,
        &|q| q.r = P,
        &|q| q.r = U256::MAX,
        &|q| q.r = N - U256::ONE,
        &|q| q.s = U256::ZERO,
        &|q| q.s = N,
        &|q| q.s = U256::MAX,
        &|q| (q.s, q.parity) = (N - q.s, 1 - q.parity),
        &|q| q.s = U256::ONE,
        &|q| q.s = (N - U256::ONE) >> 1,
        &|q| q.r = U256::from(5),
        &|q| q.hash = B256::ZERO,
        &|q| q.hash = B256::from(N.to_be_bytes()),
    ];
    for edit in edits {
        let mut request = good;
        edit(&mut request);
        all.push(request);
    }
    all.push(RecoverRequest { hash: B256::repeat_byte(0xff), ..good });
    // With s = 1 and the hash equal to the nonce, Q is the point at infinity.
    let point = PublicKey::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
    let r = U256::from_be_slice(&point[1..33]);
    let hash = B256::from(secret.secret_bytes());
    all.push(RecoverRequest { hash, r, s: U256::ONE, parity: point[64] & 1, ..good });
    for r in 1..8u64 {
        all.push(RecoverRequest { r: U256::from(r), s: U256::from(77), ..good });
    }
    // Small keys, nonces and hashes: R, G and the sums of their multiples meet.
    for (secret, nonce) in [(1, 1), (1, 2), (2, 1), (3, 3), (5, 8), (8, 5), (1, 16), (16, 1)] {
        for hash in [0u64, 1, 2, 16] {
            all.push(sign_with_nonce(secret, nonce, B256::from(U256::from(hash))));
        }
    }
    while all.len() < count {
        let secret = SecretKey::from_byte_array(random.random()).unwrap();
        all.push(sign(&secret, B256::from(random.random::<[u8; 32]>())));
    }
    for (tag, request) in all.iter_mut().enumerate() {
        request.tag = tag as u64;
    }
    all
}

/// What the trusted engine answers, in the order of the tags 0, 1, 2, …
pub(crate) fn by_libsecp(requests: &[RecoverRequest]) -> Vec<RecoverAnswer> {
    let config = scalar::Config { workers: 0, ..Default::default() };
    let mut engine = scalar::probe(config, None).unwrap();
    let (mut batch, mut answers) = (requests.to_vec(), vec![]);
    engine.submit(&mut batch).unwrap();
    while answers.len() < requests.len() {
        engine.poll(&mut answers);
    }
    answers.sort_by_key(|answer| answer.tag);
    answers
}
