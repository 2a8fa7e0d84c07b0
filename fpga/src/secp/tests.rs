//! Lanes against one element at a time, on every instruction set that this CPU has.

use super::field::Fe;
use super::lanes::{LANES_MAX, Lanes, invert, sqrt};
#[cfg(target_arch = "x86_64")]
use super::lanes::{avx2, ifma};
use super::point::{G, Jacobian, multiply};
use super::scalar::Scalar;
use super::{Isa, Outcome, Recoverer, Tables};
use crate::RecoverRequest;
use alloy_primitives::U256;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

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
    let key = secp256k1::SecretKey::from_byte_array(rng.random()).unwrap();
    let hash: [u8; 32] = rng.random();
    let signature = secp256k1::SECP256K1.sign_ecdsa_recoverable(secp256k1::Message::from_digest(hash), &key);
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
    let point = secp256k1::PublicKey::from_secret_key(secp256k1::SECP256K1, &key).serialize_uncompressed();
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
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
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
