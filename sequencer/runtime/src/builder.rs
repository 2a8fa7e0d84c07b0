//! From a topology to running threads.

use crate::gauge::LaneCounters;
use crate::lane::{LaneLoop, Order, Orders};
use crate::{Consumer, Doorbell, Gauge, LaneGauge, Producer, Stage, Topology, guard, ring_between, sys};
use std::collections::{BTreeMap, BTreeSet};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
        let (from, to) = match same_lane {
            true => (None, None),
            false => (Some(self.doorbell(&found.from)?), Some(self.doorbell(&found.to)?)),
        };
        let (producer, consumer) = ring_between(found.depth, from, to);
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
        guard::install_hook();
        let orders = Orders::default();
        let mut running = Running {
            orders: orders.clone(),
            doorbells: self.doorbells.clone(),
            lanes: vec![],
            threads: vec![],
        };
        for (lane, doorbell) in self.topology.lanes.iter().zip(&self.doorbells) {
            let stages: Vec<_> = lane.stages.iter().filter_map(|name| self.stages.remove(name)).collect();
            if stages.is_empty() {
                continue;
            }
            let names = stages.iter().map(|stage| stage.name().to_owned()).collect();
            let body = LaneLoop {
                stages,
                doorbell: doorbell.clone(),
                policy: lane.policy,
                spin_ns: lane.spin_us * 1000,
                orders: orders.clone(),
                counters: LaneCounters::new(&lane.name, names),
            };
            running.lanes.push(LaneGauge(body.counters.clone()));
            let (name, core, nice) = (lane.name.clone(), lane.core, lane.nice);
            let thread = std::thread::Builder::new().name(lane.name.clone()).spawn(move || {
                guard::pin(&name, core);
                sys::set_timer_slack(TIMER_SLACK);
                if nice != 0 {
                    sys::set_thread_nice(nice);
                }
                guard::or_abort(&name, || body.run());
            });
            // On an error `running` is dropped, which stops the lanes that already run.
            running.threads.push(thread.map_err(|source| BuildError::System { what: "a thread", source })?);
        }
        Ok(running)
    }
}

/// How late the kernel may wake a lane from a sleep with a deadline; its default of 50 µs would show in the latencies.
const TIMER_SLACK: Duration = Duration::from_micros(1);
/// Time without any work on any lane after which the node counts as quiet.
const QUIET: Duration = Duration::from_millis(10);

/// Lanes that run. Dropping it stops them.
pub struct Running {
    orders: Orders,
    doorbells: Vec<Doorbell>,
    lanes: Vec<LaneGauge>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Counters of the lanes.
    pub fn lanes(&self) -> Vec<LaneGauge> {
        self.lanes.clone()
    }

    /// Stops all lanes, lets each stage flush, and waits for the threads.
    pub fn shutdown(mut self) {
        self.stop();
    }

