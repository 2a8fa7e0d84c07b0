//! Each reason of refusal and of drop, provoked.

mod rig;

use alloy_consensus::{TxEip1559, TxEip2930, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use ironlane_fpga::{Caps, Full, RecoverAnswer, RecoverEngine, RecoverRequest, Trust};
use ironlane_pool::{Admission, CodeKind, Feedback, Limits, Place, PoolConfig, Rules};
use ironlane_types::{Origin, Reject, Submission};
use rig::*;

fn limited(limits: Limits) -> PoolConfig {
    PoolConfig { limits, ..config() }
}

#[test]
fn all_four_types_are_taken_and_handed_out_in_order() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let raws = [
        wallet.sign(legacy()),
        wallet.sign(TxEip2930 { nonce: 1, ..eip2930() }),
        wallet.sign(TxEip1559 { nonce: 2, ..eip1559() }),
        wallet.sign({
            let mut tx = eip7702(vec![Wallet::new(9).authorization(0)]);
            tx.nonce = 3;
            tx
        }),
    ];
    let hashes: Vec<B256> = raws.iter().map(|raw| rig.send(raw.clone()).unwrap()).collect();
    assert_eq!(hashes, raws.iter().map(keccak256).collect::<Vec<_>>());
    assert_eq!(rig.admission.pending_nonce(&wallet.address), 4);
    let taken = rig.take(10);
    assert_eq!(taken.iter().map(|p| p.tx.hash).collect::<Vec<_>>(), hashes);
    assert!(taken.iter().all(|p| p.tx.sender == wallet.address && p.origin.lane == 7));
    assert_eq!(rig.admission.status().in_flight, 4);
    for pending in &taken {
        rig.execute(pending).unwrap();
    }
    let status = rig.admission.status();
    assert_eq!((status.pending, status.queued, status.accounts, status.bytes), (0, 0, 0, 0));
    assert_eq!(rig.admission.pending_nonce(&wallet.address), 4);
    assert_eq!(rig.admission.metrics().executed, 4);
}

#[test]
fn bytes_that_are_no_transaction() {
    let mut rig = Rig::new(config());
    let good = rig.rich(1).sign(eip1559());
    for raw in [
        Bytes::new(),
        Bytes::from_static(&[0x80]),
        Bytes::from_static(&[0xc0]),
        Bytes::from_static(&[2]),
        good.slice(..good.len() - 1),
        [good.as_ref(), &[0]].concat().into(),
        // Wrapped in a string, as in a block body.
        [&[0xb8, good.len() as u8][..], good.as_ref()].concat().into(),
    ] {
        assert_eq!(rig.send(raw.clone()), Err(Reject::Malformed), "{raw}");
    }
    assert_eq!(rig.admission.metrics().rejected(Reject::Malformed), 7);
    assert_eq!(rig.admission.fate(&keccak256([0xc0])), Some(Reject::Malformed));
}

#[test]
fn too_large() {
    let mut rig = Rig::new(config());
    let fits = Bytes::from(vec![0xc0; 131_072]);
    let exceeds = Bytes::from(vec![0xc0; 131_073]);
    assert_eq!(rig.send(fits), Err(Reject::Malformed));
    assert_eq!(rig.send(exceeds), Err(Reject::TooLarge));
}

#[test]
fn types_that_are_not_taken() {
    let mut rig = Rig::new(config());
    for raw in [&[3u8, 0xc0][..], &[3, 0xf8], &[3]] {
        assert_eq!(rig.send(Bytes::copy_from_slice(raw)), Err(Reject::BlobUnsupported));
    }
    for kind in [0u8, 5, 0x7e, 0x7f] {
        assert_eq!(rig.send(Bytes::from(vec![kind, 0xc0])), Err(Reject::UnknownType));
    }
    let mut early = Rig::new(PoolConfig { rules: Rules::SHANGHAI, ..config() });
    let raw = early.rich(1).sign(eip7702(vec![Wallet::new(2).authorization(0)]));
    assert_eq!(early.send(raw), Err(Reject::UnknownType), "no type 4 before Prague");
}

