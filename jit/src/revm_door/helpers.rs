#![allow(unsafe_code)]
//! The functions that compiled code calls: revm's own instructions, and direct ways for the frequent ones.
//!
//! Each instruction finds its operands at the top of revm's stack, whose length is set to end behind them: an instruction
//! reads and writes nothing below, so values there may still be in registers.

use super::{Frame, sync_memory};
use crate::context::{FAILED, HELPERS, Helper, HelperFn, JitContext, PureFn};
use revm::{
    interpreter::{
        Host, InstructionContext, InstructionExecResult, InstructionResult, InstructionTable,
        instructions::{
            host as state,
            i256::{i256_div, i256_mod},
            memory, system,
        },
        interpreter::EthInterpreter,
        interpreter_types::Jumps,
    },
    primitives::{KECCAK_EMPTY, U256},
};

/// The helpers of a context type, by [`Helper`].
pub(super) fn table<CTX: Host>() -> &'static [*const (); HELPERS] {
    const { &Table::<CTX>::TABLE }
}

/// The result that a number stands for.
pub(super) fn result_of(number: u64) -> InstructionResult {
    RESULTS
        .iter()
        .copied()
        .find(|result| *result as u64 == number)
        .unwrap_or(InstructionResult::FatalExternalError)
}

/// All results that compiled code and helpers can leave with.
const RESULTS: [InstructionResult; 30] = [
    InstructionResult::OutOfGas,
    InstructionResult::Stop,
    InstructionResult::Return,
    InstructionResult::Revert,
    InstructionResult::Suspend,
    InstructionResult::SelfDestruct,
    InstructionResult::InvalidJump,
    InstructionResult::MemoryOOG,
    InstructionResult::MemoryLimitOOG,
    InstructionResult::PrecompileOOG,
    InstructionResult::InvalidOperandOOG,
    InstructionResult::ReentrancySentryOOG,
    InstructionResult::OpcodeNotFound,
    InstructionResult::CallNotAllowedInsideStatic,
    InstructionResult::StateChangeDuringStaticCall,
    InstructionResult::InvalidFEOpcode,
    InstructionResult::NotActivated,
    InstructionResult::StackUnderflow,
    InstructionResult::StackOverflow,
    InstructionResult::OutOfOffset,
    InstructionResult::CreateCollision,
    InstructionResult::OverflowPayment,
    InstructionResult::PrecompileError,
    InstructionResult::NonceOverflow,
    InstructionResult::CreateContractSizeLimit,
    InstructionResult::CreateContractStartingWithEF,
    InstructionResult::CreateInitCodeSizeLimit,
    InstructionResult::FatalExternalError,
    InstructionResult::InvalidImmediateEncoding,
    InstructionResult::CallTooDeep,
];

