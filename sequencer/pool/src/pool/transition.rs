//! How entries move between queued, ready and in flight, and how they leave. Every counter is kept here.

use super::entry::{Account, DETACHED, Id};
use super::{Dropped, Pool, VOID_SLACK};
use crate::door::{AccountSource, Place, PoolAccount};
use alloy_primitives::Address;
use ironlane_types::Reject;

impl Pool {
    /// The account's id; a new account begins at nonce `base`.
    pub(super) fn account_or_new(&mut self, address: Address, base: u64) -> Id {
        if let Some(id) = self.by_address.get(&address) {
            return *id;
        }
        let txs = self.spare.pop().unwrap_or_default();
        let id = self.accounts.insert(Account { address, base, next: base, txs, ..Account::default() });
        self.by_address.insert(address, id);
        id
    }

    /// Forgets an account that has no transactions left.
    pub(super) fn release(&mut self, id: Id) {
        if !self.accounts[id].txs.is_empty() {
            return;
        }
        self.clear_fee_block(id);
        if let Some(account) = self.accounts.remove(id) {
            self.by_address.remove(&account.address);
            if self.spare.len() < 1_024 && account.txs.capacity() <= 256 {
                self.spare.push(account.txs);
            }
        }
    }

    /// Reads the account's state again and makes ready what can be. The account may be gone afterwards.
    pub(super) fn reconsider(&mut self, id: Id, source: &(impl AccountSource + ?Sized)) {
        let info = source.account(&self.accounts[id].address).unwrap_or_default();
        self.advance(id, info.nonce);
        self.promote(id, &info);
        self.release(id);
    }

    /// The state has reached nonce `base`: earlier transactions are done with. The account stays, even if empty.
    pub(super) fn advance(&mut self, id: Id, base: u64) {
        let account = &mut self.accounts[id];
        if base <= account.base {
            return;
        }
        account.base = base;
        account.next = account.next.max(base);
        while let Some((nonce, entry)) = self.accounts[id].txs.front().copied()
            && nonce < base
        {
            if self.entries[entry].place == Place::InFlight {
                // Its answer is on the way; its cost has left the balance already.
                self.detach(entry);
            } else {
                self.drop_entry(entry, Reject::NonceTooLow);
            }
        }
    }

    /// Makes ready whatever follows the pending transactions without a gap and can be paid.
    pub(super) fn promote(&mut self, id: Id, info: &PoolAccount) {
        self.clear_fee_block(id);
        let pending_max = self.pending_account_max(info);
        while let Some(entry_id) = self.accounts[id].find(self.accounts[id].next) {
            let (account, entry) = (&self.accounts[id], &self.entries[entry_id]);
            if entry.place != Place::Queued {
                self.accounts[id].next += 1;
                continue;
            }
            if account.pending >= pending_max {
                break;
            }
            if entry.fee_cap() < self.base_fee {
                let cap = entry.fee_cap();
                self.accounts[id].fee_block = Some(cap);
                self.fee_blocked.insert((cap, id));
                break;
            }
            if account.pending_cost.checked_add(entry.cost).is_none_or(|sum| sum > info.balance) {
                self.drop_entry(entry_id, Reject::InsufficientFunds);
                break;
            }
            if self.pending >= self.limits.pending_max {
                if !account.starved && self.starved.len() < 4 * self.limits.queued_max {
                    let address = account.address;
                    self.accounts[id].starved = true;
                    self.starved.push_back(address);
                }
                break;
            }
            self.make_ready(entry_id);
            self.accounts[id].next += 1;
        }
    }

    pub(super) fn clear_fee_block(&mut self, id: Id) {
        if let Some(cap) = self.accounts[id].fee_block.take() {
            self.fee_blocked.remove(&(cap, id));
        }
    }

    /// Queued to ready.
    pub(super) fn make_ready(&mut self, id: Id) {
        let stamp = self.next_stamp();
        let entry = &mut self.entries[id];
        debug_assert_eq!(entry.place, Place::Queued);
        entry.place = Place::Ready;
        entry.stamp = stamp;
        let (bytes, cost) = (entry.bytes(), entry.cost);
        let account = &mut self.accounts[entry.account];
        account.pending += 1;
        account.pending_cost += cost;
        self.pending += 1;
        self.queued -= 1;
        self.queued_bytes -= bytes;
        if self.ready.len() > 2 * self.pending + VOID_SLACK {
            let entries = &self.entries;
            self.ready.retain(|(id, stamp)| entries.get(*id).is_some_and(|e| e.stamp == *stamp));
        }
        self.ready.push_back((id, stamp));
    }

