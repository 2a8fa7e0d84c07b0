//! Trie files: round trips, and every kind of damage.

mod common;

use alloy_primitives::{Address, U256, keccak256};
use common::*;
use ironlane_trie::{EMPTY_ROOT, Trie, TrieConfig, TrieError};
use ironlane_types::{AccountDelta, AccountInfo, StateDelta};

fn address(n: u64) -> Address {
    Address::from_slice(&keccak256(n.to_le_bytes())[..20])
}

fn contract(n: u64, slots: u64) -> AccountDelta {
    AccountDelta {
        address: address(n),
        info: Some(AccountInfo {
            nonce: 1,
            balance: U256::from(n),
            code_hash: keccak256((n % 3).to_le_bytes()),
        }),
        storage_wiped: false,
        slots: (0..slots).map(|s| (U256::from(s), U256::from(s * n + 1))).collect(),
    }
}

fn delta(accounts: Vec<AccountDelta>) -> StateDelta {
    StateDelta { accounts, codes: vec![] }
}

/// A trie with all that a file can hold: contracts, wide balances, free blocks and records, and wiped storage that is
/// not yet freed.
fn varied(accounts: u64, wiped_slots: u64) -> (Trie, Model) {
    let mut trie = small_trie();
    let mut model = Model::default();
    let mut step = |accounts: Vec<AccountDelta>| {
        let delta = delta(accounts);
        trie.apply(&delta);
        model.apply(&delta);
        assert_eq!(trie.root(), model.root());
    };
    step((0..accounts).map(|n| put(address(n), info(n, U256::from(n) << 64))).collect());
    step((0..accounts / 4).map(|n| contract(n * 3, n % 7)).collect());
    step(vec![
        contract(1, wiped_slots),
        put(address(2), info(0, U256::MAX)),
        put(address(5), info(0, U256::MAX >> 120)),
    ]);
    step(
        (0..accounts / 5)
            .map(|n| AccountDelta { info: None, ..put(address(n * 5 + 3), info(0, U256::ZERO)) })
            .collect(),
    );
    step(vec![AccountDelta { storage_wiped: true, ..contract(1, 2) }]);
    (trie, model)
}

fn file_of(trie: &Trie) -> Vec<u8> {
    let mut file = Vec::new();
    trie.write_to(&mut file).unwrap();
    assert_eq!(file.len() as u64, trie.file_bytes());
    file
}

/// Uses a trie in every way, whatever its hashes are.
fn exercise(trie: &mut Trie, accounts: u64) {
    for n in 0..accounts {
        std::hint::black_box(trie.prove(&address(n), &[U256::from(1), U256::from(99)]));
    }
    trie.apply(&delta((0..accounts).step_by(2).map(|n| contract(n, 3)).collect()));
    trie.root();
    trie.apply(&delta((0..accounts).map(|n| AccountDelta { info: None, ..contract(n, 0) }).collect()));
    assert_eq!(trie.root(), EMPTY_ROOT);
    for _ in 0..4 {
        trie.root();
    }
    let memory = trie.memory();
    assert_eq!((memory.accounts, memory.slots, memory.node_bytes), (0, 0, 8));
}

#[test]
fn a_trie_written_and_opened_goes_on_as_before() {
    for (accounts, wiped_slots) in [(0, 0), (1, 0), (2, 3), (60, 10), (2000, 50_000)] {
        let (mut trie, mut model) = varied(accounts, wiped_slots);
        let file = file_of(&trie);
        let mut opened = Trie::open(small_config(), &file).unwrap();
        assert_eq!(opened.last_root(), trie.last_root());
        opened.verify().unwrap();
        let (was, is) = (trie.memory(), opened.memory());
        assert_eq!((was.accounts, was.slots, was.storage_tries), (is.accounts, is.slots, is.storage_tries));
        assert_eq!(
            (was.node_bytes, was.leaf_bytes, was.free_bytes),
            (is.node_bytes, is.leaf_bytes, is.free_bytes)
        );
        for n in (0..accounts).take(40) {
            model.check_proof(&opened, trie.last_root(), &address(n), &[U256::ZERO, U256::from(1)]);
        }
        assert_eq!(file_of(&opened).len(), file.len());
        for step in 0..4u64 {
            let delta =
                delta((0..accounts + 20).filter(|n| n % 4 == step).map(|n| contract(n, step * 2)).collect());
            trie.apply(&delta);
            opened.apply(&delta);
            model.apply(&delta);
            assert_eq!(trie.root(), model.root());
            assert_eq!(opened.root(), model.root());
        }
        opened.verify().unwrap();
        exercise(&mut opened, accounts + 20);
    }
}

