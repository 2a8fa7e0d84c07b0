//! Damaged, forged, foreign and unfinished snapshots: the previous one is used, or a sentence says why none is.

use crate::{
    common::{Model, small},
    snapshot::{CHAIN, filled, folder, random_delta, take},
};
use alloy_primitives::B256;
use ironlane_state::{
    ChainIdentity, SNAPSHOT_FORMAT, SnapshotDir, SnapshotError, StateConfig, StateError, open_snapshot,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

struct Two {
    temp: TempDir,
    dir: SnapshotDir,
    /// State at height 1 and at height 2.
    models: [Model; 2],
}

/// A folder with snapshots 1 and 2.
fn two() -> Two {
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = folder(temp.path());
    let (state, mut writer, mut model, mut rng) = filled(21, small());
    take(&state, &dir, 1);
    let first = model.clone();
    let delta = random_delta(&mut rng, 300);
    writer.apply(&delta).expect("apply");
    model.apply(&delta);
    writer.seal();
    take(&state, &dir, 2);
    Two { temp, dir, models: [first, model] }
}

impl Two {
    fn path(&self, height: u64) -> PathBuf {
        self.temp.path().join(format!("{height:020}"))
    }

    fn files(&self, height: u64) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.path(height)).expect("list").map(|e| e.expect("entry").path()).collect();
        files.sort();
        assert_eq!(files.len(), 9, "seven of the state, one more, the manifest");
        files
    }

    /// The newest usable snapshot is `height`, it holds that height's state, and the damage to 2 is told.
    fn falls_back(&self, what: &str) {
        let snapshot = self.dir.open_newest().expect(what).expect(what);
        assert_eq!(snapshot.height(), 1, "{what}");
        assert_eq!(snapshot.passed_over().len(), 1, "{what}");
        assert_eq!(snapshot.passed_over()[0].0, 2, "{what}");
        assert!(!snapshot.passed_over()[0].1.is_empty());
    }
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).expect("write");
}

#[test]
fn flipped_bits_anywhere_fall_back_to_the_previous_snapshot() {
    let two = two();
    for path in two.files(2) {
        let good = fs::read(&path).expect("read");
        let bits = good.len() * 8;
        for bit in (0..bits).step_by((bits / 40).max(1)).chain([bits - 1]) {
            flip(&path, bit);
            two.falls_back(&format!("bit {bit} of {}", path.display()));
            fs::write(&path, &good).expect("restore");
        }
    }
    let snapshot = two.dir.open_newest().expect("valid").expect("there");
    assert_eq!((snapshot.height(), snapshot.passed_over().len()), (2, 0));
    let (state, _) = open_snapshot(small(), &snapshot).expect("open");
    assert_eq!(Model::of(&state.view()).expect("held"), two.models[1]);
}

#[test]
fn cut_grown_and_missing_files_fall_back_to_the_previous_snapshot() {
    let two = two();
    for path in two.files(2) {
        let good = fs::read(&path).expect("read");
        for len in (0..good.len()).step_by((good.len() / 25).max(1)).chain([good.len() - 1]) {
            fs::write(&path, &good[..len]).expect("cut");
            two.falls_back(&format!("{} cut to {len}", path.display()));
        }
        fs::write(&path, [&good[..], &[0]].concat()).expect("grow");
        two.falls_back(&format!("{} with a byte more", path.display()));
        fs::remove_file(&path).expect("remove");
        two.falls_back(&format!("{} removed", path.display()));
        fs::write(&path, &good).expect("restore");
    }
    let snapshot = two.dir.open_newest_at_most(1).expect("valid").expect("there");
    let (state, _) = open_snapshot(small(), &snapshot).expect("open");
    assert_eq!(Model::of(&state.view()).expect("held"), two.models[0]);
}

#[test]
fn a_lost_rename_leaves_the_previous_snapshot() {
    let two = two();
    // The folder's rename did not reach the disk: its files are all there, under the unfinished name.
    let unfinished = two.temp.path().join(format!("{:020}.tmp", 2));
    fs::rename(two.path(2), &unfinished).expect("undo the rename");
    let snapshot = two.dir.open_newest().expect("valid").expect("there");
    assert_eq!((snapshot.height(), snapshot.passed_over().len()), (1, 0), "an unfinished one is no damage");
    // The next snapshot of that height takes its place.
    let (state, _, _, _) = filled(1, small());
    take(&state, &two.dir, 2);
    assert!(!unfinished.exists());
    assert_eq!(two.dir.open_newest().expect("valid").expect("there").height(), 2);
}

#[test]
fn a_folder_without_its_manifest_is_passed_over() {
    let two = two();
    fs::remove_file(two.path(2).join("manifest")).expect("remove");
    two.falls_back("no manifest");
    fs::remove_dir_all(two.path(2)).expect("remove");
    fs::create_dir(two.path(2)).expect("an empty folder");
    two.falls_back("an empty folder");
}

