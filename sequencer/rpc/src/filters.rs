//! Filters that a client polls: each remembers how far its owner has read, and reads on in the history when asked, so
//! that an open filter costs nothing between two questions.

use crate::error::{Answer, Failure};
use crate::logs::LogQuery;
use alloy_primitives::{B256, U256};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// What a filter looks for.
pub(crate) enum Kind {
    /// Hashes of sealed blocks above this number.
    Blocks { seen: u64 },
    /// Logs of sealed blocks above this number.
    Logs { query: Box<LogQuery>, seen: u64 },
    /// Hashes of transactions as they become pending.
    Pending { hashes: broadcast::Receiver<B256> },
}

struct Filter {
    kind: Kind,
    used: Instant,
}

/// All open filters.
pub(crate) struct Filters {
    open: Mutex<HashMap<U256, Filter>>,
    most: usize,
    expiry: Duration,
}

impl Filters {
    pub(crate) fn new(most: usize, expiry: Duration) -> Self {
        Filters { open: Mutex::default(), most, expiry }
    }

    /// Opens a filter. Its id cannot be guessed: whoever knows it may read and close it.
    pub(crate) fn open(&self, kind: Kind) -> Answer<U256> {
        let mut open = self.open.lock();
        self.expire(&mut open);
        if open.len() >= self.most {
            return Err(Failure::limit(format!(
                "too many filters: {} are open; close one with eth_uninstallFilter, or use eth_subscribe",
                self.most
            )));
        }
        let id = U256::from_be_bytes(B256::random().0) >> 128;
        open.insert(id, Filter { kind, used: Instant::now() });
        Ok(id)
    }

    pub(crate) fn close(&self, id: &U256) -> bool {
        let mut open = self.open.lock();
        self.expire(&mut open);
        open.remove(id).is_some()
    }

    /// Looks at a filter, and keeps it open for longer.
    pub(crate) fn with<T>(&self, id: &U256, look: impl FnOnce(&mut Kind) -> Answer<T>) -> Answer<T> {
        let mut open = self.open.lock();
        self.expire(&mut open);
        let filter = open.get_mut(id).ok_or_else(|| Failure::server("filter not found"))?;
        filter.used = Instant::now();
        look(&mut filter.kind)
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        let mut open = self.open.lock();
        self.expire(&mut open);
        open.len()
    }

    fn expire(&self, open: &mut HashMap<U256, Filter>) {
        open.retain(|_, filter| filter.used.elapsed() < self.expiry);
    }
}
