//! The append-only journal: what was acknowledged is here.
//!
//! [`Journal::append`] copies a record into the batch being filled and returns its sequence number ([`Lsn`]);
//! [`Journal::poll`] writes everything that waits as one group commit and says how far the journal is durable. Only then
//! may a receipt or a signature leave the box. [`Journal::open`] replays what is there, cuts a tail that a crash tore, and
//! stops with the position when a record that *was* durable is damaged. [`Reader`] reads a stopped node's journal.

mod config;
mod error;
mod format;
mod journal;
mod reader;
mod slot;

pub use config::{Backend, JournalConfig, Keep};
pub use error::{AppendError, Fault, JournalError, RecordPos, SignerError};
pub use format::BLOCK;
pub use journal::{Journal, OnRecord, Recovery, ReplayError, Space};
pub use reader::Reader;
pub use slot::{SignerMark, SignerSlot, check_signer};

/// Log sequence number: the place of a record in the journal, from 1, without gaps. 0: before the first.
pub type Lsn = u64;
