//! The door.

use crate::{AccountProof, TrieError};
use alloy_primitives::{Address, B256, U256};
use ironlane_types::{AccountInfo, StateDelta};
use std::io::{self, Write};

/// How much a trie may hold, and how its memory is mapped. Limits reserve address space, not memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrieConfig {
    /// Most accounts and slots together; at most 2³¹ − 1.
    pub leaves_max: usize,
    /// Most bytes of branch nodes; at most 16 GiB. About 55 bytes a leaf are used.
    pub node_bytes_max: usize,
    /// Whether to ask the kernel for huge pages (1.2 to 1.9 times faster on large tries, 2 MiB granularity).
    pub huge_pages: bool,
}

impl Default for TrieConfig {
    fn default() -> Self {
        TrieConfig { leaves_max: 1 << 28, node_bytes_max: 16 << 30, huge_pages: true }
    }
}

/// Bytes that a trie uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrieMemory {
    /// Accounts in the trie.
    pub accounts: u64,
    /// Storage slots in all storage tries.
    pub slots: u64,
    /// Storage tries.
    pub storage_tries: u64,
    /// Bytes of leaf records, free ones included.
    pub leaf_bytes: u64,
    /// Bytes of branch nodes, free blocks included.
    pub node_bytes: u64,
    /// Bytes of free blocks and free leaf records within these.
    pub free_bytes: u64,
    /// Bytes of storage trie records, code hashes, wide balances and scratch space.
    pub other_bytes: u64,
}

impl TrieMemory {
    /// All bytes.
    pub fn total_bytes(&self) -> u64 {
        self.leaf_bytes + self.node_bytes + self.other_bytes
    }
}

/// The state trie with all storage tries. One owner; `Send`.
pub struct Trie {
    _cfg: TrieConfig,
}

impl Trie {
    /// An empty trie.
    pub fn new(cfg: TrieConfig) -> Result<Trie, TrieError> {
        Ok(Trie { _cfg: cfg })
    }

    /// Queues a delta: what it says holds from the next [`Trie::root`] on. Addresses may repeat within and between
    /// deltas, the later entry wins. `info: None` removes the account with its storage, a zero value removes a slot,
    /// `storage_wiped` removes all slots before the entry's own. An account that EIP-161 counts as empty is stored as
    /// given: whether it exists is the caller's business.
    pub fn apply(&mut self, delta: &StateDelta) {
        let _ = delta;
        unimplemented!()
    }

    /// Merges what was queued, rehashes what changed, and returns the state root.
    pub fn root(&mut self) -> B256 {
        unimplemented!()
    }

    /// The root that the last [`Trie::root`] returned (the empty root before the first).
    pub fn last_root(&self) -> B256 {
        unimplemented!()
    }

    /// Root of an account's storage trie at the last [`Trie::root`]; `None` when there is no such account.
    pub fn storage_root(&self, address: &Address) -> Option<B256> {
        let _ = address;
        unimplemented!()
    }

    /// An account at the last [`Trie::root`].
    pub fn account(&self, address: &Address) -> Option<AccountInfo> {
        let _ = address;
        unimplemented!()
    }

    /// A slot's value at the last [`Trie::root`]; zero when absent.
    pub fn storage(&self, address: &Address, slot: U256) -> U256 {
        let _ = (address, slot);
        unimplemented!()
    }

    /// Proofs against the root of the last [`Trie::root`], for an account and some of its slots, present or absent.
    pub fn prove(&self, address: &Address, slots: &[U256]) -> AccountProof {
        let _ = (address, slots);
        unimplemented!()
    }

    /// Accounts, slots and bytes.
    pub fn memory(&self) -> TrieMemory {
        unimplemented!()
    }

    /// Writes the trie as it was at the last [`Trie::root`] (`docs/formats.md`, section *Trie file*).
    pub fn write_to(&self, w: &mut dyn Write) -> io::Result<()> {
        let _ = w;
        unimplemented!()
    }

    /// Takes a trie over from the bytes of a trie file, which are copied. Lengths, every reference and the root node's
    /// hash are checked, so that whatever the bytes are, the answer is a trie that can be used or an error.
    /// [`Trie::verify`] checks the rest.
    pub fn open(cfg: TrieConfig, bytes: &[u8]) -> Result<Trie, TrieError> {
        let _ = (cfg, bytes);
        unimplemented!()
    }

    /// Rehashes every node from the leaves up and compares.
    pub fn verify(&self) -> Result<(), TrieError> {
        unimplemented!()
    }
}
