//! A device without sockets: both ends live in one process, bytes go through memory. For tests of everything above
//! devices, with every cut of a stream that a network could make, and none of its timing.

use crate::wire::{Goaway, Repr};
use crate::{Caps, ConnId, Control, Device, DeviceEvent, DeviceFlow};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the two ends of a connection share.
#[derive(Debug, Default)]
struct Wire {
    /// Pieces from the peer to the device; each is one receive.
    inbound: VecDeque<Vec<u8>>,
    /// Bytes from the device to the peer.
    outbound: Vec<u8>,
    /// Bytes that the peer has room for; a send waits for the rest.
    room_bytes: usize,
    peer_closed: bool,
    device_finished: bool,
    device_closed: bool,
}

/// The peer's end of a connection.
#[derive(Debug, Clone)]
pub struct LoopbackPeer {
    wire: Arc<Mutex<Wire>>,
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    // Plain data: no invariant is broken by a holder that panicked.
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoopbackPeer {
    /// Sends bytes; they arrive as one piece.
    pub fn send(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            lock(&self.wire).inbound.push_back(bytes.to_vec());
        }
    }

    /// Takes all that has arrived from the device.
    pub fn receive(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.wire).outbound)
    }

    /// Takes at most this many bytes more; sends of the device wait for room. At first there is no limit.
    pub fn set_room(&self, bytes: usize) {
        lock(&self.wire).room_bytes = bytes;
    }

    /// Ends the connection.
    pub fn close(&self) {
        lock(&self.wire).peer_closed = true;
    }

    /// Whether the device will send nothing more.
    pub fn is_finished(&self) -> bool {
        let wire = lock(&self.wire);
        wire.device_finished || wire.device_closed
    }
}

#[derive(Debug)]
struct Connection {
    id: ConnId,
    wire: Arc<Mutex<Wire>>,
    opened: bool,
    paused: bool,
    aborted: bool,
    finish: bool,
    send: Vec<u8>,
    sent_bytes: usize,
}

/// The device's end of all connections.
#[derive(Debug)]
pub struct Loopback {
    connections: Vec<Option<Connection>>,
    serial: u64,
    next: usize,
}

impl Loopback {
    /// A device for at most `connections_max` connections. One more may knock at a time, and is refused.
    pub fn new(connections_max: usize) -> Loopback {
        Loopback { connections: (0..=connections_max).map(|_| None).collect(), serial: 0, next: 0 }
    }

    /// Opens a connection; `None` when the table is full.
    pub fn connect(&mut self) -> Option<LoopbackPeer> {
        let slot = self.connections.iter().position(Option::is_none)?;
        self.serial += 1;
        let wire = Arc::new(Mutex::new(Wire { room_bytes: usize::MAX, ..Wire::default() }));
        self.connections[slot] = Some(Connection {
            id: ConnId::new(self.serial, slot),
            wire: Arc::clone(&wire),
            opened: false,
            paused: false,
            aborted: false,
            finish: false,
            send: Vec::new(),
            sent_bytes: 0,
        });
        Some(LoopbackPeer { wire })
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(conn.slot())?.as_mut().filter(|c| c.id == conn)
    }
}

/// How a turn of a connection ended.
enum Turn {
    Idle,
    Worked,
    Gone,
}

impl Connection {
    fn turn(&mut self, sink: &mut dyn FnMut(ConnId, DeviceEvent<'_>) -> DeviceFlow) -> Turn {
        if !self.opened {
            self.opened = true;
            match sink(self.id, DeviceEvent::Opened { peer: SocketAddr::from(([127, 0, 0, 1], 1)) }) {
                DeviceFlow::Go => {}
                DeviceFlow::Pause => self.paused = true,
                DeviceFlow::Refuse(reason) => {
                    let goaway = Goaway { code: reason as u8, text: reason.message() };
                    Repr::Goaway(goaway).emit(&mut lock(&self.wire).outbound);
                    return Turn::Gone;
                }
            }
            return Turn::Worked;
        }
        if self.aborted {
            sink(self.id, DeviceEvent::Closed { regular: false });
            return Turn::Gone;
        }
        let mut worked = false;
        if !self.send.is_empty() {
            let mut wire = lock(&self.wire);
            let left = &self.send[self.sent_bytes..];
            let bytes = left.len().min(wire.room_bytes);
            wire.outbound.extend_from_slice(&left[..bytes]);
            wire.room_bytes -= if wire.room_bytes == usize::MAX { 0 } else { bytes };
            self.sent_bytes += bytes;
            worked = bytes > 0;
            if self.sent_bytes == self.send.len() {
                wire.device_finished |= self.finish;
                drop(wire);
                let mut buffer = std::mem::take(&mut self.send);
                buffer.clear();
                self.sent_bytes = 0;
                sink(self.id, DeviceEvent::Sent(buffer));
            }
        }
        if !self.paused {
            let piece = lock(&self.wire).inbound.pop_front();
            if let Some(bytes) = piece {
                self.paused |= sink(self.id, DeviceEvent::Bytes(&bytes)) == DeviceFlow::Pause;
                return Turn::Worked;
            }
            if lock(&self.wire).peer_closed {
                sink(self.id, DeviceEvent::Closed { regular: true });
                return Turn::Gone;
            }
        }
        if worked { Turn::Worked } else { Turn::Idle }
    }
}

impl Device for Loopback {
    fn caps(&self) -> Caps {
        Caps { name: "loopback", connections_max: self.connections.len() - 1, wake_fd: None }
    }

    fn poll(&mut self, budget: usize, sink: &mut dyn FnMut(ConnId, DeviceEvent<'_>) -> DeviceFlow) -> usize {
        let mut handled = 0;
        let slots = self.connections.len();
        // Round and round, so that one connection's bytes do not hold up another's.
        let mut idle = 0;
        while idle < slots && handled < budget.max(1) {
            self.next = (self.next + 1) % slots;
            let entry = &mut self.connections[self.next];
            match entry.as_mut().map(|c| c.turn(sink)) {
                None | Some(Turn::Idle) => idle += 1,
                Some(Turn::Worked) => {
                    handled += 1;
                    idle = 0;
                }
                Some(Turn::Gone) => {
                    if let Some(connection) = entry.take() {
                        lock(&connection.wire).device_closed = true;
                    }
                    handled += 1;
                    idle = 0;
                }
            }
        }
        handled
    }

    fn transmit(&mut self, conn: ConnId, bytes: &mut Vec<u8>) -> bool {
        let Some(connection) = self.find(conn) else { return false };
        if !connection.send.is_empty() || connection.finish || bytes.is_empty() {
            return false;
        }
        connection.send = std::mem::take(bytes);
        true
    }

    fn control(&mut self, conn: ConnId, what: Control) {
        let Some(connection) = self.find(conn) else { return };
        match what {
            Control::Pause => connection.paused = true,
            Control::Resume => connection.paused = false,
            Control::Abort => connection.aborted = true,
            Control::Finish => {
                connection.finish = true;
                if connection.send.is_empty() {
                    lock(&connection.wire).device_finished = true;
                }
            }
        }
    }

    fn flush(&mut self) {}
}
