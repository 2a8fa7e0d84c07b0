//! What frames mean.

use super::frame::emit_header;
use super::{
    DURABILITY_BYTES_MAX, Frame, GOAWAY_TEXT_BYTES_MAX, HEADER_BYTES, Kind, MAGIC, PROMISE_BYTES_MAX,
    TX_BYTES_MAX, WireError,
};

/// Bytes of a whole Ack frame.
pub const ACK_FRAME_BYTES: usize = HEADER_BYTES + 40;

/// Bytes that a Submit frame adds to its transaction, with a hint.
pub const SUBMIT_OVERHEAD_BYTES_MAX: usize = HEADER_BYTES + 28;

/// A client's first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version that the client speaks.
    pub version_min: u16,
    /// Newest protocol version that the client speaks.
    pub version_max: u16,
    /// Whether the client wants a Promise for each included transaction.
    pub wants_promises: bool,
}

/// A transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submit<'a> {
    /// The client's own number; echoed in the acknowledgement.
    pub tag: u64,
    /// Whom the client claims as signer. Never trusted: it can only make authentication cheaper.
    pub hint: Option<[u8; 20]>,
    /// EIP-2718 bytes, 1 to [`TX_BYTES_MAX`].
    pub tx: &'a [u8],
}

/// The node's answer to Hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Protocol version of this connection.
    pub version: u16,
    /// Largest payload, in bytes, that the node takes.
    pub frame_bytes_max: u32,
    /// Transactions of this connection that may be without an acknowledgement at one time.
    pub window: u32,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Address of the key that signs mini-blocks.
    pub sequencer: [u8; 20],
    /// Name of the durability level that an acknowledgement stands for; at most [`DURABILITY_BYTES_MAX`] bytes.
    pub durability: String,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AckStatus {
    /// Included, and ran to its end.
    Success = 0,
    /// Included, and reverted or halted; its gas is paid.
    Reverted = 1,
    /// Not included; [`Ack::reject`] says why.
    Rejected = 2,
}

/// The end of one transaction's way. Every Submit gets exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The tag of the Submit.
    pub tag: u64,
    /// How it ended.
    pub status: AckStatus,
    /// Number of the reason (`docs/formats.md`) when rejected, otherwise 0.
    pub reject: u8,
    /// Place in the sequencer's order since genesis; 0 when rejected.
    pub seq: u64,
    /// Height of its mini-block; 0 when rejected.
    pub mini_block: u64,
    /// Place in the mini-block, from 0.
    pub position: u32,
    /// Gas charged.
    pub gas_used: u64,
}

impl Ack {
    /// A refusal with this reason number (not 0).
    pub const fn rejected(tag: u64, reject: u8) -> Ack {
        Ack { tag, status: AckStatus::Rejected, reject, seq: 0, mini_block: 0, position: 0, gas_used: 0 }
    }

    /// The whole frame.
    pub fn to_frame(&self) -> [u8; ACK_FRAME_BYTES] {
        let mut out = [0u8; ACK_FRAME_BYTES];
        out[..4].copy_from_slice(&40u32.to_le_bytes());
        out[4] = Kind::Ack as u8;
        out[8..16].copy_from_slice(&self.tag.to_le_bytes());
        out[16..24].copy_from_slice(&self.seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.mini_block.to_le_bytes());
        out[32..40].copy_from_slice(&self.gas_used.to_le_bytes());
        out[40..44].copy_from_slice(&self.position.to_le_bytes());
        out[44] = self.status as u8;
        out[45] = self.reject;
        out
    }
}

/// Signed proof of a transaction's place; its bytes are the promise crate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise<'a> {
    /// The tag of the Submit.
    pub tag: u64,
    /// Header, signature and Merkle path, encoded as `docs/formats.md` says; 1 to [`PROMISE_BYTES_MAX`] bytes.
    pub bytes: &'a [u8],
}

/// Why a node ends a connection. The number is the wire's and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GoawayReason {
    /// Unknown flags, or reserved bytes that are not zero.
    BadHeader = 1,
    /// No such kind of frame.
    UnknownKind = 2,
    /// A length that the kind cannot have.
    BadLength = 3,
    /// A field holds what it must not.
    BadPayload = 4,
    /// No protocol version in common.
    VersionUnsupported = 5,
    /// The first frame was not Hello.
    HelloExpected = 6,
    /// A frame that a client may not send, or not now.
    UnexpectedFrame = 7,
    /// Hello did not come in time.
    HandshakeTimeout = 8,
    /// A frame was begun and not finished in time.
    FrameTimeout = 9,
    /// Nothing came for too long.
    IdleTimeout = 10,
    /// The client does not read its answers.
    SlowReader = 11,
    /// The node has all the connections that it takes.
    ConnectionLimit = 12,
    /// The address has all the connections that it may have.
    AddressLimit = 13,
    /// The node stops.
    ShuttingDown = 14,
}

