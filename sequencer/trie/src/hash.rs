//! Encoding of nodes and the batched hashing of what changed.
//!
//! A node is known to its parent by the Keccak-256 of its RLP, or by the RLP itself where that is below 32 bytes. Leaves
//! are independent of each other and go first; then branches, the deepest first, so that every branch finds its
//! children's hashes in place. An extension is hashed after the branch below it.

use crate::{
    nibbles::KEY_NIBBLES,
    nodes::{LEAF, NONE, Ref, nibbles_of},
    rlp::{self, EMPTY_STRING, HASH_ITEM_LEN, Path},
    tree::{Job, Jobs, ROOT_PLACE, Tree},
};
use alloy_primitives::B256;
use ironlane_fpga::keccak;

/// RLP of what a leaf holds.
pub(crate) trait Encode {
    /// Appends the value as it stands in the leaf's second string.
    fn value(&self, tree: &Tree, leaf: u32, out: &mut Vec<u8>);
}

/// Messages that are hashed together.
const BATCH: usize = 64;

impl Tree {
    /// Appends the RLP of a branch.
    pub(crate) fn encode_branch(&self, node: Ref, out: &mut Vec<u8>) {
        let head = self.nodes.head(node);
        let count = head.count();
        let (_, hashes) = self.nodes.body(node, count);
        let mut payload = 17 - count;
        for (place, n) in nibbles_of(head.mask).enumerate() {
            let embedded = head.embedded >> n & 1 != 0;
            payload += if embedded { rlp::short_item_len(hashes[place * 32]) } else { HASH_ITEM_LEN };
        }
        rlp::put_list(out, payload);
        let mut known = hashes.as_chunks::<32>().0.iter();
        for n in 0..16 {
            match known.as_slice().first() {
                Some(hash) if head.mask >> n & 1 != 0 => {
                    if head.embedded >> n & 1 != 0 {
                        out.extend_from_slice(&hash[..rlp::short_item_len(hash[0]).min(32)]);
                    } else {
                        rlp::put_hash(out, hash);
                    }
                    known.next();
                }
                _ => out.push(EMPTY_STRING),
            }
        }
        out.push(EMPTY_STRING);
    }

    /// Appends the RLP of a leaf whose key's first `base` nibbles come before it.
    pub(crate) fn encode_leaf(
        &self,
        encode: &impl Encode,
        leaf: u32,
        base: usize,
        value: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        value.clear();
        encode.value(self, leaf, value);
        let path = Path::new(&self.leaves.get(leaf).key, base, KEY_NIBBLES, true);
        rlp::put_list(out, path.item_len() + rlp::string_len(value));
        path.put(out);
        rlp::put_string(out, value);
    }

    /// Appends the RLP of the extension between nibble `base` and the branch `node`, which is known by `below`.
    pub(crate) fn encode_extension(&self, node: Ref, base: usize, below: &[u8], out: &mut Vec<u8>) {
        let depth = usize::from(self.nodes.head(node).depth);
        let path = Path::new(&self.leaves.get(self.any_leaf(node)).key, base, depth, false);
        let hash = <&[u8; 32]>::try_from(below);
        rlp::put_list(out, path.item_len() + hash.map_or(below.len(), |_| HASH_ITEM_LEN));
        path.put(out);
        match hash {
            Ok(hash) => rlp::put_hash(out, hash),
            Err(_) => out.extend_from_slice(below),
        }
    }

    /// Whether an extension stands above `node`.
    pub(crate) fn is_extended(&self, node: Ref, base: usize) -> bool {
        node != NONE && node & LEAF == 0 && usize::from(self.nodes.head(node).depth) > base
    }
}

/// Where hashes go: into the parents, or beside what is there to be compared.
pub(crate) trait Sink {
    fn tree(&self) -> &Tree;
    /// What the node of `job` is known by: its hash, or RLP of fewer than 32 bytes.
    fn put(&mut self, job: &Job, known: &[u8]);
}

/// An extension that waits for the hash of the branch below it.
struct Extension {
    job: Job,
    below: [u8; 32],
}

#[derive(Clone, Copy)]
enum Target {
    Place(Job),
    Extension(u32),
}

/// Hashes jobs in batches. Keeps its buffers.
#[derive(Default)]
pub(crate) struct Hasher {
    bytes: Vec<u8>,
    value: Vec<u8>,
    spans: Vec<(u32, Target)>,
    extensions: Vec<Extension>,
}

