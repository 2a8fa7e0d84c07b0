//! What the EVM reads: our state store behind revm's `Database`.

use crate::{BlockHashes, CodeCache, StoreError, WriteSet};
use alloy_eips::eip2935::{HISTORY_SERVE_WINDOW, HISTORY_STORAGE_ADDRESS};
use alloy_primitives::{Address, B256, Bytes, U256, map::AddressHashSet};
use ironlane_state::{StateError, StateView, StateWriter};
use ironlane_types::{AccountInfo, KECCAK_EMPTY, StateDelta};
use revm::{Database, bytecode::Bytecode};
use std::sync::Arc;

/// Whatever the EVM can run over.
pub trait StateRead {
    /// An account; `None`: it does not exist.
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, StoreError>;
    /// A storage slot; zero when never written.
    fn storage(&self, address: &Address, key: U256) -> Result<U256, StoreError>;
    /// Code by its hash; `None`: the store does not hold it.
    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError>;
    /// Whether an account that had storage in the genesis may still have it. Only EIP-7610 asks, for accounts with
    /// neither code nor nonce.
    fn may_have_storage(&self, address: &Address) -> Result<bool, StoreError>;
}

/// A store that an [`crate::Executor`] can own: it takes changes and publishes versions.
pub trait StateStore: StateRead {
    /// Applies changes to the version that is being written.
    fn apply(&mut self, delta: &StateDelta) -> Result<(), StateError>;
    /// Publishes that version and returns its number.
    fn seal(&mut self) -> u64;
    /// Number of the version that is being written.
    fn version(&self) -> u64;
    /// Fetches these accounts into the processor's cache.
    fn prefetch(&self, addresses: &[Address]);
}

impl StateRead for StateWriter {
    #[inline]
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(StateWriter::account(self, address))
    }
    #[inline]
    fn storage(&self, address: &Address, key: U256) -> Result<U256, StoreError> {
        Ok(StateWriter::storage(self, address, key))
    }
    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        Ok(StateWriter::code(self, hash))
    }
    fn may_have_storage(&self, address: &Address) -> Result<bool, StoreError> {
        Ok(StateWriter::may_have_storage(self, address))
    }
}

impl StateStore for StateWriter {
    fn apply(&mut self, delta: &StateDelta) -> Result<(), StateError> {
        StateWriter::apply(self, delta)
    }
    fn seal(&mut self) -> u64 {
        StateWriter::seal(self)
    }
    fn version(&self) -> u64 {
        StateWriter::version(self)
    }
    fn prefetch(&self, addresses: &[Address]) {
        StateWriter::prefetch(self, addresses)
    }
}

impl StateRead for StateView {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(StateView::account(self, address)?)
    }
    fn storage(&self, address: &Address, key: U256) -> Result<U256, StoreError> {
        Ok(StateView::storage(self, address, key)?)
    }
    fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        Ok(StateView::code(self, hash))
    }
    /// A view cannot tell without a walk over all slots; an account that exists is taken to have kept them.
    fn may_have_storage(&self, address: &Address) -> Result<bool, StoreError> {
        Ok(StateView::account(self, address)?.is_some())
    }
}

/// A write of the history contract's system call (EIP-2935) whose value is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeferredHistory {
    /// The slot that takes the parent's hash.
    pub(crate) slot: U256,
    /// The parent.
    pub(crate) parent: u64,
}

/// revm's view of a state: the write set in front of a store.
///
/// For a simulation: [`Self::new`] over a [`StateView`], overrides into [`Self::writes`], then an EVM of
/// [`crate::IronEvm`] with [`crate::cfg_env`] and [`crate::block_env`] on top.
pub struct StateDb<R> {
    /// The store.
    pub state: R,
    /// What was written since, or overridden.
    pub writes: WriteSet,
    /// Analysed bytecode.
    pub codes: CodeCache,
    /// Hashes for BLOCKHASH and for the history contract.
    pub hashes: BlockHashes,
    /// The history contract's write that still waits for its value.
    pub(crate) history: Option<DeferredHistory>,
    /// Accounts that have storage although they have neither code nor nonce (EIP-7610). Only a genesis can make them.
    pub(crate) storage_only: Arc<AddressHashSet>,
}

