//! Recovery engines. Each module has a `probe` that tests the engine with known answers and says why it refused.

pub mod plugin;
pub mod ring;
pub mod scalar;
