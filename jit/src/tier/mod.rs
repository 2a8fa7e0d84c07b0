//! Tiering: which code runs compiled, when it is compiled, and what becomes of it afterwards.
//!
//! An executor's [`Runner`] counts the gas that each code spends. A code that got hot goes into a bounded queue; a
//! background thread compiles it, keeps it in a bounded cache and publishes it, and the interpreter serves meanwhile. The
//! executor takes no lock on its way: it looks at a number, and at a table of its own.
//!
//! ```text
//!  executor: begin ─► run ─► end ──gas──► [`table`] ──hot──► [`queue`] ──► [`worker`] ──► compiler
//!     ▲                       │ timed                                         │ │
//!     │                    [`judge`]: slower? back to the interpreter         │ └─► [`disk`]
//!     └────────────────────────────────── [`view`] ◄──── published ───────────┘
//! ```
//!
//! Everything has a bound: places that count, codes that wait, time of codes that fail, bytes in memory and on disk. What
//! is refused is counted by reason ([`Refusal`], [`DiskRefusal`]), and nothing here changes a result: it only says by which
//! of two equal ways a frame runs.

mod counters;
mod disk;
mod eager;
mod judge;
mod os;
mod queue;
mod runner;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod worker;

pub use counters::{COMPILE_BUCKETS_US, DiskRefusal, Refusal, TierStats};
pub use disk::DiskError;
pub use judge::Way;
pub use runner::{Runner, Segment};

use crate::{
    artifact::{Artifact, Fingerprint},
    compiler::{CompileError, Compiler},
    config::{CompilerConfig, Limits},
};
use alloy_primitives::B256;
use counters::Counters;
use disk::Disk;
use eager::Eager;
use queue::Queue;
use revm::primitives::hardfork::SpecId;
use std::{
    hash::{BuildHasher, Hasher},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use thiserror::Error;
use view::Published;
use worker::Worker;

/// What compiled code is known by, beside its compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) hash: B256,
    pub(crate) spec: SpecId,
}

/// When code is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When it got hot, in the background.
    Tiered,
    /// Before it first runs, on the executor's thread, initcode included.
    Eager,
}

/// Hears how long each compilation took.
pub type ObserveCompile = Arc<dyn Fn(Duration) + Send + Sync>;

/// How a [`Tier`] works, and its bounds.
#[derive(Clone)]
pub struct TierConfig {
    /// When code is compiled.
    pub mode: Mode,
    /// The compiler's own configuration.
    pub compiler: CompilerConfig,
    /// Gas that a code spends in the interpreter before it is compiled …
    pub threshold_gas: u64,
    /// … and so much more for each byte of its length: a long code has to earn its compilation.
    pub threshold_gas_per_byte: u64,
    /// Longest bytecode, in bytes: EIP-170's limit, what a chain can hold.
    pub code_bytes_max: usize,
    /// Codes that may wait.
    pub queue_len_max: usize,
    /// Memory of compiled codes, guard pages included, in bytes.
    pub cache_bytes_max: u64,
    /// Compiled codes. Each takes about two of the kernel's mappings, of which a process has 65,530 by default.
    pub codes_max: usize,
    /// Folder of the cache on disk; `None`: nothing is kept.
    pub disk: Option<PathBuf>,
    /// Bytes of its files.
    pub disk_bytes_max: u64,
    /// Share of the background thread's time in each minute that codes may take which then fail, in percent.
    pub failure_share_percent: u32,
    /// Priority of the background thread: 0 ordinary, 19 least.
    pub nice: i32,
    /// Processors that the background thread may use; none named: all that the process may.
    pub cpus: Vec<usize>,
    /// Nanoseconds since some moment.
    pub clock: fn() -> u64,
    /// Hears how long each compilation took.
    pub observe_compile: Option<ObserveCompile>,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Tiered,
            compiler: CompilerConfig::default(),
            threshold_gas: 1_000_000,
            threshold_gas_per_byte: 200,
            code_bytes_max: 24_576,
            queue_len_max: 1_024,
            cache_bytes_max: 512 << 20,
            codes_max: 8_192,
            disk: None,
            disk_bytes_max: 512 << 20,
            failure_share_percent: 50,
            nice: 10,
            cpus: Vec::new(),
            clock: monotonic_ns,
            observe_compile: None,
        }
    }
}

impl TierConfig {
    /// Everything compiled before its first execution, in whole: for tests, benches and fuzzing, where compile time is no
    /// matter of the chain's.
    pub fn eager() -> Self {
        let limits = Limits { compile_time_max: Duration::from_secs(60), ..Limits::default() };
        let compiler = CompilerConfig { limits, ..CompilerConfig::default() };
        Self { mode: Mode::Eager, compiler, ..Self::default() }
    }

    /// Gas after which a code of this length is compiled.
    pub fn threshold_of(&self, code_len: usize) -> u64 {
        self.threshold_gas.saturating_add(self.threshold_gas_per_byte.saturating_mul(code_len as u64))
    }
}

