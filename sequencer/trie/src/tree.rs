//! The tree itself: branches and leaves of all tries in two arenas, and the merge of sorted changes into one of them.
//!
//! [`Tree::merge`] visits each changed branch once, children first, and gives it a block of the right size if its
//! children changed. What must be rehashed is noted by whoever ends up as the parent, in lists by depth ([`Jobs`]), so
//! that hashing can go through them from the deepest up.

use crate::{
    TrieError,
    leaves::Leaves,
    nibbles::{KEY_NIBBLES, common, nibble},
    nodes::{Head, LEAF, NONE, Nodes, Ref, nibbles_of},
};

/// Place of a root, which has no parent node.
pub(crate) const ROOT_PLACE: u8 = u8::MAX;

/// A node whose hash is to be computed, and where it is then written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// The leaf or branch.
    pub(crate) node: Ref,
    /// Its parent branch; for a root the number of its trie.
    pub(crate) parent: u32,
    /// Which of the parent's children it is, or [`ROOT_PLACE`].
    pub(crate) place: u8,
    /// Nibbles of the key that come before it.
    pub(crate) base: u8,
}

/// Nodes to rehash: leaves, and branches by their depth.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) leaves: Vec<Job>,
    pub(crate) branches: [Vec<Job>; KEY_NIBBLES],
}

impl Jobs {
    pub(crate) fn new() -> Self {
        Jobs { leaves: Vec::new(), branches: [const { Vec::new() }; KEY_NIBBLES] }
    }

    pub(crate) fn push(&mut self, tree: &Tree, job: Job) {
        if job.node & LEAF != 0 {
            self.leaves.push(job);
        } else {
            self.branches[usize::from(tree.nodes.head(job.node).depth)].push(job);
        }
    }
}

/// A change: the first eight bytes of its key, and its number among the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpKey {
    pub(crate) prefix: u64,
    pub(crate) op: u32,
}

/// What the leaves of one trie hold, and what is to be done to them.
pub(crate) trait Values {
    /// Key of an operation.
    fn key(&self, op: u32) -> &[u8; 32];
    /// Whether the operation removes its key.
    fn is_delete(&self, op: u32) -> bool;
    /// Writes the operation's value into a leaf (zeros when `fresh`). Says whether the leaf's RLP changed.
    fn put(&mut self, tree: &mut Tree, leaf: u32, op: u32, fresh: bool) -> bool;
    /// The leaf is about to be removed.
    fn release(&mut self, tree: &mut Tree, leaf: u32);
    /// Where nodes to rehash are noted.
    fn jobs(&mut self) -> &mut Jobs;
    /// A subtree is merged: whatever is noted now may be hashed, while it is in the cache.
    fn settle(&mut self, tree: &mut Tree);
    /// The operation will be asked for soon.
    fn prefetch(&self, op: u32);
}

/// Leaves to rehash that are worth going through the lists for.
pub(crate) const SETTLED_LEAVES_MIN: usize = 256;

/// Operations below this many are brought into the cache together before they are merged.
const WARM_OPS_MAX: usize = 512;
/// Fewer are not worth it.
const WARM_OPS_MIN: usize = 4;

/// All branches and leaves.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) nodes: Nodes,
    pub(crate) leaves: Leaves,
}

/// A subtree after a merge, and whether what its parent knows of it (hash or place) is out of date.
type Merged = (Ref, bool);

/// The children of a branch while it is rebuilt, by nibble.
struct Children {
    refs: [Ref; 16],
    dirty: u16,
}

impl Children {
    fn none() -> Self {
        Children { refs: [NONE; 16], dirty: 0 }
    }

    fn set(&mut self, n: usize, (child, dirty): Merged) {
        self.refs[n] = child;
        self.dirty = self.dirty & !(1 << n) | u16::from(dirty) << n;
    }

    fn mask(&self) -> u16 {
        (0..16).fold(0, |mask, n| mask | u16::from(self.refs[n] != NONE) << n)
    }
}

impl Tree {
    pub(crate) fn reserve(
        leaves_max: usize,
        node_bytes_max: usize,
        huge_pages: bool,
    ) -> Result<Self, TrieError> {
        Ok(Tree {
            nodes: Nodes::reserve(node_bytes_max, huge_pages)?,
            leaves: Leaves::reserve(leaves_max, huge_pages)?,
        })
    }

