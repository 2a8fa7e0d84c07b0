//! `sequence`: order becomes fact.
//!
//! In: transactions in the order in which `admit` hands them over. Out: mini-blocks and block boundaries to `commit`,
//! closed blocks to `root`, what happened to each transaction back to `admit`. On overload (a link is full, the block has
//! no gas left, the root lags) nothing is taken, and `admit` refuses at the edge.
//!
//! A mini-block is sealed when the journal has nothing under way, so that a lone transaction waits for nobody, and under
//! load the next mini-block is whatever came while the last one was written. It is sealed at the latest when its oldest
//! transaction reaches `seal_interval_us_max`, or when it is full.

use crate::config::SequenceConfig;
use crate::node::messages::{CommitItem, SealedMini};
use crate::node::metrics::Metrics;
use crate::node::movable::MovableExecutor;
use crate::node::shared::Shared;
use alloy_consensus::{Header, Transaction};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use ironlane_executor::{NextBlock, next_context};
use ironlane_pool::{Feedback, Pending};
use ironlane_rpc::PendingBlocks;
use ironlane_runtime::{Consumer, Producer, Stage, WallClock, now_ns};
use ironlane_types::{BlockContext, ClosedBlock, ExecutedTx, Origin, Reject};
use std::sync::Arc;

/// Room that must be on the link to `commit` before anything is executed: what one poll can send at most.
const COMMIT_ROOM: usize = 8;
/// A mini-block with this many bytes of transactions is full: its journal record must fit one commit.
const MINI_BYTES_MAX: usize = 4 << 20;

/// What the stage needs to make blocks.
#[derive(Debug, Clone)]
pub struct BlockPolicy {
    /// Seconds from one block to the next.
    pub interval_s: u64,
    /// Fee recipient.
    pub beneficiary: Address,
    /// Header `extraData`.
    pub extra_data: Bytes,
    /// When to seal mini-blocks.
    pub sequence: SequenceConfig,
}

/// The links of the stage.
pub struct Links {
    /// From `admit`.
    pub ready: Consumer<Pending>,
    /// To `admit`.
    pub feedback: Producer<Feedback>,
    /// To `commit`.
    pub commit: Producer<CommitItem>,
    /// To `root`.
    pub root: Producer<Box<ClosedBlock>>,
}

/// The mini-block being filled.
#[derive(Default)]
struct OpenMini {
    txs: Vec<Arc<ExecutedTx>>,
    waiting: Vec<(Origin, u64)>,
    /// What the pool is told once the effects can be read, that is, once the mini-block is sealed.
    feedback: Vec<Feedback>,
    bytes: usize,
    opened_ns: u64,
}

/// The stage.
pub struct SequenceStage {
    executor: MovableExecutor,
    links: Links,
    policy: BlockPolicy,
    pending: PendingBlocks,
    shared: Arc<Shared>,
    metrics: Metrics,
    clock: WallClock,
    mini: OpenMini,
    /// Taken from the link, but the open block has not enough gas left for it.
    stalled: Option<Pending>,
    height: u64,
    /// The newest closed block, as far as the next one depends on it.
    parent: Header,
    close_at_ns: u64,
}

