//! Integers modulo the group's order n, the split of a scalar along the curve's endomorphism, and signed windows.

use super::field::{adc, mac, sbb, wide_mul};
use super::inverse::{self, Modulus};
use alloy_primitives::U256;

/// n, least significant word first.
const N: [u64; 4] = [0xbfd2_5e8c_d036_4141, 0xbaae_dce6_af48_a03b, 0xffff_ffff_ffff_fffe, u64::MAX];
/// 2²⁵⁶ − n.
const FOLD: [u64; 3] = [0x402d_a173_2fc9_bebf, 0x4551_2319_50b7_5fc4, 1];
const MODULUS: Modulus = Modulus::new(N);

/// A number in [0, n).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scalar([u64; 4]);

/// A signed number of at most 128 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) magnitude: u128,
    pub(crate) negative: bool,
}

impl Scalar {
    pub(crate) const ONE: Scalar = Scalar([1, 0, 0, 0]);

    /// The number modulo n. (2²⁵⁶ < 2n.)
    pub(crate) fn from_u256(value: &U256) -> Scalar {
        Scalar::reduce_once(*value.as_limbs(), 0)
    }

    pub(crate) const fn from_u128(value: u128) -> Scalar {
        Scalar([value as u64, (value >> 64) as u64, 0, 0])
    }

    pub(crate) fn words(&self) -> [u64; 4] {
        self.0
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0 == [0; 4]
    }

    /// `words + carry·2²⁵⁶`, below 2n, modulo n.
    #[inline(always)]
    fn reduce_once(words: [u64; 4], carry: u64) -> Scalar {
        let (r0, borrow) = sbb(words[0], N[0], 0);
        let (r1, borrow) = sbb(words[1], N[1], borrow);
        let (r2, borrow) = sbb(words[2], N[2], borrow);
        let (r3, borrow) = sbb(words[3], N[3], borrow);
        if carry >= borrow { Scalar([r0, r1, r2, r3]) } else { Scalar(words) }
    }

    pub(crate) fn mul(&self, other: &Scalar) -> Scalar {
        const { assert!(FOLD[2] == 1) };
        let [t0, t1, t2, t3, h0, h1, h2, h3] = wide_mul(&self.0, &other.0);
        // Twice the words above 2²⁵⁶ are replaced by FOLD times themselves, word by word of FOLD.
        // 512 bits → below 2²⁵⁶ + 2²⁵⁶·2¹²⁹ < 2³⁸⁶.
        let (r0, carry) = mac(t0, h0, FOLD[0], 0);
        let (r1, carry) = mac(t1, h1, FOLD[0], carry);
        let (r2, carry) = mac(t2, h2, FOLD[0], carry);
        let (r3, r4) = mac(t3, h3, FOLD[0], carry);
        let (r1, carry) = mac(r1, h0, FOLD[1], 0);
        let (r2, carry) = mac(r2, h1, FOLD[1], carry);
        let (r3, carry) = mac(r3, h2, FOLD[1], carry);
        let (r4, r5) = mac(r4, h3, FOLD[1], carry);
        let (r2, carry) = adc(r2, h0, 0);
        let (r3, carry) = adc(r3, h1, carry);
        let (r4, carry) = adc(r4, h2, carry);
        let (r5, r6) = adc(r5, h3, carry);
        // → below 2²⁵⁶ + 2¹³⁰·2¹²⁹ = 2²⁵⁶ + 2²⁵⁹.
        let (s0, carry) = mac(r0, r4, FOLD[0], 0);
        let (s1, carry) = mac(r1, r5, FOLD[0], carry);
        let (s2, carry) = mac(r2, r6, FOLD[0], carry);
        let (s3, above0) = adc(r3, 0, carry);
        let (s1, carry) = mac(s1, r4, FOLD[1], 0);
        let (s2, carry) = mac(s2, r5, FOLD[1], carry);
        let (s3, above1) = mac(s3, r6, FOLD[1], carry);
        let (s2, carry) = adc(s2, r4, 0);
        let (s3, above2) = adc(s3, r5, carry);
        let above = above0 + above1 + above2 + r6;
        // → below 2²⁵⁶ + 2⁴·2¹²⁹ < 2n.
        let (s0, carry) = mac(s0, above, FOLD[0], 0);
        let (s1, carry) = mac(s1, above, FOLD[1], carry);
        let (s2, carry) = adc(s2, above, carry);
        let (s3, carry) = adc(s3, 0, carry);
        Scalar::reduce_once([s0, s1, s2, s3], carry)
    }

    #[inline(always)]
    pub(crate) fn add(&self, other: &Scalar) -> Scalar {
        let (r0, carry) = adc(self.0[0], other.0[0], 0);
        let (r1, carry) = adc(self.0[1], other.0[1], carry);
        let (r2, carry) = adc(self.0[2], other.0[2], carry);
        let (r3, carry) = adc(self.0[3], other.0[3], carry);
        Scalar::reduce_once([r0, r1, r2, r3], carry)
    }

