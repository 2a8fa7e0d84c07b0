//! What the pool's tests share: wallets that sign, a ledger that stands for the state, an executor that obeys the rules
//! of nonce and balance and nothing else.
#![allow(dead_code, reason = "not every test file uses all of it")]

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use ironlane_fpga::backend::scalar;
use ironlane_pool::{
    AccountSource, Admission, AdmissionOutput, Feedback, Pending, Place, PoolAccount, PoolConfig, Rejection,
};
use ironlane_types::{Origin, Reject, Submission, TxEnvelope};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub(crate) const CHAIN_ID: u64 = 31337;
pub(crate) const BASE_FEE_WEI: u64 = 1_000;
pub(crate) const BLOCK_GAS: u64 = 30_000_000;
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

#[derive(Clone)]
pub(crate) struct Wallet {
    key: SecretKey,
    pub(crate) address: Address,
}

impl Wallet {
    pub(crate) fn new(seed: u64) -> Self {
        let key = SecretKey::from_byte_array(keccak256(seed.to_be_bytes()).0).unwrap();
        let point = PublicKey::from_secret_key(SECP256K1, &key).serialize_uncompressed();
        Self { key, address: Address::from_slice(&keccak256(&point[1..])[12..]) }
    }

    pub(crate) fn sign_hash(&self, hash: B256) -> Signature {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.key);
        let (id, rs) = signature.serialize_compact();
        let word = |i: usize| U256::from_be_slice(&rs[i * 32..i * 32 + 32]);
        Signature::new(word(0), word(1), i32::from(id) == 1)
    }

    pub(crate) fn sign<T: SignableTransaction<Signature>>(&self, tx: T) -> Bytes
    where
        alloy_consensus::Signed<T>: Into<TxEnvelope>,
    {
        let signature = self.sign_hash(tx.signature_hash());
        let envelope: TxEnvelope = tx.into_signed(signature).into();
        envelope.encoded_2718().into()
    }

    /// A transfer whose cost is 21,000 × `fee_cap` + `value`.
    pub(crate) fn transfer(&self, nonce: u64, fee_cap: u128, value: u64) -> Bytes {
        self.sign(TxEip1559 { nonce, max_fee_per_gas: fee_cap, value: U256::from(value), ..eip1559() })
    }

    pub(crate) fn authorization(&self, nonce: u64) -> SignedAuthorization {
        let inner =
            Authorization { chain_id: U256::from(CHAIN_ID), address: Address::repeat_byte(0xcc), nonce };
        let signature = self.sign_hash(inner.signature_hash());
        inner.into_signed(signature)
    }
}

pub(crate) fn eip1559() -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce: 0,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000,
        max_priority_fee_per_gas: 100,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        value: U256::from(1),
        access_list: Default::default(),
        input: Bytes::new(),
    }
}

pub(crate) fn eip2930() -> TxEip2930 {
    TxEip2930 {
        chain_id: CHAIN_ID,
        nonce: 0,
        gas_limit: 21_000,
        gas_price: 10_000,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        value: U256::from(1),
        access_list: Default::default(),
        input: Bytes::new(),
    }
}

pub(crate) fn legacy() -> TxLegacy {
    TxLegacy {
        chain_id: Some(CHAIN_ID),
        nonce: 0,
        gas_price: 10_000,
        gas_limit: 21_000,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        value: U256::from(1),
        input: Bytes::new(),
    }
}

pub(crate) fn eip7702(authorizations: Vec<SignedAuthorization>) -> TxEip7702 {
    TxEip7702 {
        chain_id: CHAIN_ID,
        nonce: 0,
        gas_limit: 21_000 + 25_000 * authorizations.len().max(1) as u64,
        max_fee_per_gas: 10_000,
        max_priority_fee_per_gas: 100,
        to: Address::repeat_byte(0xaa),
        value: U256::from(1),
        access_list: Default::default(),
        authorization_list: authorizations,
        input: Bytes::new(),
    }
}

/// The newest state.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Rc<RefCell<HashMap<Address, PoolAccount>>>);

impl AccountSource for Ledger {
    fn account(&self, address: &Address) -> Option<PoolAccount> {
        self.0.borrow().get(address).copied()
    }
}

impl Ledger {
    pub(crate) fn edit(&self, address: Address, change: impl FnOnce(&mut PoolAccount)) {
        change(self.0.borrow_mut().entry(address).or_default());
    }
}

pub(crate) struct Rig {
    pub(crate) admission: Admission<Ledger>,
    pub(crate) ledger: Ledger,
    pub(crate) now_ns: u64,
    pub(crate) out: AdmissionOutput,
    next_tag: u64,
}

