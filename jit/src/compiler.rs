//! The compiler: bytecode and a fork in, an [`Artifact`] out.
//!
//! A contract becomes several Cranelift functions, one a region of bounded size, because compile time grows faster than
//! linearly with the size of a function. A budget of time stands over the whole contract; regions that come after it is
//! spent stay interpreted.

use crate::{
    analysis::{Analysis, RegionId},
    artifact::{Artifact, CompileStats, Entry, Fingerprint, NOT_COMPILED},
    config::{CompilerConfig, OptLevel, Target},
    context::{HELPER_NAMES, offset},
    inspect::{Inspection, InspectionRegion},
    lower::{self, RegionLowering},
    stopwatch::Stopwatch,
};
use cranelift_codegen::{
    Context, control::ControlPlane, ir::Function, isa::OwnedTargetIsa, settings, settings::Configurable,
};
use cranelift_frontend::FunctionBuilderContext;
use revm::primitives::hardfork::SpecId;
use thiserror::Error;

/// Why nothing was compiled.
#[derive(Debug, Error)]
pub enum CompileError {
    /// Cranelift does not know this machine.
    #[error("this machine cannot run compiled code ({0}): use the interpreter")]
    Host(String),
    /// The bytecode is longer than the limit.
    #[error("the code has {bytes} bytes, the limit is {limit}: it stays interpreted")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The configured limit.
        limit: usize,
    },
    /// The bytecode is empty.
    #[error("there is no code to compile")]
    Empty,
    /// Cranelift failed: our mistake.
    #[error(
        "Cranelift refused a function ({0}): this is a fault of the compiler, the code stays interpreted"
    )]
    Codegen(String),
}

/// Compiles bytecode. Holds no state between contracts; one a thread, or shared.
pub struct Compiler {
    config: CompilerConfig,
    isa: OwnedTargetIsa,
    fingerprint: Fingerprint,
    /// The start of every text: trampoline and stub, compiled once.
    prelude: Vec<u8>,
    stub: u32,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Compiler").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Functions start at multiples of this many bytes.
const FUNCTION_ALIGN: usize = 16;

impl Compiler {
    /// A compiler for this machine.
    pub fn new(config: CompilerConfig) -> Result<Self, CompileError> {
        let isa = isa(&config)?;
        let fingerprint = fingerprint(&config, &isa);
        let mut builder = FunctionBuilderContext::new();
        let mut prelude = machine_code(&isa, lower::trampoline(&isa, &mut builder))?;
        prelude.resize(prelude.len().next_multiple_of(FUNCTION_ALIGN), 0xcc);
        let stub = prelude.len() as u32;
        prelude.extend(machine_code(&isa, lower::stub(&isa, &mut builder))?);
        Ok(Self { config, isa, fingerprint, prelude, stub })
    }

    /// Its configuration.
    pub fn config(&self) -> &CompilerConfig {
        &self.config
    }

    /// What its artifacts are keyed by, beside code hash and fork.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Compiles `code` (as it is on chain, without padding) by the rules of `spec`.
    ///
    /// Any bytecode compiles, in part where a budget ends; what a region cannot hold stays interpreted.
    pub fn compile(&self, code: &[u8], spec: SpecId) -> Result<Artifact, CompileError> {
        self.run(code, spec, None)
    }

    /// Compiles and keeps what can be shown: blocks, CLIF, machine code.
    pub fn inspect(&self, code: &[u8], spec: SpecId) -> Result<Inspection, CompileError> {
        let mut regions = Vec::new();
        let artifact = self.run(code, spec, Some(&mut regions))?;
        regions.sort_by_key(|region: &InspectionRegion| region.index);
        Ok(Inspection::new(code, spec, &self.config, artifact, regions))
    }

