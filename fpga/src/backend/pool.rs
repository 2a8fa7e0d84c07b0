//! Threads that take requests from one queue: what all engines on the CPU have in common.
//!
//! In: requests, bounded by [`Config::capacity`]. Out: answers as they come, a chunk at a time. On overload: [`Full`], and
//! the caller keeps the rest. A worker without work spins briefly, then parks. With no workers the owner's own thread
//! does the work inside `poll`. How much a worker takes at a time, and when a second one is worth waking, is the engine's
//! [`Policy`]: batches form by backlog, because whatever arrives while a batch is in work makes the next one.
//!
//! A panic in a worker ends the process: an engine that silently lost a thread would answer late or never.

use crate::{Caps, Full, RecoverAnswer, RecoverRequest, Refusal, Trust, Waker};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bits of the operating system's set of CPUs; core_affinity panics above.
const CPUS_MAX: usize = 1_024;

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

/// What one worker does. Each has its own.
pub(super) trait Work: Send {
    /// Appends one answer for each request, in any order.
    fn recover(&mut self, requests: &[RecoverRequest], out: &mut Vec<RecoverAnswer>);
}

/// How work is dealt out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// What a worker takes when so many are queued, given the number of workers; at least 1 is taken.
    pub(super) share: fn(queued: usize, workers: usize) -> usize,
    /// Queued signatures for which it pays to wake one more worker.
    pub(super) per_wake: usize,
    /// Queued signatures below which a worker leaves them to another that is already busy.
    pub(super) second_from: usize,
}

/// The threads, the queue and the answers. Dropping it ends the threads.
pub(super) struct Pooled {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    config: Config,
    caps: Caps,
    in_flight: usize,
    /// Where the work is done when there are no threads.
    inline: Option<Box<dyn Work>>,
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
    policy: Policy,
}

struct Todo {
    queue: VecDeque<RecoverRequest>,
    sleeping: usize,
    /// Workers between taking a chunk and looking for the next.
    busy: usize,
}

struct Done {
    answers: Vec<RecoverAnswer>,
    waker: Option<Waker>,
}

