//! Gas that a transaction costs before its first opcode, as the pool checks it and the executor charges it.

use alloy_consensus::Transaction;
use alloy_primitives::{TxKind, U256};

use crate::TxEnvelope;

/// Intrinsic gas of any transaction (Yellow Paper, G_transaction).
pub const TX_GAS: u64 = 21_000;
/// Extra gas of a creation (EIP-2).
const CREATE_GAS: u64 = 32_000;
/// Gas of a zero byte of call data, also of one token of EIP-7623.
const TOKEN_GAS: u64 = 4;
/// Tokens in a byte of call data that is not zero (EIP-2028: 16 gas).
const TOKENS_NON_ZERO: u64 = 4;
/// Floor gas of a token (EIP-7623).
const FLOOR_TOKEN_GAS: u64 = 10;
/// Gas of a 32-byte word of init code (EIP-3860).
const INIT_CODE_WORD_GAS: u64 = 2;
/// Gas of an address and of a slot in an access list (EIP-2930).
const ACCESS_ADDRESS_GAS: u64 = 2_400;
const ACCESS_SLOT_GAS: u64 = 1_900;
/// Gas of an authorization, charged in advance (EIP-7702, PER_EMPTY_ACCOUNT_COST).
const AUTHORIZATION_GAS: u64 = 25_000;

/// The gas that a transaction needs before its first opcode, and the floor under what it pays in the end (0 where
/// EIP-7623 does not hold). The rules are Berlin's, with `init_code_words` those of Shanghai, with `floor` Prague's.
pub fn intrinsic_gas(tx: &TxEnvelope, init_code_words: bool, floor: bool) -> (u64, u64) {
    let input = tx.input();
    let zeros = input.iter().filter(|byte| **byte == 0).count() as u64;
    let tokens = zeros + (input.len() as u64 - zeros) * TOKENS_NON_ZERO;
    let mut gas = TX_GAS + tokens * TOKEN_GAS;
    if tx.kind() == TxKind::Create {
        gas += CREATE_GAS;
        if init_code_words {
            gas += (input.len() as u64).div_ceil(32) * INIT_CODE_WORD_GAS;
        }
    }
    if let Some(list) = tx.access_list() {
        let slots: usize = list.iter().map(|item| item.storage_keys.len()).sum();
        gas += list.len() as u64 * ACCESS_ADDRESS_GAS + slots as u64 * ACCESS_SLOT_GAS;
    }
    gas += tx.authorization_list().map_or(0, |list| list.len() as u64) * AUTHORIZATION_GAS;
    (gas, if floor { TX_GAS + tokens * FLOOR_TOKEN_GAS } else { 0 })
}

/// The most that a transaction can take from its sender, in wei; `None` above 256 bits.
pub fn max_cost(tx: &TxEnvelope) -> Option<U256> {
    // 64 × 128 bits fit.
    let gas = U256::from(tx.gas_limit()) * U256::from(tx.max_fee_per_gas());
    gas.checked_add(tx.value())
}
