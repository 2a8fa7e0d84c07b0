//! The signer slot: what the node has signed or is about to sign, in a file of its own.
//!
//! The journal alone is a high-water mark as long as it is whole. The slot says the same a second time, outside the
//! journal, so that a journal that was restored from a backup or lost its end is noticed before anything is signed twice.
//! A page is written with every group commit that holds a mark, in parallel with it; records are reported durable when
//! both are. Pages are used in turn, so that a torn page leaves the ones before it.

use crate::{Lsn, SignerError};

/// A mini-block that is to be signed once its record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignerMark {
    /// Height of the mini-block.
    pub height: u64,
    /// Its digest.
    pub digest: [u8; 32],
}

/// What the slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignerSlot {
    /// Counts the pages written, from 1.
    pub generation: u64,
    /// Newest mark that was known durable when the page was written: this may have been signed.
    pub signed: SignerMark,
    /// Newest mark of the commit that the page went with. It was signed only if the journal has its record.
    pub pending: SignerMark,
    /// Newest record that was known durable when the page was written.
    pub durable: Lsn,
}

/// Whether a node whose journal ends at mini-block `tip` may sign. Call it after replay, before the first signature.
/// `tip.height` is 0 for a journal without mini-blocks.
///
/// Only `signed` decides: a `pending` mark whose record is not in the journal was never signed, because a signature is made
/// only after the record is durable.
pub fn check_signer(tip: SignerMark, slot: Option<&SignerSlot>) -> Result<(), SignerError> {
    let Some(slot) = slot else {
        return if tip.height == 0 { Ok(()) } else { Err(SignerError::Missing { tip: tip.height }) };
    };
    let signed = slot.signed;
    if tip.height < signed.height {
        return Err(SignerError::Behind { tip: tip.height, signed: signed.height });
    }
    if tip.height == signed.height && tip.height != 0 && tip.digest != signed.digest {
        return Err(SignerError::Conflict { height: tip.height });
    }
    Ok(())
}
