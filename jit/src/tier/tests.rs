//! The bounds, each reached on purpose. Time comes from a clock of the tests' own.

use super::{disk::Disk, judge::Way, queue::Order, worker::Budget, worker::Worker, *};
use alloy_primitives::{Bytes, keccak256};
use std::{
    cell::Cell,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> u64 {
    NOW_NS.get()
}

fn advance(ns: u64) {
    NOW_NS.set(NOW_NS.get() + ns);
}

const SPEC: SpecId = SpecId::OSAKA;
const SECOND_NS: u64 = 1_000_000_000;

fn config() -> TierConfig {
    TierConfig { threshold_gas: 1_000, threshold_gas_per_byte: 0, clock, ..TierConfig::default() }
}

/// A program of its own for each number.
fn program(n: u32) -> Bytes {
    // PUSH4 n, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN
    [&[0x63][..], &n.to_be_bytes(), &[0x60, 0, 0x52, 0x60, 32, 0x60, 0, 0xf3]].concat().into()
}

fn parts(config: TierConfig) -> (Runner, Worker, Arc<Shared>) {
    let compiler = Compiler::new(config.compiler).expect("this machine is one of Cranelift's");
    parts_with(config, Box::new(compiler))
}

fn parts_with(config: TierConfig, compiler: Box<dyn Compile>) -> (Runner, Worker, Arc<Shared>) {
    let (shared, worker, error) = Tier::parts(config, compiler);
    assert!(error.is_none(), "{error:?}");
    (Runner::new(shared.clone(), 1), worker.expect("tiered"), shared)
}

/// Runs one segment of a program; answers its way.
fn segment(runner: &mut Runner, code: &Bytes, gas: u64) -> Way {
    let hash = keccak256(code);
    let segment = runner.begin(&hash, SPEC, || unreachable!("only the eager mode asks"));
    assert_eq!(runner.code(&segment).is_some(), segment.way() == Way::Compiled);
    runner.end(segment, &hash, gas, code.len(), || code.clone());
    segment.way()
}

/// Serves everything that waits.
fn work(worker: &mut Worker, shared: &Shared) {
    while let Order::Compile(request) = shared.queue.take(Duration::ZERO) {
        worker.handle(&request);
    }
}

/// Counts its calls, takes a second each, and fails where it is told to.
struct Faulty {
    inner: Compiler,
    calls: Arc<AtomicUsize>,
    fails: bool,
}

impl Compile for Faulty {
    fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint()
    }

    fn compile(&self, code: &[u8], spec: SpecId) -> Result<Artifact, CompileError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        advance(SECOND_NS);
        if self.fails {
            Err(CompileError::Codegen("told to fail".into()))
        } else {
            self.inner.compile(code, spec)
        }
    }
}

fn faulty(fails: bool) -> (Box<Faulty>, Arc<AtomicUsize>) {
    let calls = Arc::<AtomicUsize>::default();
    let inner = Compiler::new(CompilerConfig::default()).expect("this machine is one of Cranelift's");
    (Box::new(Faulty { inner, calls: calls.clone(), fails }), calls)
}

#[test]
fn a_code_gets_hot_is_compiled_and_runs() {
    let (mut runner, mut worker, shared) = parts(config());
    let (hot, cold) = (program(1), program(2));
    assert_eq!(segment(&mut runner, &cold, 10), Way::Interpreted);
    for _ in 0..9 {
        assert_eq!(segment(&mut runner, &hot, 100), Way::Interpreted);
    }
    assert_eq!(shared.queue.len(), 0, "900 gas are below the threshold");
    segment(&mut runner, &hot, 100);
    assert_eq!(shared.queue.len(), 1);
    for _ in 0..50 {
        assert_eq!(segment(&mut runner, &hot, 100), Way::Interpreted, "the interpreter serves meanwhile");
    }
    assert_eq!(shared.queue.len(), 1, "a code waits once");
    work(&mut worker, &shared);
    assert_eq!(segment(&mut runner, &hot, 100), Way::Compiled);
    assert_eq!(segment(&mut runner, &cold, 10), Way::Interpreted);
    let stats = shared.counters.read(shared.queue.len());
    assert_eq!((stats.codes, stats.compiled, stats.queue), (1, 1, 0));
    assert_eq!((stats.compiled_segments, stats.compiled_gas), (1, 100));
    assert_eq!((stats.interpreted_segments, stats.interpreted_gas), (62, 6_020));
    assert_eq!(stats.compile_buckets.iter().sum::<u64>(), 1);
    drop(runner);
    assert_eq!(shared.counters.read(0), stats, "what an executor counted stays when it goes");
}

