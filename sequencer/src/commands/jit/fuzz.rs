//! `ironlane jit fuzz`. The fuzzing runs in a process of its own: machine code that goes wrong may take its process with
//! it, and what is left must be able to say which case did that.

use super::FuzzArgs;
use crate::commands::print_json;
use crate::progress::Progress;
use anyhow::{Context, bail, ensure};
use ironlane_jit::fuzz::{self, Case, Compiled, Engine, Finding, FuzzOptions, FuzzStats};
use revm::primitives::hardfork::SpecId;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A group takes far less than this; minimising reports nothing for as long as it is allowed to take.
const SILENCE_MAX: Duration = Duration::from_secs(90);
const MINIMISE: Duration = Duration::from_secs(30);

type Engines = Vec<(String, Box<dyn Engine>)>;

/// Fuzzes, or replays.
pub(super) fn fuzz(args: &FuzzArgs) -> anyhow::Result<()> {
    let spec = args.spec.as_deref().map(spec).transpose()?;
    if let Some(file) = &args.replay {
        return replay(args, file);
    }
    if args.worker { work(args, spec) } else { watch(args, spec) }
}

fn spec(name: &str) -> anyhow::Result<SpecId> {
    fuzz::parse_spec(name).with_context(|| format!("there is no fork `{name}`: use frontier to osaka"))
}

/// The variants of those names; all of them when there is no name.
fn engines(names: &[String]) -> anyhow::Result<Engines> {
    let variants = Compiled::variants();
    for name in names {
        ensure!(
            variants.iter().any(|(known, _)| known == name),
            "there is no variant `{name}` of the compiler: use {}",
            variants.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        );
    }
    variants
        .into_iter()
        .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .map(|(name, config)| Ok((name.to_owned(), Box::new(Compiled::new(config)?) as Box<dyn Engine>)))
        .collect()
}

fn replay(args: &FuzzArgs, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let case = Case::parse(&text).with_context(|| file.display().to_string())?;
    // The file says which variant differed; the command line may say otherwise.
    let named = text.lines().filter_map(|line| line.strip_prefix("opt ")).map(|name| name.trim().to_owned());
    let names = if args.opt.is_empty() { named.collect() } else { args.opt.clone() };
    let mut rows = Vec::new();
    let mut differs = 0;
    for (name, mut engine) in engines(&names)? {
        let mismatch = fuzz::check(&case, engine.as_mut()).map(|mismatch| mismatch.to_string());
        differs += usize::from(mismatch.is_some());
        eprintln!("{name}: {}", mismatch.as_deref().unwrap_or("equal to the interpreter"));
        rows.push(json!({ "engine": name, "mismatch": mismatch }));
    }
    if args.json {
        print_json(&json!({ "replay": file, "engines": rows }))?;
    }
    ensure!(differs == 0, "{differs} of {} variants differ from the interpreter", rows.len());
    Ok(())
}

/// The worker: a line before each group, one with the result at the end.
fn work(args: &FuzzArgs, spec: Option<SpecId>) -> anyhow::Result<()> {
    let options = FuzzOptions {
        seed: args.seed,
        first: args.first,
        groups: args.groups.unwrap_or(u64::MAX),
        limit: Duration::from_secs(args.seconds),
        spec,
        minimise: MINIMISE,
    };
    let mut out = std::io::stdout();
    let (stats, finding) = fuzz::fuzz(&options, &mut engines(&args.opt)?, &mut |group, stats| {
        let _ = writeln!(out, "group {group} {}", stats.cases);
        let _ = out.flush();
    });
    println!(
        "done {}",
        json!({ "stats": stats_json(&stats), "finding": finding.as_ref().map(finding_json) })
    );
    Ok(())
}

fn stats_json(stats: &FuzzStats) -> Value {
    let [success, revert, halt, invalid] = stats.ends;
    json!({
        "groups": stats.groups,
        "cases": stats.cases,
        "frames": stats.frames,
        "ends": { "success": success, "revert": revert, "halt": halt, "invalid": invalid },
    })
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "group": finding.group,
        "engine": finding.engine,
        "mismatch": finding.mismatch.to_string(),
        "text": finding.to_text(),
    })
}

