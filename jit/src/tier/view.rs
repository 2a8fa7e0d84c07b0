//! The compiled codes as executors see them: a snapshot that the background thread replaces as a whole.

use super::{
    Key,
    counters::Counters,
    judge::{Judge, Step, Way},
};
use crate::loaded::CompiledCode;
use hashbrown::HashMap;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// A compiled code in the cache.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) code: Arc<CompiledCode>,
    /// Memory that it takes, in bytes.
    pub(crate) bytes: u64,
    /// Gas that ran through it. Executors race for it; a lost update makes it a little colder.
    pub(crate) gas: AtomicU64,
    /// It measured slower than the interpreter.
    interpreted: AtomicBool,
    /// Segments until the next one that is timed.
    countdown: AtomicU32,
    judge: Mutex<Judge>,
}

impl Entry {
    pub(crate) fn new(code: Arc<CompiledCode>, gas: u64) -> Self {
        Self {
            bytes: code.memory_bytes() as u64,
            code,
            gas: AtomicU64::new(gas),
            interpreted: AtomicBool::new(false),
            countdown: AtomicU32::new(Judge::FIRST),
            judge: Mutex::new(Judge::new()),
        }
    }

    /// Whether the segment that begins now is timed.
    #[inline]
    pub(crate) fn is_sample(&self) -> bool {
        let left = self.countdown.load(Ordering::Relaxed);
        self.countdown.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }

    /// How a segment runs that is not timed.
    #[inline]
    pub(crate) fn way(&self) -> Way {
        if self.interpreted.load(Ordering::Relaxed) { Way::Interpreted } else { Way::Compiled }
    }

    /// How a segment runs that is timed.
    pub(crate) fn sample_way(&self, random: u64) -> Way {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner).choose(random)
    }

    #[inline]
    pub(crate) fn spent(&self, gas: u64) {
        self.gas.store(self.gas.load(Ordering::Relaxed).wrapping_add(gas), Ordering::Relaxed);
    }

    /// Takes a timed segment.
    pub(crate) fn sampled(&self, way: Way, ns: u64, gas: u64, counters: &Counters) {
        let step = self.judge.lock().unwrap_or_else(PoisonError::into_inner).record(way, ns, gas);
        let next = match step {
            Step::Sample(next) => next,
            Step::Decided(way, next) => {
                let interpreted = way == Way::Interpreted;
                if self.interpreted.swap(interpreted, Ordering::Relaxed) != interpreted {
                    let counter = if interpreted { &counters.deoptimised } else { &counters.reoptimised };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                next
            }
        };
        self.countdown.store(next, Ordering::Relaxed);
    }
}

/// All compiled codes at one moment.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) generation: u64,
    places: HashMap<Key, u32>,
    pub(crate) entries: Vec<Arc<Entry>>,
}

impl View {
    pub(crate) fn new(generation: u64, codes: impl Iterator<Item = (Key, Arc<Entry>)>) -> Self {
        let mut view = Self { generation, ..Self::default() };
        for (key, entry) in codes {
            view.places.insert(key, view.entries.len() as u32);
            view.entries.push(entry);
        }
        view
    }

    /// The place of a code in `entries`.
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        self.places.get(key).copied()
    }
}

/// Where the newest view is. Executors look at a number before each segment and take the lock only when it changed; the
/// background thread holds the lock only to exchange a pointer.
#[derive(Debug, Default)]
pub(crate) struct Published {
    generation: AtomicU64,
    view: Mutex<Arc<View>>,
}

impl Published {
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a view in place of the one before, which is given back: dropping it may unmap code, which is no work for an
    /// executor.
    pub(crate) fn replace(&self, view: View) -> Arc<View> {
        let generation = view.generation;
        let old =
            std::mem::replace(&mut *self.view.lock().unwrap_or_else(PoisonError::into_inner), Arc::new(view));
        self.generation.store(generation, Ordering::Release);
        old
    }
}
