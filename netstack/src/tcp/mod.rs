//! TCP over io_uring: one ring for the listening socket and every connection.
//!
//! In: connections and bytes, through a multishot accept and one multishot receive for each connection, all of which
//! draw on one pool of receive buffers that go back as soon as they were read. Out: one send for each connection with
//! something to say, all submitted in one call. On overload a connection's receive is cancelled, so TCP's own window
//! closes. The ring's descriptor polls readable while anything is to be done.

mod ring;

use crate::wire::{Goaway, GoawayReason, Repr};
use crate::{Caps, ConnId, Control, Device, DeviceEvent, DeviceFlow, NetError};
use ring::{Completion, Op, Sizes, Uring};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// Sizes of a [`TcpDevice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections that may wait to be accepted.
    pub backlog: u16,
    /// Receive buffers, for all connections together; a power of two.
    pub receive_buffers: u16,
    /// Size of one, in bytes.
    pub receive_buffer_bytes: u32,
    /// Submission entries of the ring; a power of two. Completions have four times as many.
    pub ring_entries: u32,
}

impl Default for TcpConfig {
    fn default() -> Self {
        TcpConfig {
            connections_max: 1_000,
            backlog: 1_024,
            receive_buffers: 64,
            receive_buffer_bytes: 64 * 1024,
            ring_entries: 1_024,
        }
    }
}

impl TcpConfig {
    fn check(&self) -> Result<(), NetError> {
        let fail = |text: String| Err(NetError::Config(text));
        if self.connections_max == 0 || self.connections_max >= 1 << ConnId::SLOT_BITS {
            return fail(format!("{} connections: choose 1 to 65535", self.connections_max));
        }
        if !self.receive_buffers.is_power_of_two() || self.receive_buffers > 1 << 15 {
            return fail(format!(
                "{} receive buffers: choose a power of two up to 32768",
                self.receive_buffers
            ));
        }
        if !(512..=1 << 20).contains(&self.receive_buffer_bytes) {
            return fail(format!(
                "receive buffers of {} bytes: choose 512 to 1048576",
                self.receive_buffer_bytes
            ));
        }
        if !self.ring_entries.is_power_of_two() || !(8..=8_192).contains(&self.ring_entries) {
            return fail(format!("{} ring entries: choose a power of two from 8 to 8192", self.ring_entries));
        }
        Ok(())
    }
}

const NOBODY: ConnId = ConnId(0);

/// One accepted socket.
#[derive(Debug)]
struct Connection {
    id: ConnId,
    stream: TcpStream,
    /// How much of the buffer under way is out.
    sent_bytes: usize,
    receiving: bool,
    paused: bool,
    /// Close the sending side once nothing is under way.
    finish: bool,
    /// The owner was told `Closed`; only outstanding requests keep the entry.
    closed: bool,
    /// The owner asked for the end, and is told in the next poll.
    aborted: bool,
}

/// The device. After its first poll it belongs to the thread that polled it.
#[derive(Debug)]
pub struct TcpDevice {
    uring: Uring,
    connections: Vec<Option<Box<Connection>>>,
    listener: TcpListener,
    local_addr: SocketAddr,
    config: TcpConfig,
    free: Vec<u16>,
    serial: u64,
    batch: Vec<Completion>,
    aborts: Vec<ConnId>,
    /// Given up for a moment to accept, and so refuse, a connection when no descriptor is left.
    spare: Option<File>,
}

type Sink<'s> = dyn FnMut(ConnId, DeviceEvent<'_>) -> DeviceFlow + 's;

