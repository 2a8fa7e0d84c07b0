//! Lanes against one element at a time, on every instruction set that this CPU has.

use super::field::Fe;
use super::lanes::{LANES_MAX, Lanes, invert, sqrt};
#[cfg(target_arch = "x86_64")]
use super::lanes::{avx2, ifma};
use super::msm::Msm;
use super::point::{G, Jacobian, multiples, multiply};
use super::scalar::{Half, Scalar};
use super::{Affine, Isa, Outcome, Recoverer, Tables, Verifier};
use crate::RecoverRequest;
use alloy_primitives::U256;
use proptest::prelude::*;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

/// Elements around the places where carries are lost, and random ones.
fn elements(rng: &mut StdRng) -> [Fe; LANES_MAX] {
    let word = |rng: &mut StdRng| match rng.random_range(0..6) {
        0 => 0,
        1 => u64::MAX,
        2 => super::field::P[0].wrapping_add(rng.random_range(0..5)).wrapping_sub(2),
        3 => 1 << rng.random_range(0..64),
        _ => rng.random(),
    };
    std::array::from_fn(|_| Fe([word(rng), word(rng), word(rng), word(rng)]))
}

fn check<F: Lanes>(found: F, expected: impl Fn(usize) -> Fe, what: &str) {
    let found = found.store();
    for lane in 0..F::COUNT {
        let expected = expected(lane);
        assert!(found[lane].equals(&expected), "{what}, lane {lane}: {:?} for {expected:?}", found[lane]);
    }
}

fn lanes_agree<F: Lanes>(proof: F::Proof, seed: u64, rounds: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let (a, b, c) = (elements(&mut rng), elements(&mut rng), elements(&mut rng));
        let mask: u8 = rng.random();
        let (x, y, z) = (F::load(proof, &a), F::load(proof, &b), F::load(proof, &c));
        check(x.mul(&y), |l| a[l].mul(&b[l]), "mul");
        check(x.square(), |l| a[l].square(), "square");
        check(F::mul_add(&x, &y, &y, &z), |l| a[l].mul(&b[l]).add(&b[l].mul(&c[l])), "mul_add");
        check(x.sub(&y), |l| a[l].sub(&b[l]), "sub");
        let times = |fe: Fe, k: u64| fe.mul(&Fe::from_words([k, 0, 0, 0]));
        check(F::combine::<3, 0>(&x, &y), |l| times(a[l], 3), "3a");
        check(F::combine::<1, 8>(&x, &y), |l| a[l].sub(&times(b[l], 8)), "a - 8b");
        check(F::combine::<4, 1>(&x, &y), |l| times(a[l], 4).sub(&b[l]), "4a - b");
        check(F::combine::<1, 2>(&x, &y), |l| a[l].sub(&times(b[l], 2)), "a - 2b");
        check(F::sub_sub_double(&x, &y, &z), |l| a[l].sub(&b[l]).sub(&times(c[l], 2)), "a - b - 2c");
        let negated = |l: usize| if mask >> l & 1 == 1 { a[l].neg() } else { a[l] };
        check(x.negate_if(mask), negated, "negate_if");
        check(F::select(mask, &x, &y), |l| if mask >> l & 1 == 1 { a[l] } else { b[l] }, "select");
        // What one operation gives, every other takes: chains of sums feed the products.
        let mut chain = (x, y);
        let mut plain = (a, b);
        for _ in 0..6 {
            chain = (F::combine::<8, 8>(&chain.0, &chain.1), F::sub_sub_double(&chain.1, &chain.0, &chain.0));
            plain = (
                std::array::from_fn(|l| times(plain.0[l], 8).sub(&times(plain.1[l], 8))),
                std::array::from_fn(|l| plain.1[l].sub(&times(plain.0[l], 3))),
            );
            check(chain.0.mul(&chain.1), |l| plain.0[l].mul(&plain.1[l]), "mul after sums");
            check(chain.0.square(), |l| plain.0[l].square(), "square after sums");
            check(
                F::mul_add(&chain.0, &chain.1, &chain.1, &chain.1),
                |l| plain.0[l].mul(&plain.1[l]).add(&plain.1[l].square()),
                "mul_add after sums",
            );
        }
        if round % 16 == 0 {
            let square = x.square();
            check(sqrt(&square).square(), |l| a[l].square(), "sqrt");
            let inverse = invert(proof, &x);
            if a[..F::COUNT].iter().any(Fe::is_zero) {
                assert!(inverse.is_none());
            } else {
                check(inverse.unwrap().mul(&x), |_| Fe::ONE, "invert");
            }
        }
    }
}

