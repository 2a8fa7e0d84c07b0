//! The background thread: compiles what got hot, keeps the cache within its bounds, and gives up on what fails.

use super::{
    Compile, Key, Shared,
    counters::Refusal,
    disk::Disk,
    os,
    queue::{Order, Request},
    view::{Entry, View},
};
use crate::{
    artifact::Artifact,
    loaded::{CompiledCode, LoadError},
};
use hashbrown::{HashMap, HashSet};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// How often an idle thread looks whether code that was thrown out is still in use.
const IDLE: Duration = Duration::from_secs(1);
/// Codes that failed and are remembered; beyond it the list begins anew.
const FAILED_MAX: usize = 65_536;
/// Window of the budget for codes that fail.
const WINDOW_NS: u64 = 60_000_000_000;

/// Time that codes which fail may take: in each window a share of it, then nothing is compiled until the window ends.
#[derive(Debug)]
pub(crate) struct Budget {
    share_ns: u64,
    window_began: u64,
    spent_ns: u64,
}

impl Budget {
    /// `share_percent` of each minute.
    pub(crate) fn new(share_percent: u32) -> Self {
        Self { share_ns: WINDOW_NS / 100 * u64::from(share_percent.min(100)), window_began: 0, spent_ns: 0 }
    }

    /// How long to pause at `now`.
    pub(crate) fn pause(&mut self, now: u64) -> Duration {
        let since = now.saturating_sub(self.window_began);
        if since >= WINDOW_NS {
            (self.window_began, self.spent_ns) = (now, 0);
        } else if self.spent_ns >= self.share_ns {
            return Duration::from_nanos(WINDOW_NS - since);
        }
        Duration::ZERO
    }

    /// A code failed after `ns`.
    pub(crate) fn spend(&mut self, ns: u64) {
        self.spent_ns = self.spent_ns.saturating_add(ns);
    }
}

#[derive(Debug)]
struct Cached {
    entry: Arc<Entry>,
    /// Gas at the last look, and the heat that was left then.
    gas: u64,
    heat: u64,
}