    pub(crate) fn neg(&self) -> Scalar {
        if self.is_zero() {
            return *self;
        }
        let (r0, borrow) = sbb(N[0], self.0[0], 0);
        let (r1, borrow) = sbb(N[1], self.0[1], borrow);
        let (r2, borrow) = sbb(N[2], self.0[2], borrow);
        let (r3, _) = sbb(N[3], self.0[3], borrow);
        Scalar([r0, r1, r2, r3])
    }

    /// 1/self; 0 for 0.
    pub(crate) fn invert(&self) -> Scalar {
        Scalar(inverse::invert(&self.0, &MODULUS))
    }

    /// Replaces each number by its inverse at the price of one inversion and three products each.
    ///
    /// # Panics
    /// When one of them is zero.
    pub(crate) fn invert_all(numbers: &mut [Scalar], scratch: &mut Vec<Scalar>) {
        scratch.clear();
        let mut product = Scalar::ONE;
        for number in numbers.iter() {
            scratch.push(product);
            product = product.mul(number);
        }
        assert!(!product.is_zero(), "zero has no inverse");
        let mut inverse = product.invert();
        for (number, before) in numbers.iter_mut().zip(scratch.iter()).rev() {
            let own = inverse.mul(before);
            inverse = inverse.mul(number);
            *number = own;
        }
    }

    /// k1, k2 with self = k1 + k2·λ and both below 2¹²⁸ in magnitude (Gallant, Lambert, Vanstone 2001; the lattice basis
    /// is that of SEC 2's curve: a1 = b2, b1 = −B1, a2).
    pub(crate) fn split(&self) -> (Half, Half) {
        const A1: u128 = 0x3086_d221_a7d4_6bcd_e86c_90e4_9284_eb15;
        const B1: u128 = 0xe443_7ed6_010e_8828_6f54_7fa9_0abf_e4c3;
        const A2: [u64; 3] = [0x57c1_108d_9d44_cfd8, 0x14ca_50f7_a8e2_f3f6, 1];
        // round(2³⁸⁴·b2/n) and round(2³⁸⁴·B1/n)
        const G1: [u64; 4] =
            [0xe893_209a_45db_b031, 0x3daa_8a14_71e8_ca7f, 0xe86c_90e4_9284_eb15, 0x3086_d221_a7d4_6bcd];
        const G2: [u64; 4] =
            [0x1571_b4ae_8ac4_7f71, 0x2212_08ac_9df5_06c6, 0x6f54_7fa9_0abf_e4c4, 0xe443_7ed6_010e_8828];
        let c1 = shifted_product(&self.0, &G1);
        let c2 = shifted_product(&self.0, &G2);
        // All of this is exact modulo 2¹⁹², and the results are below 2¹²⁸ in magnitude.
        let words = |value: u128| [value as u64, (value >> 64) as u64, 0];
        let k1 = sub3(&sub3(&[self.0[0], self.0[1], self.0[2]], &mul3(c1, &words(A1))), &mul3(c2, &A2));
        let k2 = sub3(&mul3(c1, &words(B1)), &mul3(c2, &words(A1)));
        (to_half(&k1), to_half(&k2))
    }

    /// The two halves, as numbers of 128 bits: self = low + high·2¹²⁸.
    pub(crate) fn halves(&self) -> (u128, u128) {
        let word = |i: usize| u128::from(self.0[i]);
        (word(0) | word(1) << 64, word(2) | word(3) << 64)
    }
}

/// round(a·b / 2³⁸⁴), which fits 128 bits for the two constants above.
fn shifted_product(a: &[u64; 4], b: &[u64; 4]) -> u128 {
    let t = wide_mul(a, b);
    (u128::from(t[6]) | u128::from(t[7]) << 64) + u128::from(t[5] >> 63)
}

/// a·b modulo 2¹⁹².
fn mul3(a: u128, b: &[u64; 3]) -> [u64; 3] {
    let (low, high) = (a as u64, (a >> 64) as u64);
    let (r0, carry) = mac(0, low, b[0], 0);
    let (r1, carry_low) = mac(0, low, b[1], carry);
    let (r1, carry_high) = mac(r1, high, b[0], 0);
    let r2 = low
        .wrapping_mul(b[2])
        .wrapping_add(high.wrapping_mul(b[1]))
        .wrapping_add(carry_low)
        .wrapping_add(carry_high);
    [r0, r1, r2]
}

/// a − b modulo 2¹⁹².
fn sub3(a: &[u64; 3], b: &[u64; 3]) -> [u64; 3] {
    let (r0, borrow) = sbb(a[0], b[0], 0);
    let (r1, borrow) = sbb(a[1], b[1], borrow);
    [r0, r1, a[2].wrapping_sub(b[2]).wrapping_sub(borrow)]
}

