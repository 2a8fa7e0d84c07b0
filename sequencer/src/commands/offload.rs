//! `ironlane offload`: which engines there are, whether a card is right, and how fast it is.

use crate::cli::{OffloadAction, OffloadArgs, ValidateArgs};
use crate::commands::print_json;
use crate::progress::Progress;
use anyhow::{Context, anyhow, bail, ensure};
use ironlane_fpga::card::{mutant, serve};
use ironlane_fpga::kit::report::Signed;
use ironlane_fpga::kit::subject::{self, FORMS, Opening, Scope};
use ironlane_fpga::kit::vectors::Vectors;
use ironlane_fpga::kit::{Plan, mutants};
use ironlane_fpga::{Caps, RecoverEngine};
use serde::Serialize;
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

/// Runs one of the actions.
pub fn offload(args: &OffloadArgs) -> anyhow::Result<()> {
    match &args.action {
        OffloadAction::List { json } => list(*json),
        OffloadAction::Validate(args) => {
            examine(args, true, !args.no_bench, args.soak_seconds.map(Duration::from_secs))
        }
        OffloadAction::Bench(args) => examine(args, false, true, None),
        OffloadAction::Soak(args) => {
            examine(args, false, false, Some(Duration::from_secs(args.soak_seconds.unwrap_or(60))))
        }
        OffloadAction::Mutants { run, only, json } => mutants(*run, only.as_deref(), *json),
        OffloadAction::Report { file } => report(file),
        OffloadAction::Card { arguments } => {
            let (meeting, engine) = serve::parse(arguments.iter().cloned()).map_err(|e| anyhow!(e))?;
            Ok(serve::run(&meeting, &engine)?)
        }
    }
}

fn opening(entries: u32, workers: usize) -> anyhow::Result<Opening> {
    let program = std::env::current_exe().context("the path of this program is unknown")?;
    let program = program.to_str().context("the path of this program is not UTF-8")?;
    let card_command = [program, "offload", "card"].map(String::from).to_vec();
    Ok(Opening { card_command, entries, workers })
}

#[derive(Serialize)]
struct Listed {
    engine: String,
    available: bool,
    trust: String,
    capacity: usize,
    parallelism: usize,
    reason: Option<String>,
}

/// Engines that can be opened without naming anything, then the forms of names of the others.
fn list(json: bool) -> anyhow::Result<()> {
    let opening = opening(4_096, 1)?;
    let mut listed = Vec::new();
    for name in ["scalar", "software"] {
        let parsed = name.parse().map_err(|e: String| anyhow!(e))?;
        listed.push(match subject::open(&parsed, &opening, None) {
            Ok(engine) => {
                let Caps { trust, capacity, parallelism, .. } = engine.caps();
                let trust = format!("{trust:?}").to_lowercase();
                Listed { engine: name.into(), available: true, trust, capacity, parallelism, reason: None }
            }
            Err(refusal) => Listed {
                engine: name.into(),
                available: false,
                trust: String::new(),
                capacity: 0,
                parallelism: 0,
                reason: Some(refusal.reason),
            },
        });
    }
    for engine in &listed {
        match &engine.reason {
            None => eprintln!(
                "{}: available, {}, up to {} requests in flight",
                engine.engine, engine.trust, engine.capacity
            ),
            Some(reason) => eprintln!("{}: refused: {reason}", engine.engine),
        }
    }
    eprintln!("names of engines:");
    for (form, what) in FORMS {
        eprintln!("  {form}: {what}");
    }
    if json {
        let forms: Vec<&str> = FORMS.iter().map(|(form, _)| *form).collect();
        print_json(&serde_json::json!({ "engines": listed, "forms": forms }))?;
    }
    Ok(())
}

