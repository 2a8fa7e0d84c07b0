//! Sealed blocks on disk, append-only, in segment files.
//!
//! One thread appends ([`Archive::append`], [`Archive::sync`]); any thread reads. A tail that a power cut left torn is
//! cut off when the archive is opened, and filled again by what the node publishes from its journal. Every part that
//! is read is checked against its checksum first.

mod record;
mod segment;
mod table;

use crate::memory::Recent;
use crate::{HistoryConfig, HistoryError};
use alloy_primitives::B256;
use ironlane_types::{ExecutedTx, MiniBlock, SealedBlock};
use parking_lot::{Mutex, RwLock};
use segment::{SEGMENT_HEADER_LEN, Segment, segment_header, segment_path};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything of an archived block but its transactions.
#[derive(Debug, Clone)]
pub(crate) struct ArchivedHead {
    pub(crate) block: SealedBlock,
    pub(crate) tx_count: u32,
}

/// The archive of one chain.
#[derive(Debug)]
pub(crate) struct Archive {
    dir: PathBuf,
    /// Oldest first; the last may be active.
    segments: RwLock<Vec<Arc<Segment>>>,
    appender: Mutex<Appender>,
    /// One past the newest block written and synced; 0 when there is none.
    synced_end: AtomicU64,
    segment_bytes: u64,
    segment_blocks: u32,
}

/// What only the writing thread needs.
#[derive(Debug)]
struct Appender {
    /// The active segment's file; `None` before the first block and after a segment was finished.
    file: Option<File>,
    len: u64,
    /// One past the newest block written; 0 when there is none.
    end: u64,
    next_mini_block: u64,
}

impl Archive {
    /// Opens the archive in `dir`, making the folder when it is not there. With it comes the newest block's number.
    pub(crate) fn open(dir: &Path, config: &HistoryConfig) -> Result<Self, HistoryError> {
        std::fs::create_dir_all(dir).map_err(|error| HistoryError::io("create", dir, error))?;
        let mut firsts = segment_numbers(dir)?;
        let mut segments = Vec::new();
        let mut appender = Appender { file: None, len: 0, end: 0, next_mini_block: 0 };
        let newest = firsts.pop();
        for first in firsts {
            let (segment, next) = match Segment::finished(dir, first)? {
                Some(found) => found,
                None => reindex(dir, first)?,
            };
            if segment.first != appender.end && !segments.is_empty() {
                tracing::warn!(
                    from = appender.end,
                    to = segment.first,
                    "the archive has no blocks in this range"
                );
            }
            appender.end = segment.first + segment.blocks();
            appender.next_mini_block = next;
            segments.push(Arc::new(segment));
        }
        if let Some(first) = newest {
            match Segment::finished(dir, first)? {
                Some((segment, next)) => {
                    appender.end = segment.first + segment.blocks();
                    appender.next_mini_block = next;
                    segments.push(Arc::new(segment));
                }
                None => segments.extend(open_newest(dir, first, &mut appender)?),
            }
        }
        Ok(Archive {
            dir: dir.to_path_buf(),
            segments: RwLock::new(segments),
            synced_end: AtomicU64::new(appender.end),
            appender: Mutex::new(appender),
            segment_bytes: config.segment_bytes.max(SEGMENT_HEADER_LEN + 1),
            segment_blocks: config.segment_blocks.max(1),
        })
    }

    /// Newest block written (it may not be synced yet).
    pub(crate) fn written(&self) -> Option<u64> {
        self.segments.read().last().and_then(|segment| (segment.first + segment.blocks()).checked_sub(1))
    }

    /// Height that the next mini-block has, as far as the archive knows.
    pub(crate) fn next_mini_block(&self) -> u64 {
        self.appender.lock().next_mini_block
    }

    /// Newest block on stable storage.
    pub(crate) fn synced(&self) -> Option<u64> {
        self.synced_end.load(Ordering::Acquire).checked_sub(1)
    }

