//! What runs bytecode: from the configuration to the executor, and what metrics show of it.

use crate::config::{EngineName, ExecutorSection};
use crate::node::datadir::DataDir;
use crate::node::metrics::Metrics;
use ironlane_executor::Engine;
use ironlane_executor::tier::{DiskRefusal, Refusal, Tier, TierConfig, TierStats};
use ironlane_hostinfo::CpuTopology;
use ironlane_runtime::Topology;
use std::sync::Arc;
use std::time::Duration;

/// Starts the engine. Where the JIT does not work the interpreter serves, and the choice says why.
pub fn start(
    config: &ExecutorSection,
    datadir: &DataDir,
    cpus: Vec<usize>,
    metrics: &Metrics,
    choices: &mut Vec<String>,
) -> Engine {
    if config.engine == EngineName::Interpreter {
        choices.push("executor: interpreter (revm)".into());
        return Engine::Interpreter;
    }
    let histogram = metrics.jit_compile.clone();
    let tier = TierConfig {
        threshold_gas: config.jit_threshold_gas,
        cache_bytes_max: config.jit_cache_mib << 20,
        disk_bytes_max: config.jit_disk_mib << 20,
        disk: (config.jit_disk_mib > 0).then(|| datadir.jit_cache()),
        cpus,
        observe_compile: Some(Arc::new(move |time: Duration| histogram.observe(time.as_secs_f64()))),
        ..TierConfig::default()
    };
    match Tier::start(tier) {
        Ok(tier) => {
            choices.push(format!("executor: {}", tier.describe()));
            if let Some(error) = tier.disk_error() {
                choices.push(format!("executor: compiled code is not kept on disk: {error}"));
            }
            show(metrics, &tier);
            Engine::Jit(tier)
        }
        Err(error) => {
            choices.push(format!("executor: interpreter (revm); the JIT was refused: {error}"));
            Engine::Interpreter
        }
    }
}

/// Processors for the compiler's thread: none of a core that a lane owns, none that the scheduler leaves alone. Empty: any,
/// because no lane owns a core, or all of them do.
pub fn cpus_for_compiler(host: &CpuTopology, topology: &Topology) -> Vec<usize> {
    let owned: Vec<usize> = topology
        .lanes
        .iter()
        .filter_map(|lane| lane.core)
        .filter_map(|cpu| host.cpu(cpu))
        .map(|cpu| cpu.core)
        .collect();
    if owned.is_empty() {
        return Vec::new();
    }
    let cores = host.usable_cores();
    let free = cores.iter().filter(|(core, _)| !owned.contains(core)).flat_map(|(_, cpus)| cpus);
    free.map(|cpu| cpu.id).filter(|id| !host.is_isolated(*id)).collect()
}

/// Registers the tier's counters.
fn show(metrics: &Metrics, tier: &Arc<Tier>) {
    type Read = fn(&TierStats) -> u64;
    let reading = |read: Read| {
        let tier = tier.clone();
        move || read(&tier.stats())
    };
    let counters: [(&'static str, &'static str, &'static str, &str, Read); 11] = [
        ("ironlane_jit_segments", "Segments of frames run, by tier", "tier", "interpreted", |s| {
            s.interpreted_segments
        }),
        ("ironlane_jit_segments", "Segments of frames run, by tier", "tier", "compiled", |s| {
            s.compiled_segments
        }),
        ("ironlane_jit_gas", "Gas spent in frames, by tier", "tier", "interpreted", |s| s.interpreted_gas),
        ("ironlane_jit_gas", "Gas spent in frames, by tier", "tier", "compiled", |s| s.compiled_gas),
        ("ironlane_jit_code_events", "What happened to hot codes", "what", "compiled", |s| s.compiled),
        ("ironlane_jit_code_events", "What happened to hot codes", "what", "evicted", |s| s.evictions),
        ("ironlane_jit_code_events", "What happened to hot codes", "what", "deoptimised", |s| s.deoptimised),
        ("ironlane_jit_code_events", "What happened to hot codes", "what", "reoptimised", |s| s.reoptimised),
        ("ironlane_jit_disk_events", "What happened on the cache on disk", "what", "hit", |s| s.disk_hits),
        ("ironlane_jit_disk_events", "What happened on the cache on disk", "what", "write", |s| {
            s.disk_writes
        }),
        ("ironlane_jit_disk_events", "What happened on the cache on disk", "what", "failure", |s| {
            s.disk_failures
        }),
    ];
    for (name, help, label, value, read) in counters {
        metrics.read_counter(name, help, (label, value.into()), reading(read));
    }
    let gauges: [(&'static str, &'static str, &'static str, &str, Read); 4] = [
        ("ironlane_jit_waiting", "Hot codes that wait for the compiler", "where", "queue", |s| s.queue),
        ("ironlane_jit_codes", "Compiled codes held", "where", "memory", |s| s.codes),
        ("ironlane_jit_bytes", "Bytes of compiled code held", "where", "memory", |s| s.cache_bytes),
        ("ironlane_jit_bytes", "Bytes of compiled code held", "where", "disk", |s| s.disk_bytes),
    ];
    for (name, help, label, value, read) in gauges {
        metrics.read_gauge(name, help, (label, value.into()), reading(read));
    }
    for reason in Refusal::ALL {
        let tier = tier.clone();
        let label = ("reason", reason.label().into());
        metrics.read_counter(
            "ironlane_jit_refusals",
            "Hot codes not compiled, by reason",
            label,
            move || tier.stats().refused(*reason),
        );
    }
    for reason in DiskRefusal::ALL {
        let tier = tier.clone();
        let label = ("reason", reason.label().into());
        let help = "Files of compiled code not used, by reason";
        metrics.read_counter("ironlane_jit_disk_refusals", help, label, move || {
            tier.stats().disk_refused(*reason)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_stays_off_the_cores_of_lanes() {
        let host = CpuTopology::flat(4);
        let mut topology = Topology::profile("quad").expect("a profile");
        for lane in &mut topology.lanes {
            lane.core = None;
        }
        assert!(cpus_for_compiler(&host, &topology).is_empty(), "nothing is pinned: anywhere");
        topology.lanes[0].core = Some(2);
        assert_eq!(cpus_for_compiler(&host, &topology), [0, 1, 3]);
    }
}
