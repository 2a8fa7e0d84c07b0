//! `ingest`: frames in, answers out.
//!
//! In: sockets; verdicts of `admit` and `commit`. Out: submissions to `admit`. On overload (the link to `admit` is full) a
//! connection is no longer read, so that the pressure reaches the client's socket.

use crate::node::lanes::PromiseLanes;
use crate::node::messages::{Answer, End};
use crate::node::metrics::Metrics;
use alloy_primitives::{Address, Bytes};
use ironlane_netstack::wire::{Ack, AckStatus, Promise};
use ironlane_netstack::{ConnId, Device, Event, Flow, Ingest};
use ironlane_runtime::{Consumer, Producer, Stage, now_ns};
use ironlane_types::{Origin, Submission};
use std::os::fd::RawFd;
use std::sync::Arc;

/// The stage.
pub struct IngestStage<D: Device> {
    server: Ingest<D>,
    submissions: Producer<Submission>,
    from_admit: Consumer<Answer>,
    from_commit: Consumer<Answer>,
    promise_lanes: Arc<PromiseLanes>,
    metrics: Metrics,
}

impl<D: Device> IngestStage<D> {
    /// Over a server that is already bound.
    pub fn new(
        server: Ingest<D>,
        submissions: Producer<Submission>,
        from_admit: Consumer<Answer>,
        from_commit: Consumer<Answer>,
        promise_lanes: Arc<PromiseLanes>,
        metrics: Metrics,
    ) -> Self {
        Self { server, submissions, from_admit, from_commit, promise_lanes, metrics }
    }

    fn receive(&mut self, budget: usize) -> usize {
        if self.server.paused() > 0 && self.submissions.free_now() > 0 {
            self.server.resume_all();
        }
        let now = now_ns();
        let Self { server, submissions, promise_lanes, metrics, .. } = self;
        let mut received = 0;
        let polled = server.poll(now, budget, &mut |conn: ConnId, event: Event<'_>| match event {
            Event::Submit(submit) => {
                if submissions.free() == 0 {
                    return Flow::Backpressure;
                }
                let submission = Submission {
                    origin: Origin { lane: conn.0, tag: submit.tag },
                    raw: Bytes::copy_from_slice(submit.tx),
                    sender_hint: submit.hint.map(Address::from),
                    received_ns: now,
                };
                match submissions.push(submission) {
                    Ok(()) => {
                        received += 1;
                        Flow::Accept
                    }
                    Err(_) => Flow::Backpressure,
                }
            }
            Event::Opened { peer, wants_promises } => {
                tracing::debug!(%peer, conn = conn.0, "ingest connection");
                if wants_promises {
                    promise_lanes.insert(conn.0);
                }
                Flow::Accept
            }
            Event::Closed(reason) => {
                tracing::debug!(conn = conn.0, ?reason, "ingest connection ended");
                promise_lanes.remove(conn.0);
                Flow::Accept
            }
        });
        metrics.received.inc_by(received);
        polled
    }

    fn answer(&mut self, budget: usize) -> usize {
        let Self { server, from_admit, from_commit, .. } = self;
        let mut send = |answer: Answer| {
            let conn = ConnId(answer.verdict.origin.lane);
            let tag = answer.verdict.origin.tag;
            let ack = match answer.verdict.end {
                End::Rejected(reason) => Ack::rejected(tag, reason as u8),
                End::Included { success, mini_block, position, seq, gas_used } => Ack {
                    tag,
                    status: if success { AckStatus::Success } else { AckStatus::Reverted },
                    reject: 0,
                    seq,
                    mini_block,
                    position,
                    gas_used,
                },
            };
            if let Some(bytes) = &answer.promise {
                server.send_promise(conn, Promise { tag, bytes });
            }
            server.send_ack(conn, &ack);
        };
        let mut sent = from_commit.drain(budget, &mut send);
        sent += from_admit.drain(budget, &mut send);
        if sent > 0 {
            server.flush();
        }
        sent
    }
}

impl<D: Device + Send> Stage for IngestStage<D> {
    fn name(&self) -> &'static str {
        "ingest"
    }

    fn poll(&mut self, budget: usize) -> usize {
        self.answer(budget * 4) + self.receive(budget)
    }

    fn housekeep(&mut self, now_ns: u64) {
        self.server.housekeep(now_ns);
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.server.wake_fd()
    }

    fn close(&mut self) {
        // What is already durable is still answered.
        while self.answer(usize::MAX) > 0 {}
        self.server.shut_down();
        self.server.flush();
    }
}
