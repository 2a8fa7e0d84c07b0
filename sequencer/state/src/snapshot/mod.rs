//! Snapshots.

use alloy_primitives::B256;
use std::{io, io::Write, ops::Deref, path::{Path, PathBuf}};

/// Which chain a snapshot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainIdentity {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of the genesis block.
    pub genesis_hash: B256,
}

/// Why a snapshot was refused or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The folder that holds a node's snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotDir {
    path: PathBuf,
}

impl SnapshotDir {
    /// Opens the folder (`DIR/snapshots`), making it when it is not there.
    pub fn open(path: &Path, identity: ChainIdentity) -> Result<SnapshotDir, SnapshotError> {
        let _ = identity;
        Ok(SnapshotDir { path: path.into() })
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Starts a snapshot of `height`. Nothing is visible before [`SnapshotWriter::finish`].
    pub fn create(&self, height: u64) -> Result<SnapshotWriter, SnapshotError> {
        let _ = height;
        unimplemented!()
    }
    /// Opens the newest valid snapshot, or says `None` when the folder holds none. Damaged ones are passed over and
    /// reported by [`SnapshotReader::passed_over`]; all damaged, another chain's, or a newer format is an error.
    pub fn open_newest(&self) -> Result<Option<SnapshotReader>, SnapshotError> {
        unimplemented!()
    }
    /// Heights of the snapshots that are there, oldest first, unchecked.
    pub fn heights(&self) -> Result<Vec<u64>, SnapshotError> {
        unimplemented!()
    }
    /// Removes all but the newest `keep` snapshots, and what unfinished ones left behind. Returns what was removed.
    pub fn prune(&self, keep: usize) -> Result<Vec<u64>, SnapshotError> {
        let _ = keep;
        unimplemented!()
    }
}

/// A snapshot being written. Dropped unfinished, it removes what it wrote.
#[derive(Debug)]
pub struct SnapshotWriter {
    _p: (),
}

impl SnapshotWriter {
    /// Writes one file through `fill`, with its checksum, and syncs it. Names are lower case letters, digits, `-`, `.`.
    pub fn add_file(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let _ = (name, fill);
        unimplemented!()
    }
    /// Writes the manifest with the caller's `metadata` (at most 1 MiB) and makes the snapshot visible and durable.
    pub fn finish(self, metadata: &[u8]) -> Result<PathBuf, SnapshotError> {
        let _ = metadata;
        unimplemented!()
    }
}

/// A verified snapshot: every file has the length and checksum that its manifest names.
#[derive(Debug)]
pub struct SnapshotReader {
    _p: (),
}

impl SnapshotReader {
    /// Height that it was written at.
    pub fn height(&self) -> u64 {
        unimplemented!()
    }
    /// What [`SnapshotWriter::finish`] was given.
    pub fn metadata(&self) -> &[u8] {
        unimplemented!()
    }
    /// One of its files.
    pub fn file(&self, name: &str) -> Result<SnapshotFile, SnapshotError> {
        let _ = name;
        unimplemented!()
    }
    /// Newer snapshots that were damaged, with what was wrong.
    pub fn passed_over(&self) -> &[(u64, String)] {
        unimplemented!()
    }
}

/// A file of a snapshot, mapped read-only, page-aligned. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    _p: (),
}

impl Deref for SnapshotFile {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        unimplemented!()
    }
}