    /// A leaf below `node`.
    pub(crate) fn any_leaf(&self, mut node: Ref) -> u32 {
        while node & LEAF == 0 {
            node = self.nodes.child(node, 0);
        }
        node & !LEAF
    }

    /// Nibble `depth` of an operation's key.
    #[inline(always)]
    fn op_nibble<V: Values>(v: &V, op: OpKey, depth: usize) -> usize {
        if depth < 16 { (op.prefix >> (60 - 4 * depth)) as usize & 15 } else { nibble(v.key(op.op), depth) }
    }

    /// How many of the first `ops` have nibble `n` at `depth`; `ops` are sorted and agree before it.
    fn group<V: Values>(v: &V, ops: &[OpKey], depth: usize, n: usize) -> usize {
        if ops.len() > 64 {
            ops.partition_point(|op| Self::op_nibble(v, *op, depth) <= n)
        } else {
            ops.iter().position(|op| Self::op_nibble(v, *op, depth) != n).unwrap_or(ops.len())
        }
    }

    /// Merges `ops` (sorted by key, no key twice, all agreeing with the subtree in its first `base` nibbles).
    pub(crate) fn merge<V: Values>(&mut self, v: &mut V, node: Ref, base: usize, ops: &[OpKey]) -> Merged {
        self.merge_from(v, node, base, ops, false)
    }

    fn merge_from<V: Values>(
        &mut self,
        v: &mut V,
        node: Ref,
        base: usize,
        ops: &[OpKey],
        warm: bool,
    ) -> Merged {
        if ops.is_empty() {
            return (node, false);
        }
        if !warm && ops.len() <= WARM_OPS_MAX {
            if ops.len() >= WARM_OPS_MIN {
                self.warm(v, node, ops);
            }
            let merged = self.merge_from(v, node, base, ops, true);
            v.settle(self);
            return merged;
        }
        if node == NONE && !warm && ops.iter().all(|op| !v.is_delete(op.op)) {
            return self.merge_into_nothing(v, ops);
        }
        if node == NONE || node & LEAF != 0 {
            return self.merge_leaf(v, node, base, ops);
        }
        let head = self.nodes.head(node);
        let depth = usize::from(head.depth);
        if depth > base {
            let own = self.leaves.get(self.any_leaf(node)).key;
            let shared = common(&own, v.key(ops[0].op)).min(common(&own, v.key(ops[ops.len() - 1].op)));
            if shared < depth {
                return self.merge_beside(v, node, &own, shared, ops, warm);
            }
        }
        self.merge_branch(v, node, head, ops, warm)
    }

    /// Many ops, none of which removes anything, where nothing is yet.
    fn merge_into_nothing<V: Values>(&mut self, v: &mut V, ops: &[OpKey]) -> Merged {
        let depth = common(v.key(ops[0].op), v.key(ops[ops.len() - 1].op));
        let mut children = Children::none();
        let mut rest = ops;
        while let Some(first) = rest.first() {
            let n = Self::op_nibble(v, *first, depth);
            let (group, after) = rest.split_at(Self::group(v, rest, depth, n));
            rest = after;
            let merged = if group.len() > WARM_OPS_MAX {
                self.merge_into_nothing(v, group)
            } else {
                self.merge_from(v, NONE, depth + 1, group, false)
            };
            children.set(n, merged);
        }
        self.assemble(v, &children, depth)
    }

    /// Merges each of `ops`, which agree before `depth`, into the child at its nibble there.
    fn merge_groups<V: Values>(
        &mut self,
        v: &mut V,
        children: &mut Children,
        depth: usize,
        ops: &[OpKey],
        warm: bool,
    ) {
        let mut rest = ops;
        while let Some(first) = rest.first() {
            let n = Self::op_nibble(v, *first, depth);
            let (group, after) = rest.split_at(Self::group(v, rest, depth, n));
            rest = after;
            let merged = self.merge_from(v, children.refs[n], depth + 1, group, warm);
            children.set(n, merged);
        }
    }

    /// Some of `ops` leave the extension above `node` (its key begins with `own`) at nibble `at`.
    fn merge_beside<V: Values>(
        &mut self,
        v: &mut V,
        node: Ref,
        own: &[u8; 32],
        at: usize,
        ops: &[OpKey],
        warm: bool,
    ) -> Merged {
        let mut children = Children::none();
        let along = nibble(own, at);
        children.set(along, (node, false));
        self.merge_groups(v, &mut children, at, ops, warm);
        let mask = children.mask();
        if mask == 1 << along {
            return (children.refs[along], children.dirty != 0);
        }
        // The subtree that was here stands one branch lower now, or is alone where there were none.
        children.dirty |= 1 << along;
        self.assemble(v, &children, at)
    }

