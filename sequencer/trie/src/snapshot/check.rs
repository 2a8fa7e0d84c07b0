//! What makes the bytes of a trie file safe to use.
//!
//! One pass over the branch arena finds the blocks: branches and free ones must fill it exactly. One walk from the roots
//! visits every branch and leaf: each must be there, be visited once, lie deeper than its parent, and hold keys that
//! agree with the way to it. What the walk does not reach is free, and is linked as such.

use crate::{
    EMPTY_ROOT, Trie, TrieError,
    leaves::AccountValue,
    nibbles::{KEY_NIBBLES, common, nibble},
    nodes::{BLOCK_WORDS_MIN, LEAF, NONE, Nodes, Ref, nibbles_of, words_for},
    tree::Tree,
    values::{Tables, WIDE},
};
use ironlane_types::KECCAK_EMPTY;

fn damaged<T>(what: &'static str, place: u64) -> Result<T, TrieError> {
    Err(TrieError::Damaged { what, place })
}

/// A set of numbers below a bound.
struct Bits(Vec<u64>);

impl Bits {
    fn new(bound: usize) -> Self {
        Bits(vec![0; bound.div_ceil(64)])
    }
    fn insert(&mut self, i: usize) -> bool {
        let (word, bit) = (&mut self.0[i / 64], 1u64 << (i % 64));
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
    fn contains(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 != 0
    }
    fn remove(&mut self, i: usize) -> bool {
        let (word, bit) = (&mut self.0[i / 64], 1u64 << (i % 64));
        let there = *word & bit != 0;
        *word &= !bit;
        there
    }
}

/// Checks a trie whose arenas and tables were just read, and links what is free.
pub(super) fn check(trie: &mut Trie) -> Result<(), TrieError> {
    let Trie { tree, tables, root, .. } = trie;
    if !tables.index_codes() || tables.codes.first() != Some(&KECCAK_EMPTY) {
        return damaged("the table of code hashes is wrong", 0);
    }
    match tables.storages.first() {
        Some(none) if none.root == NONE && none.hash == EMPTY_ROOT => {}
        _ => return damaged("the reserved storage trie is not empty", 0),
    }
    let branches = scan_blocks(&mut tree.nodes)?;
    let mut walk = Walk {
        tree,
        tables,
        branches,
        leaves: Bits::new(tree.leaves.region.len()),
        tries: Bits::new(tables.storages.len()),
        wide: 0,
        counts: [0; 3],
    };
    if *root != NONE {
        walk.visit(*root, 0, Kind::Account)?;
    }
    for wiped in &tables.garbage {
        walk.visit(*wiped, 0, Kind::Wiped)?;
    }
    let Walk { branches, leaves, tries, wide, counts: [accounts, slots, wiped], .. } = walk;
    if let Some(word) = branches.0.iter().position(|word| *word != 0) {
        return damaged(
            "a branch belongs to no trie",
            word as u64 * 64 + u64::from(branches.0[word].trailing_zeros()),
        );
    }
    if (accounts, slots + wiped) != (tables.accounts, tables.slots) {
        return damaged("the header's numbers of accounts and slots are not those of the leaves", accounts);
    }
    if wide != tables.wide.len() {
        return damaged("a wide balance belongs to no account", wide as u64);
    }
    for leaf in (1..tree.leaves.region.len()).rev().filter(|leaf| !leaves.contains(*leaf)) {
        tree.leaves.free(leaf as u32);
    }
    for id in (1..tables.storages.len()).rev().filter(|id| !tries.contains(*id)) {
        tables.free_storage(id as u32);
    }
    Ok(())
}

/// Finds the branches, and links the free blocks between them.
fn scan_blocks(nodes: &mut Nodes) -> Result<Bits, TrieError> {
    let end = nodes.region.len();
    let mut branches = Bits::new(end);
    let (mut at, mut before_free) = (1, false);
    while at < end {
        let block = at as Ref;
        let place = at as u64;
        let words = if nodes.is_free(block) {
            let words = nodes.free_len(block);
            if before_free || words < BLOCK_WORDS_MIN || words >= end - at {
                return damaged("a free block has an impossible length or place", place);
            }
            nodes.link(block, words);
            before_free = true;
            words
        } else {
            let head = nodes.head(block);
            let need = words_for(head.count());
            let words = usize::from(head.words);
            if head.count() < 2 || usize::from(head.depth) >= KEY_NIBBLES || head.embedded & !head.mask != 0 {
                return damaged("a branch has an impossible header", place);
            }
            if words < need || words >= need + BLOCK_WORDS_MIN || words > end - at {
                return damaged("a branch has an impossible length", place);
            }
            if nodes.previous_is_free(block) != before_free {
                return damaged("a branch is wrong about the block before it", place);
            }
            let (_, hashes) = nodes.body(block, head.count());
            let embedded = nibbles_of(head.mask).zip(hashes.as_chunks::<32>().0);
            for (n, known) in embedded.filter(|(n, _)| head.embedded >> n & 1 != 0) {
                if !(0xc0..0xdf).contains(&known[0]) {
                    return damaged("an embedded node is not a short list", place + n as u64);
                }
            }
            branches.insert(at);
            before_free = false;
            words
        };
        at += words;
    }
    Ok(branches)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Account,
    Slot,
    Wiped,
}

struct Walk<'a> {
    tree: &'a Tree,
    tables: &'a Tables,
    /// Branches that were not visited yet.
    branches: Bits,
    /// Leaves that were.
    leaves: Bits,
    /// Storage tries that were.
    tries: Bits,
    wide: usize,
    counts: [u64; 3],
}

