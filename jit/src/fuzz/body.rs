//! A contract's code, built with the stack's height known: expressions, statements, loops, subroutines.
//!
//! The height is a lower bound: what the generator believes is on the stack is there, so that most programs run far.
//! Now and then it breaks its own rules, since halts must agree too.

mod calls;
mod idioms;

use super::{case::SPECS, rng::Rng};
use crate::asm::{Item, Label, Program};
use alloy_primitives::{Address, U256};
use revm::{
    bytecode::opcode::{self as op, OpCode},
    primitives::hardfork::SpecId,
};

/// Which fork brought which opcode, for those that Frontier has not.
const SINCE: [(u8, SpecId); 22] = [
    (op::DELEGATECALL, SpecId::HOMESTEAD),
    (op::REVERT, SpecId::BYZANTIUM),
    (op::STATICCALL, SpecId::BYZANTIUM),
    (op::RETURNDATASIZE, SpecId::BYZANTIUM),
    (op::RETURNDATACOPY, SpecId::BYZANTIUM),
    (op::SHL, SpecId::PETERSBURG),
    (op::SHR, SpecId::PETERSBURG),
    (op::SAR, SpecId::PETERSBURG),
    (op::CREATE2, SpecId::PETERSBURG),
    (op::EXTCODEHASH, SpecId::PETERSBURG),
    (op::CHAINID, SpecId::ISTANBUL),
    (op::SELFBALANCE, SpecId::ISTANBUL),
    (op::BASEFEE, SpecId::LONDON),
    (op::PUSH0, SpecId::SHANGHAI),
    (op::TLOAD, SpecId::CANCUN),
    (op::TSTORE, SpecId::CANCUN),
    (op::MCOPY, SpecId::CANCUN),
    (op::BLOBHASH, SpecId::CANCUN),
    (op::BLOBBASEFEE, SpecId::CANCUN),
    (op::CLZ, SpecId::OSAKA),
    // Beyond every stable fork: always unknown here.
    (op::DUPN, SpecId::AMSTERDAM),
    (op::SLOTNUM, SpecId::AMSTERDAM),
];

const BINARY: [u8; 22] = [
    op::ADD,
    op::MUL,
    op::SUB,
    op::DIV,
    op::SDIV,
    op::MOD,
    op::SMOD,
    op::EXP,
    op::SIGNEXTEND,
    op::LT,
    op::GT,
    op::SLT,
    op::SGT,
    op::EQ,
    op::AND,
    op::OR,
    op::XOR,
    op::BYTE,
    op::SHL,
    op::SHR,
    op::SAR,
    op::ADD,
];
const UNARY: [u8; 3] = [op::ISZERO, op::NOT, op::CLZ];
const ENVIRONMENT: [u8; 24] = [
    op::ADDRESS,
    op::ORIGIN,
    op::CALLER,
    op::CALLVALUE,
    op::CALLDATASIZE,
    op::CODESIZE,
    op::GASPRICE,
    op::RETURNDATASIZE,
    op::COINBASE,
    op::TIMESTAMP,
    op::NUMBER,
    op::DIFFICULTY,
    op::GASLIMIT,
    op::CHAINID,
    op::SELFBALANCE,
    op::BASEFEE,
    op::BLOBBASEFEE,
    op::PC,
    op::MSIZE,
    op::GAS,
    op::PUSH0,
    op::GAS,
    op::CALLDATASIZE,
    op::RETURNDATASIZE,
];

/// What a body may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) spec: SpecId,
    /// Accounts that it may call, look at or send to.
    pub(super) peers: &'a [Address],
    /// How deep contracts may contain each other.
    pub(super) nesting: usize,
}

/// A routine inside the code: called with a return position below its arguments.
#[derive(Debug, Clone, Copy)]
struct Routine {
    label: Label,
    arguments: usize,
    results: usize,
}

pub(super) struct Body<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) around: Surroundings<'a>,
    pub(super) program: Program,
    /// Words known to be on the stack.
    height: usize,
    /// Words at the bottom that statements leave alone.
    floor: usize,
    /// Statements still wanted.
    left: usize,
    depth: usize,
    routines: Vec<Routine>,
    data: Vec<(Label, Vec<u8>)>,
}

