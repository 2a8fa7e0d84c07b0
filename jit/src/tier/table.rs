//! Gas spent by code hash, in a table of fixed size: counting allocates nothing and forgets the cold.
//!
//! Each set of four places counts as Misra and Gries (1982) do: a code that is not in its set takes away from the least
//! place there, and takes the place over when nothing is left of it. So whatever spends more than a fifth of its set's
//! gas is in the table, however many other codes come by. Sets are chosen with a secret seed: nobody can aim at one.

use alloy_primitives::B256;

/// Places in a set.
const WAYS: usize = 4;
const SETS: usize = 1024;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Place {
    hash: B256,
    gas: u64,
    /// Generation of the view in which `entry` was looked up.
    seen: u64,
    /// Place of the compiled code in that view; [`NONE`]: there is none.
    entry: u32,
}

/// No entry.
pub(crate) const NONE: u32 = u32::MAX;

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    places: Box<[Place]>,
    seed: u64,
}

impl Table {
    pub(crate) fn new(seed: u64) -> Self {
        let empty = Place { hash: B256::ZERO, gas: 0, seen: u64::MAX, entry: NONE };
        Self { places: vec![empty; SETS * WAYS].into_boxed_slice(), seed: seed | 1 }
    }

    fn set(&mut self, hash: &B256) -> &mut [Place; WAYS] {
        let word =
            u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
        let set = ((word ^ self.seed).wrapping_mul(self.seed) >> 32) as usize % SETS;
        let places = self.places[set * WAYS..].first_chunk_mut();
        places.expect("the table holds whole sets")
    }

    /// The compiled code of `hash` in the view of generation `seen`, from `look_up` where the table does not know.
    #[inline]
    pub(crate) fn entry(&mut self, hash: &B256, seen: u64, look_up: impl FnOnce() -> u32) -> u32 {
        for place in self.set(hash) {
            if place.hash == *hash {
                if place.seen != seen {
                    let before = std::mem::replace(&mut place.entry, look_up());
                    place.seen = seen;
                    if before != NONE && place.entry == NONE {
                        // Thrown out: it has to get hot again, or a cache that is too small would never rest.
                        place.gas = 0;
                    }
                }
                return place.entry;
            }
        }
        look_up()
    }

    /// Adds gas that `hash` spent; answers its sum, at least zero.
    #[inline]
    pub(crate) fn charge(&mut self, hash: &B256, gas: u64) -> u64 {
        let set = self.set(hash);
        let mut least = 0;
        for at in 0..WAYS {
            if set[at].hash == *hash {
                set[at].gas = set[at].gas.saturating_add(gas);
                return set[at].gas;
            }
            if set[at].gas < set[least].gas {
                least = at;
            }
        }
        let place = &mut set[least];
        match gas.checked_sub(place.gas) {
            Some(left) => {
                *place = Place { hash: *hash, gas: left, seen: u64::MAX, entry: NONE };
                left
            }
            None => {
                place.gas -= gas;
                0
            }
        }
    }

    /// Begins to count `hash` anew.
    pub(crate) fn reset(&mut self, hash: &B256) {
        if let Some(place) = self.set(hash).iter_mut().find(|place| place.hash == *hash) {
            place.gas = 0;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.seed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    #[test]
    fn the_hot_are_counted_among_any_number_of_cold_ones() {
        let mut table = Table::new(0x1234_5678_9abc_def1);
        let hot: Vec<B256> = (0..16u64).map(|n| keccak256(n.to_be_bytes())).collect();
        let mut sums = [0; 16];
        for round in 0..2000u64 {
            for (n, hash) in hot.iter().enumerate() {
                sums[n] = table.charge(hash, 10_000);
            }
            for n in 0..16u64 {
                table.charge(&keccak256((1000 + round * 16 + n).to_be_bytes()), 1_000);
            }
        }
        for sum in sums {
            assert!((15_000_000..=20_000_000).contains(&sum), "{sum} of 20,000,000 counted");
        }
    }

    #[test]
    fn entries_are_looked_up_once_a_generation() {
        let mut table = Table::new(7);
        let hash = keccak256([1]);
        assert_eq!(table.entry(&hash, 0, || 5), 5, "not in the table: asked");
        table.charge(&hash, 1);
        assert_eq!(table.entry(&hash, 0, || 6), 6);
        assert_eq!(table.entry(&hash, 0, || unreachable!("known")), 6);
        assert_eq!(table.entry(&hash, 1, || NONE), NONE, "a new generation");
        table.reset(&hash);
        assert_eq!(table.charge(&hash, 3), 3);
        table.clear();
        assert_eq!(table.charge(&hash, 3), 3);
    }
}
