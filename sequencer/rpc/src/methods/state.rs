//! Accounts, code, storage and proofs.

use crate::api::{Api, describe};
use crate::error::{Answer, Failure};
use crate::json::quantity;
use crate::params::{AddressArg, Args, BlockArg, KeyArg};
use alloy_primitives::{B256, Bytes, U256};
use ironlane_types::KECCAK_EMPTY;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn balance(api: &Api, args: &Args) -> Answer {
    let AddressArg(address) = args.required(0)?;
    let account = api.read(args.optional(1)?, |view| view.account(&address))?;
    Ok(quantity(account.map_or(U256::ZERO, |account| account.balance)))
}

pub(crate) fn code(api: &Api, args: &Args) -> Answer {
    let AddressArg(address) = args.required(0)?;
    let code = api.read(args.optional(1)?, |view| {
        let account = view.account(&address)?.filter(|account| account.code_hash != KECCAK_EMPTY);
        Ok(account.and_then(|account| view.code(&account.code_hash)))
    })?;
    Ok(json!(code.unwrap_or_default()))
}

pub(crate) fn storage_at(api: &Api, args: &Args) -> Answer {
    let AddressArg(address) = args.required(0)?;
    let KeyArg(key) = args.required(1)?;
    let value = api.read(args.optional(2)?, |view| view.storage(&address, key))?;
    Ok(json!(B256::from(value)))
}

/// Values of many slots of many accounts, from one version.
pub(crate) fn storage_values(api: &Api, args: &Args) -> Answer {
    let wanted: BTreeMap<AddressArg, Vec<KeyArg>> = args.required(0)?;
    let keys: usize = wanted.values().map(Vec::len).sum();
    if keys == 0 {
        return Err(Failure::params("empty request"));
    }
    if keys > api.config.storage_keys_max {
        return Err(too_many_keys(api));
    }
    let values = api.read(args.optional(1)?, |view| {
        wanted
            .iter()
            .map(|(AddressArg(address), keys)| {
                let values =
                    keys.iter().map(|KeyArg(key)| Ok(json!(B256::from(view.storage(address, *key)?))));
                Ok((format!("{address:?}"), Value::Array(values.collect::<Result<_, _>>()?)))
            })
            .collect::<Result<serde_json::Map<_, _>, _>>()
    })?;
    Ok(Value::Object(values))
}

fn too_many_keys(api: &Api) -> Failure {
    Failure::params(format!("too many slots (max {})", api.config.storage_keys_max))
}

/// `pending` counts what waits in the pool.
pub(crate) fn transaction_count(api: &Api, args: &Args) -> Answer {
    let AddressArg(address) = args.required(0)?;
    let block: Option<BlockArg> = args.optional(1)?;
    let account = api.read(block, |view| view.account(&address))?;
    let nonce = account.map_or(0, |account| account.nonce);
    if block == Some(BlockArg::Pending) {
        let pooled = api.ctx.ingress.pending_nonce(&address).unwrap_or(0);
        return Ok(quantity(nonce.max(pooled)));
    }
    Ok(quantity(nonce))
}

/// A proof exists for the newest sealed block's state only; older states cannot be proven any more.
pub(crate) async fn proof(api: &Api, args: &Args) -> Answer {
    let AddressArg(address) = args.required(0)?;
    let asked: Vec<String> = args.optional(1)?.unwrap_or_default();
    if asked.len() > api.config.storage_keys_max {
        return Err(too_many_keys(api));
    }
    let keys = asked
        .iter()
        .map(|text| {
            let key = serde_json::from_value::<KeyArg>(Value::String(text.clone()));
            key.map(|key| key.0).map_err(|error| Failure::argument(1, error))
        })
        .collect::<Answer<Vec<U256>>>()?;
    let block = args.optional(2)?.unwrap_or(BlockArg::Latest);
    let wanted = api.find_head(block)?.ok_or_else(Failure::header_not_found)?.header.number;
    let proven =
        api.ctx.proofs.prove(address, keys).await.map_err(|error| Failure::server(error.to_string()))?;
    let newest = matches!(block, BlockArg::Latest | BlockArg::Pending | BlockArg::Sealed);
    if proven.block_number != wanted && !newest {
        return Err(Failure::state_gone(describe(block)));
    }
    let proof = proven.proof;
    let storage: Vec<Value> = proof
        .storage
        .iter()
        .zip(&asked)
        .map(|(slot, asked)| {
            // The key comes back as it was asked for: a full word stays one, a short key is a quantity.
            let key = if asked.len() == 66 { json!(B256::from(slot.key)) } else { quantity(slot.key) };
            json!({ "key": key, "value": quantity(slot.value), "proof": nodes(&slot.proof) })
        })
        .collect();
    let info = proof.info.unwrap_or_default();
    // An account that does not exist has no code hash of its own in the default value.
    let code_hash = if proof.info.is_some() { info.code_hash } else { KECCAK_EMPTY };
    Ok(json!({
        "address": address,
        "accountProof": nodes(&proof.account_proof),
        "balance": quantity(info.balance),
        "codeHash": code_hash,
        "nonce": quantity(info.nonce),
        "storageHash": proof.storage_root,
        "storageProof": storage,
    }))
}

fn nodes(proof: &[Bytes]) -> Value {
    json!(proof)
}
