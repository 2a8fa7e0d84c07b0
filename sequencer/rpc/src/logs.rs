//! The argument of `eth_getLogs`, of log filters and of log subscriptions.

use crate::error::{Answer, Failure};
use crate::params::{AddressArg, BlockArg, HashArg};
use alloy_primitives::B256;
use ironlane_history::LogFilter;
use serde::Deserialize;

/// Addresses that one filter may name (geth allows 1,000).
const ADDRESSES_MAX: usize = 1_000;
/// Values that one topic position may name.
const TOPICS_MAX: usize = 1_000;

/// The object as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogArg {
    from_block: Option<String>,
    to_block: Option<String>,
    block_hash: Option<HashArg>,
    address: Option<OneOrMany<AddressArg>>,
    topics: Option<Vec<Option<OneOrMany<Option<HashArg>>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// Which blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogRange {
    Block(B256),
    /// First and last; missing ones are `latest`.
    Blocks(BlockArg, BlockArg),
}

/// A query that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogQuery {
    pub(crate) range: LogRange,
    pub(crate) filter: LogFilter,
}

impl LogArg {
    pub(crate) fn check(self, argument: usize) -> Answer<LogQuery> {
        let wrong = |message: String| Failure::argument(argument, message);
        let block = |text: Option<String>| match text {
            None => Ok(BlockArg::Latest),
            Some(text) => BlockArg::from_text(&text).map_err(wrong),
        };
        let range = match self.block_hash {
            Some(_) if self.from_block.is_some() || self.to_block.is_some() => {
                return Err(wrong(
                    "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other".into(),
                ));
            }
            Some(hash) => LogRange::Block(hash.0),
            None => LogRange::Blocks(block(self.from_block)?, block(self.to_block)?),
        };
        let addresses = self.address.map_or(Vec::new(), OneOrMany::into_vec);
        let mut filter =
            LogFilter { addresses: addresses.iter().map(|arg| arg.0).collect(), ..LogFilter::default() };
        if filter.addresses.len() > ADDRESSES_MAX {
            return Err(wrong(format!("exceed max addresses: a filter may name {ADDRESSES_MAX}")));
        }
        let topics = self.topics.unwrap_or_default();
        if topics.len() > filter.topics.len() {
            return Err(wrong("exceed max topics: a log has at most 4".into()));
        }
        for (position, topic) in topics.into_iter().enumerate() {
            let wanted = topic.map_or(Vec::new(), OneOrMany::into_vec);
            if wanted.len() > TOPICS_MAX {
                return Err(wrong(format!("exceed max topics: a position may name {TOPICS_MAX} values")));
            }
            // A null among the alternatives accepts anything.
            if wanted.iter().all(Option::is_some) {
                filter.topics[position] = wanted.into_iter().flatten().map(|arg| arg.0).collect();
            }
        }
        Ok(LogQuery { range, filter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Answer<LogQuery> {
        serde_json::from_str::<LogArg>(text)
            .map_err(|error| Failure::argument(0, error))
            .and_then(|arg| arg.check(0))
    }

    #[test]
    fn every_form_of_address_and_topics_is_read() {
        let address = format!("\"0x{}\"", "11".repeat(20));
        let topic = format!("\"0x{}\"", "22".repeat(32));
        let query =
            read(&format!("{{\"address\":{address},\"topics\":[null,{topic},[{topic},{topic}],[]]}}"))
                .unwrap();
        assert_eq!(query.filter.addresses.len(), 1);
        assert_eq!(query.filter.topics.each_ref().map(Vec::len), [0, 1, 2, 0]);
        assert_eq!(query.range, LogRange::Blocks(BlockArg::Latest, BlockArg::Latest));
        assert_eq!(
            read(&format!("{{\"topics\":[[null,{topic}]]}}")).unwrap().filter.topics[0],
            Vec::<B256>::new()
        );
        let hash = format!("\"0x{}\"", "33".repeat(32));
        assert_eq!(
            read(&format!("{{\"blockHash\":{hash}}}")).unwrap().range,
            LogRange::Block(B256::repeat_byte(0x33))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let hash = format!("\"0x{}\"", "33".repeat(32));
        for (text, part) in [
            (format!("{{\"blockHash\":{hash},\"fromBlock\":\"0x1\"}}"), "cannot specify both"),
            ("{\"topics\":[null,null,null,null,null]}".to_string(), "exceed max topics"),
            ("{\"fromBlock\":\"12\"}".to_string(), "0x prefix"),
            ("{\"address\":\"0x1\"}".to_string(), "did not match"),
            ("{\"fromBlock\":\"0x1\",\"fromBlock\":\"0x2\"}".to_string(), "duplicate field"),
        ] {
            let failure = read(&text).unwrap_err();
            assert_eq!(failure.code, -32602, "{text}");
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }
}
