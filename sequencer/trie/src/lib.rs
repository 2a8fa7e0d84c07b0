//! The Merkle-Patricia trie, kept in memory and updated by difference.
//!
//! A [`Trie`] holds every account and every storage slot of one state, with the hash of each node beside it. Changes
//! come in as [`StateDelta`]s through [`Trie::apply`], which only hashes keys and queues; [`Trie::root`] then sorts what
//! is queued, merges it into the tree in one recursive pass that leaves a list of changed nodes for each depth, and
//! rehashes these from the deepest up in batches. Proofs ([`Trie::prove`]) and snapshots ([`Trie::write_to`],
//! [`Trie::open`]) speak of the state at the last call of `root`.
//!
//! The trie never reads the state store: a leaf's value lives in the leaf. It has one owner and starts no thread.

mod error;
mod proof;
mod trie;

pub use error::TrieError;
pub use proof::{AccountProof, SlotProof};
pub use trie::{Trie, TrieConfig, TrieMemory};

#[doc(no_inline)]
pub use ironlane_types::StateDelta;
