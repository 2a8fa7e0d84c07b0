//! `cargo xtask`: set-up, the full-feature node, and the whole test run.
//!
//! `setup` knows which Debian package belongs to which feature ([`packages`]); `run` starts the node with every feature
//! that this machine can build; `test` runs named [`steps`] one after the other and says at the end what passed, what
//! failed, and what was left out and why. All steps share one dev-profile build of the workspace with one set of
//! features, so that the dependencies are compiled once for clippy and once for everything else.

mod bench;
mod clients;
mod conformance;
mod nvrtc;
mod packages;
mod process;
mod report;
mod run;
mod setup;
mod steps;
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, the full-feature node and the whole test run")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print, then install the Debian packages that the optional features and the tests need.
    #[command(after_help = "Example: cargo xtask setup --yes")]
    Setup(setup::SetupArgs),
    /// Build and run the node in release mode with every feature that this machine can build.
    #[command(after_help = "Example: cargo xtask run -- --dev --ephemeral")]
    Run(run::RunArgs),
    /// Run everything that this machine can run.
    #[command(after_help = "Example: cargo xtask test --quick\nExample: cargo xtask test --step conformance")]
    Test(steps::TestArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(args) => setup::setup(&args),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => steps::test(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
