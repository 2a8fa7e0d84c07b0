//! The key file: Web3 Secret Storage, version 3.
//!
//! Cost: eth-keystore writes scrypt with N = 8192, r = 8, p = 1 (8 MiB, some 20 ms), so a node starts at once. That is
//! far below geth's "standard" (N = 262144, about a second), and right only because the file holds the key of a server
//! that must start unattended: its password lies in a file beside it, and what guards both is the file mode. An operator
//! who wants more brings a file that geth or Foundry made: any N up to 2^20 is opened.

use crate::KeystoreError;
use eth_keystore::{EthKeystore, KdfparamsType};
use rand::rngs::OsRng;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Larger files are no key files.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most memory that a file's scrypt parameters may ask for (128 · N · r bytes): geth's standard needs 256 MiB.
const SCRYPT_BYTES_MAX: u64 = 1 << 30;
/// Most PBKDF2 rounds that are computed for a file.
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;

/// Makes a key and writes it to `path`. `false`: somebody else was faster, and their file stands.
pub(crate) fn create(path: &Path, password: &[u8]) -> Result<bool, KeystoreError> {
    let io = |what| move |source| KeystoreError::Io { path: path.to_path_buf(), what, source };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(io("make its folder"))?;
    // The library creates files open to all and writes in place. So it writes into a folder that only this user can
    // enter; the text then goes to a new file, synced, which appears under its name at once and never replaces another.
    let private = PrivateFolder::new(folder).map_err(io("make a private folder beside it"))?;
    let failed = |error: eth_keystore::KeystoreError| KeystoreError::Io {
        path: path.to_path_buf(),
        what: "encrypt a new key",
        source: std::io::Error::other(error),
    };
    let mut key = loop {
        let mut key = [0u8; 32];
        rand::RngCore::fill_bytes(&mut OsRng, &mut key);
        if crate::Signer::from_key(&key).is_ok() {
            break key;
        }
    };
    let encrypted = eth_keystore::encrypt_key(&private.0, &mut OsRng, key, password, Some("plain-mode"));
    key.fill(0);
    encrypted.map_err(failed)?;
    let text = std::fs::read(private.0.join("plain-mode")).map_err(io("read it back"))?;
    let ready = private.0.join("key");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&ready)
        .map_err(io("create it with mode 600"))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(io("write it to stable storage"))?;
    match std::fs::hard_link(&ready, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(source) => return Err(io("give it its name")(source)),
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync its folder"))?;
    Ok(true)
}

/// A folder with mode 700 that is gone when this value is.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn new(beside: &Path) -> std::io::Result<PrivateFolder> {
        loop {
            let name = format!(".key-{:016x}", rand::RngCore::next_u64(&mut OsRng));
            let path = beside.join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(PrivateFolder(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // What is left is encrypted and readable by this user alone; failing to remove it harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The key in the file at `path`.
pub(crate) fn read(path: &Path, password: &[u8]) -> Result<[u8; 32], KeystoreError> {
    let io = |what| move |source| KeystoreError::Io { path: path.to_path_buf(), what, source };
    let damaged =
        |reason: &str| KeystoreError::Damaged { path: path.to_path_buf(), reason: reason.to_owned() };
    let file = File::open(path).map_err(io("open it"))?;
    let metadata = file.metadata().map_err(io("look at it"))?;
    if !metadata.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(KeystoreError::Permissions { path: path.to_path_buf(), mode });
    }
    let mut text = String::new();
    let limited = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    match limited {
        Ok(_) if text.len() as u64 > FILE_BYTES_MAX => return Err(damaged("it is larger than 64 KiB")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged("it is not UTF-8 text")),
        Err(source) => return Err(io("read it")(source)),
    }
    let parsed: EthKeystore = serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?;
    check(&parsed).map_err(damaged)?;
    let mut secret = eth_keystore::decrypt_key(path, password).map_err(|error| match error {
        eth_keystore::KeystoreError::MacMismatch => KeystoreError::WrongPassword { path: path.to_path_buf() },
        other => damaged(&other.to_string()),
    })?;
    let key = <[u8; 32]>::try_from(secret.as_slice());
    secret.fill(0);
    key.map_err(|_| damaged("it does not hold 32 bytes of key"))
}

/// What the library takes for granted: it would panic, or compute for hours, on a file that breaks these rules.
fn check(file: &EthKeystore) -> Result<(), &'static str> {
    let crypto = &file.crypto;
    if file.version != 3 {
        return Err("its version is not 3");
    }
    if crypto.cipher != "aes-128-ctr" {
        return Err("its cipher is not aes-128-ctr");
    }
    if crypto.cipherparams.iv.len() != 16 {
        return Err("its initialisation vector does not have 16 bytes");
    }
    if crypto.ciphertext.len() != 32 || crypto.mac.len() != 32 {
        return Err("its ciphertext or its mac does not have 32 bytes");
    }
    match &crypto.kdfparams {
        KdfparamsType::Scrypt { dklen, n, p, r, .. } => {
            let memory = u64::from(*n).saturating_mul(u64::from(*r)).saturating_mul(128);
            let work = memory.saturating_mul(u64::from(*p));
            if *dklen != 32 {
                return Err("its derived key does not have 32 bytes");
            }
            if !n.is_power_of_two() || *n < 2 || *r == 0 || *p == 0 {
                return Err("its scrypt parameters are not valid (n a power of two, r and p at least 1)");
            }
            if memory > SCRYPT_BYTES_MAX || work > 8 * SCRYPT_BYTES_MAX {
                return Err("its scrypt parameters ask for more than 1 GiB of memory or far too much time");
            }
        }
        KdfparamsType::Pbkdf2 { c, dklen, prf, .. } => {
            if *dklen != 32 || prf != "hmac-sha256" {
                return Err("its PBKDF2 parameters are not 32 bytes of hmac-sha256");
            }
            if *c == 0 || *c > PBKDF2_ROUNDS_MAX {
                return Err("its PBKDF2 rounds are not between 1 and 10 million");
            }
        }
    }
    Ok(())
}