pub(crate) fn config() -> PoolConfig {
    PoolConfig::new(CHAIN_ID, BASE_FEE_WEI, BLOCK_GAS)
}

impl Rig {
    pub(crate) fn new(config: PoolConfig) -> Self {
        let engine = scalar::probe(scalar::Config { workers: 0, ..Default::default() }, None).unwrap();
        let ledger = Ledger::default();
        let admission = Admission::new(config, Box::new(engine), ledger.clone()).unwrap();
        Self { admission, ledger, now_ns: 1, out: AdmissionOutput::default(), next_tag: 0 }
    }

    /// A wallet with money.
    pub(crate) fn rich(&self, seed: u64) -> Wallet {
        let wallet = Wallet::new(seed);
        self.ledger.edit(wallet.address, |a| a.balance = U256::from(10).pow(U256::from(24)));
        wallet
    }

    pub(crate) fn origin(&mut self) -> Origin {
        self.next_tag += 1;
        Origin { lane: 7, tag: self.next_tag }
    }

    /// Sends one transaction and waits for the verdict at the door.
    pub(crate) fn send(&mut self, raw: Bytes) -> Result<B256, Reject> {
        self.send_hinted(raw, None)
    }

    pub(crate) fn send_hinted(&mut self, raw: Bytes, sender_hint: Option<Address>) -> Result<B256, Reject> {
        let origin = self.origin();
        let submission = Submission { origin, raw, sender_hint, received_ns: self.now_ns };
        assert_eq!(self.admission.push(&mut vec![submission]), 1);
        self.settle();
        if let Some(accepted) = self.out.accepted.iter().find(|a| a.origin == origin) {
            return Ok(accepted.tx.hash);
        }
        let verdict = self.out.rejected.iter().find(|r| r.origin == origin && !r.was_accepted);
        Err(verdict.expect("every submission has a verdict").reason)
    }

    /// Polls, without taking anything ready, until nothing moves.
    pub(crate) fn settle(&mut self) {
        while self.admission.poll(self.now_ns, 0, &mut self.out) > 0 {}
    }

    /// Takes up to `max` ready transactions.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Pending> {
        self.settle();
        while self.out.ready.len() < max {
            let room = max - self.out.ready.len();
            if self.admission.poll(self.now_ns, room, &mut self.out) == 0 {
                break;
            }
        }
        std::mem::take(&mut self.out.ready)
    }

    /// Executes one transaction and tells the pool.
    pub(crate) fn execute(&mut self, pending: &Pending) -> Result<(), Reject> {
        let (feedback, verdict) = self.execute_silently(pending);
        self.admission.feedback(&feedback);
        self.settle();
        verdict
    }

    /// Executes one transaction by the rules of nonce and balance, each transaction costing all that it may. The state
    /// shows it at once; the pool hears of it when the feedback is passed on.
    pub(crate) fn execute_silently(&mut self, pending: &Pending) -> (Feedback, Result<(), Reject>) {
        use alloy_consensus::Transaction;
        let tx = &pending.tx;
        let (hash, sender, nonce) = (tx.hash, tx.sender, tx.envelope.nonce());
        let account = self.ledger.account(&sender).unwrap_or_default();
        let cost = tx.max_cost().unwrap();
        let verdict = match nonce.cmp(&account.nonce) {
            std::cmp::Ordering::Less => Err(Reject::NonceTooLow),
            std::cmp::Ordering::Greater => Err(Reject::NonceTooHigh),
            std::cmp::Ordering::Equal if cost > account.balance => Err(Reject::InsufficientFunds),
            std::cmp::Ordering::Equal => Ok(()),
        };
        let feedback = match verdict {
            Ok(()) => {
                self.ledger.edit(sender, |a| {
                    a.nonce += 1;
                    a.balance -= cost;
                });
                Feedback::Executed { hash, sender, nonce }
            }
            Err(reason) => Feedback::Dropped { hash, sender, nonce, reason },
        };
        (feedback, verdict)
    }

    pub(crate) fn new_block(&mut self, base_fee_wei: u64) {
        self.admission.feedback(&Feedback::NewBlock { base_fee_wei, gas_limit: BLOCK_GAS });
        self.settle();
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now_ns += seconds * SECOND_NS;
        self.admission.housekeep(self.now_ns);
        self.settle();
    }

    pub(crate) fn place(&self, hash: &B256) -> Option<Place> {
        self.admission.get(hash).map(|tx| tx.place)
    }

    /// The drop of a transaction that had been accepted.
    pub(crate) fn dropped(&self, hash: &B256) -> Option<Rejection> {
        self.out.rejected.iter().find(|r| r.hash == *hash && r.was_accepted).copied()
    }
}
