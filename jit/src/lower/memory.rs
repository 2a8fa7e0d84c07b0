//! Instructions that touch EVM memory and the call's input.

use super::{
    region::Lowering,
    word::{Limb, Word},
};
use crate::{
    analysis::Instruction,
    config::Sabotage,
    context::{Helper, offset},
    opcode::{MLOAD, MSTORE, info},
};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, condcodes::IntCC, types::I64};
use revm::interpreter::InstructionResult;

/// Offsets from here on go to the helper: no memory is that long, and below it no sum overflows.
const NEAR: u64 = 1 << 32;

impl Lowering<'_, '_> {
    /// MLOAD, MSTORE, MSTORE8.
    pub(super) fn memory_access(&mut self, instruction: Instruction, is_fallible_later: bool) {
        let opcode = instruction.opcode;
        let at = self.read(self.state.top - 1);
        let length = if opcode == MLOAD || opcode == MSTORE { 32 } else { 1 };
        let address = self.memory_address(&at, length, instruction, is_fallible_later);
        let _ = self.pop();
        let flags = self.memory_flags;
        if opcode == MLOAD {
            let word = self.load_bytes(address);
            self.state.push(word);
            return;
        }
        let value = self.pop();
        if opcode == MSTORE {
            for (index, limb) in value.limbs.into_iter().enumerate() {
                let limb = match index == 0 && self.config.has_fault(Sabotage::StoreByte) {
                    true => self.math().and_limb(limb, Limb::Const(!0xff)),
                    false => limb,
                };
                let value = match limb {
                    Limb::Const(limb) => self.constant(limb.swap_bytes()),
                    Limb::Value(limb) => self.b.ins().bswap(limb),
                };
                self.b.ins().store(flags, value, address, 24 - index as i32 * 8);
            }
        } else {
            let value = self.math().value(value.limbs[0]);
            self.b.ins().istore8(flags, value, address, 0);
        }
    }

    /// 32 bytes as a word.
    fn load_bytes(&mut self, address: Value) -> Word {
        let flags = self.memory_flags;
        let limbs = [24, 16, 8, 0].map(|at| {
            let limb = self.b.ins().load(I64, flags, address, at);
            Limb::Value(self.b.ins().bswap(limb))
        });
        Word::of(limbs)
    }

    /// The address of memory at an offset, which is made long enough first. Operands are still on the stack.
    fn memory_address(
        &mut self,
        at: &Word,
        length: u64,
        instruction: Instruction,
        is_fallible_later: bool,
    ) -> Value {
        let from = match at.as_constant() {
            Some([from, 0, 0, 0]) if from < NEAR => {
                if from + length > self.state.memory_len {
                    let end = self.constant(from + length);
                    let memory_len = self.load_context(offset::MEMORY_LEN);
                    let is_short = self.b.ins().icmp(IntCC::UnsignedLessThan, memory_len, end);
                    let (grow, go) = (self.cold_block(), self.b.create_block());
                    let gas = self.b.append_block_param(go, I64);
                    let before = self.state.gas;
                    self.b.ins().brif(is_short, grow, &[], go, &[BlockArg::Value(before)]);
                    self.b.switch_to_block(grow);
                    let from = self.constant(from);
                    self.grow(from, length, instruction, is_fallible_later);
                    let after = self.state.gas;
                    self.b.ins().jump(go, &[BlockArg::Value(after)]);
                    self.b.switch_to_block(go);
                    self.state.gas = gas;
                    self.state.memory_len = from_constant(at) + length;
                }
                let memory = self.load_context(offset::MEMORY);
                let from = self.constant(from);
                return self.b.ins().iadd(memory, from);
            }
            Some([_, 0, 0, 0]) | None => at,
            Some(_) => {
                self.halt(InstructionResult::InvalidOperandOOG);
                let rest = self.b.create_block();
                self.b.switch_to_block(rest);
                // What follows in this block is never reached.
                self.b.append_block_param(rest, I64);
                return self.b.block_params(rest)[0];
            }
        };
        let low = self.math().value(from.limbs[0]);
        let shift = self.constant(32);
        let far = self.b.ins().ushr(low, shift);
        let mut far = Limb::Value(far);
        if let Limb::Value(high) = self.math().or_all(&from.limbs[1..]) {
            far = self.math().or_limb(far, Limb::Value(high));
        }
        let far = self.math().value(far);
        let near = self.b.create_block();
        let grow = self.cold_block();
        let go = self.b.create_block();
        let gas = self.b.append_block_param(go, I64);
        let before = self.state.gas;
        let is_far = self.math().compare_zero(IntCC::NotEqual, far);
        let far_block = if from.width() > 1 { self.cold_block() } else { grow };
        self.b.ins().brif(is_far, far_block, &[], near, &[]);
        if from.width() > 1 {
            self.b.switch_to_block(far_block);
            let high = self.math().or_all(&from.limbs[1..]);
            let high = self.math().value(high);
            let is_invalid = self.math().compare_zero(IntCC::NotEqual, high);
            let invalid = self.halt_block(InstructionResult::InvalidOperandOOG);
            self.b.ins().brif(is_invalid, invalid, &[], grow, &[]);
        }
        self.b.switch_to_block(near);
        let length_value = self.constant(length);
        let end = self.b.ins().iadd(low, length_value);
        let memory_len = self.load_context(offset::MEMORY_LEN);
        let is_short = self.b.ins().icmp(IntCC::UnsignedLessThan, memory_len, end);
        self.b.ins().brif(is_short, grow, &[], go, &[BlockArg::Value(before)]);
        self.b.switch_to_block(grow);
        self.grow(low, length, instruction, is_fallible_later);
        let after = self.state.gas;
        self.b.ins().jump(go, &[BlockArg::Value(after)]);
        self.b.switch_to_block(go);
        self.state.gas = gas;
        let memory = self.load_context(offset::MEMORY);
        self.b.ins().iadd(memory, low)
    }

