//! The bytes on disk (`docs/formats.md`, sections *Journal* and *Signer slot*). All integers are little-endian.

use crate::{Lsn, SignerMark, SignerSlot};
use crc_fast::{CrcAlgorithm, Digest};

/// Unit of writing: commits begin and end on it.
pub const BLOCK: usize = 4096;
/// Newest format version that this code reads, and the one that it writes.
pub const VERSION: u16 = 1;
/// Records and their headers begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Bytes of a record's header.
pub(crate) const RECORD_HEADER: usize = 104;
/// Pages of the signer slot, used in turn.
pub(crate) const SLOT_PAGES: u64 = 8;
/// Where segment headers and slot pages have their checksum, in every version: with it they fill one disk sector.
const CRC_AT: usize = 504;

/// Largest count or number that a file may claim: what is counted on from there cannot overflow.
const COUNT_MAX: u64 = u64::MAX / 2;

const RECORD_MAGIC: [u8; 4] = *b"IrJr";
const SEGMENT_MAGIC: [u8; 8] = *b"IRONJRNL";
const SLOT_MAGIC: [u8; 8] = *b"IRONSLOT";

const _: () = assert!(RECORD_HEADER.is_multiple_of(ALIGN) && BLOCK.is_multiple_of(ALIGN));

pub(crate) fn segment_name(index: u64) -> String {
    format!("journal-{index:016x}.seg")
}

pub(crate) fn segment_index(name: &str) -> Option<u64> {
    let hex = name.strip_prefix("journal-")?.strip_suffix(".seg")?;
    let index = if hex.len() == 16 { u64::from_str_radix(hex, 16).ok()? } else { return None };
    (index <= COUNT_MAX).then_some(index)
}

pub(crate) const fn align_up(n: usize, to: usize) -> usize {
    n.next_multiple_of(to)
}

/// CRC-64/NVME over several parts.
pub(crate) fn crc64(parts: &[&[u8]]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// `N` bytes from `at`; the callers' slices are long enough by their types or a check before.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Link of the hash chain: a keyed BLAKE3 hash over a record's header, the previous link and the payload's checksum in it.
pub(crate) type Link = [u8; 32];
/// Key of the links, different for each journal and unknown outside, so that no payload can imitate a record.
pub(crate) type Key = [u8; 32];

pub(crate) fn chain_key(identity: &[u8; 32], salt: &[u8; 16]) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("ironlane journal link v1");
    hasher.update(identity);
    hasher.update(salt);
    *hasher.finalize().as_bytes()
}

/// The link before the first record.
pub(crate) fn first_link(key: &Key) -> Link {
    *blake3::keyed_hash(key, b"genesis").as_bytes()
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) payload_len: u32,
    pub(crate) lsn: Lsn,
    /// Newest record that was known durable when this one was written.
    pub(crate) durable: Lsn,
    /// Drawn at random at each opening: tells an abandoned tail from its successor.
    pub(crate) epoch: u64,
    pub(crate) payload_crc: u64,
    pub(crate) previous: Link,
}

/// What stands at a place where a record could begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    Record(RecordHeader, Link),
    /// Not a header: all zeros, or something else.
    Zero,
    NoMagic,
    /// The magic is right, the link is not.
    BadLink,
}

impl RecordHeader {
    /// Notes what is known when a record is taken; [`RecordHeader::seal`] completes the header when it is written.
    pub(crate) fn stage(out: &mut [u8], payload_len: u32, lsn: Lsn, payload_crc: u64) {
        out[0..4].copy_from_slice(&RECORD_MAGIC);
        out[4..8].copy_from_slice(&payload_len.to_le_bytes());
        out[8..16].copy_from_slice(&lsn.to_le_bytes());
        out[32..40].copy_from_slice(&payload_crc.to_le_bytes());
    }

    /// Completes a staged header; returns its link and the bytes from here to the next record of the commit.
    pub(crate) fn seal(
        out: &mut [u8],
        key: &Key,
        durable: Lsn,
        epoch: u64,
        previous: &Link,
    ) -> (Link, usize) {
        out[16..24].copy_from_slice(&durable.to_le_bytes());
        out[24..32].copy_from_slice(&epoch.to_le_bytes());
        out[40..72].copy_from_slice(previous);
        let link = *blake3::keyed_hash(key, &out[..72]).as_bytes();
        out[72..104].copy_from_slice(&link);
        (link, Self::total_bytes(u32::from_le_bytes(array(out, 4)) as usize))
    }