#[test]
fn what_is_queued_is_not_written() {
    let (mut trie, _) = varied(20, 5);
    let root = trie.last_root();
    trie.apply(&delta(vec![contract(3, 3)]));
    assert_eq!(Trie::open(small_config(), &file_of(&trie)).unwrap().last_root(), root);
}

#[test]
fn a_file_cut_or_extended_is_refused_at_every_length() {
    let (trie, _) = varied(8, 3);
    let file = file_of(&trie);
    for len in 0..file.len() {
        let error = Trie::open(small_config(), &file[..len]).unwrap_err();
        assert!(
            matches!(error, TrieError::NotATrieFile { .. } | TrieError::WrongLength { .. }),
            "cut to {len}: {error}"
        );
    }
    let mut longer = file;
    longer.push(0);
    assert!(matches!(Trie::open(small_config(), &longer), Err(TrieError::WrongLength { .. })));
}

#[test]
fn other_files_and_newer_versions_are_named() {
    let (trie, _) = varied(8, 3);
    let file = file_of(&trie);
    let mut other = file.clone();
    other[0] ^= 1;
    assert!(matches!(Trie::open(small_config(), &other), Err(TrieError::NotATrieFile { .. })));
    let mut newer = file.clone();
    newer[8] = 9;
    assert!(matches!(
        Trie::open(small_config(), &newer),
        Err(TrieError::NewerVersion { found: 9, supported: 1 })
    ));
    let tiny = TrieConfig { leaves_max: 2, ..small_config() };
    assert!(matches!(Trie::open(tiny, &file), Err(TrieError::TooLarge { what: "leaves", .. })));
}

/// What a checksum cannot see: bytes as they were written, of another state.
#[test]
fn a_wrong_root_is_caught() {
    let (trie, _) = varied(30, 3);
    let mut file = file_of(&trie);
    file[16] ^= 1;
    assert!(matches!(Trie::open(small_config(), &file), Err(TrieError::WrongRoot { .. })));
    // A changed balance leaves the root node as it is; hashing everything finds it.
    let mut file = file_of(&trie);
    let key = keccak256(address(4));
    let leaf = file.windows(32).position(|w| w == key.as_slice()).unwrap();
    file[leaf + 32] ^= 1;
    let opened = Trie::open(small_config(), &file).unwrap();
    assert!(matches!(opened.verify(), Err(TrieError::Damaged { .. })), "{:?}", opened.verify());
}

/// Any one bit of a small file: it is refused, or what was opened can be used without a panic, and unless the bit is one
/// that nothing reads, `verify` sees it.
#[test]
fn every_single_bit_flip_is_refused_or_harmless() {
    let accounts = 9;
    let (trie, _) = varied(accounts, 4);
    let file = file_of(&trie);
    let (mut refused, mut seen, mut unread) = (0, 0, 0);
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Ok(mut opened) = Trie::open(small_config(), &damaged) else {
            refused += 1;
            continue;
        };
        let verdict = opened.verify();
        match &verdict {
            Err(_) => seen += 1,
            Ok(()) => {
                unread += 1;
                assert_eq!(opened.last_root(), trie.last_root());
            }
        }
        if verdict.is_ok() {
            exercise(&mut opened, accounts);
        } else {
            std::hint::black_box(opened.prove(&address(1), &[U256::from(1)]));
            opened.apply(&delta((0..accounts).map(|n| contract(n, 3)).collect()));
            opened.root();
        }
    }
    assert!(refused > 0 && seen > 0, "{refused} refused, {seen} seen by verify, {unread} never read");
    assert!(unread < file.len() * 8 / 2, "{refused} refused, {seen} seen by verify, {unread} never read");
}

#[test]
fn numbers_beyond_all_bounds_are_refused_without_allocating_for_them() {
    let (trie, _) = varied(8, 3);
    let file = file_of(&trie);
    for field in (48..112).step_by(4) {
        for value in [u32::MAX, 1 << 31, 1 << 30, 0] {
            let mut damaged = file.clone();
            damaged[field..field + 4].copy_from_slice(&value.to_le_bytes());
            if damaged != file {
                let opened = Trie::open(small_config(), &damaged);
                assert!(opened.is_err(), "field at {field} set to {value}");
            }
        }
    }
}