/// A poisoned lock means that a worker panicked, and then the process is ending anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Pooled {
    /// Starts the threads; `make` is called once for each.
    pub(super) fn start(
        name: &'static str,
        batch_min: usize,
        config: Config,
        policy: Policy,
        mut make: impl FnMut() -> Box<dyn Work>,
    ) -> Result<Self, Refusal> {
        let refusal = |reason: String| Refusal { engine: name, reason };
        let shared = Arc::new(Shared {
            todo: Mutex::new(Todo { queue: VecDeque::new(), sleeping: 0, busy: 0 }),
            work: Condvar::new(),
            queued: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            done: Mutex::new(Done { answers: vec![], waker: None }),
            ready: AtomicUsize::new(0),
            spin: Duration::from_micros(config.spin_us.into()),
            workers: config.workers,
            policy,
        });
        let caps = Caps {
            name,
            trust: Trust::Trusted,
            capacity: config.capacity,
            batch_min,
            parallelism: config.workers.max(1),
        };
        let inline = (config.workers == 0).then(&mut make);
        let mut pooled = Pooled { shared, threads: vec![], config, caps, in_flight: 0, inline };
        let (report, reports) = std::sync::mpsc::channel();
        for index in 0..pooled.config.workers {
            let cpu = match pooled.config.cpus.len() {
                0 => None,
                n => Some(pooled.config.cpus[index % n]),
            };
            let (shared, report, mut work) = (pooled.shared.clone(), report.clone(), make());
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
                        shared.work_until_stopped(work.as_mut());
                    }
                    std::mem::forget(guard);
                })
                .map_err(|e| refusal(format!("cannot start worker {index}: {e}")))?;
            pooled.threads.push(thread);
        }
        drop(report);
        for result in reports {
            if let Err(Some(cpu)) = result {
                return Err(refusal(format!("cannot pin a worker to CPU {cpu}: name CPUs that are online")));
            }
        }
        Ok(pooled)
    }

    /// From now on somebody is told of answers.
    pub(super) fn set_waker(&mut self, waker: Option<Waker>) {
        lock(&self.shared.done).waker = waker;
    }

    pub(super) fn caps(&self) -> Caps {
        self.caps
    }

    pub(super) fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full> {
        let room = self.config.capacity.saturating_sub(self.in_flight).min(batch.len());
        if room > 0 {
            let policy = self.shared.policy;
            let mut todo = lock(&self.shared.todo);
            todo.queue.extend(batch.drain(..room));
            let queued = todo.queue.len();
            self.shared.queued.store(queued, Ordering::Release);
            let worth_it = todo.busy == 0 || queued >= policy.second_from;
            let wake = if worth_it { todo.sleeping.min(queued.div_ceil(policy.per_wake)) } else { 0 };
            drop(todo);
            for _ in 0..wake {
                self.shared.work.notify_one();
            }
            self.in_flight += room;
            if self.inline.is_some() {
                self.shared.ring();
            }
        }
        if batch.is_empty() { Ok(()) } else { Err(Full) }
    }

    pub(super) fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize {
        let before = out.len();
        if let Some(work) = &mut self.inline {
            let mut requests = vec![];
            let left = self.shared.take(&mut requests, self.config.inline_per_poll.max(1));
            if !requests.is_empty() {
                work.recover(&requests, out);
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

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for Pooled {
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

    fn work_until_stopped(&self, work: &mut dyn Work) {
        let (mut requests, mut answers) = (vec![], vec![]);
        while self.next_chunk(&mut requests) {
            work.recover(&requests, &mut answers);
            requests.clear();
            // No longer busy before the answers are out: whoever submits because of them must find a worker to wake.
            lock(&self.todo).busy -= 1;
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

    /// Whether a worker should take from the queue. What it leaves, a busy one takes when it is done.
    fn worth_taking(&self, todo: &Todo) -> bool {
        !todo.queue.is_empty() && (todo.busy == 0 || todo.queue.len() >= self.policy.second_from)
    }

    /// Waits for work; `false` when the engine is being dropped.
    fn next_chunk(&self, into: &mut Vec<RecoverRequest>) -> bool {
        let idle_since = Instant::now();
        loop {
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            if self.queued.load(Ordering::Acquire) == 0 && idle_since.elapsed() < self.spin {
                std::hint::spin_loop();
                continue;
            }
            let mut todo = lock(&self.todo);
            while !self.worth_taking(&todo) {
                if self.stop.load(Ordering::Acquire) {
                    return false;
                }
                if todo.queue.is_empty() && idle_since.elapsed() < self.spin {
                    break;
                }
                todo.sleeping += 1;
                todo = self.work.wait(todo).unwrap_or_else(|poisoned| poisoned.into_inner());
                todo.sleeping -= 1;
            }
            if self.worth_taking(&todo) {
                let share = (self.policy.share)(todo.queue.len(), self.workers).max(1);
                self.take_locked(&mut todo, into, share);
                todo.busy += 1;
                return true;
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

/// Makes a type around a [`Pooled`] an engine.
macro_rules! engine {
    ($name:ident, $field:tt) => {
        impl $crate::RecoverEngine for $name {
            fn caps(&self) -> $crate::Caps {
                self.$field.caps()
            }

            fn submit(&mut self, batch: &mut Vec<$crate::RecoverRequest>) -> Result<(), $crate::Full> {
                self.$field.submit(batch)
            }

            fn poll(&mut self, out: &mut Vec<$crate::RecoverAnswer>) -> usize {
                self.$field.poll(out)
            }

            fn in_flight(&self) -> usize {
                self.$field.in_flight()
            }
        }
    };
}
pub(super) use engine;
