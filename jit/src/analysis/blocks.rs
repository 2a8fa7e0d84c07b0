//! Basic blocks, where control goes from them, and regions.

use super::{
    Analysis,
    decode::{Decoded, Instruction, target},
};
use crate::{
    config::CompilerConfig,
    opcode::{self, CAN_FAIL, DYNAMIC_GAS, JUMP, JUMPDEST, JUMPI, PUSH0, PUSH32, SUSPENDS, TERMINATES},
};
use revm::primitives::hardfork::SpecId;
use std::ops::Range;

/// A region's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegionId(pub usize);

/// Blocks that become one Cranelift function.
#[derive(Clone, Debug)]
pub struct Region {
    /// Indices of its blocks.
    pub blocks: Range<usize>,
    /// Numbers of its entries: contiguous.
    pub entries: Range<u16>,
}

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JumpTarget {
    /// To this block.
    Block(usize),
    /// To a constant that is no JUMPDEST.
    Invalid,
    /// Wherever the stack says.
    Dynamic,
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// Goes on with this block.
    FallThrough(usize),
    /// JUMP.
    Jump(JumpTarget),
    /// JUMPI; the second is the block that follows.
    Branch(JumpTarget, usize),
    /// A call or create; then this block, entered anew.
    Suspend(usize),
    /// STOP, RETURN, REVERT, SELFDESTRUCT.
    Halt,
    /// Its last instruction is left to the interpreter: it halts, or no stable fork has it.
    Leave,
}

/// A basic block: entered at its first instruction alone, left after its last.
#[derive(Clone, Debug)]
pub struct Block {
    /// pc of its first instruction.
    pub pc: usize,
    /// pc after its last instruction.
    pub end: usize,
    /// Its instructions.
    pub instructions: Range<usize>,
    /// Its region.
    pub region: RegionId,
    /// Static gas of all its instructions but one that is left to the interpreter.
    pub gas: u64,
    /// Words that must be on the stack at its start.
    pub need: usize,
    /// How far the stack grows above its height at the start.
    pub growth: usize,
    /// Height at its end less height at its start.
    pub change: isize,
    /// The last of its instructions, but the one that ends it, that can fail for another reason than static gas.
    pub last_fallible: Option<usize>,
    /// How it ends.
    pub terminator: Terminator,
    /// Blocks it is known to go on to, without resumption after a call.
    pub successors: Vec<usize>,
    /// Its only predecessor, whose values it inherits in registers; without one its values come from memory.
    pub parent: Option<usize>,
    /// Blocks whose parent it is.
    pub children: Vec<usize>,
    /// For a block without parent: need and growth over all its descendants, so that one check covers them.
    pub tree_need: usize,
    /// As above.
    pub tree_growth: usize,
    /// Its entry's number, if it can be entered from outside its region.
    pub entry: Option<u16>,
    /// Whether it is reached by a jump backwards: the head of a loop, as a rule.
    pub is_loop_head: bool,
    /// Rough number of CLIF instructions.
    pub weight: usize,
}

/// Longest chain of parents: bounds the work of handing values down.
const CHAIN_MAX: usize = 12;

/// Rough cost of an instruction, in CLIF instructions.
fn weight(opcode: u8) -> usize {
    use crate::opcode::*;
    match opcode {
        JUMPDEST | POP | PC => 1,
        PUSH0..=PUSH32 => 2,
        DUP1..=DUP16 => 4,
        SWAP1..=SWAP16 => 8,
        AND | OR | XOR | NOT | EQ | ISZERO => 8,
        ADD | SUB | LT | GT | SLT | SGT => 12,
        MUL => 50,
        SHL | SHR | SAR | BYTE | SIGNEXTEND => 24,
        MLOAD | MSTORE | MSTORE8 | CALLDATALOAD => 26,
        DIV | MOD | SDIV | SMOD | ADDMOD | MULMOD | EXP => 36,
        JUMP | JUMPI => 16,
        _ => 24,
    }
}

struct Cutter<'a> {
    code: &'a [u8],
    spec: SpecId,
    weight_max: usize,
    decoded: &'a Decoded,
    /// By instruction: a block begins here. The index of the block once it is made.
    starts: Vec<bool>,
}

