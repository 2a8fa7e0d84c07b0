//! What compilers of Solidity emit again and again, and the ends and accidents of code.

use super::*;

impl Body<'_> {
    /// `a + b`, `a - b` or `a · b` with the overflow test of Solidity 0.8 and its panic.
    pub(super) fn checked_arithmetic(&mut self, depth: usize) {
        let fine = self.program.label();
        self.expression(depth);
        self.leaf();
        // b a
        match self.rng.below(3) {
            0 => {
                self.dup(2);
                self.dup(2);
                self.emit(op::ADD);
                self.dup(1);
                self.dup(3);
                self.emit(op::GT);
            }
            1 => {
                self.dup(2);
                self.dup(2);
                self.emit(op::SUB);
                self.dup(1);
                self.dup(3);
                self.emit(op::LT);
            }
            _ => {
                self.dup(2);
                self.dup(2);
                self.emit(op::MUL);
                self.dup(2);
                self.dup(2);
                self.emit(op::DIV);
                self.dup(4);
                self.emit(op::EQ);
                self.emit(op::ISZERO);
            }
        }
        // b a r overflow
        self.emit(op::ISZERO);
        self.push_label(fine);
        self.emit(op::JUMPI);
        let height = self.height;
        if self.rng.one_in(2) && self.enabled(op::REVERT) {
            self.push(U256::from(0x4e48_7b71u64) << 224);
            self.number(0);
            self.emit(op::MSTORE);
            self.number(0x11);
            self.number(4);
            self.emit(op::MSTORE);
            self.number(0x24);
            self.number(0);
            self.emit(op::REVERT);
        } else {
            // Wraps instead.
            self.emit(op::POP);
            self.number(17);
        }
        self.program.destination(fine);
        self.height = height;
        self.program.op(op::SWAP2);
        self.emit(op::POP);
        self.emit(op::POP);
    }

    /// keccak(key . slot), as a mapping finds its value.
    pub(super) fn mapping_slot(&mut self) {
        self.leaf();
        self.number(0);
        self.emit(op::MSTORE);
        let slot = self.rng.below(4);
        self.number(slot);
        self.number(32);
        self.emit(op::MSTORE);
        self.number(64);
        self.number(0);
        self.emit(op::KECCAK256);
    }

    pub(super) fn free_memory_pointer(&mut self) {
        if self.rng.one_in(2) {
            self.number(0x80);
            self.number(0x40);
            self.emit(op::MSTORE);
        } else {
            // mem[mem[0x40]] = …; mem[0x40] += 32, kept within reach.
            self.number(0x40);
            self.emit(op::MLOAD);
            self.number(0xfff);
            self.emit(op::AND);
            self.leaf();
            self.dup(2);
            self.emit(op::MSTORE);
            self.number(32);
            self.emit(op::ADD);
            self.number(0x40);
            self.emit(op::MSTORE);
        }
    }

    /// By the first four bytes of the call data.
    pub(super) fn dispatch(&mut self) {
        self.number(0);
        self.emit(op::CALLDATALOAD);
        if self.enabled(op::SHR) {
            self.number(224);
            self.emit(op::SHR);
        } else {
            self.push(U256::ONE << 224);
            self.program.op(op::SWAP1);
            self.emit(op::DIV);
        }
        let functions: Vec<Label> = (0..1 + self.rng.below(4)).map(|_| self.program.label()).collect();
        for (index, &function) in functions.iter().enumerate() {
            self.dup(1);
            // What the calldata generator knows, too.
            self.push(U256::from(selector(index)));
            let opcode = self.rng.pick(&[op::EQ, op::EQ, op::GT]);
            self.emit(opcode);
            self.push_label(function);
            self.emit(op::JUMPI);
        }
        let height = self.height;
        self.ending();
        for function in functions {
            self.program.destination(function);
            self.height = height;
            self.depth = 1;
            self.left = self.left.max(2);
            self.statements();
            self.depth = 0;
            self.ending();
        }
    }

    /// Ends the frame, for the most part with something to show.
    pub(super) fn ending(&mut self) {
        match self.rng.below(32) {
            0 => self.emit(op::STOP),
            1 => {
                self.peer();
                self.emit(op::SELFDESTRUCT);
            }
            2 => self.emit(op::INVALID),
            3 => {
                // A destination that is none.
                let word = self.rng.offset();
                self.push(word);
                self.emit(op::JUMP);
            }
            4 | 5 if self.enabled(op::REVERT) => {
                self.length();
                self.memory_offset();
                self.emit(op::REVERT);
            }
            6 => {
                self.length();
                self.memory_offset();
                self.emit(op::RETURN);
            }
            _ => {
                // Everything on the stack, up to a limit, and memory: no wrong word gets lost.
                let words = self.height.min(12);
                for index in 0..words {
                    self.number(32 * index);
                    self.emit(op::MSTORE);
                }
                self.number(32 * words.max(1) + 64);
                self.number(0);
                self.emit(op::RETURN);
            }
        }
    }

    /// What no compiler would write.
    pub(super) fn wild(&mut self) {
        match self.rng.below(7) {
            0 => {
                let byte = self.rng.byte();
                self.program.raw([byte]);
            }
            1 => {
                // Grows the stack until gas or its limit stops it.
                let label = self.program.label();
                self.program.destination(label);
                self.leaf();
                self.push_label(label);
                self.emit(op::JUMP);
            }
            2 => {
                let label = self.program.label();
                self.program.destination(label);
                self.emit(op::POP);
                self.push_label(label);
                self.emit(op::JUMP);
            }
            3 => {
                // Height depends on gas: meets the next statement with any number of words.
                let label = self.program.label();
                self.program.destination(label);
                self.emit(op::GAS);
                self.dup(1);
                let threshold = self.rng.below(200_000);
                self.number(threshold);
                self.emit(op::LT);
                self.push_label(label);
                self.emit(op::JUMPI);
            }
            4 => {
                // Deeper than it is known to be.
                let opcode = self.rng.pick(&[op::DUP1 + 15, op::SWAP1 + 15, op::DUP1 + 7, op::SWAP1 + 3]);
                self.program.op(opcode);
            }
            5 => {
                let opcode = loop {
                    let byte = self.rng.byte();
                    if OpCode::new(byte).is_none() {
                        break byte;
                    }
                };
                self.program.op(opcode);
            }
            _ => {
                // A jump into the data of a push.
                let label = self.program.label();
                self.push_label(label);
                self.emit(op::JUMP);
                self.program.raw([op::PUSH1 + 3]);
                self.program.mark(label);
                self.program.raw([op::JUMPDEST; 4]);
            }
        }
    }
}
