//! Limits of the server.

use crate::NetError;
use crate::wire::ACK_FRAME_BYTES;

/// Limits of an [`crate::Ingest`]. The defaults are those of the project's table of limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestConfig {
    /// Connections of one address (an IPv4 address, or the /64 of an IPv6 address).
    pub connections_per_address_max: u32,
    /// Transactions of one connection that may be without an acknowledgement.
    pub window: u32,
    /// From the connection to its Hello, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// From a frame's first byte to its last, in milliseconds.
    pub frame_timeout_ms: u64,
    /// Without a frame, and with nothing in flight, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Without one answer's byte being taken by the client's socket, in milliseconds.
    pub write_timeout_ms: u64,
    /// Answers of one connection that may wait for its socket, in bytes.
    pub send_buffer_bytes: usize,
    /// The same for all connections; beyond it those go that hold more than their share.
    pub send_buffers_bytes: usize,
}

impl Default for IngestConfig {
    fn default() -> Self {
        IngestConfig {
            connections_per_address_max: 32,
            window: 16_384,
            handshake_timeout_ms: 5_000,
            frame_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            write_timeout_ms: 10_000,
            send_buffer_bytes: 16 << 20,
            send_buffers_bytes: 256 << 20,
        }
    }
}

impl IngestConfig {
    pub(super) fn check(&self) -> Result<(), NetError> {
        let fail = |text: String| Err(NetError::Config(text));
        if self.window == 0 {
            return fail("the ingest window is 0: a client could never send; use at least 1".into());
        }
        if self.connections_per_address_max == 0 {
            return fail("connections per address is 0: nobody could connect; use at least 1".into());
        }
        let acks = self.window as usize * ACK_FRAME_BYTES;
        if self.send_buffer_bytes < acks {
            return fail(format!(
                "the send buffer of {} bytes is smaller than one window of acknowledgements ({acks} bytes): raise it, or lower the window",
                self.send_buffer_bytes
            ));
        }
        if self.send_buffers_bytes < self.send_buffer_bytes {
            return fail(format!(
                "all send buffers together ({} bytes) are smaller than one ({} bytes)",
                self.send_buffers_bytes, self.send_buffer_bytes
            ));
        }
        Ok(())
    }
}
