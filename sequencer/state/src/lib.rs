//! State in mapped memory: accounts, slots, code, versions and snapshots.
//!
//! One [`StateWriter`] applies deltas and seals versions; any number of [`State`] clones read. A [`StateView`] answers
//! for exactly one sealed version, or says [`Expired`].

mod config;
mod error;
mod snapshot;

pub use config::StateConfig;
pub use error::{Expired, StateError};
pub use snapshot::{ChainIdentity, SnapshotDir, SnapshotError, SnapshotFile, SnapshotReader, SnapshotWriter};

use alloy_primitives::{Address, B256, Bytes, U256};
use ironlane_types::{AccountInfo, StateDelta};
use std::{ops::Deref, sync::Arc};

/// An empty store: its reader and its writer. Nothing can be read before the first [`StateWriter::seal`].
pub fn open_empty(config: StateConfig) -> Result<(State, StateWriter), StateError> {
    let _ = config;
    unimplemented!()
}

/// A store that starts as `snapshot` left it, with the snapshot's version sealed.
pub fn open_snapshot(config: StateConfig, snapshot: &SnapshotReader) -> Result<(State, StateWriter), StateError> {
    let _ = (config, snapshot);
    unimplemented!()
}

/// The reading side. Cheap to clone, shared between threads.
#[derive(Clone)]
pub struct State {
    _p: Arc<()>,
}

impl State {
    /// The newest sealed version.
    pub fn view(&self) -> StateView {
        unimplemented!()
    }
    /// A given sealed version.
    pub fn view_at(&self, version: u64) -> Result<StateView, Expired> {
        let _ = version;
        unimplemented!()
    }
    /// The account as it is now, unsealed changes included (for admission). Consistent for this one account only.
    pub fn newest_account(&self, address: &Address) -> Option<AccountInfo> {
        let _ = address;
        unimplemented!()
    }
    /// Oldest version that can be read.
    pub fn oldest_version(&self) -> u64 {
        unimplemented!()
    }
    /// Newest sealed version; `None` before the first seal.
    pub fn sealed_version(&self) -> Option<u64> {
        unimplemented!()
    }
    /// Sizes and counters.
    pub fn stats(&self) -> StateStats {
        unimplemented!()
    }
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
    /// Oldest version that can be read.
    pub oldest_version: u64,
    /// Version being written.
    pub unsealed_version: u64,
    /// Index growths finished since the start.
    pub growths: u64,
}

/// One sealed version. Every method answers for exactly that version or says [`Expired`].
#[derive(Clone)]
pub struct StateView {
    _p: Arc<()>,
}

impl StateView {
    /// Which.
    pub fn version(&self) -> u64 {
        unimplemented!()
    }
    /// An account; `None`: it does not exist.
    pub fn account(&self, address: &Address) -> Result<Option<AccountInfo>, Expired> {
        let _ = address;
        unimplemented!()
    }
    /// Many accounts at once, memory fetched ahead; `out` has the length of `addresses`.
    pub fn accounts_batch(&self, addresses: &[Address], out: &mut [Option<AccountInfo>]) -> Result<(), Expired> {
        let _ = (addresses, out);
        unimplemented!()
    }
    /// A storage slot; zero when never written.
    pub fn storage(&self, address: &Address, key: U256) -> Result<U256, Expired> {
        let _ = (address, key);
        unimplemented!()
    }
    /// Code by its hash. Code is never forgotten, so this cannot expire.
    pub fn code(&self, hash: &B256) -> Option<Bytes> {
        let _ = hash;
        unimplemented!()
    }
    /// Every existing account, in no particular order.
    pub fn accounts(&self) -> impl Iterator<Item = Result<(Address, AccountInfo), Expired>> + '_ {
        std::iter::empty()
    }
    /// Every non-zero slot as (owner, key, value), in no particular order.
    pub fn slots(&self) -> impl Iterator<Item = Result<(Address, U256, U256), Expired>> + '_ {
        std::iter::empty()
    }
    /// Keeps this version readable until the result is dropped (or the history outgrows `undo_bytes_max`).
    pub fn pin(&self) -> Result<PinnedView, Expired> {
        unimplemented!()
    }
}

/// A view whose version is kept while this lives.
pub struct PinnedView {
    view: StateView,
}

impl Deref for PinnedView {
    type Target = StateView;
    fn deref(&self) -> &StateView {
        &self.view
    }
}

impl PinnedView {
    /// Writes the state's files of this version into `snapshot`. Runs beside the writer.
    pub fn write_snapshot(&self, snapshot: &mut SnapshotWriter) -> Result<(), StateError> {
        let _ = snapshot;
        unimplemented!()
    }
}

/// The writing side; there is one.
pub struct StateWriter {
    _p: (),
}

impl StateWriter {
    /// The account with all changes so far.
    pub fn account(&self, address: &Address) -> Option<AccountInfo> {
        let _ = address;
        unimplemented!()
    }
    /// Many accounts at once, memory fetched ahead; `out` has the length of `addresses`.
    pub fn accounts_batch(&self, addresses: &[Address], out: &mut [Option<AccountInfo>]) {
        let _ = (addresses, out);
        unimplemented!()
    }
    /// A storage slot with all changes so far; zero when never written.
    pub fn storage(&self, address: &Address, key: U256) -> U256 {
        let _ = (address, key);
        unimplemented!()
    }
    /// Code by its hash.
    pub fn code(&self, hash: &B256) -> Option<Bytes> {
        let _ = hash;
        unimplemented!()
    }
    /// Fetches these accounts' records into the cache.
    pub fn prefetch(&self, addresses: &[Address]) {
        let _ = addresses;
        unimplemented!()
    }
    /// Applies changes to the unsealed version. An error leaves them applied in part: stop.
    pub fn apply(&mut self, delta: &StateDelta) -> Result<(), StateError> {
        let _ = delta;
        unimplemented!()
    }
    /// Publishes the unsealed version and returns its number; the next one begins.
    pub fn seal(&mut self) -> u64 {
        unimplemented!()
    }
    /// Number of the unsealed version (what the next [`Self::seal`] returns).
    pub fn version(&self) -> u64 {
        unimplemented!()
    }
    /// A reading side.
    pub fn state(&self) -> State {
        unimplemented!()
    }
}
