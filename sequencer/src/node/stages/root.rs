//! `root`: a closed block gets its state root, its header and its hash.
//!
//! In: closed blocks from `sequence`, proof requests from JSON-RPC. Out: sealed blocks to the history (once the journal
//! holds them), hashes to the executor, `sealed` records to `commit`, snapshots to disk. On overload `sequence` keeps its
//! block open for longer. Execution never waits for the trie.

use crate::node::checkpoint;
use crate::node::messages::Rooted;
use crate::node::metrics::Metrics;
use crate::node::shared::Shared;
use alloy_primitives::{Address, B256, U256};
use crossbeam_channel::Receiver;
use ironlane_executor::{BlockHashes, seal_block};
use ironlane_history::History;
use ironlane_runtime::{Consumer, Producer, Stage, now_ns};
use ironlane_state::{SnapshotDir, State};
use ironlane_trie::{AccountProof, Trie};
use ironlane_types::{ClosedBlock, SealedBlock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Memory that the state store asks the kernel for at a time: one huge page.
const POPULATE_STEP_BYTES: usize = 2 << 20;

/// A request for Merkle proofs at the newest sealed block.
pub struct ProofRequest {
    /// Whose account.
    pub address: Address,
    /// Which of its slots.
    pub slots: Vec<U256>,
    /// Where the answer goes: the proof and the block that it is for.
    pub reply: tokio::sync::oneshot::Sender<(u64, AccountProof)>,
}

/// Where and when snapshots are written.
pub struct Snapshots {
    /// The folder.
    pub dir: SnapshotDir,
    /// Blocks from one to the next; 0: none.
    pub interval_blocks: u64,
    /// How many are kept.
    pub keep: usize,
}

/// The links of the stage.
pub struct Links {
    /// From `sequence`.
    pub closed: Consumer<Box<ClosedBlock>>,
    /// To `commit`.
    pub rooted: Producer<Rooted>,
    /// From JSON-RPC.
    pub proofs: Receiver<ProofRequest>,
}

/// The newest block that the trie holds.
#[derive(Debug, Clone, Copy)]
pub struct Tip {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Sequence number after its last transaction.
    pub next_seq: u64,
}

/// The stage.
pub struct RootStage {
    trie: Trie,
    tip: Tip,
    links: Links,
    hashes: BlockHashes,
    state: State,
    history: History,
    shared: Arc<Shared>,
    metrics: Metrics,
    snapshots: Option<Snapshots>,
    snapshot_thread: Option<JoinHandle<anyhow::Result<()>>>,
    /// Sealed, but their journal records are still under way.
    unpublished: VecDeque<SealedBlock>,
}

impl RootStage {
    /// The trie holds the state after `tip`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        trie: Trie,
        tip: Tip,
        links: Links,
        hashes: BlockHashes,
        state: State,
        history: History,
        shared: Arc<Shared>,
        metrics: Metrics,
        snapshots: Option<Snapshots>,
    ) -> Self {
        Self {
            trie,
            tip,
            links,
            hashes,
            state,
            history,
            shared,
            metrics,
            snapshots,
            snapshot_thread: None,
            unpublished: VecDeque::new(),
        }
    }

    fn seal(&mut self, closed: ClosedBlock) {
        let started = now_ns();
        self.trie.apply(&closed.delta);
        let state_root = self.trie.root();
        let mini_height = closed.last_mini_block.unwrap_or(0);
        let sealed = seal_block(closed, self.tip.hash, state_root);
        self.tip = Tip {
            number: sealed.header.number,
            hash: sealed.hash,
            next_seq: self.tip.next_seq + sealed.txs.len() as u64,
        };
        self.hashes.set(self.tip.number, self.tip.hash);
        self.shared.set_rooted(self.tip.number);
        if self.links.rooted.push(Rooted { header: sealed.header.clone(), hash: sealed.hash }).is_err() {
            self.shared.halt("root", "the link to commit was full although room had been seen");
        }
        self.metrics.latency().root.observe((now_ns() - started) as f64 * 1e-9);
        self.snapshot(&sealed, mini_height);
        self.unpublished.push_back(sealed);
    }

    fn publish(&mut self) -> usize {
        let durable = self.shared.durable_block();
        let mut done = 0;
        while self.unpublished.front().is_some_and(|block| block.header.number <= durable) {
            let Some(block) = self.unpublished.pop_front() else { break };
            let number = block.header.number;
            if let Err(error) = self.history.publish_block(block) {
                self.shared.halt("root", format!("block {number} could not be published: {error}"));
                break;
            }
            self.metrics.blocks.inc();
            self.metrics.head_block.set(number as i64);
            done += 1;
        }
        done
    }

    /// Starts a snapshot when it is due and the one before is finished.
    fn snapshot(&mut self, block: &SealedBlock, mini_height: u64) {
        self.reap_snapshot(false);
        let Some(snapshots) = &self.snapshots else { return };
        let due =
            snapshots.interval_blocks > 0 && block.header.number.is_multiple_of(snapshots.interval_blocks);
        if !due || self.snapshot_thread.is_some() {
            return;
        }
        let started = (|| -> anyhow::Result<checkpoint::Pending> {
            // Pinned first: the trie takes a while, and the version must not expire meanwhile.
            let view = self.state.view_at(block.state_version)?.pin()?;
            let mut writer = snapshots.dir.create(block.header.number)?;
            writer.add_file(checkpoint::TRIE_FILE, |out| self.trie.write_to(out))?;
            let number = block.header.number;
            let hashes = (number.saturating_sub(256)..number)
                .rev()
                .map_while(|n| self.hashes.get(n).map(|hash| (n, hash)))
                .collect();
            Ok(checkpoint::Pending {
                writer,
                view,
                header: block.header.clone(),
                hash: block.hash,
                mini_height,
                next_seq: self.tip.next_seq,
                hashes,
            })
        })();
        let pending = match started {
            Ok(pending) => pending,
            Err(error) => return self.snapshot_failed(&error),
        };
        let (dir, keep) = (snapshots.dir.clone(), snapshots.keep);
        let (history, shared) = (self.history.clone(), self.shared.clone());
        let body = move || checkpoint::finish(pending, &dir, keep, &history, &shared);
        match std::thread::Builder::new().name("snapshot".into()).spawn(body) {
            Ok(thread) => self.snapshot_thread = Some(thread),
            Err(error) => self.snapshot_failed(&error.into()),
        }
    }

    fn snapshot_failed(&self, error: &anyhow::Error) {
        self.metrics.snapshot_failures.inc();
        tracing::warn!(%error, "a snapshot was not written; the journal covers everything meanwhile");
    }

    fn reap_snapshot(&mut self, wait: bool) {
        let Some(thread) = self.snapshot_thread.take_if(|thread| wait || thread.is_finished()) else {
            return;
        };
        match thread.join() {
            Ok(Ok(())) => {
                self.metrics.snapshots.inc();
                tracing::info!("snapshot written");
            }
            Ok(Err(error)) => self.snapshot_failed(&error),
            Err(_) => {
                eprintln!("the snapshot thread panicked, so the whole process ends");
                std::process::abort();
            }
        }
    }

    /// Answers proofs, but only while the trie and the newest published block are the same.
    fn prove(&mut self, budget: usize) -> usize {
        let mut done = 0;
        while done < budget && self.unpublished.is_empty() {
            let Ok(request) = self.links.proofs.try_recv() else { break };
            let proof = self.trie.prove(&request.address, &request.slots);
            // Whoever asked may have gone.
            let _ = request.reply.send((self.tip.number, proof));
            done += 1;
        }
        done
    }
}

impl Stage for RootStage {
    fn name(&self) -> &'static str {
        "root"
    }

    fn poll(&mut self, budget: usize) -> usize {
        let mut done = self.publish();
        if !self.shared.is_halted()
            && self.links.rooted.free_now() > 0
            && let Some(closed) = self.links.closed.pop()
        {
            self.seal(*closed);
            done += 1;
        }
        done + self.prove(budget.min(16))
    }

    fn housekeep(&mut self, _now_ns: u64) {
        self.reap_snapshot(false);
        // This lane has the time; the one that executes has not.
        self.state.populate(POPULATE_STEP_BYTES);
    }

    fn close(&mut self) {
        self.publish();
        self.reap_snapshot(true);
    }
}
