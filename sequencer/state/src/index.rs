//! From a 32-bit hash to record numbers: buckets of one cache line in hash order, growing without a stop.
//!
//! An entry is `hash << 32 | number + 1`; zero is free. A key's home bucket is `(hash · buckets) >> 32`, so buckets are in
//! the order of hashes; a full bucket overflows into the next ones. Entries are never removed. To grow, a second area
//! twice as large is filled bucket by bucket in hash order: hashes whose home lies below the frontier are looked up in the
//! new area, all others in the old one, and each lookup probes one area only. When the frontier reaches the end the areas
//! change roles and the old one goes back to the kernel, piece by piece.
//!
//! One writer, any number of readers. A reader that races with the end of a growth may see a cleared area; it notices by
//! the generation and looks again. A found number is always right, since the caller compares the record's key.

pub(crate) use crate::bucket::BUCKET_ENTRIES;
use crate::{
    StateError,
    bucket::same_hash,
    mem::{Cell, RELEASE_STEP_BYTES, Table},
};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

/// Buckets behind the last home bucket, for its overflow.
pub(crate) const SLACK_BUCKETS: usize = 64;
/// Entries per home bucket at which growth begins (of 8).
const GROW_AT_ENTRIES: usize = 6;
/// Entries per home bucket that a table is sized for.
const SIZED_ENTRIES: usize = 5;
/// Old buckets moved at each insertion while growing. Two finish the move after `buckets / 2` insertions, long before the
/// old area, filled to 6 of 8, can be full.
const MOVED_AN_INSERT: usize = 2;

const _: () = assert!(GROW_AT_ENTRIES < BUCKET_ENTRIES && SIZED_ENTRIES < GROW_AT_ENTRIES);

/// One bucket: one cache line.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Line(pub(crate) [AtomicU64; BUCKET_ENTRIES]);

const _: () = assert!(size_of::<Line>() == 64);
const fn assert_cell<T: Cell>() {}
const _: () = assert_cell::<Line>();

/// The shared side.
#[derive(Debug)]
pub(crate) struct Index {
    areas: [Table<Line>; 2],
    homes: [AtomicU32; 2],
    /// `generation << 32 | home buckets already moved`. The area of this generation is `generation & 1`.
    state: AtomicU64,
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    entries: usize,
    growing: bool,
    /// Area and next bucket to release, after a growth.
    releasing: Option<(usize, usize)>,
    max_homes: usize,
    /// Growths finished.
    pub(crate) growths: u64,
}

/// No room between a key's home and the end of the area, and no way to grow.
#[derive(Debug)]
pub(crate) struct IndexFull;

#[inline(always)]
fn home(hash: u32, homes: u32) -> usize {
    ((u64::from(hash) * u64::from(homes)) >> 32) as usize
}

/// Which entries of a bucket have this hash, a bit each. Without branches: where a key stands cannot be predicted.
#[inline(always)]
fn matching(line: &[AtomicU64; BUCKET_ENTRIES], hash: u32) -> u32 {
    let matches = same_hash(line, hash);
    if hash != 0 {
        return matches;
    }
    // A free entry is zero, which is no entry of hash 0 either: numbers are stored plus one.
    let taken = |i: &usize| line[*i].load(Relaxed) != 0;
    (0..BUCKET_ENTRIES).filter(taken).fold(0, |mask, i| mask | (matches & (1 << i)))
}

fn entry(hash: u32, number: u32) -> u64 {
    u64::from(hash) << 32 | (u64::from(number) + 1)
}

impl Index {
    /// An index sized for `expected` entries that can grow to `max`.
    pub(crate) fn reserve(
        what: &'static str,
        expected: usize,
        max: usize,
        huge_pages: bool,
    ) -> Result<(Index, IndexWriter), StateError> {
        let max_homes = (max / SIZED_ENTRIES + 16).min(u32::MAX as usize);
        let homes = (expected / SIZED_ENTRIES + 16).min(max_homes);
        let area = || Table::reserve(what, max_homes + SLACK_BUCKETS, huge_pages);
        let index = Index {
            areas: [area()?, area()?],
            homes: [AtomicU32::new(homes as u32), AtomicU32::new(0)],
            state: AtomicU64::new(0),
        };
        Ok((index, IndexWriter { entries: 0, growing: false, releasing: None, max_homes, growths: 0 }))
    }

