//! `ironbench e2e`: the whole way of a transaction, from a socket to its durable acknowledgement, against a node that runs as
//! its own process.
//!
//! A run: sign everything ([`workload`]), write a genesis ([`genesis`]), start the node ([`node`]), give the load
//! ([`load`]), stop the node, and have its journal replayed by `ironlane verify`.

mod genesis;
mod load;
mod node;
mod sys;
mod workload;

pub(crate) use load::Rate;
pub(crate) use workload::{Auth, Workload};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use load::{Load, Moment, Outcome};
use node::{Node, Usage};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use workload::{CHAIN_ID, Plan};

/// How frames reach the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// TCP over the loopback interface.
    Tcp,
    /// UDP.
    Udp,
    /// AF_XDP.
    #[value(name = "af_xdp")]
    AfXdp,
    /// DPDK.
    Dpdk,
    /// Shared memory.
    Shm,
}

/// Options of `ironbench e2e`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example: ironbench e2e --workload transfer --seconds 10 --rate 10000 --transport tcp --json"
)]
pub(crate) struct Args {
    /// What the transactions do.
    #[arg(long, value_enum, default_value = "transfer")]
    pub(crate) workload: Workload,
    /// Length of the measured window.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Transactions a second, or `max`.
    #[arg(long, default_value = "max")]
    pub(crate) rate: Rate,
    /// How frames reach the node.
    #[arg(long, value_enum, default_value = "tcp")]
    pub(crate) transport: Transport,
    /// Whether the node recovers each sender, or is given a hint.
    #[arg(long, value_enum, default_value = "recover")]
    pub(crate) auth: Auth,
    /// Accounts that send, in turn.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) senders: u64,
    /// Size of the space from which recipients are drawn.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) recipients: u64,
    /// Connections; each has two threads here.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: u64,
    /// Transactions in flight on one connection (the node's own window limits it too).
    #[arg(long, default_value_t = 8_192)]
    pub(crate) window: u64,
    /// Load before the measured window.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) warmup_seconds: f64,
    /// How long the last answers may take.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) timeout_seconds: f64,
    /// At a constant rate: shortest pause between two writes of a connection.
    #[arg(long, default_value_t = 100)]
    pub(crate) tick_us: u64,
    /// At `max`: transactions signed for each second of the run.
    #[arg(long, default_value_t = 60_000)]
    pub(crate) supply_tps: u64,
    /// The same seed sends the same bytes.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Two seconds with few senders: whether it works, not how fast.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// The node's data directory (must be empty or new; kept). Absent: a temporary one in the target folder.
    #[arg(long)]
    pub(crate) datadir: Option<PathBuf>,
    /// Keep the temporary data directory, and the node's log.
    #[arg(long)]
    pub(crate) keep: bool,
    /// The node's binary. Absent: the one beside this program, built when missing.
    #[arg(long)]
    pub(crate) node: Option<PathBuf>,
    /// A further argument for `ironlane run`; may be repeated, as `--node-arg=--topology=duo`.
    #[arg(long = "node-arg", allow_hyphen_values = true)]
    pub(crate) node_args: Vec<String>,
}

impl Args {
    /// `--smoke` makes a run small; the rest stays as asked.
    fn effective(&self) -> Args {
        let mut args = self.clone();
        if self.smoke {
            args.seconds = args.seconds.min(1.5);
            args.warmup_seconds = args.warmup_seconds.min(0.5);
            args.senders = args.senders.min(100);
            args.recipients = args.recipients.min(1_000);
            args.supply_tps = args.supply_tps.min(5_000);
            // As fast as possible would use up the few prepared transactions before the window opens.
            args.rate = Rate::PerSecond(match args.rate {
                Rate::PerSecond(rate) => rate.min(2_000.0),
                Rate::Max => 1_000.0,
            });
        }
        args.senders = args.senders.next_multiple_of(args.connections.max(1));
        args
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.transport != Transport::Tcp {
            bail!("the node takes transactions over tcp only; {} is not built yet", name(&self.transport));
        }
        if self.workload == Workload::Uniswap {
            bail!(
                "the uniswap workload needs the pool contracts, which are not built yet: use transfer, erc20 or mixed"
            );
        }
        for (flag, value) in
            [("connections", self.connections), ("senders", self.senders), ("window", self.window)]
        {
            if value == 0 {
                bail!("--{flag} is 0: use at least 1");
            }
        }
        if self.recipients == 0 || self.supply_tps == 0 {
            bail!("--recipients and --supply-tps must be above 0");
        }
        if self.connections > 32 {
            bail!("--connections is {}: the node takes 32 from one address", self.connections);
        }
        let sensible = |s: f64| s.is_finite() && (0.0..=86_400.0).contains(&s);
        if !sensible(self.seconds) || self.seconds == 0.0 {
            bail!("--seconds must be above 0 and at most a day");
        }
        if !sensible(self.warmup_seconds) || !sensible(self.timeout_seconds) {
            bail!("--warmup-seconds and --timeout-seconds must be from 0 to a day");
        }
        Ok(())
    }

