//! libsecp256k1 on CPU threads: the engine that every host has and whose answers are trusted.
//!
//! In: requests, bounded by [`Config::capacity`]. Out: answers as they come, a chunk at a time. On overload:
//! [`Full`](crate::Full), and the caller keeps the rest. Workers take small chunks from one queue, so that a batch of 64
//! spreads over all of them while a lone signature is started at once. A worker without work spins briefly, then parks.
//! With no workers the owner's own thread does the work inside `poll`.
//!
//! A panic in a worker ends the process: an engine that silently lost a thread would answer late or never.

use crate::engine::ORDER;
use crate::keccak;
use crate::{Caps, Full, RecoverAnswer, RecoverEngine, RecoverError, RecoverRequest, Refusal, Trust, Waker};
use alloy_primitives::{Address, B256, U256, address, b256, uint};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const NAME: &str = "scalar";

/// Signatures that a worker takes at most at a time: 8 × 40 µs is what a chunk may delay its first answer, and eight
/// public keys fill the widest Keccak.
const CHUNK_MAX: usize = 8;
/// Queued signatures for which it pays to wake one more worker: a wake-up costs about as much as one recovery.
const QUEUED_PER_WAKE: usize = 2;
const _: () = assert!(QUEUED_PER_WAKE <= CHUNK_MAX, "a chunk must be worth a wake-up");

/// Bits of the operating system's set of CPUs; core_affinity panics above.
const CPUS_MAX: usize = 1_024;

/// How long the self-test may take.
const SELF_TEST_S_MAX: u64 = 10;

/// How the engine is laid out. Which cores are free is known to the caller alone.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads. 0: the work is done inside `poll`.
    pub workers: usize,
    /// CPUs (as the operating system numbers them) to which the workers are pinned, in turn; empty: not pinned.
    pub cpus: Vec<usize>,
    /// Requests submitted and not yet polled, at most.
    pub capacity: usize,
    /// How long an idle worker spins before it parks, in microseconds. Use 0 where the core is shared.
    pub spin_us: u32,
    /// Signatures that one `poll` works off when there are no workers.
    pub inline_per_poll: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { workers: 1, cpus: vec![], capacity: 16_384, spin_us: 20, inline_per_poll: 16 }
    }
}

/// Starts the engine and tests it with known answers.
///
/// # Errors
/// [`Refusal`] when a thread cannot be started or pinned, or an answer of the self-test is wrong.
pub fn probe(config: Config, waker: Option<Waker>) -> Result<Scalar, Refusal> {
    let mut engine = Scalar::start(config)?;
    engine.self_test().map_err(refusal)?;
    // The self-test must not ring anybody's bell, hence only now.
    lock(&engine.shared.done).waker = waker;
    Ok(engine)
}

fn refusal(reason: String) -> Refusal {
    Refusal { engine: NAME, reason }
}

/// The engine. Dropping it ends its threads.
pub struct Scalar {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    config: Config,
    in_flight: usize,
}

struct Shared {
    todo: Mutex<Todo>,
    /// Workers sleep on this with `todo`.
    work: Condvar,
    /// Length of `todo.queue`, for spinners to look at without the lock.
    queued: AtomicUsize,
    stop: AtomicBool,
    done: Mutex<Done>,
    /// Length of `done.answers`, for `poll` to look at without the lock.
    ready: AtomicUsize,
    spin: Duration,
    workers: usize,
}

struct Todo {
    queue: VecDeque<RecoverRequest>,
    sleeping: usize,
}

struct Done {
    answers: Vec<RecoverAnswer>,
    waker: Option<Waker>,
}

