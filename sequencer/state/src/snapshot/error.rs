//! Why a snapshot was refused, or could not be written.

use alloy_primitives::B256;
use std::{fmt::Write as _, io, path::PathBuf};
use thiserror::Error;

/// Why a snapshot was refused, or could not be written.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Written by a newer (or unknown older) program.
    #[error(
        "snapshot {height} has format version {found}, this program reads version {known}: use the program that wrote it, or remove that snapshot"
    )]
    Format {
        /// Height of the snapshot.
        height: u64,
        /// Version that it names.
        found: u32,
        /// Version that this program reads.
        known: u32,
    },
    /// It belongs to another chain.
    #[error(
        "snapshot {height} is of chain {found_chain} with genesis {found_genesis}, this node runs chain {chain} with genesis {genesis}: use another data folder"
    )]
    OtherChain {
        /// Height of the snapshot.
        height: u64,
        /// Chain id in it.
        found_chain: u64,
        /// Genesis hash in it.
        found_genesis: B256,
        /// This node's chain id.
        chain: u64,
        /// This node's genesis hash.
        genesis: B256,
    },
    /// One snapshot is damaged.
    #[error("snapshot {height} is damaged: {reason}")]
    Damaged {
        /// Height of the snapshot.
        height: u64,
        /// What was wrong.
        reason: String,
    },
    /// There are snapshots, and not one can be used.
    #[error("all snapshots are damaged ({}): remove them to rebuild the state from the journal", list(.0))]
    AllDamaged(Vec<(u64, String)>),
    /// No file of this name is in it.
    #[error("snapshot {height} has no file {name}")]
    NoSuchFile {
        /// Height of the snapshot.
        height: u64,
        /// The name.
        name: String,
    },
    /// A finished snapshot of this height is there already.
    #[error("a snapshot of height {0} is there already")]
    Exists(u64),
    /// The caller's file name or metadata is not allowed.
    #[error("{0}")]
    NotAllowed(String),
}

fn list(damaged: &[(u64, String)]) -> String {
    damaged.iter().fold(String::new(), |mut text, (height, reason)| {
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{height}: {reason}");
        text
    })
}

impl SnapshotError {
    /// For `map_err`.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> SnapshotError {
        let path = path.into();
        move |source| SnapshotError::Io { doing, path, source }
    }
}
