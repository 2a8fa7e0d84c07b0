//! The contract between compiled code and the door to revm: the context that a frame runs with, the helpers that it calls,
//! and how it says why it left.
//!
//! Compiled code holds no address of anything outside itself. It reaches everything through [`JitContext`], so one piece
//! of code can be stored on disk and mapped into another process.

use std::mem::offset_of;

/// What compiled code works on. One lives on the native stack for as long as a frame is in compiled code.
///
/// Pointers stay valid for that time; `memory`, `memory_len`, `calldata` are derived anew by each helper that may grow
/// memory, since the buffer moves then.
#[repr(C)]
#[derive(Debug)]
pub struct JitContext {
    /// Gas left, on entry and on exit.
    pub gas: u64,
    /// First free stack word, on entry and on exit.
    pub sp: *mut u64,
    /// What the exit status refers to: an instruction result, a pc, or an entry's number.
    pub exit: u64,
    /// The stack's first word.
    pub stack_base: *mut u64,
    /// The frame's memory.
    pub memory: *mut u8,
    /// Its length in bytes, a multiple of 32.
    pub memory_len: u64,
    /// By pc: 0 no JUMPDEST, 1 a JUMPDEST without entry, otherwise the entry's number.
    pub jump_table: *const u16,
    /// Length of the bytecode, and of `jump_table`.
    pub code_len: u64,
    /// Functions by entry number; the first two are unused.
    pub entry_functions: *const *const u8,
    /// The call's input.
    pub calldata: *const u8,
    /// Its length in bytes.
    pub calldata_len: u64,
    /// The executing account's address, 20 bytes big-endian.
    pub address: *const u8,
    /// The caller's address, 20 bytes big-endian.
    pub caller: *const u8,
    /// The call's value, four limbs.
    pub value: *const u64,
    /// Helper functions by [`Helper`].
    pub helpers: *const *const (),
    /// revm's interpreter of this frame; only the door knows its type.
    pub interpreter: *mut (),
    /// revm's context, likewise.
    pub host: *mut (),
    /// revm's instruction table, likewise.
    pub instructions: *const (),
}

macro_rules! helpers {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Functions that compiled code calls out to.
        ///
        /// All have the signature [`HelperFn`] but `Pure*`, which are [`PureFn`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Helper { $($(#[$doc])* $name,)* }
        /// How many there are.
        pub const HELPERS: usize = [$(Helper::$name),*].len();
        /// Their names, in order: part of a compiler's fingerprint.
        pub const HELPER_NAMES: [&str; HELPERS] = [$(stringify!($name)),*];
    };
}

helpers! {
    /// Runs revm's own instruction of opcode `argument`. Its operands are in memory, `stack` points behind them.
    Instruction,
    /// The same for an instruction that may suspend or end the frame: the whole stack is in memory, and `argument` is the
    /// opcode, or'ed with the pc behind it shifted left by 8.
    Suspend,
    /// Grows memory so that it covers the bytes from `argument` on, as many as `stack` says. Fails without any change.
    Grow,
    /// KECCAK256 of the memory range given by length and offset, the two words below `stack`, into the first of them.
    Keccak,
    /// SLOAD of the word below `stack`, in place.
    Sload,
    /// SSTORE of value and key, the two words below `stack`.
    Sstore,
    /// TLOAD, like SLOAD.
    Tload,
    /// TSTORE, like SSTORE.
    Tstore,
    /// CALLDATALOAD of the word below `stack`, in place, for what is not all inside the input.
    CalldataLoad,
    /// CALLDATACOPY of length, source and destination, the three words below `stack`.
    CalldataCopy,
    /// MCOPY, likewise.
    Mcopy,
    /// RETURNDATACOPY, likewise.
    ReturndataCopy,
    /// LOG1 to LOG4, by number of topics: topics, length and offset below `stack`.
    Log1,
    /// As above.
    Log2,
    /// As above.
    Log3,
    /// As above.
    Log4,
    /// DIV of divisor and dividend at the pointer, into the first of them.
    PureDiv,
    /// SDIV, likewise.
    PureSdiv,
    /// MOD, likewise.
    PureMod,
    /// SMOD, likewise.
    PureSmod,
    /// ADDMOD of modulus, second and first summand at the pointer, into the first of them.
    PureAddmod,
    /// MULMOD, likewise.
    PureMulmod,
    /// MUL of the two words at the pointer, into the first of them: for code with too many to inline.
    PureMul,
    /// SHL of value and amount at the pointer, into the first of them: for code with too many to inline.
    PureShl,
    /// SHR, likewise.
    PureShr,
    /// SAR, likewise.
    PureSar,
    /// SIGNEXTEND of value and byte index at the pointer, into the first of them.
    PureSignextend,
    /// BYTE of value and index at the pointer, into the first of them.
    PureByte,
    /// The `verify` feature's check at each block: `argument` is the pc, the stack pointer and gas are as analysis expects.
    Verify,
}

