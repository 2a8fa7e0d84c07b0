//! A frame as bytes: where it ends, of which kind it is, and whether that can be.

use super::{
    DURABILITY_BYTES_MAX, GOAWAY_TEXT_BYTES_MAX, GoawayReason, PAYLOAD_BYTES_MAX, PROMISE_BYTES_MAX,
    TX_BYTES_MAX,
};

/// Bytes of the header: payload length (u32), kind (u8), flags (u8), two reserved bytes that are zero.
pub const HEADER_BYTES: usize = 8;

/// What a frame is. Kinds below 0x80 go from client to node, the others from node to client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// First frame of a client.
    Hello = 0x01,
    /// A transaction.
    Submit = 0x02,
    /// Asks for a Pong; keeps an idle connection open.
    Ping = 0x03,
    /// Answer to Hello.
    Welcome = 0x81,
    /// The end of one transaction's way.
    Ack = 0x82,
    /// Signed proof of a transaction's place.
    Promise = 0x83,
    /// The node closes the connection, and why.
    Goaway = 0x84,
    /// Answer to Ping.
    Pong = 0x85,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 8] = [
        Kind::Hello,
        Kind::Submit,
        Kind::Ping,
        Kind::Welcome,
        Kind::Ack,
        Kind::Promise,
        Kind::Goaway,
        Kind::Pong,
    ];

    /// The kind with this number.
    pub const fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            0x01 => Kind::Hello,
            0x02 => Kind::Submit,
            0x03 => Kind::Ping,
            0x81 => Kind::Welcome,
            0x82 => Kind::Ack,
            0x83 => Kind::Promise,
            0x84 => Kind::Goaway,
            0x85 => Kind::Pong,
            _ => return None,
        })
    }

    /// Flag bits that have a meaning for this kind.
    pub const fn flags(self) -> u8 {
        match self {
            Kind::Hello | Kind::Submit => 1,
            _ => 0,
        }
    }

    /// Smallest and largest payload, in bytes, given the header's flags.
    pub const fn payload_bytes(self, flags: u8) -> (usize, usize) {
        match self {
            Kind::Hello => (16, 16),
            Kind::Submit => {
                let fixed = if flags & 1 != 0 { 28 } else { 8 };
                (fixed + 1, fixed + TX_BYTES_MAX)
            }
            Kind::Ping | Kind::Pong => (8, 8),
            Kind::Welcome => (45, 45 + DURABILITY_BYTES_MAX),
            Kind::Ack => (40, 40),
            Kind::Promise => (8 + 1, 8 + PROMISE_BYTES_MAX),
            Kind::Goaway => (1, 1 + GOAWAY_TEXT_BYTES_MAX),
        }
    }
}

const _: () =
    assert!(Kind::Submit.payload_bytes(1).1 == PAYLOAD_BYTES_MAX, "Submit with a hint is the largest frame");
const _: () = assert!(8 + PROMISE_BYTES_MAX <= PAYLOAD_BYTES_MAX, "a promise is no larger");

/// Why bytes are no frame. All but [`WireError::Truncated`] are final for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not all there yet: not an error of the peer's until it stops sending.
    #[error("the frame is not complete: {have} bytes are there, {need} are needed")]
    Truncated {
        /// Bytes there.
        have: usize,
        /// Bytes needed before more can be said.
        need: usize,
    },
    /// No frame has this kind.
    #[error("unknown frame kind {0:#04x}: the first bytes are no Ironlane ingest frame")]
    UnknownKind(u8),
    /// Flag bits without a meaning.
    #[error("unknown flags {flags:#04x} in a {kind:?} frame: set only the bits that the protocol names")]
    UnknownFlags {
        /// Kind of the frame.
        kind: Kind,
        /// Its flags.
        flags: u8,
    },
    /// The header's reserved bytes, or a payload's, are not zero.
    #[error("reserved bytes of a {0:?} frame are not zero")]
    Reserved(Kind),
    /// The length is not one that this kind can have.
    #[error("a {kind:?} frame of {bytes} payload bytes: it must have {min} to {max}")]
    BadLength {
        /// Kind of the frame.
        kind: Kind,
        /// The length in the header.
        bytes: usize,
        /// Smallest.
        min: usize,
        /// Largest.
        max: usize,
    },
    /// A field of the payload holds what it must not.
    #[error("the field `{field}` of a {kind:?} frame holds a value that the protocol does not name")]
    BadField {
        /// Kind of the frame.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
}

impl WireError {
    /// Whether more bytes may mend it.
    pub const fn is_truncated(self) -> bool {
        matches!(self, WireError::Truncated { .. })
    }

    /// The number under which a Goaway reports it.
    pub const fn reason(self) -> GoawayReason {
        match self {
            WireError::UnknownKind(_) => GoawayReason::UnknownKind,
            WireError::UnknownFlags { .. } | WireError::Reserved(_) => GoawayReason::BadHeader,
            WireError::Truncated { .. } | WireError::BadLength { .. } => GoawayReason::BadLength,
            WireError::BadField { .. } => GoawayReason::BadPayload,
        }
    }
}

/// One whole frame in a buffer, its header checked. The payload's meaning is [`super::Repr`]'s business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    kind: Kind,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`; what follows it is left alone ([`Frame::total_bytes`] says where).
    ///
    /// # Errors
    /// [`WireError::Truncated`] when more bytes are needed; another [`WireError`] when no further byte can make it a
    /// frame. The latter is known from the 8 header bytes, before any payload has arrived.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Frame<'a>, WireError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(WireError::Truncated { have: bytes.len(), need: HEADER_BYTES });
        };
        let [l0, l1, l2, l3, kind, flags, reserved @ ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let kind = Kind::from_code(kind).ok_or(WireError::UnknownKind(kind))?;
        if flags & !kind.flags() != 0 {
            return Err(WireError::UnknownFlags { kind, flags });
        }
        if reserved != [0, 0] {
            return Err(WireError::Reserved(kind));
        }
        let (min, max) = kind.payload_bytes(flags);
        if length < min || length > max {
            return Err(WireError::BadLength { kind, bytes: length, min, max });
        }
        match rest.get(..length) {
            Some(payload) => Ok(Frame { kind, flags, payload }),
            None => Err(WireError::Truncated { have: bytes.len(), need: HEADER_BYTES + length }),
        }
    }

    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Flags of the header.
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Everything after the header.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Bytes of header and payload: where the next frame begins.
    pub const fn total_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// Appends a header.
pub(super) fn emit_header(kind: Kind, flags: u8, payload_bytes: usize, out: &mut Vec<u8>) {
    debug_assert!({
        let (min, max) = kind.payload_bytes(flags);
        (min..=max).contains(&payload_bytes)
    });
    let mut header = [0u8; HEADER_BYTES];
    header[..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    header[4] = kind as u8;
    header[5] = flags;
    out.extend_from_slice(&header);
}
