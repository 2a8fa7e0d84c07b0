//! The executor's side: before each segment it asks what to run, after it says what it spent.

use super::{
    Key, Shared,
    counters::{Refusal, Tally},
    judge::Way,
    table::{NONE, Table},
    view::View,
};
use crate::loaded::CompiledCode;
use alloy_primitives::{B256, Bytes};
use revm::primitives::hardfork::SpecId;
use std::sync::Arc;

/// Not timed.
const UNTIMED: u64 = u64::MAX;

/// How a segment runs. A segment is what a frame runs between two calls.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    way: Way,
    entry: u32,
    began: u64,
}

impl Segment {
    /// What it runs in.
    pub fn way(&self) -> Way {
        self.way
    }
}

/// An executor's handle on the tier: one each, used by one thread at a time.
///
/// ```text
/// segment = begin(hash, spec, code) ─► run it: in code(segment) if there is one, else in the interpreter ─► end(segment, gas)
/// ```
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    tally: Arc<Tally>,
    spec: SpecId,
    mode: RunnerMode,
}

#[derive(Debug)]
enum RunnerMode {
    Tiered { view: Arc<View>, table: Table, random: u64 },
    Eager { current: Option<Arc<CompiledCode>> },
}

impl Runner {
    pub(crate) fn new(shared: Arc<Shared>, seed: u64) -> Self {
        let mode = match shared.eager {
            Some(_) => RunnerMode::Eager { current: None },
            None => {
                let view = shared.published.view();
                RunnerMode::Tiered { view, table: Table::new(seed), random: seed | 1 }
            }
        };
        Self { tally: shared.counters.register(), shared, spec: SpecId::default(), mode }
    }

    /// Whether everything is compiled before it first runs, initcode included. Then, and only then, `begin` wants the
    /// hash of initcode.
    pub fn is_eager(&self) -> bool {
        matches!(self.mode, RunnerMode::Eager { .. })
    }

    /// Says how the next segment runs: of the code whose Keccak-256 is `hash`, by the rules of `spec`. `code` gives the
    /// bytecode without padding; only the eager mode asks for it here.
    #[inline]
    pub fn begin(&mut self, hash: &B256, spec: SpecId, code: impl FnOnce() -> Bytes) -> Segment {
        let shared = &self.shared;
        let (view, table, random) = match &mut self.mode {
            RunnerMode::Tiered { view, table, random } => (view, table, random),
            RunnerMode::Eager { current } => {
                *current = shared
                    .eager
                    .as_ref()
                    .and_then(|eager| eager.get(Key { hash: *hash, spec }, &code(), &shared.counters));
                let way = if current.is_some() { Way::Compiled } else { Way::Interpreted };
                return Segment { way, entry: NONE, began: UNTIMED };
            }
        };
        if self.spec != spec {
            // A fork: what was counted and looked up is of the rules before.
            self.spec = spec;
            table.clear();
        }
        if shared.published.generation() != view.generation {
            *view = shared.published.view();
        }
        let entry =
            table.entry(hash, view.generation, || view.find(&Key { hash: *hash, spec }).unwrap_or(NONE));
        let Some(code) = view.entries.get(entry as usize) else {
            return Segment { way: Way::Interpreted, entry: NONE, began: UNTIMED };
        };
        if !code.is_sample() {
            return Segment { way: code.way(), entry, began: UNTIMED };
        }
        // Marsaglia's xorshift: which way is taken must not follow any pattern of the calls.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        Segment { way: code.sample_way(*random >> 32), entry, began: (shared.config.clock)() }
    }

    /// The machine code of a segment that [`Self::begin`] answered last; `None`: the interpreter runs it.
    #[inline]
    pub fn code(&self, segment: &Segment) -> Option<&Arc<CompiledCode>> {
        if segment.way == Way::Interpreted {
            return None;
        }
        match &self.mode {
            RunnerMode::Tiered { view, .. } => {
                view.entries.get(segment.entry as usize).map(|entry| &entry.code)
            }
            RunnerMode::Eager { current } => current.as_ref(),
        }
    }

    /// Takes note of a segment that ran: `gas` is what it spent itself, without what it gave to callees. `code` is asked
    /// for when the code just got hot.
    #[inline]
    pub fn end(
        &mut self,
        segment: Segment,
        hash: &B256,
        gas: u64,
        code_len: usize,
        code: impl FnOnce() -> Bytes,
    ) {
        self.tally.add(segment.way, gas);
        let RunnerMode::Tiered { view, table, .. } = &mut self.mode else { return };
        let sum = table.charge(hash, gas);
        if let Some(entry) = view.entries.get(segment.entry as usize) {
            entry.spent(gas);
            if segment.began != UNTIMED {
                let ns = (self.shared.config.clock)().saturating_sub(segment.began);
                entry.sampled(segment.way, ns, gas, &self.shared.counters);
            }
            return;
        }
        if sum >= self.shared.config.threshold_gas {
            self.got_hot(hash, sum, code_len, code);
        }
    }

    /// A code whose gas has reached the threshold, which grows with its length as its compilation does.
    #[cold]
    fn got_hot(&mut self, hash: &B256, gas: u64, code_len: usize, code: impl FnOnce() -> Bytes) {
        let config = &self.shared.config;
        if gas < config.threshold_of(code_len) {
            return;
        }
        if let RunnerMode::Tiered { table, .. } = &mut self.mode {
            table.reset(hash);
        }
        if code_len > config.code_bytes_max {
            self.shared.counters.refuse(Refusal::TooLong);
        } else if !self.shared.queue.push(Key { hash: *hash, spec: self.spec }, gas, code) {
            self.shared.counters.refuse(Refusal::QueueFull);
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.counters.unregister(&self.tally);
    }
}
