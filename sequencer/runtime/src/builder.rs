//! From a topology to running threads.

use crate::lane::LaneLoop;
use crate::{Consumer, Doorbell, Gauge, Producer, Stage, Topology, ring, sys};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Why a topology could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The topology lacks a link that the node needs.
    #[error(
        "the topology {topology:?} has no link {link:?}; add it (the profiles under sequencer/topologies show how)"
    )]
    NoLink {
        /// Profile.
        topology: String,
        /// Missing link.
        link: String,
    },
    /// A link was asked for twice.
    #[error("the link {0:?} is already in use: a ring has one producer and one consumer")]
    LinkTaken(String),
    /// The topology places no such stage.
    #[error("the topology {topology:?} places no stage {stage:?}")]
    NoStage {
        /// Profile.
        topology: String,
        /// Missing stage.
        stage: String,
    },
    /// The operating system refused a descriptor or a thread.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// Collects rings and stages, then starts the lanes.
pub struct Builder {
    topology: Topology,
    doorbells: Vec<Doorbell>,
    stages: BTreeMap<String, Box<dyn Stage>>,
    taken: BTreeSet<String>,
    gauges: Vec<Gauge>,
}

impl Builder {
    /// Prepares the lanes of a topology.
    pub fn new(topology: Topology) -> Result<Self, BuildError> {
        let doorbells = topology
            .lanes
            .iter()
            .map(|_| Doorbell::new().map_err(|source| BuildError::System { what: "an eventfd", source }))
            .collect::<Result<_, _>>()?;
        Ok(Self { topology, doorbells, stages: BTreeMap::new(), taken: BTreeSet::new(), gauges: Vec::new() })
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The doorbell of the lane that polls this stage: for producers that are no stages.
    pub fn doorbell(&self, stage: &str) -> Result<Doorbell, BuildError> {
        let lane = self.topology.lane_of(stage).ok_or_else(|| BuildError::NoStage {
            topology: self.topology.name.clone(),
            stage: stage.to_string(),
        })?;
        Ok(self.doorbells[lane].clone())
    }

    /// The ring of a link, as deep as the topology says.
    pub fn ring<T: Send + 'static>(&mut self, link: &str) -> Result<(Producer<T>, Consumer<T>), BuildError> {
        let found = self.topology.links.iter().find(|l| l.name == link);
        let Some(found) = found.cloned() else {
            return Err(BuildError::NoLink { topology: self.topology.name.clone(), link: link.to_string() });
        };
        if !self.taken.insert(link.to_string()) {
            return Err(BuildError::LinkTaken(link.to_string()));
        }
        let same_lane = self.topology.lane_of(&found.from) == self.topology.lane_of(&found.to);
        // Two stages of one lane never sleep while the other works, so they need no bell.
        let bell = if same_lane { None } else { Some(self.doorbell(&found.to)?) };
        let (producer, consumer) = ring(found.depth, bell);
        self.gauges.push(producer.gauge(link));
        Ok((producer, consumer))
    }

    /// Adds a stage under its own name.
    pub fn stage(&mut self, stage: Box<dyn Stage>) -> Result<(), BuildError> {
        let name = stage.name().to_string();
        if self.topology.lane_of(&name).is_none() {
            return Err(BuildError::NoStage { topology: self.topology.name.clone(), stage: name });
        }
        self.stages.insert(name, stage);
        Ok(())
    }

    /// Depth gauges of all rings so far.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.gauges.clone()
    }

    /// Starts one thread for each lane that was given a stage; stages that nobody added are left out.
    pub fn start(mut self) -> Result<Running, BuildError> {
        let stop = Arc::new(AtomicBool::new(false));
        let allowed = core_affinity::get_core_ids().unwrap_or_default();
        let mut threads = Vec::new();
        for (lane, doorbell) in self.topology.lanes.iter().zip(&self.doorbells) {
            let stages: Vec<_> = lane.stages.iter().filter_map(|name| self.stages.remove(name)).collect();
            if stages.is_empty() {
                continue;
            }
            let core = lane.core.and_then(|wanted| allowed.iter().copied().find(|core| core.id == wanted));
            if let (Some(wanted), None) = (lane.core, core) {
                tracing::warn!(
                    lane = lane.name,
                    wanted,
                    "this process may not use that core: the lane is not pinned"
                );
            }
            let body = LaneLoop {
                stages,
                doorbell: doorbell.clone(),
                policy: lane.policy,
                spin_ns: lane.spin_us * 1000,
                stop: stop.clone(),
            };
            let (name, nice) = (lane.name.clone(), lane.nice);
            let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
                if let Some(core) = core
                    && !core_affinity::set_for_current(core)
                {
                    tracing::warn!(lane = name, core = core.id, "the kernel refused to pin the lane");
                }
                if nice != 0 {
                    sys::set_thread_nice(nice);
                }
                if catch_unwind(AssertUnwindSafe(|| body.run())).is_err() {
                    // Half a node would go on acknowledging what it no longer executes.
                    eprintln!("lane {name}: a stage panicked, so the whole process ends");
                    std::process::abort();
                }
            });
            threads.push(thread.map_err(|source| BuildError::System { what: "a thread", source })?);
        }
        Ok(Running { stop, doorbells: self.doorbells, threads })
    }
}

