//! All connections of a server: limits, timeouts, and what goes to the device.

use super::session::{Context, Session, State, Stop};
use super::stats::{DropReason, Stats};
use super::{Event, IngestConfig, Sink};
use crate::wire::{Ack, GoawayReason, PAYLOAD_BYTES_MAX, Repr, VERSION, Welcome};
use crate::{ConnId, Control, Device, DeviceEvent, DeviceFlow};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

const NS_PER_MS: u64 = 1_000_000;

/// From Goaway to the end: time for the client to read it.
const LINGER_NS: u64 = 1_000 * NS_PER_MS;

/// Timeouts are looked at this often.
const SCAN_INTERVAL_NS: u64 = 20 * NS_PER_MS;

#[derive(Debug)]
pub(super) struct Sessions {
    config: IngestConfig,
    welcome: Welcome,
    connections_max: usize,
    table: Vec<Option<Box<Session>>>,
    addresses: HashMap<IpAddr, u32>,
    /// Connections with answers that the device does not have yet.
    dirty: Vec<ConnId>,
    paused: Vec<ConnId>,
    resumed: Vec<ConnId>,
    stats: Stats,
    now_ns: u64,
    scanned_ns: u64,
}

/// The unit in which connections of one client are counted: an IPv4 address, or the /64 of an IPv6 address.
fn address_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// The session of a live number.
fn find(table: &mut [Option<Box<Session>>], conn: ConnId) -> Option<&mut Session> {
    table.get_mut(conn.slot())?.as_deref_mut().filter(|s| s.id == conn)
}

impl Sessions {
    pub(super) fn new(config: IngestConfig, welcome: Welcome, connections_max: usize) -> Sessions {
        let welcome = Welcome {
            version: VERSION,
            frame_bytes_max: PAYLOAD_BYTES_MAX as u32,
            window: config.window,
            ..welcome
        };
        Sessions {
            config,
            welcome,
            connections_max,
            table: (0..connections_max).map(|_| None).collect(),
            addresses: HashMap::new(),
            dirty: Vec::new(),
            paused: Vec::new(),
            resumed: Vec::new(),
            stats: Stats::default(),
            now_ns: 0,
            scanned_ns: 0,
        }
    }

