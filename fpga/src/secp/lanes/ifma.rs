#![allow(unsafe_code)]
//! Eight lanes with AVX-512 IFMA: five limbs of 52 bits, multiplied by `vpmadd52luq` and `vpmadd52huq`.
//!
//! Limbs 0 to 3 are below 2⁵² strictly (the multiplier reads no more bits), limb 4 is at most 2⁴⁸ + 2⁸, so a value is
//! below 2²⁵⁶ + 2²¹⁶.

use super::{Affine, Index, LANES_MAX, Lanes};
use crate::secp::field::{FOLD, Fe, P};
use core::arch::x86_64::*;

/// Shows that the CPU has AVX-512F and AVX-512 IFMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof(());

impl Proof {
    /// Looks; the error names what is missing.
    pub(in crate::secp) fn detect() -> Result<Proof, &'static str> {
        if !std::arch::is_x86_feature_detected!("avx512f") {
            Err("the CPU has no AVX-512F")
        } else if !std::arch::is_x86_feature_detected!("avx512ifma") {
            Err("the CPU has no AVX-512 IFMA")
        } else {
            Ok(Proof(()))
        }
    }
}

/// Eight field elements.
#[derive(Clone, Copy)]
pub(crate) struct Ifma([__m512i; 5]);

const LIMB: u64 = (1 << 52) - 1;
const TOP: u64 = (1 << 48) - 1;
/// 2²⁶⁰ mod p.
const FOLD_260: u64 = FOLD << 4;

/// (k + 1)·p with limbs each at least k times the largest limb, so that a difference is never negative in any limb.
const fn bias(k: u64) -> [u64; 5] {
    let p = [P[0] & LIMB, LIMB, LIMB, LIMB, TOP];
    let mut out = [0; 5];
    let mut i = 0;
    while i < 5 {
        let lent = if i < 4 { (k + 1) << 52 } else { 0 };
        let owed = if i > 0 { k + 1 } else { 0 };
        out[i] = p[i] * (k + 1) + lent - owed;
        i += 1;
    }
    out
}

/// The largest factor of a subtrahend: 8 of `combine`.
const FACTOR_MAX: u64 = 8;
const _: () = {
    let mut k = 1;
    while k <= FACTOR_MAX {
        let b = bias(k);
        assert!(b[0] >= k * LIMB && b[1] >= k * LIMB && b[4] >= k * (TOP + 1 + (1 << 8)));
        k += 1;
    }
};

#[inline(always)]
fn splat(value: u64) -> __m512i {
    // SAFETY: AVX-512F; called only where a `Proof` or a value made with one is at hand.
    unsafe { _mm512_set1_epi64(value as i64) }
}

/// `value` times a small constant.
#[inline(always)]
fn times<const K: u32>(value: __m512i) -> __m512i {
    // SAFETY: AVX-512F, as in `splat`.
    unsafe {
        match K {
            0 => _mm512_setzero_si512(),
            1 => value,
            2 => _mm512_slli_epi64::<1>(value),
            3 => _mm512_add_epi64(value, _mm512_slli_epi64::<1>(value)),
            4 => _mm512_slli_epi64::<2>(value),
            8 => _mm512_slli_epi64::<3>(value),
            _ => unreachable!("no such factor"),
        }
    }
}

/// Limbs below 2⁵⁸ → the form of the module's head. Takes what is above 2²⁵⁶ back in at the bottom, then carries.
#[inline(always)]
fn settle(mut t: [__m512i; 5]) -> Ifma {
    // SAFETY: AVX-512F and IFMA, as in `splat`.
    unsafe {
        let above = _mm512_srli_epi64::<48>(t[4]);
        t[4] = _mm512_and_si512(t[4], splat(TOP));
        t[0] = _mm512_madd52lo_epu64(t[0], above, splat(FOLD));
    }
    Ifma(carry(t))
}

