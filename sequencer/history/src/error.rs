//! What can be wrong with what is published, or with the files of the archive.

use alloy_primitives::B256;
use std::path::PathBuf;

/// Why the history refused a block, or could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// A block number was published twice with different hashes.
    #[error(
        "block {number} is already published with hash {known}, and {offered} was offered: the archive belongs to another chain or journal; move its folder away and start again"
    )]
    HashMismatch {
        /// Height of both.
        number: u64,
        /// Hash on record.
        known: B256,
        /// Hash offered now.
        offered: B256,
    },
    /// A block does not follow the newest one.
    #[error(
        "block {number} does not follow block {head}: publish blocks in order, each with its parent's hash"
    )]
    OutOfOrder {
        /// Height offered.
        number: u64,
        /// Newest height on record.
        head: u64,
    },
    /// A sealed block holds transactions whose mini-blocks were not published before it.
    #[error(
        "block {number} has {sealed} transactions, and its published mini-blocks have {published}: publish a block after its last mini-block"
    )]
    AheadOfMiniBlocks {
        /// Height offered.
        number: u64,
        /// Transactions in the block.
        sealed: usize,
        /// Transactions in the mini-blocks of that block.
        published: usize,
    },
    /// A mini-block came after its block, or its height leaves a gap.
    #[error(
        "mini-block {height} of block {number} does not follow what is published: mini-blocks come in order, and before their block"
    )]
    MiniBlockOutOfOrder {
        /// Its height.
        height: u64,
        /// Block that it names.
        number: u64,
    },
    /// Bytes of the archive do not match their checksum.
    #[error("the archive file {} is damaged at byte {offset} ({what}): restore it, or move the archive away and let the node rebuild it from its journal", file.display())]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// Which part.
        what: &'static str,
    },
    /// A file of the archive was written by another version.
    #[error("the archive file {} has format {found}, and this program reads format {expected}: use the program that wrote it, or move the archive away", file.display())]
    Format {
        /// Which file.
        file: PathBuf,
        /// Version in the file.
        found: u32,
        /// Version of this program.
        expected: u32,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {error}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// The system's words.
        error: String,
    },
    /// The archive could not be made durable and takes nothing more.
    #[error("the archive stopped: {0}")]
    ArchiveStopped(String),
    /// A log query found more than its limit.
    #[error("query returned more than {limit} logs: ask for a shorter range of blocks")]
    TooManyLogs {
        /// The limit.
        limit: usize,
    },
}

impl HistoryError {
    pub(crate) fn io(action: &'static str, file: &std::path::Path, error: std::io::Error) -> Self {
        HistoryError::Io { action, file: file.to_path_buf(), error: error.to_string() }
    }
}
