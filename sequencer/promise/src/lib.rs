//! What the sequencer promises, and how anybody checks it.
//!
//! A mini-block's header has a [`digest`]; the sequencer signs it once, with a [`Signer`]. Each transaction is a [`Leaf`]
//! of the [`MerkleTree`] whose root stands in the header, so the promise about one transaction is the signed header plus
//! the leaf and a short [`MerklePath`]: a [`Promise`]. [`Promise::verify`] needs nothing but the chain id and the
//! sequencer's address, and a contract can do the same (`sequencer/contracts/PromiseVerifier.sol`). Every byte that is
//! hashed, signed or sent is laid out in `docs/formats.md`, section "Promises".

mod digest;
mod error;
mod json;
mod keystore;
mod leaf;
mod merkle;
mod promise;
mod signer;
mod wire;

pub use digest::{DIGEST_PREIMAGE_BYTES, DOMAIN, digest, digest_preimage};
pub use error::{KeystoreError, PromiseError};
pub use leaf::{LEAF_PREIMAGE_BYTES, Leaf, logs_hash};
pub use merkle::{MerklePath, MerkleTree, PATH_LEN_MAX};
pub use promise::Promise;
pub use signer::{Signer, recover};
pub use wire::{WIRE_BYTES_MAX, WIRE_BYTES_MIN, WIRE_VERSION};