impl GoawayReason {
    /// Every reason, in the order of its number.
    pub const ALL: [GoawayReason; 14] = [
        GoawayReason::BadHeader,
        GoawayReason::UnknownKind,
        GoawayReason::BadLength,
        GoawayReason::BadPayload,
        GoawayReason::VersionUnsupported,
        GoawayReason::HelloExpected,
        GoawayReason::UnexpectedFrame,
        GoawayReason::HandshakeTimeout,
        GoawayReason::FrameTimeout,
        GoawayReason::IdleTimeout,
        GoawayReason::SlowReader,
        GoawayReason::ConnectionLimit,
        GoawayReason::AddressLimit,
        GoawayReason::ShuttingDown,
    ];

    /// The reason with this number.
    pub fn from_code(code: u8) -> Option<GoawayReason> {
        Self::ALL.into_iter().find(|r| *r as u8 == code)
    }

    /// One sentence for the client.
    pub const fn message(self) -> &'static str {
        match self {
            GoawayReason::BadHeader => "bad frame header: unknown flags, or reserved bytes that are not zero",
            GoawayReason::UnknownKind => "unknown frame kind: is this an Ironlane client of this version?",
            GoawayReason::BadLength => "bad frame length: a transaction has 1 to 131072 bytes",
            GoawayReason::BadPayload => "bad frame: a field holds a value that the protocol does not name",
            GoawayReason::VersionUnsupported => "no protocol version in common: this node speaks version 1",
            GoawayReason::HelloExpected => "the first frame must be Hello",
            GoawayReason::UnexpectedFrame => "a frame that a client may not send, or not now",
            GoawayReason::HandshakeTimeout => "Hello did not come in time",
            GoawayReason::FrameTimeout => "a frame was begun and not finished in time",
            GoawayReason::IdleTimeout => "nothing came for too long: send Ping to keep a connection open",
            GoawayReason::SlowReader => "the answers were not read: read them as fast as you send",
            GoawayReason::ConnectionLimit => {
                "the node has all the connections that it takes: try again later"
            }
            GoawayReason::AddressLimit => "this address has all the connections that it may have",
            GoawayReason::ShuttingDown => "the node is stopping",
        }
    }
}

/// The node's last frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goaway<'a> {
    /// Number of the reason; one that this crate does not know is kept as it is.
    pub code: u8,
    /// A sentence, at most [`GOAWAY_TEXT_BYTES_MAX`] bytes.
    pub text: &'a str,
}

