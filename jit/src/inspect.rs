//! What a compilation can show of itself: blocks with their gas and stack, CLIF, and machine code as text.

use crate::{analysis::Analysis, artifact::Artifact, config::CompilerConfig, opcode};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use revm::primitives::hardfork::SpecId;
use std::fmt::Write;

/// All that [`crate::Compiler::inspect`] found out about a contract.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The fork it was compiled for.
    pub spec: SpecId,
    /// The artifact itself.
    pub artifact: Artifact,
    /// Reachable basic blocks in order of their pc.
    pub blocks: Vec<InspectionBlock>,
    /// Compiled regions in order of their pc.
    pub regions: Vec<InspectionRegion>,
}

/// A basic block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectionBlock {
    /// pc of its first instruction.
    pub pc: usize,
    /// pc after its last instruction.
    pub end: usize,
    /// Index of its region.
    pub region: usize,
    /// Static gas, charged at its start.
    pub gas: u64,
    /// Words that must be on the stack at its start.
    pub stack_need: usize,
    /// How far the stack grows above its height at the start.
    pub stack_growth: usize,
    /// Height at its end less height at its start.
    pub stack_change: isize,
    /// How values come in: by registers from its only predecessor, or by memory.
    pub inherits: bool,
    /// Whether it can be entered from outside its region.
    pub is_entry: bool,
    /// pcs of the blocks that it is known to go on to.
    pub successors: Vec<usize>,
    /// One line an instruction.
    pub instructions: Vec<String>,
}

/// A compiled region.
#[derive(Clone, Debug)]
pub struct InspectionRegion {
    /// Its index.
    pub index: usize,
    /// pcs of its blocks, in order.
    pub blocks: Vec<usize>,
    /// CLIF before Cranelift's passes.
    pub clif: String,
    /// Offset of its machine code in the text.
    pub offset: u32,
    /// Length of its machine code in bytes.
    pub bytes: usize,
    /// Its machine code in Intel syntax, one instruction a line; empty for other architectures.
    pub disassembly: String,
}

impl Inspection {
    pub(crate) fn new(
        code: &[u8],
        spec: SpecId,
        config: &CompilerConfig,
        artifact: Artifact,
        regions: Vec<InspectionRegion>,
    ) -> Self {
        let analysis = Analysis::new(code, spec, config);
        let blocks = (0..analysis.blocks.len()).map(|index| InspectionBlock::new(&analysis, index)).collect();
        Self { spec, artifact, blocks, regions }
    }
}

impl InspectionBlock {
    fn new(analysis: &Analysis<'_>, index: usize) -> Self {
        let block = &analysis.blocks[index];
        let instructions = analysis.instructions[block.instructions.clone()]
            .iter()
            .map(|instruction| {
                let name = opcode::info(instruction.opcode).map_or("UNKNOWN", |info| info.name);
                let mut line = format!("{:04x} {name}", instruction.pc);
                let immediate = &analysis.code[(instruction.pc + 1).min(analysis.code.len())
                    ..(instruction.pc + 1 + opcode::push_bytes(instruction.opcode)).min(analysis.code.len())];
                if !immediate.is_empty() {
                    line.push_str(" 0x");
                    for byte in immediate {
                        let _ = write!(line, "{byte:02x}");
                    }
                }
                line
            })
            .collect();
        Self {
            pc: block.pc,
            end: block.end,
            region: block.region.0,
            gas: block.gas,
            stack_need: block.need,
            stack_growth: block.growth,
            stack_change: block.change,
            inherits: block.parent.is_some(),
            is_entry: block.entry.is_some(),
            successors: block.successors.iter().map(|next| analysis.blocks[*next].pc).collect(),
            instructions,
        }
    }
}

impl InspectionRegion {
    pub(crate) fn new(analysis: &Analysis<'_>, index: usize, clif: String, offset: u32, code: &[u8]) -> Self {
        let blocks = analysis.regions[index].blocks.clone().map(|block| analysis.blocks[block].pc).collect();
        Self {
            index,
            blocks,
            clif,
            offset,
            bytes: code.len(),
            disassembly: disassemble(code, u64::from(offset)),
        }
    }
}

/// Machine code as text, one instruction a line, addresses from `start` on.
#[cfg(target_arch = "x86_64")]
pub fn disassemble(code: &[u8], start: u64) -> String {
    let mut formatter = IntelFormatter::new();
    let mut out = String::new();
    for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
        let _ = write!(out, "{:06x}  ", instruction.ip());
        formatter.format(&instruction, &mut out);
        out.push('\n');
    }
    out
}

/// Machine code as text: only x86-64 is known.
#[cfg(not(target_arch = "x86_64"))]
pub fn disassemble(_code: &[u8], _start: u64) -> String {
    String::new()
}
