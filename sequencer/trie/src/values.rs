//! What leaves hold: accounts in the state trie, slot values in storage tries, and the tables beside the leaves.

use crate::EMPTY_ROOT;
use crate::{
    hash::{Encode, Hasher, Sink},
    leaves::AccountValue,
    mem::prefetch,
    nodes::{NONE, Ref},
    rlp::{self, HASH_ITEM_LEN, Number},
    tree::{Job, Jobs, OpKey, ROOT_PLACE, SETTLED_LEAVES_MIN, Tree, Values},
};
use alloy_primitives::{B256, U256};
use ironlane_types::{AccountInfo, KECCAK_EMPTY};
use std::collections::{BTreeMap, HashMap};

/// Set in an account leaf's code id when its balance does not fit in 128 bits.
pub(crate) const WIDE: u32 = 1 << 31;

/// A storage trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StorageTrie {
    /// Its root node; for a free record the next free one.
    pub(crate) root: Ref,
    /// Root hash.
    pub(crate) hash: B256,
}

/// All that accounts refer to by number.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Storage tries; number 0 is never one.
    pub(crate) storages: Vec<StorageTrie>,
    /// First free storage record, 0 for none.
    pub(crate) storage_free: u32,
    /// How many are free.
    pub(crate) storage_free_count: u32,
    /// Code hashes; number 0 is that of no code. They stay: code is never forgotten.
    pub(crate) codes: Vec<B256>,
    code_ids: HashMap<B256, u32>,
    /// Balances above 128 bits, by leaf.
    pub(crate) wide: BTreeMap<u32, U256>,
    /// Roots of storage tries that were wiped and are still to be freed.
    pub(crate) garbage: Vec<Ref>,
    /// Accounts in the trie.
    pub(crate) accounts: u64,
    /// Slots in storage tries, those in `garbage` included.
    pub(crate) slots: u64,
}

impl Tables {
    pub(crate) fn new() -> Self {
        Tables {
            storages: vec![StorageTrie { root: NONE, hash: EMPTY_ROOT }],
            storage_free: 0,
            storage_free_count: 0,
            codes: vec![KECCAK_EMPTY],
            code_ids: HashMap::from([(KECCAK_EMPTY, 0)]),
            wide: BTreeMap::new(),
            garbage: Vec::new(),
            accounts: 0,
            slots: 0,
        }
    }

    /// Makes the table of ids from `codes`. False when a hash stands there twice.
    pub(crate) fn index_codes(&mut self) -> bool {
        self.code_ids = self.codes.iter().zip(0u32..).map(|(hash, id)| (*hash, id)).collect();
        self.code_ids.len() == self.codes.len()
    }

    fn code_id(&mut self, hash: &B256) -> u32 {
        if *hash == KECCAK_EMPTY {
            return 0;
        }
        let codes = &mut self.codes;
        *self.code_ids.entry(*hash).or_insert_with(|| {
            codes.push(*hash);
            let id = codes.len() as u32 - 1;
            assert!(id < WIDE, "code ids are 31 bits");
            id
        })
    }

    pub(crate) fn code_hash(&self, value: &AccountValue) -> B256 {
        self.codes[(value.code & !WIDE) as usize]
    }

    pub(crate) fn balance(&self, leaf: u32, value: &AccountValue) -> U256 {
        if value.code & WIDE == 0 {
            U256::from(value.balance)
        } else {
            self.wide.get(&leaf).copied().unwrap_or_default()
        }
    }

    pub(crate) fn info(&self, tree: &Tree, leaf: u32) -> AccountInfo {
        let value = AccountValue::unpack(&tree.leaves.get(leaf).value);
        AccountInfo {
            nonce: value.nonce,
            balance: self.balance(leaf, &value),
            code_hash: self.code_hash(&value),
        }
    }

    /// The storage trie of an account leaf.
    pub(crate) fn storage_of(&self, tree: &Tree, leaf: u32) -> &StorageTrie {
        &self.storages[AccountValue::unpack(&tree.leaves.get(leaf).value).storage as usize]
    }

    fn new_storage(&mut self, root: Ref) -> u32 {
        let record = StorageTrie { root, hash: EMPTY_ROOT };
        if self.storage_free == 0 {
            self.storages.push(record);
            return u32::try_from(self.storages.len() - 1)
                .unwrap_or_else(|_| panic!("the trie has 2³² storage tries"));
        }
        let id = self.storage_free;
        self.storage_free = self.storages[id as usize].root;
        self.storage_free_count -= 1;
        self.storages[id as usize] = record;
        id
    }

    pub(crate) fn free_storage(&mut self, id: u32) {
        self.storages[id as usize] = StorageTrie { root: self.storage_free, hash: B256::ZERO };
        self.storage_free = id;
        self.storage_free_count += 1;
    }

    /// Forgets a storage trie; its nodes are freed later, a bounded number at a time.
    fn drop_storage(&mut self, id: u32) {
        self.garbage.push(self.storages[id as usize].root);
        self.free_storage(id);
    }
}

