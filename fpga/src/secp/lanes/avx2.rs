#![allow(unsafe_code)]
//! Four lanes with AVX2: nine limbs of 29 bits, multiplied by `vpmuludq`.
//!
//! Limbs are at most 2²⁹ + 2⁶, limb 8 at most 2²⁴ + 2⁶, so a value is below 2²⁵⁶ + 2²⁴⁰, and nine products of limbs fit
//! 64 bits with room for twice as many.

use super::{Affine, Index, LANES_MAX, Lanes};
use crate::secp::field::{Fe, P};
use core::arch::x86_64::*;

/// Shows that the CPU has AVX2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof(());

impl Proof {
    /// Looks; the error names what is missing.
    pub(in crate::secp) fn detect() -> Result<Proof, &'static str> {
        if std::arch::is_x86_feature_detected!("avx2") { Ok(Proof(())) } else { Err("the CPU has no AVX2") }
    }
}

/// Four field elements.
#[derive(Clone, Copy)]
pub(crate) struct Avx2([__m256i; 9]);

const LIMB: u64 = (1 << 29) - 1;
const TOP: u64 = (1 << 24) - 1;
/// 2²⁵⁶ = 2³² + 977 modulo p: the second limb gets 8 times, the first 977 times what is above.
const FOLD_LOW: u64 = 977;
/// 2²⁶¹ = 2³⁷ + 977·2⁵: the second limb gets 2⁸ times, the first 31,264 times what is above.
const FOLD_LOW_261: u64 = 977 << 5;

const fn to_limbs(w: &[u64; 4]) -> [u64; 9] {
    [
        w[0] & LIMB,
        w[0] >> 29 & LIMB,
        (w[0] >> 58 | w[1] << 6) & LIMB,
        w[1] >> 23 & LIMB,
        (w[1] >> 52 | w[2] << 12) & LIMB,
        w[2] >> 17 & LIMB,
        (w[2] >> 46 | w[3] << 18) & LIMB,
        w[3] >> 11 & LIMB,
        w[3] >> 40,
    ]
}

/// (k + 1)·p with limbs each at least k times the largest limb, so that a difference is never negative in any limb.
const fn bias(k: u64) -> [u64; 9] {
    let p = to_limbs(&P);
    let mut out = [0; 9];
    let mut i = 0;
    while i < 9 {
        let lent = if i < 8 { (k + 1) << 29 } else { 0 };
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
        let most = k * (LIMB + 1 + (1 << 6));
        assert!(b[0] >= most && b[1] >= most && b[2] >= most && b[8] >= k * (TOP + 1 + (1 << 6)));
        k += 1;
    }
};

#[inline(always)]
fn splat(value: u64) -> __m256i {
    // SAFETY: AVX2; called only where a `Proof` or a value made with one is at hand.
    unsafe { _mm256_set1_epi64x(value as i64) }
}

#[inline(always)]
fn add(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: AVX2, as in `splat`.
    unsafe { _mm256_add_epi64(a, b) }
}

#[inline(always)]
fn and(a: __m256i, mask: u64) -> __m256i {
    // SAFETY: AVX2, as in `splat`.
    unsafe { _mm256_and_si256(a, splat(mask)) }
}

#[inline(always)]
fn shr<const N: i32>(a: __m256i) -> __m256i {
    // SAFETY: AVX2, as in `splat`.
    unsafe { _mm256_srli_epi64::<N>(a) }
}

#[inline(always)]
fn shl<const N: i32>(a: __m256i) -> __m256i {
    // SAFETY: AVX2, as in `splat`.
    unsafe { _mm256_slli_epi64::<N>(a) }
}

/// The product of the low 32 bits.
#[inline(always)]
fn mul32(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: AVX2, as in `splat`.
    unsafe { _mm256_mul_epu32(a, b) }
}

#[inline(always)]
fn or(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: AVX2, as in `splat`.
    unsafe { _mm256_or_si256(a, b) }
}

#[inline(always)]
fn times<const K: u32>(a: __m256i) -> __m256i {
    match K {
        0 => splat(0),
        1 => a,
        2 => shl::<1>(a),
        3 => add(a, shl::<1>(a)),
        4 => shl::<2>(a),
        8 => shl::<3>(a),
        _ => unreachable!("no such factor"),
    }
}

/// Takes what is above 2²⁵⁶ back in at the bottom. `t[8]` must be below 2⁵⁰.
#[inline(always)]
fn fold(t: &mut [__m256i; 9]) {
    let above = shr::<24>(t[8]);
    t[8] = and(t[8], TOP);
    t[0] = add(t[0], mul32(above, splat(FOLD_LOW)));
    t[1] = add(t[1], shl::<3>(above));
}

