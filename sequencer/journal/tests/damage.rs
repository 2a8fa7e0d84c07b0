//! Files that are not as they were written: torn, cut, flipped, swapped, zeroed, foreign, too new. Either everything that
//! was durable is read, or opening fails and says where.

mod common;

use common::*;
use ironlane_journal::disk::sim::{Faults, SimDisk};
use ironlane_journal::{
    BLOCK, Journal, JournalConfig, JournalError, Lsn, Reader, RecordPos, SignerMark, check_signer,
};
use std::sync::Arc;

const SLOT: &str = "signer.slot";

fn segment(index: u64) -> String {
    format!("journal-{index:016x}.seg")
}

/// One segment is enough for most of these tests.
fn wide() -> JournalConfig {
    JournalConfig { first_segment_bytes: 64 << 10, ..small("damage") }
}

/// Commits, each with records of these sizes.
fn fill(journal: &mut Journal, commits: &[&[usize]]) {
    for commit in commits {
        for len in *commit {
            let lsn = journal.appended() + 1;
            let mark = SignerMark { height: lsn, digest: [lsn as u8; 32] };
            journal.append(&[&payload(lsn, 0, *len)], Some(mark)).unwrap();
        }
        drain(journal);
    }
}

/// A disk with five durable records in four commits in one segment, settled or not.
fn five(settled: bool) -> SimDisk {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&wide(), &disk, 1).0.unwrap();
    fill(&mut journal, &[&[100], &[50, 60], &[5000], &[7]]);
    if settled {
        journal.flush().unwrap();
    }
    drop(journal);
    disk.kill();
    disk
}

/// Opens a copy of the disk. `Ok`: everything replayed is as written.
fn try_open(disk: &SimDisk) -> Result<Lsn, JournalError> {
    let (opened, records) = open(&wide(), &disk.copy(6), 1);
    let (_, recovery) = opened?;
    for (at, (lsn, bytes)) in records.iter().enumerate() {
        assert_eq!(*lsn, at as u64 + 1);
        assert_eq!(*bytes, payload(*lsn, 0, bytes.len()), "record {lsn} was altered and accepted");
    }
    assert_eq!(recovery.tip, records.len() as u64);
    Ok(recovery.tip)
}

/// The same through the reader.
fn try_read(disk: &SimDisk) -> Result<Lsn, JournalError> {
    let mut reader = Reader::open_on(Arc::new(disk.clone()), Some(IDENTITY), 1)?;
    let mut tip = 0;
    while let Some((at, bytes)) = reader.next_record()? {
        assert_eq!(bytes, payload(at.lsn, 0, bytes.len()));
        tip = at.lsn;
    }
    Ok(tip)
}

fn where_damaged(error: &JournalError) -> RecordPos {
    match error {
        JournalError::Damaged { at, .. } => *at,
        other => panic!("expected damage with a position, got: {other}"),
    }
}

/// A record of `five()`: where it begins and ends in segment 0.
fn places() -> Vec<(Lsn, u64, u64)> {
    let header = 104;
    let sizes = [(1, 4096, 100), (2, 8192, 50), (3, 8192 + 160, 60), (4, 12288, 5000), (5, 20480, 7)];
    sizes.iter().map(|(lsn, at, len)| (*lsn, *at, at + header + len)).collect()
}

#[test]
fn every_flipped_bit_is_harmless_or_stops_with_the_position() {
    let disk = five(true);
    assert_eq!((try_open(&disk).unwrap(), try_read(&disk).unwrap()), (5, 5));
    let name = segment(0);
    let bytes = disk.bytes(&name).unwrap();
    let mut stopped = 0;
    for byte in 0..24576 + 512 {
        // Padding is long: a sample of it is enough.
        let padding =
            byte >= 512 && !places().iter().any(|(_, from, to)| (*from..*to).contains(&(byte as u64)));
        if padding && byte % 31 != 0 {
            continue;
        }
        // One bit of each byte; every bit of the first record and the headers.
        let bits = if byte < 136 || (4096..4304).contains(&byte) { 0..8 } else { byte % 8..byte % 8 + 1 };
        for bit in bits {
            let mut bad = bytes.clone();
            bad[byte] ^= 1 << bit;
            disk.put(&name, bad);
            let hit = places().into_iter().find(|(_, from, to)| (*from..*to).contains(&(byte as u64)));
            match (try_read(&disk), hit) {
                (Ok(tip), None) => assert_eq!(tip, 5, "byte {byte} is padding"),
                (Ok(tip), Some((lsn, ..))) => {
                    panic!("byte {byte} of record {lsn} flipped, {tip} records accepted")
                }
                (Err(error), Some((lsn, from, _))) => {
                    assert_eq!(
                        where_damaged(&error),
                        RecordPos { lsn, segment: 0, offset: from },
                        "byte {byte}"
                    );
                    stopped += 1;
                }
                (Err(error), None) => {
                    assert!(byte < 512, "byte {byte} is padding: {error}");
                    assert_eq!(where_damaged(&error), RecordPos { lsn: 1, segment: 0, offset: 0 });
                }
            }
        }
    }
    assert!(stopped > 5000, "the loop must meet the records: {stopped}");
}