/// A helper: `gas` is exactly what the interpreter would have left before the instruction's own dynamic gas; the answer is
/// what is left after it, or [`FAILED`] with the reason in [`JitContext::exit`] and with `gas` and `sp` of the context
/// brought up to date.
pub type HelperFn =
    unsafe extern "C" fn(context: *mut JitContext, stack: *mut u64, gas: u64, argument: u64) -> u64;

/// A helper without gas, failure or context.
pub type PureFn = unsafe extern "C" fn(words: *mut u64);

/// A helper's answer where the frame cannot go on.
pub const FAILED: u64 = u64::MAX;

/// How compiled code left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Exit {
    /// The frame halts or suspends; `exit` is the instruction result, unless an action is set.
    Halt = 0,
    /// The interpreter goes on at pc `exit`, to the frame's end: something unusual happens there.
    Interpret = 1,
    /// The interpreter goes on at entry `exit`, which is not compiled.
    NotCompiled = 2,
}

/// The trampoline at the start of a text: calls `function` with the internal calling convention.
pub type TrampolineFn = unsafe extern "C" fn(
    context: *mut JitContext,
    sp: *mut u64,
    gas: u64,
    entry: u64,
    function: *const u8,
) -> u64;

/// Offsets of the context's fields, as the lowering wants them.
pub mod offset {
    use super::{JitContext, offset_of};
    /// Of `gas`.
    pub const GAS: i32 = offset_of!(JitContext, gas) as i32;
    /// Of `sp`.
    pub const SP: i32 = offset_of!(JitContext, sp) as i32;
    /// Of `exit`.
    pub const EXIT: i32 = offset_of!(JitContext, exit) as i32;
    /// Of `stack_base`.
    pub const STACK_BASE: i32 = offset_of!(JitContext, stack_base) as i32;
    /// Of `memory`.
    pub const MEMORY: i32 = offset_of!(JitContext, memory) as i32;
    /// Of `memory_len`.
    pub const MEMORY_LEN: i32 = offset_of!(JitContext, memory_len) as i32;
    /// Of `jump_table`.
    pub const JUMP_TABLE: i32 = offset_of!(JitContext, jump_table) as i32;
    /// Of `code_len`.
    pub const CODE_LEN: i32 = offset_of!(JitContext, code_len) as i32;
    /// Of `entry_functions`.
    pub const ENTRY_FUNCTIONS: i32 = offset_of!(JitContext, entry_functions) as i32;
    /// Of `calldata`.
    pub const CALLDATA: i32 = offset_of!(JitContext, calldata) as i32;
    /// Of `calldata_len`.
    pub const CALLDATA_LEN: i32 = offset_of!(JitContext, calldata_len) as i32;
    /// Of `address`.
    pub const ADDRESS: i32 = offset_of!(JitContext, address) as i32;
    /// Of `caller`.
    pub const CALLER: i32 = offset_of!(JitContext, caller) as i32;
    /// Of `value`.
    pub const VALUE: i32 = offset_of!(JitContext, value) as i32;
    /// Of `helpers`.
    pub const HELPERS: i32 = offset_of!(JitContext, helpers) as i32;
    /// All of them, in order: part of a compiler's fingerprint.
    pub const ALL: [i32; 15] = [
        GAS,
        SP,
        EXIT,
        STACK_BASE,
        MEMORY,
        MEMORY_LEN,
        JUMP_TABLE,
        CODE_LEN,
        ENTRY_FUNCTIONS,
        CALLDATA,
        CALLDATA_LEN,
        ADDRESS,
        CALLER,
        VALUE,
        HELPERS,
    ];
}