#[test]
fn another_fork_is_another_code() {
    let (mut runner, mut worker, shared) = parts(config());
    let hot = program(1);
    segment(&mut runner, &hot, 1_000);
    work(&mut worker, &shared);
    assert_eq!(segment(&mut runner, &hot, 1), Way::Compiled);
    let hash = keccak256(&hot);
    let before = runner.begin(&hash, SpecId::CANCUN, Bytes::new);
    assert_eq!(before.way(), Way::Interpreted, "not compiled for these rules");
    runner.end(before, &hash, 1_000, hot.len(), || hot.clone());
    work(&mut worker, &shared);
    assert_eq!(runner.begin(&hash, SpecId::CANCUN, Bytes::new).way(), Way::Compiled);
    assert_eq!(segment(&mut runner, &hot, 1), Way::Compiled, "and the other is still there");
}

#[test]
fn the_threshold_grows_with_the_length_and_too_long_is_refused() {
    let config = TierConfig { threshold_gas_per_byte: 100, code_bytes_max: 20, ..config() };
    let (mut runner, _worker, shared) = parts(config);
    let code = program(1);
    segment(&mut runner, &code, 1_000 + 100 * code.len() as u64 - 1);
    assert_eq!(shared.queue.len(), 0);
    segment(&mut runner, &code, 1);
    assert_eq!(shared.queue.len(), 1);
    let long = Bytes::from(vec![0x5b; 21]);
    segment(&mut runner, &long, 1_000_000);
    assert_eq!(shared.queue.len(), 1);
    assert_eq!(shared.counters.read(0).refused(Refusal::TooLong), 1);
}

#[test]
fn a_full_queue_refuses_and_serves_again_later() {
    let (mut runner, mut worker, shared) = parts(TierConfig { queue_len_max: 2, ..config() });
    for n in 0..5 {
        segment(&mut runner, &program(n), 1_000);
    }
    assert_eq!(shared.queue.len(), 2);
    assert_eq!(shared.counters.read(0).refused(Refusal::QueueFull), 3);
    work(&mut worker, &shared);
    for n in 2..4 {
        segment(&mut runner, &program(n), 1_000);
    }
    work(&mut worker, &shared);
    assert!((0..4).all(|n| segment(&mut runner, &program(n), 1) == Way::Compiled));
}

#[test]
fn the_coldest_makes_room_and_its_memory_comes_back() {
    let one = {
        let artifact = Compiler::new(CompilerConfig::default()).unwrap().compile(&program(0), SPEC).unwrap();
        crate::CompiledCode::load(&artifact).unwrap().memory_bytes() as u64
    };
    for bound in
        [TierConfig { cache_bytes_max: 2 * one, ..config() }, TierConfig { codes_max: 2, ..config() }]
    {
        let (mut runner, mut worker, shared) = parts(bound);
        for n in 0..2 {
            segment(&mut runner, &program(n), 1_000);
            work(&mut worker, &shared);
        }
        segment(&mut runner, &program(0), 100_000);
        let cold = Arc::downgrade(&{
            let hash = keccak256(program(1));
            let segment = runner.begin(&hash, SPEC, Bytes::new);
            runner.code(&segment).expect("compiled").clone()
        });
        segment(&mut runner, &program(2), 5_000);
        work(&mut worker, &shared);
        let stats = shared.counters.read(0);
        assert_eq!((stats.evictions, stats.codes), (1, 2));
        assert!(stats.cache_bytes <= 2 * one);
        let ways = [0, 1, 2].map(|n| segment(&mut runner, &program(n), 1));
        assert_eq!(ways, [Way::Compiled, Way::Interpreted, Way::Compiled]);
        worker.free();
        assert!(cold.upgrade().is_none(), "nobody runs it any more, so it is unmapped");
        // It has to get hot again.
        segment(&mut runner, &program(1), 998);
        assert_eq!(shared.queue.len(), 0);
        segment(&mut runner, &program(1), 1_000);
        assert_eq!(shared.queue.len(), 1);
    }
}

#[test]
fn a_code_larger_than_the_cache_is_refused() {
    let (mut runner, mut worker, shared) = parts(TierConfig { cache_bytes_max: 100, ..config() });
    segment(&mut runner, &program(1), 1_000);
    work(&mut worker, &shared);
    assert_eq!(shared.counters.read(0).refused(Refusal::Memory), 1);
    assert_eq!(segment(&mut runner, &program(1), 1), Way::Interpreted);
}

