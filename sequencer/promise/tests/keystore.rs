//! The key file on a real file system.

use ironlane_promise::{KeystoreError, Signer};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode");
}

fn created(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("keys/sequencer.json");
    let (_, new) = Signer::open_or_create(&path, b"secret").expect("a new key");
    assert!(new);
    path
}

#[test]
fn the_first_run_makes_a_key_and_later_runs_find_it() {
    let folder = folder();
    let path = folder.path().join("keys/sequencer.json");
    let (first, new) = Signer::open_or_create(&path, b"").expect("a new key");
    assert!(new);
    let text = fs::read(&path).expect("the file");
    let start = Instant::now();
    let (second, new) = Signer::open_or_create(&path, b"").expect("the same key");
    println!("opened in {:?}", start.elapsed());
    assert!(!new);
    assert_eq!(first.address(), second.address());
    assert_eq!(fs::read(&path).expect("the file"), text, "never written again");
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> = fs::read_dir(path.parent().expect("a folder")).expect("readable").collect();
    assert_eq!(left.len(), 1, "nothing but the key file is left: {left:?}");
}

#[test]
fn many_processes_at_once_agree_on_one_key() {
    let folder = folder();
    let path = folder.path().join("sequencer.json");
    let addresses: Vec<_> = std::thread::scope(|scope| {
        let open = || scope.spawn(|| Signer::open_or_create(&path, b"pw").expect("one of them makes it"));
        let threads: Vec<_> = (0..4).map(|_| open()).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(addresses.iter().all(|(signer, _)| signer.address() == addresses[0].0.address()));
    assert_eq!(addresses.iter().filter(|(_, new)| *new).count(), 1);
}

#[test]
fn a_wrong_password_is_named_and_changes_nothing() {
    let folder = folder();
    let path = created(&folder);
    let before = fs::read(&path).expect("the file");
    let error = Signer::open_or_create(&path, b"wrong").expect_err("refused");
    assert!(matches!(error, KeystoreError::WrongPassword { .. }), "{error}");
    assert!(error.to_string().contains("sequencer.json"));
    assert_eq!(fs::read(&path).expect("the file"), before);
}

#[test]
fn a_damaged_file_is_refused_and_never_replaced() {
    let folder = folder();
    let good = fs::read_to_string(created(&folder)).expect("the file");
    let path = folder.path().join("damaged.json");
    let json: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    let with = |pointer: &str, value: serde_json::Value| {
        let mut changed = json.clone();
        *changed.pointer_mut(pointer).expect(pointer) = value;
        changed.to_string()
    };
    let damaged = [
        String::new(),
        "{}".into(),
        good[..good.len() / 2].into(),
        "x".repeat(100_000),
        with("/version", 4.into()),
        with("/crypto/cipher", "aes-256-gcm".into()),
        with("/crypto/cipherparams/iv", "00".into()),
        with("/crypto/ciphertext", "00".repeat(31).into()),
        with("/crypto/mac", "".into()),
        with("/crypto/kdfparams/dklen", 16.into()),
        with("/crypto/kdfparams/n", 8191.into()),
        with("/crypto/kdfparams/n", 0.into()),
        with("/crypto/kdfparams/n", 2_147_483_648_u32.into()),
        with("/crypto/kdfparams/p", 4_000_000_000_u32.into()),
        with("/crypto/kdfparams/r", 0.into()),
    ];
    for text in damaged {
        write(&path, &text);
        let error = Signer::open_or_create(&path, b"secret").expect_err(&text[..text.len().min(200)]);
        assert!(matches!(error, KeystoreError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("the file"), text, "left as it was");
    }
    fs::write(&path, [0xff, 0xfe]).expect("file");
    assert!(matches!(Signer::open(&path, b""), Err(KeystoreError::Damaged { .. })));
    let changed = with("/crypto/ciphertext", "00".repeat(32).into());
    write(&path, &changed);
    assert!(matches!(Signer::open(&path, b"secret"), Err(KeystoreError::WrongPassword { .. })));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = folder();
    let path = created(&folder);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
    let error = Signer::open(&path, b"secret").expect_err("refused");
    assert!(matches!(error, KeystoreError::Permissions { mode: 0o644, .. }), "{error}");
}

#[test]
fn a_folder_and_a_dangling_link_are_not_key_files() {
    let folder = folder();
    let inside = folder.path().join("folder");
    fs::create_dir(&inside).expect("folder");
    assert!(matches!(Signer::open_or_create(&inside, b""), Err(KeystoreError::Damaged { .. })));
    let link = folder.path().join("link.json");
    symlink(folder.path().join("nowhere"), &link).expect("link");
    // A link that leads nowhere is a mistake of the operator's, not a first run: no key is made behind their back.
    assert!(matches!(Signer::open_or_create(&link, b""), Err(KeystoreError::Io { .. })));
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn files_of_other_wallets_open() {
    // The two examples of the Web3 Secret Storage definition (ethereum.org): one key, PBKDF2 and scrypt.
    let pbkdf2 = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    let folder = folder();
    let path = folder.path().join("other.json");
    write(&path, pbkdf2);
    let signer = Signer::open(&path, b"testpassword").expect("opens");
    let key = alloy_primitives::hex!("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d");
    assert_eq!(signer.address(), Signer::from_key(&key).expect("a key").address());
}

#[test]
fn passwords_come_from_the_first_line_of_a_file() {
    let folder = folder();
    let path = folder.path().join("password");
    for (text, wanted) in [("pw", "pw"), ("pw\n", "pw"), ("pw \r\nmore", "pw "), ("", ""), ("\n", "")] {
        fs::write(&path, text).expect("file");
        assert_eq!(Signer::read_password(&path).expect("readable"), wanted.as_bytes());
    }
    assert!(Signer::read_password(&folder.path().join("none")).is_err());
}
