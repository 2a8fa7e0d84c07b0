//! Where things lie in the data directory, and who may use it.

use anyhow::{Context, bail};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A data directory. Ephemeral ones are removed when this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    ephemeral: bool,
}

impl DataDir {
    /// Opens or makes the directory.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("the data directory {} cannot be made", path.display()))?;
        Ok(Self { path: path.to_path_buf(), ephemeral: false })
    }

    /// A temporary one, beside the configured place so that it lies on the same kind of disk.
    pub fn ephemeral(near: &Path) -> anyhow::Result<Self> {
        let parent = near.parent().filter(|parent| parent.is_dir()).unwrap_or(Path::new("."));
        let path = parent.join(format!(".ironlane-ephemeral-{}", std::process::id()));
        let path = match fs::create_dir(&path) {
            Ok(()) => path,
            Err(_) => {
                let path = std::env::temp_dir().join(format!("ironlane-ephemeral-{}", std::process::id()));
                fs::create_dir_all(&path).with_context(|| {
                    format!("the temporary data directory {} cannot be made", path.display())
                })?;
                path
            }
        };
        Ok(Self { path, ephemeral: true })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal's segments.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The signer's high-water mark.
    pub fn signer_slot(&self) -> PathBuf {
        self.path.join("signer.slot")
    }

    /// The sequencer's key.
    pub fn keystore(&self) -> PathBuf {
        self.path.join("sequencer-key.json")
    }

    /// Snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Archived blocks.
    pub fn archive(&self) -> PathBuf {
        self.path.join("archive")
    }

    /// Compiled code of hot contracts.
    pub fn jit_cache(&self) -> PathBuf {
        self.path.join("jit-cache")
    }

    /// The chain's genesis, as it was given at the first start; absent for the development chain.
    pub fn genesis(&self) -> PathBuf {
        self.path.join("genesis.json")
    }

    /// The genesis without its accounts, so that a start need not read them (`node::chain`).
    pub fn outline(&self) -> PathBuf {
        self.path.join("chain.json")
    }

    /// Keeps the genesis of the first start; another one later is refused.
    pub fn remember_genesis(&self, json: &[u8]) -> anyhow::Result<()> {
        let path = self.genesis();
        match fs::read(&path) {
            Ok(known) if known == json => Ok(()),
            Ok(_) => bail!(
                "{} was made with another genesis: use another --datadir, or the genesis in {}",
                self.path.display(),
                path.display()
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if self.journal().exists() {
                    bail!(
                        "{} belongs to the development chain: use another --datadir for this genesis",
                        self.path.display()
                    );
                }
                write_durably(&path, json)
            }
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }
}

/// Writes a file so that a crash leaves the whole of it or nothing.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let unfinished = path.with_extension("tmp");
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.ephemeral {
            // What cannot be removed is only disk space.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_genesis_is_refused_and_an_ephemeral_directory_goes_away() {
        let base = tempfile::tempdir().expect("tempdir");
        let dir = DataDir::open(&base.path().join("data")).expect("opens");
        dir.remember_genesis(b"one").expect("first");
        dir.remember_genesis(b"one").expect("same");
        assert!(dir.remember_genesis(b"two").expect_err("other").to_string().contains("another genesis"));
        let ephemeral = DataDir::ephemeral(&base.path().join("x")).expect("opens");
        let path = ephemeral.path().to_path_buf();
        assert!(path.is_dir());
        drop(ephemeral);
        assert!(!path.exists());
    }
}
