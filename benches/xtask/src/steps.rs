//! `cargo xtask test`: the steps, in order.

use crate::report::{Counts, Outcome, Report, libtest_counts, nextest_counts};
use crate::workspace::{Features, Workspace, cargo};
use crate::{bench, clients, conformance, process, setup, tidy};
use clap::Args;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const QUICK_LIMIT: Duration = Duration::from_secs(120);
/// A cold build of the workspace takes some ten minutes on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(1500);
const TEST_LIMIT: Duration = Duration::from_secs(1500);

/// Options of `test`.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Install missing packages through sudo without asking (root and CI=true do so anyway).
    #[arg(long)]
    yes: bool,
    /// All files of the conformance corpus instead of a sample.
    #[arg(long)]
    whole_corpus: bool,
    /// Only what needs neither a corpus, nor npm, nor a running node: fmt, tidy, clippy, tests, doc tests.
    #[arg(long)]
    quick: bool,
    /// Only these steps (repeatable): setup, fmt, tidy, clippy, clippy-default, build, tests, doc-tests, benches,
    /// conformance, clients.
    #[arg(long = "step", value_name = "NAME")]
    only: Vec<String>,
}

type Step<'a> = (&'static str, Box<dyn Fn() -> anyhow::Result<Outcome> + 'a>);

/// Steps that `--quick` leaves out.
const SLOW: [&str; 4] = ["build", "benches", "conformance", "clients"];

pub(crate) fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    // The set-up comes first: what it installs decides which features are built.
    if wanted(args, "setup") {
        timed(&mut report, "setup", &|| Ok(setup::step(args.yes)));
    }
    let workspace = Workspace::load()?;
    let features = workspace.features(None);
    let steps = steps(args, &workspace, &features);
    if let Some(unknown) =
        args.only.iter().find(|name| *name != "setup" && steps.iter().all(|(n, _)| n != name))
    {
        let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("there is no step `{unknown}`; the steps are: setup, {}", names.join(", "));
    }
    eprintln!("features: {}", if features.on.is_empty() { "none".into() } else { features.on.join(", ") });
    let mut built = true;
    for (name, step) in &steps {
        if !wanted(args, name) {
            continue;
        }
        if !built && SLOW.contains(name) {
            report.add(name, Outcome::skipped("the build failed"), Duration::ZERO);
            continue;
        }
        let passed = timed(&mut report, name, step.as_ref());
        built &= passed || *name != "build";
    }
    if args.quick {
        let left_out = Outcome::skipped(format!("--quick left out {}", SLOW.join(", ")));
        report.add("the rest", left_out, Duration::ZERO);
    }
    for (feature, why) in &features.off {
        report.add(&format!("feature {feature}"), Outcome::skipped(why), Duration::ZERO);
    }
    print!("{}", report.render());
    Ok(if report.counts().failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted(args: &TestArgs, name: &str) -> bool {
    match args.only.is_empty() {
        true => !(args.quick && SLOW.contains(&name)),
        false => args.only.iter().any(|only| only == name),
    }
}

/// Runs one step and records it. `true`: nothing failed.
fn timed(report: &mut Report, name: &str, step: &dyn Fn() -> anyhow::Result<Outcome>) -> bool {
    eprintln!("\n== {name}");
    let start = Instant::now();
    let outcome = step().unwrap_or_else(|error| Outcome::failed(format!("{error:#}")));
    let (took, passed) = (start.elapsed(), outcome.counts.failed == 0);
    eprintln!("== {name}: {} ({:.1} s)", outcome.note, took.as_secs_f64());
    report.add(name, outcome, took);
    passed
}

fn steps<'a>(args: &'a TestArgs, workspace: &'a Workspace, features: &'a Features) -> Vec<Step<'a>> {
    let cargo_with = |words: &[&str]| {
        let mut command = cargo();
        command.args(words).args(["--workspace", "--locked"]).args(features.args());
        command
    };
    vec![
        (
            "fmt",
            Box::new(|| {
                check(cargo().args(["fmt", "--all", "--", "--check", "-l"]), QUICK_LIMIT, "formatted")
            }),
        ),
        ("tidy", Box::new(move || Ok(tidy::step(&workspace.root)))),
        (
            "clippy",
            Box::new(move || {
                let mut command = cargo_with(&["clippy", "--all-targets"]);
                check(command.args(["--", "-D", "warnings"]), BUILD_LIMIT, "no warnings")
            }),
        ),
        (
            "clippy-default",
            Box::new(|| {
                if features.on.is_empty() {
                    return Ok(Outcome::skipped(
                        "this machine builds no optional feature: the step before was it",
                    ));
                }
                // What `cargo run --release` builds: without the features that need C libraries.
                let mut command = cargo();
                command.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
                check(&mut command, BUILD_LIMIT, "no warnings without optional features")
            }),
        ),
        (
            "build",
            // With the tests, not the binaries alone: development dependencies switch on features of the others, and what
            // was built without them would be built a second time.
            Box::new(move || {
                check(&mut cargo_with(&["build", "--bins", "--tests"]), BUILD_LIMIT, "built, dev profile")
            }),
        ),
        ("tests", Box::new(move || tests(cargo_with))),
        (
            "doc-tests",
            Box::new(move || {
                let run = process::run(&mut cargo_with(&["test", "--doc"]), TEST_LIMIT, true)?;
                let counts = libtest_counts(&run.lines);
                Ok(judged(run.success, counts, "examples in the documentation", &run.reason))
            }),
        ),
        ("benches", Box::new(move || bench::step(workspace))),
        ("conformance", Box::new(move || conformance::step(workspace, args.whole_corpus))),
        ("clients", Box::new(move || clients::step(workspace))),
    ]
}

/// A command that holds or does not.
fn check(command: &mut Command, limit: Duration, note: &str) -> anyhow::Result<Outcome> {
    let run = process::run(command, limit, true)?;
    Ok(if run.success { Outcome::passed(note) } else { Outcome::failed(run.reason) })
}

/// A runner's counts, made honest: a run that failed without naming a test counts as one failure.
fn judged(success: bool, mut counts: Counts, note: &str, reason: &str) -> Outcome {
    if !success && counts.failed == 0 {
        counts.failed = 1;
    }
    if success && counts.passed == 0 {
        counts.skipped += 1;
    }
    let note = if success { note } else { reason };
    Outcome { counts, note: note.to_owned(), left_out: vec![] }
}

/// All tests of the workspace, through nextest where it is installed.
fn tests(cargo_with: impl Fn(&[&str]) -> Command) -> anyhow::Result<Outcome> {
    let has_nextest =
        cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    if has_nextest {
        let words =
            ["nextest", "run", "--no-fail-fast", "--status-level", "slow", "--final-status-level", "slow"];
        let run = process::run(&mut cargo_with(&words), TEST_LIMIT, true)?;
        let counts = nextest_counts(&run.lines).unwrap_or_default();
        return Ok(judged(run.success, counts, "cargo nextest, dev profile", &run.reason));
    }
    let words = ["test", "--no-fail-fast", "--lib", "--bins", "--tests"];
    let run = process::run(&mut cargo_with(&words), TEST_LIMIT, true)?;
    let counts = libtest_counts(&run.lines);
    let mut outcome = judged(run.success, counts, "cargo test, dev profile", &run.reason);
    outcome.left_out.push("cargo-nextest is not installed: cargo test ran instead".to_owned());
    Ok(outcome)
}
