//! Writing a snapshot.

use super::{
    ChainIdentity, MANIFEST_NAME, SnapshotError,
    manifest::{FILES_MAX, FileEntry, METADATA_BYTES_MAX, Manifest, is_name},
    sync_folder,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Bytes after which what was written is pushed to the disk, so that the final sync does not hold up the journal's.
const SYNC_EVERY_BYTES: u64 = 64 << 20;
/// Bytes of the write buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// A snapshot being written. Dropped unfinished, it removes what it wrote.
#[derive(Debug)]
pub struct SnapshotWriter {
    parent: PathBuf,
    folder: PathBuf,
    manifest: Manifest,
    finished: bool,
}

impl SnapshotWriter {
    pub(super) fn create(parent: &Path, height: u64, identity: ChainIdentity) -> Result<Self, SnapshotError> {
        if parent.join(format!("{height:020}")).exists() {
            return Err(SnapshotError::Exists(height));
        }
        let folder = parent.join(format!("{height:020}.tmp"));
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(SnapshotError::io("remove", folder)(e));
            }
            _ => {}
        }
        fs::create_dir(&folder).map_err(SnapshotError::io("make the folder", &folder))?;
        let manifest = Manifest { height, identity, metadata: Vec::new(), files: Vec::new() };
        Ok(SnapshotWriter { parent: parent.into(), folder, manifest, finished: false })
    }

    /// Height of the snapshot.
    pub fn height(&self) -> u64 {
        self.manifest.height
    }

    /// Writes one file through `fill` and syncs it. Names: 1 to 64 lower case letters, digits, `-`, `.`, each once;
    /// the state's own files begin with `state-`. Writes are buffered and checksummed.
    pub fn add_file(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let taken = self.manifest.files.iter().any(|f| f.name == name);
        if !is_name(name) || name == MANIFEST_NAME || taken || self.manifest.files.len() == FILES_MAX {
            return Err(SnapshotError::NotAllowed(format!(
                "a snapshot cannot take a file named {name:?} here"
            )));
        }
        let path = self.folder.join(name);
        let file = open_new(&path).map_err(SnapshotError::io("make", &path))?;
        let mut sink = Sink { file, hasher: blake3::Hasher::new(), len: 0, synced: 0 };
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, &mut sink);
        let written = fill(&mut buffered).and_then(|()| buffered.flush());
        drop(buffered);
        written.and_then(|()| sink.file.sync_all()).map_err(SnapshotError::io("write", &path))?;
        let checksum = *sink.hasher.finalize().as_bytes();
        self.manifest.files.push(FileEntry { name: name.into(), len: sink.len, checksum });
        Ok(())
    }

    /// Writes the manifest with the caller's `metadata` (at most 1 MiB) and makes the snapshot visible and durable.
    /// Returns its folder.
    pub fn finish(mut self, metadata: &[u8]) -> Result<PathBuf, SnapshotError> {
        if metadata.len() > METADATA_BYTES_MAX {
            let text = format!(
                "a snapshot's metadata has {} bytes, at most {METADATA_BYTES_MAX} fit",
                metadata.len()
            );
            return Err(SnapshotError::NotAllowed(text));
        }
        self.manifest.metadata = metadata.to_vec();
        let path = self.folder.join(MANIFEST_NAME);
        open_new(&path)
            .and_then(|mut file| {
                file.write_all(&self.manifest.encode())?;
                file.sync_all()
            })
            .map_err(SnapshotError::io("write", &path))?;
        sync_folder(&self.folder)?;
        let visible = self.parent.join(format!("{:020}", self.manifest.height));
        fs::rename(&self.folder, &visible).map_err(SnapshotError::io("rename", &self.folder))?;
        self.finished = true;
        sync_folder(&self.parent)?;
        Ok(visible)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed by the next snapshot of this height, or by `prune`.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A new file for the owner alone: the hash key inside is a secret.
fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Counts, hashes, and syncs now and then.
struct Sink {
    file: File,
    hasher: blake3::Hasher,
    len: u64,
    synced: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        if self.len - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.synced = self.len;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
