//! What is recent: the open blocks with their mini-blocks, and the newest sealed blocks, indexed by hash.

use crate::{Event, HistoryError};
use alloy_primitives::B256;
use hashbrown::HashMap;
use ironlane_types::{ExecutedTx, MiniBlock, SealedBlock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many transaction positions are forgotten under one hold of the lock.
pub(crate) const EVICT_STEP: usize = 512;

/// Where a transaction is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TxPosition {
    pub(crate) block: u64,
    pub(crate) index: u32,
    /// Height of its mini-block; 0 when the block was imported.
    pub(crate) mini_block: u64,
}

/// A sealed block in memory.
#[derive(Debug, Clone)]
pub(crate) struct Recent {
    pub(crate) block: Arc<SealedBlock>,
    pub(crate) mini_blocks: Vec<Arc<MiniBlock>>,
    pub(crate) bytes: usize,
}

/// A block that is still open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open {
    pub(crate) txs: Vec<Arc<ExecutedTx>>,
    pub(crate) mini_blocks: Vec<Arc<MiniBlock>>,
}

/// All of it; guarded by one lock in [`crate::History`].
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Newest sealed block. Kept even when everything else is evicted.
    pub(crate) head: Option<Arc<SealedBlock>>,
    /// Contiguous by number, oldest first; the last is `head` once anything was published.
    pub(crate) recent: VecDeque<Recent>,
    by_hash: HashMap<B256, u64>,
    pub(crate) open: BTreeMap<u64, Open>,
    txs: HashMap<B256, TxPosition>,
    mini_by_digest: HashMap<B256, u64>,
    /// Mini-blocks of `recent` and `open`, by height.
    minis: BTreeMap<u64, Arc<MiniBlock>>,
    /// Blocks up to here were in the archive when it was opened: what is published again below is checked, not new.
    pub(crate) restored: Option<u64>,
    /// Blocks published since, up to here: `None` before the first.
    pub(crate) published: Option<u64>,
    pub(crate) newest_mini_block: u64,
    pub(crate) state_version: u64,
    pub(crate) bytes: usize,
}

impl Memory {
    pub(crate) fn with_capacity(txs: usize) -> Self {
        // One allocation ahead of time: a growing table would stop publication while it moves.
        Memory { txs: HashMap::with_capacity(txs), ..Memory::default() }
    }

    /// Takes a durable mini-block. `Ok(None)`: it belongs to a block of the archive and is known.
    pub(crate) fn add_mini_block(&mut self, mini: Arc<MiniBlock>) -> Result<Option<Event>, HistoryError> {
        let (height, number) = (mini.header.height, mini.header.block_number);
        let refused = HistoryError::MiniBlockOutOfOrder { height, number };
        let again = self.restored.is_some_and(|restored| number <= restored);
        if !again && self.head.as_ref().is_some_and(|head| number <= head.header.number) {
            return Err(refused);
        }
        if self.minis.contains_key(&height) || self.published.is_some_and(|published| number <= published) {
            return if again { Ok(None) } else { Err(refused) };
        }
        if self.open.keys().next_back().is_some_and(|last| *last > number) {
            return Err(refused);
        }
        self.newest_mini_block = self.newest_mini_block.max(height);
        self.state_version = mini.state_version;
        let open = self.open.entry(number).or_default();
        for tx in &mini.txs {
            let position = TxPosition { block: number, index: tx.index_in_block, mini_block: height };
            self.txs.insert(tx.tx.hash, position);
            open.txs.push(tx.clone());
        }
        open.mini_blocks.push(mini.clone());
        self.mini_by_digest.insert(mini.digest, height);
        self.minis.insert(height, mini.clone());
        Ok(Some(Event::NewMiniBlock(mini)))
    }

    /// Takes a sealed block that does follow (see [`Self::follows`]).
    pub(crate) fn add_block(&mut self, block: Arc<SealedBlock>) -> Result<Event, HistoryError> {
        let number = block.header.number;
        // The first block after a start may have been open when its snapshot was taken: its earlier mini-blocks are
        // then not published again.
        if let Some(open) = self.open.get(&number)
            && open.txs.len() != block.txs.len()
            && self.published.is_some()
        {
            let (sealed, published) = (block.txs.len(), open.txs.len());
            return Err(HistoryError::AheadOfMiniBlocks { number, sealed, published });
        }
        let open = self.open.remove(&number);
        if open.as_ref().is_none_or(|open| open.txs.len() != block.txs.len()) {
            for tx in &block.txs {
                let position = TxPosition { block: number, index: tx.index_in_block, mini_block: 0 };
                self.txs.entry(tx.tx.hash).or_insert(position);
            }
        }
        let mini_blocks = open.map(|open| open.mini_blocks).unwrap_or_default();
        let bytes = block_bytes(&block) + mini_blocks.len() * 512;
        self.bytes += bytes;
        self.by_hash.insert(block.hash, number);
        self.recent.push_back(Recent { block: block.clone(), mini_blocks, bytes });
        self.published = Some(number);
        if self.head.as_ref().is_none_or(|head| head.header.number <= number) {
            self.head = Some(block.clone());
        }
        if self.open.is_empty() {
            self.state_version = block.state_version;
        }
        Ok(Event::NewBlock(block))
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Recent> {
        let first = self.recent.front()?.block.header.number;
        self.recent.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    pub(crate) fn number_of(&self, hash: &B256) -> Option<u64> {
        self.by_hash.get(hash).copied()
    }

    pub(crate) fn position(&self, hash: &B256) -> Option<TxPosition> {
        self.txs.get(hash).copied()
    }

    pub(crate) fn mini_block(&self, height: u64) -> Option<Arc<MiniBlock>> {
        self.minis.get(&height).cloned()
    }

    pub(crate) fn mini_block_by_digest(&self, digest: &B256) -> Option<Arc<MiniBlock>> {
        self.mini_block(*self.mini_by_digest.get(digest)?)
    }

    /// Takes the oldest sealed block off; its transactions are forgotten by [`Self::forget`].
    pub(crate) fn pop_oldest(&mut self) -> Option<Recent> {
        if self.recent.len() < 2 {
            return None;
        }
        let oldest = self.recent.pop_front()?;
        self.bytes -= oldest.bytes;
        self.by_hash.remove(&oldest.block.hash);
        for mini in &oldest.mini_blocks {
            self.mini_by_digest.remove(&mini.digest);
            self.minis.remove(&mini.header.height);
        }
        Some(oldest)
    }

    /// Forgets transactions of a block that was taken off.
    pub(crate) fn forget(&mut self, number: u64, txs: &[Arc<ExecutedTx>]) {
        for tx in txs {
            if let hashbrown::hash_map::Entry::Occupied(entry) = self.txs.entry(tx.tx.hash)
                && entry.get().block == number
            {
                entry.remove();
            }
        }
    }
}

/// Roughly what a block occupies in memory, its share of the indexes included.
pub(crate) fn block_bytes(block: &SealedBlock) -> usize {
    const FIXED: usize =
        size_of::<ExecutedTx>() + size_of::<ironlane_types::Tx>() + size_of::<TxPosition>() + 96;
    let txs: usize = block
        .txs
        .iter()
        .map(|tx| {
            let logs: usize = tx
                .outcome
                .logs
                .iter()
                .map(|log| 128 + 32 * log.data.topics().len() + log.data.data.len())
                .sum();
            // The envelope holds its own copy of the call data.
            FIXED + 2 * tx.tx.raw.len() + logs
        })
        .sum();
    1_500 + txs + 44 * block.withdrawals.as_ref().map_or(0, Vec::len) + 700 * block.ommers.len()
}
