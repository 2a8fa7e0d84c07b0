//! Snapshots on disk: a folder per height, files with lengths and checksums, and a manifest that makes them one thing.
//!
//! A snapshot is written into `HEIGHT.tmp/`. Every file is synced as it is finished; the manifest is written and synced
//! last, then the folder; only then is the folder renamed to `HEIGHT/` and its parent synced. Whatever a crash leaves is
//! therefore either a complete snapshot or a `.tmp` folder that nobody reads. Opening checks all files against the
//! manifest, newest snapshot first, and passes over the damaged ones.

mod error;
mod manifest;
mod reader;
mod writer;

pub use error::SnapshotError;
pub use manifest::SNAPSHOT_FORMAT;
pub use reader::{SnapshotFile, SnapshotReader};
pub use writer::SnapshotWriter;

use alloy_primitives::B256;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Which chain a snapshot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainIdentity {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of the genesis block.
    pub genesis_hash: B256,
}

/// Name of the manifest in a snapshot's folder.
const MANIFEST_NAME: &str = "manifest";

/// The folder that holds a node's snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotDir {
    path: PathBuf,
    identity: ChainIdentity,
}

impl SnapshotDir {
    /// Opens the folder (`DATADIR/snapshots`), making it when it is not there. Snapshots of another chain are refused
    /// when they are opened.
    pub fn open(path: &Path, identity: ChainIdentity) -> Result<SnapshotDir, SnapshotError> {
        fs::create_dir_all(path).map_err(SnapshotError::io("make the folder", path))?;
        Ok(SnapshotDir { path: path.into(), identity })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a snapshot of `height`. Nothing is visible before [`SnapshotWriter::finish`]. What an unfinished one of the
    /// same height left behind is removed.
    pub fn create(&self, height: u64) -> Result<SnapshotWriter, SnapshotError> {
        SnapshotWriter::create(&self.path, height, self.identity)
    }

    /// Opens the newest valid snapshot; `None`: the folder holds none. Damaged ones are passed over and reported by
    /// [`SnapshotReader::passed_over`]. It is an error when all are damaged, and when one that would be used is of another
    /// chain or format.
    pub fn open_newest(&self) -> Result<Option<SnapshotReader>, SnapshotError> {
        self.open_newest_at_most(u64::MAX)
    }

    /// As [`Self::open_newest`], among those at or below `height_max` (to go on to an older one).
    pub fn open_newest_at_most(&self, height_max: u64) -> Result<Option<SnapshotReader>, SnapshotError> {
        let mut damaged = Vec::new();
        for height in self.heights()?.into_iter().rev().filter(|&h| h <= height_max) {
            match SnapshotReader::open(&self.folder(height), height, self.identity) {
                Ok(mut reader) => {
                    reader.passed_over = damaged;
                    return Ok(Some(reader));
                }
                Err(SnapshotError::Damaged { height, reason }) => {
                    tracing::warn!(height, %reason, "snapshot is damaged, trying the one before");
                    damaged.push((height, reason));
                }
                Err(other) => return Err(other),
            }
        }
        if damaged.is_empty() { Ok(None) } else { Err(SnapshotError::AllDamaged(damaged)) }
    }

    /// Heights of the snapshots that are there, oldest first, unchecked.
    pub fn heights(&self) -> Result<Vec<u64>, SnapshotError> {
        let mut heights: Vec<u64> = self.names()?.iter().filter_map(|name| height_of(name)).collect();
        heights.sort_unstable();
        Ok(heights)
    }

    /// Removes all but the newest `keep` snapshots, and what unfinished ones left behind; returns the heights removed.
    /// Not while a [`SnapshotWriter`] of this folder is at work. Files that a running store maps stay readable to it.
    pub fn prune(&self, keep: usize) -> Result<Vec<u64>, SnapshotError> {
        for name in self.names()? {
            if name.strip_suffix(".tmp").and_then(height_of).is_some() {
                self.remove(&name)?;
            }
        }
        let mut heights = self.heights()?;
        heights.truncate(heights.len().saturating_sub(keep));
        for &height in &heights {
            // Renamed first: a removal cut short then leaves nothing that looks like a damaged snapshot.
            let (folder, gone) = (self.folder(height), self.path.join(format!("{height:020}.tmp")));
            fs::rename(&folder, &gone).map_err(SnapshotError::io("rename", folder))?;
            self.remove(&format!("{height:020}.tmp"))?;
        }
        sync_folder(&self.path)?;
        Ok(heights)
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let failed = || SnapshotError::io("list", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            names.extend(entry.map_err(failed())?.file_name().into_string());
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.path.join(name);
        fs::remove_dir_all(&path).map_err(SnapshotError::io("remove", path))
    }

    fn folder(&self, height: u64) -> PathBuf {
        self.path.join(format!("{height:020}"))
    }
}

/// Height of a finished snapshot's folder, by its name: 20 digits.
fn height_of(name: &str) -> Option<u64> {
    (name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok()).flatten()
}

fn sync_folder(path: &Path) -> Result<(), SnapshotError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(SnapshotError::io("sync the folder", path))
}
