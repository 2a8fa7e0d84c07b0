//! Any sequence of events, against a model that keeps plain lists and computes everything anew.

mod rig;

use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, U256};
use ironlane_pool::{AccountSource, CodeKind, Feedback, Limits, Pending, Place, PoolConfig};
use ironlane_types::{Origin, Reject, Submission};
use proptest::prelude::*;
use rig::*;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

const ACCOUNTS: u64 = 5;
const LIMITS: Limits = Limits {
    recovering_max: 64,
    pending_max: 12,
    pool_bytes_max: 20 * (ironlane_pool::TX_OVERHEAD_BYTES + 120),
    pending_account_max: 5,
    queued_max: 8,
    queued_bytes_max: 1 << 20,
    queued_account_max: 3,
    pending_delegated_max: 2,
    queued_lifetime_s: 60,
    replacement_bump_percent: 10,
    fee_cap_min_wei: 1,
    remembered_max: 1_000,
};

#[derive(Debug, Clone)]
enum Event {
    /// Nonce relative to the state's, fee cap, value in units of a hundredth of the usual balance.
    Send {
        account: u64,
        nonce: i64,
        fee: u128,
        value: u64,
    },
    /// Several at once, so that they go through recovery together.
    Burst {
        account: u64,
        count: u64,
        fee: u128,
    },
    Take {
        max: usize,
    },
    /// The executor runs the oldest so many that it has: the state shows them.
    Execute {
        count: usize,
    },
    /// It tells the pool of the oldest so many.
    Answer {
        count: usize,
    },
    BaseFee {
        fee: u64,
    },
    /// Somebody else changes an account.
    Balance {
        account: u64,
        hundredths: u64,
    },
    Nonce {
        account: u64,
    },
    Delegate {
        account: u64,
    },
    Wait {
        seconds: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let account = 0..ACCOUNTS;
    prop_oneof![
        8 => (account.clone(), -1i64..10, prop_oneof![Just(1_000u128), Just(1_200), Just(1_400), Just(2_000)], 0u64..60)
            .prop_map(|(account, nonce, fee, value)| Event::Send { account, nonce, fee, value }),
        2 => (account.clone(), 1u64..8, prop_oneof![Just(1_000u128), Just(1_500)])
            .prop_map(|(account, count, fee)| Event::Burst { account, count, fee }),
        4 => (1usize..6).prop_map(|max| Event::Take { max }),
        3 => (1usize..6).prop_map(|count| Event::Execute { count }),
        4 => (1usize..6).prop_map(|count| Event::Answer { count }),
        1 => prop_oneof![Just(900u64), Just(1_100), Just(1_300), Just(5_000)].prop_map(|fee| Event::BaseFee { fee }),
        1 => (account.clone(), 0u64..150).prop_map(|(account, hundredths)| Event::Balance { account, hundredths }),
        1 => account.clone().prop_map(|account| Event::Nonce { account }),
        1 => account.prop_map(|account| Event::Delegate { account }),
        1 => (1u64..40).prop_map(|seconds| Event::Wait { seconds }),
    ]
}

/// A hundredth of what an account usually has.
fn hundredth() -> U256 {
    U256::from(21_000u64 * 2_000 / 10)
}

struct Model {
    rig: Rig,
    wallets: Vec<Wallet>,
    /// Handed out, oldest first, and not executed.
    flying: VecDeque<Pending>,
    /// Executed, and the pool has not been told.
    untold: VecDeque<(Feedback, u64, B256)>,
    base_fee: u64,
    /// What became of each submission, by its tag.
    accepted: HashMap<u64, B256>,
    ended: HashMap<u64, Result<(), Reject>>,
    tags: u64,
    /// Whether anything but the accounts' own transactions has changed an account since the last full drain.
    meddled: bool,
}

impl Model {
    fn new() -> Self {
        let rig = Rig::new(PoolConfig { limits: LIMITS, ..config() });
        let wallets: Vec<Wallet> = (0..ACCOUNTS).map(Wallet::new).collect();
        for wallet in &wallets {
            rig.ledger.edit(wallet.address, |a| a.balance = hundredth() * U256::from(100));
        }
        Self {
            rig,
            wallets,
            flying: VecDeque::new(),
            untold: VecDeque::new(),
            base_fee: BASE_FEE_WEI,
            accepted: HashMap::new(),
            ended: HashMap::new(),
            tags: 0,
            meddled: false,
        }
    }

