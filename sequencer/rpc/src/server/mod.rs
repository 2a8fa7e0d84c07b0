//! The server: accepts connections within their limits and hands them to the methods.
//!
//! In: TCP connections. Out: answers and notifications. On overload a new connection is refused with a sentence, an
//! old one ends when its clocks run out, and nothing waits without bound.

mod guard;
mod origin;
mod service;

pub(crate) use guard::Connection;

use crate::api::Api;
use crate::filters::Filters;
use crate::methods;
use crate::{RpcConfig, RpcContext, RpcError, RpcStats};
use alloy_primitives::hex;
use guard::{Guarded, OnDrop};
use hashbrown::HashMap;
use ironlane_executor::simulate::Simulator;
use ironlane_executor::{BlockHashes, CodeCache};
use ironlane_history::{Event, History, Interest, Received, Subscription};
use ironlane_types::SealedBlock;
use jsonrpsee::server::{
    BatchRequestConfig, IdProvider, Methods, PingConfig, Server, ServerConfig, StopHandle,
    TowerServiceBuilder, serve_with_graceful_shutdown, stop_channel,
};
use jsonrpsee::types::SubscriptionId;
use parking_lot::Mutex;
use service::Limits;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};

/// Sealed blocks that a subscription may be behind.
const BLOCKS_BEHIND_MAX: usize = 256;
/// Analysed code kept for simulated calls.
const CODE_CACHE_BYTES: usize = 64 << 20;
/// Ancestors that BLOCKHASH can name.
const BLOCK_HASHES: u64 = 256;
/// How often the thread that forwards blocks looks whether it should end.
const FORWARD_LOOK: Duration = Duration::from_millis(200);

/// A running server. Dropping it stops the server.
pub struct RpcHandle {
    address: SocketAddr,
    stop: Option<jsonrpsee::server::ServerHandle>,
    stats: Arc<RpcStats>,
    running: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl RpcHandle {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<RpcStats> {
        self.stats.clone()
    }

    /// Takes no more connections, lets requests that run come to their end (for at most two seconds), and stops.
    pub async fn stop(mut self) {
        self.signal();
        for task in std::mem::take(&mut self.tasks) {
            let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
        }
    }

    fn signal(&mut self) {
        self.running.store(false, Ordering::Release);
        if let Some(stop) = self.stop.take() {
            // Already stopped is as good.
            let _ = stop.stop();
        }
    }
}

impl Drop for RpcHandle {
    fn drop(&mut self) {
        self.signal();
        self.tasks.iter().for_each(|task| task.abort());
    }
}

/// Starts the server on the current tokio runtime.
pub async fn serve(ctx: RpcContext, config: RpcConfig) -> Result<RpcHandle, RpcError> {
    check(&config)?;
    let listen = |error| RpcError::Listen { address: config.listen, error };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let stats = Arc::new(RpcStats::default());
    let running = Arc::new(AtomicBool::new(true));
    let (blocks, _) = broadcast::channel(BLOCKS_BEHIND_MAX);
    let hashes = BlockHashes::new();
    // A question never waits for a block that is to come.
    hashes.close();
    let events = ctx.history.subscribe(Interest::Blocks);
    remember_hashes(&ctx.history, &hashes);
    forward_blocks(events, blocks.clone(), hashes.clone(), running.clone()).map_err(listen)?;
    let api = Arc::new(Api {
        filters: Filters::new(config.filters_max, config.filter_expiry),
        calls: Arc::new(Semaphore::new(config.calls_at_once)),
        calls_waiting: AtomicUsize::new(0),
        simulator: Simulator::new(ctx.spec.clone(), hashes, CodeCache::new(CODE_CACHE_BYTES)),
        ctx,
        config: config.clone(),
        stats: stats.clone(),
        blocks,
    });
    let (stop_handle, server_handle) = stop_channel();
    let acceptor = Acceptor {
        methods: methods::module(api)?.into(),
        builder: Server::builder().set_config(jsonrpsee_config(&config)).to_service_builder(),
        config: Arc::new(config),
        stats: stats.clone(),
        stop: stop_handle,
        by_address: Arc::default(),
    };
    let task = tokio::spawn(acceptor.run(listener));
    Ok(RpcHandle { address, stop: Some(server_handle), stats, running, tasks: vec![task] })
}

fn check(config: &RpcConfig) -> Result<(), RpcError> {
    let wrong = [
        (config.calls_at_once == 0, "calls_at_once must be at least 1"),
        (config.ws_buffer_messages == 0, "ws_buffer_messages must be at least 1"),
        (config.connections_max == 0, "connections_max must be at least 1"),
        (config.idle_timeout < Duration::from_millis(2), "idle_timeout must be at least 2 ms"),
    ];
    wrong.into_iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, what)| Err(RpcError::Config(what)))
}

