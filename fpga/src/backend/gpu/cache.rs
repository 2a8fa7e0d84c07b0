//! Compiled kernels on disk, so that a start does not wait for the compiler.
//!
//! A file is named after its key and holds: magic, key, length and BLAKE3 of the code, the code. The key covers everything
//! that the code depends on: source, options, target, driver. Whatever does not check out is compiled again.

use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"IRONLANE KERNEL1";
const HEADER: usize = 16 + 32 + 8 + 32;
/// Compiled kernels have some hundred kilobytes; a larger file is none of ours.
const FILE_MAX: u64 = 64 << 20;

/// What code depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(blake3::Hash);

impl Key {
    pub(super) fn new(source: &str, target: &str, options: &[&str], driver: &str) -> Key {
        let mut hasher = blake3::Hasher::new();
        for part in [&[source, target, driver], options].concat() {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Key(hasher.finalize())
    }
}

/// A folder of compiled kernels; without one nothing is kept.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// In `named`, or where programs of this user keep such things.
    pub(super) fn open(named: Option<&Path>) -> Cache {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = named
            .map(Path::to_path_buf)
            .or_else(|| variable("IRONLANE_CACHE_DIR"))
            .or_else(|| variable("XDG_CACHE_HOME").map(|home| home.join("ironlane")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/ironlane")));
        Cache { folder: folder.map(|folder| folder.join("kernels")) }
    }

    fn path(&self, key: Key) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{}.bin", key.0.to_hex())))
    }

    /// The code, if it is there and whole.
    pub(super) fn load(&self, key: Key) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        if std::fs::metadata(&path).ok()?.len() > FILE_MAX {
            return None;
        }
        let mut bytes = std::fs::read(&path).ok()?;
        let (header, code) = bytes.split_at_checked(HEADER)?;
        let intact = header[..16] == *MAGIC
            && header[16..48] == *key.0.as_bytes()
            && header[48..56] == (code.len() as u64).to_le_bytes()
            && header[56..] == *blake3::hash(code).as_bytes();
        if !intact {
            return None;
        }
        bytes.drain(..HEADER);
        Some(bytes)
    }

    /// Keeps code. A cache that cannot be written is no reason to fail, so nobody is told.
    pub(super) fn store(&self, key: Key, code: &[u8]) {
        let _ = self.try_store(key, code);
    }

    fn try_store(&self, key: Key, code: &[u8]) -> std::io::Result<()> {
        let Some(path) = self.path(key) else { return Ok(()) };
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // Written aside and renamed: a reader finds a whole file or none. Two writers write the same.
        let aside = folder.join(format!(".{}.{}", key.0.to_hex(), std::process::id()));
        let mut file = std::fs::File::create(&aside)?;
        let written = file
            .write_all(MAGIC)
            .and_then(|()| file.write_all(key.0.as_bytes()))
            .and_then(|()| file.write_all(&(code.len() as u64).to_le_bytes()))
            .and_then(|()| file.write_all(blake3::hash(code).as_bytes()))
            .and_then(|()| file.write_all(code))
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&aside, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&aside);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(target: &str) -> Key {
        Key::new("source", target, &["-a"], "12.4")
    }

    #[test]
    fn what_was_stored_is_found_under_its_own_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(folder.path()));
        assert_eq!(cache.load(key("sm_90")), None);
        cache.store(key("sm_90"), b"code");
        assert_eq!(cache.load(key("sm_90")).unwrap(), b"code");
        assert_eq!(cache.load(key("sm_80")), None);
        let others = [
            Key::new("sourc", "sm_90", &["-a"], "12.4"),
            Key::new("source", "sm_90", &["-a", "-b"], "12.4"),
            Key::new("source", "sm_90", &["-a"], "12.5"),
            // The same bytes, cut elsewhere.
            Key::new("source", "sm_90-a", &[], "12.4"),
        ];
        for other in others {
            assert_ne!(other, key("sm_90"));
            assert_eq!(cache.load(other), None);
        }
        cache.store(key("sm_90"), b"newer");
        assert_eq!(cache.load(key("sm_90")).unwrap(), b"newer");
        let files = std::fs::read_dir(folder.path().join("kernels")).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside the file");
    }

    #[test]
    fn a_damaged_file_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(folder.path()));
        let code: Vec<u8> = (0..200u8).collect();
        cache.store(key("sm_90"), &code);
        let path = cache.path(key("sm_90")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), HEADER + code.len());
        for at in 0..whole.len() {
            for bit in [0x01, 0x80] {
                let mut damaged = whole.clone();
                damaged[at] ^= bit;
                std::fs::write(&path, &damaged).unwrap();
                assert_eq!(cache.load(key("sm_90")), None, "bit {bit:#x} of byte {at}");
            }
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.load(key("sm_90")), None, "cut to {length} bytes");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert_eq!(cache.load(key("sm_90")), None, "one byte too many");
        // A whole file under another's name.
        std::fs::write(cache.path(key("sm_80")).unwrap(), &whole).unwrap();
        assert_eq!(cache.load(key("sm_80")), None);
        cache.store(key("sm_90"), &code);
        assert_eq!(cache.load(key("sm_90")).unwrap(), code, "the next store heals it");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        std::fs::write(&file, b"").unwrap();
        let cache = Cache::open(Some(&file));
        cache.store(key("sm_90"), b"code");
        assert_eq!(cache.load(key("sm_90")), None);
    }
}
