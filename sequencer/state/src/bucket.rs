//! Looks for a hash in one bucket of the index, all entries at once.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Entries in a bucket: one cache line of them.
pub(crate) const BUCKET_ENTRIES: usize = 8;

/// Which entries have this hash in their upper half, a bit each.
#[inline(always)]
pub(crate) fn same_hash(line: &[AtomicU64; BUCKET_ENTRIES], hash: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 belongs to every x86-64 processor.
    unsafe {
        same_hash_sse2(line, hash)
    }
    #[cfg(not(target_arch = "x86_64"))]
    same_hash_plain(line, hash)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn same_hash_sse2(line: &[AtomicU64; BUCKET_ENTRIES], hash: u32) -> u32 {
    use std::arch::x86_64::*;
    // Each entry is one atomic load, as the writer stores it; only the comparing is wide.
    let entry = |i: usize| line[i].load(Relaxed) as i64;
    let pair = |i: usize| _mm_castsi128_ps(_mm_set_epi64x(entry(i + 1), entry(i)));
    let wanted = _mm_set1_epi32(hash as i32);
    let four = |i: usize| {
        let upper_halves = _mm_shuffle_ps::<0b11_01_11_01>(pair(i), pair(i + 2));
        _mm_cmpeq_epi32(_mm_castps_si128(upper_halves), wanted)
    };
    let bytes = _mm_packs_epi16(_mm_packs_epi32(four(0), four(4)), _mm_setzero_si128());
    _mm_movemask_epi8(bytes) as u32
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn same_hash_plain(line: &[AtomicU64; BUCKET_ENTRIES], hash: u32) -> u32 {
    let same = |i: usize| u32::from((line[i].load(Relaxed) >> 32) as u32 == hash);
    (0..BUCKET_ENTRIES).fold(0, |mask, i| mask | same(i) << i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_plain_agree_on_every_pattern() {
        for hash in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            for pattern in 0..=255u32 {
                let entry = |i: usize| {
                    let upper = if pattern >> i & 1 == 1 { hash } else { hash ^ (1 << (i * 4)) };
                    // The lower half must not matter, not even when it equals the hash.
                    AtomicU64::new(u64::from(upper) << 32 | u64::from(hash))
                };
                let line = std::array::from_fn(entry);
                assert_eq!(same_hash(&line, hash), pattern);
                assert_eq!(same_hash_plain(&line, hash), pattern);
            }
        }
    }
}