#[test]
fn what_fails_is_tried_once() {
    let (compiler, calls) = faulty(true);
    let (mut runner, mut worker, shared) = parts_with(config(), compiler);
    for _ in 0..3 {
        segment(&mut runner, &program(1), 1_000);
        work(&mut worker, &shared);
    }
    let stats = shared.counters.read(0);
    assert_eq!((stats.refused(Refusal::Failed), stats.refused(Refusal::FailedBefore)), (1, 2));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(segment(&mut runner, &program(1), 1), Way::Interpreted);
}

#[test]
fn codes_that_fail_get_their_share_of_the_time_and_no_more() {
    let (compiler, calls) = faulty(true);
    let (mut runner, mut worker, shared) = parts_with(config(), compiler);
    let began = clock();
    // Ten minutes under a flood of codes that cost a second each and fail.
    let mut n = 0;
    while clock() - began < 600 * SECOND_NS {
        segment(&mut runner, &program(n), 1_000);
        n += 1;
        let pause = worker.pause();
        advance(pause.as_nanos() as u64);
        work(&mut worker, &shared);
    }
    let seconds = calls.load(Ordering::Relaxed);
    assert!((270..=330).contains(&seconds), "half of 600 seconds, not {seconds}");

    let mut budget = Budget::new(50);
    assert_eq!(budget.pause(0), Duration::ZERO);
    budget.spend(30 * SECOND_NS);
    assert_eq!(budget.pause(40 * SECOND_NS), Duration::from_secs(20));
    assert_eq!(budget.pause(60 * SECOND_NS), Duration::ZERO, "a new minute");
    let mut none = Budget::new(100);
    none.spend(59 * SECOND_NS);
    assert_eq!(none.pause(59 * SECOND_NS), Duration::ZERO);
}

/// Runs segments of a compiled program, whose two ways take this long, until `until` holds.
fn measured(
    runner: &mut Runner,
    code: &Bytes,
    ns: [u64; 2],
    until: impl Fn(&TierStats) -> bool,
    shared: &Shared,
) {
    let hash = keccak256(code);
    for n in 0..50_000_000u64 {
        let segment = runner.begin(&hash, SPEC, Bytes::new);
        advance(ns[segment.way() as usize] + n % 7);
        runner.end(segment, &hash, 100, code.len(), || code.clone());
        if n % 1024 == 0 && until(&shared.counters.read(0)) {
            return;
        }
    }
    panic!("never decided: {:?}", shared.counters.read(0));
}

#[test]
fn slower_code_goes_back_and_faster_code_stays() {
    let (mut runner, mut worker, shared) = parts(config());
    let (slow, fast) = (program(1), program(2));
    for code in [&slow, &fast] {
        segment(&mut runner, code, 1_000);
    }
    work(&mut worker, &shared);
    measured(&mut runner, &slow, [100, 150], |stats| stats.deoptimised == 1, &shared);
    let before = shared.counters.read(0);
    for _ in 0..1000 {
        assert_eq!(segment(&mut runner, &slow, 100), Way::Interpreted);
    }
    assert_eq!(shared.queue.len(), 0, "it is not compiled again");
    assert_eq!(shared.counters.read(0).compiled_segments, before.compiled_segments);
    measured(&mut runner, &fast, [150, 100], |stats| stats.compiled_segments > 60_000, &shared);
    assert_eq!(shared.counters.read(0).deoptimised, 1, "the faster one stays");
    // The workload changes: what was slower is faster now, and comes back by itself.
    measured(&mut runner, &slow, [150, 100], |stats| stats.reoptimised == 1, &shared);
    assert_eq!(segment(&mut runner, &slow, 100), Way::Compiled);
}

#[test]
fn eager_compiles_before_the_first_run_and_stays_bounded() {
    let compiler = Compiler::new(CompilerConfig::default()).unwrap();
    let config = TierConfig { codes_max: 4, ..TierConfig::eager() };
    let (shared, worker, _) = Tier::parts(config, Box::new(compiler));
    assert!(worker.is_none());
    let mut runner = Runner::new(shared.clone(), 1);
    assert!(runner.is_eager());
    for n in 0..100 {
        let code = program(n % 10);
        let segment = runner.begin(&keccak256(&code), SPEC, || code.clone());
        assert_eq!(segment.way(), Way::Compiled);
        assert_eq!(runner.code(&segment).map(|c| c.bytecode_len()), Some(code.len()));
        assert!(shared.counters.read(0).codes <= 4);
    }
    let long = Bytes::from(vec![0x5b; 60_000]);
    let segment = runner.begin(&keccak256(&long), SPEC, || long.clone());
    assert_eq!(segment.way(), Way::Interpreted);
    assert_eq!(shared.counters.read(0).refused(Refusal::TooLong), 1);
}

