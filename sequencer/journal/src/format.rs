//! The bytes on disk (`docs/formats.md`, sections *Journal* and *Signer slot*).

/// Unit of writing: commits begin and end on it.
pub const BLOCK: usize = 4096;

pub(crate) fn segment_name(index: u64) -> String {
    format!("journal-{index:016x}.seg")
}