/// Limbs below 2³⁵ → the form of the module's head. All limbs carry at once, which leaves a little over.
#[inline(always)]
fn settle(mut t: [__m256i; 9]) -> Avx2 {
    fold(&mut t);
    let mut carries = t;
    for i in 0..8 {
        carries[i] = shr::<29>(t[i]);
        t[i] = and(t[i], LIMB);
    }
    for i in 0..8 {
        t[i + 1] = add(t[i + 1], carries[i]);
    }
    Avx2(t)
}

/// Carries from limb to limb: all but the last are strict after it.
#[inline(always)]
fn ripple(t: &mut [__m256i; 9]) {
    for i in 0..8 {
        t[i + 1] = add(t[i + 1], shr::<29>(t[i]));
        t[i] = and(t[i], LIMB);
    }
}

/// Seventeen columns below 2⁶³ → the form of the module's head.
#[inline(always)]
fn reduce(mut t: [__m256i; 17]) -> Avx2 {
    for i in 8..16 {
        t[i + 1] = add(t[i + 1], shr::<29>(t[i]));
        t[i] = and(t[i], LIMB);
    }
    let last = shr::<29>(t[16]);
    t[16] = and(t[16], LIMB);
    // `last`, at 2⁵²², is below 2²²; its share of limb 9 goes round once more.
    let round = shl::<8>(last);
    let low = splat(FOLD_LOW_261);
    let mut out = [t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8]];
    for i in 0..8 {
        out[i] = add(out[i], mul32(t[9 + i], low));
        out[i + 1] = add(out[i + 1], shl::<8>(t[9 + i]));
    }
    out[8] = add(out[8], mul32(last, low));
    out[0] = add(out[0], mul32(round, low));
    out[1] = add(out[1], shl::<8>(round));
    ripple(&mut out);
    fold(&mut out);
    out[1] = add(out[1], shr::<29>(out[0]));
    out[0] = and(out[0], LIMB);
    out[2] = add(out[2], shr::<29>(out[1]));
    out[1] = and(out[1], LIMB);
    Avx2(out)
}

/// The sum of products of limbs, in pairs so that the additions do not wait for one another.
macro_rules! column {
    ($a:ident, $b:ident; $i:literal $j:literal) => { mul32($a[$i], $b[$j]) };
    ($a:ident, $b:ident; $i:literal $j:literal, $k:literal $l:literal) => {
        add(mul32($a[$i], $b[$j]), mul32($a[$k], $b[$l]))
    };
    ($a:ident, $b:ident; $i:literal $j:literal, $k:literal $l:literal, $($more:tt)+) => {
        add(column!($a, $b; $i $j, $k $l), column!($a, $b; $($more)+))
    };
}

/// The columns of a product. Written out, because the compiler does not unroll loops of this shape.
#[inline(always)]
fn columns(a: &[__m256i; 9], b: &[__m256i; 9]) -> [__m256i; 17] {
    [
        column!(a, b; 0 0),
        column!(a, b; 0 1, 1 0),
        column!(a, b; 0 2, 1 1, 2 0),
        column!(a, b; 0 3, 1 2, 2 1, 3 0),
        column!(a, b; 0 4, 1 3, 2 2, 3 1, 4 0),
        column!(a, b; 0 5, 1 4, 2 3, 3 2, 4 1, 5 0),
        column!(a, b; 0 6, 1 5, 2 4, 3 3, 4 2, 5 1, 6 0),
        column!(a, b; 0 7, 1 6, 2 5, 3 4, 4 3, 5 2, 6 1, 7 0),
        column!(a, b; 0 8, 1 7, 2 6, 3 5, 4 4, 5 3, 6 2, 7 1, 8 0),
        column!(a, b; 1 8, 2 7, 3 6, 4 5, 5 4, 6 3, 7 2, 8 1),
        column!(a, b; 2 8, 3 7, 4 6, 5 5, 6 4, 7 3, 8 2),
        column!(a, b; 3 8, 4 7, 5 6, 6 5, 7 4, 8 3),
        column!(a, b; 4 8, 5 7, 6 6, 7 5, 8 4),
        column!(a, b; 5 8, 6 7, 7 6, 8 5),
        column!(a, b; 6 8, 7 7, 8 6),
        column!(a, b; 7 8, 8 7),
        column!(a, b; 8 8),
    ]
}

