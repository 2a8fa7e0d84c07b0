//! Random histories on the simulated disk: appends, commits, kills, power cuts, failing and slow writes, full disks. Whatever
//! was reported durable is there afterwards, in order and unchanged; whatever is there was appended.

mod common;

use common::*;
use ironlane_journal::disk::sim::{Faults, SimDisk};
use ironlane_journal::{AppendError, BLOCK, Fault, Keep, Lsn, SignerMark, Space, check_signer};
use std::collections::BTreeMap;

struct Written {
    payload: Vec<u8>,
    mark: Option<SignerMark>,
}

/// The truth beside the journal.
#[derive(Default)]
struct Model {
    /// What was appended last under each number; up to `durable` it never changes again.
    records: BTreeMap<Lsn, Written>,
    durable: Lsn,
    released: Lsn,
}

impl Model {
    fn tip_mark(&self, tip: Lsn) -> SignerMark {
        self.records.range(..=tip).rev().find_map(|(_, w)| w.mark).unwrap_or_default()
    }
}

/// One history; returns how many records became durable in it.
fn history(seed: u64) -> u64 {
    let mut rng = Rng(seed);
    let disk = SimDisk::new(seed);
    let mut config = small("simulated");
    config.commits_in_flight = 1 + rng.below(4) as usize;
    config.prewrite_ahead = 1 + rng.below(2) as usize;
    config.keep = if rng.below(2) == 0 { Keep::All } else { Keep::Newest(rng.below(2) as usize) };
    // Every attempt at a record writes the same bytes again: what is left of an earlier attempt fits then.
    let repeats = rng.below(3) == 0;
    let mut model = Model::default();
    for life in 0..1 + rng.below(12) {
        let mut faults = Faults { slow_polls_max: rng.below(6), ..Faults::default() };
        if rng.below(3) == 0 {
            faults.power_off_after = Some(rng.below(25));
        }
        disk.set_faults(faults.clone());
        let from = if rng.below(2) == 0 { model.released + 1 } else { model.durable + 1 };
        let (opened, replayed) = open(&config, &disk, from);
        let mut next = from;
        for (lsn, payload) in &replayed {
            assert_eq!(*lsn, next, "seed {seed} life {life}: replay has a gap");
            let written =
                model.records.get(lsn).unwrap_or_else(|| panic!("seed {seed}: phantom record {lsn}"));
            assert!(
                *payload == written.payload,
                "seed {seed} life {life}: record {lsn} is not what was appended"
            );
            next += 1;
        }
        let (mut journal, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(faults.power_off_after.is_some(), "seed {seed} life {life}: {error}");
                disk.crash();
                continue;
            }
        };
        assert_eq!(recovery.tip, next - 1, "seed {seed}");
        assert!(
            recovery.tip >= model.durable,
            "seed {seed} life {life}: lost {} of {}",
            recovery.tip,
            model.durable
        );
        model.durable = recovery.tip;
        model.records.split_off(&(recovery.tip + 1));
        let tip_mark = model.tip_mark(recovery.tip);
        let allowed = check_signer(tip_mark, recovery.slot.as_ref());
        assert_eq!(allowed, Ok(()), "seed {seed} life {life}: crashes alone never stop the signer");
        if rng.below(2) == 0 {
            journal.confirm_tip(tip_mark).unwrap();
        }
        let mut height = tip_mark.height;

        match rng.below(6) {
            0 => faults.fail_write = Some((rng.below(20), libc::EIO)),
            1 => faults.short_write = Some(rng.below(20)),
            _ => {}
        }
        faults.power_off_after = faults.power_off_after.filter(|_| rng.below(2) == 0).map(|_| rng.below(40));
        disk.set_faults(faults.clone());
        let mut full = 0;
        for _ in 0..rng.below(200) {
            let outcome = match rng.below(10) {
                0..4 => {
                    let lsn = journal.appended() + 1;
                    let len = match rng.below(4) {
                        // With its header a whole block, so that records of different commits stand at the same places.
                        _ if repeats => BLOCK - 104,
                        0 => rng.below(30) as usize,
                        1 => rng.below(9000) as usize,
                        2 => journal.record_bytes_max() - rng.below(2) as usize,
                        _ => rng.below(600) as usize,
                    };
                    let payload = payload(lsn, if repeats { 0 } else { seed ^ life << 20 }, len);
                    let mark = (rng.below(3) > 0)
                        .then(|| SignerMark { height: height + 1, digest: [rng.next() as u8; 32] });
                    let split = rng.below(len as u64 + 1) as usize;
                    match journal.append(&[&payload[..split], &payload[split..]], mark) {
                        Ok(got) => {
                            assert_eq!(got, lsn);
                            height += u64::from(mark.is_some());
                            model.records.insert(lsn, Written { payload, mark });
                            Ok(())
                        }
                        Err(AppendError::Full) => {
                            full += 1;
                            Ok(())
                        }
                        Err(AppendError::Fault(fault)) => Err(fault),
                        Err(other) => panic!("seed {seed}: {other}"),
                    }
                }
                9 => journal.settle(),
                _ => journal.poll().map(|moved| {
                    if let Some(lsn) = moved {
                        assert!(lsn > model.durable, "seed {seed}");
                        model.durable = lsn;
                    }
                    if rng.below(20) == 0 {
                        // A snapshot covers some of what is durable.
                        model.released = model.released.max(rng.below(model.durable + 1));
                        journal.release(model.released);
                    }
                }),
            };
            if let Err(fault) = outcome {
                assert!(
                    faults.fail_write.is_some()
                        || faults.short_write.is_some()
                        || faults.power_off_after.is_some(),
                    "seed {seed}: {fault}"
                );
                let again = journal.poll().expect_err("a journal that failed stays dead");
                assert_eq!(again, fault, "seed {seed}");
                break;
            }
        }
        assert!(full < 200, "seed {seed}");
        if rng.below(2) == 0 { disk.kill() } else { disk.crash() }
    }
    model.durable
}

