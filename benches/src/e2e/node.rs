//! The node under load: a process of its own, watched from outside.

use super::sys;
use anyhow::{Context, bail};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest wait for the node to come up.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for it to stop when asked.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running node. Killed when dropped.
#[derive(Debug)]
pub(super) struct Node {
    child: Child,
    pub(super) ingest: SocketAddr,
    log: PathBuf,
}

/// What the system says of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// CPU time of all threads so far, user and system.
    pub(super) cpu_us: u64,
    /// Resident memory.
    pub(super) rss_mib: f64,
}

/// The `ironlane` binary: beside this one, built when it is missing.
///
/// # Errors
/// When it is not there and cannot be built.
pub(super) fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let folder = own.parent().context("this program has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let node = folder.join("ironlane");
    if node.is_file() {
        return Ok(node);
    }
    let (profile, target) = (folder.file_name(), folder.parent());
    let release = profile.is_some_and(|p| p == "release");
    eprintln!("building the node, since {} is not there", node.display());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "-p", "ironlane"]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if release {
        cargo.arg("--release");
    }
    if let Some(target) = target {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    // Cargo's own output would spoil the one line on stdout.
    let status = cargo.stdout(Stdio::null()).status().context("cargo cannot be started to build the node")?;
    if !status.success() || !node.is_file() {
        bail!(
            "the node could not be built: run `cargo build --release -p ironlane`, or name a binary with --node"
        );
    }
    Ok(node)
}

impl Node {
    /// Starts `ironlane run` on free ports and waits until it says that it is up.
    ///
    /// # Errors
    /// With the end of its log, when it does not come up.
    pub(super) fn start(
        binary: &Path,
        datadir: &Path,
        genesis: &Path,
        log: &Path,
        extra: &[String],
    ) -> anyhow::Result<Node> {
        let stderr = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        let mut child = Command::new(binary)
            .arg("run")
            .arg("--datadir")
            .arg(datadir)
            .arg("--genesis")
            .arg(genesis)
            .args(["--ingest", "127.0.0.1:0", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--json"])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let stdout = child.stdout.take().context("the node has no stdout")?;
        let (lines, ready) = mpsc::channel();
        // Reads on after the first line, so that the node never waits for a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut node = Node { child, ingest: SocketAddr::from(([0, 0, 0, 0], 0)), log: log.to_owned() };
        let give_up = Instant::now() + READY_TIMEOUT;
        loop {
            match ready.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    if let Some(addr) = ingest_of(&line) {
                        node.ingest = addr;
                        return Ok(node);
                    }
                }
                Err(_) => {
                    if let Ok(Some(status)) = node.child.try_wait() {
                        bail!("the node ended before it was up ({status}):\n{}", tail(log));
                    }
                    if Instant::now() > give_up {
                        bail!("the node was not up after {READY_TIMEOUT:?}:\n{}", tail(log));
                    }
                }
            }
        }
    }

    /// CPU time and memory now. `None` when the process is gone.
    pub(super) fn usage(&self) -> Option<Usage> {
        let pid = self.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        usage(&stat, &status, sys::ticks_per_second())
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// When it does not stop by itself, or not with success.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        sys::terminate(self.child.id());
        let give_up = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait().context("the node cannot be waited for")? {
                if status.success() {
                    return Ok(());
                }
                bail!("the node did not stop cleanly ({status}):\n{}", tail(&self.log));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the node did not stop within {STOP_TIMEOUT:?} and was killed:\n{}", tail(&self.log));
    }

    /// The end of its log.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The ingest address in the line that the node prints when it is up.
fn ingest_of(line: &str) -> Option<SocketAddr> {
    let value: Value = serde_json::from_str(line).ok()?;
    value.get("ingest")?.as_str()?.parse().ok()
}

fn usage(stat: &str, status: &str, ticks_per_second: u64) -> Option<Usage> {
    // The second field is the program's name in brackets, which may hold blanks and brackets.
    let after = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    // Fields 14 and 15 of proc_pid_stat(5); `fields` begins with the third.
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: f64 = rss.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Usage { cpu_us: (user + system) * 1_000_000 / ticks_per_second, rss_mib: kib / 1024.0 })
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let mut text = String::new();
    let read = File::open(log).and_then(|mut f| f.read_to_string(&mut text));
    if let Err(error) = read {
        return format!("(its log {} cannot be read: {error})", log.display());
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Replays the stopped node's journal with plain revm and an independent trie: whether receipts and roots are the same, and
/// what it said.
///
/// # Errors
/// When the command cannot be run or says nothing.
pub(super) fn verify(binary: &Path, datadir: &Path) -> anyhow::Result<(bool, Value)> {
    let output = Command::new(binary)
        .args(["verify", "--json", "--datadir"])
        .arg(datadir)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", binary.display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().rfind(|l| !l.trim().is_empty());
    let report: Option<Value> = last.and_then(|l| serde_json::from_str(l).ok());
    match report {
        Some(report) => {
            let both = report["state_root_ok"] == true && report["receipts_ok"] == true;
            Ok((both && output.status.success(), report))
        }
        None => bail!(
            "`ironlane verify` gave no report ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_as_proc_documents_it() {
        let stat = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 100 0 0";
        let status = "Name:\tx\nVmPeak:\t 9999 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!(usage(stat, status, 100), Some(Usage { cpu_us: 2_000_000, rss_mib: 2.0 }));
        assert_eq!(usage("", status, 100), None);
        assert_eq!(usage(stat, "", 100), None);
    }

    #[test]
    fn the_ready_line_is_found_among_others() {
        assert_eq!(ingest_of("starting"), None);
        assert_eq!(ingest_of("{\"http\":\"127.0.0.1:1\"}"), None);
        let line = "{\"ingest\":\"127.0.0.1:9545\",\"http\":\"127.0.0.1:1\"}";
        assert_eq!(ingest_of(line), Some(SocketAddr::from(([127, 0, 0, 1], 9545))));
    }

    #[test]
    fn a_node_that_cannot_start_says_why() {
        let folder = tempfile::tempdir().expect("tempdir");
        let script = folder.path().join("node");
        std::fs::write(&script, "#!/bin/sh\necho 'no such genesis' >&2\nexit 3\n").expect("writes");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
        let log = folder.path().join("log");
        let error = Node::start(&script, folder.path(), folder.path(), &log, &[]).expect_err("exits");
        assert!(error.to_string().contains("no such genesis"), "{error}");
        let error = verify(&script, folder.path()).expect_err("no report");
        assert!(error.to_string().contains("no such genesis"), "{error}");
    }
}