#[test]
fn chain_ids() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    assert_eq!(rig.send(wallet.sign(TxEip1559 { chain_id: 1, ..eip1559() })), Err(Reject::WrongChainId));
    assert_eq!(rig.send(wallet.sign(TxLegacy { chain_id: Some(1), ..legacy() })), Err(Reject::WrongChainId));
    let unprotected = wallet.sign(TxLegacy { chain_id: None, ..legacy() });
    assert_eq!(rig.send(unprotected.clone()), Err(Reject::WrongChainId));
    let mut lenient = Rig::new(PoolConfig { unprotected_allowed: true, ..config() });
    lenient.rich(1);
    assert!(lenient.send(unprotected).is_ok());
}

#[test]
fn signatures() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let raw = wallet.sign(eip1559());
    // r and s end the transaction: 0xa0 r 0xa0 s.
    let tail = raw.len() - 66;
    assert_eq!((raw[tail], raw[tail + 33]), (0xa0, 0xa0), "this wallet's r and s both fill 32 bytes");
    let order = alloy_primitives::hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let edited = |f: &dyn Fn(&mut Vec<u8>)| -> Bytes {
        let mut bytes = raw.to_vec();
        f(&mut bytes);
        bytes.into()
    };
    let s = U256::from_be_slice(&raw[tail + 34..]);
    let high_s = (U256::from_be_bytes(order) - s).to_be_bytes::<32>();
    for (name, bad) in [
        ("high s", edited(&|b| b[tail + 34..].copy_from_slice(&high_s))),
        ("r = n", edited(&|b| b[tail + 1..tail + 33].copy_from_slice(&order))),
        ("s = n", edited(&|b| b[tail + 34..].copy_from_slice(&order))),
        ("parity 2", edited(&|b| b[tail - 1] = 2)),
    ] {
        assert_eq!(rig.send(bad), Err(Reject::BadSignature), "{name}");
    }
    // Another signer's, whoever that is: he has no money.
    let flipped = edited(&|b| b[tail - 1] = if b[tail - 1] == 0x80 { 1 } else { 0x80 });
    assert!(matches!(rig.send(flipped), Err(Reject::InsufficientFunds | Reject::BadSignature)));
    assert!(rig.send(raw).is_ok());
}

