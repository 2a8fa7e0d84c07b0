//! What the node counts. Stages hold cheap clones of these counters; a scrape reads them.

use ironlane_types::Reject;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// Label sets are small vectors of pairs, as the registry wants them.
type Labels = Vec<(&'static str, String)>;

/// The stages' counters and histograms.
#[derive(Clone)]
pub struct Metrics {
    /// Refusals and drops by reason, indexed by wire number.
    rejects: Arc<Vec<Option<Counter>>>,
    /// Transactions taken from sockets.
    pub received: Counter,
    /// Transactions admitted.
    pub admitted: Counter,
    /// Transactions executed.
    pub executed: Counter,
    /// Gas used.
    pub gas: Counter,
    /// Mini-blocks sealed.
    pub mini_blocks: Counter,
    /// EVM blocks sealed.
    pub blocks: Counter,
    /// Newest sealed EVM block.
    pub head_block: Gauge,
    /// Newest durable mini-block.
    pub durable_mini_block: Gauge,
    /// Closed blocks whose root is not known yet.
    pub root_lag: Gauge,
    /// Snapshots written.
    pub snapshots: Counter,
    /// Snapshots that failed.
    pub snapshot_failures: Counter,
    /// 1 while the node refuses new transactions because they could not be made durable.
    pub not_admitting: Gauge,
    /// Time of each compilation, in seconds.
    pub jit_compile: Histogram,
    latency: LatencyHistograms,
    readings: Arc<Mutex<Vec<Reading>>>,
}

/// A number that is read when somebody asks, as a ring's depth.
struct Reading {
    name: &'static str,
    help: &'static str,
    label: (&'static str, String),
    counter: bool,
    read: Box<dyn Fn() -> u64 + Send>,
}

/// Where a transaction spends its time, in seconds.
#[derive(Clone)]
pub struct LatencyHistograms {
    /// From reception to the executor's queue.
    pub admit: Histogram,
    /// From the executor's queue to the seal of its mini-block.
    pub sequence: Histogram,
    /// From the seal to stable storage.
    pub durable: Histogram,
    /// From reception to the acknowledgement.
    pub total: Histogram,
    /// State root of one EVM block.
    pub root: Histogram,
}

/// 10 µs to about 10 s, each bucket 1.6 times the one before.
fn buckets() -> impl Iterator<Item = f64> {
    (0..30).map(|power| 10e-6 * 1.6f64.powi(power))
}

impl Metrics {
    /// Makes the counters and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let received = counter("ironlane_transactions_received", "Transactions taken from clients");
        let admitted = counter("ironlane_transactions_admitted", "Transactions that passed admission");
        let executed = counter("ironlane_transactions_executed", "Transactions executed");
        let gas = counter("ironlane_gas_used", "Gas used by executed transactions");
        let mini_blocks = counter("ironlane_mini_blocks", "Mini-blocks sealed");
        let blocks = counter("ironlane_blocks", "EVM blocks sealed");
        let snapshots = counter("ironlane_snapshots", "Snapshots written");
        let snapshot_failures = counter("ironlane_snapshot_failures", "Snapshots that could not be written");
        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let head_block = gauge("ironlane_head_block", "Newest sealed EVM block");
        let durable_mini_block = gauge("ironlane_durable_mini_block", "Newest durable mini-block");
        let root_lag = gauge("ironlane_root_lag_blocks", "Closed blocks whose state root is not known yet");
        let not_admitting =
            gauge("ironlane_not_admitting", "1 while new transactions could not be made durable");

        let family: Family<Labels, Counter> = Family::default();
        let codes = 1 + Reject::ALL.iter().map(|reject| *reject as usize).max().unwrap_or(0);
        let mut rejects = vec![None; codes];
        for reject in Reject::ALL {
            let labels = vec![("reason", reject.label().to_string())];
            rejects[*reject as usize] = Some(family.get_or_create(&labels).clone());
        }
        registry.register("ironlane_rejects", "Transactions refused or dropped, by reason", family);

        let stages: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(buckets()));
        let stage = |name: &str| stages.get_or_create(&vec![("stage", name.to_string())]).clone();
        let latency = LatencyHistograms {
            admit: stage("admit"),
            sequence: stage("sequence"),
            durable: stage("durable"),
            total: stage("total"),
            root: stage("root"),
        };
        registry.register("ironlane_latency_seconds", "Time spent in each stage", stages.clone());
        let jit_compile = Histogram::new(buckets());
        let help = "Time of each compilation of a hot code";
        registry.register("ironlane_jit_compile_seconds", help, jit_compile.clone());

        let readings = Arc::new(Mutex::new(Vec::new()));
        registry.register_collector(Box::new(Readings(readings.clone())));
        Self {
            rejects: Arc::new(rejects),
            received,
            admitted,
            executed,
            gas,
            mini_blocks,
            blocks,
            head_block,
            durable_mini_block,
            root_lag,
            snapshots,
            snapshot_failures,
            not_admitting,
            jit_compile,
            latency,
            readings,
        }
    }

    /// Counts a refusal or a drop.
    pub fn reject(&self, reason: Reject) {
        if let Some(Some(counter)) = self.rejects.get(reason as usize) {
            counter.inc();
        }
    }

    /// Refusals so far, by reason, those at zero left out.
    pub fn rejects(&self) -> Vec<(Reject, u64)> {
        let count = |reject: &Reject| self.rejects[*reject as usize].as_ref().map_or(0, Counter::get);
        Reject::ALL.iter().map(|reject| (*reject, count(reject))).filter(|(_, n)| *n > 0).collect()
    }

    /// The latency histograms.
    pub fn latency(&self) -> &LatencyHistograms {
        &self.latency
    }

    /// Registers a gauge that is read at each scrape.
    pub fn read_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        label: (&'static str, String),
        read: impl Fn() -> u64 + Send + 'static,
    ) {
        self.readings.lock().push(Reading { name, help, label, counter: false, read: Box::new(read) });
    }

    /// Registers a counter that is read at each scrape.
    pub fn read_counter(
        &self,
        name: &'static str,
        help: &'static str,
        label: (&'static str, String),
        read: impl Fn() -> u64 + Send + 'static,
    ) {
        self.readings.lock().push(Reading { name, help, label, counter: true, read: Box::new(read) });
    }

    /// All readings: name, label value, number.
    pub fn readings(&self) -> Vec<(&'static str, String, u64)> {
        self.readings.lock().iter().map(|r| (r.name, r.label.1.clone(), (r.read)())).collect()
    }
}

/// The collector over the readings.
struct Readings(Arc<Mutex<Vec<Reading>>>);

impl std::fmt::Debug for Readings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Readings({})", self.0.lock().len())
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let readings = self.0.lock();
        let mut names: Vec<&'static str> = readings.iter().map(|reading| reading.name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            // The text format wants all samples of a metric together, under one description.
            let mut group = readings.iter().filter(|reading| reading.name == name).peekable();
            let Some(first) = group.peek() else { continue };
            let kind = if first.counter {
                ConstCounter::new(0u64).metric_type()
            } else {
                ConstGauge::new(0i64).metric_type()
            };
            let mut metric = encoder.encode_descriptor(name, first.help, None, kind)?;
            for reading in group {
                let labels = [(reading.label.0, reading.label.1.as_str())];
                let value = (reading.read)();
                let sample = metric.encode_family(&labels)?;
                if reading.counter {
                    ConstCounter::new(value).encode(sample)?;
                } else {
                    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(sample)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_counters_reasons_and_readings() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.received.inc_by(3);
        metrics.reject(Reject::NonceTooLow);
        metrics.latency().total.observe(0.001);
        metrics.read_gauge("ironlane_link_depth", "Items in a link", ("link", "a".into()), || 5);
        metrics.read_gauge("ironlane_link_depth", "Items in a link", ("link", "b".into()), || 6);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        for wanted in [
            "ironlane_transactions_received_total 3",
            "ironlane_rejects_total{reason=\"nonce_too_low\"} 1",
            "ironlane_rejects_total{reason=\"pool_full\"} 0",
            "ironlane_link_depth{link=\"a\"} 5",
            "ironlane_link_depth{link=\"b\"} 6",
            "ironlane_latency_seconds_count{stage=\"total\"} 1",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
        assert_eq!(text.matches("# HELP ironlane_link_depth").count(), 1);
        assert_eq!(metrics.rejects(), vec![(Reject::NonceTooLow, 1)]);
    }
}
