//! RLP of trie nodes (Yellow Paper, appendices B to D), appended to a buffer.

use crate::nibbles::nibble;

/// RLP of the empty string: an absent child, and the whole of an empty trie.
pub(crate) const EMPTY_STRING: u8 = 0x80;
/// Header of a 32-byte string.
pub(crate) const HASH_HEADER: u8 = 0xa0;

/// Bytes of the header of an item whose payload has `len` bytes (a single byte below 0x80 apart).
pub(crate) const fn header_len(len: usize) -> usize {
    match len {
        0..56 => 1,
        56..256 => 2,
        256..65536 => 3,
        _ => 4,
    }
}

fn put_header(out: &mut Vec<u8>, len: usize, short: u8) {
    match len {
        0..56 => out.push(short + len as u8),
        56..256 => out.extend_from_slice(&[short + 56, len as u8]),
        256..65536 => out.extend_from_slice(&[short + 57, (len >> 8) as u8, len as u8]),
        _ => out.extend_from_slice(&[short + 58, (len >> 16) as u8, (len >> 8) as u8, len as u8]),
    }
}

/// Header of a list with `len` bytes (below 2²⁴) of payload.
pub(crate) fn put_list(out: &mut Vec<u8>, len: usize) {
    put_header(out, len, 0xc0);
}

/// Bytes that a string takes with its header.
pub(crate) fn string_len(bytes: &[u8]) -> usize {
    if bytes.len() == 1 && bytes[0] < 0x80 { 1 } else { header_len(bytes.len()) + bytes.len() }
}

/// A string (below 2²⁴ bytes) with its header.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() != 1 || bytes[0] >= 0x80 {
        put_header(out, bytes.len(), EMPTY_STRING);
    }
    out.extend_from_slice(bytes);
}

/// Bytes of a hash with its header.
pub(crate) const HASH_ITEM_LEN: usize = 33;

/// A hash with its header.
pub(crate) fn put_hash(out: &mut Vec<u8>, hash: &[u8]) {
    out.push(HASH_HEADER);
    out.extend_from_slice(hash);
}

/// Length of an item, read from its first byte; for items below 56 bytes of payload.
pub(crate) fn short_item_len(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0x80..0xc0 => 1 + usize::from(first - 0x80),
        _ => 1 + usize::from(first - 0xc0),
    }
}

/// A number without its leading zeros, big-endian.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    &bytes[zeros..]
}

/// Compact ("hex prefix") encoding of nibbles `from..to` of a key, as at most 33 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    bytes: [u8; 33],
    len: u8,
}

impl Path {
    pub(crate) fn new(key: &[u8; 32], from: usize, to: usize, leaf: bool) -> Self {
        let mut bytes = [0; 33];
        let count = to - from;
        let odd = count & 1;
        bytes[0] = if leaf { 0x20 } else { 0 };
        if odd == 1 {
            bytes[0] |= 0x10 | nibble(key, from) as u8;
        }
        let whole = count / 2;
        let start = from + odd;
        if start & 1 == 0 {
            bytes[1..=whole].copy_from_slice(&key[start / 2..start / 2 + whole]);
        } else {
            let source = &key[start / 2..start / 2 + whole + 1];
            for (byte, pair) in bytes[1..].iter_mut().zip(source.windows(2)) {
                *byte = pair[0] << 4 | pair[1] >> 4;
            }
        }
        Path { bytes, len: 1 + whole as u8 }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_rlp::Encodable;

    #[test]
    fn strings_are_encoded_as_alloy_does() {
        for len in [0usize, 1, 2, 55, 56, 255, 256, 1000, 70_000] {
            for first in [0u8, 0x7f, 0x80, 0xff] {
                let bytes = vec![first; len];
                let mut ours = Vec::new();
                put_string(&mut ours, &bytes);
                let mut theirs = Vec::new();
                bytes.as_slice().encode(&mut theirs);
                assert_eq!(ours, theirs);
                assert_eq!(string_len(&bytes), ours.len());
            }
            let mut ours = Vec::new();
            put_list(&mut ours, len);
            let mut theirs = Vec::new();
            alloy_rlp::Header { list: true, payload_length: len }.encode(&mut theirs);
            assert_eq!(ours, theirs);
            assert_eq!(header_len(len), ours.len());
        }
    }

    #[test]
    fn paths_are_the_yellow_papers_for_every_range() {
        let key: [u8; 32] = std::array::from_fn(|i| (i * 37 + 11) as u8);
        for from in 0..=64 {
            for to in from..=64 {
                for leaf in [false, true] {
                    let mut nibbles = Vec::new();
                    let flag = if leaf { 2 } else { 0 };
                    if (to - from) % 2 == 1 {
                        nibbles.push(flag + 1)
                    } else {
                        nibbles.extend([flag, 0])
                    }
                    nibbles.extend((from..to).map(|d| nibble(&key, d)));
                    let expected: Vec<u8> = nibbles.chunks(2).map(|p| (p[0] << 4 | p[1]) as u8).collect();
                    assert_eq!(Path::new(&key, from, to, leaf).as_slice(), expected, "{from}..{to} {leaf}");
                }
            }
        }
    }
}