impl SequenceStage {
    /// After recovery: `height` is the newest mini-block, `parent` the newest closed block. The executor may have a
    /// block open, which then goes on.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        executor: MovableExecutor,
        links: Links,
        policy: BlockPolicy,
        pending: PendingBlocks,
        shared: Arc<Shared>,
        metrics: Metrics,
        height: u64,
        parent: Header,
        clock: WallClock,
    ) -> Self {
        let mut stage = Self {
            executor,
            links,
            policy,
            pending,
            shared,
            metrics,
            clock,
            mini: OpenMini::default(),
            stalled: None,
            height,
            parent,
            close_at_ns: 0,
        };
        if let Some(context) = stage.executor.context().cloned() {
            stage.pending.open(Arc::new(context));
            stage.close_at_ns = stage.next_boundary_ns();
        }
        stage
    }

    fn halt(&self, error: impl std::fmt::Display) {
        self.shared.halt("sequence", error.to_string());
    }

    /// When the block that opens now closes: at the next wall-clock boundary of the interval, so that a block's timestamp
    /// is the second in which it opened. Only the first block after a start may be shorter than half an interval.
    fn next_boundary_ns(&self) -> u64 {
        let interval_us = self.policy.interval_s * 1_000_000;
        let left_us = interval_us - self.clock.unix_us() % interval_us;
        let first = self.close_at_ns == 0;
        let left_us = if first || left_us >= interval_us / 2 { left_us } else { left_us + interval_us };
        now_ns() + left_us * 1000
    }

    /// Opens the next block. The first one after a start opens at once; the links have room.
    fn open_block(&mut self) {
        let number = self.parent.number + 1;
        let randao = keccak256([b"ironlane/prevrandao".as_slice(), &number.to_be_bytes()].concat());
        let next = NextBlock {
            timestamp: self.clock.unix_us() / 1_000_000,
            beneficiary: self.policy.beneficiary,
            gas_limit: None,
            prev_randao: randao,
            extra_data: self.policy.extra_data.clone(),
        };
        let context = next_context(self.executor.spec(), &self.parent, next);
        if let Err(error) = self.executor.open_block(context.clone()) {
            return self.halt(error);
        }
        self.close_at_ns = self.next_boundary_ns();
        self.pending.open(Arc::new(context.clone()));
        let news =
            Feedback::NewBlock { base_fee_wei: context.base_fee.unwrap_or(0), gas_limit: context.gas_limit };
        // A full link only delays the news; the pool learns the next block's.
        let _ = self.links.feedback.push(news);
        self.send(CommitItem::Open(Box::new(context)));
    }

    /// Seals what is open, then closes the block. Not before the block before it has its hash: closing writes that hash
    /// into the history contract, and waiting for it here would hold up admission. A block may stay open longer instead.
    fn close_block(&mut self) {
        if self.parent.number > self.shared.rooted() || self.links.root.free_now() == 0 {
            return;
        }
        self.seal();
        let closed = match self.executor.close_block() {
            Ok(mut closed) => {
                closed.last_mini_block = Some(self.height);
                closed
            }
            Err(error) => return self.halt(error),
        };
        let context = &closed.context;
        self.parent = parent_fields(context, &closed);
        self.send(CommitItem::Close { number: context.number, gas_used: closed.gas_used });
        self.metrics.root_lag.set(self.parent.number.saturating_sub(self.shared.rooted()) as i64);
        if self.links.root.push(Box::new(closed)).is_err() {
            self.halt("the link to root was full although room had been seen");
        }
        self.open_block();
    }

    fn send(&mut self, item: CommitItem) {
        if self.links.commit.push(item).is_err() {
            self.halt("the link to commit was full although room had been seen");
        }
    }

    fn should_seal(&self, now: u64) -> bool {
        if self.mini.txs.is_empty() {
            return false;
        }
        self.shared.backlog() == 0
            || self.mini.txs.len() >= self.policy.sequence.mini_block_txs_max
            || self.mini.bytes >= MINI_BYTES_MAX
            || now - self.mini.opened_ns >= self.policy.sequence.seal_interval_us_max * 1000
    }

    fn seal(&mut self) {
        if self.mini.txs.is_empty() {
            return;
        }
        let state_version = match self.executor.seal_mini_block() {
            Ok(version) => version,
            Err(error) => return self.halt(error),
        };
        let OpenMini { txs, waiting, feedback, opened_ns, .. } = std::mem::take(&mut self.mini);
        self.height += 1;
        self.shared.set_sealed(self.height);
        let sealed_ns = now_ns();
        self.metrics.mini_blocks.inc();
        self.metrics.latency().sequence.observe(sealed_ns.saturating_sub(opened_ns) as f64 * 1e-9);
        let block_number = self.executor.context().map_or(0, |context| context.number);
        let timestamp_us = self.clock.unix_us();
        let mini = SealedMini {
            height: self.height,
            block_number,
            timestamp_us,
            sealed_ns,
            txs,
            waiting,
            state_version,
        };
        self.send(CommitItem::Mini(Box::new(mini)));
        self.tell(feedback);
    }

    /// Tells the pool; room was seen before the transactions were taken.
    fn tell(&mut self, feedback: Vec<Feedback>) {
        let count = feedback.len();
        if self.links.feedback.push_batch(feedback) != count {
            self.halt("the link to admit was full although room had been seen");
        }
    }

    /// Executes one transaction; `false` when it has to wait for the next block.
    fn execute(&mut self, ready: Pending) -> bool {
        let limit = ready.tx.envelope.gas_limit();
        let whole_block = self.executor.context().map_or(0, |context| context.gas_limit);
        if limit > self.executor.gas_left() && limit <= whole_block {
            self.stalled = Some(ready);
            return false;
        }
        let Pending { tx, origin, received_ns } = ready;
        let (hash, sender, nonce) = (tx.hash, tx.sender, tx.envelope.nonce());
        let feedback = match self.executor.execute(tx) {
            Ok(executed) => {
                if self.mini.txs.is_empty() {
                    self.mini.opened_ns = now_ns();
                }
                self.metrics.executed.inc();
                self.metrics.gas.inc_by(executed.outcome.gas_used);
                self.mini.bytes += executed.tx.raw.len();
                self.mini.txs.push(executed);
                self.mini.waiting.push((origin, received_ns));
                Feedback::Executed { hash, sender, nonce }
            }
            Err(reason) => {
                if reason == Reject::Internal {
                    tracing::error!(%hash, "the executor failed on a transaction; it was refused");
                }
                Feedback::Dropped { hash, sender, nonce, reason }
            }
        };
        // In the order in which they were handed out, hence behind what is not sealed yet.
        self.mini.feedback.push(feedback);
        if self.mini.txs.is_empty() {
            let feedback = std::mem::take(&mut self.mini.feedback);
            self.tell(feedback);
        }
        true
    }

    fn take(&mut self, budget: usize) -> usize {
        let room = self.links.feedback.free_now().saturating_sub(1 + self.mini.feedback.len());
        let full = self.policy.sequence.mini_block_txs_max.saturating_sub(self.mini.txs.len());
        let most = budget.min(room).min(full);
        let mut done = 0;
        while done < most && self.mini.bytes < MINI_BYTES_MAX {
            let Some(ready) = self.stalled.take().or_else(|| self.links.ready.pop()) else { break };
            if !self.execute(ready) || self.shared.is_halted() {
                break;
            }
            done += 1;
        }
        done
    }
}

