//! The console and `/metrics`: one small HTTP server for people and for Prometheus.
//!
//! `/` is a page that refreshes itself, `/status` the JSON it reads, `/metrics` the text format of Prometheus,
//! `/health` answers 200 while the node sequences and 503 when it does not.

use crate::node::metrics::Metrics;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const PAGE: &str = include_str!("console.html");
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the console shows that never changes while the node runs.
#[derive(Debug, Clone, Serialize)]
pub struct Identity {
    /// Product and version.
    pub client: String,
    /// Chain id.
    pub chain_id: u64,
    /// Address that signs mini-blocks.
    pub sequencer: String,
    /// Level of durability behind each acknowledgement.
    pub durability: String,
    /// Where each stage runs.
    pub lanes: Vec<String>,
    /// Which engines and transports were chosen, and why others were not.
    pub choices: Vec<String>,
}

/// Everything that the handlers read.
pub struct Console {
    /// Unchanging facts.
    pub identity: Identity,
    /// All registered metrics.
    pub registry: Registry,
    /// The same counters, by name.
    pub metrics: Metrics,
    /// When the node started.
    pub started: Instant,
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(flatten)]
    identity: &'a Identity,
    uptime_s: u64,
    head_block: i64,
    durable_mini_block: i64,
    transactions: u64,
    gas: u64,
    mini_blocks: u64,
    root_lag_blocks: i64,
    admitting: bool,
    rejects: Vec<(&'static str, u64)>,
    readings: Vec<(&'static str, String, u64)>,
}

/// Serves until the runtime that it was spawned on ends. Returns the bound address.
pub async fn serve(address: SocketAddr, console: Console) -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let app = router(Arc::new(console));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the console stopped");
        }
    });
    Ok(bound)
}

fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/health", get(health))
        .with_state(console)
}

async fn metrics(State(console): State<Arc<Console>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &console.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(console): State<Arc<Console>>) -> Response {
    let metrics = &console.metrics;
    Json(Status {
        identity: &console.identity,
        uptime_s: console.started.elapsed().as_secs(),
        head_block: metrics.head_block.get(),
        durable_mini_block: metrics.durable_mini_block.get(),
        transactions: metrics.executed.get(),
        gas: metrics.gas.get(),
        mini_blocks: metrics.mini_blocks.get(),
        root_lag_blocks: metrics.root_lag.get(),
        admitting: metrics.not_admitting.get() == 0,
        rejects: metrics.rejects().into_iter().map(|(reason, n)| (reason.label(), n)).collect(),
        readings: metrics.readings(),
    })
    .into_response()
}

async fn health(State(console): State<Arc<Console>>) -> Response {
    if console.metrics.not_admitting.get() == 0 {
        (StatusCode::OK, "sequencing\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not admitting: see the log\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        text
    }

    #[tokio::test]
    async fn every_page_answers_and_health_follows_admission() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.executed.inc_by(42);
        let identity = Identity {
            client: "ironlane".into(),
            chain_id: 31337,
            sequencer: "0x00".into(),
            durability: "durable".into(),
            lanes: vec![],
            choices: vec![],
        };
        let console = Console { identity, registry, metrics: metrics.clone(), started: Instant::now() };
        let bound = serve(([127, 0, 0, 1], 0).into(), console).await.expect("serve");
        assert!(fetch(bound, "/").await.contains("<title>Ironlane</title>"));
        assert!(fetch(bound, "/metrics").await.contains("ironlane_transactions_executed_total 42"));
        assert!(fetch(bound, "/status").await.contains("\"transactions\":42"));
        assert!(fetch(bound, "/health").await.starts_with("HTTP/1.1 200"));
        metrics.not_admitting.set(1);
        assert!(fetch(bound, "/health").await.starts_with("HTTP/1.1 503"));
    }
}
