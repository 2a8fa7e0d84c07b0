//! Instructions, JUMPDESTs and the constants that may be jump targets.

use crate::opcode::{self, JUMP, JUMPDEST, JUMPI, PUSH0, PUSH32};

/// An instruction of the bytecode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Where it stands.
    pub pc: usize,
    /// Its opcode, known or not.
    pub opcode: u8,
}

impl Instruction {
    /// pc of the instruction after it.
    pub fn next_pc(&self) -> usize {
        self.pc + 1 + opcode::push_bytes(self.opcode)
    }
}

/// The word that the PUSH at `pc` pushes, as limbs from the lowest; bytes behind the end of the code are zero.
pub fn push_value(code: &[u8], pc: usize) -> [u64; 4] {
    let length = opcode::push_bytes(code.get(pc).copied().unwrap_or(0));
    let mut bytes = [0u8; 32];
    for index in 0..length {
        bytes[32 - length + index] = code.get(pc + 1 + index).copied().unwrap_or(0);
    }
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_be_bytes(*chunk);
    }
    limbs
}

/// What one pass over the bytecode finds.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) instructions: Vec<Instruction>,
    pub(super) jumpdests: Vec<usize>,
    /// By pc: a PUSH directly before a jump names it.
    pub(super) is_static_target: Vec<bool>,
    /// By pc: some other PUSH names it, so that a computed jump may lead there.
    pub(super) is_candidate: Vec<bool>,
}

pub(super) fn decode(code: &[u8]) -> Decoded {
    let mut instructions = Vec::with_capacity(code.len());
    let mut jumpdests = Vec::new();
    let mut is_jumpdest = vec![false; code.len()];
    let mut pc = 0;
    while pc < code.len() {
        let instruction = Instruction { pc, opcode: code[pc] };
        if instruction.opcode == JUMPDEST {
            jumpdests.push(pc);
            is_jumpdest[pc] = true;
        }
        instructions.push(instruction);
        pc = instruction.next_pc();
    }
    // A PUSH cut short by the end of the code is followed by the same STOP as everything else.
    instructions.push(Instruction { pc: pc.max(code.len()), opcode: opcode::STOP });
    let mut is_static_target = vec![false; code.len()];
    let mut is_candidate = vec![false; code.len()];
    for pair in instructions.windows(2) {
        let [push, next] = pair else { continue };
        if !(PUSH0..=PUSH32).contains(&push.opcode) {
            continue;
        }
        let Some(target) = target(code, push.pc).filter(|target| is_jumpdest[*target]) else { continue };
        if next.opcode == JUMP || next.opcode == JUMPI {
            is_static_target[target] = true;
        } else {
            is_candidate[target] = true;
        }
    }
    Decoded { instructions, jumpdests, is_static_target, is_candidate }
}

/// The pc inside of `code` that the PUSH at `pc` pushes.
pub(super) fn target(code: &[u8], pc: usize) -> Option<usize> {
    match push_value(code, pc) {
        [low, 0, 0, 0] => usize::try_from(low).ok().filter(|target| *target < code.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_data_hides_jumpdests_and_is_zero_behind_the_end() {
        let decoded = decode(&[0x60, 0x5b, 0x5b, 0x61, 0x5b]);
        assert_eq!(decoded.jumpdests, [2]);
        let pcs: Vec<_> = decoded.instructions.iter().map(|instruction| instruction.pc).collect();
        assert_eq!(pcs, [0, 2, 3, 6]);
        assert_eq!(push_value(&[0x61, 0x5b], 0), [0x5b00, 0, 0, 0]);
        let mut push32 = vec![0x7f];
        push32.extend(1..=32u8);
        let limbs = push_value(&push32, 0);
        assert_eq!(limbs, [0x191a1b1c1d1e1f20, 0x1112131415161718, 0x090a0b0c0d0e0f10, 0x0102030405060708]);
    }

    #[test]
    fn constants_before_jumps_are_static_others_are_candidates() {
        // PUSH1 8, PUSH1 6, JUMP, INVALID, JUMPDEST, JUMP, JUMPDEST
        let decoded = decode(&[0x60, 8, 0x60, 6, 0x56, 0xfe, 0x5b, 0x56, 0x5b]);
        assert!(decoded.is_static_target[6] && !decoded.is_candidate[6]);
        assert!(decoded.is_candidate[8] && !decoded.is_static_target[8]);
    }
}