/// Four words of 64 bits → nine limbs.
#[inline(always)]
fn from_words(w: [__m256i; 4]) -> Avx2 {
    Avx2([
        and(w[0], LIMB),
        and(shr::<29>(w[0]), LIMB),
        and(or(shr::<58>(w[0]), shl::<6>(w[1])), LIMB),
        and(shr::<23>(w[1]), LIMB),
        and(or(shr::<52>(w[1]), shl::<12>(w[2])), LIMB),
        and(shr::<17>(w[2]), LIMB),
        and(or(shr::<46>(w[2]), shl::<18>(w[3])), LIMB),
        and(shr::<11>(w[3]), LIMB),
        shr::<40>(w[3]),
    ])
}

/// The inverse of [`from_words`], after reduction below 2²⁵⁶.
#[inline(always)]
fn to_words(value: &Avx2) -> [__m256i; 4] {
    let mut l = value.0;
    ripple(&mut l);
    // A value of 2²⁵⁶ or more is so by less than 2²⁴⁰: folded once, it is below 2²⁵⁶.
    fold(&mut l);
    ripple(&mut l);
    [
        or(or(l[0], shl::<29>(l[1])), shl::<58>(l[2])),
        or(or(shr::<6>(l[2]), shl::<23>(l[3])), shl::<52>(l[4])),
        or(or(shr::<12>(l[4]), shl::<17>(l[5])), shl::<46>(l[6])),
        or(or(shr::<18>(l[6]), shl::<11>(l[7])), shl::<40>(l[8])),
    ]
}

/// Four rows of four words → four vectors, one a column; its own inverse.
#[inline(always)]
fn transpose(r: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: AVX2, as in `splat`.
    unsafe {
        let (even01, odd01) = (_mm256_unpacklo_epi64(r[0], r[1]), _mm256_unpackhi_epi64(r[0], r[1]));
        let (even23, odd23) = (_mm256_unpacklo_epi64(r[2], r[3]), _mm256_unpackhi_epi64(r[2], r[3]));
        [
            _mm256_permute2x128_si256::<0x20>(even01, even23),
            _mm256_permute2x128_si256::<0x20>(odd01, odd23),
            _mm256_permute2x128_si256::<0x31>(even01, even23),
            _mm256_permute2x128_si256::<0x31>(odd01, odd23),
        ]
    }
}

/// One coordinate of four points.
#[inline(always)]
fn coordinates(values: [&Fe; 4]) -> Avx2 {
    let mut rows = [splat(0); 4];
    for (row, fe) in rows.iter_mut().zip(values) {
        // SAFETY: AVX2, as in `splat`; an `Fe` is 32 readable bytes.
        *row = unsafe { _mm256_loadu_si256((&raw const fe.0).cast()) };
    }
    from_words(transpose(rows))
}

#[inline(always)]
fn rows(value: &Avx2) -> [Fe; 4] {
    let mut out = [Fe::ZERO; 4];
    for (fe, row) in out.iter_mut().zip(transpose(to_words(value))) {
        // SAFETY: AVX2, as in `splat`; an `Fe` is 32 writable bytes.
        unsafe { _mm256_storeu_si256((&raw mut fe.0).cast(), row) };
    }
    out
}

/// Low four bits of a mask as a vector of ones and zeros.
#[inline(always)]
fn mask_vector(mask: u8) -> __m256i {
    // SAFETY: AVX2, as in `splat`.
    unsafe {
        let bits = _mm256_setr_epi64x(1, 2, 4, 8);
        _mm256_cmpeq_epi64(_mm256_and_si256(splat(mask.into()), bits), bits)
    }
}

/// One of the functions of a size that pays for a call: inlined everywhere they would not fit the instruction cache.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn mul(a: &Avx2, b: &Avx2) -> Avx2 {
    reduce(columns(&a.0, &b.0))
}

#[target_feature(enable = "avx2")]
#[inline(never)]
fn mul_add(a: &Avx2, b: &Avx2, c: &Avx2, d: &Avx2) -> Avx2 {
    let (mut t, other) = (columns(&a.0, &b.0), columns(&c.0, &d.0));
    for (t, other) in t.iter_mut().zip(other) {
        *t = add(*t, other);
    }
    reduce(t)
}

