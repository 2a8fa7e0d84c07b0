//! Opening a snapshot: manifest, lengths, checksums; then its files as mapped bytes.

use super::{
    ChainIdentity, MANIFEST_NAME, SnapshotError,
    manifest::{FileEntry, MANIFEST_BYTES_MAX, Manifest, ManifestError, SNAPSHOT_FORMAT},
};
use crate::mem::map_read_only;
use memmap2::Mmap;
use std::{
    fs::File,
    io::{self, Read},
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

/// A verified snapshot: every file has the length and checksum that its manifest names.
#[derive(Debug)]
pub struct SnapshotReader {
    folder: PathBuf,
    manifest: Manifest,
    files: Vec<SnapshotFile>,
    pub(super) passed_over: Vec<(u64, String)>,
}

impl SnapshotReader {
    pub(super) fn open(folder: &Path, height: u64, identity: ChainIdentity) -> Result<Self, SnapshotError> {
        let damaged = |reason: String| SnapshotError::Damaged { height, reason };
        let manifest = read_manifest(&folder.join(MANIFEST_NAME), height)?;
        if manifest.height != height {
            return Err(damaged(format!(
                "its folder is named {height}, its manifest says {}",
                manifest.height
            )));
        }
        if manifest.identity != identity {
            return Err(SnapshotError::OtherChain {
                height,
                found_chain: manifest.identity.chain_id,
                found_genesis: manifest.identity.genesis_hash,
                chain: identity.chain_id,
                genesis: identity.genesis_hash,
            });
        }
        let files = thread::scope(|scope| {
            let checks: Vec<_> =
                manifest.files.iter().map(|f| scope.spawn(|| open_file(folder, f))).collect();
            checks
                .into_iter()
                .map(|check| check.join().unwrap_or_else(|_| Err("its check failed".into())))
                .collect()
        });
        let files: Result<Vec<SnapshotFile>, String> = files;
        Ok(SnapshotReader {
            folder: folder.into(),
            files: files.map_err(damaged)?,
            manifest,
            passed_over: Vec::new(),
        })
    }

    /// Height that it was written at.
    pub fn height(&self) -> u64 {
        self.manifest.height
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// What [`super::SnapshotWriter::finish`] was given.
    pub fn metadata(&self) -> &[u8] {
        &self.manifest.metadata
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> Result<SnapshotFile, SnapshotError> {
        let at = self.manifest.files.iter().position(|f| f.name == name);
        let missing = || SnapshotError::NoSuchFile { height: self.height(), name: name.into() };
        at.map(|i| self.files[i].clone()).ok_or_else(missing)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|f| f.len).sum()
    }

    /// Newer snapshots that were damaged: height and what was wrong.
    pub fn passed_over(&self) -> &[(u64, String)] {
        &self.passed_over
    }
}

fn read_manifest(path: &Path, height: u64) -> Result<Manifest, SnapshotError> {
    let damaged = |reason: String| SnapshotError::Damaged { height, reason };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(damaged("it has no manifest".into())),
        Err(e) => return Err(damaged(format!("its manifest cannot be read: {e}"))),
    }
    Manifest::decode(&bytes).map_err(|e| match e {
        ManifestError::Format(found) => SnapshotError::Format { height, found, known: SNAPSHOT_FORMAT },
        ManifestError::Damaged(reason) => damaged(reason.into()),
    })
}

fn open_file(folder: &Path, entry: &FileEntry) -> Result<SnapshotFile, String> {
    let name = &entry.name;
    let file = File::open(folder.join(name)).map_err(|e| format!("file {name} cannot be opened: {e}"))?;
    let len = file.metadata().map_err(|e| format!("file {name} cannot be read: {e}"))?.len();
    if len != entry.len {
        return Err(format!("file {name} has {len} bytes, its manifest says {}", entry.len));
    }
    let map = map_read_only(&file).map_err(|e| format!("file {name} cannot be mapped: {e}"))?;
    if *blake3::hash(&map).as_bytes() != entry.checksum {
        return Err(format!("the checksum of file {name} does not match"));
    }
    Ok(SnapshotFile { inner: Arc::new((file, map)) })
}

/// A file of a snapshot, mapped read-only and page-aligned. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    inner: Arc<(File, Mmap)>,
}

impl SnapshotFile {
    /// The open file, for a mapping of one's own.
    pub fn file(&self) -> &File {
        &self.inner.0
    }
}

impl Deref for SnapshotFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.inner.1
    }
}