#[inline(always)]
fn carry(mut t: [__m512i; 5]) -> [__m512i; 5] {
    // SAFETY: AVX-512F, as in `splat`.
    unsafe {
        let mask = splat(LIMB);
        t[1] = _mm512_add_epi64(t[1], _mm512_srli_epi64::<52>(t[0]));
        t[0] = _mm512_and_si512(t[0], mask);
        t[2] = _mm512_add_epi64(t[2], _mm512_srli_epi64::<52>(t[1]));
        t[1] = _mm512_and_si512(t[1], mask);
        t[3] = _mm512_add_epi64(t[3], _mm512_srli_epi64::<52>(t[2]));
        t[2] = _mm512_and_si512(t[2], mask);
        t[4] = _mm512_add_epi64(t[4], _mm512_srli_epi64::<52>(t[3]));
        t[3] = _mm512_and_si512(t[3], mask);
    }
    t
}

/// Adds a·b to the columns.
#[inline(always)]
fn accumulate(t: &mut [__m512i; 10], a: &[__m512i; 5], b: &[__m512i; 5]) {
    for i in 0..5 {
        for j in 0..5 {
            // SAFETY: AVX-512 IFMA, as in `splat`.
            unsafe {
                t[i + j] = _mm512_madd52lo_epu64(t[i + j], a[i], b[j]);
                t[i + j + 1] = _mm512_madd52hi_epu64(t[i + j + 1], a[i], b[j]);
            }
        }
    }
}

/// Ten columns, each below 2⁵⁸, of a number below 2⁵²⁰ → the form of the module's head.
#[inline(always)]
fn reduce(mut t: [__m512i; 10]) -> Ifma {
    // SAFETY: AVX-512F and IFMA, as in `splat`.
    unsafe {
        let mask = splat(LIMB);
        for i in 5..9 {
            t[i + 1] = _mm512_add_epi64(t[i + 1], _mm512_srli_epi64::<52>(t[i]));
            t[i] = _mm512_and_si512(t[i], mask);
        }
        let fold = splat(FOLD_260);
        let mut low = [t[0], t[1], t[2], t[3], t[4]];
        for i in 0..5 {
            low[i] = _mm512_madd52lo_epu64(low[i], t[5 + i], fold);
        }
        for i in 0..4 {
            low[i + 1] = _mm512_madd52hi_epu64(low[i + 1], t[5 + i], fold);
        }
        // What is at 2²⁶⁰ is below 2³⁷; with the bits of limb 4 from 2²⁵⁶ on it makes a number below 2⁴².
        let beyond = _mm512_madd52hi_epu64(_mm512_setzero_si512(), t[9], fold);
        let above = _mm512_add_epi64(_mm512_srli_epi64::<48>(low[4]), _mm512_slli_epi64::<4>(beyond));
        low[4] = _mm512_and_si512(low[4], splat(TOP));
        low[0] = _mm512_madd52lo_epu64(low[0], above, splat(FOLD));
        low[1] = _mm512_madd52hi_epu64(low[1], above, splat(FOLD));
        Ifma(carry(low))
    }
}

/// Eight rows of eight words → eight vectors, one a column; its own inverse.
#[inline(always)]
fn transpose(r: [__m512i; 8]) -> [__m512i; 8] {
    // SAFETY: AVX-512F, as in `splat`.
    unsafe {
        let mut pairs = r;
        for i in 0..4 {
            pairs[2 * i] = _mm512_unpacklo_epi64(r[2 * i], r[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi64(r[2 * i], r[2 * i + 1]);
        }
        // pairs[2i + odd], 128-bit block b: words 2b + odd of rows 2i and 2i + 1.
        let mut out = r;
        for odd in 0..2 {
            let (a, b, c, d) = (pairs[odd], pairs[2 + odd], pairs[4 + odd], pairs[6 + odd]);
            let ab_even = _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b);
            let ab_odd = _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b);
            let cd_even = _mm512_shuffle_i64x2::<0b10_00_10_00>(c, d);
            let cd_odd = _mm512_shuffle_i64x2::<0b11_01_11_01>(c, d);
            out[odd] = _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_even, cd_even);
            out[4 + odd] = _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_even, cd_even);
            out[2 + odd] = _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_odd, cd_odd);
            out[6 + odd] = _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_odd, cd_odd);
        }
        out
    }
}

