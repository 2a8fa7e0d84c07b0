//! Cards behind rings: levels L1 (a vendor's driver in its own process, rings in shared memory) and L2 (the same rings
//! in a mapped device file) of the offload ABI.
//!
//! In: requests, bounded by the ring's size. Out: claims ([`ClaimEngine::poll_claims`]), in any order. On overload:
//! [`Full`]. A card that breaks the protocol (an unknown or repeated tag, a status that does not exist, a head that runs
//! away) or vanishes stops the engine: [`ClaimEngine::fault`] says why, nothing more comes out, and
//! [`Checked`](crate::checked::Checked) hands what was in flight to the CPU.

mod host;
pub(crate) mod link;
pub(crate) mod os;
pub(crate) mod region;
mod watch;

pub use host::{HostRing, Telemetry};

use crate::abi::{self, CapabilityError, Completion, Submission, status};
use crate::card::software;
use crate::claim::{Claim, ClaimEngine, Verdict};
use crate::{Caps, Full, RecoverAnswer, RecoverEngine, RecoverRequest, Refusal, Trust, Waker};
use alloy_primitives::Address;
use link::{Doorbell, Link};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use watch::Watcher;

const NAME: &str = "card";

/// A device's doorbell register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Device file (or, for a simulation, a file).
    pub path: PathBuf,
    /// Offset in bytes.
    pub offset: u64,
    /// Whether to map it; otherwise it is written by `pwrite`, as XDMA's `_user` device wants it.
    pub mapped: bool,
}

/// Where a card is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// L1: start this driver; it finds its socket in `IRONLANE_OFFLOAD_FD`.
    Spawn {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// L1: a driver listens on this Unix socket.
    Socket {
        /// The socket.
        path: PathBuf,
        /// Users as which the driver may run; empty: root and the node's own.
        users: Vec<u32>,
    },
    /// L2: the region lies in this device file.
    Device {
        /// Device file.
        path: PathBuf,
        /// Where in it the region begins; a multiple of the page size.
        offset: u64,
        /// The doorbell register, if the card does not look at the doorbell word.
        register: Option<Register>,
    },
}

/// How long a card may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the start of the driver to its capabilities.
    pub start: Duration,
    /// For a reset.
    pub reset: Duration,
    /// Between two looks at a ring that nobody rings for (L2).
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(10),
            reset: Duration::from_secs(2),
            poll: Duration::from_micros(50),
        }
    }
}

/// How a card is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it is.
    pub place: Place,
    /// Entries of either ring: a power of two. The card may have fewer. 4,096 when in doubt.
    pub entries: u32,
    /// Time limits.
    pub limits: Limits,
}

impl Config {
    /// 4,096 entries and the usual limits.
    pub fn new(place: Place) -> Self {
        Self { place, entries: 4_096, limits: Limits::default() }
    }
}

/// What is wrong with a card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// It could not be reached.
    #[error("{0}")]
    Setup(String),
    /// A file or socket could not be opened.
    #[error(
        "{path} cannot be used as a card: {reason}; check that the driver is loaded and the permissions fit"
    )]
    Open {
        /// Which.
        path: String,
        /// The system's answer.
        reason: String,
    },
    /// The system refused.
    #[error("the system refused shared memory, an eventfd or a socket: {0}")]
    Io(std::io::Error),
    /// Bad capabilities.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// Too slow.
    #[error("the card had {limit:?} {what}, and did not")]
    Timeout {
        /// To do what.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The driver is gone.
    #[error("the driver's process ended or closed its socket")]
    Vanished,
    /// The card says that it is broken.
    #[error("the card reports that it failed, with code {0:#x}")]
    Failed(u32),
    /// The card broke the ABI's rules.
    #[error("the card breaks the protocol: {0}")]
    Protocol(String),
}

impl CardError {
    pub(crate) fn open(path: &Path, error: &std::io::Error) -> Self {
        Self::Open { path: path.display().to_string(), reason: error.to_string() }
    }
}

/// Opens the rings of a card, for whoever wants to drive them by hand (the validation kit).
///
/// # Errors
/// [`CardError`].
pub fn open(config: &Config) -> Result<HostRing, CardError> {
    if !config.entries.is_power_of_two() || !(abi::ENTRIES_MIN..=abi::ENTRIES_MAX).contains(&config.entries) {
        return Err(CardError::Setup(format!(
            "{} ring entries were asked for; a power of two from 2 to 65536 is needed",
            config.entries
        )));
    }
    let link = match &config.place {
        Place::Spawn { command } => Link::spawn(command, config.entries)?,
        Place::Socket { path, users } => Link::connect(path, config.entries, users)?,
        Place::Device { path, offset, register } => {
            Link::map(path, *offset, config.entries, register.as_ref())?
        }
    };
    HostRing::start(link, config.entries, config.limits)
}

