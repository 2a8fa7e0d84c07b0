//! Groups of cases: a few contracts that know each other, called with varied data and with gas that ends anywhere.

use super::{
    body::{Body, Surroundings, any_spec, initcode, selector},
    case::{Case, CaseAccount},
    exec::{Interpreter, run},
    mutate::mutate,
    rng::Rng,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use revm::primitives::hardfork::SpecId;

/// Cases of one group: they share code, so that an engine compiles once for all of them.
pub const GROUP: usize = 8;

/// The cases of group `index` of `seed`, all under one fork: `spec`, or one that the seed picks. Equal arguments give
/// equal cases.
pub fn generate(seed: u64, index: u64, spec: Option<SpecId>) -> Vec<Case> {
    let rng = &mut Rng::new(seed, index);
    let picked = any_spec(rng);
    let base = base_case(rng, spec.unwrap_or(picked));
    let used = run(&base, &mut Interpreter).gas_used;
    let mut cases = vec![base];
    while cases.len() < GROUP {
        let mut case = cases[0].clone();
        if rng.one_in(2) {
            // Out of gas at any place that the first case reached.
            let floor = intrinsic_gas(&case);
            let room = used.saturating_sub(floor).max(1) as usize;
            case.gas_limit =
                floor + if rng.one_in(3) { rng.below(room.min(2_000)) } else { rng.below(room) } as u64;
        } else {
            if case.to.is_some() {
                case.data = call_data(rng);
            }
            if rng.one_in(4) {
                case.value = U256::from(rng.below(1_000));
            }
        }
        cases.push(case);
    }
    cases
}

fn base_case(rng: &mut Rng, spec: SpecId) -> Case {
    let contracts = 1 + rng.below(3);
    let addresses: Vec<Address> = (0..contracts as u8).map(|n| Address::repeat_byte(0xc0 + n)).collect();
    let plain = Address::repeat_byte(0xee);
    let delegated = Address::repeat_byte(0xd7);
    let absent = Address::repeat_byte(0x99);
    let mut peers = [addresses.clone(), addresses.clone(), vec![plain, absent]].concat();
    let mut accounts = vec![CaseAccount { address: plain, balance: U256::from(5), ..CaseAccount::default() }];
    if spec.is_enabled_in(SpecId::PRAGUE) && rng.one_in(3) {
        peers.push(delegated);
        let code = [&[0xef, 0x01, 0x00][..], rng.pick(&addresses).as_slice()].concat();
        accounts.push(CaseAccount {
            address: delegated,
            nonce: 1,
            code: code.into(),
            ..CaseAccount::default()
        });
    }
    let around = Surroundings { spec, peers: &peers, nesting: 1 };
    let mut codes: Vec<Vec<u8>> = addresses
        .iter()
        .map(|_| {
            if rng.one_in(24) {
                (0..rng.below(400)).map(|_| rng.byte()).collect()
            } else {
                let statements = if rng.one_in(5) { 20 + rng.below(60) } else { 2 + rng.below(16) };
                Body::code(rng, around, statements)
            }
        })
        .collect();
    if rng.one_in(5) {
        for index in 0..codes.len() {
            let donor = codes[rng.below(codes.len())].clone();
            for _ in 0..1 + rng.below(4) {
                mutate(rng, &mut codes[index], &donor);
            }
        }
    }
    let create = rng.one_in(12);
    let data = if create { initcode(rng, around).into() } else { call_data(rng) };
    for (address, code) in addresses.iter().zip(codes) {
        let storage = (0..rng.below(4)).map(|slot| (U256::from(slot), rng.word())).collect::<Vec<_>>();
        accounts.push(CaseAccount {
            address: *address,
            balance: U256::from(rng.below(10_000)),
            nonce: 1,
            code: code.into(),
            storage: storage.into_iter().filter(|(_, value)| !value.is_zero()).collect(),
        });
    }
    let blobs = if spec.is_enabled_in(SpecId::CANCUN) && rng.one_in(4) { 1 + rng.below(3) } else { 0 };
    let mut case = Case {
        spec,
        accounts,
        to: (!create).then_some(addresses[0]),
        value: if rng.one_in(4) { U256::from(rng.below(1_000)) } else { U256::ZERO },
        data,
        gas_limit: 0,
        blob_hashes: (0..blobs as u8)
            .map(|n| B256::with_last_byte(n) | B256::right_padding_from(&[1]))
            .collect(),
        ..Case::default()
    };
    let most = if rng.one_in(6) { 3_000_000 } else { 400_000 };
    case.gas_limit = intrinsic_gas(&case) + 60_000 + rng.below(most) as u64;
    case
}

fn call_data(rng: &mut Rng) -> Bytes {
    let mut data = Vec::new();
    if rng.one_in(2) {
        let index = rng.below(4);
        data.extend(selector(index).to_be_bytes());
    }
    for _ in 0..rng.below(5) {
        data.extend(rng.word().to_be_bytes::<32>());
    }
    if rng.one_in(4) {
        let length = rng.below(data.len() + 1);
        data.truncate(length);
    }
    data.into()
}

/// Gas below which a transaction is invalid, or a little more than that: the dearest rules of any fork.
fn intrinsic_gas(case: &Case) -> u64 {
    let (zero, other) = match case.spec {
        spec if spec.is_enabled_in(SpecId::PRAGUE) => (10, 40),
        spec if spec.is_enabled_in(SpecId::ISTANBUL) => (4, 16),
        _ => (4, 68),
    };
    let data: u64 = case.data.iter().map(|byte| if *byte == 0 { zero } else { other }).sum();
    let create = if case.to.is_none() { 32_000 + 2 * case.data.len().div_ceil(32) as u64 } else { 0 };
    21_000 + data + create
}
