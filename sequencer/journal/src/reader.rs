//! Reading without writing.

use crate::{JournalError, Lsn, RecordPos};
use std::path::Path;

/// Reads the records of a stopped node's journal in order. Writes nothing, locks nothing.
pub struct Reader {}

impl Reader {
    /// Opens the journal in `dir` at record `from` (1 is the first). Without an identity any chain's journal is read.
    pub fn open(_dir: &Path, _identity: Option<[u8; 32]>, _from: Lsn) -> Result<Reader, JournalError> {
        unimplemented!()
    }

    /// The next record, or `None` at the end. A torn tail is an end; damage is an error with the position.
    pub fn next_record(&mut self) -> Result<Option<(RecordPos, &[u8])>, JournalError> {
        unimplemented!()
    }
}