fn jsonrpsee_config(config: &RpcConfig) -> ServerConfig {
    let ping = config.idle_timeout / 2;
    ServerConfig::builder()
        .max_request_body_size(config.request_bytes_max)
        .max_response_body_size(config.response_bytes_max)
        .max_connections(config.connections_max)
        .max_subscriptions_per_connection(config.subscriptions_per_connection_max)
        .set_batch_request_config(BatchRequestConfig::Limit(config.batch_max))
        .set_message_buffer_capacity(config.ws_buffer_messages)
        .enable_ws_ping(PingConfig::new().ping_interval(ping).inactive_limit(config.idle_timeout))
        .set_id_provider(HexIds)
        .build()
}

/// Subscription ids as geth's: 16 random bytes in hexadecimal.
#[derive(Debug)]
struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        let random = alloy_primitives::B128::random();
        SubscriptionId::Str(hex::encode_prefixed(random).into())
    }
}

/// Fills the window of BLOCKHASH. A block that cannot be read is missing there, and a call that asks for it is told so.
fn remember_hashes(history: &History, hashes: &BlockHashes) {
    let Some(head) = history.head_number() else { return };
    for number in head.saturating_sub(BLOCK_HASHES)..=head {
        if let Ok(Some(block)) = history.block_head(number) {
            hashes.set(number, block.hash);
        }
    }
}

/// Brings sealed blocks from the history to the subscriptions, on a thread of its own.
fn forward_blocks(
    events: Subscription,
    blocks: broadcast::Sender<Arc<SealedBlock>>,
    hashes: BlockHashes,
    running: Arc<AtomicBool>,
) -> Result<(), std::io::Error> {
    let forward = move || {
        while running.load(Ordering::Acquire) {
            match events.recv_timeout(FORWARD_LOOK) {
                Received::Event(Event::NewBlock(block)) => {
                    hashes.set(block.header.number, block.hash);
                    // Nobody listens: that is fine.
                    let _ = blocks.send(block);
                }
                Received::Event(_) | Received::Empty => {}
                Received::Lagged(lost) => {
                    tracing::warn!(lost, "subscriptions missed blocks: the server is too busy")
                }
                Received::Closed => return,
            }
        }
    };
    std::thread::Builder::new().name("rpc-blocks".into()).spawn(forward).map(drop)
}

type Builder = TowerServiceBuilder<tower::layer::util::Identity, tower::layer::util::Identity>;

struct Acceptor {
    methods: Methods,
    builder: Builder,
    config: Arc<RpcConfig>,
    stats: Arc<RpcStats>,
    stop: StopHandle,
    by_address: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let stopped = self.stop.clone().shutdown();
        tokio::pin!(stopped);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stopped => return,
            };
            match accepted {
                Ok((socket, address)) => self.admit(socket, address.ip()),
                Err(error) => {
                    // Out of file descriptors, most likely: what runs goes on, and closing connections make room.
                    tracing::warn!(%error, "cannot accept a connection now");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn admit(&self, socket: TcpStream, address: IpAddr) {
        if self.stats.connections.load(Ordering::Acquire) >= u64::from(self.config.connections_max) {
            RpcStats::add(&self.stats.refused_connections);
            return turn_away(&socket, "too many connections: try again later");
        }
        {
            let mut by_address = self.by_address.lock();
            let count = by_address.entry(address).or_insert(0);
            if *count >= self.config.connections_per_address_max {
                RpcStats::add(&self.stats.refused_address_connections);
                drop(by_address);
                return turn_away(&socket, "too many connections from your address: close one first");
            }
            *count += 1;
        }
        RpcStats::add(&self.stats.connections);
        let (stats, by_address) = (self.stats.clone(), self.by_address.clone());
        let counted = OnDrop::new(move || {
            RpcStats::sub(&stats.connections);
            let mut by_address = by_address.lock();
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        });
        // A refused option costs speed, not correctness.
        let _ = socket.set_nodelay(true);
        let connection = Arc::new(Connection::new());
        let socket = Guarded::new(socket, connection.clone(), self.stats.clone(), &self.config, counted);
        let service = Limits {
            inner: self.builder.clone().build(self.methods.clone(), self.stop.clone()),
            connection,
            stats: self.stats.clone(),
            config: self.config.clone(),
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_with_graceful_shutdown(socket, service, stop.shutdown()).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

/// Says why, if the socket takes it at once, and closes.
fn turn_away(socket: &TcpStream, why: &str) {
    let body =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{{\"code\":-32005,\"message\":\"{why}\"}}}}");
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A full socket buffer on a fresh connection means that nobody reads; then there is nobody to tell.
    let _ = socket.try_write(text.as_bytes());
}
