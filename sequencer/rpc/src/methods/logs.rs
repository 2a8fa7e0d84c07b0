//! Log queries and polled filters.

use crate::RpcStats;
use crate::api::Api;
use crate::error::{Answer, Failure};
use crate::filters::Kind;
use crate::json;
use crate::logs::{LogArg, LogQuery, LogRange};
use crate::params::{Args, BlockArg};
use alloy_primitives::{B256, U256};
use ironlane_history::{FoundLog, HistoryError};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use tokio::sync::broadcast::error::TryRecvError;

pub(crate) fn get_logs(api: &Api, args: &Args) -> Answer {
    let query = args.required::<LogArg>(0)?.check(0)?;
    found(&run(api, &query)?)
}

fn found(logs: &[FoundLog]) -> Answer {
    Ok(Value::Array(logs.iter().map(json::log).collect()))
}

fn run(api: &Api, query: &LogQuery) -> Answer<Vec<FoundLog>> {
    match query.range {
        LogRange::Block(hash) => {
            let number =
                api.ctx.history.number_of_hash(&hash)?.ok_or_else(|| Failure::server("unknown block"))?;
            search(api, query, number, number)
        }
        LogRange::Blocks(from, to) => {
            let (from, to) = (number(api, from)?, number(api, to)?);
            if from > to {
                return Err(Failure::params(format!(
                    "invalid block range params: fromBlock {from} is above toBlock {to}"
                )));
            }
            if to > api.head()?.header.number {
                return Err(Failure::params("block range extends beyond current head block"));
            }
            search(api, query, from, to)
        }
    }
}

fn number(api: &Api, block: BlockArg) -> Answer<u64> {
    match block {
        BlockArg::Number(number) => Ok(number),
        // Logs are found once their block is sealed.
        BlockArg::Latest | BlockArg::Pending | BlockArg::Sealed => Ok(api.head()?.header.number),
        BlockArg::Earliest => Ok(api.ctx.spec.genesis.header.number),
        BlockArg::Hash(hash) => api.ctx.history.number_of_hash(&hash)?.ok_or_else(Failure::header_not_found),
    }
}

fn search(api: &Api, query: &LogQuery, from: u64, to: u64) -> Answer<Vec<FoundLog>> {
    let most = api.config.log_blocks_max;
    if to - from >= most {
        RpcStats::add(&api.stats.refused_log_queries);
        return Err(Failure::limit(format!("exceed maximum block range: {most}")));
    }
    api.ctx.history.logs(from, to, &query.filter, api.config.logs_max).map_err(|error| {
        if let HistoryError::TooManyLogs { .. } = error {
            RpcStats::add(&api.stats.refused_log_queries);
        }
        error.into()
    })
}

fn open(api: &Api, kind: Kind) -> Answer {
    let id = api.filters.open(kind).inspect_err(|_| RpcStats::add(&api.stats.refused_filters))?;
    api.stats.filters.store(api.filters.len() as u64, Ordering::Relaxed);
    Ok(json::quantity(id))
}

pub(crate) fn new_filter(api: &Api, args: &Args) -> Answer {
    let query = args.required::<LogArg>(0)?.check(0)?;
    let seen = api.head()?.header.number;
    open(api, Kind::Logs { query: Box::new(query), seen })
}

pub(crate) fn new_block_filter(api: &Api, _: &Args) -> Answer {
    open(api, Kind::Blocks { seen: api.head()?.header.number })
}

/// Hashes only; geth's flag for whole transactions is accepted where it asks for hashes.
pub(crate) fn new_pending_filter(api: &Api, args: &Args) -> Answer {
    if args.optional::<bool>(0)?.unwrap_or(false) {
        return Err(Failure::argument(0, "whole transactions are sent by eth_subscribe only"));
    }
    open(api, Kind::Pending { hashes: api.ctx.ingress.subscribe_pending() })
}

pub(crate) fn uninstall_filter(api: &Api, args: &Args) -> Answer {
    let closed = api.filters.close(&args.required::<U256>(0)?);
    api.stats.filters.store(api.filters.len() as u64, Ordering::Relaxed);
    Ok(json!(closed))
}

/// What is new since the last question.
pub(crate) fn filter_changes(api: &Api, args: &Args) -> Answer {
    enum Next {
        Blocks { after: u64, to: u64 },
        Logs { query: LogQuery, after: u64, to: u64 },
        Hashes(VecDeque<B256>),
    }
    let head = api.head()?.header.number;
    let id = args.required::<U256>(0)?;
    // The history is read after the filters' lock is given back.
    let next = api.filters.with(&id, |kind| {
        Ok(match kind {
            Kind::Blocks { seen } => {
                let after = std::mem::replace(seen, head.max(*seen));
                Next::Blocks { after, to: head }
            }
            Kind::Logs { query, seen } => {
                let after = std::mem::replace(seen, head.max(*seen));
                Next::Logs { query: (**query).clone(), after, to: head }
            }
            Kind::Pending { hashes } => {
                let mut new = VecDeque::new();
                loop {
                    match hashes.try_recv() {
                        Ok(hash) => new.push_back(hash),
                        Err(TryRecvError::Lagged(_)) => {}
                        Err(_) => break,
                    }
                    if new.len() > api.config.filter_changes_max {
                        new.pop_front();
                    }
                }
                Next::Hashes(new)
            }
        })
    })?;
    match next {
        Next::Hashes(hashes) => Ok(json!(hashes)),
        Next::Blocks { after, to } => {
            let first = (after + 1).max((to + 1).saturating_sub(api.config.filter_changes_max as u64));
            let mut hashes = Vec::new();
            for number in first..=to {
                hashes.extend(api.ctx.history.block_head(number)?.map(|head| head.hash));
            }
            Ok(json!(hashes))
        }
        Next::Logs { query, after, to } => {
            let (from, to) = match query.range {
                LogRange::Block(_) => return found(&[]),
                LogRange::Blocks(from, last) => {
                    let from =
                        if let BlockArg::Number(from) = from { from.max(after + 1) } else { after + 1 };
                    (from, if let BlockArg::Number(last) = last { last.min(to) } else { to })
                }
            };
            if from > to { found(&[]) } else { found(&search(api, &query, from, to)?) }
        }
    }
}

/// Everything that a log filter accepts, as `eth_getLogs` would answer.
pub(crate) fn filter_logs(api: &Api, args: &Args) -> Answer {
    let query = api.filters.with(&args.required::<U256>(0)?, |kind| match kind {
        Kind::Logs { query, .. } => Ok(query.clone()),
        _ => Err(Failure::server("filter not found")),
    })?;
    found(&run(api, &query)?)
}