impl Cutter<'_> {
    fn is_left_out(&self, opcode: u8) -> bool {
        match opcode::info(opcode) {
            None => true,
            Some(info) => {
                !info.is_active(self.spec) || info.has(opcode::EIP8024) || opcode == opcode::INVALID
            }
        }
    }

    /// The block that begins at instruction `first`; its neighbours are still named by instruction.
    fn block(&self, first: usize) -> Block {
        let instructions = &self.decoded.instructions;
        let mut block = Block {
            pc: instructions[first].pc,
            end: 0,
            instructions: first..first,
            region: RegionId(0),
            gas: 0,
            need: 0,
            growth: 0,
            change: 0,
            last_fallible: None,
            terminator: Terminator::Halt,
            successors: Vec::new(),
            parent: None,
            children: Vec::new(),
            tree_need: 0,
            tree_growth: 0,
            entry: None,
            is_loop_head: false,
            weight: 8,
        };
        let (mut height, mut index) = (0isize, first);
        block.terminator = loop {
            let instruction = instructions[index];
            if index > first && (self.starts[index] || block.weight >= self.weight_max) {
                break Terminator::FallThrough(index);
            }
            index += 1;
            block.weight += weight(instruction.opcode);
            if self.is_left_out(instruction.opcode) {
                break Terminator::Leave;
            }
            let Some(info) = opcode::info(instruction.opcode) else { break Terminator::Leave };
            block.gas += u64::from(info.static_gas(self.spec));
            block.need = block.need.max((info.inputs as isize - height).max(0) as usize);
            height += info.outputs as isize - info.inputs as isize;
            block.growth = block.growth.max(height.max(0) as usize);
            if info.has(TERMINATES) {
                break Terminator::Halt;
            }
            match instruction.opcode {
                JUMP => break Terminator::Jump(self.jump_target(index - 1, first)),
                JUMPI => break Terminator::Branch(self.jump_target(index - 1, first), index),
                _ if info.has(SUSPENDS) => break Terminator::Suspend(index),
                _ if info.has_any(DYNAMIC_GAS | CAN_FAIL) => block.last_fallible = Some(index - 1),
                _ => {}
            }
        };
        block.change = height;
        block.instructions = first..index;
        block.end = instructions[index - 1].next_pc();
        block
    }

    /// Where the jump at instruction `jump` goes, as a pc.
    fn jump_target(&self, jump: usize, first: usize) -> JumpTarget {
        if jump == first {
            return JumpTarget::Dynamic;
        }
        let push: Instruction = self.decoded.instructions[jump - 1];
        if !(PUSH0..=PUSH32).contains(&push.opcode) || self.is_left_out(push.opcode) {
            return JumpTarget::Dynamic;
        }
        match target(self.code, push.pc).filter(|pc| self.decoded.is_static_target[*pc]) {
            Some(pc) => JumpTarget::Block(pc),
            None => JumpTarget::Invalid,
        }
    }
}

pub(super) fn build<'a>(
    code: &'a [u8],
    spec: SpecId,
    config: &CompilerConfig,
    decoded: Decoded,
) -> Analysis<'a> {
    let count = decoded.instructions.len();
    let mut instruction_at = vec![usize::MAX; code.len() + 1];
    let mut starts = vec![false; count];
    for (index, instruction) in decoded.instructions.iter().enumerate() {
        if let Some(slot) = instruction_at.get_mut(instruction.pc) {
            *slot = index;
        }
        starts[index] = index == 0
            || (instruction.opcode == JUMPDEST
                && (decoded.is_static_target[instruction.pc] || decoded.is_candidate[instruction.pc]));
    }
    let weight_max = (config.limits.region_weight_max / 2).max(64);
    let cutter = Cutter { code, spec, weight_max, decoded: &decoded, starts };

    // Everything that can be reached from the start, or by a computed jump to a constant of the code.
    let mut block_of = vec![usize::MAX; count];
    let mut found: Vec<Block> = Vec::new();
    let mut pending: Vec<usize> = vec![0];
    pending.extend(
        decoded.jumpdests.iter().filter(|pc| decoded.is_candidate[**pc]).map(|pc| instruction_at[*pc]),
    );
    while let Some(first) = pending.pop() {
        if block_of[first] != usize::MAX {
            continue;
        }
        block_of[first] = found.len();
        let block = cutter.block(first);
        match block.terminator {
            Terminator::FallThrough(next) | Terminator::Suspend(next) => pending.push(next),
            Terminator::Jump(JumpTarget::Block(pc)) => pending.push(instruction_at[pc]),
            Terminator::Branch(to, next) => {
                pending.push(next);
                if let JumpTarget::Block(pc) = to {
                    pending.push(instruction_at[pc]);
                }
            }
            _ => {}
        }
        found.push(block);
    }

    // In order of their pc, neighbours named by block.
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_unstable_by_key(|index| found[*index].pc);
    let mut position = vec![0; found.len()];
    for (place, index) in order.iter().enumerate() {
        position[*index] = place;
    }
    let by_instruction = |instruction: usize| position[block_of[instruction]];
    let by_target = |to: JumpTarget| match to {
        JumpTarget::Block(pc) => JumpTarget::Block(by_instruction(instruction_at[pc])),
        other => other,
    };
    let mut slots: Vec<Option<Block>> = found.into_iter().map(Some).collect();
    let mut blocks: Vec<Block> = order.iter().filter_map(|index| slots[*index].take()).collect();
    for block in &mut blocks {
        block.terminator = match block.terminator {
            Terminator::FallThrough(next) => Terminator::FallThrough(by_instruction(next)),
            Terminator::Suspend(next) => Terminator::Suspend(by_instruction(next)),
            Terminator::Jump(to) => Terminator::Jump(by_target(to)),
            Terminator::Branch(to, next) => Terminator::Branch(by_target(to), by_instruction(next)),
            other => other,
        };
        let jump = match block.terminator {
            Terminator::Jump(JumpTarget::Block(to)) | Terminator::Branch(JumpTarget::Block(to), _) => {
                Some(to)
            }
            _ => None,
        };
        let next = match block.terminator {
            Terminator::FallThrough(next) | Terminator::Branch(_, next) => Some(next),
            _ => None,
        };
        block.successors = next.into_iter().chain(jump).collect();
    }

    let mut analysis = Analysis {
        code,
        spec,
        instructions: Vec::new(),
        jumpdests: Vec::new(),
        blocks,
        regions: Vec::new(),
        entries: Vec::new(),
    };
    regions(&mut analysis, config);
    entries(&mut analysis, &decoded);
    trees(&mut analysis);
    analysis.instructions = decoded.instructions;
    analysis.jumpdests = decoded.jumpdests;
    analysis
}

