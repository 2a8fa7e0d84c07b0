#![allow(unsafe_code)]
//! Vectors of 64-bit lanes: the only part of the hashing that differs from one instruction set to the next.

/// One 64-bit word of each of up to eight messages, in lane order. Narrower vectors use the first lanes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [u64; Row::LANES_MAX]);

impl Row {
    /// Lanes of the widest vector.
    pub(super) const LANES_MAX: usize = 8;
}

/// A vector with [`Lanes::COUNT`] lanes of 64 bits.
///
/// # Safety
/// Every method may be called only where the CPU has the features that the implementing type names, and only from code
/// that is inlined into a function which enables them.
pub(super) trait Lanes: Copy {
    /// How many lanes; at most [`Row::LANES_MAX`].
    const COUNT: usize;
    /// The same value in each lane.
    unsafe fn splat(value: u64) -> Self;
    /// The first `COUNT` lanes of `row`.
    unsafe fn load(row: &Row) -> Self;
    /// The inverse of `load`.
    unsafe fn store(self, row: &mut Row);
    /// Lane-wise exclusive or.
    unsafe fn xor(self, other: Self) -> Self;
    /// Exclusive or of three.
    unsafe fn xor3(self, b: Self, c: Self) -> Self;
    /// χ of Keccak: `self ^ (!b & c)`.
    unsafe fn chi(self, b: Self, c: Self) -> Self;
    /// Rotation to the left by `L`, 0 < L < 64; `R` must be 64 − L.
    unsafe fn rol<const L: i32, const R: i32>(self) -> Self;
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Lanes, Row};
    use core::arch::x86_64::*;

    /// Four lanes; needs `avx2`.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256i);

    impl Lanes for Avx2 {
        const COUNT: usize = 4;
        #[inline(always)]
        unsafe fn splat(value: u64) -> Self {
            // SAFETY: `avx2` by the trait's contract.
            Self(unsafe { _mm256_set1_epi64x(value as i64) })
        }
        #[inline(always)]
        unsafe fn load(row: &Row) -> Self {
            // SAFETY: `avx2` by the trait's contract; a `Row` has 64 readable bytes, aligned to 64.
            Self(unsafe { _mm256_load_si256((row as *const Row).cast()) })
        }
        #[inline(always)]
        unsafe fn store(self, row: &mut Row) {
            // SAFETY: `avx2` by the trait's contract; a `Row` has 64 writable bytes, aligned to 64.
            unsafe { _mm256_store_si256((row as *mut Row).cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn xor(self, other: Self) -> Self {
            // SAFETY: `avx2` by the trait's contract.
            Self(unsafe { _mm256_xor_si256(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn xor3(self, b: Self, c: Self) -> Self {
            // SAFETY: `avx2` by the trait's contract.
            Self(unsafe { _mm256_xor_si256(self.0, _mm256_xor_si256(b.0, c.0)) })
        }
        #[inline(always)]
        unsafe fn chi(self, b: Self, c: Self) -> Self {
            // SAFETY: `avx2` by the trait's contract.
            Self(unsafe { _mm256_xor_si256(self.0, _mm256_andnot_si256(b.0, c.0)) })
        }
        #[inline(always)]
        unsafe fn rol<const L: i32, const R: i32>(self) -> Self {
            const { assert!(L > 0 && R == 64 - L) };
            // SAFETY: `avx2` by the trait's contract.
            Self(unsafe { _mm256_or_si256(_mm256_slli_epi64::<L>(self.0), _mm256_srli_epi64::<R>(self.0)) })
        }
    }

    /// Eight lanes; needs `avx512f`.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512i);

    impl Lanes for Avx512 {
        const COUNT: usize = 8;
        #[inline(always)]
        unsafe fn splat(value: u64) -> Self {
            // SAFETY: `avx512f` by the trait's contract.
            Self(unsafe { _mm512_set1_epi64(value as i64) })
        }
        #[inline(always)]
        unsafe fn load(row: &Row) -> Self {
            // SAFETY: `avx512f` by the trait's contract; a `Row` has 64 readable bytes, aligned to 64.
            Self(unsafe { _mm512_load_si512((row as *const Row).cast()) })
        }
        #[inline(always)]
        unsafe fn store(self, row: &mut Row) {
            // SAFETY: `avx512f` by the trait's contract; a `Row` has 64 writable bytes, aligned to 64.
            unsafe { _mm512_store_si512((row as *mut Row).cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn xor(self, other: Self) -> Self {
            // SAFETY: `avx512f` by the trait's contract.
            Self(unsafe { _mm512_xor_si512(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn xor3(self, b: Self, c: Self) -> Self {
            // 0x96 is the truth table of a ^ b ^ c.
            // SAFETY: `avx512f` by the trait's contract.
            Self(unsafe { _mm512_ternarylogic_epi64::<0x96>(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn chi(self, b: Self, c: Self) -> Self {
            // 0xd2 is the truth table of a ^ (!b & c).
            // SAFETY: `avx512f` by the trait's contract.
            Self(unsafe { _mm512_ternarylogic_epi64::<0xd2>(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn rol<const L: i32, const R: i32>(self) -> Self {
            const { assert!(L > 0 && R == 64 - L) };
            // SAFETY: `avx512f` by the trait's contract.
            Self(unsafe { _mm512_rol_epi64::<L>(self.0) })
        }
    }
}
