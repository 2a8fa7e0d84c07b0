//! Transactions by account and nonce, and the order in which the executable ones are handed out.
//!
//! A transaction is *queued*, *ready* or *in flight*. The pending ones of an account (ready and in flight) follow its
//! state nonce without a gap, can be paid from its balance all together, and have a fee cap that reaches the base fee.
//! `ready` is the line in which they wait for the executor. Lines and orders hold (entry, stamp): an entry that has
//! moved on has another stamp, so nothing needs to be searched in order to be taken out.

mod entry;
mod insert;
mod query;
mod transition;

use crate::config::Limits;
use crate::door::{AccountSource, CodeKind, Place, PoolAccount, Status};
use crate::hash::{Map, map};
use alloy_primitives::{Address, B256};
use entry::{Account, DETACHED, Entry, Id, Slab};
pub(crate) use insert::Newcomer;
use ironlane_types::{Origin, Reject, Tx};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// How often the executor may give one transaction back before it is dropped.
const RETURNS_MAX: u8 = 8;
/// Accounts that one call looks at again (after a fall of the base fee, or when room appears).
const RETRY_MAX: usize = 256;
/// Entries of the line `ready` that one call may find void or demote, beside those that it hands out.
const VOID_MAX: usize = 4_096;
/// Queued entries whose accounts `housekeep` reads again, a call.
const RECHECK_MAX: usize = 64;
/// Lines are cleared of void entries when they are this much longer than what is in them.
const VOID_SLACK: usize = 4_096;

/// A transaction that has been dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropped {
    pub(crate) origin: Origin,
    pub(crate) hash: B256,
    pub(crate) reason: Reject,
}

/// A transaction on its way to the executor.
pub(crate) struct Emitted {
    pub(crate) tx: Arc<Tx>,
    pub(crate) origin: Origin,
    pub(crate) received_ns: u64,
}

#[derive(Debug)]
pub(crate) struct Pool {
    limits: Limits,
    base_fee: u128,
    entries: Slab<Entry>,
    by_hash: Map<B256, Id>,
    accounts: Slab<Account>,
    by_address: Map<Address, Id>,
    ready: VecDeque<(Id, u64)>,
    /// Queued entries, longest waiting first.
    queued_order: VecDeque<(Id, u64)>,
    /// Accounts whose next transaction waits for the base fee to fall to this fee cap.
    fee_blocked: BTreeSet<(u128, Id)>,
    /// Accounts whose next transaction waits for room among the pending.
    starved: VecDeque<Address>,
    /// Queues of accounts that are gone, for those that come.
    spare: Vec<VecDeque<(u64, Id)>>,
    recheck: usize,
    stamp: u64,
    in_flight: usize,
    pending: usize,
    queued: usize,
    bytes: usize,
    queued_bytes: usize,
    /// What has been dropped since the caller last looked.
    pub(crate) dropped: Vec<Dropped>,
}

impl Pool {
    pub(crate) fn new(limits: Limits, base_fee_wei: u64) -> Self {
        Self {
            limits,
            base_fee: base_fee_wei.into(),
            entries: Slab::new(),
            by_hash: map(),
            accounts: Slab::new(),
            by_address: map(),
            ready: VecDeque::new(),
            queued_order: VecDeque::new(),
            fee_blocked: BTreeSet::new(),
            starved: VecDeque::new(),
            spare: vec![],
            recheck: 0,
            stamp: 0,
            in_flight: 0,
            pending: 0,
            queued: 0,
            bytes: 0,
            queued_bytes: 0,
            dropped: vec![],
        }
    }

    pub(crate) fn set_base_fee(&mut self, base_fee_wei: u64) {
        self.base_fee = base_fee_wei.into();
    }

    /// Whether something waits for the executor.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Looks again at accounts for which the base fee has fallen far enough, and at those that waited for room.
    pub(crate) fn retry(&mut self, source: &(impl AccountSource + ?Sized)) -> usize {
        let mut looked = 0;
        while looked < RETRY_MAX
            && let Some((cap, id)) = self.fee_blocked.last().copied()
            && cap >= self.base_fee
        {
            looked += 1;
            self.clear_fee_block(id);
            self.reconsider(id, source);
        }
        while looked < RETRY_MAX
            && self.pending < self.limits.pending_max
            && let Some(address) = self.starved.pop_front()
        {
            looked += 1;
            if let Some(id) = self.by_address.get(&address).copied() {
                self.accounts[id].starved = false;
                self.reconsider(id, source);
            }
        }
        looked
    }

