//! Opening a journal: replay what is there, then begin a new segment.
//!
//! Appending always begins in a fresh segment with a fresh epoch, so that nothing a crash left behind can be mistaken for
//! what comes after. Records that are in the journal but not *proven* durable (the last commit: it may have reached only
//! the page cache or the disk's volatile cache, or its `fdatasync` may have failed) are written again into that segment
//! before its header is: once the journal is open, everything replayed is durable, without trusting the old copy.

use crate::buffer::AlignedBuf;
use crate::disk::fs::{FsFolder, SLOT_NAME};
use crate::disk::thread::ThreadDevice;
use crate::disk::uring::UringDevice;
use crate::disk::{Device, Folder};
use crate::format::{self, BLOCK, Link, RecordHeader, SLOT_PAGES, SegmentHeader, align_up, first_link};
use crate::journal::{Active, Batch, Parts, Sealed, SlotState};
use crate::maker::{Maker, Spare, Workshop};
use crate::scan::Scanner;
use crate::survey::{Survey, io_error, read_slot};
use crate::{Backend, Journal, JournalConfig, JournalError, Lsn, RecordPos, SignerSlot};
use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Oldest record that is there; `tip + 1` when there is none.
    pub first: Lsn,
    /// Newest record; 0 when there is none.
    pub tip: Lsn,
    /// Records given to the replay function.
    pub replayed: u64,
    /// Records at the end that were written again, because nothing proved that they had been durable.
    pub rewritten: u64,
    /// Where an unfinished commit was cut off, if a crash had interrupted one. It was never acknowledged.
    pub torn: Option<RecordPos>,
    /// What the signer slot says; `None` when it is missing, although the journal was begun.
    pub slot: Option<SignerSlot>,
    /// One sentence: the backend chosen, others refused and why, the segment in use.
    pub status: String,
}

/// The caller's reason for refusing a record at replay.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// Receives each record at replay, in order.
pub type OnRecord<'a> = dyn FnMut(RecordPos, &[u8]) -> Result<(), ReplayError> + 'a;

/// A disk to open a journal on; [`Journal::open`] makes one from the configuration, tests bring their own.
pub struct Disk {
    /// The journal's folder.
    pub folder: Arc<dyn Folder>,
    /// Writes into that folder.
    pub device: Box<dyn Device>,
    /// Random bytes, different for each opening: the epoch and, for a new journal, the salt come from them.
    pub entropy: [u8; 32],
    /// Make segments on a thread; otherwise inline in [`Journal::poll`], deterministically.
    pub background: bool,
    /// What was chosen and why, for [`Recovery::status`].
    pub status: String,
}

/// A record that is written again.
struct Kept {
    lsn: Lsn,
    previous: Link,
    payload: Vec<u8>,
}

/// Where the new segment continues.
struct End {
    salt: [u8; 16],
    link: Link,
    first: Lsn,
    tip: Lsn,
    proven: Lsn,
    kept: VecDeque<Kept>,
    torn: Option<RecordPos>,
    replayed: u64,
    /// Number of the segment that holds the last record, and the end of that record.
    last_segment: u64,
    last_end: u64,
}

