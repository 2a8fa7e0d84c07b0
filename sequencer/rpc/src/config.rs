//! Limits of the server. Each refusal is a typed error and is counted in [`crate::RpcStats`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where to listen and how much to take.
#[derive(Debug, Clone)]
pub struct RpcConfig {
    /// HTTP and WebSocket, on one port. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Origins of the web pages that may ask (`https://app.example`; one `*` in it stands for any text, `*` alone for every
    /// page), as geth's `--http.corsdomain`. None: only pages of the server's own address.
    pub cors_origins: Vec<String>,
    /// Bytes of a request body, and of a WebSocket message.
    pub request_bytes_max: u32,
    /// Bytes of a response.
    pub response_bytes_max: u32,
    /// Requests in a batch.
    pub batch_max: u32,
    /// Open connections.
    pub connections_max: u32,
    /// Open connections of one address.
    pub connections_per_address_max: u32,
    /// Subscriptions of one connection.
    pub subscriptions_per_connection_max: u32,
    /// Messages that may wait for a WebSocket client before it counts as too slow.
    pub ws_buffer_messages: u32,
    /// A request must be complete so long after its first byte.
    pub read_timeout: Duration,
    /// Bytes must leave so long after they could.
    pub write_timeout: Duration,
    /// A connection may rest so long. WebSocket clients are pinged in half of it.
    pub idle_timeout: Duration,
    /// Blocks that one `eth_getLogs` may span.
    pub log_blocks_max: u64,
    /// Logs that one `eth_getLogs` may return.
    pub logs_max: usize,
    /// Blocks that one `eth_feeHistory` may span (geth: 1,024).
    pub fee_history_blocks_max: u64,
    /// Open filters.
    pub filters_max: usize,
    /// A filter that is not asked for so long is gone.
    pub filter_expiry: Duration,
    /// Changes that a filter keeps for its owner; beyond, the oldest go.
    pub filter_changes_max: usize,
    /// Gas that one simulated call may use.
    pub call_gas_max: u64,
    /// Time that one simulated call may take.
    pub call_time_max: Duration,
    /// EVM memory of one simulated call, in bytes.
    pub call_memory_max: u64,
    /// Simulated calls that run at once; others wait.
    pub calls_at_once: usize,
    /// Simulated calls that may wait; beyond, they are refused.
    pub calls_waiting_max: usize,
    /// Storage keys in one `eth_getProof` or `eth_getStorageValues`.
    pub storage_keys_max: usize,
    /// How long `eth_sendRawTransactionSync` waits when the caller does not say (EIP-7966).
    pub sync_timeout: Duration,
    /// How long it waits at most.
    pub sync_timeout_max: Duration,
}

impl Default for RpcConfig {
    fn default() -> Self {
        RpcConfig {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8545),
            cors_origins: Vec::new(),
            request_bytes_max: 1 << 20,
            response_bytes_max: 10_000_000,
            batch_max: 100,
            connections_max: 1_000,
            connections_per_address_max: 32,
            subscriptions_per_connection_max: 32,
            ws_buffer_messages: 1_024,
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            log_blocks_max: 10_000,
            logs_max: 10_000,
            fee_history_blocks_max: 1_024,
            filters_max: 1_000,
            filter_expiry: Duration::from_secs(300),
            filter_changes_max: 10_000,
            call_gas_max: 50_000_000,
            call_time_max: Duration::from_secs(1),
            call_memory_max: 64 << 20,
            calls_at_once: 2,
            calls_waiting_max: 256,
            storage_keys_max: 1_024,
            sync_timeout: Duration::from_secs(2),
            sync_timeout_max: Duration::from_secs(60),
        }
    }
}
