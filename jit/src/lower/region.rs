//! A region: dispatch to its entries, its blocks in the order of their trees, edges between blocks, exits.

mod values;

use super::{
    prelude::region_signature,
    state::{SLOTS_MAX, Slot, State},
    word::{Limb, Math, Word},
};
use crate::{
    analysis::{Analysis, Block as CodeBlock, JumpTarget, RegionId, Terminator},
    config::{CompilerConfig, Sabotage},
    context::{Exit, Helper, offset},
    opcode,
};
use cranelift_codegen::{
    ir::{
        AbiParam, AliasRegionData, Block, BlockArg, BlockCall, Function, InstBuilder, JumpTableData,
        MemFlagsData, SigRef, Signature, UserFuncName, Value,
        condcodes::IntCC,
        types::{I32, I64, I64X2},
    },
    isa::OwnedTargetIsa,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use revm::interpreter::InstructionResult;

/// Multiplications of four limbs by four that one region may hold inline; further ones are calls.
const MULS_INLINE_MAX: usize = 40;

/// Builds a region.
pub struct RegionLowering<'a> {
    analysis: &'a Analysis<'a>,
    config: &'a CompilerConfig,
    isa: &'a OwnedTargetIsa,
    region: RegionId,
}

impl<'a> RegionLowering<'a> {
    /// For this region.
    pub fn new(
        analysis: &'a Analysis<'a>,
        config: &'a CompilerConfig,
        isa: &'a OwnedTargetIsa,
        region: RegionId,
    ) -> Self {
        Self { analysis, config, isa, region }
    }

    /// Writes its CLIF into `function`, which is empty.
    pub fn build(self, function: &mut Function, builder: &mut FunctionBuilderContext) {
        function.name = UserFuncName::user(1, self.region.0 as u32);
        function.signature = region_signature();
        let mut lowering = Lowering::new(&self, FunctionBuilder::new(function, builder));
        lowering.entry();
        lowering.blocks();
        lowering.exits();
        let mut b = lowering.b;
        b.seal_all_blocks();
        b.finalize(self.isa.frontend_config());
    }
}

/// Blocks that all of a region leaves through. Made when first used.
#[derive(Default)]
struct Exits {
    /// Halts with a constant result.
    halts: Vec<(InstructionResult, Block)>,
    /// `(gas)`: STOP.
    stop: Option<Block>,
    /// The frame halts or suspends as a helper has noted.
    failed: Option<Block>,
    /// `(answer)`: a helper's answer is either [`crate::context::FAILED`] or less gas than the block still needs.
    late: Option<Block>,
    /// `(sp, gas, pc)`: the interpreter goes on.
    interpret: Option<Block>,
    /// `(sp, gas, pc)`: a computed jump.
    dynamic: Option<Block>,
}

/// A region being built.
pub(super) struct Lowering<'a, 'f> {
    pub(super) analysis: &'a Analysis<'a>,
    pub(super) config: &'a CompilerConfig,
    pub(super) b: FunctionBuilder<'f>,
    pub(super) context: Value,
    region: RegionId,
    first_block: usize,
    /// CLIF blocks of the region's blocks.
    clif: Vec<Block>,
    dispatch: Option<Block>,
    exits: Exits,
    pub(super) state: State,
    /// States handed down to children, by block less `first_block`.
    inherited: Vec<Option<State>>,
    pub(super) context_flags: MemFlagsData,
    pub(super) stack_flags: MemFlagsData,
    pub(super) memory_flags: MemFlagsData,
    helper_signature: SigRef,
    pure_signature: SigRef,
    region_signature: SigRef,
    /// The code block being lowered.
    pub(super) current: usize,
    /// Static gas of the instructions behind the current one in its block.
    pub(super) rest: u64,
    pub(super) muls_left: usize,
    pub(super) shift_slot: Option<cranelift_codegen::ir::StackSlot>,
}

