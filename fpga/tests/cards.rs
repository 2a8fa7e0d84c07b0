//! Cards over every way in: a driver that the node starts (L1), one that listens (L1), a device file (L2).

use alloy_primitives::{B256, U256, keccak256};
use ironlane_fpga::backend::ring::{self, Config, Limits, Place, Register, RingEngine};
use ironlane_fpga::backend::scalar;
use ironlane_fpga::card::software;
use ironlane_fpga::checked::{self, Checked, Quarantine};
use ironlane_fpga::claim::ClaimEngine;
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverRequest, Trust, Waker};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const CARD: &str = env!("CARGO_BIN_EXE_ironlane-card");

/// Valid signatures, and every seventh with a random r, of which half have no key.
fn requests(count: u64) -> Vec<RecoverRequest> {
    use secp256k1::{Message, SECP256K1, SecretKey};
    (0..count)
        .map(|i| {
            let key = SecretKey::from_byte_array(keccak256((i % 50).to_be_bytes()).0).expect("a key");
            let hash = keccak256(i.to_le_bytes());
            let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &key);
            let (id, bytes) = signature.serialize_compact();
            let (known, _) = (software::request(&software::submission(i, &zero())), ());
            let r = if i % 7 == 3 {
                U256::from_be_bytes(keccak256(hash).0) >> 1
            } else {
                U256::from_be_slice(&bytes[..32])
            };
            RecoverRequest {
                hash,
                r,
                s: U256::from_be_slice(&bytes[32..]),
                parity: i32::from(id) as u8,
                ..known
            }
        })
        .collect()
}

fn zero() -> RecoverRequest {
    software::request(&ironlane_fpga::abi::Submission::ZERO)
}

fn submitted(tag: u64, request: &RecoverRequest) -> RecoverRequest {
    RecoverRequest { tag, ..*request }
}

/// A folder of its own for a test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ironlane-cards-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> Running {
    Running(Command::new(CARD).args(arguments).spawn().expect("the card starts"))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "timed out waiting {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn spawn(arguments: &[&str]) -> Config {
    let command = [CARD].iter().chain(arguments).map(ToString::to_string).collect();
    Config { entries: 256, ..Config::new(Place::Spawn { command }) }
}

fn device(path: &Path, register: Option<Register>) -> Config {
    let place = Place::Device { path: path.into(), offset: 0, register };
    Config { entries: 128, ..Config::new(place) }
}

/// All requests through the engine; answers by tag.
fn run(engine: &mut dyn RecoverEngine, requests: &[RecoverRequest]) -> Vec<RecoverAnswer> {
    let mut batch: Vec<_> = requests.iter().enumerate().map(|(i, r)| submitted(i as u64, r)).collect();
    let mut answers = vec![];
    until("for answers", || {
        let _ = engine.submit(&mut batch);
        while engine.poll(&mut answers) > 0 {}
        answers.len() >= requests.len()
    });
    assert_eq!((answers.len(), engine.in_flight()), (requests.len(), 0));
    answers.sort_by_key(|answer| answer.tag);
    answers
}

fn check_all(engine: &mut dyn RecoverEngine, requests: &[RecoverRequest]) {
    for (i, answer) in run(engine, requests).iter().enumerate() {
        assert_eq!(answer.tag, i as u64);
        assert_eq!(answer.result, software::recover(&requests[i]), "request {i}");
    }
}

#[test]
fn a_driver_that_the_node_starts() {
    let mut engine = ring::probe(spawn(&[]), None).expect("the software card");
    assert_eq!((engine.caps().trust, engine.caps().capacity), (Trust::Hint, 256));
    assert!(engine.capabilities().title().starts_with("Ironlane software card"));
    let driver = engine.driver().expect("started by us");
    check_all(&mut engine, &requests(1_000));
    assert!(engine.telemetry().completed >= 1_001);
    drop(engine);
    assert!(!Path::new(&format!("/proc/{driver}")).exists(), "the driver leaves with its host");
}

#[test]
fn a_driver_that_listens_serves_one_host_after_the_other() {
    let folder = Folder::new("listen");
    let path = folder.file("card.sock");
    let _card = start(&["--listen", path.to_str().expect("utf-8")]);
    until("for the socket", || path.exists());
    let config =
        |users: Vec<u32>| Config { entries: 64, ..Config::new(Place::Socket { path: path.clone(), users }) };
    for _ in 0..2 {
        let mut engine = ring::probe(config(vec![]), None).expect("the software card");
        check_all(&mut engine, &requests(200));
    }
    let refusal = ring::probe(config(vec![54_321]), None).err().expect("the wrong user");
    assert!(refusal.to_string().contains("54321"), "{refusal}");
}

