//! `commit`: what is ordered becomes durable, and only then promised.
//!
//! In: mini-blocks and block boundaries from `sequence`, roots from `root`. Out: journal records, signatures, the history,
//! acknowledgements. On overload (the journal's batch is full) nothing is taken from the links, so `sequence` stops.
//!
//! One group commit covers all that waits. A mini-block's signature, its place in the history and its acknowledgements
//! come after the commit that holds its record and the signer slot's mark is on stable storage.

use crate::node::desk::RpcDesk;
use crate::node::lanes::PromiseLanes;
use crate::node::messages::{Answer, CommitItem, End, Rooted, SealedMini, Verdict};
use crate::node::metrics::Metrics;
use crate::node::record;
use crate::node::shared::Shared;
use alloy_primitives::B256;
use ironlane_history::History;
use ironlane_journal::{AppendError, Journal, Lsn, SignerMark, Space};
use ironlane_promise::{Leaf, MerkleTree, Promise, Signer, digest};
use ironlane_runtime::{Consumer, Doorbell, Producer, Stage, now_ns};
use ironlane_types::{MiniBlock, MiniBlockHeader, Origin};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Answers that may wait for the ingest link before nothing more is committed.
const OUTBOX_MAX: usize = 1 << 17;

/// The links of the stage.
pub struct Links {
    /// From `sequence`.
    pub items: Consumer<CommitItem>,
    /// From `root`.
    pub rooted: Consumer<Rooted>,
    /// To `ingest`.
    pub answers: Producer<Answer>,
    /// Wakes `sequence` when the journal is free again.
    pub sequence_bell: Doorbell,
    /// Wakes `root` when a block may be published.
    pub root_bell: Doorbell,
}

/// A record that is appended and not durable yet, with what happens once it is.
enum Waiting {
    Mini(Box<PreparedMini>),
    Close { number: u64 },
    Other,
}

/// A mini-block with everything but its signature.
struct PreparedMini {
    mini: SealedMini,
    header: MiniBlockHeader,
    digest: B256,
    tree: MerkleTree,
}

/// The stage.
pub struct CommitStage {
    journal: Journal,
    signer: Arc<Signer>,
    chain_id: u64,
    links: Links,
    desk: Arc<RpcDesk>,
    history: History,
    shared: Arc<Shared>,
    metrics: Metrics,
    promise_lanes: Arc<PromiseLanes>,
    parent: B256,
    /// Prepared, but the journal's batch had no room for it.
    held: Option<Prepared>,
    waiting: VecDeque<(Lsn, Waiting)>,
    outbox: VecDeque<Answer>,
    scratch: Vec<u8>,
}

/// An item ready to be appended.
enum Prepared {
    Mini(Box<PreparedMini>),
    Bytes { bytes: Vec<u8>, then: Waiting },
}

