//! The command line of `ironlane`.

use crate::config::{EngineName, NodeConfig};
use alloy_primitives::Address;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A sequencer appliance for EVM rollups.
#[derive(Debug, Parser)]
#[command(
    name = "ironlane",
    version,
    about,
    after_help = "Example: ironlane run --dev\nWithout a command: the development node."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Log format on stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
    /// Log filter, as `info` or `ironlane=debug,info`; RUST_LOG is read when this is absent.
    #[arg(long, global = true)]
    pub log: Option<String>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node.
    #[command(
        after_help = "Example: ironlane run --datadir /var/lib/ironlane --genesis genesis.json --topology quad"
    )]
    Run(Box<RunArgs>),
    /// Re-execute a chain of blocks from an RLP file and check every header field.
    #[command(after_help = "Example: ironlane import --genesis genesis.json --chain chain.rlp --json")]
    Import(ImportArgs),
    /// Replay a stopped node's journal with plain sequential revm and an independent trie.
    #[command(after_help = "Example: ironlane verify --datadir ./ironlane-data --json")]
    Verify(VerifyArgs),
    /// Run Ethereum's conformance tests through the node's own executor, state and trie.
    #[command(after_help = "Example: ironlane conformance state-tests ./state-tests --json")]
    Conformance(ConformanceArgs),
    /// List and check a stopped node's snapshots.
    #[command(after_help = "Example: ironlane snapshot --datadir ./ironlane-data --json")]
    Snapshot(SnapshotArgs),
    /// Check a promise, as `ironlane_getPromise` answers it, against the sequencer's address.
    #[command(
        after_help = "Example: ironlane promise verify --file promise.json --chain-id 31337 --sequencer 0x…"
    )]
    Promise(PromiseArgs),
    /// Offload engines and cards: list, validate, measure.
    #[command(
        after_help = "Example: ironlane offload validate --engine plugin:./libcard.so --json --html report.html"
    )]
    Offload(OffloadArgs),
}

/// Options of `run`.
#[derive(Debug, Args, Default)]
pub struct RunArgs {
    /// The development chain: id 31337, the ten well-known accounts funded. The default without `--genesis`.
    #[arg(long, conflicts_with = "genesis")]
    pub dev: bool,
    /// Configuration file (TOML); flags win over it.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Data directory.
    #[arg(long)]
    pub datadir: Option<PathBuf>,
    /// Chain, as a genesis.json in geth's format.
    #[arg(long)]
    pub genesis: Option<PathBuf>,
    /// Keep nothing: use a temporary data directory and remove it at the end.
    #[arg(long)]
    pub ephemeral: bool,
    /// `auto`, `duo`, `quad`, `sixteen`, or a topology file.
    #[arg(long)]
    pub topology: Option<String>,
    /// Threads that recover senders.
    #[arg(long)]
    pub auth_workers: Option<usize>,
    /// What runs bytecode: the interpreter alone, or machine code for hot contracts besides.
    #[arg(long, value_enum)]
    pub engine: Option<EngineName>,
    /// Address of the binary ingest; port 0 picks a free one.
    #[arg(long)]
    pub ingest: Option<SocketAddr>,
    /// Address of JSON-RPC (HTTP and WebSocket).
    #[arg(long)]
    pub http: Option<SocketAddr>,
    /// Origins of the web pages that may ask JSON-RPC, separated by commas; `*`: every page.
    #[arg(long, alias = "http.corsdomain", value_delimiter = ',')]
    pub cors_origins: Option<Vec<String>>,
    /// Address of the console and `/metrics`.
    #[arg(long)]
    pub metrics: Option<SocketAddr>,
    /// Seconds from one EVM block to the next.
    #[arg(long)]
    pub block_interval_s: Option<u64>,
    /// Blocks from one snapshot to the next; 0 writes none.
    #[arg(long)]
    pub snapshot_interval_blocks: Option<u64>,
    /// Fee recipient; the sequencer's own address when absent.
    #[arg(long)]
    pub beneficiary: Option<Address>,
    /// File with the keystore's password.
    #[arg(long)]
    pub password_file: Option<PathBuf>,
    /// Print one JSON object with the bound addresses on stdout when the node is up.
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// The configuration that these flags mean.
    pub fn config(&self) -> anyhow::Result<NodeConfig> {
        let mut config = match &self.config {
            Some(path) => NodeConfig::read(path)?,
            None => NodeConfig::default(),
        };
        fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *field = value.clone();
            }
        }
        set(&mut config.datadir, &self.datadir);
        set(&mut config.topology, &self.topology);
        set(&mut config.ingest, &self.ingest);
        set(&mut config.executor.engine, &self.engine);
        set(&mut config.http, &self.http);
        set(&mut config.metrics, &self.metrics);
        set(&mut config.block_interval_s, &self.block_interval_s);
        set(&mut config.snapshot.interval_blocks, &self.snapshot_interval_blocks);
        config.rpc.cors_origins = self.cors_origins.clone().or(config.rpc.cors_origins);
        config.ephemeral |= self.ephemeral;
        config.auth_workers = self.auth_workers.or(config.auth_workers);
        config.beneficiary = self.beneficiary.or(config.beneficiary);
        if self.dev {
            config.genesis = None;
        } else if self.genesis.is_some() {
            config.genesis = self.genesis.clone();
        }
        if self.password_file.is_some() {
            config.password_file = self.password_file.clone();
        }
        config.check()?;
        Ok(config)
    }
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Chain, as a genesis.json in geth's format.
    #[arg(long)]
    pub genesis: PathBuf,
    /// Blocks: RLP, one after the other, as geth exports them.
    #[arg(long)]
    pub chain: PathBuf,
    /// Keep the chain in this new data directory, so that `ironlane run --datadir` serves it and goes on from its head.
    #[arg(long)]
    pub datadir: Option<PathBuf>,
    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Data directory of a stopped node.
    #[arg(long)]
    pub datadir: PathBuf,
    /// The chain's genesis.json; absent: the one that the data directory remembers.
    #[arg(long)]
    pub genesis: Option<PathBuf>,
    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `conformance`.
