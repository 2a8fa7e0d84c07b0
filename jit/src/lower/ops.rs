//! Instructions between a block's start and its end.

use super::{
    region::Lowering,
    state::Slot,
    word::{Limb, Math, Word},
};
use crate::{
    analysis::{Instruction, push_value},
    config::Sabotage,
    context::{Helper, offset},
    opcode::*,
};
use cranelift_codegen::ir::{
    BlockArg, InstBuilder, StackSlotData, StackSlotKind, Value,
    condcodes::IntCC,
    types::{I32, I64},
};

impl Lowering<'_, '_> {
    /// Lowers one instruction that does not end a block. `is_fallible_later`: something else in the block can fail for a
    /// reason other than gas.
    pub(super) fn instruction(&mut self, instruction: Instruction, is_fallible_later: bool) {
        let opcode = instruction.opcode;
        match opcode {
            JUMPDEST => {}
            POP => {
                self.state.top -= 1;
                let top = self.state.top;
                self.state.slots.remove(&top);
            }
            PUSH0..=PUSH32 => {
                let word = Word::constant(push_value(self.analysis.code, instruction.pc));
                self.state.push(word);
            }
            DUP1..=DUP16 => {
                let word = self.read(self.state.top - 1 - i32::from(opcode - DUP1));
                self.state.push(word);
            }
            SWAP1..=SWAP16 => self.swap(i32::from(opcode - SWAP1) + 1),
            PC => self.state.push(Word::constant([instruction.pc as u64, 0, 0, 0])),
            CODESIZE => self.state.push(Word::constant([self.analysis.code.len() as u64, 0, 0, 0])),
            GAS => {
                let gas = self.exact_gas();
                self.state.push(Word::low(gas));
            }
            ADD | SUB | AND | OR | XOR | EQ | LT | GT | SLT | SGT => self.binary(opcode),
            MUL => self.mul(),
            ISZERO | NOT | CLZ => {
                let a = self.pop();
                let out = match opcode {
                    ISZERO => self.math().is_zero(&a),
                    NOT => self.math().not(&a),
                    _ => self.math().leading_zeros(&a),
                };
                self.state.push(out);
            }
            SHL | SHR | SAR => self.shift(opcode),
            BYTE | SIGNEXTEND => self.indexed(opcode),
            DIV | MOD => self.divide(opcode),
            SDIV => self.pure(Helper::PureSdiv, 2),
            SMOD => self.pure(Helper::PureSmod, 2),
            ADDMOD => self.pure(Helper::PureAddmod, 3),
            MULMOD => self.pure(Helper::PureMulmod, 3),
            ADDRESS => self.address(offset::ADDRESS),
            CALLER => self.address(offset::CALLER),
            CALLVALUE => {
                let value = self.load_context(offset::VALUE);
                let limbs = [0, 8, 16, 24]
                    .map(|at| Limb::Value(self.b.ins().load(I64, self.context_flags, value, at)));
                self.state.push(Word::of(limbs));
            }
            CALLDATASIZE => {
                let length = self.load_context(offset::CALLDATA_LEN);
                self.state.push(Word::low(length));
            }
            MSIZE => {
                let length = self.load_context(offset::MEMORY_LEN);
                self.state.push(Word::low(length));
            }
            MLOAD | MSTORE | MSTORE8 => self.memory_access(instruction, is_fallible_later),
            CALLDATALOAD => self.calldata_load(),
            _ => self.by_revm(instruction, is_fallible_later),
        }
    }

    fn swap(&mut self, depth: i32) {
        let depth = depth - i32::from(depth == 3 && self.config.has_fault(Sabotage::SwapDepth));
        let (upper, lower) = (self.state.top - 1, self.state.top - 1 - depth);
        let (a, b) = (self.read(upper), self.read(lower));
        self.state.slots.insert(upper, Slot { word: b, is_dirty: true });
        self.state.slots.insert(lower, Slot { word: a, is_dirty: true });
    }

    fn binary(&mut self, opcode: u8) {
        let (a, b) = (self.pop(), self.pop());
        if opcode == ADD && self.config.has_fault(Sabotage::AddCarry) {
            let half = |word: &Word, at: usize| {
                Word::of([word.limbs[at], word.limbs[at + 1], Limb::Const(0), Limb::Const(0)])
            };
            let (low, high) =
                (self.math().add(&half(&a, 0), &half(&b, 0)), self.math().add(&half(&a, 2), &half(&b, 2)));
            self.state.push(Word::of([low.limbs[0], low.limbs[1], high.limbs[0], high.limbs[1]]));
            return;
        }
        let mut math = self.math();
        let out = match opcode {
            ADD => math.add(&a, &b),
            SUB => math.sub(&a, &b),
            AND => math.bitwise(&a, &b, Math::and_limb),
            OR => math.bitwise(&a, &b, Math::or_limb),
            XOR => math.bitwise(&a, &b, Math::xor_limb),
            EQ => math.equal(&a, &b),
            LT => math.less(&a, &b, false),
            GT => math.less(&b, &a, false),
            SLT => math.less(&a, &b, true),
            _ => math.less(&b, &a, true),
        };
        self.state.push(out);
    }