/// Runs `body` as the instruction whose operands end at `stack`, with exactly `gas` left.
///
/// # Safety
///
/// `context` is the context of a frame with a host of type `CTX` that is in compiled code now, so nothing else refers to
/// its interpreter and host; `stack` points into its stack, behind words that are written.
#[inline(always)]
unsafe fn instruction_with<CTX: Host>(
    context: *mut JitContext,
    stack: *mut u64,
    gas: u64,
    body: impl FnOnce(InstructionContext<'_, CTX, EthInterpreter>) -> InstructionExecResult,
) -> u64 {
    // SAFETY: the promise above; `enter` filled these fields from exclusive references.
    let (context, interpreter, host) = unsafe {
        let (interpreter, host) = ((*context).interpreter, (*context).host);
        (&mut *context, &mut *interpreter.cast::<Frame>(), &mut *host.cast::<CTX>())
    };
    let words = (stack as usize - context.stack_base as usize) / 32;
    // SAFETY: the words below `stack` are inside the stack's buffer.
    unsafe { interpreter.stack.data_mut().set_len(words) };
    interpreter.gas.set_remaining(gas);
    match body(InstructionContext { interpreter, host }) {
        Ok(()) => {
            sync_memory(context, interpreter);
            interpreter.gas.remaining()
        }
        Err(result) => {
            fail(context, interpreter, result);
            FAILED
        }
    }
}

/// Notes why a frame cannot go on.
#[cold]
fn fail(context: &mut JitContext, interpreter: &mut Frame, result: InstructionResult) {
    context.exit = result as u64;
    context.gas = interpreter.gas.remaining();
    // SAFETY: the length is at most the capacity of the buffer that begins at `stack_base`.
    context.sp = unsafe { context.stack_base.add(interpreter.stack.len() * 4) };
}

struct Table<CTX>(std::marker::PhantomData<CTX>);

/// Helpers that run one of revm's instructions.
macro_rules! direct {
    ($($name:ident = $instruction:path;)*) => {
        $(unsafe extern "C" fn $name<CTX: Host>(
            context: *mut JitContext,
            stack: *mut u64,
            gas: u64,
            _argument: u64,
        ) -> u64 {
            // SAFETY: compiled code calls helpers as `HelperFn` says.
            unsafe { instruction_with::<CTX>(context, stack, gas, |parts| $instruction(parts)) }
        })*
    };
}

direct! {
    sload = state::sload;
    sstore = state::sstore;
    tload = state::tload;
    tstore = state::tstore;
    calldata_load = system::calldataload;
    calldata_copy = system::calldatacopy;
    returndata_copy = system::returndatacopy;
    mcopy = memory::mcopy;
    log1 = state::log::<1, CTX>;
    log2 = state::log::<2, CTX>;
    log3 = state::log::<3, CTX>;
    log4 = state::log::<4, CTX>;
}

unsafe extern "C" fn instruction<CTX: Host>(
    context: *mut JitContext,
    stack: *mut u64,
    gas: u64,
    argument: u64,
) -> u64 {
    // SAFETY: compiled code calls helpers as `HelperFn` says; `instructions` is a table for this host type.
    unsafe {
        let table = &*(*context).instructions.cast::<InstructionTable<EthInterpreter, CTX>>();
        let own = table[argument as u8 as usize];
        instruction_with::<CTX>(context, stack, gas, |parts| own.execute(parts))
    }
}

unsafe extern "C" fn suspend<CTX: Host>(
    context: *mut JitContext,
    stack: *mut u64,
    gas: u64,
    argument: u64,
) -> u64 {
    // SAFETY: as for `instruction`; the pc behind an instruction is inside the padded bytecode.
    unsafe {
        let table = &*(*context).instructions.cast::<InstructionTable<EthInterpreter, CTX>>();
        let own = table[argument as u8 as usize];
        instruction_with::<CTX>(context, stack, gas, |parts| {
            parts.interpreter.bytecode.absolute_jump((argument >> 8) as usize);
            own.execute(parts)
        })
    }
}

/// Grows memory; `length` comes as the stack argument.
unsafe extern "C" fn grow<CTX: Host>(
    context: *mut JitContext,
    length: *mut u64,
    gas: u64,
    offset: u64,
) -> u64 {
    // SAFETY: as for `instruction_with`.
    let (context, interpreter, host) = unsafe {
        let (interpreter, host) = ((*context).interpreter, (*context).host);
        (&mut *context, &mut *interpreter.cast::<Frame>(), &*host.cast::<CTX>())
    };
    interpreter.gas.set_remaining(gas);
    match interpreter.resize_memory(host.gas_params(), offset as usize, length as usize) {
        Ok(()) => {
            sync_memory(context, interpreter);
            interpreter.gas.remaining()
        }
        Err(result) => {
            let sp = context.sp;
            fail(context, interpreter, result);
            // The stack is not in memory here and no longer matters: the frame halts.
            context.sp = sp;
            FAILED
        }
    }
}

unsafe extern "C" fn keccak<CTX: Host>(
    context: *mut JitContext,
    stack: *mut u64,
    gas: u64,
    _argument: u64,
) -> u64 {
    // SAFETY: compiled code calls helpers as `HelperFn` says.
    unsafe { instruction_with::<CTX>(context, stack, gas, keccak_instruction) }
}

/// KECCAK256 as revm's instruction has it, with this project's hash.
fn keccak_instruction<CTX: Host>(
    parts: InstructionContext<'_, CTX, EthInterpreter>,
) -> InstructionExecResult {
    let interpreter = parts.interpreter;
    let Some(([offset], top)) = interpreter.stack.popn_top::<1>() else {
        return Err(InstructionResult::StackUnderflow);
    };
    let [length, 0, 0, 0] = *top.as_limbs() else { return Err(InstructionResult::InvalidOperandOOG) };
    let length = length as usize;
    if !interpreter.gas.record_regular_cost(parts.host.gas_params().keccak256_cost(length)) {
        return Err(InstructionResult::OutOfGas);
    }
    if length == 0 {
        *top = KECCAK_EMPTY.into();
        return Ok(());
    }
    let [offset, 0, 0, 0] = *offset.as_limbs() else { return Err(InstructionResult::InvalidOperandOOG) };
    let offset = offset as usize;
    revm::interpreter::interpreter::resize_memory(
        &mut interpreter.gas,
        &mut interpreter.memory,
        parts.host.gas_params(),
        offset,
        length,
    )?;
    *top = U256::from_be_bytes(
        ironlane_fpga::keccak::keccak256(&interpreter.memory.slice_len(offset, length)).into(),
    );
    Ok(())
}

/// Helpers of two words, the lower one replaced: `|lower, upper|`, where upper was on top.
macro_rules! pure2 {
    ($($name:ident = |$lower:ident, $upper:ident| $body:expr;)*) => {
        $(unsafe extern "C" fn $name(words: *mut u64) {
            // SAFETY: compiled code points at two words of the stack, each four limbs from the lowest, as U256 is.
            let [slot, $upper] = unsafe { &mut *words.cast::<[U256; 2]>() };
            let ($lower, $upper) = (*slot, *$upper);
            *slot = $body;
        })*
    };
}

pure2! {
    pure_mul = |b, a| a.wrapping_mul(b);
    pure_div = |b, a| if b.is_zero() { b } else { a.wrapping_div(b) };
    pure_mod = |b, a| if b.is_zero() { b } else { a.wrapping_rem(b) };
    pure_sdiv = |b, a| i256_div(a, b);
    pure_smod = |b, a| i256_mod(a, b);
    pure_shl = |value, amount| amount_below_256(amount).map_or(U256::ZERO, |amount| value << amount);
    pure_shr = |value, amount| amount_below_256(amount).map_or(U256::ZERO, |amount| value >> amount);
    pure_sar = |value, amount| match amount_below_256(amount) {
        Some(amount) => value.arithmetic_shr(amount),
        None if value.bit(255) => U256::MAX,
        None => U256::ZERO,
    };
    pure_byte = |value, index| match index.as_limbs() {
        [index @ 0..32, 0, 0, 0] => U256::from(value.byte(31 - *index as usize)),
        _ => U256::ZERO,
    };
    pure_signextend = |value, index| match index.as_limbs() {
        [index @ 0..31, 0, 0, 0] => {
            let sign = 8 * *index as usize + 7;
            let mask = (U256::ONE << sign) - U256::ONE;
            if value.bit(sign) { value | !mask } else { value & mask }
        }
        _ => value,
    };
}

fn amount_below_256(amount: U256) -> Option<usize> {
    match amount.as_limbs() {
        [amount @ 0..256, 0, 0, 0] => Some(*amount as usize),
        _ => None,
    }
}

/// Helpers of three words, the lowest replaced: `|lowest, middle, upper|`.
macro_rules! pure3 {
    ($($name:ident = |$lowest:ident, $middle:ident, $upper:ident| $body:expr;)*) => {
        $(unsafe extern "C" fn $name(words: *mut u64) {
            // SAFETY: compiled code points at three words of the stack.
            let [slot, $middle, $upper] = unsafe { &mut *words.cast::<[U256; 3]>() };
            let ($lowest, $middle, $upper) = (*slot, *$middle, *$upper);
            *slot = $body;
        })*
    };
}

pure3! {
    pure_addmod = |n, b, a| a.add_mod(b, n);
    pure_mulmod = |n, b, a| a.mul_mod(b, n);
}

/// The `verify` feature's check of a block: what analysis said of stack and gas is true.
unsafe extern "C" fn verify(context: *mut JitContext, stack: *mut u64, gas: u64, argument: u64) -> u64 {
    // SAFETY: compiled code calls helpers as `HelperFn` says.
    let (context, interpreter) = unsafe {
        let context = &*context;
        (context, &*context.interpreter.cast::<Frame>())
    };
    let (pc, need, growth) = (argument & 0xff_ffff, argument >> 24 & 0xfff, argument >> 36);
    let bytes = (stack as usize).wrapping_sub(context.stack_base as usize);
    let words = (bytes / 32) as u64;
    assert!(
        bytes.is_multiple_of(32) && words >= need && words + growth <= 1024,
        "the compiled block at pc {pc} is entered with {words} words on the stack, but needs {need} and room for {growth}"
    );
    assert!(
        gas <= interpreter.gas.limit(),
        "the compiled block at pc {pc} has {gas} gas left of {}",
        interpreter.gas.limit()
    );
    let length = interpreter.memory.len() as u64;
    assert!(
        context.memory_len == length,
        "the compiled block at pc {pc} believes in {} bytes of memory, there are {length}",
        context.memory_len
    );
    gas
}

impl<CTX: Host> Table<CTX> {
    const TABLE: [*const (); HELPERS] = {
        let mut table = [std::ptr::null(); HELPERS];
        macro_rules! fill {
            ($type:ty: $($helper:ident = $function:expr;)*) => {
                $(table[Helper::$helper as usize] = { let function: $type = $function; function as *const () };)*
            };
        }
        fill! { HelperFn:
            Instruction = instruction::<CTX>;
            Suspend = suspend::<CTX>;
            Grow = grow::<CTX>;
            Keccak = keccak::<CTX>;
            Sload = sload::<CTX>;
            Sstore = sstore::<CTX>;
            Tload = tload::<CTX>;
            Tstore = tstore::<CTX>;
            CalldataLoad = calldata_load::<CTX>;
            CalldataCopy = calldata_copy::<CTX>;
            Mcopy = mcopy::<CTX>;
            ReturndataCopy = returndata_copy::<CTX>;
            Log1 = log1::<CTX>;
            Log2 = log2::<CTX>;
            Log3 = log3::<CTX>;
            Log4 = log4::<CTX>;
            Verify = verify;
        }
        fill! { PureFn:
            PureDiv = pure_div;
            PureSdiv = pure_sdiv;
            PureMod = pure_mod;
            PureSmod = pure_smod;
            PureAddmod = pure_addmod;
            PureMulmod = pure_mulmod;
            PureMul = pure_mul;
            PureShl = pure_shl;
            PureShr = pure_shr;
            PureSar = pure_sar;
            PureSignextend = pure_signextend;
            PureByte = pure_byte;
        }
        table
    };
}