    /// Tells all stages to take nothing new, lets them finish what is under way for at most `grace`, then does as
    /// [`Running::shutdown`]. `true`: everything was finished in time.
    pub fn drain_and_shutdown(mut self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        self.give(Order::Quiesce);
        let work = |lanes: &[LaneGauge]| lanes.iter().map(|lane| lane.0.work()).collect::<Vec<_>>();
        let mut seen = work(&self.lanes);
        let mut quiet_since = Instant::now();
        let quiet = loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break false;
            }
            std::thread::sleep((QUIET / 5).min(left));
            let now = work(&self.lanes);
            let drained = self.lanes.iter().all(|lane| lane.0.is_drained());
            if now != seen || !drained {
                (seen, quiet_since) = (now, Instant::now());
            } else if quiet_since.elapsed() >= QUIET {
                break true;
            }
        };
        self.stop();
        quiet
    }

    fn give(&self, order: Order) {
        self.orders.give(order);
        self.doorbells.iter().for_each(Doorbell::ring);
    }

    fn stop(&mut self) {
        self.give(Order::Stop);
        for thread in self.threads.drain(..) {
            // A panic has already ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now_ns;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

    /// Passes items on some time after they came, as a journal write does.
    struct Slow {
        input: Consumer<u64>,
        held: Vec<(Instant, u64)>,
        done: Arc<AtomicU64>,
        quiesced: bool,
    }

    impl Stage for Slow {
        fn name(&self) -> &'static str {
            "admit"
        }
        fn poll(&mut self, budget: usize) -> usize {
            let due = Instant::now() + Duration::from_millis(60);
            let held = &mut self.held;
            let taken = self.input.drain(budget, |item| held.push((due, item)));
            let before = held.len();
            held.retain(|(due, _)| *due > Instant::now());
            self.done.fetch_add((before - held.len()) as u64, Ordering::AcqRel);
            taken + before - held.len()
        }
        fn quiesce(&mut self) {
            assert!(!std::mem::replace(&mut self.quiesced, true), "said once");
        }
        fn is_drained(&self) -> bool {
            self.held.is_empty()
        }
        fn deadline_ns(&self) -> Option<u64> {
            self.held.first().map(|(due, _)| now_ns() + due.duration_since(Instant::now()).as_nanos() as u64)
        }
    }

    fn slow() -> (Producer<u64>, Arc<AtomicU64>, Running) {
        let mut builder = Builder::new(Topology::profile("duo").expect("duo")).expect("builder");
        let (first, input) = builder.ring::<u64>("ingest-admit").expect("ring");
        let done = Arc::new(AtomicU64::new(0));
        let stage = Slow { input, held: vec![], done: done.clone(), quiesced: false };
        builder.stage(Box::new(stage)).expect("admit");
        (first, done, builder.start().expect("start"))
    }

    #[test]
    fn draining_waits_for_what_is_under_way() {
        let (mut first, done, running) = slow();
        assert_eq!(first.push_batch(0..100), 100);
        assert!(running.drain_and_shutdown(Duration::from_secs(10)));
        assert_eq!(done.load(Ordering::Acquire), 100);
        let (mut first, done, running) = slow();
        assert_eq!(first.push_batch(0..100), 100);
        assert!(!running.drain_and_shutdown(Duration::from_millis(5)), "not within 5 ms");
        assert_eq!(done.load(Ordering::Acquire), 0);
    }

    #[test]
    fn deadlines_end_a_sleep_and_lanes_are_counted() {
        let (mut first, done, running) = slow();
        first.push(1).expect("room");
        let start = Instant::now();
        while done.load(Ordering::Acquire) == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "the deadline was missed");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(start.elapsed() >= Duration::from_millis(60));
        let lanes = running.lanes();
        assert_eq!(lanes.len(), 1);
        assert_eq!((lanes[0].name(), lanes[0].stages().collect::<Vec<_>>()), ("main", vec![("admit", 2)]));
        assert!(lanes[0].sleeps() > 0, "it slept in between");
        drop(running);
        assert!(first.is_closed(), "the stage went with its lane");
    }

    #[test]
    fn a_producer_lane_that_sleeps_over_a_full_ring_goes_on() {
        // Ingest has far more than the ring between it and a slow-starting admit can hold.
        struct Source(Producer<u64>, u64);
        impl Stage for Source {
            fn name(&self) -> &'static str {
                "sequence"
            }
            fn poll(&mut self, _: usize) -> usize {
                let pushed = self.0.push_batch(self.1..1_000_000);
                self.1 += pushed as u64;
                pushed
            }
        }
        let mut builder = Builder::new(Topology::profile("duo").expect("duo")).expect("builder");
        let (output, input) = builder.ring::<u64>("sequence-commit").expect("ring");
        let seen = Arc::new(AtomicU64::new(0));
        let sink = Relay { name: "commit", input, output: None, seen: seen.clone(), closed: Arc::default() };
        builder.stage(Box::new(Source(output, 0))).expect("sequence");
        builder.stage(Box::new(sink)).expect("commit");
        let start = Instant::now();
        let running = builder.start().expect("start");
        while seen.load(Ordering::Acquire) != 999_999 {
            // 64 items at a time: with a wake-up every 20 ms this would take five minutes.
            assert!(start.elapsed() < Duration::from_secs(60), "stuck at {}", seen.load(Ordering::Acquire));
            std::thread::sleep(Duration::from_millis(1));
        }
        running.shutdown();
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
        let output = std::process::Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "builder::tests::a_panicking_stage_ends_the_process", "--nocapture"])
            .env("IRONLANE_TEST_PANIC", "1")
            .output()
            .expect("runs");
        assert!(!output.status.success(), "the process must not survive a panic in one stage");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("the stage admit on lane core panicked") && text.contains("planted"), "{text}");
    }
}