/// The fields of a closed block's header that the next block depends on.
pub(crate) fn parent_fields(context: &BlockContext, closed: &ClosedBlock) -> Header {
    Header {
        number: context.number,
        timestamp: context.timestamp,
        gas_limit: context.gas_limit,
        gas_used: closed.gas_used,
        base_fee_per_gas: context.base_fee,
        excess_blob_gas: context.excess_blob_gas,
        blob_gas_used: closed.blob_gas_used,
        state_root: B256::ZERO,
        ..Header::default()
    }
}

impl Stage for SequenceStage {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn poll(&mut self, budget: usize) -> usize {
        if self.shared.is_halted() || self.links.commit.free_now() < COMMIT_ROOM {
            return 0;
        }
        if self.executor.context().is_none() {
            self.open_block();
            return 1;
        }
        let now = now_ns();
        if now >= self.close_at_ns {
            let height = self.height;
            self.close_block();
            if self.height != height || self.close_at_ns > now {
                return 1;
            }
        }
        let done = self.take(budget);
        if self.should_seal(now_ns()) {
            self.seal();
            return done + 1;
        }
        done
    }

    fn deadline_ns(&self) -> Option<u64> {
        let seal = self.mini.opened_ns + self.policy.sequence.seal_interval_us_max * 1000;
        Some(if self.mini.txs.is_empty() { self.close_at_ns } else { seal.min(self.close_at_ns) })
    }

    fn close(&mut self) {
        // What was executed is still promised: `commit` closes after this stage and flushes the journal.
        if !self.shared.is_halted() && self.links.commit.free_now() >= COMMIT_ROOM {
            self.seal();
        }
    }
}