fn examine(args: &ValidateArgs, tests: bool, matrix: bool, soak: Option<Duration>) -> anyhow::Result<()> {
    let mut plan = if args.quick { Plan::quick() } else { Plan::full() };
    plan.seed = args.seed;
    if let Some(milliseconds) = args.answer_limit_ms {
        plan.answer_limit = Duration::from_millis(milliseconds);
    }
    let key = args.sign_key.as_deref().map(read_key).transpose()?;
    let scope = Scope { tests, matrix, soak, vectors: args.vectors.clone() };
    let bar: RefCell<Option<(String, Progress)>> = RefCell::new(None);
    let mut progress = |what: &str, count: u64| {
        let mut bar = bar.borrow_mut();
        if bar.as_ref().is_none_or(|(shown, _)| shown != what) {
            if let Some((_, old)) = bar.take() {
                old.finish();
            }
            *bar = Some((what.to_string(), Progress::new(what, "done")));
        }
        if let Some((_, bar)) = &*bar {
            bar.add(count.saturating_sub(bar.count()));
        }
    };
    let opening = opening(args.entries, args.workers)?;
    let report =
        subject::validate(&args.engine, &opening, &plan, &scope, &mut progress).map_err(|e| anyhow!(e))?;
    if let Some((_, bar)) = bar.take() {
        bar.finish();
    }
    eprintln!("{}", report.text());
    let signed = report.sign(key)?;
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&signed)?;
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, signed.html())
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if args.json {
        print_json(&signed)?;
    }
    ensure!(signed.report.verdict == "pass", "{} did not pass", args.engine);
    Ok(())
}

/// A file with 32 bytes in hexadecimal.
fn read_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let key: alloy_primitives::B256 = text
        .trim()
        .parse()
        .with_context(|| format!("{} does not hold 32 bytes in hexadecimal", path.display()))?;
    Ok(key.0)
}

fn mutants(run: bool, only: Option<&str>, json: bool) -> anyhow::Result<()> {
    let mut faults = mutant::all();
    if let Some(name) = only {
        faults.retain(|fault| fault.name == name || fault.family == name);
        ensure!(!faults.is_empty(), "there is no mutant or family {name}");
    }
    if !run {
        for fault in &faults {
            eprintln!("{:12} {:32} {}", fault.family, fault.name, fault.what);
        }
        eprintln!("{} mutants; --run lets the kit loose on them", faults.len());
        if json {
            let names: Vec<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
            print_json(&serde_json::json!({ "mutants": names }))?;
        }
        return Ok(());
    }
    let plan = Plan { stop_at_first: true, ..Plan::quick() };
    let vectors = Vectors::new(plan.seed, plan.random);
    let honest = mutants::honest(&vectors, &plan);
    if let Some(failure) = honest.failed.first() {
        bail!("the card without a fault fails {}: {}", failure.test, failure.reason);
    }
    let bar = Progress::new("mutants", "tried");
    let mut verdicts = Vec::new();
    for fault in &faults {
        let verdict = mutants::try_out(fault, &vectors, &plan);
        bar.add(1);
        match &verdict.caught {
            Some((test, reason)) => eprintln!("caught   {:32} {test}: {reason}", verdict.name),
            None => eprintln!("ESCAPED  {:32} {}", verdict.name, verdict.what),
        }
        verdicts.push(verdict);
    }
    bar.finish();
    let caught = verdicts.iter().filter(|verdict| verdict.caught.is_some()).count();
    eprintln!("{caught} of {} mutants caught", verdicts.len());
    if json {
        let total = verdicts.len();
        print_json(&serde_json::json!({ "mutants": total, "caught": caught, "verdicts": verdicts }))?;
    }
    ensure!(caught == verdicts.len(), "{} mutants got away", verdicts.len() - caught);
    Ok(())
}

/// Checks a report's signature and shows the report.
fn report(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let signed = Signed::verify(&text)?;
    eprintln!("{}", signed.report.text());
    let made = if signed.signature.ephemeral { " (a key made for this report)" } else { "" };
    eprintln!("signed by {}{made}, unchanged since", signed.signature.address);
    Ok(())
}
