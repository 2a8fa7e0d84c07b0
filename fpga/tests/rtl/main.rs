//! The RTL reference (`fpga/rtl`) in simulation: Keccak against the crate's own, recovery against libsecp256k1, the rings'
//! rules, and the microcode's files. Skipped, with the reason, where Verilator is missing.

mod card;
mod process;
mod programs;

use alloy_primitives::U256;
use card::{N, Script, oracle, recover};
use ironlane_fpga::abi::{Completion, FLAG_ANY_S, OP_KECCAK, OP_NOP, OP_RECOVER, Submission, status};
use ironlane_fpga::keccak::keccak256;
use programs::{program, run};
use proptest::prelude::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use secp256k1::{Message, PublicKey, SECP256K1, Scalar, SecretKey};
use std::process::Command;

/// Values of `strategy` from a fixed seed.
fn samples<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn secret(value: U256) -> SecretKey {
    SecretKey::from_byte_array(value.to_be_bytes()).unwrap()
}

/// A signature with the key and message that `seed` gives.
fn signed(seed: u64) -> Submission {
    let digest = keccak256(&seed.to_le_bytes()).0;
    let key = secret(U256::from_be_bytes(digest) % N);
    let (id, compact) =
        SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest), &key).serialize_compact();
    let (r, s) = (U256::from_be_slice(&compact[..32]), U256::from_be_slice(&compact[32..]));
    recover(U256::from_be_bytes(digest), r, s, i32::from(id) as u8, 0)
}

/// The recovery in which the card computes u1·G + u2·R for R = k·G.
fn multiplication(k: U256, u1: U256, u2: U256) -> Submission {
    let point = PublicKey::from_secret_key(SECP256K1, &secret(k)).serialize_uncompressed();
    let r = U256::from_be_slice(&point[1..33]) % N;
    let (hash, s) = ((N - u1 % N).mul_mod(r, N), u2.mul_mod(r, N));
    recover(hash, r, s, point[64] & 1, FLAG_ANY_S)
}

