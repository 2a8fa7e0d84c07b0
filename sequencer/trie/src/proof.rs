//! Merkle proofs, as `eth_getProof` gives them (EIP-1186).

use alloy_primitives::{Address, B256, Bytes, U256};
use ironlane_types::AccountInfo;

/// That an account is, or is not, in the state, and the same for some of its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountProof {
    /// Whose.
    pub address: Address,
    /// The account; `None`: the proof shows that there is none.
    pub info: Option<AccountInfo>,
    /// Root of its storage trie; the empty root when it has none.
    pub storage_root: B256,
    /// RLP of the nodes from the state root down to the account, or to where its path ends. Empty in an empty trie.
    pub account_proof: Vec<Bytes>,
    /// One for each slot asked for, in that order.
    pub storage: Vec<SlotProof>,
}

/// That a slot has a value (zero: that it is absent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotProof {
    /// The slot, before hashing.
    pub key: U256,
    /// Its value; zero when absent.
    pub value: U256,
    /// RLP of the nodes from the storage root down. Nodes below 32 bytes are inside their parents and not listed.
    pub proof: Vec<Bytes>,
}
