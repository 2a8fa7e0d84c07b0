//! What the server reads from and talks to: the doors that the node opens to it.

use alloy_primitives::{Address, B256, Bytes, U256};
use ironlane_executor::ChainSpec;
use ironlane_history::History;
use ironlane_state::State;
use ironlane_trie::AccountProof;
use ironlane_types::{BlockContext, Reject, Tx};
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// A future on the heap, as the doors below hand them out.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Everything that an answer is made of. Cheap to clone.
#[derive(Clone)]
pub struct RpcContext {
    /// Accounts, storage and code, by version.
    pub state: State,
    /// What was published.
    pub history: History,
    /// Chain id and forks.
    pub spec: Arc<ChainSpec>,
    /// The way in for transactions, and what waits there.
    pub ingress: Arc<dyn Ingress>,
    /// Merkle proofs.
    pub proofs: Arc<dyn Proofs>,
    /// Contexts of the blocks that are not sealed yet.
    pub pending: PendingBlocks,
    /// What `web3_clientVersion` answers.
    pub client_version: String,
    /// The sequencer's signing address: whose promises `ironlane_getPromise` hands out.
    pub sequencer: Address,
}

/// The way into the pool and the questions that only the pool can answer. Implemented by the node over admission. The
/// methods that are not futures may wait for the pool for a moment: they are called on threads for blocking work, all
/// but [`Self::subscribe_pending`].
pub trait Ingress: Send + Sync + 'static {
    /// Hands in raw EIP-2718 bytes. Resolves with the hash once the transaction is admitted (queued or pending), or with
    /// the reason why not.
    fn submit(&self, raw: Bytes) -> BoxFuture<Result<B256, Reject>>;

    /// As [`Self::submit`], and then waits until the transaction is durable in a mini-block, for at most `timeout`.
    fn submit_sync(&self, raw: Bytes, timeout: Duration) -> BoxFuture<SyncOutcome>;

    /// How many transactions wait.
    fn pool_counts(&self) -> PoolCounts;

    /// All that waits, or all of one sender.
    fn pool_content(&self, sender: Option<Address>) -> PoolContent;

    /// The next nonce of an account when all its pending transactions are counted; `None` when it has none in the pool.
    fn pending_nonce(&self, address: &Address) -> Option<u64>;

    /// A waiting transaction by its hash.
    fn pool_transaction(&self, hash: &B256) -> Option<PoolTx>;

    /// Why a transaction that was refused or dropped lately is not here.
    fn drop_reason(&self, hash: &B256) -> Option<Reject>;

    /// Hashes of transactions as they become pending (executable). A reader that is too slow loses the oldest.
    fn subscribe_pending(&self) -> broadcast::Receiver<B256>;
}

/// How [`Ingress::submit_sync`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncOutcome {
    /// Durable in a mini-block; its receipt can be read from the history.
    Included(B256),
    /// Admitted, but not included in time. It may still be.
    TimedOut(B256),
    /// Admitted, but waiting behind a missing nonce when the time was up.
    NotReady(B256),
    /// Refused or dropped.
    Rejected(Reject),
}

/// Sizes of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolCounts {
    /// Executable transactions.
    pub pending: u64,
    /// Transactions behind a missing nonce.
    pub queued: u64,
}

/// What waits in the pool.
#[derive(Debug, Clone, Default)]
pub struct PoolContent {
    /// Executable transactions.
    pub pending: Vec<Arc<Tx>>,
    /// Transactions behind a missing nonce.
    pub queued: Vec<Arc<Tx>>,
}

/// A transaction in the pool.
#[derive(Debug, Clone)]
pub struct PoolTx {
    /// The transaction.
    pub tx: Arc<Tx>,
    /// It waits behind a missing nonce.
    pub queued: bool,
}

/// Merkle proofs (EIP-1186) of the newest sealed block's state. Implemented by the node over its root stage.
pub trait Proofs: Send + Sync + 'static {
    /// The account and the given storage keys, proven against the state root of the newest block that has one.
    fn prove(&self, address: Address, keys: Vec<U256>) -> BoxFuture<Result<ProvenAccount, ProofError>>;
}

/// An account with its proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenAccount {
    /// Block whose state root it is proven against.
    pub block_number: u64,
    /// The proofs; one for each key in the order asked.
    pub proof: AccountProof,
}

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The root stage has no room for the question now.
    #[error("proofs are busy now: try again later")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// Contexts of the newest few blocks, so that what is not sealed yet can be shown. One writer (the stage that opens
/// blocks), many readers.
#[derive(Debug, Clone, Default)]
pub struct PendingBlocks(Arc<RwLock<VecDeque<Arc<BlockContext>>>>);

/// A closed block may wait for its root while the next one is open; two more are for readers that are late.
const CONTEXTS_KEPT: usize = 4;

impl PendingBlocks {
    /// A block opened.
    pub fn open(&self, context: Arc<BlockContext>) {
        let mut contexts = self.0.write();
        contexts.retain(|known| known.number != context.number);
        contexts.push_back(context);
        if contexts.len() > CONTEXTS_KEPT {
            contexts.pop_front();
        }
    }

    /// The open block's context.
    pub fn newest(&self) -> Option<Arc<BlockContext>> {
        self.0.read().back().cloned()
    }

    /// The context of one of the newest blocks.
    pub fn get(&self, number: u64) -> Option<Arc<BlockContext>> {
        self.0.read().iter().find(|context| context.number == number).cloned()
    }
}
