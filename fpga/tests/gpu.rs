//! Recovery and hashing on an OpenCL device (PoCL where there is no other), one body beside the engine on the CPU.
#![cfg(feature = "opencl")]

mod corpus;
mod vectors;

use alloy_primitives::{B256, U256, keccak256};
use ironlane_fpga::backend::gpu::{Config, Gpu, KeyAnswer, opencl};
use ironlane_fpga::backend::scalar;
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverRequest, Trust};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secp256k1::SecretKey;
use std::time::{Duration, Instant};
use vectors::{N, P, by_libsecp, directed, sign};

/// PoCL on a busy machine takes its time.
fn config() -> Config {
    Config { batch_max: 512, answer_ms_max: 120_000, ..Config::default() }
}

fn device() -> Option<Gpu> {
    match opencl::probe(config(), None) {
        Ok(engine) => Some(engine),
        Err(refusal) if refusal.reason.contains("install") => {
            eprintln!("skipped: {refusal}");
            None
        }
        Err(refusal) => panic!("{refusal}"),
    }
}

/// Sends all and brings the answers into the order of their tags.
fn recover(engine: &mut dyn RecoverEngine, requests: &[RecoverRequest]) -> Vec<RecoverAnswer> {
    let (mut batch, mut answers) = (requests.to_vec(), vec![]);
    let deadline = Instant::now() + Duration::from_secs(240);
    while answers.len() < requests.len() {
        let _full = engine.submit(&mut batch);
        if engine.poll(&mut answers) == 0 {
            assert!(Instant::now() < deadline, "{} of {} answers", answers.len(), requests.len());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(engine.in_flight(), 0);
    assert_eq!(engine.failure(), None);
    answers.sort_by_key(|answer| answer.tag);
    answers
}

/// The one body: each engine answers as libsecp256k1 does.
fn check_all(requests: &mut [RecoverRequest]) {
    for (tag, request) in requests.iter_mut().enumerate() {
        request.tag = tag as u64;
    }
    let expected = by_libsecp(requests);
    let scalar = scalar::probe(scalar::Config::default(), None).unwrap();
    let mut engines: Vec<Box<dyn RecoverEngine>> = vec![Box::new(scalar)];
    if let Some(device) = device() {
        assert_eq!(device.caps().trust, Trust::Hint);
        engines.push(Box::new(device));
    }
    for mut engine in engines {
        let name = engine.caps().name;
        for (found, expected) in recover(engine.as_mut(), requests).iter().zip(&expected) {
            assert_eq!(found, expected, "{name}: {:?}", requests[found.tag as usize]);
        }
        println!("{name}: {} requests", requests.len());
    }
}

#[test]
fn the_edges_of_every_rule() {
    check_all(&mut directed(600));
}

/// Neither signed by anybody nor in any range: whatever libsecp says of such numbers.
#[test]
fn numbers_that_nobody_signed() {
    let mut random = StdRng::seed_from_u64(11);
    let mut requests: Vec<_> = (0..400)
        .map(|i| {
            let number = |random: &mut StdRng| U256::from_limbs(random.random());
            let (r, s) = (number(&mut random), number(&mut random));
            let s = if i % 4 == 0 { s } else { s >> 1 };
            let parity = if i % 16 == 0 { random.random() } else { random.random_range(0..2) };
            let hash = B256::from(random.random::<[u8; 32]>());
            RecoverRequest { tag: 0, hash, r, s, parity, hint: None, source: 0 }
        })
        .collect();
    // x = r + n would be a point too; Ethereum's parity cannot say so, and nobody may answer for it.
    for r in 1..20u64 {
        assert!(U256::from(r) + N < P);
        for parity in [0, 1] {
            requests.push(RecoverRequest { r: U256::from(r), s: U256::from(77), parity, ..requests[1] });
        }
    }
    check_all(&mut requests);
}

#[test]
fn keys_come_with_the_answers_and_belong_to_them() {
    let Some(mut engine) = device() else { return };
    let mut random = StdRng::seed_from_u64(13);
    let secrets: Vec<_> = (0..700).map(|_| SecretKey::from_byte_array(random.random()).unwrap()).collect();
    let requests: Vec<_> = secrets
        .iter()
        .zip(0u64..)
        .map(|(secret, tag)| RecoverRequest { tag, ..sign(secret, keccak256(tag.to_le_bytes())) })
        .collect();
    let (mut batch, mut found): (_, Vec<KeyAnswer>) = (requests.clone(), vec![]);
    while found.len() < requests.len() {
        let _full = engine.submit(&mut batch);
        engine.poll_keys(&mut found);
    }
    found.sort_by_key(|found| found.answer.tag);
    for (found, secret) in found.iter().zip(&secrets) {
        let key = secret.public_key(secp256k1::SECP256K1).serialize_uncompressed();
        assert_eq!(found.key[..], key[1..]);
        assert_eq!(found.answer.result.unwrap()[..], keccak256(found.key)[12..]);
    }
}

/// Every signature of Wycheproof's (r ‖ s of 32 bytes each) with both parities, and every input of the precompile's vectors.
#[test]
fn vectors_of_others() {
    let Some(folder) = corpus::unpacked("crypto-dev") else { return };
    let read = |path: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(path)).unwrap()).unwrap()
    };
    let mut requests = vec![];
    let mut push = |hash: B256, r: U256, s: U256, parity: u8| {
        requests.push(RecoverRequest { tag: 0, hash, r, s, parity, hint: None, source: 0 });
        // The same signature with the s that Ethereum takes.
        if s < N && s > N >> 1 {
            requests.push(RecoverRequest {
                tag: 0,
                hash,
                r,
                s: N - s,
                parity: 1 - parity,
                hint: None,
                source: 0,
            });
        }
    };
    let file = read("crypto/wycheproof/ecdsa_secp256k1_sha256_p1363_test.json");
    for group in file["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            let message = hex::decode(test["msg"].as_str().unwrap()).unwrap();
            let signature = hex::decode(test["sig"].as_str().unwrap()).unwrap();
            if signature.len() == 64 {
                use sha2::{Digest, Sha256};
                let hash = B256::from_slice(&Sha256::digest(&message));
                let (r, s) = (U256::from_be_slice(&signature[..32]), U256::from_be_slice(&signature[32..]));
                push(hash, r, s, 0);
                push(hash, r, s, 1);
            }
        }
    }
    for case in read("crypto/ecrecover/ecRecover.json").as_array().unwrap() {
        let mut input = hex::decode(case["Input"].as_str().unwrap()).unwrap();
        input.resize(128, 0);
        let word = |i: usize| U256::from_be_slice(&input[i * 32..i * 32 + 32]);
        if let Some(parity) = word(1).checked_sub(U256::from(27)).and_then(|v| u8::try_from(v).ok())
            && parity <= 1
        {
            push(B256::from(word(0)), word(2), word(3), parity);
        }
    }
    assert!(requests.len() > 300, "{} requests", requests.len());
    check_all(&mut requests);
}