#[test]
fn gas_limits() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let send =
        |rig: &mut Rig, gas_limit: u64, tx: TxEip1559| rig.send(wallet.sign(TxEip1559 { gas_limit, ..tx }));
    assert_eq!(send(&mut rig, 20_999, eip1559()), Err(Reject::IntrinsicGas));
    assert_eq!(send(&mut rig, 16_777_217, eip1559()), Err(Reject::GasAboveTxCap));
    // 100 bytes that are not zero: 21,000 + 1,600 intrinsic, 21,000 + 4,000 floor.
    let data = TxEip1559 { input: vec![1; 100].into(), ..eip1559() };
    assert_eq!(send(&mut rig, 22_599, data.clone()), Err(Reject::IntrinsicGas));
    assert_eq!(send(&mut rig, 24_999, data.clone()), Err(Reject::FloorGas));
    // A creation: 32,000 more and 2 a word; zero bytes cost 4.
    let create = TxEip1559 { to: TxKind::Create, input: vec![0; 64].into(), ..eip1559() };
    assert_eq!(send(&mut rig, 53_259, create.clone()), Err(Reject::IntrinsicGas));
    let list = AccessList(vec![AccessListItem { address: Address::ZERO, storage_keys: vec![B256::ZERO; 2] }]);
    let access = TxEip1559 { access_list: list, ..eip1559() };
    assert_eq!(send(&mut rig, 27_199, access.clone()), Err(Reject::IntrinsicGas));
    let authorized = eip7702(vec![Wallet::new(2).authorization(0)]);
    let mut short = authorized.clone();
    short.gas_limit = 45_999;
    assert_eq!(rig.send(wallet.sign(short)), Err(Reject::IntrinsicGas));

    assert!(send(&mut rig, 21_000, eip1559()).is_ok());
    assert!(send(&mut rig, 25_000, TxEip1559 { nonce: 1, ..data.clone() }).is_ok());
    assert!(send(&mut rig, 53_260, TxEip1559 { nonce: 2, ..create }).is_ok());
    assert!(send(&mut rig, 27_200, TxEip1559 { nonce: 3, ..access }).is_ok());
    let mut exact = authorized;
    (exact.gas_limit, exact.nonce) = (46_000, 4);
    assert!(rig.send(wallet.sign(exact)).is_ok());

    // Before Prague there is no floor, before Osaka no cap, and the block's limit holds.
    let mut cancun = Rig::new(PoolConfig { rules: Rules::SHANGHAI, ..config() });
    let wallet = cancun.rich(1);
    assert!(cancun.send(wallet.sign(TxEip1559 { gas_limit: 22_600, ..data })).is_ok());
    let large = |gas_limit| wallet.sign(TxEip1559 { nonce: 1, gas_limit, ..eip1559() });
    assert_eq!(cancun.send(large(BLOCK_GAS + 1)), Err(Reject::GasAboveBlock));
    assert!(cancun.send(large(BLOCK_GAS)).is_ok());
    cancun.admission.feedback(&Feedback::NewBlock { base_fee_wei: BASE_FEE_WEI, gas_limit: BLOCK_GAS - 1 });
    let raw = wallet.sign(TxEip1559 { nonce: 2, gas_limit: BLOCK_GAS, ..eip1559() });
    assert_eq!(cancun.send(raw), Err(Reject::GasAboveBlock));
}

#[test]
fn init_code() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let create = |length: usize| {
        wallet.sign(TxEip1559 {
            to: TxKind::Create,
            gas_limit: 3_000_000,
            input: vec![0; length].into(),
            ..eip1559()
        })
    };
    assert_eq!(rig.send(create(49_153)), Err(Reject::InitCodeTooLarge));
    assert!(rig.send(create(49_152)).is_ok());
}

#[test]
fn fees() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let tip = TxEip1559 { max_fee_per_gas: 2_000, max_priority_fee_per_gas: 2_001, ..eip1559() };
    assert_eq!(rig.send(wallet.sign(tip)), Err(Reject::TipAboveFeeCap));
    let free = TxEip1559 { max_fee_per_gas: 0, max_priority_fee_per_gas: 0, ..eip1559() };
    assert_eq!(rig.send(wallet.sign(free)), Err(Reject::FeeCapBelowBase));
    // No fee of more than 128 bits can be paid.
    let wide = TxEip1559 { max_fee_per_gas: u128::MAX, gas_limit: 21_000, value: U256::MAX, ..eip1559() };
    assert_eq!(rig.send(wallet.sign(wide)), Err(Reject::InsufficientFunds));
}

#[test]
fn a_fee_cap_below_the_base_fee_waits_for_the_base_fee_to_fall() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let low = rig.send(wallet.transfer(0, 900, 1)).unwrap();
    let after = rig.send(wallet.transfer(1, 5_000, 1)).unwrap();
    assert_eq!((rig.place(&low), rig.place(&after)), (Some(Place::Queued), Some(Place::Queued)));
    assert_eq!(rig.admission.pending_nonce(&wallet.address), 2);
    assert!(rig.take(10).is_empty());
    rig.new_block(901);
    assert!(rig.take(10).is_empty());
    rig.new_block(900);
    let taken: Vec<B256> = rig.take(10).iter().map(|p| p.tx.hash).collect();
    assert_eq!(taken, [low, after]);
}

