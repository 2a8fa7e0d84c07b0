//! What passes the pool's door: the state it reads, what it is told, what it tells.

use alloy_primitives::{Address, B256, U256};
use ironlane_types::{Origin, Reject, Tx};
use std::sync::Arc;

/// What admission must know of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolAccount {
    /// Next nonce.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// What code it has.
    pub code_kind: CodeKind,
}

/// Code of an account, as far as it matters to a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CodeKind {
    /// No code.
    #[default]
    None,
    /// A delegation (EIP-7702): it may send.
    Delegation,
    /// A contract: it may not send (EIP-3607).
    Contract,
}

/// The newest state, durable or not: whatever has been executed.
///
/// A transaction's effects must be visible here before its [`Feedback::Executed`] is given to the pool. They may be
/// visible earlier.
pub trait AccountSource {
    /// The account; `None` where it does not exist (nonce and balance zero, no code).
    fn account(&self, address: &Address) -> Option<PoolAccount>;

    /// Told which accounts will be asked for next, so that memory can be fetched side by side. May do nothing.
    fn prefetch(&self, addresses: &[Address]) {
        let _ = addresses;
    }
}

impl<S: AccountSource + ?Sized> AccountSource for Arc<S> {
    fn account(&self, address: &Address) -> Option<PoolAccount> {
        (**self).account(address)
    }
    fn prefetch(&self, addresses: &[Address]) {
        (**self).prefetch(addresses);
    }
}

/// What the executor tells the pool. Every transaction handed out by [`crate::Admission::poll`] must come back, in the
/// order in which it was handed out, by one `Executed` or `Dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// It has been executed (successfully or not) and its effects can be read.
    Executed {
        /// Transaction.
        hash: B256,
        /// Its signer.
        sender: Address,
        /// Its nonce.
        nonce: u64,
    },
    /// It could not be executed and changed nothing. With [`Reject::NonceTooHigh`] or [`Reject::FeeCapBelowBase`] the
    /// pool keeps it and hands it out again when that has changed; with any other reason it is dropped for good.
    Dropped {
        /// Transaction.
        hash: B256,
        /// Its signer.
        sender: Address,
        /// Its nonce.
        nonce: u64,
        /// Why.
        reason: Reject,
    },
    /// An EVM block has been opened; later transactions run under these values.
    NewBlock {
        /// EIP-1559 base fee in wei; 0 before London.
        base_fee_wei: u64,
        /// Its gas limit.
        gas_limit: u64,
    },
}

/// A transaction to execute.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The transaction.
    pub tx: Arc<Tx>,
    /// Where its acknowledgement goes.
    pub origin: Origin,
    /// [`ironlane_types::Submission::received_ns`].
    pub received_ns: u64,
}

/// A transaction that has been taken into the pool. It may still be dropped.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Who sent it.
    pub origin: Origin,
    /// The transaction.
    pub tx: Arc<Tx>,
}

/// A transaction that has been refused or dropped. Nothing else will be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Who sent it.
    pub origin: Origin,
    /// Keccak-256 of the bytes that were sent (zero for [`Reject::TooLarge`], whose bytes are not hashed).
    pub hash: B256,
    /// Why.
    pub reason: Reject,
    /// Whether it had been [`Accepted`] before.
    pub was_accepted: bool,
}

/// What one [`crate::Admission::poll`] brings. Poll appends; the caller drains.
#[derive(Debug, Default)]
pub struct AdmissionOutput {
    /// To be executed, in this order.
    pub ready: Vec<Pending>,
    /// Taken into the pool.
    pub accepted: Vec<Accepted>,
    /// Refused or dropped.
    pub rejected: Vec<Rejection>,
}

/// Where a transaction of the pool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Waits for an earlier nonce or a lower base fee.
    Queued,
    /// Can execute; waits for the executor.
    Ready,
    /// The executor has it.
    InFlight,
}

/// A transaction of the pool, as queries show it.
#[derive(Debug, Clone)]
pub struct PoolTx {
    /// The transaction.
    pub tx: Arc<Tx>,
    /// Where it stands. txpool_content's "pending" is `Ready` and `InFlight`.
    pub place: Place,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Status {
    /// Signatures being recovered.
    pub recovering: usize,
    /// Ready and in flight.
    pub pending: usize,
    /// Of those, in flight.
    pub in_flight: usize,
    /// Waiting for a nonce or a fee.
    pub queued: usize,
    /// Accounts with transactions.
    pub accounts: usize,
    /// Bytes of all transactions in the pool, as the limits count them.
    pub bytes: usize,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Submissions taken in.
    pub submitted: u64,
    /// Taken into the pool.
    pub accepted: u64,
    /// Handed to the executor (again counts again).
    pub emitted: u64,
    /// Executed.
    pub executed: u64,
    /// Given back by the executor and kept.
    pub returned: u64,
    /// Sender hints that were not the signer.
    pub wrong_hints: u64,
    /// Sender hints in all.
    pub hints: u64,
    rejected: [u64; REASONS],
    dropped: [u64; REASONS],
}

/// Wire numbers of reasons lie below this.
const REASONS: usize = 64;
const _: () = {
    let mut i = 0;
    while i < Reject::ALL.len() {
        assert!((Reject::ALL[i] as usize) < REASONS, "a reason has no counter");
        i += 1;
    }
};

impl Default for Metrics {
    fn default() -> Self {
        Self {
            submitted: 0,
            accepted: 0,
            emitted: 0,
            executed: 0,
            returned: 0,
            wrong_hints: 0,
            hints: 0,
            rejected: [0; REASONS],
            dropped: [0; REASONS],
        }
    }
}

impl Metrics {
    /// Refused at the door for this reason.
    pub fn rejected(&self, reason: Reject) -> u64 {
        self.rejected[reason as usize]
    }

    /// Dropped for this reason after having been taken.
    pub fn dropped(&self, reason: Reject) -> u64 {
        self.dropped[reason as usize]
    }

    pub(crate) fn count(&mut self, reason: Reject, was_accepted: bool) {
        let counters = if was_accepted { &mut self.dropped } else { &mut self.rejected };
        counters[reason as usize] += 1;
    }
}
