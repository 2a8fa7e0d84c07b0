//! Makes an engine that nobody trusts as good as one that everybody does.
//!
//! In: requests, bounded by [`Config::capacity`]. Out: trusted answers. On overload: [`Full`]. Claims of the *hinting*
//! engine (a card, a GPU) are never answers: each is given, with the public key that was claimed, to a *trusted* engine on
//! the CPU, and that engine's answer leaves. A batch verifier turns a right key into an answer for a fraction of a
//! recovery's price; a wrong key costs it a recovery, and the card its place. Only where the operator chose
//! [`Trusting::Sample`] do claims leave unchecked, all but the sampled ones.
//!
//! What ends a card's service (**quarantine**; the reason is logged by whoever reads [`Checked::quarantine`]):
//! an answer that differs from the trusted one, a public key that is not the address's, a request unanswered at its
//! deadline, an answer to something not in flight, a fault that the engine itself found, too many declined requests.
//! From that moment everything in flight and everything new goes to the trusted engine.
//!
//! Claims that a signature is invalid are checked like all others; [`Config::invalid_per_s_max`] bounds what they may
//! cost: above it they wait their turn, and the requests that hold their slots are back-pressure.

use crate::backend::ring::os;
use crate::card::software;
use crate::claim::{Claim, ClaimEngine, Verdict};
use crate::{Caps, Full, RecoverAnswer, RecoverEngine, RecoverError, RecoverRequest, Trust, Waker};
use alloy_primitives::Address;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Called with each public key that a card claims, before the trusted engine checks the request: the door to the batch
/// verifier's key cache. The key is hashed to the address already; that it is on the curve is the cache's to check.
pub type Teach = Box<dyn FnMut(Address, &[u8; 64]) + Send>;

/// How much of what a card says is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trusting {
    /// Every claim. Nothing false leaves, ever.
    Never,
    /// One claim in so many, chosen at random, and every claim of invalidity. A card that lies rarely can get a false
    /// sender through: the operator who chooses this trusts the card's maker.
    Sample {
        /// At least 1.
        one_in: u32,
    },
}

/// How a hinting engine is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Requests in flight, at most.
    pub capacity: usize,
    /// How long the hinting engine may take for a request before the CPU takes it over.
    pub deadline: Duration,
    /// Requests at hand below which the hinting engine is not asked at all.
    pub batch_min: usize,
    /// How much is checked.
    pub trusting: Trusting,
    /// Claims of invalidity checked a second; more wait.
    pub invalid_per_s_max: u32,
    /// Requests that may be late before the quarantine. The first late one of a request that nobody answers counts.
    pub late_max: u64,
    /// Declined requests among the last 1,024 above which a card is of no use.
    pub declined_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: 16_384,
            deadline: Duration::from_millis(20),
            batch_min: 1,
            trusting: Trusting::Never,
            invalid_per_s_max: 10_000,
            late_max: 0,
            declined_max: 64,
        }
    }
}

/// Why a hinting engine was put aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Quarantine {
    /// It named a signer that is not.
    #[error("it claimed the signer {claimed} where the signature gives {right:?}")]
    Lie {
        /// What it said.
        claimed: Address,
        /// What is true.
        right: Result<Address, RecoverError>,
    },
    /// It called a valid signature invalid, or invalid for a wrong reason.
    #[error("it claimed that a signature is bad ({claimed}) where it gives {right:?}")]
    FalseInvalid {
        /// What it said.
        claimed: RecoverError,
        /// What is true.
        right: Result<Address, RecoverError>,
    },
    /// Key and address do not belong together.
    #[error("it claimed the signer {claimed} with a public key of {hashed}")]
    Key {
        /// The address.
        claimed: Address,
        /// The key's address.
        hashed: Address,
    },
    /// It answered what it was not asked, or twice.
    #[error(
        "it answered a request that is not in flight (tag {0:#x}): repeated, invented or under a wrong tag"
    )]
    Unasked(u64),
    /// It did not answer in time.
    #[error("{count} requests were unanswered after {deadline:?}")]
    Late {
        /// How many so far.
        count: u64,
        /// The limit.
        deadline: Duration,
    },
    /// It declines too much.
    #[error("it declined {0} of the last 1024 requests")]
    Declines(u32),
    /// It found a fault itself.
    #[error("{0}")]
    Fault(String),
}

