//! Words, the stack in memory, the context and the helpers: what every instruction's lowering uses.

use super::*;

impl<'f> Lowering<'_, 'f> {
    pub(in super::super) fn load_context(&mut self, field: i32) -> Value {
        self.b.ins().load(I64, self.context_flags, self.context, field)
    }

    pub(super) fn store_context(&mut self, field: i32, value: Value) {
        self.b.ins().store(self.context_flags, value, self.context, field);
    }

    /// Address of the stack word at a height.
    pub(in super::super) fn stack_address(&mut self, height: i32) -> Value {
        if height == 0 {
            return self.state.sp;
        }
        let bytes = self.constant((i64::from(height) * 32) as u64);
        self.b.ins().iadd(self.state.sp, bytes)
    }

    pub(in super::super) fn store_word(&mut self, height: i32, word: &Word) {
        self.store_words(&[(height, *word)]);
    }

    /// Writes words to the stack. Zeros are written in pairs, by one vector store: small constants, booleans and offsets
    /// are most of what is written.
    pub(super) fn store_words(&mut self, words: &[(i32, Word)]) {
        let (mut zero, mut zero_pair) = (None, None);
        for (height, word) in words {
            for half in [0, 2] {
                let at = height * 32 + half as i32 * 8;
                if word.limbs[half..half + 2] == [Limb::Const(0); 2] {
                    let pair = match zero_pair {
                        Some(pair) => pair,
                        None => {
                            let bytes = self.b.func.dfg.constants.insert(vec![0u8; 16].into());
                            *zero_pair.insert(self.b.ins().vconst(I64X2, bytes))
                        }
                    };
                    self.b.ins().store(self.stack_flags, pair, self.state.sp, at);
                    continue;
                }
                for index in [half, half + 1] {
                    let value = match word.limbs[index] {
                        Limb::Const(0) => match zero {
                            Some(zero) => zero,
                            None => *zero.insert(self.b.ins().iconst(I64, 0)),
                        },
                        limb => self.math().value(limb),
                    };
                    self.b.ins().store(
                        self.stack_flags,
                        value,
                        self.state.sp,
                        height * 32 + index as i32 * 8,
                    );
                }
            }
        }
    }

    pub(in super::super) fn load_word(&mut self, height: i32) -> Word {
        let mut limbs = [Limb::Const(0); 4];
        for (index, limb) in limbs.iter_mut().enumerate() {
            let at = height * 32 + index as i32 * 8;
            *limb = Limb::Value(self.b.ins().load(I64, self.stack_flags, self.state.sp, at));
        }
        Word::of(limbs)
    }

    /// The word at a height, from memory if it is not known.
    pub(in super::super) fn read(&mut self, height: i32) -> Word {
        if let Some(slot) = self.state.slots.get(&height) {
            return slot.word;
        }
        let word = self.load_word(height);
        self.state.slots.insert(height, Slot { word, is_dirty: false });
        word
    }

    pub(in super::super) fn pop(&mut self) -> Word {
        let height = self.state.top - 1;
        let word = self.read(height);
        self.state.slots.remove(&height);
        self.state.top = height;
        word
    }

    /// Writes all dirty words below a height to memory.
    pub(in super::super) fn flush(&mut self, height: i32) {
        let dirty = self.state.dirty_below(height);
        self.store_words(&dirty);
        for (at, _) in dirty {
            if let Some(slot) = self.state.slots.get_mut(&at) {
                slot.is_dirty = false;
            }
        }
    }

    /// Writes the dirty ones of the topmost words to memory.
    pub(in super::super) fn flush_operands(&mut self, count: i32) {
        let mut dirty = self.state.dirty_below(self.state.top);
        dirty.retain(|(height, _)| *height >= self.state.top - count);
        self.store_words(&dirty);
        for (at, _) in dirty {
            if let Some(slot) = self.state.slots.get_mut(&at) {
                slot.is_dirty = false;
            }
        }
    }

    pub(super) fn helper_address(&mut self, helper: Helper) -> Value {
        let helpers = self.load_context(offset::HELPERS);
        self.b.ins().load(I64, self.context_flags, helpers, helper as i32 * 8)
    }

    /// Calls a helper; nothing is known of its answer yet.
    pub(in super::super) fn call_helper(
        &mut self,
        helper: Helper,
        stack: Value,
        gas: Value,
        argument: Value,
    ) -> Value {
        let function = self.helper_address(helper);
        let call = self.b.ins().call_indirect(
            self.helper_signature,
            function,
            &[self.context, stack, gas, argument],
        );
        self.b.inst_results(call)[0]
    }

    pub(in super::super) fn call_pure(&mut self, helper: Helper, words: Value) {
        let function = self.helper_address(helper);
        self.b.ins().call_indirect(self.pure_signature, function, &[words]);
    }

    pub(super) fn is_failed(&mut self, answer: Value) -> Value {
        let failed = self.constant(crate::context::FAILED);
        self.b.ins().icmp(IntCC::Equal, answer, failed)
    }

    /// The gas that the interpreter would have left now, before the current instruction's dynamic gas.
    pub(in super::super) fn exact_gas(&mut self) -> Value {
        if self.rest == 0 {
            return self.state.gas;
        }
        let rest = self.constant(self.rest);
        self.b.ins().iadd(self.state.gas, rest)
    }

    /// Takes a helper's answer: leaves if it failed, or if the rest of the block can no longer be paid for, in which case
    /// the interpreter goes on at `pc` with `refund` more gas, if anything later in the block could fail differently.
    pub(in super::super) fn settle(
        &mut self,
        answer: Value,
        pc: usize,
        refund: u64,
        is_fallible_later: bool,
    ) {
        let go = self.b.create_block();
        if self.rest == 0 {
            let is_failed = self.is_failed(answer);
            let failed = self.failed_block();
            self.b.ins().brif(is_failed, failed, &[], go, &[]);
            self.b.switch_to_block(go);
            self.state.gas = answer;
            return;
        }
        // FAILED is -1: one comparison finds both cases.
        let (one, limit) = (self.constant(1), self.constant(self.rest + 1));
        let more = self.b.ins().iadd(answer, one);
        let is_late = self.b.ins().icmp(IntCC::UnsignedLessThan, more, limit);
        if is_fallible_later {
            let cold = self.cold_block();
            self.b.ins().brif(is_late, cold, &[], go, &[]);
            self.b.switch_to_block(cold);
            let (failed, short) = (self.failed_block(), self.cold_block());
            let is_failed = self.is_failed(answer);
            self.b.ins().brif(is_failed, failed, &[], short, &[]);
            self.b.switch_to_block(short);
            let refund = self.constant(refund);
            let gas = self.b.ins().iadd(answer, refund);
            self.leave(pc, gas);
        } else {
            let late = self.late_block();
            self.b.ins().brif(is_late, late, &[BlockArg::Value(answer)], go, &[]);
        }
        self.b.switch_to_block(go);
        let rest = self.constant(self.rest);
        self.state.gas = self.b.ins().isub(answer, rest);
    }
}
