//! The tables' hash: keyed, so that nobody outside can choose keys that fall into one bucket.
//!
//! Two rounds of 64×64→128-bit multiplication folded by xor, over words masked with a random key. It is no MAC: it only
//! has to be unpredictable to somebody who never sees its output.

use alloy_primitives::{Address, U256};
use std::hash::{BuildHasher, Hasher, RandomState};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashKey(pub(crate) [u64; 4]);

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl HashKey {
    /// A key from the operating system's randomness (by way of the standard library's hasher keys).
    pub(crate) fn random() -> HashKey {
        HashKey(std::array::from_fn(|i| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(i);
            hasher.finish()
        }))
    }

    /// Hash of an address.
    #[inline(always)]
    pub(crate) fn address(&self, address: &Address) -> u32 {
        let b = &address.0.0;
        let word = |i: usize| {
            u64::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3], b[i + 4], b[i + 5], b[i + 6], b[i + 7]])
        };
        let [k0, k1, k2, k3] = self.0;
        let h = fold(word(0) ^ k0, word(8) ^ k1);
        (fold(h ^ k2, (word(12) >> 32) ^ k3) >> 16) as u32
    }

    /// Hash of a slot of the storage with this id.
    #[inline(always)]
    pub(crate) fn slot(&self, storage: u32, key: &U256) -> u32 {
        let [w0, w1, w2, w3] = *key.as_limbs();
        let [k0, k1, k2, k3] = self.0;
        let low = fold(w0 ^ k0, w1 ^ k1);
        let high = fold(w2 ^ k2, w3 ^ k3);
        (fold(low ^ k3.rotate_left(17) ^ u64::from(storage), high ^ k0.rotate_left(29)) >> 16) as u32
    }

    /// Hash of a code hash.
    #[inline]
    pub(crate) fn code(&self, hash: &[u64; 4]) -> u32 {
        self.slot(u32::MAX, &U256::from_limbs(*hash))
    }
}

#[cfg(test)]
mod tests {
    use super::HashKey;
    use alloy_primitives::{Address, U256};

    #[test]
    fn counting_keys_spread_evenly_over_buckets() {
        let key = HashKey([
            0x9e37_79b9_7f4a_7c15,
            0xd1b5_4a32_d192_ed03,
            0x8cb9_2ba7_2f3d_8dd7,
            0xaef1_7502_b3e3_0b1d,
        ]);
        let mut buckets = [[0u32; 256]; 3];
        let n = 64 * 256u64;
        for i in 0..n {
            let mut low = [0u8; 20];
            low[12..].copy_from_slice(&i.to_be_bytes());
            let mut high = [0u8; 20];
            high[..8].copy_from_slice(&i.to_be_bytes());
            buckets[0][(key.address(&Address::from(low)) >> 24) as usize] += 1;
            buckets[1][(key.address(&Address::from(high)) >> 24) as usize] += 1;
            buckets[2][(key.slot(1 + (i % 7) as u32, &U256::from(i / 7)) >> 24) as usize] += 1;
        }
        for counts in buckets {
            // 64 expected in each; six standard deviations are 48.
            assert!(counts.iter().all(|&c| (16..=112).contains(&c)), "{counts:?}");
        }
    }

    #[test]
    fn the_key_decides() {
        let a = Address::repeat_byte(7);
        assert_ne!(HashKey([1, 2, 3, 4]).address(&a), HashKey([1, 2, 3, 5]).address(&a));
        assert_ne!(HashKey::random(), HashKey::random());
    }
}
