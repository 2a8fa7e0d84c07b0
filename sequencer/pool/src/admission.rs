//! The component that a stage owns: submissions in, ordered transactions and refusals out.
//!
//! In: [`Submission`]s by batches, [`Feedback`] from the executor. Out: [`AdmissionOutput`]. On overload `push` takes
//! what there is room for and leaves the rest with the caller, who stops reading or refuses with
//! [`Reject::Overloaded`].
//!
//! Signers come back from the engine in any order; transactions enter the pool in the order of their arrival all the
//! same, so that one account's nonces, sent in order, are never taken for gaps.

use crate::checks;
use crate::config::{PoolConfig, TX_BYTES_MAX};
use crate::decode::{Decoded, decode};
use crate::door::{
    Accepted, AccountSource, AdmissionOutput, Feedback, Metrics, Pending, PoolTx, Rejection, Status,
};
use crate::hash::{Set, set};
use crate::memory::Memory;
use crate::pool::{Newcomer, Pool};
use alloy_primitives::{Address, B256, Bytes};
use ironlane_fpga::{RecoverAnswer, RecoverEngine, RecoverError, RecoverRequest, Trust, keccak};
use ironlane_types::{Origin, Reject, Submission, Tx, TxEnvelope};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Submissions that are hashed side by side.
const HASH_BATCH: usize = 64;
/// Signers that one `poll` takes into the pool, so that it comes back to its caller soon.
const INSERT_MAX: usize = 1_024;

/// The engine's answers would have to be checked before use, and nothing here does that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answers of recovery engine {engine} are hints; put a checked engine in front of it")]
pub struct UntrustedEngine {
    /// Name of the engine.
    pub engine: &'static str,
}

/// Admission. See the crate's first page.
pub struct Admission<S> {
    config: PoolConfig,
    block_gas_max: u64,
    engine: Box<dyn RecoverEngine>,
    source: S,
    pool: Pool,
    /// Transactions whose signer is being recovered, in the order of arrival; tags count on from `window_tag`.
    window: VecDeque<Waiting>,
    window_tag: u64,
    in_window: Set<B256>,
    requests: Vec<RecoverRequest>,
    answers: Vec<RecoverAnswer>,
    scratch: Scratch,
    refused: Memory,
    dropped: Memory,
    /// Refusals not yet told.
    rejections: Vec<Rejection>,
    metrics: Metrics,
    now_ns: u64,
}

/// A transaction whose signer is being recovered.
struct Waiting {
    hash: B256,
    origin: Origin,
    received_ns: u64,
    raw: Bytes,
    hint: Option<Address>,
    envelope: TxEnvelope,
    answer: Option<Result<Address, RecoverError>>,
}

/// Buffers of `push`, kept between calls.
#[derive(Default)]
struct Scratch {
    hashes: Vec<B256>,
    signed: Vec<u8>,
    decoded: Vec<(Submission, B256, Decoded, Range<usize>)>,
    senders: Vec<Address>,
}

impl<S: AccountSource> Admission<S> {
    /// Opens admission.
    ///
    /// # Errors
    /// [`UntrustedEngine`] when the engine's answers are hints.
    pub fn new(
        config: PoolConfig,
        engine: Box<dyn RecoverEngine>,
        source: S,
    ) -> Result<Self, UntrustedEngine> {
        let caps = engine.caps();
        if caps.trust != Trust::Trusted {
            return Err(UntrustedEngine { engine: caps.name });
        }
        Ok(Self {
            block_gas_max: config.block_gas_max,
            engine,
            source,
            pool: Pool::new(config.limits, config.base_fee_wei),
            window: VecDeque::new(),
            window_tag: 0,
            in_window: set(),
            requests: vec![],
            answers: vec![],
            scratch: Scratch::default(),
            refused: Memory::new(config.limits.remembered_max),
            dropped: Memory::new(config.limits.remembered_max),
            rejections: vec![],
            metrics: Metrics::default(),
            now_ns: 0,
            config,
        })
    }

    /// How many submissions the next `push` takes.
    pub fn room(&self) -> usize {
        self.config.limits.recovering_max.saturating_sub(self.window.len())
    }

    /// Takes submissions from the front of `batch` as far as there is [`room`](Self::room), puts them through the cheap
    /// checks and sends the rest to the engine. Refusals come out of the next [`poll`](Self::poll). Returns how many it
    /// took.
    pub fn push(&mut self, batch: &mut Vec<Submission>) -> usize {
        let taken = self.room().min(batch.len());
        let mut left = taken;
        let mut submissions = batch.drain(..taken);
        while left > 0 {
            let count = left.min(HASH_BATCH);
            left -= count;
            self.push_some(submissions.by_ref().take(count));
        }
        drop(submissions);
        self.metrics.submitted += taken as u64;
        self.submit();
        taken
    }

