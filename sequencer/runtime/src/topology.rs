//! Where everything runs, as data: which stage on which lane, which lane on which core, how deep each link.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// Stages that a topology must place, each once.
const STAGES: [&str; 5] = ["ingest", "admit", "sequence", "commit", "root"];

/// How a lane waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Polls for ever: for an isolated core.
    Busy,
    /// Spins briefly, then sleeps until somebody rings.
    Shared,
}

/// What a link's producer does when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Stops taking input, so that the pressure reaches the client.
    StopReading,
    /// Refuses the item with a typed error.
    Refuse,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Name of the thread.
    pub name: String,
    /// Stages that it polls, in this order.
    pub stages: Vec<String>,
    /// Core to pin to; absent: the operating system chooses (or `auto` does).
    #[serde(default)]
    pub core: Option<usize>,
    /// `auto` never pins this lane: background work that runs where there is room.
    #[serde(default)]
    pub float: bool,
    /// How it waits.
    pub policy: Policy,
    /// Microseconds without work before a shared lane sleeps.
    #[serde(default = "default_spin_us")]
    pub spin_us: u64,
    /// Nice value of the thread, 0 to 19: background work gives way.
    #[serde(default)]
    pub nice: i32,
}

fn default_spin_us() -> u64 {
    20
}

/// One ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Stage that fills it.
    pub from: String,
    /// Stage that empties it.
    pub to: String,
    /// Items it can hold: a power of two.
    pub depth: usize,
    /// What happens when it is full.
    pub when_full: WhenFull,
}

/// Threads that recover senders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthWorkers {
    /// How many.
    pub workers: usize,
    /// Core of each; empty: the operating system chooses.
    #[serde(default)]
    pub cores: Vec<usize>,
}

/// A whole layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Profile name.
    pub name: String,
    /// Threads that recover senders.
    pub auth: AuthWorkers,
    /// Threads that answer JSON-RPC.
    pub rpc_threads: usize,
    /// Lanes.
    #[serde(rename = "lane")]
    pub lanes: Vec<Lane>,
    /// Links.
    #[serde(rename = "link")]
    pub links: Vec<Link>,
}