/// Four words of 64 bits → five limbs.
#[inline(always)]
fn from_words(w: [__m512i; 4]) -> Ifma {
    // SAFETY: AVX-512F, as in `splat`.
    unsafe {
        let mask = splat(LIMB);
        // (a | b) & c
        const OR_AND: i32 = 0xa8;
        Ifma([
            _mm512_and_si512(w[0], mask),
            _mm512_ternarylogic_epi64::<OR_AND>(
                _mm512_srli_epi64::<52>(w[0]),
                _mm512_slli_epi64::<12>(w[1]),
                mask,
            ),
            _mm512_ternarylogic_epi64::<OR_AND>(
                _mm512_srli_epi64::<40>(w[1]),
                _mm512_slli_epi64::<24>(w[2]),
                mask,
            ),
            _mm512_ternarylogic_epi64::<OR_AND>(
                _mm512_srli_epi64::<28>(w[2]),
                _mm512_slli_epi64::<36>(w[3]),
                mask,
            ),
            _mm512_srli_epi64::<16>(w[3]),
        ])
    }
}

/// The inverse of [`from_words`], after reduction below 2²⁵⁶.
#[inline(always)]
fn to_words(value: &Ifma) -> [__m512i; 4] {
    // A value of 2²⁵⁶ or more is so by less than 2²¹⁶: folded once, it is below 2²⁵⁶.
    let Ifma(l) = settle(value.0);
    // SAFETY: AVX-512F, as in `splat`.
    unsafe {
        [
            _mm512_or_si512(l[0], _mm512_slli_epi64::<52>(l[1])),
            _mm512_or_si512(_mm512_srli_epi64::<12>(l[1]), _mm512_slli_epi64::<40>(l[2])),
            _mm512_or_si512(_mm512_srli_epi64::<24>(l[2]), _mm512_slli_epi64::<28>(l[3])),
            _mm512_or_si512(_mm512_srli_epi64::<36>(l[3]), _mm512_slli_epi64::<16>(l[4])),
        ]
    }
}

#[inline(always)]
fn rows(points: &[Affine], index: &Index) -> [__m512i; 8] {
    let mut rows = [splat(0); 8];
    for (row, i) in rows.iter_mut().zip(index) {
        let point: *const Affine = &points[*i as usize];
        // SAFETY: AVX-512F, as in `splat`; an `Affine` is 64 readable bytes, aligned to 64.
        *row = unsafe { _mm512_load_si512(point.cast()) };
    }
    rows
}

impl Lanes for Ifma {
    type Proof = Proof;
    const COUNT: usize = 8;

    #[inline(always)]
    fn splat(_: Proof, value: &Fe) -> Self {
        let w = value.0;
        from_words([splat(w[0]), splat(w[1]), splat(w[2]), splat(w[3])])
    }

    #[inline(always)]
    fn load(_: Proof, values: &[Fe; LANES_MAX]) -> Self {
        let mut rows = [splat(0); 4];
        for (i, row) in rows.iter_mut().enumerate() {
            let words = values.map(|value| value.0[i]);
            // SAFETY: AVX-512F, shown by the proof; `words` is 64 readable bytes.
            *row = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        }
        from_words(rows)
    }

    #[inline(always)]
    fn store(&self) -> [Fe; LANES_MAX] {
        let mut out = [Fe::ZERO; LANES_MAX];
        for (i, vector) in to_words(self).into_iter().enumerate() {
            let mut words = [0u64; LANES_MAX];
            // SAFETY: AVX-512F, as in `splat`; `words` is 64 writable bytes.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
            for (fe, word) in out.iter_mut().zip(words) {
                fe.0[i] = word;
            }
        }
        out
    }

    #[inline(always)]
    fn gather(_: Proof, points: &[Affine], index: &Index) -> (Self, Self) {
        let w = transpose(rows(points, index));
        (from_words([w[0], w[1], w[2], w[3]]), from_words([w[4], w[5], w[6], w[7]]))
    }

