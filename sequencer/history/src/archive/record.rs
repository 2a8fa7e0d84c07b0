//! One block as bytes: `header ‖ head ‖ mini-blocks ‖ table ‖ bodies`, all integers little-endian.
//!
//! | part | bytes |
//! | --- | --- |
//! | header | 64: magic u32, lengths of head, mini-blocks (u32 each), transactions u32, length of bodies u64, number u64, CRC-64/NVME of head, mini-blocks, table, and of the 56 bytes before (u64 each) |
//! | head | hash 32, state version u64, first mini-block height u64, then header, withdrawals, ommers as RLP, each after its u32 length (`u32::MAX`: no withdrawals) |
//! | mini-block | 208 each: height, block number, first sequence, state version, time in µs (u64 each), transactions u32, parent 32, root 32, digest 32, signature 65, three zero bytes |
//! | table | 48 a transaction: hash 32, offset into bodies u32, length u32, CRC-64/NVME of hash and body u64 |
//! | body | sequence u64, gas used u64, price u128, cumulative gas u64, first log u32, sender 20, flags u8 (1 success, 2 contract), contract 20 if any, raw after its u32 length, logs u32, each: address 20, topics u8, topics, data after its u32 length |
//!
//! A transaction can be read and checked without reading the rest of its block.

use alloy_consensus::Header;
use alloy_eips::eip2718::Decodable2718;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bytes, Log};
use alloy_rlp::{Decodable, Encodable};
use ironlane_types::{ExecutedTx, MiniBlock, MiniBlockHeader, Outcome, SealedBlock, Tx, TxEnvelope};
use std::sync::Arc;

pub(super) const HEADER_LEN: usize = 64;
pub(super) const TABLE_ENTRY_LEN: usize = 48;
const MINI_LEN: usize = 5 * 8 + 4 + 3 * 32 + 65 + 3;
const MAGIC: u32 = u32::from_le_bytes(*b"ILBK");
const NONE: u32 = u32::MAX;

/// CRC-64/NVME.
pub(super) fn crc(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

fn crc_of_tx(hash: &[u8], body: &[u8]) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    digest.update(hash);
    digest.update(body);
    digest.finalize()
}

/// The fixed part at the front of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) head_len: u32,
    pub(super) minis_len: u32,
    pub(super) tx_count: u32,
    pub(super) bodies_len: u64,
    pub(super) number: u64,
    head_crc: u64,
    minis_crc: u64,
    table_crc: u64,
}

impl RecordHeader {
    pub(super) fn head_at(&self) -> u64 {
        HEADER_LEN as u64
    }
    pub(super) fn minis_at(&self) -> u64 {
        self.head_at() + u64::from(self.head_len)
    }
    pub(super) fn table_at(&self) -> u64 {
        self.minis_at() + u64::from(self.minis_len)
    }
    pub(super) fn bodies_at(&self) -> u64 {
        self.table_at() + u64::from(self.tx_count) * TABLE_ENTRY_LEN as u64
    }
    /// Length of the record. Cannot overflow: three parts have 32-bit lengths and `bodies_len` was checked.
    pub(super) fn len(&self) -> u64 {
        self.bodies_at() + self.bodies_len
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes.get(..HEADER_LEN)?);
        let magic = input.u32()?;
        let header = RecordHeader {
            head_len: input.u32()?,
            minis_len: input.u32()?,
            tx_count: input.u32()?,
            bodies_len: input.u64()?,
            number: input.u64()?,
            head_crc: input.u64()?,
            minis_crc: input.u64()?,
            table_crc: input.u64()?,
        };
        let sound =
            magic == MAGIC && input.u64()? == crc(&bytes[..56]) && header.bodies_len <= u64::from(u32::MAX);
        sound.then_some(header)
    }
}

/// What stands at the front of a block: everything but its transactions.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) hash: B256,
    pub(super) state_version: u64,
    pub(super) first_mini_block: u64,
    pub(super) header: Header,
    pub(super) withdrawals: Option<Vec<Withdrawal>>,
    pub(super) ommers: Vec<Header>,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableEntry {
    pub(super) hash: B256,
    pub(super) offset: u32,
    pub(super) len: u32,
    crc: u64,
}