impl TcpDevice {
    /// Listens on `addr`.
    ///
    /// # Errors
    /// [`NetError`] when the address or io_uring cannot be had, or a size makes no sense.
    pub fn bind(addr: SocketAddr, config: TcpConfig) -> Result<TcpDevice, NetError> {
        config.check()?;
        let listen = |source| NetError::Listen { addr, source };
        let listener = TcpListener::bind(addr).map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        ring::set_backlog(listener.as_raw_fd(), i32::from(config.backlog));
        let uring = Uring::new(Sizes {
            entries: config.ring_entries,
            connections: config.connections_max,
            buffers: config.receive_buffers,
            buffer_bytes: config.receive_buffer_bytes,
        })?;
        Ok(TcpDevice {
            connections: (0..config.connections_max).map(|_| None).collect(),
            uring,
            listener,
            local_addr,
            free: (0..config.connections_max as u16).rev().collect(),
            serial: 0,
            batch: Vec::with_capacity(256),
            aborts: Vec::new(),
            spare: File::open("/dev/null").ok(),
            config,
        })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The ring's descriptor: polls readable while [`Device::poll`] has something to do.
    pub fn wake_fd(&self) -> RawFd {
        self.uring.fd()
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(conn.slot())?.as_deref_mut().filter(|c| c.id == conn)
    }

    fn arm_receive(&mut self, conn: ConnId) {
        let Some(connection) = self.find(conn) else { return };
        if connection.receiving || connection.paused || connection.closed {
            return;
        }
        connection.receiving = true;
        let socket = connection.stream.as_raw_fd();
        self.uring.receive(conn, socket);
    }

    // ---- completions ----------------------------------------------------------------------------------------------

    fn on_completion(&mut self, completion: Completion, sink: &mut Sink<'_>) {
        match completion.op {
            Some(Op::Receive) => self.on_received(completion, sink),
            Some(Op::Send) => self.on_sent(completion.conn, completion.result, sink),
            Some(Op::Accept) => self.on_accepted(completion, sink),
            Some(Op::ListenerPoll) => self.accept_or_refuse(sink),
            Some(Op::Cancel) | None => {}
        }
    }

    fn on_received(&mut self, completion: Completion, sink: &mut Sink<'_>) {
        let Completion { conn, result, more, buffer, .. } = completion;
        let open = match self.find(conn) {
            Some(connection) => {
                connection.receiving = more;
                !connection.closed
            }
            None => false,
        };
        if let Some(buffer) = buffer {
            let bytes = self.uring.bytes(&buffer);
            let pause =
                open && !bytes.is_empty() && sink(conn, DeviceEvent::Bytes(bytes)) == DeviceFlow::Pause;
            self.uring.give_back(buffer);
            if pause {
                self.control(conn, Control::Pause);
            }
        }
        match -result {
            _ if result > 0 => self.arm_receive(conn),
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.arm_receive(conn),
            0 => self.close(conn, true, sink),
            _ => self.close(conn, false, sink),
        }
        self.release(conn);
    }

    fn on_sent(&mut self, conn: ConnId, result: i32, sink: &mut Sink<'_>) {
        let Some(mut buffer) = self.uring.take_sent(conn) else { return };
        let Some(connection) = self.find(conn) else { return };
        if connection.closed {
            self.release(conn);
            return;
        }
        match usize::try_from(result) {
            Ok(bytes) => connection.sent_bytes += bytes,
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) => {}
            Err(_) => {
                self.close(conn, false, sink);
                self.release(conn);
                return;
            }
        }
        let (from, socket) = (connection.sent_bytes, connection.stream.as_raw_fd());
        if from < buffer.len() {
            self.uring.send(conn, socket, buffer, from);
            return;
        }
        if connection.finish {
            let _ = connection.stream.shutdown(Shutdown::Write);
        }
        buffer.clear();
        sink(conn, DeviceEvent::Sent(buffer));
    }

    fn on_accepted(&mut self, completion: Completion, sink: &mut Sink<'_>) {
        if completion.result >= 0 {
            self.open(ring::adopt(completion.result), sink);
        }
        if completion.more {
            return;
        }
        match -completion.result {
            // An armed accept takes a descriptor beforehand, so it would fail again at once: wait for a connection by
            // poll, and refuse it by hand.
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                self.uring.poll_listener(self.listener.as_raw_fd())
            }
            libc::ECANCELED => {}
            _ => self.uring.accept(self.listener.as_raw_fd()),
        }
    }

    /// Takes waiting connections while descriptors last, and refuses the others.
    fn accept_or_refuse(&mut self, sink: &mut Sink<'_>) {
        let mut refused = 0;
        let mut exhausted = false;
        // The listening socket blocks otherwise, as the ring needs it; no accept is armed now.
        if self.listener.set_nonblocking(true).is_ok() {
            for _ in 0..256 {
                match self.listener.accept() {
                    Ok((stream, _)) => self.open(stream, sink),
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                        exhausted = true;
                        if self.spare.take().is_none() {
                            break;
                        }
                        if let Ok((stream, _)) = self.listener.accept() {
                            ring::set_reset_on_close(stream.as_raw_fd());
                            refused += 1;
                        }
                        self.spare = File::open("/dev/null").ok();
                    }
                    Err(_) => break,
                }
            }
            let _ = self.listener.set_nonblocking(false);
        }
        if self.spare.is_none() {
            self.spare = File::open("/dev/null").ok();
        }
        if refused > 0 {
            tracing::warn!(
                refused,
                "no descriptor left: new ingest connections are refused; raise RLIMIT_NOFILE"
            );
            sink(NOBODY, DeviceEvent::Exhausted(refused));
        }
        if exhausted {
            self.uring.poll_listener(self.listener.as_raw_fd())
        } else {
            self.uring.accept(self.listener.as_raw_fd())
        }
    }

    fn open(&mut self, stream: TcpStream, sink: &mut Sink<'_>) {
        // A connection that is reset already has no peer: nothing to open.
        let Ok(peer) = stream.peer_addr() else { return };
        let _ = stream.set_nodelay(true);
        let Some(slot) = self.free.pop() else {
            // The owner counts the refusal under a number that no connection has.
            self.serial += 1;
            if let DeviceFlow::Refuse(reason) =
                sink(ConnId::new(self.serial, self.config.connections_max), DeviceEvent::Opened { peer })
            {
                refuse(&stream, reason);
            }
            return;
        };
        self.serial += 1;
        let id = ConnId::new(self.serial, usize::from(slot));
        let flow = sink(id, DeviceEvent::Opened { peer });
        if let DeviceFlow::Refuse(reason) = flow {
            self.free.push(slot);
            refuse(&stream, reason);
            return;
        }
        self.connections[usize::from(slot)] = Some(Box::new(Connection {
            id,
            stream,
            sent_bytes: 0,
            receiving: false,
            paused: flow == DeviceFlow::Pause,
            finish: false,
            closed: false,
            aborted: false,
        }));
        self.arm_receive(id);
    }

    /// Tells the owner, once, and makes the outstanding requests end.
    fn close(&mut self, conn: ConnId, regular: bool, sink: &mut Sink<'_>) {
        let Some(connection) = self.find(conn) else { return };
        if connection.closed {
            return;
        }
        connection.closed = true;
        let _ = connection.stream.shutdown(Shutdown::Both);
        sink(conn, DeviceEvent::Closed { regular });
    }

    /// Gives the entry up when the connection is closed and no request refers to it any more.
    fn release(&mut self, conn: ConnId) {
        if self.find(conn).is_some_and(|c| c.closed && !c.receiving) && !self.uring.is_sending(conn) {
            self.connections[conn.slot()] = None;
            self.free.push(conn.slot() as u16);
        }
    }
}