#[test]
fn keccak_of_every_length_and_in_every_build() {
    let mut messages: Vec<Vec<u8>> = (0..=543).map(|length| vec![length as u8; length]).collect();
    messages.push(b"abc".to_vec());
    messages.extend(samples(proptest::collection::vec(any::<u8>(), 0..=543), 200));
    let input: String = messages
        .iter()
        .map(|m| if m.is_empty() { "-\n".to_owned() } else { hex::encode(m) + "\n" })
        .collect();
    let blocks: u64 = messages.iter().map(|m| m.len() as u64 / 136 + 1).sum();
    for (build, clocks_per_block, depth) in [("pipelined", 1, 24), ("two-rounds", 13, 13), ("folded", 25, 25)]
    {
        let Some(path) = program(&format!("rtl-keccak-{build}")) else { return };
        for arguments in [&[][..], &["stall"]] {
            let output = run(&path, arguments, input.clone());
            let mut seen = vec![false; messages.len()];
            for line in &output.lines {
                let (index, digest) = line.split_once(' ').unwrap();
                let index: usize = index.parse().unwrap();
                assert_eq!(digest, hex::encode(keccak256(&messages[index])), "message {index}");
                assert!(!std::mem::replace(&mut seen[index], true), "message {index} twice");
            }
            assert!(seen.iter().all(|s| *s));
            if arguments.is_empty() {
                // Full rate: a block a clock, pipelined, and the messages that are last in it have it to themselves.
                let limit = blocks * clocks_per_block + 5 * depth;
                assert!(
                    output.clocks[0] <= limit,
                    "{build}: {} clocks for {blocks} blocks",
                    output.clocks[0]
                );
            }
        }
    }
    // Known answers (Keccak team): the empty message and "abc".
    assert_eq!(
        hex::encode(keccak256(b"")),
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    );
    assert_eq!(
        hex::encode(keccak256(b"abc")),
        "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    );
}

#[test]
fn recoveries_agree_with_libsecp() {
    let Some(path) = program("rtl-lines") else { return };
    let mut entries: Vec<Submission> = (0..40).map(signed).collect();
    let half = N / U256::from(2);
    let (one, max) = (U256::ONE, U256::MAX);
    // Ranges: r, s, parity, and which of them is reported first.
    for r in [U256::ZERO, one, N - one, N, N + one, max] {
        for s in [U256::ZERO, one, half, half + one, N - one, N, max] {
            for flags in [0, FLAG_ANY_S] {
                entries.push(recover(U256::from(7), r, s, 0, flags));
            }
        }
    }
    for v in [0, 1, 2, 3, 27, 255] {
        entries.push(Submission { v, ..signed(1) });
        entries.push(recover(U256::ZERO, U256::ZERO, N, v, 0));
    }
    // Any x: about half of them are on the curve, with either parity.
    for r in 1..=12 {
        for v in [0, 1] {
            entries.push(recover(U256::from(9), U256::from(r), U256::from(77), v, 0));
        }
    }
    // Messages at and past the order.
    for hash in [U256::ZERO, one, N - one, N, N + one, max] {
        entries.push(Submission { hash: hash.to_be_bytes(), ..signed(2) });
    }
    let answers: Vec<Completion> = entries.iter().map(oracle).collect();
    for wanted in
        [status::OK, status::BAD_PARITY, status::BAD_R, status::BAD_S, status::HIGH_S, status::NO_KEY]
    {
        assert!(answers.iter().any(|a| a.status == wanted), "no case ends with status {wanted}");
    }
    let mut script = Script::new();
    script.reset(12, 1);
    entries.iter().for_each(|entry| script.send(entry));
    script.line("wait");
    let (_, order) = script.check(&path);
    assert!(!order.is_sorted(), "refusals overtake recoveries");
}

/// Additions of a point to itself, to its opposite and to infinity, at each place where the program adds.
#[test]
fn exceptional_additions_are_exact() {
    let Some(path) = program("rtl-lines") else { return };
    let number = |value: u64| U256::from(value);
    let mut entries = vec![];
    for k in [1u64, 2, 3] {
        for (u1, u2) in
            [(0, 1), (1, 1), (2, 1), (3, 1), (0, 15), (256, 15), (255, 16), (0x0f00, 0xf0), (0xff00, 0xf00f)]
        {
            entries.push(multiplication(number(k), number(u1), number(u2)));
            // The opposite: u1·G − u2·R, which is infinity for u1 = k·u2.
            entries.push(multiplication(number(k), number(u1), N - number(u2)));
            entries.push(multiplication(number(k), N - number(u1), number(u2)));
        }
        entries.push(multiplication(number(k), number(7 * k), N - number(7)));
    }
    // 16·(R + G) = ±d·R for R = k·G: the sum so far meets the table's entry d, in the upper or in the lower half of a byte.
    for d in 1..=15u64 {
        let same = number(16).mul_mod((N - number(16 - d)).inv_mod(N).unwrap(), N);
        let opposite = (N - number(16)).mul_mod(number(16 + d).inv_mod(N).unwrap(), N);
        for k in [same, opposite] {
            entries.push(multiplication(k, number(0x100), number(0x100 | d << 4)));
            entries.push(multiplication(k, number(0x100), number(0x100 | d << 4 | 5)));
        }
        // 16·R + … in the lower half: R's own multiples alone cannot meet, so G stands in a byte above.
        let same = number(256).mul_mod((N - number(16) - number(256) + number(d)).inv_mod(N).unwrap(), N);
        entries.push(multiplication(same, number(0x100), number(0x100 | 1 << 4 | d)));
    }
    let infinite = entries.iter().filter(|e| oracle(e).status == status::NO_KEY).count();
    assert!(infinite >= 3, "{infinite} keys at infinity");
    let mut script = Script::new();
    script.reset(12, 1);
    entries.iter().for_each(|entry| script.send(entry));
    script.line("wait");
    script.check(&path);
}

#[test]
fn the_rings_keep_their_rules() {
    let Some(path) = program("rtl-lines") else { return };
    let mut script = Script::new();
    let nop = Submission { op: OP_NOP, ..Submission::ZERO };
    let refused = |op, status| Completion { op, status, ..Completion::ZERO };

    // Many laps of a tiny ring, with everything in it, while the host now and then reads nothing.
    script.reset(1, 1);
    for i in 0..40u64 {
        match i % 5 {
            0 => script.send(&signed(i)),
            1 => script.send(&nop),
            2 => script.send(&Submission::keccak(0, &vec![i as u8; (i * 2) as usize])),
            3 => script.send(&Submission { v: 9, ..signed(i) }),
            _ => script.line("hold 3000"),
        }
    }
    script.line("wait");

    // Every mistake that an entry can make, and which one counts when it makes several.
    script.reset(4, 0xffff_ffff);
    let good = signed(100);
    for byte in 0..11 {
        script.send_wrong(&good, refused(OP_RECOVER, status::MALFORMED), |e| e.reserved[byte] = 0x80);
    }
    for bit in 0..32 {
        script.send_wrong(&good, refused(OP_RECOVER, status::MALFORMED), |e| e.seal ^= 1 << bit);
    }
    for epoch in [0, 1, 0x7fff_ffff, 0xffff_fffe] {
        script.send_wrong(&good, refused(OP_RECOVER, status::STALE_EPOCH), |e| e.epoch = epoch);
    }
    for op in [3, 0x0100, 0xffff] {
        script.send_wrong(&good, refused(op, status::BAD_OP), |e| e.op = op);
    }
    for bit in 0..16 {
        let flags = 1 << bit;
        for op in [OP_NOP, OP_KECCAK] {
            script.send_wrong(&nop, refused(op, status::BAD_FLAGS), |e| (e.op, e.flags) = (op, flags));
        }
        if flags != FLAG_ANY_S {
            script.send_wrong(&good, refused(OP_RECOVER, status::BAD_FLAGS), |e| e.flags = flags);
        }
    }
    for v in [97, 128, 255] {
        script.send_wrong(&nop, refused(OP_KECCAK, status::BAD_LENGTH), |e| (e.op, e.v) = (OP_KECCAK, v));
    }
    script.send_wrong(&nop, refused(9, status::MALFORMED), |e| {
        (e.op, e.flags, e.epoch, e.reserved[3]) = (9, 9, 9, 9);
    });
    script.send_wrong(&nop, refused(9, status::STALE_EPOCH), |e| (e.op, e.flags, e.epoch) = (9, 9, 9));
    script.send_wrong(&nop, refused(9, status::BAD_OP), |e| (e.op, e.flags) = (9, 9));
    // What a NOP or a short message does not use may hold anything.
    script.send(&Submission { op: OP_NOP, ..good });
    script.send(&Submission { op: OP_KECCAK, v: 3, ..good });
    for length in 0..=96 {
        script.send(&Submission::keccak(0, &vec![length as u8 ^ 0x5a; length]));
    }
    script.line("wait");

    // A reset in the middle: nothing of the old epoch comes, and everything of the new.
    for (epoch, clocks) in [(5, 0), (6, 1), (7, 40), (8, 2_000), (9, 50_000), (10, 97_500)] {
        script.reset(6, epoch);
        (0..50).for_each(|i| script.send_in_vain(&signed(i)));
        // Whatever is completed by then stays unread.
        script.line(&format!("hold {}", clocks + 1));
        script.line(&format!("run {clocks}"));
        script.reset(3, epoch + 1_000);
        (0..4).for_each(|i| script.send(&signed(i)));
        script.send(&nop);
        script.line("wait");
    }
    script.check(&path);
}

/// Clocks that docs/rtl.md reports: a lone recovery, and the rate of a card that is kept busy.
#[test]
fn clocks_are_as_documented() {
    let Some(path) = program("rtl-lines") else { return };
    let mut script = Script::new();
    script.reset(12, 1);
    script.send(&signed(0));
    script.line("wait");
    for count in [126, 252] {
        (0..count).for_each(|i| script.send(&signed(i)));
        script.line("wait");
    }
    let (output, order) = script.check(&path);
    let [lone, some, twice] = output.clocks[..] else { panic!("three waits: {:?}", output.clocks) };
    assert!((90_000..105_000).contains(&lone), "{lone} clocks for a lone recovery");
    // Two engines: 126 recoveries more are 63 each.
    let rate = (twice - some) / 63;
    assert!((4_000..5_200).contains(&rate), "{rate} clocks a recovery and engine");
    assert!(!order.is_sorted(), "recoveries overtake one another");
    eprintln!("{lone} clocks for one; {rate} a recovery and engine when busy");
}

#[test]
fn the_generators_table_is_right() {
    let text = include_str!("../../rtl/generator_rom.vh");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("generator[")).collect();
    assert_eq!(rows.len(), 256);
    assert_eq!(rows[0], format!("generator[0] = 512'h{};", "0".repeat(128)));
    for (k, row) in rows.iter().enumerate().skip(1) {
        let mut one = [0; 32];
        one[31] = 1;
        let generator = PublicKey::from_secret_key(SECP256K1, &SecretKey::from_byte_array(one).unwrap());
        let multiple = generator.mul_tweak(SECP256K1, &Scalar::from(secret(U256::from(k)))).unwrap();
        let key = hex::encode(&multiple.serialize_uncompressed()[1..]);
        assert_eq!(*row, format!("generator[{k}] = 512'h{key};"));
    }
}