impl Encode for Tables {
    fn value(&self, tree: &Tree, leaf: u32, out: &mut Vec<u8>) {
        let value = AccountValue::unpack(&tree.leaves.get(leaf).value);
        let nonce = Number::from_u64(value.nonce);
        if value.code & WIDE == 0 {
            let balance = Number::from_u128(value.balance);
            rlp::put_list(out, nonce.item_len() + balance.item_len() + 2 * HASH_ITEM_LEN);
            nonce.put(out);
            balance.put(out);
        } else {
            let balance = Number::from_word(&self.balance(leaf, &value).to_be_bytes());
            rlp::put_list(out, nonce.item_len() + balance.item_len() + 2 * HASH_ITEM_LEN);
            nonce.put(out);
            balance.put(out);
        }
        rlp::put_hash(out, &self.storages[value.storage as usize].hash);
        rlp::put_hash(out, &self.code_hash(&value));
    }
}

/// Leaves of storage tries.
pub(crate) struct Slots;

impl Encode for Slots {
    fn value(&self, tree: &Tree, leaf: u32, out: &mut Vec<u8>) {
        Number::from_word(&tree.leaves.get(leaf).value).put(out);
    }
}

/// A slot to be written: hashed key, value big-endian.
#[derive(Clone, Copy)]
pub(crate) struct SlotOp {
    pub(crate) key: [u8; 32],
    pub(crate) value: [u8; 32],
}

struct SlotMerge<'a> {
    ops: &'a [SlotOp],
    storages: &'a mut [StorageTrie],
    jobs: &'a mut Jobs,
    hasher: &'a mut Hasher,
    added: u64,
    removed: u64,
}

impl Values for SlotMerge<'_> {
    fn key(&self, op: u32) -> &[u8; 32] {
        &self.ops[op as usize].key
    }

    fn is_delete(&self, op: u32) -> bool {
        self.ops[op as usize].value == [0; 32]
    }

    fn put(&mut self, tree: &mut Tree, leaf: u32, op: u32, fresh: bool) -> bool {
        self.added += u64::from(fresh);
        let value = self.ops[op as usize].value;
        let record = tree.leaves.get_mut(leaf);
        let changed = record.value != value;
        record.value = value;
        changed
    }

    fn release(&mut self, _tree: &mut Tree, _leaf: u32) {
        self.removed += 1;
    }

    fn jobs(&mut self) -> &mut Jobs {
        self.jobs
    }

    fn settle(&mut self, tree: &mut Tree) {
        if self.jobs.leaves.len() >= SETTLED_LEAVES_MIN {
            self.hasher.run(&mut SlotHashes { tree, storages: self.storages }, &Slots, self.jobs);
        }
    }

    fn prefetch(&self, op: u32) {
        prefetch(&raw const self.ops[op as usize]);
    }
}

/// Writes hashes into the branches of storage tries, and those of roots into their records.
pub(crate) struct SlotHashes<'a> {
    pub(crate) tree: &'a mut Tree,
    pub(crate) storages: &'a mut [StorageTrie],
}

impl Sink for SlotHashes<'_> {
    fn tree(&self) -> &Tree {
        self.tree
    }

    fn put(&mut self, job: &Job, known: &[u8]) {
        if job.place == ROOT_PLACE {
            self.storages[job.parent as usize].hash = B256::from_slice(known);
        } else {
            self.tree.nodes.set_hash(job.parent, usize::from(job.place), known);
        }
    }
}

/// Writes hashes into the branches of the state trie, and its root's aside.
pub(crate) struct AccountHashes<'a> {
    pub(crate) tree: &'a mut Tree,
    pub(crate) root_hash: &'a mut B256,
}

impl Sink for AccountHashes<'_> {
    fn tree(&self) -> &Tree {
        self.tree
    }

    fn put(&mut self, job: &Job, known: &[u8]) {
        if job.place == ROOT_PLACE {
            *self.root_hash = B256::from_slice(known);
        } else {
            self.tree.nodes.set_hash(job.parent, usize::from(job.place), known);
        }
    }
}

/// An account as it was queued.
#[derive(Clone, Copy)]
pub(crate) struct QueuedAccount {
    pub(crate) key: [u8; 32],
    pub(crate) info: Option<AccountInfo>,
    pub(crate) wiped: bool,
    /// Its slots in the queue: first and count.
    pub(crate) slots: (u32, u32),
}

/// The sum of what was queued for an account.
#[derive(Clone, Copy)]
pub(crate) struct AccountOp {
    /// Entry of the queue with the account's key and final value.
    pub(crate) queued: u32,
    /// Whether its old storage is gone.
    pub(crate) wiped: bool,
    /// Its slots among the sorted ones: first and end.
    pub(crate) slots: (u32, u32),
}

