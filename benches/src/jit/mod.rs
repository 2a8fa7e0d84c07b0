//! `ironbench jit`: transactions to real contracts through revm's interpreter and through compiled code, in one process, in
//! A-B-B-A order; results, gas and post-states must be equal.

mod cases;
mod measure;
mod ordinary;

use anyhow::{Context as _, ensure};
use cases::Set;
use indicatif::{ProgressBar, ProgressStyle};
use ironlane_jit::{Compiler, CompilerConfig, OptLevel, Target};
use measure::{Row, measure};
use serde_json::{Value, json};
use std::{io::IsTerminal, path::PathBuf, time::Duration};

/// Options of `ironbench jit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ironbench jit --json --filter snailtracer --cpu generic")]
pub(crate) struct Args {
    /// A few cases, few repetitions: for tests.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Folder of JSON cases (pre-state and transactions, or state tests), searched recursively; absent: the corpus and
    /// the built-in programs.
    #[arg(long)]
    pub(crate) contracts: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// Code for this CPU and all its features (native), or for any of its architecture (generic).
    #[arg(long, default_value = "native")]
    pub(crate) cpu: String,
    /// How hard Cranelift optimises: speed or none.
    #[arg(long, default_value = "none")]
    pub(crate) opt: String,
    /// Seconds of measuring for each case.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
}

/// Below this ratio a code goes back to the interpreter.
const KEEP_RATIO: f64 = 0.97;

/// Runs the bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let target = match args.cpu.as_str() {
        "native" => Target::Native,
        "generic" => Target::Generic,
        other => anyhow::bail!("there is no CPU `{other}`: use native or generic"),
    };
    let opt_level = match args.opt.as_str() {
        "speed" => OptLevel::Speed,
        "none" => OptLevel::None,
        other => anyhow::bail!("there is no optimisation level `{other}`: use speed or none"),
    };
    let compiler = Compiler::new(CompilerConfig { opt_level, target, ..CompilerConfig::default() })?;
    let (mut cases, note) = cases::load(args.contracts.as_deref(), args.smoke)?;
    if let Some(filter) = &args.filter {
        cases.retain(|case| case.name.contains(filter.as_str()));
    }
    ensure!(
        !cases.is_empty(),
        "there is no case to measure{}",
        if note.is_empty() { "" } else { ": see above" }
    );
    let seconds = if args.smoke { 0.0 } else { args.seconds };
    let bar = progress(cases.len() as u64);
    let mut rows = Vec::new();
    for case in &cases {
        bar.set_message(case.name.clone());
        rows.push(
            measure(case, &compiler, Duration::from_secs_f64(seconds)).with_context(|| case.name.clone())?,
        );
        bar.inc(1);
    }
    bar.finish_and_clear();
    table(&rows);
    Ok(report(args, &rows, &note))
}

fn report(args: &Args, rows: &[Row], note: &str) -> Value {
    let of = |set: Set| geomean(rows.iter().filter(|row| row.set == set).map(Row::kept_speedup));
    let timed = rows.iter().filter(|row| row.set != Set::Bomb);
    let compile_us: f64 = rows.iter().map(|row| row.compile_us).sum();
    let bytecode: u64 = rows.iter().map(|row| row.bytecode_bytes).sum();
    let slowest = rows.iter().map(|row| row.compile_us_max).fold(0.0, f64::max);
    json!({
        "bench": "jit",
        "cpu": args.cpu,
        "opt": args.opt,
        "note": note,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "geomean_speedup": geomean(timed.map(Row::kept_speedup)),
        "geomean": { "compute": of(Set::Compute), "ordinary": of(Set::Ordinary), "other": of(Set::Other) },
        "compile_us_per_byte": compile_us / bytecode.max(1) as f64,
        "compile_us_slowest_code": slowest,
        "same_result": rows.iter().all(|row| row.same_result),
    })
}

/// None where there is nothing to average.
fn geomean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for ratio in ratios {
        sum += ratio.ln();
        count += 1;
    }
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

/// For people, on stderr.
fn table(rows: &[Row]) {
    eprintln!(
        "{:<34} {:<9} {:>12} {:>12} {:>8} {:>11} {:>8} {:>9} {:>6}  verdict",
        "case", "set", "interp µs", "jit µs", "speedup", "compile µs", "µs/byte", "code B", "B/B"
    );
    for row in rows {
        let bytes = row.bytecode_bytes.max(1) as f64;
        eprintln!(
            "{:<34} {:<9} {:>12.2} {:>12.2} {:>7.2}x {:>11.0} {:>8.2} {:>9} {:>6.1}  {}{}",
            row.name,
            row.set.name(),
            row.interpreter_ns / 1e3,
            row.jit_ns / 1e3,
            row.speedup(),
            row.compile_us,
            row.compile_us / bytes,
            row.code_bytes,
            row.code_bytes as f64 / bytes,
            row.verdict(),
            if row.same_result { "" } else { ", RESULTS DIFFER" },
        );
    }
}

fn progress(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// What the smoke run of the tests needs to know of a case.
#[cfg(test)]
fn smoke_cases() -> Vec<cases::WorkCase> {
    cases::load(None, true).expect("the built-in cases load").0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            smoke: true,
            contracts: None,
            filter: None,
            cpu: "native".into(),
            opt: "speed".into(),
            seconds: 0.0,
        }
    }

    #[test]
    fn a_smoke_run_measures_every_case_and_results_agree() {
        for cpu in ["native", "generic"] {
            let result = run(&Args { cpu: cpu.into(), ..args() }).expect("runs");
            let rows = result["rows"].as_array().expect("rows");
            assert_eq!(rows.len(), smoke_cases().len());
            for row in rows {
                assert_eq!(row["same_result"], true, "{row}");
                assert!(row["interpreter_ns"].as_f64().is_some_and(|ns| ns > 0.0), "{row}");
                assert!(row["gas"].as_u64().is_some_and(|gas| gas > 21_000), "{row}");
                assert!(row["code_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{row}");
            }
            assert!(result["geomean_speedup"].as_f64().is_some_and(|ratio| ratio > 0.0));
        }
    }

    #[test]
    fn what_is_not_there_is_refused_with_a_sentence() {
        for wrong in [
            Args { cpu: "quantum".into(), ..args() },
            Args { opt: "most".into(), ..args() },
            Args { filter: Some("no such case".into()), ..args() },
            Args { contracts: Some("/nowhere".into()), ..args() },
        ] {
            assert!(run(&wrong).expect_err("refused").to_string().len() > 20);
        }
    }
}
