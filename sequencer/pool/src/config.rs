//! What the operator and the chain decide: limits and rules.

/// Largest transaction, in bytes (FAULTS: transaction bytes; geth and reth take as much).
pub const TX_BYTES_MAX: usize = 128 * 1024;

/// Rules of the fork by which transactions are checked before they cost anything. The executor applies its own rules
/// again; these must not be stricter than the chain's, or honest transactions are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// EIP-7825: the most gas that one transaction may ask for; `None` before Osaka.
    pub tx_gas_max: Option<u64>,
    /// EIP-7623: whether the floor price of call data holds (Prague).
    pub floor_gas: bool,
    /// EIP-3860: largest init code in bytes, and its gas; `None` before Shanghai.
    pub init_code_bytes_max: Option<usize>,
    /// EIP-7702: whether type 4 exists (Prague).
    pub set_code: bool,
}

impl Rules {
    /// Osaka: the newest fork whose rules are final.
    pub const OSAKA: Rules = Rules {
        tx_gas_max: Some(16_777_216),
        floor_gas: true,
        init_code_bytes_max: Some(49_152),
        set_code: true,
    };
    /// Prague.
    pub const PRAGUE: Rules = Rules { tx_gas_max: None, ..Rules::OSAKA };
    /// Shanghai and Cancun.
    pub const SHANGHAI: Rules = Rules { floor_gas: false, set_code: false, ..Rules::PRAGUE };
    /// Berlin up to Paris.
    pub const BERLIN: Rules = Rules { init_code_bytes_max: None, ..Rules::SHANGHAI };
}

/// How much the pool may hold. *Pending* transactions are those that can execute now, and those that the executor has
/// been given and has not answered for; *queued* ones wait for an earlier nonce or for a lower base fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Transactions whose sender is being recovered.
    pub recovering_max: usize,
    /// Pending transactions.
    pub pending_max: usize,
    /// Bytes of all transactions, pending and queued, encoding plus [`TX_OVERHEAD_BYTES`] each.
    pub pool_bytes_max: usize,
    /// Pending transactions of one account.
    pub pending_account_max: usize,
    /// Queued transactions.
    pub queued_max: usize,
    /// Bytes of queued transactions, counted as in `pool_bytes_max`.
    pub queued_bytes_max: usize,
    /// Queued transactions of one account.
    pub queued_account_max: usize,
    /// Pending transactions of an account with delegated code (EIP-7702): its balance can vanish without a transaction
    /// of its own. (geth takes one. Here an overdrawn transaction costs the executor one balance check and no more.)
    pub pending_delegated_max: usize,
    /// How long a transaction may be queued, in seconds.
    pub queued_lifetime_s: u64,
    /// By how much both fees of a replacement must be higher, in percent.
    pub replacement_bump_percent: u8,
    /// Least fee cap (gas price) that is taken at all, in wei. Above it, a fee cap below the base fee waits for the base
    /// fee to fall, as in geth.
    pub fee_cap_min_wei: u128,
    /// Of how many dropped, and of how many refused transactions the reason is remembered.
    pub remembered_max: usize,
}

/// What a transaction costs the pool beside its encoding: the decoded envelope, the entry, its places in the tables.
pub const TX_OVERHEAD_BYTES: usize = 768;

impl Default for Limits {
    fn default() -> Self {
        Self {
            recovering_max: 16_384,
            pending_max: 200_000,
            pool_bytes_max: 256 << 20,
            pending_account_max: 64,
            queued_max: 20_000,
            queued_bytes_max: 64 << 20,
            queued_account_max: 16,
            pending_delegated_max: 16,
            queued_lifetime_s: 60,
            replacement_bump_percent: 10,
            fee_cap_min_wei: 1,
            remembered_max: 65_536,
        }
    }
}

/// What [`crate::Admission`] needs to know at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Whether legacy transactions without a chain id (signed as before EIP-155) are taken.
    pub unprotected_allowed: bool,
    /// Rules of the fork.
    pub rules: Rules,
    /// Limits.
    pub limits: Limits,
    /// Base fee of the block that is open at the start, in wei; later ones come with [`crate::Feedback::NewBlock`].
    pub base_fee_wei: u64,
    /// Gas limit of the block that is open at the start.
    pub block_gas_max: u64,
}

impl PoolConfig {
    /// The newest rules and the default limits for a chain.
    pub fn new(chain_id: u64, base_fee_wei: u64, block_gas_max: u64) -> Self {
        Self {
            chain_id,
            unprotected_allowed: false,
            rules: Rules::OSAKA,
            limits: Limits::default(),
            base_fee_wei,
            block_gas_max,
        }
    }
}