/// A frame's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repr<'a> {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Submit`].
    Submit(Submit<'a>),
    /// Any number; the Pong brings it back.
    Ping(u64),
    /// See [`Welcome`].
    Welcome(Welcome),
    /// See [`Ack`].
    Ack(Ack),
    /// See [`Promise`].
    Promise(Promise<'a>),
    /// See [`Goaway`].
    Goaway(Goaway<'a>),
    /// The number of the Ping.
    Pong(u64),
}

/// Reads little-endian fields in order; the frame's length was checked, so what is missing reads as zero bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.0 = rest;
                *head
            }
            None => {
                debug_assert!(false, "the frame's length was checked");
                [0; N]
            }
        }
    }
    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    fn rest(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Repr<'a> {
    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`WireError::Reserved`] or [`WireError::BadField`].
    #[inline]
    pub fn parse(frame: &Frame<'a>) -> Result<Repr<'a>, WireError> {
        let kind = frame.kind();
        let bad = |field| WireError::BadField { kind, field };
        let mut fields = Fields(frame.payload());
        Ok(match kind {
            Kind::Submit => {
                let tag = fields.u64();
                let hint = (frame.flags() & 1 != 0).then(|| fields.take::<20>());
                Repr::Submit(Submit { tag, hint, tx: fields.rest() })
            }
            Kind::Ack => Repr::Ack(parse_ack(fields)?),
            Kind::Hello => {
                if fields.take::<8>() != MAGIC {
                    return Err(bad("magic"));
                }
                let (version_min, version_max) = (fields.u16(), fields.u16());
                if version_min > version_max {
                    return Err(bad("version_min"));
                }
                if fields.u32() != 0 {
                    return Err(WireError::Reserved(kind));
                }
                Repr::Hello(Hello { version_min, version_max, wants_promises: frame.flags() & 1 != 0 })
            }
            Kind::Ping => Repr::Ping(fields.u64()),
            Kind::Pong => Repr::Pong(fields.u64()),
            Kind::Welcome => Repr::Welcome(parse_welcome(fields)?),
            Kind::Promise => Repr::Promise(Promise { tag: fields.u64(), bytes: fields.rest() }),
            Kind::Goaway => {
                let code = fields.u8();
                let text = std::str::from_utf8(fields.rest()).map_err(|_| bad("text"))?;
                Repr::Goaway(Goaway { code, text })
            }
        })
    }

    /// Appends the whole frame. Bytes that would be more than the format's limits are cut off in texts; a transaction or
    /// a promise outside its limits is the caller's mistake.
    ///
    /// # Panics
    /// On a transaction or promise that is empty or too long.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Repr::Hello(hello) => {
                emit_header(Kind::Hello, u8::from(hello.wants_promises), 16, out);
                out.extend_from_slice(&MAGIC);
                out.extend_from_slice(&hello.version_min.to_le_bytes());
                out.extend_from_slice(&hello.version_max.to_le_bytes());
                out.extend_from_slice(&[0; 4]);
            }
            Repr::Submit(submit) => {
                assert!((1..=TX_BYTES_MAX).contains(&submit.tx.len()), "a transaction has 1 to 131072 bytes");
                let fixed = if submit.hint.is_some() { 28 } else { 8 };
                emit_header(Kind::Submit, u8::from(submit.hint.is_some()), fixed + submit.tx.len(), out);
                out.extend_from_slice(&submit.tag.to_le_bytes());
                if let Some(hint) = &submit.hint {
                    out.extend_from_slice(hint);
                }
                out.extend_from_slice(submit.tx);
            }
            Repr::Ping(number) => emit_number(Kind::Ping, *number, out),
            Repr::Pong(number) => emit_number(Kind::Pong, *number, out),
            Repr::Welcome(welcome) => emit_welcome(welcome, out),
            Repr::Ack(ack) => out.extend_from_slice(&ack.to_frame()),
            Repr::Promise(promise) => {
                assert!(
                    (1..=PROMISE_BYTES_MAX).contains(&promise.bytes.len()),
                    "a promise has 1 to 65536 bytes"
                );
                emit_header(Kind::Promise, 0, 8 + promise.bytes.len(), out);
                out.extend_from_slice(&promise.tag.to_le_bytes());
                out.extend_from_slice(promise.bytes);
            }
            Repr::Goaway(goaway) => {
                let text = cut(goaway.text, GOAWAY_TEXT_BYTES_MAX);
                emit_header(Kind::Goaway, 0, 1 + text.len(), out);
                out.push(goaway.code);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn emit_number(kind: Kind, number: u64, out: &mut Vec<u8>) {
    emit_header(kind, 0, 8, out);
    out.extend_from_slice(&number.to_le_bytes());
}

fn parse_ack(mut fields: Fields<'_>) -> Result<Ack, WireError> {
    let (tag, seq, mini_block, gas_used) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
    let (position, status, reject) = (fields.u32(), fields.u8(), fields.u8());
    let status = match status {
        0 => AckStatus::Success,
        1 => AckStatus::Reverted,
        2 => AckStatus::Rejected,
        _ => return Err(WireError::BadField { kind: Kind::Ack, field: "status" }),
    };
    if (status == AckStatus::Rejected) != (reject != 0) {
        return Err(WireError::BadField { kind: Kind::Ack, field: "reject" });
    }
    if fields.u16() != 0 {
        return Err(WireError::Reserved(Kind::Ack));
    }
    Ok(Ack { tag, status, reject, seq, mini_block, position, gas_used })
}

fn parse_welcome(mut fields: Fields<'_>) -> Result<Welcome, WireError> {
    let version = fields.u16();
    let reserved = fields.u16();
    let (frame_bytes_max, window) = (fields.u32(), fields.u32());
    if reserved != 0 || fields.u32() != 0 {
        return Err(WireError::Reserved(Kind::Welcome));
    }
    let (chain_id, sequencer) = (fields.u64(), fields.take::<20>());
    let bad = WireError::BadField { kind: Kind::Welcome, field: "durability" };
    let length = usize::from(fields.u8());
    let name = fields.rest();
    if name.len() != length {
        return Err(bad);
    }
    let durability = std::str::from_utf8(name).map_err(|_| bad)?.to_owned();
    Ok(Welcome { version, frame_bytes_max, window, chain_id, sequencer, durability })
}

fn emit_welcome(welcome: &Welcome, out: &mut Vec<u8>) {
    let durability = cut(&welcome.durability, DURABILITY_BYTES_MAX);
    emit_header(Kind::Welcome, 0, 45 + durability.len(), out);
    out.extend_from_slice(&welcome.version.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&welcome.frame_bytes_max.to_le_bytes());
    out.extend_from_slice(&welcome.window.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&welcome.chain_id.to_le_bytes());
    out.extend_from_slice(&welcome.sequencer);
    out.push(durability.len() as u8);
    out.extend_from_slice(durability.as_bytes());
}

/// At most `bytes_max` bytes of `text`, ending at a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
