//! What the journal holds: one record for each step whose order matters (`docs/formats.md`, "Journal payloads").
//!
//! A record is a kind byte and a body of fixed-width little-endian fields. Decoding never trusts a length: every read is
//! checked, and a record with bytes left over is refused.

use alloy_consensus::Header;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B64, B256, Bytes, U256};
use ironlane_types::{BlockContext, MiniBlockHeader};

const KIND_OPEN: u8 = 1;
const KIND_MINI: u8 = 2;
const KIND_CLOSE: u8 = 3;
const KIND_SEALED: u8 = 4;

/// Bytes of a mini-block record before its transactions: kind, then the header's fields.
pub const MINI_HEADER_BYTES: usize = 1 + 8 + 32 + 8 + 8 + 4 + 8 + 32;
/// Bytes before each transaction's own: sender, length.
pub const TX_PREFIX_BYTES: usize = 20 + 4;

/// A record that is not as it must be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// Ends before its last field.
    #[error("the record ends inside a field")]
    Short,
    /// Goes on after its last field.
    #[error("the record has {0} bytes more than its fields")]
    Trailing(usize),
    /// A kind that this version does not know.
    #[error("the record's kind {0} is unknown to this version")]
    UnknownKind(u8),
    /// An option's flag is neither 0 nor 1.
    #[error("the record holds the flag {0}, which must be 0 or 1")]
    BadFlag(u8),
}

/// A transaction as the journal keeps it: its sender was authenticated before it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalledTx<'a> {
    /// The signer, recovered at admission.
    pub sender: Address,
    /// EIP-2718 bytes.
    pub raw: &'a [u8],
}

/// One journal record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// An EVM block opens.
    Open(BlockContext),
    /// A mini-block is sealed.
    Mini {
        /// What is signed.
        header: MiniBlockHeader,
        /// Its transactions in order.
        txs: Vec<JournalledTx<'a>>,
    },
    /// The open EVM block closes.
    Close {
        /// Its height.
        number: u64,
        /// Gas used by all its transactions: a check for replay.
        gas_used: u64,
    },
    /// A closed block's root is known.
    Sealed {
        /// Its height.
        number: u64,
        /// Its hash.
        hash: B256,
        /// Its state root.
        state_root: B256,
    },
}

/// Encodes the opening of a block.
pub fn encode_open(context: &BlockContext, out: &mut Vec<u8>) {
    out.push(KIND_OPEN);
    out.extend_from_slice(&context.number.to_le_bytes());
    out.extend_from_slice(&context.timestamp.to_le_bytes());
    out.extend_from_slice(context.beneficiary.as_slice());
    out.extend_from_slice(&context.gas_limit.to_le_bytes());
    put_option(out, context.base_fee.map(u64::to_le_bytes));
    out.extend_from_slice(context.prev_randao.as_slice());
    out.extend_from_slice(&context.difficulty.to_le_bytes::<32>());
    put_option(out, context.excess_blob_gas.map(u64::to_le_bytes));
    put_option(out, context.parent_beacon_block_root.map(|root| root.0));
    out.push(u8::from(context.withdrawals.is_some()));
    out.extend_from_slice(context.nonce.as_slice());
    let extra = &context.extra_data[..context.extra_data.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
    out.extend_from_slice(extra);
}

/// Encodes a mini-block's header; its transactions follow, each by [`tx_prefix`] and its own bytes.
pub fn encode_mini_header(header: &MiniBlockHeader) -> [u8; MINI_HEADER_BYTES] {
    let mut out = [0; MINI_HEADER_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[KIND_MINI]);
    put(&header.height.to_le_bytes());
    put(header.parent.as_slice());
    put(&header.block_number.to_le_bytes());
    put(&header.first_seq.to_le_bytes());
    put(&header.tx_count.to_le_bytes());
    put(&header.timestamp_us.to_le_bytes());
    put(header.txs_root.as_slice());
    out
}

/// What stands before a transaction's bytes in a mini-block record.
pub fn tx_prefix(sender: Address, raw_len: usize) -> [u8; TX_PREFIX_BYTES] {
    let mut out = [0; TX_PREFIX_BYTES];
    out[..20].copy_from_slice(sender.as_slice());
    out[20..].copy_from_slice(&(raw_len as u32).to_le_bytes());
    out
}

/// Encodes the closing of a block.
pub fn encode_close(number: u64, gas_used: u64, out: &mut Vec<u8>) {
    out.push(KIND_CLOSE);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&gas_used.to_le_bytes());
}

/// Encodes a block's root and hash.
pub fn encode_sealed(header: &Header, hash: B256, out: &mut Vec<u8>) {
    out.push(KIND_SEALED);
    out.extend_from_slice(&header.number.to_le_bytes());
    out.extend_from_slice(hash.as_slice());
    out.extend_from_slice(header.state_root.as_slice());
}

fn put_option<const N: usize>(out: &mut Vec<u8>, value: Option<[u8; N]>) {
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(&value.unwrap_or([0; N]));
}

