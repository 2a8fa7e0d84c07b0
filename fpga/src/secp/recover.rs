//! Recovery of public keys, as many side by side as there are lanes: Q = (s·R − h·G)/r.
//!
//! R is lifted from r by a square root; s/r is split along the endomorphism into two scalars of 128 bits, −h/r into two
//! halves; all four run through signed windows over one chain of doublings. The sum starts from a secret random point,
//! so that the incomplete addition formula meets no exception that a client could have prepared. If it meets one all the
//! same, Z becomes 0 and stays so: such a signature is answered [`Outcome::Unsure`] and recovered by exact code.

use super::affine::{Scratch, Sum, Term, zero_lanes};
use super::field::Fe;
use super::lanes::{Affine, Index, LANES_MAX, Lanes, invert, sqrt};
use super::point::{BETA, G, Jacobian, MINUS_SEVEN, double_times, multiples, multiply};
use super::scalar::{Half, Scalar, recode, window_count};
use crate::RecoverRequest;
use alloy_primitives::U256;

/// Signatures that share inversions.
pub(super) const BLOCK: usize = 64;
/// Bits of a window over R.
const R_BITS: usize = 5;
const R_WINDOWS: usize = window_count(R_BITS);
/// Multiples of R in a table: 1 to 16.
const R_ENTRIES: usize = 1 << (R_BITS - 1);
/// Bits of a window over G.
const G_BITS: usize = 13;
const G_WINDOWS: usize = window_count(G_BITS);
const G_ENTRIES: usize = 1 << (G_BITS - 1);
/// Doublings below the first addition.
const DOUBLINGS: usize = R_BITS * (R_WINDOWS - 1);
const _: () = assert!(G_BITS * (G_WINDOWS - 1) <= DOUBLINGS, "G's windows begin no higher than R's");
const _: () = assert!(BLOCK.is_multiple_of(LANES_MAX));

/// What a recovery found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// The key, in canonical coordinates.
    Key(Affine),
    /// r is no x of a point.
    NoKey,
    /// The key is infinity, or a step met an exception: only exact code can say.
    Unsure,
}

/// Constants of the engine: made once, shared.
pub(crate) struct Tables {
    /// Multiples of G from 1 on, then multiples of 2¹²⁸·G.
    g: Vec<Affine>,
    /// Where the sum starts, and what takes it out again.
    blind: [Affine; 2],
}

impl Tables {
    /// `secret` must be unknown to clients.
    pub(crate) fn new(secret: &U256) -> Tables {
        let mut secret = Scalar::from_u256(secret);
        if secret.is_zero() {
            secret = Scalar::ONE;
        }
        let high = double_times(&G, 128);
        let blind = multiply(&G, &secret);
        let points = Jacobian::all_to_affine(&[high, blind]);
        let out = Jacobian::all_to_affine(&[double_times(&points[1], DOUBLINGS)])[0].neg();
        let mut g = multiples(&G, G_ENTRIES);
        g.extend(multiples(&points[0], G_ENTRIES));
        Tables { g, blind: [points[1], Affine { x: out.x, y: out.y.canonical() }] }
    }
}

/// One place of the sum in each lane.
#[derive(Clone, Copy)]
struct Lane<F> {
    x: F,
    y: F,
    z: F,
}

impl<F: Lanes> Lane<F> {
    #[inline(always)]
    fn double(&mut self) {
        let xx = self.x.square();
        let yy = self.y.square();
        let yz = self.y.mul(&self.z);
        let s = self.x.mul(&yy);
        let y4 = yy.square();
        let m = F::combine::<3, 0>(&xx, &xx);
        self.z = F::combine::<2, 0>(&yz, &yz);
        self.x = F::combine::<1, 8>(&m.square(), &s);
        let t = F::combine::<4, 1>(&s, &self.x);
        self.y = F::combine::<1, 8>(&m.mul(&t), &y4);
    }

    /// Adds (x, y) except in the lanes of `keep`. Z becomes 0 where the points are equal, opposite, or Z was 0.
    #[inline(always)]
    fn add(&mut self, x: &F, y: &F, keep: u8) {
        let zz = self.z.square();
        let zzz = zz.mul(&self.z);
        let h = x.mul(&zz).sub(&self.x);
        let r = y.mul(&zzz).sub(&self.y);
        let hh = h.square();
        let v = self.x.mul(&hh);
        let hhh = hh.mul(&h);
        let z3 = self.z.mul(&h);
        let x3 = F::sub_sub_double(&r.square(), &hhh, &v);
        let minus_y = F::combine::<0, 1>(&self.y, &self.y);
        let y3 = F::mul_add(&r, &v.sub(&x3), &minus_y, &hhh);
        self.x = F::select(keep, &self.x, &x3);
        self.y = F::select(keep, &self.y, &y3);
        self.z = F::select(keep, &self.z, &z3);
    }
}