fn everywhere(seed: u64, rounds: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        match avx2::Proof::detect() {
            Ok(proof) => lanes_agree::<avx2::Avx2>(proof, seed, rounds),
            Err(reason) => eprintln!("AVX2 not tested: {reason}"),
        }
        match ifma::Proof::detect() {
            Ok(proof) => lanes_agree::<ifma::Ifma>(proof, seed, rounds),
            Err(reason) => eprintln!("AVX-512 IFMA not tested: {reason}"),
        }
    }
}

#[test]
fn lanes_agree_with_single_elements() {
    everywhere(1, 400);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn lanes_agree_whatever_the_seed(seed: u64) {
        everywhere(seed, 17);
    }

    /// Multiples of G against libsecp256k1.
    #[test]
    fn points_agree_with_libsecp(bytes: [u8; 32]) {
        if let Ok(key) = secp256k1::SecretKey::from_byte_array(bytes) {
            let expected = secp256k1::PublicKey::from_secret_key(secp256k1::SECP256K1, &key).serialize_uncompressed();
            let found = multiply(&G, &Scalar::from_u256(&U256::from_be_bytes(bytes))).to_affine().unwrap();
            prop_assert_eq!(&found.to_bytes()[..], &expected[1..]);
            prop_assert!(found.is_on_curve());
        }
    }
}

#[test]
fn exceptional_additions_of_single_points_are_exact() {
    let g = Jacobian::from(G);
    assert!(g.add_affine(&G.neg()).is_infinity());
    assert!(Jacobian::INFINITY.double().is_infinity());
    let two = g.add_affine(&G).to_affine().unwrap();
    assert_eq!(two.to_bytes(), g.double().to_affine().unwrap().to_bytes());
    assert_eq!(Jacobian::INFINITY.add_affine(&G).to_affine().unwrap().to_bytes(), G.to_bytes());
}

fn isas() -> Vec<Isa> {
    [Isa::avx2(), Isa::ifma()]
        .into_iter()
        .filter_map(|isa| isa.inspect_err(|e| eprintln!("not tested: {e}")).ok())
        .collect()
}

/// A signature and the key that made it.
fn signed(rng: &mut StdRng) -> (RecoverRequest, [u8; 64]) {
    signed_by(&secp256k1::SecretKey::from_byte_array(rng.random()).unwrap(), rng.random())
}

fn signed_by(key: &secp256k1::SecretKey, hash: [u8; 32]) -> (RecoverRequest, [u8; 64]) {
    let signature = secp256k1::SECP256K1.sign_ecdsa_recoverable(secp256k1::Message::from_digest(hash), key);
    let (id, rs) = signature.serialize_compact();
    let word = |i: usize| U256::from_be_slice(&rs[i * 32..i * 32 + 32]);
    let request = RecoverRequest {
        tag: 0,
        hash: hash.into(),
        r: word(0),
        s: word(1),
        parity: i32::from(id) as u8,
        hint: None,
        source: 0,
    };
    let point = secp256k1::PublicKey::from_secret_key(secp256k1::SECP256K1, key).serialize_uncompressed();
    (request, point[1..].try_into().unwrap())
}

