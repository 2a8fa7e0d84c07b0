//! Real contracts: the cases of the corpus, and its bare bytecodes called function by function. The same result as the
//! interpreter's, everything compiled before its first execution.

mod common;

use alloy_primitives::{Address, Bytes, U256, hex};
use ironlane_jit::{
    asm::instructions,
    fuzz::{Case, CaseAccount, Compiled, End, Engine, Interpreter, Rng, run},
};
use revm::primitives::hardfork::SpecId;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn engines() -> Vec<(&'static str, Compiled)> {
    let variants = Compiled::variants().into_iter();
    variants.map(|(name, config)| (name, Compiled::new(config).expect("this machine compiles"))).collect()
}

/// Runs `case` by the interpreter and by every engine; panics where they differ.
fn compare(name: &str, case: &Case, engines: &mut [(&'static str, Compiled)]) -> End {
    let expected = run(case, &mut Interpreter);
    for (variant, engine) in engines {
        let engine: &mut dyn Engine = engine;
        let actual = run(case, engine);
        if let Some(mismatch) = expected.mismatch(&actual) {
            panic!("{name}, {variant}: {mismatch}");
        }
    }
    expected.end
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the corpus") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn cases_of_real_contracts_give_the_interpreters_results() {
    let Some(folder) = common::contracts() else { return };
    let mut engines = engines();
    engines.retain(|(name, _)| matches!(*name, "speed" | "tiny"));
    let (mut succeeded, mut count) = (0, 0);
    for file in files(&folder, "json") {
        let text = fs::read_to_string(&file).expect("readable");
        let Ok(cases) = Case::from_json(&text) else { continue };
        for (name, mut case) in cases {
            // The longest of them run for minutes in the tests' build: bounded, they still reach their loops.
            case.gas_limit = case.gas_limit.min(2_000_000);
            count += 1;
            succeeded += usize::from(matches!(compare(&name, &case, &mut engines), End::Success(_)));
        }
    }
    println!("{count} cases, {succeeded} succeed");
    assert!(count >= 25 && succeeded * 2 > count, "{succeeded} of {count}");
}

/// Code, and what it is called, of contracts without transactions.
fn bare_codes(folder: &Path) -> Vec<(String, Bytes)> {
    let mut codes = Vec::new();
    let named = fs::read_to_string(folder.join("mainnet-named.json")).expect("readable");
    let named: serde_json::Value = serde_json::from_str(&named).expect("JSON");
    for (name, entry) in named.as_object().expect("an object") {
        codes.push((name.clone(), entry["code"].as_str().expect("code").parse().expect("hexadecimal")));
    }
    for file in files(folder, "hex") {
        let text = fs::read_to_string(&file).expect("readable");
        let code = hex::decode(text.trim()).expect("hexadecimal").into();
        codes.push((file.file_stem().expect("a name").to_string_lossy().into_owned(), code));
    }
    codes
}

#[test]
fn every_function_of_bare_bytecodes_gives_the_interpreters_results() {
    let Some(folder) = common::contracts() else { return };
    let mut engines = engines();
    engines.retain(|(name, _)| matches!(*name, "speed" | "none"));
    let codes = bare_codes(&folder);
    assert!(codes.len() >= 20);
    let (mut calls, mut succeeded) = (0, 0);
    for (name, code) in codes {
        let address = Address::repeat_byte(0xcc);
        let rng = &mut Rng::new(0xc0de, code.len() as u64);
        // What a dispatcher compares with, and a few other words besides: no harm.
        let mut selectors: Vec<[u8; 4]> =
            instructions(&code).filter_map(|i| <[u8; 4]>::try_from(i.immediate).ok()).collect();
        selectors.sort_unstable();
        selectors.dedup();
        let storage = (0..12u64).map(|slot| (U256::from(slot), rng.word())).collect::<Vec<_>>();
        for selector in selectors {
            let mut data = selector.to_vec();
            for _ in 0..6 {
                let word = if rng.one_in(3) { U256::from(rng.below(300)) } else { rng.word() };
                data.extend(word.to_be_bytes::<32>());
            }
            let case = Case {
                spec: SpecId::OSAKA,
                accounts: vec![CaseAccount {
                    address,
                    balance: U256::from(1_000_000),
                    nonce: 1,
                    code: code.clone(),
                    storage: storage.clone(),
                }],
                to: Some(address),
                data: data.into(),
                gas_limit: 500_000,
                ..Case::default()
            };
            calls += 1;
            let name = format!("{name} {}", hex::encode(selector));
            succeeded += usize::from(matches!(compare(&name, &case, &mut engines), End::Success(_)));
        }
    }
    println!("{calls} calls, {succeeded} succeed");
    assert!(calls > 500 && succeeded > calls / 20, "{succeeded} of {calls}");
}
