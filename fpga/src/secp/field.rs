//! One field element at a time: integers modulo p = 2²⁵⁶ − 2³² − 977, for what is too rare to be worth lanes.

use super::inverse::{self, Modulus};
use alloy_primitives::U256;

/// 2²⁵⁶ mod p.
pub(super) const FOLD: u64 = 0x1_0000_03d1;
/// p, least significant word first.
pub(super) const P: [u64; 4] = [0xffff_fffe_ffff_fc2f, u64::MAX, u64::MAX, u64::MAX];

/// −p⁻¹ … as [`inverse`] wants it.
const MODULUS: Modulus = Modulus::new(P);

/// A residue modulo p. The representative may be any number below 2²⁵⁶; [`canonical`](Fe::canonical) is the one below p.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Fe(pub(super) [u64; 4]);

/// `a + b·c + carry` never overflows 128 bits.
#[inline(always)]
pub(super) const fn mac(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let wide = a as u128 + b as u128 * c as u128 + carry as u128;
    (wide as u64, (wide >> 64) as u64)
}

/// `a + b + carry` and the carry out.
#[inline(always)]
pub(super) const fn adc(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let wide = a as u128 + b as u128 + carry as u128;
    (wide as u64, (wide >> 64) as u64)
}

/// `a − b − borrow` and the borrow out.
#[inline(always)]
pub(super) const fn sbb(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let wide = (a as u128).wrapping_sub(b as u128 + borrow as u128);
    (wide as u64, (wide >> 64) as u64 & 1)
}

/// The 512-bit product.
#[inline(always)]
pub(super) const fn wide_mul(a: &[u64; 4], b: &[u64; 4]) -> [u64; 8] {
    let mut out = [0; 8];
    let mut i = 0;
    while i < 4 {
        let (t0, carry) = mac(out[i], a[i], b[0], 0);
        let (t1, carry) = mac(out[i + 1], a[i], b[1], carry);
        let (t2, carry) = mac(out[i + 2], a[i], b[2], carry);
        let (t3, carry) = mac(out[i + 3], a[i], b[3], carry);
        out[i] = t0;
        out[i + 1] = t1;
        out[i + 2] = t2;
        out[i + 3] = t3;
        out[i + 4] = carry;
        i += 1;
    }
    out
}

impl Fe {
    pub(crate) const ZERO: Fe = Fe([0; 4]);
    pub(crate) const ONE: Fe = Fe([1, 0, 0, 0]);

    /// From a number below p. Larger ones below 2²⁵⁶ are reduced by use.
    pub(crate) const fn from_words(words: [u64; 4]) -> Fe {
        Fe(words)
    }

    /// The representative as it stands.
    pub(super) fn words(&self) -> [u64; 4] {
        self.0
    }

    pub(crate) fn from_u256(value: &U256) -> Fe {
        Fe(*value.as_limbs())
    }

