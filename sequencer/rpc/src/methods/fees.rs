//! Prices: what the next block asks, and what was paid.

use crate::api::{Api, Found};
use crate::error::{Answer, Failure};
use crate::json::quantity;
use crate::params::{Args, BlockArg, NumberArg};
use alloy_consensus::{Header, Transaction};
use ironlane_types::SealedBlock;
use serde_json::{Value, json};
use std::sync::Arc;

/// The tip that is suggested at most, in wei.
const TIP_WEI_MAX: u64 = 1_000_000_000;
/// Percentiles that one `eth_feeHistory` may ask for (geth: 100).
const PERCENTILES_MAX: usize = 100;

/// Base fee of the block that a transaction sent now would be in, as far as it is known: the open block's, or the one
/// that follows from the newest sealed block.
fn current_base_fee(api: &Api) -> Answer<u64> {
    if let Some(Found::Open { context, .. }) = api.pending() {
        return Ok(context.base_fee.unwrap_or(0));
    }
    let head = api.head()?;
    Ok(next_base_fee(api, &head.header))
}

fn next_base_fee(api: &Api, parent: &Header) -> u64 {
    api.ctx.spec.next_base_fee(parent, parent.timestamp.saturating_add(1)).unwrap_or(0)
}

/// The suggested tip: as much as the base fee, at least 1 wei, at most 1 gwei. Order is by arrival here, so a tip buys
/// nothing; wallets and other nodes' rules expect one, and it must not dwarf the price where gas is nearly free.
fn suggested_tip(base_fee: u64) -> u64 {
    base_fee.clamp(1, TIP_WEI_MAX)
}

pub(crate) fn gas_price(api: &Api, _: &Args) -> Answer {
    let base_fee = current_base_fee(api)?;
    Ok(quantity(u128::from(base_fee) + u128::from(suggested_tip(base_fee))))
}

pub(crate) fn max_priority_fee(api: &Api, _: &Args) -> Answer {
    Ok(quantity(suggested_tip(current_base_fee(api)?)))
}

/// Base fee of the block after the newest sealed one.
pub(crate) fn base_fee(api: &Api, _: &Args) -> Answer {
    Ok(quantity(next_base_fee(api, &api.head()?.header)))
}

pub(crate) fn blob_base_fee(api: &Api, _: &Args) -> Answer {
    let head = api.head()?;
    Ok(quantity(blob_fee(api, &head.header)))
}

fn blob_fee(api: &Api, header: &Header) -> u128 {
    api.ctx.spec.blob_params(header.timestamp).and_then(|params| header.blob_fee(params)).unwrap_or(0)
}

fn next_blob_fee(api: &Api, parent: &Header) -> u128 {
    let time = parent.timestamp.saturating_add(1);
    match (api.ctx.spec.next_excess_blob_gas(parent, time), api.ctx.spec.blob_params(time)) {
        (Some(excess), Some(params)) => params.calc_blob_fee(excess),
        _ => 0,
    }
}

/// Base fees, fullness and, for the percentiles asked, the tips of a range of sealed blocks.
pub(crate) fn fee_history(api: &Api, args: &Args) -> Answer {
    let NumberArg(count) = args.required(0)?;
    let newest = args.required(1)?;
    let percentiles: Vec<f64> = args.optional(2)?.unwrap_or_default();
    check_percentiles(&percentiles)?;
    let head = api.head()?.header.number;
    let last = match newest {
        BlockArg::Number(number) if number > head => {
            return Err(Failure::server(format!(
                "request beyond head block: requested {number}, head {head}"
            )));
        }
        BlockArg::Hash(_) => return Err(Failure::argument(1, "expected a block number or tag")),
        block => api.find_head(block)?.ok_or_else(Failure::header_not_found)?.header.number,
    };
    let count = count.min(api.config.fee_history_blocks_max).min(last + 1);
    if count == 0 {
        return Ok(json!({ "oldestBlock": "0x0", "gasUsedRatio": [] }));
    }
    let oldest = last + 1 - count;
    let mut history = FeeHistory::default();
    for number in oldest..=last {
        let head = api.ctx.history.block_head(number)?.ok_or_else(Failure::header_not_found)?;
        let block = if percentiles.is_empty() { None } else { api.ctx.history.block(number)? };
        history.add(api, &head.header, block, &percentiles);
        if number == last {
            history.base_fees.push(quantity(next_base_fee(api, &head.header)));
            history.blob_fees.push(quantity(next_blob_fee(api, &head.header)));
        }
    }
    let mut out = json!({
        "oldestBlock": quantity(oldest),
        "baseFeePerGas": history.base_fees,
        "gasUsedRatio": history.gas_ratios,
        "baseFeePerBlobGas": history.blob_fees,
        "blobGasUsedRatio": history.blob_ratios,
    });
    if let (false, Some(out)) = (percentiles.is_empty(), out.as_object_mut()) {
        out.insert("reward".into(), Value::Array(history.rewards));
    }
    Ok(out)
}

fn check_percentiles(percentiles: &[f64]) -> Answer<()> {
    if percentiles.len() > PERCENTILES_MAX {
        return Err(Failure::server(format!(
            "invalid reward percentile: over the query limit {PERCENTILES_MAX}"
        )));
    }
    for (at, percentile) in percentiles.iter().enumerate() {
        if !(0.0..=100.0).contains(percentile) {
            return Err(Failure::server(format!("invalid reward percentile: {percentile}")));
        }
        if at > 0 && *percentile <= percentiles[at - 1] {
            return Err(Failure::server(format!(
                "invalid reward percentile: #{}:{} >= #{at}:{percentile}",
                at - 1,
                percentiles[at - 1]
            )));
        }
    }
    Ok(())
}

#[derive(Default)]
struct FeeHistory {
    base_fees: Vec<Value>,
    gas_ratios: Vec<f64>,
    blob_fees: Vec<Value>,
    blob_ratios: Vec<f64>,
    rewards: Vec<Value>,
}

impl FeeHistory {
    fn add(&mut self, api: &Api, header: &Header, block: Option<Arc<SealedBlock>>, percentiles: &[f64]) {
        self.base_fees.push(quantity(header.base_fee_per_gas.unwrap_or(0)));
        self.gas_ratios.push(ratio(header.gas_used, header.gas_limit));
        self.blob_fees.push(quantity(blob_fee(api, header)));
        let blob_max =
            api.ctx.spec.blob_params(header.timestamp).map_or(0, |params| params.max_blob_gas_per_block());
        self.blob_ratios.push(ratio(header.blob_gas_used.unwrap_or(0), blob_max));
        if let Some(block) = block {
            self.rewards.push(json!(rewards(&block, percentiles)));
        }
    }
}

fn ratio(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { used as f64 / limit as f64 }
}

/// The tip at each percentile of the block's gas, transactions sorted by tip.
fn rewards(block: &SealedBlock, percentiles: &[f64]) -> Vec<Value> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or(0);
    let mut tips: Vec<(u128, u64)> = block
        .txs
        .iter()
        .map(|tx| (tx.tx.envelope.effective_tip_per_gas(base_fee).unwrap_or(0), tx.outcome.gas_used))
        .collect();
    tips.sort_unstable();
    percentiles
        .iter()
        .map(|percentile| {
            let threshold = (block.header.gas_used as f64 * percentile / 100.0) as u64;
            let mut sum = 0;
            let reached = tips.iter().find(|(_, gas)| {
                sum += gas;
                sum >= threshold
            });
            quantity(reached.or(tips.last()).map_or(0, |(tip, _)| *tip))
        })
        .collect()
}
