//! `cargo xtask run`: the node with every feature that this machine can build.

use crate::workspace::{Workspace, cargo};
use anyhow::Context;
use clap::Args;
use std::process::ExitCode;

/// Options of `run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// Arguments of `ironlane`; without any, the development node starts.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let features = Workspace::load()?.features(Some("ironlane"));
    for (feature, why) in &features.off {
        eprintln!("without {feature}: {why}; `cargo xtask setup` installs what it needs");
    }
    let mut command = cargo();
    command.args(["run", "--release", "--package", "ironlane"]).args(features.args());
    let status = command.arg("--").args(&args.args).status().context("cargo could not be started")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