#[test]
fn all_damaged_is_an_error_that_names_each() {
    let two = two();
    for height in [1, 2] {
        flip(&two.path(height).join("state-accounts.rkyv"), 77);
    }
    let refused = two.dir.open_newest().expect_err("none is left");
    assert!(matches!(&refused, SnapshotError::AllDamaged(all) if all.len() == 2));
    let text = refused.to_string();
    assert!(text.contains("2: the checksum of file state-accounts.rkyv"), "{text}");
    assert!(text.contains("rebuild the state from the journal"), "{text}");
}

/// Changes a manifest and makes its checksum right again.
fn forge_manifest(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("read");
    change(&mut bytes);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..16]).update(&bytes[48..]);
    bytes[16..48].copy_from_slice(hasher.finalize().as_bytes());
    fs::write(path, bytes).expect("write");
}

#[test]
fn a_newer_format_is_refused_naming_both_versions() {
    let two = two();
    forge_manifest(&two.path(2).join("manifest"), |m| {
        m[8..12].copy_from_slice(&(SNAPSHOT_FORMAT + 4).to_le_bytes())
    });
    let refused = two.dir.open_newest().expect_err("newer");
    assert!(matches!(refused, SnapshotError::Format { height: 2, found, known } if found == known + 4));
    let text = refused.to_string();
    assert!(text.contains("format version 5") && text.contains("reads version 1"), "{text}");
}

#[test]
fn another_chains_snapshot_is_refused() {
    let two = two();
    for other in [
        ChainIdentity { chain_id: 1, ..CHAIN },
        ChainIdentity { genesis_hash: B256::repeat_byte(8), ..CHAIN },
    ] {
        let refused =
            SnapshotDir::open(two.temp.path(), other).expect("open").open_newest().expect_err("other chain");
        assert!(matches!(refused, SnapshotError::OtherChain { height: 2, .. }), "{refused}");
    }
}

#[test]
fn a_manifest_with_forged_fields_is_damaged_not_believed() {
    let two = two();
    let path = two.path(2).join("manifest");
    let good = fs::read(&path).expect("read");
    // Body: height 48, chain 56, genesis 64, metadata length 96.
    for (what, at, bytes) in [
        ("height", 48, &7u64.to_le_bytes()[..]),
        ("metadata length", 96, &u32::MAX.to_le_bytes()[..]),
        ("metadata length", 96, &5u32.to_le_bytes()[..]),
        ("file count", 106, &u32::MAX.to_le_bytes()[..]),
        ("file count", 106, &64u32.to_le_bytes()[..]),
        ("name length", 110, &[255][..]),
        ("name", 111, &b"../../etc"[..]),
        ("name", 111, &[0xff, 0xfe][..]),
    ] {
        forge_manifest(&path, |m| m[at..at + bytes.len()].copy_from_slice(bytes));
        two.falls_back(what);
        fs::write(&path, &good).expect("restore");
    }
    forge_manifest(&path, |m| {
        m.push(0);
        let len = (m.len() - 48) as u32;
        m[12..16].copy_from_slice(&len.to_le_bytes());
    });
    two.falls_back("a byte behind the last field");
}

/// Rewrites snapshot 2 as 3 with `change` made to one file, all lengths and checksums being right.
fn forged(two: &Two, name: &str, change: impl Fn(&mut Vec<u8>)) -> Result<Model, StateError> {
    let good = two.dir.open_newest_at_most(2).expect("valid").expect("there");
    let mut snapshot = two.dir.create(3).expect("create");
    for path in two.files(2) {
        let file = path.file_name().and_then(|n| n.to_str()).expect("name");
        if file == "manifest" {
            continue;
        }
        let mut bytes = good.file(file).expect("there").to_vec();
        if file == name {
            change(&mut bytes);
        }
        snapshot.add_file(file, |out| out.write_all(&bytes)).expect("write");
    }
    let folder = snapshot.finish(b"").expect("finish");
    let reader = two.dir.open_newest().expect("checksums are right").expect("there");
    assert_eq!(reader.height(), 3);
    let results = [true, false].map(|in_place| {
        let config = StateConfig { snapshot_in_place: in_place, ..small() };
        open_snapshot(config, &reader).map(|(state, _)| Model::of(&state.view()).expect("held"))
    });
    fs::remove_dir_all(folder).expect("remove");
    let [a, b] = results;
    assert_eq!(a.is_ok(), b.is_ok());
    a
}