impl Journal {
    /// Opens or creates the journal, replays every record from `from` on (1 is the first) through `on_record`, and makes
    /// ready for appending.
    pub fn open(
        config: &JournalConfig,
        from: Lsn,
        on_record: &mut OnRecord<'_>,
    ) -> Result<(Journal, Recovery), JournalError> {
        config.check()?;
        std::fs::create_dir_all(&config.dir).map_err(io_error("create", &config.dir))?;
        if let Some(parent) = config.slot_file.as_ref().and_then(|file| file.parent()) {
            std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        }
        let lock = lock(&config.dir)?;
        let mut entropy = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut entropy))
            .map_err(io_error("read", "/dev/urandom"))?;
        let (folder, device, status) = choose(config)?;
        let disk = Disk { folder: Arc::new(folder), device, entropy, background: true, status };
        open_locked(config, disk, Some(lock), from, on_record)
    }

    /// Opens the journal on a given disk; `config.dir` and `config.backend` do not matter then.
    pub fn open_on(
        config: &JournalConfig,
        disk: Disk,
        from: Lsn,
        on_record: &mut OnRecord<'_>,
    ) -> Result<(Journal, Recovery), JournalError> {
        config.check()?;
        open_locked(config, disk, None, from, on_record)
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("LOCK");
    let file = File::create(&path).map_err(io_error("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(dir.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(JournalError::Io { action: "lock", path, source }),
    }
}

/// The backend: direct where it works and is not forbidden, buffered otherwise.
fn choose(config: &JournalConfig) -> Result<(FsFolder, Box<dyn Device>, String), JournalError> {
    let folder = |direct| FsFolder::new(&config.dir, config.slot_file.clone(), direct);
    let direct = || {
        let folder = folder(true);
        folder.probe_direct().map_err(|e| format!("direct writes to {}: {e}", config.dir.display()))?;
        let device = UringDevice::new(folder.clone()).map_err(|e| format!("io_uring: {e}"))?;
        Ok::<_, String>((folder, Box::new(device) as Box<dyn Device>))
    };
    let refused = match config.backend {
        Backend::Buffered => "not asked for".to_owned(),
        Backend::Auto | Backend::Direct => match direct() {
            Ok((folder, device)) => {
                return Ok((folder, device, "direct writes through io_uring (O_DIRECT, O_DSYNC)".into()));
            }
            Err(why) if config.backend == Backend::Direct => return Err(JournalError::Backend(why)),
            Err(why) => why,
        },
    };
    let folder = folder(false);
    let device =
        ThreadDevice::new(folder.clone()).map_err(io_error("start", "the journal's writer thread"))?;
    let status = format!("buffered writes with fdatasync on a thread (direct writes refused: {refused})");
    Ok((folder, Box::new(device), status))
}

fn open_locked(
    config: &JournalConfig,
    disk: Disk,
    lock: Option<File>,
    from: Lsn,
    on_record: &mut OnRecord<'_>,
) -> Result<(Journal, Recovery), JournalError> {
    let folder = &*disk.folder;
    let mut slot = read_slot(folder, Some(&config.identity))?;
    let survey = Survey::take(folder, Some(&config.identity))?;
    let mut salt = [0; 16];
    salt.copy_from_slice(&disk.entropy[..16]);
    let end = if survey.segments.is_empty() {
        begin(folder, config, &survey, slot.as_ref(), from, salt)?
    } else {
        replay(folder, &survey, slot.as_ref(), from.max(1), on_record)?
    };

    // Before the first segment begins: a journal without a slot is then one whose slot was taken away.
    prepare_slot(folder)?;
    if survey.segments.is_empty() && slot.is_none() {
        slot = Some(first_page(folder, config)?);
    }

    let mut epoch = [0; 8];
    epoch.copy_from_slice(&disk.entropy[16..24]);
    let epoch = u64::from_le_bytes(epoch);
    let highest = survey.blanks.iter().map(|b| b.index).chain(survey.newest_index()).max();
    let maker = Maker::new(
        disk.folder.clone(),
        highest.map_or(0, |index| index + 1),
        config.first_segment_bytes,
        config.segment_bytes,
    );
    let mut maker = maker.map_err(io_error("map memory for", "the journal"))?;
    let (segment, offset, link) = begin_segment(folder, config, &survey, &mut maker, &end, epoch)?;
    let (spares, sealed) = tidy(folder, &survey, &segment, &end);

    let mut device = disk.device;
    let mut attach = |name: &str| device.attach(name).map_err(io_error("open", name));
    let file = attach(&format::segment_name(segment.index))?;
    let slot_file = attach(SLOT_NAME)?;
    let mut attached = Vec::new();
    for spare in spares {
        let file = attach(&format::segment_name(spare.index))?;
        attached.push((spare, file));
    }
    let workshop = if disk.background {
        Workshop::background(maker, device.waker())
            .map_err(io_error("start", "the thread that makes segments"))?
    } else {
        Workshop::Inline(Box::new(maker))
    };
    let status = format!("{}; segment {} of {} bytes", disk.status, segment.index, segment.bytes);
    let signed = slot.map(|s| s.signed).unwrap_or_default();
    let parts = Parts {
        device,
        workshop,
        salt: end.salt,
        epoch,
        link,
        tip: end.tip,
        active: Active { segment, file, offset },
        spares: attached,
        sealed,
        slot: SlotState {
            file: slot_file,
            recovered: slot,
            generation: slot.map_or(0, |s| s.generation),
            signed,
            pending: signed,
            told: slot.map_or(0, |s| s.durable),
            settling: false,
            free: Vec::new(),
        },
        lock,
    };
    let journal = Journal::assemble(config, parts).map_err(io_error("map memory for", "the journal"))?;
    let recovery = Recovery {
        first: end.first,
        tip: end.tip,
        replayed: end.replayed,
        rewritten: end.kept.len() as u64,
        torn: end.torn,
        slot,
        status,
    };
    if let Some(at) = recovery.torn {
        tracing::warn!("journal: an unfinished commit was cut off at {at}; it was never acknowledged");
    }
    Ok((journal, recovery))
}

/// A folder without segments: a new journal, or one that has lost everything.
fn begin(
    folder: &dyn Folder,
    config: &JournalConfig,
    survey: &Survey,
    slot: Option<&SignerSlot>,
    from: Lsn,
    salt: [u8; 16],
) -> Result<End, JournalError> {
    survey.check_unused(folder, slot.map_or(0, |s| s.durable))?;
    if from > 1 {
        return Err(JournalError::Ahead { from, tip: 0 });
    }
    Ok(End {
        salt,
        link: first_link(&format::chain_key(&config.identity, &salt)),
        first: 1,
        tip: 0,
        proven: 0,
        kept: VecDeque::new(),
        torn: None,
        replayed: 0,
        last_segment: 0,
        last_end: 0,
    })
}

fn replay(
    folder: &dyn Folder,
    survey: &Survey,
    slot: Option<&SignerSlot>,
    from: Lsn,
    on_record: &mut OnRecord<'_>,
) -> Result<End, JournalError> {
    let mut scanner = Scanner::new(folder, survey, from, slot.map_or(0, |s| s.durable))?;
    let mut kept: VecDeque<Kept> = VecDeque::new();
    let mut replayed = 0;
    while let Some(found) = scanner.step(folder)? {
        let proven = scanner.proven();
        while kept.front().is_some_and(|k| k.lsn <= proven) {
            kept.pop_front();
        }
        let lsn = found.pos.lsn;
        let payload = scanner.payload(folder, &found)?;
        if lsn > proven {
            kept.push_back(Kept { lsn, previous: found.previous, payload: payload.to_vec() });
        }
        if lsn >= from {
            on_record(found.pos, payload).map_err(|source| JournalError::Replay { at: found.pos, source })?;
            replayed += 1;
        }
    }
    let tip = scanner.tip();
    if from > tip + 1 {
        return Err(JournalError::Ahead { from, tip });
    }
    let (segment, last_end) = scanner.position();
    Ok(End {
        salt: segment.header.salt,
        last_segment: segment.header.index,
        last_end,
        link: scanner.link(),
        first: survey.segments.first().map_or(1, |s| s.header.base),
        tip,
        proven: scanner.proven(),
        torn: scanner.torn(),
        kept,
        replayed,
    })
}

/// Makes the new segment and writes its first records, then its header: with the header it begins to count. Returns where
/// the next commit goes and the link that it continues.
fn begin_segment(
    folder: &dyn Folder,
    config: &JournalConfig,
    survey: &Survey,
    maker: &mut Maker,
    end: &End,
    epoch: u64,
) -> Result<(Spare, u64, Link), JournalError> {
    let key = format::chain_key(&config.identity, &end.salt);
    let total: usize = end.kept.iter().map(|k| RecordHeader::total_bytes(k.payload.len())).sum();
    let bytes = BLOCK + align_up(total, BLOCK);
    let newest = survey.newest_index();
    let reusable = survey.blanks.iter().find(|b| {
        newest.is_none_or(|n| b.index > n)
            && b.len >= (bytes + BLOCK) as u64
            && b.len.is_multiple_of(BLOCK as u64)
    });
    let segment = match reusable {
        Some(blank) => Spare { index: blank.index, bytes: blank.len },
        None => maker
            .make((bytes + BLOCK) as u64, &mut || true)
            .map_err(io_error("make a segment in", "the journal's folder"))?,
    };
    let name = format::segment_name(segment.index);
    let (base, previous) = end.kept.front().map_or((end.tip + 1, end.link), |k| (k.lsn, k.previous));
    let buf = AlignedBuf::new(bytes).map_err(io_error("map memory for", "the journal"))?;
    let mut batch = Batch::new(buf, base);
    for kept in &end.kept {
        batch.push(&[&kept.payload], kept.payload.len() as u32, kept.lsn);
    }
    let (link, filled) = batch.seal(&key, end.proven.min(end.tip), epoch, previous);
    if filled > BLOCK {
        folder
            .write(&name, BLOCK as u64, &batch.buf[BLOCK..filled], true)
            .map_err(io_error("write", &name))?;
    }
    let header = SegmentHeader {
        identity: config.identity,
        salt: end.salt,
        index: segment.index,
        base,
        durable: end.tip,
        epoch,
        segment_bytes: segment.bytes,
        previous,
    };
    header.encode(&mut batch.buf[..BLOCK]);
    folder.write(&name, 0, &batch.buf[..BLOCK], true).map_err(io_error("write", &name))?;
    Ok((segment, filled as u64, link))
}

/// Clears away what does not count any more; returns the segments written ahead and the full ones. What cannot be cleared
/// away stays, and does no harm.
fn tidy(folder: &dyn Folder, survey: &Survey, active: &Spare, end: &End) -> (Vec<Spare>, VecDeque<Sealed>) {
    let grumble = |what: &str, name: &str, result: std::io::Result<()>| {
        if let Err(error) = result {
            tracing::warn!("journal: {name} could not be {what}: {error}");
        }
    };
    let mut spares = Vec::new();
    for blank in survey.blanks.iter().filter(|b| b.index != active.index) {
        if blank.index > active.index
            && blank.len >= 2 * BLOCK as u64
            && blank.len.is_multiple_of(BLOCK as u64)
        {
            spares.push(Spare { index: blank.index, bytes: blank.len });
        } else {
            grumble("removed", &blank.name, folder.remove(&blank.name));
        }
    }
    for old in &survey.superseded {
        grumble("removed", &old.name, folder.remove(&old.name));
    }
    for (name, _) in folder.list().unwrap_or_default() {
        if name.starts_with("journal-") && name.ends_with(".tmp") {
            grumble("removed", &name, folder.remove(&name));
        }
    }
    let mut sealed = VecDeque::new();
    let bases = survey.segments.iter().skip(1).map(|s| s.header.base - 1).chain([end.tip]);
    for (segment, last) in survey.segments.iter().zip(bases) {
        let (index, mut bytes) = (segment.header.index, segment.len);
        if index > end.last_segment {
            // It begins after the last record: the abandoned half of a commit that was never finished.
            grumble("removed", &segment.name, folder.remove(&segment.name));
            continue;
        }
        let used = align_up(end.last_end as usize, BLOCK) as u64;
        if index == end.last_segment && used < bytes {
            grumble("cut", &segment.name, folder.cut(&segment.name, used));
            bytes = used;
        }
        let last = last.min(end.tip);
        sealed.push_back(Sealed { segment: Spare { index, bytes }, last, file: None });
    }
    (spares, sealed)
}

/// Makes the slot's file full-grown, so that writing a page changes nothing but data.
fn prepare_slot(folder: &dyn Folder) -> Result<(), JournalError> {
    let files = folder.list().map_err(io_error("list", "the journal's folder"))?;
    let full = SLOT_PAGES * BLOCK as u64;
    let len = files.iter().find(|(name, _)| name == SLOT_NAME).map_or(0, |(_, len)| *len);
    if len < full {
        let from = len / BLOCK as u64 * BLOCK as u64;
        let zeros =
            AlignedBuf::new((full - from) as usize).map_err(io_error("map memory for", "the journal"))?;
        folder.write(SLOT_NAME, from, &zeros, true).map_err(io_error("write", SLOT_NAME))?;
    }
    Ok(())
}

/// The slot of a new journal: nothing was signed.
fn first_page(folder: &dyn Folder, config: &JournalConfig) -> Result<SignerSlot, JournalError> {
    let slot = SignerSlot { generation: 1, ..SignerSlot::default() };
    let mut page = AlignedBuf::new(BLOCK).map_err(io_error("map memory for", "the journal"))?;
    format::encode_slot(&slot, &config.identity, &mut page);
    let offset = format::slot_page(slot.generation) * BLOCK as u64;
    folder.write(SLOT_NAME, offset, &page, true).map_err(io_error("write", SLOT_NAME))?;
    Ok(slot)
}
