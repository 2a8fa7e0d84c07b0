//! One point at a time, exact in every case: for tables, for the last steps of a sum, and for what lanes leave over.

use super::field::Fe;
use super::lanes::Affine;
use super::scalar::Scalar;
use alloy_primitives::{U256, uint};

/// The generator (SEC 2, section 2.4.1).
pub(super) const G: Affine = Affine {
    x: Fe::from_words([
        0x59f2_815b_16f8_1798,
        0x029b_fcdb_2dce_28d9,
        0x55a0_6295_ce87_0b07,
        0x79be_667e_f9dc_bbac,
    ]),
    y: Fe::from_words([
        0x9c47_d08f_fb10_d4b8,
        0xfd17_b448_a685_5419,
        0x5da4_fbfc_0e11_08a8,
        0x483a_da77_26a3_c465,
    ]),
};

/// λ·(x, y) = (β·x, y).
pub(super) const BETA: Fe = Fe::from_words([
    0xc139_6c28_7195_01ee,
    0x9cf0_4975_12f5_8995,
    0x6e64_479e_ac34_34e9,
    0x7ae9_6a2b_657c_0710,
]);

/// −7: y² = x³ − MINUS_SEVEN.
pub(super) const MINUS_SEVEN: U256 =
    uint!(0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc28_U256);

impl Affine {
    pub(crate) fn neg(&self) -> Affine {
        Affine { x: self.x, y: self.y.neg() }
    }

    /// Whether y² = x³ + 7, and both are canonical.
    pub(crate) fn is_on_curve(&self) -> bool {
        let right = self.x.square().mul(&self.x).sub(&Fe::from_u256(&MINUS_SEVEN));
        self.x.canonical().0 == self.x.0 && self.y.canonical().0 == self.y.0 && self.y.square().equals(&right)
    }

    /// x ‖ y, big-endian.
    pub(crate) fn to_bytes(self) -> [u8; 64] {
        let mut out = [0; 64];
        out[..32].copy_from_slice(&self.x.to_bytes());
        out[32..].copy_from_slice(&self.y.to_bytes());
        out
    }

    /// The inverse of `to_bytes`; not checked.
    pub(crate) fn from_bytes(bytes: &[u8; 64]) -> Affine {
        let coordinate = |bytes: &[u8]| Fe::from_u256(&U256::from_be_slice(bytes));
        Affine { x: coordinate(&bytes[..32]), y: coordinate(&bytes[32..]) }
    }
}

/// A point as (X/Z², Y/Z³); infinity has Z = 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jacobian {
    x: Fe,
    y: Fe,
    z: Fe,
}

impl From<Affine> for Jacobian {
    fn from(point: Affine) -> Self {
        Jacobian { x: point.x, y: point.y, z: Fe::ONE }
    }
}

impl Jacobian {
    pub(crate) const INFINITY: Jacobian = Jacobian { x: Fe::ONE, y: Fe::ONE, z: Fe::ZERO };

    pub(crate) fn is_infinity(&self) -> bool {
        self.z.is_zero()
    }

    pub(crate) fn double(&self) -> Jacobian {
        // No point has y = 0 (−7 is no cube), so only infinity doubles to infinity, which Z = 0 does by itself.
        let xx = self.x.square();
        let yy = self.y.square();
        let s = self.x.mul(&yy).double().double();
        let m = xx.double().add(&xx);
        let x = m.square().sub(&s.double());
        let y4 = yy.square().double().double().double();
        let y = m.mul(&s.sub(&x)).sub(&y4);
        let z = self.y.mul(&self.z).double();
        Jacobian { x, y, z }
    }

    pub(crate) fn add_affine(&self, other: &Affine) -> Jacobian {
        if self.is_infinity() {
            return (*other).into();
        }
        let zz = self.z.square();
        let h = other.x.mul(&zz).sub(&self.x);
        let r = other.y.mul(&zz).mul(&self.z).sub(&self.y);
        if h.is_zero() {
            return if r.is_zero() { self.double() } else { Jacobian::INFINITY };
        }
        let hh = h.square();
        let hhh = hh.mul(&h);
        let v = self.x.mul(&hh);
        let x = r.square().sub(&hhh).sub(&v.double());
        let y = r.mul(&v.sub(&x)).sub(&self.y.mul(&hhh));
        Jacobian { x, y, z: self.z.mul(&h) }
    }

    /// `None` for infinity.
    pub(crate) fn to_affine(self) -> Option<Affine> {
        if self.is_infinity() {
            return None;
        }
        let inverse = self.z.invert();
        Some(self.scale(&inverse))
    }

    /// The affine point, given 1/Z.
    fn scale(&self, inverse: &Fe) -> Affine {
        let square = inverse.square();
        Affine { x: self.x.mul(&square).canonical(), y: self.y.mul(&square).mul(inverse).canonical() }
    }

    /// Affine forms of points of which none is infinity, with one inversion.
    pub(crate) fn all_to_affine(points: &[Jacobian]) -> Vec<Affine> {
        let mut before = Vec::with_capacity(points.len());
        let mut product = Fe::ONE;
        for point in points {
            before.push(product);
            product = product.mul(&point.z);
        }
        assert!(!product.is_zero(), "infinity has no affine form");
        let mut inverse = product.invert();
        let mut out = vec![Affine::default(); points.len()];
        for (i, point) in points.iter().enumerate().rev() {
            out[i] = point.scale(&inverse.mul(&before[i]));
            inverse = inverse.mul(&point.z);
        }
        out
    }
}

/// The sum of two affine points; `None` for infinity. Exact where the x are equal.
pub(super) fn add_exact(a: &Affine, b: &Affine) -> Option<Affine> {
    Jacobian::from(*a).add_affine(b).to_affine()
}

/// `scalar`·`point`, bit by bit: for start-up and tests.
pub(crate) fn multiply(point: &Affine, scalar: &Scalar) -> Jacobian {
    let mut sum = Jacobian::INFINITY;
    for word in scalar.words().iter().rev() {
        for bit in (0..64).rev() {
            sum = sum.double();
            if word >> bit & 1 == 1 {
                sum = sum.add_affine(point);
            }
        }
    }
    sum
}

/// `point`·2^`times`.
pub(super) fn double_times(point: &Affine, times: usize) -> Jacobian {
    let mut sum = Jacobian::from(*point);
    for _ in 0..times {
        sum = sum.double();
    }
    sum
}

/// 1, 2, … `count` times `point`.
pub(super) fn multiples(point: &Affine, count: usize) -> Vec<Affine> {
    let mut all = Vec::with_capacity(count);
    let mut sum = Jacobian::from(*point);
    for _ in 0..count {
        all.push(sum);
        sum = sum.add_affine(point);
    }
    Jacobian::all_to_affine(&all)
}