#[test]
fn every_length_hashes_as_on_the_cpu() {
    let mut hasher = match opencl::hasher(&config()) {
        Ok(hasher) => hasher,
        Err(refusal) if refusal.reason.contains("install") => return eprintln!("skipped: {refusal}"),
        Err(refusal) => panic!("{refusal}"),
    };
    let bytes: Vec<u8> = (0..2_000u32).map(|i| (i * 167 + 13) as u8).collect();
    let mut messages: Vec<&[u8]> = (0..=300).map(|length| &bytes[length..2 * length]).collect();
    messages.extend([407, 408, 409, 1_087, 1_088, 1_089, 2_000].map(|length| &bytes[..length]));
    let mut found = vec![B256::ZERO; messages.len()];
    hasher.hash_many(&messages, &mut found).unwrap();
    for (message, found) in messages.iter().zip(&found) {
        assert_eq!(*found, keccak256(message), "{} bytes", message.len());
    }
    // The buffers grow and shrink with what they are given.
    for count in [1, 2, 5_000, 3, 0] {
        let messages: Vec<[u8; 36]> = (0..count)
            .map(|i: u32| {
                let mut message = [7; 36];
                message[..4].copy_from_slice(&i.to_le_bytes());
                message
            })
            .collect();
        let views: Vec<&[u8]> = messages.iter().map(|message| &message[..]).collect();
        let mut found = vec![B256::ZERO; views.len()];
        hasher.hash_many(&views, &mut found).unwrap();
        assert!(views.iter().zip(&found).all(|(message, found)| keccak256(message) == *found));
    }
    assert!(hasher.kernel_seconds(2).unwrap() >= 0.0);
    assert!(hasher.kernel_seconds(0).is_err());
}

#[test]
fn devices_are_listed_and_others_refused() {
    let devices = match opencl::devices() {
        Ok(devices) => devices,
        Err(refusal) if refusal.reason.contains("install") => return eprintln!("skipped: {refusal}"),
        Err(refusal) => panic!("{refusal}"),
    };
    for (index, device) in devices.iter().enumerate() {
        println!("{device:?}");
        assert_eq!((device.backend, device.index), ("opencl", index));
        assert!(!device.name.is_empty() && device.memory_bytes > 0);
    }
    let beyond = Config { device: devices.len(), ..config() };
    let refusal = opencl::probe(beyond, None).err().unwrap().to_string();
    assert!(refusal.contains("there is no OpenCL device"), "{refusal}");
    let wrong = Config { batch_max: 1, ..config() };
    assert!(opencl::probe(wrong, None).is_err());
    let seconds = opencl::recover_seconds(&config(), &directed(40), 1).unwrap();
    assert!(seconds > 0.0);
}
