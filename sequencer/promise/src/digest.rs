//! The digest of a mini-block's header: what is signed, and what the next header names as its parent.

use alloy_primitives::{B256, keccak256};
use ironlane_types::MiniBlockHeader;

/// Domain separator: ASCII, padded with zeros, as Solidity's `bytes32("ironlane mini-block v1")`. Its first byte begins
/// neither an Ethereum transaction (RLP lists, types 0 to 4) nor an EIP-191 message (0x19), so a signature over a digest
/// can never be taken for one of those.
pub const DOMAIN: [u8; 32] = *b"ironlane mini-block v1\0\0\0\0\0\0\0\0\0\0";

/// Bytes that are hashed: domain (32), chain id (8), then the header (100).
pub const DIGEST_PREIMAGE_BYTES: usize = 32 + 8 + HEADER_BYTES;

/// Bytes of an encoded header.
pub(crate) const HEADER_BYTES: usize = 8 + 32 + 8 + 8 + 4 + 8 + 32;

/// Keccak-256 of [`digest_preimage`].
pub fn digest(header: &MiniBlockHeader, chain_id: u64) -> B256 {
    keccak256(digest_preimage(header, chain_id))
}

/// The bytes under the digest, integers big-endian: domain, chain id (8), height (8), parent (32), block number (8),
/// first sequence number (8), transaction count (4), timestamp in microseconds (8), transactions root (32). It is
/// Solidity's `abi.encodePacked` of those fields.
pub fn digest_preimage(header: &MiniBlockHeader, chain_id: u64) -> [u8; DIGEST_PREIMAGE_BYTES] {
    let mut bytes = [0; DIGEST_PREIMAGE_BYTES];
    bytes[..32].copy_from_slice(&DOMAIN);
    bytes[32..40].copy_from_slice(&chain_id.to_be_bytes());
    bytes[40..].copy_from_slice(&encode_header(header));
    bytes
}

/// The header alone, as it stands in the preimage and on the wire.
pub(crate) fn encode_header(header: &MiniBlockHeader) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..8].copy_from_slice(&header.height.to_be_bytes());
    bytes[8..40].copy_from_slice(header.parent.as_slice());
    bytes[40..48].copy_from_slice(&header.block_number.to_be_bytes());
    bytes[48..56].copy_from_slice(&header.first_seq.to_be_bytes());
    bytes[56..60].copy_from_slice(&header.tx_count.to_be_bytes());
    bytes[60..68].copy_from_slice(&header.timestamp_us.to_be_bytes());
    bytes[68..100].copy_from_slice(header.txs_root.as_slice());
    bytes
}

/// The reverse of [`encode_header`].
pub(crate) fn decode_header(bytes: &[u8; HEADER_BYTES]) -> MiniBlockHeader {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_be_bytes(word)
    };
    MiniBlockHeader {
        height: word(0),
        parent: B256::from_slice(&bytes[8..40]),
        block_number: word(40),
        first_seq: word(48),
        tx_count: u32::from_be_bytes([bytes[56], bytes[57], bytes[58], bytes[59]]),
        timestamp_us: word(60),
        txs_root: B256::from_slice(&bytes[68..100]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> MiniBlockHeader {
        MiniBlockHeader {
            height: 0x0102030405060708,
            parent: B256::repeat_byte(0xaa),
            block_number: 7,
            first_seq: 1_000_000,
            tx_count: 0x0a0b0c0d,
            timestamp_us: 1_700_000_000_000_000,
            txs_root: B256::repeat_byte(0xbb),
        }
    }

    #[test]
    fn every_field_and_the_chain_change_the_digest() {
        let base = digest(&header(), 31337);
        let mut others = vec![digest(&header(), 31338)];
        let mut with = |change: fn(&mut MiniBlockHeader)| {
            let mut changed = header();
            change(&mut changed);
            others.push(digest(&changed, 31337));
        };
        with(|h| h.height += 1);
        with(|h| h.parent.0[31] ^= 1);
        with(|h| h.block_number += 1);
        with(|h| h.first_seq += 1);
        with(|h| h.tx_count += 1);
        with(|h| h.timestamp_us += 1);
        with(|h| h.txs_root.0[0] ^= 1);
        others.push(base);
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), 9);
    }

    #[test]
    fn headers_survive_a_round_trip() {
        assert_eq!(decode_header(&encode_header(&header())), header());
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = digest_preimage(&header(), 31337);
        assert_eq!(&bytes[..22], b"ironlane mini-block v1");
        assert_eq!(bytes[22..32], [0; 10]);
        assert_eq!(bytes[32..40], [0, 0, 0, 0, 0, 0, 0x7a, 0x69]);
        assert_eq!(bytes[40..48], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[48..80], [0xaa; 32]);
        assert_eq!(bytes[96..100], [0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(bytes[108..140], [0xbb; 32]);
    }
}
