//! Snapshots of a store: what goes in comes out, while the writer goes on.

use crate::common::{Model, Rng, address, code, one, plain, small};
use alloy_primitives::{Address, B256, U256};
use ironlane_state::{
    ChainIdentity, SnapshotDir, State, StateConfig, StateWriter, open_empty, open_snapshot,
};
use ironlane_types::{AccountDelta, StateDelta};
use std::{path::Path, thread, time::Duration};

pub(crate) const CHAIN: ChainIdentity = ChainIdentity { chain_id: 31337, genesis_hash: B256::repeat_byte(7) };

pub(crate) fn folder(path: &Path) -> SnapshotDir {
    SnapshotDir::open(path, CHAIN).expect("open the folder")
}

/// Takes a snapshot of the newest version, with a file of another room in it.
pub(crate) fn take(state: &State, dir: &SnapshotDir, height: u64) {
    let pinned = state.view().pin().expect("newest");
    let mut snapshot = dir.create(height).expect("create");
    pinned.write_snapshot(&mut snapshot).expect("write");
    snapshot.add_file("trie", |out| out.write_all(&height.to_le_bytes())).expect("write");
    snapshot.finish(format!("head {height}").as_bytes()).expect("finish");
}

/// A random delta over a few accounts with everything in it: wide balances, wipes, deletions, code.
pub(crate) fn random_delta(rng: &mut Rng, accounts: u64) -> StateDelta {
    let mut delta = StateDelta::default();
    for _ in 0..20 {
        let n = rng.below(accounts);
        let balance = match rng.below(4) {
            0 => U256::from_limbs([rng.next(), rng.next(), rng.next(), rng.next()]),
            1 => U256::from(u128::MAX) + U256::from(rng.below(2)),
            _ => U256::from(rng.next()),
        };
        let mut account = plain(n, rng.next(), balance);
        account.storage_wiped = rng.below(10) == 0;
        if rng.below(12) == 0 {
            account.info = None;
        } else {
            for _ in 0..rng.below(4) {
                let (key, value) = (U256::from(rng.below(8)), U256::from(rng.below(3)) << rng.below(250));
                if account.slots.iter().all(|(k, _)| *k != key) {
                    account.slots.push((key, value));
                }
            }
            if rng.below(5) == 0 {
                let (hash, bytes) = code(rng.below(40) as u8 + 1);
                account.info.as_mut().expect("some").code_hash = hash;
                delta.codes.push((hash, bytes));
            }
        }
        delta.accounts.push(account);
    }
    delta
}

pub(crate) fn filled(seed: u64, config: StateConfig) -> (State, StateWriter, Model, Rng) {
    let (state, mut writer) = open_empty(config).expect("open");
    let (mut rng, mut model) = (Rng(seed), Model::new());
    for _ in 0..60 {
        let delta = random_delta(&mut rng, 300);
        writer.apply(&delta).expect("apply");
        model.apply(&delta);
        writer.seal();
    }
    (state, writer, model, rng)
}

