//! The `ironlane` binary: parses the command line and calls the command.

use clap::Parser;
use ironlane::cli::{Cli, Command, LogFormat, RunArgs};
use ironlane::commands;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(&cli);
    let result = match &cli.command {
        None => commands::run(&RunArgs { dev: true, ..RunArgs::default() }),
        Some(Command::Run(args)) => commands::run(args),
        Some(Command::Import(args)) => commands::import(args),
        Some(Command::Verify(args)) => commands::verify(args),
        Some(Command::Conformance(args)) => commands::conformance(args),
        Some(Command::Snapshot(args)) => commands::snapshot(args),
        Some(Command::Promise(args)) => commands::promise(args),
        Some(Command::Offload(args)) => commands::offload(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ironlane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(cli: &Cli) {
    let filter = match &cli.log {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let ansi = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    match cli.log_format {
        LogFormat::Human => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
