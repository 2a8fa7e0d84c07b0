//! The parts of the pool: entries, accounts, and the slabs that hold them.

use crate::config::TX_OVERHEAD_BYTES;
use crate::door::Place;
use alloy_consensus::Transaction;
use alloy_primitives::{Address, U256};
use ironlane_types::{Origin, Tx};
use std::collections::VecDeque;
use std::sync::Arc;

/// Place of an entry or an account in its slab.
pub(super) type Id = u32;

/// [`Entry::account`] of a transaction in flight whose nonce the state has already passed.
pub(super) const DETACHED: Id = Id::MAX;

/// A transaction of the pool.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tx: Arc<Tx>,
    pub(super) origin: Origin,
    pub(super) received_ns: u64,
    pub(super) nonce: u64,
    /// The most that it can take from its sender, in wei.
    pub(super) cost: U256,
    pub(super) account: Id,
    pub(super) place: Place,
    /// Changes with each change of `place`: a reference with an older stamp is void.
    pub(super) stamp: u64,
    /// Since when it is queued.
    pub(super) queued_ns: u64,
    /// How often the executor has given it back.
    pub(super) returns: u8,
}

impl Entry {
    pub(super) fn bytes(&self) -> usize {
        tx_bytes(&self.tx)
    }

    pub(super) fn fee_cap(&self) -> u128 {
        self.tx.envelope.max_fee_per_gas()
    }
}

/// What a transaction counts towards the limits on bytes.
pub(super) fn tx_bytes(tx: &Tx) -> usize {
    tx.raw.len() + TX_OVERHEAD_BYTES
}

/// An account with transactions in the pool.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) address: Address,
    /// The newest nonce that the state is known to have.
    pub(super) base: u64,
    /// The first nonce from `base` on at which there is no pending transaction.
    pub(super) next: u64,
    /// (nonce, entry) in the order of nonces.
    pub(super) txs: VecDeque<(u64, Id)>,
    /// How many of them are pending (ready or in flight).
    pub(super) pending: usize,
    /// Cost of all, in wei.
    pub(super) total_cost: U256,
    /// Cost of the pending ones.
    pub(super) pending_cost: U256,
    /// Its key among the accounts that wait for a lower base fee.
    pub(super) fee_block: Option<u128>,
    /// Whether it stands in the line of accounts that wait for room among the pending.
    pub(super) starved: bool,
}

impl Account {
    pub(super) fn queued(&self) -> usize {
        self.txs.len() - self.pending
    }

    /// Index in `txs` of the first nonce that is not below `nonce`.
    pub(super) fn index_from(&self, nonce: u64) -> usize {
        self.txs.partition_point(|(other, _)| *other < nonce)
    }

    pub(super) fn find(&self, nonce: u64) -> Option<Id> {
        match self.txs.get(self.index_from(nonce)) {
            Some((other, id)) if *other == nonce => Some(*id),
            _ => None,
        }
    }
}

/// Values with small ids that are used again once free.
#[derive(Debug)]
pub(super) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<Id>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { items: vec![], free: vec![] }
    }

    pub(super) fn insert(&mut self, value: T) -> Id {
        match self.free.pop() {
            Some(id) => {
                self.items[id as usize] = Some(value);
                id
            }
            None => {
                let id = self.items.len() as Id;
                assert!(id < DETACHED, "the limits keep the pool far below 2^32 entries");
                self.items.push(Some(value));
                id
            }
        }
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let value = self.items.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(value)
    }

    pub(super) fn get(&self, id: Id) -> Option<&T> {
        self.items.get(id as usize)?.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flatten()
    }
}

/// An id that is held is valid: whoever frees a value removes the ids that lead to it.
impl<T> std::ops::Index<Id> for Slab<T> {
    type Output = T;
    fn index(&self, id: Id) -> &T {
        self.items[id as usize].as_ref().expect("an id that is held names a value")
    }
}

impl<T> std::ops::IndexMut<Id> for Slab<T> {
    fn index_mut(&mut self, id: Id) -> &mut T {
        self.items[id as usize].as_mut().expect("an id that is held names a value")
    }
}
