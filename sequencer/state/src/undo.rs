//! What was before: a bounded log of overwritten values, through which a reader at an older version finds its own.
//!
//! A record links to the entry of its newest change; the entry holds the version that made the change, the value from
//! before, and the link to the change before that. A reader at version V takes the record's value and follows links while
//! the entry's version is above V. A link that leads to nothing, or behind the log's tail, means that the value in hand is
//! older than all that the log has dropped, and so is V's, provided that V is not below `oldest`.
//!
//! The log is made of chunks of 1 MiB, written in order by the one writer and recycled when the budget is used up, unless
//! a pinned version still needs them. A reader copies an entry and then checks that the tail has not passed it.

use crate::{StateError, mem::Table};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence},
};

/// Entries in a chunk (64 bytes each).
const CHUNK_ENTRIES: u64 = 1 << 14;
/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = CHUNK_ENTRIES as usize * size_of::<Entry>();
/// Chunks at least, whatever the budget says.
const CHUNKS_MIN: usize = 2;

/// Version, link, payload.
type Entry = [AtomicU64; 8];
/// The overwritten value; its owner knows the encoding.
pub(crate) type Payload = [u64; 6];

/// `oldest` before the first seal: nothing can be read.
pub(crate) const NOTHING_SEALED: u64 = u64::MAX;

/// The shared side.
#[derive(Debug)]
pub(crate) struct UndoLog {
    entries: Table<Entry>,
    /// By chunk number modulo its length: which part of `entries` holds the chunk.
    chunk_at: Box<[AtomicU32]>,
    /// Positions below are gone.
    tail: AtomicU64,
    /// Versions below cannot be read.
    oldest: AtomicU64,
    /// Pinned versions and how often.
    pins: Mutex<BTreeMap<u64, u32>>,
    chunks_in_use: AtomicU64,
    /// Chunks that are used before the oldest is written over.
    budget: usize,
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct UndoWriter {
    /// Next position to write.
    head: u64,
    /// First position of the unsealed version.
    version_start: u64,
    /// Chunks in use, oldest first: place, last version in it.
    used: VecDeque<(u32, u64)>,
    free: Vec<u32>,
    places: u32,
    budget: usize,
    max: usize,
}

impl UndoLog {
    /// A log of about `budget` bytes that may grow to `max` bytes for pinned versions.
    pub(crate) fn reserve(
        budget: usize,
        max: usize,
        huge_pages: bool,
    ) -> Result<(UndoLog, UndoWriter), StateError> {
        let budget = (budget / CHUNK_BYTES).max(CHUNKS_MIN);
        let max = (max / CHUNK_BYTES).clamp(budget, 1 << 20);
        // Chunk numbers start at one, so that position zero means "nothing before".
        let log = UndoLog {
            entries: Table::reserve("history", max * CHUNK_ENTRIES as usize, huge_pages)?,
            chunk_at: (0..(max + 1).next_power_of_two()).map(|_| AtomicU32::new(0)).collect(),
            tail: AtomicU64::new(CHUNK_ENTRIES),
            oldest: AtomicU64::new(NOTHING_SEALED),
            pins: Mutex::new(BTreeMap::new()),
            chunks_in_use: AtomicU64::new(0),
            budget,
        };
        let writer = UndoWriter {
            head: CHUNK_ENTRIES,
            version_start: CHUNK_ENTRIES,
            used: VecDeque::new(),
            free: Vec::new(),
            places: 0,
            budget,
            max,
        };
        Ok((log, writer))
    }

    /// Oldest version that can be read; [`NOTHING_SEALED`] before the first seal.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest.load(Acquire)
    }

