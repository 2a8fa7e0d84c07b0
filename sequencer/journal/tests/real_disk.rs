//! Real files: both backends, killed processes, small file systems, limits, injected errors. What a machine does not allow
//! is skipped with a word.

mod common;

use common::*;
use ironlane_journal::{
    AppendError, Backend, Journal, JournalConfig, JournalError, Keep, Lsn, Reader, SignerMark, Space,
};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DIR: &str = "IRONLANE_JOURNAL_TEST_DIR";
const BACKEND: &str = "IRONLANE_JOURNAL_TEST_BACKEND";
const BACKENDS: [Backend; 2] = [Backend::Direct, Backend::Buffered];

/// A folder on the disk that holds the build, not on a tmpfs.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn config(dir: &Path, backend: Backend) -> JournalConfig {
    JournalConfig { backend, segment_bytes: 1 << 20, ..small(dir) }
}

/// Whether direct writes work here; says so if not.
fn usable(backend: Backend, dir: &Path) -> bool {
    match Journal::open(&config(&dir.join("probe"), backend), 1, &mut |_, _| Ok(())) {
        Ok(_) => true,
        Err(JournalError::Backend(why)) => {
            println!("skipped for {backend:?}: {why}");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

fn each_backend(mut test: impl FnMut(Backend, &Path)) {
    for backend in BACKENDS {
        let dir = folder();
        if usable(backend, dir.path()) {
            test(backend, &dir.path().join("journal"));
        }
    }
}

fn replayed(config: &JournalConfig, from: Lsn) -> (Journal, Vec<(Lsn, Vec<u8>)>) {
    let mut records = Vec::new();
    let (journal, _) = Journal::open(config, from, &mut |at, payload| {
        records.push((at.lsn, payload.to_vec()));
        Ok(())
    })
    .unwrap();
    (journal, records)
}

fn until_durable(journal: &mut Journal, lsn: Lsn) {
    let start = Instant::now();
    while journal.durable() < lsn {
        journal.poll().unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "{} of {lsn}", journal.durable());
    }
}

#[test]
fn records_survive_many_openings_and_segments() {
    each_backend(|backend, dir| {
        let config = config(dir, backend);
        let mut total = 0;
        for life in 0..4 {
            let (mut journal, records) = replayed(&config, 1);
            assert_eq!(records.len() as u64, total);
            for (lsn, bytes) in &records {
                assert_eq!(*bytes, payload(*lsn, 0, bytes.len()), "{backend:?}");
            }
            for n in 0..300u64 {
                let lsn = journal.appended() + 1;
                let bytes = payload(lsn, 0, (n * 37 % 5000) as usize);
                let mark = SignerMark { height: lsn, digest: [life; 32] };
                while journal.append(&[&bytes], Some(mark)) == Err(AppendError::Full) {
                    journal.poll().unwrap();
                }
            }
            total = journal.appended();
            until_durable(&mut journal, total);
            assert_eq!(journal.space(), Space::Ok);
        }
        let mut reader = Reader::open(dir, Some(IDENTITY), total - 1).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().0.lsn, total - 1);
        assert_eq!(reader.next_record().unwrap().unwrap().0.lsn, total);
        assert!(reader.next_record().unwrap().is_none());
        assert!(std::fs::read_dir(dir).unwrap().count() > 4, "more than one segment");
    });
}

#[test]
fn released_segments_are_used_again() {
    each_backend(|backend, dir| {
        let mut config = config(dir, backend);
        config.keep = Keep::Newest(1);
        let (mut journal, _) = replayed(&config, 1);
        for _ in 0..600 {
            while journal.append(&[&[3; 12_000]], None) == Err(AppendError::Full) {
                journal.poll().unwrap();
            }
            journal.release(journal.durable());
        }
        let total = journal.appended();
        until_durable(&mut journal, total);
        drop(journal);
        let bytes: u64 = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 6 << 20, "7 MB went through segments of 1 MiB, {bytes} bytes are there");
        let (_, records) = replayed(&config, total);
        assert_eq!(records, [(total, vec![3; 12_000])]);
        let gone = Journal::open(&config, 1, &mut |_, _| Ok(())).err().expect("record 1 is gone");
        assert!(matches!(gone, JournalError::Gone { from: 1, .. }), "{gone}");
    });
}

#[test]
fn a_second_process_is_refused() {
    each_backend(|backend, dir| {
        let config = config(dir, backend);
        let (journal, _) = replayed(&config, 1);
        let second = Journal::open(&config, 1, &mut |_, _| Ok(())).err().expect("in use");
        assert!(matches!(second, JournalError::Locked(_)), "{second}");
        drop(journal);
        replayed(&config, 1);
    });
}