    /// Grows memory in a cold block. Where the rest of the block cannot be paid for afterwards, the interpreter does this
    /// instruction again.
    fn grow(&mut self, from: Value, length: u64, instruction: Instruction, is_fallible_later: bool) {
        let gas = self.exact_gas();
        let length = self.constant(length);
        let answer = self.call_helper(Helper::Grow, length, gas, from);
        let own = info(instruction.opcode).map_or(0, |info| u64::from(info.static_gas(self.analysis.spec)));
        self.settle(answer, instruction.pc, own, is_fallible_later);
    }

    pub(super) fn calldata_load(&mut self) {
        let at = self.pop();
        let length = self.load_context(offset::CALLDATA_LEN);
        let (slow, fast, done) = (self.cold_block(), self.b.create_block(), self.b.create_block());
        for _ in 0..4 {
            self.b.append_block_param(done, I64);
        }
        // Inside if 32 bytes from here on do not pass the end: the length of an input is far below 2^63.
        let low = self.math().value(at.limbs[0]);
        let word = self.constant(32);
        let spare = self.b.ins().isub(length, word);
        let is_inside = self.b.ins().icmp(IntCC::SignedLessThanOrEqual, low, spare);
        let inside = match at.limbs[0] {
            Limb::Const(low) if low < NEAR => is_inside,
            _ => {
                let is_positive = self.math().compare_zero(IntCC::SignedGreaterThanOrEqual, low);
                self.b.ins().band(is_inside, is_positive)
            }
        };
        let is_fast = match self.math().or_all(&at.limbs[1..]) {
            Limb::Const(0) => inside,
            high => {
                let high = self.math().value(high);
                let is_near = self.math().compare_zero(IntCC::Equal, high);
                self.b.ins().band(inside, is_near)
            }
        };
        self.b.ins().brif(is_fast, fast, &[], slow, &[]);
        self.b.switch_to_block(fast);
        let calldata = self.load_context(offset::CALLDATA);
        let address = self.b.ins().iadd(calldata, low);
        let out = self.load_bytes(address);
        let args = self.limb_args(&out);
        self.b.ins().jump(done, &args);
        self.b.switch_to_block(slow);
        let height = self.state.top;
        self.store_word(height, &at);
        let stack = self.stack_address(height + 1);
        let gas = self.exact_gas();
        let nothing = self.constant(0);
        // Without gas or failure: the answer says nothing new.
        self.call_helper(Helper::CalldataLoad, stack, gas, nothing);
        let out = self.load_word(height);
        let args = self.limb_args(&out);
        self.b.ins().jump(done, &args);
        self.b.switch_to_block(done);
        let params = self.b.block_params(done);
        let limbs = [params[0], params[1], params[2], params[3]].map(Limb::Value);
        self.state.push(Word::of(limbs));
    }

    pub(super) fn limb_args(&mut self, word: &Word) -> Vec<BlockArg> {
        word.limbs.iter().map(|limb| BlockArg::Value(self.math().value(*limb))).collect()
    }
}

fn from_constant(word: &Word) -> u64 {
    word.as_constant().map_or(0, |limbs| limbs[0])
}