/// Opens a card as an engine and tests it with one request.
///
/// # Errors
/// [`Refusal`].
pub fn probe(config: Config, waker: Option<Waker>) -> Result<RingEngine, Refusal> {
    let refusal = |reason: String| Refusal { engine: NAME, reason };
    let ring = open(&config).map_err(|e| refusal(e.to_string()))?;
    let mut engine = RingEngine::new(ring, Some(config), waker);
    engine.self_test().map_err(refusal)?;
    Ok(engine)
}

struct Slot {
    generation: u32,
    request: Option<RecoverRequest>,
}

/// A card as an engine. Its answers are claims.
pub struct RingEngine {
    ring: HostRing,
    config: Option<Config>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    fault: Option<String>,
    /// Drop order: the watcher ends before the rings do.
    watcher: Option<Watcher>,
    waker: Option<Waker>,
}

impl RingEngine {
    /// Takes over rings. `config` is what [`ClaimEngine::restart`] opens again after the driver has vanished.
    pub(crate) fn new(ring: HostRing, config: Option<Config>, waker: Option<Waker>) -> Self {
        let entries = ring.entries();
        let mut engine = Self {
            ring,
            config,
            slots: (0..entries).map(|_| Slot { generation: 0, request: None }).collect(),
            free: (0..entries).rev().collect(),
            fault: None,
            watcher: None,
            waker,
        };
        engine.watch();
        engine
    }

    /// What the card said about itself.
    pub fn capabilities(&self) -> &abi::Capabilities {
        self.ring.capabilities()
    }

    /// What the card measures.
    pub fn telemetry(&self) -> Telemetry {
        self.ring.telemetry()
    }

    /// Process of the driver, where this node started it.
    pub fn driver(&self) -> Option<u32> {
        self.ring.link.child_id()
    }

