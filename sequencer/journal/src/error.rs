//! What can go wrong: at opening ([`JournalError`]), at appending ([`AppendError`]), on the device ([`Fault`]), and with
//! the signer's memory ([`SignerError`]).

use crate::Lsn;
use std::io;
use std::path::PathBuf;

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPos {
    /// The record's sequence number.
    pub lsn: Lsn,
    /// Number of the segment, as in its file name.
    pub segment: u64,
    /// Byte offset of the record's header in the segment's file.
    pub offset: u64,
}

impl std::fmt::Display for RecordPos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "record {} (file {}, offset {})",
            self.lsn,
            crate::format::segment_name(self.segment),
            self.offset
        )
    }
}

/// Why a journal was not opened or not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The configuration contradicts itself.
    #[error("journal configuration: {0}")]
    Config(String),
    /// The folder or a file in it cannot be used.
    #[error("journal: cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The backend that was asked for is not available here.
    #[error("journal: the backend that was asked for cannot be used: {0}")]
    Backend(String),
    /// Another process has the journal open.
    #[error("journal: {0} is in use by another process; stop it first")]
    Locked(PathBuf),
    /// Written by a newer release.
    #[error(
        "journal: {file} has format version {found}, this program reads up to {supported}; use a newer release"
    )]
    NewerVersion {
        /// Segment or slot file.
        file: String,
        /// Version in the file.
        found: u16,
        /// Newest version known here.
        supported: u16,
    },
    /// Belongs to another chain.
    #[error(
        "journal: {file} belongs to another chain or genesis (identity {found}, expected {expected}); point the node at its own data"
    )]
    ForeignIdentity {
        /// Segment or slot file.
        file: String,
        /// Identity in the file, hexadecimal.
        found: String,
        /// Identity of this node, hexadecimal.
        expected: String,
    },
    /// A record that was durable is not there any more or not as it was written. Nothing was changed on disk.
    #[error(
        "journal: damage at {at}: {what}. Records up to {proven} were durable, so this is no torn tail. Nothing was cut; restore the file from a replica or a backup"
    )]
    Damaged {
        /// First record that cannot be read.
        at: RecordPos,
        /// What is wrong there.
        what: String,
        /// Newest record that is proven to have been durable.
        proven: Lsn,
    },
    /// The device could not read a record.
    #[error(
        "journal: the device cannot read {at}: {source}. Nothing was cut; restore the file from a replica or a backup"
    )]
    Unreadable {
        /// First record that cannot be read.
        at: RecordPos,
        /// The device's error.
        source: io::Error,
    },
    /// The signer slot knows of durable records that the journal does not have.
    #[error(
        "journal: it ends at record {tip}, but the signer slot says that record {proven} was durable: the journal was restored from a backup or lost its end. Restore the newest journal"
    )]
    BehindSlot {
        /// Last record in the journal.
        tip: Lsn,
        /// Newest record that the slot proves.
        proven: Lsn,
    },
    /// The signer slot cannot be read although it was written.
    #[error(
        "journal: {file} holds no readable page: {what}. It is what keeps the node from signing twice at one height; restore it"
    )]
    SlotDamaged {
        /// The slot's file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// Replay was asked to begin after the journal's end: the snapshot is ahead of the journal.
    #[error(
        "journal: it ends at record {tip}, but replay was to begin at {from}: the snapshot is newer than the journal. Use an older snapshot, or restore the newest journal"
    )]
    Ahead {
        /// First record that was asked for.
        from: Lsn,
        /// Last record in the journal.
        tip: Lsn,
    },
    /// Replay was asked to begin before the oldest record that is kept.
    #[error(
        "journal: record {from} is no longer kept, the oldest is {first}; begin from a snapshot at {first} or later"
    )]
    Gone {
        /// First record that was asked for.
        from: Lsn,
        /// Oldest record that is there.
        first: Lsn,
    },
    /// The caller's replay function refused a record.
    #[error("journal: {at} could not be replayed: {source}")]
    Replay {
        /// Which record.
        at: RecordPos,
        /// The caller's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The device failed while the journal was being opened.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a record was not taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Back-pressure: the batch being filled has no room. Poll, then try again.
    #[error("journal: no room before the next commit; poll and try again")]
    Full,
    /// Larger than any commit can be.
    #[error(
        "journal: a record of {bytes} bytes is larger than the most that fits, {max}; split it or raise commit_bytes_max"
    )]
    TooLarge {
        /// Payload bytes.
        bytes: usize,
        /// Most payload bytes that one record may have.
        max: usize,
    },
    /// A mark must be above the marks before it.
    #[error("journal: height {height} must not be signed, the signer slot already holds height {newest}")]
    MarkNotAbove {
        /// Height of the refused mark.
        height: u64,
        /// Newest height given so far.
        newest: u64,
    },
    /// The device has failed; the journal takes nothing more.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The device failed. The journal is dead from then on: nothing more is ever reported durable, nothing is retried (after a
/// failed `fdatasync` the kernel may answer success although the data is lost).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A write or its `fdatasync` failed.
    #[error("journal: writing {file} at offset {offset} failed: {}. Nothing after record {durable} is durable; stop, check the disk, restart", io::Error::from_raw_os_error(*errno))]
    Write {
        /// Which file.
        file: String,
        /// Where in it.
        offset: u64,
        /// The error number.
        errno: i32,
        /// Newest durable record.
        durable: Lsn,
    },
    /// The file system had no room, although the segment had been written ahead (copy-on-write file systems do that).
    #[error(
        "journal: no space on the device for {file}. Nothing after record {durable} is durable; free some space and restart"
    )]
    NoSpace {
        /// Which file.
        file: String,
        /// Newest durable record.
        durable: Lsn,
    },
    /// The device wrote less than it was asked to, and did not go on.
    #[error(
        "journal: {file} took only {wrote} of {wanted} bytes at offset {offset}. Nothing after record {durable} is durable; check limits (ulimit -f) and the disk, restart"
    )]
    ShortWrite {
        /// Which file.
        file: String,
        /// Where in it.
        offset: u64,
        /// Bytes asked for.
        wanted: usize,
        /// Bytes written.
        wrote: usize,
        /// Newest durable record.
        durable: Lsn,
    },
}

/// Why the node must not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Mini-blocks exist, the slot does not.
    #[error(
        "the signer slot is missing although the journal holds mini-block {tip}; restore it: without it nothing keeps the node from signing twice at one height"
    )]
    Missing {
        /// Newest mini-block in the journal.
        tip: u64,
    },
    /// The journal is older than the slot.
    #[error(
        "the journal ends at mini-block {tip}, but mini-block {signed} was signed: the journal was restored from a backup. Restore the newest journal; signing below the mark is refused"
    )]
    Behind {
        /// Newest mini-block in the journal.
        tip: u64,
        /// Newest that was signed.
        signed: u64,
    },
    /// Two different mini-blocks at one height.
    #[error(
        "mini-block {height} in the journal is not the one that was signed; this journal belongs to another history, signing is refused"
    )]
    Conflict {
        /// The height.
        height: u64,
    },
}
