//! The commands that check: `import`, `verify`, `conformance`, `snapshot`, `promise`.

use crate::cli::{
    ConformanceArgs, ConformanceKind, ImportArgs, PromiseAction, PromiseArgs, SnapshotArgs, VerifyArgs,
};
use crate::commands::print_json;
use crate::node::Chain;
use crate::node::datadir::DataDir;
use crate::progress::Progress;
use anyhow::{Context, bail, ensure};
use ironlane_executor::conformance::{self, Kind};
use ironlane_promise::Promise;
use ironlane_state::{ChainIdentity, SnapshotDir};
use serde::Serialize;
use std::io::Read;
use std::sync::Mutex;

/// Re-executes a chain.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let report = match &args.datadir {
        Some(datadir) => crate::commands::import_into::import_into(args, datadir)?,
        None => {
            let progress = Progress::new("importing", "bytes");
            let report = ironlane_executor::import_chain(&args.genesis, &args.chain, |done, _| {
                progress.add(done.saturating_sub(progress.count()));
            })?;
            progress.finish();
            report
        }
    };
    eprintln!(
        "{} blocks with {} transactions in {:.2} s: head {}, state root {}",
        report.blocks, report.transactions, report.seconds, report.head_hash, report.state_root
    );
    if args.json { print_json(&report) } else { Ok(()) }
}

/// Verifies a data directory.
pub fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let report = crate::verify::verify(&args.datadir, args.genesis.as_deref())?;
    eprintln!(
        "{} blocks from block {} on, {} mini-blocks, {} transactions: state root {}, receipts {}, signer slot {}",
        report.blocks,
        report.first_block,
        report.mini_blocks,
        report.transactions,
        if report.state_root_ok { "ok" } else { "DIFFERENT" },
        if report.receipts_ok { "ok" } else { "DIFFERENT" },
        if report.signer_slot_ok { "ok" } else { "DIFFERENT" },
    );
    if args.json {
        print_json(&report)?;
    }
    match report.first_mismatch {
        None => Ok(()),
        Some(mismatch) => bail!("the journal does not repeat: {mismatch}"),
    }
}

/// Runs a conformance corpus.
pub fn conformance(args: &ConformanceArgs) -> anyhow::Result<()> {
    let kind = match args.kind {
        ConformanceKind::StateTests => Kind::StateTests,
        ConformanceKind::BlockchainTests => Kind::BlockchainTests,
        ConformanceKind::MainnetBlocks => Kind::MainnetBlocks,
        ConformanceKind::Rpc => return rpc(args),
    };
    let engine = args.engine.parse()?;
    let progress = Mutex::new(Progress::new(kind.label(), "files"));
    let report = conformance::run(kind, &args.dir, engine, &|done, _| {
        if let Ok(progress) = progress.lock() {
            progress.add((done as u64).saturating_sub(progress.count()));
        }
    })?;
    eprintln!(
        "{}: {} of {} cases passed in {} files, {} failed, {} skipped",
        kind.label(),
        report.passed,
        report.cases,
        report.files,
        report.failed.len(),
        report.skipped.len()
    );
    for name in &report.failed {
        eprintln!("failed: {name}");
    }
    for skip in &report.skipped {
        eprintln!("skipped: {}: {}", skip.name, skip.reason);
    }
    if args.json {
        print_json(&report)?;
    }
    ensure!(report.failed.is_empty(), "not every case passed");
    Ok(())
}

fn rpc(args: &ConformanceArgs) -> anyhow::Result<()> {
    let url = args.url.as_deref().context("the rpc tests need a node to ask: give --url http://HOST:PORT")?;
    let report = ironlane_rpc::conformance::run(url, &args.dir)?;
    eprintln!("rpc: {} of {} pairs passed, {} failed", report.passed, report.cases, report.failed.len());
    if args.json {
        print_json(&report)?;
    }
    ensure!(report.failed.is_empty(), "not every pair passed: {:?}", report.failed);
    Ok(())
}

#[derive(Serialize)]
struct SnapshotReport {
    height: u64,
    bytes: u64,
    valid: bool,
    reason: Option<String>,
}

/// Lists and checks snapshots.
pub fn snapshot(args: &SnapshotArgs) -> anyhow::Result<()> {
    ensure!(args.datadir.is_dir(), "{} is no directory", args.datadir.display());
    let dir = DataDir::open(&args.datadir)?;
    let spec = Chain::known(&dir)?.spec;
    let identity = ChainIdentity { chain_id: spec.chain_id, genesis_hash: spec.genesis.hash };
    let snapshots = SnapshotDir::open(&dir.snapshots(), identity)?;
    let mut reports = Vec::new();
    for height in snapshots.heights()? {
        let report = match snapshots.open_newest_at_most(height) {
            Ok(Some(reader)) if reader.height() == height => {
                SnapshotReport { height, bytes: reader.bytes(), valid: true, reason: None }
            }
            Ok(Some(reader)) => {
                let reason =
                    reader.passed_over().iter().find(|(h, _)| *h == height).map(|(_, why)| why.clone());
                SnapshotReport { height, bytes: 0, valid: false, reason }
            }
            Ok(None) => SnapshotReport { height, bytes: 0, valid: false, reason: Some("it is gone".into()) },
            Err(error) => SnapshotReport { height, bytes: 0, valid: false, reason: Some(error.to_string()) },
        };
        eprintln!(
            "block {}: {}",
            report.height,
            report.reason.clone().unwrap_or_else(|| format!("valid, {} bytes", report.bytes))
        );
        reports.push(report);
    }
    if reports.is_empty() {
        eprintln!("no snapshots in {}", snapshots.path().display());
    }
    if args.json {
        print_json(&serde_json::json!({ "snapshots": reports }))?;
    }
    ensure!(reports.iter().all(|report| report.valid), "a snapshot is damaged");
    Ok(())
}

/// Checks a promise.
pub fn promise(args: &PromiseArgs) -> anyhow::Result<()> {
    let PromiseAction::Verify { file, chain_id, sequencer, json } = &args.action;
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?
    };
    let promise: Promise = serde_json::from_str(&text)
        .with_context(|| format!("{} holds no promise in the form of ironlane_getPromise", file.display()))?;
    promise.verify(*chain_id, *sequencer)?;
    eprintln!(
        "the promise holds: transaction {} is in mini-block {} of block {}",
        promise.leaf.tx_hash, promise.header.height, promise.header.block_number
    );
    if *json {
        print_json(&serde_json::json!({
            "valid": true,
            "tx_hash": promise.leaf.tx_hash,
            "mini_block": promise.header.height,
            "block": promise.header.block_number,
            "seq": promise.leaf.seq,
        }))?;
    }
    Ok(())
}
