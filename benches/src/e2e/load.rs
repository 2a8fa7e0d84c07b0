//! The load itself: an open loop over a schedule that is known beforehand.
//!
//! At a constant rate, transaction `i` is due at `i / rate`, whatever the node does; its latency counts from then, so a
//! node that stalls is charged for all that should have been sent meanwhile. At `max` there is no schedule: a transaction
//! is sent when the window has room, and its latency counts from the moment of sending. Two threads a connection, one that
//! writes and one that reads; neither makes a system call for each transaction.

use super::sys;
use super::workload::{Corpus, Lane};
use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use ironlane_netstack::wire::{Ack, AckStatus};
use ironlane_netstack::{Client, ClientConfig, ClientError, Receiver, Sender};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// Transactions a second, over all connections.
    PerSecond(f64),
    /// As fast as the window allows.
    Max,
}

impl std::str::FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate::PerSecond(rate)),
            _ => Err(format!("`{text}` is no rate: give transactions a second above 0, or `max`")),
        }
    }
}

/// How the load is given.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) rate: Rate,
    /// Transactions in flight on one connection, besides the node's own window.
    pub(super) window: u64,
    pub(super) warmup: Duration,
    pub(super) seconds: Duration,
    /// After the last was sent: how long its answer may take.
    pub(super) timeout: Duration,
    /// Shortest pause between two writes of a connection at a constant rate.
    pub(super) tick: Duration,
}

/// What came of it. Counts are of the measured window: of the transactions that were due in it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Length of the measured window.
    pub(super) seconds: f64,
    /// Transactions due a second.
    pub(super) offered_tps: f64,
    /// Included a second: acknowledgements that came within the window.
    pub(super) committed_tps: f64,
    /// How many of those.
    pub(super) committed_in_window: u64,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    /// Among the acknowledged: included and reverted.
    pub(super) reverted: u64,
    pub(super) rejected: u64,
    pub(super) timed_out: u64,
    /// Over the whole run, warm-up included: rejections by reason number.
    pub(super) reject_reasons: BTreeMap<u8, u64>,
    /// Over the whole run: transactions included.
    pub(super) included_in_all: u64,
    /// Microseconds from due to acknowledged; what was never answered counts with its age when it was given up.
    pub(super) latency_us: Histogram<u64>,
    /// The prepared transactions were all sent before the time was over.
    pub(super) supply_exhausted: bool,
    /// Durability level that the node named.
    pub(super) durability: String,
    /// What ended a connection early.
    pub(super) error: Option<String>,
}

/// When the main thread is called back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    WindowBegins,
    WindowEnds,
    /// Now and then, with the number of acknowledgements so far.
    Progress(u64),
}

/// One bucket of the count of included transactions over time.
const BUCKET_NS: u64 = 10_000_000;

struct Shared {
    start: Instant,
    rate: Rate,
    connections: u64,
    /// For each transaction: when it was sent, in nanoseconds since `start` plus one; 0 is not yet.
    sent_ns: Vec<AtomicU64>,
    /// For each transaction: when its answer came; the same way.
    done_ns: Vec<AtomicU64>,
    answered: AtomicU64,
    /// Writers stop.
    stop: AtomicBool,
    error: Mutex<Option<String>>,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// When transaction `i` is due; at `max`, when it was sent.
    fn due_ns(&self, i: u64) -> u64 {
        match self.rate {
            Rate::PerSecond(rate) => (i as f64 * 1e9 / rate) as u64,
            Rate::Max => self.sent_ns[i as usize].load(Ordering::Relaxed).saturating_sub(1),
        }
    }

    fn fail(&self, text: String) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        self.stop.store(true, Ordering::Release);
    }
}

/// What writer and reader of one connection share.
#[derive(Default)]
struct Pair {
    /// Written by the writer before the bytes leave.
    sent: AtomicU64,
    answered: AtomicU64,
    /// The writer has nothing more.
    finished: AtomicBool,
    /// The writer waits for room.
    waiting: AtomicBool,
    window: u64,
}

/// Largest single write.
const WRITE_BYTES: usize = 64 * 1024;

struct Writer<'a> {
    shared: &'a Shared,
    pair: Arc<Pair>,
    lane: &'a Lane,
    connection: u64,
    sender: Sender,
    next: usize,
    /// Nothing is due at or after this moment.
    end_ns: u64,
    tick: Duration,
}