/// What the background thread owns.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    compiler: Box<dyn Compile>,
    disk: Option<Disk>,
    codes: HashMap<Key, Cached>,
    bytes: u64,
    failed: HashSet<Key>,
    budget: Budget,
    generation: u64,
    /// Views that an executor may still hold; the codes in them are freed with the last of them, here.
    retired: Vec<Arc<View>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, compiler: Box<dyn Compile>, disk: Option<Disk>) -> Self {
        let budget = Budget::new(shared.config.failure_share_percent);
        Self {
            shared,
            compiler,
            disk,
            codes: HashMap::new(),
            bytes: 0,
            failed: HashSet::new(),
            budget,
            generation: 0,
            retired: Vec::new(),
        }
    }

    /// Loads what the cache on disk holds, as far as it fits. Answers the number of codes.
    pub(crate) fn load_all(&mut self) -> usize {
        let Some(disk) = &self.disk else { return 0 };
        for key in disk.keys() {
            if self.bytes >= self.shared.config.cache_bytes_max
                || self.codes.len() >= self.shared.config.codes_max
            {
                break;
            }
            let Some(artifact) = self.disk.as_mut().and_then(|disk| disk.read(&key)) else { continue };
            match CompiledCode::load(&artifact) {
                Ok(code) if self.bytes + code.memory_bytes() as u64 > self.shared.config.cache_bytes_max => {
                    break;
                }
                Ok(code) => self.insert(key, Entry::new(code, 0)),
                Err(error) => {
                    tracing::warn!(%error, "compiled code from the cache on disk cannot be loaded");
                    break;
                }
            }
        }
        self.publish();
        self.codes.len()
    }

    /// Works until the queue is stopped.
    pub(crate) fn run(mut self) {
        let config = &self.shared.config;
        if let Err(error) = os::be_nice(config.nice) {
            tracing::warn!(%error, "the compiler's thread keeps its ordinary priority");
        }
        if let Err(error) = os::run_on(&config.cpus) {
            tracing::warn!(%error, cpus = ?config.cpus, "the compiler's thread runs on any core");
        }
        loop {
            let pause = self.pause();
            if !pause.is_zero() && self.shared.queue.sleep(pause) {
                return;
            }
            match self.shared.queue.take(IDLE) {
                Order::Compile(request) => self.handle(&request),
                Order::Idle => {}
                Order::Stop => return,
            }
            self.free();
        }
    }

    /// How long nothing may be compiled.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.budget.pause((self.shared.config.clock)());
        if !pause.is_zero() {
            self.shared.counters.refuse(Refusal::Budget);
            tracing::warn!(?pause, "codes that fail have used the compiler's time: it pauses");
        }
        pause
    }

    /// Unmaps what was thrown out and no executor can be in any more.
    pub(crate) fn free(&mut self) {
        self.retired.retain(|view| Arc::strong_count(view) > 1);
    }

    /// Serves one request.
    pub(crate) fn handle(&mut self, request: &Request) {
        let key = request.key;
        if self.codes.contains_key(&key) {
            return;
        }
        let is_dangerous = self.disk.as_ref().is_some_and(|disk| disk.is_dangerous(&key));
        if is_dangerous || self.failed.contains(&key) {
            return self.shared.counters.refuse(Refusal::FailedBefore);
        }
        let kept = self.disk.as_mut().and_then(|disk| disk.read(&key));
        let is_new = kept.is_none();
        let Some(artifact) = kept.or_else(|| self.compile(request)) else { return };
        let code = match CompiledCode::load(&artifact) {
            Ok(code) => code,
            Err(error @ LoadError::Memory(_)) => {
                tracing::warn!(%error, "compiled code is not used");
                return self.shared.counters.refuse(Refusal::Memory);
            }
            Err(error) => {
                tracing::error!(%error, hash = %key.hash, "compiled code is not used");
                return self.fail(key, Refusal::Failed, 0);
            }
        };
        if code.memory_bytes() as u64 > self.shared.config.cache_bytes_max {
            return self.fail(key, Refusal::Memory, 0);
        }
        self.insert(key, Entry::new(code, request.gas));
        self.evict();
        self.publish();
        if is_new && let Some(disk) = &mut self.disk {
            disk.write(key, &artifact);
        }
    }

    fn compile(&mut self, request: &Request) -> Option<Artifact> {
        let key = request.key;
        if let Some(disk) = &mut self.disk {
            disk.begin(key);
        }
        let clock = self.shared.config.clock;
        let began = clock();
        let result = self.compiler.compile(&request.code, key.spec);
        let time = clock().saturating_sub(began);
        if let Some(disk) = &mut self.disk {
            disk.end(key);
        }
        match result {
            Ok(artifact) if artifact.stats.blocks_compiled > 0 => {
                let time = Duration::from_nanos(time);
                self.shared.counters.compiled(time);
                if let Some(observe) = &self.shared.config.observe_compile {
                    observe(time);
                }
                tracing::debug!(
                    hash = %key.hash,
                    ?time,
                    bytes = request.code.len(),
                    text = artifact.text.len(),
                    compiled = artifact.stats.compiled_fraction(),
                    "compiled"
                );
                Some(artifact)
            }
            Ok(_) => {
                self.fail(key, Refusal::Nothing, time);
                None
            }
            Err(error) => {
                tracing::warn!(%error, hash = %key.hash, "a hot code stays interpreted");
                self.fail(key, Refusal::Failed, time);
                None
            }
        }
    }

    fn fail(&mut self, key: Key, reason: Refusal, ns: u64) {
        self.shared.counters.refuse(reason);
        self.budget.spend(ns);
        if self.failed.len() >= FAILED_MAX {
            self.failed.clear();
        }
        self.failed.insert(key);
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.bytes += entry.bytes;
        self.codes.insert(key, Cached { entry: Arc::new(entry), gas: 0, heat: 0 });
    }

    /// Throws out the coldest codes until the rest fits. Heat is gas since the last look, plus half of the heat before.
    fn evict(&mut self) {
        let config = &self.shared.config;
        if self.bytes <= config.cache_bytes_max && self.codes.len() <= config.codes_max {
            return;
        }
        let mut heats = Vec::with_capacity(self.codes.len());
        for (key, cached) in &mut self.codes {
            let gas = cached.entry.gas.load(Relaxed);
            cached.heat = cached.heat / 2 + gas.wrapping_sub(cached.gas);
            cached.gas = gas;
            heats.push((cached.heat, *key));
        }
        heats.sort_unstable_by_key(|(heat, key)| (*heat, key.hash));
        let mut coldest = heats.into_iter();
        while (self.bytes > config.cache_bytes_max || self.codes.len() > config.codes_max)
            && let Some((_, key)) = coldest.next()
        {
            if let Some(cached) = self.codes.remove(&key) {
                self.bytes -= cached.entry.bytes;
                self.shared.counters.evictions.fetch_add(1, Relaxed);
            }
        }
    }

    fn publish(&mut self) {
        let counters = &self.shared.counters;
        counters.codes.store(self.codes.len() as u64, Relaxed);
        counters.cache_bytes.store(self.bytes, Relaxed);
        self.generation += 1;
        let codes = self.codes.iter().map(|(key, cached)| (*key, cached.entry.clone()));
        let before = self.shared.published.replace(View::new(self.generation, codes));
        self.retired.push(before);
    }

    /// The disk, for tests of what the thread does with it.
    #[cfg(test)]
    pub(crate) fn disk(&mut self) -> Option<&mut Disk> {
        self.disk.as_mut()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Whoever waits for the queue must not wait for a thread that is gone.
        self.shared.queue.stop();
    }
}
