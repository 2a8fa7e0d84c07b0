//! `ironbench`: every figure of the README, re-checkable with one command.
//!
//! Each bench is a file with an `Args` and a `run` that answers one JSON object; a `--smoke` size of each runs in the
//! tests. People read stderr; `--json` puts the object on the last line of stdout.

mod auth;
mod e2e;
mod execute;
mod jit;
mod journal;
mod keccak;
mod state;
mod trie;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmarks of Ironlane.
#[derive(Parser)]
#[command(
    name = "ironbench",
    version,
    about,
    after_help = "Example: ironbench e2e --workload transfer --rate max --json"
)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
    /// Print one JSON object on the last line of stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// The whole way: a node in a process of its own, on real sockets, loaded and measured.
    #[command(after_help = "Example: ironbench e2e --workload transfer --seconds 10 --rate 10000 --json")]
    E2e(e2e::Args),
    /// Execution alone, against plain revm in the same process.
    #[command(after_help = "Example: ironbench execute --workload transfer --json")]
    Execute(execute::Args),
    /// Compiled EVM code against revm's interpreter, contract by contract.
    #[command(after_help = "Example: ironbench jit --json --filter snailtracer --cpu generic")]
    Jit(jit::Args),
    /// Sender recovery by engine and batch size.
    #[command(after_help = "Example: ironbench auth --json")]
    Auth(auth::Args),
    /// Keccak-256 by engine and message size.
    #[command(after_help = "Example: ironbench keccak --json")]
    Keccak(keccak::Args),
    /// State store: lookups, updates, snapshots, against hashbrown.
    #[command(after_help = "Example: ironbench state --accounts 1000000 --json")]
    State(state::Args),
    /// Trie: roots and proofs, against a full rebuild by alloy-trie.
    #[command(after_help = "Example: ironbench trie --accounts 1000000 --json")]
    Trie(trie::Args),
    /// Journal: group commits, against buffered writes and fdatasync on an extending file.
    #[command(after_help = "Example: ironbench journal --json")]
    Journal(journal::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.bench {
        Bench::E2e(args) => e2e::run(args),
        Bench::Execute(args) => execute::run(args),
        Bench::Jit(args) => jit::run(args),
        Bench::Auth(args) => auth::run(args),
        Bench::Keccak(args) => keccak::run(args),
        Bench::State(args) => state::run(args),
        Bench::Trie(args) => trie::run(args),
        Bench::Journal(args) => journal::run(args),
    };
    match result {
        Ok(report) => {
            if cli.json {
                println!("{report}");
            } else {
                println!("{report:#}");
            }
            // A figure whose replay differs is no figure.
            if report["replay_ok"] == serde_json::Value::Bool(false) {
                return ExitCode::FAILURE;
            }
            if report["same_result"] == serde_json::Value::Bool(false) {
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ironbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
