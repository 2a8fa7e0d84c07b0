//! Where cases come from: a seeded stream of numbers, the same on every machine and in every version of any library.

use alloy_primitives::U256;

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `seed`, and of the `index`th part of it.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut mixer = Self(seed);
        Self(mixer.bits() ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is above zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    /// Yes, once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        self.bits() as u8
    }

    /// A word where 256-bit arithmetic breaks: next to a limb's or the word's end, sparse, or anything.
    pub fn word(&mut self) -> U256 {
        match self.below(12) {
            0 => U256::ZERO,
            1 => U256::ONE,
            2 => U256::MAX,
            3 | 4 => U256::from(self.below(300)),
            5 => {
                let power = self.below(256);
                self.near(U256::ONE << power)
            }
            6 => {
                let power = self.pick(&[8, 32, 63, 64, 127, 128, 160, 191, 192, 255]);
                self.near(U256::ONE << power)
            }
            7 => self.near(U256::ZERO).wrapping_neg(),
            8 => U256::from(self.bits()),
            9 => {
                // Whole limbs of zeros or ones.
                let mut limbs = [0u64; 4];
                for limb in &mut limbs {
                    *limb = match self.below(4) {
                        0 => 0,
                        1 => u64::MAX,
                        2 => 1 << self.below(64),
                        _ => self.bits(),
                    };
                }
                U256::from_limbs(limbs)
            }
            10 => U256::MAX << self.below(256),
            _ => U256::from_limbs([self.bits(), self.bits(), self.bits(), self.bits()]),
        }
    }

    fn near(&mut self, centre: U256) -> U256 {
        match self.below(3) {
            0 => centre,
            1 => centre.wrapping_add(U256::from(1 + self.below(3))),
            _ => centre.wrapping_sub(U256::from(1 + self.below(3))),
        }
    }

    /// An offset or a length in memory or data: small for the most part, at a boundary at times, absurd now and then.
    pub fn offset(&mut self) -> U256 {
        match self.below(200) {
            0 => self.word(),
            1 => U256::from(self.pick(&[0xffffu64, 0x1_0000, 0xffff_ffff, 1 << 32, u64::MAX - 31, u64::MAX])),
            2..=11 => U256::from(self.below(4096)),
            12..=90 => U256::from(32 * self.below(8)),
            _ => U256::from(self.below(128)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream_and_an_index_another() {
        let take = |seed, index| {
            let mut rng = Rng::new(seed, index);
            [rng.bits(), rng.bits()]
        };
        assert_eq!(take(1, 0), take(1, 0));
        assert_ne!(take(1, 0), take(1, 1));
        assert_ne!(take(1, 0), take(2, 0));
    }

    #[test]
    fn words_reach_the_boundaries() {
        let mut rng = Rng::new(7, 0);
        let words: std::collections::HashSet<_> = (0..20_000).map(|_| rng.word()).collect();
        for power in [64, 128, 192, 255] {
            assert!(words.contains(&(U256::ONE << power)), "2^{power}");
            assert!(words.contains(&((U256::ONE << power) - U256::ONE)), "2^{power} - 1");
        }
        assert!(words.contains(&U256::MAX) && words.contains(&(U256::MAX - U256::ONE)));
    }
}
