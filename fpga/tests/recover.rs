//! Sender recovery against vectors of others, directed edge cases, and keys of our own. One body, every engine.

mod corpus;

use alloy_primitives::{Address, B256, U256, keccak256, uint};
use ironlane_fpga::backend::Config;
use ironlane_fpga::backend::batch::{self, KeyCache};
use ironlane_fpga::backend::scalar;
use ironlane_fpga::backend::simd::{self, Vectors};
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverError, RecoverRequest, Trust};
use proptest::prelude::*;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
const P: U256 = uint!(0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256);

/// Every engine that this CPU has, in all its layouts.
fn engines() -> Vec<Box<dyn RecoverEngine>> {
    let mut engines = vec![];
    for workers in [0, 1, 3] {
        let config =
            || Config { workers, capacity: 1_000, spin_us: 0, inline_per_poll: 100, ..Config::default() };
        engines.push(Box::new(scalar::probe(config(), None).unwrap()) as Box<dyn RecoverEngine>);
        for vectors in Vectors::ALL {
            match simd::probe(vectors, config(), None) {
                Ok(engine) => engines.push(Box::new(engine)),
                Err(refusal) => eprintln!("not tested: {refusal}"),
            }
            match batch::probe(vectors, Arc::new(KeyCache::new(1_000)), config(), None) {
                Ok(engine) => engines.push(Box::new(engine)),
                Err(refusal) => eprintln!("not tested: {refusal}"),
            }
        }
    }
    engines
}

/// Runs requests through an engine and puts the answers in the order of the requests.
fn recover(
    engine: &mut dyn RecoverEngine,
    requests: &[RecoverRequest],
) -> Vec<Result<Address, RecoverError>> {
    let mut batch: Vec<_> = requests.to_vec();
    for (tag, request) in batch.iter_mut().enumerate() {
        request.tag = tag as u64;
    }
    let mut answers: Vec<RecoverAnswer> = vec![];
    let deadline = Instant::now() + Duration::from_secs(60);
    while answers.len() < requests.len() {
        let _ = engine.submit(&mut batch);
        if engine.poll(&mut answers) == 0 {
            assert!(Instant::now() < deadline, "the engine owes {} answers", requests.len() - answers.len());
            std::thread::yield_now();
        }
    }
    assert_eq!(engine.in_flight(), 0);
    answers.sort_by_key(|a| a.tag);
    for (tag, answer) in answers.iter().enumerate() {
        assert_eq!(answer.tag, tag as u64, "each request has exactly one answer");
    }
    answers.into_iter().map(|a| a.result).collect()
}

/// Right signatures with right hints: what an engine may learn from, and company for those to be tested.
fn company() -> &'static [RecoverRequest] {
    static COMPANY: OnceLock<Vec<RecoverRequest>> = OnceLock::new();
    COMPANY.get_or_init(|| {
        let one = |i: u64| {
            let (request, signer) = sign(&key(i % 50), keccak256([i as u8; 9]));
            RecoverRequest { hint: Some(signer), source: 7, ..request }
        };
        (0..150).map(one).collect()
    })
}

/// Every engine gives these answers: without hints, with hints, and with wrong ones.
fn check_all(requests: &[RecoverRequest], expected: &[Result<Address, RecoverError>]) {
    thread_local! {
        static ENGINES: RefCell<Vec<Box<dyn RecoverEngine>>> = RefCell::new(engines());
    }
    ENGINES.with_borrow_mut(|engines| {
        engines.iter_mut().for_each(|engine| check_one(engine.as_mut(), requests, expected))
    });
}

