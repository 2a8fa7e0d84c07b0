//! One connection's conversation: its bytes become frames, its frames become events.

use super::stats::Counters;
use super::{Event, Flow, Sink};
use crate::ConnId;
use crate::wire::{Ack, Frame, Goaway, GoawayReason, REJECT_RATE_LIMITED, Repr, VERSION, Welcome, WireError};
use std::net::{IpAddr, SocketAddr};

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Connected; Hello has not come.
    Greeting,
    /// Welcomed.
    Open,
    /// Goaway is said; what still comes is thrown away until the peer closes or the time is over.
    Draining {
        until_ns: u64,
        /// The device was told that nothing more follows.
        finished: bool,
    },
    /// The device was told to end it; its `Closed` has not come yet.
    Aborted,
}

/// What stopped the reading of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// All bytes are used (a partial frame is kept).
    Empty,
    /// The sink refused a frame; it and what follows are kept.
    Refused,
    /// The connection must end.
    Fail(GoawayReason),
}

/// Receive and send buffers above this are given back once they are empty.
const IDLE_CAPACITY_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: ConnId,
    pub(super) peer: SocketAddr,
    pub(super) address: IpAddr,
    pub(super) state: State,
    /// Whether the owner was told `Opened`, and so must be told `Closed`.
    pub(super) announced: bool,
    pub(super) drop_reason: Option<GoawayReason>,
    pub(super) wants_promises: bool,
    /// Bytes received and not yet used: part of one frame, or, while paused, whatever came.
    stash: Vec<u8>,
    pub(super) paused: bool,
    /// Answers not yet with the device.
    pub(super) out: Vec<u8>,
    /// Bytes that the device has and has not sent.
    pub(super) sending_bytes: usize,
    pub(super) sending_since_ns: u64,
    /// What the server's total of waiting bytes holds for this connection.
    pub(super) counted_bytes: usize,
    /// Whether it is in the list of connections with something to transmit.
    pub(super) dirty: bool,
    /// Transactions without an acknowledgement.
    pub(super) unacked: u32,
    pub(super) opened_ns: u64,
    pub(super) last_frame_ns: u64,
    pub(super) partial_since_ns: Option<u64>,
}

/// What a session needs to know of the server around it.
pub(super) struct Context<'a, 's> {
    pub(super) now_ns: u64,
    pub(super) window: u32,
    pub(super) welcome: &'a Welcome,
    pub(super) counters: &'a mut Counters,
    pub(super) sink: &'a mut Sink<'s>,
}

impl Session {
    pub(super) fn new(id: ConnId, peer: SocketAddr, address: IpAddr, now_ns: u64) -> Session {
        Session {
            id,
            peer,
            address,
            state: State::Greeting,
            announced: false,
            drop_reason: None,
            wants_promises: false,
            stash: Vec::new(),
            paused: false,
            out: Vec::new(),
            sending_bytes: 0,
            sending_since_ns: 0,
            counted_bytes: 0,
            dirty: false,
            unacked: 0,
            opened_ns: now_ns,
            last_frame_ns: now_ns,
            partial_since_ns: None,
        }
    }

    /// Takes received bytes.
    pub(super) fn feed(&mut self, bytes: &[u8], context: &mut Context<'_, '_>) -> Stop {
        if self.paused {
            self.stash.extend_from_slice(bytes);
            return Stop::Empty;
        }
        let mut input = bytes;
        if !self.stash.is_empty() {
            let mut stash = std::mem::take(&mut self.stash);
            let stop = self.complete(&mut stash, &mut input, context);
            self.stash = stash;
            if stop != Stop::Empty || !self.stash.is_empty() {
                if stop == Stop::Refused {
                    self.stash.extend_from_slice(input);
                }
                self.after(stop, context.now_ns);
                return stop;
            }
            if self.stash.capacity() > IDLE_CAPACITY_BYTES_MAX {
                self.stash = Vec::new();
            }
        }
        let (used, stop) = self.run(input, context);
        if !matches!(stop, Stop::Fail(_)) {
            self.stash.extend_from_slice(&input[used..]);
        }
        self.after(stop, context.now_ns);
        stop
    }

    /// Goes on with what was kept while the sink had no room.
    pub(super) fn resume(&mut self, context: &mut Context<'_, '_>) -> Stop {
        self.paused = false;
        let mut stash = std::mem::take(&mut self.stash);
        let (used, stop) = self.run(&stash, context);
        if used == stash.len() && stash.capacity() > IDLE_CAPACITY_BYTES_MAX {
            stash = Vec::new();
        } else {
            stash.drain(..used);
        }
        self.stash = stash;
        self.after(stop, context.now_ns);
        stop
    }