/// A poisoned lock means that a worker panicked, and then the process is ending anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Scalar {
    fn start(config: Config) -> Result<Self, Refusal> {
        let shared = Arc::new(Shared {
            todo: Mutex::new(Todo { queue: VecDeque::new(), sleeping: 0 }),
            work: Condvar::new(),
            queued: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            done: Mutex::new(Done { answers: vec![], waker: None }),
            ready: AtomicUsize::new(0),
            spin: Duration::from_micros(config.spin_us.into()),
            workers: config.workers,
        });
        let mut engine = Scalar { shared, threads: vec![], config, in_flight: 0 };
        let (report, reports) = std::sync::mpsc::channel();
        for index in 0..engine.config.workers {
            let cpu = match engine.config.cpus.len() {
                0 => None,
                n => Some(engine.config.cpus[index % n]),
            };
            let (shared, report) = (engine.shared.clone(), report.clone());
            let thread = std::thread::Builder::new()
                .name(format!("recover-{index}"))
                .spawn(move || {
                    let guard = AbortOnPanic;
                    let pinned = cpu.is_none_or(|id| {
                        id < CPUS_MAX && core_affinity::set_for_current(core_affinity::CoreId { id })
                    });
                    let _ = report.send(if pinned { Ok(()) } else { Err(cpu) });
                    drop(report);
                    if pinned {
                        shared.work_until_stopped();
                    }
                    std::mem::forget(guard);
                })
                .map_err(|e| refusal(format!("cannot start worker {index}: {e}")))?;
            engine.threads.push(thread);
        }
        drop(report);
        for result in reports {
            if let Err(Some(cpu)) = result {
                return Err(refusal(format!("cannot pin a worker to CPU {cpu}: name CPUs that are online")));
            }
        }
        Ok(engine)
    }

    /// Runs known answers through the engine as a caller would.
    fn self_test(&mut self) -> Result<(), String> {
        let cases = known_answers();
        let mut batch: Vec<_> = cases.iter().map(|c| c.0).collect();
        let deadline = Instant::now() + Duration::from_secs(SELF_TEST_S_MAX);
        let mut answers = vec![];
        while answers.len() < cases.len() {
            let _full = self.submit(&mut batch);
            if self.poll(&mut answers) == 0 {
                if Instant::now() > deadline {
                    return Err(format!("the self-test had no answer within {SELF_TEST_S_MAX} s"));
                }
                std::thread::yield_now();
            }
        }
        for answer in answers {
            let expected =
                cases.get(answer.tag as usize).ok_or(format!("unknown tag {} came back", answer.tag))?;
            if answer.result != expected.1 {
                return Err(format!(
                    "self-test case {}: expected {:?}, got {:?}",
                    answer.tag, expected.1, answer.result
                ));
            }
        }
        Ok(())
    }
}

impl RecoverEngine for Scalar {
    fn caps(&self) -> Caps {
        Caps {
            name: NAME,
            trust: Trust::Trusted,
            capacity: self.config.capacity,
            batch_min: 1,
            parallelism: self.config.workers.max(1),
        }
    }

    fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full> {
        let room = self.config.capacity.saturating_sub(self.in_flight).min(batch.len());
        if room > 0 {
            let mut todo = lock(&self.shared.todo);
            todo.queue.extend(batch.drain(..room));
            let queued = todo.queue.len();
            self.shared.queued.store(queued, Ordering::Release);
            let wake = todo.sleeping.min(queued.div_ceil(QUEUED_PER_WAKE));
            drop(todo);
            for _ in 0..wake {
                self.shared.work.notify_one();
            }
            self.in_flight += room;
            if self.config.workers == 0 {
                self.shared.ring();
            }
        }
        if batch.is_empty() { Ok(()) } else { Err(Full) }
    }

    fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize {
        let before = out.len();
        if self.config.workers == 0 {
            let mut requests = vec![];
            let left = self.shared.take(&mut requests, self.config.inline_per_poll.max(1));
            for chunk in requests.chunks(CHUNK_MAX) {
                recover_chunk(chunk, out);
            }
            if left > 0 {
                self.shared.ring();
            }
        } else if self.shared.ready.load(Ordering::Acquire) > 0 {
            let mut done = lock(&self.shared.done);
            out.append(&mut done.answers);
            self.shared.ready.store(0, Ordering::Release);
        }
        let polled = out.len() - before;
        self.in_flight -= polled;
        polled
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        {
            // Under the lock, so that no worker can be between its look at `stop` and its sleep.
            let _todo = lock(&self.shared.todo);
            self.shared.stop.store(true, Ordering::Release);
        }
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Moves up to `max` requests into `into`; returns how many are left.
    fn take(&self, into: &mut Vec<RecoverRequest>, max: usize) -> usize {
        let mut todo = lock(&self.todo);
        self.take_locked(&mut todo, into, max)
    }

    fn take_locked(&self, todo: &mut Todo, into: &mut Vec<RecoverRequest>, max: usize) -> usize {
        let count = todo.queue.len().min(max);
        into.extend(todo.queue.drain(..count));
        self.queued.store(todo.queue.len(), Ordering::Release);
        todo.queue.len()
    }

    fn ring(&self) {
        let waker = lock(&self.done).waker.clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    fn work_until_stopped(&self) {
        let mut requests = Vec::with_capacity(CHUNK_MAX);
        let mut answers = Vec::with_capacity(CHUNK_MAX);
        while self.next_chunk(&mut requests) {
            recover_chunk(&requests, &mut answers);
            requests.clear();
            let mut done = lock(&self.done);
            // Whoever finds answers waiting knows that the bell has been rung for them.
            let first = done.answers.is_empty();
            done.answers.append(&mut answers);
            self.ready.store(done.answers.len(), Ordering::Release);
            let waker = if first { done.waker.clone() } else { None };
            drop(done);
            if let Some(waker) = waker {
                waker();
            }
        }
    }

    /// Waits for work; `false` when the engine is being dropped.
    fn next_chunk(&self, into: &mut Vec<RecoverRequest>) -> bool {
        let idle_since = Instant::now();
        loop {
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            if self.queued.load(Ordering::Acquire) > 0 {
                let mut todo = lock(&self.todo);
                // A fair share, so that one worker does not sit on what another could do now.
                let share = (todo.queue.len() / (2 * self.workers)).clamp(1, CHUNK_MAX);
                self.take_locked(&mut todo, into, share);
                if !into.is_empty() {
                    return true;
                }
            } else if idle_since.elapsed() < self.spin {
                std::hint::spin_loop();
            } else {
                let mut todo = lock(&self.todo);
                while todo.queue.is_empty() && !self.stop.load(Ordering::Acquire) {
                    todo.sleeping += 1;
                    todo = self.work.wait(todo).unwrap_or_else(|poisoned| poisoned.into_inner());
                    todo.sleeping -= 1;
                }
            }
        }
    }
}

/// Ends the process when dropped by a panic; forgotten by a thread that ends in order.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        eprintln!(
            "a signature recovery worker panicked; the process ends, because it must not run on half alive"
        );
        std::process::abort();
    }
}