    fn watch(&mut self) {
        self.watcher = None;
        if let Some(waker) = &self.waker {
            match Watcher::start(&self.ring, waker.clone()) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => self.fault = Some(format!("the card cannot be watched: {error}")),
            }
        }
    }

    fn self_test(&mut self) -> Result<(), String> {
        let (request, expected) = software::known_answer();
        let mut batch = vec![request];
        if self.submit(&mut batch).is_err() {
            return Err("the self-test could not be submitted".into());
        }
        let mut claims = vec![];
        let deadline =
            std::time::Instant::now() + self.config.as_ref().map_or(Limits::default(), |c| c.limits).reset;
        while self.poll_claims(&mut claims) == 0 {
            if let Some(fault) = &self.fault {
                return Err(format!("in the self-test {fault}"));
            }
            if std::time::Instant::now() > deadline {
                return Err("the self-test had no answer in time".into());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        match claims[0].verdict {
            Verdict::Signer { address, .. } if address == expected => Ok(()),
            other => Err(format!("the self-test expected the signer {expected} and got {other:?}")),
        }
    }

    fn fail(&mut self, reason: String) {
        if self.fault.is_none() {
            self.fault = Some(reason);
        }
    }

    /// The claim that a completion makes, or what is wrong with it.
    fn claim(&mut self, completion: &Completion) -> Result<(Claim, RecoverRequest), String> {
        let (index, generation) = (completion.tag as u32, (completion.tag >> 32) as u32);
        let slot =
            self.slots.get_mut(index as usize).filter(|slot| slot.generation == generation).ok_or_else(
                || format!("the card answers tag {:#x}, which is not in flight", completion.tag),
            )?;
        let request =
            slot.request.take().ok_or_else(|| format!("the card answers tag {:#x} twice", completion.tag))?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        let asked = Submission { op: abi::OP_RECOVER, ..Submission::ZERO };
        if let Some(rule) = completion.violation(&asked) {
            return Err(rule.into());
        }
        let verdict = match (completion.status, abi::error_of(completion.status)) {
            (status::OK, _) => Verdict::Signer {
                address: Address::from(completion.address),
                key: Some(completion.public_key),
            },
            (_, Some(error)) => Verdict::Invalid(error),
            (other, None) => Verdict::Declined(other),
        };
        Ok((Claim { tag: request.tag, verdict }, request))
    }

    fn drain(&mut self, mut each: impl FnMut(Claim, &RecoverRequest)) -> usize {
        if self.fault.is_some() {
            return 0;
        }
        let mut count = 0;
        // A card that never stops answering must not hold the owner.
        for _ in 0..self.ring.entries() {
            match self.ring.pop() {
                Ok(None) => break,
                Err(error) => {
                    self.fail(error.to_string());
                    break;
                }
                Ok(Some(completion)) => match self.claim(&completion) {
                    Ok((claim, request)) => {
                        each(claim, &request);
                        count += 1;
                    }
                    Err(reason) => {
                        self.fail(format!("the card breaks the protocol: {reason}"));
                        break;
                    }
                },
            }
        }
        self.ring.return_completions();
        if count == 0 && self.in_flight() > 0 && self.fault.is_none() {
            if let Err(error) = self.ring.check_alive() {
                self.fail(error.to_string());
            }
        }
        self.arm();
        count
    }

    /// Asks to be rung for the next completion.
    fn arm(&mut self) {
        let wanted = self.in_flight() > 0 && self.fault.is_none();
        let Some(watcher) = &self.watcher else { return };
        self.ring.set_waiting(wanted);
        watcher.arm(wanted, self.ring.taken());
        if wanted && self.ring.ready() {
            watcher.ring();
        }
    }
}

impl RecoverEngine for RingEngine {
    fn caps(&self) -> Caps {
        let caps = self.ring.capabilities();
        let entries = self.ring.entries();
        Caps {
            name: NAME,
            trust: Trust::Hint,
            capacity: entries as usize,
            batch_min: caps.batch_min.min(entries) as usize,
            parallelism: caps.parallelism.min(entries) as usize,
        }
    }

    fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full> {
        let room = if self.fault.is_some() {
            0
        } else {
            match self.ring.queued() {
                Ok(queued) => self.free.len().min((self.ring.entries() - queued) as usize),
                Err(error) => {
                    self.fail(error.to_string());
                    0
                }
            }
        };
        let count = room.min(batch.len());
        for request in batch.drain(..count) {
            // `count` is at most the number of free slots.
            let Some(index) = self.free.pop() else { break };
            let slot = &mut self.slots[index as usize];
            slot.request = Some(request);
            let tag = u64::from(slot.generation) << 32 | u64::from(index);
            self.ring.push(&software::submission(tag, &request));
        }
        if count > 0 {
            self.ring.ring_doorbell();
            self.arm();
        }
        if batch.is_empty() { Ok(()) } else { Err(Full) }
    }

    /// Answers as they come from the card, unchecked; what the card declined is recovered here.
    fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize {
        self.drain(|claim, request| {
            let result = match claim.verdict {
                Verdict::Signer { address, .. } => Ok(address),
                Verdict::Invalid(error) => Err(error),
                Verdict::Declined(_) => software::recover(request),
            };
            out.push(RecoverAnswer { tag: claim.tag, result });
        })
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl ClaimEngine for RingEngine {
    fn poll_claims(&mut self, out: &mut Vec<Claim>) -> usize {
        self.drain(|claim, _| out.push(claim))
    }

    fn fault(&self) -> Option<String> {
        self.fault.clone()
    }

    fn restart(&mut self) -> Result<(), String> {
        self.watcher = None;
        self.fault = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.request.take().is_some() {
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index as u32);
            }
        }
        let result = match (&self.config, self.ring.check_alive()) {
            (Some(config), Err(_)) => match open(config) {
                Ok(ring) if ring.entries() == self.ring.entries() => {
                    self.ring = ring;
                    Ok(())
                }
                Ok(_) => Err("the card came back with rings of another size".to_string()),
                Err(error) => Err(error.to_string()),
            },
            _ => self.ring.reset().map_err(|e| e.to_string()),
        };
        let result = result.and_then(|()| self.self_test());
        match &result {
            Ok(()) => self.watch(),
            Err(reason) => self.fault = Some(reason.clone()),
        }
        result
    }
}

/// The parts of a ring that its watcher looks at.
pub(crate) struct Watched {
    pub(crate) region: Arc<region::Region>,
    pub(crate) log2: u32,
    /// Eventfd that the card rings; `None`: look every `poll`.
    pub(crate) event: Option<os::EventFd>,
    pub(crate) socket: Option<std::os::unix::net::UnixStream>,
    pub(crate) poll: Duration,
}

impl HostRing {
    pub(crate) fn watched(&self) -> std::io::Result<Watched> {
        Ok(Watched {
            region: self.link.region.clone(),
            log2: self.entries().ilog2(),
            event: match &self.link.doorbell {
                Doorbell::Events { host, .. } => Some(host.try_clone()?),
                Doorbell::Register(_) | Doorbell::Polled => None,
            },
            socket: self.link.socket.as_ref().map(std::os::unix::net::UnixStream::try_clone).transpose()?,
            poll: self.poll_every(),
        })
    }
}