impl Writer<'_> {
    fn run(mut self) {
        sys::sleep_exactly();
        if let Err(error) = self.write_all() {
            self.shared.fail(error.to_string());
        }
        self.pair.finished.store(true, Ordering::Release);
    }

    /// Frames of this connection that are due by now.
    fn due(&self, now_ns: u64) -> usize {
        let by = now_ns.min(self.end_ns);
        match self.shared.rate {
            Rate::Max => {
                if now_ns < self.end_ns {
                    self.lane.ends.len()
                } else {
                    0
                }
            }
            Rate::PerSecond(rate) => {
                // Transactions 0..=n are due; every `connections`-th is ours.
                let n = (by as f64 * rate / 1e9) as u64;
                if n < self.connection {
                    return 0;
                }
                let ours = (n - self.connection) / self.shared.connections + 1;
                (ours as usize).min(self.lane.ends.len())
            }
        }
    }

    fn write_all(&mut self) -> Result<(), ClientError> {
        while self.next < self.lane.ends.len() && !self.shared.stop.load(Ordering::Acquire) {
            let now = self.shared.now_ns();
            let due = self.due(now);
            if due <= self.next {
                if now >= self.end_ns {
                    break;
                }
                self.sleep_until_due();
                continue;
            }
            let in_flight = self.next as u64 - self.pair.answered.load(Ordering::Acquire);
            let room = self.pair.window.saturating_sub(in_flight) as usize;
            if room == 0 {
                self.wait_for_room();
                continue;
            }
            self.write(due.min(self.next + room), now)?;
        }
        Ok(())
    }

    /// Writes frames up to `to`, or one full write.
    fn write(&mut self, to: usize, now_ns: u64) -> Result<(), ClientError> {
        let mut until = self.next + 1;
        let from_byte = if self.next == 0 { 0 } else { self.lane.ends[self.next - 1] };
        while until < to && self.lane.ends[until] - from_byte <= WRITE_BYTES {
            until += 1;
        }
        for k in self.next..until {
            let i = self.connection as usize + k * self.shared.connections as usize;
            self.shared.sent_ns[i].store(now_ns + 1, Ordering::Relaxed);
        }
        // Release: the reader that sees this count also sees the times.
        self.pair.sent.store(until as u64, Ordering::Release);
        self.sender.submit_encoded(self.lane.slice(self.next, until), (until - self.next) as u64)?;
        self.sender.flush()?;
        self.next = until;
        Ok(())
    }

    fn sleep_until_due(&self) {
        let i = self.connection + self.next as u64 * self.shared.connections;
        let due = Duration::from_nanos(self.shared.due_ns(i).min(self.end_ns));
        let left = due.saturating_sub(self.shared.start.elapsed());
        std::thread::sleep(left.max(self.tick).min(Duration::from_millis(50)));
    }

    /// Sleeps until the reader has made a good part of the window free.
    fn wait_for_room(&self) {
        self.pair.waiting.store(true, Ordering::SeqCst);
        let in_flight = self.next as u64 - self.pair.answered.load(Ordering::SeqCst);
        if in_flight >= self.pair.window {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.pair.waiting.store(false, Ordering::SeqCst);
    }
}

/// What a reader has counted.
#[derive(Debug, Default)]
struct Tally {
    included_buckets: Vec<u64>,
    reverted: Vec<u64>,
    rejected: Vec<u64>,
    reject_reasons: BTreeMap<u8, u64>,
    included: u64,
}

struct Reader<'a> {
    shared: &'a Shared,
    pair: Arc<Pair>,
    receiver: Receiver,
    writer: Thread,
    /// After the writer has finished.
    timeout: Duration,
    tally: Tally,
}