fn to_half(value: &[u64; 3]) -> Half {
    let negative = value[2] >> 63 == 1;
    let value = if negative { sub3(&[0; 3], value) } else { *value };
    debug_assert_eq!(value[2], 0, "a half of the split has more than 128 bits");
    Half { magnitude: u128::from(value[0]) | u128::from(value[1]) << 64, negative }
}

/// Windows of `bits` bits that hold a 128-bit magnitude in signed digits.
pub(crate) const fn window_count(bits: usize) -> usize {
    128 / bits + 1
}

/// Writes signed digits, least significant first: half = Σ digit·2^(bits·i), each in [−2^(bits−1), 2^(bits−1)].
pub(crate) fn recode(half: Half, bits: usize, digits: &mut [i16]) {
    debug_assert!(bits >= 2 && bits <= 15 && digits.len() == window_count(bits));
    let (full, mut rest, mut carry) = (1i32 << bits, half.magnitude, 0);
    let sign = if half.negative { -1 } else { 1 };
    for digit in digits {
        let mut value = (rest as i32 & (full - 1)) + carry;
        rest >>= bits;
        carry = i32::from(value > full / 2);
        value -= carry * full;
        *digit = (sign * value) as i16;
    }
    debug_assert!(carry == 0 && rest == 0, "the last window took the last carry");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::uint;
    use proptest::prelude::*;

    const LAMBDA: U256 = uint!(0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72_U256);

    fn n() -> U256 {
        U256::from_limbs(N)
    }

    fn value(s: Scalar) -> U256 {
        U256::from_limbs(s.0)
    }

    fn signed(half: Half) -> U256 {
        let magnitude = U256::from(half.magnitude);
        if half.negative && !magnitude.is_zero() { n() - magnitude } else { magnitude }
    }

    fn words() -> impl Strategy<Value = [u64; 4]> {
        let edge = prop_oneof![
            Just(0u64),
            Just(1),
            Just(u64::MAX),
            Just(N[0]),
            Just(N[1]),
            Just(N[2]),
            any::<u64>()
        ];
        prop_oneof![any::<[u64; 4]>(), prop::array::uniform4(edge)]
    }

    proptest! {
        #[test]
        fn agrees_with_big_integers(a in words(), b in words()) {
            let (a, b) = (U256::from_limbs(a), U256::from_limbs(b));
            let (x, y) = (a % n(), b % n());
            let (a, b) = (Scalar::from_u256(&a), Scalar::from_u256(&b));
            prop_assert_eq!(value(a), x);
            prop_assert_eq!(value(a.mul(&b)), x.mul_mod(y, n()));
            prop_assert_eq!(value(a.add(&b)), x.add_mod(y, n()));
            prop_assert_eq!(value(a.neg()), (n() - x) % n());
            prop_assert_eq!(value(a.invert()), x.inv_mod(n()).unwrap_or_default());
        }

        #[test]
        fn a_split_adds_up(a in words()) {
            let k = Scalar::from_u256(&U256::from_limbs(a));
            let (k1, k2) = k.split();
            prop_assert_eq!(signed(k1).add_mod(signed(k2).mul_mod(LAMBDA, n()), n()), value(k));
            let (low, high) = k.halves();
            prop_assert_eq!(U256::from(low) + (U256::from(high) << 128), value(k));
        }

        #[test]
        fn digits_add_up_and_are_small(magnitude in any::<u128>(), negative: bool, ones: bool, bits in 2usize..16) {
            let half = Half { magnitude: if ones { u128::MAX } else { magnitude }, negative };
            let mut digits = vec![0; window_count(bits)];
            recode(half, bits, &mut digits);
            let mut sum = U256::ZERO;
            for digit in digits.iter().rev() {
                prop_assert!(digit.unsigned_abs() <= 1 << (bits - 1));
                let digit = Half { magnitude: digit.unsigned_abs().into(), negative: *digit < 0 };
                sum = sum.mul_mod(U256::from(1) << bits, n()).add_mod(signed(digit), n());
            }
            prop_assert_eq!(sum, signed(half));
        }

        #[test]
        fn many_inverses_are_single_inverses(numbers in prop::collection::vec(1u128.., 1..20)) {
            let mut all: Vec<_> = numbers.iter().map(|x| Scalar::from_u128(*x)).collect();
            Scalar::invert_all(&mut all, &mut vec![]);
            for (number, inverse) in numbers.iter().zip(&all) {
                prop_assert_eq!(Scalar::from_u128(*number).mul(inverse), Scalar::ONE);
            }
        }
    }

    #[test]
    fn the_split_of_extreme_scalars_has_halves_of_128_bits() {
        for k in [U256::ZERO, U256::from(1), n() - U256::from(1), n() / U256::from(2), LAMBDA, n() - LAMBDA] {
            let (k1, k2) = Scalar::from_u256(&k).split();
            assert_eq!(signed(k1).add_mod(signed(k2).mul_mod(LAMBDA, n()), n()), k);
        }
    }
}
