//! The cache on disk: one file a compiled code, so that a restarted node begins hot.
//!
//! What is read here will be executed, so a file is used only if it is a plain file of the node's own user that nobody
//! else may write to (in a folder of which the same holds), if its checksum over every byte holds, and if it was made by
//! this very compiler (same fingerprint) for the code and fork that its name says. Everything else is refused, counted and
//! said. The checksum finds accidents, not malice: whoever can write as the node's user can replace the node as well.
//!
//! A file, little-endian: `ILJITC01`, code hash (32 bytes), fork (1), fingerprint (32), length of the artifact (8), the
//! artifact ([`Artifact::to_bytes`]), BLAKE3 of everything before (32). Files appear by rename and are not synchronised:
//! what a power cut leaves fails the checksum and is compiled again.
//!
//! Beside them stands, while a code is being compiled, a `.compiling` file with the number of attempts begun. Should the
//! compiler ever take the process down with it, the file is found at the next start; a code that did so twice is left to
//! the interpreter for good.

use super::{
    Key,
    counters::{Counters, DiskRefusal},
};
use crate::artifact::{Artifact, Fingerprint};
use alloy_primitives::B256;
use hashbrown::HashMap;
use revm::primitives::hardfork::SpecId;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};
use thiserror::Error;

const MAGIC: [u8; 8] = *b"ILJITC01";
const HEADER: usize = 8 + 32 + 1 + 32 + 8;
const CHECKSUM: usize = 32;
/// Longest file that is read: many times what the limits of the compiler allow.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Interrupted attempts after which a code is not compiled again.
const ATTEMPTS_MAX: u32 = 2;

/// Why there is no cache on disk.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The folder cannot be used.
    #[error(
        "the folder {path} for compiled code cannot be used ({source}): make it writable or run without a cache on disk"
    )]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could put code there.
    #[error(
        "the folder {path} for compiled code belongs to another user or others may write to it: its files would be \
         executed, so make it the node user's own with mode 0700"
    )]
    Untrusted {
        /// Which.
        path: PathBuf,
    },
}

/// One file.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    used: SystemTime,
}

/// The cache's folder.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    fingerprint: Fingerprint,
    owner: u32,
    bytes_max: u64,
    held: HashMap<Key, Held>,
    attempts: HashMap<Key, u32>,
    counters: Arc<Counters>,
}

impl Disk {
    /// Opens or makes the folder and looks at what is there; nothing is read yet.
    pub(crate) fn open(
        folder: &Path,
        fingerprint: Fingerprint,
        bytes_max: u64,
        counters: Arc<Counters>,
    ) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Folder { path: folder.into(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        // A file made just now belongs to whom this process writes as.
        let probe = folder.join("probe.tmp");
        let owner = write_new(&probe, b"").and_then(|file| file.metadata()).map_err(failed)?.uid();
        fs::remove_file(&probe).map_err(failed)?;
        let about = fs::metadata(folder).map_err(failed)?;
        if about.uid() != owner || about.mode() & 0o022 != 0 {
            return Err(DiskError::Untrusted { path: folder.into() });
        }
        let (held, attempts) = (HashMap::new(), HashMap::new());
        let mut disk =
            Self { folder: folder.into(), fingerprint, owner, bytes_max, held, attempts, counters };
        disk.look(fs::read_dir(folder).map_err(failed)?);
        disk.prune();
        Ok(disk)
    }

    fn look(&mut self, files: fs::ReadDir) {
        for file in files.flatten() {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(".tmp") {
                // Unfinished when the process before this one ended.
                self.remove(&file.path());
                continue;
            }
            let Some((key, fingerprint, kind)) = parse_name(name) else { continue };
            if fingerprint != self.fingerprint.0[..8] {
                self.counters.refuse_file(DiskRefusal::Foreign);
                tracing::info!(
                    name,
                    "compiled code of another compiler is removed: it will be compiled again"
                );
                self.remove(&file.path());
                continue;
            }
            match kind {
                Kind::Compiling => {
                    let attempts = fs::read_to_string(file.path()).ok().and_then(|text| text.parse().ok());
                    self.attempts.insert(key, attempts.unwrap_or(1));
                }
                Kind::Code => {
                    let Ok(about) = file.metadata() else { continue };
                    let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    self.held.insert(key, Held { bytes: about.len(), used });
                }
            }
        }
        self.count();
    }

    /// The codes that are there, the last used first.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.held.keys().copied().collect();
        keys.sort_by_key(|key| (std::cmp::Reverse(self.held[key].used), key.hash));
        keys
    }

