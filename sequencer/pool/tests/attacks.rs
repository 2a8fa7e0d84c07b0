//! Known attacks on transaction pools (DETER, CCS 2021; MemPurge and GhostTX, S&P 2023 and CCS 2022), each against a pool
//! whose limits are small enough to be reached. What is wanted each time: the transactions of honest senders are neither
//! pushed out nor kept out, and what the attacker leaves behind is bounded.

mod rig;

use alloy_consensus::TxEip1559;
use alloy_primitives::{B256, U256};
use ironlane_pool::{Limits, Place, PoolConfig};
use ironlane_types::Reject;
use rig::*;

const PENDING_MAX: usize = 50;
const QUEUED_MAX: usize = 20;

fn small() -> Rig {
    let limits = Limits {
        pending_max: PENDING_MAX,
        queued_max: QUEUED_MAX,
        pending_account_max: 8,
        queued_account_max: 4,
        ..Limits::default()
    };
    Rig::new(PoolConfig { limits, ..config() })
}

/// Ten honest senders, two transactions each.
fn honest(rig: &mut Rig) -> Vec<B256> {
    let mut hashes = vec![];
    for seed in 0..10 {
        let wallet = rig.rich(seed);
        for nonce in 0..2 {
            hashes.push(rig.send(wallet.transfer(nonce, 2_000, 1)).unwrap());
        }
    }
    hashes
}

/// Executes all that is ready, and returns the hashes in order.
fn run(rig: &mut Rig) -> Vec<B256> {
    let mut executed = vec![];
    loop {
        let taken = rig.take(7);
        if taken.is_empty() {
            return executed;
        }
        for pending in taken {
            if rig.execute(&pending).is_ok() {
                executed.push(pending.tx.hash);
            }
        }
    }
}

/// DETER-X: future transactions, at any fee, push out executable ones.
#[test]
fn future_transactions_push_out_nobody() {
    let mut rig = small();
    let hashes = honest(&mut rig);
    let mut taken = 0;
    for seed in 1_000..1_100 {
        let attacker = rig.rich(seed);
        taken += usize::from(rig.send(attacker.transfer(3, 1_000_000, 1)).is_ok());
    }
    assert_eq!(taken, QUEUED_MAX, "the queue takes what it has room for");
    assert!(hashes.iter().all(|h| rig.place(h) == Some(Place::Ready)));
    // Newcomers still come in beside a full queue.
    let late = rig.rich(500);
    let late = rig.send(late.transfer(0, 1_001, 1)).unwrap();
    assert_eq!(run(&mut rig), [hashes, vec![late]].concat());
    rig.pass(60);
    assert_eq!(rig.admission.status().queued, 0, "and what the attacker leaves is gone after a minute");
}

/// DETER-Z: a chain of transactions of which only the first can be paid.
#[test]
fn overdraft_chains_are_refused_from_the_second_on() {
    let mut rig = small();
    let hashes = honest(&mut rig);
    for seed in 1_000..1_010 {
        let attacker = Wallet::new(seed);
        // Enough for one transaction that moves all of it, and no more.
        let value = 1_000_000_000u64;
        rig.ledger.edit(attacker.address, |a| a.balance = U256::from(21_000 * 50_000 + value));
        assert!(rig.send(attacker.transfer(0, 50_000, value)).is_ok());
        for nonce in 1..8 {
            assert_eq!(rig.send(attacker.transfer(nonce, 50_000, value)), Err(Reject::InsufficientFunds));
        }
    }
    assert_eq!(rig.admission.status().pending, hashes.len() + 10);
    assert_eq!(run(&mut rig).len(), hashes.len() + 10);
}

/// MemPurge: transactions that are each affordable wait behind a gap; the transaction that fills the gap spends what
/// they need.
#[test]
fn filling_a_gap_does_not_make_an_overdraft_executable() {
    let mut rig = small();
    let hashes = honest(&mut rig);
    let attacker = Wallet::new(1_000);
    let cost = 21_000u64 * 2_000;
    rig.ledger.edit(attacker.address, |a| a.balance = U256::from(cost * 3));
    let waiting: Vec<B256> = (1..3).map(|n| rig.send(attacker.transfer(n, 2_000, 0)).unwrap()).collect();
    // The filler together with what waits would overdraw the account.
    assert_eq!(rig.send(attacker.transfer(0, 2_000, 1)), Err(Reject::InsufficientFunds));
    // The balance goes otherwise (a delegated account can be emptied by anybody's transaction): promotion looks again.
    rig.ledger.edit(attacker.address, |a| a.balance = U256::from(cost * 4));
    let filler_cost_all = rig.send(attacker.transfer(3, 2_000, 0)).unwrap();
    rig.ledger.edit(attacker.address, |a| a.balance = U256::from(cost * 2));
    assert_eq!(rig.send(attacker.transfer(0, 2_000, 0)), Err(Reject::InsufficientFunds));
    rig.ledger.edit(attacker.address, |a| (a.balance, a.nonce) = (U256::from(cost), 1));
    rig.pass(1);
    assert_eq!(
        rig.place(&waiting[0]),
        Some(Place::Ready),
        "the state's nonce has reached it and it can be paid"
    );
    assert_eq!(rig.dropped(&waiting[1]).map(|d| d.reason), Some(Reject::InsufficientFunds));
    assert_eq!(rig.place(&filler_cost_all), Some(Place::Queued), "behind a gap again");
    let executed = run(&mut rig);
    assert_eq!(executed, [hashes, waiting[..1].to_vec()].concat());
}

