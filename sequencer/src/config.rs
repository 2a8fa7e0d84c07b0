//! What an operator can choose: one TOML file, each field of which a command-line flag can override.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The node's configuration. Every field has a default; an unknown field is an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Where journal, snapshots, archive and key live.
    pub datadir: PathBuf,
    /// Chain: a genesis.json in geth's format. None: the development chain (id 31337).
    pub genesis: Option<PathBuf>,
    /// Keeps nothing: the data directory is a temporary one, removed at the end.
    pub ephemeral: bool,
    /// A profile's name (`auto`, `duo`, `quad`, `sixteen`) or the path of a topology file.
    pub topology: String,
    /// Threads that recover senders; None: as the topology says.
    pub auth_workers: Option<usize>,
    /// What recovers senders.
    pub auth: AuthName,
    /// Accounts whose public keys are kept for batch verification, about 128 bytes each.
    pub auth_accounts: usize,
    /// Binary ingest.
    pub ingest: SocketAddr,
    /// JSON-RPC over HTTP and WebSocket.
    pub http: SocketAddr,
    /// Console and `/metrics`.
    pub metrics: SocketAddr,
    /// Seconds from one EVM block to the next.
    pub block_interval_s: u64,
    /// Fee recipient; None: the sequencer's own address.
    pub beneficiary: Option<alloy_primitives::Address>,
    /// File with the keystore's password; None: the empty password (development).
    pub password_file: Option<PathBuf>,
    /// Order and durability.
    pub sequence: SequenceConfig,
    /// What runs bytecode.
    pub executor: ExecutorSection,
    /// State store.
    pub state: StateSection,
    /// Journal.
    pub journal: JournalSection,
    /// Snapshots.
    pub snapshot: SnapshotSection,
    /// Blocks and receipts kept.
    pub history: HistorySection,
    /// Pool limits.
    pub pool: PoolSection,
    /// RPC limits.
    pub rpc: RpcSection,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            datadir: PathBuf::from("ironlane-data"),
            genesis: None,
            ephemeral: false,
            topology: "auto".into(),
            auth_workers: None,
            auth: AuthName::Auto,
            auth_accounts: 131_072,
            ingest: ([127, 0, 0, 1], 9545).into(),
            http: ([127, 0, 0, 1], 8545).into(),
            metrics: ([127, 0, 0, 1], 9090).into(),
            block_interval_s: 1,
            beneficiary: None,
            password_file: None,
            sequence: SequenceConfig::default(),
            executor: ExecutorSection::default(),
            state: StateSection::default(),
            journal: JournalSection::default(),
            snapshot: SnapshotSection::default(),
            history: HistorySection::default(),
            pool: PoolSection::default(),
            rpc: RpcSection::default(),
        }
    }
}

/// What recovers senders. No choice here changes an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthName {
    /// The fastest that the CPU has.
    Auto,
    /// libsecp256k1, one signature after the other.
    Scalar,
    /// Recovery in vector lanes, each signature on its own.
    Simd,
    /// Batch verification with known public keys, and recovery in vector lanes for the rest.
    Batch,
}

/// When mini-blocks are sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequenceConfig {
    /// Most transactions in a mini-block.
    pub mini_block_txs_max: usize,
    /// Oldest that an unsealed transaction may become, in microseconds, while the journal is busy.
    pub seal_interval_us_max: u64,
}

impl Default for SequenceConfig {
    fn default() -> Self {
        Self { mini_block_txs_max: 4096, seal_interval_us_max: 10_000 }
    }
}

/// What runs bytecode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// revm's interpreter alone.
    Interpreter,
    /// The interpreter, and machine code for hot contracts.
    Jit,
}

/// How transactions are executed. No choice here changes a result.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutorSection {
    /// What runs bytecode.
    pub engine: EngineName,
    /// Gas that a contract spends in the interpreter before it is compiled.
    pub jit_threshold_gas: u64,
    /// MiB of compiled code in memory.
    pub jit_cache_mib: u64,
    /// MiB of compiled code kept in the data directory for the next start; 0 keeps none.
    pub jit_disk_mib: u64,
}

impl Default for ExecutorSection {
    fn default() -> Self {
        Self { engine: EngineName::Jit, jit_threshold_gas: 1_000_000, jit_cache_mib: 512, jit_disk_mib: 512 }
    }
}

/// Sizes of the state store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateSection {
    /// Accounts to make room for at start; the tables grow beyond it without stopping.
    pub accounts: usize,
    /// Storage slots to make room for at start.
    pub slots: usize,
    /// MiB of previous values kept for reads at older versions.
    pub undo_mib: usize,
    /// Ask for huge pages.
    pub huge_pages: bool,
}

impl Default for StateSection {
    fn default() -> Self {
        Self { accounts: 1 << 16, slots: 1 << 16, undo_mib: 256, huge_pages: true }
    }
}

/// Sizes of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalSection {
    /// MiB of one segment.
    pub segment_mib: u64,
    /// Segments kept although a snapshot covers them; older ones are recycled. 0 keeps all.
    pub keep_segments: u64,
}

