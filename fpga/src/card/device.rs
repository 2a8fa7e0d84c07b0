//! The card's end of the rings.
//!
//! In: submissions, taken as copies. Out: one completion each, in any order. On overload: a full completion ring holds
//! completions back, and then submissions stay in their ring.

use crate::abi::{
    self, Capabilities, Completion, ENTRY_BYTES, Submission, card_page, command, host_page, state, status,
};
use crate::backend::ring::link::CardLink;
use crate::backend::ring::os;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

/// Submissions that are taken at once.
const BATCH: u32 = 64;
/// How long a card with nothing to do sleeps; its heart must beat every 100 ms.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// Sleep where nobody rings.
const POLL: Duration = Duration::from_micros(50);

/// What a card computes with.
pub trait Compute: Send {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Appends one completion for each submission of `batch`, in any order. All submissions are well-formed and of
    /// operations and flags that the capabilities offer; seal and epoch are the caller's business.
    fn answer(&mut self, batch: &[Submission], out: &mut Vec<Completion>);

    /// (millidegrees Celsius, milliwatts), zero where nothing measures.
    fn measured(&self) -> (i32, u32) {
        (0, 0)
    }
}

impl Compute for Box<dyn Compute> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }
    fn answer(&mut self, batch: &[Submission], out: &mut Vec<Completion>) {
        (**self).answer(batch, out);
    }
    fn measured(&self) -> (i32, u32) {
        (**self).measured()
    }
}

/// What a card is doing when it may stop doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it states its capabilities.
    Start,
    /// Before it does a reset; the number counts resets from 1.
    Reset(u32),
    /// Before it runs.
    Run,
    /// Before it takes submissions; so many were taken since power-on.
    Take(u64),
}

/// How a completion is put into its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Free-running index of the slot.
    pub index: u32,
    /// XORed onto the seal.
    pub seal_xor: u32,
    /// Publish the seal before the rest, and the rest so much later.
    pub torn: Option<Duration>,
}

/// Where a card behaves or misbehaves. Every method's default is right.
pub trait Conduct: Send {
    /// Changes what the card says about itself.
    fn capabilities(&mut self, _caps: &mut Capabilities) {}
    /// Whether the card stops here for good.
    fn hangs(&mut self, _at: Moment) -> bool {
        false
    }
    /// Whether the driver leaves without a word; so many submissions were taken.
    fn vanishes(&mut self, _taken: u64) -> bool {
        false
    }
    /// The submission tail that the card goes by.
    fn tail(&mut self, tail: u32, _head: u32) -> u32 {
        tail
    }
    /// The head that the card publishes.
    fn head(&mut self, head: u32) -> u32 {
        head
    }
    /// Changes an entry while it is taken.
    fn taken(&mut self, _index: u32, _submission: &mut Submission) {}
    /// Changes the verdict on an entry's form.
    fn form(&mut self, _submission: &Submission, verdict: u16) -> u16 {
        verdict
    }
    /// Turns one right completion into whatever is posted; `index` is its submission's.
    fn finished(&mut self, _index: u32, _asked: &Submission, right: Completion, out: &mut Vec<Completion>) {
        out.push(right);
    }
    /// Lets go of completions held back; called often.
    fn held(&mut self, _out: &mut Vec<Completion>) {}
    /// Changes how a completion is posted.
    fn posting(&mut self, _log2: u32, posting: Posting) -> Posting {
        posting
    }
    /// Whether the completion ring's room is respected.
    fn respects_room(&self) -> bool {
        true
    }
    /// The epoch that a reset for `epoch` reports.
    fn reset_epoch(&mut self, epoch: u32) -> u32 {
        epoch
    }
    /// Whether a reset forgets what was in the card.
    fn reset_forgets(&self) -> bool {
        true
    }
    /// Whether a reset sets head and tail to zero.
    fn reset_rewinds(&self) -> bool {
        true
    }
    /// Words (offset, value) written to the region after completions were posted.
    fn scribbles(&mut self, _log2: u32, _posted: u32) -> Vec<(usize, u32)> {
        Vec::new()
    }
    /// Whether the host's bell is rung.
    fn rings(&mut self) -> bool {
        true
    }
    /// The heartbeat that is shown.
    fn heartbeat(&mut self, beat: u64) -> u64 {
        beat
    }
}

