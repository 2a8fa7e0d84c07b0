//! From analysed blocks to CLIF, one function a region.
//!
//! Functions take `(context, sp, gas, entry)` by Cranelift's tail-call convention and go over into each other by tail
//! calls; the trampoline brings a caller in. Inside a function each block without a parent takes `(sp, gas)`; a block with
//! a parent simply goes on with the parent's values.
//!
//! - [`word`]: 256-bit arithmetic on limbs
//! - [`state`]: which stack words are in registers, and which of them memory does not know yet
//! - [`region`]: dispatch, blocks, edges and exits
//! - [`ops`]: instructions; [`memory`]: those that touch EVM memory and input

mod memory;
mod ops;
mod prelude;
mod region;
mod state;
mod word;

pub use prelude::{stub, trampoline};
pub use region::RegionLowering;

/// Raised with every change of the lowering that changes what code does, so that stored artifacts are recompiled.
pub const GENERATION: u32 = 1;
