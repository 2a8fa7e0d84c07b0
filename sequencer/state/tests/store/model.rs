//! Random histories against ordered maps: every version held reads as the maps did then, every other is refused.

use crate::common::{Model, Rng, address, code, one, plain, small};
use alloy_primitives::{Address, U256};
use ironlane_state::{StateConfig, open_empty};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ACCOUNTS: u64 = 12;
const KEYS: u64 = 6;

fn balance() -> impl Strategy<Value = U256> {
    prop_oneof![
        3 => any::<u64>().prop_map(U256::from),
        1 => any::<u128>().prop_map(U256::from),
        1 => any::<[u64; 4]>().prop_map(U256::from_limbs),
        1 => Just(U256::MAX),
        1 => Just(U256::from(u128::MAX)),
        1 => Just(U256::from(u128::MAX) + U256::ONE),
    ]
}

fn slots() -> impl Strategy<Value = Vec<(U256, U256)>> {
    let value = prop_oneof![Just(U256::ZERO), any::<[u64; 4]>().prop_map(U256::from_limbs)];
    prop::collection::btree_map(0..KEYS, value, 0..4)
        .prop_map(|m: BTreeMap<u64, U256>| m.into_iter().map(|(k, v)| (U256::from(k) << 200, v)).collect())
}

fn account_delta() -> impl Strategy<Value = AccountDelta> {
    let info = (any::<u64>(), balance(), 0u8..4).prop_map(|(nonce, balance, c)| {
        let code_hash = if c == 0 { KECCAK_EMPTY } else { code(c).0 };
        AccountInfo { nonce, balance, code_hash }
    });
    (0..ACCOUNTS, prop::option::weighted(0.85, info), prop::bool::weighted(0.15), slots()).prop_map(
        |(n, info, storage_wiped, slots)| AccountDelta { address: address(n), info, storage_wiped, slots },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Apply(StateDelta),
    Seal,
}

fn step() -> impl Strategy<Value = Step> {
    let delta = (prop::collection::vec(account_delta(), 1..5), prop::collection::vec(1u8..4, 0..2))
        .prop_map(|(accounts, codes)| StateDelta { accounts, codes: codes.into_iter().map(code).collect() });
    prop_oneof![2 => delta.prop_map(Step::Apply), 1 => Just(Step::Seal)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_version_reads_as_the_maps_did(first in 0u64..1000, steps in prop::collection::vec(step(), 1..60)) {
        let (state, mut writer) = open_empty(StateConfig { first_version: first, ..small() }).expect("open");
        let addresses: Vec<Address> = (0..ACCOUNTS + 1).map(address).collect();
        let keys: Vec<U256> = (0..KEYS).map(|k| U256::from(k) << 200).collect();
        let mut now = Model::new();
        let mut versions: BTreeMap<u64, Model> = BTreeMap::new();
        prop_assert!(state.view().account(&addresses[0]).is_err(), "nothing is sealed yet");
        for step in steps {
            match step {
                Step::Apply(delta) => {
                    writer.apply(&delta).expect("apply");
                    now.apply(&delta);
                    for (hash, bytes) in &delta.codes {
                        prop_assert_eq!(writer.code(hash), Some(bytes.clone()));
                    }
                }
                Step::Seal => {
                    prop_assert_eq!(writer.version(), first + versions.len() as u64);
                    let version = writer.seal();
                    prop_assert_eq!(version, first + versions.len() as u64);
                    prop_assert_eq!(state.sealed_version(), Some(version));
                    prop_assert_eq!(state.view().version(), version);
                    versions.insert(version, now.clone());
                }
            }
            let mut batch = vec![None; addresses.len()];
            writer.accounts_batch(&addresses, &mut batch);
            for (address, batched) in addresses.iter().zip(batch) {
                let expected = now.accounts.get(address).copied();
                prop_assert_eq!(writer.account(address), expected);
                prop_assert_eq!(batched, expected);
                prop_assert_eq!(state.newest_account(address), expected);
                for key in &keys {
                    let expected = now.slots.get(&(*address, *key)).copied().unwrap_or_default();
                    prop_assert_eq!(writer.storage(address, *key), expected);
                    prop_assert!(expected.is_zero() || writer.may_have_storage(address));
                }
            }
        }
        for (version, model) in &versions {
            let view = state.view_at(*version).expect("held");
            model.check(&view, &addresses, &keys).expect("held");
            prop_assert_eq!(&Model::of(&view).expect("held"), model);
        }
        prop_assert!(state.view_at(first + versions.len() as u64).is_err(), "not sealed");
        prop_assert!(first == 0 || state.view_at(first - 1).is_err(), "before the first");
    }
}

#[test]
fn old_versions_expire_and_are_never_mixed() {
    let config = StateConfig { undo_bytes: 2 << 20, undo_bytes_max: 8 << 20, ..small() };
    let (state, mut writer) = open_empty(config).expect("open");
    for n in 0..5000 {
        writer.apply(&one(plain(n, 0, U256::ZERO))).expect("apply");
    }
    writer.seal();
    let mut rng = Rng(7);
    let mut written: BTreeMap<u64, Vec<u64>> = (0..5000).map(|n| (n, vec![0])).collect();
    let early = state.view();
    for version in 1..200u64 {
        for _ in 0..1000 {
            let n = rng.below(5000);
            writer.apply(&one(plain(n, version, U256::from(version)))).expect("apply");
            written.entry(n).or_default().push(version);
        }
        assert_eq!(writer.seal(), version);
    }
    assert!(state.oldest_version() > 100, "{}", state.oldest_version());
    assert!(state.stats().undo_bytes <= 2 << 20);
    // A view taken before reads either its own version or `Expired`.
    assert!(early.account(&address(1)).is_err());
    assert!(early.accounts().any(|item| item.is_err()));
    let refused = state.view_at(3).expect_err("expired");
    assert_eq!((refused.asked, refused.oldest, refused.newest), (3, state.oldest_version(), 199));
    assert!(refused.to_string().contains("versions"), "{refused}");
    for version in state.oldest_version()..200 {
        let view = state.view_at(version).expect("held");
        for n in (0..5000).step_by(37) {
            let expected = written[&n].iter().rev().find(|v| **v <= version);
            let account = view.account(&address(n)).expect("held").expect("exists");
            assert_eq!(Some(&account.nonce), expected, "account {n} at {version}");
        }
    }
}

#[test]
fn a_pinned_version_outlives_the_budget() {
    let config = StateConfig { undo_bytes: 2 << 20, undo_bytes_max: 32 << 20, ..small() };
    let (state, mut writer) = open_empty(config).expect("open");
    let all = |value: u64| StateDelta {
        accounts: (0..5000).map(|n| plain(n, value, U256::from(n))).collect(),
        codes: vec![],
    };
    writer.apply(&all(0)).expect("apply");
    writer.seal();
    let pinned = state.view().pin().expect("newest");
    for version in 1..60 {
        writer.apply(&all(version)).expect("apply");
        writer.seal();
    }
    assert_eq!(pinned.accounts().filter(|a| a.as_ref().is_ok_and(|(_, info)| info.nonce == 0)).count(), 5000);
    drop(pinned);
    for version in 60..80 {
        writer.apply(&all(version)).expect("apply");
        writer.seal();
    }
    assert!(state.view_at(0).is_err());
    assert!(state.stats().undo_bytes <= 2 << 20, "{}", state.stats().undo_bytes);
    assert!(state.view_at(0).map(|v| v.pin().is_ok()).is_err());
}

#[test]
fn wiped_storage_stays_wiped_when_the_account_comes_back() {
    let (state, mut writer) = open_empty(small()).expect("open");
    let with = |slots: Vec<(u64, u64)>, wiped: bool| AccountDelta {
        slots: slots.into_iter().map(|(k, v)| (U256::from(k), U256::from(v))).collect(),
        storage_wiped: wiped,
        ..plain(1, 1, U256::ONE)
    };
    writer.apply(&one(with(vec![(1, 10), (2, 20)], false))).expect("apply");
    let v0 = writer.seal();
    writer
        .apply(&one(AccountDelta { address: address(1), info: None, storage_wiped: true, slots: vec![] }))
        .expect("apply");
    let v1 = writer.seal();
    writer.apply(&one(with(vec![(2, 0)], false))).expect("apply");
    let v2 = writer.seal();
    writer.apply(&one(with(vec![(2, 21)], false))).expect("apply");
    let v3 = writer.seal();
    writer.apply(&one(with(vec![(1, 11)], true))).expect("apply");
    let v4 = writer.seal();
    let read = |version| {
        let view = state.view_at(version).expect("held");
        [1u64, 2].map(|k| view.storage(&address(1), U256::from(k)).expect("held").to::<u64>())
    };
    assert_eq!([v0, v1, v2, v3, v4].map(read), [[10, 20], [0, 0], [0, 0], [0, 21], [11, 0]]);
    assert_eq!(state.view_at(v1).expect("held").account(&address(1)), Ok(None));
    assert_eq!(state.view_at(v4).expect("held").slots().count(), 1);
}

#[test]
fn wide_balances_are_exact_and_their_cells_are_used_again() {
    let (state, mut writer) = open_empty(small()).expect("open");
    let limit = U256::from(u128::MAX);
    for round in 0..50u64 {
        for n in 0..8 {
            let balance =
                if (n + round) % 2 == 0 { U256::MAX - U256::from(round) } else { limit - U256::from(n) };
            writer.apply(&one(plain(n, round, balance))).expect("apply");
            writer.apply(&one(plain(n, round, limit + U256::from(n)))).expect("apply");
            writer.apply(&one(plain(n, round, balance))).expect("apply");
        }
        writer.seal();
    }
    for round in 0..50u64 {
        let view = state.view_at(round).expect("held");
        for n in 0..8 {
            let balance =
                if (n + round) % 2 == 0 { U256::MAX - U256::from(round) } else { limit - U256::from(n) };
            assert_eq!(view.account(&address(n)).expect("held").expect("exists").balance, balance);
        }
    }
}

#[test]
fn codes_are_shared_kept_and_may_come_after_their_accounts() {
    let (state, mut writer) = open_empty(small()).expect("open");
    let (hash, bytes) = code(3);
    let mut account = plain(1, 1, U256::ONE);
    account.info.as_mut().expect("some").code_hash = hash;
    writer.apply(&one(account)).expect("apply");
    let v0 = writer.seal();
    assert_eq!(state.view().code(&hash), None);
    assert_eq!(state.view().account(&address(1)).expect("held").expect("exists").code_hash, hash);
    for _ in 0..3 {
        writer.apply(&StateDelta { accounts: vec![], codes: vec![(hash, bytes.clone())] }).expect("apply");
    }
    writer.seal();
    let held = state.view_at(v0).expect("held").code(&hash).expect("known");
    assert_eq!(state.stats().code_bytes, bytes.len() as u64, "stored once");
    drop((state, writer));
    assert_eq!(held, bytes, "code outlives the store's handles");
}

#[test]
fn growth_keeps_every_key_while_old_versions_stay_readable() {
    let (state, mut writer) = open_empty(StateConfig { undo_bytes: 64 << 20, ..small() }).expect("open");
    let n_accounts = 60_000u64;
    let mut sealed = vec![];
    for n in 0..n_accounts {
        let slots = vec![(U256::from(n) << 64, U256::from(n + 1))];
        writer.apply(&one(AccountDelta { slots, ..plain(n, n, U256::from(n)) })).expect("apply");
        if n.is_power_of_two() {
            sealed.push((writer.seal(), n));
        }
    }
    sealed.push((writer.seal(), n_accounts - 1));
    assert!(state.stats().growths >= 10, "{:?}", state.stats());
    for (version, last) in sealed.into_iter().rev().take(3) {
        let view = state.view_at(version).expect("held");
        for n in 0..n_accounts {
            let account = view.account(&address(n)).expect("held");
            assert_eq!(account.map(|a| a.nonce), (n <= last).then_some(n), "{n} at {version}");
            let expected = if n <= last { U256::from(n + 1) } else { U256::ZERO };
            assert_eq!(view.storage(&address(n), U256::from(n) << 64), Ok(expected));
        }
    }
}

#[test]
fn a_full_table_is_an_error_with_its_limit() {
    let (_, mut writer) =
        open_empty(StateConfig { max_accounts: 100, max_slots: 10, ..small() }).expect("open");
    let slots = (0..11).map(|k| (U256::from(k), U256::ONE)).collect();
    let refused =
        writer.apply(&one(AccountDelta { slots, ..plain(0, 0, U256::ONE) })).expect_err("eleven slots");
    assert!(refused.to_string().contains("storage slots are full at 10"), "{refused}");
    let refused = (1..200).find_map(|n| writer.apply(&one(plain(n, 0, U256::ONE))).err()).expect("full");
    assert!(refused.to_string().contains("accounts are full at 100"), "{refused}");
}
