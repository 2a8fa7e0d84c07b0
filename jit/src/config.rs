//! What a compiler is told: how hard to try, for which CPU, and how much a contract may cost it.

use std::time::Duration;

/// How hard Cranelift optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OptLevel {
    /// No middle-end passes: fastest to compile.
    None,
    /// Egraph rewrites, alias analysis and code motion.
    Speed,
}

/// The CPU that code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The one this process runs on, with all its features.
    Native,
    /// The architecture's baseline, with nothing newer.
    Generic,
}

/// What one contract may cost. Beyond a limit the rest of the contract stays interpreted; only `code_bytes_max` refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest bytecode that is compiled at all, in bytes. At most 65,000: entries are numbered in 16 bits.
    pub code_bytes_max: usize,
    /// Processor time for one contract. Checked between regions, each of which is bounded in size.
    pub compile_time_max: Duration,
    /// Estimated size of one region (one Cranelift function), in units of about one CLIF instruction.
    pub region_weight_max: usize,
    /// Basic blocks of one region.
    pub region_blocks_max: usize,
    /// Longest chain of blocks that hand values down in registers.
    pub chain_blocks_max: usize,
    /// Machine code of one contract, in bytes.
    pub text_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            code_bytes_max: 49_152,
            // A last region begun just before the end may take another fifteen.
            compile_time_max: Duration::from_millis(80),
            region_weight_max: 2_500,
            region_blocks_max: 200,
            chain_blocks_max: 12,
            text_bytes_max: 2 << 20,
        }
    }
}

/// A compiler's configuration. Artifacts of compilers that differ in it have different fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompilerConfig {
    /// How hard Cranelift optimises.
    pub opt_level: OptLevel,
    /// The CPU that code is made for.
    pub target: Target,
    /// What one contract may cost.
    pub limits: Limits,
    /// Runs Cranelift's own verifier over each function. Slow; for tests.
    pub verify_ir: bool,
    /// Compiles in a check of stack height and gas at each block, against what the analysis said. The `verify` feature
    /// makes it the default.
    pub shadow_checks: bool,
    /// A fault planted on purpose, so that tests can show that they find faults.
    #[cfg(any(test, feature = "sabotage"))]
    pub sabotage: Option<Sabotage>,
}

impl Default for CompilerConfig {
    fn default() -> Self {
        Self {
            // The middle end costs a third more time and gains nothing that measurements show.
            opt_level: OptLevel::None,
            target: Target::Native,
            limits: Limits::default(),
            verify_ir: false,
            shadow_checks: cfg!(feature = "verify"),
            #[cfg(any(test, feature = "sabotage"))]
            sabotage: None,
        }
    }
}

impl CompilerConfig {
    /// Whether this fault is planted.
    pub(crate) fn has_fault(&self, fault: Sabotage) -> bool {
        #[cfg(any(test, feature = "sabotage"))]
        return self.sabotage == Some(fault);
        #[cfg(not(any(test, feature = "sabotage")))]
        {
            let _ = fault;
            false
        }
    }
}

/// A planted miscompile. Only with the `sabotage` feature can one be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Each block charges one unit of gas too many.
    Gas,
    /// ADD loses the carry out of its low 128 bits.
    AddCarry,
    /// SWAP exchanges one word too deep.
    SwapDepth,
    /// MSTORE leaves the lowest byte of a word out.
    StoreByte,
    /// JUMPI jumps where it should not.
    JumpCondition,
}
