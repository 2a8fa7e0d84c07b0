//! Why a promise does not hold, and why a key file cannot be used.

use alloy_primitives::{Address, B256};
use std::path::PathBuf;

/// Why a promise does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromiseError {
    /// The encoding is of a version that this program does not know.
    #[error("the promise is encoded in version {0}; this program knows version 1")]
    UnknownVersion(u8),
    /// Not as many bytes as the path length says, or too few for any promise.
    #[error("the encoded promise has {got} bytes where {wanted} were expected")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes expected.
        wanted: usize,
    },
    /// The status byte is neither 0 nor 1.
    #[error("the transaction's status is {0}; it is 0 (failed) or 1 (succeeded)")]
    Status(u8),
    /// The transaction's sequence number is not among those of the mini-block.
    #[error("sequence number {seq} is not in the mini-block: it holds {count} from {first}")]
    NotInMiniBlock {
        /// The transaction's.
        seq: u64,
        /// First of the mini-block.
        first: u64,
        /// How many it holds.
        count: u32,
    },
    /// The path is longer or shorter than the tree is deep at that place.
    #[error("the Merkle path has {got} hashes where the place of this transaction needs {wanted}")]
    PathLength {
        /// Hashes given.
        got: usize,
        /// Hashes needed.
        wanted: usize,
    },
    /// The path leads to another root.
    #[error("the Merkle path leads to the root {got}, the header says {wanted}")]
    WrongRoot {
        /// Computed.
        got: B256,
        /// In the header.
        wanted: B256,
    },
    /// The signature cannot be one: out of range, high s, or it recovers to no key.
    #[error("the signature is malformed: r and s must be in range, s low, the last byte 0 or 1")]
    BadSignature,
    /// Somebody else signed it, or something else was signed.
    #[error(
        "the header was signed by {got}, not by the sequencer {wanted} (or it was signed for another chain)"
    )]
    WrongSigner {
        /// Recovered.
        got: Address,
        /// Expected.
        wanted: Address,
    },
}

/// Why the sequencer's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// The file system refused.
    #[error("the key file {path}: could not {what}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a Web3 Secret Storage file of version 3 with parameters that can be used.
    #[error(
        "the key file {path} is damaged or of an unknown kind: {reason}. Restore it from a backup; it is never overwritten",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The checksum does not fit: wrong password, or changed ciphertext.
    #[error(
        "the password does not open the key file {path} (or its ciphertext is damaged): check the password file",
        path = path.display()
    )]
    WrongPassword {
        /// The file.
        path: PathBuf,
    },
    /// What was decrypted, or given, is zero or not below the curve's order.
    #[error("the secret key is not a number between 1 and the order of secp256k1")]
    BadKey,
    /// Others may read or write the file.
    #[error("the key file {path} is open to others (mode {mode:o}): run `chmod 600` on it", path = path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}