impl Reader<'_> {
    fn run(mut self) -> Tally {
        if let Err(error) = self.read_all() {
            self.shared.fail(error.to_string());
        }
        // Also frees a writer that is stuck because the node does not read.
        self.receiver.close();
        self.tally
    }

    fn read_all(&mut self) -> anyhow::Result<()> {
        self.receiver.set_timeout(Some(Duration::from_millis(50)))?;
        let mut acks = Vec::new();
        let mut finished_at: Option<Instant> = None;
        let mut stopped_at: Option<Instant> = None;
        loop {
            if self.shared.stop.load(Ordering::Acquire)
                && stopped_at.get_or_insert_with(Instant::now).elapsed() > self.timeout
            {
                return Ok(());
            }
            if self.pair.finished.load(Ordering::Acquire) {
                let since = finished_at.get_or_insert_with(Instant::now);
                let all =
                    self.pair.answered.load(Ordering::Acquire) >= self.pair.sent.load(Ordering::Acquire);
                if all || since.elapsed() > self.timeout {
                    return Ok(());
                }
            }
            acks.clear();
            let received = self.receiver.receive(&mut acks);
            let now = self.shared.now_ns();
            for ack in &acks {
                self.count(ack, now)?;
            }
            if !acks.is_empty() {
                self.after_batch(acks.len() as u64);
            }
            match received {
                Ok(_) | Err(ClientError::Timeout { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn count(&mut self, ack: &Ack, now_ns: u64) -> anyhow::Result<()> {
        let i = ack.tag;
        let Some(sent) = self.shared.sent_ns.get(i as usize) else {
            bail!("the node acknowledged tag {i}, which was never used");
        };
        if sent.load(Ordering::Relaxed) == 0 {
            bail!("the node acknowledged tag {i} before it was sent");
        }
        if self.shared.done_ns[i as usize].swap(now_ns + 1, Ordering::Relaxed) != 0 {
            bail!("the node acknowledged tag {i} twice");
        }
        match ack.status {
            AckStatus::Rejected => {
                self.tally.rejected.push(i);
                *self.tally.reject_reasons.entry(ack.reject).or_default() += 1;
                return Ok(());
            }
            AckStatus::Reverted => self.tally.reverted.push(i),
            AckStatus::Success => {}
        }
        self.tally.included += 1;
        let bucket = (now_ns / BUCKET_NS) as usize;
        if self.tally.included_buckets.len() <= bucket {
            self.tally.included_buckets.resize(bucket + 1, 0);
        }
        self.tally.included_buckets[bucket] += 1;
        Ok(())
    }

    fn after_batch(&self, acks: u64) {
        self.shared.answered.fetch_add(acks, Ordering::Relaxed);
        let answered = self.pair.answered.fetch_add(acks, Ordering::SeqCst) + acks;
        // A writer that waits is woken once a quarter of the window is free: few wake-ups, large writes.
        if self.pair.waiting.load(Ordering::SeqCst) {
            let in_flight = self.pair.sent.load(Ordering::Acquire).saturating_sub(answered);
            if in_flight <= self.pair.window * 3 / 4 {
                self.writer.unpark();
            }
        }
    }
}

/// Connects, gives the load, and waits for its end. `callback` runs on this thread.
///
/// # Errors
/// When no connection can be made, or the node is on another chain.
pub(super) fn run(
    addr: SocketAddr,
    chain_id: u64,
    corpus: &Corpus,
    load: &Load,
    callback: &mut dyn FnMut(Moment),
) -> anyhow::Result<Outcome> {
    let mut clients = Vec::new();
    for _ in &corpus.lanes {
        let client = Client::connect(addr, &ClientConfig::default()).context("the load has nowhere to go")?;
        if client.welcome().chain_id != chain_id {
            bail!("the node at {addr} runs chain {}, not {chain_id}", client.welcome().chain_id);
        }
        clients.push(client);
    }
    let durability = clients[0].welcome().durability.clone();
    let zeros = |n: u64| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    // Built before `start`, so that no first touch falls into the measurement.
    let (sent_ns, done_ns) = (zeros(corpus.count), zeros(corpus.count));
    let shared = Shared {
        start: Instant::now(),
        rate: load.rate,
        connections: corpus.lanes.len() as u64,
        sent_ns,
        done_ns,
        answered: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    let begin_ns = load.warmup.as_nanos() as u64;
    let planned_end_ns = begin_ns + load.seconds.as_nanos() as u64;
    let (tallies, end_ns) = std::thread::scope(|scope| {
        let mut readers = Vec::new();
        let mut pairs = Vec::new();
        for (c, (client, lane)) in clients.into_iter().zip(&corpus.lanes).enumerate() {
            let window = load.window.min(u64::from(client.welcome().window)).max(1);
            let pair = Arc::new(Pair { window, ..Pair::default() });
            let (sender, receiver) = client.split();
            let writer = Writer {
                shared: &shared,
                pair: Arc::clone(&pair),
                lane,
                connection: c as u64,
                sender,
                next: 0,
                end_ns: planned_end_ns,
                tick: load.tick,
            };
            let writer = scope.spawn(move || writer.run());
            let reader = Reader {
                shared: &shared,
                pair: Arc::clone(&pair),
                receiver,
                writer: writer.thread().clone(),
                timeout: load.timeout,
                tally: Tally::default(),
            };
            readers.push(scope.spawn(move || reader.run()));
            pairs.push(pair);
        }
        let end_ns = conduct(&shared, &pairs, begin_ns, planned_end_ns, callback);
        let give_up = Instant::now() + load.timeout;
        while !readers.iter().all(|r| r.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            callback(Moment::Progress(shared.answered.load(Ordering::Relaxed)));
            if Instant::now() > give_up {
                shared.stop.store(true, Ordering::Release);
            }
        }
        let tallies: Vec<Tally> = readers
            .into_iter()
            .map(|r| r.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        (tallies, end_ns)
    });
    Ok(evaluate(&shared, tallies, corpus, (begin_ns, end_ns, planned_end_ns), durability))
}

/// Waits for the window's beginning and end; returns its end: earlier than planned when nothing is left to send.
fn conduct(
    shared: &Shared,
    pairs: &[Arc<Pair>],
    begin_ns: u64,
    planned_end_ns: u64,
    callback: &mut dyn FnMut(Moment),
) -> u64 {
    let mut begun = false;
    loop {
        let now = shared.now_ns();
        if !begun && now >= begin_ns {
            begun = true;
            callback(Moment::WindowBegins);
        }
        let nothing_left = pairs.iter().all(|p| p.finished.load(Ordering::Acquire));
        if now >= planned_end_ns || nothing_left || shared.stop.load(Ordering::Acquire) {
            callback(Moment::WindowEnds);
            return now.min(planned_end_ns);
        }
        callback(Moment::Progress(shared.answered.load(Ordering::Relaxed)));
        let next = if begun { planned_end_ns } else { begin_ns };
        std::thread::sleep(Duration::from_nanos(next - now).min(Duration::from_millis(20)));
    }
}

fn evaluate(
    shared: &Shared,
    tallies: Vec<Tally>,
    corpus: &Corpus,
    (begin_ns, end_ns, planned_end_ns): (u64, u64, u64),
    durability: String,
) -> Outcome {
    let now = shared.now_ns();
    let in_window = |i: u64| {
        let due = shared.due_ns(i);
        due >= begin_ns && due < end_ns
    };
    let mut latency_us =
        Histogram::new_with_max(600_000_000, 3).unwrap_or_else(|_| unreachable!("valid bounds"));
    let (mut sent, mut answered, mut unsent) = (0u64, 0u64, 0u64);
    for i in 0..corpus.count {
        if shared.sent_ns[i as usize].load(Ordering::Relaxed) == 0 {
            // At a constant rate it was due all the same: it counts as sent and never answered.
            if matches!(shared.rate, Rate::Max) || !in_window(i) {
                continue;
            }
            unsent += 1;
        } else if !in_window(i) {
            continue;
        }
        sent += 1;
        let done = shared.done_ns[i as usize].load(Ordering::Relaxed);
        answered += u64::from(done != 0);
        let until = if done == 0 { now } else { done - 1 };
        latency_us.saturating_record(until.saturating_sub(shared.due_ns(i)) / 1_000);
    }
    let count = |list: &dyn Fn(&Tally) -> &Vec<u64>| {
        tallies.iter().flat_map(|t| list(t).iter()).filter(|i| in_window(**i)).count() as u64
    };
    let (rejected, reverted) = (count(&|t| &t.rejected), count(&|t| &t.reverted));
    let mut reject_reasons = BTreeMap::new();
    for (reason, n) in tallies.iter().flat_map(|t| &t.reject_reasons) {
        *reject_reasons.entry(*reason).or_default() += n;
    }
    let (first, last) = ((begin_ns / BUCKET_NS) as usize, (end_ns / BUCKET_NS) as usize);
    let committed_in_window: u64 = tallies
        .iter()
        .flat_map(|t| t.included_buckets.iter().enumerate())
        .filter(|(bucket, _)| (first..last).contains(bucket))
        .map(|(_, n)| n)
        .sum();
    let seconds = end_ns.saturating_sub(begin_ns) as f64 / 1e9;
    let per_second = |n: u64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
    let mut error = shared.error.lock().unwrap_or_else(PoisonError::into_inner).take();
    if unsent > 0 {
        error.get_or_insert(format!(
            "{unsent} transactions that were due could not be sent at all: the window stayed full"
        ));
    }
    Outcome {
        seconds,
        offered_tps: per_second(sent),
        committed_tps: per_second(committed_in_window),
        committed_in_window,
        sent,
        acknowledged: answered - rejected,
        reverted,
        rejected,
        timed_out: sent - answered,
        reject_reasons,
        included_in_all: tallies.iter().map(|t| t.included).sum(),
        latency_us,
        supply_exhausted: end_ns < planned_end_ns && error.is_none(),
        durability,
        error,
    }
}