    /// Hands out up to `max` transactions.
    pub(crate) fn emit(&mut self, max: usize, now_ns: u64, mut sink: impl FnMut(Emitted)) -> usize {
        let (mut emitted, mut void) = (0, 0);
        while emitted < max
            && void < VOID_MAX
            && let Some((id, stamp)) = self.ready.pop_front()
        {
            let Some(entry) = self.entries.get(id).filter(|e| e.stamp == stamp && e.place == Place::Ready)
            else {
                void += 1;
                continue;
            };
            if entry.fee_cap() < self.base_fee {
                let (account, nonce) = (entry.account, entry.nonce);
                void += self.demote_from(account, nonce, now_ns);
                self.release(account);
                continue;
            }
            let stamp = self.next_stamp();
            let entry = &mut self.entries[id];
            entry.place = Place::InFlight;
            entry.stamp = stamp;
            self.in_flight += 1;
            emitted += 1;
            sink(Emitted { tx: entry.tx.clone(), origin: entry.origin, received_ns: entry.received_ns });
        }
        emitted
    }

    /// The executor has run it.
    pub(crate) fn executed(&mut self, hash: &B256, source: &(impl AccountSource + ?Sized)) {
        let Some(id) = self.by_hash.get(hash).copied() else { return };
        if self.entries[id].place != Place::InFlight {
            return;
        }
        let (account, nonce) = (self.entries[id].account, self.entries[id].nonce);
        self.take_out(id);
        if account == DETACHED {
            return;
        }
        self.advance(account, nonce + 1);
        if self.accounts[account].queued() > 0 {
            self.reconsider(account, source);
        } else {
            self.release(account);
        }
    }

    /// The executor could not run it.
    pub(crate) fn returned(
        &mut self,
        hash: &B256,
        reason: Reject,
        now_ns: u64,
        source: &(impl AccountSource + ?Sized),
    ) -> bool {
        let Some(id) = self.by_hash.get(hash).copied() else { return false };
        let entry = &mut self.entries[id];
        if entry.place != Place::InFlight {
            return false;
        }
        let (account, nonce) = (entry.account, entry.nonce);
        entry.returns = entry.returns.saturating_add(1);
        let curable = matches!(reason, Reject::NonceTooHigh | Reject::FeeCapBelowBase);
        let patient = entry.returns <= RETURNS_MAX;
        if account == DETACHED {
            // The state has passed its nonce; whatever the executor said, that is why it can never run.
            self.drop_entry(id, if curable { Reject::NonceTooLow } else { reason });
            return false;
        }
        // What follows it cannot run either, until this nonce is filled again.
        self.demote_from(account, nonce + 1, now_ns);
        let next = &mut self.accounts[account].next;
        *next = (*next).min(nonce);
        let keep = curable && patient && self.queue_has_room(id);
        if keep {
            self.make_queued(id, now_ns);
        } else {
            self.drop_entry(id, reason);
        }
        self.reconsider(account, source);
        keep
    }

    /// Drops what has waited too long, and reads some waiting accounts again, in case their state has changed otherwise
    /// than by their own transactions.
    pub(crate) fn housekeep(&mut self, now_ns: u64, source: &(impl AccountSource + ?Sized)) {
        let lifetime_ns = self.limits.queued_lifetime_s.saturating_mul(1_000_000_000);
        while let Some((id, stamp)) = self.queued_order.front().copied() {
            match self.queued_entry(id, stamp) {
                Some(entry) if now_ns.saturating_sub(entry.queued_ns) < lifetime_ns => break,
                Some(entry) => {
                    let reason = self.waiting_for(entry);
                    self.queued_order.pop_front();
                    self.discard(id, reason, now_ns);
                }
                None => {
                    self.queued_order.pop_front();
                }
            }
        }
        for _ in 0..RECHECK_MAX.min(self.queued_order.len()) {
            self.recheck = (self.recheck + 1) % self.queued_order.len().max(1);
            let Some((id, stamp)) = self.queued_order.get(self.recheck).copied() else { break };
            if let Some(account) = self.queued_entry(id, stamp).map(|e| e.account) {
                self.reconsider(account, source);
            }
        }
    }

    /// Why a queued entry waits.
    fn waiting_for(&self, entry: &Entry) -> Reject {
        let account = &self.accounts[entry.account];
        if account.next == entry.nonce && entry.fee_cap() < self.base_fee {
            Reject::FeeCapBelowBase
        } else {
            Reject::Expired
        }
    }

    fn queued_entry(&self, id: Id, stamp: u64) -> Option<&Entry> {
        self.entries.get(id).filter(|e| e.stamp == stamp && e.place == Place::Queued)
    }

    /// Pending transactions that an account may have.
    fn pending_account_max(&self, info: &PoolAccount) -> usize {
        match info.code_kind {
            CodeKind::Delegation => self.limits.pending_delegated_max.min(self.limits.pending_account_max),
            CodeKind::None | CodeKind::Contract => self.limits.pending_account_max,
        }
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            recovering: 0,
            pending: self.pending,
            in_flight: self.in_flight,
            queued: self.queued,
            accounts: self.by_address.len(),
            bytes: self.bytes,
        }
    }
}
