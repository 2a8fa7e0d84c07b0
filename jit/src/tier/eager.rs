//! Compiling everything before it first runs, on the executor's own thread: for conformance tests, benches and fuzzing.

use super::{
    Compile, Key,
    counters::{Counters, Refusal},
};
use crate::loaded::CompiledCode;
use hashbrown::HashMap;
use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Instant,
};

/// Compiled codes, shared by all executors of a tier. When full it begins anew: what runs holds what it needs.
pub(crate) struct Eager {
    compiler: Box<dyn Compile>,
    codes: Mutex<Codes>,
    cache_bytes_max: u64,
    codes_max: usize,
}

#[derive(Default)]
struct Codes {
    /// `None`: the interpreter's.
    known: HashMap<Key, Option<Arc<CompiledCode>>>,
    bytes: u64,
}

impl Eager {
    pub(crate) fn new(compiler: Box<dyn Compile>, cache_bytes_max: u64, codes_max: usize) -> Self {
        Self { compiler, codes: Mutex::default(), cache_bytes_max, codes_max }
    }

    /// The compiled form of `code`, whose hash and fork are `key`.
    pub(crate) fn get(&self, key: Key, code: &[u8], counters: &Counters) -> Option<Arc<CompiledCode>> {
        if let Some(known) = self.codes.lock().unwrap_or_else(PoisonError::into_inner).known.get(&key) {
            return known.clone();
        }
        let compiled = self.compile(key, code, counters);
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.bytes > self.cache_bytes_max || codes.known.len() >= self.codes_max {
            counters.evictions.fetch_add(codes.known.len() as u64, Relaxed);
            *codes = Codes::default();
        }
        if codes.known.insert(key, compiled.clone()).is_none() {
            codes.bytes += compiled.as_ref().map_or(0, |code| code.memory_bytes() as u64);
        }
        counters.codes.store(codes.known.len() as u64, Relaxed);
        counters.cache_bytes.store(codes.bytes, Relaxed);
        compiled
    }

    fn compile(&self, key: Key, code: &[u8], counters: &Counters) -> Option<Arc<CompiledCode>> {
        let began = Instant::now();
        let artifact = match self.compiler.compile(code, key.spec) {
            Ok(artifact) => artifact,
            Err(crate::CompileError::Empty) => return None,
            Err(crate::CompileError::TooLong { .. }) => {
                counters.refuse(Refusal::TooLong);
                return None;
            }
            Err(error) => {
                tracing::error!(%error, hash = %key.hash, "a code stays interpreted");
                counters.refuse(Refusal::Failed);
                return None;
            }
        };
        counters.compiled(began.elapsed());
        match CompiledCode::load(&artifact) {
            Ok(code) => Some(code),
            Err(error) => {
                tracing::error!(%error, hash = %key.hash, "a code stays interpreted");
                counters.refuse(Refusal::Memory);
                None
            }
        }
    }
}