    /// Appends to a partial frame just the bytes that it lacks, and handles it.
    fn complete(&mut self, stash: &mut Vec<u8>, input: &mut &[u8], context: &mut Context<'_, '_>) -> Stop {
        loop {
            match Frame::new_checked(stash) {
                Ok(frame) => {
                    let stop = self.handle(&frame, context);
                    if stop == Stop::Empty {
                        stash.clear();
                    }
                    return stop;
                }
                Err(WireError::Truncated { have, need }) => {
                    let (lacking, rest) = input.split_at((need - have).min(input.len()));
                    if lacking.is_empty() {
                        return Stop::Empty;
                    }
                    stash.extend_from_slice(lacking);
                    *input = rest;
                }
                Err(error) => return Stop::Fail(error.reason()),
            }
        }
    }

    /// Handles all whole frames in `bytes`; returns how many bytes they were.
    fn run(&mut self, bytes: &[u8], context: &mut Context<'_, '_>) -> (usize, Stop) {
        let mut used = 0;
        loop {
            match Frame::new_checked(&bytes[used..]) {
                Ok(frame) => match self.handle(&frame, context) {
                    Stop::Empty => used += frame.total_bytes(),
                    stop => return (used, stop),
                },
                Err(error) if error.is_truncated() => return (used, Stop::Empty),
                Err(error) => return (used, Stop::Fail(error.reason())),
            }
        }
    }

    /// Notes how the reading of frames ended.
    fn after(&mut self, stop: Stop, now_ns: u64) {
        match stop {
            Stop::Empty if self.stash.is_empty() => self.partial_since_ns = None,
            Stop::Empty => {
                self.partial_since_ns.get_or_insert(now_ns);
            }
            Stop::Refused => {
                self.paused = true;
                self.partial_since_ns = None;
            }
            Stop::Fail(_) => {
                self.stash = Vec::new();
                self.partial_since_ns = None;
            }
        }
    }

    #[inline]
    fn handle(&mut self, frame: &Frame<'_>, context: &mut Context<'_, '_>) -> Stop {
        let repr = match Repr::parse(frame) {
            Ok(repr) => repr,
            Err(error) => return Stop::Fail(error.reason()),
        };
        let stop = match (self.state, repr) {
            (State::Open, Repr::Submit(submit)) => {
                if self.unacked >= context.window {
                    context.counters.over_window += 1;
                    self.out.extend_from_slice(&Ack::rejected(submit.tag, REJECT_RATE_LIMITED).to_frame());
                    Stop::Empty
                } else {
                    match (context.sink)(self.id, Event::Submit(submit)) {
                        Flow::Accept => {
                            self.unacked += 1;
                            context.counters.submits += 1;
                            Stop::Empty
                        }
                        Flow::Backpressure => {
                            context.counters.backpressure += 1;
                            Stop::Refused
                        }
                    }
                }
            }
            (State::Open, Repr::Ping(number)) => {
                Repr::Pong(number).emit(&mut self.out);
                Stop::Empty
            }
            (State::Greeting, Repr::Hello(hello)) => {
                if !(hello.version_min..=hello.version_max).contains(&VERSION) {
                    return Stop::Fail(GoawayReason::VersionUnsupported);
                }
                self.state = State::Open;
                self.wants_promises = hello.wants_promises;
                self.announced = true;
                Repr::Welcome(context.welcome.clone()).emit(&mut self.out);
                (context.sink)(
                    self.id,
                    Event::Opened { peer: self.peer, wants_promises: hello.wants_promises },
                );
                Stop::Empty
            }
            (State::Greeting, _) => return Stop::Fail(GoawayReason::HelloExpected),
            (_, _) => return Stop::Fail(GoawayReason::UnexpectedFrame),
        };
        if stop == Stop::Empty {
            context.counters.frames_in += 1;
            self.last_frame_ns = context.now_ns;
            self.partial_since_ns = None;
        }
        stop
    }

    /// Says goodbye: the sentence is queued, and what comes from now on is thrown away until `until_ns`.
    pub(super) fn say_goaway(&mut self, reason: GoawayReason, until_ns: u64) {
        Repr::Goaway(Goaway { code: reason as u8, text: reason.message() }).emit(&mut self.out);
        self.state = State::Draining { until_ns, finished: false };
        self.drop_reason = Some(reason);
        self.paused = false;
        self.stash = Vec::new();
    }

    /// Takes an emptied send buffer back, to be used again.
    pub(super) fn take_back(&mut self, mut buffer: Vec<u8>) {
        self.sending_bytes = 0;
        if self.out.capacity() == 0 && buffer.capacity() <= IDLE_CAPACITY_BYTES_MAX {
            buffer.clear();
            self.out = buffer;
        }
    }
}