    /// Appends a block above the newest. After an error the file is as before, as far as the system allows.
    pub(crate) fn append(&self, recent: &Recent) -> Result<(), HistoryError> {
        let mut appender = self.appender.lock();
        let number = recent.block.header.number;
        if appender.file.is_some() && (number != appender.end || self.is_full(&appender)) {
            self.finish_segment(&mut appender)?;
        }
        if appender.file.is_none() {
            self.start_segment(&mut appender, number)?;
        }
        let first_mini =
            recent.mini_blocks.first().map_or(appender.next_mini_block, |mini| mini.header.height);
        let bytes = record::encode(&recent.block, &recent.mini_blocks, first_mini).ok_or_else(|| {
            HistoryError::ArchiveStopped(format!("block {number} has more than 4 GiB of transactions"))
        })?;
        let Some(file) = appender.file.as_ref() else { return Ok(()) };
        if let Err(error) = file.write_all_at(&bytes, appender.len) {
            // What was half written would be taken for a torn tail at the next start; take it off now.
            let _ = file.set_len(appender.len);
            return Err(HistoryError::io("write", &segment_path(&self.dir, number), error));
        }
        if let Some(active) = self.segments.read().last() {
            active.note(
                appender.len,
                &recent.block.hash,
                first_mini,
                recent.block.txs.iter().map(|tx| &tx.tx.hash),
            );
        }
        appender.len += bytes.len() as u64;
        appender.end = number + 1;
        appender.next_mini_block =
            recent.mini_blocks.last().map_or(first_mini, |mini| mini.header.height + 1);
        Ok(())
    }

    /// Makes all that was appended durable. An error here is final: the system may have dropped the data.
    pub(crate) fn sync(&self) -> Result<(), HistoryError> {
        let appender = self.appender.lock();
        if let Some(file) = &appender.file {
            file.sync_data()
                .map_err(|error| HistoryError::ArchiveStopped(format!("fdatasync failed: {error}")))?;
        }
        self.synced_end.store(appender.end, Ordering::Release);
        Ok(())
    }

    /// A block's header and what goes with it, without its transactions.
    pub(crate) fn head(&self, number: u64) -> Result<Option<ArchivedHead>, HistoryError> {
        let Some(record) = self.record(number)? else { return Ok(None) };
        let head = record.head()?;
        let block = SealedBlock {
            hash: head.hash,
            header: head.header,
            txs: Vec::new(),
            withdrawals: head.withdrawals,
            ommers: head.ommers,
            state_version: head.state_version,
        };
        Ok(Some(ArchivedHead { block, tx_count: record.tx_count()? }))
    }

    /// A whole block.
    pub(crate) fn block(&self, number: u64) -> Result<Option<SealedBlock>, HistoryError> {
        let Some(mut head) = self.head(number)? else { return Ok(None) };
        let Some(record) = self.record(number)? else { return Ok(None) };
        head.block.txs = record.txs()?.into_iter().map(Arc::new).collect();
        Ok(Some(head.block))
    }

    /// Mini-blocks of a block, without their transactions.
    pub(crate) fn mini_blocks(&self, number: u64) -> Result<Vec<MiniBlock>, HistoryError> {
        self.record(number)?.map_or(Ok(Vec::new()), |record| record.mini_blocks())
    }

    /// The block that holds a mini-block height.
    pub(crate) fn block_of_mini_block(&self, height: u64) -> Result<Option<u64>, HistoryError> {
        for segment in self.newest_first() {
            if let Some(place) = segment.place_of_mini_block(height)? {
                // Blocks without mini-blocks share the height of the next one: the last of them is the one.
                return Ok(Some(segment.first + place));
            }
        }
        Ok(None)
    }

    /// Number of the block with this hash.
    pub(crate) fn number_of(&self, hash: &B256) -> Result<Option<u64>, HistoryError> {
        for segment in self.newest_first() {
            for place in segment.places_of_block(hash)? {
                let Some(record) = segment.record(place)? else { continue };
                if record.head()?.hash == *hash {
                    return Ok(Some(segment.first + place));
                }
            }
        }
        Ok(None)
    }

    /// A transaction by its hash, with its block's number.
    pub(crate) fn tx(&self, hash: &B256) -> Result<Option<(u64, ExecutedTx)>, HistoryError> {
        for segment in self.newest_first() {
            for (place, index) in segment.places_of_tx(hash)? {
                let Some(record) = segment.record(place)? else { continue };
                if let Some(tx) = record.tx(index)?
                    && tx.tx.hash == *hash
                {
                    return Ok(Some((segment.first + place, tx)));
                }
            }
        }
        Ok(None)
    }

    /// One transaction of a block.
    pub(crate) fn tx_at(&self, number: u64, index: u32) -> Result<Option<ExecutedTx>, HistoryError> {
        self.record(number)?.map_or(Ok(None), |record| record.tx(index))
    }