/// Buffers of a block.
pub(crate) struct Recovery<F> {
    /// The table of signature i from `i·R_ENTRIES` on; then the tables times λ, in the same order.
    points: Vec<Affine>,
    scratch: Scratch<F>,
    sums: Vec<Sum>,
    inverses: Vec<Scalar>,
    before: Vec<Scalar>,
    /// Digits of the two parts of s/r, window by window.
    r_digits: [[[i16; BLOCK]; R_WINDOWS]; 2],
    /// Digits of the two halves of −h/r, window by window.
    g_digits: [[[i16; BLOCK]; G_WINDOWS]; 2],
    places: Vec<Lane<F>>,
}

impl<F: Lanes> Recovery<F> {
    pub(super) fn new(proof: F::Proof) -> Self {
        let one = F::splat(proof, &Fe::ONE);
        Recovery {
            points: vec![Affine::default(); 2 * BLOCK * R_ENTRIES],
            scratch: Scratch::new(proof),
            sums: vec![],
            inverses: vec![],
            before: vec![],
            r_digits: [[[0; BLOCK]; R_WINDOWS]; 2],
            g_digits: [[[0; BLOCK]; G_WINDOWS]; 2],
            places: vec![Lane { x: one, y: one, z: one }; BLOCK / F::COUNT],
        }
    }

