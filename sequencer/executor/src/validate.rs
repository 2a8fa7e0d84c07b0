//! Rules of a block that hold before any of it is executed.

use crate::{ChainSpec, InvalidBlock, ommers};
use alloy_consensus::{BlockBody, EMPTY_OMMER_ROOT_HASH, Header, Transaction, proofs};
use alloy_eips::{Encodable2718, eip1559::GAS_LIMIT_BOUND_DIVISOR, eip4844::DATA_GAS_PER_BLOB};
use alloy_primitives::{B64, U256};
use alloy_trie::root::ordered_trie_root_with_encoder;
use ironlane_types::TxEnvelope;
use revm::primitives::hardfork::SpecId;

const EXTRA_DATA_BYTES_MAX: usize = 32;
const GAS_LIMIT_MIN: u64 = 5_000;
const GAS_LIMIT_MAX: u64 = i64::MAX as u64;
/// EIP-7934: 10 MiB less 2 MiB for the beacon block around it.
pub(crate) const BLOCK_RLP_BYTES_MAX: usize = (10 << 20) - (2 << 20);

/// Checks every field of a header that does not depend on execution against its parent.
pub fn validate_header(spec: &ChainSpec, header: &Header, parent: &Header) -> Result<(), InvalidBlock> {
    let parameters = spec.parameters_at(header.number, header.timestamp, header.difficulty);
    let from = |fork: SpecId| parameters.spec_id.is_enabled_in(fork);
    same("number", parent.number.saturating_add(1), header.number)?;
    if header.timestamp <= parent.timestamp {
        return Err(InvalidBlock::field(
            "timestamp",
            format!("above {}", parent.timestamp),
            header.timestamp,
        ));
    }
    if header.extra_data.len() > EXTRA_DATA_BYTES_MAX {
        let found = format!("{} bytes", header.extra_data.len());
        return Err(InvalidBlock::field("extraData", "at most 32 bytes", found));
    }
    gas_limit(spec, header, parent)?;
    if header.gas_used > header.gas_limit {
        return Err(InvalidBlock::field("gasUsed", format!("at most {}", header.gas_limit), header.gas_used));
    }
    if parameters.merged {
        same("difficulty", U256::ZERO, header.difficulty)?;
        same("nonce", B64::ZERO, header.nonce)?;
        same("sha3Uncles", EMPTY_OMMER_ROOT_HASH, header.ommers_hash)?;
    } else {
        same("difficulty", ommers::difficulty(spec, parent, header.timestamp), header.difficulty)?;
    }
    same_option(
        "baseFeePerGas",
        spec.next_base_fee_for(parent, parameters.spec_id),
        header.base_fee_per_gas,
    )?;
    presence("withdrawalsRoot", from(SpecId::SHANGHAI), header.withdrawals_root.is_some())?;
    presence("blobGasUsed", from(SpecId::CANCUN), header.blob_gas_used.is_some())?;
    let excess =
        if from(SpecId::CANCUN) { spec.next_excess_blob_gas(parent, header.timestamp) } else { None };
    same_option("excessBlobGas", excess, header.excess_blob_gas)?;
    presence("parentBeaconBlockRoot", from(SpecId::CANCUN), header.parent_beacon_block_root.is_some())?;
    presence("requestsHash", from(SpecId::PRAGUE), header.requests_hash.is_some())?;
    presence("blockAccessListHash", false, header.block_access_list_hash.is_some())?;
    presence("slotNumber", false, header.slot_number.is_some())?;
    if let (Some(blob), Some(used)) = (parameters.blob, header.blob_gas_used) {
        if used > blob.max_blob_gas_per_block() {
            return Err(InvalidBlock::field(
                "blobGasUsed",
                format!("at most {}", blob.max_blob_gas_per_block()),
                used,
            ));
        }
        if used % DATA_GAS_PER_BLOB != 0 {
            return Err(InvalidBlock::field(
                "blobGasUsed",
                format!("a multiple of {DATA_GAS_PER_BLOB}"),
                used,
            ));
        }
    }
    Ok(())
}

/// Checks what a header says about its body: transactions, withdrawals, ommers, blob gas, size.
pub fn validate_body(
    spec: &ChainSpec,
    header: &Header,
    body: &BlockBody<TxEnvelope>,
    rlp_bytes: usize,
) -> Result<(), InvalidBlock> {
    let parameters = spec.parameters_at(header.number, header.timestamp, header.difficulty);
    if spec.block_rlp_limit
        && parameters.spec_id.is_enabled_in(SpecId::OSAKA)
        && rlp_bytes > BLOCK_RLP_BYTES_MAX
    {
        return Err(InvalidBlock::TooLarge { found: rlp_bytes, max: BLOCK_RLP_BYTES_MAX });
    }
    let transactions = ordered_trie_root_with_encoder(&body.transactions, |tx, out| tx.encode_2718(out));
    same("transactionsRoot", transactions, header.transactions_root)?;
    same("sha3Uncles", proofs::calculate_ommers_root(&body.ommers), header.ommers_hash)?;
    let withdrawals = body.withdrawals.as_ref().map(|list| proofs::calculate_withdrawals_root(list));
    same_option("withdrawalsRoot", withdrawals, header.withdrawals_root)?;
    if let Some(found) = header.blob_gas_used {
        let used = body.transactions.iter().filter_map(|tx| tx.blob_gas_used()).sum::<u64>();
        same("blobGasUsed", used, found)?;
    }
    Ok(())
}

fn gas_limit(spec: &ChainSpec, header: &Header, parent: &Header) -> Result<(), InvalidBlock> {
    // The first block of London has twice the gas limit, so that its target is the old limit (EIP-1559).
    let doubled = header.base_fee_per_gas.is_some() && parent.base_fee_per_gas.is_none();
    let base = if doubled && spec.forks.london.is_some() {
        parent.gas_limit.saturating_mul(2)
    } else {
        parent.gas_limit
    };
    let bound = base / GAS_LIMIT_BOUND_DIVISOR;
    let low = base.saturating_sub(bound).saturating_add(1).max(GAS_LIMIT_MIN);
    let high = base.saturating_add(bound).saturating_sub(1).min(GAS_LIMIT_MAX);
    if !(low..=high).contains(&header.gas_limit) {
        return Err(InvalidBlock::field("gasLimit", format!("from {low} to {high}"), header.gas_limit));
    }
    Ok(())
}

pub(crate) fn same<T: PartialEq + ToString>(
    field: &'static str,
    expected: T,
    found: T,
) -> Result<(), InvalidBlock> {
    if expected == found { Ok(()) } else { Err(InvalidBlock::field(field, expected, found)) }
}

pub(crate) fn same_option<T: PartialEq + ToString>(
    field: &'static str,
    expected: Option<T>,
    found: Option<T>,
) -> Result<(), InvalidBlock> {
    if expected == found {
        return Ok(());
    }
    let text = |value: Option<T>| value.map_or_else(|| "absent".to_string(), |v| v.to_string());
    Err(InvalidBlock::field(field, text(expected), text(found)))
}

fn presence(field: &'static str, expected: bool, found: bool) -> Result<(), InvalidBlock> {
    let word = |there| if there { "present" } else { "absent" };
    if expected == found { Ok(()) } else { Err(InvalidBlock::field(field, word(expected), word(found))) }
}
