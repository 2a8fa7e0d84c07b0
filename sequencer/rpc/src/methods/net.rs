//! Who and where the node is.

use crate::api::Api;
use crate::error::Answer;
use crate::json::quantity;
use crate::params::{Args, BytesArg};
use alloy_primitives::keccak256;
use serde_json::{Value, json};

pub(crate) fn client_version(api: &Api, _: &Args) -> Answer {
    Ok(json!(api.ctx.client_version))
}

pub(crate) fn sha3(_: &Api, args: &Args) -> Answer {
    Ok(json!(keccak256(args.required::<BytesArg>(0)?.0)))
}

/// The network's number is the chain's.
pub(crate) fn version(api: &Api, _: &Args) -> Answer {
    Ok(json!(api.ctx.spec.chain_id.to_string()))
}

pub(crate) fn listening(_: &Api, _: &Args) -> Answer {
    Ok(json!(true))
}

/// A sequencer has clients, not peers.
pub(crate) fn peer_count(_: &Api, _: &Args) -> Answer {
    Ok(quantity(0u64))
}

pub(crate) fn chain_id(api: &Api, _: &Args) -> Answer {
    Ok(quantity(api.ctx.spec.chain_id))
}

/// The sequencer makes the chain, so it is never behind it.
pub(crate) fn syncing(_: &Api, _: &Args) -> Answer {
    Ok(json!(false))
}

pub(crate) fn block_number(api: &Api, _: &Args) -> Answer {
    Ok(quantity(api.head()?.header.number))
}

/// The node holds no user's keys.
pub(crate) fn accounts(_: &Api, _: &Args) -> Answer {
    Ok(Value::Array(Vec::new()))
}
