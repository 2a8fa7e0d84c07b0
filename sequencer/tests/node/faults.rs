//! The host fails the whole node: no space, and writes that go wrong. What a machine does not allow is skipped with a word.

use super::journalled;
use crate::rig::{Node, Wallet};
use alloy_primitives::B256;
use ironlane::verify::verify;
use ironlane_netstack::Client;
use ironlane_netstack::wire::{Ack, AckStatus};
use ironlane_types::Reject;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// A client that remembers what it sent and what became of it.
struct Sender {
    client: Client,
    wallet: Wallet,
    sent: HashMap<u64, B256>,
    /// By hash: place in the order.
    acknowledged: HashMap<B256, u64>,
    rejected: Vec<Reject>,
}

impl Sender {
    fn new(node: &Node, account: usize) -> Self {
        let mut wallet = Wallet::dev(account);
        wallet.nonce = node.nonce(wallet.address);
        let client = node.client(false);
        Self { client, wallet, sent: HashMap::new(), acknowledged: HashMap::new(), rejected: Vec::new() }
    }

    /// Sends some transfers and takes the answers that are there; an error is a connection that ended.
    fn round(&mut self, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let (raw, hash) = self.wallet.transfer(self.wallet.nonce);
            let tag = self.client.submit(&raw, None).map_err(|error| error.to_string())?;
            self.sent.insert(tag, hash);
        }
        self.receive()
    }

    fn receive(&mut self) -> Result<(), String> {
        let mut acks: Vec<Ack> = Vec::new();
        let received = self.client.receive(&mut acks);
        for ack in acks {
            let hash = self.sent.remove(&ack.tag).expect("one answer for each");
            match ack.status {
                AckStatus::Rejected => self.rejected.push(Reject::from_code(ack.reject).expect("a reason")),
                _ => assert_eq!(self.acknowledged.insert(hash, ack.seq), None),
            }
        }
        received.map(drop).map_err(|error| error.to_string())
    }
}

fn check_nothing_lost(datadir: &Path, acknowledged: &HashMap<B256, u64>) {
    let journal = journalled(datadir);
    for (hash, seq) in acknowledged {
        assert_eq!(journal.get(hash), Some(seq), "acknowledged transaction {hash} is lost or moved");
    }
    let report = verify(datadir, None).expect("verifies");
    assert!(report.state_root_ok && report.receipts_ok, "{report:?}");
}

/// A small file system of its own, unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("tempdir");
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
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

/// Writes until the file system is full.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("creates");
    while file.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn a_full_disk_refuses_with_a_reason_and_room_brings_the_node_back() {
    let Some(tmpfs) = Tmpfs::mount("28m") else { return };
    let (base, ballast) = (tmpfs.0.path(), tmpfs.0.path().join("ballast"));
    let mut node = Node::start(base, &["--snapshot-interval-blocks=0"]);
    let mut sender = Sender::new(&node, 0);
    sender.round(10).expect("answers");
    // Room for what the node has begun; nothing for another segment.
    fill(&ballast);
    let start = Instant::now();
    while sender.rejected.is_empty() {
        sender.round(200).expect("the node lives on");
        assert!(start.elapsed() < WAIT_MAX, "the disk must become full:\n{}", node.log());
    }
    while !sender.sent.is_empty() {
        sender.receive().expect("each has an answer");
    }
    // Once one was refused, the ones after it have a gap in their nonces.
    let typed =
        |reject: &Reject| matches!(reject, Reject::NotAdmitting | Reject::NonceTooHigh | Reject::Expired);
    assert_eq!(sender.rejected[0], Reject::NotAdmitting);
    assert!(sender.rejected.iter().all(typed), "{:?}", sender.rejected);
    let answer = node.send_raw(&Wallet::dev(1).transfer(0).0);
    assert_eq!(answer["error"]["code"], -32005, "{answer}");
    assert!(answer["error"]["message"].as_str().expect("a sentence").contains("not admitting"), "{answer}");
    assert!(node.health().contains("503"), "{}", node.health());
    assert!(node.metrics().contains("ironlane_not_admitting 1"));
    assert!(node.has_logged("no room for the journal"));
    let mut acknowledged = std::mem::take(&mut sender.acknowledged);

    // Room again: the same process goes on by itself.
    std::fs::remove_file(&ballast).expect("removes");
    assert!(node.has_logged("the journal has room again"), "{}", node.log());
    let mut again = Sender::new(&node, 2);
    while again.acknowledged.is_empty() {
        again.round(1).expect("answers");
        assert!(start.elapsed() < WAIT_MAX, "{:?}", again.rejected);
    }
    acknowledged.extend(again.acknowledged);

    // Killed on a full disk, it comes up if a segment was ready, or says why not; with room everything is there.
    fill(&ballast);
    node.kill();
    match Node::try_start(&[], base, &["--snapshot-interval-blocks=0"]) {
        Ok(mut full) => full.kill(),
        Err(log) => assert!(log.contains("No space left on device"), "{log}"),
    }
    std::fs::remove_file(&ballast).expect("removes");
    Node::start(base, &["--snapshot-interval-blocks=0"]).stop();
    check_nothing_lost(&base.join("data"), &acknowledged);
}

/// Loads the node until it halts by itself; what it acknowledged until then must be there at the next start.
fn halts(base: &Path, mut node: Node, begin: impl FnOnce(&Node), said: &[&str]) {
    let mut sender = Sender::new(&node, 0);
    sender.round(10).expect("answers");
    begin(&node);
    let start = Instant::now();
    let end = loop {
        match sender.round(20) {
            Ok(()) => assert!(start.elapsed() < WAIT_MAX, "the node must halt:\n{}", node.log()),
            Err(end) => break end,
        }
    };
    println!("the client was told: {end}");
    assert!(!node.ended(), "a node that halted ends with an error");
    for words in said {
        assert!(node.has_logged(words), "{words}:\n{}", node.log());
    }
    let acknowledged = sender.acknowledged;
    assert!(!acknowledged.is_empty());
    Node::start(base, &[]).stop();
    check_nothing_lost(&base.join("data"), &acknowledged);
    println!("{} acknowledged, all there", acknowledged.len());
}

#[test]
fn an_error_from_fdatasync_halts_the_node_and_loses_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    // The journal's ring is refused, so that it writes through a thread that syncs; ingest's ring comes second. As a
    // detached grandchild, strace leaves the node our child.
    let strace = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=io_uring_setup,fdatasync",
        "-e",
        "inject=io_uring_setup:error=EPERM:when=1",
        "-e",
        "inject=fdatasync:error=EIO:when=12",
    ];
    if Command::new("strace").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let node = match Node::try_start(&strace, dir.path(), &[]) {
        Ok(node) => node,
        Err(log) if log.contains("ptrace") || log.contains("PTRACE") => {
            println!("skipped: strace may not trace here: {log}");
            return;
        }
        Err(log) => panic!("the node did not start:\n{log}"),
    };
    assert!(node.has_logged("buffered"), "{}", node.log());
    halts(dir.path(), node, |_| (), &["the node halts", "Input/output error", "the node halted: commit"]);
}

#[test]
fn a_write_that_fails_halts_the_node_and_loses_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let found = Command::new("prlimit").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skipped: prlimit is not installed");
        return;
    }
    let node = Node::start(dir.path(), &[]);
    let limit = |node: &Node| {
        let pid = node.id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=10000"]).status();
        assert!(limited.expect("runs").success());
    };
    halts(dir.path(), node, limit, &["the node halts", "the node halted: commit"]);
}
