//! Every hash, computed again.

use crate::{
    Trie, TrieError,
    hash::{Encode, Hasher, Sink},
    leaves::AccountValue,
    nodes::{LEAF, NONE, Ref, nibbles_of},
    tree::{Job, Jobs, ROOT_PLACE, Tree},
    values::{Slots, StorageTrie},
};
use alloy_primitives::B256;

/// Nodes that are compared together.
const CHUNK: usize = 1 << 14;

/// Compares hashes with what is stored, instead of storing them.
struct Checker<'a> {
    tree: &'a Tree,
    storages: Option<&'a [StorageTrie]>,
    root_hash: B256,
    first_wrong: Option<TrieError>,
}

impl Sink for Checker<'_> {
    fn tree(&self) -> &Tree {
        self.tree
    }

    fn put(&mut self, job: &Job, known: &[u8]) {
        let same = if job.place == ROOT_PLACE {
            let stored = self.storages.map_or(self.root_hash, |all| all[job.parent as usize].hash);
            if self.storages.is_none() && stored != known && self.first_wrong.is_none() {
                self.first_wrong = Some(TrieError::WrongRoot { stored, computed: B256::from_slice(known) });
            }
            stored == known
        } else {
            let head = self.tree.nodes.head(job.parent);
            let (_, hashes) = self.tree.nodes.body(job.parent, head.count());
            let from = usize::from(job.place) * 32;
            let embedded =
                nibbles_of(head.mask).nth(usize::from(job.place)).map(|n| head.embedded >> n & 1 != 0);
            embedded == Some(known.len() < 32) && hashes[from..from + known.len()] == *known
        };
        if !same && self.first_wrong.is_none() {
            let what = if job.node & LEAF != 0 {
                "a leaf does not have the hash that its parent names"
            } else {
                "a branch does not have the hash that its parent names"
            };
            self.first_wrong = Some(TrieError::Damaged { what, place: u64::from(job.node & !LEAF) });
        }
    }
}

impl Trie {
    /// Hashes every node again, storage tries included, and compares: the first difference is the error. About a second
    /// for a few million accounts.
    pub fn verify(&self) -> Result<(), TrieError> {
        let mut tries = Vec::new();
        let accounts =
            Checker { tree: &self.tree, storages: None, root_hash: self.root_hash, first_wrong: None };
        self.compare(accounts, &self.tables, &[(self.root, 0)], |leaf| {
            let id = AccountValue::unpack(&self.tree.leaves.get(leaf).value).storage;
            if id != 0 {
                tries.push((self.tables.storages[id as usize].root, id));
            }
        })?;
        let storages = Some(self.tables.storages.as_slice());
        let slots = Checker { tree: &self.tree, storages, root_hash: self.root_hash, first_wrong: None };
        self.compare(slots, &Slots, &tries, |_| {})
    }

    /// Compares all nodes of some tries, given by root and number.
    fn compare(
        &self,
        mut checker: Checker<'_>,
        encode: &impl Encode,
        tries: &[(Ref, u32)],
        mut each_leaf: impl FnMut(u32),
    ) -> Result<(), TrieError> {
        let (mut jobs, mut hasher, mut noted) = (Jobs::new(), Hasher::default(), 0);
        let mut stack = Vec::new();
        for (root, number) in tries.iter().filter(|(root, _)| *root != NONE) {
            stack.push(Job { node: *root, parent: *number, place: ROOT_PLACE, base: 0 });
            while let Some(job) = stack.pop() {
                jobs.push(&self.tree, job);
                noted += 1;
                if noted == CHUNK {
                    hasher.run(&mut checker, encode, &mut jobs);
                    noted = 0;
                }
                if job.node & LEAF != 0 {
                    each_leaf(job.node & !LEAF);
                    continue;
                }
                let head = self.tree.nodes.head(job.node);
                for place in (0..head.count()).rev() {
                    let node = self.tree.nodes.child(job.node, place);
                    stack.push(Job { node, parent: job.node, place: place as u8, base: head.depth + 1 });
                }
            }
        }
        hasher.run(&mut checker, encode, &mut jobs);
        checker.first_wrong.map_or(Ok(()), Err)
    }
}
