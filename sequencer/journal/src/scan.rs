//! Reading records in order, and judging why reading stopped.
//!
//! **Torn tail or damage?** Each record, segment header and slot page says which record was known durable when it was
//! written. Where reading stops at record `n`, everything that can still be found is asked: if any of it says that `n` was
//! durable, the record was acknowledged and is damaged or lost; if none does, `n` belongs to a commit that a crash
//! interrupted, whatever parts of that commit did reach the disk.
//!
//! Nobody outside can forge such a statement, since a record's link is keyed with the journal's salt.

use crate::disk::Folder;
use crate::format::{
    ALIGN, BLOCK, Key, Link, Probe, RECORD_HEADER, RecordHeader, align_up, crc64, first_link,
};
use crate::survey::{Segment, Survey, read_full};
use crate::{JournalError, Lsn, RecordPos};
use std::io;

/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// A file seen through a buffer.
struct Window {
    name: String,
    len: u64,
    buf: Vec<u8>,
    start: u64,
    filled: usize,
}

impl Window {
    fn new(name: String, len: u64) -> Self {
        Self { name, len, buf: Vec::new(), start: 0, filled: 0 }
    }

    /// `n` bytes at `offset`; `None` beyond the end of the file.
    fn get(&mut self, folder: &dyn Folder, offset: u64, n: usize) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(n as u64).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let inside = offset >= self.start && offset + n as u64 <= self.start + self.filled as u64;
        if !inside {
            let want = (n.max(WINDOW) as u64).min(self.len - offset) as usize;
            if self.buf.len() < want {
                self.buf.resize(want, 0);
            }
            (self.start, self.filled) = (offset, 0);
            self.filled = read_full(folder, &self.name, offset, &mut self.buf[..want])?;
            if self.filled < n {
                return Ok(None);
            }
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.buf[at..at + n]))
    }
}

/// One valid record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) pos: RecordPos,
    /// Link before it.
    pub(crate) previous: Link,
    payload_at: u64,
    payload_len: usize,
}

/// Reads the records of a survey's segments in order.
pub(crate) struct Scanner {
    segments: Vec<Segment>,
    /// Files that hold nothing but may hold evidence: (name, length).
    others: Vec<(String, u64)>,
    current: usize,
    window: Window,
    key: Key,
    /// Where the next record may begin.
    offset: u64,
    expected: Lsn,
    link: Link,
    /// Newest record that is proven to have been durable, from what was read so far and the signer slot.
    proven: Lsn,
    slot_proven: Lsn,
    torn: Option<RecordPos>,
}

impl Scanner {
    /// Begins at the newest segment whose base is at most `from`. The survey must have segments.
    pub(crate) fn new(
        folder: &dyn Folder,
        survey: &Survey,
        from: Lsn,
        slot_durable: Lsn,
    ) -> Result<Self, JournalError> {
        let Some(start) = survey.segments.iter().rposition(|s| s.header.base <= from) else {
            return Err(survey.missing_start(folder, from));
        };
        let segment = &survey.segments[start];
        let header = segment.header;
        let key = header.key();
        if header.base == 1 && header.previous != first_link(&key) {
            let at = RecordPos { lsn: 1, segment: header.index, offset: 0 };
            let what = "the chain does not begin where every chain begins".to_owned();
            return Err(JournalError::Damaged { at, what, proven: header.durable.max(1) });
        }
        let others = survey
            .superseded
            .iter()
            .map(|s| (s.name.clone(), s.len))
            .chain(survey.blanks.iter().map(|b| (b.name.clone(), b.len)))
            .collect();
        Ok(Self {
            others,
            current: start,
            window: Window::new(segment.name.clone(), segment.len),
            key,
            offset: BLOCK as u64,
            expected: header.base,
            link: header.previous,
            proven: header.durable.max(slot_durable),
            slot_proven: slot_durable,
            torn: None,
            segments: survey.segments.clone(),
        })
    }

    /// Last record read; the base of the first segment less one before that.
    pub(crate) fn tip(&self) -> Lsn {
        self.expected - 1
    }

