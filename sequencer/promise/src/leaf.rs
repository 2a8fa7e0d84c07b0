//! What is promised about one transaction: its place, and what came of it.

use alloy_primitives::{B256, Log, keccak256};
use ironlane_types::ExecutedTx;

/// Bytes that are hashed for a leaf: tag (1), sequence number (8), transaction hash (32), status (1), gas used (8), hash
/// of the logs (32).
pub const LEAF_PREIMAGE_BYTES: usize = 1 + 8 + 32 + 1 + 8 + 32;

/// First byte of a leaf's preimage. Inner nodes begin with 0x01, so that neither can be taken for the other.
const LEAF_TAG: u8 = 0x00;

/// One transaction in its place, with what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Place in the sequencer's order.
    pub seq: u64,
    /// Hash of the transaction.
    pub tx_hash: B256,
    /// Whether it ran to its end (a receipt's status).
    pub success: bool,
    /// Gas charged.
    pub gas_used: u64,
    /// [`logs_hash`] of its logs.
    pub logs_hash: B256,
}

impl Leaf {
    /// The leaf of an executed transaction.
    pub fn of(executed: &ExecutedTx) -> Leaf {
        Leaf {
            seq: executed.seq,
            tx_hash: executed.tx.hash,
            success: executed.outcome.success,
            gas_used: executed.outcome.gas_used,
            logs_hash: logs_hash(&executed.outcome.logs),
        }
    }

    /// Keccak-256 of the leaf's bytes: 0x00, sequence number, transaction hash, status (0 or 1), gas used, hash of the
    /// logs; integers big-endian.
    pub fn hash(&self) -> B256 {
        let mut bytes = [0; LEAF_PREIMAGE_BYTES];
        bytes[0] = LEAF_TAG;
        bytes[1..9].copy_from_slice(&self.seq.to_be_bytes());
        bytes[9..41].copy_from_slice(self.tx_hash.as_slice());
        bytes[41] = u8::from(self.success);
        bytes[42..50].copy_from_slice(&self.gas_used.to_be_bytes());
        bytes[50..82].copy_from_slice(self.logs_hash.as_slice());
        keccak256(bytes)
    }
}

/// Keccak-256 of the RLP list of the logs, each `[address, [topic, …], data]`: the fourth item of a receipt.
pub fn logs_hash(logs: &[Log]) -> B256 {
    /// Keccak-256 of the empty RLP list (0xc0), which most transfers have.
    const NO_LOGS: B256 =
        alloy_primitives::b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");
    if logs.is_empty() {
        return NO_LOGS;
    }
    let mut rlp = Vec::with_capacity(alloy_rlp::list_length(logs));
    alloy_rlp::encode_list(logs, &mut rlp);
    keccak256(rlp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, Bytes};

    #[test]
    fn the_hash_of_no_logs_is_that_of_an_empty_list() {
        assert_eq!(logs_hash(&[]), keccak256([0xc0]));
    }

    #[test]
    fn logs_are_hashed_as_in_a_receipt() {
        let topic = B256::repeat_byte(2);
        let log = Log::new_unchecked(Address::repeat_byte(1), vec![topic], Bytes::from_static(&[3]));
        // list(list(address, list(topic), 0x03)), written out by hand.
        let mut rlp = vec![0xf8, 0x3a, 0xf8, 0x38, 0x94];
        rlp.extend([1; 20]);
        rlp.extend([0xe1, 0xa0]);
        rlp.extend([2; 32]);
        rlp.push(3);
        // address 21, topics 34, data 1: 56 bytes need the long form.
        assert_eq!(logs_hash(&[log]), keccak256(rlp));
    }

    #[test]
    fn every_field_changes_the_hash() {
        let leaf = Leaf {
            seq: 1,
            tx_hash: B256::repeat_byte(1),
            success: true,
            gas_used: 21_000,
            logs_hash: logs_hash(&[]),
        };
        let mut hashes = vec![
            leaf.hash(),
            Leaf { seq: 2, ..leaf }.hash(),
            Leaf { tx_hash: B256::ZERO, ..leaf }.hash(),
            Leaf { success: false, ..leaf }.hash(),
            Leaf { gas_used: 21_001, ..leaf }.hash(),
            Leaf { logs_hash: B256::ZERO, ..leaf }.hash(),
        ];
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 6);
    }
}