    /// Reads what `bytes` (at least [`RECORD_HEADER`]) hold. A `Record` is authentic: its link was checked.
    pub(crate) fn probe(key: &Key, bytes: &[u8]) -> Probe {
        if bytes[0..4] != RECORD_MAGIC {
            return if bytes[..RECORD_HEADER].iter().all(|b| *b == 0) { Probe::Zero } else { Probe::NoMagic };
        }
        let link: Link = array(bytes, 72);
        if *blake3::keyed_hash(key, &bytes[..72]).as_bytes() != link {
            return Probe::BadLink;
        }
        let header = Self {
            payload_len: u32::from_le_bytes(array(bytes, 4)),
            lsn: u64_at(bytes, 8),
            durable: u64_at(bytes, 16),
            epoch: u64_at(bytes, 24),
            payload_crc: u64_at(bytes, 32),
            previous: array(bytes, 40),
        };
        Probe::Record(header, link)
    }

    /// Header, payload and zeros up to the next multiple of [`ALIGN`].
    pub(crate) fn total_bytes(payload_len: usize) -> usize {
        align_up(RECORD_HEADER + payload_len, ALIGN)
    }

    pub(crate) fn may_begin(bytes: &[u8]) -> bool {
        bytes.starts_with(&RECORD_MAGIC)
    }
}

/// First block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: [u8; 32],
    pub(crate) salt: [u8; 16],
    pub(crate) index: u64,
    /// Sequence number of its first record.
    pub(crate) base: Lsn,
    /// Newest record that was known durable when this header was written.
    pub(crate) durable: Lsn,
    pub(crate) epoch: u64,
    pub(crate) segment_bytes: u64,
    /// Link of record `base - 1`.
    pub(crate) previous: Link,
}

/// Why a block is not a header or a page that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Never written, torn or damaged.
    Blank,
    /// A valid block of a newer version.
    Newer(u16),
}

/// Checks magic, checksum and version, in this order: the first two have their place in every version.
fn check_sector(bytes: &[u8], magic: &[u8; 8]) -> Result<(), Unusable> {
    if bytes.len() < CRC_AT + 8 || bytes[..8] != *magic || u64_at(bytes, CRC_AT) != crc64(&[&bytes[..CRC_AT]])
    {
        return Err(Unusable::Blank);
    }
    match u16::from_le_bytes(array(bytes, 8)) {
        VERSION => Ok(()),
        newer if newer > VERSION => Err(Unusable::Newer(newer)),
        _ => Err(Unusable::Blank),
    }
}

fn begin_sector(out: &mut [u8], magic: &[u8; 8]) {
    out[..BLOCK].fill(0);
    out[..8].copy_from_slice(magic);
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
}

fn end_sector(out: &mut [u8]) {
    let crc = crc64(&[&out[..CRC_AT]]);
    out[CRC_AT..CRC_AT + 8].copy_from_slice(&crc.to_le_bytes());
}