    fn merge_branch<V: Values>(
        &mut self,
        v: &mut V,
        node: Ref,
        head: Head,
        ops: &[OpKey],
        warm: bool,
    ) -> Merged {
        let depth = usize::from(head.depth);
        let mut children = Children::none();
        for (place, n) in nibbles_of(head.mask).enumerate() {
            children.refs[n] = self.nodes.child(node, place);
        }
        self.merge_groups(v, &mut children, depth, ops, warm);
        let mask = children.mask();
        if mask == head.mask {
            for n in nibbles_of(children.dirty) {
                let child = children.refs[n];
                let place = (mask & ((1 << n) - 1)).count_ones() as usize;
                self.nodes.set_child(node, place, child);
                let job = Job { node: child, parent: node, place: place as u8, base: depth as u8 + 1 };
                v.jobs().push(self, job);
            }
            return (node, children.dirty != 0);
        }
        let merged = self.assemble(v, &children, depth);
        if mask.count_ones() > 1 {
            self.copy_hashes(node, merged.0, children.dirty);
        }
        self.nodes.free(node);
        merged
    }

    /// A branch of these children, or what is left of it when there are fewer than two. Dirty children are noted.
    fn assemble<V: Values>(&mut self, v: &mut V, children: &Children, depth: usize) -> Merged {
        let mask = children.mask();
        match mask.count_ones() {
            0 => (NONE, true),
            1 => (children.refs[mask.trailing_zeros() as usize], true),
            _ => {
                let node = self.nodes.alloc(mask, depth);
                for (place, n) in nibbles_of(mask).enumerate() {
                    let child = children.refs[n];
                    self.nodes.set_child(node, place, child);
                    if children.dirty >> n & 1 != 0 {
                        let job =
                            Job { node: child, parent: node, place: place as u8, base: depth as u8 + 1 };
                        v.jobs().push(self, job);
                    }
                }
                (node, true)
            }
        }
    }

    /// Takes the hashes of children that both branches have and that did not change from the old one to the new one.
    fn copy_hashes(&mut self, from: Ref, to: Ref, dirty: u16) {
        let (old, new) = (self.nodes.head(from), self.nodes.head(to));
        let kept = old.mask & new.mask & !dirty;
        for n in nibbles_of(kept) {
            if let (Some(source), Some(place)) = (old.place(n), new.place(n)) {
                let (_, hashes) = self.nodes.body(from, old.count());
                let mut hash = [0; 32];
                hash.copy_from_slice(&hashes[source * 32..source * 32 + 32]);
                let (_, hashes) = self.nodes.body_mut(to, new.count());
                hashes[place * 32..place * 32 + 32].copy_from_slice(&hash);
            }
        }
        self.nodes.set_embedded(to, old.embedded & kept);
    }

    /// Merges where there is one leaf or nothing.
    fn merge_leaf<V: Values>(&mut self, v: &mut V, node: Ref, base: usize, ops: &[OpKey]) -> Merged {
        let existing = (node != NONE).then_some(node & !LEAF);
        if let [only] = ops {
            let key = *v.key(only.op);
            let delete = v.is_delete(only.op);
            return match existing {
                Some(leaf) if self.leaves.get(leaf).key == key => {
                    if delete {
                        v.release(self, leaf);
                        self.leaves.free(leaf);
                        (NONE, true)
                    } else {
                        (node, v.put(self, leaf, only.op, false))
                    }
                }
                _ if delete => (node, false),
                None => (self.fresh_leaf(v, &key, only.op), true),
                Some(leaf) => {
                    let other = self.fresh_leaf(v, &key, only.op);
                    let before = self.leaves.get(leaf).key < key;
                    let pair = if before { [leaf, other & !LEAF] } else { [other & !LEAF, leaf] };
                    (self.build(v, &pair, base), true)
                }
            };
        }
        let mut all = Vec::with_capacity(ops.len() + 1);
        let mut changed = false;
        let mut waiting = existing;
        for op in ops {
            let key = *v.key(op.op);
            if let Some(leaf) = waiting
                && self.leaves.get(leaf).key <= key
            {
                waiting = None;
                if self.leaves.get(leaf).key == key {
                    if v.is_delete(op.op) {
                        v.release(self, leaf);
                        self.leaves.free(leaf);
                        changed = true;
                    } else {
                        changed |= v.put(self, leaf, op.op, false);
                        all.push(leaf);
                    }
                    continue;
                }
                all.push(leaf);
            }
            if !v.is_delete(op.op) {
                all.push(self.fresh_leaf(v, &key, op.op) & !LEAF);
                changed = true;
            }
        }
        all.extend(waiting);
        match all.as_slice() {
            [] => (NONE, existing.is_some()),
            [leaf] => (leaf | LEAF, changed),
            _ => (self.build(v, &all, base), true),
        }
    }

