//! Which logs a query wants, and what it gets.

use alloy_primitives::{Address, B256, Bloom, BloomInput, Log};

/// Addresses and topics, as `eth_getLogs` means them: an empty list accepts anything, a list accepts any of its
/// members, and all positions must accept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Emitting contracts.
    pub addresses: Vec<Address>,
    /// Topics by position.
    pub topics: [Vec<B256>; 4],
}

impl LogFilter {
    /// Whether the log is wanted.
    pub fn matches(&self, log: &Log) -> bool {
        if !self.addresses.is_empty() && !self.addresses.contains(&log.address) {
            return false;
        }
        let topics = log.data.topics();
        self.topics.iter().enumerate().all(|(position, wanted)| {
            wanted.is_empty() || topics.get(position).is_some_and(|topic| wanted.contains(topic))
        })
    }

    /// Whether a block with this bloom can hold a wanted log; `false` is certain.
    pub fn may_match(&self, bloom: &Bloom) -> bool {
        let any = |mut members: std::slice::Iter<'_, B256>| {
            members.any(|topic| bloom.contains_input(BloomInput::Raw(topic.as_slice())))
        };
        let address = self.addresses.is_empty()
            || self.addresses.iter().any(|address| bloom.contains_input(BloomInput::Raw(address.as_slice())));
        address && self.topics.iter().all(|wanted| wanted.is_empty() || any(wanted.iter()))
    }
}

/// A log with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLog {
    /// Block that holds it.
    pub block_number: u64,
    /// That block's hash.
    pub block_hash: B256,
    /// That block's time, in seconds of Unix time.
    pub block_timestamp: u64,
    /// Transaction that emitted it.
    pub tx_hash: B256,
    /// Place of that transaction in the block.
    pub tx_index: u64,
    /// Place of the log in the block.
    pub log_index: u64,
    /// The log.
    pub log: Log,
}