#[test]
fn a_tier_and_its_thread_end_together() {
    let tier =
        Tier::start(TierConfig { threshold_gas: 1_000, threshold_gas_per_byte: 0, ..Default::default() })
            .expect("starts");
    let mut runner = tier.runner();
    for n in 0..20 {
        segment(&mut runner, &program(n), 1_000);
    }
    tier.wait_until_done();
    assert_eq!(tier.stats().codes, 20);
    assert!((0..20).all(|n| segment(&mut runner, &program(n), 1) == Way::Compiled));
    drop(tier);
    assert_eq!(segment(&mut runner, &program(3), 1), Way::Compiled, "an executor may outlive it");
    assert_eq!(segment(&mut runner, &program(99), 5_000), Way::Interpreted);
}

#[test]
fn handles_may_change_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Runner>();
    is_shared::<Tier>();
}

// The cache on disk.

fn artifact(code: &Bytes) -> (Key, Artifact) {
    let compiler = Compiler::new(CompilerConfig::default()).expect("this machine is one of Cranelift's");
    (Key { hash: keccak256(code), spec: SPEC }, compiler.compile(code, SPEC).expect("compiles"))
}

fn open(folder: &Path, fingerprint: Fingerprint, bytes_max: u64) -> (Disk, Arc<Counters>) {
    let counters = Arc::<Counters>::default();
    (Disk::open(folder, fingerprint, bytes_max, counters.clone()).expect("opens"), counters)
}

/// The only file of compiled code in the folder.
fn only_file(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("reads").map(|file| file.expect("reads").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "jit")).collect();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (key, artifact) = artifact(&program(1));
    let (mut disk, counters) = open(dir.path(), artifact.fingerprint, u64::MAX);
    disk.write(key, &artifact);
    assert_eq!(disk.read(&key).as_ref(), Some(&artifact));
    let file = only_file(dir.path());
    let good = std::fs::read(&file).expect("reads");
    let mut refused = 0;
    let mut try_bytes = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("writes");
        let (mut disk, counters) = open(dir.path(), artifact.fingerprint, u64::MAX);
        assert_eq!(disk.read(&key), None, "{} bytes", bytes.len());
        assert_eq!(counters.read(0).disk_refused(DiskRefusal::Damaged), 1);
        assert!(!file.exists(), "a damaged file is removed");
        refused += 1;
    };
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        try_bytes(&bytes);
    }
    for length in 0..good.len() {
        try_bytes(&good[..length]);
    }
    try_bytes(&[&good[..], &[0]].concat());
    assert_eq!(refused, 2 * good.len() + 1);
    assert_eq!(counters.read(0).disk_hits, 1);
    disk.write(key, &artifact);
    assert!(disk.read(&key).is_some(), "and can be written again");
}

#[test]
fn files_of_others_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (key, artifact) = artifact(&program(1));
    let (mut disk, _) = open(dir.path(), artifact.fingerprint, u64::MAX);
    disk.write(key, &artifact);
    let file = only_file(dir.path());
    let good = std::fs::read(&file).expect("reads");
    let refused = |reason: DiskRefusal| {
        let (mut disk, counters) = open(dir.path(), artifact.fingerprint, u64::MAX);
        assert_eq!(disk.read(&key), None);
        assert_eq!(counters.read(0).disk_refused(reason), 1, "{reason:?}");
    };
    for mode in [0o660, 0o606] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
        refused(DiskRefusal::Untrusted);
        assert!(file.exists(), "what may be somebody else's is not removed");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let second = dir.path().join("second");
    std::fs::hard_link(&file, &second).expect("links");
    refused(DiskRefusal::Untrusted);
    std::fs::remove_file(&file).expect("removes");
    std::os::unix::fs::symlink(&second, &file).expect("links");
    refused(DiskRefusal::Untrusted);
    std::fs::remove_file(&file).expect("removes");
    std::fs::create_dir(&file).expect("makes");
    refused(DiskRefusal::Untrusted);
    std::fs::remove_dir(&file).expect("removes");

    // A valid file under the name of another code.
    let other = Key { hash: keccak256(program(2)), spec: SPEC };
    let name = file.file_name().unwrap().to_str().unwrap();
    let renamed = dir.path().join(
        name.replace(&alloy_primitives::hex::encode(key.hash), &alloy_primitives::hex::encode(other.hash)),
    );
    std::fs::write(&renamed, &good).expect("writes");
    let (mut disk, counters) = open(dir.path(), artifact.fingerprint, u64::MAX);
    assert_eq!(disk.read(&other), None);
    assert_eq!(counters.read(0).disk_refused(DiskRefusal::Foreign), 1);

    // Another compiler.
    std::fs::write(&file, &good).expect("writes");
    let (mut disk, counters) = open(dir.path(), Fingerprint([9; 32]), u64::MAX);
    assert_eq!((disk.keys(), disk.read(&key)), (Vec::new(), None));
    assert_eq!(counters.read(0).disk_refused(DiskRefusal::Foreign), 1);
    assert!(!file.exists(), "it would never be used again");

    // A folder that others may write to.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("chmod");
    let refused = Disk::open(dir.path(), artifact.fingerprint, 1, Arc::default()).expect_err("refused");
    assert!(refused.to_string().contains("0700"), "{refused}");
}

