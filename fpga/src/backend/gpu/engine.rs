//! The host side of recovery on a device: gathers requests into batches, keeps several batches under way, hands out answers.
//!
//! In: requests, bounded by the capacity. Out: answers, a batch at a time. On overload: [`Full`], and the caller keeps the
//! rest. One thread fills slots and starts them: a batch leaves when it is full, or when its first request has waited
//! [`Config::linger_us`]; while no slot is free the next batch grows. Another thread waits for the oldest batch under way and
//! reads its answers.
//!
//! **A device that fails** (an error from the driver, no answer in time, an answer that no kernel writes) ends the engine:
//! it takes no more, says why ([`RecoverEngine::failure`]), and what it had taken is given back
//! ([`RecoverEngine::reclaim`]) or, for callers who do not ask, recovered on the CPU inside `poll`. Buffers that a hung
//! device may still write to are leaked, not freed.

use super::Config;
use super::layout::{ANSWER_WORDS, REQUEST_WORDS, read_answer, write_request};
use crate::backend::pool::AbortOnPanic;
use crate::backend::{scalar, selftest};
use crate::{Caps, Full, RecoverAnswer, RecoverEngine, RecoverRequest, Refusal, Trust, Waker};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Orphans of a failed device that one `poll` recovers on the CPU: some two milliseconds of work.
const ORPHANS_PER_POLL: usize = 48;
/// Orphans that the scalar engine takes at a time.
const ORPHAN_CHUNK: usize = 8;
/// How long a batch is waited for by spinning, then by yielding, before the thread sleeps between looks.
const SPIN: Duration = Duration::from_micros(30);
const YIELD: Duration = Duration::from_micros(300);
const NAP: Duration = Duration::from_micros(50);
/// How long the first use of the kernels may take: a driver that compiles for a CPU needs seconds.
const WARM_UP_MAX: Duration = Duration::from_secs(120);
/// Known answers that the self-test sends, in rounds of nine: more than a work-group, and not a multiple of one.
const SELF_TEST_ROUNDS: usize = 40;

/// A place for one batch: host buffers, device buffers, a queue. Its owner fills `requests`, starts it, asks until it is
/// finished, and reads `answers`. Dropping it while it runs is not allowed; a slot that may still run is leaked.
pub(super) trait Slot: Send + 'static {
    /// [`REQUEST_WORDS`] words for each request of a full batch.
    fn requests(&mut self) -> Result<&mut [u32], String>;
    /// Starts the first `count` requests; returns at once.
    fn start(&mut self, count: usize) -> Result<(), String>;
    /// Starts the kernels alone, over the requests that went to the device last.
    fn start_kernels(&mut self, count: usize) -> Result<(), String>;
    /// Whether what was started last is finished.
    fn is_finished(&mut self) -> Result<bool, String>;
    /// [`ANSWER_WORDS`] words for each answer of a full batch.
    fn answers(&self) -> Result<&[u32], String>;
}

/// A recovery engine on a GPU. Made by [`cuda::probe`](super::cuda::probe) or `opencl::probe`. Dropping it waits for the
/// batches under way, then ends its threads.
pub struct Gpu {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    caps: Caps,
    in_flight: usize,
}

/// An answer with the public key that the device found. The key makes the claim cheap to check: a batch of signatures is
/// verified against known keys much faster than it is recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The answer, as [`RecoverEngine::poll`] gives it.
    pub answer: RecoverAnswer,
    /// x ‖ y, big-endian; zeros where there is no signer, or where a failed device left the answer to the CPU.
    pub key: [u8; 64],
}

struct Shared {
    queue: Mutex<Queue>,
    /// The launching thread sleeps on this with `queue`.
    arrived: Condvar,
    done: Mutex<Done>,
    /// Length of `done.answers` and `done.orphans`, for `poll` to look at without the lock.
    ready: AtomicUsize,
}

struct Queue {
    requests: VecDeque<RecoverRequest>,
    /// Not later than the arrival of the first in `requests`.
    oldest: Option<Instant>,
    /// The engine is being dropped, or has failed.
    closed: bool,
}

struct Done {
    answers: Vec<KeyAnswer>,
    orphans: VecDeque<RecoverRequest>,
    failure: Option<String>,
    waker: Option<Waker>,
}

/// A started batch.
struct Flight<S> {
    slot: S,
    requests: Vec<RecoverRequest>,
    started: Instant,
}

