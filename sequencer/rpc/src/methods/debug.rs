//! Blocks and receipts as bytes.

use crate::api::{Api, Found};
use crate::error::{Answer, Failure};
use crate::json;
use crate::params::{Args, BlockArg};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Bytes, hex};
use ironlane_types::SealedBlock;
use serde_json::{Value, json};
use std::sync::Arc;

fn sealed(api: &Api, args: &Args) -> Answer<Arc<SealedBlock>> {
    let block: BlockArg = args.required(0)?;
    match api.find(block)? {
        Some(Found::Sealed(block)) => Ok(block),
        _ => Err(Failure::server(format!("block {} not found", crate::api::describe(block)))),
    }
}

pub(crate) fn raw_header(api: &Api, args: &Args) -> Answer {
    let block: BlockArg = args.required(0)?;
    let head = api.find_head(block)?;
    let head =
        head.ok_or_else(|| Failure::server(format!("block {} not found", crate::api::describe(block))))?;
    Ok(json!(Bytes::from(alloy_rlp::encode(&head.header))))
}

pub(crate) fn raw_block(api: &Api, args: &Args) -> Answer {
    Ok(Value::String(hex::encode_prefixed(json::raw_block(&*sealed(api, args)?))))
}

pub(crate) fn raw_receipts(api: &Api, args: &Args) -> Answer {
    let block = sealed(api, args)?;
    Ok(block.txs.iter().map(|tx| json!(Bytes::from(tx.receipt().encoded_2718()))).collect())
}
