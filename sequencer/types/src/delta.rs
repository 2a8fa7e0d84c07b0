//! What a stretch of execution changed in the state.

use alloy_primitives::{Address, B256, Bytes, U256};

/// The parts of an account that its trie leaf holds, without the storage root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountInfo {
    /// Transactions sent (or contracts made, for a contract).
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// Keccak-256 of the code; [`crate::KECCAK_EMPTY`] when there is none.
    pub code_hash: B256,
}

impl AccountInfo {
    /// Whether EIP-161 counts the account as empty.
    pub fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == crate::KECCAK_EMPTY
    }
}

/// The new values of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountDelta {
    /// Whose.
    pub address: Address,
    /// The account afterwards; `None`: it no longer exists (its storage is gone with it).
    pub info: Option<AccountInfo>,
    /// All storage was wiped before `slots` were written (self-destruct, or creation over an old account).
    pub storage_wiped: bool,
    /// Slots with their new values; zero deletes. Each key at most once.
    pub slots: Vec<(U256, U256)>,
}

/// Changes in the order in which they happened. An address may appear more than once; later entries win.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateDelta {
    /// Changed accounts.
    pub accounts: Vec<AccountDelta>,
    /// Code seen for the first time: (code hash, bytes).
    pub codes: Vec<(B256, Bytes)>,
}

impl StateDelta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.codes.is_empty()
    }

    /// Appends a later delta.
    pub fn extend(&mut self, later: StateDelta) {
        self.accounts.extend(later.accounts);
        self.codes.extend(later.codes);
    }
}