/// One account bids against itself for ever.
#[test]
fn replacement_spam_needs_ever_higher_fees_and_takes_one_place() {
    let mut rig = small();
    let hashes = honest(&mut rig);
    let attacker = rig.rich(1_000);
    let bid = |fee: u128| {
        attacker.sign(TxEip1559 { max_fee_per_gas: fee, max_priority_fee_per_gas: fee / 2, ..eip1559() })
    };
    let (mut fee, mut taken) = (1_000u128, 0);
    for _ in 0..200 {
        fee += fee / 20;
        taken += usize::from(rig.send(bid(fee)).is_ok());
    }
    // Steps of 5%: every second one reaches 10%, and never two in a row.
    assert!((60..=101).contains(&taken), "{taken} of 200 were taken");
    assert_eq!(rig.admission.metrics().dropped(Reject::Replaced) as usize, taken - 1);
    assert_eq!(rig.admission.status().pending, hashes.len() + 1);
    assert!(hashes.iter().all(|h| rig.place(h) == Some(Place::Ready)));
    assert_eq!(run(&mut rig).len(), hashes.len() + 1);
}

/// GhostTX: transactions that can be paid on arrival and no longer when their turn comes.
#[test]
fn ghosts_cost_the_attacker_his_place_and_nobody_else_anything() {
    let mut rig = small();
    let attacker = Wallet::new(1_000);
    rig.ledger.edit(attacker.address, |a| a.balance = U256::from(21_000u64 * 2_000 * 8));
    let ghosts: Vec<B256> = (0..8).map(|n| rig.send(attacker.transfer(n, 2_000, 0)).unwrap()).collect();
    let hashes = honest(&mut rig);
    rig.ledger.edit(attacker.address, |a| a.balance = U256::from(1));
    let executed = run(&mut rig);
    assert_eq!(executed, hashes, "in their own order, as if the ghosts had not been there");
    assert_eq!(rig.dropped(&ghosts[0]).unwrap().reason, Reject::InsufficientFunds);
    assert!(ghosts.iter().all(|g| rig.place(g).is_none() || rig.place(g) == Some(Place::Queued)));
    rig.pass(60);
    let status = rig.admission.status();
    assert_eq!((status.pending, status.queued, status.accounts, status.bytes), (0, 0, 0, 0));
    assert!(
        ghosts.iter().all(|g| rig.admission.fate(g).is_some()),
        "each ghost's sender can ask what became of it"
    );
}

/// Unpayably low fees from very many accounts fill the queue at most, and for a minute at most.
#[test]
fn fees_below_the_base_fee_do_not_hold_pending_places() {
    let mut rig = small();
    for seed in 1_000..1_100 {
        let attacker = rig.rich(seed);
        let _ = rig.send(attacker.transfer(0, 999, 1));
    }
    assert_eq!(rig.admission.status().queued, QUEUED_MAX);
    let hashes = honest(&mut rig);
    assert_eq!(run(&mut rig), hashes);
}

/// A base fee that jumps over everything takes back what it must and keeps within the limits.
#[test]
fn a_jump_of_the_base_fee_keeps_the_limits() {
    let mut rig = small();
    let hashes = honest(&mut rig);
    let rest = (0..PENDING_MAX - hashes.len()).map(|i| {
        let wallet = rig.rich(2_000 + i as u64);
        rig.send(wallet.transfer(0, 2_000, 1)).unwrap()
    });
    let all: Vec<B256> = hashes.clone().into_iter().chain(rest.collect::<Vec<_>>()).collect();
    rig.new_block(1_000_000);
    assert!(rig.take(1_000).is_empty());
    let status = rig.admission.status();
    assert_eq!((status.pending, status.queued), (0, QUEUED_MAX));
    rig.settle();
    let told =
        rig.out.rejected.iter().filter(|r| r.reason == Reject::FeeCapBelowBase && r.was_accepted).count();
    assert_eq!(told, all.len() - QUEUED_MAX, "whoever lost his place has been told");
    rig.new_block(1);
    assert_eq!(run(&mut rig).len(), QUEUED_MAX);
}