/// Recovers the signers of up to [`CHUNK_MAX`] signatures and appends the answers in the same order.
fn recover_chunk(requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>) {
    debug_assert!(requests.len() <= CHUNK_MAX);
    let mut keys = [[0u8; 64]; CHUNK_MAX];
    let mut hashes = [B256::ZERO; CHUNK_MAX];
    let first = out.len();
    for (request, key) in requests.iter().zip(&mut keys) {
        let result = public_key(request).map(|found| {
            *key = found;
            Address::ZERO
        });
        out.push(RecoverAnswer { tag: request.tag, result });
    }
    let views = keys.each_ref().map(|key| key.as_slice());
    keccak::hash_many(&views[..requests.len()], &mut hashes[..requests.len()]);
    for (answer, hash) in out[first..].iter_mut().zip(&hashes) {
        if let Ok(address) = &mut answer.result {
            *address = Address::from_slice(&hash[12..]);
        }
    }
}

/// The public key, x ‖ y, of the signer.
fn public_key(request: &RecoverRequest) -> Result<[u8; 64], RecoverError> {
    request.check_ranges()?;
    let mut compact = [0u8; 64];
    compact[..32].copy_from_slice(&request.r.to_be_bytes::<32>());
    compact[32..].copy_from_slice(&request.s.to_be_bytes::<32>());
    let parity = if request.parity == 1 { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(&compact, parity).map_err(|_| RecoverError::NoKey)?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(request.hash.0), &signature)
        .map_err(|_| RecoverError::NoKey)?;
    let mut point = [0u8; 64];
    point.copy_from_slice(&key.serialize_uncompressed()[1..]);
    Ok(point)
}

/// The example of EIP-155 and its ways to be wrong.
fn known_answers() -> Vec<(RecoverRequest, Result<Address, RecoverError>)> {
    let good = RecoverRequest {
        tag: 0,
        hash: b256!("daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53"),
        r: uint!(0x28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276_U256),
        s: uint!(0x67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83_U256),
        parity: 0,
        hint: None,
    };
    let signer = address!("9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");
    let mut cases = vec![
        (good, Ok(signer)),
        (RecoverRequest { hint: Some(Address::ZERO), ..good }, Ok(signer)),
        (RecoverRequest { s: ORDER - good.s, parity: 1, ..good }, Err(RecoverError::HighS)),
        (RecoverRequest { parity: 2, ..good }, Err(RecoverError::Parity)),
        (RecoverRequest { r: U256::ZERO, ..good }, Err(RecoverError::R)),
        (RecoverRequest { r: ORDER, ..good }, Err(RecoverError::R)),
        (RecoverRequest { s: U256::ZERO, ..good }, Err(RecoverError::S)),
        (RecoverRequest { s: ORDER, ..good }, Err(RecoverError::S)),
        // 5³ + 7 is no square, so no point has x = 5.
        (RecoverRequest { r: U256::from(5), ..good }, Err(RecoverError::NoKey)),
    ];
    for (tag, case) in cases.iter_mut().enumerate() {
        case.0.tag = tag as u64;
    }
    cases
}