#[test]
fn lanes_recover_what_was_signed() {
    let mut rng = StdRng::seed_from_u64(7);
    let tables = Tables::new(&U256::from(0x1234_5678u64));
    let all: Vec<_> = (0..150).map(|_| signed(&mut rng)).collect();
    for isa in isas() {
        let mut work = Recoverer::new(isa);
        for count in [1, 2, 7, 8, 9, 63, 64, 65, 150] {
            let requests: Vec<_> = all[..count].iter().map(|s| s.0).collect();
            let mut out = vec![];
            work.recover(&tables, &requests, &mut out);
            assert_eq!(out.len(), count);
            for (i, (outcome, (_, key))) in out.iter().zip(&all).enumerate() {
                match outcome {
                    Outcome::Key(found) => assert_eq!(found.to_bytes(), *key, "{isa:?}, {i} of {count}"),
                    other => panic!("{isa:?}, {i} of {count}: {other:?}"),
                }
            }
        }
    }
}

/// Requests and keys as a batch wants them: each key once.
struct Signed {
    requests: Vec<RecoverRequest>,
    key_of: Vec<u32>,
    keys: Vec<Affine>,
}

impl Signed {
    /// `per_key` signatures of each key.
    fn new(rng: &mut StdRng, count: usize, per_key: usize) -> Signed {
        let mut out = Signed { requests: vec![], key_of: vec![], keys: vec![] };
        for i in 0..count {
            let seed = StdRng::seed_from_u64(i as u64 / per_key as u64).random();
            let (request, key) =
                signed_by(&secp256k1::SecretKey::from_byte_array(seed).unwrap(), rng.random());
            if i % per_key == 0 {
                out.keys.push(Affine::from_bytes(&key));
            }
            out.requests.push(request);
            out.key_of.push((i / per_key) as u32);
        }
        out
    }

    fn prepare(&self, work: &mut Verifier) -> Vec<bool> {
        let mut has_nonce = vec![];
        work.prepare(&self.requests, &self.key_of, &self.keys, &mut has_nonce);
        has_nonce
    }
}

fn holds(isa: Isa, batch: &Signed) -> bool {
    let mut work = Verifier::new(isa, 0x9e37_79b9_7f4a_7c15);
    let has_nonce = batch.prepare(&mut work);
    work.verify(0..batch.requests.len(), &mut StdRng::seed_from_u64(3)) && has_nonce.iter().all(|has| *has)
}

#[test]
fn batches_that_hold_are_accepted() {
    let mut rng = StdRng::seed_from_u64(11);
    for isa in isas() {
        for (count, per_key) in [(1, 1), (2, 1), (5, 5), (33, 2), (64, 1), (200, 4), (600, 1)] {
            assert!(holds(isa, &Signed::new(&mut rng, count, per_key)), "{isa:?}: {count} by {per_key}");
        }
    }
}

#[test]
fn one_wrong_signature_among_many_is_seen() {
    let mut rng = StdRng::seed_from_u64(12);
    let good = Signed::new(&mut rng, 40, 2);
    for isa in isas() {
        for place in [0, 1, 17, 39] {
            for change in 0..5 {
                let mut batch = Signed {
                    requests: good.requests.clone(),
                    key_of: good.key_of.clone(),
                    keys: good.keys.clone(),
                };
                let request = &mut batch.requests[place];
                match change {
                    0 => request.hash.0[31] ^= 1,
                    1 => request.parity ^= 1,
                    2 => request.s += U256::from(1),
                    3 => request.r = good.requests[(place + 3) % 40].r,
                    _ => batch.key_of[place] = (batch.key_of[place] + 1) % 20,
                }
                assert!(!holds(isa, &batch), "{isa:?}: signature {place}, change {change}");
            }
        }
    }
}

/// Two wrong signatures whose errors cancel where all factors are equal: what the random factors are there for.
#[test]
fn errors_that_cancel_in_a_plain_sum_are_seen() {
    let mut rng = StdRng::seed_from_u64(13);
    let mut batch = Signed::new(&mut rng, 2, 2);
    // The same nonce, r and key: u1 grows by d in one and shrinks by d in the other.
    let key = secp256k1::SecretKey::from_byte_array(rng.random()).unwrap();
    let nonce = Scalar::from_u256(&U256::from(987_654_321u64));
    let d = Scalar::from_u128(rng.random());
    for (i, sign) in [d, d.neg()].into_iter().enumerate() {
        let (mut request, public) = craft(&key, &nonce, rng.random());
        let s = Scalar::from_u256(&request.s);
        let hash = Scalar::from_u256(&U256::from_be_bytes(request.hash.0)).add(&sign.mul(&s));
        request.hash = U256::from_limbs(hash.words()).to_be_bytes().into();
        batch.requests[i] = request;
        batch.keys = vec![Affine::from_bytes(&public)];
    }
    for isa in isas() {
        assert!(!holds(isa, &batch), "{isa:?}");
    }
}

