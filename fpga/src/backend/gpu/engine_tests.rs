//! The engine's host side over a slot in software, which can be told to fail in the ways in which devices do.

use super::super::layout::WORK_WORDS;
use super::*;
use crate::RecoverError;
use alloy_primitives::{Address, B256, U256};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::sync::atomic::AtomicBool;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The driver does not take the batch.
    Start,
    /// The driver reports an error while the batch runs.
    Running,
    /// The batch never ends.
    Hang,
    /// Answers with a status that no kernel writes.
    Nonsense,
    /// Wrong addresses.
    Lie,
}

/// What all slots of a model share.
struct Bench {
    fault: Mutex<Fault>,
    /// How long a batch takes.
    takes: Mutex<Duration>,
    running: AtomicUsize,
    running_max: AtomicUsize,
    batches: Mutex<Vec<usize>>,
    freed: AtomicUsize,
}

struct Model {
    bench: Arc<Bench>,
    requests: Vec<u32>,
    answers: Vec<u32>,
    finished_at: Option<Instant>,
}

/// The opposite of `write_request`.
fn parse(tag: u64, words: &[u32]) -> RecoverRequest {
    let bytes: Vec<u8> = words[..24].iter().flat_map(|word| word.to_le_bytes()).collect();
    RecoverRequest {
        tag,
        hash: B256::from_slice(&bytes[..32]),
        r: U256::from_le_slice(&bytes[32..64]),
        s: U256::from_le_slice(&bytes[64..96]),
        parity: words[24] as u8,
        hint: None,
        source: 0,
    }
}

impl Slot for Model {
    fn requests(&mut self) -> Result<&mut [u32], String> {
        Ok(&mut self.requests)
    }

    fn start(&mut self, count: usize) -> Result<(), String> {
        let fault = *lock(&self.bench.fault);
        if fault == Fault::Start {
            return Err("the driver is gone".to_owned());
        }
        lock(&self.bench.batches).push(count);
        let running = self.bench.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.bench.running_max.fetch_max(running, Ordering::SeqCst);
        for i in 0..count {
            let request = parse(0, &self.requests[i * REQUEST_WORDS..]);
            let mut found = vec![];
            scalar::recover_chunk(&[request], &mut found);
            let words = &mut self.answers[i * ANSWER_WORDS..(i + 1) * ANSWER_WORDS];
            words.fill(0);
            match found[0].result {
                Ok(mut address) => {
                    if fault == Fault::Lie {
                        address.0[7] ^= 1;
                    }
                    let key = scalar::public_key(&request).unwrap();
                    for (word, bytes) in words[1..6].iter_mut().zip(address.chunks_exact(4)) {
                        *word = u32::from_le_bytes(bytes.try_into().unwrap());
                    }
                    for (half, number) in key.chunks_exact(32).zip(words[6..].chunks_exact_mut(8)) {
                        for (bytes, word) in half.chunks_exact(4).zip(number.iter_mut().rev()) {
                            *word = u32::from_be_bytes(bytes.try_into().unwrap());
                        }
                    }
                }
                Err(error) => {
                    let all = [
                        RecoverError::NoKey,
                        RecoverError::Parity,
                        RecoverError::R,
                        RecoverError::S,
                        RecoverError::HighS,
                    ];
                    words[0] = 1 + all.iter().position(|known| *known == error).unwrap() as u32;
                }
            }
            if fault == Fault::Nonsense {
                words[0] = 77;
            }
        }
        self.finished_at = Some(Instant::now() + *lock(&self.bench.takes));
        Ok(())
    }

    fn start_kernels(&mut self, count: usize) -> Result<(), String> {
        self.start(count)
    }

