//! Random histories of a state, compared with a full rebuild after every step.

mod common;

use alloy_primitives::{Address, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{Nibbles, nodes::TrieNode};
use common::*;
use ironlane_trie::EMPTY_ROOT;
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use proptest::prelude::*;
use std::sync::LazyLock;

fn address(n: u8) -> Address {
    Address::from_slice(&keccak256([n])[..20])
}

/// Slots whose hashed keys collide in their first nibbles, so that leaves stand deep enough to be embedded.
static COLLIDING: LazyLock<(Vec<U256>, usize)> = LazyLock::new(|| colliding_slots(1 << 20));

fn any_balance() -> impl Strategy<Value = U256> {
    prop_oneof![
        Just(U256::ZERO),
        Just(U256::from(127)),
        Just(U256::from(128)),
        Just(U256::from(u128::MAX)),
        Just(U256::from(u128::MAX) + U256::from(1)),
        Just(U256::MAX),
        any::<u64>().prop_map(U256::from),
        any::<[u8; 32]>().prop_map(U256::from_be_bytes),
    ]
}

fn any_info() -> impl Strategy<Value = AccountInfo> {
    let nonce = prop_oneof![Just(0), Just(127), Just(128), Just(u64::MAX), any::<u64>()];
    let code = prop_oneof![3 => Just(KECCAK_EMPTY), 1 => (0u8..4).prop_map(|n| keccak256([n]))];
    (nonce, any_balance(), code).prop_map(|(nonce, balance, code_hash)| AccountInfo {
        nonce,
        balance,
        code_hash,
    })
}

fn any_slot() -> impl Strategy<Value = U256> {
    prop_oneof![(0u8..20).prop_map(U256::from), (0usize..16).prop_map(|i| COLLIDING.0[i]),]
}

fn any_value() -> impl Strategy<Value = U256> {
    prop_oneof![
        2 => Just(U256::ZERO),
        2 => (1u8..=255).prop_map(U256::from),
        1 => any::<[u8; 32]>().prop_map(U256::from_be_bytes),
        1 => Just(U256::MAX),
    ]
}

fn any_change(addresses: u8) -> impl Strategy<Value = AccountDelta> {
    let slots = prop_oneof![
        2 => Just(vec![]),
        3 => prop::collection::btree_map(any_slot(), any_value(), 0..12).prop_map(|m| m.into_iter().collect()),
    ];
    (0..addresses, prop::option::weighted(0.85, any_info()), prop::bool::weighted(0.1), slots).prop_map(
        |(n, info, storage_wiped, slots)| AccountDelta { address: address(n), info, storage_wiped, slots },
    )
}

fn any_delta() -> impl Strategy<Value = StateDelta> {
    prop_oneof![prop::collection::vec(any_change(8), 0..6), prop::collection::vec(any_change(200), 0..60),]
        .prop_map(|accounts| StateDelta { accounts, codes: vec![] })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn histories_agree_with_a_rebuild(
        steps in prop::collection::vec(prop::collection::vec(any_delta(), 1..4), 1..12),
        probes in prop::collection::vec((0u8..220, prop::collection::vec(any_slot(), 0..4)), 6),
    ) {
        let mut trie = small_trie();
        let mut model = Model::default();
        for deltas in &steps {
            for delta in deltas {
                trie.apply(delta);
                model.apply(delta);
            }
            let before = trie.last_root();
            prop_assert_eq!(before, trie.verify().map(|()| trie.last_root()).unwrap());
            let root = trie.root();
            prop_assert_eq!(root, model.root());
            prop_assert_eq!(root, trie.root(), "a second call changes nothing");
            for (n, slots) in &probes {
                model.check_proof(&trie, root, &address(*n), slots);
            }
            trie.verify().unwrap();
            let memory = trie.memory();
            prop_assert_eq!(memory.accounts, model.accounts.len() as u64);
            prop_assert_eq!(memory.storage_tries, model.accounts.values().filter(|a| !a.1.is_empty()).count() as u64);
        }
        // Everything goes: nothing may be left behind but free records.
        let all = model.accounts.keys().map(|a| AccountDelta { address: *a, info: None, storage_wiped: false, slots: vec![] });
        trie.apply(&StateDelta { accounts: all.collect(), codes: vec![] });
        prop_assert_eq!(trie.root(), EMPTY_ROOT);
        trie.root();
        let memory = trie.memory();
        prop_assert_eq!((memory.accounts, memory.slots, memory.storage_tries), (0, 0, 0));
        prop_assert_eq!(memory.node_bytes, 8, "every branch was freed");
        prop_assert_eq!(memory.leaf_bytes, memory.free_bytes + 64, "every leaf was freed");
    }
}

#[test]
fn crafted_slots_reach_embedded_leaves() {
    let (slots, shared) = &*COLLIDING;
    assert!(*shared >= 9, "leaves below nine shared nibbles with values of one byte are shorter than a hash");
    let mut trie = small_trie();
    let mut model = Model::default();
    let who = address(1);
    // Values of 1 byte are embedded, of 32 bytes hashed; going to and fro changes a parent's places in both directions.
    for values in [[1u64, 2], [u64::MAX, 3], [4, u64::MAX], [5, 0], [0, 6], [7, 8], [0, 0]] {
        let change = AccountDelta {
            address: who,
            info: Some(info(1, U256::from(5))),
            storage_wiped: false,
            slots: slots
                .iter()
                .enumerate()
                .map(|(i, s)| (*s, U256::from(values[i % 2]).wrapping_pow(U256::from(3))))
                .collect(),
        };
        let delta = StateDelta { accounts: vec![change], codes: vec![] };
        trie.apply(&delta);
        model.apply(&delta);
        let root = trie.root();
        assert_eq!(root, model.root());
        let proof = model.check_proof(&trie, root, &who, slots);
        if values == [1, 2] {
            let last = proof.storage[0].proof.last().unwrap();
            let node = TrieNode::decode(&mut last.as_ref()).unwrap();
            assert!(
                matches!(node, TrieNode::Branch(_)),
                "the leaf is inside its parent, the last node listed"
            );
        }
        trie.verify().unwrap();
    }
}

#[test]
fn later_entries_win_within_and_between_deltas() {
    let who = address(1);
    let entry = |nonce, wiped, slots: &[(u64, u64)]| AccountDelta {
        address: who,
        info: Some(info(nonce, U256::from(nonce))),
        storage_wiped: wiped,
        slots: slots.iter().map(|(s, v)| (U256::from(*s), U256::from(*v))).collect(),
    };
    let gone = AccountDelta { address: who, info: None, storage_wiped: false, slots: vec![] };
    let histories = [
        vec![entry(1, false, &[(1, 1), (2, 2)]), entry(2, false, &[(2, 3), (3, 0)])],
        vec![entry(1, false, &[(1, 1), (2, 2)]), entry(2, true, &[(2, 3)])],
        vec![entry(1, false, &[(1, 1)]), gone.clone()],
        vec![entry(1, false, &[(1, 1), (4, 4)]), gone.clone(), entry(1, false, &[(2, 2)])],
        vec![
            gone.clone(),
            entry(7, false, &[]),
            gone.clone(),
            entry(8, false, &[(9, 9)]),
            entry(9, false, &[(9, 0)]),
        ],
        vec![gone.clone(), gone],
    ];
    let mut trie = small_trie();
    let mut model = Model::default();
    for history in histories.iter().chain(histories.iter().rev()) {
        for joined in [true, false] {
            let deltas: Vec<Vec<AccountDelta>> = if joined {
                vec![history.clone()]
            } else {
                history.iter().map(|e| vec![e.clone()]).collect()
            };
            for accounts in deltas {
                let delta = StateDelta { accounts, codes: vec![] };
                trie.apply(&delta);
                model.apply(&delta);
            }
            assert_eq!(trie.root(), model.root());
        }
    }
}

#[test]
fn an_empty_trie_proves_absence_with_nothing() {
    let trie = small_trie();
    let proof = trie.prove(&address(1), &[U256::from(3)]);
    assert_eq!((trie.last_root(), proof.storage_root), (EMPTY_ROOT, EMPTY_ROOT));
    assert!(proof.info.is_none() && proof.account_proof.is_empty() && proof.storage[0].proof.is_empty());
}

#[test]
fn one_account_is_a_single_leaf() {
    let mut trie = small_trie();
    trie.apply(&StateDelta { accounts: vec![put(address(1), info(0, U256::from(1)))], codes: vec![] });
    let key = keccak256(address(1));
    let account = alloy_trie::TrieAccount::new(0, U256::from(1), EMPTY_ROOT, KECCAK_EMPTY);
    let leaf = alloy_trie::nodes::LeafNode::new(Nibbles::unpack(key), alloy_rlp::encode(account));
    assert_eq!(trie.root(), keccak256(alloy_rlp::encode(leaf)));
}

/// A wiped contract's nodes go a bounded number at a time, and are used again.
#[test]
fn wiping_a_large_storage_frees_it_over_several_roots() {
    let mut trie = small_trie();
    let slots =
        |from: u64, n: u64| (from..from + n).map(|i| (U256::from(i), U256::from(i + 1))).collect::<Vec<_>>();
    let filled = |slots, storage_wiped| StateDelta {
        accounts: vec![AccountDelta {
            address: address(1),
            info: Some(info(1, U256::from(1))),
            storage_wiped,
            slots,
        }],
        codes: vec![],
    };
    trie.apply(&filled(slots(0, 100_000), false));
    trie.root();
    let full = trie.memory();
    trie.apply(&filled(slots(5, 3), true));
    let root = trie.root();
    let mut model = Model::default();
    model.apply(&filled(slots(5, 3), true));
    assert_eq!(root, model.root());
    assert!(trie.memory().slots > 60_000, "a wipe is not one long pause");
    for _ in 0..8 {
        assert_eq!(trie.root(), root);
    }
    assert_eq!(trie.memory().slots, 3);
    trie.apply(&filled(slots(0, 100_000), true));
    trie.root();
    let again = trie.memory();
    assert!(
        again.leaf_bytes <= full.leaf_bytes + 256 && again.node_bytes <= full.node_bytes + 8192,
        "{again:?} {full:?}"
    );
}
