//! The host's end of the rings, without policy: submit, doorbell, completions, reset. Everything read from the region is
//! checked against what the host knows by itself; a card can spoil its own rings and nothing else.

use super::link::{Doorbell, Link};
use super::{CardError, Limits};
use crate::abi::{self, Capabilities, Completion, Submission, card_page, command, host_page, state};
use crate::patience::Patience;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// How long the host sleeps between looks at a card that is starting or being reset.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// What a card measures about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Telemetry {
    /// Changes while the card lives.
    pub heartbeat: u64,
    /// Completions since power-on.
    pub completed: u64,
    /// Millidegrees Celsius; 0: not measured.
    pub temperature_mc: i32,
    /// Milliwatts; 0: not measured.
    pub power_mw: u32,
}

/// The rings of one card.
pub struct HostRing {
    pub(crate) link: Link,
    caps: Capabilities,
    limits: Limits,
    log2: u32,
    epoch: u32,
    sq_tail: u32,
    sq_head_seen: u32,
    cq_head: u32,
    cq_head_told: u32,
}

impl HostRing {
    /// Waits for the card's capabilities, checks them, and resets the card into rings of at most `entries` entries.
    pub(crate) fn start(link: Link, entries: u32, limits: Limits) -> Result<Self, CardError> {
        let mut ring = Self {
            link,
            caps: Capabilities::new("", "", ""),
            limits,
            log2: 1,
            epoch: 0,
            sq_tail: 0,
            sq_head_seen: 0,
            cq_head: 0,
            cq_head_told: 0,
        };
        ring.wait_for("to state its capabilities", limits.start, |ring| ring.state() != state::STARTING)?;
        ring.caps = Capabilities::from_bytes(&ring.link.region.read(0));
        ring.caps.check().map_err(CardError::Capability)?;
        let fits = ((ring.link.region.len() - abi::RINGS) / (2 * abi::ENTRY_BYTES)) as u32;
        let largest = 1 << fits.max(2).ilog2();
        ring.log2 = entries.min(ring.caps.entries_max).min(largest).max(abi::ENTRIES_MIN).ilog2();
        // A card that outlives its host remembers an epoch; the next one must differ.
        ring.epoch = ring.link.region.load(card_page::EPOCH, Ordering::Relaxed);
        ring.reset()?;
        Ok(ring)
    }

    /// Brings the card to an empty, running state. Whatever was in flight is forgotten on both sides.
    ///
    /// # Errors
    /// [`CardError`] when the card does not follow in time.
    pub fn reset(&mut self) -> Result<(), CardError> {
        let region = self.link.region.clone();
        self.epoch = self.epoch.wrapping_add(1).max(1);
        region.store(host_page::EPOCH, self.epoch, Ordering::Relaxed);
        region.store(host_page::COMMAND, command::RESET, Ordering::Release);
        self.link.ring_for_command();
        let epoch = self.epoch;
        self.wait_for("to do a reset", self.limits.reset, |ring| {
            ring.state() == state::IDLE && ring.link.region.load(card_page::EPOCH, Ordering::Acquire) == epoch
        })?;
        if region.load(card_page::SQ_HEAD, Ordering::Acquire) != 0 {
            return Err(CardError::Protocol("after a reset the card's head is not zero".into()));
        }
        region.clear(abi::RINGS, (2 * abi::ENTRY_BYTES) << self.log2);
        (self.sq_tail, self.sq_head_seen, self.cq_head, self.cq_head_told) = (0, 0, 0, 0);
        region.store(host_page::SQ_TAIL, 0, Ordering::Relaxed);
        region.store(host_page::CQ_HEAD, 0, Ordering::Relaxed);
        region.store(host_page::WAITS, 0, Ordering::Relaxed);
        region.store(host_page::ENTRIES_LOG2, self.log2, Ordering::Relaxed);
        region.store(host_page::COMMAND, command::RUN, Ordering::Release);
        self.link.ring_for_command();
        self.wait_for("to run", self.limits.reset, |ring| ring.state() == state::RUNNING)
    }