    fn push_some(&mut self, submissions: impl Iterator<Item = Submission>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut sized: [Option<Submission>; HASH_BATCH] = [const { None }; HASH_BATCH];
        let mut count = 0;
        for submission in submissions {
            if submission.raw.len() > TX_BYTES_MAX {
                self.refuse(submission.origin, B256::ZERO, Reject::TooLarge);
            } else {
                sized[count] = Some(submission);
                count += 1;
            }
        }
        let mut views: [&[u8]; HASH_BATCH] = [&[]; HASH_BATCH];
        for (view, submission) in views.iter_mut().zip(sized.iter().flatten()) {
            *view = &submission.raw;
        }
        scratch.hashes.clear();
        scratch.hashes.resize(count, B256::ZERO);
        keccak::hash_many(&views[..count], &mut scratch.hashes);

        scratch.signed.clear();
        for (submission, hash) in sized.into_iter().flatten().zip(&scratch.hashes) {
            let start = scratch.signed.len();
            match self.examine(&submission, *hash, &mut scratch.signed) {
                Ok(decoded) => {
                    self.in_window.insert(*hash);
                    let signed = start..scratch.signed.len();
                    scratch.decoded.push((submission, *hash, decoded, signed));
                }
                Err(reason) => {
                    scratch.signed.truncate(start);
                    self.refuse(submission.origin, *hash, reason);
                }
            }
        }

        let mut views: [&[u8]; HASH_BATCH] = [&[]; HASH_BATCH];
        for (view, (_, _, _, signed)) in views.iter_mut().zip(&scratch.decoded) {
            *view = &scratch.signed[signed.clone()];
        }
        let mut signing_hashes = [B256::ZERO; HASH_BATCH];
        let accepted = scratch.decoded.len();
        keccak::hash_many(&views[..accepted], &mut signing_hashes[..accepted]);
        for ((submission, hash, decoded, _), signing_hash) in scratch.decoded.drain(..).zip(signing_hashes) {
            let Decoded { envelope, r, s, parity } = decoded;
            let hint = submission.sender_hint;
            let tag = self.window_tag + self.window.len() as u64;
            let source = submission.origin.lane;
            self.requests.push(RecoverRequest { tag, hash: signing_hash, r, s, parity, hint, source });
            self.window.push_back(Waiting {
                hash,
                origin: submission.origin,
                received_ns: submission.received_ns,
                raw: submission.raw,
                hint,
                envelope,
                answer: None,
            });
        }
        self.scratch = scratch;
    }

    /// Everything that can be said about a transaction without knowing its signer. Appends what was signed to `signed`.
    fn examine(&self, submission: &Submission, hash: B256, signed: &mut Vec<u8>) -> Result<Decoded, Reject> {
        if self.in_window.contains(&hash) || self.pool.contains(&hash) {
            return Err(Reject::AlreadyKnown);
        }
        let decoded = decode(&submission.raw, hash, signed)?;
        checks::check(&decoded.envelope, &self.config, self.block_gas_max)?;
        let Decoded { r, s, parity, .. } = decoded;
        RecoverRequest { tag: 0, hash, r, s, parity, hint: None, source: 0 }
            .check_ranges()
            .map_err(|_| Reject::BadSignature)?;
        Ok(decoded)
    }

    fn submit(&mut self) {
        if !self.requests.is_empty() {
            // What the engine has no room for stays in `requests`; the next poll tries again.
            let _full = self.engine.submit(&mut self.requests);
        }
    }

    /// Takes signers from the engine into the pool and hands out up to `ready_max` transactions. `now_ns` is the node's
    /// monotonic clock. Appends to `out`; returns how much was done (0: nothing until somebody calls again or the
    /// engine's waker rings).
    pub fn poll(&mut self, now_ns: u64, ready_max: usize, out: &mut AdmissionOutput) -> usize {
        self.now_ns = self.now_ns.max(now_ns);
        let mut work = self.collect();
        work += self.admit(out);
        work += self.pool.retry(&self.source);
        let emitted = self.pool.emit(ready_max, self.now_ns, |tx| {
            out.ready.push(Pending { tx: tx.tx, origin: tx.origin, received_ns: tx.received_ns });
        });
        self.metrics.emitted += emitted as u64;
        work += emitted;
        work += self.tell(out);
        work
    }

    /// Moves requests to the engine and answers from it.
    fn collect(&mut self) -> usize {
        self.submit();
        let count = self.engine.poll(&mut self.answers);
        for answer in self.answers.drain(..) {
            // An answer to no question, or a second answer, is an engine's fault that changes nothing here.
            let waiting =
                answer.tag.checked_sub(self.window_tag).and_then(|i| self.window.get_mut(i as usize));
            if let Some(waiting) = waiting
                && waiting.answer.is_none()
            {
                waiting.answer = Some(answer.result);
            }
        }
        self.submit();
        count
    }

