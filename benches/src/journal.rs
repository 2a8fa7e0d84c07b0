//! `ironbench journal`: what a durable commit costs, beside the plain way of writing a log.
//!
//! Each size is measured in turns with its rival (`write` and `fdatasync` on a file that grows), in one process on one
//! disk, so that both see the same weather.

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use ironlane_journal::{Journal, JournalConfig, Keep, SignerMark};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of a record's header, so that a commit fills its blocks exactly.
const RECORD_HEADER: usize = 104;

/// Options of `ironbench journal`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A few commits only: does it run?
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Folder on the disk to measure; a scratch folder is made in it and removed.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Seconds for each row and its rival together.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) seconds: f64,
    /// Group commits under way at once in the rows named `pipelined`.
    #[arg(long, default_value_t = 2)]
    pub(crate) depth: usize,
}

/// Latencies in nanoseconds, and the time they took together.
struct Timing {
    latency: Histogram<u64>,
    busy: Duration,
}

impl Timing {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)?, busy: Duration::ZERO })
    }

    fn add(&mut self, took: Duration) -> anyhow::Result<()> {
        self.latency.record(took.as_nanos() as u64)?;
        self.busy += took;
        Ok(())
    }

    fn json(&self) -> Value {
        json!({
            "ops_per_s": self.latency.len() as f64 / self.busy.as_secs_f64(),
            "p50_ns": self.latency.value_at_quantile(0.5),
            "p99_ns": self.latency.value_at_quantile(0.99),
        })
    }
}

/// Runs the bench; progress goes to stderr.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let scratch = tempfile::tempdir_in(&args.dir).with_context(|| {
        format!("a scratch folder in {} is needed: choose another with --dir", args.dir.display())
    })?;
    let mut rows = Vec::new();
    let mut status = String::new();
    let sizes = [("4 KiB", 4096), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];
    for (name, bytes) in sizes {
        let (row, said) = commits(args, scratch.path().join(bytes.to_string()), name, bytes)?;
        rows.push(row);
        status = said;
    }
    rows.push(pipelined(args, scratch.path().join("pipelined"))?);
    rows.push(appends(args, scratch.path().join("append"))?);
    Ok(json!({"bench": "journal", "backend": status, "rows": rows}))
}

fn open(dir: PathBuf, depth: usize) -> anyhow::Result<(Journal, String)> {
    let mut config = JournalConfig::new(dir, [1; 32]);
    config.keep = Keep::Newest(0);
    config.commits_in_flight = depth;
    config.prewrite_ahead = 2;
    let (journal, recovery) = Journal::open(&config, 1, &mut |_, _| Ok(()))?;
    Ok((journal, recovery.status))
}

fn limits(args: &Args) -> (Duration, u64) {
    if args.smoke { (Duration::from_secs(5), 20) } else { (Duration::from_secs_f64(args.seconds), u64::MAX) }
}

fn mark(journal: &Journal) -> Option<SignerMark> {
    Some(SignerMark { height: journal.appended() + 1, digest: [2; 32] })
}

