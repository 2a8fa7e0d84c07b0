//! `cargo xtask setup`: Debian packages for the optional features and for tests that start other programs, and the
//! compiler of the CUDA kernels.

use crate::nvrtc;
use crate::packages::{SYSTEM_FEATURES, TOOLS, is_installed};
use crate::process;
use crate::report::Outcome;
use clap::Args;
use std::io::{IsTerminal, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

const APT_LIMIT: Duration = Duration::from_secs(600);

/// Options of `setup`.
#[derive(Args)]
pub(crate) struct SetupArgs {
    /// Ask nothing (also with CI=true in the environment).
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Whether nobody is to be asked.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

pub(crate) fn setup(args: &SetupArgs) -> anyhow::Result<ExitCode> {
    for entry in SYSTEM_FEATURES {
        eprintln!("feature {}: {}", entry.feature, entry.purpose);
        list(entry.packages);
    }
    for tool in TOOLS {
        eprintln!("tools: {}", tool.purpose);
        list(tool.packages);
    }
    let compiler = nvrtc::installed();
    eprintln!(
        "NVRTC, which compiles the CUDA kernels (from the Python package index, into the target folder)"
    );
    eprintln!("  {}", if compiler.is_some() { "installed" } else { "missing" });
    let missing = missing_packages();
    if missing.is_empty() && compiler.is_some() {
        eprintln!("nothing to install");
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !is_ci() && !asked(&missing) {
        eprintln!(
            "nothing was installed; the features above stay off. Run `cargo xtask setup --yes` to install"
        );
        return Ok(ExitCode::FAILURE);
    }
    // Without it the tests leave something out and say so; nothing else depends on it.
    match nvrtc::install() {
        Ok(folder) => eprintln!("NVRTC: {}", folder.display()),
        Err(why) => eprintln!("NVRTC: {why}"),
    }
    match if missing.is_empty() { Ok(()) } else { install(&missing) } {
        Ok(()) => {
            eprintln!("installed: {}", missing.join(" "));
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            eprintln!("could not install {}: {why}", missing.join(" "));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The set-up as a step of `test`: it installs as root, or through sudo where nobody needs to be asked.
pub(crate) fn step(yes: bool) -> Outcome {
    let mut outcome = packages_step(yes);
    match nvrtc::installed() {
        Some(_) => {}
        None if !is_root() && !yes && !is_ci() => {
            outcome.left_out.push("NVRTC: not there; `cargo xtask setup` would fetch it".to_owned());
        }
        None => {
            if let Err(why) = nvrtc::install() {
                outcome.left_out.push(format!("NVRTC, hence the tests of the CUDA build: {why}"));
            }
        }
    }
    outcome
}

fn packages_step(yes: bool) -> Outcome {
    let missing = missing_packages();
    if missing.is_empty() {
        return Outcome::passed("all packages are there");
    }
    if !is_root() && !yes && !is_ci() {
        let list = missing.join(" ");
        return Outcome::skipped(format!(
            "not root and not asked to: `cargo xtask setup` would install {list}"
        ));
    }
    match install(&missing) {
        Ok(()) => Outcome::passed(format!("installed {}", missing.join(" "))),
        Err(why) => Outcome::skipped(format!("{} could not be installed: {why}", missing.join(" "))),
    }
}

fn list(packages: &[&str]) {
    for package in packages {
        let state = if is_installed(package) { "installed" } else { "missing" };
        eprintln!("  {package}: {state}");
    }
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<_> = SYSTEM_FEATURES
        .iter()
        .flat_map(|entry| entry.packages)
        .chain(TOOLS.iter().flat_map(|tool| tool.packages))
        .copied()
        .filter(|p| !is_installed(p))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn asked(missing: &[&str]) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    match missing.is_empty() {
        true => eprint!("fetch NVRTC with pip? [y/N] "),
        false => eprint!("install {} with apt-get, and NVRTC with pip? [y/N] ", missing.join(" ")),
    }
    let mut answer = String::new();
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install(packages: &[&str]) -> Result<(), String> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        return Err(
            "this is no Debian system (there is no apt-get); install their equivalents by hand".into()
        );
    }
    let interactive = std::io::stdin().is_terminal() && !is_ci();
    let apt = |args: &[&str]| {
        let mut command = match (is_root(), interactive) {
            (true, _) => Command::new("apt-get"),
            (false, true) => Command::new("sudo"),
            (false, false) => {
                let mut sudo = Command::new("sudo");
                sudo.arg("-n");
                sudo
            }
        };
        if !is_root() {
            command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        match process::run(&mut command, APT_LIMIT, true) {
            Ok(finished) if finished.success => Ok(()),
            Ok(finished) => {
                let said =
                    finished.lines.iter().rev().find(|line| line.starts_with("E:") || line.contains("sudo:"));
                Err(said.cloned().unwrap_or(finished.reason))
            }
            Err(error) => Err(format!("{error:#} (root or sudo is needed)")),
        }
    };
    // An old package list is no reason to stop: what is wanted may be in it.
    let updated = apt(&["update", "-q"]);
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(packages);
    apt(&args).map_err(|why| match updated {
        Ok(()) => why,
        Err(update) => format!("{why}; before that, `apt-get update` said: {update}"),
    })
}
