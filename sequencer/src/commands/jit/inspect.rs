//! `ironlane jit inspect`.

use super::{InspectArgs, source};
use crate::commands::print_json;
use anyhow::{Context, bail, ensure};
use ironlane_jit::{
    Compiler, CompilerConfig, Inspection, InspectionBlock, InspectionRegion, OptLevel, Target,
    fuzz::parse_spec,
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Width of the left column where two stand side by side.
const COLUMN: usize = 76;

/// Compiles and shows.
pub(super) fn inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let spec = parse_spec(&args.spec)
        .with_context(|| format!("there is no fork `{}`: use frontier to osaka", args.spec))?;
    let opt_level = match args.opt.as_str() {
        "speed" => OptLevel::Speed,
        "none" => OptLevel::None,
        other => bail!("there is no optimisation level `{other}`: use speed or none"),
    };
    let target = match args.cpu.as_str() {
        "native" => Target::Native,
        "generic" => Target::Generic,
        other => bail!("there is no CPU `{other}`: use native or generic"),
    };
    let code = source::code(args)?;
    let compiler = Compiler::new(CompilerConfig { opt_level, target, ..CompilerConfig::default() })?;
    let inspection = compiler.inspect(&code, spec)?;
    let chosen = Chosen::new(&inspection, args)?;
    if args.json {
        print_json(&chosen.json(&inspection))
    } else {
        print!("{}", chosen.text(&inspection));
        Ok(())
    }
}

/// What the filters leave.
struct Chosen<'a> {
    blocks: Vec<&'a InspectionBlock>,
    regions: Vec<&'a InspectionRegion>,
}

impl<'a> Chosen<'a> {
    fn new(inspection: &'a Inspection, args: &InspectArgs) -> anyhow::Result<Self> {
        let mut blocks: Vec<_> = inspection.blocks.iter().collect();
        if let Some(pc) = args.pc {
            blocks.retain(|block| (block.pc..block.end.max(block.pc + 1)).contains(&pc));
            ensure!(!blocks.is_empty(), "no reachable block holds position {pc:#x}");
        }
        if let Some(function) = args.function {
            blocks.retain(|block| block.region == function);
            ensure!(
                !blocks.is_empty(),
                "no such block is in function {function}; there are {}",
                inspection.artifact.stats.regions
            );
        }
        let regions = inspection
            .regions
            .iter()
            .filter(|region| blocks.iter().any(|block| block.region == region.index));
        Ok(Self { regions: regions.collect(), blocks })
    }

    fn text(&self, inspection: &Inspection) -> String {
        let stats = &inspection.artifact.stats;
        let mut out = format!(
            "{} bytes of bytecode, {:?}: {} blocks in {} functions, {} of them compiled; {} bytes of machine code, {} µs\n",
            stats.bytecode_bytes,
            inspection.spec,
            stats.blocks,
            stats.regions,
            stats.regions_compiled,
            stats.text_bytes,
            stats.compile_us
        );
        for block in &self.blocks {
            let _ = write!(
                out,
                "\nblock {:#06x}..{:#06x}  function {}  gas {}  stack needs {}, grows {}, changes {:+}",
                block.pc,
                block.end,
                block.region,
                block.gas,
                block.stack_need,
                block.stack_growth,
                block.stack_change
            );
            if block.is_entry {
                out.push_str("  entry");
            }
            if block.inherits {
                out.push_str("  values in registers");
            }
            if !block.successors.is_empty() {
                let next: Vec<String> = block.successors.iter().map(|pc| format!("{pc:#x}")).collect();
                let _ = write!(out, "  -> {}", next.join(", "));
            }
            out.push('\n');
            for instruction in &block.instructions {
                let _ = writeln!(out, "    {instruction}");
            }
        }
        for region in &self.regions {
            let _ = writeln!(
                out,
                "\nfunction {}: {} blocks, {} bytes at {:#x}\n{:<COLUMN$}  machine code",
                region.index,
                region.blocks.len(),
                region.bytes,
                region.offset,
                "CLIF"
            );
            out.push_str(&side_by_side(&region.clif, &region.disassembly));
        }
        out
    }