    /// Recovers up to [`BLOCK`] signatures, whose ranges have been checked, and appends as many outcomes.
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        proof: F::Proof,
        tables: &Tables,
        requests: &[RecoverRequest],
        out: &mut Vec<Outcome>,
    ) {
        assert!(requests.len() <= BLOCK);
        if requests.is_empty() {
            return;
        }
        let padded = requests.len().next_multiple_of(F::COUNT);
        self.scalars(requests);
        let mut found = [true; BLOCK];
        let mut first = [0; BLOCK];
        for (i, first) in first.iter_mut().enumerate() {
            *first = i * R_ENTRIES;
        }
        for i in 0..padded {
            let request = requests.get(i).unwrap_or(&requests[0]);
            self.points[first[i]].x = Fe::from_u256(&request.r);
        }
        lift::<F>(proof, &mut self.points, &first[..padded], &mut found);
        for i in 0..padded {
            let request = requests.get(i).unwrap_or(&requests[0]);
            set_parity(&mut self.points[first[i]], request.parity);
            if !found[i] {
                // Any point will do to keep the lane busy.
                self.points[first[i]] = G;
            }
        }
        self.tables(proof, padded);
        for q in 0..padded / F::COUNT {
            self.places[q] = self.multiply(proof, tables, q * F::COUNT);
        }
        self.finish(proof, padded / F::COUNT, &found, requests.len(), out);
    }

    /// s/r and −h/r of each signature, in digits.
    #[inline(always)]
    fn scalars(&mut self, requests: &[RecoverRequest]) {
        self.inverses.clear();
        self.inverses.extend(requests.iter().map(|q| Scalar::from_u256(&q.r)));
        Scalar::invert_all(&mut self.inverses, &mut self.before);
        let mut digits = [0; if R_WINDOWS > G_WINDOWS { R_WINDOWS } else { G_WINDOWS }];
        for (i, (request, inverse)) in requests.iter().zip(&self.inverses).enumerate() {
            let by_r = Scalar::from_u256(&request.s).mul(inverse).split();
            for (part, windows) in [by_r.0, by_r.1].into_iter().zip(&mut self.r_digits) {
                recode(part, R_BITS, &mut digits[..R_WINDOWS]);
                for (window, digit) in windows.iter_mut().zip(&digits) {
                    window[i] = *digit;
                }
            }
            let hash = U256::from_be_bytes(request.hash.0);
            let by_g = Scalar::from_u256(&hash).mul(inverse).neg().halves();
            for (part, windows) in [by_g.0, by_g.1].into_iter().zip(&mut self.g_digits) {
                recode(Half { magnitude: part, negative: false }, G_BITS, &mut digits[..G_WINDOWS]);
                for (window, digit) in windows.iter_mut().zip(&digits) {
                    window[i] = *digit;
                }
            }
        }
    }

    /// Fills the tables of `count` signatures from their first entries. The multiples 1 to 16 of a point of prime order
    /// are different and no two are opposite, so no sum is exceptional.
    #[inline(always)]
    fn tables(&mut self, proof: F::Proof, count: usize) {
        self.double_first(proof, count);
        let mut infinities = vec![];
        // Each range of multiples from those below it: few rounds, since each needs an inversion.
        for (from, to) in [(3, 3), (4, 5), (6, 9), (10, R_ENTRIES)] {
            self.sums.clear();
            for i in 0..count {
                for multiple in from..=to {
                    let base = i * R_ENTRIES;
                    let (a, b) = (from - 1, multiple - (from - 1));
                    self.sums.push(Sum {
                        a: Term::new(base + a - 1, false),
                        b: Term::new(base + b - 1, false),
                        to: (base + multiple - 1) as u32,
                    });
                }
            }
            self.scratch.add_all(proof, &mut self.points, &self.sums, &mut infinities);
        }
        debug_assert!(infinities.is_empty());
        let beta = F::splat(proof, &BETA);
        let half = BLOCK * R_ENTRIES;
        for start in (0..count * R_ENTRIES).step_by(F::COUNT) {
            let (from, to) = (consecutive(start), consecutive(half + start));
            let (x, y) = F::gather(proof, &self.points, &from);
            F::scatter(&x.mul(&beta), &y, &mut self.points, &to);
        }
    }

    /// Doubles the first entry of each table into the second.
    #[inline(always)]
    fn double_first(&mut self, proof: F::Proof, count: usize) {
        let mut product = F::splat(proof, &Fe::ONE);
        let mut before = [product; BLOCK];
        let vectors = count / F::COUNT;
        for q in 0..vectors {
            let (_, y) = F::gather(proof, &self.points, &strided(q * F::COUNT, 0));
            before[q] = product;
            product = product.mul(&y);
        }
        // y is never 0: −7 is no cube.
        let Some(mut inverse) = invert(proof, &product) else { unreachable!("a point with y = 0") };
        for q in (0..vectors).rev() {
            let (x, y) = F::gather(proof, &self.points, &strided(q * F::COUNT, 0));
            let own = inverse.mul(&before[q]);
            inverse = inverse.mul(&y);
            let xx = x.square();
            let half = F::splat(proof, &HALF);
            let slope = F::combine::<3, 0>(&xx, &xx).mul(&own).mul(&half);
            let x2 = F::combine::<1, 2>(&slope.square(), &x);
            let y2 = slope.mul(&x.sub(&x2)).sub(&y);
            F::scatter(&x2, &y2, &mut self.points, &strided(q * F::COUNT, 1));
        }
    }

    /// The sums of signatures `first` to `first + COUNT`.
    #[inline(always)]
    fn multiply(&self, proof: F::Proof, tables: &Tables, first: usize) -> Lane<F> {
        let one = F::splat(proof, &Fe::ONE);
        let (x, y) = F::gather(proof, &tables.blind, &[0; LANES_MAX]);
        let mut sum = Lane { x, y, z: one };
        let mut above = DOUBLINGS;
        loop {
            if above.is_multiple_of(R_BITS) {
                for part in 0..2 {
                    let digits = &self.r_digits[part][above / R_BITS];
                    let base = part * BLOCK * R_ENTRIES + first * R_ENTRIES;
                    add_digits(proof, &mut sum, &self.points[base..], R_ENTRIES, digits, first);
                }
            }
            if above.is_multiple_of(G_BITS) && above / G_BITS < G_WINDOWS {
                for part in 0..2 {
                    let digits = &self.g_digits[part][above / G_BITS];
                    add_digits(proof, &mut sum, &tables.g[part * G_ENTRIES..], 0, digits, first);
                }
            }
            if above == 0 {
                break;
            }
            sum.double();
            above -= 1;
        }
        let (x, y) = F::gather(proof, &tables.blind, &[1; LANES_MAX]);
        sum.add(&x, &y, 0);
        sum
    }

    /// To affine, with one inversion for the block.
    #[inline(always)]
    fn finish(
        &mut self,
        proof: F::Proof,
        vectors: usize,
        found: &[bool; BLOCK],
        count: usize,
        out: &mut Vec<Outcome>,
    ) {
        let one = F::splat(proof, &Fe::ONE);
        let mut before = [one; BLOCK];
        let mut product = one;
        for q in 0..vectors {
            before[q] = product;
            product = product.mul(&self.places[q].z);
        }
        let mut unsure = [0u8; BLOCK];
        let mut inverse = match invert(proof, &product) {
            Some(inverse) => inverse,
            None => {
                product = one;
                for q in 0..vectors {
                    unsure[q] = zero_lanes(&self.places[q].z);
                    self.places[q].z = F::select(unsure[q], &one, &self.places[q].z);
                    before[q] = product;
                    product = product.mul(&self.places[q].z);
                }
                match invert(proof, &product) {
                    Some(inverse) => inverse,
                    None => unreachable!("all zeros have been taken out"),
                }
            }
        };
        let start = out.len();
        out.resize(start + count, Outcome::NoKey);
        for q in (0..vectors).rev() {
            let place = self.places[q];
            let own = inverse.mul(&before[q]);
            inverse = inverse.mul(&place.z);
            let square = own.square();
            let xs = place.x.mul(&square).store();
            let ys = place.y.mul(&square.mul(&own)).store();
            for lane in 0..F::COUNT {
                let i = q * F::COUNT + lane;
                if i >= count || !found[i] {
                    continue;
                }
                out[start + i] = if unsure[q] >> lane & 1 == 1 {
                    Outcome::Unsure
                } else {
                    Outcome::Key(Affine { x: xs[lane].canonical(), y: ys[lane].canonical() })
                };
            }
        }
    }
}