#[test]
fn the_same_rings_in_a_device_file_with_and_without_a_register() {
    let folder = Folder::new("device");
    for (name, mapped) in [("plain", None), ("mapped", Some(true)), ("written", Some(false))] {
        let (bar, register) = (folder.file(name), folder.file(&format!("{name}.reg")));
        let mut arguments = vec!["--device", bar.to_str().expect("utf-8"), "--entries", "128"];
        if mapped.is_some() {
            arguments.extend(["--register", register.to_str().expect("utf-8")]);
        }
        let _card = start(&arguments);
        until("for the region", || {
            bar.metadata().is_ok_and(|m| m.len() > 8_192) && (mapped.is_none() || register.exists())
        });
        std::thread::sleep(Duration::from_millis(20));
        let register = mapped.map(|mapped| Register { path: register.clone(), offset: 0, mapped });
        let mut engine = ring::probe(device(&bar, register.clone()), None).expect("the software card");
        check_all(&mut engine, &requests(500));
        if let Some(register) = register {
            let bytes = std::fs::read(&register.path).expect("the register");
            assert_ne!(bytes[..4], [0; 4], "{name}: the doorbell register was written");
        }
    }
}

#[test]
fn whoever_sleeps_is_rung() {
    let folder = Folder::new("rung");
    let bar = folder.file("bar");
    let _card = start(&["--device", bar.to_str().expect("utf-8"), "--entries", "128"]);
    until("for the region", || bar.metadata().is_ok_and(|m| m.len() > 8_192));
    std::thread::sleep(Duration::from_millis(20));
    for config in [spawn(&[]), device(&bar, None)] {
        let bell = Arc::new((Mutex::new(0u32), Condvar::new()));
        let theirs = bell.clone();
        let waker: Waker = Arc::new(move || {
            *theirs.0.lock().expect("lock") += 1;
            theirs.1.notify_one();
        });
        let mut engine = ring::probe(config, Some(waker)).expect("the software card");
        let all = requests(60);
        for size in [1, 2, 60] {
            let mut batch = all[..size].to_vec();
            *bell.0.lock().expect("lock") = 0;
            engine.submit(&mut batch).expect("room");
            let mut answers = vec![];
            while answers.len() < size {
                if engine.poll(&mut answers) > 0 {
                    continue;
                }
                let guard = bell.0.lock().expect("lock");
                let (mut guard, late) = bell
                    .1
                    .wait_timeout_while(guard, Duration::from_secs(20), |rung| *rung == 0)
                    .expect("lock");
                assert!(!late.timed_out(), "{} of {size} answers, then silence", answers.len());
                *guard = 0;
            }
        }
    }
}

#[test]
fn what_cannot_be_a_card_is_refused_with_a_reason() {
    let folder = Folder::new("refused");
    let small = folder.file("small");
    std::fs::write(&small, [0; 100]).expect("written");
    let silent = folder.file("silent");
    std::fs::write(&silent, vec![0; ironlane_fpga::abi::region_bytes(128)]).expect("written");
    let quick = Limits { start: Duration::from_millis(50), ..Limits::default() };
    let program = |command: &[&str]| {
        let command = command.iter().map(ToString::to_string).collect();
        Config { limits: quick, ..Config::new(Place::Spawn { command }) }
    };
    for (config, words) in [
        (program(&[]), "empty"),
        (program(&["/nonexistent/driver"]), "cannot be started"),
        (program(&["true"]), "greeting"),
        (device(&folder.file("nothing"), None), "cannot be used"),
        (device(&small, None), "100 bytes"),
        (Config { limits: quick, ..device(&silent, None) }, "capabilities"),
        (Config { entries: 100, ..spawn(&[]) }, "power of two"),
    ] {
        let refusal = ring::probe(config, None).err().expect("no card");
        assert!(refusal.to_string().contains(words), "{refusal} does not say {words}");
    }
}

fn trusted() -> Box<dyn RecoverEngine> {
    Box::new(scalar::probe(scalar::Config { workers: 1, ..Default::default() }, None).expect("scalar"))
}

fn checked(engine: RingEngine, config: checked::Config) -> Checked<RingEngine> {
    Checked::new(engine, trusted(), None, config, None)
}

fn patient() -> checked::Config {
    checked::Config { deadline: Duration::from_secs(10), ..checked::Config::default() }
}