impl Hasher {
    /// Computes what every node of `jobs` is known by. Leaves `jobs` empty.
    pub(crate) fn run(&mut self, sink: &mut impl Sink, encode: &impl Encode, jobs: &mut Jobs) {
        const AHEAD: usize = 12;
        for (i, job) in jobs.leaves.iter().enumerate() {
            if let Some(next) = jobs.leaves.get(i + AHEAD) {
                sink.tree().leaves.prefetch(next.node & !LEAF);
            }
            let start = self.bytes.len();
            let base = usize::from(job.base);
            sink.tree().encode_leaf(encode, job.node & !LEAF, base, &mut self.value, &mut self.bytes);
            self.emit(sink, start, job);
        }
        self.flush(sink);
        jobs.leaves.clear();
        for level in jobs.branches.iter_mut().rev() {
            for (i, job) in level.iter().enumerate() {
                if let Some(next) = level.get(i + AHEAD) {
                    sink.tree().nodes.prefetch_whole(next.node);
                }
                self.branch(sink, job);
            }
            self.flush(sink);
            if !self.extensions.is_empty() {
                self.extend(sink);
            }
            level.clear();
        }
    }

    fn branch(&mut self, sink: &mut impl Sink, job: &Job) {
        let start = self.bytes.len();
        sink.tree().encode_branch(job.node, &mut self.bytes);
        if !sink.tree().is_extended(job.node, usize::from(job.base)) {
            self.emit(sink, start, job);
        } else if self.bytes.len() - start < 32 {
            let mut below = [0; 32];
            let len = self.bytes.len() - start;
            below[..len].copy_from_slice(&self.bytes[start..]);
            self.bytes.truncate(start);
            sink.tree().encode_extension(job.node, usize::from(job.base), &below[..len], &mut self.bytes);
            self.emit(sink, start, job);
        } else {
            let number = self.extensions.len() as u32;
            self.extensions.push(Extension { job: *job, below: [0; 32] });
            self.queue(sink, start, Target::Extension(number));
        }
    }

    fn extend(&mut self, sink: &mut impl Sink) {
        let mut extensions = std::mem::take(&mut self.extensions);
        for extension in &extensions {
            let start = self.bytes.len();
            let (node, base) = (extension.job.node, usize::from(extension.job.base));
            sink.tree().encode_extension(node, base, &extension.below, &mut self.bytes);
            self.emit(sink, start, &extension.job);
        }
        self.flush(sink);
        extensions.clear();
        self.extensions = extensions;
    }

    /// Takes the RLP that begins at `start`: to the parent at once if it is short, otherwise to be hashed.
    fn emit(&mut self, sink: &mut impl Sink, start: usize, job: &Job) {
        if self.bytes.len() - start < 32 && job.place != ROOT_PLACE {
            sink.put(job, &self.bytes[start..]);
            self.bytes.truncate(start);
        } else {
            self.queue(sink, start, Target::Place(*job));
        }
    }

    fn queue(&mut self, sink: &mut impl Sink, start: usize, target: Target) {
        self.spans.push((start as u32, target));
        if self.spans.len() == BATCH {
            self.flush(sink);
        }
    }

    fn flush(&mut self, sink: &mut impl Sink) {
        let count = self.spans.len();
        if count == 0 {
            return;
        }
        let mut messages: [&[u8]; BATCH] = [&[]; BATCH];
        for (i, message) in messages[..count].iter_mut().enumerate() {
            let end = self.spans.get(i + 1).map_or(self.bytes.len(), |next| next.0 as usize);
            *message = &self.bytes[self.spans[i].0 as usize..end];
        }
        let mut hashes = [B256::ZERO; BATCH];
        keccak::hash_many(&messages[..count], &mut hashes[..count]);
        for ((_, target), hash) in self.spans.iter().zip(&hashes) {
            match target {
                Target::Place(job) => sink.put(job, hash.as_slice()),
                Target::Extension(number) => self.extensions[*number as usize].below = hash.0,
            }
        }
        self.spans.clear();
        self.bytes.clear();
    }
}

/// Keccak-256 of many 20- or 32-byte words.
pub(crate) fn hash_words<const N: usize>(
    words: impl Iterator<Item = [u8; N]>,
    mut each: impl FnMut([u8; 32]),
) {
    let mut words = words.fuse();
    let mut chunk = [[0u8; N]; BATCH];
    loop {
        let mut count = 0;
        for (slot, word) in chunk.iter_mut().zip(words.by_ref()) {
            *slot = word;
            count += 1;
        }
        if count == 0 {
            return;
        }
        let messages: [&[u8]; BATCH] = std::array::from_fn(|i| chunk[i].as_slice());
        let mut hashes = [B256::ZERO; BATCH];
        keccak::hash_many(&messages[..count], &mut hashes[..count]);
        for hash in &hashes[..count] {
            each(hash.0);
        }
    }
}
