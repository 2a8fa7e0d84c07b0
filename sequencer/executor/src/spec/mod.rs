//! What the rules of a chain are: when which fork begins, its genesis, its blob parameters, and what this chain allows
//! that L1 does not.

mod dev;
mod forks;
mod genesis;
mod outline;

pub use dev::DEV_KEYS;
pub use forks::ForkSchedule;
pub(crate) use genesis::{blob_params, parse_alloc};
pub use outline::GenesisOutline;

use crate::{OracleTrie, SpecError, StateRoot};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_eips::{eip1559, eip7840::BlobParams};
use alloy_primitives::{Address, B256, Bytes, U256, map::AddressHashSet};
use ironlane_types::{BlockContext, StateDelta};
use revm::primitives::hardfork::SpecId;
use std::sync::Arc;

/// A chain: its forks, its genesis and its own exceptions. Made once, shared by everything that executes.
#[derive(Debug, Clone)]
pub struct ChainSpec {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// When which fork begins.
    pub forks: ForkSchedule,
    /// The contract whose logs are deposits (EIP-6110).
    pub deposit_contract: Address,
    /// Whether a block may have at most 8 MiB in RLP from Osaka on (EIP-7934). A fast sequencer turns this off.
    pub block_rlp_limit: bool,
    /// Block zero.
    pub genesis: Genesis,
    /// Accounts of the genesis with storage but neither code nor nonce (EIP-7610).
    pub storage_only: Arc<AddressHashSet>,
}

/// Block zero and the state before block one.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// Its header, state root included.
    pub header: Header,
    /// Hash of the header.
    pub hash: B256,
    /// All accounts.
    pub alloc: StateDelta,
}

/// What the fork schedule says for one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// revm's name of the rules.
    pub spec_id: SpecId,
    /// Whether the block comes after the merge.
    pub merged: bool,
    /// Blob counts and prices, from Cancun on.
    pub blob: Option<BlobParams>,
}

impl ChainSpec {
    /// Reads a genesis file in geth's format. An object `ironlane` inside `config` holds what L1 would forbid:
    /// `{"blockRlpSizeLimit": false}`.
    pub fn from_genesis_json(json: &[u8]) -> Result<Self, SpecError> {
        genesis::parse(json)
    }

    /// Chain 31337 with every stable fork from the start and the ten well-known development accounts.
    pub fn dev() -> Self {
        dev::spec()
    }

    /// A chain with these forks and this genesis; the header's state root must be that of `alloc`.
    pub fn new(chain_id: u64, forks: ForkSchedule, header: Header, alloc: StateDelta) -> Self {
        let storage_only = alloc
            .accounts
            .iter()
            .filter(|account| {
                !account.slots.is_empty()
                    && account
                        .info
                        .is_some_and(|i| i.nonce == 0 && i.code_hash == ironlane_types::KECCAK_EMPTY)
            })
            .map(|account| account.address)
            .collect();
        Self {
            chain_id,
            forks,
            deposit_contract: alloy_eips::eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS,
            block_rlp_limit: true,
            genesis: Genesis { hash: header.hash_slow(), header, alloc },
            storage_only: Arc::new(storage_only),
        }
    }

    /// The rules at a height and time, for a block whose place before or after the merge follows from the schedule.
    pub fn spec_id(&self, number: u64, timestamp: u64) -> SpecId {
        self.forks.spec_id(number, timestamp, self.forks.merged_by_schedule(number, timestamp))
    }