    fn is_finished(&mut self) -> Result<bool, String> {
        match *lock(&self.bench.fault) {
            Fault::Running => return Err("an illegal address was accessed".to_owned()),
            Fault::Hang => return Ok(false),
            _ => {}
        }
        let finished = self.finished_at.is_none_or(|at| Instant::now() >= at);
        if finished && self.finished_at.take().is_some() {
            self.bench.running.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(finished)
    }

    fn answers(&self) -> Result<&[u32], String> {
        Ok(&self.answers)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        assert!(self.finished_at.is_none(), "a slot was dropped while its batch ran");
        self.bench.freed.fetch_add(1, Ordering::SeqCst);
    }
}

const SLOTS: usize = 3;
const BATCH: usize = 256;

fn start(config: &Config, fault: Fault, waker: Option<Waker>) -> (Arc<Bench>, Result<Gpu, Refusal>) {
    const { assert!(WORK_WORDS > REQUEST_WORDS, "a request grows on its way") };
    let bench = Arc::new(Bench {
        fault: Mutex::new(fault),
        takes: Mutex::new(Duration::ZERO),
        running: AtomicUsize::new(0),
        running_max: AtomicUsize::new(0),
        batches: Mutex::new(vec![]),
        freed: AtomicUsize::new(0),
    });
    let slots = (0..SLOTS).map(|_| Model {
        bench: bench.clone(),
        requests: vec![0; BATCH * REQUEST_WORDS],
        answers: vec![0; BATCH * ANSWER_WORDS],
        finished_at: None,
    });
    let gpu = Gpu::start("model", slots.collect(), config, 32, waker);
    lock(&bench.batches).clear();
    (bench, gpu)
}

fn config() -> Config {
    Config { batch_max: BATCH, batches: SLOTS, linger_us: 200, answer_ms_max: 20_000, ..Config::default() }
}

fn signed(count: u64) -> (Vec<RecoverRequest>, Vec<Address>) {
    let secret = SecretKey::from_byte_array([7; 32]).unwrap();
    let point = PublicKey::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
    let signer = Address::from_slice(&crate::keccak::keccak256(&point[1..])[12..]);
    let requests = (0..count).map(|tag| {
        let hash = crate::keccak::keccak256(&tag.to_le_bytes());
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &secret);
        let (id, bytes) = signature.serialize_compact();
        let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
        RecoverRequest { tag, hash, r, s, parity: i32::from(id) as u8, hint: None, source: 0 }
    });
    (requests.collect(), vec![signer; count as usize])
}

/// Sends everything and polls until everything is answered or given back: (answers, given back).
fn drive(gpu: &mut Gpu, requests: &[RecoverRequest], reclaim: bool) -> (Vec<KeyAnswer>, Vec<RecoverRequest>) {
    let (mut batch, mut answers, mut back) = (requests.to_vec(), vec![], vec![]);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let full = gpu.submit(&mut batch);
        gpu.poll_keys(&mut answers);
        if gpu.failure().is_some() {
            if reclaim {
                gpu.reclaim(&mut back);
            }
            assert!(full.is_err() || batch.is_empty(), "a failed engine takes nothing");
        }
        let open = if gpu.failure().is_some() { batch.len() } else { 0 };
        if answers.len() + back.len() + open == requests.len() {
            break;
        }
        assert!(Instant::now() < deadline, "{} answers, {} back", answers.len(), back.len());
        std::thread::yield_now();
    }
    assert_eq!(gpu.in_flight(), 0);
    back.extend(batch);
    (answers, back)
}

#[test]
fn answers_come_with_their_tags_and_keys() {
    let (bench, gpu) = start(&config(), Fault::None, None);
    let mut gpu = gpu.unwrap();
    let (mut requests, signers) = signed(3_000);
    requests[5].s = U256::ZERO;
    let (mut answers, back) = drive(&mut gpu, &requests, true);
    assert!(back.is_empty());
    answers.sort_by_key(|found| found.answer.tag);
    for (tag, (found, request)) in answers.iter().zip(&requests).enumerate() {
        assert_eq!(found.answer.tag, tag as u64);
        match tag {
            5 => assert_eq!((found.answer.result, found.key), (Err(RecoverError::S), [0; 64])),
            _ => {
                assert_eq!(found.answer.result, Ok(signers[tag]));
                assert_eq!(found.key, scalar::public_key(request).unwrap());
            }
        }
    }
    let batches = lock(&bench.batches).clone();
    assert_eq!(batches.iter().sum::<usize>(), 3_000);
    assert!(batches.iter().all(|count| *count <= BATCH));
    drop(gpu);
    assert_eq!(bench.freed.load(Ordering::SeqCst), SLOTS, "a healthy engine frees its buffers");
}

