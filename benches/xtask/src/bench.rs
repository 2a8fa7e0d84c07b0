//! Smoke runs of every bench, so that none of them rots.

use crate::process;
use crate::report::{Counts, Outcome};
use crate::workspace::Workspace;
use std::process::Command;
use std::time::Duration;

const BENCH_LIMIT: Duration = Duration::from_secs(180);

/// Runs each bench that `ironbench --help` lists with `--smoke --json`.
pub(crate) fn step(workspace: &Workspace) -> anyhow::Result<Outcome> {
    let binary = workspace.binary("ironbench");
    let bench = || {
        let mut command = Command::new(&binary);
        command.current_dir(&workspace.root).env("CARGO_TARGET_DIR", &workspace.target);
        // The benches that need a node start the one of this build.
        command.env("IRONLANE_BIN", workspace.binary("ironlane"));
        command
    };
    let help = process::run(bench().arg("--help"), Duration::from_secs(30), false)?;
    let names = subcommands(&help.lines);
    if !help.success || names.is_empty() {
        return Ok(Outcome::failed("`ironbench --help` lists no bench"));
    }
    let mut counts = Counts::default();
    let (mut failures, mut left_out) = (vec![], vec![]);
    for name in &names {
        let help = process::run(bench().args([name, "--help"]), Duration::from_secs(30), false)?;
        if !help.lines.iter().any(|line| line.contains("--smoke")) {
            counts.skipped += 1;
            left_out.push(format!("{name} has no smoke size"));
            continue;
        }
        let run = process::run(bench().args([name, "--smoke", "--json"]), BENCH_LIMIT, true)?;
        match (run.success, run.json()) {
            (true, Some(_)) => counts.passed += 1,
            (true, None) => failures.push(format!("{name}: no JSON object on stdout")),
            (false, _) => failures.push(format!("{name}: {}", run.reason)),
        }
    }
    counts.failed = failures.len() as u64;
    let note = match failures.is_empty() {
        true => format!("smoke sizes of {}, dev profile: not figures", names.join(", ")),
        false => failures.join("; "),
    };
    Ok(Outcome { counts, note, left_out })
}

/// The commands in a clap help text, `help` and `publish` aside (the latter needs a finished run).
fn subcommands(help: &[String]) -> Vec<String> {
    let list = help.iter().skip_while(|line| line.trim() != "Commands:").skip(1);
    list.take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !matches!(*name, "help" | "publish"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_the_help_text() {
        let help = "Benchmarks\n\nUsage: ironbench <COMMAND>\n\nCommands:\n  e2e      End to end\n  journal  The disk\n           \
                    alone\n  publish  Bundle\n  help     Print this\n\nOptions:\n  -h, --help  Print help";
        let lines: Vec<String> = help.lines().map(str::to_owned).collect();
        assert_eq!(subcommands(&lines), ["e2e", "journal"]);
        assert!(subcommands(&[]).is_empty());
    }
}
