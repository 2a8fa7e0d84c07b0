//! Which segments there are, which of them count, and in which order.

use crate::disk::Folder;
use crate::disk::fs::SLOT_NAME;
use crate::format::{self, BLOCK, SLOT_PAGES, SegmentHeader, Unusable, VERSION};
use crate::{JournalError, Lsn, RecordPos, SignerSlot};
use std::io;
use std::path::PathBuf;

/// A segment file with a valid header.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    /// Bytes of the file.
    pub(crate) len: u64,
}

/// A segment file without one: written ahead and never used, or torn, or damaged.
#[derive(Debug, Clone)]
pub(crate) struct Blank {
    pub(crate) index: u64,
    pub(crate) name: String,
    pub(crate) len: u64,
}

/// All segment files of a folder.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Those that make up the journal, in order; their bases rise.
    pub(crate) segments: Vec<Segment>,
    /// Those that hold only an abandoned tail: a later segment begins at or before their base.
    pub(crate) superseded: Vec<Segment>,
    pub(crate) blanks: Vec<Blank>,
}

pub(crate) fn io_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.into();
    move |source| JournalError::Io { action, path, source }
}

/// Reads until `out` is full or the file ends; says how much there was.
pub(crate) fn read_full(folder: &dyn Folder, name: &str, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match folder.read(name, offset + filled as u64, &mut out[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn check_identity(file: &str, found: &[u8; 32], expected: Option<&[u8; 32]>) -> Result<(), JournalError> {
    match expected {
        Some(expected) if expected != found => Err(JournalError::ForeignIdentity {
            file: file.to_owned(),
            found: format::hex(found),
            expected: format::hex(expected),
        }),
        _ => Ok(()),
    }
}

impl Survey {
    pub(crate) fn take(folder: &dyn Folder, identity: Option<&[u8; 32]>) -> Result<Self, JournalError> {
        let mut files: Vec<(u64, String, u64)> = folder
            .list()
            .map_err(io_error("list", "the journal's folder"))?
            .into_iter()
            .filter_map(|(name, len)| Some((format::segment_index(&name)?, name, len)))
            .collect();
        files.sort_unstable();
        let mut survey = Survey::default();
        let mut valid: Vec<Segment> = Vec::new();
        let mut block = vec![0; BLOCK];
        for (index, name, len) in files {
            let at = RecordPos { lsn: 0, segment: index, offset: 0 };
            let read = read_full(folder, &name, 0, &mut block)
                .map_err(|source| JournalError::Unreadable { at, source })?;
            match SegmentHeader::decode(&block[..read]) {
                Ok(header) if header.index == index => {
                    check_identity(&name, &header.identity, identity)?;
                    valid.push(Segment { name, header, len });
                }
                // A recycled file still has the header of its former life.
                Ok(_) | Err(Unusable::Blank) => survey.blanks.push(Blank { index, name, len }),
                Err(Unusable::Newer(found)) => {
                    return Err(JournalError::NewerVersion { file: name, found, supported: VERSION });
                }
            }
        }
        let mut lowest = Lsn::MAX;
        for segment in valid.into_iter().rev() {
            if segment.header.base < lowest {
                lowest = segment.header.base;
                survey.segments.push(segment);
            } else {
                survey.superseded.push(segment);
            }
        }
        survey.segments.reverse();
        Ok(survey)
    }

    /// Index of the newest segment that was ever begun.
    pub(crate) fn newest_index(&self) -> Option<u64> {
        self.segments.iter().chain(&self.superseded).map(|s| s.header.index).max()
    }

    /// There is no segment with a valid header: fine if the folder was never used.
    pub(crate) fn check_unused(&self, folder: &dyn Folder, slot_durable: Lsn) -> Result<(), JournalError> {
        if let Some(blank) = self.written_blank(folder)? {
            let at = RecordPos { lsn: 1, segment: blank.index, offset: 0 };
            let what = "records are there, but no segment has a readable header".to_owned();
            return Err(JournalError::Damaged { at, what, proven: slot_durable.max(1) });
        }
        match slot_durable {
            0 => Ok(()),
            proven => Err(JournalError::BehindSlot { tip: 0, proven }),
        }
    }

    /// Why no segment holds `from`: it was recycled, or its header is damaged.
    pub(crate) fn missing_start(&self, folder: &dyn Folder, from: Lsn) -> JournalError {
        let Some(first) = self.segments.first().map(|s| s.header) else {
            return JournalError::Ahead { from, tip: 0 };
        };
        match self.written_blank(folder) {
            Err(error) => error,
            Ok(Some(blank)) if blank.index < first.index => JournalError::Damaged {
                at: RecordPos { lsn: from, segment: blank.index, offset: 0 },
                what: "the segment's header was altered".to_owned(),
                proven: first.base - 1,
            },
            Ok(_) => JournalError::Gone { from, first: first.base },
        }
    }

    /// A blank segment that holds something after its header's block: it was used.
    fn written_blank(&self, folder: &dyn Folder) -> Result<Option<&Blank>, JournalError> {
        let mut chunk = vec![0; 1 << 20];
        for blank in &self.blanks {
            let mut offset = BLOCK as u64;
            while offset < blank.len {
                let at = RecordPos { lsn: 0, segment: blank.index, offset };
                let read = read_full(folder, &blank.name, offset, &mut chunk)
                    .map_err(|source| JournalError::Unreadable { at, source })?;
                if chunk[..read].iter().any(|b| *b != 0) {
                    return Ok(Some(blank));
                }
                if read == 0 {
                    break;
                }
                offset += read as u64;
            }
        }
        Ok(None)
    }
}

/// Newest page of the signer slot; `None` when it was never written.
pub(crate) fn read_slot(
    folder: &dyn Folder,
    identity: Option<&[u8; 32]>,
) -> Result<Option<SignerSlot>, JournalError> {
    let files = folder.list().map_err(io_error("list", "the journal's folder"))?;
    if !files.iter().any(|(name, _)| name == SLOT_NAME) {
        return Ok(None);
    }
    let mut pages = vec![0; SLOT_PAGES as usize * BLOCK];
    let read = read_full(folder, SLOT_NAME, 0, &mut pages).map_err(io_error("read", SLOT_NAME))?;
    let mut newest: Option<SignerSlot> = None;
    let mut written = 0;
    for page in pages[..read].chunks(BLOCK) {
        written += usize::from(page.iter().any(|b| *b != 0));
        match format::decode_slot(page) {
            Ok((slot, found)) => {
                check_identity(SLOT_NAME, &found, identity)?;
                if newest.is_none_or(|n| slot.generation > n.generation) {
                    newest = Some(slot);
                }
            }
            Err(Unusable::Blank) => {}
            Err(Unusable::Newer(found)) => {
                return Err(JournalError::NewerVersion { file: SLOT_NAME.into(), found, supported: VERSION });
            }
        }
    }
    // One written page that cannot be read may be the very first one, torn; more cannot.
    if newest.is_none() && written > 1 {
        let what = format!("{written} pages are written, none has a valid checksum");
        return Err(JournalError::SlotDamaged { file: SLOT_NAME.into(), what });
    }
    Ok(newest)
}
