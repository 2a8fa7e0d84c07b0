//! The engine under test: every code compiled before it runs for the first time, created and delegated ones included.

use super::{
    case::Case,
    exec::{Engine, FrameStep, FuzzEvm},
};
use crate::{CompileError, CompiledCode, Compiler, CompilerConfig, Limits, OptLevel, Target, run_frame};
use alloy_primitives::B256;
use revm::{interpreter::interpreter_types::LegacyBytecode, primitives::hardfork::SpecId};
use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// Codes kept from one case to the next.
const CODES_MAX: usize = 256;

/// Frames run in compiled code, compiled on the spot.
#[derive(Debug)]
pub struct Compiled {
    compiler: Compiler,
    codes: HashMap<(B256, SpecId), Option<Arc<CompiledCode>>>,
    fault: Option<String>,
    compilations: u64,
    compile_us: u64,
    bytes: u64,
}

impl Compiled {
    /// An engine over a compiler of this configuration.
    pub fn new(config: CompilerConfig) -> Result<Self, CompileError> {
        let compiler = Compiler::new(config)?;
        let codes = HashMap::new();
        Ok(Self { compiler, codes, fault: None, compilations: 0, compile_us: 0, bytes: 0 })
    }

    /// The configurations that are worth telling apart, each under the name that `--opt` takes: every optimisation level,
    /// every target, and regions so small that nearly every edge leaves one.
    pub fn variants() -> Vec<(&'static str, CompilerConfig)> {
        let base = CompilerConfig {
            // A code compiled in part would hide its faults.
            limits: Limits { compile_time_max: Duration::from_secs(30), ..Limits::default() },
            verify_ir: true,
            ..CompilerConfig::default()
        };
        let tiny = Limits { region_weight_max: 60, region_blocks_max: 3, ..base.limits };
        vec![
            ("speed", CompilerConfig { opt_level: OptLevel::Speed, ..base }),
            ("none", CompilerConfig { opt_level: OptLevel::None, ..base }),
            ("generic", CompilerConfig { target: Target::Generic, ..base }),
            ("tiny", CompilerConfig { opt_level: OptLevel::None, limits: tiny, ..base }),
        ]
    }

    /// Compilations so far, the time they took in µs, and bytes of bytecode that they were given.
    pub fn compile_stats(&self) -> (u64, u64, u64) {
        (self.compilations, self.compile_us, self.bytes)
    }

    fn code(&mut self, hash: B256, bytes: &[u8], spec: SpecId) -> Option<Arc<CompiledCode>> {
        if let Some(code) = self.codes.get(&(hash, spec)) {
            return code.clone();
        }
        // A panic is a finding like any other; it is caught where panics unwind.
        let compiled = std::panic::catch_unwind(AssertUnwindSafe(|| self.compiler.compile(bytes, spec)));
        let code = match compiled {
            Ok(Ok(artifact)) => {
                self.compilations += 1;
                self.compile_us += artifact.stats.compile_us;
                self.bytes += bytes.len() as u64;
                match CompiledCode::load(&artifact) {
                    Ok(code) => Some(code),
                    Err(error) => {
                        self.fault = Some(error.to_string());
                        None
                    }
                }
            }
            Ok(Err(CompileError::Empty | CompileError::TooLong { .. })) => None,
            Ok(Err(error)) => {
                self.fault = Some(error.to_string());
                None
            }
            Err(_) => {
                self.fault = Some("the compiler panicked".into());
                None
            }
        };
        self.codes.insert((hash, spec), code.clone());
        code
    }
}

impl Engine for Compiled {
    fn prepare(&mut self, _case: &Case, _evm: &mut FuzzEvm) {
        if self.codes.len() > CODES_MAX {
            self.codes.clear();
        }
    }

    fn run_frame(&mut self, evm: &mut FuzzEvm) -> FrameStep {
        let spec = evm.instruction.spec;
        let frame = evm.frame_stack.get();
        let hash = frame.interpreter.bytecode.get_or_calculate_hash();
        let code = self.code(hash, frame.interpreter.bytecode.bytecode_slice(), spec);
        match code {
            Some(code) => run_frame(evm.frame_stack.get(), &mut evm.ctx, &evm.instruction, &code),
            None => revm::handler::EvmTr::frame_run(evm),
        }
    }

    fn fault(&mut self) -> Option<String> {
        self.fault.take()
    }
}
