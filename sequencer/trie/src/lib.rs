//! The Merkle-Patricia trie, kept in memory and updated by difference.
//!
//! A [`Trie`] holds every account and every storage slot of one state, with the hash of each node beside it. Changes
//! come in as [`StateDelta`]s through [`Trie::apply`], which only hashes keys and queues; [`Trie::root`] then sorts what
//! is queued, merges it into the tree in one recursive pass that leaves a list of changed nodes for each depth, and
//! rehashes these from the deepest up in batches. Proofs ([`Trie::prove`]) and snapshots ([`Trie::write_to`],
//! [`Trie::open`]) speak of the state at the last call of `root`.
//!
//! The trie never reads the state store: a leaf's value lives in the leaf. It has one owner and starts no thread.
//!
//! From the bottom: `mem` (arenas), `leaves` and `nodes` (records in them), `tree` (merging), `rlp` and `hash`
//! (encoding, hashing), `values` (what accounts and slots are), `proof`, `snapshot`, `trie` (the door).

#[cfg(test)]
mod corpus_tests;
mod error;
mod hash;
mod leaves;
mod mem;
mod nibbles;
mod nodes;
mod proof;
#[cfg(test)]
mod raw_tests;
mod rlp;
mod snapshot;
mod sort;
mod tree;
mod trie;
mod values;

pub use error::TrieError;
pub use proof::{AccountProof, SlotProof};
pub use trie::{Trie, TrieConfig, TrieMemory};

use alloy_primitives::{B256, b256};
#[doc(no_inline)]
pub use ironlane_types::StateDelta;

/// Root of a trie with nothing in it: Keccak-256 of the RLP of the empty string (Yellow Paper, appendix D).
pub const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
