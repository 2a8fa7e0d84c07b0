//! Many additions of affine points at once: the slopes' denominators are inverted together, so that an addition costs
//! six products instead of the eleven to sixteen of projective coordinates (Montgomery's trick).

use super::field::Fe;
use super::lanes::{Affine, Index, LANES_MAX, Lanes, invert};
use super::point::add_exact;

/// Vectors of additions that share an inversion.
const VECTORS_MAX: usize = 128;

/// A point of an arena, or its negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term(u32);

impl Term {
    #[inline(always)]
    pub(super) fn new(index: usize, negative: bool) -> Term {
        Term((index as u32) << 1 | u32::from(negative))
    }

    #[inline(always)]
    pub(super) fn index(self) -> u32 {
        self.0 >> 1
    }

    #[inline(always)]
    fn negative(self) -> u8 {
        (self.0 & 1) as u8
    }

    /// The point itself.
    pub(super) fn point(self, points: &[Affine]) -> Affine {
        let point = points[self.index() as usize];
        if self.negative() == 1 { point.neg() } else { point }
    }
}

/// `points[to] = a + b`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub(super) a: Term,
    pub(super) b: Term,
    pub(super) to: u32,
}

/// Buffers, kept between calls.
pub(super) struct Scratch<F> {
    denominators: Vec<F>,
    before: Vec<F>,
    /// Results of additions with equal x, with their places.
    exceptions: Vec<(u32, Affine)>,
}

/// What one vector of additions reads and writes. Unused lanes repeat the first.
struct Row {
    a: Index,
    b: Index,
    to: Index,
    negative_a: u8,
    negative_b: u8,
}

#[inline(always)]
fn row<F: Lanes>(sums: &[Sum]) -> Row {
    let mut row =
        Row { a: [0; LANES_MAX], b: [0; LANES_MAX], to: [0; LANES_MAX], negative_a: 0, negative_b: 0 };
    for lane in 0..F::COUNT {
        let sum = if lane < sums.len() { sums[lane] } else { sums[0] };
        row.a[lane] = sum.a.index();
        row.b[lane] = sum.b.index();
        row.to[lane] = sum.to;
        row.negative_a |= sum.a.negative() << lane;
        row.negative_b |= sum.b.negative() << lane;
    }
    row
}

/// Bits of the lanes that are zero modulo p.
#[inline(always)]
pub(super) fn zero_lanes<F: Lanes>(value: &F) -> u8 {
    let values = value.store();
    let mut mask = 0;
    for (lane, value) in values[..F::COUNT].iter().enumerate() {
        mask |= u8::from(value.is_zero()) << lane;
    }
    mask
}

impl<F: Lanes> Scratch<F> {
    pub(super) fn new(proof: F::Proof) -> Self {
        let filler = vec![F::splat(proof, &Fe::ONE); VECTORS_MAX];
        Scratch { denominators: filler.clone(), before: filler, exceptions: vec![] }
    }

    /// Does all the sums, none of which may read what another writes. Those that come to infinity are left out, and
    /// their `to` is appended to `infinities`. Exact for equal and opposite points.
    #[inline(always)]
    pub(super) fn add_all(
        &mut self,
        proof: F::Proof,
        points: &mut [Affine],
        sums: &[Sum],
        infinities: &mut Vec<u32>,
    ) {
        for chunk in sums.chunks(VECTORS_MAX * F::COUNT) {
            self.add_chunk(proof, points, chunk, infinities);
        }
    }

    #[inline(always)]
    fn add_chunk(&mut self, proof: F::Proof, points: &mut [Affine], sums: &[Sum], infinities: &mut Vec<u32>) {
        let count = sums.len().div_ceil(F::COUNT);
        let one = F::splat(proof, &Fe::ONE);
        // Two chains of products: one alone would wait for itself.
        let mut product = [one, one];
        for (q, group) in sums.chunks(F::COUNT).enumerate() {
            let row = row::<F>(group);
            let denominator = F::gather_x(proof, points, &row.b).sub(&F::gather_x(proof, points, &row.a));
            self.denominators[q] = denominator;
            self.before[q] = product[q & 1];
            product[q & 1] = product[q & 1].mul(&denominator);
        }
        let inverse = match invert(proof, &product[0].mul(&product[1])) {
            Some(inverse) => inverse,
            None => {
                product = self.set_exceptions_aside(proof, points, sums, infinities);
                match invert(proof, &product[0].mul(&product[1])) {
                    Some(inverse) => inverse,
                    None => unreachable!("all zeros have been taken out"),
                }
            }
        };
        let mut inverse = [inverse.mul(&product[1]), inverse.mul(&product[0])];
        for q in (0..count).rev() {
            let group = &sums[q * F::COUNT..sums.len().min((q + 1) * F::COUNT)];
            let row = row::<F>(group);
            let own = inverse[q & 1].mul(&self.before[q]);
            inverse[q & 1] = inverse[q & 1].mul(&self.denominators[q]);
            let (xa, mut ya) = F::gather(proof, points, &row.a);
            let (xb, mut yb) = F::gather(proof, points, &row.b);
            if row.negative_a != 0 {
                ya = ya.negate_if(row.negative_a);
            }
            if row.negative_b != 0 {
                yb = yb.negate_if(row.negative_b);
            }
            let slope = yb.sub(&ya).mul(&own);
            let x = F::combine::<1, 1>(&slope.square().sub(&xa), &xb);
            let y = slope.mul(&xa.sub(&x)).sub(&ya);
            F::scatter(&x, &y, points, &row.to);
        }
        for (to, point) in self.exceptions.drain(..) {
            points[to as usize] = point;
        }
    }

    /// Computes the sums with equal x one by one, puts 1 in the place of their denominators, and answers the two
    /// products anew.
    #[inline(never)]
    fn set_exceptions_aside(
        &mut self,
        proof: F::Proof,
        points: &[Affine],
        sums: &[Sum],
        infinities: &mut Vec<u32>,
    ) -> [F; 2] {
        let one = F::splat(proof, &Fe::ONE);
        let mut product = [one, one];
        for (q, group) in sums.chunks(F::COUNT).enumerate() {
            let zeros = zero_lanes(&self.denominators[q]);
            for (lane, sum) in group.iter().enumerate().filter(|(lane, _)| zeros >> lane & 1 == 1) {
                debug_assert!(lane < F::COUNT);
                match add_exact(&sum.a.point(points), &sum.b.point(points)) {
                    Some(point) => self.exceptions.push((sum.to, point)),
                    None => infinities.push(sum.to),
                }
            }
            self.denominators[q] = F::select(zeros, &one, &self.denominators[q]);
            self.before[q] = product[q & 1];
            product[q & 1] = product[q & 1].mul(&self.denominators[q]);
        }
        product
    }
}
