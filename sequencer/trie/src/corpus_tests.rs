//! The Ethereum project's TrieTests, the secure ones: keys are hashed, so that all have 32 bytes. (`trieanyorder`,
//! `trietest` and `trietestnextprev` have keys of other lengths, which no Ethereum state has.)

use crate::raw_tests::{Change, Raw};
use alloy_primitives::{B256, hex, keccak256};
use serde_json::Value;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

const ARCHIVE: &str = "crypto-dev";

/// Where the archive lies unpacked, or why it does not.
fn unpacked() -> Result<PathBuf, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let corpus =
        env::var_os("IRONLANE_CORPUS").map_or_else(|| workspace.join("../shared/corpus"), PathBuf::from);
    let archive = corpus.join(format!("{ARCHIVE}.tar.xz"));
    if !archive.is_file() {
        return Err(format!(
            "{} is not there; set IRONLANE_CORPUS to the folder with the archives",
            archive.display()
        ));
    }
    let to = workspace.join("target/corpus").join(ARCHIVE);
    if to.is_dir() {
        return Ok(to);
    }
    let failed = |e: io::Error| format!("cannot unpack {}: {e}", archive.display());
    let parts = workspace.join(format!("target/corpus/.{ARCHIVE}.{}.trie", std::process::id()));
    fs::create_dir_all(&parts).map_err(failed)?;
    let status =
        Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(&parts).status().map_err(failed)?;
    assert!(status.success(), "tar cannot unpack {}", archive.display());
    // Another test may have been faster; its copy is as good.
    if fs::rename(&parts, &to).is_err() {
        fs::remove_dir_all(&parts).map_err(failed)?;
    }
    Ok(to)
}

/// A text is itself, or hexadecimal digits after 0x; JSON's null removes.
fn bytes(text: &Value) -> Option<Vec<u8>> {
    let text = text.as_str()?;
    Some(if text.starts_with("0x") { hex::decode(text).unwrap() } else { text.as_bytes().to_vec() })
}

fn changes(input: &Value) -> Vec<Change> {
    let change = |key: &Value, value: &Value| (keccak256(bytes(key).unwrap()).0, bytes(value));
    match input {
        Value::Object(map) => map.iter().map(|(k, v)| change(&Value::from(k.as_str()), v)).collect(),
        list => list.as_array().unwrap().iter().map(|pair| change(&pair[0], &pair[1])).collect(),
    }
}

#[test]
fn secure_trie_tests() {
    let folder = match unpacked() {
        Ok(folder) => folder.join("crypto/TrieTests"),
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let mut cases = 0;
    for file in ["trieanyorder_secureTrie", "trietest_secureTrie", "hex_encoded_securetrie_test"] {
        let text = fs::read(folder.join(format!("{file}.json"))).unwrap();
        let tests: Value = serde_json::from_slice(&text).unwrap();
        for (name, test) in tests.as_object().unwrap() {
            let expected: B256 = test["root"].as_str().unwrap().parse().unwrap();
            let changes = changes(&test["in"]);

            let mut one_by_one = Raw::new();
            for change in &changes {
                one_by_one.change(std::slice::from_ref(change));
            }
            assert_eq!(one_by_one.root_hash(), expected, "{file} {name}");

            // All in one step, as a block brings them: the last change of each key.
            let mut last: Vec<Change> = Vec::new();
            for change in changes {
                last.retain(|c| c.0 != change.0);
                last.push(change);
            }
            assert_eq!(Raw::new().change(&last), expected, "{file} {name}");
            last.reverse();
            let mut backwards = Raw::new();
            for change in &last {
                backwards.change(std::slice::from_ref(change));
            }
            assert_eq!(backwards.root_hash(), expected, "{file} {name}");
            cases += 1;
        }
    }
    assert_eq!(cases, 13);
}