    /// Takes into the pool what has been answered, in the order of arrival.
    fn admit(&mut self, out: &mut AdmissionOutput) -> usize {
        let senders = &mut self.scratch.senders;
        senders.clear();
        let answered = self.window.iter().take(INSERT_MAX).map_while(|waiting| waiting.answer);
        senders.extend(answered.map(|answer| answer.unwrap_or_default()));
        let count = senders.len();
        if count > 1 {
            self.source.prefetch(senders);
        }
        for _ in 0..count {
            let Some(waiting) = self.window.pop_front() else { break };
            self.window_tag += 1;
            self.in_window.remove(&waiting.hash);
            let (origin, hash) = (waiting.origin, waiting.hash);
            match self.admit_one(waiting) {
                Ok(tx) => {
                    self.metrics.accepted += 1;
                    out.accepted.push(Accepted { origin, tx });
                }
                Err(reason) => self.refuse(origin, hash, reason),
            }
        }
        count
    }

    fn admit_one(&mut self, waiting: Waiting) -> Result<Arc<Tx>, Reject> {
        let Some(Ok(sender)) = waiting.answer else { return Err(Reject::BadSignature) };
        if let Some(hint) = waiting.hint {
            self.metrics.hints += 1;
            self.metrics.wrong_hints += u64::from(hint != sender);
        }
        let cost = checks::max_cost(&waiting.envelope).ok_or(Reject::InsufficientFunds)?;
        let info = self.source.account(&sender).unwrap_or_default();
        let tx = Arc::new(Tx { hash: waiting.hash, sender, envelope: waiting.envelope, raw: waiting.raw });
        let newcomer =
            Newcomer { tx: tx.clone(), origin: waiting.origin, received_ns: waiting.received_ns, cost };
        self.pool.insert(newcomer, &info, self.now_ns)?;
        Ok(tx)
    }

    fn refuse(&mut self, origin: Origin, hash: B256, reason: Reject) {
        self.metrics.count(reason, false);
        // "Already known" is an answer to the second sender; the transaction itself is fine.
        if reason != Reject::AlreadyKnown && hash != B256::ZERO {
            self.refused.insert(hash, reason);
        }
        self.rejections.push(Rejection { origin, hash, reason, was_accepted: false });
    }

    /// Hands over refusals and drops.
    fn tell(&mut self, out: &mut AdmissionOutput) -> usize {
        for drop in self.pool.dropped.drain(..) {
            self.metrics.count(drop.reason, true);
            self.dropped.insert(drop.hash, drop.reason);
            self.rejections.push(Rejection {
                origin: drop.origin,
                hash: drop.hash,
                reason: drop.reason,
                was_accepted: true,
            });
        }
        let count = self.rejections.len();
        out.rejected.append(&mut self.rejections);
        count
    }

    /// Hears from the executor. What this makes ready or drops comes out of the next [`poll`](Self::poll).
    pub fn feedback(&mut self, feedback: &Feedback) {
        match feedback {
            Feedback::Executed { hash, .. } => {
                self.metrics.executed += 1;
                self.pool.executed(hash, &self.source);
            }
            Feedback::Dropped { hash, reason, .. } => {
                let kept = self.pool.returned(hash, *reason, self.now_ns, &self.source);
                self.metrics.returned += u64::from(kept);
            }
            Feedback::NewBlock { base_fee_wei, gas_limit } => {
                self.block_gas_max = *gas_limit;
                self.pool.set_base_fee(*base_fee_wei);
            }
        }
    }

    /// Drops what has waited too long. Call it a few times a second.
    pub fn housekeep(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.pool.housekeep(self.now_ns, &self.source);
    }

    /// Whether a `poll` would find something to do now, the engine's answers aside.
    pub fn has_work(&self) -> bool {
        self.pool.has_ready()
            || !self.rejections.is_empty()
            || !self.pool.dropped.is_empty()
            || self.window.front().is_some_and(|waiting| waiting.answer.is_some())
    }

    /// How much there is.
    pub fn status(&self) -> Status {
        Status { recovering: self.window.len(), ..self.pool.status() }
    }

    /// Counters since the start.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The transaction, if the pool has it.
    pub fn get(&self, hash: &B256) -> Option<PoolTx> {
        self.pool.get(hash)
    }

    /// The account's transactions, in the order of nonces.
    pub fn content_of(&self, address: &Address) -> Vec<PoolTx> {
        self.pool.of(address)
    }

    /// Up to `max` transactions, account by account, each account's in the order of nonces.
    pub fn content(&self, max: usize) -> Vec<PoolTx> {
        self.pool.content(max)
    }

    /// What `eth_getTransactionCount(…, "pending")` answers: the state's nonce and the pool's transactions that follow
    /// it without a gap.
    pub fn pending_nonce(&self, address: &Address) -> u64 {
        let state = self.source.account(address).map_or(0, |info| info.nonce);
        self.pool.pending_nonce(address, state)
    }

    /// Why a transaction that is neither in the pool nor executed was dropped or refused, if that is still known.
    pub fn fate(&self, hash: &B256) -> Option<Reject> {
        if self.pool.contains(hash) {
            return None;
        }
        self.dropped.get(hash).or_else(|| self.refused.get(hash))
    }
}
