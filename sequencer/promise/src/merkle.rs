//! A binary Merkle tree over a mini-block's leaves.
//!
//! Inner node: Keccak-256 of 0x01, left, right. A node without a right neighbour moves up unchanged; nothing is ever
//! duplicated, so two different lists of leaves never share a root (CVE-2012-2459). No leaves: the root is zero. One
//! leaf: the root is that leaf.

use crate::PromiseError;
use alloy_primitives::{B256, keccak256};

/// First byte of an inner node's preimage.
const NODE_TAG: u8 = 0x01;

/// Most hashes that a path can have: a tree over 2^32 leaves is 32 deep.
pub const PATH_LEN_MAX: usize = 32;

fn parent(left: B256, right: B256) -> B256 {
    let mut bytes = [0; 65];
    bytes[0] = NODE_TAG;
    bytes[1..33].copy_from_slice(left.as_slice());
    bytes[33..65].copy_from_slice(right.as_slice());
    keccak256(bytes)
}

/// All levels of a tree, leaves first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerkleTree {
    levels: Vec<Vec<B256>>,
}

impl MerkleTree {
    /// Builds the tree over leaf hashes in their order.
    pub fn new(leaves: Vec<B256>) -> MerkleTree {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => parent(*left, *right),
                    promoted => promoted[0],
                })
                .collect();
            levels.push(above);
        }
        MerkleTree { levels }
    }

    /// The root; zero when there are no leaves.
    pub fn root(&self) -> B256 {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or(B256::ZERO)
    }

    /// How many leaves.
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Whether there are no leaves.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The path of the leaf at `index`; `None` when there is no such leaf.
    pub fn path(&self, index: usize) -> Option<MerklePath> {
        if index >= self.len() {
            return None;
        }
        let below_root = &self.levels[..self.levels.len() - 1];
        let sibling = |(height, level): (usize, &Vec<B256>)| level.get((index >> height) ^ 1).copied();
        Some(MerklePath { siblings: below_root.iter().enumerate().filter_map(sibling).collect() })
    }
}

/// The hashes beside the way from a leaf to the root, leaf's side first. Levels at which the node moves up unchanged have
/// none; which these are follows from the leaf's index and the number of leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerklePath {
    /// Hashes, at most [`PATH_LEN_MAX`].
    pub siblings: Vec<B256>,
}

impl MerklePath {
    /// How many hashes the path of leaf `index` among `count` has. Needs `index < count`.
    pub fn len_for(index: u32, count: u32) -> usize {
        let (mut at, mut nodes, mut len) = (u64::from(index), u64::from(count), 0);
        while nodes > 1 {
            len += usize::from(at ^ 1 < nodes);
            (at, nodes) = (at / 2, nodes.div_ceil(2));
        }
        len
    }

    /// The root that this path leads to from `leaf`, the leaf at `index` (from 0) among `count`. Needs `index < count`.
    ///
    /// # Errors
    ///
    /// [`PromiseError::PathLength`] when there are more or fewer hashes than that place needs.
    pub fn root(&self, leaf: B256, index: u32, count: u32) -> Result<B256, PromiseError> {
        let wanted = Self::len_for(index, count);
        if self.siblings.len() != wanted {
            return Err(PromiseError::PathLength { got: self.siblings.len(), wanted });
        }
        let mut siblings = self.siblings.iter().copied();
        let (mut hash, mut at, mut nodes) = (leaf, u64::from(index), u64::from(count));
        while nodes > 1 {
            if at ^ 1 < nodes {
                let Some(sibling) = siblings.next() else {
                    return Err(PromiseError::PathLength { got: self.siblings.len(), wanted });
                };
                hash = if at & 1 == 0 { parent(hash, sibling) } else { parent(sibling, hash) };
            }
            (at, nodes) = (at / 2, nodes.div_ceil(2));
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: u32) -> Vec<B256> {
        (0..count).map(|n| keccak256(n.to_be_bytes())).collect()
    }

    /// The definition, written as a recursion over the largest power of two below the length.
    fn root_by_definition(leaves: &[B256]) -> B256 {
        match leaves {
            [] => B256::ZERO,
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                parent(root_by_definition(left), root_by_definition(right))
            }
        }
    }

    #[test]
    fn roots_follow_the_definition_and_every_path_leads_there() {
        for count in 0..=70 {
            let tree = MerkleTree::new(leaves(count));
            assert_eq!(tree.root(), root_by_definition(&leaves(count)), "{count} leaves");
            for index in 0..count {
                let path = tree.path(index as usize).expect("a leaf");
                assert_eq!(path.siblings.len(), MerklePath::len_for(index, count));
                let root = path.root(leaves(count)[index as usize], index, count);
                assert_eq!(root.expect("the right length"), tree.root());
            }
            assert_eq!(tree.path(count as usize), None);
        }
    }

    #[test]
    fn no_repeated_tail_keeps_the_root() {
        // The ambiguity of CVE-2012-2459: [a, b, c] and [a, b, c, c] must differ.
        for count in 1..20 {
            let mut longer = leaves(count);
            longer.extend_from_within(count as usize - 1..);
            assert_ne!(MerkleTree::new(leaves(count)).root(), MerkleTree::new(longer).root());
        }
    }

    #[test]
    fn the_longest_path_fits() {
        assert_eq!(MerklePath::len_for(0, u32::MAX), PATH_LEN_MAX);
        assert_eq!(MerklePath::len_for(u32::MAX - 1, u32::MAX), PATH_LEN_MAX - 1);
    }

    proptest! {
        #[test]
        fn a_path_holds_for_its_own_place_only(count in 2u32..200, a in any::<u32>(), b in any::<u32>()) {
            let (a, b) = (a % count, b % count);
            prop_assume!(a != b);
            let tree = MerkleTree::new(leaves(count));
            let path = tree.path(a as usize).expect("a leaf");
            let elsewhere = path.root(leaves(count)[a as usize], b, count);
            prop_assert_ne!(elsewhere, Ok(tree.root()));
            let other_leaf = path.root(leaves(count)[b as usize], a, count);
            prop_assert_ne!(other_leaf, Ok(tree.root()));
        }
    }
}
