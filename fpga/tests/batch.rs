//! Batch verification as an engine: what it learns, what it does with wrong hints, and what those may cost.

use alloy_primitives::{Address, U256, keccak256};
use ironlane_fpga::backend::batch::{self, Batch, KeyCache, NotAKey, Stats};
use ironlane_fpga::backend::simd::Vectors;
use ironlane_fpga::backend::{Config, scalar};
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverError, RecoverRequest};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const SOURCE: u64 = 11;

fn engines() -> Vec<Batch> {
    let config = Config { workers: 0, inline_per_poll: 4_096, ..Config::default() };
    Vectors::ALL
        .into_iter()
        .filter_map(|vectors| {
            batch::probe(vectors, Arc::new(KeyCache::new(4_096)), config.clone(), None)
                .inspect_err(|refusal| eprintln!("not tested: {refusal}"))
                .ok()
        })
        .collect()
}

fn key(seed: u64) -> SecretKey {
    SecretKey::from_byte_array(keccak256(seed.to_be_bytes()).0).unwrap()
}

fn public(key: &SecretKey) -> [u8; 64] {
    PublicKey::from_secret_key(SECP256K1, key).serialize_uncompressed()[1..].try_into().unwrap()
}

fn address(key: &SecretKey) -> Address {
    Address::from_slice(&keccak256(public(key))[12..])
}

/// Signature `i`, of account `i % accounts`, with the right hint.
fn signed(i: u64, accounts: u64, source: u64) -> RecoverRequest {
    let key = key(i % accounts);
    let hash = keccak256((i ^ source << 32).to_le_bytes());
    let (id, rs) = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &key).serialize_compact();
    RecoverRequest {
        tag: i,
        hash,
        r: U256::from_be_slice(&rs[..32]),
        s: U256::from_be_slice(&rs[32..]),
        parity: i32::from(id) as u8,
        hint: Some(address(&key)),
        source,
    }
}

fn run(engine: &mut Batch, requests: &[RecoverRequest]) -> Vec<Result<Address, RecoverError>> {
    let mut batch = requests.to_vec();
    for (tag, request) in batch.iter_mut().enumerate() {
        request.tag = tag as u64;
    }
    engine.submit(&mut batch).unwrap();
    let mut answers: Vec<RecoverAnswer> = vec![];
    while engine.in_flight() > 0 {
        engine.poll(&mut answers);
    }
    answers.sort_by_key(|answer| answer.tag);
    assert!(answers.iter().enumerate().all(|(tag, answer)| answer.tag == tag as u64));
    answers.into_iter().map(|answer| answer.result).collect()
}

/// Whatever was asked, the answers are the signers.
fn check(engine: &mut Batch, requests: &[RecoverRequest], signers: &[Address]) {
    let found = run(engine, requests);
    for (i, (found, signer)) in found.iter().zip(signers).enumerate() {
        assert_eq!(*found, Ok(*signer), "request {i}");
    }
}

fn hints(requests: &[RecoverRequest]) -> Vec<Address> {
    requests.iter().map(|request| request.hint.unwrap()).collect()
}

fn verified(stats: &Stats) -> u64 {
    stats.verified.load(Relaxed)
}

/// Brings the engine to know 100 accounts and to trust a source's hints.
fn warm(engine: &mut Batch, source: u64) {
    let requests: Vec<_> = (0..300).map(|i| signed(i, 100, source)).collect();
    check(engine, &requests, &hints(&requests));
}

#[test]
fn known_accounts_of_a_proven_source_are_verified_not_recovered() {
    for mut engine in engines() {
        let stats = engine.stats();
        let first: Vec<_> = (0..300).map(|i| signed(i, 100, SOURCE)).collect();
        check(&mut engine, &first, &hints(&first));
        assert_eq!(verified(&stats), 0, "nothing is known at first");
        assert!(engine.keys().len() >= 100);
        let next: Vec<_> = (1000..1300).map(|i| signed(i, 100, SOURCE)).collect();
        check(&mut engine, &next, &hints(&next));
        assert_eq!((verified(&stats), stats.checks.load(Relaxed)), (300, 1), "one check for all");
    }
}

