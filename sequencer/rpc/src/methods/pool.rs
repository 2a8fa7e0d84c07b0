//! What waits in the pool.

use crate::api::Api;
use crate::error::Answer;
use crate::json::{self, checksummed, quantity};
use crate::params::{AddressArg, Args};
use alloy_consensus::Transaction;
use ironlane_types::Tx;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) fn status(api: &Api, _: &Args) -> Answer {
    let counts = api.ctx.ingress.pool_counts();
    Ok(json!({ "pending": quantity(counts.pending), "queued": quantity(counts.queued) }))
}

/// By sender, then by nonce in decimal.
fn grouped(txs: &[Arc<Tx>], show: impl Fn(&Tx) -> Value) -> Value {
    let mut senders = Map::new();
    for tx in txs {
        let nonces = senders.entry(checksummed(&tx.sender)).or_insert_with(|| json!({}));
        if let Value::Object(nonces) = nonces {
            nonces.insert(tx.envelope.nonce().to_string(), show(tx));
        }
    }
    Value::Object(senders)
}

pub(crate) fn content(api: &Api, _: &Args) -> Answer {
    let content = api.ctx.ingress.pool_content(None);
    let show = |tx: &Tx| json::transaction(tx, None, None);
    Ok(json!({ "pending": grouped(&content.pending, show), "queued": grouped(&content.queued, show) }))
}

pub(crate) fn content_from(api: &Api, args: &Args) -> Answer {
    let AddressArg(sender) = args.required(0)?;
    let content = api.ctx.ingress.pool_content(Some(sender));
    let by_nonce = |txs: &[Arc<Tx>]| {
        let txs = txs.iter().map(|tx| (tx.envelope.nonce().to_string(), json::transaction(tx, None, None)));
        Value::Object(txs.collect())
    };
    Ok(json!({ "pending": by_nonce(&content.pending), "queued": by_nonce(&content.queued) }))
}

pub(crate) fn inspect(api: &Api, _: &Args) -> Answer {
    let content = api.ctx.ingress.pool_content(None);
    let show = |tx: &Tx| {
        let envelope = &tx.envelope;
        let (value, gas, price) = (envelope.value(), envelope.gas_limit(), envelope.max_fee_per_gas());
        let to = envelope.to().map_or("contract creation".to_string(), |to| checksummed(&to));
        json!(format!("{to}: {value} wei + {gas} gas × {price} wei"))
    };
    Ok(json!({ "pending": grouped(&content.pending, show), "queued": grouped(&content.queued, show) }))
}