impl<'a, 'f> Lowering<'a, 'f> {
    fn new(what: &RegionLowering<'a>, mut b: FunctionBuilder<'f>) -> Self {
        let region = &what.analysis.regions[what.region.0];
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params: Vec<Value> = b.block_params(entry).to_vec();
        let signature = |params: usize, has_result: bool| {
            let mut signature = Signature::new(what.isa.default_call_conv());
            signature.params.extend(std::iter::repeat_n(AbiParam::new(I64), params));
            signature.returns.extend(has_result.then_some(AbiParam::new(I64)));
            signature
        };
        let helper_signature = b.import_signature(signature(4, true));
        let pure_signature = b.import_signature(signature(1, false));
        let region_signature = b.import_signature(region_signature());
        // Context, stack and EVM memory never overlap.
        let mut flags = |id: u32, name: &'static str| {
            let region =
                b.func.dfg.alias_regions.insert(AliasRegionData { user_id: id, description: name.into() });
            MemFlagsData::trusted().with_alias_region(Some(region))
        };
        let (context_flags, stack_flags) = (flags(0, "context"), flags(1, "stack"));
        let memory_flags = flags(2, "memory");
        Self {
            analysis: what.analysis,
            config: what.config,
            context: params[0],
            region: what.region,
            first_block: region.blocks.start,
            clif: Vec::new(),
            dispatch: None,
            exits: Exits::default(),
            state: State::new(params[1], params[2]),
            inherited: vec![None; region.blocks.len()],
            context_flags,
            stack_flags,
            memory_flags,
            helper_signature,
            pure_signature,
            region_signature,
            current: region.blocks.start,
            rest: 0,
            muls_left: MULS_INLINE_MAX,
            shift_slot: None,
            b,
        }
    }

    /// The entry block has the function's parameters; from it, computed jumps within the region join at the dispatch.
    fn entry(&mut self) {
        let region = &self.analysis.regions[self.region.0];
        for index in region.blocks.clone() {
            let block = self.b.create_block();
            let code = &self.analysis.blocks[index];
            if code.parent.is_none() {
                self.b.append_block_param(block, I64);
                self.b.append_block_param(block, I64);
            }
            if self.is_cold(code) {
                self.b.set_cold_block(block);
            }
            self.clif.push(block);
        }
        let entry =
            self.b.current_block().map(|block| self.b.block_params(block).to_vec()).unwrap_or_default();
        let entries: Vec<usize> =
            region.blocks.clone().filter(|index| self.analysis.blocks[*index].entry.is_some()).collect();
        let args = [BlockArg::Value(entry[1]), BlockArg::Value(entry[2])];
        if let [only] = entries[..] {
            let target = self.clif[only - self.first_block];
            self.b.ins().jump(target, &args);
            return;
        }
        let dispatch = self.b.create_block();
        for kind in [I64, I64, I32] {
            self.b.append_block_param(dispatch, kind);
        }
        let first = self.constant(u64::from(region.entries.start));
        let index = self.b.ins().isub(entry[3], first);
        let index = self.b.ins().ireduce(I32, index);
        self.b.ins().jump(dispatch, &[args[0], args[1], BlockArg::Value(index)]);
        self.b.switch_to_block(dispatch);
        let params: Vec<Value> = self.b.block_params(dispatch).to_vec();
        let args = [BlockArg::Value(params[0]), BlockArg::Value(params[1])];
        let calls: Vec<BlockCall> = entries
            .iter()
            .map(|index| {
                let target = self.clif[index - self.first_block];
                BlockCall::new(target, args.iter().copied(), &mut self.b.func.dfg.value_lists)
            })
            .collect();
        // Numbers outside the table do not come here.
        let unreachable = self.b.create_block();
        self.b.set_cold_block(unreachable);
        let default = BlockCall::new(unreachable, [], &mut self.b.func.dfg.value_lists);
        let table = self.b.create_jump_table(JumpTableData::new(default, &calls));
        self.b.ins().br_table(params[2], table);
        self.b.switch_to_block(unreachable);
        self.halt(InstructionResult::FatalExternalError);
        self.dispatch = Some(dispatch);
    }

    /// Blocks that end in failure are moved out of the way.
    fn is_cold(&self, code: &CodeBlock) -> bool {
        match code.terminator {
            Terminator::Leave => true,
            Terminator::Halt => {
                let last = self.analysis.instructions[code.instructions.end - 1];
                last.opcode == opcode::REVERT
            }
            _ => false,
        }
    }

    /// All blocks: each root, then its tree.
    fn blocks(&mut self) {
        for root in self.analysis.regions[self.region.0].blocks.clone() {
            if self.analysis.blocks[root].parent.is_some() {
                continue;
            }
            let block = self.clif[root - self.first_block];
            self.b.switch_to_block(block);
            let params = self.b.block_params(block);
            self.state = State::new(params[0], params[1]);
            self.current = root;
            self.stack_check(root);
            self.block(root);
            let mut pending: Vec<usize> = self.analysis.blocks[root].children.clone();
            while let Some(child) = pending.pop() {
                // A child without a state is never reached: the branch to it folded away.
                let Some(state) = self.inherited[child - self.first_block].take() else { continue };
                self.b.switch_to_block(self.clif[child - self.first_block]);
                self.state = state;
                self.current = child;
                self.block(child);
                pending.extend(&self.analysis.blocks[child].children);
            }
        }
    }

    /// One check of the stack's height for a whole tree. Where it fails the interpreter goes on from the root.
    fn stack_check(&mut self, root: usize) {
        let code = &self.analysis.blocks[root];
        let (need, growth) = (code.tree_need as u64, code.tree_growth as u64);
        if need == 0 && growth == 0 {
            return;
        }
        let base = self.load_context(offset::STACK_BASE);
        let height = self.b.ins().isub(self.state.sp, base);
        let below = self.constant(need * 32);
        let spare = self.b.ins().isub(height, below);
        let bad = if need + growth > 1024 {
            self.b.ins().iconst(cranelift_codegen::ir::types::I8, 1)
        } else {
            let limit = self.constant((1024 - need - growth) * 32);
            self.b.ins().icmp(IntCC::UnsignedGreaterThan, spare, limit)
        };
        let (leave, go) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(bad, leave, &[], go, &[]);
        self.b.switch_to_block(leave);
        self.leave(code.pc, self.state.gas);
        self.b.switch_to_block(go);
    }

    fn block(&mut self, index: usize) {
        let code = &self.analysis.blocks[index];
        if self.state.slots.len() > SLOTS_MAX {
            self.flush(self.state.top);
            self.state.slots.clear();
        }
        if code.last_fallible.is_some() {
            // What the block does not touch will be written sooner or later; once here is less than in each of its exits.
            self.flush(self.state.top - code.need as i32);
        }
        if self.config.shadow_checks {
            self.verify(code);
        }
        self.charge(code);
        self.rest = code.gas;
        let last = code.instructions.end - 1;
        for at in code.instructions.clone() {
            let instruction = self.analysis.instructions[at];
            if at == last && !matches!(code.terminator, Terminator::FallThrough(_)) {
                break;
            }
            if let Some(info) = opcode::info(instruction.opcode) {
                self.rest -= u64::from(info.static_gas(self.analysis.spec));
            }
            let is_fallible_later = code.last_fallible.is_some_and(|fallible| fallible > at);
            self.instruction(instruction, is_fallible_later);
        }
        self.terminator(index);
    }

    fn verify(&mut self, code: &CodeBlock) {
        let argument = code.pc as u64 | (code.need as u64) << 24 | (code.growth as u64) << 36;
        let argument = self.constant(argument);
        let stack = self.stack_address(self.state.top);
        self.call_helper(Helper::Verify, stack, self.state.gas, argument);
    }

    /// Takes the block's static gas. Where there is less, the interpreter finds out which instruction fails, unless it can
    /// only be for want of gas.
    fn charge(&mut self, code: &CodeBlock) {
        let cost = code.gas + u64::from(self.config.has_fault(Sabotage::Gas));
        if cost == 0 {
            return;
        }
        let cost = self.constant(cost);
        let is_short = self.b.ins().icmp(IntCC::UnsignedLessThan, self.state.gas, cost);
        let go = self.b.create_block();
        if code.last_fallible.is_some() {
            let leave = self.cold_block();
            self.b.ins().brif(is_short, leave, &[], go, &[]);
            self.b.switch_to_block(leave);
            self.leave(code.pc, self.state.gas);
        } else {
            let out_of_gas = self.halt_block(InstructionResult::OutOfGas);
            self.b.ins().brif(is_short, out_of_gas, &[], go, &[]);
        }
        self.b.switch_to_block(go);
        self.state.gas = self.b.ins().isub(self.state.gas, cost);
    }

    fn terminator(&mut self, index: usize) {
        let code = &self.analysis.blocks[index];
        let last = self.analysis.instructions[code.instructions.end - 1];
        match code.terminator {
            Terminator::FallThrough(next) => self.go_to(next),
            Terminator::Jump(to) => {
                let word = self.pop();
                self.jump_to(to, &word);
            }
            Terminator::Branch(to, next) => {
                let (target, condition) = (self.pop(), self.pop());
                self.branch(to, &target, next, &condition);
            }
            Terminator::Suspend(_) => {
                self.flush(self.state.top);
                self.suspend(last.opcode, last.next_pc());
            }
            Terminator::Halt if last.opcode == opcode::STOP => {
                let stop = self.stop_block();
                self.b.ins().jump(stop, &[BlockArg::Value(self.state.gas)]);
            }
            Terminator::Halt => {
                let inputs = opcode::info(last.opcode).map_or(0, |info| i32::from(info.inputs));
                self.flush_operands(inputs);
                self.suspend(last.opcode, last.next_pc());
            }
            Terminator::Leave => self.leave(last.pc, self.state.gas),
        }
    }

    fn branch(&mut self, to: JumpTarget, target: &Word, next: usize, condition: &Word) {
        let condition = &match self.config.has_fault(Sabotage::JumpCondition) {
            // Right for booleans and wrong for large numbers.
            true => Word::of([condition.limbs[0], Limb::Const(0), Limb::Const(0), Limb::Const(0)]),
            false => *condition,
        };
        let is_taken = match self.math().is_nonzero(condition) {
            Ok(value) => value,
            Err(true) => return self.jump_to(to, target),
            Err(false) => return self.go_to(next),
        };
        // What both ways would write is written once.
        if !self.inherits(next) && !matches!(to, JumpTarget::Block(to) if self.inherits(to)) {
            self.flush(self.state.top);
        }
        let direct = |lowering: &Self, block: usize| {
            lowering.inherits(block).then(|| lowering.clif[block - lowering.first_block])
        };
        let taken_clif = match to {
            JumpTarget::Block(to) => direct(self, to),
            _ => None,
        };
        let next_clif = direct(self, next);
        let taken = taken_clif.unwrap_or_else(|| self.b.create_block());
        let not_taken = next_clif.unwrap_or_else(|| self.b.create_block());
        self.b.ins().brif(is_taken, taken, &[], not_taken, &[]);
        let state = self.state.clone();
        if next_clif.is_some() {
            self.hand_down(next, state.clone());
        } else {
            self.b.switch_to_block(not_taken);
            self.go_to(next);
            self.state = state.clone();
        }
        if taken_clif.is_some() {
            if let JumpTarget::Block(to) = to {
                self.hand_down(to, state);
            }
        } else {
            self.b.switch_to_block(taken);
            self.jump_to(to, target);
        }
    }

    fn inherits(&self, block: usize) -> bool {
        self.analysis.blocks[block].parent == Some(self.current)
    }

    fn hand_down(&mut self, child: usize, state: State) {
        self.inherited[child - self.first_block] = Some(state);
    }

    fn jump_to(&mut self, to: JumpTarget, target: &Word) {
        match to {
            JumpTarget::Block(block) => self.go_to(block),
            JumpTarget::Invalid => self.halt(InstructionResult::InvalidJump),
            JumpTarget::Dynamic => match target.as_constant() {
                Some([pc, 0, 0, 0]) if self.analysis.jumpdests.binary_search(&(pc as usize)).is_ok() => {
                    // Values that came in from a parent can make a target known. Its block is a root, as it has an entry.
                    match self.analysis.block_at(pc as usize) {
                        Some(block) if self.analysis.blocks[block].entry.is_some() => self.go_to(block),
                        _ => self.leave(pc as usize, self.state.gas),
                    }
                }
                Some(_) => self.halt(InstructionResult::InvalidJump),
                None => self.jump_dynamic(target),
            },
        }
    }

    fn jump_dynamic(&mut self, target: &Word) {
        self.flush(self.state.top);
        if let Limb::Value(high) = self.math().or_all(&target.limbs[1..]) {
            let is_far = self.math().compare_zero(IntCC::NotEqual, high);
            let (invalid, go) = (self.halt_block(InstructionResult::InvalidJump), self.b.create_block());
            self.b.ins().brif(is_far, invalid, &[], go, &[]);
            self.b.switch_to_block(go);
        }
        let pc = self.math().value(target.limbs[0]);
        let sp = self.stack_address(self.state.top);
        let dynamic = self.dynamic_block();
        let gas = self.state.gas;
        self.b.ins().jump(dynamic, &[BlockArg::Value(sp), BlockArg::Value(gas), BlockArg::Value(pc)]);
    }

    /// Goes on with a block, here or in another region.
    fn go_to(&mut self, block: usize) {
        if self.inherits(block) {
            self.b.ins().jump(self.clif[block - self.first_block], &[]);
            self.hand_down(block, self.state.clone());
            return;
        }
        self.flush(self.state.top);
        let sp = self.stack_address(self.state.top);
        let gas = self.state.gas;
        let code = &self.analysis.blocks[block];
        if code.region == self.region {
            let target = self.clif[block - self.first_block];
            self.b.ins().jump(target, &[BlockArg::Value(sp), BlockArg::Value(gas)]);
            return;
        }
        let number = self.constant(u64::from(code.entry.unwrap_or(0)));
        self.tail_call(sp, gas, number);
    }

    /// Goes over into the function of an entry.
    fn tail_call(&mut self, sp: Value, gas: Value, number: Value) {
        let functions = self.load_context(offset::ENTRY_FUNCTIONS);
        let three = self.constant(3);
        let at = self.b.ins().ishl(number, three);
        let address = self.b.ins().iadd(functions, at);
        let function = self.b.ins().load(I64, self.context_flags, address, 0);
        self.b.ins().return_call_indirect(self.region_signature, function, &[self.context, sp, gas, number]);
    }

    /// A call, a create or the frame's end, by revm's own instruction; all it needs is in memory.
    fn suspend(&mut self, opcode: u8, next_pc: usize) {
        let stack = self.stack_address(self.state.top);
        let argument = self.constant(u64::from(opcode) | (next_pc as u64) << 8);
        let answer = self.call_helper(Helper::Suspend, stack, self.state.gas, argument);
        // Creating too deep goes on at once in forks to come; everything else leaves.
        let is_over = self.is_failed(answer);
        let (failed, go) = (self.failed_block(), self.cold_block());
        self.b.ins().brif(is_over, failed, &[], go, &[]);
        self.b.switch_to_block(go);
        let info = opcode::info(opcode);
        self.state.slots.clear();
        self.state.top += info.map_or(0, |info| i32::from(info.outputs) - i32::from(info.inputs));
        self.leave(next_pc, answer);
    }

    /// Leaves for the interpreter at `pc`, with the stack as it is and `gas`.
    pub(super) fn leave(&mut self, pc: usize, gas: Value) {
        let dirty = self.state.dirty_below(self.state.top);
        self.store_words(&dirty);
        let sp = self.stack_address(self.state.top);
        let pc = self.constant(pc as u64);
        let block = self.interpret_block();
        self.b.ins().jump(block, &[BlockArg::Value(sp), BlockArg::Value(gas), BlockArg::Value(pc)]);
    }

    pub(super) fn halt(&mut self, result: InstructionResult) {
        let block = self.halt_block(result);
        self.b.ins().jump(block, &[]);
    }

    // Exits.

    pub(super) fn cold_block(&mut self) -> Block {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        block
    }

    fn cold_block_with(&mut self, params: usize) -> Block {
        let block = self.cold_block();
        for _ in 0..params {
            self.b.append_block_param(block, I64);
        }
        block
    }

    pub(super) fn halt_block(&mut self, result: InstructionResult) -> Block {
        if let Some((_, block)) = self.exits.halts.iter().find(|(own, _)| *own == result) {
            return *block;
        }
        let block = self.cold_block();
        self.exits.halts.push((result, block));
        block
    }

    fn stop_block(&mut self) -> Block {
        if let Some(block) = self.exits.stop {
            return block;
        }
        let block = self.b.create_block();
        self.b.append_block_param(block, I64);
        self.exits.stop = Some(block);
        block
    }

    pub(super) fn failed_block(&mut self) -> Block {
        if let Some(block) = self.exits.failed {
            return block;
        }
        let block = self.cold_block();
        self.exits.failed = Some(block);
        block
    }

    fn late_block(&mut self) -> Block {
        if let Some(block) = self.exits.late {
            return block;
        }
        let block = self.cold_block_with(1);
        self.exits.late = Some(block);
        block
    }

    fn interpret_block(&mut self) -> Block {
        if let Some(block) = self.exits.interpret {
            return block;
        }
        let block = self.cold_block_with(3);
        self.exits.interpret = Some(block);
        block
    }

    fn dynamic_block(&mut self) -> Block {
        if let Some(block) = self.exits.dynamic {
            return block;
        }
        let block = self.b.create_block();
        for _ in 0..3 {
            self.b.append_block_param(block, I64);
        }
        self.exits.dynamic = Some(block);
        block
    }

    /// Fills the exits that are used. One may lead to another, so in an order that allows for it.
    fn exits(&mut self) {
        if let Some(block) = self.exits.dynamic {
            self.b.switch_to_block(block);
            let params: Vec<Value> = self.b.block_params(block).to_vec();
            self.dynamic(params[0], params[1], params[2]);
        }
        if let Some(block) = self.exits.late {
            self.b.switch_to_block(block);
            let answer = self.b.block_params(block)[0];
            let is_failed = self.is_failed(answer);
            let (failed, short) = (self.failed_block(), self.halt_block(InstructionResult::OutOfGas));
            self.b.ins().brif(is_failed, failed, &[], short, &[]);
        }
        if let Some(block) = self.exits.interpret {
            self.b.switch_to_block(block);
            let params: Vec<Value> = self.b.block_params(block).to_vec();
            self.store_context(offset::SP, params[0]);
            self.store_context(offset::GAS, params[1]);
            self.store_context(offset::EXIT, params[2]);
            self.exit(Exit::Interpret);
        }
        if let Some(block) = self.exits.stop {
            self.b.switch_to_block(block);
            let gas = self.b.block_params(block)[0];
            self.store_context(offset::GAS, gas);
            let result = self.constant(InstructionResult::Stop as u64);
            self.store_context(offset::EXIT, result);
            self.exit(Exit::Halt);
        }
        if let Some(block) = self.exits.failed {
            self.b.switch_to_block(block);
            self.exit(Exit::Halt);
        }
        for (result, block) in std::mem::take(&mut self.exits.halts) {
            self.b.switch_to_block(block);
            let zero = self.constant(0);
            self.store_context(offset::GAS, zero);
            let result = self.constant(result as u64);
            self.store_context(offset::EXIT, result);
            self.exit(Exit::Halt);
        }
    }

    fn exit(&mut self, exit: Exit) {
        let exit = self.constant(exit as u64);
        self.b.ins().return_(&[exit]);
    }

    /// A computed jump: by table to an entry's number, then to the block here or to its function.
    fn dynamic(&mut self, sp: Value, gas: Value, pc: Value) {
        let length = self.constant(self.analysis.code.len() as u64);
        let is_outside = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, pc, length);
        let (invalid, inside) = (self.halt_block(InstructionResult::InvalidJump), self.b.create_block());
        self.b.ins().brif(is_outside, invalid, &[], inside, &[]);
        self.b.switch_to_block(inside);
        let table = self.load_context(offset::JUMP_TABLE);
        let one = self.constant(1);
        let at = self.b.ins().ishl(pc, one);
        let address = self.b.ins().iadd(table, at);
        let number = self.b.ins().uload16(I64, self.context_flags, address, 0);
        let region = &self.analysis.regions[self.region.0];
        let first = self.constant(u64::from(region.entries.start));
        let own = self.b.ins().isub(number, first);
        let elsewhere = self.b.create_block();
        if let Some(dispatch) = self.dispatch {
            let count = self.constant(region.entries.len() as u64);
            let is_here = self.b.ins().icmp(IntCC::UnsignedLessThan, own, count);
            let here = self.b.create_block();
            self.b.ins().brif(is_here, here, &[], elsewhere, &[]);
            self.b.switch_to_block(here);
            let index = self.b.ins().ireduce(I32, own);
            self.b.ins().jump(dispatch, &[BlockArg::Value(sp), BlockArg::Value(gas), BlockArg::Value(index)]);
        } else {
            self.b.ins().jump(elsewhere, &[]);
        }
        self.b.switch_to_block(elsewhere);
        let two = self.constant(2);
        let is_entry = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, number, two);
        let (known, unknown) = (self.b.create_block(), self.cold_block());
        self.b.ins().brif(is_entry, known, &[], unknown, &[]);
        self.b.switch_to_block(unknown);
        let is_jumpdest = self.math().compare_zero(IntCC::NotEqual, number);
        let interpret = self.interpret_block();
        let args = [BlockArg::Value(sp), BlockArg::Value(gas), BlockArg::Value(pc)];
        self.b.ins().brif(is_jumpdest, interpret, &args, invalid, &[]);
        self.b.switch_to_block(known);
        self.tail_call(sp, gas, number);
    }

    // Small things that everything uses.

    pub(super) fn math(&mut self) -> Math<'_, 'f> {
        Math { b: &mut self.b }
    }

    pub(super) fn constant(&mut self, value: u64) -> Value {
        self.b.ins().iconst(I64, value as i64)
    }
}