    fn mul(&mut self) {
        let (a, b) = (self.read(self.state.top - 1), self.read(self.state.top - 2));
        let is_wide =
            a.width() > 2 && b.width() > 2 && a.as_constant().is_none() && b.as_constant().is_none();
        if is_wide {
            if self.muls_left == 0 {
                return self.pure(Helper::PureMul, 2);
            }
            self.muls_left -= 1;
        }
        self.state.top -= 2;
        for height in [self.state.top, self.state.top + 1] {
            self.state.slots.remove(&height);
        }
        let out = self.math().mul(&a, &b);
        self.state.push(out);
    }

    fn shift(&mut self, opcode: u8) {
        let amount = self.read(self.state.top - 1);
        if let Some(amount) = amount.as_constant() {
            let _ = self.pop();
            let value = self.pop();
            let amount = if amount[1..] == [0; 3] { amount[0].min(256) } else { 256 };
            let out = match opcode {
                SHL => self.math().shl_constant(&value, amount),
                SHR => self.math().shr_constant(&value, amount),
                _ => self.math().sar_constant(&value, amount),
            };
            self.state.push(out);
            return;
        }
        if opcode == SHL && self.read(self.state.top - 2).as_constant() == Some([1, 0, 0, 0]) {
            let amount = self.pop();
            let _ = self.pop();
            let out = self.power_of_two(&amount);
            self.state.push(out);
            return;
        }
        let amount = self.pop();
        let value = self.pop();
        let out = self.shift_variable(opcode, &amount, &value);
        self.state.push(out);
    }

    /// The amount as a limb, all bits above 255 folded in: 256 or more where the word is.
    fn saturated_amount(&mut self, amount: &Word) -> Value {
        let high = self.math().or_all(&amount.limbs[1..]);
        let low = self.math().value(amount.limbs[0]);
        match high {
            Limb::Const(0) => low,
            Limb::Const(_) => self.constant(256),
            Limb::Value(high) => {
                let is_far = self.math().compare_zero(IntCC::NotEqual, high);
                let far = self.constant(256);
                self.b.ins().select(is_far, far, low)
            }
        }
    }

    /// `1 << amount`.
    fn power_of_two(&mut self, amount: &Word) -> Word {
        let amount = self.saturated_amount(amount);
        let one = self.constant(1);
        let bit = self.b.ins().ishl(one, amount);
        let six = self.constant(6);
        let limb = self.b.ins().ushr(amount, six);
        let limbs = [0u64, 1, 2, 3].map(|index| {
            let index = self.constant(index);
            let is_here = self.b.ins().icmp(IntCC::Equal, limb, index);
            let zero = self.constant(0);
            Limb::Value(self.b.ins().select(is_here, bit, zero))
        });
        Word::of(limbs)
    }