#[test]
fn forged_contents_with_right_checksums_are_refused() {
    let two = two();
    let refused = |name: &str, what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let error = forged(&two, name, change).map(drop).expect_err(what);
        let text = error.to_string();
        assert!(
            matches!(error, StateError::Snapshot(SnapshotError::Damaged { height: 3, .. })),
            "{what}: {text}"
        );
        assert!(text.contains("state-"), "{what}: {text}");
    };
    let set = |at: usize, bytes: &'static [u8]| {
        move |file: &mut Vec<u8>| file[at..at + bytes.len()].copy_from_slice(bytes)
    };
    assert_eq!(forged(&two, "trie", |_| ()).expect("nothing forged"), two.models[1]);

    let accounts = "state-accounts.rkyv";
    refused(accounts, "sequence lock held for ever", &set(20, &[1]));
    refused(accounts, "a link into history", &set(56, &[0, 0, 1]));
    refused(accounts, "a code that is not there", &set(24, &[0xff, 0xff, 0xff, 0x8f]));
    refused(accounts, "an account that does not exist", &set(27, &[0]));
    refused(accounts, "a storage that is not there", &set(28, &[0xff, 0xff, 0xff, 0x7f]));
    refused(accounts, "a wide cell that is not there", &|f| {
        f[27] = 0xc0;
        f[40..48].fill(0xff);
    });
    for file in [
        accounts,
        "state-slots.rkyv",
        "state-codes.rkyv",
        "state-account-index.rkyv",
        "state-slot-index.rkyv",
        "state-code-bytes.rkyv",
    ] {
        refused(file, "empty", &|f| f.clear());
        refused(file, "root cut", &|f| f.truncate(f.len() - 1));
        refused(file, "misaligned", &|f| f.insert(0, 0));
        refused(file, "a count beyond the file", &|f| {
            let at = f.len() - 8;
            f[at..].copy_from_slice(&u64::MAX.to_le_bytes());
        });
        refused(file, "a pointer before the file", &|f| {
            let at = f.len() - 16;
            f[at..at + 8].copy_from_slice(&i64::MIN.to_le_bytes());
        });
    }
    refused("state-slots.rkyv", "no storage", &set(0, &[0, 0, 0, 0]));
    refused("state-slots.rkyv", "sequence lock held for ever", &set(4, &[1]));
    refused("state-codes.rkyv", "code outside the bytes", &set(32, &[0xff; 7]));
    refused(
        "state-codes.rkyv",
        "length that overflows",
        &set(40, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    );
    refused("state-codes.rkyv", "the same code twice", &|f| f.copy_within(0..32, 48));
    refused("state-account-index.rkyv", "cleared", &|f| {
        let rows = f.len() - 16;
        f[..rows].fill(0);
    });
    refused("state-account-index.rkyv", "a number beyond the records", &|f| {
        let at = f.chunks(8).position(|e| e[..4] != [0; 4]).expect("an entry") * 8;
        f[at..at + 4].copy_from_slice(&[0xff; 4]);
    });
    refused("state-account-index.rkyv", "an entry before its home", &|f| {
        let at = f.chunks(8).position(|e| e[..4] != [0; 4]).expect("an entry") * 8;
        f[at + 4..at + 8].copy_from_slice(&[0xff; 4]);
    });
    refused("state-head.rkyv", "empty", &|f| f.clear());
    for bit in (0..64 * 8).step_by(11) {
        // Whatever a flipped head says, opening ends with an error or with a store that can be read.
        let _ = forged(&two, "state-head.rkyv", |f| {
            let at = f.len().checked_sub(1 + bit / 8).expect("64 bytes at least");
            f[at] ^= 1 << (bit % 8);
        });
    }
}

#[test]
fn a_foreign_snapshots_index_need_not_be_trusted() {
    let two = two();
    let good = two.dir.open_newest().expect("valid").expect("there");
    // An index of the right shape that hides accounts: one entry's hash is changed within its bucket.
    let mut snapshot = two.dir.create(3).expect("create");
    for path in two.files(2) {
        let name = path.file_name().and_then(|n| n.to_str()).expect("name");
        if name == "manifest" {
            continue;
        }
        let mut bytes = good.file(name).expect("there").to_vec();
        if name == "state-account-index.rkyv" {
            bytes.chunks_mut(8).filter(|e| e[..4] != [0; 4]).for_each(|e| e[4] ^= 1);
        }
        snapshot.add_file(name, |out| out.write_all(&bytes)).expect("write");
    }
    snapshot.finish(b"").expect("finish");
    let reader = two.dir.open_newest().expect("checksums are right").expect("there");
    let (state, _) = open_snapshot(StateConfig { rebuild_index: true, ..small() }, &reader).expect("open");
    let model = &two.models[1];
    for (address, info) in &model.accounts {
        assert_eq!(state.view().account(address), Ok(Some(*info)));
    }
    assert_eq!(&Model::of(&state.view()).expect("held"), model);
}