fn check_one(
    engine: &mut dyn RecoverEngine,
    requests: &[RecoverRequest],
    expected: &[Result<Address, RecoverError>],
) {
    {
        let (name, parallelism) = (engine.caps().name, engine.caps().parallelism);
        let mut check = |requests: &[RecoverRequest], skip: usize, how: &str| {
            let found = recover(engine, requests);
            for (i, (found, expected)) in found[skip..].iter().zip(expected).enumerate() {
                let request = requests[skip + i];
                assert_eq!(
                    found, expected,
                    "{name}, {how}, request {i}, {parallelism} at a time: {request:?}"
                );
            }
        };
        check(requests, 0, "no hints");
        if name.starts_with("batch") {
            check(&[company(), requests].concat(), company().len(), "to learn from");
            let hinted = |how: &dyn Fn(usize) -> Option<Address>| {
                let own = |(i, q): (usize, &RecoverRequest)| RecoverRequest { hint: how(i), source: 7, ..*q };
                [company().to_vec(), requests.iter().enumerate().map(own).collect()].concat()
            };
            check(&hinted(&|i| expected[i].ok()), company().len(), "right hints");
            check(&hinted(&|i| company()[i % 50].hint), company().len(), "wrong hints");
        }
    }
}

fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

fn sign(key: &SecretKey, hash: B256) -> (RecoverRequest, Address) {
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), key);
    let (id, bytes) = signature.serialize_compact();
    let request = RecoverRequest {
        tag: 0,
        hash,
        r: U256::from_be_slice(&bytes[..32]),
        s: U256::from_be_slice(&bytes[32..]),
        parity: i32::from(id) as u8,
        hint: None,
        source: 0,
    };
    (request, address_of(&PublicKey::from_secret_key(SECP256K1, key)))
}

fn key(seed: u64) -> SecretKey {
    SecretKey::from_byte_array(keccak256(seed.to_be_bytes()).0).unwrap()
}

#[test]
fn many_signatures_come_back_under_their_tags() {
    let signed: Vec<_> = (0..300).map(|i| sign(&key(i % 50), keccak256(i.to_le_bytes()))).collect();
    let requests: Vec<_> = signed.iter().map(|s| s.0).collect();
    let expected: Vec<_> = signed.iter().map(|s| Ok(s.1)).collect();
    check_all(&requests, &expected);
}

#[test]
fn ranges_are_refused_each_for_its_own_reason() {
    let (good, signer) = sign(&key(1), B256::repeat_byte(7));
    let half = (N - U256::ONE) / U256::from(2);
    let with = |f: &dyn Fn(&mut RecoverRequest)| {
        let mut request = good;
        f(&mut request);
        request
    };
    let cases = [
        (good, Some(Ok(signer))),
        (with(&|q| q.hint = Some(Address::repeat_byte(9))), Some(Ok(signer))),
        (with(&|q| q.parity = 2), Some(Err(RecoverError::Parity))),
        (with(&|q| q.parity = 3), Some(Err(RecoverError::Parity))),
        (with(&|q| q.parity = 27), Some(Err(RecoverError::Parity))),
        (with(&|q| q.r = U256::ZERO), Some(Err(RecoverError::R))),
        (with(&|q| q.r = N), Some(Err(RecoverError::R))),
        (with(&|q| q.r = N + U256::ONE), Some(Err(RecoverError::R))),
        (with(&|q| q.r = P), Some(Err(RecoverError::R))),
        (with(&|q| q.r = U256::MAX), Some(Err(RecoverError::R))),
        (with(&|q| q.s = U256::ZERO), Some(Err(RecoverError::S))),
        (with(&|q| q.s = N), Some(Err(RecoverError::S))),
        (with(&|q| q.s = U256::MAX), Some(Err(RecoverError::S))),
        (with(&|q| q.s = half + U256::ONE), Some(Err(RecoverError::HighS))),
        (with(&|q| q.s = N - U256::ONE), Some(Err(RecoverError::HighS))),
        // Malleated: the same signer by the group's law, refused by EIP-2.
        (with(&|q| (q.s, q.parity) = (N - q.s, 1 - q.parity)), Some(Err(RecoverError::HighS))),
        (with(&|q| q.r = U256::from(5)), Some(Err(RecoverError::NoKey))),
        // In range, hence some signer or none, but never a complaint about a range.
        (with(&|q| q.s = half), None),
        (with(&|q| q.s = U256::ONE), None),
        (with(&|q| q.r = N - U256::ONE), None),
        (with(&|q| q.hash = B256::ZERO), None),
        (with(&|q| q.hash = B256::from(N.to_be_bytes())), None),
    ];
    for mut engine in engines() {
        let requests: Vec<_> = cases.iter().map(|c| c.0).collect();
        for (i, (found, case)) in recover(engine.as_mut(), &requests).iter().zip(&cases).enumerate() {
            match case.1 {
                Some(expected) => assert_eq!(*found, expected, "case {i}"),
                None => assert!(matches!(found, Ok(_) | Err(RecoverError::NoKey)), "case {i}: {found:?}"),
            }
            assert_eq!(
                case.0.check_ranges().is_err(),
                matches!(found, Err(e) if *e != RecoverError::NoKey),
                "check_ranges and the engine must agree on case {i}"
            );
        }
    }
}

