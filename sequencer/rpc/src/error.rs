//! What a caller is told when a request cannot be answered: geth's codes, and geth's words where it has some.

use ironlane_history::HistoryError;
use ironlane_types::Reject;
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned};

/// JSON-RPC codes that geth uses beside the standard ones.
pub(crate) mod code {
    pub(crate) const SERVER: i32 = -32000;
    pub(crate) const RESOURCE_UNAVAILABLE: i32 = -32002;
    pub(crate) const LIMIT: i32 = -32005;
    pub(crate) const INVALID_PARAMS: i32 = -32602;
    pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
    pub(crate) const INTERNAL: i32 = -32603;
    /// Reverted; `data` holds what the contract returned.
    pub(crate) const REVERTED: i32 = 3;
    /// EIP-7966: not included within the time allowed; `data` holds the hash.
    pub(crate) const SYNC_TIMEOUT: i32 = 4;
    /// EIP-7966: admitted but not executable when the time was up.
    pub(crate) const SYNC_NOT_READY: i32 = 5;
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The port cannot be listened on.
    #[error("cannot listen on {address}: {error}; choose another port or stop who holds it")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// The system's answer.
        error: std::io::Error,
    },
    /// A limit makes no sense.
    #[error("the RPC configuration is not usable: {0}")]
    Config(&'static str),
    /// A method was registered twice.
    #[error("cannot register the methods: {0}")]
    Methods(String),
}

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) data: Option<serde_json::Value>,
}

/// What a method comes to.
pub(crate) type Answer<T = serde_json::Value> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), data: None }
    }

    /// -32000, geth's code for most of what goes wrong.
    pub(crate) fn server(message: impl Into<String>) -> Self {
        Self::new(code::SERVER, message)
    }

    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }

    pub(crate) fn argument(index: usize, message: impl std::fmt::Display) -> Self {
        Self::params(format!("invalid argument {index}: {message}"))
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(code::LIMIT, message)
    }

    pub(crate) fn header_not_found() -> Self {
        Self::server("header not found")
    }

    /// The state of an old block is asked for.
    pub(crate) fn state_gone(block: impl std::fmt::Display) -> Self {
        Self::server(format!(
            "missing trie node: the state of block {block} is no longer kept; ask for a newer block, or \"latest\""
        ))
    }

    pub(crate) fn with_data(mut self, data: impl Into<serde_json::Value>) -> Self {
        self.data = Some(data.into());
        self
    }
}

impl From<Failure> for ErrorObjectOwned {
    fn from(failure: Failure) -> Self {
        ErrorObject::owned(failure.code, failure.message, failure.data)
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        Failure::new(reject.rpc_code(), reject.message())
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::TooManyLogs { .. } => Failure::limit(error.to_string()),
            // The operator reads the file's name in the log; a stranger is not told paths.
            error => {
                tracing::error!(%error, "the history could not answer");
                Failure::new(code::INTERNAL, "internal error: the archive of blocks could not be read")
            }
        }
    }
}