impl SegmentHeader {
    /// Writes one [`BLOCK`].
    pub(crate) fn encode(&self, out: &mut [u8]) {
        begin_sector(out, &SEGMENT_MAGIC);
        out[16..48].copy_from_slice(&self.identity);
        out[48..64].copy_from_slice(&self.salt);
        for (at, value) in [
            (64, self.index),
            (72, self.base),
            (80, self.durable),
            (88, self.epoch),
            (96, self.segment_bytes),
        ] {
            out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        out[104..136].copy_from_slice(&self.previous);
        end_sector(out);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unusable> {
        check_sector(bytes, &SEGMENT_MAGIC)?;
        let header = Self {
            identity: array(bytes, 16),
            salt: array(bytes, 48),
            index: u64_at(bytes, 64),
            base: u64_at(bytes, 72),
            durable: u64_at(bytes, 80),
            epoch: u64_at(bytes, 88),
            segment_bytes: u64_at(bytes, 96),
            previous: array(bytes, 104),
        };
        if (1..=COUNT_MAX).contains(&header.base) { Ok(header) } else { Err(Unusable::Blank) }
    }

    pub(crate) fn key(&self) -> Key {
        chain_key(&self.identity, &self.salt)
    }
}

/// Writes one page of the signer slot, a [`BLOCK`].
pub(crate) fn encode_slot(slot: &SignerSlot, identity: &[u8; 32], out: &mut [u8]) {
    begin_sector(out, &SLOT_MAGIC);
    out[16..48].copy_from_slice(identity);
    out[48..56].copy_from_slice(&slot.generation.to_le_bytes());
    out[56..64].copy_from_slice(&slot.durable.to_le_bytes());
    out[64..72].copy_from_slice(&slot.signed.height.to_le_bytes());
    out[72..104].copy_from_slice(&slot.signed.digest);
    out[104..112].copy_from_slice(&slot.pending.height.to_le_bytes());
    out[112..144].copy_from_slice(&slot.pending.digest);
    end_sector(out);
}

/// Reads one page: the slot and the identity that it belongs to.
pub(crate) fn decode_slot(bytes: &[u8]) -> Result<(SignerSlot, [u8; 32]), Unusable> {
    check_sector(bytes, &SLOT_MAGIC)?;
    let slot = SignerSlot {
        generation: u64_at(bytes, 48),
        durable: u64_at(bytes, 56),
        signed: SignerMark { height: u64_at(bytes, 64), digest: array(bytes, 72) },
        pending: SignerMark { height: u64_at(bytes, 104), digest: array(bytes, 112) },
    };
    if slot.generation <= COUNT_MAX { Ok((slot, array(bytes, 16))) } else { Err(Unusable::Blank) }
}

/// Page of the slot's file that this generation goes to.
pub(crate) fn slot_page(generation: u64) -> u64 {
    generation % SLOT_PAGES
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_headers_round_trip_and_every_bit_matters() {
        let key = chain_key(&[1; 32], &[2; 16]);
        let header = RecordHeader {
            payload_len: 77,
            lsn: 5,
            durable: 4,
            epoch: 9,
            payload_crc: 11,
            previous: first_link(&key),
        };
        let mut bytes = [0; RECORD_HEADER];
        RecordHeader::stage(&mut bytes, header.payload_len, header.lsn, header.payload_crc);
        let (link, total) =
            RecordHeader::seal(&mut bytes, &key, header.durable, header.epoch, &header.previous);
        assert_eq!(total, 184, "header, 77 bytes, three of padding");
        assert_eq!(RecordHeader::probe(&key, &bytes), Probe::Record(header, link));
        for bit in 0..RECORD_HEADER * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(RecordHeader::probe(&key, &bad), Probe::Record(..)), "bit {bit}");
        }
        let other = chain_key(&[1; 32], &[3; 16]);
        assert_eq!(RecordHeader::probe(&other, &bytes), Probe::BadLink);
    }

    #[test]
    fn segment_headers_and_slot_pages_round_trip() {
        let header = SegmentHeader {
            identity: [1; 32],
            salt: [2; 16],
            index: 3,
            base: 4,
            durable: 5,
            epoch: 6,
            segment_bytes: 7,
            previous: [8; 32],
        };
        let mut block = vec![0xff; BLOCK];
        header.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        let mut newer = block.clone();
        newer[8] = 9;
        assert_eq!(SegmentHeader::decode(&newer), Err(Unusable::Blank), "the checksum covers the version");
        end_sector(&mut newer);
        assert_eq!(SegmentHeader::decode(&newer), Err(Unusable::Newer(9)));
        assert_eq!(decode_slot(&block), Err(Unusable::Blank), "a segment header is no slot page");

        let slot = SignerSlot {
            generation: 1,
            signed: SignerMark { height: 2, digest: [3; 32] },
            pending: SignerMark { height: 4, digest: [5; 32] },
            durable: 6,
        };
        encode_slot(&slot, &[7; 32], &mut block);
        assert_eq!(decode_slot(&block), Ok((slot, [7; 32])));
        assert_eq!(SegmentHeader::decode(&block[..100]), Err(Unusable::Blank), "short input is refused");
    }

    #[test]
    fn segment_names_round_trip() {
        assert_eq!(segment_index(&segment_name(0x1f)), Some(0x1f));
        for bad in
            ["journal-1.seg", "journal-000000000000001f.tmp", "signer.slot", "journal-00000000000000zz.seg"]
        {
            assert_eq!(segment_index(bad), None, "{bad}");
        }
    }
}