    fn plan(&self) -> Plan {
        let seconds = self.seconds + self.warmup_seconds;
        let count = match self.rate {
            // A little more than is due, so that the end of the supply is never taken for the end of the time.
            Rate::PerSecond(rate) => (rate * (seconds + 0.1)).ceil() as u64 + self.connections,
            Rate::Max => (self.supply_tps as f64 * seconds).ceil() as u64,
        };
        Plan {
            workload: self.workload,
            auth: self.auth,
            senders: self.senders,
            recipients: self.recipients,
            connections: self.connections,
            count,
            seed: self.seed,
        }
    }
}

/// Runs the benchmark.
///
/// # Errors
/// When it cannot be run. A run whose `replay_ok` is false is no error here: the caller looks at the field.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let args = args.effective();
    args.check()?;
    let binary = match &args.node {
        Some(path) => path.clone(),
        None => node::binary()?,
    };
    let target = target_folder()?;
    let plan = args.plan();
    let bar = progress_bar(plan.count, "signing");
    let corpus = workload::corpus(&plan, &target.join("bench-cache"), &|done| bar.set_position(done))?;
    bar.finish_and_clear();
    let how = if corpus.from_cache { "from the cache" } else { "signed now, and kept for the next run" };
    eprintln!("{} transactions of {} senders, {how}", corpus.count, plan.senders);

    let place = Place::new(&args, &target)?;
    let senders = workload::senders(plan.seed, plan.senders);
    let genesis = genesis::genesis(&senders, plan.workload != Workload::Transfer)?;
    let genesis_file = place.outer.join("genesis.json");
    std::fs::write(&genesis_file, genesis.to_string())
        .with_context(|| format!("{} cannot be written", genesis_file.display()))?;
    let log = place.outer.join("node.log");
    let node = Node::start(&binary, &place.datadir, &genesis_file, &log, &args.node_args)?;

    let load = Load {
        rate: args.rate,
        window: args.window,
        warmup: Duration::from_secs_f64(args.warmup_seconds),
        seconds: Duration::from_secs_f64(args.seconds),
        timeout: Duration::from_secs_f64(args.timeout_seconds),
        tick: Duration::from_micros(args.tick_us),
    };
    let bar = progress_bar(plan.count, "loading");
    let (mut before, mut after) = (None, None);
    let outcome = load::run(node.ingest, CHAIN_ID, &corpus, &load, &mut |moment| match moment {
        Moment::WindowBegins => before = node.usage(),
        Moment::WindowEnds => after = node.usage(),
        Moment::Progress(answered) => bar.set_position(answered),
    })
    .with_context(|| format!("the end of the node's log:\n{}", node.log_tail()))?;
    bar.finish_and_clear();
    if outcome.seconds <= 0.0 {
        let why = outcome.error.as_deref().unwrap_or(
            "all prepared transactions were sent during the warm-up: raise --supply-tps, or shorten --warmup-seconds",
        );
        bail!("nothing was measured: {why}\nthe end of the node's log:\n{}", node.log_tail());
    }
    node.stop()?;

    let bar = spinner("replaying the journal with plain revm");
    let (replay_ok, replay) = node::verify(&binary, &place.datadir)?;
    bar.finish_and_clear();
    let report = report(&args, &place, &outcome, (before, after), replay_ok, &replay);
    summary(&args, &report, &outcome);
    if replay_ok {
        place.clean();
    } else {
        eprintln!("the replay differs, so {} is kept", place.outer.display());
    }
    Ok(report)
}