impl<'a> Body<'a> {
    /// The code of a contract of about `statements` statements.
    pub(super) fn code(rng: &'a mut Rng, around: Surroundings<'a>, statements: usize) -> Vec<u8> {
        let mut body = Self {
            rng,
            around,
            program: Program::new(),
            height: 0,
            floor: 0,
            left: statements,
            depth: 0,
            routines: Vec::new(),
            data: Vec::new(),
        };
        body.whole();
        // Positions always fit two bytes: bodies are small. An error would be a slip of the generator.
        body.program.assemble().unwrap_or_default()
    }

    fn whole(&mut self) {
        for _ in 0..self.rng.below(3) {
            let label = self.program.label();
            let (arguments, results) = (self.rng.below(4), self.rng.below(3));
            self.routines.push(Routine { label, arguments, results });
        }
        if self.rng.one_in(4) {
            self.free_memory_pointer();
        }
        if self.rng.one_in(4) {
            for _ in 0..4 + self.rng.below(16) {
                self.leaf();
            }
        }
        if self.rng.one_in(4) {
            self.dispatch();
        } else {
            self.statements();
        }
        self.ending();
        let routines = std::mem::take(&mut self.routines);
        for (index, routine) in routines.iter().enumerate() {
            // A routine calls those after it, or itself now and then.
            self.routines = routines[index + usize::from(!self.rng.one_in(8))..].to_vec();
            self.routine(*routine);
        }
        if self.rng.one_in(3) {
            self.program.op(op::INVALID);
        }
        for (label, bytes) in std::mem::take(&mut self.data) {
            self.program.mark(label);
            self.program.raw(bytes);
        }
        if self.rng.one_in(10) {
            // The code ends inside a push, or in a destination that nothing follows.
            let tail = match self.rng.below(3) {
                0 => vec![op::PUSH1],
                1 => [vec![op::PUSH32], vec![op::JUMPDEST; self.rng.below(31)]].concat(),
                _ => vec![op::JUMPDEST],
            };
            self.program.raw(tail);
        }
    }

    fn enabled(&mut self, opcode: u8) -> bool {
        // One in a few hundred gets in before its time.
        self.rng.one_in(300)
            || SINCE
                .iter()
                .find(|(op, _)| *op == opcode)
                .is_none_or(|(_, since)| self.around.spec.is_enabled_in(*since))
    }

    fn pick_enabled(&mut self, choices: &[u8]) -> u8 {
        loop {
            let opcode = self.rng.pick(choices);
            if self.enabled(opcode) {
                return opcode;
            }
        }
    }

    /// An opcode, with the height that follows from it.
    fn emit(&mut self, opcode: u8) {
        self.program.op(opcode);
        if let Some(known) = OpCode::new(opcode) {
            self.height = self.height.saturating_sub(known.inputs() as usize) + known.outputs() as usize;
        }
    }

    fn push(&mut self, value: U256) {
        if value.is_zero() && self.around.spec.is_enabled_in(SpecId::SHANGHAI) && self.rng.one_in(2) {
            self.program.op(op::PUSH0);
        } else if self.rng.one_in(12) {
            // Wider than need be.
            let bytes = value.to_be_bytes::<32>();
            self.program.items.push(Item::Push(bytes.to_vec()));
        } else {
            self.program.push(value);
        }
        self.height += 1;
    }

    fn number(&mut self, value: usize) {
        self.push(U256::from(value));
    }

    fn push_label(&mut self, label: Label) {
        self.program.push_label(label);
        self.height += 1;
    }

    fn dup(&mut self, n: usize) {
        self.program.op(op::DUP1 + n as u8 - 1);
        self.height += 1;
    }

    fn leaf(&mut self) {
        match self.rng.below(8) {
            0 | 1 if self.height > 0 => {
                let n = 1 + self.rng.below(self.height.min(16));
                self.dup(n);
            }
            2 => {
                let opcode = self.pick_enabled(&ENVIRONMENT);
                self.emit(opcode);
            }
            3 | 4 => {
                let offset =
                    if self.rng.one_in(4) { self.rng.offset() } else { U256::from(32 * self.rng.below(4)) };
                self.push(offset);
                self.emit(op::CALLDATALOAD);
            }
            5 => {
                let small = self.rng.below(8);
                self.number(small);
            }
            _ => {
                let word = self.rng.word();
                self.push(word);
            }
        }
    }

