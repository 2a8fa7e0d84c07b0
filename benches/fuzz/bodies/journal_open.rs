//! Opening a journal whose bytes are arbitrary: damaged files, and files made by someone who knows the format and gets every
//! checksum and link right. Opening must end in an error or in a journal that can be written and opened again; what it
//! replays from a damaged file must be a prefix of what was written.
//!
//! Input: byte 0 chooses the file (bit 0: the slot), whether the rest replaces it or patches it (bit 1; triples of 16-bit
//! position and value), and whether checksums and links are made right afterwards (bit 2).

use crc_fast::{CrcAlgorithm, checksum};
use ironlane_journal::disk::sim::SimDisk;
use ironlane_journal::{BLOCK, Journal, JournalConfig, Lsn, Reader, SignerMark};
use std::sync::{Arc, OnceLock};

const SEGMENT: &str = "journal-0000000000000000.seg";
const SLOT: &str = "signer.slot";
const IDENTITY: [u8; 32] = [7; 32];
const RECORD_HEADER: usize = 104;

fn config() -> JournalConfig {
    let mut config = JournalConfig::new("fuzz", IDENTITY);
    config.commit_bytes_max = 4 * BLOCK;
    config.first_segment_bytes = 8 * BLOCK as u64;
    config.segment_bytes = 8 * BLOCK as u64;
    config
}

fn payload(lsn: Lsn) -> Vec<u8> {
    vec![lsn as u8; 30 * lsn as usize]
}

/// A disk with six records in four commits.
fn good() -> &'static SimDisk {
    static GOOD: OnceLock<SimDisk> = OnceLock::new();
    GOOD.get_or_init(|| {
        let disk = SimDisk::new(1);
        let (mut journal, _) = Journal::open_on(&config(), disk.disk(), 1, &mut |_, _| Ok(())).expect("open");
        for commit in [&[1u64][..], &[2, 3], &[4], &[5, 6]] {
            for lsn in commit {
                let mark = SignerMark { height: *lsn, digest: [*lsn as u8; 32] };
                journal.append(&[&payload(*lsn)], Some(mark)).expect("append");
            }
            while journal.durable() < journal.appended() {
                journal.poll().expect("poll");
            }
        }
        drop(journal);
        disk.kill();
        disk
    })
}

fn fix_sector(bytes: &mut [u8]) {
    if bytes.len() >= 512 {
        let crc = checksum(CrcAlgorithm::Crc64Nvme, &bytes[..504]);
        bytes[504..512].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Makes all checksums right, and each record's link over whatever its header says now.
fn fix(file: &str, bytes: &mut [u8]) {
    if file == SLOT {
        bytes.chunks_mut(BLOCK).for_each(fix_sector);
        return;
    }
    fix_sector(bytes);
    if bytes.len() < BLOCK {
        return;
    }
    let mut hasher = blake3::Hasher::new_derive_key("ironlane journal link v1");
    hasher.update(&bytes[16..64]);
    let key = *hasher.finalize().as_bytes();
    let mut at = BLOCK;
    while at + RECORD_HEADER <= bytes.len() {
        if &bytes[at..at + 4] == b"IrJr" {
            let len =
                u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]) as usize;
            let body = at + RECORD_HEADER;
            if let Some(payload) = body.checked_add(len).and_then(|end| bytes.get(body..end)) {
                let crc = checksum(CrcAlgorithm::Crc64Nvme, payload);
                bytes[at + 32..at + 40].copy_from_slice(&crc.to_le_bytes());
            }
            let link = *blake3::keyed_hash(&key, &bytes[at..at + 72]).as_bytes();
            bytes[at + 72..at + 104].copy_from_slice(&link);
        }
        at += 8;
    }
}

pub(crate) fn check(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let file = if choice & 1 == 0 { SEGMENT } else { SLOT };
    let disk = good().copy(2);
    let mut bytes = if choice & 2 == 0 { rest.to_vec() } else { disk.bytes(file).expect("it is there") };
    if choice & 2 != 0 {
        for patch in rest.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([patch[0], patch[1]]));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = patch[2];
            }
        }
    }
    let forged = choice & 4 != 0;
    if forged {
        fix(file, &mut bytes);
    }
    disk.put(file, bytes);

    // The reader first: it changes nothing.
    let mut read = 0;
    if let Ok(mut reader) = Reader::open_on(Arc::new(disk.clone()), Some(IDENTITY), 1) {
        while let Ok(Some(_)) = reader.next_record() {
            read += 1;
        }
    }
    let mut records: Vec<(Lsn, Vec<u8>)> = Vec::new();
    let opened = Journal::open_on(&config(), disk.disk(), 1, &mut |at, payload| {
        records.push((at.lsn, payload.to_vec()));
        Ok(())
    });
    assert_eq!(read, records.len(), "the reader and recovery see the same");
    for (at, (lsn, bytes)) in records.iter().enumerate() {
        assert_eq!(*lsn, at as u64 + 1);
        assert!(forged || *bytes == payload(*lsn), "a damaged record was taken");
    }
    let Ok((mut journal, recovery)) = opened else { return };
    assert_eq!(recovery.tip, records.len() as u64);
    let lsn = journal.append(&[b"onwards"], None).expect("an open journal takes records");
    for _ in 0..100 {
        journal.poll().expect("the disk is fine");
    }
    assert_eq!((lsn, journal.durable()), (recovery.tip + 1, recovery.tip + 1));
    drop(journal);
    disk.crash();
    let mut again = 0;
    Journal::open_on(&config(), disk.disk(), 1, &mut |_, _| {
        again += 1;
        Ok(())
    })
    .expect("what was opened and written opens again");
    assert_eq!(again, lsn);
}
