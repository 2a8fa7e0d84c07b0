//! The door: queue, merge, hash, answer.

use crate::{
    AccountProof, EMPTY_ROOT, SlotProof, TrieError,
    hash::{Hasher, hash_words},
    mem::prefetch,
    nodes::{NONE, Ref},
    sort::Sorter,
    tree::{Job, Jobs, OpKey, ROOT_PLACE, Tree},
    values::{AccountMerge, AccountOp, QueuedAccount, SlotOp, Slots, StorageTrie, Tables},
};
use alloy_primitives::{Address, B256, U256, keccak256};
use ironlane_types::{AccountInfo, StateDelta};

/// How much a trie may hold, and how its memory is mapped. Limits reserve address space, not memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrieConfig {
    /// Most accounts and slots together; at most 2³¹ − 1.
    pub leaves_max: usize,
    /// Most bytes of branch nodes; at most 16 GiB. About 55 bytes a leaf are used.
    pub node_bytes_max: usize,
    /// Whether to ask the kernel for huge pages (faster on large tries, granted in pieces of 2 MiB).
    pub huge_pages: bool,
}

impl Default for TrieConfig {
    fn default() -> Self {
        TrieConfig { leaves_max: 1 << 28, node_bytes_max: 16 << 30, huge_pages: true }
    }
}

/// What a trie holds, and in how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrieMemory {
    /// Accounts in the trie.
    pub accounts: u64,
    /// Storage slots in all storage tries, wiped ones that are not yet freed included.
    pub slots: u64,
    /// Storage tries.
    pub storage_tries: u64,
    /// Bytes of leaf records, free ones included.
    pub leaf_bytes: u64,
    /// Bytes of branch nodes, free blocks included.
    pub node_bytes: u64,
    /// Bytes of free blocks and free leaf records within these.
    pub free_bytes: u64,
    /// Bytes of storage trie records, code hashes and wide balances, roughly.
    pub table_bytes: u64,
}

impl TrieMemory {
    /// All bytes but those of the queue.
    pub fn total_bytes(&self) -> u64 {
        self.leaf_bytes + self.node_bytes + self.table_bytes
    }
}

/// Wiped nodes and leaves that are freed in each [`Trie::root`] at most, so that a block that destroys a huge contract
/// is not late: about a millisecond's work.
const RELEASED_MAX: usize = 1 << 15;

/// Queued accounts, and slots, for which memory is kept from one root to the next.
const BUFFERED_MAX: usize = 1 << 20;

/// The state trie with all storage tries. One owner; `Send`.
pub struct Trie {
    pub(crate) tree: Tree,
    pub(crate) tables: Tables,
    pub(crate) root: Ref,
    pub(crate) root_hash: B256,
    queue: Vec<QueuedAccount>,
    slots: Vec<SlotOp>,
    jobs: Jobs,
    slot_jobs: Jobs,
    hasher: Hasher,
    sums: Sums,
}

/// What a queue comes to. Kept for its buffers.
#[derive(Default)]
struct Sums {
    /// Entries of the queue, sorted by key, then by arrival.
    all: Vec<OpKey>,
    /// One for each account, sorted by key: number among `ops`.
    order: Vec<OpKey>,
    ops: Vec<AccountOp>,
    /// Slots of each account, sorted by key, each once.
    slots: Vec<OpKey>,
    sorter: Sorter,
}

impl Trie {
    /// An empty trie.
    pub fn new(cfg: TrieConfig) -> Result<Trie, TrieError> {
        Ok(Trie {
            tree: Tree::reserve(cfg.leaves_max, cfg.node_bytes_max, cfg.huge_pages)?,
            tables: Tables::new(),
            root: NONE,
            root_hash: EMPTY_ROOT,
            queue: Vec::new(),
            slots: Vec::new(),
            jobs: Jobs::new(),
            slot_jobs: Jobs::new(),
            hasher: Hasher::default(),
            sums: Sums::default(),
        })
    }

