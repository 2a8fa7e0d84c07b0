//! What only this node can answer: promises, mini-blocks, and what became of a transaction.

use crate::api::Api;
use crate::error::{Answer, Failure};
use crate::json::quantity;
use crate::params::{Args, HashArg, NumberArg};
use alloy_primitives::Bytes;
use ironlane_history::TxPlace;
use ironlane_promise::Promise;
use ironlane_types::MiniBlock;
use serde_json::{Value, json};

/// The address whose signatures promises carry.
pub(crate) fn sequencer(api: &Api, _: &Args) -> Answer {
    Ok(json!(api.ctx.sequencer))
}

/// The signed header of the transaction's mini-block with the Merkle path: anybody can check it. Null: unknown, or in a
/// block that was imported.
pub(crate) fn promise(api: &Api, args: &Args) -> Answer {
    let HashArg(hash) = args.required(0)?;
    let Some((mini_block, position)) = api.ctx.history.mini_block_of(&hash)? else { return Ok(Value::Null) };
    let promise = Promise::of(&mini_block, position as usize);
    serde_json::to_value(promise)
        .map_err(|error| Failure::server(format!("the promise cannot be shown: {error}")))
}

pub(crate) fn mini_block(api: &Api, args: &Args) -> Answer {
    let NumberArg(height) = args.required(0)?;
    Ok(api.ctx.history.mini_block(height)?.map_or(Value::Null, |mini_block| show(&mini_block)))
}

fn show(mini_block: &MiniBlock) -> Value {
    let header = &mini_block.header;
    json!({
        "height": quantity(header.height),
        "parent": header.parent,
        "blockNumber": quantity(header.block_number),
        "firstSeq": quantity(header.first_seq),
        "txCount": quantity(header.tx_count),
        "timestampUs": quantity(header.timestamp_us),
        "txsRoot": header.txs_root,
        "digest": mini_block.digest,
        "signature": Bytes::copy_from_slice(&mini_block.signature),
        "transactions": mini_block.txs.iter().map(|tx| tx.tx.hash).collect::<Vec<_>>(),
    })
}

/// `unknown`, `queued`, `pending`, `included` or `dropped`, each with what is known beside it.
pub(crate) fn transaction_status(api: &Api, args: &Args) -> Answer {
    let HashArg(hash) = args.required(0)?;
    if let Some(found) = api.ctx.history.transaction(&hash)? {
        let mini_block = api.ctx.history.mini_block_of(&hash)?;
        return Ok(json!({
            "status": "included",
            "success": found.tx.outcome.success,
            "blockNumber": quantity(found.block_number),
            "blockHash": found.block_hash(),
            "sealed": matches!(found.place, TxPlace::Sealed(_)),
            "seq": quantity(found.tx.seq),
            "miniBlock": mini_block.as_ref().map(|(mini_block, _)| quantity(mini_block.header.height)),
            "position": mini_block.as_ref().map(|(_, position)| quantity(*position)),
        }));
    }
    if let Some(pooled) = api.ctx.ingress.pool_transaction(&hash) {
        return Ok(json!({ "status": if pooled.queued { "queued" } else { "pending" } }));
    }
    Ok(match api.ctx.ingress.drop_reason(&hash) {
        Some(reason) => json!({ "status": "dropped", "reason": reason.label(), "message": reason.message() }),
        None => json!({ "status": "unknown" }),
    })
}
