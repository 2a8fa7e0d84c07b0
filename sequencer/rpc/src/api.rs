//! What all methods share: the doors, the limits, and the way from a block argument to a block or a state.

use crate::error::{Answer, Failure};
use crate::filters::Filters;
use crate::params::BlockArg;
use crate::{RpcConfig, RpcContext, RpcStats};
use alloy_consensus::Header;
use ironlane_executor::simulate::Simulator;
use ironlane_history::{BlockHead, OpenBlock};
use ironlane_state::{Expired, StateView};
use ironlane_types::{BlockContext, SealedBlock};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::{Semaphore, broadcast};

/// The state behind every method.
pub(crate) struct Api {
    pub(crate) ctx: RpcContext,
    pub(crate) config: RpcConfig,
    pub(crate) stats: Arc<RpcStats>,
    pub(crate) filters: Filters,
    /// Sealed blocks as they come.
    pub(crate) blocks: broadcast::Sender<Arc<SealedBlock>>,
    /// Simulated calls that run, and how many wait.
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) calls_waiting: AtomicUsize,
    /// Runs the EVM for questions.
    pub(crate) simulator: Simulator,
}

/// A block as an argument names it.
pub(crate) enum Found {
    Sealed(Arc<SealedBlock>),
    /// Open, or closed and without a hash yet.
    Open {
        block: OpenBlock,
        context: Arc<BlockContext>,
    },
}

/// The block that a simulated call sees.
pub(crate) enum CallBlock {
    Sealed(Box<Header>),
    Open(Arc<BlockContext>),
}

impl Api {
    /// The newest sealed block; there is one as soon as genesis is published.
    pub(crate) fn head(&self) -> Answer<Arc<SealedBlock>> {
        self.ctx.history.head().ok_or_else(|| Failure::server("the node has no block yet: it is starting"))
    }

    /// The block that an argument names. `Ok(None)`: there is none.
    pub(crate) fn find(&self, block: BlockArg) -> Answer<Option<Found>> {
        let history = &self.ctx.history;
        let sealed = |found: Option<Arc<SealedBlock>>| Ok(found.map(Found::Sealed));
        match block {
            BlockArg::Latest | BlockArg::Sealed => sealed(history.head()),
            BlockArg::Earliest => sealed(history.block(self.ctx.spec.genesis.header.number)?),
            BlockArg::Pending => match self.pending() {
                Some(open) => Ok(Some(open)),
                None => sealed(history.head()),
            },
            BlockArg::Number(number) => match history.block(number)? {
                Some(block) => Ok(Some(Found::Sealed(block))),
                None => Ok(self.open(number)),
            },
            BlockArg::Hash(hash) => {
                if let Some(block) = history.block_by_hash(&hash)? {
                    return Ok(Some(Found::Sealed(block)));
                }
                // A receipt of an open block names its mini-block in place of the block's hash.
                let Some(mini_block) = history.mini_block_by_digest(&hash) else { return Ok(None) };
                let number = mini_block.header.block_number;
                match history.block(number)? {
                    Some(block) => Ok(Some(Found::Sealed(block))),
                    None => Ok(self.open(number)),
                }
            }
        }
    }

    /// The newest block that is not sealed, with what is durable of it.
    pub(crate) fn pending(&self) -> Option<Found> {
        let context = self.ctx.pending.newest()?;
        let head = self.ctx.history.head_number()?;
        if context.number <= head {
            return None;
        }
        let number = context.number;
        let block = self.ctx.history.open_block(number);
        let block = block.unwrap_or(OpenBlock { number, txs: Vec::new(), mini_blocks: Vec::new() });
        Some(Found::Open { block, context })
    }

    fn open(&self, number: u64) -> Option<Found> {
        let block = self.ctx.history.open_block(number)?;
        let context = self.ctx.pending.get(number)?;
        Some(Found::Open { block, context })
    }

