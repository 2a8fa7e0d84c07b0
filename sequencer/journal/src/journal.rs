//! The journal while it runs: batches in, group commits out.
//!
//! In: records ([`Journal::append`]). Out: the newest durable record ([`Journal::poll`]). On overload: `append` answers
//! `Full`. When the device fails: [`Fault`], for ever.

use crate::buffer::AlignedBuf;
use crate::disk::fs::SLOT_NAME;
use crate::disk::{Device, FileId, Write, Written, is_no_space};
use crate::format::{self, ALIGN, BLOCK, Key, Link, RECORD_HEADER, RecordHeader, SegmentHeader, align_up};
use crate::maker::{Request, Spare, Workshop};
use crate::{AppendError, Fault, Keep, Lsn, SignerError, SignerMark, SignerSlot};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Kinds of writes, in the low bits of their tags; the commit's number is above.
const KIND_DATA: u64 = 0;
const KIND_MARK: u64 = 1;
const KIND_SETTLE: u64 = 2;
/// How long [`Journal::flush`] waits for a segment that cannot be made.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(2);

/// Slot pages that may be under way at once: one for each of four commits, and a settling one.
const PAGES_IN_FLIGHT_MAX: u64 = 4 + 1;
// A page in flight may be torn; the newest durable one must not be among them.
const _: () = assert!(format::SLOT_PAGES > PAGES_IN_FLIGHT_MAX);

/// Whether there is room for what comes next. Admission should stop at anything but `Ok`, before anything is signed; it may
/// resume when `Ok` is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// The next segment is there, or is being made.
    Ok,
    /// The next segment could not be made; the active one has `bytes_left`.
    Low {
        /// Bytes left in the active segment.
        bytes_left: u64,
        /// Why.
        reason: String,
    },
    /// A commit is waiting for a segment that could not be made.
    None {
        /// Why.
        reason: String,
    },
}

/// Records that wait for the next group commit. The first block is kept free for a segment's header.
pub(crate) struct Batch {
    pub(crate) buf: AlignedBuf,
    pub(crate) end: usize,
    pub(crate) first: Lsn,
    pub(crate) mark: Option<SignerMark>,
}

impl Batch {
    pub(crate) fn new(buf: AlignedBuf, first: Lsn) -> Self {
        Self { buf, end: BLOCK, first, mark: None }
    }

    fn is_empty(&self) -> bool {
        self.end == BLOCK
    }