/// Who knows the factors beforehand can make errors that cancel: with the generator that he knew the wrong batch holds,
/// with any other it does not. Hence the seed after the batch is fixed.
#[test]
fn known_factors_would_be_an_open_door() {
    let known = || StdRng::seed_from_u64(99);
    let mut rng = known();
    let mut factor = || Scalar::from_u128(u128::from(rng.next_u64()) | u128::from(rng.next_u64()) << 64);
    let (z1, z2) = (factor(), factor());
    let mut batch = Signed { requests: vec![], key_of: vec![0, 0], keys: vec![] };
    let mut hashes = StdRng::seed_from_u64(5);
    for (number, shift) in [z2, z1.neg()].into_iter().enumerate() {
        let nonce = Scalar::from_u128(1_000_003 + number as u128);
        let (mut request, public) = craft(&small_key(4242), &nonce, hashes.random());
        let s = Scalar::from_u256(&request.s);
        let hash = Scalar::from_u256(&U256::from_be_bytes(request.hash.0)).add(&shift.mul(&s));
        request.hash = U256::from_limbs(hash.words()).to_be_bytes().into();
        batch.requests.push(request);
        batch.keys = vec![Affine::from_bytes(&public)];
    }
    for isa in isas() {
        let mut work = Verifier::new(isa, 1);
        batch.prepare(&mut work);
        assert!(work.verify(0..2, &mut known()), "{isa:?}: the test knows the factors");
        assert!(!work.verify(0..2, &mut StdRng::seed_from_u64(100)), "{isa:?}");
        assert!(!work.verify(0..2, &mut StdRng::try_from_os_rng().unwrap()), "{isa:?}");
    }
}

/// Sums of small multiples of G, equal and opposite ones among them, against one addition after the other.
fn sums_agree<F: Lanes>(proof: F::Proof) {
    let mut rng = StdRng::seed_from_u64(17);
    let mut msm = Msm::<F>::new(proof);
    for (count, range) in [(1, 1), (2, 1), (40, 1), (64, 2), (100, 8), (700, 300)] {
        let mut points: Vec<Affine> = multiples(&G, range);
        let (mut bases, mut scalars) = (vec![], vec![]);
        let mut expected = Scalar::default();
        for _ in 0..count {
            let base = rng.random_range(0..range);
            let bits = rng.random_range(0..128);
            let half = Half { magnitude: rng.random::<u128>() >> bits, negative: rng.random() };
            let product = Scalar::from_u128(half.magnitude).mul(&Scalar::from_u128(base as u128 + 1));
            expected = expected.add(&if half.negative { product.neg() } else { product });
            bases.push(base as u32);
            scalars.push(half);
        }
        let given = points.len();
        let found = msm.sum(proof, &mut points, &bases, &scalars).to_affine().map(Affine::to_bytes);
        let wanted = multiply(&G, &expected).to_affine().map(Affine::to_bytes);
        assert_eq!(found, wanted, "{count} of {range}");
        assert_eq!(points.len(), given);
        // And all of it against itself: infinity.
        let opposite = scalars.iter().map(|s| Half { negative: !s.negative, ..*s });
        let both: Vec<_> = scalars.iter().copied().chain(opposite).collect();
        assert!(msm.sum(proof, &mut points, &[bases.clone(), bases].concat(), &both).is_infinity());
    }
}

#[test]
fn sums_are_exact_whatever_the_points() {
    #[cfg(target_arch = "x86_64")]
    {
        if let Ok(proof) = avx2::Proof::detect() {
            sums_agree::<avx2::Avx2>(proof);
        }
        if let Ok(proof) = ifma::Proof::detect() {
            sums_agree::<ifma::Ifma>(proof);
        }
    }
}