impl CommitStage {
    /// After recovery: `parent` is the digest of the newest mini-block (the genesis hash when there is none).
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        journal: Journal,
        signer: Arc<Signer>,
        chain_id: u64,
        links: Links,
        desk: Arc<RpcDesk>,
        history: History,
        shared: Arc<Shared>,
        metrics: Metrics,
        promise_lanes: Arc<PromiseLanes>,
        parent: B256,
    ) -> Self {
        Self {
            journal,
            signer,
            chain_id,
            links,
            desk,
            history,
            shared,
            metrics,
            promise_lanes,
            parent,
            held: None,
            waiting: VecDeque::new(),
            outbox: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    fn halt(&self, error: impl std::fmt::Display) {
        self.shared.halt("commit", error.to_string());
    }

    fn prepare(&mut self, item: CommitItem) -> Prepared {
        match item {
            CommitItem::Open(context) => {
                let mut bytes = Vec::with_capacity(256);
                record::encode_open(&context, &mut bytes);
                Prepared::Bytes { bytes, then: Waiting::Other }
            }
            CommitItem::Close { number, gas_used } => {
                let mut bytes = Vec::with_capacity(32);
                record::encode_close(number, gas_used, &mut bytes);
                Prepared::Bytes { bytes, then: Waiting::Close { number } }
            }
            CommitItem::Mini(mini) => {
                let leaves = mini.txs.iter().map(|tx| Leaf::of(tx).hash()).collect();
                let tree = MerkleTree::new(leaves);
                let header = MiniBlockHeader {
                    height: mini.height,
                    parent: self.parent,
                    block_number: mini.block_number,
                    first_seq: mini.txs.first().map_or(0, |tx| tx.seq),
                    tx_count: mini.txs.len() as u32,
                    timestamp_us: mini.timestamp_us,
                    txs_root: tree.root(),
                };
                let digest = digest(&header, self.chain_id);
                self.parent = digest;
                Prepared::Mini(Box::new(PreparedMini { mini: *mini, header, digest, tree }))
            }
        }
    }

    /// Appends one prepared item, or keeps it for later. Answers whether the journal took it.
    fn append(&mut self, prepared: Prepared) -> bool {
        let appended = match &prepared {
            Prepared::Bytes { bytes, .. } => self.journal.append(&[bytes], None),
            Prepared::Mini(mini) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(&record::encode_mini_header(&mini.header));
                for executed in &mini.mini.txs {
                    let raw = &executed.tx.raw;
                    self.scratch.extend_from_slice(&record::tx_prefix(executed.tx.sender, raw.len()));
                    self.scratch.extend_from_slice(raw);
                }
                let mark = SignerMark { height: mini.header.height, digest: mini.digest.0 };
                self.journal.append(&[&self.scratch], Some(mark))
            }
        };
        match appended {
            Ok(lsn) => {
                let then = match prepared {
                    Prepared::Bytes { then, .. } => then,
                    Prepared::Mini(mini) => Waiting::Mini(mini),
                };
                self.waiting.push_back((lsn, then));
                true
            }
            Err(AppendError::Full) => {
                self.held = Some(prepared);
                false
            }
            Err(error) => {
                self.halt(error);
                false
            }
        }
    }

    fn take(&mut self, budget: usize) -> usize {
        if self.outbox.len() > OUTBOX_MAX {
            return 0;
        }
        let mut done = 0;
        if let Some(held) = self.held.take() {
            if !self.append(held) {
                return 0;
            }
            done += 1;
        }
        // A root belongs behind its block's `close` record, which `sequence` sent before `root` could see the block:
        // whatever roots are there now, their `close` is already on the other link.
        let mut roots = Vec::new();
        self.links.rooted.drain(8, |rooted| roots.push(rooted));
        while done < budget || !roots.is_empty() {
            let Some(item) = self.links.items.pop() else { break };
            let prepared = self.prepare(item);
            done += 1;
            if !self.append(prepared) {
                break;
            }
        }
        for rooted in roots {
            let mut bytes = Vec::with_capacity(80);
            record::encode_sealed(&rooted.header, rooted.hash, &mut bytes);
            // Only a check for replay and `verify`: while something else is held up, it is left out.
            if self.held.is_none() && self.append(Prepared::Bytes { bytes, then: Waiting::Other }) {
                done += 1;
            }
        }
        done
    }

    fn poll_journal(&mut self) -> usize {
        match self.journal.poll() {
            Ok(Some(durable)) => self.on_durable(durable),
            Ok(None) => 0,
            Err(fault) => {
                self.halt(fault);
                0
            }
        }
    }

    fn on_durable(&mut self, durable: Lsn) -> usize {
        let count = self.waiting.partition_point(|(lsn, _)| *lsn <= durable);
        let ready: Vec<_> = self.waiting.drain(..count).collect();
        let newest = ready.iter().rev().find_map(|(_, waiting)| match waiting {
            Waiting::Mini(mini) => Some(mini.header.height),
            _ => None,
        });
        if let Some(height) = newest {
            // First of all the next mini-block may be sealed: its commit runs while this one is signed.
            self.shared.set_durable(height);
            self.metrics.durable_mini_block.set(height as i64);
            self.links.sequence_bell.ring();
        }
        let now = now_ns();
        let mut closed = false;
        for (lsn, waiting) in ready {
            match waiting {
                Waiting::Mini(mini) => self.publish(*mini, now),
                Waiting::Close { number } => {
                    self.shared.set_block_durable(number, lsn);
                    closed = true;
                }
                Waiting::Other => {}
            }
        }
        if closed {
            self.links.root_bell.ring();
        }
        count
    }

    fn publish(&mut self, prepared: PreparedMini, now: u64) {
        let PreparedMini { mini, header, digest, tree } = prepared;
        let signature = self.signer.sign(digest);
        let latency = self.metrics.latency();
        latency.durable.observe(now.saturating_sub(mini.sealed_ns) as f64 * 1e-9);
        let published =
            MiniBlock { header, digest, signature, txs: mini.txs, state_version: mini.state_version };
        let published = match self.history.publish_mini_block(published) {
            Ok(published) => published,
            Err(error) => return self.halt(error),
        };
        let promises = self.promise_lanes.any();
        for (position, (executed, (origin, received_ns))) in
            published.txs.iter().zip(mini.waiting).enumerate()
        {
            latency.total.observe(now.saturating_sub(received_ns) as f64 * 1e-9);
            let end = End::Included {
                success: executed.outcome.success,
                mini_block: published.header.height,
                position: position as u32,
                seq: executed.seq,
                gas_used: executed.outcome.gas_used,
            };
            let verdict = Verdict { origin, hash: executed.tx.hash, end };
            if origin.lane == Origin::RPC_LANE {
                self.desk.verdict(&verdict);
                continue;
            }
            let promise = (promises && self.promise_lanes.contains(origin.lane))
                .then(|| tree.path(position))
                .flatten()
                .map(|path| {
                    let (header, leaf) = (published.header.clone(), Leaf::of(executed));
                    let mut bytes = Vec::new();
                    Promise { header, signature, leaf, path }.encode(&mut bytes);
                    bytes.into_boxed_slice()
                });
            self.outbox.push_back(Answer { verdict, promise });
        }
    }

    fn post(&mut self) -> usize {
        let room = self.links.answers.free_now().min(self.outbox.len());
        if room == 0 { 0 } else { self.links.answers.push_batch(self.outbox.drain(..room)) }
    }

    fn watch_space(&self) {
        let paused = match self.journal.space() {
            Space::Ok => None,
            Space::Low { reason, .. } | Space::None { reason } => Some(reason),
        };
        let was = self.metrics.not_admitting.get() == 1;
        match (&paused, was) {
            (Some(reason), false) => {
                tracing::error!(%reason, "no room for the journal: new transactions are refused until there is");
            }
            (None, true) => tracing::info!("the journal has room again: transactions are admitted"),
            _ => {}
        }
        self.shared.set_paused(paused.is_some());
        self.metrics.not_admitting.set(i64::from(paused.is_some() || self.shared.is_halted()));
    }
}

impl Stage for CommitStage {
    fn name(&self) -> &'static str {
        "commit"
    }

    fn poll(&mut self, budget: usize) -> usize {
        let mut done = self.post();
        if self.shared.is_halted() {
            return done;
        }
        done += self.poll_journal();
        let taken = self.take(budget);
        if taken > 0 {
            // Submits what was just appended, so that it does not wait for the next round.
            done += taken + self.poll_journal();
        }
        done + self.post()
    }

    fn housekeep(&mut self, _now_ns: u64) {
        self.watch_space();
        self.journal.release(self.shared.covered());
        if self.waiting.is_empty()
            && !self.shared.is_halted()
            && let Err(fault) = self.journal.settle()
        {
            self.halt(fault);
        }
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.journal.wake_fd()
    }

    fn close(&mut self) {
        while !self.shared.is_halted() && self.take(usize::MAX) > 0 {}
        match self.journal.flush() {
            Ok(durable) => {
                self.on_durable(durable);
            }
            Err(fault) => self.halt(fault),
        }
        self.post();
    }
}
