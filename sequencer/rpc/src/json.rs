//! Blocks, transactions, receipts and logs in the form that Ethereum's clients expect.

use alloy_consensus::{EthereumTxEnvelope, Header, Transaction, Typed2718};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::ruint::UintTryFrom;
use alloy_primitives::{Address, B256, Bloom, U256};
use alloy_rlp::Encodable;
use ironlane_history::FoundLog;
use ironlane_types::{ExecutedTx, SealedBlock, Tx};
use serde_json::{Map, Value, json};

/// A quantity: hexadecimal without leading zeros.
pub(crate) fn quantity<T>(value: T) -> Value
where
    U256: UintTryFrom<T>,
{
    Value::String(format!("{:#x}", U256::from(value)))
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) block_hash: B256,
    pub(crate) block_number: u64,
    pub(crate) timestamp: u64,
    pub(crate) index: u64,
}

/// A transaction; without a place it waits in the pool.
pub(crate) fn transaction(tx: &Tx, place: Option<Place>, effective_gas_price: Option<u128>) -> Value {
    let envelope = &tx.envelope;
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_string(), value);
    put("blockHash", place.map_or(Value::Null, |place| json!(place.block_hash)));
    put("blockNumber", place.map_or(Value::Null, |place| quantity(place.block_number)));
    put("blockTimestamp", place.map_or(Value::Null, |place| quantity(place.timestamp)));
    put("transactionIndex", place.map_or(Value::Null, |place| quantity(place.index)));
    put("from", json!(tx.sender));
    put("to", json!(envelope.to()));
    put("gas", quantity(envelope.gas_limit()));
    put("gasPrice", quantity(effective_gas_price.unwrap_or_else(|| envelope.max_fee_per_gas())));
    put("hash", json!(tx.hash));
    put("input", json!(envelope.input()));
    put("nonce", quantity(envelope.nonce()));
    put("value", quantity(envelope.value()));
    put("type", quantity(envelope.ty()));
    if let Some(chain_id) = envelope.chain_id() {
        put("chainId", quantity(chain_id));
    }
    if envelope.is_dynamic_fee() {
        put("maxFeePerGas", quantity(envelope.max_fee_per_gas()));
        put("maxPriorityFeePerGas", quantity(envelope.max_priority_fee_per_gas().unwrap_or(0)));
    }
    if let Some(list) = envelope.access_list() {
        put("accessList", json!(list));
    }
    if let Some(fee) = envelope.max_fee_per_blob_gas() {
        put("maxFeePerBlobGas", quantity(fee));
        put("blobVersionedHashes", json!(envelope.blob_versioned_hashes().unwrap_or_default()));
    }
    if let Some(list) = envelope.authorization_list() {
        put("authorizationList", json!(list));
    }
    let signature = envelope.signature();
    put("r", quantity(signature.r()));
    put("s", quantity(signature.s()));
    if let EthereumTxEnvelope::Legacy(_) = envelope {
        let parity = u64::from(signature.v());
        put(
            "v",
            quantity(
                envelope
                    .chain_id()
                    .map_or(27 + parity, |id| id.saturating_mul(2).saturating_add(35 + parity)),
            ),
        );
    } else {
        put("v", quantity(u8::from(signature.v())));
        put("yParity", quantity(u8::from(signature.v())));
    }
    Value::Object(out)
}

/// A transaction of a block.
pub(crate) fn executed(tx: &ExecutedTx, place: Place) -> Value {
    transaction(&tx.tx, Some(place), Some(tx.outcome.effective_gas_price))
}

/// A receipt. `blob_gas_price` is the block's, for blob transactions.
pub(crate) fn receipt(tx: &ExecutedTx, place: Place, blob_gas_price: Option<u128>) -> Value {
    let outcome = &tx.outcome;
    let bloom: Bloom = outcome.logs.iter().collect();
    let logs: Vec<Value> = outcome
        .logs
        .iter()
        .enumerate()
        .map(|(at, inner)| {
            log(&FoundLog {
                block_number: place.block_number,
                block_hash: place.block_hash,
                block_timestamp: place.timestamp,
                tx_hash: tx.tx.hash,
                tx_index: place.index,
                log_index: u64::from(tx.first_log_index) + at as u64,
                log: inner.clone(),
            })
        })
        .collect();
    let mut out = json!({
        "blockHash": place.block_hash,
        "blockNumber": quantity(place.block_number),
        "contractAddress": outcome.contract_address,
        "cumulativeGasUsed": quantity(tx.cumulative_gas_used),
        "effectiveGasPrice": quantity(outcome.effective_gas_price),
        "from": tx.tx.sender,
        "gasUsed": quantity(outcome.gas_used),
        "logs": logs,
        "logsBloom": bloom,
        "status": quantity(u8::from(outcome.success)),
        "to": tx.tx.envelope.to(),
        "transactionHash": tx.tx.hash,
        "transactionIndex": quantity(place.index),
        "type": quantity(tx.tx.envelope.ty()),
    });
    if let (Some(used), Some(price), Value::Object(out)) =
        (tx.tx.envelope.blob_gas_used(), blob_gas_price, &mut out)
    {
        out.insert("blobGasUsed".into(), quantity(used));
        out.insert("blobGasPrice".into(), quantity(price));
    }
    out
}