    /// Queues a delta: what it says holds from the next [`Trie::root`] on. Addresses may repeat within and between
    /// deltas, the later entry wins. `info: None` removes the account with its storage, a zero value removes a slot,
    /// `storage_wiped` removes all slots before the entry's own. An account that EIP-161 counts as empty is stored as
    /// given: whether it exists is the caller's business.
    pub fn apply(&mut self, delta: &StateDelta) {
        let first_account = self.queue.len();
        let first_slot = self.slots.len();
        for account in &delta.accounts {
            let first = self.slots.len() as u32;
            if account.info.is_some() {
                self.slots.extend(
                    account
                        .slots
                        .iter()
                        .map(|(_, value)| SlotOp { key: [0; 32], value: value.to_be_bytes() }),
                );
            }
            self.queue.push(QueuedAccount {
                key: [0; 32],
                info: account.info,
                wiped: account.storage_wiped || account.info.is_none(),
                slots: (first, self.slots.len() as u32 - first),
            });
        }
        let mut accounts = self.queue[first_account..].iter_mut();
        hash_words(delta.accounts.iter().map(|a| a.address.into_array()), |key| {
            if let Some(account) = accounts.next() {
                account.key = key;
            }
        });
        let mut slots = self.slots[first_slot..].iter_mut();
        let with_info = delta.accounts.iter().filter(|a| a.info.is_some());
        hash_words(with_info.flat_map(|a| &a.slots).map(|(slot, _)| slot.to_be_bytes::<32>()), |key| {
            if let Some(slot) = slots.next() {
                slot.key = key;
            }
        });
    }

    /// Merges what was queued, rehashes what changed, and returns the state root.
    ///
    /// # Panics
    /// When the trie outgrows the limits of its configuration; watch [`Trie::memory`].
    pub fn root(&mut self) -> B256 {
        let freed = self.tree.release_some(&mut self.tables.garbage, RELEASED_MAX);
        self.tables.slots -= freed;
        if self.queue.is_empty() {
            return self.root_hash;
        }
        let mut sums = std::mem::take(&mut self.sums);
        self.sum_up(&mut sums);
        let mut merge = AccountMerge {
            queue: &self.queue,
            ops: &sums.ops,
            slots: &self.slots,
            sorted_slots: &sums.slots,
            tables: &mut self.tables,
            jobs: &mut self.jobs,
            slot_jobs: &mut self.slot_jobs,
            hasher: &mut self.hasher,
            root_hash: &mut self.root_hash,
        };
        let (root, dirty) = self.tree.merge(&mut merge, self.root, 0, &sums.order);
        if root == NONE {
            *merge.root_hash = EMPTY_ROOT;
        } else if dirty {
            merge.jobs.push(&self.tree, Job { node: root, parent: 0, place: ROOT_PLACE, base: 0 });
        }
        merge.hash(&mut self.tree);
        self.root = root;
        self.queue.clear();
        self.slots.clear();
        // A genesis may queue millions at once; no block does.
        self.queue.shrink_to(BUFFERED_MAX);
        self.slots.shrink_to(BUFFERED_MAX);
        if sums.all.capacity().max(sums.slots.capacity()) <= BUFFERED_MAX {
            self.sums = sums;
        }
        self.root_hash
    }

    /// Sums up the queue.
    fn sum_up(&self, sums: &mut Sums) {
        const AHEAD: usize = 16;
        let key = |i: u32| &self.queue[i as usize].key;
        let Sums { all, order, ops, slots: sorted_slots, sorter } = sums;
        for list in [&mut *all, order, sorted_slots] {
            list.clear();
        }
        ops.clear();
        sorter.order_into(all, 0..self.queue.len() as u32, key);
        let mut at = 0;
        for entries in all.chunk_by(|a, b| a.prefix == b.prefix && key(a.op) == key(b.op)) {
            at += entries.len();
            if let Some(next) = all.get(at + AHEAD) {
                // The last fields of an entry stand in its second half.
                prefetch((&raw const self.queue[next.op as usize]).cast::<u8>().wrapping_add(64));
            }
            let last = entries[entries.len() - 1];
            let wiped_at = entries.iter().rposition(|e| self.queue[e.op as usize].wiped);
            let from = sorted_slots.len();
            for entry in &entries[wiped_at.unwrap_or(0)..] {
                let (first, count) = self.queue[entry.op as usize].slots;
                if count != 0 {
                    sorter.order_into(sorted_slots, first..first + count, |i| &self.slots[i as usize].key);
                }
            }
            if sorted_slots.len() - from > 1 {
                self.latest_only(sorted_slots, from, entries.len() > 1);
            }
            order.push(OpKey { prefix: last.prefix, op: ops.len() as u32 });
            ops.push(AccountOp {
                queued: last.op,
                wiped: wiped_at.is_some(),
                slots: (from as u32, sorted_slots.len() as u32),
            });
        }
    }

