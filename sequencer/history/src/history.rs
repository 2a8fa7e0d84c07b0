//! The handle: publication, and every question that can be asked.

use crate::archive::Archive;
use crate::events::Events;
use crate::memory::{Memory, Open, Recent, TxPosition};
use crate::writer::{self, Signals};
use crate::{FoundLog, HistoryConfig, HistoryError, Interest, LogFilter, Subscription};
use alloy_consensus::Header;
use alloy_primitives::B256;
use ironlane_types::{ExecutedTx, MiniBlock, SealedBlock};
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Decoded archive blocks kept for the next question about them.
const CACHED_BLOCKS: usize = 8;

/// What the handle and the writer thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) memory: RwLock<Memory>,
    pub(crate) archive: Option<Archive>,
    pub(crate) signals: Signals,
    pub(crate) config: HistoryConfig,
    events: Events,
    cache: Mutex<VecDeque<Arc<SealedBlock>>>,
}

/// Ends the writer thread when the last handle goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What has been published. Cheap to clone; see the crate's introduction.
#[derive(Debug, Clone)]
pub struct History(Arc<Owner>);

/// A block's header with what else identifies it.
#[derive(Debug, Clone)]
pub struct BlockHead {
    /// Keccak-256 of the header.
    pub hash: B256,
    /// The header.
    pub header: Header,
    /// Version of the state store after this block.
    pub state_version: u64,
    /// How many transactions.
    pub tx_count: u32,
}

/// A block that is still open: what is durable of it.
#[derive(Debug, Clone)]
pub struct OpenBlock {
    /// Its height.
    pub number: u64,
    /// Transactions so far.
    pub txs: Vec<Arc<ExecutedTx>>,
    /// Its mini-blocks so far.
    pub mini_blocks: Vec<Arc<MiniBlock>>,
}

/// Where a transaction stands.
#[derive(Debug, Clone)]
pub enum TxPlace {
    /// In a sealed block.
    Sealed(Box<BlockHead>),
    /// In a block that is open, or closed without a hash yet: the digest of its mini-block stands for the hash.
    Open {
        /// Digest of the mini-block.
        digest: B256,
        /// When the mini-block was sealed, in microseconds of Unix time.
        timestamp_us: u64,
    },
}

/// A transaction found by its hash.
#[derive(Debug, Clone)]
pub struct FoundTx {
    /// Height of its block.
    pub block_number: u64,
    /// The transaction, its outcome and its place in the block.
    pub tx: Arc<ExecutedTx>,
    /// Whether its block is sealed.
    pub place: TxPlace,
}

impl FoundTx {
    /// The block's hash, or the mini-block's digest while there is none.
    pub fn block_hash(&self) -> B256 {
        match &self.place {
            TxPlace::Sealed(head) => head.hash,
            TxPlace::Open { digest, .. } => *digest,
        }
    }
}

impl From<&SealedBlock> for BlockHead {
    fn from(block: &SealedBlock) -> Self {
        BlockHead {
            hash: block.hash,
            header: block.header.clone(),
            state_version: block.state_version,
            tx_count: block.txs.len() as u32,
        }
    }
}