#[test]
fn without_a_hint_the_sole_signer_of_a_source_is_guessed() {
    for mut engine in engines() {
        let requests: Vec<_> =
            (0..200).map(|i| RecoverRequest { hint: None, ..signed(i, 1, SOURCE) }).collect();
        let signers = vec![address(&key(0)); 200];
        check(&mut engine, &requests, &signers);
        check(&mut engine, &requests, &signers);
        assert_eq!(verified(&engine.stats()), 200);
        // Another account all of a sudden: recovered, and the guess is given up.
        let other: Vec<_> =
            (0..200).map(|i| RecoverRequest { hint: None, ..signed(3 * i + 1, 3, SOURCE) }).collect();
        check(&mut engine, &other, &vec![address(&key(1)); 200]);
        check(&mut engine, &other, &vec![address(&key(1)); 200]);
        assert_eq!(verified(&engine.stats()), 200);
    }
}

#[test]
fn a_wrong_hint_means_recover_it_never_reject_it() {
    for mut engine in engines() {
        warm(&mut engine, SOURCE);
        let mut requests: Vec<_> = (1000..1300).map(|i| signed(i, 100, SOURCE)).collect();
        let signers = hints(&requests);
        for (place, hint) in
            [(0, address(&key(5))), (137, Address::ZERO), (138, address(&key(7))), (299, address(&key(0)))]
        {
            requests[place].hint = Some(hint);
        }
        check(&mut engine, &requests, &signers);
        assert!(engine.stats().failed.load(Relaxed) > 0);
        assert!(engine.stats().wrong_guesses.load(Relaxed) >= 3);
    }
}

#[test]
fn wrong_signatures_in_a_batch_get_their_own_answers() {
    for mut engine in engines() {
        warm(&mut engine, SOURCE);
        let good: Vec<_> = (1000..1200).map(|i| signed(i, 100, SOURCE)).collect();
        let mut requests = good.clone();
        requests[3].hash.0[0] ^= 1;
        requests[50].parity ^= 1;
        requests[77].r = U256::from(5);
        requests[90].s = U256::ZERO;
        requests[91].parity = 2;
        requests[120].s += U256::from(1);
        requests[199].hint = None;
        let mut oracle =
            scalar::probe(Config { workers: 0, inline_per_poll: 4_096, ..Config::default() }, None).unwrap();
        let mut batch = requests.clone();
        oracle.submit(&mut batch).unwrap();
        let mut expected = vec![];
        oracle.poll(&mut expected);
        assert_eq!(expected.len(), 200);
        assert!(expected[77].result.is_err() && expected[3].result.is_ok());
        let expected: Vec<_> = expected.into_iter().map(|answer| answer.result).collect();
        assert_eq!(run(&mut engine, &requests), expected);
    }
}

/// Signatures of an account whose key is claimed by somebody else's hint, again and again: the source loses its place in
/// batches, and others do not.
#[test]
fn a_source_that_poisons_is_recovered_alone() {
    for mut engine in engines() {
        warm(&mut engine, SOURCE);
        warm(&mut engine, SOURCE + 1);
        let mut poison: Vec<_> = (0..200).map(|i| signed(i, 100, SOURCE + 1)).collect();
        let signers = hints(&poison);
        poison[20].hint = Some(address(&key(99)));
        check(&mut engine, &poison, &signers);
        let failed = engine.stats().failed.load(Relaxed);
        assert!(failed > 0);
        for round in 0..5 {
            let before = verified(&engine.stats());
            let good: Vec<_> = (0..200).map(|i| signed(5000 + 200 * round + i, 100, SOURCE)).collect();
            check(
                &mut engine,
                &[good.clone(), poison.clone()].concat(),
                &[hints(&good), signers.clone()].concat(),
            );
            assert_eq!(
                verified(&engine.stats()) - before,
                200,
                "the good source is verified, the bad one is not"
            );
        }
        assert_eq!(engine.stats().failed.load(Relaxed), failed, "not a single check more was spoilt");
    }
}