impl std::fmt::Debug for TierConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TierConfig")
            .field("mode", &self.mode)
            .field("threshold_gas", &self.threshold_gas)
            .field("cache_bytes_max", &self.cache_bytes_max)
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}

fn monotonic_ns() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Why there is no tier.
#[derive(Debug, Error)]
pub enum TierError {
    /// The compiler does not work here.
    #[error(transparent)]
    Compiler(#[from] CompileError),
    /// The background thread cannot be started.
    #[error("the compiler's background thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// The compiler as the tier uses it.
pub(crate) trait Compile: Send + Sync {
    fn fingerprint(&self) -> Fingerprint;
    fn compile(&self, code: &[u8], spec: SpecId) -> Result<Artifact, CompileError>;
}

impl Compile for Compiler {
    fn fingerprint(&self) -> Fingerprint {
        Self::fingerprint(self)
    }

    fn compile(&self, code: &[u8], spec: SpecId) -> Result<Artifact, CompileError> {
        Self::compile(self, code, spec)
    }
}

/// What executors and the background thread share.
pub(crate) struct Shared {
    config: TierConfig,
    queue: Queue,
    published: Published,
    counters: Arc<Counters>,
    eager: Option<Eager>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Machine code for hot contracts: the cache, its background thread and its counters. Shared by any number of executors;
/// the thread ends with it.
#[derive(Debug)]
pub struct Tier {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    loaded: usize,
    disk_error: Option<DiskError>,
}

/// Cranelift recurses over what it compiles.
const THREAD_STACK_BYTES: usize = 32 << 20;

impl Tier {
    /// Makes the compiler, loads what the cache on disk holds, and starts the background thread. A cache on disk that
    /// cannot be used is no error: [`Self::disk_error`] says why.
    pub fn start(config: TierConfig) -> Result<Arc<Self>, TierError> {
        let compiler = Compiler::new(config.compiler)?;
        Self::start_with(config, Box::new(compiler))
    }

    pub(crate) fn start_with(config: TierConfig, compiler: Box<dyn Compile>) -> Result<Arc<Self>, TierError> {
        let (shared, worker, disk_error) = Self::parts(config, compiler);
        let (mut loaded, mut thread) = (0, None);
        if let Some(mut worker) = worker {
            loaded = worker.load_all();
            let builder = std::thread::Builder::new().name("jit".into()).stack_size(THREAD_STACK_BYTES);
            thread = Some(builder.spawn(move || worker.run()).map_err(TierError::Thread)?);
        }
        Ok(Arc::new(Self { shared, thread: Mutex::new(thread), loaded, disk_error }))
    }

    /// A tier's parts, without its thread.
    fn parts(
        config: TierConfig,
        compiler: Box<dyn Compile>,
    ) -> (Arc<Shared>, Option<Worker>, Option<DiskError>) {
        let counters = Arc::<Counters>::default();
        let queue = Queue::new(config.queue_len_max);
        let shared = |config, eager| {
            Arc::new(Shared {
                config,
                queue,
                published: Published::default(),
                counters: counters.clone(),
                eager,
            })
        };
        if config.mode == Mode::Eager {
            let eager = Eager::new(compiler, config.cache_bytes_max, config.codes_max);
            return (shared(config, Some(eager)), None, None);
        }
        let disk = config.disk.as_ref().map(|folder| {
            Disk::open(folder, compiler.fingerprint(), config.disk_bytes_max, counters.clone())
        });
        let (disk, disk_error) = match disk.transpose() {
            Ok(disk) => (disk, None),
            Err(error) => (None, Some(error)),
        };
        let shared = shared(config, None);
        let worker = Worker::new(shared.clone(), compiler, disk);
        (shared, Some(worker), disk_error)
    }

    /// A handle for an executor.
    pub fn runner(&self) -> Runner {
        // Seeded by the system, so that nobody can aim at the places of the table that counts.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Runner::new(self.shared.clone(), seed)
    }

    /// How it was configured.
    pub fn config(&self) -> &TierConfig {
        &self.shared.config
    }

    /// Codes that came from the cache on disk at the start.
    pub fn loaded(&self) -> usize {
        self.loaded
    }

    /// Why nothing is kept on disk, where it was asked for.
    pub fn disk_error(&self) -> Option<&DiskError> {
        self.disk_error.as_ref()
    }

    /// The counters.
    pub fn stats(&self) -> TierStats {
        self.shared.counters.read(self.shared.queue.len())
    }

    /// Waits until every code that got hot so far is compiled or refused.
    pub fn wait_until_done(&self) {
        self.shared.queue.wait_until_done();
    }

    /// One sentence for whoever starts a node.
    pub fn describe(&self) -> String {
        let config = &self.shared.config;
        match config.mode {
            Mode::Eager => "jit (everything compiled before it first runs)".into(),
            Mode::Tiered => format!(
                "jit (tiered, threshold {} gas, cache {} MiB, {} codes from disk)",
                config.threshold_gas,
                config.cache_bytes_max >> 20,
                self.loaded
            ),
        }
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        self.shared.queue.stop();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the compiler's background thread panicked");
        }
    }
}