    /// Link of [`Scanner::tip`].
    pub(crate) fn link(&self) -> Link {
        self.link
    }

    /// Newest record that is proven to have been durable.
    pub(crate) fn proven(&self) -> Lsn {
        self.proven
    }

    /// Segment being read, and the end of what was read in it.
    pub(crate) fn position(&self) -> (&Segment, u64) {
        (&self.segments[self.current], self.offset)
    }

    /// The payload of a record that [`Scanner::step`] found last.
    pub(crate) fn payload(&mut self, folder: &dyn Folder, found: &Found) -> Result<&[u8], JournalError> {
        let unreadable = |source| JournalError::Unreadable { at: found.pos, source };
        self.window
            .get(folder, found.payload_at, found.payload_len)
            .map_err(unreadable)?
            .ok_or_else(|| unreadable(io::Error::from(io::ErrorKind::UnexpectedEof)))
    }

    /// The next record. `None`: the journal ends here, perhaps with a torn tail ([`Scanner::torn`]).
    pub(crate) fn step(&mut self, folder: &dyn Folder) -> Result<Option<Found>, JournalError> {
        self.enter_next_segment();
        let first = self.offset;
        let block = align_up(first as usize, BLOCK) as u64;
        // After a commit the next one begins on a block. Padding is always zero; should it be damaged, the chain still
        // proves that nothing is missing between the two records.
        let mut at = first;
        let mut tried = self.try_record(folder, first)?;
        if block != first
            && let Err(miss) = tried
        {
            let second = self.try_record(folder, block)?;
            if second.is_ok() || matches!(miss, Miss::Nothing) {
                (at, tried) = (block, second);
            }
        }
        match tried {
            Ok((found, header, link)) => {
                self.proven = self.proven.max(header.durable);
                self.offset = align_up((found.payload_at + found.payload_len as u64) as usize, ALIGN) as u64;
                self.expected = header.lsn + 1;
                self.link = link;
                Ok(Some(found))
            }
            Err(miss) => {
                let at = RecordPos { offset: at, ..self.here() };
                self.judge(folder, at, miss).map(|()| None)
            }
        }
    }

    /// Where an unfinished commit was found, once [`Scanner::step`] has answered `None`.
    pub(crate) fn torn(&self) -> Option<RecordPos> {
        self.torn
    }

    fn here(&self) -> RecordPos {
        RecordPos {
            lsn: self.expected,
            segment: self.segments[self.current].header.index,
            offset: self.offset,
        }
    }

    fn enter_next_segment(&mut self) {
        while let Some(next) = self.segments.get(self.current + 1) {
            if next.header.base != self.expected || next.header.previous != self.link {
                return;
            }
            self.current += 1;
            self.window = Window::new(next.name.clone(), next.len);
            self.key = next.header.key();
            self.offset = BLOCK as u64;
            self.proven = self.proven.max(next.header.durable);
        }
    }

    /// The record at `offset`, if the expected one is there and whole.
    fn try_record(
        &mut self,
        folder: &dyn Folder,
        offset: u64,
    ) -> Result<Result<(Found, RecordHeader, Link), Miss>, JournalError> {
        let pos = RecordPos { offset, ..self.here() };
        let unreadable = |source| JournalError::Unreadable { at: pos, source };
        let Some(bytes) = self.window.get(folder, offset, RECORD_HEADER).map_err(unreadable)? else {
            return Ok(Err(Miss::Nothing));
        };
        let (header, link) = match RecordHeader::probe(&self.key, bytes) {
            Probe::Record(header, link) => (header, link),
            Probe::Zero => return Ok(Err(Miss::Nothing)),
            Probe::NoMagic => return Ok(Err(Miss::NoHeader)),
            Probe::BadLink => return Ok(Err(Miss::BadLink)),
        };
        if header.lsn != self.expected {
            return Ok(Err(Miss::Sequence { found: header.lsn }));
        }
        if header.previous != self.link || header.epoch != self.segments[self.current].header.epoch {
            return Ok(Err(Miss::Chain));
        }
        let payload_at = offset + RECORD_HEADER as u64;
        let payload_len = header.payload_len as usize;
        let Some(payload) = self.window.get(folder, payload_at, payload_len).map_err(unreadable)? else {
            return Ok(Err(Miss::Length { bytes: payload_len }));
        };
        if crc64(&[payload]) != header.payload_crc {
            return Ok(Err(Miss::Payload));
        }
        Ok(Ok((Found { pos, previous: header.previous, payload_at, payload_len }, header, link)))
    }