/// 1/2 modulo p.
const HALF: Fe = Fe::from_words([0xffff_ffff_7fff_fe18, u64::MAX, u64::MAX, u64::MAX >> 1]);

/// Adds digit·table to each lane, where lane j's table begins `stride`·j into `points`.
#[inline(always)]
fn add_digits<F: Lanes>(
    proof: F::Proof,
    sum: &mut Lane<F>,
    points: &[Affine],
    stride: usize,
    digits: &[i16; BLOCK],
    first: usize,
) {
    let mut index: Index = [0; LANES_MAX];
    let (mut negative, mut zero) = (0u8, 0u8);
    for lane in 0..F::COUNT {
        let digit = digits[first + lane];
        negative |= u8::from(digit < 0) << lane;
        zero |= u8::from(digit == 0) << lane;
        index[lane] = (stride * lane) as u32 + u32::from(digit.unsigned_abs().saturating_sub(1));
    }
    let (x, y) = F::gather(proof, points, &index);
    sum.add(&x, &y.negate_if(negative), zero);
}

#[inline(always)]
fn consecutive(start: usize) -> Index {
    let mut index = [0; LANES_MAX];
    for (lane, index) in index.iter_mut().enumerate() {
        *index = (start + lane) as u32;
    }
    index
}

#[inline(always)]
fn strided(first: usize, entry: usize) -> Index {
    let mut index = [0; LANES_MAX];
    for (lane, index) in index.iter_mut().enumerate() {
        *index = ((first + lane) * R_ENTRIES + entry) as u32;
    }
    index
}

/// Gives each of the points of `places` (a multiple of the lane count) a y that goes with its x; `found` says whether
/// there is one. Which of the two is for [`set_parity`].
#[inline(always)]
pub(super) fn lift<F: Lanes>(proof: F::Proof, points: &mut [Affine], places: &[usize], found: &mut [bool]) {
    let minus_seven = F::splat(proof, &Fe::from_u256(&MINUS_SEVEN));
    for (group, found) in places.chunks(F::COUNT).zip(found.chunks_mut(F::COUNT)) {
        let mut index: Index = [0; LANES_MAX];
        for (index, place) in index.iter_mut().zip(group.iter().chain(std::iter::repeat(&group[0]))) {
            *index = *place as u32;
        }
        let x = F::gather_x(proof, points, &index);
        let right = x.square().mul(&x).sub(&minus_seven);
        let y = sqrt(&right);
        let wrong = y.square().sub(&right).store();
        let ys = y.store();
        for (lane, (place, found)) in group.iter().zip(found).enumerate() {
            *found = wrong[lane].is_zero();
            points[*place].y = ys[lane];
        }
    }
}

/// Chooses the y with the parity wanted, in its canonical form.
#[inline(always)]
pub(super) fn set_parity(point: &mut Affine, parity: u8) {
    point.y = point.y.canonical();
    if point.y.is_odd() != (parity == 1) {
        point.y = point.y.neg().canonical();
    }
}
