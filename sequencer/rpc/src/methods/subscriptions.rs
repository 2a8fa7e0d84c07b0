//! `eth_subscribe`: news over a WebSocket. A subscriber that does not read is disconnected: its buffer is bounded.

use crate::RpcStats;
use crate::api::Api;
use crate::error::{Answer, Failure, code};
use crate::json;
use crate::logs::{LogArg, LogQuery};
use crate::params::Args;
use crate::server::Connection;
use alloy_primitives::B256;
use ironlane_types::SealedBlock;
use jsonrpsee::core::server::SubscriptionSink;
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{Extensions, PendingSubscriptionSink, RpcModule};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

enum Topic {
    NewHeads,
    Logs(Box<LogQuery>),
    Pending { full: bool },
}

pub(crate) fn register(module: &mut RpcModule<Api>) -> Result<(), jsonrpsee::core::RegisterMethodError> {
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, api, extensions| async move {
            RpcStats::add(&api.stats.requests);
            match Args::new(&params, 2).and_then(|args| topic(&args)) {
                Ok(topic) => serve(api, pending, topic, extensions).await,
                Err(failure) => {
                    RpcStats::add(&api.stats.errors);
                    pending.reject(ErrorObjectOwned::from(failure)).await;
                }
            }
        },
    )?;
    Ok(())
}

fn topic(args: &Args) -> Answer<Topic> {
    match args.required::<String>(0)?.as_str() {
        "newHeads" => Ok(Topic::NewHeads),
        "logs" => Ok(Topic::Logs(Box::new(args.optional::<LogArg>(1)?.unwrap_or_default().check(1)?))),
        "newPendingTransactions" => Ok(Topic::Pending { full: args.optional(1)?.unwrap_or(false) }),
        other => {
            Err(Failure::new(code::METHOD_NOT_FOUND, format!("no \"{other}\" subscription in eth namespace")))
        }
    }
}

async fn serve(api: Arc<Api>, pending: PendingSubscriptionSink, topic: Topic, extensions: Extensions) {
    // Subscribe before accepting, so that nothing is missed after the client has its id.
    let blocks = api.blocks.subscribe();
    let hashes = api.ctx.ingress.subscribe_pending();
    let Ok(sink) = pending.accept().await else { return };
    RpcStats::add(&api.stats.subscriptions);
    let slow = match topic {
        Topic::Pending { full } => pump_pending(api.clone(), sink, hashes, full).await,
        Topic::NewHeads => {
            pump_blocks(sink, blocks, |block| vec![Value::Object(json::header(&block.header, block.hash))])
                .await
        }
        Topic::Logs(query) => {
            pump_blocks(sink, blocks, |block| query.filter.logs_of(block).iter().map(json::log).collect())
                .await
        }
    };
    RpcStats::sub(&api.stats.subscriptions);
    if slow {
        RpcStats::add(&api.stats.slow_subscribers);
        if let Some(connection) = extensions.get::<Arc<Connection>>() {
            connection.disconnect();
        }
    }
}

/// Whether the subscriber was too slow.
async fn pump_blocks(
    mut sink: SubscriptionSink,
    mut blocks: broadcast::Receiver<Arc<SealedBlock>>,
    news: impl Fn(&SealedBlock) -> Vec<Value>,
) -> bool {
    loop {
        let block = tokio::select! {
            () = sink.closed() => return false,
            block = blocks.recv() => block,
        };
        match block {
            Ok(block) => {
                for item in news(&block) {
                    match push(&mut sink, &item) {
                        Pushed::Yes => {}
                        Pushed::Closed => return false,
                        Pushed::Full => return true,
                    }
                }
            }
            Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        }
    }
}

async fn pump_pending(
    api: Arc<Api>,
    mut sink: SubscriptionSink,
    mut hashes: broadcast::Receiver<B256>,
    full: bool,
) -> bool {
    loop {
        let hash = tokio::select! {
            () = sink.closed() => return false,
            hash = hashes.recv() => hash,
        };
        let item = match hash {
            Ok(hash) if full => {
                let api = api.clone();
                // The pool is asked, which may wait.
                match tokio::task::spawn_blocking(move || pending_transaction(&api, &hash)).await {
                    Ok(Some(item)) => item,
                    _ => continue,
                }
            }
            Ok(hash) => json!(hash),
            Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        };
        match push(&mut sink, &item) {
            Pushed::Yes => {}
            Pushed::Closed => return false,
            Pushed::Full => return true,
        }
    }
}

/// The transaction may have left the pool for a block since its hash was announced.
fn pending_transaction(api: &Api, hash: &B256) -> Option<Value> {
    let pooled = api.ctx.ingress.pool_transaction(hash).map(|pooled| pooled.tx);
    let tx = pooled
        .or_else(|| api.ctx.history.transaction(hash).ok().flatten().map(|found| found.tx.tx.clone()))?;
    Some(json::transaction(&tx, None, None))
}

enum Pushed {
    Yes,
    Full,
    Closed,
}

fn push(sink: &mut SubscriptionSink, item: &Value) -> Pushed {
    let Ok(message) = serde_json::value::to_raw_value(item) else { return Pushed::Yes };
    match sink.try_send(message) {
        Ok(()) => Pushed::Yes,
        Err(jsonrpsee::TrySendError::Full(_)) => Pushed::Full,
        Err(jsonrpsee::TrySendError::Closed(_)) => Pushed::Closed,
    }
}