    /// Shifts by whole limbs through memory on the native stack, by reading at a limb's offset, then by bits.
    fn shift_variable(&mut self, opcode: u8, amount: &Word, value: &Word) -> Word {
        let slot = match self.shift_slot {
            Some(slot) => slot,
            None => {
                // Four limbs of fill, four of value, four of fill would allow both directions; nine suffice for each.
                let slot =
                    self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 9 * 8, 3));
                self.shift_slot = Some(slot);
                slot
            }
        };
        let amount = self.saturated_amount(amount);
        let limit = self.constant(256);
        let is_far = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, amount, limit);
        let zero = self.constant(0);
        let fill = if opcode == SAR {
            let top = self.math().value(value.limbs[3]);
            let amount = self.constant(63);
            self.b.ins().sshr(top, amount)
        } else {
            zero
        };
        // Beyond 255 the fill is all there is: a shift by 256 less than a limb, then by a limb of bits, would do, but a
        // clamped index does without a branch.
        let far = self.constant(256);
        let amount = self.b.ins().select(is_far, far, amount);
        let six = self.constant(6);
        let limbs = self.b.ins().ushr(amount, six);
        let three = self.constant(3);
        let bytes = self.b.ins().ishl(limbs, three);
        let low_bits = self.constant(63);
        let bits = self.b.ins().band(amount, low_bits);
        // `x << (64 - bits)` in two steps, so that 64 shifts everything out.
        let inverse = self.b.ins().bxor(bits, low_bits);
        let one = self.constant(1);
        let base = self.b.ins().stack_addr(I64, slot, 0);
        let flags = cranelift_codegen::ir::MemFlagsData::trusted();
        let word: Vec<Value> = value.limbs.iter().map(|limb| self.math().value(*limb)).collect();
        if opcode == SHL {
            // fill*5, value: reading four limbs from (5 - limbs) on, and one below.
            for index in 0..5 {
                self.b.ins().store(flags, zero, base, index * 8);
            }
            for (index, limb) in word.iter().enumerate() {
                self.b.ins().store(flags, *limb, base, 40 + index as i32 * 8);
            }
            let from = self.b.ins().isub(base, bytes);
            let limbs = [0, 1, 2, 3].map(|index| {
                let own = self.b.ins().load(I64, flags, from, 40 + index * 8);
                let below = self.b.ins().load(I64, flags, from, 32 + index * 8);
                let own = self.b.ins().ishl(own, bits);
                let below = self.b.ins().ushr(below, one);
                let below = self.b.ins().ushr(below, inverse);
                Limb::Value(self.b.ins().bor(own, below))
            });
            return Word::of(limbs);
        }
        for (index, limb) in word.iter().enumerate() {
            self.b.ins().store(flags, *limb, base, index as i32 * 8);
        }
        for index in 4..9 {
            self.b.ins().store(flags, fill, base, index * 8);
        }
        let from = self.b.ins().iadd(base, bytes);
        let limbs = [0, 1, 2, 3].map(|index| {
            let own = self.b.ins().load(I64, flags, from, index * 8);
            let above = self.b.ins().load(I64, flags, from, 8 + index * 8);
            let own = self.b.ins().ushr(own, bits);
            let above = self.b.ins().ishl(above, one);
            let above = self.b.ins().ishl(above, inverse);
            Limb::Value(self.b.ins().bor(own, above))
        });
        Word::of(limbs)
    }

    fn indexed(&mut self, opcode: u8) {
        let index = self.read(self.state.top - 1);
        let Some(index) = index.as_constant() else {
            let helper = if opcode == BYTE { Helper::PureByte } else { Helper::PureSignextend };
            return self.pure(helper, 2);
        };
        let _ = self.pop();
        let value = self.pop();
        let index = if index[1..] == [0; 3] { index[0] } else { u64::MAX };
        let out = match opcode {
            BYTE => self.math().byte_constant(index, &value),
            _ => self.math().signextend_constant(index, &value),
        };
        self.state.push(out);
    }

    /// DIV and MOD: by one machine instruction where both fit a limb, found out at run time if not before.
    fn divide(&mut self, opcode: u8) {
        let helper = if opcode == DIV { Helper::PureDiv } else { Helper::PureMod };
        let (a, b) = (self.read(self.state.top - 1), self.read(self.state.top - 2));
        if let Some(divisor) = b.as_constant() {
            let bits: u32 = divisor.iter().map(|limb| limb.count_ones()).sum();
            if bits <= 1 {
                let out = self.divide_by_power(opcode, &a, divisor);
                self.state.top -= 2;
                for height in [self.state.top, self.state.top + 1] {
                    self.state.slots.remove(&height);
                }
                self.state.push(out);
                return;
            }
        }
        let is_wide = |word: &Word| matches!(word.as_constant(), Some([_, rest @ ..]) if rest != [0; 3]);
        if is_wide(&a) || is_wide(&b) {
            return self.pure(helper, 2);
        }
        let high: Vec<Limb> = a.limbs[1..].iter().chain(&b.limbs[1..]).copied().collect();
        let wide = self.math().or_all(&high);
        let done = self.b.create_block();
        let slow = match wide {
            Limb::Const(_) => None,
            Limb::Value(wide) => {
                let (slow, fast) = (self.cold_block(), self.b.create_block());
                let is_wide = self.math().compare_zero(IntCC::NotEqual, wide);
                self.b.ins().brif(is_wide, slow, &[], fast, &[]);
                self.b.switch_to_block(fast);
                Some(slow)
            }
        };
        let (dividend, divisor) = (self.math().value(a.limbs[0]), self.math().value(b.limbs[0]));
        let zero = self.constant(0);
        let (divide, by_zero) = (self.b.create_block(), self.cold_block());
        let is_zero = self.math().compare_zero(IntCC::Equal, divisor);
        self.b.ins().brif(is_zero, by_zero, &[], divide, &[]);
        let limbs = if slow.is_some() { 4 } else { 1 };
        for _ in 0..limbs {
            self.b.append_block_param(done, I64);
        }
        let result = |low: Value| -> Vec<BlockArg> {
            [low, zero, zero, zero].iter().take(limbs).map(|limb| BlockArg::Value(*limb)).collect()
        };
        self.b.switch_to_block(by_zero);
        self.b.ins().jump(done, &result(zero));
        self.b.switch_to_block(divide);
        let quotient = if opcode == DIV {
            self.b.ins().udiv(dividend, divisor)
        } else {
            self.b.ins().urem(dividend, divisor)
        };
        self.b.ins().jump(done, &result(quotient));
        let bottom = self.state.top - 2;
        if let Some(slow) = slow {
            self.b.switch_to_block(slow);
            self.store_word(bottom + 1, &a);
            self.store_word(bottom, &b);
            let words = self.stack_address(bottom);
            self.call_pure(helper, words);
            let word = self.load_word(bottom);
            let args: Vec<BlockArg> =
                word.limbs.iter().map(|limb| BlockArg::Value(self.math().value(*limb))).collect();
            self.b.ins().jump(done, &args);
        }
        self.b.switch_to_block(done);
        let params = self.b.block_params(done);
        let word = match *params {
            [low, l1, l2, l3] => {
                Word::of([Limb::Value(low), Limb::Value(l1), Limb::Value(l2), Limb::Value(l3)])
            }
            _ => Word::low(params[0]),
        };
        self.state.top = bottom;
        for height in [bottom, bottom + 1] {
            self.state.slots.remove(&height);
        }
        self.state.push(word);
    }

    /// Division by zero or a power of two.
    fn divide_by_power(&mut self, opcode: u8, a: &Word, divisor: [u64; 4]) -> Word {
        let Some(limb) = divisor.iter().position(|limb| *limb != 0) else { return Word::ZERO };
        let exponent = limb as u64 * 64 + u64::from(divisor[limb].trailing_zeros());
        if opcode == DIV {
            return self.math().shr_constant(a, exponent);
        }
        let mut mask = [0; 4];
        mask[..limb].fill(u64::MAX);
        mask[limb] = divisor[limb] - 1;
        self.math().bitwise(a, &Word::constant(mask), Math::and_limb)
    }

    /// Runs a helper on the topmost words, in memory; its result takes the place of the lowest.
    fn pure(&mut self, helper: Helper, inputs: i32) {
        self.flush_operands(inputs);
        let bottom = self.state.top - inputs;
        let words = self.stack_address(bottom);
        self.call_pure(helper, words);
        for height in bottom..self.state.top {
            self.state.slots.remove(&height);
        }
        self.state.top = bottom + 1;
    }

    /// An address out of 20 bytes.
    fn address(&mut self, field: i32) {
        let bytes = self.load_context(field);
        let flags = self.context_flags;
        let low = self.b.ins().load(I64, flags, bytes, 12);
        let low = self.b.ins().bswap(low);
        let middle = self.b.ins().load(I64, flags, bytes, 4);
        let middle = self.b.ins().bswap(middle);
        let high = self.b.ins().load(I32, flags, bytes, 0);
        let high = self.b.ins().bswap(high);
        let high = self.b.ins().uextend(I64, high);
        let limbs = [Limb::Value(low), Limb::Value(middle), Limb::Value(high), Limb::Const(0)];
        self.state.push(Word::of(limbs));
    }

    /// Runs revm's own instruction, directly for the frequent ones.
    fn by_revm(&mut self, instruction: Instruction, is_fallible_later: bool) {
        let opcode = instruction.opcode;
        let helper = match opcode {
            KECCAK256 => Helper::Keccak,
            SLOAD => Helper::Sload,
            SSTORE => Helper::Sstore,
            TLOAD => Helper::Tload,
            TSTORE => Helper::Tstore,
            CALLDATACOPY => Helper::CalldataCopy,
            MCOPY => Helper::Mcopy,
            RETURNDATACOPY => Helper::ReturndataCopy,
            LOG1 => Helper::Log1,
            LOG2 => Helper::Log2,
            LOG3 => Helper::Log3,
            LOG4 => Helper::Log4,
            _ => Helper::Instruction,
        };
        let (inputs, outputs) =
            info(opcode).map_or((0, 0), |info| (i32::from(info.inputs), i32::from(info.outputs)));
        self.flush_operands(inputs);
        let stack = self.stack_address(self.state.top);
        let gas = self.exact_gas();
        let argument = self.constant(u64::from(opcode));
        let answer = self.call_helper(helper, stack, gas, argument);
        let bottom = self.state.top - inputs;
        for height in bottom..self.state.top {
            self.state.slots.remove(&height);
        }
        self.state.top = bottom + outputs;
        self.settle(answer, instruction.next_pc(), 0, is_fallible_later);
    }
}
