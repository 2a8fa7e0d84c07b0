//! Transactions and receipts, and the way in for new ones.

use crate::RpcStats;
use crate::api::{Api, Found};
use crate::context::SyncOutcome;
use crate::error::{Answer, Failure, code};
use crate::json::{self, Place};
use crate::methods::blocks::blob_gas_price;
use crate::params::{Args, BlockArg, BytesArg, HashArg, NumberArg};
use alloy_primitives::B256;
use ironlane_history::{FoundTx, TxPlace};
use ironlane_types::Reject;
use serde_json::{Value, json};
use std::time::Duration;

/// Where a found transaction stands, and what blob gas costs there.
fn place(api: &Api, found: &FoundTx) -> (Place, Option<u128>) {
    let (timestamp, price) = match &found.place {
        TxPlace::Sealed(head) => (head.header.timestamp, blob_gas_price(api, &head.header)),
        TxPlace::Open { timestamp_us, .. } => {
            let context = api.ctx.pending.get(found.block_number);
            (context.map_or(timestamp_us / 1_000_000, |context| context.timestamp), None)
        }
    };
    let index = u64::from(found.tx.index_in_block);
    (Place { block_hash: found.block_hash(), block_number: found.block_number, timestamp, index }, price)
}

pub(crate) fn by_hash(api: &Api, args: &Args) -> Answer {
    let HashArg(hash) = args.required(0)?;
    if let Some(found) = api.ctx.history.transaction(&hash)? {
        return Ok(json::executed(&found.tx, place(api, &found).0));
    }
    Ok(api
        .ctx
        .ingress
        .pool_transaction(&hash)
        .map_or(Value::Null, |pooled| json::transaction(&pooled.tx, None, None)))
}

fn by_index(api: &Api, block: BlockArg, index: u64) -> Answer {
    let number = match api.find_head(block)? {
        Some(head) if block != BlockArg::Pending => Some(head.header.number),
        _ => match api.find(block)? {
            Some(Found::Sealed(block)) => Some(block.header.number),
            Some(Found::Open { block, .. }) => Some(block.number),
            None => None,
        },
    };
    let (Some(number), Ok(index)) = (number, u32::try_from(index)) else { return Ok(Value::Null) };
    let found = api.ctx.history.transaction_at(number, index)?;
    Ok(found.map_or(Value::Null, |found| json::executed(&found.tx, place(api, &found).0)))
}

pub(crate) fn by_number_and_index(api: &Api, args: &Args) -> Answer {
    by_index(api, args.required(0)?, args.required::<NumberArg>(1)?.0)
}

pub(crate) fn by_block_hash_and_index(api: &Api, args: &Args) -> Answer {
    by_index(api, BlockArg::Hash(args.required::<HashArg>(0)?.0), args.required::<NumberArg>(1)?.0)
}

/// The receipt is there as soon as the transaction is durable.
pub(crate) fn receipt(api: &Api, args: &Args) -> Answer {
    receipt_of(api, &args.required::<HashArg>(0)?.0)
}

fn receipt_of(api: &Api, hash: &B256) -> Answer {
    let Some(found) = api.ctx.history.transaction(hash)? else { return Ok(Value::Null) };
    let (place, price) = place(api, &found);
    Ok(json::receipt(&found.tx, place, price))
}

/// The EIP-2718 bytes, of pooled transactions too.
pub(crate) fn raw_by_hash(api: &Api, args: &Args) -> Answer {
    let HashArg(hash) = args.required(0)?;
    let raw = match api.ctx.history.transaction(&hash)? {
        Some(found) => Some(found.tx.tx.raw.clone()),
        None => api.ctx.ingress.pool_transaction(&hash).map(|pooled| pooled.tx.raw.clone()),
    };
    Ok(json!(raw))
}

fn refused(api: &Api, reject: Reject) -> Failure {
    RpcStats::add(&api.stats.transactions_refused);
    reject.into()
}

pub(crate) async fn send_raw(api: &Api, args: &Args) -> Answer {
    let BytesArg(raw) = args.required::<BytesArg>(0)?;
    let hash = api.ctx.ingress.submit(raw).await.map_err(|reject| refused(api, reject))?;
    RpcStats::add(&api.stats.transactions_admitted);
    Ok(json!(hash))
}

/// EIP-7966: answers with the receipt. A time of zero, or one above the limit, becomes the limit's.
pub(crate) async fn send_raw_sync(api: &Api, args: &Args) -> Answer {
    let BytesArg(raw) = args.required::<BytesArg>(0)?;
    let asked = args.optional::<NumberArg>(1)?.map(|number| Duration::from_millis(number.0));
    let timeout = asked.filter(|time| !time.is_zero()).unwrap_or(api.config.sync_timeout);
    let timeout = timeout.min(api.config.sync_timeout_max);
    match api.ctx.ingress.submit_sync(raw, timeout).await {
        SyncOutcome::Included(hash) => {
            RpcStats::add(&api.stats.transactions_admitted);
            let receipt = receipt_of(api, &hash)?;
            if receipt.is_null() {
                return Err(Failure::new(code::INTERNAL, "internal error: the receipt is not there yet")
                    .with_data(json!(hash)));
            }
            Ok(receipt)
        }
        SyncOutcome::TimedOut(hash) => {
            RpcStats::add(&api.stats.transactions_admitted);
            let text = format!(
                "The transaction was added to the transaction pool but wasn't processed in {} ms",
                timeout.as_millis()
            );
            Err(Failure::new(code::SYNC_TIMEOUT, text).with_data(json!(hash)))
        }
        SyncOutcome::NotReady(hash) => {
            RpcStats::add(&api.stats.transactions_admitted);
            let text = "The transaction was added to the transaction pool but cannot be executed: an earlier nonce is missing";
            Err(Failure::new(code::SYNC_NOT_READY, text).with_data(json!(hash)))
        }
        SyncOutcome::Rejected(reject) => Err(refused(api, reject)),
    }
}
