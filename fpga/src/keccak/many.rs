#![allow(unsafe_code)]
//! Choice of the vector width at run time, and the grouping of messages into lanes.

use super::keccak256;
use super::{blocks, lanes::Row};
#[cfg(target_arch = "x86_64")]
use super::{lanes::x86, permute::hash_lanes};
use alloy_primitives::B256;
use std::sync::OnceLock;

/// A way to hash many messages that this CPU has: a value of this type is proof that its instructions may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Messages of more blocks than this are not grouped by their block count.
const GROUPED_BLOCKS_MAX: usize = 8;

impl Engine {
    /// One message after the other. Every CPU has it.
    pub const SCALAR: Engine = Engine(Kind::Scalar);

    /// Four lanes, where the CPU has AVX2.
    pub fn avx2() -> Option<Engine> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Some(Engine(Kind::Avx2));
        }
        None
    }

    /// Eight lanes, where the CPU has AVX-512F.
    pub fn avx512() -> Option<Engine> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            return Some(Engine(Kind::Avx512));
        }
        None
    }

    /// All that this CPU can do, narrowest first.
    pub fn available() -> impl Iterator<Item = Engine> {
        [Some(Engine::SCALAR), Engine::avx2(), Engine::avx512()].into_iter().flatten()
    }

    /// The widest that this CPU can do; looked up once.
    #[inline]
    pub fn best() -> Engine {
        static BEST: OnceLock<Engine> = OnceLock::new();
        *BEST.get_or_init(|| Engine::available().last().unwrap_or(Engine::SCALAR))
    }

    /// Name for logs and reports.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Messages that are hashed side by side.
    pub const fn lanes(self) -> usize {
        match self.0 {
            Kind::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 4,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => 8,
        }
    }

    /// What one permutation of all lanes costs, in quarters of a scalar permutation (measured: `ironbench keccak`).
    const fn cost_quarters(self) -> usize {
        match self.0 {
            Kind::Scalar => 4,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 7,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => 8,
        }
    }

    /// `out[i] = keccak256(messages[i])`. See [`super::hash_many`].
    ///
    /// # Panics
    /// When the two slices differ in length.
    pub fn hash_many(self, messages: &[&[u8]], out: &mut [B256]) {
        assert_eq!(messages.len(), out.len(), "one hash for each message");
        if self.lanes() == 1 || messages.len() == 1 {
            for (message, hash) in messages.iter().zip(out) {
                *hash = keccak256(message);
            }
            return;
        }
        // Indices of messages that wait for company, by block count; group 0 holds the long ones.
        let mut groups = [([0usize; Row::LANES_MAX], 0usize); GROUPED_BLOCKS_MAX + 1];
        for (index, message) in messages.iter().enumerate() {
            let count = blocks(message.len());
            let (waiting, used) = &mut groups[if count <= GROUPED_BLOCKS_MAX { count } else { 0 }];
            waiting[*used] = index;
            *used += 1;
            if *used == self.lanes() {
                *used = 0;
                self.hash_indexed(&waiting[..self.lanes()], messages, out);
            }
        }
        // What is left goes together, longest first, so that neighbours differ little in length.
        let mut lanes = [0usize; Row::LANES_MAX];
        let mut used = 0;
        for (waiting, count) in groups[..1].iter().chain(groups[1..].iter().rev()) {
            for index in &waiting[..*count] {
                lanes[used] = *index;
                used += 1;
                if used == self.lanes() {
                    used = 0;
                    self.hash_indexed(&lanes[..self.lanes()], messages, out);
                }
            }
        }
        self.hash_indexed(&lanes[..used], messages, out);
    }

    /// Hashes at most as many messages as there are lanes, by whichever way is cheaper for their lengths.
    fn hash_indexed(self, indices: &[usize], messages: &[&[u8]], out: &mut [B256]) {
        let mut picked: [&[u8]; Row::LANES_MAX] = [&[]; Row::LANES_MAX];
        let (mut sum, mut longest) = (0, 0);
        for (slot, index) in picked.iter_mut().zip(indices) {
            *slot = messages[*index];
            let count = blocks(slot.len());
            sum += count;
            longest = longest.max(count);
        }
        let picked = &picked[..indices.len()];
        let mut hashes = [B256::ZERO; Row::LANES_MAX];
        let hashes = &mut hashes[..indices.len()];
        if sum * 4 <= longest * self.cost_quarters() {
            for (message, hash) in picked.iter().zip(hashes.iter_mut()) {
                *hash = keccak256(message);
            }
        } else {
            self.hash_side_by_side(picked, hashes);
        }
        for (index, hash) in indices.iter().zip(hashes) {
            out[*index] = *hash;
        }
    }

    /// Hashes at most as many messages as there are lanes, in the lanes.
    fn hash_side_by_side(self, messages: &[&[u8]], out: &mut [B256]) {
        match self.0 {
            Kind::Scalar => {
                for (message, hash) in messages.iter().zip(out) {
                    *hash = keccak256(message);
                }
            }
            // SAFETY: this value exists, so `Engine::avx2` has found the feature.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { hash_avx2(messages, out) },
            // SAFETY: this value exists, so `Engine::avx512` has found the feature.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { hash_avx512(messages, out) },
        }
    }
}

/// # Safety
/// The CPU must have `avx2`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn hash_avx2(messages: &[&[u8]], out: &mut [B256]) {
    // SAFETY: this function enables `avx2`, and its caller vouches for the CPU.
    unsafe { hash_lanes::<x86::Avx2>(messages, out) }
}

/// # Safety
/// The CPU must have `avx512f`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn hash_avx512(messages: &[&[u8]], out: &mut [B256]) {
    // SAFETY: this function enables `avx512f`, and its caller vouches for the CPU.
    unsafe { hash_lanes::<x86::Avx512>(messages, out) }
}