    /// The number of the record with this hash for which `is` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        loop {
            let (area, bucket, generation) = self.locate(hash);
            let found = self.probe(area, bucket, hash, &mut is);
            if found.is_some() {
                return found;
            }
            fence(Acquire);
            if self.state.load(Relaxed) >> 32 == generation {
                return None;
            }
        }
    }

    /// Asks for the home bucket's cache line.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u32) {
        let (area, bucket, _) = self.locate(hash);
        self.areas[area].prefetch(bucket);
    }

    /// The first number under this hash in its home bucket, unchecked: good for prefetching its record, and right nearly
    /// always.
    #[inline(always)]
    pub(crate) fn guess(&self, hash: u32) -> Option<u32> {
        let (area, bucket, _) = self.locate(hash);
        let line = &self.areas[area].get(bucket).0;
        let matches = matching(line, hash);
        (matches != 0).then(|| (line[matches.trailing_zeros() as usize].load(Relaxed) as u32).wrapping_sub(1))
    }

    /// Area, home bucket and generation for a hash.
    #[inline(always)]
    fn locate(&self, hash: u32) -> (usize, usize, u64) {
        let state = self.state.load(Acquire);
        let (generation, moved) = (state >> 32, state as u32 as usize);
        let main = (generation & 1) as usize;
        let bucket = home(hash, self.homes[main].load(Relaxed));
        if bucket < moved {
            (1 - main, home(hash, self.homes[1 - main].load(Relaxed)), generation)
        } else {
            (main, bucket, generation)
        }
    }

    #[inline(always)]
    fn probe(&self, area: usize, bucket: usize, hash: u32, is: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let area = &self.areas[area];
        for b in bucket..area.capacity() {
            let line = &area.get(b).0;
            let mut matches = matching(line, hash);
            // What an entry names was written before the entry: see its record too.
            fence(Acquire);
            while matches != 0 {
                let number = line[matches.trailing_zeros() as usize].load(Relaxed) as u32;
                // Zero: an old area, cleared between the two loads. The generation then tells.
                if number != 0 && is(number - 1) {
                    return Some(number - 1);
                }
                matches &= matches - 1;
            }
            if line[BUCKET_ENTRIES - 1].load(Acquire) == 0 {
                return None;
            }
        }
        None
    }

    /// Bytes that the buckets take now.
    pub(crate) fn bytes(&self) -> u64 {
        let state = self.state.load(Acquire);
        let main = (state >> 32 & 1) as usize;
        let mut buckets = self.homes[main].load(Relaxed) as usize + SLACK_BUCKETS;
        if state as u32 > 0 {
            buckets += self.homes[1 - main].load(Relaxed) as usize + SLACK_BUCKETS;
        }
        (buckets * size_of::<Line>()) as u64
    }

    /// As [`Table::populate`], for all buckets: keys come in no order, so each new one may touch any of them.
    pub(crate) fn populate(&self, step_bytes: usize) -> bool {
        let state = self.state.load(Acquire);
        let main = (state >> 32 & 1) as usize;
        self.areas[main].populate(0, self.buckets(main), step_bytes)
            || (state as u32 > 0 && self.areas[1 - main].populate(0, self.buckets(1 - main), step_bytes))
    }

    /// Adds an entry for a key that is not in it.
    pub(crate) fn insert(&self, writer: &mut IndexWriter, hash: u32, number: u32) -> Result<(), IndexFull> {
        self.step(writer)?;
        let (area, bucket, _) = self.locate(hash);
        if self.place(area, bucket, entry(hash, number)).is_err() {
            // An overflow ran into the end of the area: finish what growth is under way, or grow early.
            self.grow_now(writer)?;
            let (area, bucket, _) = self.locate(hash);
            self.place(area, bucket, entry(hash, number))?;
        }
        writer.entries += 1;
        let homes = self.homes[self.main()].load(Relaxed) as usize;
        if !writer.growing && writer.entries > homes * GROW_AT_ENTRIES && homes < writer.max_homes {
            self.begin_growth(writer)?;
        }
        Ok(())
    }

    fn main(&self) -> usize {
        (self.state.load(Relaxed) >> 32 & 1) as usize
    }

    /// Buckets in use by an area, overflow room included.
    fn buckets(&self, area: usize) -> usize {
        (self.homes[area].load(Relaxed) as usize + SLACK_BUCKETS).min(self.areas[area].capacity())
    }

    fn place(&self, area: usize, bucket: usize, e: u64) -> Result<(), IndexFull> {
        for b in bucket..self.buckets(area) {
            for cell in &self.areas[area].get(b).0 {
                if cell.load(Relaxed) == 0 {
                    cell.store(e, Release);
                    return Ok(());
                }
            }
        }
        Err(IndexFull)
    }

    fn begin_growth(&self, writer: &mut IndexWriter) -> Result<(), IndexFull> {
        while writer.releasing.is_some() {
            self.release_step(writer)?;
        }
        let main = self.main();
        let homes = self.homes[main].load(Relaxed) as usize;
        self.homes[1 - main].store((homes * 2).min(writer.max_homes) as u32, Relaxed);
        writer.growing = true;
        Ok(())
    }

    fn grow_now(&self, writer: &mut IndexWriter) -> Result<(), IndexFull> {
        if !writer.growing {
            if self.homes[self.main()].load(Relaxed) as usize >= writer.max_homes {
                return Err(IndexFull);
            }
            self.begin_growth(writer)?;
        }
        while writer.growing {
            self.move_bucket(writer)?;
        }
        Ok(())
    }

    /// The share of background work that each insertion does.
    fn step(&self, writer: &mut IndexWriter) -> Result<(), IndexFull> {
        for _ in 0..MOVED_AN_INSERT {
            if writer.growing {
                self.move_bucket(writer)?;
            }
        }
        if writer.releasing.is_some() { self.release_step(writer) } else { Ok(()) }
    }

    /// Copies the entries of the next home bucket into the new area and advances the frontier.
    fn move_bucket(&self, writer: &mut IndexWriter) -> Result<(), IndexFull> {
        let state = self.state.load(Relaxed);
        let (generation, moved) = (state >> 32, state as u32);
        let main = (generation & 1) as usize;
        let (homes, new_homes) = (self.homes[main].load(Relaxed), self.homes[1 - main].load(Relaxed));
        'home: for b in moved as usize..self.buckets(main) {
            for cell in &self.areas[main].get(b).0 {
                let e = cell.load(Relaxed);
                if e == 0 {
                    break 'home;
                }
                let hash = (e >> 32) as u32;
                if home(hash, homes) == moved as usize {
                    self.place(1 - main, home(hash, new_homes), e)?;
                }
            }
        }
        if moved + 1 < homes {
            self.state.store(state + 1, Release);
        } else {
            self.state.store((generation + 1) << 32, Release);
            writer.growing = false;
            writer.growths += 1;
            writer.releasing = Some((main, 0));
        }
        Ok(())
    }

    /// Gives one piece of the old area back to the kernel.
    fn release_step(&self, writer: &mut IndexWriter) -> Result<(), IndexFull> {
        let Some((area, from)) = writer.releasing else { return Ok(()) };
        let len = RELEASE_STEP_BYTES / size_of::<Line>();
        if self.areas[area].release(from, len).is_err() {
            // The kernel would not map anonymous pages over its own: clear them by hand, they are used again.
            for b in from..from + len {
                self.areas[area]
                    .try_get(b as u64)
                    .into_iter()
                    .flat_map(|line| &line.0)
                    .for_each(|c| c.store(0, Relaxed));
            }
        }
        writer.releasing = (from + len < self.buckets(area)).then_some((area, from + len));
        Ok(())
    }

    /// The buckets of an index that does not grow, in order (for a snapshot).
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> + '_ {
        let main = self.main();
        (0..self.buckets(main)).map(move |b| self.areas[main].get(b))
    }

    /// Starts as `lines` buckets holding `entries` entries, put into the first area by `put`.
    pub(crate) fn restore<E>(
        &mut self,
        writer: &mut IndexWriter,
        lines: usize,
        entries: usize,
        put: impl FnOnce(&mut Table<Line>) -> Result<(), E>,
    ) -> Result<(), E> {
        put(&mut self.areas[0])?;
        let homes = lines - SLACK_BUCKETS;
        self.homes[0].store(homes as u32, Relaxed);
        writer.max_homes = writer.max_homes.max(homes);
        writer.entries = entries;
        Ok(())
    }

    /// Most buckets that a restored index may have.
    pub(crate) fn capacity_lines(&self) -> usize {
        self.areas[0].capacity()
    }

    /// Whether there are exactly `records` entries, each naming a record below `records` and standing where a probe
    /// from its home reaches it.
    pub(crate) fn is_sound(&self, records: usize) -> bool {
        let homes = self.homes[self.main()].load(Relaxed);
        let (mut entries, mut reached_from) = (0usize, 0usize);
        for (b, line) in self.lines().enumerate() {
            let mut ended = false;
            for cell in &line.0 {
                let e = cell.load(Relaxed);
                if e == 0 {
                    ended = true;
                    continue;
                }
                let (number, home) = (e as u32, home((e >> 32) as u32, homes));
                if ended || number == 0 || number as usize > records || home > b || home < reached_from {
                    return false;
                }
                entries += 1;
            }
            if ended {
                reached_from = b + 1;
            }
        }
        entries == records
    }
}

