//! The tree over raw 32-byte keys and arbitrary values, against alloy-trie: here keys may share any prefix, so that
//! extensions, deep branches and embedded nodes occur at every depth.

use crate::{
    EMPTY_ROOT,
    hash::{Encode, Hasher, Sink},
    nodes::{NONE, Ref},
    sort::Sorter,
    tree::{Job, Jobs, ROOT_PLACE, Tree, Values},
};
use alloy_primitives::{B256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, proof::verify_proof};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Key = [u8; 32];
pub(crate) type Change = (Key, Option<Vec<u8>>);

/// A trie of byte strings. A leaf's value is the number of its string.
pub(crate) struct Raw {
    tree: Tree,
    root: Ref,
    hash: B256,
    strings: Strings,
    jobs: Jobs,
    hasher: Hasher,
}

struct Strings(Vec<Vec<u8>>);

impl Encode for Strings {
    fn value(&self, tree: &Tree, leaf: u32, out: &mut Vec<u8>) {
        let number = u32::from_le_bytes(tree.leaves.get(leaf).value[..4].try_into().unwrap());
        out.extend_from_slice(&self.0[number as usize]);
    }
}

struct RawMerge<'a> {
    changes: &'a [Change],
    strings: &'a mut Strings,
    jobs: &'a mut Jobs,
    hasher: &'a mut Hasher,
}

impl Values for RawMerge<'_> {
    fn key(&self, op: u32) -> &Key {
        &self.changes[op as usize].0
    }
    fn is_delete(&self, op: u32) -> bool {
        self.changes[op as usize].1.is_none()
    }
    fn put(&mut self, tree: &mut Tree, leaf: u32, op: u32, _fresh: bool) -> bool {
        let number = self.strings.0.len() as u32;
        self.strings.0.push(self.changes[op as usize].1.clone().unwrap());
        tree.leaves.get_mut(leaf).value[..4].copy_from_slice(&number.to_le_bytes());
        true
    }
    fn release(&mut self, _tree: &mut Tree, _leaf: u32) {}
    fn jobs(&mut self) -> &mut Jobs {
        self.jobs
    }
    /// At every opportunity, whatever the number.
    fn settle(&mut self, tree: &mut Tree) {
        let mut unused = B256::ZERO;
        self.hasher.run(&mut Writer(tree, &mut unused), &*self.strings, self.jobs);
    }
    fn prefetch(&self, _op: u32) {}
}

struct Writer<'a>(&'a mut Tree, &'a mut B256);

impl Sink for Writer<'_> {
    fn tree(&self) -> &Tree {
        self.0
    }
    fn put(&mut self, job: &Job, known: &[u8]) {
        if job.place == ROOT_PLACE {
            *self.1 = B256::from_slice(known);
        } else {
            self.0.nodes.set_hash(job.parent, usize::from(job.place), known);
        }
    }
}

impl Raw {
    pub(crate) fn new() -> Raw {
        Raw {
            tree: Tree::reserve(1 << 16, 1 << 24, false).unwrap(),
            root: NONE,
            hash: EMPTY_ROOT,
            strings: Strings(Vec::new()),
            jobs: Jobs::new(),
            hasher: Hasher::default(),
        }
    }

    pub(crate) fn root_hash(&self) -> B256 {
        self.hash
    }

    pub(crate) fn change(&mut self, changes: &[Change]) -> B256 {
        let mut order = Vec::new();
        Sorter::default().order_into(&mut order, 0..changes.len() as u32, |i| &changes[i as usize].0);
        let (strings, jobs, hasher) = (&mut self.strings, &mut self.jobs, &mut self.hasher);
        let mut merge = RawMerge { changes, strings, jobs, hasher };
        let (root, dirty) = self.tree.merge(&mut merge, self.root, 0, &order);
        self.root = root;
        if root == NONE {
            self.hash = EMPTY_ROOT;
        } else if dirty {
            self.jobs.push(&self.tree, Job { node: root, parent: 0, place: ROOT_PLACE, base: 0 });
            self.hasher.run(&mut Writer(&mut self.tree, &mut self.hash), &self.strings, &mut self.jobs);
        }
        assert!(
            self.jobs.leaves.is_empty() && self.jobs.branches.iter().all(Vec::is_empty),
            "no job is left over"
        );
        self.hash
    }
}