#[inline(always)]
fn square_inline(a: &Avx2) -> Avx2 {
    let a = &a.0;
    let mut twice = *a;
    for limb in &mut twice {
        *limb = times::<2>(*limb);
    }
    reduce([
        mul32(a[0], a[0]),
        column!(twice, a; 0 1),
        add(column!(twice, a; 0 2), mul32(a[1], a[1])),
        column!(twice, a; 0 3, 1 2),
        add(column!(twice, a; 0 4, 1 3), mul32(a[2], a[2])),
        column!(twice, a; 0 5, 1 4, 2 3),
        add(column!(twice, a; 0 6, 1 5, 2 4), mul32(a[3], a[3])),
        column!(twice, a; 0 7, 1 6, 2 5, 3 4),
        add(column!(twice, a; 0 8, 1 7, 2 6, 3 5), mul32(a[4], a[4])),
        column!(twice, a; 1 8, 2 7, 3 6, 4 5),
        add(column!(twice, a; 2 8, 3 7, 4 6), mul32(a[5], a[5])),
        column!(twice, a; 3 8, 4 7, 5 6),
        add(column!(twice, a; 4 8, 5 7), mul32(a[6], a[6])),
        column!(twice, a; 5 8, 6 7),
        add(column!(twice, a; 6 8), mul32(a[7], a[7])),
        column!(twice, a; 7 8),
        mul32(a[8], a[8]),
    ])
}

#[target_feature(enable = "avx2")]
#[inline(never)]
fn square(a: &Avx2) -> Avx2 {
    square_inline(a)
}

impl Lanes for Avx2 {
    type Proof = Proof;
    const COUNT: usize = 4;

    #[inline(always)]
    fn splat(_: Proof, value: &Fe) -> Self {
        coordinates([value; 4])
    }

    #[inline(always)]
    fn load(_: Proof, values: &[Fe; LANES_MAX]) -> Self {
        coordinates([&values[0], &values[1], &values[2], &values[3]])
    }

    #[inline(always)]
    fn store(&self) -> [Fe; LANES_MAX] {
        let mut out = [Fe::ZERO; LANES_MAX];
        out[..4].copy_from_slice(&rows(self));
        out
    }

    #[inline(always)]
    fn gather(_: Proof, points: &[Affine], index: &Index) -> (Self, Self) {
        let p = [0, 1, 2, 3].map(|lane: usize| &points[index[lane] as usize]);
        (coordinates(p.map(|p| &p.x)), coordinates(p.map(|p| &p.y)))
    }

    #[inline(always)]
    fn gather_x(_: Proof, points: &[Affine], index: &Index) -> Self {
        coordinates([0, 1, 2, 3].map(|lane: usize| &points[index[lane] as usize].x))
    }

    #[inline(always)]
    fn scatter(x: &Self, y: &Self, points: &mut [Affine], index: &Index) {
        let (x, y) = (rows(x), rows(y));
        for lane in 0..4 {
            points[index[lane] as usize] = Affine { x: x[lane], y: y[lane] };
        }
    }

    #[inline(always)]
    fn mul(&self, other: &Self) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { mul(self, other) }
    }

    #[inline(always)]
    fn square(&self) -> Self {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { square(self) }
    }

    #[inline(always)]
    fn mul_add(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        // SAFETY: `a` exists, so the CPU has AVX2.
        unsafe { mul_add(a, b, c, d) }
    }

    #[inline(always)]
    fn combine<const J: u32, const K: u32>(a: &Self, b: &Self) -> Self {
        let mut t = a.0;
        let bias = const { bias(K as u64) };
        for i in 0..9 {
            t[i] = times::<J>(a.0[i]);
            if K > 0 {
                // SAFETY: AVX2, as in `splat`.
                t[i] = unsafe { _mm256_sub_epi64(add(t[i], splat(bias[i])), times::<K>(b.0[i])) };
            }
        }
        settle(t)
    }

    #[inline(always)]
    fn sub_sub_double(a: &Self, b: &Self, c: &Self) -> Self {
        let mut t = a.0;
        let bias = const { bias(3) };
        for i in 0..9 {
            let minus = add(b.0[i], times::<2>(c.0[i]));
            // SAFETY: AVX2, as in `splat`.
            t[i] = unsafe { _mm256_sub_epi64(add(t[i], splat(bias[i])), minus) };
        }
        settle(t)
    }

    #[inline(always)]
    fn negate_if(&self, mask: u8) -> Self {
        Self::select(mask, &Self::combine::<0, 1>(self, self), self)
    }

    #[inline(always)]
    fn select(mask: u8, yes: &Self, no: &Self) -> Self {
        let mask = mask_vector(mask);
        let mut t = no.0;
        for i in 0..9 {
            // SAFETY: AVX2, as in `splat`.
            t[i] = unsafe { _mm256_blendv_epi8(no.0[i], yes.0[i], mask) };
        }
        Avx2(t)
    }
}
