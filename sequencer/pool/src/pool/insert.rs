//! How a transaction comes in: beside the others of its account, or in place of one of them.

use super::entry::{Entry, Id, tx_bytes};
use super::{Dropped, Pool};
use crate::door::{CodeKind, Place, PoolAccount};
use alloy_consensus::Transaction;
use alloy_primitives::U256;
use ironlane_types::{Origin, Reject, Tx};
use std::sync::Arc;

/// A transaction at the pool's door.
pub(crate) struct Newcomer {
    pub(crate) tx: Arc<Tx>,
    pub(crate) origin: Origin,
    pub(crate) received_ns: u64,
    /// The most that it can take from its sender, in wei.
    pub(crate) cost: U256,
}

impl Pool {
    /// Takes a transaction whose signer is known, `info` being the signer's newest state.
    pub(crate) fn insert(&mut self, new: Newcomer, info: &PoolAccount, now_ns: u64) -> Result<(), Reject> {
        if self.by_hash.contains_key(&new.tx.hash) {
            return Err(Reject::AlreadyKnown);
        }
        if info.code_kind == CodeKind::Contract {
            return Err(Reject::SenderHasCode);
        }
        let known = self.by_address.get(&new.tx.sender).copied();
        if let Some(id) = known {
            self.advance(id, info.nonce);
        }
        let result = self.insert_advanced(new, known, info, now_ns);
        // The account's transactions may all have been left behind by its state.
        if result.is_err()
            && let Some(id) = known
            && self.accounts.get(id).is_some()
        {
            self.release(id);
        }
        result
    }

    fn insert_advanced(
        &mut self,
        new: Newcomer,
        known: Option<Id>,
        info: &PoolAccount,
        now_ns: u64,
    ) -> Result<(), Reject> {
        let nonce = new.tx.envelope.nonce();
        let base = known.map_or(info.nonce, |id| self.accounts[id].base);
        if nonce < base {
            return Err(Reject::NonceTooLow);
        }
        if let Some(id) = known
            && let Some(rival) = self.accounts[id].find(nonce)
        {
            return match self.entries[rival].place {
                // The executor has it: the nonce is as good as used.
                Place::InFlight => Err(Reject::NonceTooLow),
                Place::Queued | Place::Ready => self.replace(id, rival, new, info),
            };
        }
        let limits = &self.limits;
        if nonce - base >= (limits.pending_account_max + limits.queued_account_max) as u64 {
            return Err(Reject::NonceTooHigh);
        }
        let (next, pending, queued, committed) = known.map_or((base, 0, 0, U256::ZERO), |id| {
            let account = &self.accounts[id];
            (account.next, account.pending, account.queued(), account.total_cost)
        });
        if committed.checked_add(new.cost).is_none_or(|sum| sum > info.balance) {
            return Err(Reject::InsufficientFunds);
        }
        let bytes = tx_bytes(&new.tx);
        let executable = nonce == next
            && pending < self.pending_account_max(info)
            && new.tx.envelope.max_fee_per_gas() >= self.base_fee;
        if executable {
            if self.pending >= limits.pending_max || bytes > limits.pool_bytes_max {
                return Err(Reject::PoolFull);
            }
            self.make_room(bytes, now_ns)?;
        } else {
            if queued >= limits.queued_account_max {
                return Err(Reject::AccountLimit);
            }
            if self.queued >= limits.queued_max
                || self.queued_bytes + bytes > limits.queued_bytes_max
                || self.bytes + bytes > limits.pool_bytes_max
            {
                return Err(Reject::PoolFull);
            }
        }
        // Only now: making room may have removed this very account.
        let account = self.account_or_new(new.tx.sender, base);
        self.add_queued(account, nonce, new, now_ns, executable);
        self.promote(account, info);
        Ok(())
    }

