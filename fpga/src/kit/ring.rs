//! Tests of a card's rings, entry by entry.

use super::vectors::{Case, Random, Vectors};
use super::{Outcome, Plan};
use crate::abi::{self, Completion, Submission, status};
use crate::backend::ring::{CardError, HostRing};
use crate::patience::Patience;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long the kit waits for what must not happen.
const SILENCE: Duration = Duration::from_millis(8);
/// Entries behind the ring's ends that are looked at again for changes.
const RECENT: usize = 8;
/// Within this time the heart must have beaten; the ABI says 100 ms, the rest is for a busy host.
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(400);

type Checked = Result<(), String>;

struct Kit<'a> {
    ring: &'a mut HostRing,
    plan: &'a Plan,
    rng: Random,
    cases: u64,
    pending: HashMap<u64, (Submission, Completion)>,
    written: VecDeque<Submission>,
    consumed: VecDeque<Completion>,
    used_tags: u64,
}

/// Runs every ring test. `progress` is told how many answers were checked so far.
pub fn check(ring: &mut HostRing, vectors: &Vectors, plan: &Plan, progress: &mut dyn FnMut(u64)) -> Outcome {
    type Test<'k> = (&'static str, fn(&mut Kit<'k>, &Vectors) -> Checked);
    let tests: [Test<'_>; 13] = [
        ("one request at a time", Kit::one_by_one),
        ("directed vectors", Kit::directed),
        ("extreme tags", Kit::tags),
        ("malformed entries", Kit::malformed),
        ("wrap", Kit::wrap),
        ("nothing before the doorbell", Kit::doorbell),
        ("full rings", Kit::full),
        ("random signatures", Kit::random),
        ("a sleeping host is rung", Kit::sleeping),
        ("reset while working", Kit::reset_working),
        ("reset with full rings", Kit::reset_full),
        ("after the resets", Kit::directed),
        ("heartbeat", Kit::heartbeat),
    ];
    let mut outcome = Outcome::default();
    let mut kit = Kit {
        ring,
        plan,
        rng: Random::new(plan.seed ^ 0x6b69_7400),
        cases: 0,
        pending: HashMap::new(),
        written: VecDeque::new(),
        consumed: VecDeque::new(),
        used_tags: 0,
    };
    for (name, test) in tests {
        let before = kit.cases;
        let result = test(&mut kit, vectors);
        let failed = result.is_err();
        outcome.record(name, kit.cases - before, result);
        progress(outcome.cases);
        if failed {
            if plan.stop_at_first {
                break;
            }
            // A card that failed a test gets a clean start for the next.
            if let Err(error) = kit.reset() {
                outcome.record("reset after a failure", 0, Err(error));
                break;
            }
        }
    }
    outcome
}

/// Tells the driver to stop and waits until it has gone.
pub fn removal(ring: &HostRing, limit: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    let gone = ring.stop(limit);
    outcome.record("leaves when told to", u64::from(gone.is_ok()), gone.map_err(|e| e.to_string()));
    outcome
}

fn text(error: CardError) -> String {
    error.to_string()
}

impl Kit<'_> {
    fn reset(&mut self) -> Checked {
        self.pending.clear();
        self.written.clear();
        self.consumed.clear();
        self.ring.reset().map_err(text)
    }

    /// A tag that was not used before, using all 64 bits.
    fn tag(&mut self) -> u64 {
        self.used_tags += 1;
        // An odd factor makes this a permutation of the 64-bit numbers.
        self.used_tags.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Writes an entry and remembers what must come back.
    fn push(&mut self, asked: &Submission, right: &Completion, tag: u64) {
        let entry = Submission { tag, epoch: self.ring.epoch(), seal: self.ring.next_phase(), ..*asked };
        self.push_exactly(&entry, right);
    }

    fn push_exactly(&mut self, entry: &Submission, right: &Completion) {
        self.ring.push_as_is(entry);
        self.pending.insert(entry.tag, (*entry, *right));
        self.written.push_front(*entry);
        self.written.truncate(RECENT);
    }

    /// Checks the completions that lie ready; returns how many.
    fn take(&mut self, most: usize) -> Result<usize, String> {
        let mut count = 0;
        while count < most {
            let Some(found) = self.ring.pop().map_err(text)? else { break };
            let (asked, right) = self
                .pending
                .remove(&found.tag)
                .ok_or_else(|| format!("tag {:#x} is answered, which is not in flight", found.tag))?;
            if let Some(rule) = found.violation(&asked) {
                return Err(format!("{rule} (tag {:#x})", found.tag));
            }
            let about =
                || format!("hash {:02x?}, r {:02x?}, s {:02x?}, v {}", asked.hash, asked.r, asked.s, asked.v);
            if found.status != right.status {
                return Err(format!("status {} instead of {}: {}", found.status, right.status, about()));
            }
            if found.public_key != right.public_key {
                let what = if asked.op == abi::OP_KECCAK { "digest" } else { "public key" };
                return Err(format!("a wrong {what}: {}", about()));
            }
            if found.address != right.address {
                return Err(format!("a wrong address: {}", about()));
            }
            self.consumed.push_front(found);
            self.consumed.truncate(RECENT);
            self.cases += 1;
            count += 1;
        }
        if count > 0 {
            // Before the host writes there itself and hides what the card wrote.
            self.ring.check_host_page().map_err(text)?;
        }
        Ok(count)
    }

    /// Waits until everything in flight was answered.
    fn drain(&mut self) -> Checked {
        let mut patience = Patience::new(self.plan.answer_limit);
        while !self.pending.is_empty() {
            if self.take(usize::MAX)? > 0 {
                self.ring.return_completions();
                patience.renew();
                continue;
            }
            self.ring.check_alive().map_err(text)?;
            if patience.is_over() {
                let left = self.pending.len();
                return Err(format!("{left} requests had no answer within {:?}", self.plan.answer_limit));
            }
            if patience.used() > Duration::from_micros(200) {
                self.ring.wait(Duration::from_micros(500));
            } else {
                std::thread::yield_now();
            }
        }
        self.ring.return_completions();
        self.at_rest()
    }

    /// What must hold when nothing is in flight.
    fn at_rest(&mut self) -> Checked {
        let mut patience = Patience::new(self.plan.answer_limit);
        loop {
            let queued = self.ring.queued().map_err(text)?;
            if queued == 0 {
                break;
            }
            if patience.is_over() {
                return Err(format!("everything is answered, yet {queued} submissions count as not taken"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        if self.ring.ready() {
            return Err("a completion came that nobody asked for".into());
        }
        if !self.ring.is_running() {
            return Err("the card says that it is not running".into());
        }
        self.ring.check_host_page().map_err(text)?;
        if self.ring.capabilities_now() != *self.ring.capabilities() {
            return Err("the capability block changed while the card was running".into());
        }
        let entries = self.ring.entries() as usize;
        for (back, entry) in self.written.iter().enumerate().take(entries) {
            if self.ring.written(back as u32 + 1) != *entry {
                return Err("the card wrote into the submission ring".into());
            }
        }
        for (back, completion) in self.consumed.iter().enumerate().take(entries) {
            if self.ring.consumed(back as u32 + 1) != *completion {
                return Err("the card changed a completion after it was posted".into());
            }
        }
        self.cases += 1;
        Ok(())
    }

    /// Nothing may come now.
    fn silence(&mut self) -> Checked {
        std::thread::sleep(SILENCE);
        self.at_rest()
    }

    /// Runs cases through the rings, `burst` to a doorbell (0: a random number), keeping the ring as full as it goes.
    fn exchange(&mut self, cases: &[&Case], burst: usize) -> Checked {
        let mut next = 0;
        let mut patience = Patience::new(self.plan.answer_limit);
        while next < cases.len() {
            let entries = self.ring.entries();
            let room = entries - self.ring.queued().map_err(text)?.min(entries);
            // No more than half a ring in flight keeps the random bursts random.
            let room = (room as usize).min(entries as usize - (self.pending.len().min(entries as usize)));
            let wanted = if burst == 0 { 1 + self.rng.below(u64::from(entries)) as usize } else { burst };
            let count = wanted.min(cases.len() - next);
            if count <= room {
                for case in &cases[next..next + count] {
                    let tag = self.tag();
                    self.push(&case.asked, &case.right, tag);
                }
                self.ring.ring_doorbell();
                next += count;
                patience.renew();
            }
            if self.take(usize::MAX)? > 0 {
                self.ring.return_completions();
                patience.renew();
            } else if patience.is_over() {
                return self.drain();
            } else if patience.used() > Duration::from_micros(200) {
                self.ring.check_alive().map_err(text)?;
                self.ring.wait(Duration::from_micros(500));
            }
        }
        self.drain()
    }

    fn one_by_one(&mut self, vectors: &Vectors) -> Checked {
        let offered = vectors.offered(self.ring.capabilities());
        let some: Vec<&Case> = offered.iter().step_by(offered.len().div_ceil(24).max(1)).copied().collect();
        for case in some {
            self.exchange(&[case], 1)?;
        }
        self.silence()
    }

    fn directed(&mut self, vectors: &Vectors) -> Checked {
        let offered = vectors.offered(self.ring.capabilities());
        self.exchange(&offered, 0)?;
        // Once more, many to a doorbell, in the other order.
        let other: Vec<&Case> = offered.iter().rev().copied().collect();
        self.exchange(&other, (self.ring.entries() / 2) as usize)?;
        self.silence()
    }

    fn tags(&mut self, vectors: &Vectors) -> Checked {
        let offered = vectors.offered(self.ring.capabilities());
        let good: Vec<&&Case> = offered
            .iter()
            .filter(|case| case.asked.op == abi::OP_RECOVER && case.right.status == status::OK)
            .collect();
        let tags = [0, u64::MAX, 1, 1 << 63, 1 << 32, u64::from(u32::MAX), (1 << 32) | 1, 0xff];
        for pair in tags.chunks(2) {
            for (i, tag) in pair.iter().enumerate() {
                if let Some(case) = good.get(*tag as usize % good.len().max(1) + i) {
                    self.push(&case.asked, &case.right, *tag);
                }
            }
            self.ring.ring_doorbell();
            self.drain()?;
        }
        Ok(())
    }

    fn malformed(&mut self, vectors: &Vectors) -> Checked {
        let caps = *self.ring.capabilities();
        let Some(good) = vectors.random.iter().find(|case| case.right.status == status::OK) else {
            return Err("the plan has no random signatures".into());
        };
        let epoch = self.ring.epoch();
        let base = Submission { epoch, ..good.asked };
        let nop = Submission { op: abi::OP_NOP, epoch, ..Submission::ZERO };
        let mut wrong: Vec<(Submission, u16)> = Vec::new();
        for at in 0..11 {
            let mut entry = base;
            entry.reserved[at] = 1 << (at % 8);
            wrong.push((entry, status::MALFORMED));
        }
        // Bits to be put on top of the right seal; see below.
        for bit in [1, 2, 16, 31] {
            wrong.push((Submission { seal: 1 << bit, ..base }, status::MALFORMED));
        }
        // The wrong phase.
        wrong.push((Submission { seal: 1, ..base }, status::MALFORMED));
        for other in [epoch.wrapping_sub(1), epoch.wrapping_add(1), 0, u32::MAX] {
            wrong.push((Submission { epoch: other, ..base }, status::STALE_EPOCH));
        }
        for op in [3, 7, 63, 64, 255, 256, 0x8001, u16::MAX] {
            wrong.push((Submission { op, ..base }, status::BAD_OP));
        }
        for bit in 1..16 {
            wrong.push((Submission { flags: 1 << bit, ..base }, status::BAD_FLAGS));
        }
        wrong.push((Submission { flags: abi::FLAG_ANY_S, ..nop }, status::BAD_FLAGS));
        if caps.features & abi::FEATURE_ANY_S == 0 {
            wrong.push((Submission { flags: abi::FLAG_ANY_S, ..base }, status::BAD_FLAGS));
        }
        let keccak = Submission { epoch, ..Submission::keccak(0, b"abc") };
        if caps.offers(abi::OP_KECCAK) {
            for v in [97, 98, 128, 255] {
                wrong.push((Submission { v, ..keccak }, status::BAD_LENGTH));
            }
            wrong.push((Submission { flags: abi::FLAG_ANY_S, ..keccak }, status::BAD_FLAGS));
            wrong.push((Submission { flags: 2, v: 200, ..keccak }, status::BAD_FLAGS));
        } else {
            wrong.push((keccak, status::BAD_OP));
        }
        // Which complaint comes first.
        wrong.push((Submission { op: 99, epoch: epoch ^ 7, seal: 2, ..base }, status::MALFORMED));
        wrong.push((Submission { op: 99, epoch: epoch ^ 7, flags: 4, ..base }, status::STALE_EPOCH));
        wrong.push((Submission { op: 99, flags: 4, ..base }, status::BAD_OP));
        wrong.push((Submission { flags: 4, v: 9, r: [0; 32], ..base }, status::BAD_FLAGS));
        for (entry, expected) in wrong {
            let tag = self.tag();
            let seal = entry.seal ^ self.ring.next_phase();
            let right = Completion { status: expected, ..Completion::ZERO };
            self.push_exactly(&Submission { tag, seal, ..entry }, &right);
            // A good one beside it must not suffer.
            let tag = self.tag();
            self.push(&good.asked, &good.right, tag);
            self.ring.ring_doorbell();
            self.drain().map_err(|e| {
                format!(
                    "{e} (op {}, flags {:#x}, epoch {}, v {})",
                    entry.op, entry.flags, entry.epoch, entry.v
                )
            })?;
        }
        Ok(())
    }

    fn wrap(&mut self, vectors: &Vectors) -> Checked {
        let entries = self.ring.entries() as usize;
        let Some(nop) = vectors.directed.iter().find(|case| case.asked.op == abi::OP_NOP) else {
            return Err("the plan has no NOP".into());
        };
        let laps = vec![nop; (entries * 5 + 3).min(40_000)];
        self.exchange(&laps, 0)?;
        for burst in [1, entries - 1, entries] {
            self.exchange(&laps[..laps.len().min(entries * 2 + 1)], burst)?;
        }
        Ok(())
    }

    fn doorbell(&mut self, vectors: &Vectors) -> Checked {
        for case in vectors.random.iter().take(3) {
            let tag = self.tag();
            self.push(&case.asked, &case.right, tag);
        }
        std::thread::sleep(SILENCE);
        if self.ring.queued().map_err(text)? != 3 {
            return Err("submissions were taken before the doorbell".into());
        }
        if self.ring.ready() {
            return Err("a submission was completed before the doorbell".into());
        }
        self.cases += 1;
        self.ring.ring_doorbell();
        self.drain()
    }

    /// Waits until the card has taken every submission.
    fn until_taken(&mut self) -> Checked {
        let mut patience = Patience::new(self.plan.answer_limit);
        while self.ring.queued().map_err(text)? != 0 {
            if patience.is_over() {
                return Err("a submission ring that is full is not emptied".into());
            }
            self.ring.check_alive().map_err(text)?;
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Fills both rings: as many completions as fit lie unread, and as many requests again are in flight.
    fn fill(&mut self, vectors: &Vectors) -> Checked {
        let entries = self.ring.entries();
        let mut needed = Duration::ZERO;
        for half in 0..2 {
            let begun = Instant::now();
            for i in 0..entries {
                let case = &vectors.random[(half * entries + i) as usize % vectors.random.len()];
                let tag = self.tag();
                self.push(&case.asked, &case.right, tag);
            }
            self.ring.ring_doorbell();
            self.until_taken()?;
            if half == 0 {
                let mut patience = Patience::new(self.plan.answer_limit);
                while !self.ring.sealed(entries - 1) {
                    if patience.is_over() {
                        return Err(format!("{entries} requests do not fill the completion ring"));
                    }
                    self.ring.check_alive().map_err(text)?;
                    std::thread::sleep(Duration::from_micros(100));
                }
                needed = begun.elapsed();
            }
        }
        // The second half is worked on behind the full ring, where nobody sees it; it takes what the first took.
        std::thread::sleep(SILENCE.max(needed * 2).min(self.plan.answer_limit));
        Ok(())
    }

    fn full(&mut self, vectors: &Vectors) -> Checked {
        if vectors.random.is_empty() {
            return Err("the plan has no random signatures".into());
        }
        self.fill(vectors)?;
        let entries = self.ring.entries() as usize;
        let mut taken = 0;
        let mut patience = Patience::new(self.plan.answer_limit * 4);
        while taken < entries {
            taken += self.take(entries - taken)?;
            if patience.is_over() {
                return Err(format!("only {taken} of {entries} completions came while the ring was full"));
            }
            self.ring.check_alive().map_err(text)?;
            std::thread::yield_now();
        }
        std::thread::sleep(SILENCE);
        // Nothing was given back yet, so the slot that comes next still holds the oldest completion.
        if self.ring.ready() {
            return Err("a full completion ring was written over".into());
        }
        self.cases += 1;
        self.ring.return_completions();
        self.drain()?;
        self.silence()
    }

    fn random(&mut self, vectors: &Vectors) -> Checked {
        let all: Vec<&Case> = vectors.random.iter().collect();
        self.exchange(&all, 0)?;
        // Late duplicates have had their time.
        std::thread::sleep(Duration::from_millis(40));
        self.at_rest()
    }

    fn sleeping(&mut self, vectors: &Vectors) -> Checked {
        let mut missed = 0;
        for case in vectors.random.iter().take(4) {
            let tag = self.tag();
            self.push(&case.asked, &case.right, tag);
            self.ring.announce_sleep();
            self.ring.ring_doorbell();
            // One miss may be a host that did not run for so long.
            missed += u32::from(!self.ring.await_ring(self.plan.answer_limit));
            self.drain()?;
        }
        if missed > 1 {
            return Err(format!("the host slept four times and was not rung {missed} times"));
        }
        self.cases += 1;
        Ok(())
    }

    fn reset_working(&mut self, vectors: &Vectors) -> Checked {
        for round in 0..3 {
            let entries = self.ring.entries() as usize;
            for case in vectors.random.iter().cycle().take(entries / (round + 1)) {
                let tag = self.tag();
                self.push(&case.asked, &case.right, tag);
            }
            self.ring.ring_doorbell();
            self.reset()?;
            self.silence().map_err(|e| format!("after a reset: {e}"))?;
            let some: Vec<&Case> = vectors.random.iter().take(entries + 3).collect();
            self.exchange(&some, 0)?;
        }
        Ok(())
    }

    fn reset_full(&mut self, vectors: &Vectors) -> Checked {
        self.fill(vectors)?;
        self.reset()?;
        self.silence().map_err(|e| format!("after a reset with full rings: {e}"))?;
        let some: Vec<&Case> = vectors.random.iter().take(2 * self.ring.entries() as usize).collect();
        self.exchange(&some, 0)
    }

    fn heartbeat(&mut self, _vectors: &Vectors) -> Checked {
        let first = self.ring.telemetry().heartbeat;
        let mut patience = Patience::new(HEARTBEAT_LIMIT);
        while self.ring.telemetry().heartbeat == first {
            if patience.is_over() {
                return Err(format!("the heartbeat stood still for {HEARTBEAT_LIMIT:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.cases += 1;
        Ok(())
    }
}
