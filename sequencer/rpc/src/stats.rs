//! Counters of the server, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of the server. All but `connections`, `subscriptions` and `filters` only grow.
        #[derive(Debug, Default)]
        pub struct RpcStats { $($(#[$doc])* pub $name: AtomicU64,)* }

        impl RpcStats {
            /// Every counter with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Calls of methods that were answered, errors included.
    requests,
    /// Calls that were answered with an error.
    errors,
    /// Open connections.
    connections,
    /// Connections refused: too many in all.
    refused_connections,
    /// Connections refused: too many of one address.
    refused_address_connections,
    /// Connections ended: a request came too slowly.
    read_timeouts,
    /// Connections ended: the client did not take what was sent.
    write_timeouts,
    /// Connections ended: nothing happened for too long.
    idle_timeouts,
    /// Connections ended: a subscriber left its buffer full.
    slow_subscribers,
    /// Requests refused: body too large.
    refused_bodies,
    /// WebSockets of web pages refused: their origin is not allowed.
    refused_origins,
    /// Log queries refused: too many blocks or logs.
    refused_log_queries,
    /// Simulated calls refused: too many waiting.
    refused_calls,
    /// Filters refused: too many.
    refused_filters,
    /// Transactions taken.
    transactions_admitted,
    /// Transactions refused.
    transactions_refused,
    /// Open subscriptions.
    subscriptions,
    /// Open filters.
    filters,
}

impl RpcStats {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sub(counter: &AtomicU64) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}
