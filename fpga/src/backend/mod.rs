//! Recovery engines. Each module has a `probe` that tests the engine with known answers and says why it refused.

pub mod batch;
pub mod plugin;
mod pool;
pub mod ring;
pub mod scalar;
mod selftest;
pub mod simd;

pub use pool::Config;