/// How the worker ended.
enum Ended {
    Done(Value),
    /// In this group, for this reason.
    Died(u64, String),
}

fn watch(args: &FuzzArgs, spec: Option<SpecId>) -> anyhow::Result<()> {
    let start = Instant::now();
    engines(&args.opt)?;
    ensure!(args.out.is_dir(), "{} is no folder: --out takes one", args.out.display());
    let (mut report, file) = match run_worker(args)? {
        Ended::Done(mut report) => {
            let text = report["finding"]["text"].take();
            let group = report["finding"]["group"].as_u64().unwrap_or(0);
            let file = text.as_str().map(|text| write(args, group, text)).transpose()?;
            (report, file)
        }
        Ended::Died(group, reason) => {
            // One of the group's cases did it: each goes to a file, to be replayed on its own.
            let mut text =
                format!("# the process {reason} in group {group}: one of its cases, the first follows\n");
            let cases = fuzz::generate(args.seed, group, spec);
            for (index, case) in cases.iter().enumerate() {
                let path = path(args, group).with_extension(format!("{index}.txt"));
                std::fs::write(&path, case.to_text()).with_context(|| path.display().to_string())?;
            }
            text.push_str(&cases[0].to_text());
            let report =
                json!({ "finding": { "group": group, "mismatch": format!("the process {reason}") } });
            (report, Some(write(args, group, &text)?))
        }
    };
    report["seed"] = args.seed.into();
    report["seconds"] = start.elapsed().as_secs_f64().into();
    report["file"] = json!(file);
    let stats = &report["stats"];
    eprintln!("seed {}: {} cases in {} groups", args.seed, stats["cases"], stats["groups"]);
    if args.json {
        print_json(&report)?;
    }
    match file {
        None => Ok(()),
        Some(file) => bail!(
            "{}\nreplay with: ironlane jit fuzz --replay {}",
            report["finding"]["mismatch"].as_str().unwrap_or_default(),
            file.display()
        ),
    }
}

fn path(args: &FuzzArgs, group: u64) -> PathBuf {
    args.out.join(format!("jit-finding-{}-{group}.txt", args.seed))
}

fn write(args: &FuzzArgs, group: u64, text: &str) -> anyhow::Result<PathBuf> {
    let path = path(args, group);
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

fn run_worker(args: &FuzzArgs) -> anyhow::Result<Ended> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["jit", "fuzz", "--worker"]);
    command.args(["--seconds", &args.seconds.to_string(), "--seed", &args.seed.to_string()]);
    command.args(["--first", &args.first.to_string()]);
    if let Some(groups) = args.groups {
        command.args(["--groups", &groups.to_string()]);
    }
    if let Some(spec) = &args.spec {
        command.args(["--spec", spec]);
    }
    if !args.opt.is_empty() {
        command.args(["--opt", &args.opt.join(",")]);
    }
    let mut child =
        command.stdout(Stdio::piped()).spawn().context("the fuzzing process cannot be started")?;
    let lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let progress = Progress::new("fuzzing", "cases");
    let mut group = args.first;
    let ended = loop {
        match receiver.recv_timeout(SILENCE_MAX) {
            Ok(line) => {
                let mut words = line.splitn(2, ' ');
                match (words.next(), words.next()) {
                    (Some("group"), Some(rest)) => {
                        let mut numbers = rest.split(' ').filter_map(|word| word.parse::<u64>().ok());
                        group = numbers.next().unwrap_or(group);
                        progress.add(numbers.next().unwrap_or(0).saturating_sub(progress.count()));
                    }
                    (Some("done"), Some(rest)) => break Ended::Done(serde_json::from_str(rest)?),
                    _ => {}
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill()?;
                break Ended::Died(group, format!("said nothing for {} s", SILENCE_MAX.as_secs()));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait()?;
                break Ended::Died(group, format!("ended with {status}"));
            }
        }
    };
    progress.finish();
    child.wait()?;
    let _ = reader.join();
    Ok(ended)
}
