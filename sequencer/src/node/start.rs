//! Putting the node together.

use crate::config::NodeConfig;
use crate::node::auth;
use crate::node::chain::Chain;
use crate::node::console::{self, Console, Identity};
use crate::node::datadir::DataDir;
use crate::node::desk::RpcDesk;
use crate::node::engine;
use crate::node::ingress::{NodeIngress, NodeProofs};
use crate::node::lanes::PromiseLanes;
use crate::node::messages::{Answer, CommitItem, Rooted};
use crate::node::metrics::Metrics;
use crate::node::movable::MovableExecutor;
use crate::node::recovery::{Recovered, recover};
use crate::node::shared::{Halt, Shared};
use crate::node::stages::admit::{self, AdmitStage, NewestState};
use crate::node::stages::commit::{self, CommitStage};
use crate::node::stages::ingest::IngestStage;
use crate::node::stages::root::{self, RootStage, Snapshots};
use crate::node::stages::sequence::{self, BlockPolicy, SequenceStage};
use alloy_primitives::Bytes;
use anyhow::Context;
use ironlane_executor::ChainSpec;
use ironlane_fpga::Waker;
use ironlane_history::History;
use ironlane_hostinfo::CpuTopology;
use ironlane_netstack::{IngestConfig, TcpConfig, TcpIngest, wire::Welcome};
use ironlane_pool::{Admission, Feedback, Limits, Pending, PoolConfig, Rules};
use ironlane_promise::Signer;
use ironlane_rpc::{PendingBlocks, RpcConfig, RpcContext};
use ironlane_runtime::{Builder, HostClock, Running, Topology, WallClock, read_host};
use ironlane_types::{ClosedBlock, Submission};
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// What an acknowledgement stands for.
pub const DURABILITY: &str = "durable";
/// JSON-RPC submissions that may wait for the admit stage.
const RPC_QUEUE: usize = 4096;
/// Questions and proof requests that may wait.
const QUESTION_QUEUE: usize = 1024;
/// How long a stopping node finishes what it has taken.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// Admitted hashes that a slow subscriber may leave unread.
const ADMITTED_QUEUE: usize = 8192;

/// Where a running node listens, and what it is.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// JSON-RPC, HTTP and WebSocket.
    pub http: SocketAddr,
    /// Binary ingest.
    pub ingest: SocketAddr,
    /// Console and metrics.
    pub metrics: SocketAddr,
    /// Chain id.
    pub chain_id: u64,
    /// Address that signs mini-blocks.
    pub sequencer: alloy_primitives::Address,
    /// What an acknowledgement stands for.
    pub durability: &'static str,
    /// Height of the newest EVM block at the start.
    pub head_block: u64,
    /// Newest mini-block at the start.
    pub mini_block: u64,
}

/// A running node.
pub struct Node {
    /// Where it listens.
    pub addresses: Addresses,
    /// What it chose, one sentence each: lanes, engines, transports, and why others were refused.
    pub choices: Vec<String>,
    lanes: Running,
    shared: Arc<Shared>,
    history: History,
    hashes: ironlane_executor::BlockHashes,
    rpc: ironlane_rpc::RpcHandle,
    runtime: tokio::runtime::Runtime,
    /// Last: an ephemeral directory goes away when everything else is gone.
    datadir: DataDir,
}

impl Node {
    /// Why the node halted, if it did.
    pub fn halt_reason(&self) -> Option<Halt> {
        self.shared.halt_reason()
    }

    /// Its data directory.
    pub fn datadir(&self) -> &Path {
        self.datadir.path()
    }

    /// Stops in order: no new requests, lanes flush, archive closes. Answers why it had halted, if it had.
    pub fn stop(self) -> anyhow::Result<Option<Halt>> {
        self.shared.stop();
        self.runtime.block_on(self.rpc.stop());
        if !self.lanes.drain_and_shutdown(DRAIN_GRACE) {
            tracing::warn!("not everything under way was finished: what was not acknowledged may be lost");
        }
        self.hashes.close();
        self.history.close()?;
        self.runtime.shutdown_background();
        Ok(self.shared.halt_reason())
    }
}