impl History {
    /// Opens the archive in `dir` (`None`: memory only, older blocks are forgotten) and starts the writer thread. A torn
    /// tail of the archive is cut; [`Self::archived_up_to`] says what is left.
    pub fn open(dir: Option<&Path>, config: HistoryConfig) -> Result<Self, HistoryError> {
        let archive = dir.map(|dir| Archive::open(dir, &config)).transpose()?;
        let mut memory = Memory::with_capacity(config.expected_txs);
        if let Some(archive) = &archive
            && let Some(newest) = archive.written()
        {
            let head = archive.block(newest)?.map(Arc::new);
            memory.newest_mini_block = newest_mini_block(archive, newest)?;
            memory.state_version = head.as_ref().map_or(0, |head| head.state_version);
            memory.head = head;
            memory.restored = Some(newest);
        }
        let shared = Arc::new(Shared {
            memory: RwLock::new(memory),
            archive,
            signals: Signals::default(),
            config,
            events: Events::default(),
            cache: Mutex::default(),
        });
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || writer::run(&for_thread))
            .map_err(|error| {
                HistoryError::io("start the thread of", dir.unwrap_or(Path::new("history")), error)
            })?;
        Ok(History(Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) })))
    }

    fn memory(&self) -> parking_lot::RwLockReadGuard<'_, Memory> {
        self.0.shared.memory.read()
    }

    fn archive(&self) -> Option<&Archive> {
        self.0.shared.archive.as_ref()
    }

    // ---- publication ----

    /// Publishes a mini-block that is durable. They come in order; those of block N + 1 may come before block N is
    /// sealed, those of block N must all come before it. At recovery, mini-blocks of archived blocks are accepted again.
    pub fn publish_mini_block(&self, mini_block: MiniBlock) -> Result<Arc<MiniBlock>, HistoryError> {
        let mini_block = Arc::new(mini_block);
        let event = self.0.shared.memory.write().add_mini_block(mini_block.clone())?;
        if let Some(event) = event {
            self.0.shared.events.send(&event);
        }
        Ok(mini_block)
    }

    /// Publishes a sealed block; genesis, the first, too. A block that is there already is checked by its hash and
    /// otherwise ignored. Waits for the disk when the blocks that are not archived yet exceed the memory budget.
    pub fn publish_block(&self, block: SealedBlock) -> Result<(), HistoryError> {
        let shared = &self.0.shared;
        let number = block.header.number;
        if shared.archive.is_some() {
            shared.signals.wait_for_room(|| self.unarchived_bytes_exceed_budget())?;
        }
        let known = self.hash_of(number)?;
        if let Some(known) = known.filter(|known| *known != block.hash) {
            return Err(HistoryError::HashMismatch { number, known, offered: block.hash });
        }
        let event = {
            let mut memory = shared.memory.write();
            if memory.published.is_some_and(|published| number <= published) && known.is_some() {
                return Ok(());
            }
            let head = memory.head.as_ref().map(|head| (head.header.number, head.hash));
            let in_order = memory.published.is_none_or(|published| number == published + 1);
            let chained =
                head.is_none_or(|(head, hash)| number != head + 1 || block.header.parent_hash == hash);
            if !in_order || !chained {
                return Err(HistoryError::OutOfOrder { number, head: head.map_or(0, |(head, _)| head) });
            }
            memory.add_block(Arc::new(block))?
        };
        if known.is_none() {
            shared.events.send(&event);
        }
        shared.signals.wake();
        Ok(())
    }

    fn hash_of(&self, number: u64) -> Result<Option<B256>, HistoryError> {
        if let Some(recent) = self.memory().block(number) {
            return Ok(Some(recent.block.hash));
        }
        match self.archive() {
            Some(archive) => Ok(archive.head(number)?.map(|head| head.block.hash)),
            None => Ok(None),
        }
    }

    fn unarchived_bytes_exceed_budget(&self) -> bool {
        let written = self.archive().and_then(|archive| archive.written());
        let memory = self.memory();
        let unarchived = memory.recent.iter().rev();
        let bytes: usize = unarchived
            .take_while(|recent| written.is_none_or(|written| recent.block.header.number > written))
            .map(|recent| recent.bytes)
            .sum();
        bytes > self.0.shared.config.memory_bytes
    }

    // ---- blocks ----

    /// The newest sealed block; `None` before genesis is published.
    pub fn head(&self) -> Option<Arc<SealedBlock>> {
        self.memory().head.clone()
    }

    /// Number of the newest sealed block.
    pub fn head_number(&self) -> Option<u64> {
        self.memory().head.as_ref().map(|head| head.header.number)
    }

    /// A sealed block by number. `None`: there is none, or it is forgotten (memory only).
    pub fn block(&self, number: u64) -> Result<Option<Arc<SealedBlock>>, HistoryError> {
        {
            let memory = self.memory();
            if let Some(recent) = memory.block(number) {
                return Ok(Some(recent.block.clone()));
            }
            if let Some(head) = memory.head.as_ref().filter(|head| head.header.number == number) {
                return Ok(Some(head.clone()));
            }
        }
        let Some(archive) = self.archive() else { return Ok(None) };
        if let Some(block) = self.0.shared.cache.lock().iter().find(|block| block.header.number == number) {
            return Ok(Some(block.clone()));
        }
        let Some(block) = archive.block(number)?.map(Arc::new) else { return Ok(None) };
        let mut cache = self.0.shared.cache.lock();
        cache.push_back(block.clone());
        if cache.len() > CACHED_BLOCKS {
            cache.pop_front();
        }
        Ok(Some(block))
    }

    /// A sealed block by its hash.
    pub fn block_by_hash(&self, hash: &B256) -> Result<Option<Arc<SealedBlock>>, HistoryError> {
        self.number_of_hash(hash)?.map_or(Ok(None), |number| self.block(number))
    }

    /// Number of the sealed block with this hash.
    pub fn number_of_hash(&self, hash: &B256) -> Result<Option<u64>, HistoryError> {
        {
            let memory = self.memory();
            if let Some(number) = memory.number_of(hash) {
                return Ok(Some(number));
            }
            if let Some(head) = memory.head.as_ref().filter(|head| head.hash == *hash) {
                return Ok(Some(head.header.number));
            }
        }
        self.archive().map_or(Ok(None), |archive| archive.number_of(hash))
    }

    /// Header, hash and counts of a sealed block, without reading its transactions.
    pub fn block_head(&self, number: u64) -> Result<Option<BlockHead>, HistoryError> {
        {
            let memory = self.memory();
            let head = memory.head.as_ref().filter(|head| head.header.number == number);
            if let Some(block) = memory.block(number).map(|recent| &recent.block).or(head) {
                return Ok(Some(BlockHead::from(&**block)));
            }
        }
        let Some(archive) = self.archive() else { return Ok(None) };
        Ok(archive
            .head(number)?
            .map(|head| BlockHead { tx_count: head.tx_count, ..BlockHead::from(&head.block) }))
    }

    /// Blocks above the newest sealed one that have durable mini-blocks, lowest first: at most one that is closed and
    /// waits for its hash, and the open one.
    pub fn open_blocks(&self) -> Vec<OpenBlock> {
        let memory = self.memory();
        memory.open.iter().map(|(number, open)| open_block(*number, open)).collect()
    }

    /// The durable part of a block that is not sealed.
    pub fn open_block(&self, number: u64) -> Option<OpenBlock> {
        self.memory().open.get(&number).map(|open| open_block(number, open))
    }

    // ---- transactions ----

    /// A transaction by its hash.
    pub fn transaction(&self, hash: &B256) -> Result<Option<FoundTx>, HistoryError> {
        {
            let memory = self.memory();
            if let Some(position) = memory.position(hash)
                && let Some(found) = in_memory(&memory, position)
            {
                return Ok(Some(found));
            }
        }
        let Some(archive) = self.archive() else { return Ok(None) };
        let Some((block_number, tx)) = archive.tx(hash)? else { return Ok(None) };
        let Some(head) = self.block_head(block_number)? else { return Ok(None) };
        Ok(Some(FoundTx { block_number, tx: Arc::new(tx), place: TxPlace::Sealed(Box::new(head)) }))
    }

    /// A transaction by its place in a block, sealed or open.
    pub fn transaction_at(&self, number: u64, index: u32) -> Result<Option<FoundTx>, HistoryError> {
        {
            let memory = self.memory();
            let mini_block = memory.open.get(&number).and_then(|open| {
                open.mini_blocks.iter().find(|mini| mini.txs.iter().any(|tx| tx.index_in_block == index))
            });
            let mini_block = mini_block.map_or(0, |mini| mini.header.height);
            if let Some(found) = in_memory(&memory, TxPosition { block: number, index, mini_block }) {
                return Ok(Some(found));
            }
        }
        let Some(archive) = self.archive() else { return Ok(None) };
        let Some(tx) = archive.tx_at(number, index)? else { return Ok(None) };
        let Some(head) = self.block_head(number)? else { return Ok(None) };
        Ok(Some(FoundTx { block_number: number, tx: Arc::new(tx), place: TxPlace::Sealed(Box::new(head)) }))
    }

    // ---- mini-blocks ----

    /// Height of the newest durable mini-block; 0 when there is none.
    pub fn newest_mini_block(&self) -> u64 {
        self.memory().newest_mini_block
    }

    /// A mini-block by its height, with its transactions.
    pub fn mini_block(&self, height: u64) -> Result<Option<Arc<MiniBlock>>, HistoryError> {
        if let Some(mini) = self.memory().mini_block(height) {
            return Ok(Some(mini));
        }
        let Some(archive) = self.archive() else { return Ok(None) };
        let Some(number) = archive.block_of_mini_block(height)? else { return Ok(None) };
        let mini = archive.mini_blocks(number)?.into_iter().find(|mini| mini.header.height == height);
        mini.map_or(Ok(None), |mini| self.with_txs(number, mini))
    }

    /// A recent mini-block by its digest (those of blocks in memory).
    pub fn mini_block_by_digest(&self, digest: &B256) -> Option<Arc<MiniBlock>> {
        self.memory().mini_block_by_digest(digest)
    }

    /// The mini-block that a transaction is in, and its place there. `None`: unknown, or in an imported block.
    pub fn mini_block_of(&self, tx: &B256) -> Result<Option<(Arc<MiniBlock>, u32)>, HistoryError> {
        let found = {
            let memory = self.memory();
            memory.position(tx).and_then(|position| memory.mini_block(position.mini_block))
        };
        let found = match (found, self.archive()) {
            (Some(found), _) => Some(found),
            (None, Some(archive)) => {
                let Some(tx) = self.transaction(tx)? else { return Ok(None) };
                let covers = |mini: &MiniBlock| {
                    (mini.header.first_seq..mini.header.first_seq + u64::from(mini.header.tx_count))
                        .contains(&tx.tx.seq)
                };
                let mini = archive.mini_blocks(tx.block_number)?.into_iter().find(covers);
                mini.map_or(Ok(None), |mini| self.with_txs(tx.block_number, mini))?
            }
            (None, None) => None,
        };
        Ok(found.and_then(|mini| {
            let place = mini.txs.iter().position(|candidate| candidate.tx.hash == *tx)?;
            Some((mini, place as u32))
        }))
    }

    /// The archive holds mini-blocks without transactions; they are a stretch of the block's.
    fn with_txs(&self, number: u64, mut mini: MiniBlock) -> Result<Option<Arc<MiniBlock>>, HistoryError> {
        let Some(block) = self.block(number)? else { return Ok(None) };
        let start = block.txs.partition_point(|tx| tx.seq < mini.header.first_seq);
        mini.txs = block.txs[start..].iter().take(mini.header.tx_count as usize).cloned().collect();
        Ok(Some(Arc::new(mini)))
    }

    // ---- state versions ----

    /// Version of the state store after the newest durable mini-block (or the newest sealed block, when no block above
    /// it has a mini-block): what a query at `latest` reads.
    pub fn durable_state_version(&self) -> u64 {
        self.memory().state_version
    }

    /// Says which version is durable when nothing was published since the start (a snapshot without later journal).
    pub fn set_durable_state_version(&self, version: u64) {
        self.0.shared.memory.write().state_version = version;
    }

    /// Version of the state store after a sealed block.
    pub fn state_version_of(&self, number: u64) -> Result<Option<u64>, HistoryError> {
        Ok(self.block_head(number)?.map(|head| head.state_version))
    }

    // ---- logs ----

    /// Logs of the sealed blocks `from..=to` that the filter accepts, in order. Blocks whose bloom excludes them are not
    /// read. More than `limit` logs is an error, so that nobody takes a part for the whole.
    pub fn logs(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
        limit: usize,
    ) -> Result<Vec<FoundLog>, HistoryError> {
        let mut found = Vec::new();
        let Some(head) = self.head_number() else { return Ok(found) };
        for number in from..=to.min(head) {
            self.logs_of_block(number, filter, limit, &mut found)?;
        }
        Ok(found)
    }

    fn logs_of_block(
        &self,
        number: u64,
        filter: &LogFilter,
        limit: usize,
        found: &mut Vec<FoundLog>,
    ) -> Result<(), HistoryError> {
        let Some(head) = self.block_head(number)? else { return Ok(()) };
        if head.header.logs_bloom.is_zero() || !filter.may_match(&head.header.logs_bloom) {
            return Ok(());
        }
        let Some(block) = self.block(number)? else { return Ok(()) };
        logs_of(&block, filter, limit, found)
    }

    // ---- news and care ----

    /// Subscribes to what is published from now on.
    pub fn subscribe(&self, interest: Interest) -> Subscription {
        self.0.shared.events.subscribe(interest, self.0.shared.config.event_capacity)
    }

    /// Newest block that is archived on stable storage; `None` without an archive or before the first.
    pub fn archived_up_to(&self) -> Option<u64> {
        self.archive().and_then(Archive::synced)
    }

    /// Why the archive cannot take blocks now (it tries again every second unless a sync failed); `None` when all is well.
    pub fn archive_trouble(&self) -> Option<String> {
        self.0.shared.signals.trouble()
    }

    /// Bytes of recent blocks in memory (approximate).
    pub fn memory_bytes(&self) -> usize {
        self.memory().bytes
    }

    /// Waits until everything published so far is archived and on stable storage. Call it before the journal lets go of
    /// segments.
    pub fn flush(&self) -> Result<(), HistoryError> {
        if self.archive().is_none() {
            return Ok(());
        }
        self.0.shared.signals.flush()
    }

    /// Flushes, ends the writer thread and closes all subscriptions. Reading goes on working.
    pub fn close(&self) -> Result<(), HistoryError> {
        let flushed = self.flush();
        self.0.end();
        flushed
    }
}