#[test]
fn nothing_durable_is_lost_and_nothing_else_appears() {
    let seeds: u64 = std::env::var("IRONLANE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4) as u64;
    let durable: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || (worker..seeds).step_by(threads as usize).map(history).sum::<u64>())
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("a history failed")).sum()
    });
    assert!(durable > seeds * 10, "the histories must do some work: {durable} records in {seeds}");
}

#[test]
fn a_slow_disk_means_back_pressure_not_a_false_durable() {
    let disk = SimDisk::new(1);
    let config = small("simulated");
    let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
    disk.set_faults(Faults { slow_polls_max: u64::MAX, ..Faults::default() });
    journal.append(&[b"first"], None).unwrap();
    for _ in 0..1000 {
        assert_eq!(journal.poll().unwrap(), None, "nothing has completed");
    }
    assert_eq!((journal.in_flight(), journal.durable()), (1, 0));
    let record = vec![1; 3000];
    let refused = (0..10).find_map(|_| journal.append(&[&record], None).err());
    assert_eq!(refused, Some(AppendError::Full));
    let appended = journal.appended();
    assert!(appended > 1);
    disk.crash();
    let (_, records) = open(&config, &disk, 1);
    assert!(records.len() <= 1, "only the first was ever sent to the disk");
}

#[test]
fn a_failed_write_kills_the_journal_for_good() {
    for nth in 0..4 {
        let disk = SimDisk::new(nth);
        let config = small("simulated");
        let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
        disk.set_faults(Faults { fail_write: Some((nth, libc::EIO)), ..Faults::default() });
        let mut newest = 0;
        let fault = loop {
            // The failing call is the only one that fails; all later ones would succeed.
            let lsn = journal.appended() + 1;
            let mark = SignerMark { height: lsn, digest: [1; 32] };
            match journal.append(&[b"x"], Some(mark)).map_err(|e| match e {
                AppendError::Fault(fault) => fault,
                other => panic!("{other}"),
            }) {
                Err(fault) => break fault,
                Ok(_) => match journal.poll() {
                    Ok(moved) => newest = moved.unwrap_or(newest),
                    Err(fault) => break fault,
                },
            }
        };
        assert!(
            matches!(fault, Fault::Write { errno: libc::EIO, durable, .. } if durable == newest),
            "{fault}"
        );
        for _ in 0..10 {
            assert_eq!(journal.poll(), Err(fault.clone()));
            assert_eq!(journal.settle(), Err(fault.clone()));
            assert!(matches!(journal.append(&[b"y"], None), Err(AppendError::Fault(_))));
        }
        assert_eq!(journal.durable(), newest);
    }
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_not_trusted() {
    // The write fails, its bytes look written; a restarted process reads them, may acknowledge them, then the power goes.
    let disk = SimDisk::new(9);
    let config = small("simulated");
    let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
    disk.set_faults(Faults { fail_write: Some((0, libc::EIO)), ..Faults::default() });
    journal.append(&[b"seen but not stable"], None).unwrap();
    while journal.poll().is_ok() {}
    drop(journal);
    disk.kill();
    disk.set_faults(Faults::default());
    let (opened, records) = open(&config, &disk, 1);
    let (journal, recovery) = opened.unwrap();
    assert_eq!((recovery.tip, recovery.rewritten), (1, 1));
    drop(journal);
    disk.crash();
    let (opened, again) = open(&config, &disk, 1);
    opened.unwrap();
    assert_eq!(again, records);
}

#[test]
fn a_short_write_is_finished_or_stops_the_journal() {
    let disk = SimDisk::new(2);
    let config = small("simulated");
    let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
    disk.set_faults(Faults { short_write: Some(0), ..Faults::default() });
    journal.append(&[&[5; 9000]], None).unwrap();
    drain(&mut journal);
    disk.crash();
    let (opened, records) = open(&config, &disk, 1);
    let (mut journal, _) = opened.unwrap();
    assert_eq!(records, [(1, vec![5; 9000])], "three blocks, finished after one");
    disk.set_faults(Faults { short_write: Some(0), ..Faults::default() });
    journal.append(&[b"one block"], None).unwrap();
    let fault = loop {
        if let Err(fault) = journal.poll() {
            break fault;
        }
    };
    assert!(matches!(fault, Fault::ShortWrite { wanted: 4096, wrote: 2048, durable: 1, .. }), "{fault}");
}

#[test]
fn a_full_disk_is_told_before_anything_is_signed_and_forgiven_when_there_is_space() {
    let disk = SimDisk::new(3);
    let config = small("simulated");
    disk.set_faults(Faults { capacity: Some(60 << 10), ..Faults::default() });
    let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
    assert_eq!(journal.space(), Space::Ok);
    journal.poll().unwrap();
    assert!(matches!(journal.space(), Space::Low { bytes_left: 12288, .. }), "{:?}", journal.space());
    let mut durable = 0;
    for _ in 0..20 {
        let _ = journal.append(&[&[1; 3000]], None);
        durable = journal.poll().unwrap().unwrap_or(durable);
    }
    assert!(matches!(journal.space(), Space::None { .. }), "{:?}", journal.space());
    assert!(durable >= 1 && durable < journal.appended());
    let waiting = journal.appended();
    disk.set_faults(Faults::default());
    drain(&mut journal);
    assert_eq!((journal.durable(), journal.space()), (waiting, Space::Ok), "everything taken became durable");
    drop(journal);
    disk.crash();
    let (opened, records) = open(&config, &disk, 1);
    assert_eq!((opened.unwrap().1.tip, records.len() as u64), (waiting, waiting));
}

#[test]
fn records_that_cannot_be_taken_change_nothing() {
    let disk = SimDisk::new(4);
    let (mut journal, _) = open(&small("simulated"), &disk, 1).0.unwrap();
    let max = journal.record_bytes_max();
    let mark = |height| Some(SignerMark { height, digest: [0; 32] });
    assert_eq!(
        journal.append(&[&vec![0; max + 1]], None),
        Err(AppendError::TooLarge { bytes: max + 1, max })
    );
    assert_eq!(journal.append(&[b"a"], mark(5)), Ok(1));
    for height in [0, 4, 5] {
        let refused = journal.append(&[b"b"], mark(height));
        assert_eq!(refused, Err(AppendError::MarkNotAbove { height, newest: 5 }));
    }
    drain(&mut journal);
    assert_eq!(journal.append(&[b"b"], mark(5)), Err(AppendError::MarkNotAbove { height: 5, newest: 5 }));
    assert_eq!(journal.append(&[], None), Ok(2), "an empty record is a record");
    assert_eq!(journal.append(&[&vec![0; max]], None), Err(AppendError::Full));
    drain(&mut journal);
    assert_eq!(journal.append(&[&vec![0; max]], None), Ok(3));
}

#[test]
fn what_an_interrupted_recovery_left_behind_does_not_come_back() {
    // Three records of a block each are seen after a kill; recovery copies them and is interrupted before the copy counts;
    // then the power cut takes two of the originals. The next recovery writes over the copy's first block only.
    let config = small("simulated");
    let segment = |n: u64| format!("journal-{n:016x}.seg");
    let record = |lsn| payload(lsn, 0, BLOCK - 104);
    let mut copies = 0;
    for changes in 0..12 {
        let disk = SimDisk::new(changes);
        let (mut journal, _) = open(&config, &disk, 1).0.unwrap();
        for lsn in 1..=3 {
            journal.append(&[&record(lsn)], None).unwrap();
        }
        journal.poll().unwrap();
        drop(journal);
        disk.kill();
        disk.set_faults(Faults { power_off_after: Some(changes), ..Faults::default() });
        if open(&config, &disk, 1).0.is_ok() {
            break;
        }
        let left = disk.bytes(&segment(1)).unwrap_or_default();
        if left.starts_with(b"IRONJRNL") {
            continue; // The copy counts.
        }
        copies += u64::from(left.get(BLOCK..2 * BLOCK).is_some_and(|copy| copy.starts_with(b"IrJr")));
        let mut original = disk.bytes(&segment(0)).unwrap();
        original[2 * BLOCK..].fill(0);
        disk.crash();
        disk.put(&segment(0), original);
        if !left.is_empty() {
            disk.put(&segment(1), left);
        }
        let (opened, records) = open(&config, &disk, 1);
        opened.unwrap();
        assert_eq!(records, [(1, record(1))]);
        disk.crash();
        let (opened, records) = open(&config, &disk, 1);
        let (mut journal, _) = opened.unwrap();
        assert_eq!(records, [(1, record(1))], "after {changes} changes");
        assert_eq!(journal.append(&[b"another second record"], None), Ok(2));
        drain(&mut journal);
        drop(journal);
        disk.crash();
        let (_, records) = open(&config, &disk, 1);
        assert_eq!(records, [(1, record(1)), (2, b"another second record".to_vec())]);
    }
    assert!(copies > 0, "one of the interruptions must fall between the copy and its header");
}
