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

#[inline]
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
#[inline]
pub(crate) fn put_hash(out: &mut Vec<u8>, hash: &[u8; 32]) {
    let mut item = [HASH_HEADER; HASH_ITEM_LEN];
    item[1..].copy_from_slice(hash);
    out.extend_from_slice(&item);
}

/// Length of an item, read from its first byte; for items below 56 bytes of payload.
pub(crate) fn short_item_len(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0x80..0xc0 => 1 + usize::from(first - 0x80),
        _ => 1 + usize::from(first - 0xc0),
    }
}

/// A number's bytes, big-endian, without leading zeros: at the front of an array, so that copies have a constant size.
#[derive(Clone, Copy)]
pub(crate) struct Number<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl Number<8> {
    #[inline]
    pub(crate) fn from_u64(value: u64) -> Self {
        let len = 8 - value.leading_zeros() as usize / 8;
        Number { bytes: value.checked_shl(64 - 8 * len as u32).unwrap_or(0).to_be_bytes(), len }
    }
}

impl Number<16> {
    #[inline]
    pub(crate) fn from_u128(value: u128) -> Self {
        let len = 16 - value.leading_zeros() as usize / 8;
        Number { bytes: value.checked_shl(128 - 8 * len as u32).unwrap_or(0).to_be_bytes(), len }
    }
}

impl Number<32> {
    #[inline]
    pub(crate) fn from_word(word: &[u8; 32]) -> Self {
        let zeros = word.iter().take_while(|b| **b == 0).count();
        let mut bytes = [0; 32];
        bytes[..32 - zeros].copy_from_slice(&word[zeros..]);
        Number { bytes, len: 32 - zeros }
    }
}

impl<const N: usize> Number<N> {
    /// Bytes as a string with its header.
    #[inline]
    pub(crate) fn item_len(&self) -> usize {
        if self.len == 1 && self.bytes[0] < 0x80 { 1 } else { 1 + self.len }
    }

    /// The number as a string with its header.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if self.len != 1 || self.bytes[0] >= 0x80 {
            out.push(EMPTY_STRING + self.len as u8);
        }
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
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

    /// Bytes as a string with its header.
    #[inline]
    pub(crate) fn item_len(&self) -> usize {
        // The first byte is below 0x80, and 33 bytes are a short string.
        if self.len == 1 { 1 } else { 1 + usize::from(self.len) }
    }

    /// The path as a string with its header.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if self.len != 1 {
            out.push(EMPTY_STRING + self.len);
        }
        let end = out.len() + usize::from(self.len);
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
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
                    let mut theirs = Vec::new();
                    expected.as_slice().encode(&mut theirs);
                    let path = Path::new(&key, from, to, leaf);
                    let mut ours = Vec::new();
                    path.put(&mut ours);
                    assert_eq!(ours, theirs, "{from}..{to} {leaf}");
                    assert_eq!(path.item_len(), ours.len());
                }
            }
        }
    }

    #[test]
    fn numbers_are_encoded_as_alloy_does() {
        for bits in 0..=256usize {
            for value in [U256::from(1) << bits, (U256::from(1) << bits).wrapping_sub(U256::from(1))] {
                let mut theirs = Vec::new();
                value.encode(&mut theirs);
                let check =
                    |ours: Vec<u8>, len: usize| assert_eq!((ours, len), (theirs.clone(), theirs.len()));
                let encoded = |put: &dyn Fn(&mut Vec<u8>)| {
                    let mut out = Vec::new();
                    put(&mut out);
                    out
                };
                let word = Number::from_word(&value.to_be_bytes());
                check(encoded(&|out| word.put(out)), word.item_len());
                if let Ok(value) = u128::try_from(value) {
                    let number = Number::from_u128(value);
                    check(encoded(&|out| number.put(out)), number.item_len());
                }
                if let Ok(value) = u64::try_from(value) {
                    let number = Number::from_u64(value);
                    check(encoded(&|out| number.put(out)), number.item_len());
                }
            }
        }
    }
}