/// Appends a block's wanted logs to `found`, and refuses once there are more than `limit`.
fn logs_of(
    block: &SealedBlock,
    filter: &LogFilter,
    limit: usize,
    found: &mut Vec<FoundLog>,
) -> Result<(), HistoryError> {
    for tx in &block.txs {
        for (place, log) in tx.outcome.logs.iter().enumerate() {
            if !filter.matches(log) {
                continue;
            }
            if found.len() == limit {
                return Err(HistoryError::TooManyLogs { limit });
            }
            found.push(FoundLog {
                block_number: block.header.number,
                block_hash: block.hash,
                block_timestamp: block.header.timestamp,
                tx_hash: tx.tx.hash,
                tx_index: u64::from(tx.index_in_block),
                log_index: u64::from(tx.first_log_index) + place as u64,
                log: log.clone(),
            });
        }
    }
    Ok(())
}

fn open_block(number: u64, open: &Open) -> OpenBlock {
    OpenBlock { number, txs: open.txs.clone(), mini_blocks: open.mini_blocks.clone() }
}

fn newest_mini_block(archive: &Archive, newest: u64) -> Result<u64, HistoryError> {
    let Some(number) = archive.block_of_mini_block(u64::MAX)? else { return Ok(0) };
    debug_assert!(number <= newest);
    // The newest block may have none; its record then names the height that comes next.
    if let Some(mini) = archive.mini_blocks(number)?.last() {
        return Ok(mini.header.height);
    }
    Ok(archive.next_mini_block().saturating_sub(1))
}

