//! Blocks and what is in them.

use crate::api::{Api, Found};
use crate::error::Answer;
use crate::json::{self, Place, quantity};
use crate::params::{Args, BlockArg, HashArg};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bloom};
use ironlane_history::OpenBlock;
use ironlane_types::{BlockContext, SealedBlock};
use serde_json::{Value, json};

pub(crate) fn by_number(api: &Api, args: &Args) -> Answer {
    let block: BlockArg = args.required(0)?;
    let full = args.optional(1)?.unwrap_or(false);
    Ok(match api.find(block)? {
        Some(Found::Sealed(block)) => json::block(&block, full),
        Some(Found::Open { block, context }) => open_block(&block, &context, full, None),
        None => Value::Null,
    })
}

/// Understands the digest of a recent mini-block too: the hash that a receipt shows while its block has none.
pub(crate) fn by_hash(api: &Api, args: &Args) -> Answer {
    let HashArg(hash) = args.required(0)?;
    let full = args.optional(1)?.unwrap_or(false);
    Ok(match api.find(BlockArg::Hash(hash))? {
        Some(Found::Sealed(block)) => json::block(&block, full),
        Some(Found::Open { block, context }) => open_block(&block, &context, full, Some(hash)),
        None => Value::Null,
    })
}

/// A block without a hash: as geth shows a pending one. `digest` stands for the hash where the caller asked by it.
fn open_block(open: &OpenBlock, context: &BlockContext, full: bool, digest: Option<B256>) -> Value {
    let bloom: Bloom = open.txs.iter().flat_map(|tx| tx.outcome.logs.iter()).collect();
    let header = Header {
        number: context.number,
        timestamp: context.timestamp,
        beneficiary: context.beneficiary,
        gas_limit: context.gas_limit,
        gas_used: open.txs.last().map_or(0, |tx| tx.cumulative_gas_used),
        base_fee_per_gas: context.base_fee,
        mix_hash: context.prev_randao,
        difficulty: context.difficulty,
        excess_blob_gas: context.excess_blob_gas,
        blob_gas_used: context.excess_blob_gas.map(|_| 0),
        parent_beacon_block_root: context.parent_beacon_block_root,
        extra_data: context.extra_data.clone(),
        logs_bloom: bloom,
        ..Header::default()
    };
    let hash = digest.unwrap_or_default();
    let block = SealedBlock {
        hash,
        header,
        txs: open.txs.clone(),
        withdrawals: context.withdrawals.clone(),
        ommers: Vec::new(),
        state_version: 0,
    };
    let mut out = json::block(&block, full);
    if let (None, Some(out)) = (digest, out.as_object_mut()) {
        for field in ["hash", "nonce", "miner"] {
            out.insert(field.into(), Value::Null);
        }
        if let Some(Value::Array(txs)) = out.get_mut("transactions") {
            txs.iter_mut().filter_map(Value::as_object_mut).for_each(|tx| {
                tx.insert("blockHash".into(), Value::Null);
            });
        }
    }
    out
}

/// All receipts of a block; those of the open block show their mini-block's digest.
pub(crate) fn receipts(api: &Api, args: &Args) -> Answer {
    let receipts: Vec<Value> = match api.find(args.required(0)?)? {
        None => return Ok(Value::Null),
        Some(Found::Sealed(block)) => {
            let price = blob_gas_price(api, &block.header);
            let place = |index: u32| Place {
                block_hash: block.hash,
                block_number: block.header.number,
                timestamp: block.header.timestamp,
                index: u64::from(index),
            };
            block.txs.iter().map(|tx| json::receipt(tx, place(tx.index_in_block), price)).collect()
        }
        Some(Found::Open { block, context }) => block
            .mini_blocks
            .iter()
            .flat_map(|mini| mini.txs.iter().map(move |tx| (mini.digest, tx)))
            .map(|(block_hash, tx)| {
                let index = u64::from(tx.index_in_block);
                let place =
                    Place { block_hash, block_number: block.number, timestamp: context.timestamp, index };
                json::receipt(tx, place, None)
            })
            .collect(),
    };
    Ok(Value::Array(receipts))
}

/// What a unit of blob gas costs in a block.
pub(crate) fn blob_gas_price(api: &Api, header: &Header) -> Option<u128> {
    let params = api.ctx.spec.blob_params(header.timestamp)?;
    header.blob_fee(params)
}

fn count(api: &Api, block: BlockArg) -> Answer {
    if let BlockArg::Pending = block
        && let Some(Found::Open { block, .. }) = api.pending()
    {
        return Ok(quantity(block.txs.len()));
    }
    Ok(match api.find_head(block)? {
        Some(head) => quantity(head.tx_count),
        None => match api.find(block)? {
            Some(Found::Open { block, .. }) => quantity(block.txs.len()),
            _ => Value::Null,
        },
    })
}

pub(crate) fn count_by_number(api: &Api, args: &Args) -> Answer {
    count(api, args.required(0)?)
}

pub(crate) fn count_by_hash(api: &Api, args: &Args) -> Answer {
    count(api, BlockArg::Hash(args.required::<HashArg>(0)?.0))
}

fn uncle_count(api: &Api, block: BlockArg) -> Answer {
    Ok(match api.find(block)? {
        Some(Found::Sealed(block)) => quantity(block.ommers.len()),
        Some(Found::Open { .. }) => quantity(0u64),
        None => json!(null),
    })
}

pub(crate) fn uncle_count_by_number(api: &Api, args: &Args) -> Answer {
    uncle_count(api, args.required(0)?)
}

pub(crate) fn uncle_count_by_hash(api: &Api, args: &Args) -> Answer {
    uncle_count(api, BlockArg::Hash(args.required::<HashArg>(0)?.0))
}