/// A log.
pub(crate) fn log(found: &FoundLog) -> Value {
    json!({
        "address": found.log.address,
        "topics": found.log.data.topics(),
        "data": found.log.data.data,
        "blockNumber": quantity(found.block_number),
        "blockHash": found.block_hash,
        "blockTimestamp": quantity(found.block_timestamp),
        "transactionHash": found.tx_hash,
        "transactionIndex": quantity(found.tx_index),
        "logIndex": quantity(found.log_index),
        "removed": false,
    })
}

/// A header's fields.
pub(crate) fn header(header: &Header, hash: B256) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_string(), value);
    put("hash", json!(hash));
    put("parentHash", json!(header.parent_hash));
    put("sha3Uncles", json!(header.ommers_hash));
    put("miner", json!(header.beneficiary));
    put("stateRoot", json!(header.state_root));
    put("transactionsRoot", json!(header.transactions_root));
    put("receiptsRoot", json!(header.receipts_root));
    put("logsBloom", json!(header.logs_bloom));
    put("difficulty", quantity(header.difficulty));
    put("number", quantity(header.number));
    put("gasLimit", quantity(header.gas_limit));
    put("gasUsed", quantity(header.gas_used));
    put("timestamp", quantity(header.timestamp));
    put("extraData", json!(header.extra_data));
    put("mixHash", json!(header.mix_hash));
    put("nonce", json!(header.nonce));
    for (key, value) in [
        ("baseFeePerGas", header.base_fee_per_gas),
        ("blobGasUsed", header.blob_gas_used),
        ("excessBlobGas", header.excess_blob_gas),
    ] {
        if let Some(value) = value {
            put(key, quantity(value));
        }
    }
    for (key, value) in [
        ("withdrawalsRoot", header.withdrawals_root),
        ("parentBeaconBlockRoot", header.parent_beacon_block_root),
        ("requestsHash", header.requests_hash),
    ] {
        if let Some(value) = value {
            put(key, json!(value));
        }
    }
    out
}

/// A whole block with its transactions, or their hashes.
pub(crate) fn block(block: &SealedBlock, full: bool) -> Value {
    let place = |tx: &ExecutedTx| Place {
        block_hash: block.hash,
        block_number: block.header.number,
        timestamp: block.header.timestamp,
        index: u64::from(tx.index_in_block),
    };
    let txs =
        block.txs.iter().map(|tx| if full { executed(tx, place(tx)) } else { json!(tx.tx.hash) }).collect();
    let mut out = header(&block.header, block.hash);
    out.insert("size".into(), quantity(raw_block_len(block)));
    out.insert("transactions".into(), Value::Array(txs));
    out.insert("uncles".into(), block.ommers.iter().map(|ommer| json!(ommer.hash_slow())).collect());
    if let Some(withdrawals) = &block.withdrawals {
        out.insert("withdrawals".into(), withdrawals.iter().map(withdrawal).collect());
    }
    Value::Object(out)
}

fn withdrawal(withdrawal: &Withdrawal) -> Value {
    json!({
        "index": quantity(withdrawal.index),
        "validatorIndex": quantity(withdrawal.validator_index),
        "address": withdrawal.address,
        "amount": quantity(withdrawal.amount),
    })
}

/// The address as a pool's keys show it: with EIP-55's mixed case.
pub(crate) fn checksummed(address: &Address) -> String {
    address.to_checksum(None)
}

struct Lengths {
    txs: usize,
    payload: usize,
}

fn lengths(block: &SealedBlock) -> Lengths {
    let txs = block.txs.iter().map(|tx| {
        let raw = tx.tx.raw.len();
        // A typed transaction is a string around its bytes; a legacy one is a list already.
        if is_legacy(&tx.tx) {
            raw
        } else {
            alloy_rlp::Header { list: false, payload_length: raw }.length_with_payload()
        }
    });
    let txs: usize = txs.sum();
    let list = alloy_rlp::Header { list: true, payload_length: txs }.length_with_payload();
    let withdrawals = block.withdrawals.as_ref().map_or(0, Encodable::length);
    Lengths { txs, payload: block.header.length() + list + block.ommers.length() + withdrawals }
}

fn is_legacy(tx: &Tx) -> bool {
    matches!(tx.envelope, EthereumTxEnvelope::Legacy(_))
}

fn raw_block_len(block: &SealedBlock) -> usize {
    alloy_rlp::Header { list: true, payload_length: lengths(block).payload }.length_with_payload()
}

/// The block in RLP.
pub(crate) fn raw_block(block: &SealedBlock) -> Vec<u8> {
    let Lengths { txs, payload } = lengths(block);
    let mut out = Vec::with_capacity(payload + 10);
    alloy_rlp::Header { list: true, payload_length: payload }.encode(&mut out);
    block.header.encode(&mut out);
    alloy_rlp::Header { list: true, payload_length: txs }.encode(&mut out);
    for tx in &block.txs {
        if !is_legacy(&tx.tx) {
            alloy_rlp::Header { list: false, payload_length: tx.tx.raw.len() }.encode(&mut out);
        }
        out.extend_from_slice(&tx.tx.raw);
    }
    block.ommers.encode(&mut out);
    if let Some(withdrawals) = &block.withdrawals {
        withdrawals.encode(&mut out);
    }
    out
}