fn in_memory(memory: &Memory, position: TxPosition) -> Option<FoundTx> {
    let block_number = position.block;
    if let Some(Recent { block, .. }) = memory.block(block_number) {
        let tx = block.txs.get(position.index as usize)?.clone();
        return Some(FoundTx {
            block_number,
            tx,
            place: TxPlace::Sealed(Box::new(BlockHead::from(&**block))),
        });
    }
    let open = memory.open.get(&block_number)?;
    let first = open.txs.first()?.index_in_block;
    let tx = open.txs.get(position.index.checked_sub(first)? as usize)?.clone();
    let mini = memory.mini_block(position.mini_block)?;
    let place = TxPlace::Open { digest: mini.digest, timestamp_us: mini.header.timestamp_us };
    Some(FoundTx { block_number, tx, place })
}

impl Owner {
    fn end(&self) {
        self.shared.events.close();
        self.shared.signals.close();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the history's writer thread panicked");
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

impl LogFilter {
    /// The wanted logs of one block, in order: what a subscriber gets when the block is sealed.
    pub fn logs_of(&self, block: &SealedBlock) -> Vec<FoundLog> {
        let mut found = Vec::new();
        if self.may_match(&block.header.logs_bloom) {
            // Without a limit this cannot fail.
            let _ = logs_of(block, self, usize::MAX, &mut found);
        }
        found
    }
}
