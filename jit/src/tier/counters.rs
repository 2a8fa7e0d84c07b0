//! What the tier counts. Everything here is read by metrics while others write.

use super::judge::Way;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in metrics.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

reasons! {
    /// Why a hot code is not compiled.
    Refusal {
        /// Longer than the limit.
        TooLong = "too_long",
        /// The queue of the background thread is full.
        QueueFull = "queue_full",
        /// The compiler failed on it.
        Failed = "failed",
        /// The compiler failed on it before, in this life of the process or an earlier one.
        FailedBefore = "failed_before",
        /// Nothing of it could be compiled within the compiler's limits.
        Nothing = "nothing_compiled",
        /// Codes that fail have used their share of the background thread's time.
        Budget = "budget",
        /// The kernel gave no memory for it, or it alone is larger than the cache.
        Memory = "memory",
    }
}

reasons! {
    /// Why a file of the cache on disk was not used.
    DiskRefusal {
        /// Its checksum or its layout is wrong.
        Damaged = "damaged",
        /// Another compiler made it, or a later version of the format.
        Foreign = "foreign",
        /// It is not the node user's own, others may write to it, or it is no plain file.
        Untrusted = "untrusted",
        /// It could not be read.
        Unreadable = "unreadable",
    }
}

/// Upper ends of the buckets of the compile-time histogram, in microseconds; one more bucket takes the rest.
pub const COMPILE_BUCKETS_US: [u64; 12] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 100_000, 250_000, 1_000_000];

/// Segments and gas of one executor, which alone writes it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    segments: [AtomicU64; 2],
    gas: [AtomicU64; 2],
}

impl Tally {
    /// Counts a segment. Only the owner calls this: a load and a store are enough.
    #[inline]
    pub(crate) fn add(&self, way: Way, gas: u64) {
        let (segments, sum) = (&self.segments[way as usize], &self.gas[way as usize]);
        segments.store(segments.load(Relaxed) + 1, Relaxed);
        sum.store(sum.load(Relaxed).wrapping_add(gas), Relaxed);
    }
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Of executors that are gone, and after it of those that run.
    tallies: Mutex<(Tally, Vec<Arc<Tally>>)>,
    pub(crate) refusals: [AtomicU64; Refusal::ALL.len()],
    pub(crate) disk_refusals: [AtomicU64; DiskRefusal::ALL.len()],
    pub(crate) disk_hits: AtomicU64,
    pub(crate) disk_writes: AtomicU64,
    pub(crate) disk_failures: AtomicU64,
    pub(crate) disk_bytes: AtomicU64,
    pub(crate) compiled: AtomicU64,
    pub(crate) compile_us: AtomicU64,
    pub(crate) compile_buckets: [AtomicU64; COMPILE_BUCKETS_US.len() + 1],
    pub(crate) codes: AtomicU64,
    pub(crate) cache_bytes: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) deoptimised: AtomicU64,
    pub(crate) reoptimised: AtomicU64,
}

impl Counters {
    pub(crate) fn register(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).1.push(tally.clone());
        tally
    }

    pub(crate) fn unregister(&self, tally: &Arc<Tally>) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let (gone, running) = &mut *tallies;
        running.retain(|other| !Arc::ptr_eq(other, tally));
        for way in 0..2 {
            gone.segments[way].fetch_add(tally.segments[way].load(Relaxed), Relaxed);
            gone.gas[way].fetch_add(tally.gas[way].load(Relaxed), Relaxed);
        }
    }

    pub(crate) fn refuse(&self, reason: Refusal) {
        self.refusals[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse_file(&self, reason: DiskRefusal) {
        self.disk_refusals[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn compiled(&self, time: Duration) {
        let us = time.as_micros() as u64;
        let bucket = COMPILE_BUCKETS_US.iter().position(|end| us <= *end);
        self.compile_buckets[bucket.unwrap_or(COMPILE_BUCKETS_US.len())].fetch_add(1, Relaxed);
        self.compiled.fetch_add(1, Relaxed);
        self.compile_us.fetch_add(us, Relaxed);
    }

    pub(crate) fn read(&self, queue: usize) -> TierStats {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let (mut segments, mut gas) = ([0; 2], [0; 2]);
        {
            let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
            for tally in tallies.1.iter().map(|tally| &**tally).chain([&tallies.0]) {
                for way in 0..2 {
                    segments[way] += get(&tally.segments[way]);
                    gas[way] += get(&tally.gas[way]);
                }
            }
        }
        TierStats {
            interpreted_segments: segments[Way::Interpreted as usize],
            compiled_segments: segments[Way::Compiled as usize],
            interpreted_gas: gas[Way::Interpreted as usize],
            compiled_gas: gas[Way::Compiled as usize],
            queue: queue as u64,
            codes: get(&self.codes),
            cache_bytes: get(&self.cache_bytes),
            compiled: get(&self.compiled),
            compile_us: get(&self.compile_us),
            compile_buckets: self.compile_buckets.each_ref().map(get),
            evictions: get(&self.evictions),
            deoptimised: get(&self.deoptimised),
            reoptimised: get(&self.reoptimised),
            refusals: self.refusals.each_ref().map(get),
            disk_hits: get(&self.disk_hits),
            disk_writes: get(&self.disk_writes),
            disk_failures: get(&self.disk_failures),
            disk_bytes: get(&self.disk_bytes),
            disk_refusals: self.disk_refusals.each_ref().map(get),
        }
    }
}

/// The counters at one moment. A segment is what a frame runs between two calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Segments that the interpreter ran.
    pub interpreted_segments: u64,
    /// Segments that ran compiled code (parts that stayed uncompiled included).
    pub compiled_segments: u64,
    /// Gas that the interpreter's segments spent, callees not included.
    pub interpreted_gas: u64,
    /// Gas that compiled segments spent.
    pub compiled_gas: u64,
    /// Codes that wait for the background thread.
    pub queue: u64,
    /// Codes in the cache.
    pub codes: u64,
    /// Memory that they take, guard pages included.
    pub cache_bytes: u64,
    /// Compilations that ended well.
    pub compiled: u64,
    /// Time of all compilations, in microseconds.
    pub compile_us: u64,
    /// Compilations by time, in the buckets of [`COMPILE_BUCKETS_US`] and one above.
    pub compile_buckets: [u64; COMPILE_BUCKETS_US.len() + 1],
    /// Codes thrown out to make room.
    pub evictions: u64,
    /// Codes that went back to the interpreter because they measured slower.
    pub deoptimised: u64,
    /// Codes that came back from there because they then measured faster.
    pub reoptimised: u64,
    /// By [`Refusal`].
    pub refusals: [u64; Refusal::ALL.len()],
    /// Codes that came from the cache on disk.
    pub disk_hits: u64,
    /// Files written to it.
    pub disk_writes: u64,
    /// Files that could not be written.
    pub disk_failures: u64,
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// By [`DiskRefusal`].
    pub disk_refusals: [u64; DiskRefusal::ALL.len()],
}

impl TierStats {
    /// How often a code was refused for this reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refusals[reason as usize]
    }

    /// How many files were refused for this reason.
    pub fn disk_refused(&self, reason: DiskRefusal) -> u64 {
        self.disk_refusals[reason as usize]
    }
}
