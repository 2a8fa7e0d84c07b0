//! The load against an echo on the real ingest server: every transaction is accounted for, whatever the node does.

use super::load::{self, Load, Moment, Outcome, Rate};
use super::workload::{self, Auth, CHAIN_ID, Plan, Workload};
use super::{Args, Transport};
use clap::Parser;
use ironlane_netstack::wire::{Ack, AckStatus, Welcome};
use ironlane_netstack::{ConnId, Event, Flow, IngestConfig, TcpConfig, TcpIngest};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the echo does with a tag.
type Behaviour = fn(u64) -> Answer;

enum Answer {
    Include,
    Revert,
    Reject(u8),
    Forget,
    Twice,
}

struct Echo {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Echo {
    /// `stall`: from when to when, after the first transaction, nothing is done at all.
    fn start(behaviour: Behaviour, stall: Option<(Duration, Duration)>) -> Echo {
        let welcome = Welcome {
            version: 0,
            frame_bytes_max: 0,
            window: 0,
            chain_id: CHAIN_ID,
            sequencer: [1; 20],
            durability: "none".into(),
        };
        let addr = ([127, 0, 0, 1], 0).into();
        let mut server =
            TcpIngest::bind(addr, TcpConfig::default(), IngestConfig::default(), welcome).expect("binds");
        let addr = server.local_addr();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            let mut first: Option<Instant> = None;
            let mut answers: Vec<(ConnId, Ack)> = Vec::new();
            let mut seq = 0;
            while !stopped.load(Ordering::Relaxed) {
                if let (Some(first), Some((from, to))) = (first, stall)
                    && (from..to).contains(&first.elapsed())
                {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let worked = server.poll(start.elapsed().as_nanos() as u64, 64, &mut |conn, event| {
                    if let Event::Submit(submit) = event {
                        first.get_or_insert_with(Instant::now);
                        let ack = |status| Ack {
                            tag: submit.tag,
                            status,
                            reject: 0,
                            seq,
                            mini_block: 1,
                            position: 0,
                            gas_used: 21_000,
                        };
                        match behaviour(submit.tag) {
                            Answer::Include => answers.push((conn, ack(AckStatus::Success))),
                            Answer::Revert => answers.push((conn, ack(AckStatus::Reverted))),
                            Answer::Reject(reason) => answers.push((conn, Ack::rejected(submit.tag, reason))),
                            Answer::Twice => answers.extend([(conn, ack(AckStatus::Success)); 2]),
                            Answer::Forget => {}
                        }
                        seq += 1;
                    }
                    Flow::Accept
                });
                for (conn, ack) in answers.drain(..) {
                    server.send_ack(conn, &ack);
                }
                server.flush();
                if worked == 0 {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        });
        Echo { addr, stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn plan(count: u64, connections: u64) -> Plan {
    Plan {
        workload: Workload::Transfer,
        auth: Auth::Recover,
        senders: 12,
        recipients: 50,
        connections,
        count,
        seed: 9,
    }
}

fn give(echo: &Echo, plan: &Plan, load: &Load) -> Outcome {
    let folder = tempfile::tempdir().expect("tempdir");
    let corpus = workload::corpus(plan, folder.path(), &|_| {}).expect("signs");
    let mut moments = Vec::new();
    let outcome = load::run(echo.addr, CHAIN_ID, &corpus, load, &mut |moment| {
        if !matches!(moment, Moment::Progress(_)) {
            moments.push(moment);
        }
    })
    .expect("runs");
    assert_eq!(moments.last(), Some(&Moment::WindowEnds));
    assert_eq!(outcome.sent, outcome.acknowledged + outcome.rejected + outcome.timed_out, "{outcome:?}");
    assert_eq!(outcome.latency_us.len(), outcome.sent, "every transaction is in the histogram");
    outcome
}

fn short(rate: Rate) -> Load {
    Load {
        rate,
        window: 1_000,
        warmup: Duration::from_millis(200),
        seconds: Duration::from_millis(800),
        timeout: Duration::from_millis(1_000),
        tick: Duration::from_micros(100),
    }
}

#[test]
fn a_constant_rate_is_kept_and_every_transaction_has_its_end() {
    let echo = Echo::start(
        |tag| match tag % 10 {
            0 => Answer::Reject(13),
            1 => Answer::Revert,
            2 if tag % 100 == 2 => Answer::Forget,
            _ => Answer::Include,
        },
        None,
    );
    for connections in [1, 3] {
        let outcome = give(&echo, &plan(5_600, connections), &short(Rate::PerSecond(5_000.0)));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert!(!outcome.supply_exhausted);
        assert_eq!(outcome.sent, 4_000, "5,000 a second for 0.8 s");
        assert_eq!((outcome.rejected, outcome.reverted, outcome.timed_out), (400, 400, 40));
        assert_eq!(outcome.reject_reasons.keys().copied().collect::<Vec<_>>(), [13]);
        assert!((outcome.offered_tps - 5_000.0).abs() < 100.0, "{}", outcome.offered_tps);
        assert!((2_000.0..=4_700.0).contains(&outcome.committed_tps), "{}", outcome.committed_tps);
        // The forgotten ones weigh on the tail with their age.
        assert!(outcome.latency_us.max() >= 1_000_000);
    }
}

#[test]
fn a_stall_is_charged_for_all_that_was_due_meanwhile() {
    let stall = (Duration::from_millis(400), Duration::from_millis(700));
    let echo = Echo::start(|_| Answer::Include, Some(stall));
    let outcome = give(&echo, &plan(2_250, 1), &short(Rate::PerSecond(2_000.0)));
    assert_eq!((outcome.sent, outcome.timed_out), (1_600, 0));
    // 600 of 1,600 transactions were due in the stall and waited 150 ms on average: a closed loop would show one such wait.
    let slow = outcome.latency_us.count_between(50_000, u64::MAX >> 1);
    assert!(slow >= 400, "{slow} transactions waited for more than 50 ms");
}

#[test]
fn max_fills_the_window_and_tells_when_the_supply_ends() {
    let echo = Echo::start(|_| Answer::Include, None);
    let outcome = give(&echo, &plan(30_000, 2), &short(Rate::Max));
    assert!(outcome.supply_exhausted, "an echo takes 30,000 in less than a second");
    assert_eq!(outcome.timed_out, 0);
    assert_eq!(outcome.included_in_all, 30_000);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

#[test]
fn a_node_that_answers_nothing_or_twice_is_told_apart() {
    let silent = Echo::start(|_| Answer::Forget, None);
    let outcome = give(&silent, &plan(2_250, 1), &Load { window: 100, ..short(Rate::PerSecond(2_000.0)) });
    assert_eq!((outcome.sent, outcome.timed_out, outcome.acknowledged), (1_600, 1_600, 0));
    assert!(outcome.error.is_some_and(|e| e.contains("could not be sent")));

    let double = Echo::start(|_| Answer::Twice, None);
    let outcome = give(&double, &plan(2_250, 1), &short(Rate::PerSecond(2_000.0)));
    assert!(outcome.error.is_some_and(|e| e.contains("twice")));
}

#[test]
fn another_chain_is_refused() {
    let echo = Echo::start(|_| Answer::Include, None);
    let folder = tempfile::tempdir().expect("tempdir");
    let corpus = workload::corpus(&plan(12, 1), folder.path(), &|_| {}).expect("signs");
    let error = load::run(echo.addr, 5, &corpus, &short(Rate::Max), &mut |_| {}).expect_err("another chain");
    assert!(error.to_string().contains("runs chain 1515, not 5"), "{error}");
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &[&str]) -> Args {
    Line::try_parse_from([&["e2e"], line].concat()).expect("parses").args
}

#[test]
fn what_is_not_built_is_refused_with_a_sentence() {
    for (line, says) in [
        (&["--transport", "af_xdp"][..], "af_xdp is not built yet"),
        (&["--transport", "shm"], "shm is not built yet"),
        (&["--workload", "uniswap"], "pool contracts"),
        (&["--seconds", "0"], "above 0"),
        (&["--connections", "33"], "32 from one address"),
        (&["--window", "0"], "--window is 0"),
    ] {
        let error = super::run(&parse(line)).expect_err("refused");
        assert!(error.to_string().contains(says), "{line:?}: {error}");
    }
    assert!(Line::try_parse_from(["e2e", "--rate", "-5"]).is_err());
    assert!(Line::try_parse_from(["e2e", "--rate", "fast"]).is_err());
    assert_eq!(parse(&["--rate", "max"]).rate, Rate::Max);
    assert_eq!(parse(&["--transport", "tcp"]).transport, Transport::Tcp);
}

#[test]
fn smoke_is_small_and_senders_fit_the_connections() {
    let args = parse(&["--smoke", "--connections", "3", "--rate", "50000"]).effective();
    assert!(args.seconds + args.warmup_seconds <= 2.0 && args.senders <= 102);
    assert_eq!(args.rate, Rate::PerSecond(2_000.0));
    assert!(args.senders.is_multiple_of(3));
}
