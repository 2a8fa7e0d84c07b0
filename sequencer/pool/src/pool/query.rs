//! What may be asked of the pool.

use super::Pool;
use super::entry::Entry;
use crate::door::PoolTx;
use alloy_primitives::{Address, B256};

impl Pool {
    pub(crate) fn contains(&self, hash: &B256) -> bool {
        self.by_hash.contains_key(hash)
    }

    pub(crate) fn get(&self, hash: &B256) -> Option<PoolTx> {
        self.by_hash.get(hash).map(|id| view(&self.entries[*id]))
    }

    /// All transactions of an account, in the order of nonces. (One in flight whose nonce the state has passed belongs
    /// to the state already.)
    pub(crate) fn of(&self, address: &Address) -> Vec<PoolTx> {
        let Some(id) = self.by_address.get(address) else { return vec![] };
        self.accounts[*id].txs.iter().map(|(_, id)| view(&self.entries[*id])).collect()
    }

    /// Up to `max` transactions, account by account, each account's in the order of nonces.
    pub(crate) fn content(&self, max: usize) -> Vec<PoolTx> {
        let ids = self.accounts.iter().flat_map(|account| account.txs.iter());
        ids.take(max).map(|(_, id)| view(&self.entries[*id])).collect()
    }

    /// The first nonce, from the state's on, at which the pool has nothing.
    pub(crate) fn pending_nonce(&self, address: &Address, state_nonce: u64) -> u64 {
        let Some(id) = self.by_address.get(address) else { return state_nonce };
        let account = &self.accounts[*id];
        let mut nonce = account.next.max(state_nonce);
        let mut index = account.index_from(nonce);
        while account.txs.get(index).is_some_and(|(other, _)| *other == nonce) {
            nonce += 1;
            index += 1;
        }
        nonce
    }
}

fn view(entry: &Entry) -> PoolTx {
    PoolTx { tx: entry.tx.clone(), place: entry.place }
}