#[test]
fn a_base_fee_that_rises_takes_transactions_back_and_in_the_end_drops_them() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let hashes: Vec<B256> = [2_000, 1_100, 2_000]
        .iter()
        .enumerate()
        .map(|(n, fee)| rig.send(wallet.transfer(n as u64, *fee, 1)).unwrap())
        .collect();
    rig.new_block(1_500);
    let taken = rig.take(10);
    assert_eq!(taken.iter().map(|p| p.tx.hash).collect::<Vec<_>>(), hashes[..1]);
    assert_eq!(rig.place(&hashes[1]), Some(Place::Queued));
    assert_eq!(rig.place(&hashes[2]), Some(Place::Queued), "it follows one that waits");
    rig.execute(&taken[0]).unwrap();
    rig.pass(59);
    assert_eq!(rig.admission.status().queued, 2);
    rig.pass(1);
    assert_eq!(rig.dropped(&hashes[1]).unwrap().reason, Reject::FeeCapBelowBase);
    assert_eq!(rig.dropped(&hashes[2]).unwrap().reason, Reject::Expired);
    assert_eq!(rig.admission.fate(&hashes[1]), Some(Reject::FeeCapBelowBase));
    assert_eq!(rig.admission.status().accounts, 0);
}

#[test]
fn nonces() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    rig.ledger.edit(wallet.address, |a| a.nonce = 5);
    assert_eq!(rig.send(wallet.transfer(4, 2_000, 1)), Err(Reject::NonceTooLow));
    assert_eq!(rig.send(wallet.transfer(5 + 80, 2_000, 1)), Err(Reject::NonceTooHigh));
    assert!(rig.send(wallet.transfer(5 + 79, 2_000, 1)).is_ok());
    assert_eq!(rig.send(wallet.transfer(u64::MAX, 2_000, 1)), Err(Reject::NonceMax));
    let hash = rig.send(wallet.transfer(5, 2_000, 1)).unwrap();
    // In flight, its nonce is as good as used.
    let taken = rig.take(1);
    assert_eq!(taken[0].tx.hash, hash);
    assert_eq!(rig.send(wallet.transfer(5, 4_000, 1)), Err(Reject::NonceTooLow));
    rig.execute(&taken[0]).unwrap();
    assert_eq!(rig.send(wallet.transfer(5, 4_000, 1)), Err(Reject::NonceTooLow));
}

#[test]
fn a_nonce_that_the_state_passes_otherwise_drops_what_waits() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let (flying, ready) =
        (rig.send(wallet.transfer(0, 2_000, 1)).unwrap(), rig.send(wallet.transfer(1, 2_000, 1)).unwrap());
    let taken = rig.take(1);
    // An authorization of this account, sent by somebody else, has used nonces 0 and 1 (EIP-7702).
    rig.ledger.edit(wallet.address, |a| a.nonce = 2);
    assert_eq!(rig.execute(&taken[0]), Err(Reject::NonceTooLow));
    assert_eq!(rig.dropped(&flying).unwrap().reason, Reject::NonceTooLow);
    assert_eq!(rig.dropped(&ready).unwrap().reason, Reject::NonceTooLow);
    assert_eq!(rig.admission.status().accounts, 0);
    assert!(rig.send(wallet.transfer(2, 2_000, 1)).is_ok());
}

#[test]
fn balances_are_checked_over_all_of_an_accounts_transactions() {
    let mut rig = Rig::new(config());
    let wallet = Wallet::new(1);
    let cost = |fee: u64, value: u64| 21_000 * fee + value;
    rig.ledger.edit(wallet.address, |a| a.balance = U256::from(cost(2_000, 0) * 3 - 1));
    assert_eq!(rig.send(wallet.transfer(0, 2_000, u64::MAX)), Err(Reject::InsufficientFunds));
    assert!(rig.send(wallet.transfer(0, 2_000, 0)).is_ok());
    assert!(rig.send(wallet.transfer(1, 2_000, 0)).is_ok());
    assert_eq!(rig.send(wallet.transfer(2, 2_000, 0)), Err(Reject::InsufficientFunds));
    assert_eq!(
        rig.send(wallet.transfer(3, 2_000, 0)),
        Err(Reject::InsufficientFunds),
        "queued ones count too"
    );
    assert_eq!(
        rig.send(Wallet::new(2).transfer(0, 2_000, 0)),
        Err(Reject::InsufficientFunds),
        "no account at all"
    );
}