    fn fresh_leaf<V: Values>(&mut self, v: &mut V, key: &[u8; 32], op: u32) -> Ref {
        let leaf = self.leaves.alloc(key);
        v.put(self, leaf, op, true);
        leaf | LEAF
    }

    /// A subtree of these leaves, sorted by key, which agree in their first `base` nibbles. All of it is dirty.
    fn build<V: Values>(&mut self, v: &mut V, leaves: &[u32], base: usize) -> Ref {
        let first = self.leaves.get(leaves[0]).key;
        if leaves.len() == 1 {
            return leaves[0] | LEAF;
        }
        let depth = common(&first, &self.leaves.get(leaves[leaves.len() - 1]).key);
        debug_assert!(depth >= base && depth < KEY_NIBBLES, "leaves are sorted and distinct");
        let mut children = Children::none();
        let mut rest = leaves;
        while let Some(leaf) = rest.first() {
            let n = nibble(&self.leaves.get(*leaf).key, depth);
            let count = rest.partition_point(|l| nibble(&self.leaves.get(*l).key, depth) <= n);
            let (group, after) = rest.split_at(count);
            rest = after;
            children.set(n, (self.build(v, group, depth + 1), true));
        }
        self.assemble(v, &children, depth).0
    }

    /// Brings what the ops will touch into the cache, all of them one level at a time, so that misses overlap.
    fn warm<V: Values>(&self, v: &V, node: Ref, ops: &[OpKey]) {
        for op in ops {
            v.prefetch(op.op);
        }
        if node == NONE || node & LEAF != 0 {
            return;
        }
        let mut at = [(NONE, 0u16); WARM_OPS_MAX];
        let mut live = ops.len().min(WARM_OPS_MAX);
        for (i, slot) in at[..live].iter_mut().enumerate() {
            *slot = (node, i as u16);
        }
        while live > 0 {
            let mut kept = 0;
            for i in 0..live {
                let (node, op) = at[i];
                let head = self.nodes.head(node);
                let n = Self::op_nibble(v, ops[usize::from(op)], usize::from(head.depth));
                let Some(place) = head.place(n) else { continue };
                let child = self.nodes.child(node, place);
                if child & LEAF != 0 {
                    self.leaves.prefetch(child & !LEAF);
                } else {
                    self.nodes.prefetch(child);
                    at[kept] = (child, op);
                    kept += 1;
                }
            }
            live = kept;
        }
    }

    /// The leaf with this key, below `node`.
    pub(crate) fn find(&self, mut node: Ref, key: &[u8; 32]) -> Option<u32> {
        while node != NONE {
            if node & LEAF != 0 {
                let leaf = node & !LEAF;
                return (self.leaves.get(leaf).key == *key).then_some(leaf);
            }
            let head = self.nodes.head(node);
            node = self.nodes.child(node, head.place(nibble(key, usize::from(head.depth)))?);
        }
        None
    }

    /// Frees at most `budget` nodes and leaves of the subtrees in `pending`, which keeps what is left. Says how many
    /// leaves were freed.
    pub(crate) fn release_some(&mut self, pending: &mut Vec<Ref>, budget: usize) -> u64 {
        let mut leaves = 0;
        for _ in 0..budget {
            let Some(node) = pending.pop() else { break };
            if node & LEAF != 0 {
                self.leaves.free(node & !LEAF);
                leaves += 1;
            } else {
                for place in 0..self.nodes.head(node).count() {
                    pending.push(self.nodes.child(node, place));
                }
                self.nodes.free(node);
            }
        }
        leaves
    }
}
