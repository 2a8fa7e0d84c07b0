//! Graphics processors: recovery and Keccak-256 over CUDA and OpenCL, from one kernel source (`fpga/kernels`).
//!
//! [`engine`](Gpu) is the host side that both share: requests gather into batches, a batch travels in a *slot* (pinned host
//! buffers, device buffers and a queue of its own), several slots are under way at a time, so that one is filled while the
//! next computes and the last is read. [`cuda`] and [`opencl`] make slots. [`Hasher`] is Keccak-256 of many messages.
//!
//! A GPU's answers are claims ([`Trust::Hint`](crate::Trust::Hint)). When the device fails, every request that was taken is
//! still answered or given back: see [`Gpu`].

mod cache;
pub mod cuda;
mod engine;
mod hasher;
mod layout;
pub mod nvrtc;
#[cfg(feature = "opencl")]
pub mod opencl;
pub mod source;

pub use engine::{Gpu, KeyAnswer};
pub use hasher::{HashFailure, Hasher};

use crate::Refusal;
use std::path::PathBuf;

/// Fewest and most signatures that a batch may be set to hold.
pub const BATCH_MAX: std::ops::RangeInclusive<usize> = 256..=262_144;

/// How an engine on a GPU is laid out.
#[derive(Debug, Clone)]
pub struct Config {
    /// Index in the list of the backend's devices.
    pub device: usize,
    /// Signatures of a batch, at most; within [`BATCH_MAX`].
    pub batch_max: usize,
    /// Batches under way at the same time, 1 to 8. Three: one filled, one computed, one read.
    pub batches: usize,
    /// How long the first request of a batch waits at most for others while a slot is free, in microseconds.
    pub linger_us: u32,
    /// How long the device may take for a batch before it counts as gone, in milliseconds.
    pub answer_ms_max: u32,
    /// Where compiled kernels are kept; `None`: `$IRONLANE_CACHE_DIR`, `$XDG_CACHE_HOME/ironlane` or `~/.cache/ironlane`.
    pub cache_dir: Option<PathBuf>,
    /// The NVRTC library or its folder, for CUDA; `None`: looked for, see [`nvrtc`].
    pub nvrtc: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            device: 0,
            batch_max: 65_536,
            batches: 3,
            linger_us: 100,
            answer_ms_max: 2_000,
            cache_dir: None,
            nvrtc: None,
        }
    }
}

impl Config {
    fn check(&self, engine: &'static str) -> Result<(), Refusal> {
        let refuse = |reason: String| Err(Refusal { engine, reason });
        if !BATCH_MAX.contains(&self.batch_max) {
            let (least, most) = (BATCH_MAX.start(), BATCH_MAX.end());
            return refuse(format!("a batch holds {least} to {most} signatures, not {}", self.batch_max));
        }
        if !(1..=8).contains(&self.batches) {
            return refuse(format!("1 to 8 batches can be under way at a time, not {}", self.batches));
        }
        if self.answer_ms_max == 0 {
            return refuse("answer_ms_max is 0: no device answers in no time".to_owned());
        }
        Ok(())
    }
}

/// A device that a backend found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `cuda` or `opencl`.
    pub backend: &'static str,
    /// What [`Config::device`] calls it.
    pub index: usize,
    /// The vendor's name for it.
    pub name: String,
    /// A CPU that speaks OpenCL: good for tests, slower than the other engines on the same CPU.
    pub is_cpu: bool,
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// Platform, driver and capability, for people.
    pub details: String,
}