    /// Keeps the latest of each key among the slots from `from` on, which are sorted unless they come from several
    /// entries.
    fn latest_only(&self, sorted: &mut Vec<OpKey>, from: usize, several: bool) {
        let key = |o: &OpKey| &self.slots[o.op as usize].key;
        if several {
            sorted[from..].sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.op.cmp(&b.op)));
        }
        let mut kept = from;
        for i in from..sorted.len() {
            let last_of_key = i + 1 == sorted.len() || key(&sorted[i]) != key(&sorted[i + 1]);
            if last_of_key {
                sorted[kept] = sorted[i];
                kept += 1;
            }
        }
        sorted.truncate(kept);
    }

    /// The root that the last [`Trie::root`] returned (the empty root before the first).
    pub fn last_root(&self) -> B256 {
        self.root_hash
    }

    fn leaf(&self, address: &Address) -> Option<u32> {
        self.tree.find(self.root, &keccak256(address))
    }

    /// Root of an account's storage trie at the last [`Trie::root`] (the empty root when it has no storage); `None` when
    /// there is no such account.
    pub fn storage_root(&self, address: &Address) -> Option<B256> {
        Some(self.tables.storage_of(&self.tree, self.leaf(address)?).hash)
    }

    /// An account at the last [`Trie::root`].
    pub fn account(&self, address: &Address) -> Option<AccountInfo> {
        Some(self.tables.info(&self.tree, self.leaf(address)?))
    }

    /// A slot's value at the last [`Trie::root`]; zero when absent.
    pub fn storage(&self, address: &Address, slot: U256) -> U256 {
        let find = || {
            let root = self.tables.storage_of(&self.tree, self.leaf(address)?).root;
            self.tree.find(root, &keccak256(slot.to_be_bytes::<32>()))
        };
        find().map_or(U256::ZERO, |leaf| U256::from_be_bytes(self.tree.leaves.get(leaf).value))
    }

    /// Proofs against the root of the last [`Trie::root`], for an account and some of its slots, present or absent.
    pub fn prove(&self, address: &Address, slots: &[U256]) -> AccountProof {
        let (account_proof, leaf) = self.tree.proof(&self.tables, self.root, &keccak256(address).0);
        let trie = leaf.map_or(&self.tables.storages[0], |leaf| self.tables.storage_of(&self.tree, leaf));
        let storage = slots.iter().map(|slot| {
            let key = keccak256(slot.to_be_bytes::<32>()).0;
            let (proof, leaf) = self.tree.proof(&Slots, trie.root, &key);
            let value = leaf.map_or(U256::ZERO, |leaf| U256::from_be_bytes(self.tree.leaves.get(leaf).value));
            SlotProof { key: *slot, value, proof }
        });
        AccountProof {
            address: *address,
            info: leaf.map(|leaf| self.tables.info(&self.tree, leaf)),
            storage_root: trie.hash,
            account_proof,
            storage: storage.collect(),
        }
    }

    /// Accounts, slots and bytes.
    pub fn memory(&self) -> TrieMemory {
        let (tree, tables) = (&self.tree, &self.tables);
        let records = tables.storages.capacity() * size_of::<StorageTrie>();
        // A hash map of codes holds each hash again with its id; a tree map takes about twice its entries.
        let codes = tables.codes.capacity() * 80;
        TrieMemory {
            accounts: tables.accounts,
            slots: tables.slots,
            storage_tries: (tables.storages.len() - 1) as u64 - u64::from(tables.storage_free_count),
            leaf_bytes: tree.leaves.region.len() as u64 * 64,
            node_bytes: tree.nodes.region.len() as u64 * 8,
            free_bytes: tree.nodes.free_words * 8 + u64::from(tree.leaves.free_count) * 64,
            table_bytes: (records + codes + tables.wide.len() * 80) as u64,
        }
    }
}

impl std::fmt::Debug for Trie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trie")
            .field("root", &self.root_hash)
            .field("memory", &self.memory())
            .finish_non_exhaustive()
    }
}
