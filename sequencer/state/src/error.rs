//! What can go wrong with the store, as sentences.

use thiserror::Error;

/// A version that the store does not hold: older than its history, or not sealed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("state version {asked} is not held: versions {oldest} to {newest} are; ask for one of these")]
pub struct Expired {
    /// The version that was asked for.
    pub asked: u64,
    /// Oldest version held.
    pub oldest: u64,
    /// Newest sealed version.
    pub newest: u64,
}

/// The store cannot be opened, or cannot take more.
#[derive(Debug, Error)]
pub enum StateError {
    /// The kernel refused the address space or the mapping.
    #[error(
        "cannot map {bytes} bytes for the state's {what}: {source}; lower the configured maximum, or allow overcommit (vm.overcommit_memory = 0 or 1)"
    )]
    Map {
        /// Which table.
        what: &'static str,
        /// Bytes asked for.
        bytes: u64,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A table has reached its configured maximum. The change that met it is applied in part: stop and reopen larger.
    #[error("the state's {what} are full at {limit}: raise the configured maximum and restart")]
    Full {
        /// Which table.
        what: &'static str,
        /// Its maximum.
        limit: u64,
    },
    /// The version to snapshot, or to read, is gone.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// A snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] crate::SnapshotError),
}