    /// Reading stopped: a torn tail is fine, anything else is an error.
    fn judge(&mut self, folder: &dyn Folder, at: RecordPos, miss: Miss) -> Result<(), JournalError> {
        let mut evidence = Evidence { expected: at, newest_durable: self.proven, unfinished: false };
        let here = &self.segments[self.current];
        evidence.search(folder, here.name.clone(), here.len, self.offset, &self.key)?;
        for later in &self.segments[self.current + 1..] {
            evidence.newest_durable = evidence.newest_durable.max(later.header.durable);
            evidence.unfinished = true;
            evidence.search(folder, later.name.clone(), later.len, BLOCK as u64, &later.header.key())?;
        }
        for (name, len) in &self.others {
            evidence.search(folder, name.clone(), *len, BLOCK as u64, &self.key)?;
        }
        let proven = evidence.newest_durable;
        if proven < at.lsn {
            let unfinished = matches!(miss, Miss::BadLink | Miss::Length { .. } | Miss::Payload);
            self.torn = (unfinished || evidence.unfinished).then_some(at);
            return Ok(());
        }
        if matches!(miss, Miss::Nothing) && proven == self.slot_proven && !evidence.unfinished {
            return Err(JournalError::BehindSlot { tip: self.tip(), proven });
        }
        Err(JournalError::Damaged { at, what: miss.to_string(), proven })
    }
}

/// What the rest of the journal says about a record that cannot be read.
struct Evidence {
    expected: RecordPos,
    /// The newest record that anything says was durable.
    newest_durable: Lsn,
    /// Records that would follow the expected one were found: if it was not durable, parts of an unfinished commit.
    unfinished: bool,
}

impl Evidence {
    /// Looks at everything from `from` on that was written as a record's header.
    fn search(
        &mut self,
        folder: &dyn Folder,
        name: String,
        len: u64,
        from: u64,
        key: &Key,
    ) -> Result<(), JournalError> {
        let mut window = Window::new(name, len);
        let mut start = align_up(from as usize, ALIGN) as u64;
        // Nothing more can be learnt once the record is known to have been durable and to have successors.
        while !(self.unfinished && self.newest_durable >= self.expected.lsn)
            && start + RECORD_HEADER as u64 <= len
        {
            let n = (len - start).min(WINDOW as u64) as usize;
            let at = self.expected;
            let bytes =
                window.get(folder, start, n).map_err(|source| JournalError::Unreadable { at, source })?;
            let Some(bytes) = bytes else { break };
            for place in (0..=bytes.len() - RECORD_HEADER).step_by(ALIGN) {
                if RecordHeader::may_begin(&bytes[place..])
                    && let Probe::Record(header, _) = RecordHeader::probe(key, &bytes[place..])
                {
                    self.newest_durable = self.newest_durable.max(header.durable);
                    self.unfinished |= header.lsn >= at.lsn;
                }
            }
            if n < WINDOW {
                break;
            }
            // A header may straddle two windows.
            start += (WINDOW - RECORD_HEADER) as u64;
        }
        Ok(())
    }
}

/// Why there is no valid record at a place.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Miss {
    #[error("nothing is written where the record should be")]
    Nothing,
    #[error("what stands there is no record")]
    NoHeader,
    #[error("the record's header was altered")]
    BadLink,
    #[error("record {found} stands there: a misdirected, repeated or lost write")]
    Sequence { found: Lsn },
    #[error("the record does not continue the chain: an old block came back, or a write was lost")]
    Chain,
    #[error("its length of {bytes} bytes leads beyond the end of the file")]
    Length { bytes: usize },
    #[error("its payload was altered")]
    Payload,
}
