//! The door of every sender-recovery engine: what goes in, what comes out, and who is told.

use alloy_primitives::{Address, B256, U256, uint};
use std::sync::Arc;

/// Called by an engine when a [`RecoverEngine::poll`] would bring something and the consumer has not been told yet. It
/// may be called from any thread, must not block, and must not call back into the engine.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// One signature whose signer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverRequest {
    /// The caller's own number; comes back with the answer.
    pub tag: u64,
    /// The signing hash.
    pub hash: B256,
    /// `r`, to be in [1, n−1].
    pub r: U256,
    /// `s`, to be in [1, n/2] (EIP-2).
    pub s: U256,
    /// Parity of R's y coordinate, 0 or 1.
    pub parity: u8,
    /// Whom the client claims to be. It may make an engine faster; it never changes an answer.
    pub hint: Option<Address>,
    /// Whoever brought the signature: a connection, say. Only used to keep one client's bad signatures from making
    /// others' slower; it never changes an answer.
    pub source: u64,
}

/// Order of the group, n (SEC 2, section 2.4.1).
pub(crate) const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
/// Largest s that EIP-2 allows: (n − 1) / 2.
const HALF_ORDER: U256 = uint!(0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0_U256);

impl RecoverRequest {
    /// Checks the ranges of parity, r and s. Costs nothing beside a recovery, so callers may ask before they submit;
    /// every engine gives the same answer for what fails here.
    ///
    /// # Errors
    /// Every [`RecoverError`] but [`RecoverError::NoKey`].
    pub fn check_ranges(&self) -> Result<(), RecoverError> {
        if self.parity > 1 {
            Err(RecoverError::Parity)
        } else if self.r.is_zero() || self.r >= ORDER {
            Err(RecoverError::R)
        } else if self.s.is_zero() || self.s >= ORDER {
            Err(RecoverError::S)
        } else if self.s > HALF_ORDER {
            Err(RecoverError::HighS)
        } else {
            Ok(())
        }
    }
}

/// What an engine found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverAnswer {
    /// [`RecoverRequest::tag`].
    pub tag: u64,
    /// The signer, or why there is none.
    pub result: Result<Address, RecoverError>,
}

/// Why a signature has no signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RecoverError {
    /// Parity is neither 0 nor 1. (Parities 2 and 3 would mean R.x = r + n; Ethereum has no way to write them.)
    #[error("the signature's parity is neither 0 nor 1")]
    Parity,
    /// r is zero or at least the group order.
    #[error("the signature's r is not in [1, n-1]")]
    R,
    /// s is zero or at least the group order.
    #[error("the signature's s is not in [1, n-1]")]
    S,
    /// s is above n/2 (EIP-2).
    #[error("the signature's s is above n/2; negate s and flip the parity (EIP-2)")]
    HighS,
    /// No curve point has x = r, or the public key would be the point at infinity.
    #[error("the signature recovers to no public key")]
    NoKey,
}

/// How far an engine's answers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Computed by checked code on this CPU: right as they stand.
    Trusted,
    /// A claim. It must be checked on the CPU before anything depends on it.
    Hint,
}

/// What an engine is and what it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Name for logs, metrics and reports.
    pub name: &'static str,
    /// Whether answers need a check.
    pub trust: Trust,
    /// Requests that it can hold, submitted and not yet polled.
    pub capacity: usize,
    /// Requests a batch from which on it works at full rate.
    pub batch_min: usize,
    /// Signatures that it works on at the same time.
    pub parallelism: usize,
}

/// The engine has no room for the rest of the batch. Back-pressure, not failure: poll, then submit the rest again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recovery engine is full; poll its answers, then submit the rest")]
pub struct Full;

/// Why an engine cannot be used on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recovery engine {engine} refused: {reason}")]
pub struct Refusal {
    /// Name of the engine.
    pub engine: &'static str,
    /// What was wrong.
    pub reason: String,
}

/// A sender-recovery engine. One owner submits and polls; how the work is done is the engine's own.
pub trait RecoverEngine: Send {
    /// What the engine is. Constant over its life.
    fn caps(&self) -> Caps;

    /// Takes requests from the front of `batch` as far as there is room, and leaves the rest in it. Every request taken
    /// gets exactly one answer.
    ///
    /// # Errors
    /// [`Full`] when some were left.
    fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full>;

    /// Appends the answers that are ready to `out`, in any order, without waiting, and returns how many. An engine
    /// without threads of its own works here, a bounded amount a call, and rings the waker if more is left.
    fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize;

    /// Requests taken whose answers have not been polled.
    fn in_flight(&self) -> usize;
}
