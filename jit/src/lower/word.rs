//! 256-bit words as four limbs of 64 bits, each a constant or a value, and arithmetic on them.
//!
//! Knowing a limb as zero is knowing a width: a masked address has a zero limb on top, a boolean three. Constants fold
//! limb by limb, so widths shrink through AND, shifts, comparisons and loads of bytes without a separate pass.

use cranelift_codegen::ir::{
    InstBuilder, Value,
    condcodes::IntCC,
    types::{I64, I128},
};
use cranelift_frontend::FunctionBuilder;
use revm::primitives::U256;

/// A limb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limb {
    Const(u64),
    Value(Value),
}

use Limb::Const;

/// A word, limbs from the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) limbs: [Limb; 4],
    /// The truth value (of type I8) that the lowest limb was widened from.
    pub(super) truth: Option<Value>,
}

impl Word {
    pub(super) const ZERO: Self = Self::constant([0; 4]);

    pub(super) const fn constant(limbs: [u64; 4]) -> Self {
        Self { limbs: [Const(limbs[0]), Const(limbs[1]), Const(limbs[2]), Const(limbs[3])], truth: None }
    }

    pub(super) const fn of(limbs: [Limb; 4]) -> Self {
        Self { limbs, truth: None }
    }

    pub(super) const fn low(value: Value) -> Self {
        Self::of([Limb::Value(value), Const(0), Const(0), Const(0)])
    }

    pub(super) fn as_constant(&self) -> Option<[u64; 4]> {
        let mut out = [0; 4];
        for (out, limb) in out.iter_mut().zip(self.limbs) {
            match limb {
                Const(limb) => *out = limb,
                Limb::Value(_) => return None,
            }
        }
        Some(out)
    }

    fn as_u256(&self) -> Option<U256> {
        self.as_constant().map(U256::from_limbs)
    }

    /// How many limbs may be other than zero.
    pub(super) fn width(&self) -> usize {
        self.limbs.iter().rposition(|limb| *limb != Const(0)).map_or(0, |index| index + 1)
    }
}

impl From<U256> for Word {
    fn from(value: U256) -> Self {
        Self::constant(*value.as_limbs())
    }
}

/// Arithmetic, written into a function.
pub(super) struct Math<'x, 'f> {
    pub(super) b: &'x mut FunctionBuilder<'f>,
}

impl Math<'_, '_> {
    pub(super) fn constant(&mut self, value: u64) -> Value {
        self.b.ins().iconst(I64, value as i64)
    }

    pub(super) fn value(&mut self, limb: Limb) -> Value {
        match limb {
            Limb::Value(value) => value,
            Const(limb) => self.constant(limb),
        }
    }

    fn pair(&mut self, low: Limb, high: Limb) -> Value {
        let low = self.value(low);
        if high == Const(0) {
            return self.b.ins().uextend(I128, low);
        }
        let high = self.value(high);
        self.b.ins().iconcat(low, high)
    }

    fn split(&mut self, pair: Value) -> [Limb; 2] {
        let (low, high) = self.b.ins().isplit(pair);
        [Limb::Value(low), Limb::Value(high)]
    }