impl Walk<'_> {
    /// Visits a subtree whose nodes lie at `base` nibbles or deeper. Answers its first leaf. Recursion ends: depths grow.
    fn visit(&mut self, node: Ref, base: usize, kind: Kind) -> Result<u32, TrieError> {
        if node & LEAF != 0 {
            return self.visit_leaf(node & !LEAF, kind);
        }
        let at = node as usize;
        if node == NONE || at >= self.tree.nodes.region.len() || !self.branches.remove(at) {
            return damaged(
                "a reference to a branch leads nowhere, or a second one to the same",
                u64::from(node),
            );
        }
        let head = self.tree.nodes.head(node);
        let depth = usize::from(head.depth);
        if depth < base {
            return damaged("a branch lies above its parent", u64::from(node));
        }
        for place in 0..head.count() {
            let child = self.tree.nodes.child(node, place);
            if child & LEAF != 0 {
                self.tree.leaves.prefetch(child & !LEAF);
            } else {
                self.tree.nodes.prefetch_whole(child);
            }
        }
        let mut first = None;
        for (place, n) in nibbles_of(head.mask).enumerate() {
            let leaf = self.visit(self.tree.nodes.child(node, place), depth + 1, kind)?;
            let key = &self.tree.leaves.get(leaf).key;
            let first = *first.get_or_insert(leaf);
            // Leaves below a child agree beyond `depth` with the child's first one, so that one speaks for all.
            if nibble(key, depth) != n || common(key, &self.tree.leaves.get(first).key) < depth {
                return damaged("a key disagrees with its place", u64::from(leaf));
            }
        }
        Ok(first.unwrap_or_default())
    }

    fn visit_leaf(&mut self, leaf: u32, kind: Kind) -> Result<u32, TrieError> {
        let place = u64::from(leaf);
        if leaf == 0 || leaf as usize >= self.tree.leaves.region.len() || !self.leaves.insert(leaf as usize) {
            return damaged("a reference to a leaf leads nowhere, or a second one to the same", place);
        }
        self.counts[kind as usize] += 1;
        match kind {
            Kind::Account => self.visit_account(leaf)?,
            Kind::Slot if self.tree.leaves.get(leaf).value == [0; 32] => {
                return damaged("a slot is zero", place);
            }
            Kind::Slot | Kind::Wiped => {}
        }
        Ok(leaf)
    }

    fn visit_account(&mut self, leaf: u32) -> Result<(), TrieError> {
        let place = u64::from(leaf);
        let value = AccountValue::unpack(&self.tree.leaves.get(leaf).value);
        if (value.code & !WIDE) as usize >= self.tables.codes.len() {
            return damaged("an account's code is not in the table", place);
        }
        if value.code & WIDE != 0 {
            self.wide += 1;
            if self.tables.wide.get(&leaf).is_none_or(|balance| balance.bit_len() <= 128) {
                return damaged("an account's wide balance is not in the table", place);
            }
        }
        let id = value.storage as usize;
        if id != 0 {
            let Some(trie) = self.tables.storages.get(id) else {
                return damaged("an account's storage trie is not in the table", place);
            };
            if !self.tries.insert(id) {
                return damaged("two accounts have one storage trie", place);
            }
            self.visit(trie.root, 0, Kind::Slot)?;
        }
        Ok(())
    }
}