    /// Bytes of the chunks in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks_in_use.load(Relaxed) * CHUNK_BYTES as u64
    }

    /// As [`Table::populate`], for the chunks that come next.
    pub(crate) fn populate(&self, ahead_bytes: usize, step_bytes: usize) -> bool {
        let used = self.chunks_in_use.load(Relaxed) as usize;
        let until = (used + ahead_bytes.div_ceil(CHUNK_BYTES)).min(self.budget);
        let entries = CHUNK_ENTRIES as usize;
        self.entries.populate(used * entries, until * entries, step_bytes)
    }

    #[inline]
    fn cell(&self, position: u64) -> &Entry {
        let chunk = position / CHUNK_ENTRIES;
        let place = self.chunk_at[chunk as usize & (self.chunk_at.len() - 1)].load(Acquire);
        self.entries.get(place as usize * CHUNK_ENTRIES as usize + (position % CHUNK_ENTRIES) as usize)
    }

    /// Version, link and payload of the entry at `position`, unless it is gone.
    #[inline]
    fn entry(&self, position: u64) -> Option<(u64, u64, Payload)> {
        if position < self.tail.load(Acquire) {
            return None;
        }
        let cell = self.cell(position);
        let version = cell[0].load(Relaxed);
        let link = cell[1].load(Relaxed);
        let payload = std::array::from_fn(|i| cell[i + 2].load(Relaxed));
        fence(Acquire);
        (position >= self.tail.load(Relaxed)).then_some((version, link, payload))
    }

    /// The value valid at `version`, given a record's value and link; `None` when that version has expired.
    #[inline]
    pub(crate) fn resolve<T>(
        &self,
        version: u64,
        mut value: T,
        mut link: u64,
        decode: impl Fn(&Payload) -> T,
    ) -> Option<T> {
        while let Some((changed_at, before, payload)) = self.entry(link) {
            if changed_at <= version {
                return Some(value);
            }
            value = decode(&payload);
            link = before;
        }
        (version >= self.oldest()).then_some(value)
    }

    /// Keeps `version` readable; `false` when it is gone already.
    pub(crate) fn pin(&self, version: u64) -> bool {
        let mut pins = self.lock_pins();
        if version < self.oldest() {
            return false;
        }
        *pins.entry(version).or_insert(0) += 1;
        true
    }

    /// Ends one [`Self::pin`].
    pub(crate) fn unpin(&self, version: u64) {
        let mut pins = self.lock_pins();
        if let Some(count) = pins.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&version);
            }
        }
    }

    fn lock_pins(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, u32>> {
        self.pins.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes `version` the only one that can be read (the first seal, or a snapshot just opened).
    pub(crate) fn start_at(&self, version: u64) {
        self.oldest.store(version, Release);
    }

    /// Records that `version`, not sealed yet, overwrites `payload`; returns the record's new link. A record changed
    /// before in the same version keeps its link.
    #[inline]
    pub(crate) fn record(
        &self,
        writer: &mut UndoWriter,
        version: u64,
        link: u64,
        payload: impl FnOnce() -> Payload,
    ) -> u64 {
        if link >= writer.version_start || self.oldest.load(Relaxed) == NOTHING_SEALED {
            return link;
        }
        let position = writer.head;
        if position.is_multiple_of(CHUNK_ENTRIES) {
            self.open_chunk(writer, version);
        }
        let cell = self.cell(position);
        cell[0].store(version, Relaxed);
        cell[1].store(link, Relaxed);
        cell[2..].iter().zip(payload()).for_each(|(cell, word)| cell.store(word, Relaxed));
        if let Some((_, last_version)) = writer.used.back_mut() {
            *last_version = version;
        }
        writer.head += 1;
        position
    }

    /// Begins the next unsealed version.
    pub(crate) fn seal(&self, writer: &mut UndoWriter) {
        writer.version_start = writer.head;
    }

    /// Finds room for the chunk that begins at the head: drops what the budget has no room for and nobody needs, takes
    /// more memory while a pin or the unsealed version itself needs the rest, and expires the oldest at the maximum.
    #[cold]
    fn open_chunk(&self, writer: &mut UndoWriter, unsealed: u64) {
        let pins = self.lock_pins();
        // A chunk whose changes are all at or below the oldest version in use is needed by nobody.
        let needed_above = pins.keys().next().copied().unwrap_or(u64::MAX).min(unsealed.saturating_sub(1));
        while let Some(&(place, last_version)) = writer.used.front() {
            let over_budget = writer.used.len() >= writer.budget && last_version <= needed_above;
            if !over_budget && writer.used.len() < writer.max {
                break;
            }
            writer.used.pop_front();
            self.oldest.fetch_max(last_version, AcqRel);
            self.tail.store(writer.head - writer.used.len() as u64 * CHUNK_ENTRIES, Release);
            fence(Release);
            if writer.used.len() + writer.free.len() >= writer.budget {
                // Failure only means that the memory stays taken until the chunk is used again.
                let _ = self.entries.release(place as usize * CHUNK_ENTRIES as usize, CHUNK_ENTRIES as usize);
            }
            writer.free.push(place);
        }
        drop(pins);
        let place = writer.free.pop().unwrap_or_else(|| {
            writer.places += 1;
            writer.places - 1
        });
        let chunk = writer.head / CHUNK_ENTRIES;
        self.chunk_at[chunk as usize & (self.chunk_at.len() - 1)].store(place, Release);
        writer.used.push_back((place, unsealed));
        self.chunks_in_use.store(writer.used.len() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_BYTES, CHUNK_ENTRIES, UndoLog};
    use std::{
        sync::atomic::{AtomicBool, Ordering::*},
        time::{Duration, Instant},
    };

    /// One counter that takes the value of each version; `per_version` other changes fill the log.
    fn run(
        log: &UndoLog,
        writer: &mut super::UndoWriter,
        link: &mut u64,
        versions: std::ops::Range<u64>,
        per_version: u64,
    ) {
        for version in versions {
            *link = log.record(writer, version, *link, || [version - 1, 0, 0, 0, 0, 0]);
            for _ in 1..per_version {
                log.record(writer, version, 0, || [7; 6]);
            }
            log.seal(writer);
        }
    }

    fn at(log: &UndoLog, newest: u64, link: u64, version: u64) -> Option<u64> {
        log.resolve(version, newest, link, |payload| payload[0])
    }

    #[test]
    fn every_held_version_resolves_exactly_and_older_ones_expire() {
        let (log, mut writer) = UndoLog::reserve(4 * CHUNK_BYTES, 16 * CHUNK_BYTES, false).expect("reserve");
        log.start_at(10);
        let mut link = 0;
        run(&log, &mut writer, &mut link, 11..200, CHUNK_ENTRIES / 10);
        let oldest = log.oldest();
        assert!((150..199).contains(&oldest), "{oldest}");
        for version in 10..200 {
            assert_eq!(at(&log, 199, link, version), (version >= oldest).then_some(version), "{version}");
        }
        assert!(log.bytes() <= 4 * CHUNK_BYTES as u64);
    }

    #[test]
    fn a_pin_holds_its_version_until_the_maximum() {
        let (log, mut writer) = UndoLog::reserve(2 * CHUNK_BYTES, 8 * CHUNK_BYTES, false).expect("reserve");
        log.start_at(10);
        let mut link = 0;
        run(&log, &mut writer, &mut link, 11..21, 10);
        assert!(log.pin(15));
        run(&log, &mut writer, &mut link, 21..70, CHUNK_ENTRIES / 10);
        assert_eq!(at(&log, 69, link, 15), Some(15), "within the maximum");
        assert!(log.bytes() > 2 * CHUNK_BYTES as u64);
        run(&log, &mut writer, &mut link, 70..200, CHUNK_ENTRIES / 10);
        assert_eq!(at(&log, 199, link, 15), None, "beyond the maximum even a pinned version goes");
        assert!(log.bytes() <= 8 * CHUNK_BYTES as u64);
        log.unpin(15);
        run(&log, &mut writer, &mut link, 200..230, CHUNK_ENTRIES / 10);
        assert!(log.bytes() <= 2 * CHUNK_BYTES as u64, "back within the budget");
        assert!(!log.pin(15));
        assert_eq!(at(&log, 229, link, 229), Some(229));
    }

    /// A reader that stands at the tail while chunks are recycled under it reads an entry whole, or learns that it is gone.
    #[test]
    fn an_entry_that_is_overwritten_while_it_is_read_is_not_believed() {
        let (log, mut writer) = UndoLog::reserve(2 * CHUNK_BYTES, 2 * CHUNK_BYTES, false).expect("reserve");
        log.start_at(0);
        let mut write = |entries: u64| {
            for _ in 0..entries {
                let position = writer.head;
                log.record(&mut writer, position, 0, || [position; 6]);
            }
        };
        // Full first: from here on the reader meets finished entries only.
        write(2 * CHUNK_ENTRIES);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut whole, mut gone) = (0u64, 0u64);
                while !stop.load(Relaxed) {
                    let position = log.tail.load(Acquire);
                    match log.entry(position) {
                        Some((version, link, payload)) => {
                            assert_eq!((version, link, payload), (position, 0, [position; 6]));
                            whole += 1;
                        }
                        None => gone += 1,
                    }
                }
                (whole, gone)
            });
            let end = Instant::now() + Duration::from_millis(1200);
            while Instant::now() < end {
                write(1000);
            }
            stop.store(true, Relaxed);
            let (whole, gone) = reader.join().expect("no mixture");
            assert!(whole > 100, "{whole} whole, {gone} gone");
        });
    }
}