    /// Copies a record in; the caller has checked that it fits.
    pub(crate) fn push(&mut self, parts: &[&[u8]], payload_len: u32, lsn: Lsn) {
        let start = self.end;
        RecordHeader::stage(&mut self.buf[start..], payload_len, lsn, format::crc64(parts));
        let mut at = start + RECORD_HEADER;
        for part in parts {
            self.buf[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.end = align_up(at, ALIGN);
        self.buf[at..self.end].fill(0);
    }

    /// Completes the headers from `previous` on and pads to a whole block. Returns the last link and the end.
    pub(crate) fn seal(&mut self, key: &Key, durable: Lsn, epoch: u64, previous: Link) -> (Link, usize) {
        let mut link = previous;
        let mut at = BLOCK;
        while at < self.end {
            let (next, bytes) = RecordHeader::seal(&mut self.buf[at..], key, durable, epoch, &link);
            link = next;
            at += bytes;
        }
        let end = align_up(self.end, BLOCK);
        self.buf[self.end..end].fill(0);
        (link, end)
    }
}

/// A group commit under way.
struct Commit {
    number: u64,
    last: Lsn,
    segment: u64,
    mark: Option<SignerMark>,
    data_done: bool,
    mark_done: bool,
}

/// The segment being filled.
pub(crate) struct Active {
    pub(crate) segment: Spare,
    pub(crate) file: FileId,
    pub(crate) offset: u64,
}

/// A segment that is full.
pub(crate) struct Sealed {
    pub(crate) segment: Spare,
    pub(crate) last: Lsn,
    pub(crate) file: Option<FileId>,
}

/// What the slot's next page will say, and where it goes.
pub(crate) struct SlotState {
    pub(crate) file: FileId,
    pub(crate) recovered: Option<SignerSlot>,
    pub(crate) generation: u64,
    pub(crate) signed: SignerMark,
    pub(crate) pending: SignerMark,
    /// `durable` of the newest page that was started.
    pub(crate) told: Lsn,
    pub(crate) settling: bool,
    pub(crate) free: Vec<AlignedBuf>,
}

/// The journal: polled, owned by one stage. See the crate's documentation.
pub struct Journal {
    pub(crate) device: Box<dyn Device>,
    pub(crate) workshop: Workshop,
    pub(crate) identity: [u8; 32],
    pub(crate) salt: [u8; 16],
    pub(crate) key: Key,
    pub(crate) epoch: u64,
    pub(crate) link: Link,
    pub(crate) appended: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) commit_bytes_max: usize,
    pub(crate) commits_max: usize,
    pub(crate) filling: Batch,
    pub(crate) free: Vec<AlignedBuf>,
    in_flight: VecDeque<Commit>,
    commits: u64,
    writes: Vec<Write>,
    pub(crate) active: Active,
    pub(crate) spares: Vec<(Spare, FileId)>,
    pub(crate) sealed: VecDeque<Sealed>,
    pub(crate) keep: Keep,
    spares_wanted: usize,
    requested: usize,
    starved: bool,
    trouble: Option<String>,
    pub(crate) slot: SlotState,
    dead: Option<Fault>,
    /// Held until the journal is dropped: after `device`, whose drop waits for the last write.
    _lock: Option<std::fs::File>,
}

/// What [`Journal::assemble`] puts together; recovery has found or made all of it.
pub(crate) struct Parts {
    pub(crate) device: Box<dyn Device>,
    pub(crate) workshop: Workshop,
    pub(crate) salt: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) link: Link,
    pub(crate) tip: Lsn,
    pub(crate) active: Active,
    pub(crate) spares: Vec<(Spare, FileId)>,
    pub(crate) sealed: VecDeque<Sealed>,
    pub(crate) slot: SlotState,
    pub(crate) lock: Option<std::fs::File>,
}

impl Journal {
    pub(crate) fn assemble(config: &crate::JournalConfig, parts: Parts) -> io::Result<Self> {
        let buffer = || AlignedBuf::new(BLOCK + config.commit_bytes_max);
        let mut free = Vec::new();
        for _ in 0..config.commits_in_flight {
            free.push(buffer()?);
        }
        Ok(Self {
            key: format::chain_key(&config.identity, &parts.salt),
            device: parts.device,
            workshop: parts.workshop,
            identity: config.identity,
            salt: parts.salt,
            epoch: parts.epoch,
            link: parts.link,
            appended: parts.tip,
            durable: parts.tip,
            commit_bytes_max: config.commit_bytes_max,
            commits_max: config.commits_in_flight,
            filling: Batch::new(buffer()?, parts.tip + 1),
            free,
            in_flight: VecDeque::with_capacity(config.commits_in_flight),
            commits: 0,
            writes: Vec::with_capacity(4),
            active: parts.active,
            spares: parts.spares,
            sealed: parts.sealed,
            keep: config.keep,
            spares_wanted: config.prewrite_ahead,
            requested: 0,
            starved: false,
            trouble: None,
            slot: parts.slot,
            dead: None,
            _lock: parts.lock,
        })
    }

    /// Takes one record, the concatenation of `parts`, and a mark if it is a mini-block that will be signed. Returns its
    /// sequence number. Copies once; nothing is written before [`Journal::poll`].
    pub fn append(&mut self, parts: &[&[u8]], mark: Option<SignerMark>) -> Result<Lsn, AppendError> {
        if let Some(fault) = &self.dead {
            return Err(fault.clone().into());
        }
        let bytes: usize = parts.iter().map(|p| p.len()).sum();
        let max = self.record_bytes_max();
        let Some(payload_len) = u32::try_from(bytes).ok().filter(|_| bytes <= max) else {
            return Err(AppendError::TooLarge { bytes, max });
        };
        if let Some(mark) = mark {
            let newest = self.slot.pending.height.max(self.slot.signed.height);
            let newest = self.filling.mark.map_or(newest, |m| m.height);
            if mark.height <= newest {
                return Err(AppendError::MarkNotAbove { height: mark.height, newest });
            }
        }
        if self.filling.end + RecordHeader::total_bytes(bytes) > BLOCK + self.commit_bytes_max {
            return Err(AppendError::Full);
        }
        let lsn = self.appended + 1;
        self.filling.push(parts, payload_len, lsn);
        self.appended = lsn;
        if mark.is_some() {
            self.filling.mark = mark;
        }
        Ok(lsn)
    }