fn rebuilt(model: &BTreeMap<Key, Vec<u8>>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in model {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// Applies `steps` one after the other and compares root, live counts and proofs of `probes` after each.
fn check(steps: &[Vec<Change>], probes: &[Key]) {
    let mut raw = Raw::new();
    let mut model = BTreeMap::new();
    for step in steps {
        for (key, value) in step {
            match value {
                Some(value) => model.insert(*key, value.clone()),
                None => model.remove(key),
            };
        }
        let root = raw.change(step);
        assert_eq!(root, rebuilt(&model));
        let live = raw.tree.leaves.region.len() - 1 - raw.tree.leaves.free_count as usize;
        assert_eq!(live, model.len(), "every leaf that is gone was freed");
        raw.tree.check_arena();
        for key in probes {
            let (proof, leaf) = raw.tree.proof(&raw.strings, raw.root, key);
            let value = model.get(key).cloned();
            assert_eq!(leaf.is_some(), value.is_some());
            verify_proof(root, Nibbles::unpack(key), value, &proof).unwrap();
        }
    }
    let all: Vec<Change> = model.keys().map(|k| (*k, None)).collect();
    assert_eq!(raw.change(&all), EMPTY_ROOT);
    assert_eq!(raw.tree.nodes.region.len(), 1, "an empty trie has given every block back");
}

impl Tree {
    /// Every block of the arena is a branch or free; no two neighbours are free; lists hold what is free.
    fn check_arena(&self) {
        let end = self.nodes.region.len();
        let (mut at, mut free, mut before_free) = (1, 0u64, false);
        while at < end {
            let block = at as u32;
            assert_eq!(self.nodes.previous_is_free(block), before_free && !self.nodes.is_free(block));
            if self.nodes.is_free(block) {
                assert!(!before_free, "free neighbours are merged");
                free += self.nodes.free_len(block) as u64;
                at += self.nodes.free_len(block);
            } else {
                at += usize::from(self.nodes.head(block).words);
            }
            before_free = self.nodes.is_free(block);
        }
        assert_eq!(at, end);
        assert!(!before_free, "the arena does not end in a free block");
        assert_eq!(free, self.nodes.free_words);
    }
}

/// Keys made of few distinct nibbles at the top, in the middle or at the very end.
fn crafted_key() -> impl Strategy<Value = Key> {
    (0usize..4, prop::array::uniform4(0u8..4)).prop_map(|(shape, n)| {
        let mut key = [0x11u8; 32];
        match shape {
            0 => key[..4].copy_from_slice(&n.map(|x| x * 0x45)),
            1 => key[28..].copy_from_slice(&n),
            2 => {
                key[0] = n[0] << 4;
                key[15] = n[1];
                key[16] = n[2] << 4;
                key[31] = n[3];
            }
            _ => key = keccak256(n).0,
        }
        key
    })
}

fn crafted_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(1u8..=255, 1..3),
        1 => prop::collection::vec(1u8..=255, 3..40),
        1 => prop::collection::vec(1u8..=255, 100..300),
    ]
}

fn crafted_step(len: usize) -> impl Strategy<Value = Vec<Change>> {
    prop::collection::btree_map(crafted_key(), prop::option::weighted(0.6, crafted_value()), 0..len)
        .prop_map(|changes| changes.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn histories_of_crafted_keys_agree_with_a_rebuild(
        steps in prop::collection::vec(prop_oneof![crafted_step(4), crafted_step(40)], 1..12),
        probes in prop::collection::vec(crafted_key(), 8),
    ) {
        check(&steps, &probes);
    }
}

/// Every pair of subsets of a key set: from one to the other in one step.
#[test]
fn every_step_between_subsets_of_a_small_key_set() {
    let key = |head: u8, middle: u8, tail: u8| {
        let mut key = [0u8; 32];
        (key[0], key[20], key[31]) = (head, middle, tail);
        key
    };
    let sets = [
        // Two at the last nibble, below an extension of 61 nibbles; one apart in the middle; one at the first nibble.
        [key(0, 0, 0x10), key(0, 0, 0x11), key(0, 0, 0x20), key(0, 7, 0), key(0xf0, 0, 0)],
        [key(0x10, 0, 1), key(0x11, 0, 2), key(0x12, 3, 3), key(0x12, 4, 3), key(0x20, 0, 0)],
        [key(0, 0, 1), key(0, 0, 2), key(0, 0, 3), key(0, 0, 4), key(0, 0, 5)],
    ];
    for (keys, value_len) in sets.iter().zip([1usize, 2, 33]) {
        for before in 0..32u32 {
            for after in 0..32u32 {
                let has = |set: u32, i: usize| set >> i & 1 != 0;
                let value = |seed: u8| vec![seed + 1; value_len];
                let first = (0..5).filter(|i| has(before, *i)).map(|i| (keys[i], Some(value(1)))).collect();
                // Those that stay are left alone (even ones) or rewritten (odd ones); absent ones are removed again.
                let second = (0..5)
                    .filter(|i| !(has(before, *i) && has(after, *i) && i % 2 == 0))
                    .map(|i| (keys[i], has(after, i).then(|| value(2))))
                    .collect();
                check(&[first, second], keys);
            }
        }
    }
}

#[test]
fn embedded_nodes_occur_and_are_exact() {
    // Siblings at the last nibble: the leaf is 3 bytes, the branch 22, its extension hashed or not by the path's length.
    for shared in 0..31usize {
        let mut keys = [[0x33u8; 32]; 3];
        keys[1][31] ^= 1;
        keys[2][shared] ^= 0x40;
        let steps: Vec<Vec<Change>> = vec![
            vec![(keys[0], Some(vec![1])), (keys[1], Some(vec![2]))],
            vec![(keys[2], Some(vec![3]))],
            vec![(keys[0], Some(vec![0x80]))],
            vec![(keys[0], Some(vec![9; 40]))],
            vec![(keys[0], Some(vec![4]))],
            vec![(keys[1], None)],
        ];
        check(&steps, &keys);
    }
}

#[test]
fn large_steps_agree_with_a_rebuild() {
    let key = |i: u32| keccak256(i.to_le_bytes()).0;
    let put = |range: std::ops::Range<u32>, v: u8| -> Vec<Change> {
        range.map(|i| (key(i), Some(vec![v, i as u8 | 1]))).collect()
    };
    let cut = |range: std::ops::Range<u32>| -> Vec<Change> { range.map(|i| (key(i), None)).collect() };
    let steps = [
        put(0..6000, 1),
        put(3000..9000, 2),
        cut(0..5000),
        put(4000..4700, 3),
        cut(4500..8990),
        put(0..3, 4),
    ];
    check(&steps, &[key(0), key(4600), key(8995), key(100_000)]);
}
