//! State in mapped memory: accounts, slots, code, versions and snapshots.
//!
//! One [`StateWriter`], on the executor's thread, applies small deltas and seals a version for each mini-block. Any number
//! of [`State`] clones read beside it: a [`StateView`] answers for exactly one sealed version, or says [`Expired`].
//!
//! How it is built, from the bottom:
//!
//! - `mem`: tables in reserved address space that never move. Memory is taken as it is touched, and a table can start as a
//!   private mapping of a snapshot's file.
//! - `record`: account and slot records under sequence locks, so that readers never wait for the writer.
//! - `index`: from a keyed hash to record numbers, in buckets of one cache line, growing bucket by bucket.
//! - `undo`: the bounded history that leads a reader from a record's newest value back to its own version's.
//! - `writer`, `view`: the two sides.
//! - `snapshot`: folders of checksummed files with a manifest, for the state's files and those of other rooms;
//!   `persist` writes and opens the state's.
//!
//! A deleted slot keeps its record (as zero), and the slots of a wiped storage keep theirs, unreachable, until the store is
//! next opened from a snapshot, which leaves them out.

mod archive;
mod bucket;
mod config;
mod error;
mod hash;
mod index;
mod mem;
mod persist;
mod record;
mod snapshot;
mod tables;
mod undo;
mod view;
mod writer;

pub use config::StateConfig;
pub use error::{Expired, StateError};
pub use persist::open_snapshot;
pub use snapshot::{
    ChainIdentity, SNAPSHOT_FORMAT, SnapshotDir, SnapshotError, SnapshotFile, SnapshotReader, SnapshotWriter,
};
pub use view::{PinnedView, State, StateView};
pub use writer::StateWriter;

use std::sync::Arc;

/// An empty store: its reader and its writer. Nothing can be read before the first [`StateWriter::seal`], and what is
/// applied before it leaves no history (that is how a genesis is loaded).
pub fn open_empty(config: StateConfig) -> Result<(State, StateWriter), StateError> {
    let key = config.hash_key.map_or_else(hash::HashKey::random, hash::HashKey);
    let (tables, parts) = tables::Tables::reserve(&config, key, (config.accounts, config.slots))?;
    let tables = Arc::new(tables);
    Ok((State { tables: tables.clone() }, StateWriter { tables, parts }))
}

/// Sizes and counters of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateStats {
    /// Account records, dead ones included.
    pub accounts: u64,
    /// Slot records, zeroed ones included.
    pub slots: u64,
    /// Distinct codes.
    pub codes: u64,
    /// Bytes of code.
    pub code_bytes: u64,
    /// Bytes that account records and their index take.
    pub account_table_bytes: u64,
    /// Bytes that slot records and their index take.
    pub slot_table_bytes: u64,
    /// Bytes of history held.
    pub undo_bytes: u64,
    /// Oldest version that can be read; `u64::MAX` before the first seal.
    pub oldest_version: u64,
    /// Version being written.
    pub unsealed_version: u64,
    /// Index growths finished since the start (as of the newest seal).
    pub growths: u64,
}