/// `None` when the bodies exceed 4 GiB, which no block gas limit allows.
pub(super) fn encode(
    block: &SealedBlock,
    minis: &[Arc<MiniBlock>],
    first_mini_block: u64,
) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(1_024);
    head.extend_from_slice(block.hash.as_slice());
    head.extend_from_slice(&block.state_version.to_le_bytes());
    head.extend_from_slice(&first_mini_block.to_le_bytes());
    put_rlp(&mut head, &block.header);
    match &block.withdrawals {
        Some(withdrawals) => put_rlp(&mut head, withdrawals),
        None => head.extend_from_slice(&NONE.to_le_bytes()),
    }
    put_rlp(&mut head, &block.ommers);

    let mut mini_bytes = Vec::with_capacity(minis.len() * MINI_LEN);
    minis.iter().for_each(|mini| put_mini(&mut mini_bytes, mini));

    let mut table = Vec::with_capacity(block.txs.len() * TABLE_ENTRY_LEN);
    let mut bodies = Vec::with_capacity(block.txs.len() * 256);
    for tx in &block.txs {
        let start = bodies.len();
        put_tx(&mut bodies, tx);
        table.extend_from_slice(tx.tx.hash.as_slice());
        table.extend_from_slice(&u32::try_from(start).ok()?.to_le_bytes());
        table.extend_from_slice(&u32::try_from(bodies.len() - start).ok()?.to_le_bytes());
        table.extend_from_slice(&crc_of_tx(tx.tx.hash.as_slice(), &bodies[start..]).to_le_bytes());
    }
    u32::try_from(bodies.len()).ok()?;

    let mut out = Vec::with_capacity(HEADER_LEN + head.len() + mini_bytes.len() + table.len() + bodies.len());
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(mini_bytes.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(block.txs.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&(bodies.len() as u64).to_le_bytes());
    out.extend_from_slice(&block.header.number.to_le_bytes());
    for part in [&head, &mini_bytes, &table] {
        out.extend_from_slice(&crc(part).to_le_bytes());
    }
    let header_crc = crc(&out);
    out.extend_from_slice(&header_crc.to_le_bytes());
    for part in [&head, &mini_bytes, &table, &bodies] {
        out.extend_from_slice(part);
    }
    Some(out)
}

pub(super) fn decode_head(record: &RecordHeader, bytes: &[u8]) -> Option<Head> {
    if crc(bytes) != record.head_crc {
        return None;
    }
    let mut input = Input(bytes);
    Some(Head {
        hash: input.b256()?,
        state_version: input.u64()?,
        first_mini_block: input.u64()?,
        header: input.rlp()??,
        withdrawals: input.rlp()?,
        ommers: input.rlp()??,
    })
}

/// The mini-blocks of a block, their transactions cut from it.
pub(super) fn decode_minis(record: &RecordHeader, bytes: &[u8]) -> Option<Vec<MiniBlock>> {
    if crc(bytes) != record.minis_crc {
        return None;
    }
    bytes
        .chunks_exact(MINI_LEN)
        .map(|bytes| {
            let mut input = Input(bytes);
            let (height, block_number, first_seq) = (input.u64()?, input.u64()?, input.u64()?);
            let (state_version, timestamp_us, tx_count) = (input.u64()?, input.u64()?, input.u32()?);
            let (parent, txs_root, digest) = (input.b256()?, input.b256()?, input.b256()?);
            let signature = input.take(65)?.try_into().ok()?;
            let header =
                MiniBlockHeader { height, parent, block_number, first_seq, tx_count, timestamp_us, txs_root };
            Some(MiniBlock { header, digest, signature, txs: Vec::new(), state_version })
        })
        .collect()
}

pub(super) fn decode_table(record: &RecordHeader, bytes: &[u8]) -> Option<Vec<TableEntry>> {
    (crc(bytes) == record.table_crc)
        .then(|| bytes.chunks_exact(TABLE_ENTRY_LEN).filter_map(decode_entry).collect())
}

/// A single row; whether it is right shows when the body that it names is checked.
pub(super) fn decode_entry(bytes: &[u8]) -> Option<TableEntry> {
    let mut input = Input(bytes);
    Some(TableEntry { hash: input.b256()?, offset: input.u32()?, len: input.u32()?, crc: input.u64()? })
}