#[derive(Debug, Args)]
pub struct ConformanceArgs {
    /// Which tests.
    #[arg(value_enum)]
    pub kind: ConformanceKind,
    /// Folder with the unpacked files, searched recursively.
    pub dir: PathBuf,
    /// Which engine executes: `interpreter`, or `jit` with everything compiled before its first execution.
    #[arg(long, default_value = "interpreter")]
    pub engine: String,
    /// For `rpc`: the node to ask.
    #[arg(long)]
    pub url: Option<String>,
    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Kinds of conformance tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConformanceKind {
    /// Post-state root and logs hash of single transactions.
    StateTests,
    /// Whole blocks, every header field.
    BlockchainTests,
    /// Mainnet blocks with partial pre-state: gas used, bloom, receipts root.
    MainnetBlocks,
    /// JSON-RPC request and response pairs.
    Rpc,
}

/// Options of `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Data directory of a stopped node.
    #[arg(long)]
    pub datadir: PathBuf,
    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `offload`.
#[derive(Debug, Args)]
pub struct OffloadArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: OffloadAction,
}

/// What can be done with offload engines.
#[derive(Debug, Subcommand)]
pub enum OffloadAction {
    /// The engines of this host and the forms of engine names.
    #[command(after_help = "Example: ironlane offload list --json")]
    List {
        /// Print one JSON object on the last line of stdout.
        #[arg(long)]
        json: bool,
    },
    /// Run the validation kit: vectors, queue tests, measurements; a signed report.
    #[command(after_help = "Example: ironlane offload validate --engine software --json")]
    Validate(ValidateArgs),
    /// Measure throughput and latency by batch size and depth.
    #[command(after_help = "Example: ironlane offload bench --engine scalar --json")]
    Bench(ValidateArgs),
    /// Compare random answers with libsecp256k1's for a while.
    #[command(after_help = "Example: ironlane offload soak --engine software --soak-seconds 3600")]
    Soak(ValidateArgs),
    /// List the cards with known faults, or let the kit loose on them.
    #[command(after_help = "Example: ironlane offload mutants --run --json")]
    Mutants {
        /// Run the kit over each.
        #[arg(long)]
        run: bool,
        /// One mutant, or one family of them.
        #[arg(long)]
        only: Option<String>,
        /// Print one JSON object on the last line of stdout.
        #[arg(long)]
        json: bool,
    },
    /// Check the signature of a report and show it.
    #[command(after_help = "Example: ironlane offload report report.json")]
    Report {
        /// JSON file that `validate --report` wrote.
        file: PathBuf,
    },
    /// Be a card in software: `[--listen PATH | --device PATH [--entries N] [--register PATH]]
    /// [--plugin PATH[,OPTIONS] | --mutant NAME]`.
    #[command(after_help = "Example: ironlane offload card --listen /run/card.sock")]
    Card {
        /// Options of the card.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Options of `offload validate`, `bench` and `soak`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Engine, in one of the forms that `ironlane offload list` shows.
    #[arg(long)]
    pub engine: String,
    /// Folder with ecRecover and Wycheproof vectors, searched recursively.
    #[arg(long)]
    pub vectors: Option<PathBuf>,
    /// Write the signed report here, as JSON.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Write a self-contained page with plots here.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// File with the secp256k1 key that signs the report, 32 bytes in hexadecimal; absent: one made for the report.
    #[arg(long)]
    pub sign_key: Option<PathBuf>,
    /// Fewer random signatures.
    #[arg(long)]
    pub quick: bool,
    /// Leave the measurements out of a validation.
    #[arg(long)]
    pub no_bench: bool,
    /// Length of the differential soak; a validation has none unless asked, `soak` takes 60.
    #[arg(long)]
    pub soak_seconds: Option<u64>,
    /// How long any answer may take.
    #[arg(long)]
    pub answer_limit_ms: Option<u64>,
    /// Entries of a card's rings, a power of two.
    #[arg(long, default_value_t = 4_096)]
    pub entries: u32,
    /// Threads of the reference engine.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Every random choice follows from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object on the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `promise`.
#[derive(Debug, Args)]
pub struct PromiseArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: PromiseAction,
}

/// What can be done with a promise.
#[derive(Debug, Subcommand)]
pub enum PromiseAction {
    /// Check signature and Merkle path.
    Verify {
        /// JSON file with the promise; `-` reads stdin.
        #[arg(long)]
        file: PathBuf,
        /// Chain id that the sequencer signs for.
        #[arg(long)]
        chain_id: u64,
        /// The sequencer's address.
        #[arg(long)]
        sequencer: Address,
        /// Print one JSON object on the last line of stdout.
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Example: ironlane"), "{} lacks an example", sub.get_name());
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("node.toml");
        std::fs::write(&file, "topology = \"quad\"\nblock_interval_s = 2\n").expect("write");
        let args = RunArgs { config: Some(file), topology: Some("duo".into()), ..RunArgs::default() };
        let config = args.config().expect("valid");
        assert_eq!((config.topology.as_str(), config.block_interval_s), ("duo", 2));
    }
}
