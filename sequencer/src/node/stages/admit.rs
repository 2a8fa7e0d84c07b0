//! `admit`: who may enter, and in which order.
//!
//! In: submissions from `ingest` and from JSON-RPC, what became of transactions from `sequence`, questions about the pool.
//! Out: transactions to `sequence` in the order in which they must execute, refusals to whoever sent them. On overload the
//! pool refuses with a typed reason, and the link from `ingest` fills, which stops the sockets.

use crate::node::desk::RpcDesk;
use crate::node::messages::{Answer, End, Verdict};
use crate::node::metrics::Metrics;
use crate::node::shared::Shared;
use alloy_primitives::{Address, B256};
use crossbeam_channel::Receiver;
use ironlane_pool::{AccountSource, Admission, AdmissionOutput, CodeKind, Feedback, Pending, PoolAccount};
use ironlane_runtime::{Consumer, Producer, Stage, now_ns};
use ironlane_state::State;
use ironlane_types::{KECCAK_EMPTY, Origin, Reject, Submission};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Submissions taken from a link at once.
const BATCH: usize = 512;
/// Refusals that may wait for the ingest link before no submission is taken.
const OUTBOX_MAX: usize = 1 << 16;

/// The newest state, as admission reads it.
#[derive(Clone)]
pub struct NewestState(pub State);

impl AccountSource for NewestState {
    fn account(&self, address: &Address) -> Option<PoolAccount> {
        let info = self.0.newest_account(address)?;
        let code_kind = if info.code_hash == KECCAK_EMPTY {
            CodeKind::None
        } else if self.0.code(&info.code_hash).is_some_and(|code| is_delegation(&code)) {
            CodeKind::Delegation
        } else {
            CodeKind::Contract
        };
        Some(PoolAccount { nonce: info.nonce, balance: info.balance, code_kind })
    }
}

/// A delegation designator (EIP-7702): 0xef0100 and an address.
fn is_delegation(code: &[u8]) -> bool {
    code.len() == 23 && code.starts_with(&[0xef, 0x01, 0x00])
}

/// The pool as the stage owns it.
pub type NodePool = Admission<NewestState>;

/// A question about the pool, answered between two polls.
pub type Question = Box<dyn FnOnce(&NodePool) + Send>;

/// The links of the stage.
pub struct Links {
    /// From `ingest`.
    pub submissions: Consumer<Submission>,
    /// From JSON-RPC.
    pub rpc: Receiver<Submission>,
    /// Questions from JSON-RPC.
    pub questions: Receiver<Question>,
    /// To `sequence`.
    pub ready: Producer<Pending>,
    /// From `sequence`.
    pub feedback: Consumer<Feedback>,
    /// Refusals to `ingest`.
    pub answers: Producer<Answer>,
    /// Hashes as they are admitted, for subscriptions.
    pub admitted: broadcast::Sender<B256>,
}

/// The stage.
pub struct AdmitStage {
    pool: NodePool,
    links: Links,
    desk: Arc<RpcDesk>,
    shared: Arc<Shared>,
    metrics: Metrics,
    batch: Vec<Submission>,
    output: AdmissionOutput,
    outbox: VecDeque<Answer>,
}

impl AdmitStage {
    /// Over a pool that is made.
    pub fn new(
        pool: NodePool,
        links: Links,
        desk: Arc<RpcDesk>,
        shared: Arc<Shared>,
        metrics: Metrics,
    ) -> Self {
        Self {
            pool,
            links,
            desk,
            shared,
            metrics,
            batch: Vec::with_capacity(BATCH),
            output: AdmissionOutput::default(),
            outbox: VecDeque::new(),
        }
    }

    fn reject(&mut self, origin: Origin, hash: B256, reason: Reject) {
        self.metrics.reject(reason);
        let verdict = Verdict { origin, hash, end: End::Rejected(reason) };
        if origin.lane == Origin::RPC_LANE {
            self.desk.verdict(&verdict);
        } else {
            self.outbox.push_back(verdict.into());
        }
    }

    fn receive(&mut self, budget: usize) -> usize {
        if self.outbox.len() > OUTBOX_MAX {
            return 0;
        }
        if self.batch.is_empty() {
            let batch = &mut self.batch;
            self.links.submissions.drain(BATCH.min(budget), |submission| batch.push(submission));
            while self.batch.len() < BATCH {
                let Ok(submission) = self.links.rpc.try_recv() else { break };
                self.batch.push(submission);
            }
        }
        if self.batch.is_empty() {
            return 0;
        }
        if !self.shared.admitting() {
            let refused = std::mem::take(&mut self.batch);
            let count = refused.len();
            for submission in refused {
                self.reject(submission.origin, B256::ZERO, Reject::NotAdmitting);
            }
            return count;
        }
        self.pool.push(&mut self.batch)
    }

    fn decide(&mut self, now: u64, budget: usize) -> usize {
        let room = self.links.ready.free_now().min(budget);
        let mut output = std::mem::take(&mut self.output);
        let done = self.pool.poll(now, room, &mut output);
        if output.ready.len() + output.accepted.len() + output.rejected.len() > 0 {
            self.metrics.admitted.inc_by(output.accepted.len() as u64);
            let watched = self.links.admitted.receiver_count() > 0;
            for accepted in output.accepted.drain(..) {
                if accepted.origin.lane == Origin::RPC_LANE {
                    self.desk.admitted(accepted.origin.tag, accepted.tx.hash);
                }
                if watched {
                    // Nobody listening any more is no error.
                    let _ = self.links.admitted.send(accepted.tx.hash);
                }
            }
            let latency = self.metrics.latency();
            for pending in &output.ready {
                latency.admit.observe(now.saturating_sub(pending.received_ns) as f64 * 1e-9);
            }
            let count = output.ready.len();
            if self.links.ready.push_batch(output.ready.drain(..)) != count {
                self.shared.halt("admit", "the link to sequence was full although room had been seen");
            }
            for rejection in output.rejected.drain(..) {
                self.reject(rejection.origin, rejection.hash, rejection.reason);
            }
        }
        self.output = output;
        done
    }

    fn post(&mut self) -> usize {
        let room = self.links.answers.free_now().min(self.outbox.len());
        if room == 0 { 0 } else { self.links.answers.push_batch(self.outbox.drain(..room)) }
    }

    fn answer_questions(&mut self) -> usize {
        let mut done = 0;
        while done < 16 {
            let Ok(question) = self.links.questions.try_recv() else { break };
            question(&self.pool);
            done += 1;
        }
        done
    }
}

impl Stage for AdmitStage {
    fn name(&self) -> &'static str {
        "admit"
    }

    fn poll(&mut self, budget: usize) -> usize {
        let (pool, feedback) = (&mut self.pool, &mut self.links.feedback);
        let mut done = feedback.drain(budget * 4, |news| pool.feedback(&news));
        done += self.receive(budget);
        done += self.decide(now_ns(), budget);
        done += self.answer_questions();
        done + self.post()
    }

    fn housekeep(&mut self, now_ns: u64) {
        self.pool.housekeep(now_ns);
    }

    fn close(&mut self) {
        self.post();
    }
}

#[cfg(test)]
mod tests {
    use super::is_delegation;

    #[test]
    fn only_a_whole_designator_is_a_delegation() {
        let mut code = vec![0xef, 0x01, 0x00];
        code.extend_from_slice(&[7; 20]);
        assert!(is_delegation(&code));
        assert!(!is_delegation(&code[..22]));
        assert!(!is_delegation(&[0x60; 23]));
    }
}