#[test]
fn a_reopened_store_holds_the_same_and_goes_on() {
    for (in_place, rebuild) in [(true, false), (false, false), (true, true), (false, true)] {
        let temp = tempfile::tempdir().expect("temporary folder");
        let dir = folder(temp.path());
        let (state, _writer, mut model, mut rng) = filled(3, small());
        take(&state, &dir, 60);
        let snapshot = dir.open_newest().expect("valid").expect("there");
        assert_eq!((snapshot.height(), snapshot.metadata()), (60, &b"head 60"[..]));
        assert_eq!(&*snapshot.file("trie").expect("there"), &60u64.to_le_bytes());
        assert!(snapshot.file("nothing").is_err());

        let config = StateConfig { snapshot_in_place: in_place, rebuild_index: rebuild, ..small() };
        let (reopened, mut writer) = open_snapshot(config, &snapshot).expect("open");
        assert_eq!(reopened.sealed_version(), state.sealed_version());
        assert_eq!(Model::of(&reopened.view()).expect("held"), model);
        assert!(reopened.view_at(reopened.view().version() - 1).is_err(), "nothing older is in it");
        assert_eq!(reopened.view().account(&address(1 << 50)), Ok(None));
        for n in 1..=40 {
            assert_eq!(reopened.view().code(&code(n).0), state.view().code(&code(n).0), "code {n}");
        }
        // The first snapshot's rows are now overwritten privately, and the indexes grow out of the file.
        let first = model.clone();
        let first_version = reopened.view().version();
        for round in 0..40 {
            let delta = random_delta(&mut rng, 300 + round * 1000);
            writer.apply(&delta).expect("apply");
            model.apply(&delta);
            writer.seal();
        }
        assert!(reopened.stats().growths > 0);
        assert_eq!(Model::of(&reopened.view()).expect("held"), model);
        assert_eq!(Model::of(&reopened.view_at(first_version).expect("held")).expect("held"), first);
        // A snapshot of a store that came from a snapshot; the older one is untouched by the writes.
        take(&reopened, &dir, 100);
        let again = dir.open_newest().expect("valid").expect("there");
        let (reopened, _) = open_snapshot(small(), &again).expect("open");
        assert_eq!(Model::of(&reopened.view()).expect("held"), model);
        let old = dir.open_newest_at_most(99).expect("valid").expect("there");
        let (reopened, _) = open_snapshot(small(), &old).expect("open");
        assert_eq!(Model::of(&reopened.view()).expect("held"), first);
    }
}

#[test]
fn an_empty_store_can_be_snapshotted() {
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = folder(temp.path());
    assert!(dir.open_newest().expect("an empty folder is fine").is_none());
    let (state, mut writer) = open_empty(small()).expect("open");
    assert!(state.view().pin().is_err(), "nothing is sealed");
    writer.seal();
    take(&state, &dir, 0);
    let snapshot = dir.open_newest().expect("valid").expect("there");
    let (state, mut writer) = open_snapshot(small(), &snapshot).expect("open");
    assert_eq!(state.view().accounts().count(), 0);
    for n in 0..1000 {
        writer.apply(&one(plain(n, 1, U256::ONE))).expect("apply");
    }
    assert_eq!(writer.seal(), 1);
    assert_eq!(state.view().accounts().count(), 1000);
}

#[test]
fn a_snapshot_is_of_one_version_while_the_writer_goes_on() {
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = folder(temp.path());
    // A history that the writer overruns many times while the snapshot is written.
    let (state, mut writer, mut model, mut rng) = filled(11, StateConfig { undo_bytes: 2 << 20, ..small() });
    let wide: StateDelta =
        StateDelta { accounts: (1000..60_000).map(|n| plain(n, 1, U256::from(n))).collect(), codes: vec![] };
    writer.apply(&wide).expect("apply");
    model.apply(&wide);
    writer.seal();
    let pinned = state.view().pin().expect("newest");
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut snapshot = dir.create(7).expect("create");
            // The writer gets a head start into the next versions.
            thread::sleep(Duration::from_millis(20));
            pinned.write_snapshot(&mut snapshot).expect("write");
            snapshot.finish(b"").expect("finish");
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut next = 100_000;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            writer.apply(&random_delta(&mut rng, 300)).expect("apply");
            let (changed, new) = (1000 + rng.below(59_000), next);
            writer.apply(&one(plain(changed, 2, U256::ZERO))).expect("apply");
            writer
                .apply(&one(AccountDelta {
                    slots: vec![(U256::ONE, U256::ONE)],
                    ..plain(new, 2, U256::ZERO)
                }))
                .expect("apply");
            next += 1;
            writer.seal();
        }
        assert!(next > 100_010, "the writer was not stopped");
    });
    let snapshot = dir.open_newest().expect("valid").expect("there");
    let (reopened, _) = open_snapshot(small(), &snapshot).expect("open");
    assert_eq!(reopened.view().version(), pinned.version());
    assert_eq!(Model::of(&reopened.view()).expect("held"), model);
}