    fn json(&self, inspection: &Inspection) -> Value {
        let stats = &inspection.artifact.stats;
        let blocks = self.blocks.iter().map(|block| {
            json!({
                "pc": block.pc,
                "end": block.end,
                "function": block.region,
                "gas": block.gas,
                "stack_need": block.stack_need,
                "stack_growth": block.stack_growth,
                "stack_change": block.stack_change,
                "in_registers": block.inherits,
                "entry": block.is_entry,
                "successors": block.successors,
                "instructions": block.instructions,
            })
        });
        let functions = self.regions.iter().map(|region| {
            json!({
                "function": region.index,
                "blocks": region.blocks,
                "offset": region.offset,
                "code_bytes": region.bytes,
                "clif": region.clif,
                "machine_code": region.disassembly,
            })
        });
        json!({
            "spec": format!("{:?}", inspection.spec).to_lowercase(),
            "bytecode_bytes": stats.bytecode_bytes,
            "code_bytes": stats.text_bytes,
            "compile_us": stats.compile_us,
            "functions_compiled": stats.regions_compiled,
            "functions_total": stats.regions,
            "blocks": blocks.collect::<Vec<_>>(),
            "functions": functions.collect::<Vec<_>>(),
        })
    }
}

/// Two texts in columns; a line that is too wide for the left one gets a row of its own.
fn side_by_side(left: &str, right: &str) -> String {
    let (mut left, mut right) = (left.lines(), right.lines());
    let mut out = String::new();
    loop {
        let (l, mut r) = (left.next(), None);
        if l.is_none_or(|line| line.chars().count() <= COLUMN) {
            r = right.next();
        }
        match (l, r) {
            (None, None) => return out,
            (l, r) => {
                let line = format!("{:<COLUMN$}  {}", l.unwrap_or_default(), r.unwrap_or_default());
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;
    use revm::primitives::hardfork::SpecId;

    fn args(pc: Option<usize>, function: Option<usize>) -> InspectArgs {
        InspectArgs {
            code: String::new(),
            datadir: None,
            rpc: None,
            spec: "osaka".into(),
            cpu: "generic".into(),
            opt: "speed".into(),
            function,
            pc,
            json: false,
        }
    }

    fn loop_inspection() -> Inspection {
        // JUMPDEST, PUSH1 0, CALLDATALOAD, PUSH1 0, JUMPI, STOP
        let code = hex!("5b60003560005700");
        Compiler::new(CompilerConfig::default()).unwrap().inspect(&code, SpecId::OSAKA).unwrap()
    }

    #[test]
    fn the_text_shows_blocks_gas_clif_and_machine_code() {
        let inspection = loop_inspection();
        let chosen = Chosen::new(&inspection, &args(None, None)).unwrap();
        let text = chosen.text(&inspection);
        for part in ["block 0x0000", "gas 20", "JUMPI", "-> ", "CLIF", "machine code", "function u1:"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = chosen.json(&inspection);
        assert_eq!(json["blocks"].as_array().unwrap().len(), inspection.blocks.len());
        assert!(json["functions"][0]["clif"].as_str().unwrap().contains("block0"));
    }

    #[test]
    fn filters_leave_one_block_and_refuse_what_is_not_there() {
        let inspection = loop_inspection();
        let one = Chosen::new(&inspection, &args(Some(7), None)).unwrap();
        assert_eq!(one.blocks.iter().map(|block| block.pc).collect::<Vec<_>>(), [7]);
        assert!(Chosen::new(&inspection, &args(Some(100), None)).is_err());
        assert!(Chosen::new(&inspection, &args(None, Some(99))).is_err());
    }

    #[test]
    fn columns_stand_beside_each_other() {
        let text = side_by_side("a\nb", "x\ny\nz");
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["a", "x"], vec!["b", "y"], vec!["z"]]);
    }
}