/// Counts, for metrics. All only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests given to the hinting engine.
    pub asked: AtomicU64,
    /// Claims that the trusted engine confirmed.
    pub confirmed: AtomicU64,
    /// Claims that left unchecked (only with [`Trusting::Sample`]).
    pub unchecked: AtomicU64,
    /// Claims that were wrong.
    pub lies: AtomicU64,
    /// Claims of invalidity.
    pub invalid: AtomicU64,
    /// Claims of invalidity that had to wait for their turn.
    pub invalid_held: AtomicU64,
    /// Requests taken over at their deadline.
    pub late: AtomicU64,
    /// Requests that the engine declined.
    pub declined: AtomicU64,
    /// Answers to nothing in flight.
    pub unasked: AtomicU64,
    /// Requests that went to the CPU without a claim: small batches, full engine, quarantine.
    pub cpu_only: AtomicU64,
    /// Times that the engine was put aside.
    pub quarantines: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, more: usize) {
        counter.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// (name, value) of each counter.
    pub fn read(&self) -> [(&'static str, u64); 11] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("asked", get(&self.asked)),
            ("confirmed", get(&self.confirmed)),
            ("unchecked", get(&self.unchecked)),
            ("lies", get(&self.lies)),
            ("invalid", get(&self.invalid)),
            ("invalid_held", get(&self.invalid_held)),
            ("late", get(&self.late)),
            ("declined", get(&self.declined)),
            ("unasked", get(&self.unasked)),
            ("cpu_only", get(&self.cpu_only)),
            ("quarantines", get(&self.quarantines)),
        ]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free,
    /// The hinting engine has it.
    Asked,
    /// The trusted engine has it, or is about to; with the claim to compare.
    Checking(Option<Verdict>),
}

#[derive(Clone, Copy)]
struct Slot {
    generation: u32,
    stage: Stage,
    request: RecoverRequest,
}

/// A hinting engine whose answers are checked.
pub struct Checked<E> {
    hinting: E,
    trusted: Box<dyn RecoverEngine>,
    teach: Option<Teach>,
    config: Config,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// (deadline, tag) in the order of submission.
    deadlines: VecDeque<(Instant, u64)>,
    /// For the trusted engine, tags as ours.
    to_check: Vec<RecoverRequest>,
    /// Claims of invalidity that wait for their turn.
    held: VecDeque<u64>,
    tokens: f64,
    filled_at: Instant,
    /// Tags that were taken over late and may still be answered, at most once each.
    owed_late: std::collections::HashSet<u64>,
    recent_declined: u32,
    recent_claims: u32,
    quarantine: Option<Quarantine>,
    counters: Arc<Counters>,
    alarm: Option<Alarm>,
    random: u64,
}

impl<E: ClaimEngine> Checked<E> {
    /// Puts a hinting engine before a trusted one. `waker` should be the one that both engines were given; here it is
    /// rung at deadlines.
    ///
    /// # Panics
    /// If `trusted` is not [`Trust::Trusted`].
    pub fn new(
        hinting: E,
        trusted: Box<dyn RecoverEngine>,
        teach: Option<Teach>,
        config: Config,
        waker: Option<Waker>,
    ) -> Self {
        assert_eq!(trusted.caps().trust, Trust::Trusted, "the engine that checks must be trusted");
        let capacity = u32::try_from(config.capacity.max(1)).unwrap_or(u32::MAX);
        let (request, _) = software::known_answer();
        let idle = Slot { generation: 0, stage: Stage::Free, request };
        Self {
            hinting,
            trusted,
            teach,
            config,
            slots: vec![idle; capacity as usize],
            free: (0..capacity).rev().collect(),
            deadlines: VecDeque::new(),
            to_check: Vec::new(),
            held: VecDeque::new(),
            tokens: f64::from(config.invalid_per_s_max) / 10.0,
            filled_at: Instant::now(),
            owed_late: std::collections::HashSet::new(),
            recent_declined: 0,
            recent_claims: 0,
            quarantine: None,
            counters: Arc::default(),
            alarm: waker.and_then(Alarm::start),
            random: rand::random::<u64>() | 1,
        }
    }

    /// Why the hinting engine was put aside; `None` while it serves.
    pub fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.as_ref()
    }

    /// Counts, to be kept by whoever shows them.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// The engine behind.
    pub fn hinting(&self) -> &E {
        &self.hinting
    }

    /// Ends a quarantine, after the operator has looked: restarts the hinting engine, which then tests itself.
    ///
    /// # Errors
    /// Why it is not fit yet.
    pub fn readmit(&mut self) -> Result<(), String> {
        // Nothing is in flight there: the quarantine took everything over.
        self.hinting.restart()?;
        self.owed_late.clear();
        (self.recent_declined, self.recent_claims) = (0, 0);
        self.quarantine = None;
        Ok(())
    }

    /// The request of a tag that is in flight.
    fn slot(&mut self, tag: u64) -> Option<&mut Slot> {
        let (index, generation) = (tag as u32 as usize, (tag >> 32) as u32);
        self.slots.get_mut(index).filter(|slot| slot.generation == generation && slot.stage != Stage::Free)
    }

    fn put_aside(&mut self, reason: Quarantine) {
        if self.quarantine.is_some() {
            return;
        }
        self.quarantine = Some(reason);
        Counters::add(&self.counters.quarantines, 1);
        self.deadlines.clear();
        for index in 0..self.slots.len() {
            if self.slots[index].stage == Stage::Asked {
                self.check(index, None, None);
            }
        }
    }

    /// Queues a request for the trusted engine.
    fn check(&mut self, index: usize, claim: Option<Verdict>, hint: Option<Address>) {
        let slot = &mut self.slots[index];
        slot.stage = Stage::Checking(claim);
        let tag = u64::from(slot.generation) << 32 | index as u64;
        let hint = hint.or(slot.request.hint);
        self.to_check.push(RecoverRequest { tag, hint, ..slot.request });
        if claim.is_none() {
            Counters::add(&self.counters.cpu_only, 1);
        }
    }

    /// Whether this claim is one of those that are looked at.
    fn sampled(&mut self) -> bool {
        match self.config.trusting {
            Trusting::Never => true,
            Trusting::Sample { one_in } => {
                // xorshift64: a card cannot see it, and it decides nothing but which claims are looked at.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.random % u64::from(one_in.max(1)) == 0
            }
        }
    }

    fn take_claim(&mut self, claim: Claim, out: &mut Vec<RecoverAnswer>) {
        if self.owed_late.remove(&claim.tag) {
            return;
        }
        let tag = claim.tag;
        match self.slot(tag) {
            Some(slot) if slot.stage == Stage::Asked => {}
            _ => {
                Counters::add(&self.counters.unasked, 1);
                self.put_aside(Quarantine::Unasked(tag));
                return;
            }
        }
        let index = tag as u32 as usize;
        self.recent_claims += 1;
        if self.recent_claims >= 1_024 {
            (self.recent_claims, self.recent_declined) = (0, 0);
        }
        match claim.verdict {
            Verdict::Declined(_) => {
                Counters::add(&self.counters.declined, 1);
                self.recent_declined += 1;
                self.check(index, None, None);
                if self.recent_declined > self.config.declined_max {
                    self.put_aside(Quarantine::Declines(self.recent_declined));
                }
            }
            Verdict::Invalid(_) => {
                Counters::add(&self.counters.invalid, 1);
                self.slots[index].stage = Stage::Checking(Some(claim.verdict));
                self.held.push_back(tag);
            }
            Verdict::Signer { address, key } => {
                if let Some(key) = key {
                    let hashed = software::address_of(&key);
                    if hashed != address {
                        Counters::add(&self.counters.lies, 1);
                        self.check(index, None, None);
                        self.put_aside(Quarantine::Key { claimed: address, hashed });
                        return;
                    }
                    if let Some(teach) = &mut self.teach {
                        teach(address, &key);
                    }
                }
                if self.sampled() {
                    self.check(index, Some(claim.verdict), Some(address));
                } else {
                    Counters::add(&self.counters.unchecked, 1);
                    self.leave(index, Ok(address), out);
                }
            }
        }
    }

    /// Lets claims of invalidity through to their check, as many as the rate allows.
    fn release_held(&mut self) {
        let now = Instant::now();
        let rate = f64::from(self.config.invalid_per_s_max.max(1));
        let grown = now.duration_since(self.filled_at).as_secs_f64() * rate;
        self.tokens = (self.tokens + grown).min((rate / 10.0).max(1.0));
        self.filled_at = now;
        while let Some(&tag) = self.held.front() {
            // After a quarantine nothing is waited for: what is left is checked at once.
            if self.tokens < 1.0 && self.quarantine.is_none() {
                Counters::add(&self.counters.invalid_held, 1);
                break;
            }
            self.tokens = (self.tokens - 1.0).max(0.0);
            self.held.pop_front();
            let index = tag as u32 as usize;
            if let Some(Stage::Checking(claim)) = self.slot(tag).map(|slot| slot.stage) {
                self.check(index, claim, None);
            }
        }
    }

    fn take_over_late(&mut self) {
        let now = Instant::now();
        let mut late = 0;
        while let Some(&(deadline, tag)) = self.deadlines.front() {
            let asked = self.slot(tag).is_some_and(|slot| slot.stage == Stage::Asked);
            if asked && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if asked {
                late += 1;
                self.owed_late.insert(tag);
                self.check(tag as u32 as usize, None, None);
            }
        }
        if late > 0 {
            Counters::add(&self.counters.late, late);
            let count = self.counters.late.load(Ordering::Relaxed);
            if count > self.config.late_max {
                self.put_aside(Quarantine::Late { count, deadline: self.config.deadline });
            }
        }
    }

    /// Compares a trusted answer with what was claimed.
    fn judge(&mut self, claim: Option<Verdict>, right: Result<Address, RecoverError>) {
        let lie = match claim {
            Some(Verdict::Signer { address, .. }) if right != Ok(address) => {
                Quarantine::Lie { claimed: address, right }
            }
            Some(Verdict::Invalid(error)) if right != Err(error) => {
                Quarantine::FalseInvalid { claimed: error, right }
            }
            Some(_) => {
                Counters::add(&self.counters.confirmed, 1);
                return;
            }
            None => return,
        };
        Counters::add(&self.counters.lies, 1);
        self.put_aside(lie);
    }

    fn leave(&mut self, index: usize, result: Result<Address, RecoverError>, out: &mut Vec<RecoverAnswer>) {
        let slot = &mut self.slots[index];
        out.push(RecoverAnswer { tag: slot.request.tag, result });
        slot.stage = Stage::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index as u32);
    }
}

