//! The ingest wire format: bytes ([`Frame`]) apart from meaning ([`Repr`]).
//!
//! Every frame is an 8-byte header and a payload; integers are little-endian. The header alone says whether the length
//! is possible for its kind, so a lying length is refused before a byte of payload is kept. Decoding borrows from the
//! receive buffer; encoding appends to a `Vec`.

mod frame;
mod repr;

pub use frame::{Frame, HEADER_BYTES, Kind, WireError};
pub use repr::{
    ACK_FRAME_BYTES, Ack, AckStatus, Goaway, GoawayReason, Hello, Promise, Repr, SUBMIT_OVERHEAD_BYTES_MAX,
    Submit, Welcome,
};

/// The protocol version that this crate speaks.
pub const VERSION: u16 = 1;

/// First bytes of every Hello: a client of another protocol is recognised at once.
pub const MAGIC: [u8; 8] = *b"IRONLANE";

/// Most bytes of one transaction.
pub const TX_BYTES_MAX: usize = 128 * 1024;

/// Most bytes of one promise.
pub const PROMISE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a Goaway's sentence.
pub const GOAWAY_TEXT_BYTES_MAX: usize = 200;

/// Most bytes of the durability level's name in a Welcome.
pub const DURABILITY_BYTES_MAX: usize = 31;

/// Largest payload of any frame.
pub const PAYLOAD_BYTES_MAX: usize = 8 + 20 + TX_BYTES_MAX;

/// Reject number for a connection that has more in flight than its window (`RateLimited` in `docs/formats.md`).
pub const REJECT_RATE_LIMITED: u8 = 32;