#[test]
fn the_microcode_is_what_its_script_makes() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/rtl/microcode.py");
    let Ok(output) = Command::new("python3").args([script, "--check"]).output() else {
        eprintln!("skipped: python3 is not installed");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn statuses_and_operations_are_the_abis() {
    let text = include_str!("../../rtl/status.vh");
    let defined: Vec<(&str, u16)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("`define ")?.split_whitespace();
            let (name, value) = (words.next()?, words.next()?);
            let digits = value.strip_prefix("16'd").or(value.strip_prefix("16'h"))?;
            Some((name, digits.parse().unwrap()))
        })
        .collect();
    let expected = [
        ("OP_NOP", OP_NOP),
        ("OP_RECOVER", OP_RECOVER),
        ("OP_KECCAK", OP_KECCAK),
        ("STATUS_OK", status::OK),
        ("STATUS_BAD_PARITY", status::BAD_PARITY),
        ("STATUS_BAD_R", status::BAD_R),
        ("STATUS_BAD_S", status::BAD_S),
        ("STATUS_HIGH_S", status::HIGH_S),
        ("STATUS_NO_KEY", status::NO_KEY),
        ("STATUS_MALFORMED", status::MALFORMED),
        ("STATUS_STALE_EPOCH", status::STALE_EPOCH),
        ("STATUS_BAD_OP", status::BAD_OP),
        ("STATUS_BAD_FLAGS", status::BAD_FLAGS),
        ("STATUS_BAD_LENGTH", status::BAD_LENGTH),
        ("FLAG_ANY_S", FLAG_ANY_S),
    ];
    assert_eq!(defined, expected);
}
