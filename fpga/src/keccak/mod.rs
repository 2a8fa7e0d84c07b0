//! Keccak-256 of one message or of many.
//!
//! Many independent messages are hashed side by side, one in each 64-bit lane of a vector: 4 with AVX2, 8 with AVX-512.
//! The permutation is written once, in `permute.rs`, with the vector as a parameter. [`Engine`] names the widths;
//! [`Engine::available`] says what this CPU can do, so that two widths can be compared in one process.

mod lanes;
mod many;
mod permute;

pub use many::Engine;

use alloy_primitives::B256;

/// Bytes that one permutation absorbs.
pub const RATE: usize = 136;

/// How many blocks Keccak-256 absorbs for a message of `len` bytes (its padding included).
pub const fn blocks(len: usize) -> usize {
    len / RATE + 1
}

/// Keccak-256 of one message, by the fastest scalar code.
#[inline]
pub fn keccak256(message: &[u8]) -> B256 {
    alloy_primitives::keccak256(message)
}

/// Keccak-256 of many messages: `out[i] = keccak256(messages[i])`, with the widest vectors of this CPU. Messages of like
/// block count ([`blocks`]) share a permutation whatever their order, so callers need not sort. Does not allocate.
///
/// Best given at least eight messages at a time; a single one costs what [`keccak256`] costs.
///
/// # Panics
/// When the two slices differ in length.
#[inline]
pub fn hash_many(messages: &[&[u8]], out: &mut [B256]) {
    Engine::best().hash_many(messages, out);
}

/// As [`hash_many`], for four messages.
pub fn keccak256_x4(messages: [&[u8]; 4]) -> [B256; 4] {
    let mut out = [B256::ZERO; 4];
    hash_many(&messages, &mut out);
    out
}

/// As [`hash_many`], for eight messages.
pub fn keccak256_x8(messages: [&[u8]; 8]) -> [B256; 8] {
    let mut out = [B256::ZERO; 8];
    hash_many(&messages, &mut out);
    out
}