    /// Leaves one word more.
    fn expression(&mut self, depth: usize) {
        if depth == 0 {
            return self.leaf();
        }
        match self.rng.below(16) {
            0..=5 => {
                self.expression(depth - 1);
                if self.rng.one_in(2) {
                    self.leaf();
                } else {
                    self.expression(depth - 1);
                }
                let opcode = self.pick_enabled(&BINARY);
                self.emit(opcode);
            }
            6 => {
                self.expression(depth - 1);
                let opcode = self.pick_enabled(&UNARY);
                self.emit(opcode);
            }
            7 => {
                self.expression(depth - 1);
                self.leaf();
                self.leaf();
                let opcode = self.rng.pick(&[op::ADDMOD, op::MULMOD]);
                self.emit(opcode);
            }
            8 => {
                self.memory_offset();
                self.emit(op::MLOAD);
            }
            9 => {
                self.slot();
                self.emit(op::SLOAD);
            }
            10 if self.enabled(op::TLOAD) => {
                self.slot();
                self.emit(op::TLOAD);
            }
            11 => {
                self.length();
                self.memory_offset();
                self.emit(op::KECCAK256);
            }
            12 => {
                self.peer();
                let opcode = self.pick_enabled(&[op::BALANCE, op::EXTCODESIZE, op::EXTCODEHASH]);
                self.emit(opcode);
            }
            13 => match self.rng.below(3) {
                0 => {
                    let number = 990 + self.rng.below(20);
                    self.number(number);
                    self.emit(op::BLOCKHASH);
                }
                1 if self.enabled(op::BLOBHASH) => {
                    let index = self.rng.below(4);
                    self.number(index);
                    self.emit(op::BLOBHASH);
                }
                _ => self.masked(depth - 1),
            },
            14 => self.checked_arithmetic(depth - 1),
            _ => self.leaf(),
        }
    }

    /// An address, a small integer or a truth value, as compilers narrow them.
    fn masked(&mut self, depth: usize) {
        self.expression(depth);
        match self.rng.below(5) {
            0 => {
                self.emit(op::ISZERO);
                self.emit(op::ISZERO);
            }
            1 => {
                self.push((U256::ONE << 160) - U256::ONE);
                self.emit(op::AND);
            }
            2 => {
                let index = self.rng.pick(&[0usize, 1, 3, 7, 15, 19, 30, 31, 32]);
                self.number(index);
                self.emit(op::SIGNEXTEND);
            }
            3 => {
                let index = self.rng.below(34);
                self.number(index);
                self.emit(op::BYTE);
            }
            _ => {
                let bits = self.rng.pick(&[8usize, 16, 32, 63, 64, 65, 96, 128, 192, 224]);
                self.push((U256::ONE << bits) - U256::ONE);
                self.emit(op::AND);
            }
        }
    }

    fn memory_offset(&mut self) {
        if self.rng.one_in(12) {
            self.masked(1);
        } else {
            let offset = self.rng.offset();
            self.push(offset);
        }
    }

    fn length(&mut self) {
        let length = match self.rng.below(30) {
            0 => self.rng.offset(),
            1..=8 => U256::from(32 * self.rng.below(5)),
            _ => U256::from(self.rng.below(100)),
        };
        self.push(length);
    }

    fn slot(&mut self) {
        match self.rng.below(6) {
            0 => {
                let word = self.rng.word();
                self.push(word);
            }
            1 => self.mapping_slot(),
            _ => {
                let small = self.rng.below(4);
                self.number(small);
            }
        }
    }

    fn peer(&mut self) {
        match self.rng.below(12) {
            0 => self.emit(op::ADDRESS),
            1 => self.emit(op::CALLER),
            2 => {
                let precompile = 1 + self.rng.below(18);
                self.number(precompile);
            }
            3 => self.leaf(),
            _ => {
                let peer = self.rng.pick(self.around.peers);
                let dirty = if self.rng.one_in(10) { U256::MAX << 160 } else { U256::ZERO };
                self.push(U256::from_be_slice(peer.as_slice()) | dirty);
            }
        }
    }

    fn statements(&mut self) {
        while self.left > 0 {
            self.statement();
            if self.depth > 0 && self.rng.one_in(4) {
                break;
            }
        }
    }