#[test]
fn a_state_that_is_ahead_of_its_feedback_is_not_charged_twice() {
    let mut rig = Rig::new(config());
    let wallet = Wallet::new(1);
    rig.ledger.edit(wallet.address, |a| a.balance = U256::from(21_000u64 * 2_000 * 3));
    rig.send(wallet.transfer(0, 2_000, 0)).unwrap();
    let taken = rig.take(1);
    let (feedback, result) = rig.execute_silently(&taken[0]);
    assert_eq!(result, Ok(()));
    // The balance that the state shows has paid for nonce 0 already.
    rig.send(wallet.transfer(1, 2_000, 0)).unwrap();
    rig.send(wallet.transfer(2, 2_000, 0)).unwrap();
    assert_eq!(rig.send(wallet.transfer(3, 2_000, 0)), Err(Reject::InsufficientFunds));
    assert_eq!(rig.admission.pending_nonce(&wallet.address), 3);
    assert_eq!((rig.admission.status().in_flight, rig.admission.status().pending), (1, 3));
    rig.admission.feedback(&feedback);
    assert_eq!((rig.admission.status().in_flight, rig.admission.status().pending), (0, 2));
    assert_eq!(rig.take(5).len(), 2);
}

#[test]
fn a_contract_may_not_send_and_a_delegated_account_may() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    rig.ledger.edit(wallet.address, |a| a.code_kind = CodeKind::Contract);
    assert_eq!(rig.send(wallet.transfer(0, 2_000, 1)), Err(Reject::SenderHasCode));
    rig.ledger.edit(wallet.address, |a| a.code_kind = CodeKind::Delegation);
    for nonce in 0..17 {
        rig.send(wallet.transfer(nonce, 2_000, 1)).unwrap();
    }
    assert_eq!(rig.admission.status().pending, 16, "a delegated account has fewer at a time");
    assert_eq!(rig.admission.status().queued, 1);
}

#[test]
fn set_code_transactions_without_sense() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    assert_eq!(rig.send(wallet.sign(eip7702(vec![]))), Err(Reject::EmptyAuthorizations));
    // The same with an empty `to`: 0x94 and twenty bytes become 0x80, and the list is that much shorter.
    let raw = wallet.sign(eip7702(vec![wallet.authorization(0)]));
    let at = raw.windows(21).position(|w| w == [&[0x94][..], &[0xaa; 20]].concat()).unwrap();
    assert_eq!(raw[1], 0xf8);
    let mut create = vec![4, 0xf8, raw[2] - 20];
    create.extend_from_slice(&raw[3..at]);
    create.push(0x80);
    create.extend_from_slice(&raw[at + 21..]);
    assert_eq!(rig.send(create.into()), Err(Reject::CreateWithAuthorizations));
}

#[test]
fn replacement_needs_ten_percent_on_both_fees() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let bid = |cap: u128, tip: u128| {
        wallet.sign(TxEip1559 { max_fee_per_gas: cap, max_priority_fee_per_gas: tip, ..eip1559() })
    };
    let other = rig.rich(2).transfer(0, 2_000, 1);
    let first = rig.send(bid(2_000, 100)).unwrap();
    let other = rig.send(other).unwrap();
    assert_eq!(rig.send(bid(2_000, 100)), Err(Reject::AlreadyKnown));
    assert_eq!(rig.send(bid(2_199, 110)), Err(Reject::ReplacementUnderpriced));
    assert_eq!(rig.send(bid(2_200, 109)), Err(Reject::ReplacementUnderpriced));
    let second = rig.send(bid(2_200, 110)).unwrap();
    let drop = rig.dropped(&first).unwrap();
    assert_eq!((drop.reason, drop.origin.tag), (Reject::Replaced, 1), "the first sender is told");
    assert_eq!(rig.admission.fate(&first), Some(Reject::Replaced));
    assert_eq!(rig.admission.get(&first).map(|t| t.place), None);
    assert_eq!(rig.admission.status().pending, 2);
    // It keeps its place in line.
    assert_eq!(rig.take(5).iter().map(|p| p.tx.hash).collect::<Vec<_>>(), [second, other]);
}

