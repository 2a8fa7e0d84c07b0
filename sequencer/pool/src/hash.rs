//! Hash tables for keys that attackers choose: fast, and seeded by the operating system so that nobody outside can
//! prepare collisions.

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::OnceLock;

/// A table with an unpredictable seed of its own.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, SeedableRandomState>;
/// A set with an unpredictable seed of its own.
pub(crate) type Set<K> = hashbrown::HashSet<K, SeedableRandomState>;

/// The standard library's keys come from the operating system's generator.
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(0u64)
}

fn state() -> SeedableRandomState {
    static SHARED: OnceLock<SharedSeed> = OnceLock::new();
    SeedableRandomState::with_seed(random(), SHARED.get_or_init(|| SharedSeed::from_u64(random())))
}

/// An empty table.
pub(crate) fn map<K: Eq + Hash, V>() -> Map<K, V> {
    Map::with_hasher(state())
}

/// An empty set.
pub(crate) fn set<K: Eq + Hash>() -> Set<K> {
    Set::with_hasher(state())
}