/// A card without faults.
#[derive(Debug, Clone, Copy, Default)]
pub struct Honest;

impl Conduct for Honest {}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was done.
    Worked,
    /// Nothing was there to do.
    Idle,
    /// The host told the card to leave, or is gone.
    Leave,
}

/// A card.
pub struct Device<C, B = Honest> {
    link: CardLink,
    compute: C,
    conduct: B,
    caps: Capabilities,
    state: u32,
    epoch: u32,
    resets: u32,
    log2: u32,
    sq_head: u32,
    cq_tail: u32,
    taken: u64,
    completed: u64,
    beat: u64,
    /// Completions that wait for room.
    waiting: VecDeque<Completion>,
}

impl<C: Compute, B: Conduct> Device<C, B> {
    pub(crate) fn new(link: CardLink, compute: C, conduct: B) -> Self {
        let caps = compute.capabilities();
        Self {
            link,
            compute,
            conduct,
            caps,
            state: state::STARTING,
            epoch: 0,
            resets: 0,
            log2: 1,
            sq_head: 0,
            cq_tail: 0,
            taken: 0,
            completed: 0,
            beat: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Serves until the host wants no more, or `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.step() {
                Step::Worked => {}
                Step::Idle => self.sleep(),
                Step::Leave => return,
            }
        }
    }

    /// Does what there is to do, at most one batch.
    pub fn step(&mut self) -> Step {
        self.beat += 1;
        let beat = self.conduct.heartbeat(self.beat);
        self.link.region.store64(card_page::HEARTBEAT, beat);
        if self.conduct.vanishes(self.taken) {
            return Step::Leave;
        }
        if self.state == state::STARTING {
            return self.start();
        }
        let wanted = self.link.region.load(host_page::COMMAND, Ordering::Acquire);
        let epoch = self.link.region.load(host_page::EPOCH, Ordering::Relaxed);
        match wanted {
            command::STOP => Step::Leave,
            command::RESET if epoch != self.epoch || self.state == state::RUNNING => self.reset(epoch),
            command::RUN if self.state == state::IDLE && epoch == self.epoch => self.begin(),
            _ if self.state == state::RUNNING => self.work(),
            _ => Step::Idle,
        }
    }

    fn set_state(&mut self, state: u32) {
        self.state = state;
        self.link.region.store(card_page::STATE, state, Ordering::Release);
    }

    fn start(&mut self) -> Step {
        if self.conduct.hangs(Moment::Start) {
            return Step::Idle;
        }
        let mut caps = self.caps;
        self.conduct.capabilities(&mut caps);
        self.link.region.write(0, &caps.to_bytes());
        self.set_state(state::IDLE);
        Step::Worked
    }

    fn reset(&mut self, epoch: u32) -> Step {
        self.resets += 1;
        if self.conduct.hangs(Moment::Reset(self.resets)) {
            return Step::Idle;
        }
        if self.conduct.reset_forgets() {
            self.waiting.clear();
            let mut lost = Vec::new();
            self.conduct.held(&mut lost);
        }
        self.epoch = epoch;
        if self.conduct.reset_rewinds() {
            (self.sq_head, self.cq_tail) = (0, 0);
        }
        self.link.region.store(card_page::SQ_HEAD, self.sq_head, Ordering::Relaxed);
        let told = self.conduct.reset_epoch(epoch);
        self.state = state::IDLE;
        self.link.region.store(card_page::STATE, state::IDLE, Ordering::Relaxed);
        self.link.region.store(card_page::EPOCH, told, Ordering::Release);
        Step::Worked
    }

    fn begin(&mut self) -> Step {
        if self.conduct.hangs(Moment::Run) {
            return Step::Idle;
        }
        let log2 = self.link.region.load(host_page::ENTRIES_LOG2, Ordering::Relaxed);
        let fits = (1..=16).contains(&log2) && abi::region_bytes(1 << log2) <= self.link.region.len();
        if !fits || 1u32 << log2 > self.caps.entries_max {
            self.link.region.store(card_page::FAULT, 1, Ordering::Relaxed);
            self.set_state(state::FAILED);
            return Step::Idle;
        }
        self.log2 = log2;
        self.set_state(state::RUNNING);
        Step::Worked
    }

    fn work(&mut self) -> Step {
        let mut submissions = Vec::new();
        let tail = self.link.region.load(host_page::SQ_TAIL, Ordering::Acquire);
        let tail = self.conduct.tail(tail, self.sq_head);
        let count = tail.wrapping_sub(self.sq_head).min(BATCH).min(1 << self.log2);
        let free = (self.waiting.len() as u32) < BATCH;
        if count > 0 && free && !self.conduct.hangs(Moment::Take(self.taken)) {
            for _ in 0..count {
                let index = self.sq_head;
                let offset = abi::submission_at(index, self.log2);
                let bytes: [u8; ENTRY_BYTES] = self.link.region.read(offset);
                let mut submission = Submission::from_bytes(&bytes);
                self.conduct.taken(index, &mut submission);
                submissions.push((index, submission));
                self.sq_head = self.sq_head.wrapping_add(1);
                self.taken += 1;
            }
            let head = self.conduct.head(self.sq_head);
            self.link.region.store(card_page::SQ_HEAD, head, Ordering::Release);
            self.answer(&submissions);
        }
        let mut held = Vec::new();
        self.conduct.held(&mut held);
        self.waiting.extend(held);
        let posted = self.post();
        if posted + count == 0 || (posted == 0 && submissions.is_empty()) { Step::Idle } else { Step::Worked }
    }

    fn answer(&mut self, submissions: &[(u32, Submission)]) {
        let mut finished: Vec<(u32, Submission, Completion)> = Vec::with_capacity(submissions.len());
        let mut good = Vec::new();
        let mut answers = Vec::new();
        for (index, submission) in submissions {
            let verdict = judge(submission, &self.caps, abi::phase(*index, self.log2), self.epoch);
            match self.conduct.form(submission, verdict) {
                status::OK => good.push((*index, *submission)),
                status => finished.push((
                    *index,
                    *submission,
                    Completion {
                        tag: submission.tag,
                        op: submission.op,
                        epoch: self.epoch,
                        status,
                        ..Completion::ZERO
                    },
                )),
            }
        }
        let batch: Vec<Submission> = good.iter().map(|(_, submission)| *submission).collect();
        self.compute.answer(&batch, &mut answers);
        // Matched by tag within the batch. Equal tags are the host's business: either completion fits either.
        for answer in answers {
            if let Some(at) = good.iter().position(|(_, submission)| submission.tag == answer.tag) {
                let (index, submission) = good.swap_remove(at);
                finished.push((index, submission, Completion { epoch: self.epoch, ..answer }));
            }
        }
        for (index, submission) in good {
            // Every request gets a completion, whatever the engine behind does.
            let lost = Completion {
                tag: submission.tag,
                op: submission.op,
                epoch: self.epoch,
                status: status::INTERNAL,
                ..Completion::ZERO
            };
            finished.push((index, submission, lost));
        }
        // Order is free, and a host that relies on one should notice.
        let mut out = Vec::new();
        for (index, submission, completion) in finished.iter().rev() {
            self.conduct.finished(*index, submission, *completion, &mut out);
        }
        self.waiting.extend(out);
    }

    /// Posts what fits; returns how many.
    fn post(&mut self) -> u32 {
        let mut posted = 0;
        while let Some(completion) = self.waiting.front() {
            let head = self.link.region.load(host_page::CQ_HEAD, Ordering::Acquire);
            if self.cq_tail.wrapping_sub(head) >= 1 << self.log2 && self.conduct.respects_room() {
                break;
            }
            let usual = Posting { index: self.cq_tail, seal_xor: 0, torn: None };
            let posting = self.conduct.posting(self.log2, usual);
            let seal = completion.seal | abi::phase(posting.index, self.log2);
            let bytes = Completion { seal: seal ^ posting.seal_xor, ..*completion }.to_bytes();
            let offset = abi::completion_at(posting.index, self.log2);
            match posting.torn {
                None => self.link.region.publish(offset, &bytes),
                Some(pause) => {
                    self.link.region.store(offset + 124, seal ^ posting.seal_xor, Ordering::Release);
                    std::thread::sleep(pause);
                    self.link.region.publish(offset, &bytes);
                }
            }
            self.waiting.pop_front();
            self.cq_tail = self.cq_tail.wrapping_add(1);
            self.completed += 1;
            posted += 1;
        }
        if posted > 0 {
            for (offset, value) in self.conduct.scribbles(self.log2, self.cq_tail) {
                self.link.region.store(offset, value, Ordering::Release);
            }
            self.link.region.store64(card_page::COMPLETED, self.completed);
            let (temperature, power) = self.compute.measured();
            self.link.region.store(card_page::TEMPERATURE, temperature.cast_unsigned(), Ordering::Relaxed);
            self.link.region.store(card_page::POWER, power, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if let Some((_, host)) = &self.link.events {
                if self.link.region.load(host_page::WAITS, Ordering::Relaxed) != 0 && self.conduct.rings() {
                    host.ring();
                }
            }
        }
        posted
    }

    fn sleep(&mut self) {
        if let Some((page, offset)) = &self.link.register {
            // The simulation's register stands for a wire: looked at, never slept on.
            let _tail = page.load(*offset, Ordering::Acquire);
        }
        let Some((card, _)) = &self.link.events else {
            std::thread::sleep(POLL);
            return;
        };
        let region = &self.link.region;
        region.store(card_page::WAITS, 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let nothing_new = region.load(host_page::SQ_TAIL, Ordering::Acquire) == self.sq_head;
        // Room in the completion ring is not looked at again after the fence, hence the short sleep.
        let quiet = nothing_new && self.waiting.is_empty();
        let limit = if quiet { SLEEP_MAX } else { Duration::from_millis(1) };
        let gone = match &self.link.socket {
            Some(socket) => {
                matches!(os::wait_readable([card.as_fd(), socket.as_fd()], limit), Ok([_, true]))
            }
            None => {
                let _ = os::wait_readable([card.as_fd()], limit);
                false
            }
        };
        region.store(card_page::WAITS, 0, Ordering::Relaxed);
        card.drain();
        if gone {
            // A host that is gone cannot give commands; this one is what it would have given.
            region.store(host_page::COMMAND, command::STOP, Ordering::Release);
        }
    }
}

/// What is wrong with an entry's form, in the order that the ABI fixes; [`status::OK`] if nothing is.
fn judge(submission: &Submission, caps: &Capabilities, phase: u32, epoch: u32) -> u16 {
    let flags = if submission.op == abi::OP_RECOVER && caps.features & abi::FEATURE_ANY_S != 0 {
        abi::FLAG_ANY_S
    } else {
        0
    };
    // A Keccak message uses hash, r and s only; `reserved` is never part of a request.
    if submission.seal != phase || submission.reserved != [0; 11] {
        status::MALFORMED
    } else if submission.epoch != epoch {
        status::STALE_EPOCH
    } else if !caps.offers(submission.op) {
        status::BAD_OP
    } else if submission.flags & !flags != 0 {
        status::BAD_FLAGS
    } else if submission.op == abi::OP_KECCAK && usize::from(submission.v) > abi::KECCAK_MAX {
        status::BAD_LENGTH
    } else {
        status::OK
    }
}