    /// Whether earlier attempts to compile this code ended with the process.
    pub(crate) fn is_dangerous(&self, key: &Key) -> bool {
        self.attempts.get(key).is_some_and(|attempts| *attempts >= ATTEMPTS_MAX)
    }

    /// Notes that a compilation begins; [`Self::end`] must follow.
    pub(crate) fn begin(&mut self, key: Key) {
        let attempts = self.attempts.entry(key).or_insert(0);
        *attempts += 1;
        let text = attempts.to_string();
        let path = self.path(&key, Kind::Compiling);
        // Without the note the code is merely tried again.
        let _ = fs::remove_file(&path);
        let _ = write_new(&path, text.as_bytes());
    }

    /// Notes that a compilation ended, well or not.
    pub(crate) fn end(&mut self, key: Key) {
        self.attempts.remove(&key);
        self.remove(&self.path(&key, Kind::Compiling));
    }

    /// Reads a code. What is not in order is refused and, where it is ours to remove, removed.
    pub(crate) fn read(&mut self, key: &Key) -> Option<Artifact> {
        self.held.get(key)?;
        let path = self.path(key, Kind::Code);
        match self.read_checked(key, &path) {
            Ok((artifact, file)) => {
                let now = SystemTime::now();
                if file.set_modified(now).is_ok()
                    && let Some(held) = self.held.get_mut(key)
                {
                    held.used = now;
                }
                self.counters.disk_hits.fetch_add(1, Relaxed);
                Some(artifact)
            }
            Err(reason) => {
                self.counters.refuse_file(reason);
                tracing::warn!(
                    file = %path.display(),
                    reason = reason.label(),
                    "a file of compiled code is refused: the code will be compiled again"
                );
                self.held.remove(key);
                if matches!(reason, DiskRefusal::Damaged | DiskRefusal::Foreign) {
                    self.remove(&path);
                }
                self.count();
                None
            }
        }
    }