fn report(
    args: &Args,
    place: &Place,
    outcome: &Outcome,
    (before, after): (Option<Usage>, Option<Usage>),
    replay_ok: bool,
    replay: &Value,
) -> Value {
    let cpu_us = match (before, after) {
        (Some(b), Some(a)) => a.cpu_us.saturating_sub(b.cpu_us),
        _ => 0,
    };
    let quantile = |q: f64| outcome.latency_us.value_at_quantile(q);
    let reasons: serde_json::Map<String, Value> = outcome
        .reject_reasons
        .iter()
        .map(|(code, n)| {
            let label = ironlane_types::Reject::from_code(*code).map_or("unknown", |r| r.label());
            (label.to_owned(), (*n).into())
        })
        .collect();
    json!({
        "bench": "e2e",
        "workload": name(&args.workload),
        "transport": name(&args.transport),
        "auth": name(&args.auth),
        "durability": outcome.durability,
        "rate": match args.rate { Rate::Max => json!("max"), Rate::PerSecond(r) => json!(r) },
        "offered_tps": rounded(outcome.offered_tps),
        "committed_tps": rounded(outcome.committed_tps),
        "sent": outcome.sent,
        "acknowledged": outcome.acknowledged,
        "reverted": outcome.reverted,
        "rejected": outcome.rejected,
        "timed_out": outcome.timed_out,
        "latency_us": {
            "p50": quantile(0.50),
            "p90": quantile(0.90),
            "p99": quantile(0.99),
            "p999": quantile(0.999),
            "max": outcome.latency_us.max(),
        },
        "node_cpu_us_per_tx": rounded(cpu_us as f64 / outcome.committed_in_window.max(1) as f64),
        "node_rss_mib": rounded(after.map_or(0.0, |u| u.rss_mib)),
        "seconds": rounded(outcome.seconds),
        "replay_ok": replay_ok,
        "replay": replay,
        "included_in_all": outcome.included_in_all,
        "reject_reasons": reasons,
        "error": outcome.error,
        "supply_exhausted": outcome.supply_exhausted,
        "senders": args.senders,
        "connections": args.connections,
        "window": args.window,
        "warmup_seconds": args.warmup_seconds,
        "filesystem": place.filesystem,
        "node_args": args.node_args,
    })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The name of a value as the command line spells it.
fn name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

/// The readable summary, on stderr.
fn summary(args: &Args, report: &Value, outcome: &Outcome) {
    let ms = |q: f64| outcome.latency_us.value_at_quantile(q) as f64 / 1_000.0;
    let from = if args.rate == Rate::Max { "from the send" } else { "from the scheduled send" };
    eprintln!(
        "{} over {} ({}), durability {} on {}, {:.1} s after {:.1} s of warm-up",
        name(&args.workload),
        name(&args.transport),
        name(&args.auth),
        outcome.durability,
        report["filesystem"].as_str().unwrap_or("?"),
        outcome.seconds,
        args.warmup_seconds
    );
    eprintln!(
        "  offered {:>9.0} a second   committed {:>9.0} a second   node {} µs of CPU a transaction, {} MiB",
        outcome.offered_tps, outcome.committed_tps, report["node_cpu_us_per_tx"], report["node_rss_mib"]
    );
    eprintln!(
        "  latency {from}: p50 {:.2} ms   p90 {:.2}   p99 {:.2}   p99.9 {:.2}   max {:.2}",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        outcome.latency_us.max() as f64 / 1_000.0
    );
    eprintln!(
        "  sent {} = acknowledged {} ({} reverted) + rejected {} + timed out {}",
        outcome.sent, outcome.acknowledged, outcome.reverted, outcome.rejected, outcome.timed_out
    );
    if !outcome.reject_reasons.is_empty() {
        eprintln!("  rejections of the whole run: {}", report["reject_reasons"]);
    }
    if outcome.supply_exhausted {
        eprintln!("  all prepared transactions were sent before the time was over: raise --supply-tps");
    }
    if let Some(error) = &outcome.error {
        eprintln!("  ended early: {error}");
    }
    let verdict =
        if report["replay_ok"] == true { "the same receipts and state root" } else { "NOT the same" };
    eprintln!("  replay by plain revm and an independent trie: {verdict}");
}

/// Where a run keeps its files.
#[derive(Debug)]
struct Place {
    /// Genesis and log.
    outer: PathBuf,
    datadir: PathBuf,
    remove: bool,
    /// Type of the file system under the data directory.
    filesystem: String,
}

impl Place {
    fn new(args: &Args, target: &Path) -> anyhow::Result<Place> {
        let (outer, datadir) = match &args.datadir {
            Some(datadir) => {
                if std::fs::read_dir(datadir).is_ok_and(|mut d| d.next().is_some()) {
                    bail!("{} is not empty: a run starts from its own genesis", datadir.display());
                }
                (datadir.clone(), datadir.join("node"))
            }
            None => {
                let outer = target.join("tmp").join(format!("e2e-{}", std::process::id()));
                if outer.exists() {
                    // Left behind by an earlier process of the same number.
                    std::fs::remove_dir_all(&outer).with_context(|| format!("{}", outer.display()))?;
                }
                (outer.clone(), outer.join("node"))
            }
        };
        std::fs::create_dir_all(&outer).with_context(|| format!("{} cannot be made", outer.display()))?;
        let filesystem = filesystem_of(&outer);
        let remove = args.datadir.is_none() && !args.keep;
        if !remove {
            eprintln!("data directory, genesis and log are kept in {}", outer.display());
        }
        Ok(Place { outer, datadir, remove, filesystem })
    }

    fn clean(&self) {
        if self.remove
            && let Err(error) = std::fs::remove_dir_all(&self.outer)
        {
            eprintln!("{} could not be removed: {error}", self.outer.display());
        }
    }
}

/// The type of the file system that holds a path, as `/proc/mounts` names it.
fn filesystem_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mount, _)| path.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// The target folder that this program was built into.
fn target_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let folder = own.ancestors().skip(1).find(|f| !f.ends_with("deps")).and_then(Path::parent);
    Ok(folder.context("this program has no folder")?.to_owned())
}

fn progress_bar(length: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(what);
    let style = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec}";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn spinner(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests;
