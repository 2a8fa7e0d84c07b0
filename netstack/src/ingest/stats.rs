//! What the server counts.

use crate::wire::GoawayReason;

/// Why a connection ended, or was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The node ended it.
    Goaway(GoawayReason),
    /// The client closed it.
    PeerClosed,
    /// It was reset, or failed.
    Broken,
    /// The process had no descriptor left for it.
    NoDescriptor,
}

impl DropReason {
    /// Every reason.
    pub fn all() -> impl Iterator<Item = DropReason> {
        GoawayReason::ALL.into_iter().map(DropReason::Goaway).chain([
            DropReason::PeerClosed,
            DropReason::Broken,
            DropReason::NoDescriptor,
        ])
    }

    /// Label for counters: lower case, words joined by `_`.
    pub const fn label(self) -> &'static str {
        match self {
            DropReason::Goaway(reason) => match reason {
                GoawayReason::BadHeader => "bad_header",
                GoawayReason::UnknownKind => "unknown_kind",
                GoawayReason::BadLength => "bad_length",
                GoawayReason::BadPayload => "bad_payload",
                GoawayReason::VersionUnsupported => "version_unsupported",
                GoawayReason::HelloExpected => "hello_expected",
                GoawayReason::UnexpectedFrame => "unexpected_frame",
                GoawayReason::HandshakeTimeout => "handshake_timeout",
                GoawayReason::FrameTimeout => "frame_timeout",
                GoawayReason::IdleTimeout => "idle_timeout",
                GoawayReason::SlowReader => "slow_reader",
                GoawayReason::ConnectionLimit => "connection_limit",
                GoawayReason::AddressLimit => "address_limit",
                GoawayReason::ShuttingDown => "shutting_down",
            },
            DropReason::PeerClosed => "peer_closed",
            DropReason::Broken => "broken",
            DropReason::NoDescriptor => "no_descriptor",
        }
    }

    const fn index(self) -> usize {
        match self {
            DropReason::Goaway(reason) => reason as usize,
            DropReason::PeerClosed => 15,
            DropReason::Broken => 16,
            DropReason::NoDescriptor => 0,
        }
    }
}

/// Plain counters, each only rising.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections taken.
    pub connections_opened: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Whole frames received.
    pub frames_in: u64,
    /// Transactions that the sink took.
    pub submits: u64,
    /// Acknowledgements sent.
    pub acks: u64,
    /// Promises sent.
    pub promises: u64,
    /// Answers for connections that were gone.
    pub answers_undeliverable: u64,
    /// Transactions refused because the connection was above its window.
    pub over_window: u64,
    /// Times that the sink refused a frame.
    pub backpressure: u64,
    /// Times that a buffer of answers was handed to the device.
    pub transmits: u64,
    /// Receive buffers handled.
    pub receives: u64,
}

/// Counters and gauges of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Counters.
    pub counters: Counters,
    /// Connections now.
    pub connections: usize,
    /// Bytes of answers that wait for their sockets now.
    pub send_bytes: usize,
    drops: [u64; 17],
}

impl Stats {
    /// Connections that ended, or were not taken, for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()]
    }

    pub(super) fn count_drop(&mut self, reason: DropReason, by: u64) {
        self.drops[reason.index()] += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_label() {
        let mut stats = Stats::default();
        for (i, reason) in DropReason::all().enumerate() {
            stats.count_drop(reason, i as u64 + 1);
        }
        for (i, reason) in DropReason::all().enumerate() {
            assert_eq!(stats.dropped(reason), i as u64 + 1, "{}", reason.label());
        }
        let mut labels: Vec<_> = DropReason::all().map(DropReason::label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::all().count());
    }
}