#[test]
fn the_same_bytes_twice_in_one_batch_are_recovered_once() {
    let mut rig = Rig::new(config());
    let raw = rig.rich(1).transfer(0, 2_000, 1);
    let mut batch: Vec<Submission> = (0..3)
        .map(|tag| Submission {
            origin: Origin { lane: 1, tag },
            raw: raw.clone(),
            sender_hint: None,
            received_ns: 0,
        })
        .collect();
    rig.admission.push(&mut batch);
    assert_eq!(rig.admission.status().recovering, 1);
    rig.settle();
    assert_eq!((rig.out.accepted.len(), rig.out.accepted[0].origin.tag), (1, 0));
    assert_eq!(rig.admission.metrics().rejected(Reject::AlreadyKnown), 2);
    assert_eq!(rig.admission.fate(&keccak256(&raw)), None, "the transaction itself is fine");
}

#[test]
fn account_limits() {
    let mut rig =
        Rig::new(limited(Limits { pending_account_max: 4, queued_account_max: 2, ..Limits::default() }));
    let wallet = rig.rich(1);
    let hashes: Vec<B256> = (0..6).map(|n| rig.send(wallet.transfer(n, 2_000, 1)).unwrap()).collect();
    assert_eq!(rig.admission.status().pending, 4);
    assert_eq!(rig.admission.status().queued, 2);
    assert_eq!(rig.send(wallet.transfer(6, 2_000, 1)), Err(Reject::NonceTooHigh));
    let gapped = rig.rich(2);
    for nonce in [2, 3] {
        rig.send(gapped.transfer(nonce, 2_000, 1)).unwrap();
    }
    assert_eq!(rig.send(gapped.transfer(4, 2_000, 1)), Err(Reject::AccountLimit));
    // Whatever is executed makes room for what is queued.
    let mut executed = vec![];
    loop {
        let taken = rig.take(1);
        let Some(pending) = taken.first() else { break };
        rig.execute(pending).unwrap();
        executed.push(pending.tx.hash);
    }
    assert_eq!(executed, hashes);
}

#[test]
fn pool_limits() {
    let mut rig = Rig::new(limited(Limits { pending_max: 3, queued_max: 2, ..Limits::default() }));
    let wallets: Vec<Wallet> = (0..8).map(|seed| rig.rich(seed)).collect();
    for wallet in &wallets[..3] {
        rig.send(wallet.transfer(0, 2_000, 1)).unwrap();
    }
    assert_eq!(rig.send(wallets[3].transfer(0, 2_000, 1)), Err(Reject::PoolFull));
    for wallet in &wallets[4..6] {
        rig.send(wallet.transfer(1, 2_000, 1)).unwrap();
    }
    assert_eq!(rig.send(wallets[6].transfer(1, 2_000, 1)), Err(Reject::PoolFull), "no room in the queue");
    assert_eq!(rig.admission.status().pending, 3);
}

#[test]
fn a_transaction_that_cannot_be_promoted_for_want_of_room_is_promoted_later() {
    let mut rig = Rig::new(limited(Limits { pending_max: 2, ..Limits::default() }));
    let (a, b) = (rig.rich(1), rig.rich(2));
    let second = rig.send(a.transfer(1, 2_000, 1)).unwrap();
    rig.send(b.transfer(0, 2_000, 1)).unwrap();
    rig.send(a.transfer(0, 2_000, 1)).unwrap();
    assert_eq!(rig.place(&second), Some(Place::Queued));
    let taken = rig.take(1);
    rig.execute(&taken[0]).unwrap();
    assert_eq!(rig.place(&second), Some(Place::Ready));
}

