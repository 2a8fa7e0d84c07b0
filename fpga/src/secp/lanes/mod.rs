//! Several field elements side by side, one in each 64-bit lane of a row of vectors: the only part of the curve
//! arithmetic that differs from one instruction set to the next. Everything above is written once, over [`Lanes`].
//!
//! A value of a lane type, and the [`Lanes::Proof`] needed to make one, exist only where the CPU has the instructions;
//! that is why the methods are safe to call. They are fast only when they are inlined into a function that enables the
//! instructions, hence `#[inline(always)]` on everything between such a function and here.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod ifma;

use super::field::Fe;

/// Lanes of the widest implementation.
pub(super) const LANES_MAX: usize = 8;

/// One row of indices, the first [`Lanes::COUNT`] of which count.
pub(super) type Index = [u32; LANES_MAX];

/// A point of the curve other than infinity, one cache line. Coordinates are any representatives below 2²⁵⁶.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Affine {
    pub(crate) x: Fe,
    pub(crate) y: Fe,
}

/// [`Lanes::COUNT`] field elements. Every operation takes what any operation gave: there are no magnitudes to keep.
pub(crate) trait Lanes: Copy {
    /// Shows that the CPU has the instructions.
    type Proof: Copy;
    /// How many elements; at most [`LANES_MAX`].
    const COUNT: usize;

    /// The same element in each lane.
    fn splat(proof: Self::Proof, value: &Fe) -> Self;
    /// `values[lane]` in each lane; there must be at least `COUNT`.
    fn load(proof: Self::Proof, values: &[Fe; LANES_MAX]) -> Self;
    /// The inverse of `load`; representatives are below 2²⁵⁶.
    fn store(&self) -> [Fe; LANES_MAX];
    /// x and y of `points[index[lane]]`.
    fn gather(proof: Self::Proof, points: &[Affine], index: &Index) -> (Self, Self);
    /// x of `points[index[lane]]`.
    fn gather_x(proof: Self::Proof, points: &[Affine], index: &Index) -> Self;
    /// `points[index[lane]] = (x, y)`, lane by lane in ascending order.
    fn scatter(x: &Self, y: &Self, points: &mut [Affine], index: &Index);

    /// self · other
    fn mul(&self, other: &Self) -> Self;
    /// self²
    fn square(&self) -> Self;
    /// a·b + c·d, reduced once.
    fn mul_add(a: &Self, b: &Self, c: &Self, d: &Self) -> Self;
    /// J·a − K·b, for J and K among 0, 1, 2, 3, 4, 8.
    fn combine<const J: u32, const K: u32>(a: &Self, b: &Self) -> Self;
    /// a − b − 2c
    fn sub_sub_double(a: &Self, b: &Self, c: &Self) -> Self;
    /// Negates the lanes whose bit of `mask` is set.
    fn negate_if(&self, mask: u8) -> Self;
    /// `yes` in the lanes whose bit of `mask` is set, `no` in the others.
    fn select(mask: u8, yes: &Self, no: &Self) -> Self;

    /// self − other
    #[inline(always)]
    fn sub(&self, other: &Self) -> Self {
        Self::combine::<1, 1>(self, other)
    }
}

/// Squares `count` times.
#[inline(always)]
pub(super) fn square_times<F: Lanes>(value: &F, count: usize) -> F {
    let mut value = *value;
    for _ in 0..count {
        value = value.square();
    }
    value
}

/// value^((p+1)/4): a square root where there is one. The exponent has runs of 223, 22 and 2 ones, built up by doubling
/// runs.
#[inline(always)]
pub(super) fn sqrt<F: Lanes>(value: &F) -> F {
    let run2 = value.square().mul(value);
    let run3 = run2.square().mul(value);
    let run6 = square_times(&run3, 3).mul(&run3);
    let run9 = square_times(&run6, 3).mul(&run3);
    let run11 = square_times(&run9, 2).mul(&run2);
    let run22 = square_times(&run11, 11).mul(&run11);
    let run44 = square_times(&run22, 22).mul(&run22);
    let run88 = square_times(&run44, 44).mul(&run44);
    let run176 = square_times(&run88, 88).mul(&run88);
    let run220 = square_times(&run176, 44).mul(&run44);
    let run223 = square_times(&run220, 3).mul(&run3);
    let t = square_times(&run223, 23).mul(&run22);
    square_times(&square_times(&t, 6).mul(&run2), 2)
}

/// Inverts all lanes with one scalar inversion. `None` when one of them is zero.
#[inline(always)]
pub(super) fn invert<F: Lanes>(proof: F::Proof, value: &F) -> Option<F> {
    let mut values = value.store();
    let mut before = [Fe::ONE; LANES_MAX];
    let mut product = Fe::ONE;
    for lane in 0..F::COUNT {
        before[lane] = product;
        product = product.mul(&values[lane]);
    }
    if product.is_zero() {
        return None;
    }
    let mut inverse = product.invert();
    for lane in (0..F::COUNT).rev() {
        let own = inverse.mul(&before[lane]);
        inverse = inverse.mul(&values[lane]);
        values[lane] = own;
    }
    Some(F::load(proof, &values))
}