impl<E: ClaimEngine> RecoverEngine for Checked<E> {
    fn caps(&self) -> Caps {
        let (hinting, trusted) = (self.hinting.caps(), self.trusted.caps());
        Caps {
            name: hinting.name,
            trust: Trust::Trusted,
            capacity: self.slots.len(),
            batch_min: self.config.batch_min.max(1),
            parallelism: if self.quarantine.is_some() { trusted.parallelism } else { hinting.parallelism },
        }
    }

    fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full> {
        let count = batch.len().min(self.free.len());
        let use_hints = self.quarantine.is_none() && count >= self.config.batch_min;
        let mut asked = Vec::new();
        for request in batch.drain(..count) {
            // `count` is at most the number of free slots.
            let Some(index) = self.free.pop() else { break };
            let slot = &mut self.slots[index as usize];
            slot.request = request;
            // Ranges are judged here: a card has nothing to add, and an attacker nothing to gain.
            if use_hints && request.check_ranges().is_ok() {
                slot.stage = Stage::Asked;
                let tag = u64::from(slot.generation) << 32 | u64::from(index);
                asked.push(RecoverRequest { tag, ..request });
            } else {
                self.check(index as usize, None, None);
            }
        }
        let wanted = asked.len();
        if wanted > 0 {
            let deadline = Instant::now() + self.config.deadline;
            self.deadlines.extend(asked.iter().map(|request| (deadline, request.tag)));
            let _full = self.hinting.submit(&mut asked);
            Counters::add(&self.counters.asked, wanted - asked.len());
            // A full card is no reason to wait: the CPU is there.
            for request in &asked {
                self.check(request.tag as u32 as usize, None, None);
            }
            if let Some(alarm) = &self.alarm {
                alarm.set(deadline);
            }
        }
        let _full = self.trusted.submit(&mut self.to_check);
        if batch.is_empty() { Ok(()) } else { Err(Full) }
    }

    fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize {
        let before = out.len();
        if self.quarantine.is_none() {
            let mut claims = Vec::new();
            self.hinting.poll_claims(&mut claims);
            for claim in claims {
                if self.quarantine.is_some() {
                    // Whatever else it said in that breath has been taken over already.
                    break;
                }
                self.take_claim(claim, out);
            }
            if let Some(fault) = self.hinting.fault() {
                self.put_aside(Quarantine::Fault(fault));
            }
            self.take_over_late();
        }
        self.release_held();
        let _full = self.trusted.submit(&mut self.to_check);
        let mut answers = Vec::new();
        self.trusted.poll(&mut answers);
        for answer in answers {
            let index = answer.tag as u32 as usize;
            if let Some(Stage::Checking(claim)) = self.slot(answer.tag).map(|slot| slot.stage) {
                self.judge(claim, answer.result);
                self.leave(index, answer.result, out);
            }
        }
        let _full = self.trusted.submit(&mut self.to_check);
        if let Some(alarm) = &self.alarm {
            if !self.held.is_empty() {
                alarm.set(Instant::now() + Duration::from_millis(1));
            } else if let Some((deadline, _)) = self.deadlines.front() {
                alarm.set(*deadline);
            }
        }
        out.len() - before
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// A thread that rings the owner at the earliest time it was set to.
struct Alarm {
    shared: Arc<AlarmShared>,
    thread: Option<JoinHandle<()>>,
}

struct AlarmShared {
    at: Mutex<Option<Instant>>,
    bell: os::EventFd,
    stop: AtomicBool,
}

impl Alarm {
    /// `None` where no thread can be had; deadlines are then seen at the owner's next poll.
    fn start(waker: Waker) -> Option<Self> {
        let bell = os::EventFd::new().ok()?;
        let shared = Arc::new(AlarmShared { at: Mutex::new(None), bell, stop: AtomicBool::new(false) });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("offload-alarm".into())
            .spawn(move || {
                while !theirs.stop.load(Ordering::Acquire) {
                    let now = Instant::now();
                    let due = {
                        let mut at = theirs.at.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        let due = at.is_some_and(|at| at <= now);
                        if due {
                            *at = None;
                        }
                        if due { None } else { Some(at.map_or(Duration::from_secs(3_600), |at| at - now)) }
                    };
                    match due {
                        None => waker(),
                        Some(left) => {
                            // Whole milliseconds, rounded up: never early, never a spin.
                            let left = left + Duration::from_millis(1);
                            let _ = os::wait_readable([theirs.bell.as_fd()], left);
                            theirs.bell.drain();
                        }
                    }
                }
            })
            .ok()?;
        Some(Self { shared, thread: Some(thread) })
    }

    /// Rings at `when`, or earlier if it was set to an earlier time.
    fn set(&self, when: Instant) {
        let mut at = self.shared.at.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if at.is_none_or(|at| when < at) {
            *at = Some(when);
            drop(at);
            self.shared.bell.ring();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
