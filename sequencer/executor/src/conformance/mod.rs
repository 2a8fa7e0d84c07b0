//! Conformance: the public test corpora, driven through the node's own executor, state store and trie.
//!
//! Each kind of corpus has a runner that takes one file and reports its cases; this module finds the files, spreads
//! them over two threads and counts.

mod blocks;
mod mainnet;
mod report;
mod state;

pub use report::{ConformanceReport, Skipped};

use crate::{ChainSpec, Executor, ExecutorConfig, Importer, StateRoot};
use ironlane_jit::tier::{Tier, TierConfig, TierError};
use ironlane_state::{StateConfig, StateWriter};
use ironlane_trie::{Trie, TrieConfig, TrieError};
use report::Cases;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

const THREADS: usize = 2;
/// Deep recursion of nested calls lives on the thread's stack in places; the corpora go to the depth of 1024.
const STACK_BYTES: usize = 16 << 20;

/// Which corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One transaction over a pre-state; judged by post-state root and logs hash.
    StateTests,
    /// Chains of blocks, invalid ones among them; judged by every header field.
    BlockchainTests,
    /// Real mainnet blocks over a partial pre-state; judged by gas used, bloom and receipts root.
    MainnetBlocks,
}

impl Kind {
    /// As on the command line.
    pub fn label(self) -> &'static str {
        match self {
            Self::StateTests => "state-tests",
            Self::BlockchainTests => "blockchain-tests",
            Self::MainnetBlocks => "mainnet-blocks",
        }
    }
}

/// What runs the bytecode, one transaction after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// revm's interpreter.
    Interpreter,
    /// The JIT, with everything compiled before its first execution, initcode included.
    Jit,
}

impl Engine {
    /// As on the command line.
    pub fn label(self) -> &'static str {
        match self {
            Self::Interpreter => "interpreter",
            Self::Jit => "jit",
        }
    }

    fn open(self) -> Result<crate::Engine, ConformanceError> {
        match self {
            Self::Interpreter => Ok(crate::Engine::Interpreter),
            // The corpora hold tens of thousands of small codes that run once each.
            Self::Jit => Ok(crate::Engine::Jit(Tier::start(TierConfig {
                cache_bytes_max: 256 << 20,
                codes_max: 4096,
                ..TierConfig::eager()
            })?)),
        }
    }
}

impl std::str::FromStr for Engine {
    type Err = ConformanceError;

    fn from_str(name: &str) -> Result<Self, ConformanceError> {
        match name {
            "interpreter" => Ok(Self::Interpreter),
            "jit" => Ok(Self::Jit),
            _ => Err(ConformanceError::Engine(name.into())),
        }
    }
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The engine is not there.
    #[error("this build has no engine `{0}`: use `interpreter` or `jit`")]
    Engine(String),
    /// The engine does not work here.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// The folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder holds no file of this kind.
    #[error("no {kind} files below {path}: unpack the corpus there first")]
    Empty {
        /// What was looked for.
        kind: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Runs every file of a kind below `folder`. `progress` hears files done and files in all; it is called from several
/// threads.
pub fn run(
    kind: Kind,
    folder: &Path,
    engine: Engine,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<ConformanceReport, ConformanceError> {
    let rig = Rig { engine: engine.open()?, trie: || Trie::new(small_trie()) };
    let mut report = run_with(kind, folder, progress, &rig)?;
    report.engine = engine.label().into();
    if let crate::Engine::Jit(tier) = &rig.engine {
        report.compiled_segments = Some(tier.stats().compiled_segments);
    }
    Ok(report)
}

fn small_trie() -> TrieConfig {
    TrieConfig { leaves_max: 1 << 20, node_bytes_max: 64 << 20, huge_pages: false }
}

/// What the cases run on.
struct Rig<F> {
    engine: crate::Engine,
    trie: F,
}

impl<T: StateRoot, F: Fn() -> Result<T, TrieError> + Sync> Rig<F> {
    /// An empty trie.
    fn trie(&self) -> Result<T, String> {
        (self.trie)().map_err(|e| e.to_string())
    }

    fn config(&self) -> ExecutorConfig {
        ExecutorConfig { code_cache_bytes: 4 << 20, engine: self.engine.clone(), ..Default::default() }
    }

    fn executor(&self, spec: ChainSpec) -> Result<Executor<StateWriter>, String> {
        Ok(Executor::new(Arc::new(spec), small_store()?, crate::BlockHashes::new(), self.config()))
    }

    fn importer(&self, spec: ChainSpec) -> Result<Importer<T>, String> {
        Importer::new(Arc::new(spec), small_store()?, self.trie()?, self.config()).map_err(|e| e.to_string())
    }
}

fn run_with<T: StateRoot, F: Fn() -> Result<T, TrieError> + Sync>(
    kind: Kind,
    folder: &Path,
    progress: &(dyn Fn(usize, usize) + Sync),
    rig: &Rig<F>,
) -> Result<ConformanceReport, ConformanceError> {
    let mut files = Vec::new();
    let wanted = |path: &Path| match kind {
        Kind::MainnetBlocks => path.file_name().is_some_and(|name| name == "block.json"),
        _ => path.extension().is_some_and(|extension| extension == "json"),
    };
    find(folder, &wanted, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(ConformanceError::Empty { kind: kind.label(), path: folder.into() });
    }
    let mainnet = match kind {
        Kind::MainnetBlocks => Some(mainnet::Shared::read(folder)?),
        _ => None,
    };
    let total = Mutex::new(Cases::default());
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut cases = Cases::new(file.strip_prefix(folder).unwrap_or(file));
            match (kind, &mainnet) {
                (Kind::StateTests, _) => state::run(file, rig, &mut cases),
                (Kind::BlockchainTests, _) => blocks::run(file, rig, &mut cases),
                (Kind::MainnetBlocks, Some(shared)) => mainnet::run(file, shared, rig, &mut cases),
                (Kind::MainnetBlocks, None) => unreachable!("read above"),
            }
            total.lock().unwrap_or_else(PoisonError::into_inner).add(cases);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, files.len());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, work)
                .map_err(ConformanceError::Thread)?;
        }
        Ok(())
    })?;
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(total.report(kind.label(), files.len()))
}

fn find(
    folder: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<(), ConformanceError> {
    let io = |source| ConformanceError::Io { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            find(&path, wanted, found)?;
        } else if wanted(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// A small empty store: a corpus makes thousands.
fn small_store() -> Result<StateWriter, String> {
    let config = StateConfig {
        accounts: 64,
        slots: 64,
        max_accounts: 1 << 20,
        max_slots: 1 << 22,
        undo_bytes: 1 << 20,
        undo_bytes_max: 64 << 20,
        huge_pages: false,
        ..Default::default()
    };
    Ok(ironlane_state::open_empty(config).map_err(|e| e.to_string())?.1)
}

/// Reads a JSON file of named tests.
fn read_json<V: serde::de::DeserializeOwned>(file: &Path) -> Result<V, String> {
    let text = std::fs::read(file).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text).map_err(|e| e.to_string())
}