#[test]
fn an_honest_card_is_never_put_aside_and_teaches_its_keys() {
    let taught = Arc::new(AtomicUsize::new(0));
    let count = taught.clone();
    let teach: checked::Teach = Box::new(move |address, key| {
        assert_eq!(software::address_of(key), address);
        count.fetch_add(1, Ordering::Relaxed);
    });
    let card = ring::probe(spawn(&[]), None).expect("the software card");
    let mut engine = Checked::new(card, trusted(), Some(teach), patient(), None);
    let all = requests(2_000);
    check_all(&mut engine, &all);
    assert_eq!(engine.quarantine(), None);
    let counters = engine.counters();
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert!(get(&counters.confirmed) > 0 && get(&counters.asked) == get(&counters.confirmed));
    assert_eq!(get(&counters.lies) + get(&counters.late) + get(&counters.unasked), 0);
    assert!(taught.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_driver_that_is_killed_costs_nobody_an_answer() {
    let card = ring::probe(spawn(&[]), None).expect("the software card");
    let driver = card.driver().expect("started by us");
    let mut engine = checked(card, patient());
    let all = requests(1_000);
    check_all(&mut engine, &all[..100]);
    let killed = Command::new("kill").args(["-9", &driver.to_string()]).status().expect("kill");
    assert!(killed.success());
    let began = Instant::now();
    check_all(&mut engine, &all);
    assert!(began.elapsed() < Duration::from_secs(5), "the CPU takes over at once");
    assert!(matches!(engine.quarantine(), Some(Quarantine::Fault(why)) if why.contains("driver")));
    // The operator has it started again.
    engine.readmit().expect("a new driver");
    assert_ne!(engine.hinting().driver(), Some(driver));
    check_all(&mut engine, &all[..100]);
    assert_eq!(engine.quarantine(), None);
}

#[test]
fn a_driver_that_stands_still_is_late_and_the_deadline_holds() {
    let card = ring::probe(spawn(&[]), None).expect("the software card");
    let driver = card.driver().expect("started by us").to_string();
    let mut engine =
        checked(card, checked::Config { deadline: Duration::from_millis(100), ..checked::Config::default() });
    let stopped = Command::new("kill").args(["-STOP", &driver]).status().expect("kill");
    assert!(stopped.success());
    let all = requests(50);
    let began = Instant::now();
    check_all(&mut engine, &all);
    assert!(began.elapsed() >= Duration::from_millis(100), "until then the card had its chance");
    assert!(began.elapsed() < Duration::from_secs(3), "after it the CPU is quick: {:?}", began.elapsed());
    assert!(matches!(engine.quarantine(), Some(Quarantine::Late { .. })));
    assert!(Command::new("kill").args(["-CONT", &driver]).status().expect("kill").success());
}

/// Faults 30 and 31, one mutant each: nothing false leaves, every request is answered once, the reason is right.
#[test]
fn cards_that_lie_repeat_or_swap_are_put_aside_and_nothing_false_leaves() {
    for (mutant, reason) in [
        ("address-bit-0-always", "public key"),
        ("signer-negated", "claimed the signer"),
        ("valid-said-no-key", "signature is bad"),
        ("no-key-said-valid", "claimed the signer"),
        ("duplicate-every-7", "protocol"),
        ("swap-tags-pairs", "claimed the signer"),
        ("lost-every-7", "unanswered"),
        ("seal-upper-bit", "protocol"),
        ("stale-epoch-in-completion", "protocol"),
        ("hang-after-100", "unanswered"),
        ("vanish-after-100", "driver"),
    ] {
        let card = match ring::probe(spawn(&["--mutant", mutant]), None) {
            Ok(card) => card,
            // Its self-test found it out already.
            Err(refusal) => {
                assert!(refusal.to_string().len() > 20, "{mutant}");
                continue;
            }
        };
        let config = checked::Config { deadline: Duration::from_millis(300), ..checked::Config::default() };
        let mut engine = checked(card, config);
        let all = requests(600);
        check_all(&mut engine, &all);
        check_all(&mut engine, &all[..50]);
        let why = engine.quarantine().unwrap_or_else(|| panic!("{mutant} got away")).to_string();
        assert!(why.contains(reason), "{mutant}: {why}");
    }
}

/// The price of trusting: unchecked claims leave, and the counters say how many.
#[test]
fn sampling_checks_some_claims_and_counts_the_rest() {
    let card = ring::probe(spawn(&[]), None).expect("the software card");
    let config = checked::Config { trusting: checked::Trusting::Sample { one_in: 4 }, ..patient() };
    let mut engine = checked(card, config);
    let all = requests(1_000);
    check_all(&mut engine, &all);
    let counters = engine.counters();
    let (confirmed, unchecked) =
        (counters.confirmed.load(Ordering::Relaxed), counters.unchecked.load(Ordering::Relaxed));
    assert!(unchecked > 0 && confirmed > unchecked / 10, "{confirmed} checked, {unchecked} not");
}

#[test]
fn claims_of_invalidity_are_checked_at_a_bounded_rate() {
    let card = ring::probe(spawn(&[]), None).expect("the software card");
    let mut engine = checked(card, checked::Config { invalid_per_s_max: 100, ..patient() });
    let bad: Vec<RecoverRequest> = requests(2_000)
        .into_iter()
        .filter(|request| software::recover(request).is_err() && request.check_ranges().is_ok())
        .take(40)
        .collect();
    assert_eq!(bad.len(), 40);
    let began = Instant::now();
    check_all(&mut engine, &bad);
    // Ten at once, thirty at 100 a second.
    assert!(began.elapsed() > Duration::from_millis(200), "{:?}", began.elapsed());
    assert!(engine.counters().invalid_held.load(Ordering::Relaxed) > 0);
    assert_eq!(engine.quarantine(), None);
    let _unused = B256::ZERO;
}

#[test]
fn the_fault_of_a_ring_is_named() {
    let mut card = ring::probe(spawn(&["--mutant", "duplicate-every-7"]), None).expect("passes one request");
    let mut batch = requests(50);
    let mut claims = vec![];
    until("for the fault", || {
        let _ = card.submit(&mut batch);
        card.poll_claims(&mut claims);
        card.fault().is_some()
    });
    assert!(card.fault().expect("seen").contains("protocol"));
    assert!(card.submit(&mut requests(1)).is_err(), "a faulty engine takes nothing");
}