/// Where x = r + n is below p the nonce point may have either x. Ethereum knows only x = r: the key that libsecp finds
/// for the larger x (recovery ids 2 and 3) must never be answered.
#[test]
fn a_small_r_means_x_equal_to_r() {
    use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
    let hash = B256::repeat_byte(0x33);
    let s = U256::from(77);
    let mut compared = 0;
    let (mut requests, mut expected) = (vec![], vec![]);
    for r in 1..40u64 {
        assert!(U256::from(r) + N < P);
        let mut compact = [0u8; 64];
        compact[24..32].copy_from_slice(&r.to_be_bytes());
        compact[32..].copy_from_slice(&s.to_be_bytes::<32>());
        let by_id = |id| {
            let signature = RecoverableSignature::from_compact(&compact, id).unwrap();
            SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature).ok().map(|k| address_of(&k))
        };
        for (parity, id, beyond) in
            [(0, RecoveryId::Zero, RecoveryId::Two), (1, RecoveryId::One, RecoveryId::Three)]
        {
            requests.push(RecoverRequest {
                tag: 0,
                hash,
                r: U256::from(r),
                s,
                parity,
                hint: None,
                source: 0,
            });
            expected.push(by_id(id).ok_or(RecoverError::NoKey));
            if let (Some(low), Some(high)) = (by_id(id), by_id(beyond)) {
                assert_ne!(low, high);
                compared += 1;
            }
        }
    }
    assert!(compared > 4, "too few values of r where both points exist");
    check_all(&requests, &expected);
}

/// R = (hash / s) · G makes the public key the point at infinity.
#[test]
fn the_point_at_infinity_is_no_key() {
    let secret = key(9);
    let point = PublicKey::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
    let r = U256::from_be_slice(&point[1..33]);
    let parity = point[64] & 1;
    // With nonce k and s = 1: Q = (s·R − z·G) / r = (k − z)·G / r, which vanishes for z = k.
    let hash = B256::from(secret.secret_bytes());
    let request = RecoverRequest { tag: 0, hash, r, s: U256::ONE, parity, hint: None, source: 0 };
    check_all(&[request], &[Err(RecoverError::NoKey)]);
    check_all(&[request; 20], &[Err(RecoverError::NoKey); 20]);
}

#[test]
fn a_full_engine_keeps_nothing_it_did_not_take() {
    let (request, signer) = sign(&key(3), B256::repeat_byte(1));
    let config = Config { workers: 0, capacity: 10, inline_per_poll: 4, ..Config::default() };
    let mut engine = scalar::probe(config, None).unwrap();
    assert_eq!(engine.caps().trust, Trust::Trusted);
    let mut batch: Vec<_> = (0..25).map(|tag| RecoverRequest { tag, ..request }).collect();
    assert!(engine.submit(&mut batch).is_err());
    assert_eq!((batch.len(), engine.in_flight()), (15, 10));
    assert_eq!(batch[0].tag, 10, "the front was taken");
    assert!(engine.submit(&mut batch).is_err());
    assert_eq!(batch.len(), 15);
    let mut answers = vec![];
    assert_eq!(engine.poll(&mut answers), 4, "a poll without workers does a bounded amount of work");
    assert_eq!(answers[0].result, Ok(signer));
    assert!(engine.submit(&mut batch).is_err());
    assert_eq!((batch.len(), engine.in_flight()), (11, 10));
    assert!(engine.submit(&mut vec![]).is_ok(), "nothing always fits");
}