    fn statement(&mut self) {
        self.left = self.left.saturating_sub(1);
        // Keep well below the limit of 1024 words; that limit has a statement of its own.
        while self.height > 300 {
            self.emit(op::POP);
        }
        let above = self.height - self.floor.min(self.height);
        match self.rng.below(44) {
            0..=3 => {
                self.expression(3);
            }
            4..=8 if above >= 1 => self.shuffle(above),
            9..=12 => {
                self.expression(2);
                self.memory_offset();
                let opcode = self.rng.pick(&[op::MSTORE, op::MSTORE, op::MSTORE8]);
                self.emit(opcode);
            }
            13..=15 => {
                self.expression(2);
                self.slot();
                self.emit(op::SSTORE);
            }
            16 if self.enabled(op::TSTORE) => {
                self.expression(1);
                self.slot();
                self.emit(op::TSTORE);
            }
            17 | 18 => self.copy(),
            19 => {
                let topics = self.rng.below(5);
                for _ in 0..topics {
                    self.leaf();
                }
                self.length();
                self.memory_offset();
                self.emit(op::LOG0 + topics as u8);
            }
            20..=22 => self.branch(),
            23..=25 if self.depth < 3 => self.looped(),
            26 | 27 if !self.routines.is_empty() => self.call_routine(),
            28 => self.jump_table(),
            29 => self.computed_jump(),
            30..=33 => self.call(),
            34 => self.create(),
            35 => self.checked_arithmetic(2),
            36 => {
                self.expression(2);
                self.mapping_slot();
                self.emit(op::SSTORE);
            }
            37 => {
                self.free_memory_pointer();
            }
            38 if self.rng.one_in(6) => self.wild(),
            39 if self.rng.one_in(3) => {
                let label = self.program.label();
                self.program.destination(label);
            }
            _ => {
                // Work on what is there.
                if above >= 2 {
                    let opcode = self.pick_enabled(&BINARY);
                    self.emit(opcode);
                } else {
                    self.expression(2);
                }
            }
        }
    }

    fn shuffle(&mut self, above: usize) {
        match self.rng.below(4) {
            0 => self.emit(op::POP),
            1 => {
                let n = 1 + self.rng.below(self.height.min(16));
                self.dup(n);
            }
            _ if above >= 2 => {
                let n = 1 + self.rng.below((above - 1).min(16));
                self.program.op(op::SWAP1 + n as u8 - 1);
            }
            _ => {
                let opcode = self.pick_enabled(&UNARY);
                self.emit(opcode);
            }
        }
    }

    fn copy(&mut self) {
        let opcode = self.pick_enabled(&[
            op::CALLDATACOPY,
            op::CODECOPY,
            op::RETURNDATACOPY,
            op::EXTCODECOPY,
            op::MCOPY,
        ]);
        // Return data must be there, every byte of it, or the frame halts.
        if opcode == op::RETURNDATACOPY && !self.rng.one_in(8) {
            self.emit(op::RETURNDATASIZE);
            self.number(0);
        } else {
            self.length();
            let offset = self.rng.offset();
            self.push(offset);
        }
        self.memory_offset();
        if opcode == op::EXTCODECOPY {
            self.peer();
        }
        self.emit(opcode);
    }

    /// `if`, with or without `else`; an arm may end the frame.
    fn branch(&mut self) {
        let (other, end) = (self.program.label(), self.program.label());
        self.expression(2);
        if self.rng.one_in(3) {
            self.emit(op::ISZERO);
        }
        self.push_label(other);
        self.emit(op::JUMPI);
        let height = self.height;
        self.depth += 1;
        self.arm();
        self.level(height);
        self.push_label(end);
        self.emit(op::JUMP);
        self.program.destination(other);
        self.height = height;
        if self.rng.one_in(2) {
            self.arm();
        }
        self.level(height);
        self.program.destination(end);
        self.depth -= 1;
        self.height = height;
    }

    fn arm(&mut self) {
        if self.rng.one_in(8) {
            self.ending();
        } else if self.depth < 4 {
            for _ in 0..1 + self.rng.below(3) {
                self.statement();
            }
        }
    }

    /// Drops or adds words until there are `height`, the same on every way to a meeting point.
    fn level(&mut self, height: usize) {
        while self.height > height {
            self.emit(op::POP);
        }
        while self.height < height {
            self.leaf();
        }
    }

    /// A counted loop, as compilers write it: counter on the stack, test at the head or at the end.
    fn looped(&mut self) {
        let (head, end) = (self.program.label(), self.program.label());
        let (height, floor) = (self.height, self.floor);
        let times = match self.rng.below(30) {
            0 => 100 + self.rng.below(400),
            _ => self.rng.below(8),
        };
        self.number(times);
        self.floor = self.height;
        self.program.destination(head);
        let test_first = self.rng.one_in(2);
        if test_first {
            self.dup(1);
            self.emit(op::ISZERO);
            self.push_label(end);
            self.emit(op::JUMPI);
        }
        self.depth += 1;
        let inside = self.height;
        for _ in 0..1 + self.rng.below(4) {
            self.statement();
        }
        self.level(inside);
        self.depth -= 1;
        // counter - 1
        self.number(1);
        self.program.op(op::SWAP1);
        self.emit(op::SUB);
        if test_first {
            self.push_label(head);
            self.emit(op::JUMP);
        } else {
            self.dup(1);
            self.number(0);
            self.emit(op::LT);
            self.push_label(head);
            self.emit(op::JUMPI);
        }
        self.program.destination(end);
        self.floor = floor;
        self.height = height + 1;
        self.emit(op::POP);
    }

