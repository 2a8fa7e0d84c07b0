//! Damage to bytecode: what no generator of sound programs thinks of.

use super::rng::Rng;
use crate::asm::instructions;
use revm::bytecode::opcode::{self as op, OpCode};

/// Codes stay below this many bytes.
const CODE_BYTES_MAX: usize = 4_096;

/// Changes `code` in one place, perhaps with a piece of `donor`.
pub(super) fn mutate(rng: &mut Rng, code: &mut Vec<u8>, donor: &[u8]) {
    if code.is_empty() {
        code.push(rng.byte());
        return;
    }
    let at = rng.below(code.len());
    match rng.below(10) {
        0 => code[at] ^= 1 << rng.below(8),
        1 => code[at] = rng.byte(),
        2 => {
            let byte = rng.byte();
            code.insert(at, byte);
        }
        3 => {
            let end = (at + 1 + rng.below(8)).min(code.len());
            code.drain(at..end);
        }
        4 => {
            let end = (at + 1 + rng.below(32)).min(code.len());
            let piece = code[at..end].to_vec();
            let to = rng.below(code.len() + 1);
            code.splice(to..to, piece);
        }
        5 if !donor.is_empty() => {
            let from = rng.below(donor.len());
            let end = (from + 1 + rng.below(64)).min(donor.len());
            code.splice(at..at, donor[from..end].iter().copied());
        }
        6 => {
            // Ends inside a push where there is one.
            let pushes: Vec<usize> =
                instructions(code).filter(|i| OpCode::is_push_by_op(i.opcode)).map(|i| i.pc).collect();
            if !pushes.is_empty() {
                let end = rng.pick(&pushes) + 1 + rng.below(2);
                code.truncate(end.min(code.len()));
            }
        }
        7 => {
            // A destination in the data of a push.
            let data: Vec<usize> =
                instructions(code).filter(|i| !i.immediate.is_empty()).map(|i| i.pc + 1).collect();
            if !data.is_empty() {
                let position = rng.pick(&data);
                code[position] = op::JUMPDEST;
            }
        }
        8 => {
            // Another instruction of the same length.
            let starts: Vec<usize> = instructions(code).map(|i| i.pc).collect();
            let position = rng.pick(&starts);
            code[position] = match code[position] {
                push if OpCode::is_push_by_op(push) => op::PUSH1 + rng.below(32) as u8,
                dup @ 0x80..=0x9f => (dup & 0xf0) | rng.below(16) as u8,
                arithmetic @ 0x01..=0x1d => (arithmetic & 0x10) | rng.below(14) as u8,
                _ => rng.byte(),
            };
        }
        _ => {
            let end = code.len() - rng.below(code.len().min(16));
            code.truncate(end);
        }
    }
    code.truncate(CODE_BYTES_MAX);
}