    fn state_nonce(&self, wallet: &Wallet) -> u64 {
        self.rig.ledger.account(&wallet.address).unwrap().nonce
    }

    fn submission(&mut self, raw: alloy_primitives::Bytes) -> Submission {
        self.tags += 1;
        Submission { origin: Origin { lane: 1, tag: self.tags }, raw, sender_hint: None, received_ns: 0 }
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Send { account, nonce, fee, value } => {
                let wallet = self.wallets[account as usize].clone();
                let nonce = self.state_nonce(&wallet).saturating_add_signed(nonce);
                let value = (hundredth() * U256::from(value)).to::<u64>();
                let submission = self.submission(wallet.transfer(nonce, fee, value));
                self.rig.admission.push(&mut vec![submission]);
            }
            Event::Burst { account, count, fee } => {
                let wallet = self.wallets[account as usize].clone();
                let first = self.rig.admission.pending_nonce(&wallet.address);
                let mut batch: Vec<_> =
                    (0..count).map(|i| self.submission(wallet.transfer(first + i, fee, i))).collect();
                self.rig.admission.push(&mut batch);
            }
            Event::Take { max } => {
                let taken = self.rig.take(max);
                self.flying.extend(taken);
            }
            Event::Execute { count } => {
                for _ in 0..count {
                    self.execute();
                }
            }
            Event::Answer { count } => {
                for _ in 0..count {
                    self.answer();
                }
            }
            Event::BaseFee { fee } => {
                self.base_fee = fee;
                self.rig.new_block(fee);
            }
            Event::Balance { account, hundredths } => {
                self.meddled = true;
                let address = self.wallets[account as usize].address;
                self.rig.ledger.edit(address, |a| a.balance = hundredth() * U256::from(hundredths));
            }
            Event::Nonce { account } => {
                self.meddled = true;
                let address = self.wallets[account as usize].address;
                self.rig.ledger.edit(address, |a| a.nonce += 1);
            }
            Event::Delegate { account } => {
                let address = self.wallets[account as usize].address;
                self.rig.ledger.edit(address, |a| a.code_kind = CodeKind::Delegation);
            }
            Event::Wait { seconds } => self.rig.pass(seconds),
        }
        self.rig.settle();
        self.hear();
    }

    fn execute(&mut self) {
        let Some(pending) = self.flying.pop_front() else { return };
        let (feedback, result) = self.rig.execute_silently(&pending);
        if !self.meddled {
            assert_eq!(result, Ok(()), "what is handed out can be executed, unless somebody meddles");
        }
        self.untold.push_back((feedback, pending.origin.tag, pending.tx.hash));
    }

    fn answer(&mut self) {
        if self.untold.is_empty() {
            self.execute();
        }
        let Some((feedback, tag, _)) = self.untold.pop_front() else { return };
        self.rig.admission.feedback(&feedback);
        self.rig.settle();
        if matches!(feedback, Feedback::Executed { .. }) {
            assert_eq!(self.ended.insert(tag, Ok(())), None, "executed after it had ended");
        }
        self.hear();
    }

    /// Each submission is accepted or refused once; each accepted one ends once.
    fn hear(&mut self) {
        for accepted in self.rig.out.accepted.drain(..) {
            let tag = accepted.origin.tag;
            assert!(!self.ended.contains_key(&tag) && self.accepted.insert(tag, accepted.tx.hash).is_none());
        }
        for rejection in self.rig.out.rejected.drain(..) {
            let tag = rejection.origin.tag;
            assert_eq!(rejection.was_accepted, self.accepted.contains_key(&tag), "{rejection:?}");
            assert_eq!(self.ended.insert(tag, Err(rejection.reason)), None, "{rejection:?} ended twice");
        }
    }