/// A consumer that sleeps until the bell rings gets every answer.
#[test]
fn the_waker_rings_whenever_a_poll_would_bring_something() {
    for workers in [0, 1, 2] {
        let rung = Arc::new((std::sync::Mutex::new(0u64), std::sync::Condvar::new()));
        let bell = rung.clone();
        let waker = Arc::new(move || {
            *bell.0.lock().unwrap() += 1;
            bell.1.notify_one();
        });
        let config = Config { workers, spin_us: 0, inline_per_poll: 3, ..Config::default() };
        let mut engine = scalar::probe(config, Some(waker)).unwrap();
        assert_eq!(*rung.0.lock().unwrap(), 0, "the self-test rings nobody");
        let (request, signer) = sign(&key(4), B256::repeat_byte(2));
        for size in [1u64, 2, 64, 1, 7] {
            let mut batch: Vec<_> = (0..size).map(|tag| RecoverRequest { tag, ..request }).collect();
            engine.submit(&mut batch).unwrap();
            let mut answers = vec![];
            while (answers.len() as u64) < size {
                let guard = rung.0.lock().unwrap();
                let (mut guard, late) =
                    rung.1.wait_timeout_while(guard, Duration::from_secs(20), |r| *r == 0).unwrap();
                assert!(
                    !late.timed_out(),
                    "{workers} workers: {} of {size} answers, then silence",
                    answers.len()
                );
                *guard = 0;
                drop(guard);
                engine.poll(&mut answers);
            }
            assert!(answers.iter().all(|a| a.result == Ok(signer)));
        }
    }
}

#[test]
fn an_engine_with_a_cpu_that_is_not_there_is_refused() {
    let refusal = scalar::probe(Config { cpus: vec![100_000], ..Config::default() }, None).err().unwrap();
    assert_eq!(refusal.engine, "scalar");
    assert!(refusal.to_string().contains("100000"), "{refusal}");
}

#[test]
fn workers_that_have_nothing_to_do_use_no_processor_time() {
    let engine = scalar::probe(Config { workers: 2, ..Config::default() }, None).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let used = || -> u64 {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| {
                let task = task.ok()?.path();
                let name = std::fs::read_to_string(task.join("comm")).ok()?;
                let stat = std::fs::read_to_string(task.join("stat")).ok()?;
                let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
                let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
                name.starts_with("recover-").then_some(ticks)
            })
            .sum()
    };
    let before = used();
    std::thread::sleep(Duration::from_millis(400));
    // Two spinning workers would use 80 ticks of 10 ms; the workers of tests that run beside this one use some.
    assert!(used().saturating_sub(before) <= 40, "idle workers burn the processor");
    drop(engine);
}

#[test]
fn dropping_an_engine_with_work_in_it_ends_its_threads() {
    static RUNG: AtomicUsize = AtomicUsize::new(0);
    let waker = Arc::new(|| {
        RUNG.fetch_add(1, Ordering::Relaxed);
    });
    let mut engine = scalar::probe(Config { workers: 2, ..Config::default() }, Some(waker)).unwrap();
    let (request, _) = sign(&key(5), B256::repeat_byte(3));
    engine.submit(&mut vec![request; 500]).unwrap();
    drop(engine);
    let rung = RUNG.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(RUNG.load(Ordering::Relaxed), rung, "a thread outlived its engine");
}

