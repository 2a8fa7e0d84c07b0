//! What can go wrong when a device is opened.

use std::io;
use std::net::SocketAddr;

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The listening socket could not be made.
    #[error("cannot listen on {addr}: {source}; choose a free address with --ingest, or stop what holds it")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// io_uring is not there, or refused what is needed.
    #[error(
        "io_uring cannot be used ({what}: {source}); Linux 6.0 or newer is needed, with /proc/sys/kernel/io_uring_disabled at 0 and no seccomp filter against it"
    )]
    Uring {
        /// The step that failed.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A limit in the configuration makes no sense.
    #[error("{0}")]
    Config(String),
}