/// One record a commit, one commit at a time, with its page of the signer slot.
fn commits(args: &Args, dir: PathBuf, name: &str, bytes: usize) -> anyhow::Result<(Value, String)> {
    let (mut journal, status) = open(dir.clone(), 1)?;
    let payload = vec![0x5a; bytes - RECORD_HEADER];
    let plain = vec![0x5a; bytes];
    let mut rival_file = File::create(dir.join("rival.log"))?;
    let mut rival_bytes = 0;
    let (mut ours, mut rival) = (Timing::new()?, Timing::new()?);
    let (time_max, count_max) = limits(args);
    let start = Instant::now();
    // The segments grow to their full size first: a long-running node is what is measured.
    let warm = if args.smoke { 5 } else { (96 << 20) / bytes.max(64 << 10) };
    let mut turn = 0;
    let mut begun = None;
    while begun.is_none_or(|b: Instant| b.elapsed() < time_max) && ours.latency.len() < count_max {
        turn += 1;
        let before = Instant::now();
        let mark = mark(&journal);
        let lsn = journal.append(&[&payload], mark)?;
        while journal.durable() < lsn {
            journal.poll()?;
            std::hint::spin_loop();
        }
        let took = before.elapsed();
        journal.release(lsn);
        if turn <= warm {
            ensure!(start.elapsed() < Duration::from_secs(120), "the disk is too slow to warm up");
            continue;
        }
        begun.get_or_insert_with(Instant::now);
        ours.add(took)?;
        let before = Instant::now();
        rival_file.write_all(&plain)?;
        rival_file.sync_data()?;
        rival.add(before.elapsed())?;
        rival_bytes += bytes;
        if rival_bytes > 1 << 30 {
            rival_file = File::create(dir.join("rival.log"))?;
            rival_bytes = 0;
        }
    }
    std::fs::remove_file(dir.join("rival.log"))?;
    let mut row = ours.json();
    let quantile = |t: &Timing, q| t.latency.value_at_quantile(q) as f64;
    row["name"] = json!(format!("commit of {name}"));
    row["bytes"] = json!(bytes);
    row["vs"] = json!({
        "write_fdatasync_extending": rival.json(),
        "speedup_p50": quantile(&rival, 0.5) / quantile(&ours, 0.5),
        "speedup_p99": quantile(&rival, 0.99) / quantile(&ours, 0.99),
    });
    eprintln!(
        "commit of {name}: p50 {:.0} µs, p99 {:.0} µs; write + fdatasync on a growing file: p50 {:.0} µs, p99 {:.0} µs",
        quantile(&ours, 0.5) / 1e3,
        quantile(&ours, 0.99) / 1e3,
        quantile(&rival, 0.5) / 1e3,
        quantile(&rival, 0.99) / 1e3,
    );
    Ok((row, status))
}

/// Mini-blocks of 250 bytes as fast as they become durable, several commits under way: commits a second.
fn pipelined(args: &Args, dir: PathBuf) -> anyhow::Result<Value> {
    let mut results = Vec::new();
    for depth in [1, args.depth] {
        let (mut journal, _) = open(dir.join(depth.to_string()), depth)?;
        let (time_max, count_max) = limits(args);
        let mut appended_at = std::collections::VecDeque::new();
        let mut timing = Timing::new()?;
        let start = Instant::now();
        while start.elapsed() < time_max / 2 && timing.latency.len() < count_max {
            if journal.pending_bytes() == 0 {
                let mark = mark(&journal);
                let lsn = journal.append(&[&[3; 250]], mark)?;
                appended_at.push_back((lsn, Instant::now()));
            }
            if let Some(durable) = journal.poll()? {
                while let Some((_, at)) = appended_at.pop_front_if(|(lsn, _)| *lsn <= durable) {
                    timing.latency.record(at.elapsed().as_nanos() as u64)?;
                }
                journal.release(durable);
            }
        }
        timing.busy = start.elapsed();
        results.push(timing);
    }
    let mut row = results[1].json();
    row["name"] = json!(format!("mini-blocks of 250 bytes, pipelined, {} commits under way", args.depth));
    row["vs"] = json!({"one_commit_under_way": results[0].json()});
    Ok(row)
}

/// The CPU's part: copy and checksum of a mini-block of 1,000 transactions of 120 bytes, against the copy alone.
fn appends(args: &Args, dir: PathBuf) -> anyhow::Result<Value> {
    let (mut journal, _) = open(dir, 1)?;
    let payload = vec![0x77; 120_000];
    let mut copy = vec![0; 120_000];
    let (mut ours, mut rival) = (Timing::new()?, Timing::new()?);
    for _ in 0..if args.smoke { 2 } else { 40 } {
        while journal.pending_bytes() + 2 * payload.len() < 8 << 20 {
            let before = Instant::now();
            let mark = mark(&journal);
            journal.append(&[&payload], mark)?;
            ours.add(before.elapsed())?;
            let before = Instant::now();
            copy.copy_from_slice(std::hint::black_box(&payload));
            std::hint::black_box(&copy);
            rival.add(before.elapsed())?;
        }
        journal.flush()?;
        journal.release(journal.durable());
    }
    let mut row = ours.json();
    row["name"] = json!("append of a mini-block of 1,000 transactions of 120 bytes (CPU only)");
    row["vs"] = json!({"copy_alone": rival.json()});
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smoke_size_runs_and_has_its_rows() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args { smoke: true, dir: dir.path().to_path_buf(), seconds: 1.0, depth: 2 };
        let result = run(&args).unwrap();
        let rows = result["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 5);
        for row in rows {
            assert!(row["p50_ns"].as_u64().unwrap() > 0, "{row}");
            assert!(row["vs"].is_object(), "{row}");
        }
    }
}
