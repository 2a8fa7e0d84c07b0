//! What has been published: blocks, mini-blocks, transactions, receipts and logs, by number and by hash.
//!
//! [`History`] is a handle that many threads share. Two stages write to it: the commit stage calls
//! [`History::publish_mini_block`] once a mini-block is durable, the root stage [`History::publish_block`] once a block
//! has its header and hash. Everyone else reads. Recent blocks are in memory, up to a budget in bytes; every sealed
//! block is also appended to an archive on disk by a thread of its own, and answers come from there once memory has
//! let go of it. The journal stays the truth: at recovery the node publishes again what it replays, and publishing
//! what the archive holds already only checks that it is the same.
//!
//! No lock is held while a file is read or written.

mod archive;
mod config;
mod error;
mod events;
mod history;
mod logs;
mod memory;
mod writer;

pub use config::HistoryConfig;
pub use error::HistoryError;
pub use events::{Event, Interest, Received, Subscription};
pub use history::{BlockHead, FoundTx, History, OpenBlock, TxPlace};
pub use logs::{FoundLog, LogFilter};