#[cfg(test)]
mod tests {
    use super::{Index, SLACK_BUCKETS};

    /// Spreads consecutive numbers over all hashes (an odd multiplier is a bijection).
    fn hash(i: u32) -> u32 {
        i.wrapping_mul(0x9e37_79b1) ^ (i >> 7)
    }

    #[test]
    fn every_entry_is_found_through_many_growths() {
        let (index, mut writer) = Index::reserve("test", 0, 1 << 20, false).expect("reserve");
        for i in 0..200_000u32 {
            index.insert(&mut writer, hash(i), i).expect("room");
            if i.is_power_of_two() || i % 50_021 == 0 {
                for j in 0..=i {
                    assert_eq!(index.find(hash(j), |n| n == j), Some(j), "{j} after {i}");
                }
            }
        }
        assert!(writer.growths >= 9, "{}", writer.growths);
        for j in 0..200_000 {
            assert_eq!(index.find(hash(j), |n| n == j), Some(j));
        }
        assert_eq!(index.find(hash(200_001), |n| n == 200_001), None);
    }

    #[test]
    fn equal_hashes_overflow_and_are_all_found() {
        let (index, mut writer) = Index::reserve("test", 0, 1 << 12, false).expect("reserve");
        for i in 0..300u32 {
            index.insert(&mut writer, u32::MAX, i).expect("room");
        }
        for i in 0..300u32 {
            assert_eq!(index.find(u32::MAX, |n| n == i), Some(i));
        }
    }

    #[test]
    fn a_hopeless_overflow_is_an_error_not_a_loop() {
        let (index, mut writer) = Index::reserve("test", 0, 64, false).expect("reserve");
        let refused =
            (0..100_000u32).find(|&i| index.insert(&mut writer, u32::MAX, i).is_err()).expect("full at last");
        assert!(refused as usize >= SLACK_BUCKETS * 8, "{refused}");
        assert_eq!(index.find(u32::MAX, |n| n == 5), Some(5));
    }
}
