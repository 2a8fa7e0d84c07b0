//! The simulated card as a process behind the node's own ring code: levels L1 and L2 of the ABI.

use super::card::{oracle, recover};
use super::programs::program;
use super::signed;
use alloy_primitives::{Address, B256, U256};
use ironlane_fpga::abi::{self, status};
use ironlane_fpga::backend::ring::{self, Limits, Place};
use ironlane_fpga::claim::ClaimEngine;
use ironlane_fpga::{RecoverEngine, RecoverRequest};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Simulated time is slow, and other tests run beside this one.
const PATIENCE: Duration = Duration::from_secs(120);

/// Recovers 50 signatures, good and bad, on the card at `place`.
fn drive(place: Place) {
    let limits = Limits { start: PATIENCE, reset: PATIENCE, ..Limits::default() };
    let config = ring::Config { place, entries: 16, limits };
    let mut engine = ring::probe(config, None).unwrap();
    assert_eq!(engine.capabilities().ops, 0b111);
    assert_eq!(engine.caps().capacity, 16);

    let mut entries: Vec<_> = (0..40).map(signed).collect();
    // Not on the curve, out of range, and s in the upper half, which this door never allows.
    entries.extend((1..=6).map(|r| recover(U256::from(9), U256::from(r), U256::from(77), 0, 0)));
    entries.push(recover(U256::from(9), U256::ZERO, U256::from(77), 0, 0));
    entries.push(recover(U256::from(9), U256::from(1), U256::ZERO, 0, 0));
    entries.push(recover(U256::from(9), U256::from(1), super::N - U256::from(1), 0, 0));
    entries.push(recover(U256::from(9), U256::from(1), U256::from(1), 2, 0));
    let request = |tag: usize| RecoverRequest {
        tag: tag as u64,
        hash: B256::from(entries[tag].hash),
        r: U256::from_be_bytes(entries[tag].r),
        s: U256::from_be_bytes(entries[tag].s),
        parity: entries[tag].v,
        hint: None,
        source: 0,
    };
    let mut batch: Vec<_> = (0..entries.len()).map(request).collect();
    let mut answers = vec![];
    let deadline = Instant::now() + PATIENCE;
    while answers.len() < entries.len() {
        let _full = engine.submit(&mut batch);
        if engine.poll(&mut answers) == 0 {
            assert_eq!(engine.fault(), None);
            assert!(
                Instant::now() < deadline,
                "{} of {} answers, then silence",
                answers.len(),
                entries.len()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let mut seen = vec![false; entries.len()];
    for answer in &answers {
        let expected = oracle(&entries[answer.tag as usize]);
        let expected = match expected.status {
            status::OK => Ok(Address::from(expected.address)),
            other => Err(abi::error_of(other).unwrap()),
        };
        assert_eq!(answer.result, expected);
        assert!(!std::mem::replace(&mut seen[answer.tag as usize], true));
    }
    assert!(engine.telemetry().heartbeat > 0);
    assert!(engine.telemetry().completed >= entries.len() as u64);

    // Something is always under way when a card is reset in earnest.
    let mut batch: Vec<_> = (0..10).map(request).collect();
    engine.submit(&mut batch).unwrap();
    engine.restart().unwrap();
    assert_eq!(engine.in_flight(), 0);
    let mut batch = vec![request(3)];
    engine.submit(&mut batch).unwrap();
    let mut answers = vec![];
    while engine.poll(&mut answers) == 0 {
        assert!(Instant::now() < deadline + PATIENCE, "no answer after a reset");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(answers[0].result, Ok(Address::from(oracle(&entries[3]).address)));
}

/// Ends a card that a test started, whatever becomes of the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(card: &PathBuf, option: &str, path: &PathBuf, more: &[&str]) -> Started {
    let _ = std::fs::remove_file(path);
    let child = Command::new(card).arg(option).arg(path).args(more).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // The capabilities' magic number says that a file is ready; a socket is ready when it is there.
    while !path.exists() || option == "--device" && std::fs::read(path).map_or(0, |b| b.len()) < 0x2000 {
        assert!(Instant::now() < deadline, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
    Started(child)
}

#[test]
fn a_card_that_the_host_starts() {
    let Some(card) = program("rtl-card") else { return };
    drive(Place::Spawn { command: vec![card.display().to_string()] });
}

#[test]
fn a_card_behind_a_socket_serves_one_host_after_the_other() {
    let Some(card) = program("rtl-card") else { return };
    // Short: a socket's name has 107 bytes.
    let path = std::env::temp_dir().join(format!("rtl-card-{}.sock", std::process::id()));
    let _child = start(&card, "--listen", &path, &[]);
    for _ in 0..2 {
        drive(Place::Socket { path: path.clone(), users: vec![] });
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_card_in_a_mapped_file() {
    let Some(card) = program("rtl-card") else { return };
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rtl-card-{}.bin", std::process::id()));
    let mut child = start(&card, "--device", &path, &["--entries", "16"]);
    drive(Place::Device { path: path.clone(), offset: 0, register: None });
    // The host said STOP when it left.
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.0.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(Instant::now() < deadline, "the card does not leave"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success());
    std::fs::remove_file(&path).unwrap();
}
