//! Where the journal lives and how large its pieces are.

use crate::error::JournalError;
use crate::format::BLOCK;
use std::path::PathBuf;

/// Which way writes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Direct where the host can, buffered elsewhere; the status says which and why.
    #[default]
    Auto,
    /// io_uring with `O_DIRECT | O_DSYNC`, or an error that says why not.
    Direct,
    /// A writer thread with `pwrite` and `fdatasync`: for file systems without direct writes (tmpfs), and for kernels or
    /// containers that refuse io_uring.
    Buffered,
}

/// What becomes of segments that the caller has released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Every segment stays: the chain can be replayed from genesis.
    #[default]
    All,
    /// Released segments are recycled, but for the newest `n` of them.
    Newest(usize),
}

/// Everything that [`crate::Journal::open`] must know. [`JournalConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Folder of the segments; made when missing.
    pub dir: PathBuf,
    /// The signer slot's file; `None`: `signer.slot` in `dir`. Kept elsewhere (beside the key), it also catches a `dir`
    /// restored from a backup.
    pub slot_file: Option<PathBuf>,
    /// Digest of what the journal belongs to (chain id and genesis hash). Another identity is refused.
    pub identity: [u8; 32],
    /// Bytes of a full-grown segment. Segments grow to it fourfold each time, so that the first is ready at once.
    pub segment_bytes: u64,
    /// Bytes of the very first segment.
    pub first_segment_bytes: u64,
    /// Segments written ahead by the background thread.
    pub prewrite_ahead: usize,
    /// Largest group commit in bytes; there are `commits_in_flight + 1` buffers of this size.
    pub commit_bytes_max: usize,
    /// Group commits that may be under way at once, 1 to 4.
    pub commits_in_flight: usize,
    /// What becomes of released segments.
    pub keep: Keep,
    /// Which way writes take.
    pub backend: Backend,
}

impl JournalConfig {
    /// Defaults for a journal in `dir`.
    pub fn new(dir: impl Into<PathBuf>, identity: [u8; 32]) -> Self {
        Self {
            dir: dir.into(),
            slot_file: None,
            identity,
            segment_bytes: 64 << 20,
            first_segment_bytes: 1 << 20,
            prewrite_ahead: 1,
            commit_bytes_max: 8 << 20,
            commits_in_flight: 1,
            keep: Keep::All,
            backend: Backend::Auto,
        }
    }

    pub(crate) fn check(&self) -> Result<(), JournalError> {
        let block = BLOCK as u64;
        let bad = |what: String| Err(JournalError::Config(what));
        if self.commit_bytes_max < BLOCK || !self.commit_bytes_max.is_multiple_of(BLOCK) {
            return bad(format!(
                "commit_bytes_max is {}: choose a multiple of {BLOCK}",
                self.commit_bytes_max
            ));
        }
        if !self.segment_bytes.is_multiple_of(block) || !self.first_segment_bytes.is_multiple_of(block) {
            return bad(format!("segment_bytes and first_segment_bytes must be multiples of {BLOCK}"));
        }
        if self.segment_bytes < self.commit_bytes_max as u64 + block {
            return bad(format!(
                "segment_bytes is {}: it must hold one commit of commit_bytes_max ({}) and a header of {BLOCK}",
                self.segment_bytes, self.commit_bytes_max
            ));
        }
        if self.first_segment_bytes < 2 * block {
            return bad(format!(
                "first_segment_bytes is {}: at least {}",
                self.first_segment_bytes,
                2 * block
            ));
        }
        if !(1..=4).contains(&self.commits_in_flight) {
            return bad(format!("commits_in_flight is {}: choose 1 to 4", self.commits_in_flight));
        }
        if self.prewrite_ahead == 0 {
            return bad("prewrite_ahead is 0: at least one segment must be written ahead".into());
        }
        Ok(())
    }
}