    /// Header, hash and counts of the sealed block that an argument names.
    pub(crate) fn find_head(&self, block: BlockArg) -> Answer<Option<BlockHead>> {
        let history = &self.ctx.history;
        Ok(match block {
            BlockArg::Latest | BlockArg::Sealed | BlockArg::Pending => {
                history.head().map(|head| BlockHead::from(&*head))
            }
            BlockArg::Earliest => history.block_head(self.ctx.spec.genesis.header.number)?,
            BlockArg::Number(number) => history.block_head(number)?,
            BlockArg::Hash(hash) => match history.number_of_hash(&hash)? {
                Some(number) => history.block_head(number)?,
                None => None,
            },
        })
    }

    /// The state that an argument names. `latest` and `pending` are the newest durable mini-block's.
    pub(crate) fn view(&self, block: BlockArg) -> Answer<StateView> {
        let history = &self.ctx.history;
        let version = match block {
            BlockArg::Latest | BlockArg::Pending => return self.latest_view(),
            BlockArg::Hash(hash) => match history.number_of_hash(&hash)? {
                Some(number) => history.state_version_of(number)?,
                None => history.mini_block_by_digest(&hash).map(|mini_block| mini_block.state_version),
            }
            .ok_or_else(|| Failure::server("header for hash not found"))?,
            BlockArg::Number(number) => match history.state_version_of(number)? {
                Some(version) => version,
                // The number that a receipt of the open block shows.
                None if history.open_block(number).is_some() => return self.latest_view(),
                None => return Err(Failure::header_not_found()),
            },
            BlockArg::Sealed | BlockArg::Earliest => {
                self.find_head(block)?.ok_or_else(Failure::header_not_found)?.state_version
            }
        };
        self.ctx.state.view_at(version).map_err(|_| Failure::state_gone(describe(block)))
    }

    fn latest_view(&self) -> Answer<StateView> {
        // Between the two reads the version may grow old only if the node is far behind; then once more.
        let read = || self.ctx.state.view_at(self.ctx.history.durable_state_version());
        read().or_else(|_| read()).map_err(|_| Failure::state_gone("\"latest\""))
    }

    /// Runs `read` over the named state; a version that goes away meanwhile is an error that says so.
    pub(crate) fn read<T>(
        &self,
        block: Option<BlockArg>,
        read: impl Fn(&StateView) -> Result<T, Expired>,
    ) -> Answer<T> {
        let block = block.unwrap_or(BlockArg::Latest);
        let first = read(&self.view(block)?);
        match (first, block) {
            (Ok(value), _) => Ok(value),
            // `latest` moves on: what went away was the version of a moment ago.
            (Err(_), BlockArg::Latest | BlockArg::Pending) => {
                read(&self.view(block)?).map_err(|_| Failure::state_gone(describe(block)))
            }
            (Err(_), _) => Err(Failure::state_gone(describe(block))),
        }
    }

    /// State and block environment for a simulated call.
    pub(crate) fn call_target(&self, named: BlockArg) -> Answer<(StateView, CallBlock)> {
        let view = self.view(named)?;
        let target = match named {
            // A call sees the block that its state is of: the open one, once that has a mini-block.
            BlockArg::Latest | BlockArg::Pending => match self.pending() {
                Some(Found::Open { context, block })
                    if matches!(named, BlockArg::Pending) || !block.mini_blocks.is_empty() =>
                {
                    CallBlock::Open(context)
                }
                _ => CallBlock::Sealed(Box::new(self.head()?.header.clone())),
            },
            _ => match self.find(named)? {
                Some(Found::Sealed(block)) => CallBlock::Sealed(Box::new(block.header.clone())),
                Some(Found::Open { context, .. }) => CallBlock::Open(context),
                None => return Err(Failure::header_not_found()),
            },
        };
        Ok((view, target))
    }
}

/// The argument in the caller's words.
pub(crate) fn describe(block: BlockArg) -> String {
    match block {
        BlockArg::Latest => "\"latest\"".into(),
        BlockArg::Pending => "\"pending\"".into(),
        BlockArg::Sealed => "\"safe\"".into(),
        BlockArg::Earliest => "\"earliest\"".into(),
        BlockArg::Number(number) => number.to_string(),
        BlockArg::Hash(hash) => hash.to_string(),
    }
}