    fn wait_for(
        &self,
        what: &'static str,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), CardError> {
        let mut patience = Patience::new(limit);
        loop {
            if done(self) {
                return Ok(());
            }
            self.check_alive()?;
            if patience.is_over() {
                return Err(CardError::Timeout { what, limit });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Looks whether the card has gone or gave up.
    ///
    /// # Errors
    /// [`CardError::Vanished`], [`CardError::Failed`].
    pub fn check_alive(&self) -> Result<(), CardError> {
        if self.link.vanished() {
            Err(CardError::Vanished)
        } else if self.state() == state::FAILED {
            Err(CardError::Failed(self.link.region.load(card_page::FAULT, Ordering::Relaxed)))
        } else {
            Ok(())
        }
    }

    /// What the card said about itself when it was opened.
    pub fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    /// Entries of either ring.
    pub fn entries(&self) -> u32 {
        1 << self.log2
    }

    /// Number of the last reset.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    fn state(&self) -> u32 {
        self.link.region.load(card_page::STATE, Ordering::Acquire)
    }

    /// Submissions that the card has not taken out of the ring yet.
    ///
    /// # Errors
    /// [`CardError::Protocol`] when the card's head went backwards or past what was submitted.
    pub fn queued(&mut self) -> Result<u32, CardError> {
        let head = self.link.region.load(card_page::SQ_HEAD, Ordering::Acquire);
        let known = self.sq_tail.wrapping_sub(self.sq_head_seen);
        if head.wrapping_sub(self.sq_head_seen) > known {
            return Err(CardError::Protocol(format!(
                "the card's head is {head}, outside of what was submitted ({}..={})",
                self.sq_head_seen, self.sq_tail
            )));
        }
        self.sq_head_seen = head;
        Ok(self.sq_tail.wrapping_sub(head))
    }

    /// Writes an entry with this epoch and phase. The caller has made sure of room; the card learns of it by
    /// [`Self::ring_doorbell`].
    pub fn push(&mut self, submission: &Submission) {
        let seal = abi::phase(self.sq_tail, self.log2);
        self.push_as_is(&Submission { epoch: self.epoch, seal, ..*submission });
    }

    /// Writes an entry exactly as it stands, right or wrong.
    pub fn push_as_is(&mut self, submission: &Submission) {
        let offset = abi::submission_at(self.sq_tail, self.log2);
        self.link.region.publish(offset, &submission.to_bytes());
        self.sq_tail = self.sq_tail.wrapping_add(1);
    }

    /// The entry as it lies in the submission ring now; `back` 1 is the one written last.
    pub fn written(&self, back: u32) -> Submission {
        let offset = abi::submission_at(self.sq_tail.wrapping_sub(back), self.log2);
        Submission::from_bytes(&self.link.region.read(offset))
    }

    /// The completion as it lies in its ring now; `back` 1 is the one consumed last.
    pub fn consumed(&self, back: u32) -> Completion {
        let offset = abi::completion_at(self.cq_head.wrapping_sub(back), self.log2);
        Completion::from_bytes(&self.link.region.read(offset))
    }

    /// The phase that the next entry needs.
    pub fn next_phase(&self) -> u32 {
        abi::phase(self.sq_tail, self.log2)
    }

    /// Tells the card of all entries written.
    pub fn ring_doorbell(&mut self) {
        self.link.region.store(host_page::SQ_TAIL, self.sq_tail, Ordering::Release);
        self.link.ring(self.sq_tail);
    }

    /// Whether a completion lies ready.
    pub fn ready(&self) -> bool {
        self.sealed(0)
    }

    /// Whether the completion `ahead` of the next one lies ready.
    pub fn sealed(&self, ahead: u32) -> bool {
        let index = self.cq_head.wrapping_add(ahead);
        let seal = self.link.region.load(abi::completion_at(index, self.log2) + 124, Ordering::Acquire);
        seal & 1 == abi::phase(index, self.log2)
    }

    /// Takes the next completion, as a copy. The slot is the card's again after [`Self::return_completions`].
    ///
    /// # Errors
    /// [`CardError::Protocol`] for a completion of another epoch.
    pub fn pop(&mut self) -> Result<Option<Completion>, CardError> {
        if !self.ready() {
            return Ok(None);
        }
        let offset = abi::completion_at(self.cq_head, self.log2);
        let completion = Completion::from_bytes(&self.link.region.read(offset));
        if completion.seal & 1 != abi::phase(self.cq_head, self.log2) {
            return Err(CardError::Protocol("a completion changed while it was read".into()));
        }
        if completion.epoch != self.epoch {
            return Err(CardError::Protocol(format!(
                "a completion of epoch {} came in epoch {}",
                completion.epoch, self.epoch
            )));
        }
        self.cq_head = self.cq_head.wrapping_add(1);
        Ok(Some(completion))
    }

    /// Gives the slots of the completions taken back to the card.
    pub fn return_completions(&mut self) {
        if self.cq_head != self.cq_head_told {
            self.cq_head_told = self.cq_head;
            self.link.region.store(host_page::CQ_HEAD, self.cq_head, Ordering::Release);
            // A card that sleeps because its completion ring was full wants to know.
            self.link.ring(self.sq_tail);
        }
    }

    /// Completions taken since the reset (wraps).
    pub fn taken(&self) -> u32 {
        self.cq_head
    }

    /// Says that the host is about to sleep (or no longer is). After `true` the caller must look for completions once
    /// more before it sleeps.
    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.link.region.store(host_page::WAITS, u32::from(waiting), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeps until the card rings, something else happens, or `limit` is over.
    pub fn wait(&self, limit: Duration) {
        match &self.link.doorbell {
            Doorbell::Events { host, .. } => {
                self.set_waiting(true);
                if !self.ready() {
                    let _ = match &self.link.socket {
                        Some(socket) => {
                            super::os::wait_readable([host.as_fd(), socket.as_fd()], limit).map(|_| ())
                        }
                        None => super::os::wait_readable([host.as_fd()], limit).map(|_| ()),
                    };
                }
                self.set_waiting(false);
                host.drain();
            }
            Doorbell::Register(_) | Doorbell::Polled => std::thread::sleep(limit.min(self.limits.poll)),
        }
    }

    /// Whether the card says that it runs.
    pub fn is_running(&self) -> bool {
        self.state() == state::RUNNING
    }

    /// Says that the host will sleep from here on, for a test that must not miss the ring.
    pub(crate) fn announce_sleep(&self) {
        if let Doorbell::Events { host, .. } = &self.link.doorbell {
            host.drain();
        }
        self.set_waiting(true);
    }

    /// After [`Self::announce_sleep`]: whether the driver rings within `limit`, however soon its answer was there. Where
    /// hosts are not rung at all, it has nothing to do.
    pub(crate) fn await_ring(&self, limit: Duration) -> bool {
        let Doorbell::Events { host, .. } = &self.link.doorbell else { return true };
        let rung = super::os::wait_readable([host.as_fd()], limit).is_ok_and(|[rung]| rung);
        self.set_waiting(false);
        host.drain();
        rung
    }

    /// Tells the driver to leave and waits for it.
    ///
    /// # Errors
    /// [`CardError::Timeout`] when it stays.
    pub fn stop(&self, limit: Duration) -> Result<(), CardError> {
        self.link.region.store(host_page::COMMAND, command::STOP, Ordering::Release);
        self.link.ring_for_command();
        let deadline = Instant::now() + limit;
        while !self.link.vanished() {
            if Instant::now() > deadline {
                return Err(CardError::Timeout { what: "to leave", limit });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(crate) fn poll_every(&self) -> Duration {
        self.limits.poll
    }

    /// What the host wrote into its own page, compared with what lies there now.
    ///
    /// # Errors
    /// [`CardError::Protocol`] when somebody else wrote there.
    pub fn check_host_page(&self) -> Result<(), CardError> {
        let region = &self.link.region;
        let expected = [
            (host_page::COMMAND, command::RUN, "the command"),
            (host_page::EPOCH, self.epoch, "the epoch"),
            (host_page::ENTRIES_LOG2, self.log2, "the rings' size"),
            (host_page::SQ_TAIL, self.sq_tail, "the submission tail"),
            (host_page::CQ_HEAD, self.cq_head_told, "the completion head"),
        ];
        for (offset, value, what) in expected {
            if region.load(offset, Ordering::Acquire) != value {
                return Err(CardError::Protocol(format!("the card overwrote {what} in the host's page")));
            }
        }
        let named = |at: &usize| *at == host_page::WAITS || expected.iter().any(|(offset, ..)| offset == at);
        let mut others = (abi::HOST_PAGE..abi::RINGS).step_by(4).filter(|at| !named(at));
        if others.any(|at| region.load(at, Ordering::Relaxed) != 0) {
            return Err(CardError::Protocol("the card wrote into the host's page".into()));
        }
        Ok(())
    }

    /// The capability block as it lies there now; it must not change while the card runs.
    pub fn capabilities_now(&self) -> Capabilities {
        Capabilities::from_bytes(&self.link.region.read(0))
    }

    /// What the card measures.
    pub fn telemetry(&self) -> Telemetry {
        let region = &self.link.region;
        Telemetry {
            heartbeat: region.load64(card_page::HEARTBEAT),
            completed: region.load64(card_page::COMPLETED),
            temperature_mc: region.load(card_page::TEMPERATURE, Ordering::Relaxed).cast_signed(),
            power_mw: region.load(card_page::POWER, Ordering::Relaxed),
        }
    }
}