    /// Ready or in flight to queued.
    pub(super) fn make_queued(&mut self, id: Id, now_ns: u64) {
        let stamp = self.next_stamp();
        let entry = &mut self.entries[id];
        debug_assert!(entry.place != Place::Queued && entry.account != DETACHED);
        if entry.place == Place::InFlight {
            self.in_flight -= 1;
        }
        entry.place = Place::Queued;
        entry.stamp = stamp;
        entry.queued_ns = now_ns;
        let (bytes, cost) = (entry.bytes(), entry.cost);
        let account = &mut self.accounts[entry.account];
        account.pending -= 1;
        account.pending_cost -= cost;
        self.pending -= 1;
        self.queued += 1;
        self.queued_bytes += bytes;
        self.push_queued(id, stamp);
    }

    pub(super) fn push_queued(&mut self, id: Id, stamp: u64) {
        if self.queued_order.len() > 2 * self.queued + VOID_SLACK {
            let entries = &self.entries;
            self.queued_order.retain(|(id, stamp)| entries.get(*id).is_some_and(|e| e.stamp == *stamp));
            self.recheck = 0;
        }
        self.queued_order.push_back((id, stamp));
    }

    /// Whether the limits on queued transactions leave room for this entry.
    pub(super) fn queue_has_room(&self, id: Id) -> bool {
        self.queued < self.limits.queued_max
            && self.queued_bytes + self.entries[id].bytes() <= self.limits.queued_bytes_max
    }

    /// Takes the account's ready transactions from `nonce` on back into the queue; those for which it has no room are
    /// dropped. Returns how many it moved. An account may have more queued than a newcomer could add, never more in all.
    pub(super) fn demote_from(&mut self, id: Id, nonce: u64, now_ns: u64) -> usize {
        let mut moved = 0;
        let mut index = self.accounts[id].index_from(nonce);
        while let Some((_, entry_id)) = self.accounts[id].txs.get(index).copied() {
            index += 1;
            if self.entries[entry_id].place != Place::Ready {
                continue;
            }
            moved += 1;
            if self.queue_has_room(entry_id) {
                self.make_queued(entry_id, now_ns);
            } else {
                let cap = self.entries[entry_id].fee_cap();
                let reason = if cap < self.base_fee { Reject::FeeCapBelowBase } else { Reject::Evicted };
                self.drop_entry(entry_id, reason);
                index -= 1;
            }
        }
        let account = &mut self.accounts[id];
        account.next = account.next.min(nonce);
        if let Some(first) = account.find(account.next)
            && self.entries[first].place == Place::Queued
            && self.entries[first].fee_cap() < self.base_fee
        {
            self.clear_fee_block(id);
            let cap = self.entries[first].fee_cap();
            self.accounts[id].fee_block = Some(cap);
            self.fee_blocked.insert((cap, id));
        }
        moved
    }

    /// Removes a queued or ready entry with all that its absence means for those after it.
    pub(super) fn discard(&mut self, id: Id, reason: Reject, now_ns: u64) {
        let (account, nonce) = (self.entries[id].account, self.entries[id].nonce);
        self.drop_entry(id, reason);
        if nonce < self.accounts[account].next {
            self.demote_from(account, nonce, now_ns);
        }
        if self.accounts[account].next == nonce {
            self.clear_fee_block(account);
        }
        self.release(account);
    }

    /// Removes an entry and says why. The caller sees to the account.
    pub(super) fn drop_entry(&mut self, id: Id, reason: Reject) {
        let (origin, hash) = (self.entries[id].origin, self.entries[id].tx.hash);
        self.take_out(id);
        self.dropped.push(Dropped { origin, hash, reason });
    }

    /// Takes an entry in flight off its account, which no longer needs to pay for it.
    fn detach(&mut self, id: Id) {
        let entry = &mut self.entries[id];
        let (account, nonce, cost) = (entry.account, entry.nonce, entry.cost);
        entry.account = DETACHED;
        let account = &mut self.accounts[account];
        let index = account.index_from(nonce);
        account.txs.remove(index);
        account.pending -= 1;
        account.pending_cost -= cost;
        account.total_cost -= cost;
    }

    /// Removes an entry from every table.
    pub(super) fn take_out(&mut self, id: Id) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.by_hash.remove(&entry.tx.hash);
        let bytes = entry.bytes();
        self.bytes -= bytes;
        match entry.place {
            Place::Queued => {
                self.queued -= 1;
                self.queued_bytes -= bytes;
            }
            Place::Ready => self.pending -= 1,
            Place::InFlight => {
                self.pending -= 1;
                self.in_flight -= 1;
            }
        }
        if entry.account == DETACHED {
            return;
        }
        let account = &mut self.accounts[entry.account];
        let index = account.index_from(entry.nonce);
        account.txs.remove(index);
        account.total_cost -= entry.cost;
        if entry.place != Place::Queued {
            account.pending -= 1;
            account.pending_cost -= entry.cost;
        }
    }
}
