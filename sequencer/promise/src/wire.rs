//! The promise as bytes: fixed layout, integers big-endian, length known from one byte.

use crate::digest::{HEADER_BYTES, decode_header, encode_header};
use crate::{Leaf, MerklePath, PATH_LEN_MAX, Promise, PromiseError};
use alloy_primitives::B256;

/// First byte of an encoded promise.
pub const WIRE_VERSION: u8 = 1;

const HEADER_AT: usize = 1;
const SIGNATURE_AT: usize = HEADER_AT + HEADER_BYTES;
const SEQ_AT: usize = SIGNATURE_AT + 65;
const TX_HASH_AT: usize = SEQ_AT + 8;
const STATUS_AT: usize = TX_HASH_AT + 32;
const GAS_AT: usize = STATUS_AT + 1;
const LOGS_AT: usize = GAS_AT + 8;
const PATH_LEN_AT: usize = LOGS_AT + 32;

/// Bytes of a promise with an empty path.
pub const WIRE_BYTES_MIN: usize = PATH_LEN_AT + 1;
/// Bytes of a promise with the longest path.
pub const WIRE_BYTES_MAX: usize = WIRE_BYTES_MIN + 32 * PATH_LEN_MAX;

const _: () = assert!(WIRE_BYTES_MIN == 248, "docs/formats.md names this number");
const _: () = assert!(PATH_LEN_MAX <= u8::MAX as usize, "the path's length is one byte");

impl Promise {
    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // A path longer than any tree can need would not be read back; it can only come from a hand-made value.
        assert!(self.path.siblings.len() <= PATH_LEN_MAX, "a Merkle path has at most {PATH_LEN_MAX} hashes");
        out.reserve(WIRE_BYTES_MIN + 32 * self.path.siblings.len());
        out.push(WIRE_VERSION);
        out.extend(encode_header(&self.header));
        out.extend(self.signature);
        out.extend(self.leaf.seq.to_be_bytes());
        out.extend(self.leaf.tx_hash);
        out.push(u8::from(self.leaf.success));
        out.extend(self.leaf.gas_used.to_be_bytes());
        out.extend(self.leaf.logs_hash);
        out.push(self.path.siblings.len() as u8);
        self.path.siblings.iter().for_each(|hash| out.extend(hash));
    }

    /// Reads the wire form; `bytes` holds one promise and nothing else.
    ///
    /// # Errors
    ///
    /// [`PromiseError::UnknownVersion`], [`PromiseError::Length`], [`PromiseError::Status`], or
    /// [`PromiseError::PathLength`]. Whether the promise holds is [`Promise::verify`]'s to say.
    pub fn decode(bytes: &[u8]) -> Result<Promise, PromiseError> {
        match bytes.first() {
            Some(&WIRE_VERSION) => {}
            Some(other) => return Err(PromiseError::UnknownVersion(*other)),
            None => return Err(PromiseError::Length { got: 0, wanted: WIRE_BYTES_MIN }),
        }
        let length = |wanted| PromiseError::Length { got: bytes.len(), wanted };
        let hashes = usize::from(*bytes.get(PATH_LEN_AT).ok_or_else(|| length(WIRE_BYTES_MIN))?);
        if hashes > PATH_LEN_MAX {
            return Err(PromiseError::PathLength { got: hashes, wanted: PATH_LEN_MAX });
        }
        if bytes.len() != WIRE_BYTES_MIN + 32 * hashes {
            return Err(length(WIRE_BYTES_MIN + 32 * hashes));
        }
        let success = match bytes[STATUS_AT] {
            0 => false,
            1 => true,
            other => return Err(PromiseError::Status(other)),
        };
        Ok(Promise {
            header: decode_header(&array(bytes, HEADER_AT)),
            signature: array(bytes, SIGNATURE_AT),
            leaf: Leaf {
                seq: u64::from_be_bytes(array(bytes, SEQ_AT)),
                tx_hash: B256::new(array(bytes, TX_HASH_AT)),
                success,
                gas_used: u64::from_be_bytes(array(bytes, GAS_AT)),
                logs_hash: B256::new(array(bytes, LOGS_AT)),
            },
            path: MerklePath {
                siblings: bytes[WIRE_BYTES_MIN..].chunks_exact(32).map(B256::from_slice).collect(),
            },
        })
    }
}

/// `N` bytes from `at`. The caller has checked that they are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