/// Tells a connection that is not taken why, as far as its socket takes it at once.
fn refuse(mut stream: &TcpStream, reason: GoawayReason) {
    let mut frame = Vec::new();
    Repr::Goaway(Goaway { code: reason as u8, text: reason.message() }).emit(&mut frame);
    if stream.set_nonblocking(true).is_ok() && stream.write(&frame).is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
        // Unread bytes (a Hello that came already) would turn the close into a reset, and the reason would be lost.
        let _ = stream.read(&mut [0u8; 512]);
    }
}

impl Device for TcpDevice {
    fn caps(&self) -> Caps {
        Caps { name: "tcp", connections_max: self.config.connections_max, wake_fd: Some(self.uring.fd()) }
    }

    fn poll(&mut self, budget: usize, sink: &mut Sink<'_>) -> usize {
        match self.uring.enable() {
            Ok(true) => self.uring.accept(self.listener.as_raw_fd()),
            Ok(false) => {}
            Err(error) => panic!("the ingest ring cannot be enabled: {error}"),
        }
        if self.uring.wants_enter() {
            self.uring.enter();
        }
        let mut handled = 0;
        for conn in std::mem::take(&mut self.aborts) {
            self.close(conn, false, sink);
            self.release(conn);
            handled += 1;
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.uring.take(budget.max(1), &mut batch);
        handled += batch.len();
        for completion in batch.drain(..) {
            self.on_completion(completion, sink);
        }
        self.batch = batch;
        if handled > 0 {
            self.uring.publish_buffers();
        }
        handled
    }

    fn transmit(&mut self, conn: ConnId, bytes: &mut Vec<u8>) -> bool {
        if bytes.is_empty() || self.find(conn).is_none() || self.uring.is_sending(conn) {
            return false;
        }
        let Some(connection) = self.find(conn).filter(|c| !c.closed && !c.finish) else { return false };
        connection.sent_bytes = 0;
        let socket = connection.stream.as_raw_fd();
        self.uring.send(conn, socket, std::mem::take(bytes), 0);
        true
    }

    fn control(&mut self, conn: ConnId, what: Control) {
        let sending = conn.slot() < self.connections.len() && self.uring.is_sending(conn);
        let Some(connection) = self.find(conn) else { return };
        match what {
            Control::Pause => {
                connection.paused = true;
                if connection.receiving {
                    self.uring.cancel_receive(conn);
                }
            }
            Control::Resume => {
                connection.paused = false;
                self.arm_receive(conn);
            }
            Control::Finish => {
                connection.finish = true;
                if !sending {
                    let _ = connection.stream.shutdown(Shutdown::Write);
                }
            }
            Control::Abort => {
                if !connection.aborted && !connection.closed {
                    connection.aborted = true;
                    ring::set_reset_on_close(connection.stream.as_raw_fd());
                    // Its requests end now, which wakes an owner that sleeps.
                    let _ = connection.stream.shutdown(Shutdown::Both);
                    self.aborts.push(conn);
                }
            }
        }
    }

    fn flush(&mut self) {
        if self.uring.wants_enter() {
            self.uring.enter();
        }
    }
}