/// Many sources, each good until it may poison one batch. Signatures recovered and checks made, at their prices, stay
/// within a twentieth of plain recovery and a fixed sum.
#[test]
fn poisoning_costs_no_more_than_the_ledger_allows() {
    let stock: Vec<_> = (0..600).map(|i| signed(i, 100, 0)).collect();
    for mut engine in engines().into_iter().take(1) {
        let (mut total, mut spoilt) = (0u64, 0);
        for source in 0..60 {
            let mut requests: Vec<_> = stock.iter().map(|q| RecoverRequest { source, ..*q }).collect();
            let signers = hints(&requests);
            // The first 150 earn the right to share a batch, and then one in forty is wrong.
            check(&mut engine, &requests[..150], &signers[..150]);
            for i in (150..600).step_by(40) {
                requests[i].hint = Some(address(&key((i as u64 + 1) % 100)));
                spoilt += 1;
            }
            check(&mut engine, &requests[150..], &signers[150..]);
            total += 600;
        }
        let stats = engine.stats();
        let (failed, recovered) = (stats.failed.load(Relaxed), stats.recovered.load(Relaxed));
        assert!(failed > 0 && spoilt > 0, "the test must poison");
        assert_eq!(recovered + verified(&stats), total, "each signature is answered once");
        // A failed check costs at least what its fixed part and 32 signatures cost, 15 + 32·0.3 recoveries.
        let bearable = total / 20 + 512 + verified(&stats);
        assert!(failed * 24 <= bearable, "{failed} failed checks for {total} signatures");
    }
}

#[test]
fn keys_from_outside_are_checked_to_be_on_the_curve() {
    let cache = KeyCache::new(64);
    let good = public(&key(1));
    assert_eq!(cache.learn(&good), Ok(address(&key(1))));
    assert_eq!(cache.len(), 1);
    let mut bad = good;
    bad[63] ^= 1;
    assert_eq!(cache.learn(&bad), Err(NotAKey));
    // y + p is the same residue, and no canonical coordinate.
    let p = U256::MAX - U256::from(0x1_0000_03d0u64);
    let small = (1u64..2000).find_map(|x| {
        let x = U256::from(x);
        let right = (x.pow(U256::from(3)) + U256::from(7)) % p;
        let y = right.pow_mod((p + U256::from(1)) >> 2, p);
        (y.mul_mod(y, p) == right).then_some((x, y))
    });
    let (x, y) = small.unwrap();
    let bytes = |x: U256, y: U256| -> [u8; 64] {
        [x.to_be_bytes::<32>(), y.to_be_bytes::<32>()].concat().try_into().unwrap()
    };
    assert!(cache.learn(&bytes(x, y)).is_ok());
    assert_eq!(cache.learn(&bytes(x + p, y)), Err(NotAKey));
    assert_eq!(cache.learn(&[0; 64]), Err(NotAKey));
    assert_eq!(cache.len(), 2);
}

#[test]
fn a_full_cache_keeps_the_accounts_in_use() {
    let cache = Arc::new(KeyCache::new(512));
    let config = Config { workers: 0, inline_per_poll: 4_096, ..Config::default() };
    let Some(mut engine) =
        Vectors::ALL.iter().find_map(|v| batch::probe(*v, cache.clone(), config.clone(), None).ok())
    else {
        return;
    };
    warm(&mut engine, SOURCE);
    let regular: Vec<_> = (1000..1100).map(|i| signed(i, 100, SOURCE)).collect();
    for round in 0..6u64 {
        check(&mut engine, &regular, &hints(&regular));
        // Newcomers by the hundred, none of whom comes again.
        let flood: Vec<_> = (0..300u64).map(|i| signed(1_000_000 + round * 300 + i, u64::MAX, 99)).collect();
        check(&mut engine, &flood, &hints(&flood));
        assert!(cache.len() <= 512);
    }
    let before = verified(&engine.stats());
    check(&mut engine, &regular, &hints(&regular));
    let kept = verified(&engine.stats()) - before;
    assert!(kept >= 90, "only {kept} of 100 regulars were remembered");
}

#[test]
fn engines_share_what_they_learn() {
    let cache = Arc::new(KeyCache::new(512));
    for i in 0..100 {
        cache.learn(&public(&key(i))).unwrap();
    }
    let config = Config { workers: 2, ..Config::default() };
    let Some(mut engine) =
        Vectors::ALL.iter().find_map(|v| batch::probe(*v, cache.clone(), config.clone(), None).ok())
    else {
        return;
    };
    assert_eq!(engine.caps().parallelism, 2);
    for round in 0..20u64 {
        let requests: Vec<_> = (0..700).map(|i| signed(round * 700 + i, 100, round % 3)).collect();
        check(&mut engine, &requests, &hints(&requests));
    }
    assert!(verified(&engine.stats()) > 8_000, "{:?}", engine.stats());
    assert_eq!(engine.stats().failed.load(Relaxed), 0);
}
