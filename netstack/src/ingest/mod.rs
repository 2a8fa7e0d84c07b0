//! The ingest server over any device.
//!
//! In: bytes of connections. Out: [`Event`]s to the owner's sink, acknowledgements back. On overload the sink refuses a
//! frame: its connection is not read until it is resumed, and the frame is offered again. A client above its window
//! gets typed refusals; one that does not read its answers is disconnected. Nothing that one connection does holds up
//! another.
//!
//! The owner's loop: `poll` (frames in), `send_ack` for what became durable, `flush` (everything out in one call),
//! `housekeep` now and then. Before it sleeps on [`Ingest::wake_fd`], a `poll` must have returned 0.

mod config;
mod session;
mod sessions;
mod stats;

pub use config::IngestConfig;
pub use stats::{Counters, DropReason, Stats};

use crate::wire::{Ack, GoawayReason, Promise, Repr, Submit, Welcome};
use crate::{Caps, ConnId, Device, NetError, TcpConfig, TcpDevice};
use sessions::Sessions;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// What the owner learns.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client has said Hello and was welcomed.
    Opened {
        /// Who.
        peer: SocketAddr,
        /// Whether it wants a Promise for each included transaction.
        wants_promises: bool,
    },
    /// A transaction. Its bytes are gone when the sink returns.
    Submit(Submit<'a>),
    /// A connection that had been opened is gone; what is sent to it is ignored.
    Closed(DropReason),
}

/// What the sink answers to a [`Event::Submit`]; for other events it does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Taken: exactly one [`Ingest::send_ack`] with its tag must follow.
    Accept,
    /// No room: the frame was not taken. Its connection is not read until [`Ingest::resume`], and then begins with it.
    Backpressure,
}

/// The sink of [`Ingest::poll`].
pub type Sink<'s> = dyn FnMut(ConnId, Event<'_>) -> Flow + 's;

/// A server over TCP and io_uring.
pub type TcpIngest = Ingest<TcpDevice>;

/// The server: sessions over a device. See the module's text for the order of calls.
#[derive(Debug)]
pub struct Ingest<D: Device> {
    device: D,
    sessions: Sessions,
}

impl Ingest<TcpDevice> {
    /// Listens on `addr`. `welcome` is what each client is told; its `version`, `frame_bytes_max` and `window` are set from
    /// here.
    ///
    /// # Errors
    /// [`NetError`] when the address or io_uring cannot be had, or a limit makes no sense.
    pub fn bind(
        addr: SocketAddr,
        tcp: TcpConfig,
        config: IngestConfig,
        welcome: Welcome,
    ) -> Result<Self, NetError> {
        Self::new(TcpDevice::bind(addr, tcp)?, config, welcome)
    }

    /// The address that it listens on (the port that the system chose, when 0 was asked for).
    pub fn local_addr(&self) -> SocketAddr {
        self.device.local_addr()
    }
}

impl<D: Device> Ingest<D> {
    /// A server over a device.
    ///
    /// # Errors
    /// [`NetError::Config`] when a limit makes no sense.
    pub fn new(device: D, config: IngestConfig, welcome: Welcome) -> Result<Self, NetError> {
        config.check()?;
        let sessions = Sessions::new(config, welcome, device.caps().connections_max);
        Ok(Ingest { device, sessions })
    }

    /// What the device is.
    pub fn caps(&self) -> Caps {
        self.device.caps()
    }

    /// The device itself, for what only its kind can do.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// A descriptor that polls readable (level-triggered) while [`Ingest::poll`] has something to do; `None` when the
    /// device must be polled.
    pub fn wake_fd(&self) -> Option<RawFd> {
        self.device.caps().wake_fd
    }

    /// Handles about `budget` receive buffers (each up to some hundreds of frames) and says how many events it handled;
    /// 0 means that there is nothing to do. `now_ns` is the owner's monotonic clock.
    pub fn poll(&mut self, now_ns: u64, budget: usize, sink: &mut Sink<'_>) -> usize {
        let Self { device, sessions } = self;
        sessions.set_now(now_ns);
        let resumed = sessions.run_resumed(device, sink);
        sessions.transmit(device);
        let polled = device.poll(budget, &mut |conn, event| sessions.on_event(conn, event, sink));
        resumed + polled
    }

    /// Answers a transaction. The bytes leave with the next [`Ingest::flush`] or [`Ingest::poll`]. Ignored, and counted,
    /// when the connection is gone.
    #[inline]
    pub fn send_ack(&mut self, conn: ConnId, ack: &Ack) {
        self.sessions.send_ack(&mut self.device, conn, ack);
    }

    /// Sends a promise; as [`Ingest::send_ack`].
    ///
    /// # Panics
    /// When the promise is empty or longer than [`crate::wire::PROMISE_BYTES_MAX`].
    pub fn send_promise(&mut self, conn: ConnId, promise: Promise<'_>) {
        self.sessions.send(&mut self.device, conn, &Repr::Promise(promise));
    }

    /// Whether this client asked for promises; false when it is gone.
    pub fn wants_promises(&self, conn: ConnId) -> bool {
        self.sessions.wants_promises(conn)
    }

    /// Reads a connection again whose frame the sink had refused. The next [`Ingest::poll`] offers that frame again.
    pub fn resume(&mut self, conn: ConnId) {
        self.sessions.resume(conn);
    }

    /// Resumes every paused connection.
    pub fn resume_all(&mut self) {
        self.sessions.resume_all();
    }

    /// Connections that wait for [`Ingest::resume`].
    pub fn paused(&self) -> usize {
        self.sessions.paused()
    }

    /// Tells every client that the node stops, and ends the connections once that is out or a second is over.
    pub fn shut_down(&mut self) {
        self.sessions.goaway_all(&mut self.device, GoawayReason::ShuttingDown);
    }

    /// Hands everything to the system: one call for all connections.
    pub fn flush(&mut self) {
        self.sessions.transmit(&mut self.device);
        self.device.flush();
    }

    /// Enforces the timeouts. Cheap; call it about every 100 ms.
    pub fn housekeep(&mut self, now_ns: u64) {
        self.sessions.set_now(now_ns);
        self.sessions.housekeep(&mut self.device);
        self.sessions.transmit(&mut self.device);
        self.device.flush();
    }

    /// Counters since the start.
    pub fn stats(&self) -> &Stats {
        self.sessions.stats()
    }
}