    /// Everything that the queries show, checked against plain lists.
    fn check(&self) {
        let admission = &self.rig.admission;
        let status = admission.status();
        let content = admission.content(usize::MAX);
        let flying = self.flying.len() + self.untold.len();

        let alive: HashSet<B256> = self
            .accepted
            .iter()
            .filter(|(tag, _)| !self.ended.contains_key(tag))
            .map(|(_, hash)| *hash)
            .collect();
        assert!(content.iter().all(|tx| alive.contains(&tx.tx.hash)), "the pool shows what has ended");
        assert!(alive.iter().all(|hash| admission.get(hash).is_some()), "the pool lost what has not ended");

        // An entry in flight whose nonce the state has passed is counted but belongs to no account any more.
        let shown_flying = content.iter().filter(|tx| tx.place == Place::InFlight).count();
        assert!(shown_flying <= status.in_flight && status.in_flight == flying);
        let ready = content.iter().filter(|tx| tx.place == Place::Ready).count();
        let queued = content.iter().filter(|tx| tx.place == Place::Queued).count();
        assert_eq!((status.pending, status.queued), (ready + flying, queued));
        let bytes = |raw: &alloy_primitives::Bytes| raw.len() + ironlane_pool::TX_OVERHEAD_BYTES;
        let total: usize = alive.iter().map(|h| bytes(&admission.get(h).unwrap().tx.raw)).sum();
        assert_eq!(status.bytes, total);

        assert!(status.pending <= LIMITS.pending_max, "{status:?}");
        assert!(status.queued <= LIMITS.queued_max, "{status:?}");
        assert!(status.bytes <= LIMITS.pool_bytes_max, "{status:?}");

        let mut accounts: BTreeMap<Address, Vec<_>> = BTreeMap::new();
        for tx in &content {
            accounts.entry(tx.tx.sender).or_default().push(tx);
        }
        assert_eq!(status.accounts, accounts.len());
        for (address, txs) in accounts {
            assert!(txs.len() <= LIMITS.pending_account_max + LIMITS.queued_account_max);
            let nonces: Vec<u64> = txs.iter().map(|tx| tx.tx.envelope.nonce()).collect();
            assert!(nonces.windows(2).all(|pair| pair[0] < pair[1]), "{nonces:?} are not in order");
            let pending = txs.iter().filter(|tx| tx.place != Place::Queued).count();
            assert!(pending <= LIMITS.pending_account_max);
            if !self.meddled {
                let state = self.rig.ledger.account(&address).unwrap();
                // What the state has passed is in flight and has been paid for.
                let done = txs.iter().take_while(|tx| tx.tx.envelope.nonce() < state.nonce).count();
                assert!(txs[..done].iter().all(|tx| tx.place == Place::InFlight));
                let (txs, nonces, pending) = (&txs[done..], &nonces[done..], pending - done);
                // Pending ones are a prefix, from the state's nonce on, without a gap.
                for (i, tx) in txs[..pending].iter().enumerate() {
                    assert_eq!(tx.tx.envelope.nonce(), state.nonce + i as u64);
                    assert_ne!(tx.place, Place::Queued);
                }
                let cost = txs.iter().fold(U256::ZERO, |sum, tx| sum + tx.tx.max_cost().unwrap());
                assert!(cost <= state.balance, "{address} has promised more than it has");
                let gap = nonces.iter().zip(state.nonce..).take_while(|(a, b)| *a == b).count() as u64;
                assert_eq!(admission.pending_nonce(&address), state.nonce + gap);
            }
        }
    }

    /// Executes until nothing is left that could be; then nothing may wait that a plain look at the lists finds
    /// executable.
    fn drain(&mut self) {
        loop {
            let taken = self.rig.take(1_000);
            self.flying.extend(taken);
            if self.flying.is_empty() && self.untold.is_empty() {
                break;
            }
            while !(self.flying.is_empty() && self.untold.is_empty()) {
                self.answer();
            }
        }
        // Accounts that others have changed are looked at again in time.
        for _ in 0..3 {
            self.rig.pass(0);
            self.hear();
        }
        if self.rig.admission.status().pending > 0 {
            return self.drain();
        }
        for wallet in &self.wallets {
            let state = self.rig.ledger.account(&wallet.address).unwrap();
            for tx in self.rig.admission.content_of(&wallet.address) {
                assert_eq!(tx.place, Place::Queued);
                let executable = tx.tx.envelope.nonce() == state.nonce
                    && tx.tx.envelope.max_fee_per_gas() >= u128::from(self.base_fee)
                    && tx.tx.max_cost().unwrap() <= state.balance;
                assert!(!executable, "nothing keeps nonce {} of {} waiting", state.nonce, wallet.address);
            }
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_events(events in prop::collection::vec(event(), 1..80)) {
        let mut model = Model::new();
        for event in &events {
            model.apply(event);
            model.check();
        }
        model.drain();
        model.rig.pass(100);
        model.hear();
        prop_assert_eq!(model.rig.admission.status().bytes, 0, "after a minute nothing is left");
        prop_assert_eq!(model.ended.len() as u64, model.tags, "every submission has come to an end");
    }
}