    fn call_routine(&mut self) {
        let index = self.rng.below(self.routines.len());
        let Routine { label, arguments, results } = self.routines[index];
        let back = self.program.label();
        self.push_label(back);
        for _ in 0..arguments {
            self.leaf();
        }
        self.push_label(label);
        self.emit(op::JUMP);
        self.program.destination(back);
        self.height = self.height.saturating_sub(arguments + 1) + results;
    }

    fn routine(&mut self, routine: Routine) {
        self.program.destination(routine.label);
        self.height = 1 + routine.arguments;
        self.floor = 1;
        self.depth = 2;
        for _ in 0..1 + self.rng.below(4) {
            self.left = self.left.max(1);
            self.statement();
        }
        self.level(1 + routine.results);
        match routine.results {
            0 => {}
            n => self.program.op(op::SWAP1 + n as u8 - 1),
        }
        self.emit(op::JUMP);
        self.floor = 0;
    }

    /// A jump to `base + index · width`: no analysis of constants resolves it.
    fn jump_table(&mut self) {
        let arms = self.rng.pick(&[2usize, 4, 8]);
        let (base, end) = (self.program.label(), self.program.label());
        self.expression(1);
        // Out of the table at times: then the destination is not one.
        let mask = arms - 1 + if self.rng.one_in(20) { arms } else { 0 };
        self.number(mask);
        self.emit(op::AND);
        self.number(8);
        self.emit(op::MUL);
        self.push_label(base);
        self.emit(op::ADD);
        self.emit(op::JUMP);
        self.program.mark(base);
        for _ in 0..arms {
            // Eight bytes each.
            self.program.op(op::JUMPDEST);
            let value = self.rng.bits() as u16;
            self.program.items.push(Item::Push(value.to_be_bytes().to_vec()));
            self.program.push_label(end);
            self.program.op(op::JUMP);
        }
        self.program.destination(end);
        self.height += 1;
    }

    /// One of two destinations, chosen by arithmetic: `b ^ (c · (a ^ b))`.
    fn computed_jump(&mut self) {
        let (a, b, end) = (self.program.label(), self.program.label(), self.program.label());
        self.expression(1);
        self.emit(op::ISZERO);
        self.push_label(a);
        self.push_label(b);
        self.emit(op::XOR);
        self.emit(op::MUL);
        self.push_label(b);
        self.emit(op::XOR);
        self.emit(op::JUMP);
        let height = self.height;
        for (index, label) in [a, b].into_iter().enumerate() {
            self.program.destination(label);
            self.height = height;
            self.leaf();
            if index == 0 {
                self.push_label(end);
                self.emit(op::JUMP);
            }
        }
        self.program.destination(end);
        self.height = height + 1;
    }
}

/// The selector of function `index`, in dispatchers and in call data.
pub(super) fn selector(index: usize) -> u32 {
    [0xa905_9cbb, 0x7000_0000, 0xffff_ffff, 0x0000_0001][index % 4]
}

/// Initcode that returns a generated contract, or does anything.
pub(super) fn initcode(rng: &mut Rng, around: Surroundings<'_>) -> Vec<u8> {
    let statements = 1 + rng.below(5);
    if rng.one_in(3) {
        return Body::code(rng, around, statements);
    }
    let runtime = Body::code(rng, around, statements);
    let mut program = Program::new();
    let label = program.label();
    program.push(U256::from(runtime.len()));
    program.op(op::DUP1);
    program.push_label(label);
    program.push(U256::ZERO);
    program.op(op::CODECOPY);
    program.push(U256::ZERO);
    program.op(op::RETURN);
    program.mark(label);
    program.raw(runtime);
    program.assemble().unwrap_or_default()
}

/// A fork: the newest ones more often than the old.
pub(super) fn any_spec(rng: &mut Rng) -> SpecId {
    if rng.one_in(2) { SPECS[SPECS.len() - 1 - rng.below(3)] } else { rng.pick(&SPECS) }
}