#[test]
fn executable_transactions_evict_queued_ones_when_bytes_run_out() {
    let one = ironlane_pool::TX_OVERHEAD_BYTES + 130;
    let mut rig = Rig::new(limited(Limits { pool_bytes_max: 3 * one, ..Limits::default() }));
    let wallets: Vec<Wallet> = (0..6).map(|seed| rig.rich(seed)).collect();
    let oldest = rig.send(wallets[0].transfer(1, 2_000, 1)).unwrap();
    let newer = rig.send(wallets[1].transfer(1, 2_000, 1)).unwrap();
    rig.send(wallets[2].transfer(0, 2_000, 1)).unwrap();
    assert_eq!(
        rig.send(wallets[3].transfer(1, 2_000, 1)),
        Err(Reject::PoolFull),
        "a queued one evicts nobody"
    );
    rig.send(wallets[3].transfer(0, 2_000, 1)).unwrap();
    assert_eq!(rig.dropped(&oldest).unwrap().reason, Reject::Evicted);
    assert_eq!(rig.place(&newer), Some(Place::Queued));
    rig.send(wallets[4].transfer(0, 2_000, 1)).unwrap();
    assert_eq!(rig.dropped(&newer).unwrap().reason, Reject::Evicted);
    assert_eq!(
        rig.send(wallets[5].transfer(0, 2_000, 1)),
        Err(Reject::PoolFull),
        "no pending one is evicted"
    );
    assert!(rig.admission.status().bytes <= 3 * one);
}

#[test]
fn a_gap_that_is_not_filled_expires() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let hash = rig.send(wallet.transfer(1, 2_000, 1)).unwrap();
    rig.pass(30);
    let younger = rig.send(wallet.transfer(2, 2_000, 1)).unwrap();
    rig.pass(30);
    assert_eq!(rig.dropped(&hash).unwrap().reason, Reject::Expired);
    assert_eq!(rig.admission.fate(&hash), Some(Reject::Expired));
    assert_eq!(rig.place(&younger), Some(Place::Queued));
    rig.pass(30);
    assert_eq!(rig.admission.status().queued, 0);
    // Somebody may try again.
    assert!(rig.send(wallet.transfer(1, 2_000, 1)).is_ok());
}

#[test]
fn any_other_reason_of_the_executor_is_passed_on() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let hash = rig.send(wallet.transfer(0, 2_000, 1)).unwrap();
    let follower = rig.send(wallet.transfer(1, 2_000, 1)).unwrap();
    let taken = rig.take(1);
    let tx = &taken[0].tx;
    rig.admission.feedback(&Feedback::Dropped {
        hash: tx.hash,
        sender: tx.sender,
        nonce: 0,
        reason: Reject::Internal,
    });
    rig.settle();
    assert_eq!(rig.dropped(&hash).unwrap().reason, Reject::Internal);
    assert_eq!(rig.place(&follower), Some(Place::Queued), "it waits for the nonce to be filled again");
    rig.send(wallet.transfer(0, 3_000, 1)).unwrap();
    assert_eq!(rig.take(5).len(), 2);
}

#[test]
fn what_the_executor_gives_back_is_handed_out_again_but_not_for_ever() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let hash = rig.send(wallet.transfer(0, 2_000, 1)).unwrap();
    let mut handed_out = 0;
    loop {
        let taken = rig.take(5);
        let Some(pending) = taken.first() else { break };
        handed_out += 1;
        assert!(handed_out < 100, "an executor that always gives back must not loop for ever");
        let (hash, sender) = (pending.tx.hash, pending.tx.sender);
        rig.admission.feedback(&Feedback::Dropped { hash, sender, nonce: 0, reason: Reject::NonceTooHigh });
    }
    assert!(handed_out > 1);
    assert_eq!(rig.dropped(&hash).unwrap().reason, Reject::NonceTooHigh);
    assert_eq!(rig.admission.metrics().returned, handed_out - 1);
}

