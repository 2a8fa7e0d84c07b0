//! A real folder.

use super::Folder;
use crate::format::BLOCK;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name under which the signer slot is known, wherever its file is.
pub(crate) const SLOT_NAME: &str = "signer.slot";

/// A folder of the file system.
#[derive(Debug, Clone)]
pub struct FsFolder {
    dir: PathBuf,
    slot_file: Option<PathBuf>,
    direct: bool,
}

impl FsFolder {
    /// The folder `dir`, which must exist. `slot_file`: where the signer slot is, if not there. `direct`: write with
    /// `O_DIRECT` where the data are aligned.
    pub fn new(dir: &Path, slot_file: Option<PathBuf>, direct: bool) -> Self {
        Self { dir: dir.to_path_buf(), slot_file, direct }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match &self.slot_file {
            Some(path) if name == SLOT_NAME => path.clone(),
            _ => self.dir.join(name),
        }
    }

    /// Whether `dir` takes direct, synchronous writes: writes one block to a file that is removed again.
    pub(crate) fn probe_direct(&self) -> io::Result<()> {
        let path = self.path("direct.probe");
        let block = crate::buffer::AlignedBuf::new(BLOCK)?;
        let result = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
            .open(&path)
            .and_then(|file| file.write_all_at(&block, 0));
        let _ = std::fs::remove_file(&path);
        result
    }

    fn sync_parent(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Folder for FsFolder {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                files.push((name, meta.len()));
            }
        }
        if let Some(meta) = self.slot_file.as_ref().and_then(|path| std::fs::metadata(path).ok()) {
            files.retain(|(name, _)| name != SLOT_NAME);
            files.push((SLOT_NAME.to_owned(), meta.len()));
        }
        Ok(files)
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match File::open(self.path(name))?.read_at(out, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write(&self, name: &str, offset: u64, data: &[u8], sync: bool) -> io::Result<()> {
        let aligned = offset.is_multiple_of(BLOCK as u64)
            && data.len().is_multiple_of(BLOCK)
            && (data.as_ptr() as usize).is_multiple_of(BLOCK);
        let flags = if self.direct && aligned { libc::O_DIRECT } else { 0 };
        let path = self.path(name);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
        file.write_all_at(data, offset)?;
        if sync {
            file.sync_all()?;
            self.sync_parent(name)?;
        }
        Ok(())
    }

    fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))?;
        self.sync_parent(to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))?;
        self.sync_parent(name)
    }
}