#[test]
fn the_first_start_is_quick() {
    each_backend(|backend, dir| {
        let start = Instant::now();
        let config = JournalConfig { backend, ..JournalConfig::new(dir, IDENTITY) };
        let (mut journal, recovery) = Journal::open(&config, 1, &mut |_, _| Ok(())).unwrap();
        let opened = start.elapsed();
        journal.append(&[b"x"], None).unwrap();
        until_durable(&mut journal, 1);
        println!("{}: open {opened:?}, first commit after {:?}", recovery.status, start.elapsed());
        assert!(opened < Duration::from_secs(1), "{opened:?}");
    });
}

#[test]
fn the_descriptor_wakes_whoever_waits() {
    each_backend(|backend, dir| {
        let (mut journal, _) = replayed(&config(dir, backend), 1);
        for lsn in 1..=20 {
            journal.append(&[b"x"], None).unwrap();
            journal.poll().unwrap();
            while journal.durable() < lsn {
                assert!(wait_readable(journal.wake_fd().unwrap(), 5000), "{backend:?} lost a wake-up");
                journal.poll().unwrap();
            }
        }
        // Nothing is under way: whoever sleeps on it may sleep.
        for _ in 0..3 {
            journal.poll().unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        journal.poll().unwrap();
        assert!(!wait_readable(journal.wake_fd().unwrap(), 0), "{backend:?} is readable for no reason");
    });
}

fn wait_readable(fd: i32, timeout_ms: i32) -> bool {
    poll_fd::readable(fd, timeout_ms)
}

/// `poll(2)` on one descriptor.
mod poll_fd {
    #![allow(unsafe_code)]
    pub(crate) fn readable(fd: i32, timeout_ms: i32) -> bool {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry on the stack, and the count says one.
        unsafe { libc::poll(&mut entry, 1, timeout_ms) == 1 }
    }
}

// ── processes that are killed ───────────────────────────────────────────────────────────────────────────────────────

/// Not a test of its own: what the child processes of the tests below run.
#[test]
fn child_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let backend =
        if std::env::var(BACKEND).as_deref() == Ok("Direct") { Backend::Direct } else { Backend::Buffered };
    let config = config(Path::new(&dir), backend);
    let (mut journal, _) = replayed(&config, 1);
    println!("ready");
    loop {
        let lsn = journal.appended() + 1;
        let bytes = payload(lsn, 0, (lsn * 7919 % 3000) as usize);
        let mark = SignerMark { height: lsn, digest: [lsn as u8; 32] };
        let appended = journal.append(&[&bytes], Some(mark));
        match journal.poll() {
            Ok(Some(durable)) => println!("durable {durable}"),
            Ok(None) => {}
            Err(fault) => {
                println!("fault {fault}");
                return;
            }
        }
        if appended == Err(AppendError::Full) && journal.space() != Space::Ok {
            println!("space {:?}", journal.space());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn child(dir: &Path, backend: Backend, through: &[&str]) -> Child {
    let me = std::env::current_exe().unwrap();
    let me = me.to_str().unwrap();
    let mut words: Vec<&str> = through.to_vec();
    words.extend([me, "--exact", "child_process", "--nocapture", "--test-threads=1"]);
    Command::new(words[0])
        .args(&words[1..])
        .env(DIR, dir)
        .env(BACKEND, format!("{backend:?}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads lines until one satisfies `enough` or the output ends; returns it and the newest durable record that was told.
fn follow(child: &mut Child, mut enough: impl FnMut(&str) -> bool) -> (Option<String>, Lsn) {
    let mut durable = 0;
    let output = child.stdout.as_mut().unwrap();
    // Byte by byte: what follows must stay in the pipe for the next call.
    let mut line = Vec::new();
    let mut byte = [0];
    while output.read(&mut byte).unwrap() == 1 {
        if byte[0] != b'\n' {
            line.push(byte[0]);
            continue;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        if let Some(lsn) = text.strip_prefix("durable ") {
            durable = lsn.parse().unwrap();
        }
        if enough(&text) {
            return (Some(text), durable);
        }
    }
    (None, durable)
}

fn check_child_records(config: &JournalConfig, at_least: Lsn) -> Lsn {
    let (_, records) = replayed(config, 1);
    for (at, (lsn, bytes)) in records.iter().enumerate() {
        assert_eq!(*lsn, at as u64 + 1);
        assert_eq!(*bytes, payload(*lsn, 0, (lsn * 7919 % 3000) as usize), "record {lsn}");
    }
    let tip = records.len() as u64;
    assert!(tip >= at_least, "record {at_least} was told durable, {tip} are there");
    tip
}

#[test]
fn killed_at_random_points_nothing_durable_is_lost() {
    each_backend(|backend, dir| {
        let mut rng = Rng(42);
        let mut last = 0;
        for _ in 0..20 {
            let mut child = child(dir, backend, &[]);
            let stop = Instant::now() + Duration::from_millis(10 + rng.below(60));
            let (_, told) = follow(&mut child, |line| line.starts_with("durable") && Instant::now() > stop);
            child.kill().unwrap();
            // What was told before the kill arrived counts as well.
            let mut told = told;
            for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
                told = told.max(line.strip_prefix("durable ").and_then(|l| l.parse().ok()).unwrap_or(0));
            }
            child.wait().unwrap();
            last = check_child_records(&config(dir, backend), told.max(last));
        }
        // However slow the disk, each life had at least one commit.
        assert!(last >= 20, "{backend:?}: only {last} records in 20 lives");
    });
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|s| s.success());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn a_limit_on_file_sizes_stops_the_journal_without_a_false_durable() {
    if !has("prlimit") {
        return;
    }
    each_backend(|backend, dir| {
        // The signal that comes with the limit is ignored, as the node ignores it.
        let mut child = child(dir, backend, &["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
        follow(&mut child, |line| line == "durable 3" || line.starts_with("durable 1"));
        let pid = child.id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=10000"]).status().unwrap();
        assert!(limited.success());
        let (end, told) = follow(&mut child, |line| line.starts_with("fault"));
        let end = end.expect("the journal must stop");
        assert!(end.contains("Nothing after record") || end.contains("too large"), "{end}");
        child.wait().unwrap();
        check_child_records(&config(dir, backend), told);
    });
}

#[test]
fn an_error_from_fdatasync_stops_the_journal_for_good() {
    if !has("strace") {
        return;
    }
    let dir = folder();
    let dir = dir.path().join("journal");
    for nth in [1, 2, 9] {
        let inject = format!("inject=fdatasync:error=EIO:when={nth}");
        let strace =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject.as_str()];
        let mut child = child(&dir, Backend::Buffered, &strace);
        let (end, told) = follow(&mut child, |line| line.starts_with("fault"));
        child.wait().unwrap();
        let Some(end) = end else {
            println!("skipped: strace may not trace here");
            return;
        };
        assert!(end.contains("Input/output error"), "{end}");
        check_child_records(&config(&dir, Backend::Buffered), told);
    }
}

// ── small file systems ──────────────────────────────────────────────────────────────────────────────────────────────

/// A tmpfs of its own, unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|s| s.success()) {
            return Some(Self(dir));
        }
        println!("skipped: mounting a tmpfs needs root");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_stops_admission_and_space_brings_it_back() {
    let Some(tmpfs) = Tmpfs::mount("1500k") else { return };
    let dir = tmpfs.0.path().join("journal");
    let ballast = tmpfs.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 900 << 10]).unwrap();
    let config = JournalConfig { segment_bytes: 256 << 10, ..config(&dir, Backend::Auto) };
    let (mut journal, recovery) = Journal::open(&config, 1, &mut |_, _| Ok(())).unwrap();
    println!("{}", recovery.status);
    let start = Instant::now();
    let mut low = false;
    while !matches!(journal.space(), Space::None { .. }) {
        let _ = journal.append(&[&[1; 3000]], None);
        journal.poll().unwrap();
        low |= matches!(journal.space(), Space::Low { .. });
        std::thread::sleep(Duration::from_millis(1));
        assert!(start.elapsed() < Duration::from_secs(30), "the file system must become full");
    }
    assert!(low, "it is told before a commit has to wait");
    let Space::None { reason } = journal.space() else { panic!("{:?}", journal.space()) };
    assert!(reason.contains("no space on the device"), "{reason}");
    let (waiting, durable) = (journal.appended(), journal.durable());
    assert!(durable < waiting);
    std::fs::remove_file(&ballast).unwrap();
    until_durable(&mut journal, waiting);
    assert_eq!(journal.space(), Space::Ok);
    drop(journal);
    let (_, records) = replayed(&config, 1);
    assert_eq!(records.len() as u64, waiting);
}

#[test]
fn a_full_file_system_at_the_first_start_is_an_error_in_words() {
    let Some(tmpfs) = Tmpfs::mount("64k") else { return };
    let dir = tmpfs.0.path().join("journal");
    let config = JournalConfig { first_segment_bytes: 128 << 10, ..config(&dir, Backend::Auto) };
    let error = Journal::open(&config, 1, &mut |_, _| Ok(())).err().expect("there is no room");
    assert!(error.to_string().contains("No space left"), "{error}");
}