/// A low-s signature with a nonce of one's choice, as an adversary makes it.
fn craft(key: &secp256k1::SecretKey, nonce: &Scalar, hash: [u8; 32]) -> (RecoverRequest, [u8; 64]) {
    let point = multiply(&G, nonce).to_affine().unwrap();
    let r = U256::from_limbs(point.x.words());
    let secret = Scalar::from_u256(&U256::from_be_bytes(key.secret_bytes()));
    let h = Scalar::from_u256(&U256::from_be_bytes(hash));
    let mut s = nonce.invert().mul(&h.add(&Scalar::from_u256(&r).mul(&secret)));
    let mut parity = u8::from(point.y.is_odd());
    if U256::from_limbs(s.words()) > crate::engine::ORDER >> 1 {
        s = s.neg();
        parity ^= 1;
    }
    let request = RecoverRequest {
        tag: 0,
        hash: hash.into(),
        r,
        s: U256::from_limbs(s.words()),
        parity,
        hint: None,
        source: 0,
    };
    let public = secp256k1::PublicKey::from_secret_key(secp256k1::SECP256K1, key).serialize_uncompressed();
    (request, public[1..].try_into().unwrap())
}

fn small_key(number: u64) -> secp256k1::SecretKey {
    secp256k1::SecretKey::from_byte_array(U256::from(number).to_be_bytes()).unwrap()
}

/// Nonces and keys 1, 2, 3, …: sums of a bucket's members meet one another, so equal and opposite points are added.
#[test]
fn related_nonces_and_keys_are_exact() {
    let mut rng = StdRng::seed_from_u64(14);
    for isa in isas() {
        for count in [8u64, 64, 300] {
            for pattern in 0..3 {
                let mut batch = Signed { requests: vec![], key_of: vec![], keys: vec![] };
                for i in 0..count {
                    let (nonce, key) = match pattern {
                        0 => (i + 1, i + 1),
                        1 => (1 << (i % 20), i + 1),
                        _ => (i + 1, count - i),
                    };
                    let nonce = Scalar::from_u256(&U256::from(nonce));
                    let (request, public) = craft(&small_key(key), &nonce, rng.random());
                    batch.requests.push(request);
                    batch.key_of.push(i as u32);
                    batch.keys.push(Affine::from_bytes(&public));
                }
                assert!(holds(isa, &batch), "{isa:?}: {count}, pattern {pattern}");
                batch.requests[count as usize / 2].hash.0[7] ^= 4;
                assert!(!holds(isa, &batch), "{isa:?}: {count}, pattern {pattern}, one wrong");
            }
        }
    }
}

/// The same signature many times, and one nonce with both parities: merged, not sent down the slow road.
#[test]
fn duplicates_and_shared_nonces_are_exact() {
    let mut rng = StdRng::seed_from_u64(15);
    let mut batch = Signed::new(&mut rng, 30, 3);
    for i in 0..200 {
        let nonce = if i % 2 == 0 { Scalar::from_u128(77) } else { Scalar::from_u128(77).neg() };
        let (request, public) = craft(&small_key(1000 + i % 5), &nonce, rng.random());
        let key = Affine::from_bytes(&public);
        let known = batch.keys.iter().position(|k| k.to_bytes() == key.to_bytes());
        batch.key_of.push(known.unwrap_or(batch.keys.len()) as u32);
        if known.is_none() {
            batch.keys.push(key);
        }
        batch.requests.push(request);
    }
    for i in [0, 0, 5, 40, 40, 40] {
        batch.requests.push(batch.requests[i]);
        batch.key_of.push(batch.key_of[i]);
    }
    for isa in isas() {
        assert!(holds(isa, &batch), "{isa:?}");
        let mut work = Verifier::new(isa, 1);
        batch.prepare(&mut work);
        // Parts of a batch stand on their own.
        let mut rng = StdRng::seed_from_u64(4);
        assert!(work.verify(0..7, &mut rng) && work.verify(7..200, &mut rng) && work.verify(9..9, &mut rng));
    }
}