    pub(super) fn and_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Const(a), Const(b)) => Const(a & b),
            (Const(0), _) | (_, Const(0)) => Const(0),
            (Const(u64::MAX), other) | (other, Const(u64::MAX)) => other,
            _ if a == b => a,
            _ => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().band(a, b))
            }
        }
    }

    pub(super) fn or_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Const(a), Const(b)) => Const(a | b),
            (Const(u64::MAX), _) | (_, Const(u64::MAX)) => Const(u64::MAX),
            (Const(0), other) | (other, Const(0)) => other,
            _ if a == b => a,
            _ => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().bor(a, b))
            }
        }
    }

    pub(super) fn xor_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Const(a), Const(b)) => Const(a ^ b),
            (Const(0), other) | (other, Const(0)) => other,
            _ if a == b => Const(0),
            _ => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().bxor(a, b))
            }
        }
    }

    fn not_limb(&mut self, a: Limb) -> Limb {
        match a {
            Const(a) => Const(!a),
            Limb::Value(a) => Limb::Value(self.b.ins().bnot(a)),
        }
    }

    /// `a << amount`, below 64.
    fn shl_limb(&mut self, a: Limb, amount: u32) -> Limb {
        match a {
            _ if amount == 0 => a,
            Const(a) => Const(a << amount),
            Limb::Value(a) => {
                let amount = self.constant(u64::from(amount));
                Limb::Value(self.b.ins().ishl(a, amount))
            }
        }
    }

    /// `a >> amount`, below 64.
    fn shr_limb(&mut self, a: Limb, amount: u32) -> Limb {
        match a {
            _ if amount == 0 => a,
            Const(a) => Const(a >> amount),
            Limb::Value(a) => {
                let amount = self.constant(u64::from(amount));
                Limb::Value(self.b.ins().ushr(a, amount))
            }
        }
    }

    /// The top bit of a limb, in all bits.
    fn sign_limb(&mut self, a: Limb) -> Limb {
        match a {
            Const(a) => Const(((a as i64) >> 63) as u64),
            Limb::Value(a) => {
                let amount = self.constant(63);
                Limb::Value(self.b.ins().sshr(a, amount))
            }
        }
    }

    pub(super) fn or_all(&mut self, limbs: &[Limb]) -> Limb {
        limbs.iter().fold(Const(0), |sum, limb| self.or_limb(sum, *limb))
    }

    pub(super) fn compare_zero(&mut self, condition: IntCC, a: Value) -> Value {
        let zero = self.constant(0);
        self.b.ins().icmp(condition, a, zero)
    }

    /// A truth value as a word.
    pub(super) fn truth(&mut self, truth: Value) -> Word {
        let wide = self.b.ins().uextend(I64, truth);
        Word { truth: Some(truth), ..Word::low(wide) }
    }

    fn truth_constant(value: bool) -> Word {
        Word::constant([u64::from(value), 0, 0, 0])
    }

    /// Whether a word is other than zero, for a branch; `Err` where that is known.
    pub(super) fn is_nonzero(&mut self, a: &Word) -> Result<Value, bool> {
        if let Some(constant) = a.as_constant() {
            return Err(constant != [0; 4]);
        }
        if let Some(truth) = a.truth {
            return Ok(truth);
        }
        match self.or_all(&a.limbs) {
            Const(any) => Err(any != 0),
            Limb::Value(any) => Ok(self.compare_zero(IntCC::NotEqual, any)),
        }
    }

    pub(super) fn is_zero(&mut self, a: &Word) -> Word {
        if let Some(truth) = a.truth {
            let one = self.b.ins().iconst(cranelift_codegen::ir::types::I8, 1);
            let inverse = self.b.ins().bxor(truth, one);
            return self.truth(inverse);
        }
        match self.or_all(&a.limbs) {
            Const(any) => Self::truth_constant(any == 0),
            Limb::Value(any) => {
                let zero = self.compare_zero(IntCC::Equal, any);
                self.truth(zero)
            }
        }
    }

    pub(super) fn equal(&mut self, a: &Word, b: &Word) -> Word {
        if a.width() <= 1 && b.width() <= 1 && (a.as_constant().is_none() || b.as_constant().is_none()) {
            if a.limbs[0] == b.limbs[0] {
                return Self::truth_constant(true);
            }
            let (a, b) = (self.value(a.limbs[0]), self.value(b.limbs[0]));
            let equal = self.b.ins().icmp(IntCC::Equal, a, b);
            return self.truth(equal);
        }
        let mut difference = [Const(0); 4];
        for index in 0..4 {
            difference[index] = self.xor_limb(a.limbs[index], b.limbs[index]);
        }
        self.is_zero(&Word::of(difference))
    }

    pub(super) fn bitwise(
        &mut self,
        a: &Word,
        b: &Word,
        operation: fn(&mut Self, Limb, Limb) -> Limb,
    ) -> Word {
        let mut out = [Const(0); 4];
        for (index, out) in out.iter_mut().enumerate() {
            *out = operation(self, a.limbs[index], b.limbs[index]);
        }
        let truth = if Word::of(out).limbs == a.limbs {
            a.truth
        } else if out == b.limbs {
            b.truth
        } else {
            None
        };
        Word { limbs: out, truth }
    }

    pub(super) fn not(&mut self, a: &Word) -> Word {
        Word::of(a.limbs.map(|limb| self.not_limb(limb)))
    }

    /// `a < b`, unsigned or signed.
    pub(super) fn less(&mut self, a: &Word, b: &Word, is_signed: bool) -> Word {
        if let (Some(a), Some(b)) = (a.as_u256(), b.as_u256()) {
            let flip = if is_signed { U256::ONE << 255 } else { U256::ZERO };
            return Self::truth_constant(a ^ flip < b ^ flip);
        }
        let width = a.width().max(b.width());
        if width <= 1 {
            let (a, b) = (self.value(a.limbs[0]), self.value(b.limbs[0]));
            let less = self.b.ins().icmp(IntCC::UnsignedLessThan, a, b);
            return self.truth(less);
        }
        let (low_a, low_b) = (self.pair(a.limbs[0], a.limbs[1]), self.pair(b.limbs[0], b.limbs[1]));
        let low = self.b.ins().icmp(IntCC::UnsignedLessThan, low_a, low_b);
        if width <= 2 {
            return self.truth(low);
        }
        let (high_a, high_b) = (self.pair(a.limbs[2], a.limbs[3]), self.pair(b.limbs[2], b.limbs[3]));
        let condition = if is_signed { IntCC::SignedLessThan } else { IntCC::UnsignedLessThan };
        let high = self.b.ins().icmp(condition, high_a, high_b);
        let equal = self.b.ins().icmp(IntCC::Equal, high_a, high_b);
        let both = self.b.ins().band(equal, low);
        let less = self.b.ins().bor(high, both);
        self.truth(less)
    }

    pub(super) fn add(&mut self, a: &Word, b: &Word) -> Word {
        if let (Some(a), Some(b)) = (a.as_u256(), b.as_u256()) {
            return a.wrapping_add(b).into();
        }
        if a.width() == 0 {
            return *b;
        }
        if b.width() == 0 {
            return *a;
        }
        if a.width() <= 1 && b.width() <= 1 {
            let (a, b) = (self.pair(a.limbs[0], Const(0)), self.pair(b.limbs[0], Const(0)));
            let sum = self.b.ins().iadd(a, b);
            let [low, high] = self.split(sum);
            return Word::of([low, high, Const(0), Const(0)]);
        }
        let (low_a, low_b) = (self.pair(a.limbs[0], a.limbs[1]), self.pair(b.limbs[0], b.limbs[1]));
        let (low, carry) = self.b.ins().uadd_overflow(low_a, low_b);
        let [l0, l1] = self.split(low);
        let carry = self.b.ins().uextend(I64, carry);
        let high_words = [[a.limbs[2], a.limbs[3]], [b.limbs[2], b.limbs[3]]];
        if a.width() <= 2 && b.width() <= 2 {
            return Word::of([l0, l1, Limb::Value(carry), Const(0)]);
        }
        let carry = self.pair(Limb::Value(carry), Const(0));
        let high = match high_words {
            [[Const(0), Const(0)], [low, high]] | [[low, high], [Const(0), Const(0)]] => self.pair(low, high),
            [[a0, a1], [b0, b1]] => {
                let (a, b) = (self.pair(a0, a1), self.pair(b0, b1));
                self.b.ins().iadd(a, b)
            }
        };
        let high = self.b.ins().iadd(high, carry);
        let [l2, l3] = self.split(high);
        Word::of([l0, l1, l2, l3])
    }

    pub(super) fn sub(&mut self, a: &Word, b: &Word) -> Word {
        if let (Some(a), Some(b)) = (a.as_u256(), b.as_u256()) {
            return a.wrapping_sub(b).into();
        }
        if b.width() == 0 {
            return *a;
        }
        let (low_a, low_b) = (self.pair(a.limbs[0], a.limbs[1]), self.pair(b.limbs[0], b.limbs[1]));
        let (low, borrow) = self.b.ins().usub_overflow(low_a, low_b);
        let [l0, l1] = self.split(low);
        let borrow = self.b.ins().uextend(I64, borrow);
        if a.width() <= 2 && b.width() <= 2 {
            let fill = self.b.ins().ineg(borrow);
            return Word::of([l0, l1, Limb::Value(fill), Limb::Value(fill)]);
        }
        let borrow = self.pair(Limb::Value(borrow), Const(0));
        let high_a = self.pair(a.limbs[2], a.limbs[3]);
        let high = if b.width() <= 2 {
            high_a
        } else {
            let high_b = self.pair(b.limbs[2], b.limbs[3]);
            self.b.ins().isub(high_a, high_b)
        };
        let high = self.b.ins().isub(high, borrow);
        let [l2, l3] = self.split(high);
        Word::of([l0, l1, l2, l3])
    }

    /// `a + b` of limbs, without carry out.
    fn add_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Const(a), Const(b)) => Const(a.wrapping_add(b)),
            (Const(0), other) | (other, Const(0)) => other,
            _ => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().iadd(a, b))
            }
        }
    }

    /// Row by row, each product and sum in 128 bits.
    pub(super) fn mul(&mut self, a: &Word, b: &Word) -> Word {
        if let (Some(a), Some(b)) = (a.as_u256(), b.as_u256()) {
            return a.wrapping_mul(b).into();
        }
        for (factor, other) in [(a, b), (b, a)] {
            if let Some(factor) = factor.as_u256()
                && factor.count_ones() <= 1
            {
                return match factor.is_zero() {
                    true => Word::ZERO,
                    false => self.shl_constant(other, factor.trailing_zeros() as u64),
                };
            }
        }
        let mut sum = [Const(0); 4];
        for i in 0..4 {
            if a.limbs[i] == Const(0) {
                continue;
            }
            let mut carry = Const(0);
            for j in 0..4 - i {
                let at = i + j;
                if b.limbs[j] == Const(0) {
                    if carry == Const(0) {
                        continue;
                    }
                    if at == 3 {
                        sum[3] = self.add_limb(sum[3], carry);
                        continue;
                    }
                    if sum[at] == Const(0) {
                        (sum[at], carry) = (carry, Const(0));
                        continue;
                    }
                    let (x, y) = (self.pair(sum[at], Const(0)), self.pair(carry, Const(0)));
                    let total = self.b.ins().iadd(x, y);
                    [sum[at], carry] = self.split(total);
                    continue;
                }
                let (x, y) = (self.value(a.limbs[i]), self.value(b.limbs[j]));
                if at == 3 {
                    let product = Limb::Value(self.b.ins().imul(x, y));
                    let product = self.add_limb(product, carry);
                    sum[3] = self.add_limb(sum[3], product);
                    continue;
                }
                let (x, y) = (self.b.ins().uextend(I128, x), self.b.ins().uextend(I128, y));
                let mut total = self.b.ins().imul(x, y);
                for addend in [sum[at], carry] {
                    if addend != Const(0) {
                        let addend = self.pair(addend, Const(0));
                        total = self.b.ins().iadd(total, addend);
                    }
                }
                [sum[at], carry] = self.split(total);
            }
        }
        Word::of(sum)
    }

    pub(super) fn shl_constant(&mut self, a: &Word, amount: u64) -> Word {
        if amount >= 256 {
            return Word::ZERO;
        }
        let (limbs, bits) = ((amount / 64) as usize, (amount % 64) as u32);
        let mut out = [Const(0); 4];
        for index in limbs..4 {
            let own = self.shl_limb(a.limbs[index - limbs], bits);
            out[index] = if bits == 0 || index == limbs {
                own
            } else {
                let below = self.shr_limb(a.limbs[index - limbs - 1], 64 - bits);
                self.or_limb(own, below)
            };
        }
        Word::of(out)
    }

    pub(super) fn shr_constant(&mut self, a: &Word, amount: u64) -> Word {
        if amount >= 256 {
            return Word::ZERO;
        }
        self.shr_filled(a, amount, Const(0))
    }

    pub(super) fn sar_constant(&mut self, a: &Word, amount: u64) -> Word {
        let fill = self.sign_limb(a.limbs[3]);
        if amount >= 256 {
            return Word::of([fill; 4]);
        }
        self.shr_filled(a, amount, fill)
    }

    fn shr_filled(&mut self, a: &Word, amount: u64, fill: Limb) -> Word {
        let (limbs, bits) = ((amount / 64) as usize, (amount % 64) as u32);
        let at = |index: usize| if index < 4 { a.limbs[index] } else { fill };
        let mut out = [Const(0); 4];
        for (index, out) in out.iter_mut().enumerate() {
            let (own, above) = (at(index + limbs), at(index + limbs + 1));
            *out = if bits == 0 {
                own
            } else {
                let own = self.shr_limb(own, bits);
                let above = self.shl_limb(above, 64 - bits);
                self.or_limb(own, above)
            };
        }
        Word::of(out)
    }

    /// BYTE with a constant index, counted from the highest byte.
    pub(super) fn byte_constant(&mut self, index: u64, a: &Word) -> Word {
        if index >= 32 {
            return Word::ZERO;
        }
        let index = 31 - index;
        let limb = self.shr_limb(a.limbs[(index / 8) as usize], (index % 8 * 8) as u32);
        let byte = self.and_limb(limb, Const(0xff));
        Word::of([byte, Const(0), Const(0), Const(0)])
    }

    /// SIGNEXTEND with a constant index of the sign byte, counted from the lowest.
    pub(super) fn signextend_constant(&mut self, index: u64, a: &Word) -> Word {
        if index >= 31 {
            return *a;
        }
        let (limb, bits) = ((index / 8) as usize, ((index % 8) * 8 + 8) as u32);
        let mut out = a.limbs;
        out[limb] = match (a.limbs[limb], 64 - bits) {
            (own, 0) => own,
            (Const(own), unused) => Const((((own << unused) as i64) >> unused) as u64),
            (Limb::Value(own), unused) => {
                let unused = self.constant(u64::from(unused));
                let up = self.b.ins().ishl(own, unused);
                Limb::Value(self.b.ins().sshr(up, unused))
            }
        };
        let fill = self.sign_limb(out[limb]);
        for out in out.iter_mut().skip(limb + 1) {
            *out = fill;
        }
        Word::of(out)
    }

    /// CLZ (EIP-7939): 256 for zero.
    pub(super) fn leading_zeros(&mut self, a: &Word) -> Word {
        if let Some(a) = a.as_u256() {
            return Word::constant([a.leading_zeros() as u64, 0, 0, 0]);
        }
        // From the lowest limb up: a limb that is not zero decides over all below.
        let mut out = self.constant(256);
        for index in 0..a.width() {
            let limb = self.value(a.limbs[index]);
            let own = self.b.ins().clz(limb);
            let above = self.constant(64 * (3 - index as u64));
            let own = self.b.ins().iadd(own, above);
            let is_zero = self.compare_zero(IntCC::Equal, limb);
            out = self.b.ins().select(is_zero, out, own);
        }
        Word::low(out)
    }
}