/// A poisoned lock means that a thread panicked, and then the process is ending anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Gpu {
    /// Starts the engine over its slots and tests it with known answers.
    pub(super) fn start<S: Slot>(
        name: &'static str,
        mut slots: Vec<S>,
        config: &Config,
        batch_min: usize,
        waker: Option<Waker>,
    ) -> Result<Gpu, Refusal> {
        if let Err(reason) = slots.first_mut().map_or(Ok(()), warm_up) {
            // Whether the first slot still runs is not known.
            std::mem::forget(slots);
            return Err(Refusal { engine: name, reason });
        }
        let batches = slots.len();
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { requests: VecDeque::new(), oldest: None, closed: false }),
            arrived: Condvar::new(),
            done: Mutex::new(Done { answers: vec![], orphans: VecDeque::new(), failure: None, waker: None }),
            ready: AtomicUsize::new(0),
        });
        let (free, freed) = channel();
        for slot in slots {
            let _ = free.send(slot);
        }
        let (fly, flying) = channel();
        let linger = Duration::from_micros(config.linger_us.into());
        let patience = Duration::from_millis(config.answer_ms_max.into());
        let batch_max = config.batch_max;
        let caps = Caps {
            name,
            trust: Trust::Hint,
            // What is under way, and as much again to fill the next batches from.
            capacity: batch_max * (batches + 1),
            batch_min: batch_min.min(batch_max),
            parallelism: batch_max,
        };
        let mut gpu = Gpu { shared: shared.clone(), threads: vec![], caps, in_flight: 0 };
        let mut spawn = |what: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(format!("{name}-{what}")).spawn(move || {
                let guard = AbortOnPanic;
                body();
                std::mem::forget(guard);
            });
            let refusal = |e| Refusal { engine: name, reason: format!("cannot start a thread: {e}") };
            gpu.threads.push(thread.map_err(refusal)?);
            Ok(())
        };
        // The collector first: if the second thread cannot be started, the first ends when `fly` goes.
        let collector = shared.clone();
        spawn("collect", Box::new(move || collector.collect(&flying, free, patience)))?;
        spawn("launch", Box::new(move || shared.launch(&freed, &fly, batch_max, linger)))?;
        selftest::run(&mut gpu, SELF_TEST_ROUNDS)?;
        if let Some(reason) = gpu.failure() {
            return Err(Refusal { engine: name, reason });
        }
        // The self-test must not ring anybody's bell, hence only now.
        lock(&gpu.shared.done).waker = waker;
        Ok(gpu)
    }

    /// As [`RecoverEngine::poll`], with the public keys.
    pub fn poll_keys(&mut self, out: &mut Vec<KeyAnswer>) -> usize {
        if self.shared.ready.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let before = out.len();
        let mut done = lock(&self.shared.done);
        out.append(&mut done.answers);
        let count = done.orphans.len().min(ORPHANS_PER_POLL);
        let orphans: Vec<_> = done.orphans.drain(..count).collect();
        let left = done.orphans.len();
        self.shared.ready.store(left, Ordering::Release);
        let waker = if left > 0 { done.waker.clone() } else { None };
        drop(done);
        let mut answers = Vec::with_capacity(count);
        for chunk in orphans.chunks(ORPHAN_CHUNK) {
            scalar::recover_chunk(chunk, &mut answers);
        }
        out.extend(answers.into_iter().map(|answer| KeyAnswer { answer, key: [0; 64] }));
        if let Some(waker) = waker {
            waker();
        }
        let polled = out.len() - before;
        self.in_flight -= polled;
        polled
    }
}

impl RecoverEngine for Gpu {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full> {
        let room = self.caps.capacity.saturating_sub(self.in_flight).min(batch.len());
        if room > 0 {
            let mut queue = lock(&self.shared.queue);
            if queue.closed {
                return Err(Full);
            }
            queue.requests.extend(batch.drain(..room));
            queue.oldest.get_or_insert_with(Instant::now);
            drop(queue);
            self.shared.arrived.notify_one();
            self.in_flight += room;
        }
        if batch.is_empty() { Ok(()) } else { Err(Full) }
    }

    fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize {
        let mut found = vec![];
        let polled = self.poll_keys(&mut found);
        out.extend(found.iter().map(|found| found.answer));
        polled
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn failure(&self) -> Option<String> {
        lock(&self.shared.done).failure.clone()
    }

    fn reclaim(&mut self, out: &mut Vec<RecoverRequest>) -> usize {
        let mut done = lock(&self.shared.done);
        let count = done.orphans.len();
        out.extend(done.orphans.drain(..));
        self.shared.ready.store(done.answers.len(), Ordering::Release);
        self.in_flight -= count;
        count
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Fills and starts batches until the engine is closed or a start fails.
    fn launch<S: Slot>(
        &self,
        freed: &Receiver<S>,
        fly: &Sender<Flight<S>>,
        batch_max: usize,
        linger: Duration,
    ) {
        // The channel is closed by a collector that has failed.
        while let Ok(mut slot) = freed.recv() {
            let Some(requests) = self.next_batch(batch_max, linger) else { return };
            let started = Instant::now();
            if let Err(reason) = fill(&mut slot, &requests).and_then(|()| slot.start(requests.len())) {
                std::mem::forget(slot);
                self.fail(reason, requests);
                return;
            }
            if let Err(unsent) = fly.send(Flight { slot, requests, started }) {
                std::mem::forget(unsent.0.slot);
                self.fail("the collecting thread has ended".to_owned(), unsent.0.requests);
                return;
            }
        }
    }

    /// Waits for the requests of a batch; `None` when the engine is closed.
    fn next_batch(&self, batch_max: usize, linger: Duration) -> Option<Vec<RecoverRequest>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            let Some(oldest) = queue.oldest else {
                queue = self.arrived.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            };
            let left = linger.saturating_sub(oldest.elapsed());
            if queue.requests.len() >= batch_max || left.is_zero() {
                let count = queue.requests.len().min(batch_max);
                let batch = queue.requests.drain(..count).collect();
                if queue.requests.is_empty() {
                    queue.oldest = None;
                }
                return Some(batch);
            }
            let waited = self.arrived.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// Reads batches in the order in which they were started, until the launching thread has ended.
    fn collect<S: Slot>(&self, flying: &Receiver<Flight<S>>, free: Sender<S>, patience: Duration) {
        let mut free = Some(free);
        while let Ok(Flight { mut slot, requests, started }) = flying.recv() {
            let Some(sender) = &free else {
                std::mem::forget(slot);
                self.fail(String::new(), requests);
                continue;
            };
            let outcome = wait(&mut slot, started, patience).and_then(|()| read(&slot, &requests));
            match outcome {
                Ok(answers) => {
                    self.answer(answers);
                    let _ = sender.send(slot);
                }
                Err(reason) => {
                    std::mem::forget(slot);
                    self.fail(reason, requests);
                    // Whoever waits for a free slot must not wait for ever.
                    free = None;
                }
            }
        }
    }

    fn answer(&self, mut answers: Vec<KeyAnswer>) {
        let mut done = lock(&self.done);
        // Whoever finds answers waiting knows that the bell has been rung for them.
        let first = done.answers.is_empty();
        done.answers.append(&mut answers);
        self.ready.store(done.answers.len() + done.orphans.len(), Ordering::Release);
        let waker = if first { done.waker.clone() } else { None };
        drop(done);
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Closes the engine; the first reason stays. `requests` and all that are queued become orphans.
    fn fail(&self, reason: String, requests: Vec<RecoverRequest>) {
        let queued = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            std::mem::take(&mut queue.requests)
        };
        self.arrived.notify_all();
        let mut done = lock(&self.done);
        done.failure.get_or_insert(reason);
        done.orphans.extend(requests);
        done.orphans.extend(queued);
        self.ready.store(done.answers.len() + done.orphans.len(), Ordering::Release);
        let waker = done.waker.clone();
        drop(done);
        if let Some(waker) = waker {
            waker();
        }
    }
}

/// Runs one empty request: drivers load or even compile kernels at their first use.
fn warm_up(slot: &mut impl Slot) -> Result<(), String> {
    slot.start(1)?;
    wait(slot, Instant::now(), WARM_UP_MAX)
}

fn fill(slot: &mut impl Slot, requests: &[RecoverRequest]) -> Result<(), String> {
    for (request, words) in requests.iter().zip(slot.requests()?.chunks_exact_mut(REQUEST_WORDS)) {
        write_request(request, words);
    }
    Ok(())
}

/// What the kernels alone need for `requests`, in seconds: the mean of `rounds`, after one that warms up.
pub(super) fn kernel_seconds(
    slot: &mut impl Slot,
    config: &Config,
    requests: &[RecoverRequest],
    rounds: u32,
) -> Result<f64, String> {
    if requests.is_empty() || requests.len() > config.batch_max || rounds == 0 {
        return Err(format!("one to {} requests can be timed, at least once", config.batch_max));
    }
    let patience = Duration::from_millis(config.answer_ms_max.into());
    fill(slot, requests)?;
    slot.start(requests.len())?;
    wait(slot, Instant::now(), patience)?;
    let start = Instant::now();
    for _ in 0..rounds {
        slot.start_kernels(requests.len())?;
    }
    wait(slot, Instant::now(), patience.saturating_mul(rounds))?;
    Ok(start.elapsed().as_secs_f64() / f64::from(rounds))
}

/// Waits until the slot is finished.
fn wait(slot: &mut impl Slot, started: Instant, patience: Duration) -> Result<(), String> {
    loop {
        // Asked before the clock is read: a thread that was not run for long must not blame the device.
        let elapsed = started.elapsed();
        if slot.is_finished()? {
            return Ok(());
        }
        if elapsed > patience {
            return Err(format!("the device had no answer within {} ms", patience.as_millis()));
        }
        match elapsed {
            e if e < SPIN => std::hint::spin_loop(),
            e if e < YIELD => std::thread::yield_now(),
            _ => std::thread::sleep(NAP),
        }
    }
}

fn read(slot: &impl Slot, requests: &[RecoverRequest]) -> Result<Vec<KeyAnswer>, String> {
    let words = slot.answers()?.chunks_exact(ANSWER_WORDS);
    let read = |(request, words): (&RecoverRequest, &[u32])| match read_answer(request.tag, words) {
        Ok((answer, key)) => Ok(KeyAnswer { answer, key }),
        Err(status) => Err(format!("the device answered with status {status:#x}, which no kernel writes")),
    };
    let answers: Result<Vec<_>, String> = requests.iter().zip(words).map(read).collect();
    let answers = answers?;
    match answers.len() == requests.len() {
        true => Ok(answers),
        false => Err(format!("the device answered {} of {} requests", answers.len(), requests.len())),
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
#[cfg(all(test, feature = "opencl"))]
pub(super) use tests::self_test_of;