    /// Evicts queued transactions, longest waiting first, until `bytes` more fit.
    fn make_room(&mut self, bytes: usize, now_ns: u64) -> Result<(), Reject> {
        while self.bytes + bytes > self.limits.pool_bytes_max {
            let (id, stamp) = self.queued_order.pop_front().ok_or(Reject::PoolFull)?;
            if self.queued_entry(id, stamp).is_some() {
                self.discard(id, Reject::Evicted, now_ns);
            }
        }
        Ok(())
    }

    fn add_queued(&mut self, account: Id, nonce: u64, new: Newcomer, now_ns: u64, executable: bool) {
        let stamp = self.next_stamp();
        let (hash, bytes, cost) = (new.tx.hash, tx_bytes(&new.tx), new.cost);
        let id = self.entries.insert(Entry {
            tx: new.tx,
            origin: new.origin,
            received_ns: new.received_ns,
            nonce,
            cost,
            account,
            place: Place::Queued,
            stamp,
            queued_ns: now_ns,
            returns: 0,
        });
        self.by_hash.insert(hash, id);
        let account = &mut self.accounts[account];
        let index = account.index_from(nonce);
        account.txs.insert(index, (nonce, id));
        account.total_cost += cost;
        self.bytes += bytes;
        self.queued += 1;
        self.queued_bytes += bytes;
        // What becomes ready at once need not stand in the order of those that wait.
        if !executable {
            self.push_queued(id, stamp);
        }
    }

    /// Puts a transaction in the place of one with the same nonce. It keeps the other's place in line, and its age.
    fn replace(&mut self, account: Id, rival: Id, new: Newcomer, info: &PoolAccount) -> Result<(), Reject> {
        let old = &self.entries[rival];
        if !self.outbids(&new.tx, &old.tx) {
            return Err(Reject::ReplacementUnderpriced);
        }
        let others = self.accounts[account].total_cost - old.cost;
        let total = others.checked_add(new.cost).filter(|sum| *sum <= info.balance);
        let total = total.ok_or(Reject::InsufficientFunds)?;
        let (new_bytes, old_bytes) = (tx_bytes(&new.tx), old.bytes());
        let queued = old.place == Place::Queued;
        if self.bytes - old_bytes + new_bytes > self.limits.pool_bytes_max
            || queued && self.queued_bytes - old_bytes + new_bytes > self.limits.queued_bytes_max
        {
            return Err(Reject::PoolFull);
        }
        self.bytes = self.bytes - old_bytes + new_bytes;
        if queued {
            self.queued_bytes = self.queued_bytes - old_bytes + new_bytes;
        } else {
            let pending_cost = &mut self.accounts[account].pending_cost;
            *pending_cost = *pending_cost - old.cost + new.cost;
        }
        self.accounts[account].total_cost = total;
        let dropped = Dropped { origin: old.origin, hash: old.tx.hash, reason: Reject::Replaced };
        self.dropped.push(dropped);
        self.by_hash.remove(&dropped.hash);
        self.by_hash.insert(new.tx.hash, rival);
        let entry = &mut self.entries[rival];
        entry.tx = new.tx;
        entry.origin = new.origin;
        entry.received_ns = new.received_ns;
        entry.cost = new.cost;
        self.promote(account, info);
        Ok(())
    }

    /// Whether both fees of `new` are higher than those of `old`, and by the bump.
    fn outbids(&self, new: &Tx, old: &Tx) -> bool {
        let percent = U256::from(100 + u64::from(self.limits.replacement_bump_percent));
        let fees = |tx: &Tx| {
            let cap = tx.envelope.max_fee_per_gas();
            (cap, tx.envelope.max_priority_fee_per_gas().unwrap_or(cap))
        };
        let enough = |new: u128, old: u128| {
            new > old && U256::from(new) * U256::from(100) >= U256::from(old) * percent
        };
        let ((new_cap, new_tip), (old_cap, old_tip)) = (fees(new), fees(old));
        enough(new_cap, old_cap) && enough(new_tip, old_tip)
    }
}