/// Whether a body is what its row says, without decoding it.
pub(super) fn body_is_sound(entry: &TableEntry, body: &[u8]) -> bool {
    crc_of_tx(entry.hash.as_slice(), body) == entry.crc
}

pub(super) fn decode_tx(entry: &TableEntry, index: u32, body: &[u8]) -> Option<ExecutedTx> {
    if !body_is_sound(entry, body) {
        return None;
    }
    let mut input = Input(body);
    let (seq, gas_used, effective_gas_price) = (input.u64()?, input.u64()?, input.u128()?);
    let (cumulative_gas_used, first_log_index) = (input.u64()?, input.u32()?);
    let sender = Address::from_slice(input.take(20)?);
    let flags = input.take(1)?[0];
    let contract_address = if flags & 2 != 0 { Some(Address::from_slice(input.take(20)?)) } else { None };
    let raw = Bytes::copy_from_slice(input.prefixed()?);
    let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).ok()?;
    let logs = (0..input.u32()?)
        .map(|_| {
            let address = Address::from_slice(input.take(20)?);
            let topics = (0..input.take(1)?[0]).map(|_| input.b256()).collect::<Option<Vec<_>>>()?;
            Log::new(address, topics, Bytes::copy_from_slice(input.prefixed()?))
        })
        .collect::<Option<Vec<_>>>()?;
    let outcome = Outcome { success: flags & 1 != 0, gas_used, effective_gas_price, logs, contract_address };
    let tx = Arc::new(Tx { hash: entry.hash, sender, envelope, raw });
    Some(ExecutedTx { seq, tx, outcome, cumulative_gas_used, index_in_block: index, first_log_index })
}

fn put_tx(out: &mut Vec<u8>, tx: &ExecutedTx) {
    let outcome = &tx.outcome;
    out.extend_from_slice(&tx.seq.to_le_bytes());
    out.extend_from_slice(&outcome.gas_used.to_le_bytes());
    out.extend_from_slice(&outcome.effective_gas_price.to_le_bytes());
    out.extend_from_slice(&tx.cumulative_gas_used.to_le_bytes());
    out.extend_from_slice(&tx.first_log_index.to_le_bytes());
    out.extend_from_slice(tx.tx.sender.as_slice());
    out.push(u8::from(outcome.success) | (u8::from(outcome.contract_address.is_some()) << 1));
    if let Some(contract) = outcome.contract_address {
        out.extend_from_slice(contract.as_slice());
    }
    put_prefixed(out, &tx.tx.raw);
    out.extend_from_slice(&(outcome.logs.len() as u32).to_le_bytes());
    for log in &outcome.logs {
        out.extend_from_slice(log.address.as_slice());
        out.push(log.data.topics().len() as u8);
        log.data.topics().iter().for_each(|topic| out.extend_from_slice(topic.as_slice()));
        put_prefixed(out, &log.data.data);
    }
}

fn put_mini(out: &mut Vec<u8>, mini: &MiniBlock) {
    let header = &mini.header;
    for value in
        [header.height, header.block_number, header.first_seq, mini.state_version, header.timestamp_us]
    {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&header.tx_count.to_le_bytes());
    for hash in [header.parent, header.txs_root, mini.digest] {
        out.extend_from_slice(hash.as_slice());
    }
    out.extend_from_slice(&mini.signature);
    out.extend_from_slice(&[0; 3]);
}

fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_rlp(out: &mut Vec<u8>, item: &impl Encodable) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    item.encode(out);
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// A cursor that never reads past its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn u128(&mut self) -> Option<u128> {
        Some(u128::from_le_bytes(self.take(16)?.try_into().ok()?))
    }
    fn b256(&mut self) -> Option<B256> {
        Some(B256::from_slice(self.take(32)?))
    }
    fn prefixed(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }
    /// Outer `None`: damaged; inner `None`: recorded as absent.
    fn rlp<T: Decodable>(&mut self) -> Option<Option<T>> {
        let len = self.u32()?;
        if len == NONE {
            return Some(None);
        }
        let mut bytes = self.take(len as usize)?;
        T::decode(&mut bytes).ok().filter(|_| bytes.is_empty()).map(Some)
    }
}
