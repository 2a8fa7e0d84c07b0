//! What can go wrong, by reader: a transaction's sender, whoever offers a block, the operator.

use alloy_primitives::{Address, B256};
use ironlane_types::Reject;
use revm::context::result::InvalidTransaction;

/// A genesis file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not JSON.
    #[error("the genesis file is not JSON: {0}")]
    Json(String),
    /// A field is missing or not of its type.
    #[error("genesis field `{field}`: {reason}")]
    Field {
        /// Path inside the file, for example `config.chainId`.
        field: String,
        /// What was wrong with it.
        reason: String,
    },
    /// A fork that this executor does not have.
    #[error(
        "genesis activates `{0}`, which this executor does not have: the newest fork is Osaka with its blob parameter forks"
    )]
    UnknownFork(String),
    /// Forks out of order.
    #[error("genesis activates `{later}` before `{earlier}`: forks must be in their order")]
    ForkOrder {
        /// The fork that must come first.
        earlier: &'static str,
        /// The fork that must come afterwards.
        later: &'static str,
    },
}

/// A read that could not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The version is gone; ask again for a newer one.
    #[error(transparent)]
    Expired(#[from] ironlane_state::Expired),
    /// The state names code that the store does not hold.
    #[error(
        "the code with hash {0} is missing from the state store: the data directory is damaged, restore it from a snapshot"
    )]
    CodeMissing(B256),
    /// A block hash inside the window of BLOCKHASH that nobody supplied.
    #[error(
        "the hash of block {0} is not known: the node was started without the hashes of the last 256 blocks"
    )]
    HashMissing(u64),
    /// The node is going down and will not compute the hash that was waited for.
    #[error("shutting down: the hash of block {0} will not be computed")]
    ShuttingDown(u64),
}

impl revm::database_interface::DBErrorMarker for StoreError {}

/// Why a transaction was not executed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// The protocol forbids it at this point of the chain.
    #[error("invalid transaction: {0}")]
    Invalid(InvalidTransaction),
    /// It asks for more gas than the block has left.
    #[error("the transaction's gas limit {limit} is above the {left} gas that the block has left")]
    BlockGas {
        /// The transaction's gas limit.
        limit: u64,
        /// What the block has left.
        left: u64,
    },
    /// It carries more blobs than the block has room for.
    #[error("the transaction's blob gas {wanted} is above the {left} blob gas that the block has left")]
    BlobGas {
        /// Blob gas of the transaction.
        wanted: u64,
        /// What the block has left.
        left: u64,
    },
    /// The store could not answer, or the node is going down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// revm reported what it should never report.
    #[error("the EVM failed: {0}")]
    Evm(String),
}

impl ExecuteError {
    /// The same in the words of the wire and of JSON-RPC.
    pub fn reject(&self) -> Reject {
        use InvalidTransaction as T;
        match self {
            Self::BlockGas { .. } => Reject::GasAboveBlock,
            Self::BlobGas { .. } => Reject::BlobUnsupported,
            Self::Store(StoreError::ShuttingDown(_)) => Reject::NotAdmitting,
            Self::Store(_) | Self::Evm(_) => Reject::Internal,
            Self::Invalid(reason) => match reason {
                T::PriorityFeeGreaterThanMaxFee => Reject::TipAboveFeeCap,
                T::GasPriceLessThanBasefee => Reject::FeeCapBelowBase,
                T::CallerGasLimitMoreThanBlock => Reject::GasAboveBlock,
                T::CallGasCostMoreThanGasLimit { .. } => Reject::IntrinsicGas,
                T::GasFloorMoreThanGasLimit { .. } => Reject::FloorGas,
                T::RejectCallerWithCode => Reject::SenderHasCode,
                T::LackOfFundForMaxFee { .. } | T::OverflowPaymentInTransaction => Reject::InsufficientFunds,
                T::NonceOverflowInTransaction => Reject::NonceMax,
                T::NonceTooHigh { .. } => Reject::NonceTooHigh,
                T::NonceTooLow { .. } => Reject::NonceTooLow,
                T::CreateInitCodeSizeLimit => Reject::InitCodeTooLarge,
                T::InvalidChainId | T::MissingChainId => Reject::WrongChainId,
                T::TxGasLimitGreaterThanCap { .. } => Reject::GasAboveTxCap,
                T::EmptyAuthorizationList | T::AuthorizationListInvalidFields => Reject::EmptyAuthorizations,
                T::Eip2930NotSupported
                | T::Eip1559NotSupported
                | T::Eip7702NotSupported
                | T::Eip7873NotSupported
                | T::Eip7873MissingTarget
                | T::AccessListNotSupported
                | T::AuthorizationListNotSupported => Reject::UnknownType,
                T::MaxFeePerBlobGasNotSupported
                | T::BlobVersionedHashesNotSupported
                | T::BlobGasPriceGreaterThanMax { .. }
                | T::EmptyBlobs
                | T::BlobCreateTransaction
                | T::TooManyBlobs { .. }
                | T::BlobVersionNotSupported
                | T::Eip4844NotSupported => Reject::BlobUnsupported,
                T::Str(_) => Reject::Internal,
            },
        }
    }
}