    /// Reaps what completed, then writes everything that waits as one group commit if fewer than `commits_in_flight` are
    /// under way. Returns the newest durable record when it moved. Never blocks.
    pub fn poll(&mut self) -> Result<Option<Lsn>, Fault> {
        if let Some(fault) = &self.dead {
            return Err(fault.clone());
        }
        let before = self.durable;
        while let Some(written) = self.device.poll() {
            self.reap(written)?;
        }
        self.advance();
        self.stock();
        if !self.filling.is_empty() && self.in_flight.len() < self.commits_max {
            self.commit()?;
        }
        Ok((self.durable > before).then_some(self.durable))
    }

    /// For quiet times, from the stage's `housekeep`: makes the slot say that everything so far is durable, so that even
    /// the loss of the very last commit is noticed at the next start. Never blocks.
    pub fn settle(&mut self) -> Result<(), Fault> {
        if let Some(fault) = &self.dead {
            return Err(fault.clone());
        }
        let quiet = self.in_flight.is_empty() && self.filling.is_empty() && !self.slot.settling;
        if quiet && self.slot.told < self.durable {
            self.slot.pending = self.slot.signed;
            self.slot.settling = true;
            self.queue_page(KIND_SETTLE)?;
            self.start()?;
        }
        Ok(())
    }

