//! The words that the sequencer's rooms share: transactions, outcomes, mini-blocks, state differences,
//! reasons of refusal. Data only: no I/O, no threads, no policy.
//!
//! The way of a transaction in these words: bytes arrive as a [`Submission`], become a [`Tx`] once decoded and
//! authenticated, become an [`ExecutedTx`] once the executor has run it, are sealed into a [`MiniBlock`], and end in a
//! [`SealedBlock`]. Whoever is wrong is told why by a [`Reject`].

mod block;
mod delta;
mod gas;
mod mini_block;
mod reject;
mod submission;
mod tx;

pub use block::{BlockContext, ClosedBlock, SealedBlock};
pub use delta::{AccountDelta, AccountInfo, StateDelta};
pub use gas::{TX_GAS, intrinsic_gas, max_cost};
pub use mini_block::{MiniBlock, MiniBlockHeader};
pub use reject::Reject;
pub use submission::{Origin, Submission};
pub use tx::{ExecutedTx, Outcome, Tx, TxEnvelope};

/// Keccak-256 of the empty string: the code hash of an account without code (EIP-1052).
pub const KECCAK_EMPTY: alloy_primitives::B256 = alloy_primitives::KECCAK256_EMPTY;
