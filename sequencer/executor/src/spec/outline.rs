//! A genesis without its accounts: what a node needs of it once the state lies in a snapshot.
//!
//! Reading a genesis of a million accounts and computing its state root takes seconds, which a node pays once. The rules
//! stay in the words of the genesis file and are read by the same code, so that both ways give the same chain.

use super::{ChainSpec, genesis};
use crate::SpecError;
use alloy_primitives::{Address, B256};
use ironlane_types::StateDelta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A genesis file without `alloc`, and what follows from the accounts that were there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenesisOutline {
    /// The file, less `alloc`.
    genesis: Value,
    /// State root of the accounts.
    state_root: B256,
    /// Accounts with storage but neither code nor nonce (EIP-7610), rising.
    storage_only: Vec<Address>,
    /// Hash of the genesis block.
    hash: B256,
}

impl GenesisOutline {
    /// Reads a whole genesis file: the chain with its accounts, and its outline.
    pub fn of(json: &[u8]) -> Result<(ChainSpec, Self), SpecError> {
        let mut root = genesis::read(json)?;
        let alloc = genesis::alloc(&root)?;
        let spec = genesis::build(&root, alloc, None)?;
        root.remove("alloc");
        let mut storage_only: Vec<Address> = spec.storage_only.iter().copied().collect();
        storage_only.sort_unstable();
        let outline = Self {
            genesis: Value::Object(root),
            state_root: spec.genesis.header.state_root,
            storage_only,
            hash: spec.genesis.hash,
        };
        Ok((spec, outline))
    }

    /// The chain, but [`super::Genesis::alloc`] is empty: for whoever has the state from elsewhere.
    pub fn chain_spec(&self) -> Result<ChainSpec, SpecError> {
        let root = self.genesis.as_object().ok_or_else(|| genesis::field("outline", "is not an object"))?;
        let mut spec = genesis::build(root, StateDelta::default(), Some(self.state_root))?;
        if spec.genesis.hash != self.hash {
            let reason = format!("gives the genesis hash {}, it says {}", spec.genesis.hash, self.hash);
            return Err(genesis::field("outline", reason));
        }
        spec.storage_only = Arc::new(self.storage_only.iter().copied().collect());
        Ok(spec)
    }
}
