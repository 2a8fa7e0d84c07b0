//! The doors that JSON-RPC uses: into the pool, and to the trie.

use crate::node::desk::RpcDesk;
use crate::node::messages::End;
use crate::node::shared::Shared;
use crate::node::stages::admit::{NodePool, Question};
use crate::node::stages::root::ProofRequest;
use alloy_primitives::{Address, B256, Bytes, U256};
use crossbeam_channel::{Sender, bounded};
use ironlane_pool::Place;
use ironlane_rpc::{
    BoxFuture, Ingress, PoolContent, PoolCounts, PoolTx, ProofError, Proofs, ProvenAccount, SyncOutcome,
};
use ironlane_runtime::{Doorbell, now_ns};
use ironlane_types::{Origin, Reject, Submission};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, oneshot};

/// How long a question about the pool may wait. The stage answers between two polls, so this is never reached while it
/// runs.
const QUESTION_WAIT_MAX: Duration = Duration::from_millis(250);

/// Transactions that `txpool_content` shows at most.
const CONTENT_MAX: usize = 10_000;

/// The way into the pool.
#[derive(Clone)]
pub struct NodeIngress {
    submissions: Sender<Submission>,
    questions: Sender<Question>,
    bell: Doorbell,
    desk: Arc<RpcDesk>,
    shared: Arc<Shared>,
    admitted: broadcast::Sender<B256>,
}

impl NodeIngress {
    /// Over the channels of the admit stage, whose doorbell `bell` is.
    pub fn new(
        submissions: Sender<Submission>,
        questions: Sender<Question>,
        bell: Doorbell,
        desk: Arc<RpcDesk>,
        shared: Arc<Shared>,
        admitted: broadcast::Sender<B256>,
    ) -> Self {
        Self { submissions, questions, bell, desk, shared, admitted }
    }

    /// Sends a submission under this tag; a full channel is refused at once.
    fn send(&self, tag: u64, raw: Bytes) -> Result<(), Reject> {
        if !self.shared.admitting() {
            return Err(Reject::NotAdmitting);
        }
        let origin = Origin { lane: Origin::RPC_LANE, tag };
        let submission = Submission { origin, raw, sender_hint: None, received_ns: now_ns() };
        self.submissions.try_send(submission).map_err(|_| Reject::Overloaded)?;
        self.bell.ring();
        Ok(())
    }

    /// Asks the admit stage; `None` when it does not answer (the node is stopping).
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&NodePool) -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = bounded(1);
        let boxed: Question = Box::new(move |pool| {
            // Whoever asked may have given up.
            let _ = reply.send(question(pool));
        });
        self.questions.try_send(boxed).ok()?;
        self.bell.ring();
        answer.recv_timeout(QUESTION_WAIT_MAX).ok()
    }
}

impl Ingress for NodeIngress {
    fn submit(&self, raw: Bytes) -> BoxFuture<Result<B256, Reject>> {
        let ingress = self.clone();
        Box::pin(async move {
            let ticket = ingress.desk.ticket(false);
            if let Err(reason) = ingress.send(ticket.tag, raw) {
                ingress.desk.forget(ticket.tag);
                return Err(reason);
            }
            ticket.admitted.await.unwrap_or(Err(Reject::NotAdmitting))
        })
    }

    fn submit_sync(&self, raw: Bytes, timeout: Duration) -> BoxFuture<SyncOutcome> {
        let ingress = self.clone();
        Box::pin(async move {
            let ticket = ingress.desk.ticket(true);
            let tag = ticket.tag;
            if let Err(reason) = ingress.send(tag, raw) {
                ingress.desk.forget(tag);
                return SyncOutcome::Rejected(reason);
            }
            let hash = match ticket.admitted.await {
                Ok(Ok(hash)) => hash,
                Ok(Err(reason)) => return SyncOutcome::Rejected(reason),
                Err(_) => return SyncOutcome::Rejected(Reject::NotAdmitting),
            };
            let Some(ended) = ticket.ended else { return SyncOutcome::TimedOut(hash) };
            match tokio::time::timeout(timeout, ended).await {
                Ok(Ok(End::Included { .. })) => SyncOutcome::Included(hash),
                Ok(Ok(End::Rejected(reason))) => SyncOutcome::Rejected(reason),
                Ok(Err(_)) | Err(_) => {
                    ingress.desk.forget(tag);
                    match ingress.pool_transaction(&hash) {
                        Some(PoolTx { queued: true, .. }) => SyncOutcome::NotReady(hash),
                        _ => SyncOutcome::TimedOut(hash),
                    }
                }
            }
        })
    }

    fn pool_counts(&self) -> PoolCounts {
        let counts = self.ask(|pool| {
            let status = pool.status();
            PoolCounts { pending: status.pending as u64, queued: status.queued as u64 }
        });
        counts.unwrap_or_default()
    }

    fn pool_content(&self, sender: Option<Address>) -> PoolContent {
        let content = self.ask(move |pool| {
            let mut content = PoolContent::default();
            let entries = match sender {
                Some(sender) => pool.content_of(&sender),
                None => pool.content(CONTENT_MAX),
            };
            for entry in entries {
                match entry.place {
                    Place::Queued => content.queued.push(entry.tx),
                    Place::Ready | Place::InFlight => content.pending.push(entry.tx),
                }
            }
            content
        });
        content.unwrap_or_default()
    }

    fn pending_nonce(&self, address: &Address) -> Option<u64> {
        let address = *address;
        self.ask(move |pool| pool.pending_nonce(&address))
    }

    fn pool_transaction(&self, hash: &B256) -> Option<PoolTx> {
        let hash = *hash;
        let found = self.ask(move |pool| pool.get(&hash)).flatten()?;
        Some(PoolTx { queued: found.place == Place::Queued, tx: found.tx })
    }

    fn drop_reason(&self, hash: &B256) -> Option<Reject> {
        let hash = *hash;
        self.ask(move |pool| pool.fate(&hash)).flatten()
    }

    fn subscribe_pending(&self) -> broadcast::Receiver<B256> {
        self.admitted.subscribe()
    }
}

/// The way to the trie.
pub struct NodeProofs {
    requests: Sender<ProofRequest>,
    bell: Doorbell,
}

impl NodeProofs {
    /// Over the channel of the root stage, whose doorbell `bell` is.
    pub fn new(requests: Sender<ProofRequest>, bell: Doorbell) -> Self {
        Self { requests, bell }
    }
}

impl Proofs for NodeProofs {
    fn prove(&self, address: Address, slots: Vec<U256>) -> BoxFuture<Result<ProvenAccount, ProofError>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.try_send(ProofRequest { address, slots, reply });
        self.bell.ring();
        Box::pin(async move {
            sent.map_err(|_| ProofError::Busy)?;
            let (block_number, proof) = answer.await.map_err(|_| ProofError::Stopped)?;
            Ok(ProvenAccount { block_number, proof })
        })
    }
}