    /// Blob parameters at a time; `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        self.forks.blob_params(timestamp)
    }

    /// All that the schedule says for a block that is opened with `context`.
    pub fn parameters(&self, context: &BlockContext) -> Parameters {
        self.parameters_at(context.number, context.timestamp, context.difficulty)
    }

    /// All that the schedule says for a block; zero difficulty marks one after the merge where the schedule says that
    /// there is a merge at all.
    pub fn parameters_at(&self, number: u64, timestamp: u64, difficulty: U256) -> Parameters {
        let merged = self.forks.merged_by_schedule(number, timestamp)
            || (difficulty.is_zero() && self.forks.terminal_total_difficulty.is_some());
        let spec_id = self.forks.spec_id(number, timestamp, merged);
        let blob =
            if spec_id.is_enabled_in(SpecId::CANCUN) { self.forks.blob_params(timestamp) } else { None };
        Parameters { spec_id, merged, blob }
    }

    /// Base fee of the block after `parent` (EIP-1559); `None` before London, 1 gwei for the first block of London.
    pub fn next_base_fee(&self, parent: &Header, timestamp: u64) -> Option<u64> {
        self.next_base_fee_for(parent, self.spec_id(parent.number + 1, timestamp))
    }

    /// The same where the rules of the next block are known.
    pub(crate) fn next_base_fee_for(&self, parent: &Header, spec_id: SpecId) -> Option<u64> {
        if !spec_id.is_enabled_in(SpecId::LONDON) {
            return None;
        }
        let params = eip1559::BaseFeeParams::ethereum();
        Some(parent.base_fee_per_gas.map_or(eip1559::INITIAL_BASE_FEE, |base_fee| {
            // A limit below 2 makes a target of zero, which only a made-up genesis can have.
            eip1559::calc_next_block_base_fee(parent.gas_used, parent.gas_limit.max(2), base_fee, params)
        }))
    }

    /// Excess blob gas of the block after `parent` (EIP-4844, EIP-7918 from Osaka on); `None` before Cancun.
    pub fn next_excess_blob_gas(&self, parent: &Header, timestamp: u64) -> Option<u64> {
        let blob = self.blob_params(timestamp)?;
        let excess = parent.excess_blob_gas.unwrap_or(0);
        let used = parent.blob_gas_used.unwrap_or(0);
        let base_fee = parent.base_fee_per_gas.unwrap_or(0);
        // Before Osaka the reserve price is zero and this is the rule of EIP-4844. The cap only keeps a made-up genesis
        // from overflowing.
        Some(blob.next_block_excess_blob_gas_osaka(excess.min(1 << 62), used.min(1 << 40), base_fee))
    }

    /// What a block with this header was opened with.
    pub fn context_of(
        &self,
        header: &Header,
        withdrawals: Option<Vec<alloy_eips::eip4895::Withdrawal>>,
        ommers: Vec<Header>,
    ) -> BlockContext {
        BlockContext {
            number: header.number,
            timestamp: header.timestamp,
            beneficiary: header.beneficiary,
            gas_limit: header.gas_limit,
            base_fee: header.base_fee_per_gas,
            prev_randao: header.mix_hash,
            difficulty: header.difficulty,
            excess_blob_gas: header.excess_blob_gas,
            parent_beacon_block_root: header.parent_beacon_block_root,
            withdrawals,
            ommers,
            extra_data: header.extra_data.clone(),
            nonce: header.nonce,
        }
    }
}

/// A genesis header with the fields that the forks active at genesis require.
pub(crate) fn genesis_header(forks: &ForkSchedule, mut header: Header, state_root: B256) -> Header {
    let (number, timestamp) = (header.number, header.timestamp);
    let merged = forks.merged_by_schedule(number, timestamp);
    let spec = forks.spec_id(number, timestamp, merged);
    let empty = alloy_trie::EMPTY_ROOT_HASH;
    header.ommers_hash = EMPTY_OMMER_ROOT_HASH;
    header.transactions_root = empty;
    header.receipts_root = empty;
    header.state_root = state_root;
    if spec.is_enabled_in(SpecId::LONDON) {
        header.base_fee_per_gas.get_or_insert(eip1559::INITIAL_BASE_FEE);
    }
    if spec.is_enabled_in(SpecId::SHANGHAI) {
        header.withdrawals_root = Some(empty);
    }
    if spec.is_enabled_in(SpecId::CANCUN) {
        header.blob_gas_used.get_or_insert(0);
        header.excess_blob_gas.get_or_insert(0);
        header.parent_beacon_block_root.get_or_insert(B256::ZERO);
    }
    if spec.is_enabled_in(SpecId::PRAGUE) {
        header.requests_hash = Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH);
    }
    header
}

/// State root of a genesis, computed once and apart from the node's own trie, which must agree with it.
pub(crate) fn alloc_root(alloc: &StateDelta) -> B256 {
    let mut oracle = OracleTrie::default();
    oracle.apply(alloc);
    oracle.root()
}

/// One account of a genesis.
pub(crate) fn alloc_account(
    alloc: &mut StateDelta,
    address: Address,
    nonce: u64,
    balance: U256,
    code: Bytes,
    slots: Vec<(U256, U256)>,
) {
    let code_hash =
        if code.is_empty() { ironlane_types::KECCAK_EMPTY } else { alloy_primitives::keccak256(&code) };
    if !code.is_empty() && !alloc.codes.iter().any(|(hash, _)| *hash == code_hash) {
        alloc.codes.push((code_hash, code));
    }
    let slots = slots.into_iter().filter(|(_, value)| !value.is_zero()).collect();
    alloc.accounts.push(ironlane_types::AccountDelta {
        address,
        info: Some(ironlane_types::AccountInfo { nonce, balance, code_hash }),
        storage_wiped: false,
        slots,
    });
}
