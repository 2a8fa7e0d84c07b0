//! Why a transaction was refused or dropped. One list for the pool, the executor, the wire and JSON-RPC.

use serde::Serialize;

macro_rules! rejects {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal, $rpc:literal, $text:literal;)*) => {
        /// Why a transaction was refused, or dropped after it had been taken. The number is the wire's
        /// (`docs/formats.md`) and never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[repr(u8)]
        #[serde(rename_all = "snake_case")]
        pub enum Reject { $($(#[$doc])* $name = $code,)* }

        impl Reject {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Reject] = &[$(Reject::$name,)*];

            /// Label for counters: lower case, words joined by `_`.
            pub const fn label(self) -> &'static str { match self { $(Reject::$name => $label,)* } }

            /// JSON-RPC error code, as geth answers.
            pub const fn rpc_code(self) -> i32 { match self { $(Reject::$name => $rpc,)* } }

            /// One sentence for the sender. It begins as geth's message does where geth has one.
            pub const fn message(self) -> &'static str { match self { $(Reject::$name => $text,)* } }

            /// The reason with this wire number.
            pub const fn from_code(code: u8) -> Option<Reject> { match code { $($code => Some(Reject::$name),)* _ => None } }
        }
    };
}

rejects! {
    /// The bytes are not one canonical EIP-2718 transaction.
    Malformed = 1, "malformed", -32602, "rlp: the bytes are not one canonically encoded transaction";
    /// More than 128 KiB.
    TooLarge = 2, "too_large", -32000, "oversized data: a transaction may have at most 131072 bytes";
    /// A blob transaction (EIP-4844).
    BlobUnsupported = 3, "blob_unsupported", -32000, "transaction type not supported: this chain takes no blob transactions (type 3)";
    /// A type byte that no fork defines.
    UnknownType = 4, "unknown_type", -32000, "transaction type not supported: only types 0, 1, 2 and 4 are taken";
    /// Signed for another chain, or a legacy transaction without replay protection.
    WrongChainId = 5, "wrong_chain_id", -32000, "invalid chain id for signer: sign with the id that eth_chainId answers";
    /// r, s or parity out of range, s above n/2, or no such public key.
    BadSignature = 6, "bad_signature", -32000, "invalid sender: the signature is out of range, has a high s, or recovers to no key";
    /// Gas limit below the intrinsic gas.
    IntrinsicGas = 7, "intrinsic_gas", -32000, "intrinsic gas too low: raise the gas limit to at least the cost of the call data";
    /// Gas limit below the EIP-7623 floor.
    FloorGas = 8, "floor_gas", -32000, "insufficient gas for floor data gas cost: raise the gas limit (EIP-7623)";
    /// Gas limit above the transaction cap of EIP-7825.
    GasAboveTxCap = 9, "gas_above_tx_cap", -32000, "transaction gas limit too high: at most 16777216 (EIP-7825)";
    /// Gas limit above the block's.
    GasAboveBlock = 10, "gas_above_block", -32000, "exceeds block gas limit";
    /// Fee cap below the base fee.
    FeeCapBelowBase = 11, "fee_cap_below_base", -32000, "max fee per gas less than block base fee";
    /// Priority fee above the fee cap.
    TipAboveFeeCap = 12, "tip_above_fee_cap", -32000, "max priority fee per gas higher than max fee per gas";
    /// Nonce already used.
    NonceTooLow = 13, "nonce_too_low", -32000, "nonce too low";
    /// Nonce too far ahead of the account's.
    NonceTooHigh = 14, "nonce_too_high", -32000, "nonce too high: it is further ahead than the pool queues";
    /// Nonce of 2^64−1 (EIP-2681).
    NonceMax = 15, "nonce_max", -32000, "nonce has max value";
    /// Balance cannot pay this and the account's earlier transactions.
    InsufficientFunds = 16, "insufficient_funds", -32000, "insufficient funds for gas * price + value";
    /// Init code above the limit of EIP-3860.
    InitCodeTooLarge = 17, "init_code_too_large", -32000, "max initcode size exceeded";
    /// The sender has code that is no delegation (EIP-3607).
    SenderHasCode = 18, "sender_has_code", -32000, "sender not an eoa: the account has code (EIP-3607)";
    /// Type 4 without an authorization.
    EmptyAuthorizations = 19, "empty_authorizations", -32000, "EIP-7702 transaction with empty auth list";
    /// Type 4 that would create a contract.
    CreateWithAuthorizations = 20, "create_with_authorizations", -32000, "EIP-7702 transaction cannot be used to create contract";
    /// Same nonce already waiting, and the bump is below 10%.
    ReplacementUnderpriced = 21, "replacement_underpriced", -32000, "replacement transaction underpriced: raise both fees by at least 10%";
    /// The same transaction is already there.
    AlreadyKnown = 22, "already_known", -32000, "already known";
    /// The pool is full.
    PoolFull = 23, "pool_full", -32000, "txpool is full: try again later";
    /// The account has its share of the pool already.
    AccountLimit = 24, "account_limit", -32000, "account limit exceeded: wait for this account's earlier transactions";
    /// Waited for a missing nonce for too long.
    Expired = 25, "expired", -32000, "dropped: an earlier nonce of this account did not arrive in time";
    /// Another transaction with the same nonce took its place.
    Replaced = 26, "replaced", -32000, "dropped: replaced by a transaction of the same nonce with higher fees";
    /// Pushed out of a full pool by executable transactions.
    Evicted = 27, "evicted", -32000, "dropped: the pool was full and executable transactions go first";
    /// The node is behind; nothing was taken.
    Overloaded = 28, "overloaded", -32005, "overloaded: the sequencer has no room now, try again later";
    /// The node does not admit now (disk full, halted, or shutting down).
    NotAdmitting = 29, "not_admitting", -32005, "not admitting: the sequencer cannot make transactions durable now";
    /// An engine claimed what the CPU refuted, twice, or another fault of ours.
    Internal = 30, "internal", -32603, "internal error: the transaction was not executed";
    /// The frame around the transaction is not as `docs/formats.md` says.
    BadFrame = 31, "bad_frame", -32602, "bad frame: length, kind or flags are not as the protocol says";
    /// The source sends more than its share.
    RateLimited = 32, "rate_limited", -32005, "limit exceeded: this connection has too many transactions in flight";
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::Reject;

    #[test]
    fn wire_numbers_round_trip_and_labels_are_unique() {
        let mut labels: Vec<_> = Reject::ALL.iter().map(|r| r.label()).collect();
        for reject in Reject::ALL {
            assert_eq!(Reject::from_code(*reject as u8), Some(*reject));
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reject::ALL.len());
        assert_eq!(Reject::from_code(0), None, "0 means accepted on the wire");
    }
}