impl Default for JournalSection {
    fn default() -> Self {
        Self { segment_mib: 64, keep_segments: 0 }
    }
}

/// When snapshots are written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotSection {
    /// Blocks from one snapshot to the next; 0 writes none.
    pub interval_blocks: u64,
    /// Snapshots kept.
    pub keep: usize,
}

impl Default for SnapshotSection {
    fn default() -> Self {
        Self { interval_blocks: 600, keep: 2 }
    }
}

/// How much history is kept in memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistorySection {
    /// MiB of recent blocks in memory; older ones are read from the archive.
    pub memory_mib: usize,
}

impl Default for HistorySection {
    fn default() -> Self {
        Self { memory_mib: 512 }
    }
}

/// Pool limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSection {
    /// Executable transactions.
    pub pending_max: usize,
    /// Executable transactions of one account.
    pub pending_per_account_max: usize,
    /// Transactions that wait for an earlier nonce or a lower base fee.
    pub queued_max: usize,
    /// The same of one account.
    pub queued_per_account_max: usize,
    /// Seconds that a transaction may wait for an earlier nonce.
    pub queued_lifetime_s: u64,
}

impl Default for PoolSection {
    fn default() -> Self {
        Self {
            pending_max: 200_000,
            pending_per_account_max: 64,
            queued_max: 20_000,
            queued_per_account_max: 16,
            queued_lifetime_s: 60,
        }
    }
}

/// RPC limits that operators change; the others are fixed (docs/operations.md).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpcSection {
    /// Connections in all.
    pub connections_max: u32,
    /// Connections of one address.
    pub connections_per_address_max: u32,
    /// Origins of the web pages that may ask (`*`: every page). Absent: every page for the development chain, none but
    /// the node's own otherwise.
    pub cors_origins: Option<Vec<String>>,
}

impl Default for RpcSection {
    fn default() -> Self {
        Self { connections_max: 1000, connections_per_address_max: 32, cors_origins: None }
    }
}

impl NodeConfig {
    /// Origins of the web pages that may ask JSON-RPC on this chain.
    pub fn cors_origins(&self, development: bool) -> Vec<String> {
        let default = || if development { vec!["*".into()] } else { Vec::new() };
        self.rpc.cors_origins.clone().unwrap_or_else(default)
    }

    /// Reads a TOML file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration file {} cannot be read", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
    }

    /// Checks what types cannot.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.block_interval_s == 0 {
            bail!(
                "block_interval_s is 0: block timestamps count whole seconds and must rise, so use at least 1"
            );
        }
        if self.sequence.mini_block_txs_max == 0 {
            bail!("sequence.mini_block_txs_max is 0: a mini-block needs room for at least one transaction");
        }
        if self.auth_workers == Some(0) {
            bail!("auth_workers is 0: at least one thread must recover senders");
        }
        if self.auth_accounts == 0 || self.auth_accounts > 1 << 26 {
            bail!("auth_accounts is {}: choose 1 to {}", self.auth_accounts, 1 << 26);
        }
        if self.journal.segment_mib == 0 || self.journal.segment_mib > 4096 {
            bail!("journal.segment_mib is {}: choose 1 to 4096", self.journal.segment_mib);
        }
        if let Some(origin) = self.rpc.cors_origins.iter().flatten().find(|o| *o != "*" && !o.contains("://"))
        {
            bail!(
                "rpc.cors_origins names `{origin}`: an origin is a scheme and a host, as https://app.example, or *"
            );
        }
        if self.executor.jit_cache_mib == 0 {
            bail!(
                "executor.jit_cache_mib is 0: give compiled code some memory, or set engine to interpreter"
            );
        }
        if self.snapshot.keep == 0 {
            bail!(
                "snapshot.keep is 0: keep at least one snapshot, or set interval_blocks to 0 to write none"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_passes_and_survives_toml() {
        let config = NodeConfig::default();
        config.check().expect("default is valid");
        let text = toml::to_string(&config).expect("serializes");
        let back: NodeConfig = toml::from_str(&text).expect("parses");
        assert_eq!(format!("{config:?}"), format!("{back:?}"));
    }

    #[test]
    fn unknown_fields_and_zeros_are_refused_with_a_sentence() {
        let error = toml::from_str::<NodeConfig>("blok_interval_s = 1").expect_err("typo");
        assert!(error.to_string().contains("unknown field"));
        let zero = NodeConfig { block_interval_s: 0, ..NodeConfig::default() };
        assert!(zero.check().expect_err("zero").to_string().contains("at least 1"));
        let mut pages = NodeConfig::default();
        assert_eq!((pages.cors_origins(true), pages.cors_origins(false)), (vec!["*".into()], vec![]));
        pages.rpc.cors_origins = Some(vec!["app.example".into()]);
        assert!(pages.check().expect_err("no scheme").to_string().contains("https://app.example"));
        pages.rpc.cors_origins = Some(vec!["https://app.example".into()]);
        assert_eq!(pages.cors_origins(true), ["https://app.example"]);
    }
}