impl<'a> Record<'a> {
    /// Decodes one record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut input = Input(bytes);
        let record = match input.u8()? {
            KIND_OPEN => Self::Open(input.context()?),
            KIND_MINI => {
                let header = input.mini_header()?;
                let mut txs =
                    Vec::with_capacity((header.tx_count as usize).min(bytes.len() / TX_PREFIX_BYTES));
                for _ in 0..header.tx_count {
                    let sender = Address::from(input.array::<20>()?);
                    let len = u32::from_le_bytes(input.array()?) as usize;
                    txs.push(JournalledTx { sender, raw: input.bytes(len)? });
                }
                Self::Mini { header, txs }
            }
            KIND_CLOSE => Self::Close { number: input.u64()?, gas_used: input.u64()? },
            KIND_SEALED => Self::Sealed {
                number: input.u64()?,
                hash: B256::from(input.array::<32>()?),
                state_root: B256::from(input.array::<32>()?),
            },
            other => return Err(RecordError::UnknownKind(other)),
        };
        match input.0.len() {
            0 => Ok(record),
            more => Err(RecordError::Trailing(more)),
        }
    }
}

/// A reader that cannot run past the end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(RecordError::Short)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(RecordError::Short)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(RecordError::BadFlag(other)),
        }
    }

    fn option<const N: usize>(&mut self) -> Result<Option<[u8; N]>, RecordError> {
        let some = self.flag()?;
        let value = self.array()?;
        Ok(some.then_some(value))
    }

    fn context(&mut self) -> Result<BlockContext, RecordError> {
        Ok(BlockContext {
            number: self.u64()?,
            timestamp: self.u64()?,
            beneficiary: Address::from(self.array::<20>()?),
            gas_limit: self.u64()?,
            base_fee: self.option()?.map(u64::from_le_bytes),
            prev_randao: B256::from(self.array::<32>()?),
            difficulty: U256::from_le_bytes(self.array::<32>()?),
            excess_blob_gas: self.option()?.map(u64::from_le_bytes),
            parent_beacon_block_root: self.option::<32>()?.map(B256::from),
            withdrawals: self.flag()?.then(Vec::<Withdrawal>::new),
            ommers: Vec::new(),
            nonce: B64::from(self.array::<8>()?),
            extra_data: {
                let len = u16::from_le_bytes(self.array()?);
                Bytes::copy_from_slice(self.bytes(usize::from(len))?)
            },
        })
    }

    fn mini_header(&mut self) -> Result<MiniBlockHeader, RecordError> {
        Ok(MiniBlockHeader {
            height: self.u64()?,
            parent: B256::from(self.array::<32>()?),
            block_number: self.u64()?,
            first_seq: self.u64()?,
            tx_count: u32::from_le_bytes(self.array()?),
            timestamp_us: self.u64()?,
            txs_root: B256::from(self.array::<32>()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn context() -> BlockContext {
        BlockContext {
            number: 7,
            timestamp: 1_800_000_000,
            beneficiary: Address::repeat_byte(3),
            gas_limit: 30_000_000_000,
            base_fee: Some(1_000_000_000),
            prev_randao: B256::repeat_byte(4),
            difficulty: U256::ZERO,
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            withdrawals: Some(vec![]),
            ommers: vec![],
            extra_data: Bytes::from_static(b"ironlane"),
            nonce: B64::ZERO,
        }
    }

    fn mini(header: &MiniBlockHeader, txs: &[JournalledTx<'_>]) -> Vec<u8> {
        let mut out = encode_mini_header(header).to_vec();
        for tx in txs {
            out.extend_from_slice(&tx_prefix(tx.sender, tx.raw.len()));
            out.extend_from_slice(tx.raw);
        }
        out
    }

    fn samples() -> Vec<Vec<u8>> {
        let mut open = Vec::new();
        encode_open(&context(), &mut open);
        let mut bare = Vec::new();
        let old = BlockContext { base_fee: None, excess_blob_gas: None, withdrawals: None, ..context() };
        encode_open(&old, &mut bare);
        let mut close = Vec::new();
        encode_close(7, 21_000, &mut close);
        let mut sealed = Vec::new();
        encode_sealed(&Header::default(), B256::repeat_byte(9), &mut sealed);
        let header = MiniBlockHeader {
            height: 1,
            parent: B256::repeat_byte(1),
            block_number: 7,
            first_seq: 40,
            tx_count: 2,
            timestamp_us: 5,
            txs_root: B256::repeat_byte(2),
        };
        let txs = [
            JournalledTx { sender: Address::repeat_byte(5), raw: &[2, 3, 4] },
            JournalledTx { sender: Address::repeat_byte(6), raw: &[] },
        ];
        vec![open, bare, close, sealed, mini(&header, &txs)]
    }

    #[test]
    fn each_kind_round_trips() {
        let [open, bare, close, sealed, mini_record] = samples().try_into().expect("five samples");
        assert_eq!(Record::decode(&open), Ok(Record::Open(context())));
        let Ok(Record::Open(old)) = Record::decode(&bare) else { panic!("an open record") };
        assert_eq!((old.base_fee, old.withdrawals), (None, None));
        assert_eq!(Record::decode(&close), Ok(Record::Close { number: 7, gas_used: 21_000 }));
        assert!(matches!(Record::decode(&sealed), Ok(Record::Sealed { number: 0, .. })));
        let Ok(Record::Mini { header, txs }) = Record::decode(&mini_record) else { panic!("a mini record") };
        assert_eq!((header.first_seq, txs.len(), txs[0].raw), (40, 2, &[2u8, 3, 4][..]));
        assert_eq!(mini(&header, &txs), mini_record);
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        for record in samples() {
            for cut in 0..record.len() {
                assert!(Record::decode(&record[..cut]).is_err(), "cut at {cut}");
            }
            let mut longer = record.clone();
            longer.push(0);
            assert_eq!(Record::decode(&longer), Err(RecordError::Trailing(1)));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode(&bytes);
        }
    }
}