    #[inline(always)]
    fn gather_x(_: Proof, points: &[Affine], index: &Index) -> Self {
        let w = transpose(rows(points, index));
        from_words([w[0], w[1], w[2], w[3]])
    }

    #[inline(always)]
    fn scatter(x: &Self, y: &Self, points: &mut [Affine], index: &Index) {
        let (x, y) = (to_words(x), to_words(y));
        let rows = transpose([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]]);
        for (row, i) in rows.into_iter().zip(index) {
            let point: *mut Affine = &mut points[*i as usize];
            // SAFETY: AVX-512F, as in `splat`; an `Affine` is 64 writable bytes, aligned to 64.
            unsafe { _mm512_store_si512(point.cast(), row) };
        }
    }

    #[inline(always)]
    fn mul(&self, other: &Self) -> Self {
        let mut t = [splat(0); 10];
        accumulate(&mut t, &self.0, &other.0);
        reduce(t)
    }

    #[inline(always)]
    fn square(&self) -> Self {
        let a = &self.0;
        let mut t = [splat(0); 10];
        for i in 0..5 {
            for j in i + 1..5 {
                // SAFETY: AVX-512 IFMA, as in `splat`.
                unsafe {
                    t[i + j] = _mm512_madd52lo_epu64(t[i + j], a[i], a[j]);
                    t[i + j + 1] = _mm512_madd52hi_epu64(t[i + j + 1], a[i], a[j]);
                }
            }
        }
        for column in &mut t[1..9] {
            *column = times::<2>(*column);
        }
        for i in 0..5 {
            // SAFETY: AVX-512 IFMA, as in `splat`.
            unsafe {
                t[2 * i] = _mm512_madd52lo_epu64(t[2 * i], a[i], a[i]);
                t[2 * i + 1] = _mm512_madd52hi_epu64(t[2 * i + 1], a[i], a[i]);
            }
        }
        reduce(t)
    }

    #[inline(always)]
    fn mul_add(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        let mut t = [splat(0); 10];
        accumulate(&mut t, &a.0, &b.0);
        accumulate(&mut t, &c.0, &d.0);
        reduce(t)
    }

    #[inline(always)]
    fn combine<const J: u32, const K: u32>(a: &Self, b: &Self) -> Self {
        let mut t = a.0;
        let bias = const { bias(K as u64) };
        for i in 0..5 {
            t[i] = times::<J>(a.0[i]);
            if K > 0 {
                // SAFETY: AVX-512F, as in `splat`.
                unsafe {
                    t[i] = _mm512_sub_epi64(_mm512_add_epi64(t[i], splat(bias[i])), times::<K>(b.0[i]));
                }
            }
        }
        settle(t)
    }

    #[inline(always)]
    fn sub_sub_double(a: &Self, b: &Self, c: &Self) -> Self {
        let mut t = a.0;
        let bias = const { bias(3) };
        for i in 0..5 {
            // SAFETY: AVX-512F, as in `splat`.
            unsafe {
                let minus = _mm512_add_epi64(b.0[i], times::<2>(c.0[i]));
                t[i] = _mm512_sub_epi64(_mm512_add_epi64(t[i], splat(bias[i])), minus);
            }
        }
        settle(t)
    }

    #[inline(always)]
    fn negate_if(&self, mask: u8) -> Self {
        let mut t = self.0;
        let bias = const { bias(1) };
        for i in 0..5 {
            // SAFETY: AVX-512F, as in `splat`.
            unsafe { t[i] = _mm512_mask_sub_epi64(t[i], mask, splat(bias[i]), t[i]) };
        }
        settle(t)
    }

    #[inline(always)]
    fn select(mask: u8, yes: &Self, no: &Self) -> Self {
        let mut t = no.0;
        for i in 0..5 {
            // SAFETY: AVX-512F, as in `splat`.
            unsafe { t[i] = _mm512_mask_mov_epi64(t[i], mask, yes.0[i]) };
        }
        Ifma(t)
    }
}
