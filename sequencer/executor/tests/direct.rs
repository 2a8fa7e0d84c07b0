//! The short cut for plain transfers against revm, on random blocks: results, refusals, gas, state.

#[path = "common/chain.rs"]
mod chain;

use alloy_consensus::Header;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address};
use chain::{Call, executor, next};
use ironlane_executor::{
    ChainSpec, ExecutorConfig, ForkSchedule, OracleTrie, StateRoot, next_context,
    revm::primitives::hardfork::SpecId,
};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use proptest::{prelude::*, sample::select};
use std::{collections::HashMap, sync::Arc};

const NEW: Address = address!("00000000000000000000000000000000DeaDBeef");
const RICH: Address = address!("1100000000000000000000000000000000000001");
const RICH_TOO: Address = address!("1100000000000000000000000000000000000002");
const POOR: Address = address!("2200000000000000000000000000000000000001");
const EMPTY: Address = address!("3300000000000000000000000000000000000001");
const DELEGATED: Address = address!("4400000000000000000000000000000000000001");
const CONTRACT: Address = address!("5500000000000000000000000000000000000001");
const LAST_NONCE: Address = address!("6600000000000000000000000000000000000001");
const NO_NONCE_LEFT: Address = address!("6600000000000000000000000000000000000002");
const OVERFLOWING: Address = address!("7700000000000000000000000000000000000001");
const IDENTITY: Address = address!("0000000000000000000000000000000000000004");
const P256: Address = address!("0000000000000000000000000000000000000100");
const LOW: Address = address!("0000000000000000000000000000000000001234");

const SENDERS: [Address; 9] =
    [RICH, RICH, RICH_TOO, POOR, EMPTY, DELEGATED, CONTRACT, LAST_NONCE, NO_NONCE_LEFT];
const RECEIVERS: [Address; 14] = [
    NEW,
    NEW,
    RICH,
    RICH,
    RICH_TOO,
    POOR,
    EMPTY,
    DELEGATED,
    CONTRACT,
    LAST_NONCE,
    OVERFLOWING,
    IDENTITY,
    P256,
    LOW,
];

fn spec(spec_id: SpecId, base_fee: u64) -> ChainSpec {
    let delegation = [&[0xef, 0x01, 0x00][..], CONTRACT.as_slice()].concat();
    // SSTORE(0, CALLVALUE), LOG0 of nothing.
    let code = vec![0x34, 0x5f, 0x55, 0x5f, 0x5f, 0xa0, 0x00];
    let mut alloc = StateDelta::default();
    let mut account = |address, nonce, balance: U256, code: &[u8]| {
        let code_hash = if code.is_empty() { KECCAK_EMPTY } else { alloy_primitives::keccak256(code) };
        if !code.is_empty() {
            alloc.codes.push((code_hash, Bytes::copy_from_slice(code)));
        }
        let info = Some(AccountInfo { nonce, balance, code_hash });
        alloc.accounts.push(AccountDelta { address, info, storage_wiped: false, slots: Vec::new() });
    };
    let rich = U256::from(10).pow(U256::from(24));
    account(RICH, 0, rich, &[]);
    account(RICH_TOO, 7, rich, &[]);
    account(POOR, 0, U256::from(21_000u64 * 100), &[]);
    account(EMPTY, 0, U256::ZERO, &[]);
    account(DELEGATED, 3, rich, &delegation);
    account(CONTRACT, 1, rich, &code);
    account(LAST_NONCE, u64::MAX - 1, rich, &[]);
    account(NO_NONCE_LEFT, u64::MAX, rich, &[]);
    account(OVERFLOWING, 0, U256::MAX - U256::from(5), &[]);
    for (address, code) in [
        (
            alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            &alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
        ),
        (
            alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            &alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
        ),
    ] {
        account(address, 1, U256::ZERO, code);
    }
    let header = Header {
        gas_limit: 40_000_000,
        // The next block's base fee is the same: the parent used exactly its target.
        gas_used: 20_000_000,
        base_fee_per_gas: Some(base_fee),
        excess_blob_gas: Some(0),
        blob_gas_used: Some(0),
        ..Default::default()
    };
    ChainSpec::new(31337, ForkSchedule::all_until(spec_id), header, alloc)
}

