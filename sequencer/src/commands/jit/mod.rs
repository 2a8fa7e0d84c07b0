//! `ironlane jit`: looks into compiled code, and hunts for differences between it and the interpreter.

mod fuzz;
mod inspect;
mod source;

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Options of `jit`.
#[derive(Debug, Args)]
pub struct JitArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: JitAction,
}

/// What can be done with the compiler.
#[derive(Debug, Subcommand)]
pub enum JitAction {
    /// Compile a code and show its blocks with gas and stack, the CLIF and the machine code.
    #[command(after_help = "Example: ironlane jit inspect 0x5f355f5260205ff3\n         \
                            ironlane jit inspect contract.evm --spec cancun --pc 0x40\n         \
                            ironlane jit inspect 0xc02a…6cc2 --rpc http://127.0.0.1:8545 --json")]
    Inspect(InspectArgs),
    /// Compare compiled code with the interpreter on generated transactions, until the time is over or they differ.
    #[command(after_help = "Example: ironlane jit fuzz --seconds 600 --seed 7 --json\n         \
                            ironlane jit fuzz --replay jit-finding-7-1234.txt")]
    Fuzz(FuzzArgs),
}

/// Options of `jit inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Bytecode in hexadecimal, a file with that or with assembly (`.evm`), or, with --datadir or --rpc, an address.
    pub code: String,
    /// Data directory of a stopped node: take the address's code from its newest snapshot.
    #[arg(long, conflicts_with = "rpc")]
    pub datadir: Option<PathBuf>,
    /// Node to ask for the address's code, as http://HOST:PORT.
    #[arg(long)]
    pub rpc: Option<String>,
    /// Rules: frontier to osaka.
    #[arg(long, default_value = "osaka")]
    pub spec: String,
    /// Code for this CPU (native) or for any of its architecture (generic).
    #[arg(long, default_value = "native")]
    pub cpu: String,
    /// How hard Cranelift optimises: speed or none.
    #[arg(long, default_value = "speed")]
    pub opt: String,
    /// Only the function (region) of this number.
    #[arg(long)]
    pub function: Option<usize>,
    /// Only the block that holds this position, and its function.
    #[arg(long, value_parser = position)]
    pub pc: Option<usize>,
    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `jit fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// How long.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Of all cases: the same seed gives the same cases.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The group of cases to begin with.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Groups after which to end.
    #[arg(long)]
    pub groups: Option<u64>,
    /// Rules, frontier to osaka; absent: all of them.
    #[arg(long)]
    pub spec: Option<String>,
    /// Variants of the compiler, separated by commas: speed, none, generic, tiny; absent: all of them.
    #[arg(long, value_delimiter = ',')]
    pub opt: Vec<String>,
    /// Run the case of this file instead, as the fuzzer writes it.
    #[arg(long)]
    pub replay: Option<PathBuf>,
    /// Folder for the file of a finding.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    pub json: bool,
    /// The fuzzing process itself, which another watches.
    #[arg(long, hide = true)]
    pub worker: bool,
}

/// Runs `jit`.
pub fn jit(args: &JitArgs) -> anyhow::Result<()> {
    match &args.action {
        JitAction::Inspect(args) => inspect::inspect(args),
        JitAction::Fuzz(args) => fuzz::fuzz(args),
    }
}

/// A position as the listings write it (0x40) or in decimal.
fn position(text: &str) -> Result<usize, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no position: write 64 or 0x40"))
}