#[test]
fn a_version_that_expires_under_its_snapshot_is_an_error_and_leaves_nothing() {
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = folder(temp.path());
    let config = StateConfig { undo_bytes: 2 << 20, undo_bytes_max: 2 << 20, ..small() };
    let (state, mut writer) = open_empty(config).expect("open");
    let all = |v: u64| StateDelta {
        accounts: (0..20_000).map(|n| plain(n, v, U256::ZERO)).collect(),
        codes: vec![],
    };
    writer.apply(&all(0)).expect("apply");
    writer.seal();
    let pinned = state.view().pin().expect("newest");
    for v in 1..10 {
        writer.apply(&all(v)).expect("apply");
        writer.seal();
    }
    let mut snapshot = dir.create(0).expect("create");
    let refused = pinned.write_snapshot(&mut snapshot).expect_err("expired");
    assert!(refused.to_string().contains("state version 0 is not held"), "{refused}");
    drop(snapshot);
    assert_eq!(std::fs::read_dir(temp.path()).expect("list").count(), 0);
}

#[test]
fn a_snapshot_leaves_out_what_is_dead() {
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = folder(temp.path());
    let (state, mut writer) = open_empty(small()).expect("open");
    for n in 0..100u64 {
        let slots = (0..10).map(|k| (U256::from(k), U256::ONE)).collect();
        writer.apply(&one(AccountDelta { slots, ..plain(n, 1, U256::ONE) })).expect("apply");
    }
    for n in 0..50u64 {
        let gone = AccountDelta { address: address(n), info: None, storage_wiped: true, slots: vec![] };
        writer.apply(&one(gone)).expect("apply");
    }
    let zeroed = AccountDelta { slots: vec![(U256::ZERO, U256::ZERO)], ..plain(99, 1, U256::ONE) };
    writer.apply(&one(zeroed)).expect("apply");
    writer.seal();
    assert_eq!((state.stats().accounts, state.stats().slots), (100, 1000));
    take(&state, &dir, 1);
    let snapshot = dir.open_newest().expect("valid").expect("there");
    let (state, _) = open_snapshot(small(), &snapshot).expect("open");
    assert_eq!((state.stats().accounts, state.stats().slots), (50, 499));
}

#[test]
fn prune_keeps_the_newest_and_clears_what_was_left_unfinished() {
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = folder(temp.path());
    let (state, _writer, model, _) = filled(5, small());
    for height in [10, 20, 30] {
        take(&state, &dir, height);
    }
    let first = dir.open_newest_at_most(10).expect("valid").expect("there");
    let (mapped, _w) = open_snapshot(small(), &first).expect("open");
    std::fs::create_dir(temp.path().join("00000000000000000040.tmp")).expect("make");
    std::fs::write(temp.path().join("notes.txt"), "not ours").expect("write");
    assert_eq!(dir.heights().expect("list"), [10, 20, 30]);
    assert!(matches!(dir.create(30), Err(ironlane_state::SnapshotError::Exists(30))));
    assert_eq!(dir.prune(2).expect("prune"), [10]);
    assert_eq!(dir.heights().expect("list"), [20, 30]);
    assert_eq!(std::fs::read_dir(temp.path()).expect("list").count(), 3, "two snapshots and a foreign file");
    // A store that maps a removed snapshot goes on.
    assert_eq!(Model::of(&mapped.view()).expect("held"), model);
}

#[test]
fn addresses_and_code_of_other_rooms_are_not_mixed_up() {
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = folder(temp.path());
    let mut snapshot = dir.create(1).expect("create");
    for bad in ["manifest", "../x", "", "A", &"a".repeat(65)] {
        assert!(snapshot.add_file(bad, |_| Ok(())).is_err(), "{bad}");
    }
    snapshot.add_file("empty", |_| Ok(())).expect("write");
    assert!(snapshot.add_file("empty", |_| Ok(())).is_err(), "twice");
    assert!(snapshot.finish(&vec![0; (1 << 20) + 1]).is_err(), "metadata has a limit");
    assert_eq!(dir.heights().expect("list"), Vec::<u64>::new());
    let mut snapshot = dir.create(1).expect("create");
    snapshot.add_file("empty", |_| Ok(())).expect("write");
    snapshot.finish(&vec![1; 1 << 20]).expect("finish");
    let reader = dir.open_newest().expect("valid").expect("there");
    assert_eq!(reader.file("empty").expect("there").len(), 0);
    assert_eq!(reader.metadata().len(), 1 << 20);
    let refused = open_snapshot(small(), &reader).expect_err("no state in it");
    assert!(refused.to_string().contains("state-head.rkyv"), "{refused}");
    let _: Address = address(0);
}