/// ecRecover precompile vectors: 32 bytes each of hash, v, r, s. The precompile takes a high s and this engine does not.
#[test]
fn vectors_of_the_ecrecover_precompile() {
    let Some(folder) = corpus::unpacked("crypto-dev") else { return };
    let text = std::fs::read_to_string(folder.join("crypto/ecrecover/ecRecover.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty());
    let (mut requests, mut expected) = (vec![], vec![]);
    for case in &cases {
        let mut input = hex::decode(case["Input"].as_str().unwrap()).unwrap();
        input.resize(128, 0);
        let word = |i: usize| U256::from_be_slice(&input[i * 32..i * 32 + 32]);
        let Some(parity) = word(1).checked_sub(U256::from(27)).and_then(|v| u8::try_from(v).ok()) else {
            continue;
        };
        let output = hex::decode(case["Expected"].as_str().unwrap()).unwrap();
        let request = RecoverRequest {
            tag: 0,
            hash: B256::from(word(0)),
            r: word(2),
            s: word(3),
            parity,
            hint: None,
            source: 0,
        };
        requests.push(request);
        expected.push((output.len() == 32).then(|| Address::from_slice(&output[12..])));
    }
    for mut engine in engines() {
        for ((found, expected), request) in
            recover(engine.as_mut(), &requests).iter().zip(&expected).zip(&requests)
        {
            match found {
                Err(RecoverError::HighS) => assert!(request.s > N / U256::from(2)),
                found => assert_eq!(found.ok(), *expected, "{request:?}"),
            }
        }
    }
}

/// Wycheproof judges (public key, message, r ‖ s). A valid signature with a low s must recover, with one of the two
/// parities, to its key; an invalid one to that key with neither.
#[test]
fn wycheproof_signatures() {
    let Some(folder) = corpus::unpacked("crypto-dev") else { return };
    let path = folder.join("crypto/wycheproof/ecdsa_secp256k1_sha256_p1363_test.json");
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut requests, mut cases) = (vec![], vec![]);
    for group in file["testGroups"].as_array().unwrap() {
        let point = hex::decode(group["publicKey"]["uncompressed"].as_str().unwrap()).unwrap();
        let signer = Address::from_slice(&keccak256(&point[1..])[12..]);
        for test in group["tests"].as_array().unwrap() {
            let message = hex::decode(test["msg"].as_str().unwrap()).unwrap();
            let signature = hex::decode(test["sig"].as_str().unwrap()).unwrap();
            if signature.len() != 64 {
                // Not an encoding that a transaction could carry.
                assert_eq!(test["result"], "invalid");
                continue;
            }
            let hash = B256::from(sha256(&message));
            let (r, s) = (U256::from_be_slice(&signature[..32]), U256::from_be_slice(&signature[32..]));
            let hint = Some(signer);
            requests.extend([0, 1].map(|parity| RecoverRequest {
                tag: 0,
                hash,
                r,
                s,
                parity,
                hint,
                source: 0,
            }));
            cases.push((signer, test));
        }
    }
    for mut engine in engines() {
        let (mut valid, mut invalid) = (0, 0);
        let found = recover(engine.as_mut(), &requests);
        for ((found, request), (signer, test)) in found.chunks(2).zip(requests.chunks(2)).zip(&cases) {
            let (r, s) = (request[0].r, request[0].s);
            let hit = found.contains(&Ok(*signer));
            match test["result"].as_str().unwrap() {
                "valid" if s > N / U256::from(2) => assert_eq!(found, [Err(RecoverError::HighS); 2]),
                // R's x was at least n: recoverable only with the ids that Ethereum cannot write.
                "valid" if !hit && r + N < P => {}
                "valid" => {
                    assert!(hit, "test {}: {found:?}", test["tcId"]);
                    valid += 1;
                }
                _ => {
                    assert!(!hit, "test {} must not recover to the key", test["tcId"]);
                    invalid += 1;
                }
            }
        }
        assert!(valid > 60 && invalid > 30, "{valid} valid, {invalid} invalid");
    }
}

fn sha256(message: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(message).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_key_and_hash(seeds in prop::collection::vec((any::<u64>(), any::<[u8; 32]>()), 1..40)) {
        let signed: Vec<_> = seeds.iter().map(|(seed, hash)| sign(&key(*seed), B256::from(*hash))).collect();
        let requests: Vec<_> = signed.iter().map(|s| s.0).collect();
        let expected: Vec<_> = signed.iter().map(|s| Ok(s.1)).collect();
        check_all(&requests, &expected);
    }

    /// Arbitrary numbers recover to what libsecp says of them, and never panic.
    #[test]
    fn any_numbers(numbers in prop::collection::vec(any_request(), 1..40)) {
        let expected: Vec<_> = numbers.iter().map(libsecp).collect();
        for (request, expected) in numbers.iter().zip(&expected) {
            if let Ok((address, key, signature)) = expected {
                // Whoever is found has signed this: verification is another algorithm than recovery.
                prop_assert_eq!(*address, address_of(key));
                let message = Message::from_digest(request.hash.0);
                prop_assert!(SECP256K1.verify_ecdsa(message, &signature.to_standard(), key).is_ok());
            }
        }
        let expected: Vec<_> = expected.iter().map(|e| e.as_ref().map(|e| e.0).map_err(|e| *e)).collect();
        check_all(&numbers, &expected);
    }
}

/// Numbers of which some are out of range, some at its edge, and about half of the rest no x of a point.
fn any_request() -> impl Strategy<Value = RecoverRequest> {
    let edge = prop_oneof![
        Just(U256::ZERO),
        (1u64..40).prop_map(U256::from),
        (0u64..40).prop_map(|d| N - U256::from(20) + U256::from(d)),
        (0u64..40).prop_map(|d| P - U256::from(20) + U256::from(d)),
        (0u64..40).prop_map(|d| N / U256::from(2) - U256::from(20) + U256::from(d)),
        Just(U256::MAX),
    ];
    let number = prop_oneof![3 => any::<[u8; 32]>().prop_map(U256::from_be_bytes), 1 => edge];
    (number.clone(), number.clone(), any::<bool>(), number, 0u8..5).prop_map(|(r, s, halve, hash, parity)| {
        let (s, parity) = (if halve { s >> 1 } else { s }, parity.min(2) % 3);
        RecoverRequest { tag: 0, hash: hash.into(), r, s, parity, hint: None, source: 0 }
    })
}

type Recovered = (Address, PublicKey, secp256k1::ecdsa::RecoverableSignature);

/// What libsecp256k1 says, behind the rules of Ethereum.
fn libsecp(request: &RecoverRequest) -> Result<Recovered, RecoverError> {
    let RecoverRequest { hash, r, s, parity, .. } = *request;
    if parity > 1 {
        return Err(RecoverError::Parity);
    } else if r.is_zero() || r >= N {
        return Err(RecoverError::R);
    } else if s.is_zero() || s >= N {
        return Err(RecoverError::S);
    } else if s > N / U256::from(2) {
        return Err(RecoverError::HighS);
    }
    let id = secp256k1::ecdsa::RecoveryId::from_u8_masked(parity);
    let mut bytes = [0u8; 64];
    bytes[..32].copy_from_slice(&r.to_be_bytes::<32>());
    bytes[32..].copy_from_slice(&s.to_be_bytes::<32>());
    let signature = secp256k1::ecdsa::RecoverableSignature::from_compact(&bytes, id).unwrap();
    let message = Message::from_digest(hash.0);
    let key = SECP256K1.recover_ecdsa(message, &signature).map_err(|_| RecoverError::NoKey)?;
    Ok((address_of(&key), key, signature))
}

/// The waker runs on a worker: one that panics stands for any panic there.
#[test]
fn a_panic_in_a_worker_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    const CHILD: &str = "IRONLANE_TEST_PANICKING_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let waker = Arc::new(|| panic!("this worker is broken"));
        let mut engine = scalar::probe(Config::default(), Some(waker)).unwrap();
        let (request, _) = sign(&key(6), B256::repeat_byte(4));
        engine.submit(&mut vec![request]).unwrap();
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_panic_in_a_worker_ends_the_process", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the process ends"), "{output:?}");
}