/// r that is no x of a point: named, and left out of the sum.
#[test]
fn signatures_without_a_nonce_point_are_named() {
    let mut batch = Signed::new(&mut StdRng::seed_from_u64(16), 20, 1);
    batch.requests[4].r = U256::from(5);
    for isa in isas() {
        let mut work = Verifier::new(isa, 1);
        let has_nonce = batch.prepare(&mut work);
        assert!(has_nonce.iter().enumerate().all(|(i, has)| *has == (i != 4)));
        assert!(work.verify(0..20, &mut StdRng::seed_from_u64(4)));
    }
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut rng = StdRng::seed_from_u64(7);
    let tables = Tables::new(&U256::from(0x1234_5678u64));
    let all: Vec<_> = (0..1024).map(|_| signed(&mut rng).0).collect();
    let libsecp = || {
        let start = std::time::Instant::now();
        for q in &all[..256] {
            let mut rs = [0u8; 64];
            rs[..32].copy_from_slice(&q.r.to_be_bytes::<32>());
            rs[32..].copy_from_slice(&q.s.to_be_bytes::<32>());
            let id = secp256k1::ecdsa::RecoveryId::from_u8_masked(q.parity);
            let s = secp256k1::ecdsa::RecoverableSignature::from_compact(&rs, id).unwrap();
            std::hint::black_box(
                secp256k1::SECP256K1.recover_ecdsa(secp256k1::Message::from_digest(q.hash.0), &s).unwrap(),
            );
        }
        start.elapsed().as_secs_f64() * 1e6 / 256.0
    };
    let median = |v: Vec<f64>| v.into_iter().fold(f64::MAX, f64::min);
    let base = median((0..9).map(|_| libsecp()).collect());
    println!("libsecp {base:.2} us");
    for isa in isas() {
        let mut work = Recoverer::new(isa);
        for count in [1, 2, 3, 4, 8, 16, 32, 64, 256, 1024] {
            let us = median(
                (0..(4000 / count).clamp(5, 60))
                    .map(|_| {
                        let mut out = vec![];
                        let start = std::time::Instant::now();
                        work.recover(&tables, &all[..count], &mut out);
                        start.elapsed().as_secs_f64() * 1e6 / count as f64
                    })
                    .collect(),
            );
            println!("{isa:?} {count}: {us:.2} us, {:.2}x", base / us);
        }
        for (count, per_key) in
            [(16, 1), (32, 1), (64, 1), (256, 1), (1024, 1), (1024, 4), (4096, 1), (4096, 4)]
        {
            let batch = Signed::new(&mut rng, count, per_key);
            let mut work = Verifier::new(isa, 1);
            let mut prepare = vec![];
            let us = median(
                (0..(4000 / count).clamp(5, 60))
                    .map(|_| {
                        let start = std::time::Instant::now();
                        batch.prepare(&mut work);
                        prepare.push(start.elapsed().as_secs_f64() * 1e6 / count as f64);
                        assert!(work.verify(0..count, &mut StdRng::seed_from_u64(4)));
                        start.elapsed().as_secs_f64() * 1e6 / count as f64
                    })
                    .collect(),
            );
            println!(
                "{isa:?} batch {count}/{per_key}: {us:.2} us ({:.2} prepare), {:.2}x",
                median(prepare),
                base / us
            );
        }
    }
    let mut a = Fe([3, 4, 5, 6]);
    let t = std::time::Instant::now();
    for _ in 0..1000 {
        a = a.invert().add(&Fe::ONE);
    }
    println!("inverse {:.2} us", t.elapsed().as_secs_f64() * 1e3);
    let t = std::time::Instant::now();
    for _ in 0..1_000_000 {
        a = a.mul(&a);
    }
    println!("mul {:.2} ns", t.elapsed().as_secs_f64() * 1e3);
    let mut s = Scalar::from_u256(&U256::from(77)).invert();
    let b = s;
    let t = std::time::Instant::now();
    for _ in 0..1_000_000 {
        s = s.mul(&b);
    }
    println!("scalar mul {:.2} ns", t.elapsed().as_secs_f64() * 1e3);
    std::hint::black_box((a, s));
}
