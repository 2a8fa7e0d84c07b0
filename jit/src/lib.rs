//! A Cranelift JIT for EVM bytecode, equal to revm's interpreter to the last unit of gas.
//!
//! [`Compiler::compile`] turns a bytecode and a fork into an [`Artifact`]: position-independent machine code with its
//! tables, plain data that can be stored. [`CompiledCode::load`] maps it executable, and [`run_frame`] runs a frame of
//! revm's frame loop in it:
//!
//! ```
//! use ironlane_jit::{CompiledCode, Compiler, CompilerConfig};
//! use revm::primitives::hardfork::SpecId;
//!
//! let compiler = Compiler::new(CompilerConfig::default())?;
//! // PUSH1 2, PUSH1 3, ADD, STOP
//! let artifact = compiler.compile(&[0x60, 2, 0x60, 3, 0x01, 0x00], SpecId::OSAKA)?;
//! let code = CompiledCode::load(&artifact)?;
//! assert_eq!(code.bytecode_len(), 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Way of a contract: [`opcode`] is the one table of opcodes; [`analysis`] cuts basic blocks, adds up gas and stack, and
//! forms regions; [`lower`] builds CLIF, one function a region; [`compiler`] runs Cranelift within a budget; [`memory`]
//! holds code that can be written or run, never both; [`revm_door`] is the only place that knows revm's interpreter. The
//! contract between machine code and door is [`context`].
//!
//! The rule that keeps this exact: compiled code never decides how a frame fails. Where a check fails that covers several
//! instructions, it hands the frame to the interpreter, in the state before them, and the interpreter fails for the right
//! reason.

pub mod analysis;
pub mod artifact;
pub mod asm;
pub mod compiler;
pub mod config;
pub mod context;
pub mod fuzz;
pub mod inspect;
pub mod loaded;
pub mod lower;
pub mod memory;
pub mod opcode;
pub mod revm_door;
mod stopwatch;
pub mod tier;

pub use artifact::{Artifact, ArtifactError, CompileStats, Entry, Fingerprint};
pub use compiler::{CompileError, Compiler};
#[cfg(any(test, feature = "sabotage"))]
pub use config::Sabotage;
pub use config::{CompilerConfig, Limits, OptLevel, Target};
pub use inspect::{Inspection, InspectionBlock, InspectionRegion};
pub use loaded::{CompiledCode, LoadError};
pub use memory::{CodeMemory, CodeMemoryError};
pub use revm_door::run_frame;