    /// Big-endian bytes of the canonical representative.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        U256::from_limbs(self.canonical().0).to_be_bytes()
    }

    /// Adds `extra`·2²⁵⁶ in its reduced form.
    #[inline(always)]
    fn fold(words: [u64; 4], extra: u64) -> Fe {
        let (r0, carry) = mac(words[0], extra, FOLD, 0);
        let (r1, carry) = adc(words[1], carry, 0);
        let (r2, carry) = adc(words[2], carry, 0);
        let (r3, carry) = adc(words[3], carry, 0);
        // A second overflow leaves next to nothing behind, so adding FOLD once more cannot overflow again.
        let (r0, carry) = adc(r0, FOLD * carry, 0);
        Fe([r0, r1.wrapping_add(carry), r2, r3])
    }

    #[inline(always)]
    pub(crate) fn mul(&self, other: &Fe) -> Fe {
        let t = wide_mul(&self.0, &other.0);
        let (r0, carry) = mac(t[0], t[4], FOLD, 0);
        let (r1, carry) = mac(t[1], t[5], FOLD, carry);
        let (r2, carry) = mac(t[2], t[6], FOLD, carry);
        let (r3, carry) = mac(t[3], t[7], FOLD, carry);
        Fe::fold([r0, r1, r2, r3], carry)
    }

    #[inline(always)]
    pub(crate) fn square(&self) -> Fe {
        self.mul(self)
    }

    #[inline(always)]
    pub(crate) fn add(&self, other: &Fe) -> Fe {
        let (r0, carry) = adc(self.0[0], other.0[0], 0);
        let (r1, carry) = adc(self.0[1], other.0[1], carry);
        let (r2, carry) = adc(self.0[2], other.0[2], carry);
        let (r3, carry) = adc(self.0[3], other.0[3], carry);
        Fe::fold([r0, r1, r2, r3], carry)
    }

    #[inline(always)]
    pub(crate) fn sub(&self, other: &Fe) -> Fe {
        let (r0, borrow) = sbb(self.0[0], other.0[0], 0);
        let (r1, borrow) = sbb(self.0[1], other.0[1], borrow);
        let (r2, borrow) = sbb(self.0[2], other.0[2], borrow);
        let (r3, borrow) = sbb(self.0[3], other.0[3], borrow);
        let (r0, borrow) = sbb(r0, FOLD * borrow, 0);
        let (r1, borrow) = sbb(r1, 0, borrow);
        let (r2, borrow) = sbb(r2, 0, borrow);
        let (r3, borrow) = sbb(r3, 0, borrow);
        // As in `fold`: after a second underflow the number is so large that FOLD can be taken off without a third.
        let (r0, borrow) = sbb(r0, FOLD * borrow, 0);
        Fe([r0, r1.wrapping_sub(borrow), r2, r3])
    }

    pub(crate) fn neg(&self) -> Fe {
        Fe::ZERO.sub(self)
    }

    #[inline(always)]
    pub(crate) fn double(&self) -> Fe {
        self.add(self)
    }

    /// The representative below p.
    pub(crate) fn canonical(&self) -> Fe {
        let (r0, borrow) = sbb(self.0[0], P[0], 0);
        let (r1, borrow) = sbb(self.0[1], P[1], borrow);
        let (r2, borrow) = sbb(self.0[2], P[2], borrow);
        let (r3, borrow) = sbb(self.0[3], P[3], borrow);
        if borrow == 0 { Fe([r0, r1, r2, r3]) } else { *self }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0 == [0; 4] || self.0 == P
    }

    pub(crate) fn equals(&self, other: &Fe) -> bool {
        self.sub(other).is_zero()
    }

    /// Whether the canonical representative is odd.
    pub(crate) fn is_odd(&self) -> bool {
        self.canonical().0[0] & 1 == 1
    }

    /// 1/self; 0 for 0.
    pub(crate) fn invert(&self) -> Fe {
        Fe(inverse::invert(&self.canonical().0, &MODULUS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p() -> U256 {
        U256::from_limbs(P)
    }

    fn value(fe: Fe) -> U256 {
        U256::from_limbs(fe.canonical().0)
    }

    /// Any representative, those around 0, p and 2²⁵⁶ often.
    fn words() -> impl Strategy<Value = [u64; 4]> {
        let edge = prop_oneof![
            Just(0u64),
            Just(1),
            Just(u64::MAX),
            Just(P[0]),
            Just(P[0] - 1),
            Just(FOLD),
            any::<u64>()
        ];
        prop_oneof![any::<[u64; 4]>(), prop::array::uniform4(edge)]
    }

    proptest! {
        #[test]
        fn agrees_with_big_integers(a in words(), b in words()) {
            let (x, y) = (U256::from_limbs(a) % p(), U256::from_limbs(b) % p());
            let (a, b) = (Fe(a), Fe(b));
            prop_assert_eq!(value(a.mul(&b)), x.mul_mod(y, p()));
            prop_assert_eq!(value(a.add(&b)), x.add_mod(y, p()));
            prop_assert_eq!(value(a.sub(&b)), x.add_mod(p() - y, p()));
            prop_assert_eq!(value(a.neg()), (p() - x) % p());
            prop_assert_eq!(a.is_zero(), x.is_zero());
            prop_assert_eq!(a.equals(&b), x == y);
            prop_assert_eq!(a.is_odd(), x.bit(0));
            prop_assert_eq!(value(a.invert()), x.inv_mod(p()).unwrap_or_default());
        }
    }
}
