//! A server and its peers in one thread, over any device: what the conformance body runs on.
#![allow(dead_code, unreachable_pub)]

use ironlane_netstack::wire::{Ack, AckStatus, Frame, Hello, Repr, Submit, VERSION, Welcome};
use ironlane_netstack::{
    ConnId, Device, DropReason, Event, Flow, Ingest, IngestConfig, Loopback, LoopbackPeer, TcpConfig,
    TcpDevice,
};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const SEQUENCER: [u8; 20] = [0x5e; 20];
pub const CHAIN_ID: u64 = 31_337;

/// The client's end of a connection, without blocking.
pub trait Peer {
    /// Sends what goes out now; returns how many bytes.
    fn send(&mut self, bytes: &[u8]) -> usize;
    /// What has come in.
    fn receive(&mut self) -> Vec<u8>;
    /// Whether the node has ended the connection.
    fn ended(&mut self) -> bool;
    /// Ends the connection.
    fn close(&mut self);
    /// From now on reads nothing.
    fn stop_reading(&mut self);
}

/// A kind of device.
pub trait Harness {
    type Device: Device;
    type Peer: Peer;
    fn open(connections_max: usize) -> Self::Device;
    fn connect(ingest: &mut Ingest<Self::Device>) -> Self::Peer;
}

pub struct OverTcp;
pub struct OverLoopback;

pub struct TcpPeer {
    stream: TcpStream,
    ended: bool,
    reading: bool,
}

impl TcpPeer {
    pub fn new(addr: SocketAddr) -> TcpPeer {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_nonblocking(true).expect("nonblocking");
        TcpPeer { stream, ended: false, reading: true }
    }
}

impl Peer for TcpPeer {
    fn send(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.ended = true;
                0
            }
        }
    }
    fn receive(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut chunk = vec![0u8; 65_536];
        while self.reading && !self.ended {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(n) => all.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.ended = true,
            }
        }
        all
    }
    fn ended(&mut self) -> bool {
        self.ended
    }
    fn close(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.ended = true;
    }
    fn stop_reading(&mut self) {
        self.reading = false;
    }
}

impl Harness for OverTcp {
    type Device = TcpDevice;
    type Peer = TcpPeer;
    fn open(connections_max: usize) -> TcpDevice {
        let config = TcpConfig { connections_max, ..TcpConfig::default() };
        TcpDevice::bind(([127, 0, 0, 1], 0).into(), config).expect("io_uring is there")
    }
    fn connect(ingest: &mut Ingest<TcpDevice>) -> TcpPeer {
        TcpPeer::new(ingest.local_addr())
    }
}

pub struct MemoryPeer(LoopbackPeer);

impl Peer for MemoryPeer {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.0.send(bytes);
        bytes.len()
    }
    fn receive(&mut self) -> Vec<u8> {
        self.0.receive()
    }
    fn ended(&mut self) -> bool {
        self.0.is_finished()
    }
    fn close(&mut self) {
        self.0.close();
    }
    fn stop_reading(&mut self) {
        self.0.set_room(0);
    }
}

impl Harness for OverLoopback {
    type Device = Loopback;
    type Peer = MemoryPeer;
    fn open(connections_max: usize) -> Loopback {
        Loopback::new(connections_max)
    }
    fn connect(ingest: &mut Ingest<Loopback>) -> MemoryPeer {
        MemoryPeer(ingest.device_mut().connect().expect("room in the table"))
    }
}

/// A transaction as the sink saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub conn: ConnId,
    pub tag: u64,
    pub hint: Option<[u8; 20]>,
    pub tx: Vec<u8>,
}

/// What the owner of the server keeps.
#[derive(Default)]
pub struct Owner {
    pub seen: Vec<Seen>,
    pub opened: Vec<ConnId>,
    pub closed: HashMap<ConnId, DropReason>,
    /// Frames that the sink still takes; `None`: all.
    pub room: Option<usize>,
}

/// A server with a clock of its own.
pub struct Server<H: Harness> {
    pub ingest: Ingest<H::Device>,
    pub owner: Owner,
    pub now_ns: u64,
}

/// A peer with what it has received and not yet decoded.
pub struct Talker<P> {
    pub peer: P,
    pub received: Vec<u8>,
}

impl<H: Harness> Server<H> {
    pub fn new(connections_max: usize, config: IngestConfig) -> Self {
        Self::over(H::open(connections_max), config)
    }

    pub fn over(device: H::Device, config: IngestConfig) -> Self {
        let welcome = Welcome {
            version: 0,
            frame_bytes_max: 0,
            window: 0,
            chain_id: CHAIN_ID,
            sequencer: SEQUENCER,
            durability: "fdatasync".into(),
        };
        let ingest = Ingest::new(device, config, welcome).expect("limits make sense");
        let mut server = Server { ingest, owner: Owner::default(), now_ns: 1 };
        server.turn();
        server
    }

