//! Public keys of accounts, by address: bounded, in memory, filled by recoveries.

use crate::keccak::keccak256;
use crate::secp::Affine;
use alloy_primitives::Address;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

/// Accounts that compete for the same places.
const WAYS: usize = 4;

/// Bytes that are no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the 64 bytes are not the coordinates of a point of secp256k1")]
pub struct NotAKey;

/// A bounded memory of public keys. Shared between an engine's workers and whoever else knows keys.
///
/// A place is chosen by a hash with a secret, and in it whoever has not been asked for since the last newcomer makes room: a
/// flood of new accounts replaces itself, not the accounts in use.
pub struct KeyCache {
    sets: RwLock<Vec<[Slot; WAYS]>>,
    hasher: std::hash::RandomState,
    mask: usize,
}

#[derive(Default)]
struct Slot {
    address: Option<Address>,
    used: AtomicBool,
    key: Affine,
}

impl KeyCache {
    /// A cache for about `accounts` accounts (rounded up to a power of two), 128 bytes each.
    ///
    /// # Panics
    /// When that is more than 2³⁰.
    pub fn new(accounts: usize) -> Self {
        assert!(accounts <= 1 << 30, "a cache of public keys for {accounts} accounts");
        let sets = accounts.div_ceil(WAYS).next_power_of_two();
        let mut empty = Vec::with_capacity(sets);
        empty.resize_with(sets, Default::default);
        KeyCache { sets: RwLock::new(empty), hasher: std::hash::RandomState::new(), mask: sets - 1 }
    }

    /// Takes a public key (x ‖ y, big-endian) from outside, after checking that it is a point of the curve, and answers the
    /// address of its account.
    ///
    /// # Errors
    /// [`NotAKey`] when it is none; nothing is kept.
    pub fn learn(&self, public_key: &[u8; 64]) -> Result<Address, NotAKey> {
        let key = Affine::from_bytes(public_key);
        if !key.is_on_curve() {
            return Err(NotAKey);
        }
        let address = Address::from_slice(&keccak256(public_key)[12..]);
        self.insert_all([(address, key)].into_iter());
        Ok(address)
    }

    /// Accounts kept.
    pub fn len(&self) -> usize {
        self.read().sets.iter().flatten().filter(|slot| slot.address.is_some()).count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set(&self, address: &Address) -> usize {
        self.hasher.hash_one(address.0) as usize & self.mask
    }

    /// For many lookups.
    pub(super) fn read(&self) -> Reading<'_> {
        // A panic under the lock ends the process: there is no half-written slot to be seen.
        Reading { cache: self, sets: self.sets.read().unwrap_or_else(|poisoned| poisoned.into_inner()) }
    }

    /// Keeps keys that are known to belong to their addresses.
    pub(super) fn insert_all(&self, keys: impl Iterator<Item = (Address, Affine)>) {
        let mut sets = self.sets.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (address, key) in keys {
            let set = &mut sets[self.set(&address)];
            if set.iter().any(|slot| slot.address == Some(address)) {
                continue;
            }
            let empty = set.iter().position(|slot| slot.address.is_none());
            let free = empty.or_else(|| set.iter().position(|slot| !slot.used.load(Ordering::Relaxed)));
            let place = free.unwrap_or_else(|| {
                for slot in set.iter_mut() {
                    *slot.used.get_mut() = false;
                }
                address.0[19] as usize % WAYS
            });
            set[place] = Slot { address: Some(address), used: AtomicBool::new(false), key };
        }
    }
}

/// The cache while it is being read.
pub(super) struct Reading<'a> {
    cache: &'a KeyCache,
    sets: RwLockReadGuard<'a, Vec<[Slot; WAYS]>>,
}

impl Reading<'_> {
    /// The account's key, if it is known, and a number that is the account's own as long as this reading lasts.
    pub(super) fn get(&self, address: &Address) -> Option<(u32, Affine)> {
        let set = self.cache.set(address);
        let ways = &self.sets[set];
        let way = ways.iter().position(|slot| slot.address == Some(*address))?;
        let slot = &ways[way];
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        Some(((set * WAYS + way) as u32, slot.key))
    }
}
