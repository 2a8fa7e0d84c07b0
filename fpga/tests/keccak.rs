//! Every way to hash gives what the plain definition gives.

mod corpus;

use alloy_primitives::B256;
use ironlane_fpga::keccak::{Engine, RATE, blocks, hash_many, keccak256, keccak256_x4, keccak256_x8};
use proptest::prelude::*;

/// Keccak-256 straight from the definition (Keccak reference, sections 1.2 and 1.3; rate 136): no tables but the LFSR.
#[allow(clippy::needless_range_loop, reason = "the definition speaks of coordinates")]
fn naive(message: &[u8]) -> B256 {
    let mut padded = message.to_vec();
    padded.push(1);
    padded.resize(blocks(message.len()) * RATE, 0);
    *padded.last_mut().unwrap() |= 0x80;
    let mut state = [[0u64; 5]; 5]; // state[x][y]
    for block in padded.chunks(RATE) {
        for (i, word) in block.chunks(8).enumerate() {
            state[i % 5][i / 5] ^= u64::from_le_bytes(word.try_into().unwrap());
        }
        let mut lfsr = 1u8;
        for _ in 0..24 {
            let c: Vec<u64> = state.iter().map(|column| column.iter().fold(0, |a, b| a ^ b)).collect();
            for x in 0..5 {
                for y in 0..5 {
                    state[x][y] ^= c[(x + 4) % 5] ^ c[(x + 1) % 5].rotate_left(1);
                }
            }
            let (mut x, mut y, mut current) = (1, 0, state[1][0]);
            for t in 0..24u32 {
                (x, y) = (y, (2 * x + 3 * y) % 5);
                let moved = current.rotate_left((t + 1) * (t + 2) / 2 % 64);
                current = state[x][y];
                state[x][y] = moved;
            }
            for y in 0..5 {
                let row: Vec<u64> = (0..5).map(|x| state[x][y]).collect();
                for x in 0..5 {
                    state[x][y] = row[x] ^ (!row[(x + 1) % 5] & row[(x + 2) % 5]);
                }
            }
            for j in 0..7 {
                if lfsr & 1 == 1 {
                    state[0][0] ^= 1u64 << ((1u32 << j) - 1);
                }
                lfsr = (lfsr << 1) ^ if lfsr & 0x80 != 0 { 0x71 } else { 0 };
            }
        }
    }
    let mut hash = [0u8; 32];
    for (x, bytes) in hash.chunks_mut(8).enumerate() {
        bytes.copy_from_slice(&state[x][0].to_le_bytes());
    }
    hash.into()
}

fn check_all_engines(messages: &[&[u8]]) {
    let expected: Vec<B256> = messages.iter().map(|m| naive(m)).collect();
    for engine in Engine::available() {
        let mut out = vec![B256::ZERO; messages.len()];
        engine.hash_many(messages, &mut out);
        for (i, message) in messages.iter().enumerate() {
            assert_eq!(out[i], expected[i], "{}: message {i} of {} bytes", engine.name(), message.len());
        }
    }
}

#[test]
fn every_length_around_the_block_boundaries() {
    let bytes: Vec<u8> = (0..2000u32).map(|i| (i * 167 + 13) as u8).collect();
    for length in (0..300).chain([407, 408, 409, 543, 544, 1087, 1088, 1089, 1999]) {
        assert_eq!(keccak256(&bytes[..length]), naive(&bytes[..length]), "{length} bytes");
        // Eight and more of one length fill the vectors; their contents differ so that lanes cannot be confused.
        let messages: Vec<&[u8]> = (0..17.min(2000 - length + 1)).map(|i| &bytes[i..i + length]).collect();
        check_all_engines(&messages);
    }
}

#[test]
fn fixed_sizes_and_empty_input() {
    let messages: [&[u8]; 8] = [b"", b"a", b"bc", &[7; 136], &[8; 135], &[9; 500], b"x", &[0; 272]];
    assert_eq!(keccak256_x8(messages), messages.map(naive));
    let four = [messages[0], messages[3], messages[5], messages[7]];
    assert_eq!(keccak256_x4(four), four.map(naive));
    hash_many(&[], &mut []);
}

#[test]
#[should_panic(expected = "one hash for each message")]
fn lengths_that_differ_are_a_bug_of_the_caller() {
    hash_many(&[b"a", b"b"], &mut [B256::ZERO]);
}

#[test]
fn known_answers_of_the_keccak_team() {
    let Some(folder) = corpus::unpacked("crypto-dev") else { return };
    let mut cases: Vec<(Vec<u8>, B256)> = vec![];
    for file in ["ShortMsgKAT_256.txt", "LongMsgKAT_256.txt"] {
        let text = std::fs::read_to_string(folder.join("crypto/keccak").join(file)).unwrap();
        let (mut bits, mut message) = (0usize, vec![]);
        for line in text.lines() {
            if let Some(value) = line.strip_prefix("Len = ") {
                bits = value.trim().parse().unwrap();
            } else if let Some(value) = line.strip_prefix("Msg = ") {
                message = hex::decode(value.trim()).unwrap();
            } else if let Some(value) = line.strip_prefix("MD = ")
                && bits % 8 == 0
            {
                message.truncate(bits / 8);
                cases.push((message.clone(), value.trim().parse().unwrap()));
            }
        }
    }
    assert!(cases.len() > 250, "only {} known answers were read", cases.len());
    let messages: Vec<&[u8]> = cases.iter().map(|c| c.0.as_slice()).collect();
    for engine in Engine::available() {
        let mut out = vec![B256::ZERO; cases.len()];
        engine.hash_many(&messages, &mut out);
        for (hash, (message, expected)) in out.iter().zip(&cases) {
            assert_eq!(hash, expected, "{}: {} bytes", engine.name(), message.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_mixture_of_lengths(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..40)) {
        let views: Vec<&[u8]> = messages.iter().map(|m| m.as_slice()).collect();
        check_all_engines(&views);
    }

    #[test]
    fn long_messages_beside_short_ones(lengths in prop::collection::vec(0usize..5000, 1..20), seed in any::<u8>()) {
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let views: Vec<&[u8]> = lengths.iter().map(|l| &bytes[..*l]).collect();
        check_all_engines(&views);
    }
}