    /// One round of the owner's loop.
    pub fn turn(&mut self) -> usize {
        let owner = &mut self.owner;
        let worked = self.ingest.poll(self.now_ns, 64, &mut |conn, event| {
            match event {
                Event::Opened { .. } => owner.opened.push(conn),
                Event::Closed(reason) => {
                    assert!(owner.opened.contains(&conn), "closed without having been opened");
                    assert!(owner.closed.insert(conn, reason).is_none(), "closed twice");
                }
                Event::Submit(submit) => {
                    assert!(!owner.closed.contains_key(&conn), "a frame after the end");
                    if let Some(room) = &mut owner.room {
                        if *room == 0 {
                            return Flow::Backpressure;
                        }
                        *room -= 1;
                    }
                    let (tag, hint, tx) = (submit.tag, submit.hint, submit.tx.to_vec());
                    owner.seen.push(Seen { conn, tag, hint, tx });
                }
            }
            Flow::Accept
        });
        self.ingest.flush();
        worked
    }

    /// Turns until `done` (which may look at the peers), or fails after a while.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < limit, "{what} did not happen");
            if self.turn() == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Lets the clock jump and the timeouts be looked at.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now_ns += ms * 1_000_000;
        self.ingest.housekeep(self.now_ns);
    }

    pub fn connect(&mut self) -> Talker<H::Peer> {
        let peer = H::connect(&mut self.ingest);
        Talker { peer, received: Vec::new() }
    }

    /// Connects, says Hello, takes the Welcome.
    pub fn greet(&mut self) -> Talker<H::Peer> {
        let mut talker = self.connect();
        talker.send_all(self, &hello());
        let welcome = talker.expect(self, 1);
        assert!(matches!(&welcome[0], Owned::Welcome(w) if w.chain_id == CHAIN_ID), "{welcome:?}");
        talker
    }

    /// Acknowledges all that was seen and not yet acknowledged.
    pub fn ack_all(&mut self) {
        for (i, seen) in std::mem::take(&mut self.owner.seen).into_iter().enumerate() {
            self.ingest.send_ack(seen.conn, &included(seen.tag, i as u64));
        }
        self.ingest.flush();
    }
}

/// Frames that outlive their buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owned {
    Welcome(Welcome),
    Ack(Ack),
    Pong(u64),
    Promise(u64, Vec<u8>),
    Goaway(u8, String),
}

impl<P: Peer> Talker<P> {
    pub fn send_all<H: Harness>(&mut self, server: &mut Server<H>, bytes: &[u8]) {
        let mut left = bytes;
        server.until("sending", |_| {
            left = &left[self.peer.send(left)..];
            left.is_empty() || self.peer.ended()
        });
    }

    /// Decodes what has come so far.
    pub fn frames(&mut self) -> Vec<Owned> {
        let fresh = self.peer.receive();
        self.received.extend_from_slice(&fresh);
        let mut used = 0;
        let mut frames = Vec::new();
        while let Ok(frame) = Frame::new_checked(&self.received[used..]) {
            used += frame.total_bytes();
            frames.push(match Repr::parse(&frame).expect("the node's frames have a meaning") {
                Repr::Welcome(w) => Owned::Welcome(w),
                Repr::Ack(a) => Owned::Ack(a),
                Repr::Pong(n) => Owned::Pong(n),
                Repr::Promise(p) => Owned::Promise(p.tag, p.bytes.to_vec()),
                Repr::Goaway(g) => Owned::Goaway(g.code, g.text.to_owned()),
                other => panic!("a node never sends {other:?}"),
            });
        }
        self.received.drain(..used);
        frames
    }

    /// Waits for this many frames.
    pub fn expect<H: Harness>(&mut self, server: &mut Server<H>, count: usize) -> Vec<Owned> {
        let mut frames = Vec::new();
        server.until("an answer", |_| {
            frames.extend(self.frames());
            frames.len() >= count || self.peer.ended()
        });
        frames.extend(self.frames());
        frames
    }

    /// Waits for the end of the connection and returns the reason of its Goaway.
    pub fn goaway<H: Harness>(&mut self, server: &mut Server<H>) -> Option<u8> {
        let mut frames = Vec::new();
        server.until("the end of the connection", |_| {
            frames.extend(self.frames());
            self.peer.ended()
        });
        frames.extend(self.frames());
        frames.into_iter().find_map(|f| match f {
            Owned::Goaway(code, _) => Some(code),
            _ => None,
        })
    }
}

pub fn hello() -> Vec<u8> {
    encode(&Repr::Hello(Hello { version_min: VERSION, version_max: VERSION, wants_promises: false }))
}

pub fn submit(tag: u64, hint: Option<[u8; 20]>, tx: &[u8]) -> Vec<u8> {
    encode(&Repr::Submit(Submit { tag, hint, tx }))
}

pub fn encode(repr: &Repr<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    repr.emit(&mut bytes);
    bytes
}

pub fn included(tag: u64, seq: u64) -> Ack {
    Ack {
        tag,
        status: AckStatus::Success,
        reject: 0,
        seq,
        mini_block: 7,
        position: seq as u32,
        gas_used: 21_000,
    }
}
