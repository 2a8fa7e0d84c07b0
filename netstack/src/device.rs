//! What every device can do: move bytes of numbered connections. One trait, so that the server and its tests do not
//! know whether bytes come through io_uring or from memory.

use crate::wire::GoawayReason;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// A connection's number: never used twice by one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl ConnId {
    /// Bits of the place in the device's table; the serial number is above them.
    pub(crate) const SLOT_BITS: u32 = 16;
    /// Bits that a number may use; devices keep the rest for themselves.
    pub(crate) const BITS: u32 = 60;

    pub(crate) const fn new(serial: u64, slot: usize) -> ConnId {
        debug_assert!(slot < 1 << Self::SLOT_BITS && serial < 1 << (Self::BITS - Self::SLOT_BITS));
        ConnId(serial << Self::SLOT_BITS | slot as u64)
    }

    /// Place in the device's table: small, and used again once the connection is gone.
    pub(crate) const fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// Its name as in logs and benchmark output: `tcp`, `loopback`.
    pub name: &'static str,
    /// Connections that it can hold; slots of [`ConnId`] are below this.
    pub connections_max: usize,
    /// A descriptor that polls readable (level-triggered) while there is something to do; `None`: poll it.
    pub wake_fd: Option<RawFd>,
}

/// What a device tells while it is polled.
#[derive(Debug)]
pub enum DeviceEvent<'a> {
    /// A connection is there.
    Opened {
        /// Who.
        peer: SocketAddr,
    },
    /// Bytes came in, in order. They are gone when the callback returns.
    Bytes(&'a [u8]),
    /// A buffer given to [`Device::transmit`] is on its way; it comes back emptied, to be used again.
    Sent(Vec<u8>),
    /// This many connections were refused because the process has no descriptor left. Belongs to no connection.
    Exhausted(u64),
    /// The peer will send nothing more, or the connection broke, or was aborted: its number is dead. Comes exactly once
    /// for each `Opened` that was answered with [`DeviceFlow::Go`] or [`DeviceFlow::Pause`].
    Closed {
        /// Whether the peer closed in the regular way.
        regular: bool,
    },
}

/// What the owner answers to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceFlow {
    /// Go on.
    Go,
    /// Read nothing more from this connection until [`Control::Resume`]. What was read already still comes.
    Pause,
    /// Only for `Opened`: do not take this connection. The device says why, if the socket takes it at once.
    Refuse(GoawayReason),
}

/// What the owner can ask for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Stop reading.
    Pause,
    /// Read again.
    Resume,
    /// Say that nothing more will be sent, once all that was transmitted is out.
    Finish,
    /// End it at once; what is unsent is lost.
    Abort,
}

/// A device: polled, batched, without threads.
pub trait Device {
    /// What it is.
    fn caps(&self) -> Caps;

    /// Handles what is there, about `budget` bytes-carrying events, and says how many it handled. Nothing that the owner
    /// asked for waits beyond a poll that returns 0.
    fn poll(&mut self, budget: usize, sink: &mut dyn FnMut(ConnId, DeviceEvent<'_>) -> DeviceFlow) -> usize;

    /// Takes the buffer's bytes for sending, leaving an empty buffer behind; `false` while an earlier buffer of this
    /// connection is still under way (its end is told by `Sent`), or when the connection is gone.
    fn transmit(&mut self, conn: ConnId, bytes: &mut Vec<u8>) -> bool;

    /// Asks something for a connection; ignored when it is gone.
    fn control(&mut self, conn: ConnId, what: Control);

    /// Hands everything transmitted or asked to the system, in one call where there is one.
    fn flush(&mut self);
}
