//! The append-only journal: what was acknowledged is here.
//!
//! [`Journal::append`] copies a record into the batch being filled and returns its sequence number ([`Lsn`]);
//! [`Journal::poll`] writes everything that waits as one group commit and says how far the journal is durable. Only then
//! may a receipt or a signature leave the box. [`Journal::open`] replays what is there, cuts a tail that a crash tore, and
//! stops with the position when a record that *was* durable is damaged. [`Reader`] reads a stopped node's journal.
//!
//! ```
//! use ironlane_journal::{Journal, JournalConfig, SignerMark};
//! let dir = tempfile::tempdir()?;
//! let config = JournalConfig::new(dir.path(), [7; 32]);
//! let (mut journal, _) = Journal::open(&config, 1, &mut |_, _| Ok(()))?;
//! let lsn = journal.append(&[b"mini-", b"block"], Some(SignerMark { height: 1, digest: [1; 32] }))?;
//! while journal.durable() < lsn {
//!     journal.poll()?; // a stage does other things in between, or waits for `wake_fd`
//! }
//! drop(journal);
//! let (_, recovery) = Journal::open(&config, 1, &mut |at, payload| {
//!     assert_eq!((at.lsn, payload), (1, &b"mini-block"[..]));
//!     Ok(())
//! })?;
//! assert_eq!(recovery.tip, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to look: `format` has the bytes, `journal` the running journal, `open` recovery, `scan` the judgement whether a
//! tail is torn or damaged, `slot` the signer's memory, [`disk`] the devices, the simulated one among them.

mod buffer;
mod config;
pub mod disk;
mod error;
mod format;
mod journal;
mod maker;
mod open;
mod reader;
mod scan;
mod slot;
mod survey;

pub use config::{Backend, JournalConfig, Keep};
pub use error::{AppendError, Fault, JournalError, RecordPos, SignerError};
pub use format::{BLOCK, VERSION};
pub use journal::{Journal, Space};
pub use open::{Disk, OnRecord, Recovery, ReplayError};
pub use reader::Reader;
pub use slot::{SignerMark, SignerSlot, check_signer};

/// Log sequence number: the place of a record in the journal, from 1, without gaps. 0: before the first.
pub type Lsn = u64;
