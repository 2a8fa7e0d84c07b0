//! The promise about one transaction, and its verification.

use crate::{Leaf, MerklePath, PromiseError, digest, recover};
use alloy_primitives::Address;
use ironlane_types::{MiniBlock, MiniBlockHeader};

/// A signed header, one of its transactions, and the path between them. JSON and wire forms: `docs/formats.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The mini-block.
    pub header: MiniBlockHeader,
    /// The sequencer's signature over the header's digest: r, s, parity (0 or 1).
    pub signature: [u8; 65],
    /// The transaction.
    pub leaf: Leaf,
    /// From the leaf to the header's root.
    pub path: MerklePath,
}

impl Promise {
    /// The promise about the transaction at `position` (from 0) of a signed mini-block; `None` when it has none there.
    /// It hashes all leaves; whoever needs many promises of one mini-block keeps the [`crate::MerkleTree`].
    pub fn of(mini_block: &MiniBlock, position: usize) -> Option<Promise> {
        let leaf = Leaf::of(mini_block.txs.get(position)?);
        let leaves = mini_block.txs.iter().map(|executed| Leaf::of(executed).hash()).collect();
        let path = crate::MerkleTree::new(leaves).path(position)?;
        Some(Promise { header: mini_block.header.clone(), signature: mini_block.signature, leaf, path })
    }

    /// Checks that `sequencer` promised, on the chain `chain_id`, that this transaction has this place and outcome.
    ///
    /// # Errors
    ///
    /// [`PromiseError`] naming the first thing that does not hold: place, path, signature, signer, in this order.
    pub fn verify(&self, chain_id: u64, sequencer: Address) -> Result<(), PromiseError> {
        let (first, count) = (self.header.first_seq, self.header.tx_count);
        let offset = self.leaf.seq.checked_sub(first).and_then(|offset| u32::try_from(offset).ok());
        let index = offset.filter(|offset| *offset < count);
        let index = index.ok_or(PromiseError::NotInMiniBlock { seq: self.leaf.seq, first, count })?;
        let root = self.path.root(self.leaf.hash(), index, count)?;
        if root != self.header.txs_root {
            return Err(PromiseError::WrongRoot { got: root, wanted: self.header.txs_root });
        }
        let signer = recover(digest(&self.header, chain_id), &self.signature)?;
        match signer == sequencer {
            true => Ok(()),
            false => Err(PromiseError::WrongSigner { got: signer, wanted: sequencer }),
        }
    }
}
