//! An interpreter of PTX, so that the arithmetic that only GPUs run is executed where there is none.

mod machine;
mod parse;

pub(crate) use machine::Machine;
pub(crate) use parse::Module;