fn topology(config: &NodeConfig, host: &CpuTopology, choices: &mut Vec<String>) -> anyhow::Result<Topology> {
    let mut topology = Topology::choose(&config.topology, host)?;
    choices.push(format!("topology {} on {} usable cores", topology.name, host.effective_cores()));
    if let Some(workers) = config.auth_workers {
        topology.auth.workers = workers;
        topology.auth.cores.clear();
    }
    choices.extend(topology.describe());
    Ok(topology)
}

fn pool_rules(spec: &ChainSpec) -> Rules {
    use ironlane_executor::revm::primitives::hardfork::SpecId;
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let spec_id = spec.spec_id(1, now);
    if spec_id.is_enabled_in(SpecId::OSAKA) {
        Rules::OSAKA
    } else if spec_id.is_enabled_in(SpecId::PRAGUE) {
        Rules::PRAGUE
    } else if spec_id.is_enabled_in(SpecId::SHANGHAI) {
        Rules::SHANGHAI
    } else {
        Rules::BERLIN
    }
}

/// Opens the data directory, recovers, and starts everything. When it returns, the node answers.
pub fn start(config: &NodeConfig) -> anyhow::Result<Node> {
    config.check()?;
    let started = Instant::now();
    let datadir =
        if config.ephemeral { DataDir::ephemeral(&config.datadir)? } else { DataDir::open(&config.datadir)? };
    let chain = Chain::open(&datadir, config.genesis.as_deref())?;
    let spec = chain.spec.clone();
    let password = match &config.password_file {
        Some(path) => Signer::read_password(path)?,
        None => Vec::new(),
    };
    let (signer, created) = Signer::open_or_create(&datadir.keystore(), &password)?;
    let signer = Arc::new(signer);
    let mut choices = Vec::new();
    if created {
        choices.push(format!("a new sequencer key was made in {}", datadir.keystore().display()));
    }
    let host = read_host();
    let topology = topology(config, &host, &mut choices)?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let cpus = engine::cpus_for_compiler(&host, &topology);
    let engine = engine::start(&config.executor, &datadir, cpus, &metrics, &mut choices);
    let recovered = recover(config, &datadir, &chain, &signer, engine)?;
    drop(chain);
    choices.push(recovered.journal_report.status.clone());
    if let Some(height) = recovered.from_snapshot {
        choices.push(format!("state from the snapshot of block {height}"));
    }
    if let Some(torn) = recovered.journal_report.torn {
        choices.push(format!("a commit that a crash had interrupted was cut at {torn}"));
    }
    let mut builder = Builder::new(topology)?;
    let shared = Arc::new(Shared::recovered(recovered.height, recovered.tip.number));
    let desk = Arc::new(RpcDesk::default());
    let promise_lanes = Arc::new(PromiseLanes::default());
    let pending = PendingBlocks::default();
    metrics.head_block.set(recovered.tip.number as i64);
    metrics.durable_mini_block.set(recovered.height as i64);

    let Recovered {
        state,
        executor,
        trie,
        tip,
        parent,
        history,
        journal,
        height,
        digest,
        timestamp_us,
        snapshots,
        ..
    } = recovered;
    let hashes = executor.hashes().clone();

    // Links, by the names of the topology.
    let (to_admit, submissions) = builder.ring::<Submission>("ingest-admit")?;
    let (refusals, from_admit) = builder.ring::<Answer>("admit-ingest")?;
    let (to_sequence, ready) = builder.ring::<Pending>("admit-sequence")?;
    let (feedback, from_sequence) = builder.ring::<Feedback>("sequence-admit")?;
    let (to_commit, items) = builder.ring::<CommitItem>("sequence-commit")?;
    let (to_root, closed) = builder.ring::<Box<ClosedBlock>>("sequence-root")?;
    let (rooted_tx, rooted) = builder.ring::<Rooted>("root-commit")?;
    let (answers, from_commit) = builder.ring::<Answer>("commit-ingest")?;
    let (rpc_tx, rpc_rx) = crossbeam_channel::bounded(RPC_QUEUE);
    let (questions_tx, questions) = crossbeam_channel::bounded(QUESTION_QUEUE);
    let (proofs_tx, proofs) = crossbeam_channel::bounded(QUESTION_QUEUE);
    let (admitted, _) = broadcast::channel(ADMITTED_QUEUE);
    let (admit_bell, sequence_bell, root_bell) =
        (builder.doorbell("admit")?, builder.doorbell("sequence")?, builder.doorbell("root")?);

    // Ingest.
    let welcome = Welcome {
        version: 0,
        frame_bytes_max: 0,
        window: 0,
        chain_id: spec.chain_id,
        sequencer: signer.address().0.0,
        durability: DURABILITY.into(),
    };
    let server = TcpIngest::bind(config.ingest, TcpConfig::default(), IngestConfig::default(), welcome)
        .with_context(|| format!("binary ingest cannot listen on {}", config.ingest))?;
    let ingest_address = server.local_addr();
    choices.push(format!("ingest: TCP over io_uring on {ingest_address}"));
    let ingest =
        IngestStage::new(server, to_admit, from_admit, from_commit, promise_lanes.clone(), metrics.clone());
    builder.stage(Box::new(ingest))?;

    // Admission.
    let workers = builder.topology().auth.clone();
    let layout = ironlane_fpga::backend::Config {
        workers: workers.workers,
        cpus: workers.cores.clone(),
        // Spinning on a core of one's own shortens the way; on a shared one it takes time from somebody who works.
        spin_us: if workers.cores.is_empty() { 0 } else { 20 },
        ..Default::default()
    };
    let bell = admit_bell.clone();
    let chosen = auth::choose(config, &layout, &(Arc::new(move || bell.ring()) as Waker))?;
    choices.push(chosen.report);
    if let Some(stats) = chosen.stats {
        for (name, read) in auth::COUNTERS {
            let stats = stats.clone();
            let label = ("what", (*name).to_string());
            metrics.read_counter(
                "ironlane_auth",
                "What batch verification of senders did",
                label,
                move || read(&stats),
            );
        }
    }
    let open = executor.context();
    let pool_config = PoolConfig {
        chain_id: spec.chain_id,
        unprotected_allowed: false,
        rules: pool_rules(&spec),
        limits: Limits {
            pending_max: config.pool.pending_max,
            pending_account_max: config.pool.pending_per_account_max,
            queued_max: config.pool.queued_max,
            queued_account_max: config.pool.queued_per_account_max,
            queued_lifetime_s: config.pool.queued_lifetime_s,
            ..Limits::default()
        },
        base_fee_wei: open.and_then(|open| open.base_fee).or(parent.base_fee_per_gas).unwrap_or(0),
        block_gas_max: open.map_or(parent.gas_limit, |open| open.gas_limit),
    };
    let pool = Admission::new(pool_config, chosen.engine, NewestState(state.clone()))?;
    let links = admit::Links {
        submissions,
        rpc: rpc_rx,
        questions,
        ready: to_sequence,
        feedback: from_sequence,
        answers: refusals,
        admitted: admitted.clone(),
    };
    builder.stage(Box::new(AdmitStage::new(pool, links, desk.clone(), shared.clone(), metrics.clone())))?;

    // Order and execution.
    let policy = BlockPolicy {
        interval_s: config.block_interval_s,
        beneficiary: config.beneficiary.unwrap_or_else(|| signer.address()),
        extra_data: Bytes::from_static(b"ironlane"),
        sequence: config.sequence.clone(),
    };
    let links = sequence::Links { ready, feedback, commit: to_commit, root: to_root };
    let clock = WallClock::new(Arc::new(HostClock), timestamp_us);
    let sequence = SequenceStage::new(
        MovableExecutor::new(executor),
        links,
        policy,
        pending.clone(),
        shared.clone(),
        metrics.clone(),
        height,
        parent,
        clock,
    );
    builder.stage(Box::new(sequence))?;

    // Durability and promises.
    let links = commit::Links { items, rooted, answers, sequence_bell, root_bell: root_bell.clone() };
    let commit = CommitStage::new(
        journal,
        signer.clone(),
        spec.chain_id,
        links,
        desk.clone(),
        history.clone(),
        shared.clone(),
        metrics.clone(),
        promise_lanes,
        digest,
    );
    builder.stage(Box::new(commit))?;

    // Roots, proofs, snapshots.
    let snapshots = (!config.ephemeral).then_some(Snapshots {
        dir: snapshots,
        interval_blocks: config.snapshot.interval_blocks,
        keep: config.snapshot.keep,
    });
    let links = root::Links { closed, rooted: rooted_tx, proofs };
    let root = RootStage::new(
        trie,
        tip,
        links,
        hashes.clone(),
        state.clone(),
        history.clone(),
        shared.clone(),
        metrics.clone(),
        snapshots,
    );
    builder.stage(Box::new(root))?;

    for gauge in builder.gauges() {
        let label = ("link", gauge.name().to_string());
        let (depth, high) = (gauge.clone(), gauge);
        metrics
            .read_gauge("ironlane_link_depth", "Items in a link", label.clone(), move || depth.len() as u64);
        metrics.read_gauge("ironlane_link_depth_max", "Most items that a link has held", label, move || {
            high.high_water() as u64
        });
    }
    let stats = state.clone();
    let table = ("table", "accounts".to_string());
    metrics.read_gauge("ironlane_state_records", "Records in the state store", table, move || {
        stats.stats().accounts
    });
    let stats = state.clone();
    let table = ("table", "slots".to_string());
    metrics.read_gauge("ironlane_state_records", "Records in the state store", table, move || {
        stats.stats().slots
    });

    let rpc_threads = builder.topology().rpc_threads;
    let lanes_text = builder.topology().describe();
    let lanes = builder.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(rpc_threads)
        .thread_name("rpc")
        .enable_all()
        .build()
        .context("the RPC threads cannot be started")?;
    let client_version = format!("Ironlane/v{}/linux-x86_64/rust", env!("CARGO_PKG_VERSION"));
    let ingress = NodeIngress::new(rpc_tx, questions_tx, admit_bell, desk, shared.clone(), admitted);
    let context = RpcContext {
        state: state.clone(),
        history: history.clone(),
        spec: spec.clone(),
        ingress: Arc::new(ingress),
        proofs: Arc::new(NodeProofs::new(proofs_tx, root_bell)),
        pending,
        client_version: client_version.clone(),
        sequencer: signer.address(),
    };
    let rpc_config = RpcConfig {
        listen: config.http,
        cors_origins: config.cors_origins(spec.chain_id == 31337 && config.genesis.is_none()),
        connections_max: config.rpc.connections_max,
        connections_per_address_max: config.rpc.connections_per_address_max,
        ..RpcConfig::default()
    };
    let rpc = runtime
        .block_on(ironlane_rpc::serve(context, rpc_config))
        .with_context(|| format!("JSON-RPC cannot listen on {}", config.http))?;
    for (place, (name, _)) in rpc.stats().all().into_iter().enumerate() {
        let stats = rpc.stats();
        let label = ("what", name.to_string());
        metrics.read_counter("ironlane_rpc", "What JSON-RPC served and refused", label, move || {
            stats.all().get(place).map_or(0, |(_, count)| *count)
        });
    }
    let identity = Identity {
        client: client_version,
        chain_id: spec.chain_id,
        sequencer: signer.address().to_string(),
        durability: DURABILITY.into(),
        lanes: lanes_text,
        choices: choices.clone(),
    };
    let console = Console { identity, registry, metrics, started };
    let metrics_address = runtime
        .block_on(console::serve(config.metrics, console))
        .with_context(|| format!("the console cannot listen on {}", config.metrics))?;
    let addresses = Addresses {
        http: rpc.local_addr(),
        ingest: ingest_address,
        metrics: metrics_address,
        chain_id: spec.chain_id,
        sequencer: signer.address(),
        durability: DURABILITY,
        head_block: tip.number,
        mini_block: height,
    };
    Ok(Node { addresses, choices, lanes, shared, history, hashes, rpc, runtime, datadir })
}