#[derive(Debug, Clone)]
struct Step {
    sender: Address,
    /// Added to the sender's nonce.
    nonce_offset: i64,
    call: Call,
    /// Above or below the base fee.
    fee_over_base: i64,
    seal_after: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let input = prop_oneof![
        4 => Just(Vec::new()),
        1 => prop::collection::vec(select(vec![0u8, 0, 1, 255]), 1..200),
    ];
    let list = prop_oneof![
        4 => Just(AccessList::default()),
        1 => prop::collection::vec((select(RECEIVERS.to_vec()), 0usize..4), 1..3).prop_map(|items| {
            AccessList(
                items
                    .into_iter()
                    .map(|(address, slots)| AccessListItem {
                        address,
                        storage_keys: (0..slots).map(|i| B256::with_last_byte(i as u8)).collect(),
                    })
                    .collect(),
            )
        }),
    ];
    let value = prop_oneof![
        2 => Just(U256::ZERO),
        4 => (1u64..1_000_000).prop_map(U256::from),
        1 => Just(U256::from(10).pow(U256::from(24))),
        1 => Just(U256::MAX),
    ];
    let gas = select(vec![
        20_999u64,
        21_000,
        21_000,
        21_000,
        21_004,
        23_400,
        30_000,
        60_000,
        1 << 24,
        (1 << 24) + 1,
        50_000_000,
    ]);
    let step = (
        select(SENDERS.to_vec()),
        prop_oneof![12 => Just(0i64), 1 => Just(-1), 1 => Just(1)],
        (0u8..3, prop_oneof![8 => Just(Some(31337u64)), 1 => Just(None), 1 => Just(Some(1))], gas),
        (select(vec![-1i64, 0, 1, 1_000]), select(vec![0u128, 0, 1, 500, 2_000, 1 << 70])),
        (select(RECEIVERS.to_vec()), value, input, list),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(
                sender,
                nonce_offset,
                (kind, chain_id, gas_limit),
                (over, tip),
                (to, value, input, list),
                seal,
            )| {
                Step {
                    sender,
                    nonce_offset,
                    fee_over_base: over,
                    seal_after: seal,
                    call: Call {
                        kind,
                        chain_id,
                        nonce: 0,
                        gas_limit,
                        fee_cap: 0,
                        tip,
                        to: TxKind::Call(to),
                        value,
                        input: input.into(),
                        access_list: list,
                    },
                }
            },
        );
    prop::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn gives_what_revm_gives(
        steps in steps(),
        prague in any::<bool>(),
        base_fee in select(vec![8u64, 1_000, 1_000_000_000]),
        beneficiary in select(vec![NEW, RICH, POOR, EMPTY, CONTRACT, OVERFLOWING, Address::ZERO]),
    ) {
        let spec = Arc::new(spec(if prague { SpecId::PRAGUE } else { SpecId::OSAKA }, base_fee));
        let run = |direct_transfers: bool| {
            let mut executor = executor(&spec, ExecutorConfig { direct_transfers, ..Default::default() });
            let context = next_context(&spec, &spec.genesis.header, next(12, beneficiary));
            assert_eq!(context.base_fee, Some(base_fee));
            executor.open_block(context).expect("opens");
            let mut nonces: HashMap<Address, u64> = spec.genesis.alloc.accounts.iter()
                .map(|a| (a.address, a.info.map_or(0, |i| i.nonce))).collect();
            let mut results = Vec::new();
            for step in &steps {
                let nonce = nonces.entry(step.sender).or_default();
                let mut call = step.call.clone();
                call.nonce = nonce.saturating_add_signed(step.nonce_offset);
                call.fee_cap = u128::from(base_fee.saturating_add_signed(step.fee_over_base));
                let result = executor.try_execute(call.from(step.sender));
                if result.is_ok() {
                    *nonce += 1;
                }
                results.push(result.map(|done| (done.outcome.clone(), done.cumulative_gas_used, done.first_log_index)));
                if step.seal_after {
                    executor.seal_mini_block().expect("seals");
                }
            }
            let stats = executor.stats();
            let closed = executor.close_block().expect("closes");
            let mut trie = OracleTrie::default();
            trie.apply(&spec.genesis.alloc);
            trie.apply(&closed.delta);
            let stored: Vec<_> = SENDERS.iter().chain(&RECEIVERS).chain([&beneficiary])
                .map(|address| executor.store().account(address)).collect();
            ((results, closed.gas_used, trie.root(), stored), stats)
        };
        let (general, stats) = run(false);
        prop_assert_eq!(stats.direct, 0);
        let (direct, _) = run(true);
        prop_assert_eq!(general, direct);
    }
}

#[test]
fn is_taken_by_plain_transfers_and_by_nothing_else() {
    let spec = Arc::new(spec(SpecId::OSAKA, 1_000));
    let mut executor = executor(&spec, ExecutorConfig::default());
    executor.open_block(next_context(&spec, &spec.genesis.header, next(12, Address::ZERO))).expect("opens");
    let mut nonce = 0;
    let mut is_direct = |to: Address, change: &dyn Fn(&mut Call)| {
        let mut call = Call { value: U256::ONE, fee_cap: 2_000, ..Call::plain(to, nonce) };
        change(&mut call);
        let before = executor.stats().direct;
        executor.try_execute(call.from(RICH)).expect("valid");
        nonce += 1;
        executor.stats().direct > before
    };
    assert!(is_direct(NEW, &|_| {}));
    assert!(is_direct(RICH, &|_| {}), "to itself");
    assert!(is_direct(NEW, &|call| call.kind = 0));
    assert!(is_direct(NEW, &|call| call.value = U256::ZERO));
    assert!(is_direct(NEW, &|call| call.input = vec![1; 100].into()), "calldata that nobody reads");
    assert!(!is_direct(CONTRACT, &|_| {}));
    assert!(!is_direct(DELEGATED, &|_| {}));
    assert!(!is_direct(IDENTITY, &|_| {}));
    assert!(!is_direct(P256, &|_| {}));
    assert!(!is_direct(NEW, &|call| call.to = TxKind::Create));
}