    fn run(
        &self,
        code: &[u8],
        spec: SpecId,
        mut inspection: Option<&mut Vec<InspectionRegion>>,
    ) -> Result<Artifact, CompileError> {
        let started = Stopwatch::start();
        let limits = &self.config.limits;
        if code.is_empty() {
            return Err(CompileError::Empty);
        }
        let limit = limits.code_bytes_max.min(65_000);
        if code.len() > limit {
            return Err(CompileError::TooLong { bytes: code.len(), limit });
        }
        let analysis = Analysis::new(code, spec, &self.config);
        let mut build_us = started.elapsed_us();
        let mut text = self.prelude.clone();
        let mut offsets = vec![NOT_COMPILED; analysis.regions.len()];
        let mut stats = CompileStats {
            blocks: analysis.blocks.len() as u32,
            regions: analysis.regions.len() as u32,
            bytecode_bytes: code.len() as u32,
            ..Default::default()
        };
        let mut builder = FunctionBuilderContext::new();
        let mut context = Context::new();
        // Where the budget ends early, loops have had their turn.
        let mut order: Vec<usize> = (0..analysis.regions.len()).collect();
        order.sort_by_key(|index| {
            !analysis.regions[*index].blocks.clone().any(|block| analysis.blocks[block].is_loop_head)
        });
        for index in order {
            let region = &analysis.regions[index];
            if u128::from(started.elapsed_us()) >= limits.compile_time_max.as_micros()
                || text.len() >= limits.text_bytes_max
            {
                break;
            }
            let build = Stopwatch::start();
            context.clear();
            RegionLowering::new(&analysis, &self.config, &self.isa, RegionId(index))
                .build(&mut context.func, &mut builder);
            build_us += build.elapsed_us();
            stats.clif_instructions += context.func.dfg.num_insts() as u32;
            let clif = inspection.is_some().then(|| context.func.display().to_string());
            let compiled = context
                .compile(&*self.isa, &mut ControlPlane::default())
                .map_err(|error| CompileError::Codegen(format!("{:?}", error.inner)))?;
            if !compiled.buffer.relocs().is_empty() {
                return Err(CompileError::Codegen("the code of a region is not position-independent".into()));
            }
            text.resize(text.len().next_multiple_of(FUNCTION_ALIGN), 0xcc);
            offsets[index] = text.len() as u32;
            text.extend_from_slice(compiled.code_buffer());
            stats.regions_compiled += 1;
            stats.blocks_compiled += region.blocks.len() as u32;
            if let (Some(regions), Some(clif)) = (&mut inspection, clif) {
                regions.push(InspectionRegion::new(
                    &analysis,
                    index,
                    clif,
                    offsets[index],
                    compiled.code_buffer(),
                ));
            }
        }
        stats.text_bytes = text.len() as u32;
        stats.build_us = build_us;
        stats.compile_us = started.elapsed_us();
        let entries = analysis
            .entries
            .iter()
            .map(|block| Entry {
                pc: analysis.blocks[*block].pc as u32,
                offset: offsets[analysis.blocks[*block].region.0],
            })
            .collect();
        let jumpdests = analysis.jumpdests.iter().map(|pc| *pc as u32).collect();
        Ok(Artifact { fingerprint: self.fingerprint, spec, text, stub: self.stub, entries, jumpdests, stats })
    }
}

/// Compiles one function of the prelude.
fn machine_code(isa: &OwnedTargetIsa, function: Function) -> Result<Vec<u8>, CompileError> {
    let mut context = Context::for_function(function);
    let compiled = context
        .compile(&**isa, &mut ControlPlane::default())
        .map_err(|error| CompileError::Codegen(format!("{:?}", error.inner)))?;
    Ok(compiled.code_buffer().to_vec())
}

fn isa(config: &CompilerConfig) -> Result<OwnedTargetIsa, CompileError> {
    let mut flags = settings::builder();
    let opt_level = match config.opt_level {
        OptLevel::None => "none",
        OptLevel::Speed => "speed",
    };
    for (name, value) in [
        ("opt_level", opt_level),
        ("enable_verifier", if config.verify_ir { "true" } else { "false" }),
        ("is_pic", "true"),
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
        // Gas and stack bounds are enforced by value checks, and nothing secret shares this address space with a contract.
        ("enable_table_access_spectre_mitigation", "false"),
        ("enable_heap_access_spectre_mitigation", "false"),
        // Tail calls between regions use the frame pointer.
        ("preserve_frame_pointers", "true"),
    ] {
        flags.set(name, value).map_err(|error| CompileError::Host(error.to_string()))?;
    }
    cranelift_native::builder_with_options(config.target == Target::Native)
        .map_err(|error| CompileError::Host(error.to_owned()))?
        .finish(settings::Flags::new(flags))
        .map_err(|error| CompileError::Host(error.to_string()))
}

fn fingerprint(config: &CompilerConfig, isa: &OwnedTargetIsa) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    for part in [
        env!("CARGO_PKG_VERSION"),
        cranelift_codegen::VERSION,
        &isa.triple().to_string(),
        &isa.flags().to_string(),
        &isa.isa_flags().iter().map(|flag| flag.to_string()).collect::<Vec<_>>().join(","),
        &format!("{config:?}"),
        &format!("{:?}", offset::ALL),
        &HELPER_NAMES.join(","),
        // Results of instructions are compiled in by number.
        revm_version(),
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&crate::lower::GENERATION.to_le_bytes());
    Fingerprint(*hasher.finalize().as_bytes())
}

/// Marks the revm that code is compiled against. Raise it together with the dependency.
const fn revm_version() -> &'static str {
    "revm 43"
}
