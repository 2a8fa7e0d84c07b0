//! The journal itself.

use crate::*;
use std::os::fd::RawFd;

/// Whether there is room for what comes next. Admission should stop at anything but `Ok`, before anything is signed; it may
/// resume when `Ok` is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// The next segment is there, or is being made.
    Ok,
    /// The next segment could not be made; the active one has `bytes_left`.
    Low {
        /// Bytes left in the active segment.
        bytes_left: u64,
        /// Why.
        reason: String,
    },
    /// A commit is waiting for a segment that could not be made.
    None {
        /// Why.
        reason: String,
    },
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Oldest record that is there; `tip + 1` when there is none.
    pub first: Lsn,
    /// Newest record; 0 when there is none.
    pub tip: Lsn,
    /// Records given to the replay function.
    pub replayed: u64,
    /// Where a torn tail was cut, if there was one: bytes of an unacknowledged commit that a crash had interrupted.
    pub torn: Option<RecordPos>,
    /// What the signer slot says; `None` when it was never written.
    pub slot: Option<SignerSlot>,
    /// One sentence: backend chosen, others refused and why, segment in use.
    pub status: String,
}

/// The caller's reason for refusing a record at replay.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// Receives each record at replay, in order.
pub type OnRecord<'a> = dyn FnMut(RecordPos, &[u8]) -> Result<(), ReplayError> + 'a;

/// The journal: polled, owned by one stage. See the crate's documentation.
pub struct Journal {}

impl Journal {
    /// Opens or creates the journal, replays every record from `from` on (1 is the first) through `on_record`, and makes
    /// ready for appending.
    pub fn open(
        _config: &JournalConfig,
        _from: Lsn,
        _on_record: &mut OnRecord<'_>,
    ) -> Result<(Journal, Recovery), JournalError> {
        unimplemented!()
    }

    /// Takes one record, the concatenation of `parts`, and a mark if it is a mini-block that will be signed. Returns its
    /// sequence number. Copies once; nothing is written before [`Journal::poll`].
    pub fn append(&mut self, _parts: &[&[u8]], _mark: Option<SignerMark>) -> Result<Lsn, AppendError> {
        unimplemented!()
    }

    /// Reaps what completed, then writes everything that waits as one group commit if fewer than `commits_in_flight` are
    /// under way. Returns the newest durable record when it moved. Never blocks.
    pub fn poll(&mut self) -> Result<Option<Lsn>, Fault> {
        unimplemented!()
    }

    /// For quiet times, from the stage's `housekeep`: makes the slot say that everything so far is durable, so that even
    /// the loss of the very last commit is noticed at the next start. Never blocks.
    pub fn settle(&mut self) -> Result<(), Fault> {
        unimplemented!()
    }

    /// Blocks until everything appended is durable and settled. For closing and for tools.
    pub fn flush(&mut self) -> Result<Lsn, Fault> {
        unimplemented!()
    }

    /// Newest durable record.
    pub fn durable(&self) -> Lsn {
        unimplemented!()
    }

    /// Newest record taken.
    pub fn appended(&self) -> Lsn {
        unimplemented!()
    }

    /// Group commits under way.
    pub fn in_flight(&self) -> usize {
        unimplemented!()
    }

    /// Bytes that wait for the next group commit.
    pub fn pending_bytes(&self) -> usize {
        unimplemented!()
    }

    /// Most payload bytes that one record may have.
    pub fn record_bytes_max(&self) -> usize {
        unimplemented!()
    }

    /// A descriptor that becomes readable when a commit has completed.
    pub fn wake_fd(&self) -> Option<RawFd> {
        unimplemented!()
    }

    /// Whether there is room for what comes next.
    pub fn space(&self) -> Space {
        unimplemented!()
    }

    /// Says that records up to `up_to` are not needed for recovery any more (a snapshot covers them).
    pub fn release(&mut self, _up_to: Lsn) {
        unimplemented!()
    }
}