#[test]
fn several_batches_are_under_way_at_a_time() {
    let (bench, gpu) = start(&config(), Fault::None, None);
    let mut gpu = gpu.unwrap();
    *lock(&bench.takes) = Duration::from_millis(300);
    let (requests, _) = signed(3 * BATCH as u64);
    drive(&mut gpu, &requests, false);
    assert_eq!(bench.running_max.load(Ordering::SeqCst), SLOTS);
}

#[test]
fn a_lone_request_waits_no_longer_than_it_may() {
    let patient = Config { linger_us: 50_000, ..config() };
    let (bench, gpu) = start(&patient, Fault::None, None);
    let mut gpu = gpu.unwrap();
    let (requests, _) = signed(BATCH as u64);
    let begin = Instant::now();
    drive(&mut gpu, &requests[..1], false);
    let lone = begin.elapsed();
    assert!(lone >= Duration::from_micros(50_000), "it waited for company: {lone:?}");
    assert!(lone < Duration::from_secs(5), "{lone:?}");
    // What arrives while it waits goes with it.
    let mut answers = vec![];
    for request in &requests[..10] {
        gpu.submit(&mut vec![*request]).unwrap();
    }
    while answers.len() < 10 {
        gpu.poll(&mut answers);
    }
    assert_eq!(*lock(&bench.batches), [1, 10]);
    // A full batch does not wait. (The self-test's rest of a batch does: hence no longer than this.)
    let (_, gpu) = start(&Config { linger_us: 2_000_000, ..config() }, Fault::None, None);
    let mut gpu = gpu.unwrap();
    let begin = Instant::now();
    drive(&mut gpu, &requests, false);
    assert!(begin.elapsed() < Duration::from_micros(1_900_000), "{:?}", begin.elapsed());
}

/// Whatever way the device fails, each request is answered rightly or comes back, once.
#[test]
fn a_failed_device_loses_no_request() {
    let (requests, signers) = signed(1_500);
    for (fault, word) in [
        (Fault::Start, "gone"),
        (Fault::Running, "illegal address"),
        (Fault::Hang, "no answer within 50 ms"),
        (Fault::Nonsense, "status 0x4d"),
    ] {
        for reclaim in [false, true] {
            let impatient =
                Config { answer_ms_max: if fault == Fault::Hang { 50 } else { 20_000 }, ..config() };
            let (bench, gpu) = start(&impatient, Fault::None, None);
            let mut gpu = gpu.unwrap();
            // Some of it while the device is well.
            let (first, rest) = requests.split_at(400);
            let (mut answers, back) = drive(&mut gpu, first, reclaim);
            assert!(back.is_empty() && gpu.failure().is_none());
            *lock(&bench.fault) = fault;
            let (more, back) = drive(&mut gpu, rest, reclaim);
            let failure = gpu.failure().expect("the engine has failed");
            assert!(failure.contains(word), "{fault:?}: {failure}");
            answers.extend(more);
            let mut tags: Vec<u64> = answers.iter().map(|found| found.answer.tag).collect();
            tags.extend(back.iter().map(|request| request.tag));
            tags.sort_unstable();
            assert_eq!(tags, (0..1_500).collect::<Vec<_>>(), "{fault:?}: each exactly once");
            for found in &answers {
                assert_eq!(found.answer.result, Ok(signers[found.answer.tag as usize]), "{fault:?}");
            }
            for request in &back {
                assert_eq!(*request, requests[request.tag as usize]);
            }
            assert!(gpu.submit(&mut vec![requests[0]]).is_err(), "it stays failed");
            assert!(gpu.submit(&mut vec![]).is_ok());
            let slots = gpu.threads.len();
            assert_eq!(slots, 2);
            // Model's destructor fails the test if a running slot is freed.
            drop(gpu);
            assert!(
                bench.freed.load(Ordering::SeqCst) < SLOTS,
                "{fault:?}: what may still be written to is leaked"
            );
        }
    }
}

#[test]
fn a_device_that_lies_at_the_start_is_refused() {
    for (fault, word) in [(Fault::Lie, "self-test case"), (Fault::Nonsense, "no kernel writes")] {
        let (_, gpu) = start(&config(), fault, None);
        let refusal = gpu.err().expect("refused");
        assert_eq!(refusal.engine, "model");
        assert!(refusal.reason.contains(word), "{fault:?}: {refusal}");
    }
}