/// Why a block could not be opened or closed. What it had executed is not in the store unless a mini-block was sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A system contract that the fork requires has no code (EIP-7002, EIP-7251).
    #[error("the system contract {0} has no code: this fork needs it in the genesis state")]
    SystemContractMissing(Address),
    /// A system call that must succeed did not (EIP-7002, EIP-7251).
    #[error("the call of the system contract {address} failed: {reason}")]
    SystemCallFailed {
        /// The contract.
        address: Address,
        /// What revm said.
        reason: String,
    },
    /// A log of the deposit contract that is not laid out as EIP-6110 says.
    #[error("a log of the deposit contract is not laid out as EIP-6110 says")]
    DepositLog,
    /// Mainnet's block 1,920,000, which moves balances by decree (EIP-779).
    #[error(
        "the DAO fork's irregular change of mainnet balances (EIP-779) is not supported: start after block 1920000"
    )]
    DaoFork,
    /// The context does not carry what its fork needs.
    #[error("the block context has no {0}, which its fork requires")]
    ContextField(&'static str),
    /// The store could not answer, or the node is going down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store could not take the block's changes.
    #[error("the state store refused the changes: {0}")]
    Apply(String),
    /// revm reported what it should never report.
    #[error("the EVM failed: {0}")]
    Evm(String),
}

/// Why a foreign block is not valid after its parent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock {
    /// The bytes are not one block.
    #[error("the bytes are not the RLP of one block: {0}")]
    Rlp(String),
    /// A header field is not what execution, or the parent, says.
    #[error("header field `{field}` is {found}, expected {expected}")]
    Field {
        /// Name as in JSON-RPC.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The parent is not the newest block.
    #[error("the parent {0} is not the newest block that was imported")]
    UnknownParent(B256),
    /// A transaction is not valid where it stands.
    #[error("transaction {index}: {reason}")]
    Transaction {
        /// Place in the block.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// An ommer is not allowed.
    #[error("ommer {index}: {reason}")]
    Ommer {
        /// Place in the list.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The block is larger than EIP-7934 allows.
    #[error("the block has {found} bytes, EIP-7934 allows {max}")]
    TooLarge {
        /// Its size in RLP.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// A system call, a deposit log or a requirement of the fork failed.
    #[error(transparent)]
    Block(BlockError),
}

impl InvalidBlock {
    pub(crate) fn field(field: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Field { field, expected: expected.to_string(), found: found.to_string() }
    }
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The genesis file is not usable.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A block is invalid.
    #[error("block {number} is invalid: {reason}")]
    Invalid {
        /// Its number, as its header says (0 when it could not be decoded).
        number: u64,
        /// Why.
        reason: Box<InvalidBlock>,
    },
    /// The node's own part failed.
    #[error("the state store failed: {0}")]
    State(String),
    /// The node's own part failed.
    #[error("the trie failed: {0}")]
    Trie(String),
}