    pub(super) fn set_now(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(super) fn paused(&self) -> usize {
        self.paused.len()
    }

    pub(super) fn wants_promises(&self, conn: ConnId) -> bool {
        let session = self.table.get(conn.slot()).and_then(|s| s.as_deref());
        session.is_some_and(|s| s.id == conn && s.wants_promises)
    }

    pub(super) fn resume(&mut self, conn: ConnId) {
        if let Some(at) = self.paused.iter().position(|c| *c == conn) {
            self.resumed.push(self.paused.swap_remove(at));
        }
    }

    pub(super) fn resume_all(&mut self) {
        self.resumed.append(&mut self.paused);
    }

    /// What the device tells.
    pub(super) fn on_event(
        &mut self,
        conn: ConnId,
        event: DeviceEvent<'_>,
        sink: &mut Sink<'_>,
    ) -> DeviceFlow {
        match event {
            DeviceEvent::Bytes(bytes) => self.on_bytes(conn, bytes, sink),
            DeviceEvent::Sent(buffer) => {
                if let Some(session) = find(&mut self.table, conn) {
                    self.stats.counters.bytes_out += session.sending_bytes as u64;
                    session.take_back(buffer);
                    count(&mut self.stats, session);
                    if !session.out.is_empty()
                        || matches!(session.state, State::Draining { finished: false, .. })
                    {
                        mark(&mut self.dirty, session);
                    }
                }
                DeviceFlow::Go
            }
            DeviceEvent::Opened { peer } => self.on_opened(conn, peer),
            DeviceEvent::Closed { regular } => {
                self.on_closed(conn, regular, sink);
                DeviceFlow::Go
            }
            DeviceEvent::Exhausted(refused) => {
                self.stats.count_drop(DropReason::NoDescriptor, refused);
                DeviceFlow::Go
            }
        }
    }

    fn on_opened(&mut self, conn: ConnId, peer: std::net::SocketAddr) -> DeviceFlow {
        let address = address_key(peer.ip());
        let of_address = self.addresses.get(&address).copied().unwrap_or(0);
        let taken = self.table.get(conn.slot()).is_none_or(Option::is_some);
        let refusal = if taken || self.stats.connections >= self.connections_max {
            Some(GoawayReason::ConnectionLimit)
        } else if of_address >= self.config.connections_per_address_max {
            Some(GoawayReason::AddressLimit)
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.stats.count_drop(DropReason::Goaway(reason), 1);
            return DeviceFlow::Refuse(reason);
        }
        self.addresses.insert(address, of_address + 1);
        self.table[conn.slot()] = Some(Box::new(Session::new(conn, peer, address, self.now_ns)));
        self.stats.connections += 1;
        self.stats.counters.connections_opened += 1;
        DeviceFlow::Go
    }

    fn on_bytes(&mut self, conn: ConnId, bytes: &[u8], sink: &mut Sink<'_>) -> DeviceFlow {
        self.stats.counters.bytes_in += bytes.len() as u64;
        self.stats.counters.receives += 1;
        let Some(session) = find(&mut self.table, conn) else { return DeviceFlow::Go };
        if !matches!(session.state, State::Greeting | State::Open) {
            return DeviceFlow::Go;
        }
        let mut context = Context {
            now_ns: self.now_ns,
            window: self.config.window,
            welcome: &self.welcome,
            counters: &mut self.stats.counters,
            sink,
        };
        let stop = session.feed(bytes, &mut context);
        self.after(conn, stop)
    }

    /// Goes on with the connections whose sink has room again.
    pub(super) fn run_resumed<D: Device>(&mut self, device: &mut D, sink: &mut Sink<'_>) -> usize {
        let mut handled = 0;
        for conn in std::mem::take(&mut self.resumed) {
            let Some(session) = find(&mut self.table, conn).filter(|s| s.paused) else { continue };
            let mut context = Context {
                now_ns: self.now_ns,
                window: self.config.window,
                welcome: &self.welcome,
                counters: &mut self.stats.counters,
                sink,
            };
            let stop = session.resume(&mut context);
            handled += 1;
            if self.after(conn, stop) == DeviceFlow::Go {
                device.control(conn, Control::Resume);
            }
        }
        handled
    }

    /// Draws the consequence of how the reading of a connection's frames ended.
    fn after(&mut self, conn: ConnId, stop: Stop) -> DeviceFlow {
        let Some(session) = find(&mut self.table, conn) else { return DeviceFlow::Go };
        let flow = match stop {
            Stop::Empty => DeviceFlow::Go,
            Stop::Refused => {
                self.paused.push(conn);
                DeviceFlow::Pause
            }
            Stop::Fail(reason) => {
                session.say_goaway(reason, self.now_ns + LINGER_NS);
                DeviceFlow::Go
            }
        };
        if !session.out.is_empty() {
            mark(&mut self.dirty, session);
        }
        flow
    }

    fn on_closed(&mut self, conn: ConnId, regular: bool, sink: &mut Sink<'_>) {
        if find(&mut self.table, conn).is_none() {
            return;
        }
        let Some(session) = self.table[conn.slot()].take() else { return };
        self.stats.connections -= 1;
        self.stats.send_bytes -= session.counted_bytes;
        if session.paused {
            self.paused.retain(|c| *c != conn);
        }
        if let Some(count) = self.addresses.get_mut(&session.address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&session.address);
            }
        }
        let reason = match session.drop_reason {
            Some(reason) => DropReason::Goaway(reason),
            None if regular => DropReason::PeerClosed,
            None => DropReason::Broken,
        };
        self.stats.count_drop(reason, 1);
        if session.announced {
            sink(conn, Event::Closed(reason));
        }
    }

    #[inline]
    pub(super) fn send_ack<D: Device>(&mut self, device: &mut D, conn: ConnId, ack: &Ack) {
        match find(&mut self.table, conn).filter(|s| s.state == State::Open) {
            Some(session) => {
                session.unacked = session.unacked.saturating_sub(1);
                session.out.extend_from_slice(&ack.to_frame());
                self.stats.counters.acks += 1;
                if !session.dirty {
                    mark(&mut self.dirty, session);
                }
                self.bound(device, conn);
            }
            None => self.stats.counters.answers_undeliverable += 1,
        }
    }

    pub(super) fn send<D: Device>(&mut self, device: &mut D, conn: ConnId, repr: &Repr<'_>) {
        match find(&mut self.table, conn).filter(|s| s.state == State::Open) {
            Some(session) => {
                repr.emit(&mut session.out);
                self.stats.counters.promises += u64::from(matches!(repr, Repr::Promise(_)));
                mark(&mut self.dirty, session);
                self.bound(device, conn);
            }
            None => self.stats.counters.answers_undeliverable += 1,
        }
    }

    /// Ends a connection whose unread answers are above the limits.
    #[inline]
    fn bound<D: Device>(&mut self, device: &mut D, conn: ConnId) {
        let Some(session) = find(&mut self.table, conn) else { return };
        count(&mut self.stats, session);
        let waiting = session.counted_bytes;
        let share = self.config.send_buffers_bytes / self.connections_max.max(1);
        let crowded = self.stats.send_bytes > self.config.send_buffers_bytes && waiting > share;
        if waiting > self.config.send_buffer_bytes || crowded {
            abort(device, session, GoawayReason::SlowReader);
        }
    }

    /// Offers every waiting answer to the device.
    pub(super) fn transmit<D: Device>(&mut self, device: &mut D) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            // Answers that the server itself made while it read are not bounded elsewhere.
            self.bound(device, conn);
            let Some(session) = find(&mut self.table, conn) else { continue };
            session.dirty = false;
            if session.state == State::Aborted {
                continue;
            }
            let bytes = session.out.len();
            if bytes > 0 && session.sending_bytes == 0 && device.transmit(conn, &mut session.out) {
                session.sending_bytes = bytes;
                session.sending_since_ns = self.now_ns;
                self.stats.counters.transmits += 1;
            }
            if let State::Draining { finished, .. } = &mut session.state
                && !*finished
                && session.out.is_empty()
            {
                *finished = true;
                device.control(conn, Control::Finish);
            }
        }
        self.dirty = dirty;
    }

    pub(super) fn goaway_all<D: Device>(&mut self, device: &mut D, reason: GoawayReason) {
        for session in self.table.iter_mut().filter_map(|s| s.as_deref_mut()) {
            if matches!(session.state, State::Greeting | State::Open) {
                goaway(device, &mut self.paused, session, reason, self.now_ns);
                mark(&mut self.dirty, session);
            }
        }
    }

    /// Looks at every connection's clocks.
    pub(super) fn housekeep<D: Device>(&mut self, device: &mut D) {
        if self.now_ns.saturating_sub(self.scanned_ns) < SCAN_INTERVAL_NS {
            return;
        }
        self.scanned_ns = self.now_ns;
        let now = self.now_ns;
        let over = |since_ns: u64, limit_ms: u64| now.saturating_sub(since_ns) >= limit_ms * NS_PER_MS;
        for session in self.table.iter_mut().filter_map(|s| s.as_deref_mut()) {
            if session.sending_bytes > 0 && over(session.sending_since_ns, self.config.write_timeout_ms) {
                abort(device, session, GoawayReason::SlowReader);
                continue;
            }
            let reason = match session.state {
                State::Greeting if over(session.opened_ns, self.config.handshake_timeout_ms) => {
                    GoawayReason::HandshakeTimeout
                }
                State::Open if session.paused => continue,
                State::Open => match session.partial_since_ns {
                    Some(since) if over(since, self.config.frame_timeout_ms) => GoawayReason::FrameTimeout,
                    None if session.unacked == 0
                        && over(session.last_frame_ns, self.config.idle_timeout_ms) =>
                    {
                        GoawayReason::IdleTimeout
                    }
                    _ => continue,
                },
                State::Draining { until_ns, .. } if now >= until_ns => {
                    session.state = State::Aborted;
                    device.control(session.id, Control::Abort);
                    continue;
                }
                _ => continue,
            };
            goaway(device, &mut self.paused, session, reason, now);
            mark(&mut self.dirty, session);
        }
    }
}

/// Brings the total of waiting bytes up to date with one connection.
fn count(stats: &mut Stats, session: &mut Session) {
    let waiting = session.out.len() + session.sending_bytes;
    stats.send_bytes = stats.send_bytes - session.counted_bytes + waiting;
    session.counted_bytes = waiting;
}

fn mark(dirty: &mut Vec<ConnId>, session: &mut Session) {
    if !session.dirty {
        session.dirty = true;
        dirty.push(session.id);
    }
}

/// Says why, and reads on (to throw away) so that the goodbye is not lost to a reset.
fn goaway<D: Device>(
    device: &mut D,
    paused: &mut Vec<ConnId>,
    session: &mut Session,
    reason: GoawayReason,
    now_ns: u64,
) {
    if session.paused {
        paused.retain(|c| *c != session.id);
        device.control(session.id, Control::Resume);
    }
    session.say_goaway(reason, now_ns + LINGER_NS);
}

/// Ends a connection at once.
fn abort<D: Device>(device: &mut D, session: &mut Session, reason: GoawayReason) {
    if session.state != State::Aborted {
        session.state = State::Aborted;
        session.drop_reason.get_or_insert(reason);
        device.control(session.id, Control::Abort);
    }
}
