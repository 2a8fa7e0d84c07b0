#![allow(unsafe_code)]
//! The door to revm: runs a frame of revm's frame loop in compiled code. All contact with revm's interpreter types is here.
//!
//! A frame may enter compiled code at any entry (its start, behind a call, a JUMPDEST that computed jumps lead to), leave
//! it for the interpreter at any block, and come back at a later jump. Gas, stack and memory are revm's own objects
//! throughout, so either side finds what the other left.

mod helpers;

use crate::{
    context::{Exit, JitContext},
    loaded::CompiledCode,
    opcode::{JUMP, JUMPI},
};
use revm::{
    context::ContextTr,
    handler::{EthFrame, FrameInitOrResult, evm::ContextDbError, instructions::EthInstructions},
    interpreter::{
        CallInput, Host, InstructionResult, Interpreter, InterpreterAction,
        interpreter::EthInterpreter,
        interpreter_types::{Jumps, LoopControl, MemoryTr},
    },
};
use std::sync::Arc;

/// The interpreter of a frame.
type Frame = Interpreter<EthInterpreter>;

/// Runs the frame until it calls, creates or ends, in compiled code where there is some, and gives revm's frame loop its
/// next step. Takes the place of [`revm::handler::EvmTr::frame_run`]'s body.
///
/// `code` must have been compiled from the frame's bytecode, for the fork of `instructions`; where length or fork differ
/// the frame is interpreted.
pub fn run_frame<CTX>(
    frame: &mut EthFrame<EthInterpreter>,
    context: &mut CTX,
    instructions: &EthInstructions<EthInterpreter, CTX>,
    code: &Arc<CompiledCode>,
) -> Result<FrameInitOrResult<EthFrame<EthInterpreter>>, ContextDbError<CTX>>
where
    CTX: ContextTr + Host,
{
    let action = run(&mut frame.interpreter, context, instructions, code);
    frame.process_next_action(context, action).inspect(|step| {
        if step.is_result() {
            frame.set_finished(true);
        }
    })
}

/// Runs an interpreter to its next action, in compiled code where there is some.
pub fn run<CTX: Host>(
    interpreter: &mut Frame,
    host: &mut CTX,
    instructions: &EthInstructions<EthInterpreter, CTX>,
    code: &Arc<CompiledCode>,
) -> InterpreterAction {
    let is_same = code.bytecode_len() == interpreter.bytecode.len() && code.spec() == instructions.spec;
    let mut pc = interpreter.bytecode.pc();
    // Resumption behind a call finds its entry; any other pc is run up to the next jump to one.
    let mut entry = if is_same { code.entry_at(pc) } else { None };
    let result = loop {
        let Some(number) = entry else {
            match interpret(interpreter, host, instructions, is_same.then_some(&**code)) {
                Step::Enter(number) => {
                    entry = Some(number);
                    continue;
                }
                Step::Result(result) => break result,
            }
        };
        match enter(interpreter, host, instructions, code, number) {
            Left::Result(result) => break result,
            Left::At(at) => {
                pc = at;
                interpreter.bytecode.absolute_jump(pc);
                entry = None;
            }
        }
    };
    if interpreter.bytecode.action().is_none() {
        interpreter.halt(result);
    }
    interpreter.take_next_action()
}

/// How interpretation ended.
enum Step {
    /// With this result.
    Result(InstructionResult),
    /// At a jump to this entry.
    Enter(usize),
}

/// Steps through instructions until the frame is done, or a jump leads to compiled code.
fn interpret<CTX: Host>(
    interpreter: &mut Frame,
    host: &mut CTX,
    instructions: &EthInstructions<EthInterpreter, CTX>,
    code: Option<&CompiledCode>,
) -> Step {
    loop {
        let opcode = interpreter.bytecode.opcode();
        if let Err(result) =
            interpreter.step(instructions.instruction_table(), instructions.gas_table(), host)
        {
            return Step::Result(result);
        }
        if (opcode == JUMP || opcode == JUMPI)
            && let Some(number) = code.and_then(|code| code.entry_at(interpreter.bytecode.pc()))
        {
            return Step::Enter(number);
        }
    }
}

/// How compiled code was left.
enum Left {
    /// With this result.
    Result(InstructionResult),
    /// For the interpreter, at this pc.
    At(usize),
}

/// Enters compiled code and brings revm's objects up to date when it comes back.
fn enter<CTX: Host>(
    interpreter: &mut Frame,
    host: &mut CTX,
    instructions: &EthInstructions<EthInterpreter, CTX>,
    code: &CompiledCode,
    number: usize,
) -> Left {
    let words = interpreter.stack.len();
    let stack_base = interpreter.stack.data_mut().as_mut_ptr().cast::<u64>();
    let mut context = JitContext {
        gas: interpreter.gas.remaining(),
        // SAFETY: `words` words are in the stack's buffer.
        sp: unsafe { stack_base.add(words * 4) },
        exit: 0,
        stack_base,
        memory: std::ptr::null_mut(),
        memory_len: 0,
        jump_table: std::ptr::null(),
        code_len: 0,
        entry_functions: std::ptr::null(),
        calldata: std::ptr::null(),
        calldata_len: 0,
        address: interpreter.input.target_address.as_ptr(),
        caller: interpreter.input.caller_address.as_ptr(),
        value: interpreter.input.call_value.as_limbs().as_ptr(),
        helpers: helpers::table::<CTX>().as_ptr(),
        interpreter: std::ptr::from_mut(interpreter).cast(),
        host: std::ptr::from_mut(host).cast(),
        instructions: std::ptr::from_ref(instructions.instruction_table()).cast(),
    };
    code.tables(&mut context);
    sync_memory(&mut context, interpreter);
    // SAFETY: every field is filled from this frame; revm's stack has a capacity of 1,024 words, which a frame's stack
    // always has (`Stack::new`), and `sp` follows its length.
    let status = unsafe { code.enter(&mut context, number) };
    let top = context.sp as usize - context.stack_base as usize;
    // SAFETY: compiled code keeps `sp` between the stack's start and its capacity, and all words below it are written.
    unsafe { interpreter.stack.data_mut().set_len(top / 32) };
    interpreter.gas.set_remaining(context.gas);
    match status {
        status if status == Exit::Interpret as u64 => Left::At(context.exit as usize),
        status if status == Exit::NotCompiled as u64 => Left::At(code.entry_pc(context.exit)),
        _ => Left::Result(helpers::result_of(context.exit)),
    }
}

/// Derives the pointers into the shared memory buffer, which moves when it grows.
fn sync_memory(context: &mut JitContext, interpreter: &mut Frame) {
    {
        let mut memory = interpreter.memory.context_memory_mut();
        context.memory = memory.as_mut_ptr();
        context.memory_len = memory.len() as u64;
    }
    match &interpreter.input.input {
        CallInput::Bytes(bytes) => {
            context.calldata = bytes.as_ptr();
            context.calldata_len = bytes.len() as u64;
        }
        // The range of an empty input need not lie inside of the buffer.
        CallInput::SharedBuffer(range) if range.is_empty() => context.calldata_len = 0,
        CallInput::SharedBuffer(range) => {
            let slice = MemoryTr::global_slice(&interpreter.memory, range.clone());
            context.calldata = slice.as_ptr();
            context.calldata_len = slice.len() as u64;
        }
    }
}
