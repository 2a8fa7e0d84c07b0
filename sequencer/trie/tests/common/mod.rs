//! The oracle: a state as plain maps, its roots by alloy-trie's full rebuild, its proofs by alloy-trie's verifier.

#![allow(dead_code, unreachable_pub)]

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::verify_proof};
use ironlane_trie::{AccountProof, Trie, TrieConfig};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use std::collections::BTreeMap;

pub type Storage = BTreeMap<U256, U256>;

#[derive(Default, Clone)]
pub struct Model {
    pub accounts: BTreeMap<Address, (AccountInfo, Storage)>,
}

pub fn info(nonce: u64, balance: U256) -> AccountInfo {
    AccountInfo { nonce, balance, code_hash: KECCAK_EMPTY }
}

pub fn put(address: Address, info: AccountInfo) -> AccountDelta {
    AccountDelta { address, info: Some(info), storage_wiped: false, slots: vec![] }
}

pub fn small_trie() -> Trie {
    Trie::new(small_config()).unwrap()
}

pub fn small_config() -> TrieConfig {
    TrieConfig { leaves_max: 1 << 24, node_bytes_max: 1 << 30, huge_pages: false }
}

pub fn root_of(leaves: impl Iterator<Item = (B256, Vec<u8>)>) -> B256 {
    let mut leaves: Vec<_> = leaves.collect();
    leaves.sort();
    let mut builder = HashBuilder::default();
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    builder.root()
}

pub fn storage_root(storage: &Storage) -> B256 {
    root_of(
        storage.iter().map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), alloy_rlp::encode(value))),
    )
}

impl Model {
    pub fn apply(&mut self, delta: &StateDelta) {
        for change in &delta.accounts {
            let Some(info) = change.info else {
                self.accounts.remove(&change.address);
                continue;
            };
            let entry = self.accounts.entry(change.address).or_default();
            entry.0 = info;
            if change.storage_wiped {
                entry.1.clear();
            }
            for (slot, value) in &change.slots {
                if value.is_zero() {
                    entry.1.remove(slot);
                } else {
                    entry.1.insert(*slot, *value);
                }
            }
        }
    }

    fn account_rlp(&self, address: &Address) -> Option<Vec<u8>> {
        let (info, storage) = self.accounts.get(address)?;
        let account = TrieAccount::new(info.nonce, info.balance, storage_root(storage), info.code_hash);
        Some(alloy_rlp::encode(account))
    }

    pub fn root(&self) -> B256 {
        root_of(self.accounts.keys().map(|a| (keccak256(a), self.account_rlp(a).unwrap())))
    }

    /// The trie answers for `address` and `slots` as the model does, and proves it.
    pub fn check_proof(&self, trie: &Trie, root: B256, address: &Address, slots: &[U256]) -> AccountProof {
        let proof = trie.prove(address, slots);
        let known = self.accounts.get(address);
        assert_eq!(proof.info, known.map(|a| a.0));
        assert_eq!(trie.account(address), proof.info);
        assert_eq!(trie.storage_root(address), known.map(|a| storage_root(&a.1)));
        assert_eq!(proof.storage_root, storage_root(&known.map(|a| a.1.clone()).unwrap_or_default()));
        let key = Nibbles::unpack(keccak256(address));
        verify_proof(root, key, self.account_rlp(address), &proof.account_proof).unwrap();
        assert_eq!(proof.storage.len(), slots.len());
        for (slot, answer) in slots.iter().zip(&proof.storage) {
            let value = known.and_then(|a| a.1.get(slot)).copied().unwrap_or_default();
            assert_eq!((answer.key, answer.value), (*slot, value));
            assert_eq!(trie.storage(address, *slot), value);
            let expected = (!value.is_zero()).then(|| alloy_rlp::encode(value));
            let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
            verify_proof(proof.storage_root, key, expected, &answer.proof).unwrap();
        }
        proof
    }
}

/// `count` numbers whose hashes (of the 32-byte word) share the longest prefix found among `tries` many, and how many
/// nibbles that is.
pub fn colliding_slots(tries: u64) -> (Vec<U256>, usize) {
    let mut hashed: Vec<(B256, u64)> =
        (0..tries).map(|i| (keccak256(U256::from(i).to_be_bytes::<32>()), i)).collect();
    hashed.sort();
    let shared = |w: &[(B256, u64)]| Nibbles::unpack(w[0].0).common_prefix_length(&Nibbles::unpack(w[1].0));
    let mut pairs: Vec<_> = hashed.windows(2).map(|w| (shared(w), w[0].1, w[1].1)).collect();
    pairs.sort_by_key(|p| std::cmp::Reverse(p.0));
    let slots = pairs[..8].iter().flat_map(|p| [U256::from(p.1), U256::from(p.2)]).collect();
    (slots, pairs[0].0)
}