/// Cuts the blocks into regions, in order of their pc.
fn regions(analysis: &mut Analysis<'_>, config: &CompilerConfig) {
    let limits = &config.limits;
    let (mut start, mut weight) = (0, 0);
    for index in 0..analysis.blocks.len() {
        let own = analysis.blocks[index].weight;
        let is_full = weight + own > limits.region_weight_max || index - start >= limits.region_blocks_max;
        if index > start && is_full {
            analysis.regions.push(Region { blocks: start..index, entries: 0..0 });
            (start, weight) = (index, 0);
        }
        weight += own;
        analysis.blocks[index].region = RegionId(analysis.regions.len());
    }
    analysis.regions.push(Region { blocks: start..analysis.blocks.len(), entries: 0..0 });
}

/// Finds the blocks that can be entered from outside, and numbers them.
fn entries(analysis: &mut Analysis<'_>, decoded: &Decoded) {
    let blocks = &mut analysis.blocks;
    let mut is_entry = vec![false; blocks.len()];
    for (index, block) in blocks.iter().enumerate() {
        is_entry[index] |= block.pc == 0 || decoded.is_candidate.get(block.pc).is_some_and(|is| *is);
        if let Terminator::Suspend(next) = block.terminator {
            is_entry[next] = true;
        }
        for next in &block.successors {
            is_entry[*next] |= blocks[*next].region != block.region;
        }
    }
    for (index, block) in blocks.iter_mut().enumerate().filter(|(index, _)| is_entry[*index]) {
        block.entry = Some(analysis.entries.len() as u16 + 2);
        analysis.entries.push(index);
    }
    let mut next = 2;
    for region in &mut analysis.regions {
        let own = region.blocks.clone().filter(|index| is_entry[*index]).count() as u16;
        region.entries = next..next + own;
        next += own;
    }
}

/// Gives each block with an only predecessor its parent, and each root the needs of its tree.
fn trees(analysis: &mut Analysis<'_>) {
    let blocks = &mut analysis.blocks;
    let mut predecessors = vec![0u32; blocks.len()];
    let mut last = vec![usize::MAX; blocks.len()];
    for index in 0..blocks.len() {
        for successor in 0..blocks[index].successors.len() {
            let next = blocks[index].successors[successor];
            predecessors[next] += 1;
            last[next] = index;
            if next <= index {
                blocks[next].is_loop_head = true;
            }
        }
    }
    let is_child: Vec<bool> =
        (0..blocks.len()).map(|index| predecessors[index] == 1 && blocks[index].entry.is_none()).collect();
    // From the roots down. A block with an only predecessor is reachable, so its chain of parents ends in a root.
    let mut pending: Vec<(usize, usize)> =
        (0..blocks.len()).filter(|index| !is_child[*index]).map(|index| (index, 0)).collect();
    let mut order = Vec::with_capacity(blocks.len());
    while let Some((index, depth)) = pending.pop() {
        order.push(index);
        for successor in 0..blocks[index].successors.len() {
            let next = blocks[index].successors[successor];
            if !is_child[next] {
                continue;
            }
            if depth < CHAIN_MAX {
                blocks[next].parent = Some(index);
                blocks[index].children.push(next);
                pending.push((next, depth + 1));
            } else {
                pending.push((next, 0));
            }
        }
    }
    for index in order.into_iter().rev() {
        let (mut need, mut growth) = (blocks[index].need as isize, blocks[index].growth as isize);
        for child in &blocks[index].children {
            need = need.max(blocks[*child].tree_need as isize - blocks[index].change);
            growth = growth.max(blocks[*child].tree_growth as isize + blocks[index].change);
        }
        blocks[index].tree_need = need.max(0) as usize;
        blocks[index].tree_growth = growth.max(0) as usize;
    }
}
