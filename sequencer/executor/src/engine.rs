//! What runs bytecode: revm's interpreter, or the JIT's tier in front of it. Either gives the same results, gas and state;
//! the engine is a matter of speed alone.

use crate::StateRead;
use crate::evm::{EvmContext, Inner};
use ironlane_jit::tier::{Runner, Tier};
use revm::{
    handler::{EthFrame, EvmTr, FrameData, FrameInitOrResult, ItemOrResult, evm::ContextDbError},
    interpreter::{FrameInput, interpreter::EthInterpreter, interpreter_types::LegacyBytecode},
};
use std::sync::Arc;

/// What runs bytecode. Shared by any number of executors.
#[derive(Clone, Debug, Default)]
pub enum Engine {
    /// revm's interpreter alone.
    #[default]
    Interpreter,
    /// Compiled code where the tier has it or makes it; the interpreter elsewhere.
    Jit(Arc<Tier>),
}

impl Engine {
    /// Its name on the command line and in reports.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Interpreter => "interpreter",
            Self::Jit(_) => "jit",
        }
    }

    /// An executor's own handle.
    pub(crate) fn runner(&self) -> Option<Box<Runner>> {
        match self {
            Self::Interpreter => None,
            Self::Jit(tier) => Some(Box::new(tier.runner())),
        }
    }
}

/// Runs the newest frame until it calls, creates or ends, in what `runner` says.
pub(crate) fn frame_run<R: StateRead>(
    inner: &mut Inner<R>,
    runner: &mut Runner,
) -> Result<FrameInitOrResult<EthFrame<EthInterpreter>>, ContextDbError<EvmContext<R>>> {
    let spec = inner.ctx.cfg.spec;
    let frame = inner.frame_stack.get();
    let bytecode = &mut frame.interpreter.bytecode;
    // Initcode runs once: compiling it pays only where everything is to be compiled. A delegation designator that is
    // called directly is one invalid instruction.
    let is_code = bytecode.is_legacy();
    let hash = match frame.data {
        FrameData::Call(_) => bytecode.hash(),
        FrameData::Create(_) if runner.is_eager() => Some(bytecode.get_or_calculate_hash()),
        FrameData::Create(_) => None,
    };
    let Some(hash) = hash.filter(|hash| is_code && !hash.is_zero()) else { return inner.frame_run() };
    let before = frame.interpreter.gas.remaining();
    let segment = runner.begin(&hash, spec, || bytecode.original_bytes());
    let step = match runner.code(&segment) {
        Some(code) => ironlane_jit::run_frame(frame, &mut inner.ctx, &inner.instruction, code),
        None => inner.frame_run(),
    }?;
    // What a callee got is the callee's to spend. Its stipend was not the caller's: then a little too little is counted.
    let given = match &step {
        ItemOrResult::Item(init) => match &init.frame_input {
            FrameInput::Call(inputs) => inputs.gas_limit,
            FrameInput::Create(inputs) => inputs.gas_limit(),
            FrameInput::Empty => 0,
        },
        ItemOrResult::Result(_) => 0,
    };
    let interpreter = &inner.frame_stack.get().interpreter;
    let spent = before.saturating_sub(interpreter.gas.remaining()).saturating_sub(given);
    let bytecode = &interpreter.bytecode;
    runner.end(segment, &hash, spent, bytecode.len(), || bytecode.original_bytes());
    Ok(step)
}
