//! Reading without writing.

use crate::disk::Folder;
use crate::disk::fs::FsFolder;
use crate::scan::Scanner;
use crate::survey::{Survey, read_slot};
use crate::{JournalError, Lsn, RecordPos, SignerSlot};
use std::path::Path;
use std::sync::Arc;

/// Reads the records of a stopped node's journal in order. Writes nothing, locks nothing.
///
/// ```no_run
/// let mut reader = ironlane_journal::Reader::open("ironlane-data/journal".as_ref(), None, 1)?;
/// while let Some((at, payload)) = reader.next_record()? {
///     println!("{at}: {} bytes", payload.len());
/// }
/// # Ok::<(), ironlane_journal::JournalError>(())
/// ```
pub struct Reader {
    folder: Arc<dyn Folder>,
    /// `None`: there are no segments.
    scanner: Option<Scanner>,
    from: Lsn,
    slot: Option<SignerSlot>,
    ended: bool,
}

impl Reader {
    /// Opens the journal in `dir` at record `from` (1 is the first). Without an identity any chain's journal is read.
    pub fn open(dir: &Path, identity: Option<[u8; 32]>, from: Lsn) -> Result<Reader, JournalError> {
        Self::open_on(Arc::new(FsFolder::new(dir, None, false)), identity, from)
    }

    /// The same where the signer slot's file lies elsewhere ([`crate::JournalConfig::slot_file`]): what it proves durable
    /// must be there.
    pub fn open_with_slot(
        dir: &Path,
        slot_file: &Path,
        identity: Option<[u8; 32]>,
        from: Lsn,
    ) -> Result<Reader, JournalError> {
        Self::open_on(Arc::new(FsFolder::new(dir, Some(slot_file.to_path_buf()), false)), identity, from)
    }

    /// The same on a given folder.
    pub fn open_on(
        folder: Arc<dyn Folder>,
        identity: Option<[u8; 32]>,
        from: Lsn,
    ) -> Result<Reader, JournalError> {
        let slot = read_slot(&*folder, identity.as_ref())?;
        let survey = Survey::take(&*folder, identity.as_ref())?;
        let from = from.max(1);
        let durable = slot.map_or(0, |s| s.durable);
        let scanner = if survey.segments.is_empty() {
            survey.check_unused(&*folder, durable)?;
            None
        } else {
            Some(Scanner::new(&*folder, &survey, from, durable)?)
        };
        Ok(Self { folder, scanner, from, slot, ended: false })
    }

    /// What the signer slot beside the segments says.
    pub fn slot(&self) -> Option<&SignerSlot> {
        self.slot.as_ref()
    }

    /// The next record, or `None` at the end. A torn tail is an end; damage is an error with the position.
    pub fn next_record(&mut self) -> Result<Option<(RecordPos, &[u8])>, JournalError> {
        let Some(scanner) = self.scanner.as_mut().filter(|_| !self.ended) else { return Ok(None) };
        loop {
            match scanner.step(&*self.folder)? {
                None => {
                    self.ended = true;
                    return Ok(None);
                }
                Some(found) if found.pos.lsn >= self.from => {
                    return Ok(Some((found.pos, scanner.payload(&*self.folder, &found)?)));
                }
                Some(_) => {}
            }
        }
    }
}
