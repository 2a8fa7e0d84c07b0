//! What the lowering must know of a bytecode before it builds a line of CLIF.
//!
//! [`decode`] finds instructions, JUMPDESTs and constant jump targets; [`blocks`] cuts basic blocks, adds up their gas and
//! stack, finds out where control goes, cuts the contract into regions (one Cranelift function each) and says which blocks
//! inherit their values from an only predecessor.
//!
//! All of it is linear in the length of the code.

mod blocks;
mod decode;

pub use blocks::{Block, JumpTarget, Region, RegionId, Terminator};
pub use decode::{Instruction, push_value};

use crate::config::CompilerConfig;
use revm::primitives::hardfork::SpecId;

/// A bytecode, analysed for a fork.
#[derive(Debug)]
pub struct Analysis<'a> {
    /// The bytecode.
    pub code: &'a [u8],
    /// The fork.
    pub spec: SpecId,
    /// All instructions in order of their pc, data after the last reachable one included. The last is the STOP that
    /// stands behind every code.
    pub instructions: Vec<Instruction>,
    /// All JUMPDESTs, ascending.
    pub jumpdests: Vec<usize>,
    /// Reachable blocks in order of their pc.
    pub blocks: Vec<Block>,
    /// Regions in order of their pc; a region's blocks are contiguous.
    pub regions: Vec<Region>,
    /// Blocks that can be entered from outside their region, in order of their pc. Entry `i` has the number `i + 2`.
    pub entries: Vec<usize>,
}

impl<'a> Analysis<'a> {
    /// Analyses `code` by the rules of `spec`.
    pub fn new(code: &'a [u8], spec: SpecId, config: &CompilerConfig) -> Self {
        let decoded = decode::decode(code);
        blocks::build(code, spec, config, decoded)
    }

    /// The block that begins at `pc`.
    pub fn block_at(&self, pc: usize) -> Option<usize> {
        self.blocks.binary_search_by_key(&pc, |block| block.pc).ok()
    }

    /// The number of a block's entry.
    pub fn entry_number(&self, block: usize) -> Option<u16> {
        self.blocks[block].entry
    }
}