/// A merge into the state trie, which merges into storage tries on its way.
pub(crate) struct AccountMerge<'a> {
    pub(crate) queue: &'a [QueuedAccount],
    pub(crate) ops: &'a [AccountOp],
    pub(crate) slots: &'a [SlotOp],
    pub(crate) sorted_slots: &'a [OpKey],
    pub(crate) tables: &'a mut Tables,
    pub(crate) jobs: &'a mut Jobs,
    pub(crate) slot_jobs: &'a mut Jobs,
    pub(crate) hasher: &'a mut Hasher,
    pub(crate) root_hash: &'a mut B256,
}

impl AccountMerge<'_> {
    /// Hashes what is noted, storage tries first: accounts name their roots.
    pub(crate) fn hash(&mut self, tree: &mut Tree) {
        let storages = self.tables.storages.as_mut_slice();
        self.hasher.run(&mut SlotHashes { tree, storages }, &Slots, self.slot_jobs);
        self.hasher.run(&mut AccountHashes { tree, root_hash: self.root_hash }, &*self.tables, self.jobs);
    }

    /// Merges an account's slots into its storage trie `id`. Answers the trie's number afterwards and whether its root
    /// changed.
    fn merge_slots(&mut self, tree: &mut Tree, id: u32, slots: &[OpKey]) -> (u32, bool) {
        let root = self.tables.storages[id as usize].root;
        let mut merge = SlotMerge {
            ops: self.slots,
            storages: &mut self.tables.storages,
            jobs: self.slot_jobs,
            hasher: self.hasher,
            added: 0,
            removed: 0,
        };
        let (root, dirty) = tree.merge(&mut merge, root, 0, slots);
        let (added, removed) = (merge.added, merge.removed);
        self.tables.slots = self.tables.slots + added - removed;
        if !dirty {
            return (id, false);
        }
        if root == NONE {
            if id != 0 {
                self.tables.free_storage(id);
            }
            return (0, true);
        }
        let id = if id == 0 { self.tables.new_storage(root) } else { id };
        self.tables.storages[id as usize].root = root;
        self.slot_jobs.push(tree, Job { node: root, parent: id, place: ROOT_PLACE, base: 0 });
        (id, true)
    }
}

impl Values for AccountMerge<'_> {
    fn key(&self, op: u32) -> &[u8; 32] {
        &self.queue[self.ops[op as usize].queued as usize].key
    }

    fn is_delete(&self, op: u32) -> bool {
        self.queue[self.ops[op as usize].queued as usize].info.is_none()
    }

    fn put(&mut self, tree: &mut Tree, leaf: u32, op: u32, fresh: bool) -> bool {
        let op = self.ops[op as usize];
        let info = self.queue[op.queued as usize].info.unwrap_or_default();
        let old = AccountValue::unpack(&tree.leaves.get(leaf).value);
        let mut storage = old.storage;
        let mut changed = fresh;
        if op.wiped && storage != 0 {
            self.tables.drop_storage(storage);
            storage = 0;
            changed = true;
        }
        if op.slots.0 != op.slots.1 {
            let slots = self.sorted_slots;
            let (id, dirty) =
                self.merge_slots(tree, storage, &slots[op.slots.0 as usize..op.slots.1 as usize]);
            storage = id;
            changed |= dirty;
        }
        let (balance, wide) = match u128::try_from(info.balance) {
            Ok(balance) => (balance, 0),
            Err(_) => {
                changed |= self.tables.wide.insert(leaf, info.balance) != Some(info.balance);
                (0, WIDE)
            }
        };
        if wide == 0 && old.code & WIDE != 0 {
            self.tables.wide.remove(&leaf);
        }
        let code = if self.tables.code_hash(&old) == info.code_hash {
            old.code & !WIDE
        } else {
            self.tables.code_id(&info.code_hash)
        };
        let new = AccountValue { nonce: info.nonce, balance, code: code | wide, storage };
        self.tables.accounts += u64::from(fresh);
        if new != old {
            tree.leaves.get_mut(leaf).value = new.pack();
            changed = true;
        }
        changed
    }

    fn release(&mut self, tree: &mut Tree, leaf: u32) {
        let old = AccountValue::unpack(&tree.leaves.get(leaf).value);
        if old.storage != 0 {
            self.tables.drop_storage(old.storage);
        }
        if old.code & WIDE != 0 {
            self.tables.wide.remove(&leaf);
        }
        self.tables.accounts -= 1;
    }

    fn jobs(&mut self) -> &mut Jobs {
        self.jobs
    }

    fn settle(&mut self, tree: &mut Tree) {
        if self.jobs.leaves.len() + self.slot_jobs.leaves.len() >= SETTLED_LEAVES_MIN {
            self.hash(tree);
        }
    }

    fn prefetch(&self, op: u32) {
        let entry = &raw const self.queue[self.ops[op as usize].queued as usize];
        prefetch(entry);
        prefetch(entry.cast::<u8>().wrapping_add(64));
    }
}