#[test]
fn opening_changes_nothing_when_it_finds_damage() {
    let disk = five(true);
    let mut bad = disk.bytes(&segment(0)).unwrap();
    bad[12288 + 2000] ^= 4;
    disk.put(&segment(0), bad.clone());
    let copy = disk.copy(1);
    let (opened, replayed) = open(&wide(), &copy, 1);
    let error = opened.err().expect("damage");
    assert_eq!(replayed.len(), 3);
    assert_eq!(where_damaged(&error), RecordPos { lsn: 4, segment: 0, offset: 12288 });
    let text = error.to_string();
    for part in ["record 4", "journal-0000000000000000.seg", "offset 12288", "payload was altered", "up to 5"]
    {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!(copy.bytes(&segment(0)).unwrap(), bad, "never cut silently");
}

#[test]
fn a_tail_cut_at_every_byte_loses_only_what_was_not_acknowledged() {
    // Records 1 to 4 are acknowledged, and so proven by commit 5; its records 5 and 6 never were.
    let disk = SimDisk::new(8);
    let (mut journal, _) = open(&wide(), &disk, 1).0.unwrap();
    fill(&mut journal, &[&[100, 200], &[3000], &[7]]);
    disk.set_faults(Faults { slow_polls_max: u64::MAX, ..Faults::default() });
    journal.append(&[&payload(5, 0, 5000)], None).unwrap();
    let mark = SignerMark { height: 6, digest: [6; 32] };
    journal.append(&[&payload(6, 0, 300)], Some(mark)).unwrap();
    journal.poll().unwrap();
    disk.kill();
    drop(journal);
    let name = segment(0);
    let bytes = disk.bytes(&name).unwrap();
    let last_commit = 4 * BLOCK;
    let end_of = |payloads: usize, before: usize| last_commit + before + 104 + payloads;
    let (end5, end6) = (end_of(5000, 0), end_of(300, 5104));
    // Every byte of the last commit; every seventh of the two blocks before, which only the slot misses.
    for len in last_commit - 2 * BLOCK..=end6 + 16 {
        if len < last_commit && len % 7 != 0 {
            continue;
        }
        disk.put(&name, bytes[..len].to_vec());
        let proven_end = 3 * BLOCK + 104 + 7;
        match try_open(&disk) {
            Ok(tip) => {
                let expected = if len >= end6 {
                    6
                } else if len >= end5 {
                    5
                } else {
                    4
                };
                assert_eq!(tip, expected, "cut to {len}");
                assert!(len >= proven_end, "cut to {len}: an acknowledged record is gone unnoticed");
            }
            Err(JournalError::BehindSlot { .. } | JournalError::Damaged { .. }) => {
                assert!(len < proven_end, "cut to {len}: nothing acknowledged is missing");
            }
            Err(other) => panic!("cut to {len}: {other}"),
        }
    }
}

#[test]
fn a_commit_torn_in_any_way_is_a_torn_tail() {
    // Three blocks of one commit, each landed or not.
    let disk = SimDisk::new(8);
    let (mut journal, _) = open(&wide(), &disk, 1).0.unwrap();
    fill(&mut journal, &[&[100], &[200]]);
    disk.set_faults(Faults { slow_polls_max: u64::MAX, ..Faults::default() });
    for (lsn, len) in [(3, 3000), (4, 3000), (5, 3000)] {
        journal.append(&[&payload(lsn, 0, len)], None).unwrap();
    }
    journal.poll().unwrap();
    let before = disk.bytes(&segment(0)).unwrap();
    disk.kill();
    drop(journal);
    let after = disk.bytes(&segment(0)).unwrap();
    for landed in 0..8u32 {
        let mut bytes = before.clone();
        for block in (0..3).filter(|b| landed & 1 << b != 0) {
            let at = (3 + block) * BLOCK;
            bytes[at..at + BLOCK].copy_from_slice(&after[at..at + BLOCK]);
        }
        disk.put(&segment(0), bytes);
        let expected = match landed & 7 {
            7 => 5,
            3 => 4,
            1 | 5 => 3,
            _ => 2,
        };
        let (opened, records) = open(&wide(), &disk.copy(1), 1);
        let recovery = opened.unwrap_or_else(|e| panic!("blocks {landed:03b}: {e}")).1;
        assert_eq!((recovery.tip, records.len() as u64), (expected, expected), "blocks {landed:03b}");
        // The third block alone holds nothing but the end of a payload.
        let torn = recovery.torn;
        assert_eq!(torn.is_some(), !matches!(landed, 0 | 4 | 7), "blocks {landed:03b}: {torn:?}");
    }
}

#[test]
fn misdirected_lost_and_repeated_writes_are_seen() {
    let disk = five(true);
    let name = segment(0);
    let bytes = disk.bytes(&name).unwrap();
    let block = |n: usize| n * BLOCK..(n + 1) * BLOCK;
    let check = |what: &str, change: &dyn Fn(&mut Vec<u8>), expected: Result<Lsn, (Lsn, &str)>| {
        let mut bad = bytes.clone();
        change(&mut bad);
        disk.put(&name, bad);
        match (try_open(&disk), expected) {
            (Ok(tip), Ok(expected)) => assert_eq!(tip, expected, "{what}"),
            (Err(error), Err((lsn, words))) => {
                assert_eq!(where_damaged(&error).lsn, lsn, "{what}");
                assert!(error.to_string().contains(words), "{what}: {error}");
            }
            (got, expected) => panic!("{what}: {got:?}, expected {expected:?}"),
        }
    };
    check(
        "record 1 written over record 2",
        &|b| b.copy_within(block(1), 2 * BLOCK),
        Err((2, "record 1 stands there")),
    );
    check(
        "record 5 written over record 2",
        &|b| b.copy_within(block(5), 2 * BLOCK),
        Err((2, "record 5 stands there")),
    );
    check("a lost write", &|b| b[block(2)].fill(0), Err((2, "nothing is written")));
    check("half a lost write", &|b| b[block(4)].fill(0), Err((4, "payload was altered")));
    check("the last record repeated after the end", &|b| b.copy_within(block(5), 6 * BLOCK), Ok(5));
    check("an old record repeated after the end", &|b| b.copy_within(block(1), 6 * BLOCK), Ok(5));
    let mut zeros = bytes.clone();
    zeros[12288..].fill(0);
    disk.put(&name, zeros);
    let error = try_open(&disk).unwrap_err();
    assert!(
        matches!(error, JournalError::BehindSlot { tip: 3, proven: 5 }),
        "zeros from the middle on: {error}"
    );
}

#[test]
fn an_old_block_that_comes_back_breaks_the_chain() {
    // Two histories that part after record 1: record 2 of the one in the other.
    let disk = SimDisk::new(11);
    let (mut journal, _) = open(&wide(), &disk, 1).0.unwrap();
    fill(&mut journal, &[&[10]]);
    journal.flush().unwrap();
    drop(journal);
    disk.kill();
    let other = disk.copy(12);
    for disk in [&disk, &other] {
        let (mut journal, _) = open(&wide(), disk, 1).0.unwrap();
        fill(&mut journal, &[&[20], &[30], &[40]]);
        journal.flush().unwrap();
        drop(journal);
        disk.kill();
    }
    let name = segment(1);
    let mut mixed = disk.bytes(&name).unwrap();
    mixed[2 * BLOCK..3 * BLOCK].copy_from_slice(&other.bytes(&name).unwrap()[2 * BLOCK..3 * BLOCK]);
    disk.put(&name, mixed);
    let error = try_open(&disk).expect_err("record 3 of another history");
    assert_eq!(where_damaged(&error), RecordPos { lsn: 3, segment: 1, offset: 2 * BLOCK as u64 });
    assert!(error.to_string().contains("does not continue the chain"), "{error}");
}

#[test]
fn a_segment_that_is_missing_or_zeroed_stops_with_the_position() {
    let disk = SimDisk::new(13);
    let config = small("damage");
    let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
    for _ in 0..12 {
        fill(&mut journal, &[&[9000]]);
    }
    journal.flush().unwrap();
    drop(journal);
    disk.kill();
    assert_eq!(try_open(&disk).unwrap(), 12);
    let in_first = (0..).take_while(|n| n * 3 * BLOCK + 4 * BLOCK <= 16 << 10).count() as u64;
    let zeroed = disk.copy(1);
    zeroed.put(&segment(1), vec![0; disk.bytes(&segment(1)).unwrap().len()]);
    assert_eq!(where_damaged(&try_open(&zeroed).unwrap_err()).lsn, in_first + 1);
    // The very first segment: replay cannot begin there.
    let beheaded = disk.copy(2);
    beheaded.put(&segment(0), Vec::new());
    let error = try_open(&beheaded).unwrap_err();
    assert!(matches!(error, JournalError::Gone { from: 1, .. }), "{error}");
    let mut headless = disk.bytes(&segment(0)).unwrap();
    headless[20] ^= 1;
    beheaded.put(&segment(0), headless);
    assert_eq!(where_damaged(&try_open(&beheaded).unwrap_err()), RecordPos { lsn: 1, segment: 0, offset: 0 });
    // A later one still serves whoever begins later.
    let (opened, records) = open(&config, &beheaded, 12);
    opened.unwrap();
    assert_eq!(records.len(), 1);
}

#[test]
fn everything_zeroed_is_a_new_journal_only_if_the_slot_agrees() {
    let disk = five(true);
    disk.put(&segment(0), vec![0; 16 << 10]);
    let error = try_open(&disk).unwrap_err();
    assert!(matches!(error, JournalError::BehindSlot { tip: 0, proven: 5 }), "{error}");
    let unused = SimDisk::new(1);
    unused.put(&segment(0), vec![0; 16 << 10]);
    assert_eq!(try_open(&unused).unwrap(), 0);
    // Records without any header: not new.
    let headless = five(true);
    let mut bytes = headless.bytes(&segment(0)).unwrap();
    bytes[..BLOCK].fill(0);
    headless.put(&segment(0), bytes);
    headless.put(SLOT, Vec::new());
    assert_eq!(where_damaged(&try_open(&headless).unwrap_err()), RecordPos { lsn: 1, segment: 0, offset: 0 });
}

#[test]
fn a_journal_older_than_its_slot_is_refused() {
    let disk = SimDisk::new(14);
    let config = small("damage");
    let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
    fill(&mut journal, &[&[10], &[10]]);
    journal.flush().unwrap();
    let backup = disk.bytes(&segment(0)).unwrap();
    fill(&mut journal, &[&[10]]);
    journal.flush().unwrap();
    drop(journal);
    disk.kill();
    disk.put(&segment(0), backup);
    let error = try_open(&disk).unwrap_err();
    assert!(matches!(error, JournalError::BehindSlot { tip: 2, proven: 3 }), "{error}");
}

#[test]
fn the_signer_does_not_sign_below_its_mark() {
    let mark = |height, byte| SignerMark { height, digest: [byte; 32] };
    let disk = five(true);
    let (opened, _) = open(&wide(), &disk, 1);
    let (mut journal, recovery) = opened.unwrap();
    let slot = recovery.slot.unwrap();
    assert_eq!((slot.signed, slot.durable), (mark(5, 5), 5));
    assert!(
        check_signer(mark(4, 4), Some(&slot)).unwrap_err().to_string().contains("mini-block 5 was signed")
    );
    assert!(check_signer(mark(5, 9), Some(&slot)).unwrap_err().to_string().contains("another history"));
    assert!(check_signer(mark(5, 5), None).unwrap_err().to_string().contains("slot is missing"));
    assert_eq!(check_signer(mark(0, 0), None), Ok(()));
    assert_eq!(
        check_signer(mark(6, 1), Some(&slot)),
        Ok(()),
        "the journal may be ahead: its slot page was torn"
    );
    assert!(journal.confirm_tip(mark(4, 4)).is_err());
    journal.confirm_tip(mark(6, 1)).unwrap();
    assert!(journal.append(&[b"x"], Some(mark(6, 2))).is_err(), "nothing at the height of the tip");
    journal.append(&[b"x"], Some(mark(7, 2))).unwrap();
}

#[test]
fn torn_slot_pages_leave_older_ones_and_no_page_at_all_is_refused() {
    let disk = five(true);
    let pages = disk.bytes(SLOT).unwrap();
    let newest = (0..8).max_by_key(|p| pages[p * BLOCK + 48]).unwrap();
    let mut torn = pages.clone();
    torn[newest * BLOCK + 70] ^= 1;
    disk.put(SLOT, torn);
    let (opened, _) = open(&wide(), &disk.copy(1), 1);
    assert_eq!(opened.unwrap().1.slot.unwrap().signed.height, 4, "the page before");
    let mut ruined = pages.clone();
    (0..8).for_each(|p| ruined[p * BLOCK + 70] ^= 1);
    disk.put(SLOT, ruined);
    assert!(matches!(try_open(&disk).unwrap_err(), JournalError::SlotDamaged { .. }));
}

#[test]
fn another_chain_and_a_newer_version_are_refused_by_name() {
    let disk = five(true);
    let mut foreign = wide();
    foreign.identity = [8; 32];
    let error = open(&foreign, &disk.copy(1), 1).0.err().unwrap();
    assert!(matches!(&error, JournalError::ForeignIdentity { .. }), "{error}");
    assert!(Reader::open_on(Arc::new(disk.clone()), None, 1).is_ok(), "tools may read any chain's");

    for file in [segment(0), SLOT.to_owned()] {
        let newer = disk.copy(2);
        let mut bytes = newer.bytes(&file).unwrap();
        let page = if file == SLOT { BLOCK } else { 0 };
        bytes[page + 8] = 2;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes[page..page + 504]);
        bytes[page + 504..page + 512].copy_from_slice(&crc.to_le_bytes());
        newer.put(&file, bytes);
        let error = try_open(&newer).unwrap_err().to_string();
        for part in [file.as_str(), "version 2", "up to 1"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }
    // A segment copied from another chain among our own.
    let mixed = five(true);
    let theirs = SimDisk::new(3);
    let (mut journal, _) = open(&foreign, &theirs, 1).0.unwrap();
    journal.append(&[b"theirs"], None).unwrap();
    journal.flush().unwrap();
    mixed.put(&segment(7), theirs.bytes(&segment(0)).unwrap());
    assert_eq!(try_open(&mixed).unwrap(), 5, "a file under another number is no segment of the chain");
    mixed.put(&segment(0), theirs.bytes(&segment(0)).unwrap());
    assert!(matches!(try_open(&mixed).unwrap_err(), JournalError::ForeignIdentity { .. }));
}

#[test]
fn a_record_that_the_device_cannot_read_stops_with_the_position() {
    let disk = five(true);
    disk.set_faults(Faults { fail_read: Some((segment(0), 12288 + 50)), ..Faults::default() });
    let error = open(&wide(), &disk, 1).0.err().unwrap();
    assert!(matches!(error, JournalError::Unreadable { at: RecordPos { segment: 0, .. }, .. }), "{error}");
    assert_eq!(disk.bytes(&segment(0)).unwrap().len(), 64 << 10, "nothing was cut");
}

#[test]
fn a_snapshot_ahead_of_the_journal_is_refused() {
    let disk = five(true);
    for (from, fine) in [(5, true), (6, true), (7, false), (u64::MAX, false)] {
        let opened = open(&wide(), &disk.copy(from), from).0;
        assert_eq!(opened.is_ok(), fine, "from {from}");
        if let Err(error) = opened {
            assert!(matches!(error, JournalError::Ahead { tip: 5, .. }), "{error}");
        }
    }
    let (opened, _) = open(&wide(), &SimDisk::new(1), 2);
    assert!(matches!(opened.err().unwrap(), JournalError::Ahead { from: 2, tip: 0 }));
}

#[test]
fn payloads_that_look_like_records_are_payloads() {
    // Whoever sends transactions cannot plant evidence: the link is keyed with a salt that is not theirs.
    let disk = five(true);
    let planted = disk.bytes(&segment(0)).unwrap()[5 * BLOCK..6 * BLOCK].to_vec();
    let fresh = SimDisk::new(77);
    let (mut journal, _) = open(&wide(), &fresh, 1).0.unwrap();
    fresh.set_faults(Faults { slow_polls_max: u64::MAX, ..Faults::default() });
    journal.append(&[&vec![0; BLOCK - 208], &planted], None).unwrap();
    journal.poll().unwrap();
    fresh.kill();
    drop(journal);
    let mut bytes = fresh.bytes(&segment(0)).unwrap();
    bytes[BLOCK] ^= 1;
    fresh.put(&segment(0), bytes);
    let (opened, _) = open(&wide(), &fresh, 1);
    assert_eq!(opened.unwrap().1.tip, 0, "a torn tail, whatever its payload says");
}