#[test]
fn a_wrong_hint_is_counted_and_never_a_reason() {
    let mut rig = Rig::new(config());
    let wallet = rig.rich(1);
    let raw = |nonce| wallet.transfer(nonce, 2_000, 1);
    rig.send_hinted(raw(0), Some(wallet.address)).unwrap();
    rig.send_hinted(raw(1), Some(Address::repeat_byte(1))).unwrap();
    rig.send_hinted(raw(2), None).unwrap();
    let metrics = rig.admission.metrics();
    assert_eq!((metrics.hints, metrics.wrong_hints, metrics.accepted), (2, 1, 3));
    assert!(rig.take(5).iter().all(|p| p.tx.sender == wallet.address));
}

#[test]
fn push_takes_what_there_is_room_for() {
    let mut rig = Rig::new(limited(Limits { recovering_max: 3, ..Limits::default() }));
    let wallet = rig.rich(1);
    let mut batch: Vec<Submission> = (0..5)
        .map(|n| Submission {
            origin: Origin { lane: 1, tag: n },
            raw: wallet.transfer(n, 2_000, 1),
            sender_hint: None,
            received_ns: 9,
        })
        .collect();
    assert_eq!(rig.admission.push(&mut batch), 3);
    assert_eq!((batch.len(), batch[0].origin.tag, rig.admission.room()), (2, 3, 0));
    assert_eq!(rig.admission.push(&mut batch), 0);
    rig.settle();
    assert_eq!(rig.admission.push(&mut batch), 2);
    let taken = rig.take(10);
    assert_eq!(taken.iter().map(|p| p.origin.tag).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(taken[0].received_ns, 9);
}

#[test]
fn transactions_are_handed_out_no_faster_than_asked_for() {
    let mut rig = Rig::new(config());
    let wallets: Vec<Wallet> = (0..10).map(|seed| rig.rich(seed)).collect();
    let hashes: Vec<B256> = wallets.iter().map(|w| rig.send(w.transfer(0, 2_000, 1)).unwrap()).collect();
    assert_eq!(rig.take(3).iter().map(|p| p.tx.hash).collect::<Vec<_>>(), hashes[..3]);
    assert_eq!(rig.admission.status().in_flight, 3);
    assert!(rig.admission.has_work());
    assert_eq!(rig.take(100).len(), 7);
    assert!(!rig.admission.has_work());
}

#[test]
fn queries_show_what_is_there() {
    let mut rig = Rig::new(config());
    let (a, b) = (rig.rich(1), rig.rich(2));
    for nonce in [0, 1, 3] {
        rig.send(a.transfer(nonce, 2_000, 1)).unwrap();
    }
    rig.send(b.transfer(0, 2_000, 1)).unwrap();
    rig.take(1);
    let places: Vec<Place> = rig.admission.content_of(&a.address).iter().map(|t| t.place).collect();
    assert_eq!(places, [Place::InFlight, Place::Ready, Place::Queued]);
    assert_eq!(rig.admission.pending_nonce(&a.address), 2);
    assert_eq!(rig.admission.content(100).len(), 4);
    assert_eq!(rig.admission.content(2).len(), 2);
    assert!(rig.admission.content_of(&Address::ZERO).is_empty());
}

/// Answers everything with the same address.
struct Liar(Vec<u64>);

impl RecoverEngine for Liar {
    fn caps(&self) -> Caps {
        Caps { name: "liar", trust: Trust::Hint, capacity: 10, batch_min: 1, parallelism: 1 }
    }
    fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full> {
        self.0.extend(batch.drain(..).map(|q| q.tag));
        Ok(())
    }
    fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize {
        out.extend(self.0.drain(..).map(|tag| RecoverAnswer { tag, result: Ok(Address::ZERO) }));
        out.len()
    }
    fn in_flight(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn an_engine_whose_answers_are_hints_is_not_taken() {
    let refused = Admission::new(config(), Box::new(Liar(vec![])), Ledger::default()).err().unwrap();
    assert_eq!(refused.engine, "liar");
}
