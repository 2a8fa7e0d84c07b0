//! The sequencer's key in memory: signs digests, and the reverse, recovery.

use crate::{KeystoreError, PromiseError, keystore};
use alloy_primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::path::Path;

/// A secp256k1 key that signs mini-block digests. It remembers nothing: that no two mini-blocks are signed at one height
/// is guarded by the journal's signer slot.
pub struct Signer {
    secret: SecretKey,
    address: Address,
}

impl Signer {
    /// A signer from a raw key, big-endian.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::BadKey`] when it is zero or not below the curve's order.
    pub fn from_key(key: &[u8; 32]) -> Result<Signer, KeystoreError> {
        let secret = SecretKey::from_byte_array(*key).map_err(|_| KeystoreError::BadKey)?;
        let address = address_of(&PublicKey::from_secret_key(SECP256K1, &secret));
        Ok(Signer { secret, address })
    }

    /// Opens the key file at `path` with `password`; where there is none, makes a key and writes it there first (readable
    /// by its owner alone, synced with its folder, never over a file that exists). Answers the signer and whether the
    /// file is new. An empty password is for development.
    ///
    /// # Errors
    ///
    /// [`KeystoreError`]: the file system refuses, the file is damaged or open to others, or the password is wrong.
    pub fn open_or_create(path: &Path, password: &[u8]) -> Result<(Signer, bool), KeystoreError> {
        let created = match std::fs::symlink_metadata(path) {
            Ok(_) => false,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => keystore::create(path, password)?,
            Err(source) => {
                return Err(KeystoreError::Io { path: path.to_path_buf(), what: "look at it", source });
            }
        };
        Ok((Signer::open(path, password)?, created))
    }

    /// Opens an existing key file: Web3 Secret Storage version 3, scrypt or PBKDF2, as geth and Foundry write them.
    ///
    /// # Errors
    ///
    /// As [`Signer::open_or_create`].
    pub fn open(path: &Path, password: &[u8]) -> Result<Signer, KeystoreError> {
        let mut key = keystore::read(path, password)?;
        let signer = Signer::from_key(&key);
        key.fill(0);
        signer
    }

    /// Reads a password from the first line of a file (without its line end).
    ///
    /// # Errors
    ///
    /// [`KeystoreError::Io`] when the file cannot be read.
    pub fn read_password(path: &Path) -> Result<Vec<u8>, KeystoreError> {
        let io =
            |source| KeystoreError::Io { path: path.to_path_buf(), what: "read the password in it", source };
        let bytes = std::fs::read(path).map_err(io)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }

    /// Whom its signatures recover to.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest: r, s, parity (0 or 1). s is low, and the nonce follows from key and digest (RFC 6979), so the same
    /// digest always has the same signature.
    pub fn sign(&self, digest: B256) -> [u8; 65] {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret);
        let (parity, compact) = signature.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        // Values 2 and 3 would need an r above the group's order, which nobody will ever see.
        bytes[64] = i32::from(parity) as u8;
        bytes
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Who signed `digest`.
///
/// # Errors
///
/// [`PromiseError::BadSignature`] when r or s is out of range, s is high, the parity is not 0 or 1, or no key fits.
pub fn recover(digest: B256, signature: &[u8; 65]) -> Result<Address, PromiseError> {
    let parity = match signature[64] {
        0 => RecoveryId::Zero,
        1 => RecoveryId::One,
        _ => return Err(PromiseError::BadSignature),
    };
    let bad = |_| PromiseError::BadSignature;
    let compact = RecoverableSignature::from_compact(&signature[..64], parity).map_err(bad)?;
    let mut low = compact.to_standard();
    low.normalize_s();
    if low.serialize_compact() != signature[..64] {
        return Err(PromiseError::BadSignature);
    }
    let key = SECP256K1.recover_ecdsa(Message::from_digest(digest.0), &compact).map_err(bad)?;
    Ok(address_of(&key))
}

fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, hex};

    /// The first of the development accounts of Anvil and Hardhat.
    const KEY: [u8; 32] = hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");

    #[test]
    fn a_known_key_has_its_known_address_and_signs_for_it() {
        let signer = Signer::from_key(&KEY).expect("a valid key");
        assert_eq!(signer.address(), address!("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"));
        let digest = keccak256(b"digest");
        let signature = signer.sign(digest);
        assert_eq!(signature, signer.sign(digest), "the same digest has the same signature");
        assert_eq!(recover(digest, &signature), Ok(signer.address()));
        assert_ne!(recover(keccak256(b"other"), &signature), Ok(signer.address()));
        assert!(!format!("{signer:?}").to_lowercase().contains("ac0974be"), "the key is not printed");
    }

    #[test]
    fn keys_out_of_range_are_refused() {
        let order = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
        for key in [[0; 32], order, [0xff; 32]] {
            assert!(matches!(Signer::from_key(&key), Err(KeystoreError::BadKey)));
        }
    }

    #[test]
    fn malformed_signatures_are_refused() {
        let signer = Signer::from_key(&KEY).expect("a valid key");
        let digest = keccak256(b"digest");
        let good = signer.sign(digest);
        let order = alloy_primitives::U256::from_be_bytes(hex!(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        ));
        let mut high_s = good;
        let s = alloy_primitives::U256::from_be_slice(&good[32..64]);
        high_s[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        high_s[64] ^= 1;
        let changed = |range: std::ops::Range<usize>, bytes: &[u8]| {
            let mut signature = good;
            signature[range].copy_from_slice(bytes);
            signature
        };
        let order = order.to_be_bytes::<32>();
        let parities = [2, 3, 27, 28, 255].map(|parity| changed(64..65, &[parity]));
        let ranges = [
            high_s,
            changed(0..32, &[0; 32]),
            changed(32..64, &[0; 32]),
            changed(0..32, &order),
            changed(32..64, &order),
        ];
        for bad in parities.iter().chain(&ranges) {
            assert_eq!(recover(digest, bad), Err(PromiseError::BadSignature));
        }
    }
}
