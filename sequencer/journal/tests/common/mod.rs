//! What the journal's tests share.
#![allow(dead_code)]

use ironlane_journal::disk::sim::SimDisk;
use ironlane_journal::{Journal, JournalConfig, JournalError, Lsn, Recovery};

/// SplitMix64, so that a seed is a run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub(crate) const IDENTITY: [u8; 32] = [7; 32];

/// A journal of small pieces, so that tests reach every edge quickly.
pub(crate) fn small(dir: impl Into<std::path::PathBuf>) -> JournalConfig {
    let mut config = JournalConfig::new(dir, IDENTITY);
    config.commit_bytes_max = 16 << 10;
    config.first_segment_bytes = 16 << 10;
    config.segment_bytes = 64 << 10;
    config
}

/// A payload that is different for every record and every attempt to write it.
pub(crate) fn payload(lsn: Lsn, attempt: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(lsn ^ attempt.rotate_left(32));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) type Records = Vec<(Lsn, Vec<u8>)>;

/// Opens on a simulated disk and collects what is replayed.
pub(crate) fn open(
    config: &JournalConfig,
    disk: &SimDisk,
    from: Lsn,
) -> (Result<(Journal, Recovery), JournalError>, Records) {
    let mut records = Vec::new();
    let opened = Journal::open_on(config, disk.disk(), from, &mut |at, payload| {
        records.push((at.lsn, payload.to_vec()));
        Ok(())
    });
    (opened, records)
}

/// Polls until everything appended is durable.
pub(crate) fn drain(journal: &mut Journal) {
    for _ in 0..100_000 {
        if journal.durable() == journal.appended() {
            return;
        }
        journal.poll().expect("the disk is fine");
    }
    panic!("the journal does not get on: {} of {}", journal.durable(), journal.appended());
}