#[test]
fn the_disk_stays_within_its_bytes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let codes: Vec<_> = (0..5).map(|n| artifact(&program(n))).collect();
    let one = codes[0].1.to_bytes().len() as u64 + 200;
    let (mut disk, counters) = open(dir.path(), codes[0].1.fingerprint, 3 * one);
    for (key, artifact) in &codes {
        disk.write(*key, artifact);
        assert!(counters.read(0).disk_bytes <= 3 * one);
    }
    assert!(disk.read(&codes[4].0).is_some(), "the newest is there");
    assert!(disk.keys().len() >= 3);
    let (disk, counters) = open(dir.path(), codes[0].1.fingerprint, one);
    assert_eq!((disk.keys().len(), counters.read(0).disk_bytes <= one), (1, true));
    // What a process left half written goes away.
    std::fs::write(dir.path().join("half.tmp"), b"x").expect("writes");
    open(dir.path(), codes[0].1.fingerprint, one);
    assert!(!dir.path().join("half.tmp").exists());
}

#[test]
fn a_restart_begins_hot() {
    let dir = tempfile::tempdir().expect("tempdir");
    let with_disk = || TierConfig { disk: Some(dir.path().join("jit-cache")), ..config() };
    let (mut runner, mut worker, shared) = parts(with_disk());
    for n in 0..3 {
        segment(&mut runner, &program(n), 1_000);
    }
    work(&mut worker, &shared);
    assert_eq!(shared.counters.read(0).disk_writes, 3);
    drop((runner, worker, shared));

    let (_, mut worker, shared) = parts(with_disk());
    assert_eq!(worker.load_all(), 3);
    let mut runner = Runner::new(shared.clone(), 1);
    assert!((0..3).all(|n| segment(&mut runner, &program(n), 1) == Way::Compiled));
    let stats = shared.counters.read(0);
    assert_eq!((stats.disk_hits, stats.compiled, stats.codes), (3, 0, 3));

    // A code that was thrown out comes back from the disk without being compiled.
    let (mut runner, mut worker, shared) = parts(with_disk());
    segment(&mut runner, &program(2), 1_000);
    work(&mut worker, &shared);
    assert_eq!(segment(&mut runner, &program(2), 1), Way::Compiled);
    assert_eq!((shared.counters.read(0).disk_hits, shared.counters.read(0).compiled), (1, 0));

    // A tier without a usable folder works without it, and says why.
    std::fs::write(dir.path().join("file"), b"").expect("writes");
    let tier = Tier::start(TierConfig { disk: Some(dir.path().join("file")), ..TierConfig::default() });
    assert!(tier.expect("starts").disk_error().expect("no folder").to_string().contains("cannot be used"));
}

#[test]
fn a_code_that_ends_the_process_is_left_alone_after_the_second_time() {
    let dir = tempfile::tempdir().expect("tempdir");
    let with_disk = || TierConfig { disk: Some(dir.path().into()), ..config() };
    let code = program(1);
    let key = Key { hash: keccak256(&code), spec: SPEC };
    for attempt in 1..=3 {
        let (compiler, calls) = faulty(false);
        let (mut runner, mut worker, shared) = parts_with(with_disk(), compiler);
        segment(&mut runner, &code, 1_000);
        if attempt <= 2 {
            // The process ends in the middle of this compilation.
            worker.disk().expect("a disk").begin(key);
            continue;
        }
        work(&mut worker, &shared);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert_eq!(shared.counters.read(0).refused(Refusal::FailedBefore), 1);
    }
    // An attempt that ends, well or not, clears the count.
    let dir = tempfile::tempdir().expect("tempdir");
    for _ in 0..3 {
        let (compiler, _) = faulty(true);
        let (mut runner, mut worker, shared) =
            parts_with(TierConfig { disk: Some(dir.path().into()), ..config() }, compiler);
        segment(&mut runner, &code, 1_000);
        work(&mut worker, &shared);
        assert_eq!(shared.counters.read(0).refused(Refusal::Failed), 1);
    }
}