/// Lanes that run.
pub struct Running {
    stop: Arc<AtomicBool>,
    doorbells: Vec<Doorbell>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Stops all lanes, lets each stage flush, and waits for the threads.
    pub fn shutdown(self) {
        self.stop.store(true, Ordering::Release);
        self.doorbells.iter().for_each(Doorbell::ring);
        for thread in self.threads {
            // A panic has already ended the process.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now_ns;
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    struct Relay {
        name: &'static str,
        input: Consumer<u64>,
        output: Option<Producer<u64>>,
        seen: Arc<AtomicU64>,
        closed: Arc<AtomicBool>,
    }

    impl Stage for Relay {
        fn name(&self) -> &'static str {
            self.name
        }
        fn poll(&mut self, budget: usize) -> usize {
            let room = self.output.as_mut().map_or(budget, Producer::free_now);
            let (seen, output) = (&self.seen, &mut self.output);
            self.input.drain(budget.min(room), |item| {
                seen.store(item, Ordering::Release);
                if let Some(output) = output {
                    output.push(item).expect("there was room");
                }
            })
        }
        fn close(&mut self) {
            self.closed.store(true, Ordering::Release);
        }
    }

    fn relays(topology: &str) -> (Producer<u64>, Arc<AtomicU64>, Arc<AtomicBool>, Running) {
        let mut builder = Builder::new(Topology::profile(topology).expect("profile")).expect("builder");
        let (first, a) = builder.ring::<u64>("ingest-admit").expect("ring");
        let (tx, b) = builder.ring::<u64>("admit-sequence").expect("ring");
        let (seen, closed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let relay = |name, input, output, seen| Relay { name, input, output, seen, closed: closed.clone() };
        builder.stage(Box::new(relay("admit", a, Some(tx), Arc::default()))).expect("admit");
        builder.stage(Box::new(relay("sequence", b, None, seen.clone()))).expect("sequence");
        (first, seen, closed, builder.start().expect("start"))
    }

    #[test]
    fn items_pass_through_lanes_that_sleep_in_between() {
        for topology in ["duo", "quad"] {
            let (mut first, seen, closed, running) = relays(topology);
            for round in 1..200u64 {
                first.push(round).expect("room");
                let start = Instant::now();
                while seen.load(Ordering::Acquire) != round {
                    assert!(start.elapsed() < Duration::from_secs(10), "{topology}: item {round} was lost");
                    std::thread::yield_now();
                }
                if round % 10 == 0 {
                    // Long enough for both lanes to fall asleep.
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
            running.shutdown();
            assert!(closed.load(Ordering::Acquire), "stages are told that they stop");
        }
    }

    #[test]
    fn links_and_stages_are_checked() {
        let mut builder = Builder::new(Topology::profile("duo").expect("duo")).expect("builder");
        assert!(matches!(builder.ring::<u8>("nowhere"), Err(BuildError::NoLink { .. })));
        let _ring = builder.ring::<u8>("ingest-admit").expect("ring");
        assert!(matches!(builder.ring::<u8>("ingest-admit"), Err(BuildError::LinkTaken(_))));
        assert!(builder.doorbell("nowhere").is_err());
        assert_eq!(builder.gauges().len(), 1);
        assert!(now_ns() > 0);
    }

    #[test]
    fn a_panicking_stage_ends_the_process() {
        if std::env::var_os("IRONLANE_TEST_PANIC").is_some() {
            struct Bomb(Consumer<u64>);
            impl Stage for Bomb {
                fn name(&self) -> &'static str {
                    "admit"
                }
                fn poll(&mut self, _: usize) -> usize {
                    assert!(self.0.is_empty(), "the planted panic");
                    0
                }
            }
            let mut builder = Builder::new(Topology::profile("quad").expect("quad")).expect("builder");
            let (mut first, input) = builder.ring("ingest-admit").expect("ring");
            builder.stage(Box::new(Bomb(input))).expect("stage");
            let _running = builder.start().expect("start");
            first.push(1).expect("room");
            std::thread::sleep(Duration::from_secs(20));
            std::process::exit(0);
        }
        let status = std::process::Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "builder::tests::a_panicking_stage_ends_the_process", "--nocapture"])
            .env("IRONLANE_TEST_PANIC", "1")
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status()
            .expect("runs");
        assert!(!status.success(), "the process must not survive a panic in one stage");
    }
}
