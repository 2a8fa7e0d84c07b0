//! Readers beside a writer: money moves, is never made, and no reader sees half of a move.

use crate::common::{Rng, address, plain, small};
use alloy_primitives::{Address, U256};
use ironlane_state::{State, StateConfig, open_empty};
use ironlane_types::{AccountDelta, StateDelta};
use std::{
    sync::atomic::{AtomicBool, Ordering::*},
    thread,
    time::{Duration, Instant},
};

const ACCOUNTS: u64 = 400;
const RUN: Duration = Duration::from_millis(2500);

/// The account that holds a slot for each account, with that account's balance.
fn ledger() -> Address {
    address(1 << 40)
}

fn supply() -> U256 {
    // Some balances above 128 bits, so that wide cells come and go.
    U256::from(u128::MAX) * U256::from(4)
}

fn deltas(moves: &[(u64, U256)]) -> StateDelta {
    let mut accounts: Vec<_> = moves.iter().map(|(n, balance)| plain(*n, 1, *balance)).collect();
    let slots = moves.iter().map(|(n, balance)| (U256::from(*n), *balance)).collect();
    accounts.push(AccountDelta { slots, ..plain(1 << 40, 1, U256::ONE) });
    StateDelta { accounts, codes: vec![] }
}

/// Sums balances and slots at one version; `None` when it expired on the way.
fn audit(state: &State, rng: &mut Rng) -> Option<u64> {
    let newest = state.sealed_version()?;
    let back = rng.below(newest.saturating_sub(state.oldest_version()) + 1);
    let view = state.view_at(newest - back).ok()?;
    let addresses: Vec<Address> = (0..ACCOUNTS).map(address).collect();
    let mut accounts = vec![None; addresses.len()];
    view.accounts_batch(&addresses, &mut accounts).ok()?;
    let mut sum = U256::ZERO;
    for (n, account) in accounts.iter().enumerate() {
        let balance = account.map(|a| a.balance).unwrap_or_default();
        sum += balance;
        let slot = view.storage(&ledger(), U256::from(n)).ok()?;
        assert_eq!(slot, balance, "account {n} at version {}", view.version());
    }
    assert_eq!(sum, supply(), "version {}", view.version());
    Some(view.version())
}

#[test]
fn every_version_that_a_reader_sees_has_the_whole_supply() {
    // A small history, so that readers meet expiry all the time.
    let config = StateConfig { undo_bytes: 2 << 20, undo_bytes_max: 8 << 20, ..small() };
    let (state, mut writer) = open_empty(config).expect("open");
    let mut balances = vec![U256::ZERO; ACCOUNTS as usize];
    balances[0] = supply();
    writer
        .apply(&deltas(&(0..ACCOUNTS).map(|n| (n, balances[n as usize])).collect::<Vec<_>>()))
        .expect("apply");
    writer.seal();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3u64)
            .map(|seed| {
                let (state, stop) = (state.clone(), &stop);
                scope.spawn(move || {
                    let (mut rng, mut seen, mut expired) = (Rng(seed), 0u64, 0u64);
                    while !stop.load(Relaxed) {
                        if audit(&state, &mut rng).is_some() { seen += 1 } else { expired += 1 }
                    }
                    (seen, expired)
                })
            })
            .collect();
        let (mut rng, end, mut filler) = (Rng(99), Instant::now() + RUN, 0u64);
        while Instant::now() < end {
            for _ in 0..4 {
                let (from, to) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS));
                if from == to {
                    continue;
                }
                let share = U256::from(rng.below(1000));
                let amount = balances[from as usize] / U256::from(1000) * share;
                balances[from as usize] -= amount;
                balances[to as usize] += amount;
                let moves = [(from, balances[from as usize]), (to, balances[to as usize])];
                writer.apply(&deltas(&moves)).expect("apply");
            }
            // New accounts and slots, so that the indexes grow under the readers.
            for _ in 0..8 {
                filler += 1;
                let slots = vec![(U256::from(filler), U256::ONE)];
                let new = AccountDelta { slots, ..plain((1 << 41) + filler, 0, U256::ZERO) };
                writer.apply(&StateDelta { accounts: vec![new], codes: vec![] }).expect("apply");
            }
            writer.seal();
        }
        stop.store(true, Relaxed);
        let counts: Vec<_> =
            readers.into_iter().map(|r| r.join().expect("no reader saw a mixture")).collect();
        assert!(counts.iter().all(|(seen, _)| *seen > 10), "{counts:?}");
        println!(
            "audits (seen, expired) {counts:?}, versions {:?}, {:?}",
            state.sealed_version(),
            state.stats()
        );
    });
    assert!(state.stats().growths >= 4, "{:?}", state.stats());
    assert!(state.oldest_version() > 0, "history was recycled under the readers");
}

#[test]
fn keys_that_were_there_before_a_growth_are_never_missed() {
    let (state, mut writer) = open_empty(small()).expect("open");
    let held = 2000u64;
    let stop = AtomicBool::new(false);
    for n in 0..held {
        writer.apply(&StateDelta { accounts: vec![plain(n, n, U256::ONE)], codes: vec![] }).expect("apply");
    }
    writer.seal();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut rng, mut reads) = (Rng(5), 0u64);
            while !stop.load(Relaxed) {
                let n = rng.below(held);
                let view = state.view();
                assert_eq!(view.account(&address(n)).expect("held").map(|a| a.nonce), Some(n));
                assert_eq!(state.newest_account(&address(n)).map(|a| a.nonce), Some(n));
                reads += 1;
            }
            reads
        });
        for n in held..400_000 {
            writer
                .apply(&StateDelta { accounts: vec![plain(n, n, U256::ONE)], codes: vec![] })
                .expect("apply");
            if n % 1000 == 0 {
                writer.seal();
            }
        }
        stop.store(true, Relaxed);
        assert!(reader.join().expect("nothing was missed") > 1000);
    });
    assert!(state.stats().growths >= 6);
}
