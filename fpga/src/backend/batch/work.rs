//! What a worker of the batch engine does with the requests it has taken.

use super::keys::KeyCache;
use super::standing::{Prices, Standing};
use crate::backend::pool::{Work, lock};
use crate::backend::simd::{Lanes, Vectors};
use crate::secp::{Affine, Isa, Verifier};
use crate::{RecoverAnswer, RecoverError, RecoverRequest};
use alloy_primitives::{Address, B256, U256};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Fewer than this are recovered: a check's fixed costs would eat up what it saves.
const CHECKED_MIN: usize = 40;

/// What the engine has done.
#[derive(Debug, Default)]
pub struct Stats {
    /// Signatures answered by a check that held.
    pub verified: AtomicU64,
    /// Signatures recovered one by one.
    pub recovered: AtomicU64,
    /// Checks made.
    pub checks: AtomicU64,
    /// Checks that failed.
    pub failed: AtomicU64,
    /// Guesses that recovery has shown to be wrong.
    pub wrong_guesses: AtomicU64,
}

impl Stats {
    /// Forgets the self-test.
    pub(super) fn reset(&self) {
        for counter in [&self.verified, &self.recovered, &self.checks, &self.failed, &self.wrong_guesses] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// What the workers of one engine share.
pub(super) struct Shared {
    pub(super) keys: Arc<KeyCache>,
    pub(super) stats: Arc<Stats>,
    standing: Mutex<Standing>,
    prices: Prices,
}

impl Shared {
    pub(super) fn new(vectors: Vectors, keys: Arc<KeyCache>) -> Self {
        let prices = match vectors {
            Vectors::Avx2 => Prices { check: 10_000, check_each: 320, prepare_each: 150 },
            Vectors::Ifma => Prices { check: 18_000, check_each: 350, prepare_each: 140 },
        };
        Shared { keys, stats: Arc::default(), standing: Mutex::new(Standing::new()), prices }
    }
}

/// A signature whose signer is guessed.
#[derive(Debug, Clone, Copy)]
struct Guess {
    /// Its place among the requests.
    place: usize,
    source: u64,
    address: Address,
    /// The account's number in this batch's reading of the cache.
    account: u32,
    key: Affine,
}

/// A signature to be recovered, and whom its source would have us expect.
#[derive(Debug, Clone, Copy)]
struct Plain {
    place: usize,
    guess: Option<Address>,
}

/// How many of a source's signatures may yet come into the batch, and whom to expect without a hint.
type Allowance = (usize, Option<Address>);

/// One worker.
pub(super) struct Worker {
    lanes: Lanes,
    verifier: Verifier,
    shared: Arc<Shared>,
    guesses: Vec<Guess>,
    plain: Vec<Plain>,
    /// What is left of each source's allowance in this batch.
    allowances: HashMap<u64, Allowance>,
    /// Accounts, by their number plus one, and their places in `keys`: open addressing, length a power of two. The numbers
    /// come from a hash with a secret.
    key_places: Vec<(u32, u32)>,
    keys: Vec<Affine>,
    key_of: Vec<u32>,
    checked: Vec<RecoverRequest>,
    has_nonce: Vec<bool>,
}

impl Worker {
    pub(super) fn new(lanes: Lanes, isa: Isa, shared: Arc<Shared>) -> Self {
        Worker {
            lanes,
            verifier: Verifier::new(isa, rand::random()),
            shared,
            guesses: vec![],
            plain: vec![],
            allowances: HashMap::new(),
            key_places: vec![],
            keys: vec![],
            key_of: vec![],
            checked: vec![],
            has_nonce: vec![],
        }
    }

    /// Sorts the requests into those whose signer can be guessed and those to recover; answers those out of range.
    fn sort(&mut self, requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>) {
        self.guesses.clear();
        self.plain.clear();
        self.allowances.clear();
        let keys = self.shared.keys.read();
        let mut standing = lock(&self.shared.standing);
        standing.drip(requests.len());
        let mut current: Option<(u64, Allowance)> = None;
        for (place, request) in requests.iter().enumerate() {
            if let Err(error) = request.check_ranges() {
                out.push(RecoverAnswer { tag: request.tag, result: Err(error) });
                continue;
            }
            if current.is_none_or(|(source, _)| source != request.source) {
                if let Some((source, allowance)) = current {
                    self.allowances.insert(source, allowance);
                }
                let known = self.allowances.get(&request.source).copied();
                current = Some((request.source, known.unwrap_or_else(|| standing.of(request.source))));
            }
            let Some((_, (left, usual))) = &mut current else { continue };
            let guess = request.hint.or(*usual);
            let known = if *left > 0 { guess.and_then(|address| keys.get(&address)) } else { None };
            match (guess, known) {
                (Some(address), Some((account, key))) => {
                    *left -= 1;
                    self.guesses.push(Guess { place, source: request.source, address, account, key });
                }
                _ => self.plain.push(Plain { place, guess }),
            }
        }
        let affordable = standing.affordable(&self.shared.prices, self.guesses.len());
        let kept = if affordable < CHECKED_MIN { 0 } else { affordable };
        let dear = self.guesses.drain(kept..);
        self.plain.extend(dear.map(|guess| Plain { place: guess.place, guess: Some(guess.address) }));
        if kept > 0 {
            standing.pay(self.shared.prices.prepare(kept));
        }
        // One source's signatures stand together, so that halving soon has the wrong ones alone.
        self.guesses.sort_by_key(|guess| guess.source);
    }

    /// Hands the guesses to the verifier.
    fn prepare(&mut self, requests: &[RecoverRequest]) {
        self.key_places.clear();
        self.key_places.resize((2 * self.guesses.len()).next_power_of_two(), (0, 0));
        self.keys.clear();
        self.key_of.clear();
        self.checked.clear();
        self.has_nonce.clear();
        let mask = self.key_places.len() - 1;
        for guess in &self.guesses {
            let wanted = guess.account + 1;
            let mut slot = wanted.wrapping_mul(0x9e37_79b1) as usize & mask;
            while self.key_places[slot].0 != wanted {
                if self.key_places[slot].0 == 0 {
                    self.key_places[slot] = (wanted, self.keys.len() as u32);
                    self.keys.push(guess.key);
                } else {
                    slot = (slot + 1) & mask;
                }
            }
            self.key_of.push(self.key_places[slot].1);
            self.checked.push(requests[guess.place]);
        }
        self.verifier.prepare(&self.checked, &self.key_of, &self.keys, &mut self.has_nonce);
    }

    /// Answers the guesses of `range` if they hold; else halves it. What is too little to check, or too dear, becomes plain.
    /// `wrong`: that something in it is wrong is known already.
    fn settle(&mut self, range: Range<usize>, wrong: bool, rng: &mut StdRng, out: &mut Vec<RecoverAnswer>) {
        if range.len() < CHECKED_MIN {
            return self.give_up(range);
        }
        if !wrong {
            match self.check(range.clone(), rng) {
                None => return self.give_up(range),
                Some(true) => return self.accept(range, out),
                Some(false) => {}
            }
        }
        let middle = range.start + range.len() / 2;
        let (left, right) = (range.start..middle, middle..range.end);
        if left.len() < CHECKED_MIN {
            return self.give_up(range);
        }
        match self.check(left.clone(), rng) {
            None => self.give_up(range),
            // What is wrong must be in the other half.
            Some(true) => {
                self.accept(left, out);
                self.settle(right, true, rng, out);
            }
            Some(false) => {
                self.settle(left, true, rng, out);
                self.settle(right, false, rng, out);
            }
        }
    }

    /// Whether the guesses of `range` hold; `None` when that is too dear to ask.
    fn check(&mut self, range: Range<usize>, rng: &mut StdRng) -> Option<bool> {
        let shared = &self.shared;
        if !lock(&shared.standing).pay(shared.prices.check(range.len())) {
            return None;
        }
        count(&shared.stats.checks, 1);
        let holds = self.verifier.verify(range.clone(), rng);
        if holds {
            lock(&shared.standing).earn(range.len());
        } else {
            count(&shared.stats.failed, 1);
        }
        Some(holds)
    }

    /// Answers what has been proved.
    fn accept(&mut self, range: Range<usize>, out: &mut Vec<RecoverAnswer>) {
        let mut standing = lock(&self.shared.standing);
        let mut verified = 0;
        let places = range.start..range.end;
        for of_source in self.guesses[range].chunk_by(|a, b| a.source == b.source) {
            let source = of_source[0].source;
            let mut confirmed = 0;
            for (guess, place) in of_source.iter().zip(places.clone().skip(verified)) {
                let tag = self.checked[place].tag;
                let result = if self.has_nonce[place] { Ok(guess.address) } else { Err(RecoverError::NoKey) };
                confirmed += usize::from(result.is_ok());
                out.push(RecoverAnswer { tag, result });
            }
            verified += of_source.len();
            standing.confirm(source, confirmed);
            if confirmed < of_source.len() {
                standing.disappoint(source);
            }
        }
        count(&self.shared.stats.verified, verified);
    }

    fn give_up(&mut self, range: Range<usize>) {
        let guesses = &self.guesses[range];
        self.plain.extend(guesses.iter().map(|g| Plain { place: g.place, guess: Some(g.address) }));
    }

    /// Recovers what is plain, learns the keys, and remembers who had been guessed rightly.
    fn recover_plain(&mut self, requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>) {
        if self.plain.is_empty() {
            return;
        }
        self.checked.clear();
        self.checked.extend(self.plain.iter().map(|plain| requests[plain.place]));
        let found = self.lanes.signers(&self.checked);
        let mut standing = lock(&self.shared.standing);
        let mut wrong = 0;
        for ((plain, request), found) in self.plain.iter().zip(&self.checked).zip(found) {
            let result = found.map(|signer| signer.address);
            out.push(RecoverAnswer { tag: request.tag, result });
            if let Ok(signer) = result {
                standing.signed(request.source, signer);
            }
            match plain.guess {
                Some(guess) if result == Ok(guess) => standing.confirm(request.source, 1),
                Some(_) => {
                    standing.disappoint(request.source);
                    wrong += 1;
                }
                None => {}
            }
        }
        drop(standing);
        self.shared.keys.insert_all(found.iter().flatten().map(|signer| (signer.address, signer.key)));
        count(&self.shared.stats.wrong_guesses, wrong);
        count(&self.shared.stats.recovered, self.plain.len());
    }
}

impl Work for Worker {
    fn recover(&mut self, requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>) {
        self.sort(requests, out);
        if !self.guesses.is_empty() {
            self.prepare(requests);
            let all = 0..self.guesses.len();
            // Seeded now that the batch is fixed. Without random numbers nothing can be proved.
            match StdRng::try_from_os_rng() {
                Ok(mut rng) => self.settle(all, false, &mut rng, out),
                Err(_) => self.give_up(all),
            }
        }
        self.recover_plain(requests, out);
    }
}

/// A batch that holds, and the same with one wrong signature in it.
pub(super) fn self_test(isa: Isa) -> Result<(), String> {
    const COUNT: usize = 48;
    let mut rng = StdRng::try_from_os_rng().map_err(|e| format!("the system has no random numbers: {e}"))?;
    let (mut requests, mut keys, mut key_of) = (vec![], vec![], vec![]);
    while requests.len() < COUNT {
        let (mut secret, mut hash) = ([0; 32], [0; 32]);
        rng.fill_bytes(&mut secret);
        rng.fill_bytes(&mut hash);
        let Ok(secret) = secp256k1::SecretKey::from_byte_array(secret) else { continue };
        let key =
            secp256k1::PublicKey::from_secret_key(secp256k1::SECP256K1, &secret).serialize_uncompressed();
        let message = secp256k1::Message::from_digest(hash);
        let (id, rs) = secp256k1::SECP256K1.sign_ecdsa_recoverable(message, &secret).serialize_compact();
        let mut point = [0; 64];
        point.copy_from_slice(&key[1..]);
        key_of.push(keys.len() as u32);
        keys.push(Affine::from_bytes(&point));
        requests.push(RecoverRequest {
            tag: 0,
            hash: B256::from(hash),
            r: U256::from_be_slice(&rs[..32]),
            s: U256::from_be_slice(&rs[32..]),
            parity: i32::from(id) as u8,
            hint: None,
            source: 0,
        });
    }
    let mut verifier = Verifier::new(isa, rng.next_u64());
    verifier.prepare(&requests, &key_of, &keys, &mut vec![]);
    if !verifier.verify(0..COUNT, &mut rng) {
        return Err("self-test: a batch of right signatures was found wrong".into());
    }
    requests[COUNT / 3].hash.0[0] ^= 1;
    verifier.prepare(&requests, &key_of, &keys, &mut vec![]);
    if verifier.verify(0..COUNT, &mut rng) {
        return Err("self-test: a batch with a wrong signature was found right".into());
    }
    Ok(())
}
