//! Merkle proofs, as `eth_getProof` gives them (EIP-1186).

use crate::{
    hash::Encode,
    nibbles::{common, nibble},
    nodes::{LEAF, NONE, Ref},
    tree::Tree,
};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
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

/// Collects nodes; those that are embedded in their parents are left out.
struct Collector {
    nodes: Vec<Bytes>,
    rlp: Vec<u8>,
}

impl Collector {
    fn take(&mut self) {
        if self.nodes.is_empty() || self.rlp.len() >= 32 {
            self.nodes.push(Bytes::copy_from_slice(&self.rlp));
        }
        self.rlp.clear();
    }
}

impl Tree {
    /// The nodes on the way from `root` to `key` as far as it goes, and the leaf if it is there.
    pub(crate) fn proof(&self, encode: &impl Encode, root: Ref, key: &[u8; 32]) -> (Vec<Bytes>, Option<u32>) {
        let mut out = Collector { nodes: Vec::with_capacity(10), rlp: Vec::with_capacity(544) };
        let (mut node, mut base) = (root, 0);
        while node != NONE {
            if node & LEAF != 0 {
                let leaf = node & !LEAF;
                self.encode_leaf(encode, leaf, base, &mut Vec::with_capacity(112), &mut out.rlp);
                out.take();
                return (out.nodes, (self.leaves.get(leaf).key == *key).then_some(leaf));
            }
            let head = self.nodes.head(node);
            let depth = usize::from(head.depth);
            let mut branch = Vec::new();
            if depth > base {
                branch.reserve(544);
                self.encode_branch(node, &mut branch);
                let hash;
                let below = if branch.len() < 32 {
                    branch.as_slice()
                } else {
                    hash = keccak256(&branch);
                    hash.as_slice()
                };
                self.encode_extension(node, base, below, &mut out.rlp);
                out.take();
                if common(&self.leaves.get(self.any_leaf(node)).key, key) < depth {
                    break;
                }
                out.rlp.extend_from_slice(&branch);
            } else {
                self.encode_branch(node, &mut out.rlp);
            }
            out.take();
            let Some(place) = head.place(nibble(key, depth)) else { break };
            node = self.nodes.child(node, place);
            base = depth + 1;
        }
        (out.nodes, None)
    }
}