    fn read_checked(&self, key: &Key, path: &Path) -> Result<(Artifact, File), DiskRefusal> {
        // A link is not followed, a pipe is not waited for; what is looked at is what was opened.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path);
        let mut file = opened.map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => DiskRefusal::Untrusted,
            _ => DiskRefusal::Unreadable,
        })?;
        let about = file.metadata().map_err(|_| DiskRefusal::Unreadable)?;
        if !about.is_file() || about.uid() != self.owner || about.mode() & 0o022 != 0 || about.nlink() != 1 {
            return Err(DiskRefusal::Untrusted);
        }
        if about.len() > FILE_BYTES_MAX {
            return Err(DiskRefusal::Damaged);
        }
        let mut bytes = Vec::with_capacity(about.len() as usize);
        (&mut file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|_| DiskRefusal::Unreadable)?;
        decode(&bytes, key, &self.fingerprint).map(|artifact| (artifact, file))
    }

    /// Writes a code. A failure costs only the next start's time.
    pub(crate) fn write(&mut self, key: Key, artifact: &Artifact) {
        let bytes = encode(&key, artifact);
        if bytes.len() as u64 > self.bytes_max.min(FILE_BYTES_MAX) {
            return;
        }
        let path = self.path(&key, Kind::Code);
        let unfinished = path.with_extension("tmp");
        let _ = fs::remove_file(&unfinished);
        let written = write_new(&unfinished, &bytes).and_then(|_| fs::rename(&unfinished, &path));
        match written {
            Ok(()) => {
                self.counters.disk_writes.fetch_add(1, Relaxed);
                self.held.insert(key, Held { bytes: bytes.len() as u64, used: SystemTime::now() });
            }
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                if self.counters.disk_failures.fetch_add(1, Relaxed) == 0 {
                    tracing::warn!(%error, file = %path.display(), "compiled code cannot be kept on disk");
                }
            }
        }
        self.prune();
    }

    /// Removes the files that were used longest ago, until the rest fits.
    fn prune(&mut self) {
        let mut keys = self.keys();
        while self.total() > self.bytes_max
            && let Some(oldest) = keys.pop()
        {
            self.held.remove(&oldest);
            self.remove(&self.path(&oldest, Kind::Code));
        }
        self.count();
    }

    fn total(&self) -> u64 {
        self.held.values().map(|held| held.bytes).sum()
    }

    fn count(&self) {
        self.counters.disk_bytes.store(self.total(), Relaxed);
    }

    fn path(&self, key: &Key, kind: Kind) -> PathBuf {
        let hash = alloy_primitives::hex::encode(key.hash);
        let fingerprint = alloy_primitives::hex::encode(&self.fingerprint.0[..8]);
        let extension = match kind {
            Kind::Code => "jit",
            Kind::Compiling => "compiling",
        };
        self.folder.join(format!("{hash}-{}-{fingerprint}.{extension}", key.spec as u8))
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %path.display(), "a file of compiled code cannot be removed");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Compiling,
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Key, first bytes of the fingerprint and kind of a file by its name; `None`: not ours.
fn parse_name(name: &str) -> Option<(Key, [u8; 8], Kind)> {
    let (stem, extension) = name.rsplit_once('.')?;
    let kind = match extension {
        "jit" => Kind::Code,
        "compiling" => Kind::Compiling,
        _ => return None,
    };
    let mut parts = stem.splitn(3, '-');
    let (hash, spec, fingerprint) = (parts.next()?, parts.next()?, parts.next()?);
    let mut bytes = [0; 32];
    alloy_primitives::hex::decode_to_slice(hash, &mut bytes).ok()?;
    let spec = SpecId::try_from_u8(spec.parse().ok()?)?;
    let mut short = [0; 8];
    alloy_primitives::hex::decode_to_slice(fingerprint, &mut short).ok()?;
    Some((Key { hash: B256::from(bytes), spec }, short, kind))
}

fn encode(key: &Key, artifact: &Artifact) -> Vec<u8> {
    let body = artifact.to_bytes();
    let mut out = Vec::with_capacity(HEADER + body.len() + CHECKSUM);
    out.extend(MAGIC);
    out.extend(key.hash);
    out.push(key.spec as u8);
    out.extend(artifact.fingerprint.0);
    out.extend((body.len() as u64).to_le_bytes());
    out.extend(body);
    let checksum = blake3::hash(&out);
    out.extend(checksum.as_bytes());
    out
}

fn decode(bytes: &[u8], key: &Key, fingerprint: &Fingerprint) -> Result<Artifact, DiskRefusal> {
    let (signed, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(DiskRefusal::Damaged)?;
    if blake3::hash(signed) != *checksum {
        return Err(DiskRefusal::Damaged);
    }
    let (header, body) = signed.split_first_chunk::<HEADER>().ok_or(DiskRefusal::Damaged)?;
    // The checksum holds: what differs from here on was written so, by another version or under another name.
    let expected =
        [&MAGIC[..], &key.hash[..], &[key.spec as u8], &fingerprint.0, &(body.len() as u64).to_le_bytes()];
    if *header != *expected.concat() {
        return Err(DiskRefusal::Foreign);
    }
    let artifact = Artifact::from_bytes(body).map_err(|_| DiskRefusal::Damaged)?;
    if artifact.fingerprint != *fingerprint || artifact.spec != key.spec {
        return Err(DiskRefusal::Foreign);
    }
    Ok(artifact)
}