    fn record(&self, number: u64) -> Result<Option<segment::Record>, HistoryError> {
        let segment = {
            let segments = self.segments.read();
            let after = segments.partition_point(|segment| segment.first <= number);
            after.checked_sub(1).map(|at| segments[at].clone())
        };
        segment.map_or(Ok(None), |segment| segment.record(number - segment.first))
    }

    fn newest_first(&self) -> Vec<Arc<Segment>> {
        self.segments.read().iter().rev().cloned().collect()
    }

    fn is_full(&self, appender: &Appender) -> bool {
        let blocks = self.segments.read().last().map_or(0, |segment| segment.blocks());
        appender.len >= self.segment_bytes || blocks >= u64::from(self.segment_blocks)
    }

    fn finish_segment(&self, appender: &mut Appender) -> Result<(), HistoryError> {
        let Some(file) = &appender.file else { return Ok(()) };
        file.sync_data()
            .map_err(|error| HistoryError::ArchiveStopped(format!("fdatasync failed: {error}")))?;
        let Some(active) = self.segments.read().last().cloned() else { return Ok(()) };
        let finished = active.finish(appender.len, appender.next_mini_block)?;
        sync_dir(&self.dir)?;
        if let Some(last) = self.segments.write().last_mut() {
            *last = Arc::new(finished);
        }
        appender.file = None;
        self.synced_end.store(appender.end, Ordering::Release);
        Ok(())
    }

    fn start_segment(&self, appender: &mut Appender, first: u64) -> Result<(), HistoryError> {
        let path = segment_path(&self.dir, first);
        let write = |error| HistoryError::io("create", &path, error);
        // An index left from a cut segment of the same name must not vouch for the new one.
        let _ = std::fs::remove_file(path.with_extension("idx"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(write)?;
        file.write_all_at(&segment_header(first), 0).map_err(write)?;
        sync_dir(&self.dir)?;
        self.segments.write().push(Arc::new(Segment::active(&self.dir, first, Default::default())));
        appender.file = Some(file);
        appender.len = SEGMENT_HEADER_LEN;
        Ok(())
    }
}

fn sync_dir(dir: &Path) -> Result<(), HistoryError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| HistoryError::io("sync", dir, error))
}

/// First blocks of the segment files, in order.
fn segment_numbers(dir: &Path) -> Result<Vec<u64>, HistoryError> {
    let list = |error| HistoryError::io("list", dir, error);
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let stem: Option<u64> =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if path.extension().is_some_and(|extension| extension == "seg") {
            firsts.extend(stem);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Makes the index of an older segment again. All of the segment must be sound: it was synced before it was finished.
fn reindex(dir: &Path, first: u64) -> Result<(Segment, u64), HistoryError> {
    let path = segment_path(dir, first);
    tracing::info!(segment = %path.display(), "making the index of an archive segment again");
    let scan = Segment::scan(dir, first)?;
    let len = std::fs::metadata(&path).map_err(|error| HistoryError::io("look at", &path, error))?.len();
    if scan.end != len {
        return Err(HistoryError::Corrupt { file: path, offset: scan.end, what: "record" });
    }
    let finished = Segment::active(dir, first, scan.index).finish(len, scan.next_mini_block)?;
    Ok((finished, scan.next_mini_block))
}

/// Opens the newest segment for appending and cuts off what is not sound. A segment without any sound block goes.
fn open_newest(
    dir: &Path,
    first: u64,
    appender: &mut Appender,
) -> Result<Option<Arc<Segment>>, HistoryError> {
    let path = segment_path(dir, first);
    let scan = Segment::scan(dir, first)?;
    let blocks = scan.index.len() as u64;
    let write = |error| HistoryError::io("cut", &path, error);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(write)?;
    let len = file.metadata().map_err(write)?.len();
    if scan.end < len {
        tracing::warn!(file = %path.display(), kept = scan.end, cut = len - scan.end, "cut a damaged tail off the archive");
    }
    if blocks == 0 {
        std::fs::remove_file(&path).map_err(write)?;
        return Ok(None);
    }
    file.set_len(scan.end).map_err(write)?;
    file.sync_data().map_err(write)?;
    appender.file = Some(file);
    appender.len = scan.end;
    appender.end = first + blocks;
    appender.next_mini_block = scan.next_mini_block;
    Ok(Some(Arc::new(Segment::active(dir, first, scan.index))))
}
