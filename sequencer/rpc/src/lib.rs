//! Ethereum JSON-RPC over HTTP and WebSocket, on one port.
//!
//! [`serve`] takes an [`RpcContext`], the doors that the node opens (state, history, the pool's [`Ingress`], the root
//! stage's [`Proofs`]), and an [`RpcConfig`] of limits. `latest` and `pending` state is the newest durable mini-block's;
//! blocks are the sealed ones, and `pending` the open one. Error codes and words are geth's where geth has them, so that
//! wallets and libraries need no patch. [`conformance::run`] compares any server with the pairs of execution-apis.

mod api;
mod config;
pub mod conformance;
mod context;
mod error;
mod filters;
mod json;
mod logs;
mod methods;
mod params;
mod server;
mod stats;

pub use config::RpcConfig;
pub use context::{
    BoxFuture, Ingress, PendingBlocks, PoolContent, PoolCounts, PoolTx, ProofError, Proofs, ProvenAccount,
    RpcContext, SyncOutcome,
};
pub use error::RpcError;
pub use server::{RpcHandle, serve};
pub use stats::RpcStats;