/// A layout that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// No such profile.
    #[error("there is no topology profile {0:?}: use auto, duo, quad or sixteen, or the path of a TOML file")]
    UnknownProfile(String),
    /// The file cannot be read.
    #[error("the topology file {path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or fields that do not fit.
    #[error("the topology is not valid TOML of this format: {0}")]
    Syntax(#[from] toml::de::Error),
    /// Fields that contradict each other.
    #[error("the topology {name:?} cannot run: {reason}")]
    Invalid {
        /// Of which layout.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl Topology {
    /// A built-in profile: `duo`, `quad` or `sixteen`.
    pub fn profile(name: &str) -> Result<Self, TopologyError> {
        let text = match name {
            "duo" => include_str!("../../topologies/duo.toml"),
            "quad" => include_str!("../../topologies/quad.toml"),
            "sixteen" => include_str!("../../topologies/sixteen.toml"),
            other => return Err(TopologyError::UnknownProfile(other.to_string())),
        };
        Self::parse(text)
    }

    /// A profile's name, or a file's path (it has a `/` or ends in `.toml`).
    pub fn open(name_or_path: &str) -> Result<Self, TopologyError> {
        if !name_or_path.contains('/') && !name_or_path.ends_with(".toml") {
            return Self::profile(name_or_path);
        }
        let text = std::fs::read_to_string(Path::new(name_or_path))
            .map_err(|source| TopologyError::Unreadable { path: name_or_path.to_string(), source })?;
        Self::parse(&text)
    }

    /// Parses and checks TOML.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        let topology: Self = toml::from_str(text)?;
        topology.check()?;
        Ok(topology)
    }

    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), TopologyError> {
        let fail = |reason: String| Err(TopologyError::Invalid { name: self.name.clone(), reason });
        for stage in STAGES {
            let places = self.lanes.iter().flat_map(|lane| &lane.stages).filter(|s| *s == stage).count();
            if places != 1 {
                return fail(format!("the stage {stage:?} stands on {places} lanes; put it on exactly one"));
            }
        }
        for (i, lane) in self.lanes.iter().enumerate() {
            if let Some(unknown) = lane.stages.iter().find(|stage| !STAGES.contains(&stage.as_str())) {
                return fail(format!("lane {:?} has the unknown stage {unknown:?}", lane.name));
            }
            if lane.stages.is_empty() {
                return fail(format!("lane {:?} has no stage; remove it", lane.name));
            }
            if !(0..=19).contains(&lane.nice) {
                return fail(format!("lane {:?} has nice {}; use 0 to 19", lane.name, lane.nice));
            }
            if lane.float && lane.core.is_some() {
                return fail(format!("lane {:?} floats and has a core; remove one of the two", lane.name));
            }
            let rest = &self.lanes[i + 1..];
            if rest.iter().any(|other| other.name == lane.name) {
                return fail(format!("two lanes are called {:?}", lane.name));
            }
            // Either of the two starves the other.
            let busy = |other: &Lane| other.policy == Policy::Busy || lane.policy == Policy::Busy;
            if lane.core.is_some() && rest.iter().any(|other| other.core == lane.core && busy(other)) {
                let name = &lane.name;
                return fail(format!(
                    "lane {name:?} shares its core with another lane, and one of them polls for ever"
                ));
            }
            let worker = lane.core.is_some_and(|core| self.auth.cores.contains(&core));
            if worker && lane.policy == Policy::Busy {
                return fail(format!("lane {:?} polls for ever on the core of a recovery worker", lane.name));
            }
        }
        for (i, link) in self.links.iter().enumerate() {
            for end in [&link.from, &link.to] {
                if !STAGES.contains(&end.as_str()) {
                    return fail(format!("link {:?} names the unknown stage {end:?}", link.name));
                }
            }
            if !link.depth.is_power_of_two() || link.depth < 2 {
                return fail(format!("link {:?} has depth {}; use a power of two", link.name, link.depth));
            }
            if self.links[i + 1..].iter().any(|other| other.name == link.name) {
                return fail(format!("two links are called {:?}", link.name));
            }
        }
        if self.auth.workers == 0 || self.rpc_threads == 0 {
            return fail("auth.workers and rpc_threads must be at least 1".into());
        }
        if !self.auth.cores.is_empty() && self.auth.cores.len() != self.auth.workers {
            let (cores, workers) = (self.auth.cores.len(), self.auth.workers);
            return fail(format!(
                "auth.cores lists {cores} cores for {workers} workers; list one each, or none"
            ));
        }
        Ok(())
    }

    /// The lane that polls this stage.
    pub fn lane_of(&self, stage: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.stages.iter().any(|s| s == stage))
    }

    /// One line a lane, for people.
    pub fn describe(&self) -> Vec<String> {
        let lane = |lane: &Lane| {
            let core = lane.core.map_or("any core".to_string(), |core| format!("core {core}"));
            let waits = match lane.policy {
                Policy::Busy => "polls".to_string(),
                Policy::Shared => format!("spins {} µs, then sleeps", lane.spin_us),
            };
            format!("lane {}: {} on {core}, {waits}", lane.name, lane.stages.join(" + "))
        };
        let auth = if self.auth.cores.is_empty() {
            format!("{} recovery workers on any core", self.auth.workers)
        } else {
            format!("{} recovery workers on cores {:?}", self.auth.workers, self.auth.cores)
        };
        self.lanes.iter().map(lane).chain([auth]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_valid_and_survives_a_round_trip() {
        for name in ["duo", "quad", "sixteen"] {
            let topology = Topology::profile(name).expect(name);
            assert_eq!(topology.name, name);
            let text = toml::to_string(&topology).expect("serializes");
            assert_eq!(Topology::parse(&text).expect("parses"), topology);
            assert!(topology.describe().len() > topology.lanes.len());
        }
    }

    #[test]
    fn each_contradiction_is_refused_with_a_sentence() {
        let duo = || Topology::profile("duo").expect("duo");
        let refuses = |change: &dyn Fn(&mut Topology), wanted: &str| {
            let mut topology = duo();
            change(&mut topology);
            let error = topology.check().expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
        };
        refuses(&|t| t.lanes[0].stages.clear(), "exactly one");
        refuses(&|t| t.lanes[0].stages.push("ingest".into()), "exactly one");
        refuses(&|t| t.lanes[0].stages.push("brew".into()), "unknown stage");
        refuses(&|t| t.lanes[1].name = t.lanes[0].name.clone(), "two lanes");
        refuses(&|t| t.lanes[0].nice = 20, "nice");
        refuses(&|t| t.links[0].depth = 1000, "power of two");
        refuses(&|t| t.links[0].to = "nowhere".into(), "unknown stage");
        refuses(&|t| t.links[1].name = t.links[0].name.clone(), "two links");
        refuses(&|t| t.auth.workers = 0, "at least 1");
        refuses(&|t| t.auth.cores = vec![1, 2, 3, 4, 5], "one each");
        let busy_on_a_shared_core = |t: &mut Topology| {
            t.lanes[0].policy = Policy::Busy;
            t.lanes[0].core = Some(1);
            t.lanes[1].core = Some(1);
        };
        refuses(&busy_on_a_shared_core, "another lane");
        let busy_second = |t: &mut Topology| {
            t.lanes[1].policy = Policy::Busy;
            t.lanes[0].core = Some(1);
            t.lanes[1].core = Some(1);
        };
        refuses(&busy_second, "another lane");
        let busy_on_a_workers_core = |t: &mut Topology| {
            t.lanes[0].policy = Policy::Busy;
            t.lanes[0].core = Some(1);
            t.auth.cores = vec![0, 1];
        };
        refuses(&busy_on_a_workers_core, "recovery worker");
        let floats_and_is_pinned = |t: &mut Topology| {
            t.lanes[0].float = true;
            t.lanes[0].core = Some(1);
        };
        refuses(&floats_and_is_pinned, "floats");
    }

    #[test]
    fn unknown_profiles_and_files_are_named() {
        assert!(Topology::open("octo").expect_err("unknown").to_string().contains("octo"));
        assert!(
            Topology::open("/nowhere/x.toml").expect_err("missing").to_string().contains("/nowhere/x.toml")
        );
    }
}