impl<R: StateRead> StateDb<R> {
    /// A view of `state` with nothing written.
    pub fn new(state: R, hashes: BlockHashes, codes: CodeCache) -> Self {
        Self {
            state,
            writes: WriteSet::default(),
            codes,
            hashes,
            history: None,
            storage_only: Arc::default(),
        }
    }

    /// The account with all that was written.
    #[inline]
    pub fn account(&self, address: &Address) -> Result<Option<AccountInfo>, StoreError> {
        match self.writes.account(address) {
            Some(info) => Ok(info),
            None => self.state.account(address),
        }
    }

    /// A slot with all that was written. Waits for the parent's hash when it is the slot that will hold it.
    pub fn slot(&mut self, address: &Address, key: U256) -> Result<U256, StoreError> {
        if let Some(history) = self.history
            && history.slot == key
            && *address == HISTORY_STORAGE_ADDRESS
        {
            self.settle_history(true)?;
        }
        match self.writes.storage(address, key) {
            Some(value) => Ok(value),
            None => self.state.storage(address, key),
        }
    }

    /// Raw code by its hash.
    pub fn raw_code(&self, hash: &B256) -> Result<Bytes, StoreError> {
        if *hash == KECCAK_EMPTY || hash.is_zero() {
            return Ok(Bytes::new());
        }
        if let Some(code) = self.writes.code(hash) {
            return Ok(code.clone());
        }
        self.state.code(hash)?.ok_or(StoreError::CodeMissing(*hash))
    }

    /// Analysed code by its hash.
    pub fn bytecode(&self, hash: &B256) -> Result<Bytecode, StoreError> {
        if *hash == KECCAK_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.codes.get(hash) {
            return Ok(code);
        }
        let raw = self.raw_code(hash)?;
        // Only a genesis can hold code that looks like a delegation and is none; it runs as the bytes it is.
        let code = Bytecode::new_raw_checked(raw.clone()).unwrap_or_else(|_| Bytecode::new_legacy(raw));
        self.codes.insert(*hash, code.clone());
        Ok(code)
    }

    /// Defers the write of the parent's hash. The slot is that of EIP-2935: (number − 1) modulo 8191.
    pub(crate) fn defer_history(&mut self, number: u64) {
        let parent = number - 1;
        self.history =
            Some(DeferredHistory { slot: U256::from(parent % HISTORY_SERVE_WINDOW as u64), parent });
    }

    /// Writes the deferred value if the hash is known, or waits for it.
    pub(crate) fn settle_history(&mut self, wait: bool) -> Result<(), StoreError> {
        let Some(DeferredHistory { slot, parent }) = self.history else { return Ok(()) };
        let hash = match (self.hashes.get(parent), wait) {
            (Some(hash), _) => hash,
            (None, true) => self.hashes.wait(parent)?,
            (None, false) => return Ok(()),
        };
        self.history = None;
        if let Some(info) = self.account(&HISTORY_STORAGE_ADDRESS)? {
            self.writes.set_account(HISTORY_STORAGE_ADDRESS, info);
            self.writes.set_slot(HISTORY_STORAGE_ADDRESS, slot, hash.into());
        }
        Ok(())
    }

    /// The account with its place in the write set, if it is there.
    #[inline]
    pub(crate) fn locate(&self, address: &Address) -> Result<(Option<u32>, Option<AccountInfo>), StoreError> {
        match self.writes.locate(address) {
            Some((at, info)) => Ok((Some(at), info)),
            None => Ok((None, self.state.account(address)?)),
        }
    }

    /// Whether creating a contract here collides because there is storage (EIP-7610).
    pub(crate) fn has_only_storage(&self, address: &Address) -> Result<bool, StoreError> {
        Ok(self.storage_only.contains(address)
            && !self.writes.is_wiped(address)
            && self.state.may_have_storage(address)?)
    }
}

impl<R: StateRead> Database for StateDb<R> {
    type Error = StoreError;

    #[inline]
    fn basic(&mut self, address: Address) -> Result<Option<revm::state::AccountInfo>, StoreError> {
        Ok(self.account(&address)?.map(|info| revm::state::AccountInfo {
            balance: info.balance,
            nonce: info.nonce,
            code_hash: info.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StoreError> {
        self.bytecode(&hash)
    }

    #[inline]
    fn storage(&mut self, address: Address, key: U256) -> Result<U256, StoreError> {
        self.slot(&address, key)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StoreError> {
        self.hashes.wait(number)
    }
}
