//! The methods, by subject. Each is a function from the shared state and its arguments to an answer.

pub(crate) mod blocks;
pub(crate) mod call;
pub(crate) mod debug;
pub(crate) mod fees;
pub(crate) mod fork_config;
pub(crate) mod ironlane;
pub(crate) mod logs;
pub(crate) mod net;
pub(crate) mod pool;
pub(crate) mod state;
pub(crate) mod subscriptions;
pub(crate) mod transactions;

use crate::api::Api;
use crate::error::Answer;
use crate::params::Args;
use crate::{RpcError, RpcStats};
use jsonrpsee::RpcModule;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::Value;
use std::sync::Arc;

type Sync = fn(&Api, &Args) -> Answer;

/// Methods that only read memory: name, number of arguments, body.
const QUICK: &[(&str, usize, Sync)] = &[
    ("web3_clientVersion", 0, net::client_version),
    ("web3_sha3", 1, net::sha3),
    ("net_version", 0, net::version),
    ("net_listening", 0, net::listening),
    ("net_peerCount", 0, net::peer_count),
    ("eth_chainId", 0, net::chain_id),
    ("eth_syncing", 0, net::syncing),
    ("eth_blockNumber", 0, net::block_number),
    ("eth_accounts", 0, net::accounts),
    ("eth_config", 0, fork_config::config),
    ("eth_gasPrice", 0, fees::gas_price),
    ("eth_maxPriorityFeePerGas", 0, fees::max_priority_fee),
    ("eth_baseFee", 0, fees::base_fee),
    ("eth_blobBaseFee", 0, fees::blob_base_fee),
    ("eth_getBalance", 2, state::balance),
    ("eth_getCode", 2, state::code),
    ("eth_getStorageAt", 3, state::storage_at),
    ("eth_getStorageValues", 2, state::storage_values),
    ("eth_newFilter", 1, logs::new_filter),
    ("eth_newBlockFilter", 0, logs::new_block_filter),
    ("eth_newPendingTransactionFilter", 1, logs::new_pending_filter),
    ("eth_uninstallFilter", 1, logs::uninstall_filter),
    ("ironlane_sequencer", 0, ironlane::sequencer),
];

/// Methods that may read the archive, ask the pool, or make a long answer: they run on the threads for blocking work.
const SLOW: &[(&str, usize, Sync)] = &[
    ("eth_feeHistory", 3, fees::fee_history),
    ("eth_getBlockByNumber", 2, blocks::by_number),
    ("eth_getBlockByHash", 2, blocks::by_hash),
    ("eth_getBlockReceipts", 1, blocks::receipts),
    ("eth_getBlockTransactionCountByNumber", 1, blocks::count_by_number),
    ("eth_getBlockTransactionCountByHash", 1, blocks::count_by_hash),
    ("eth_getUncleCountByBlockNumber", 1, blocks::uncle_count_by_number),
    ("eth_getUncleCountByBlockHash", 1, blocks::uncle_count_by_hash),
    ("eth_getTransactionCount", 2, state::transaction_count),
    ("eth_getTransactionByHash", 1, transactions::by_hash),
    ("eth_getTransactionByBlockNumberAndIndex", 2, transactions::by_number_and_index),
    ("eth_getTransactionByBlockHashAndIndex", 2, transactions::by_block_hash_and_index),
    ("eth_getTransactionReceipt", 1, transactions::receipt),
    ("eth_getRawTransactionByHash", 1, transactions::raw_by_hash),
    ("eth_getLogs", 1, logs::get_logs),
    ("eth_getFilterChanges", 1, logs::filter_changes),
    ("eth_getFilterLogs", 1, logs::filter_logs),
    ("txpool_status", 0, pool::status),
    ("txpool_content", 0, pool::content),
    ("txpool_contentFrom", 1, pool::content_from),
    ("txpool_inspect", 0, pool::inspect),
    ("debug_getRawHeader", 1, debug::raw_header),
    ("debug_getRawBlock", 1, debug::raw_block),
    ("debug_getRawReceipts", 1, debug::raw_receipts),
    ("debug_getRawTransaction", 1, transactions::raw_by_hash),
    ("ironlane_getPromise", 1, ironlane::promise),
    ("ironlane_getMiniBlock", 1, ironlane::mini_block),
    ("ironlane_transactionStatus", 1, ironlane::transaction_status),
];

/// Every method, ready to serve.
pub(crate) fn module(api: Arc<Api>) -> Result<RpcModule<Api>, RpcError> {
    let mut module = RpcModule::from_arc(api);
    let failed = |error: jsonrpsee::core::RegisterMethodError| RpcError::Methods(error.to_string());
    for (name, most, body) in QUICK {
        module
            .register_method(name, move |params, api, _| {
                counted(api, Args::new(&params, *most).and_then(|args| body(api, &args)))
            })
            .map_err(failed)?;
    }
    for (name, most, body) in SLOW {
        module
            .register_blocking_method(name, move |params, api, _| {
                counted(&api, Args::new(&params, *most).and_then(|args| body(&api, &args)))
            })
            .map_err(failed)?;
    }
    macro_rules! later {
        ($($name:literal, $most:literal, $body:path;)*) => {$(
            module
                .register_async_method($name, |params, api, _| async move {
                    let answer = match Args::new(&params, $most) {
                        Ok(args) => $body(&api, &args).await,
                        Err(failure) => Err(failure),
                    };
                    counted(&api, answer)
                })
                .map_err(failed)?;
        )*};
    }
    later! {
        "eth_getProof", 3, state::proof;
        "eth_sendRawTransaction", 1, transactions::send_raw;
        "eth_sendRawTransactionSync", 2, transactions::send_raw_sync;
        "eth_call", 4, call::call;
        "eth_estimateGas", 4, call::estimate_gas;
        "eth_createAccessList", 3, call::create_access_list;
    }
    subscriptions::register(&mut module).map_err(failed)?;
    Ok(module)
}

fn counted(api: &Api, answer: Answer) -> Result<Value, ErrorObjectOwned> {
    RpcStats::add(&api.stats.requests);
    answer.map_err(|failure| {
        RpcStats::add(&api.stats.errors);
        failure.into()
    })
}