#[test]
fn a_full_engine_leaves_the_rest_with_its_caller() {
    let (bench, gpu) = start(&config(), Fault::None, None);
    let mut gpu = gpu.unwrap();
    *lock(&bench.takes) = Duration::from_secs(1);
    let capacity = gpu.caps().capacity;
    assert_eq!(capacity, BATCH * (SLOTS + 1));
    let (mut batch, _) = signed(capacity as u64 + 9);
    assert!(gpu.submit(&mut batch).is_err());
    assert_eq!((batch.len(), gpu.in_flight()), (9, capacity));
    assert_eq!(batch[0].tag, capacity as u64, "the front was taken");
    assert!(gpu.submit(&mut vec![]).is_ok());
    drop(gpu);
    assert_eq!(bench.running.load(Ordering::SeqCst), 0, "a dropped engine waits for what is under way");
}

#[test]
fn the_waker_rings_for_answers_and_for_failure() {
    let rung = Arc::new(AtomicBool::new(false));
    let bell = rung.clone();
    let (bench, gpu) =
        start(&config(), Fault::None, Some(Arc::new(move || bell.store(true, Ordering::SeqCst))));
    let mut gpu = gpu.unwrap();
    assert!(!rung.load(Ordering::SeqCst), "the self-test rings nobody");
    let wait_for_bell = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !rung.swap(false, Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "nobody rang");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (mut batch, _) = signed(200);
    gpu.submit(&mut batch.split_off(100)).unwrap();
    let mut answers = vec![];
    while answers.len() < 100 {
        wait_for_bell();
        gpu.poll(&mut answers);
    }
    *lock(&bench.fault) = Fault::Running;
    gpu.submit(&mut batch).unwrap();
    // Orphans come a few at a time, each time with a ring for the next.
    while answers.len() < 200 {
        wait_for_bell();
        gpu.poll(&mut answers);
    }
    assert!(gpu.failure().is_some());
}

#[test]
fn layouts_that_make_no_sense_are_refused() {
    let wrong = [
        Config { batch_max: 255, ..config() },
        Config { batch_max: 262_145, ..config() },
        Config { batches: 0, ..config() },
        Config { batches: 9, ..config() },
        Config { answer_ms_max: 0, ..config() },
    ];
    for config in wrong {
        assert!(config.check("model").is_err(), "{config:?}");
    }
    for batch_max in [256, 262_144] {
        assert_eq!(Config { batch_max, ..config() }.check("model"), Ok(()));
    }
}

#[test]
fn kernels_can_be_timed_alone() {
    let bench = start(&config(), Fault::None, None).0;
    *lock(&bench.takes) = Duration::from_millis(2);
    let mut slot = Model {
        bench,
        requests: vec![0; BATCH * REQUEST_WORDS],
        answers: vec![0; BATCH * ANSWER_WORDS],
        finished_at: None,
    };
    let (requests, _) = signed(BATCH as u64 + 1);
    assert!(kernel_seconds(&mut slot, &config(), &requests[..10], 2).unwrap() > 0.0);
    assert!(kernel_seconds(&mut slot, &config(), &requests, 2).is_err());
    assert!(kernel_seconds(&mut slot, &config(), &[], 2).is_err());
    assert!(kernel_seconds(&mut slot, &config(), &requests[..1], 0).is_err());
}

/// Recoveries of `count` signatures over a real slot, against libsecp256k1.
#[cfg(feature = "opencl")]
pub(in crate::backend::gpu) fn self_test_of(slot: impl Slot, count: u64) {
    let config = Config { answer_ms_max: 120_000, ..config() };
    let mut gpu = Gpu::start("device", vec![slot], &config, 1, None).unwrap();
    let (requests, signers) = signed(count);
    let (answers, back) = drive(&mut gpu, &requests, false);
    assert!(back.is_empty() && gpu.failure().is_none());
    for found in answers {
        assert_eq!(found.answer.result, Ok(signers[found.answer.tag as usize]));
        assert_eq!(found.key, scalar::public_key(&requests[found.answer.tag as usize]).unwrap());
    }
}