    /// Blocks until everything appended is durable and settled. For closing and for tools.
    pub fn flush(&mut self) -> Result<Lsn, Fault> {
        let mut starved_since = None;
        loop {
            self.poll()?;
            self.settle()?;
            if self.durable == self.appended && self.slot.told == self.durable && !self.slot.settling {
                return Ok(self.durable);
            }
            match (self.starved && self.trouble.is_some(), starved_since) {
                (false, _) => starved_since = None,
                (true, None) => starved_since = Some(Instant::now()),
                (true, Some(since)) if since.elapsed() > FLUSH_WAIT_MAX => {
                    let file = "the next segment".to_owned();
                    return Err(self.die(Fault::NoSpace { file, durable: self.durable }));
                }
                (true, Some(_)) => {}
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// What the node signs must continue `tip`, the newest mini-block in the journal (height 0: none). Call it after
    /// replay; it compares `tip` with the slot and lets the slot begin there.
    pub fn confirm_tip(&mut self, tip: SignerMark) -> Result<(), SignerError> {
        crate::check_signer(tip, self.slot.recovered.as_ref())?;
        self.slot.signed = tip;
        self.slot.pending = tip;
        self.slot.told = 0;
        Ok(())
    }

    /// Newest durable record.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Newest record taken.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Group commits under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes that wait for the next group commit.
    pub fn pending_bytes(&self) -> usize {
        self.filling.end - BLOCK
    }

    /// Most payload bytes that one record may have.
    pub fn record_bytes_max(&self) -> usize {
        self.commit_bytes_max - RECORD_HEADER
    }

    /// A descriptor that becomes readable when a commit has completed.
    pub fn wake_fd(&self) -> Option<RawFd> {
        self.device.wake_fd()
    }

    /// Whether there is room for what comes next.
    pub fn space(&self) -> Space {
        match &self.trouble {
            Some(reason) if self.starved => Space::None { reason: reason.clone() },
            Some(reason) if self.spares.is_empty() => Space::Low {
                bytes_left: self.active.segment.bytes - self.active.offset,
                reason: reason.clone(),
            },
            _ => Space::Ok,
        }
    }

    /// Says that records up to `up_to` are not needed for recovery any more (a snapshot covers them). What becomes of
    /// their segments is the policy's business ([`Keep`]).
    pub fn release(&mut self, up_to: Lsn) {
        let Keep::Newest(keep) = self.keep else { return };
        let up_to = up_to.min(self.durable);
        while self.sealed.len() > keep && self.sealed.front().is_some_and(|s| s.last <= up_to) {
            let Some(sealed) = self.sealed.pop_front() else { break };
            if let Some(file) = sealed.file {
                self.device.detach(file);
            }
            self.workshop.request(Request::Retire(sealed.segment));
        }
    }

    /// Writes the batch as one commit, if there is a place for it.
    fn commit(&mut self) -> Result<(), Fault> {
        let bytes = (align_up(self.filling.end, BLOCK) - BLOCK) as u64;
        let begins_segment = self.active.offset + bytes > self.active.segment.bytes;
        if begins_segment && !self.next_segment(bytes + BLOCK as u64) {
            return Ok(());
        }
        let Some(free) = self.free.pop() else { return Ok(()) };
        let first = self.filling.first;
        let mut batch = std::mem::replace(&mut self.filling, Batch::new(free, self.appended + 1));
        if begins_segment {
            let header = SegmentHeader {
                identity: self.identity,
                salt: self.salt,
                index: self.active.segment.index,
                base: first,
                durable: self.durable,
                epoch: self.epoch,
                segment_bytes: self.active.segment.bytes,
                previous: self.link,
            };
            header.encode(&mut batch.buf[..BLOCK]);
        }
        let (link, end) = batch.seal(&self.key, self.durable, self.epoch, self.link);
        self.link = link;
        self.commits += 1;
        let range = if begins_segment { 0..end } else { BLOCK..end };
        let (file, offset) = (self.active.file, self.active.offset);
        self.active.offset += range.len() as u64;
        self.writes.push(Write { tag: self.commits << 2 | KIND_DATA, file, offset, buf: batch.buf, range });
        self.in_flight.push_back(Commit {
            number: self.commits,
            last: self.appended,
            segment: self.active.segment.index,
            mark: batch.mark,
            data_done: false,
            mark_done: batch.mark.is_none(),
        });
        if let Some(mark) = batch.mark {
            self.slot.pending = mark;
            self.queue_page(KIND_MARK)?;
        }
        self.start()
    }

    /// Makes the next segment the active one; `false`: none of at least `bytes` is ready.
    fn next_segment(&mut self, bytes: u64) -> bool {
        let Some(at) = self.spares.iter().position(|(spare, _)| spare.bytes >= bytes) else {
            self.starved = true;
            self.workshop.hurry(true);
            if self.requested == 0 {
                self.order(bytes);
            }
            return false;
        };
        self.starved = false;
        // Smaller ones before it are passed over for good: segments are read in the order of their numbers.
        for (spare, file) in self.spares.drain(..at) {
            self.device.detach(file);
            self.workshop.request(Request::Retire(spare));
        }
        let (segment, file) = self.spares.remove(0);
        let old = std::mem::replace(&mut self.active, Active { segment, file, offset: 0 });
        self.sealed.push_back(Sealed {
            segment: old.segment,
            last: self.filling.first - 1,
            file: Some(old.file),
        });
        true
    }

    /// Takes finished segments from the workshop and orders new ones.
    fn stock(&mut self) {
        while let Some(answer) = self.workshop.answer() {
            self.receive(answer);
        }
        if self.spares.len() + self.requested < self.spares_wanted {
            self.order(0);
        }
        if self.spares.is_empty() {
            let low = self.active.offset * 2 > self.active.segment.bytes;
            self.workshop.hurry(low || self.starved);
        }
    }

    fn order(&mut self, bytes_min: u64) {
        self.requested += 1;
        if let Some(answer) = self.workshop.request(Request::Make(bytes_min)) {
            self.receive(answer);
        }
    }

    fn receive(&mut self, answer: Result<Spare, String>) {
        let failed = match answer {
            Ok(spare) => {
                self.requested -= 1;
                match self.device.attach(&format::segment_name(spare.index)) {
                    Ok(file) => {
                        self.spares.push((spare, file));
                        self.trouble = None;
                        return;
                    }
                    Err(error) => format!("the journal's next segment cannot be opened: {error}"),
                }
            }
            Err(reason) => {
                self.requested -= usize::from(self.workshop.forgets_failures());
                reason
            }
        };
        if self.trouble.is_none() {
            tracing::warn!("{failed}");
        }
        self.trouble = Some(failed);
    }

    /// Adds a page of the signer slot to the writes to be started.
    fn queue_page(&mut self, kind: u64) -> Result<(), Fault> {
        let mut buf = match self.slot.free.pop().map_or_else(|| AlignedBuf::new(BLOCK), Ok) {
            Ok(buf) => buf,
            Err(error) => return Err(self.fail(SLOT_NAME.to_owned(), 0, &error)),
        };
        let slot = &mut self.slot;
        slot.generation += 1;
        slot.told = self.durable;
        let page = SignerSlot {
            generation: slot.generation,
            signed: slot.signed,
            pending: slot.pending,
            durable: self.durable,
        };
        format::encode_slot(&page, &self.identity, &mut buf);
        let offset = format::slot_page(slot.generation) * BLOCK as u64;
        let tag = self.commits << 2 | kind;
        self.writes.push(Write { tag, file: slot.file, offset, buf, range: 0..BLOCK });
        Ok(())
    }

    fn start(&mut self) -> Result<(), Fault> {
        match self.device.submit(&mut self.writes) {
            Ok(()) => Ok(()),
            Err(error) => {
                let (file, offset) = (format::segment_name(self.active.segment.index), self.active.offset);
                Err(self.fail(file, offset, &error))
            }
        }
    }

    /// A write has completed, in whole, in part or not at all.
    fn reap(&mut self, written: Written) -> Result<(), Fault> {
        let Written { mut write, result } = written;
        let (number, kind) = (write.tag >> 2, write.tag & 3);
        let name = |journal: &Self| match kind {
            KIND_DATA => {
                let segment = journal.in_flight.iter().find(|c| c.number == number).map_or(0, |c| c.segment);
                format::segment_name(segment)
            }
            _ => SLOT_NAME.to_owned(),
        };
        let (wanted, wrote) = match result {
            Ok(wrote) => (write.range.len(), wrote),
            Err(error) => return Err(self.fail(name(self), write.offset, &error)),
        };
        if wrote < wanted {
            // The rest is written from the last whole block on; without progress there is no point in going on.
            let whole = wrote / BLOCK * BLOCK;
            if whole == 0 {
                let (file, offset, durable) = (name(self), write.offset, self.durable);
                return Err(self.die(Fault::ShortWrite { file, offset, wanted, wrote, durable }));
            }
            write.offset += whole as u64;
            write.range.start += whole;
            self.writes.push(write);
            return self.start();
        }
        match kind {
            KIND_SETTLE => self.slot.settling = false,
            _ => {
                if let Some(commit) = self.in_flight.iter_mut().find(|c| c.number == number) {
                    commit.data_done |= kind == KIND_DATA;
                    commit.mark_done |= kind == KIND_MARK;
                }
            }
        }
        if kind == KIND_DATA {
            self.free.push(write.buf)
        } else {
            self.slot.free.push(write.buf)
        }
        Ok(())
    }

    /// Counts finished commits as durable, in order.
    fn advance(&mut self) {
        while let Some(commit) = self.in_flight.pop_front_if(|c| c.data_done && c.mark_done) {
            self.durable = commit.last;
            if let Some(mark) = commit.mark {
                self.slot.signed = mark;
            }
            for sealed in self.sealed.iter_mut().rev() {
                if sealed.last <= self.durable
                    && let Some(file) = sealed.file.take()
                {
                    self.device.detach(file);
                } else if sealed.file.is_none() {
                    break;
                }
            }
        }
    }

    fn fail(&mut self, file: String, offset: u64, error: &io::Error) -> Fault {
        let durable = self.durable;
        let fault = if is_no_space(error) {
            Fault::NoSpace { file, durable }
        } else {
            Fault::Write { file, offset, errno: error.raw_os_error().unwrap_or(libc::EIO), durable }
        };
        self.die(fault)
    }

    fn die(&mut self, fault: Fault) -> Fault {
        tracing::error!("{fault}");
        self.dead = Some(fault.clone());
        fault
    }
}
