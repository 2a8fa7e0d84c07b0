//! State roots: the node's trie, and an independent one that rebuilds everything with alloy-trie.

use alloy_primitives::{Address, B256, U256};
use alloy_trie::{TrieAccount, root};
use ironlane_trie::Trie;
use ironlane_types::{AccountInfo, StateDelta};
use std::collections::BTreeMap;

/// Whatever follows a state by its differences and knows its root.
pub trait StateRoot {
    /// Takes changes; later ones win.
    fn apply(&mut self, delta: &StateDelta);
    /// Root of the state with all changes.
    fn root(&mut self) -> B256;
}

impl StateRoot for Trie {
    fn apply(&mut self, delta: &StateDelta) {
        Trie::apply(self, delta)
    }
    fn root(&mut self) -> B256 {
        Trie::root(self)
    }
}

/// The oracle: plain maps, and a whole rebuild by alloy-trie for each root. Slow, and shares no line with the node's
/// trie.
#[derive(Debug, Clone, Default)]
pub struct OracleTrie {
    accounts: BTreeMap<Address, (AccountInfo, BTreeMap<U256, U256>)>,
}

impl StateRoot for OracleTrie {
    fn apply(&mut self, delta: &StateDelta) {
        for change in &delta.accounts {
            let Some(info) = change.info else {
                self.accounts.remove(&change.address);
                continue;
            };
            let (own, slots) = self.accounts.entry(change.address).or_default();
            *own = info;
            if change.storage_wiped {
                slots.clear();
            }
            for (key, value) in &change.slots {
                if value.is_zero() {
                    slots.remove(key);
                } else {
                    slots.insert(*key, *value);
                }
            }
        }
    }

    fn root(&mut self) -> B256 {
        root::state_root_unhashed(self.accounts.iter().map(|(address, (info, slots))| {
            let slots = slots.iter().map(|(key, value)| (B256::from(*key), *value));
            let account = TrieAccount {
                nonce: info.nonce,
                balance: info.balance,
                storage_root: root::storage_root_unhashed(slots),
                code_hash: info.code_hash,
            };
            (*address, account)
        }))
    }
}
