//! Samples of the conformance corpora, so that a change that breaks the rules is seen within seconds. The whole corpora
//! run through `ironlane conformance`; here IRONLANE_CORPUS_WHOLE=1 does the same.

mod common;

use ironlane_executor::conformance::{Engine, Kind, run};
use std::path::Path;

fn passes(kind: Kind, archive: &str, sample: &str, engine: Engine) {
    let Some(folder) = common::corpus(archive) else { return };
    let whole = std::env::var_os("IRONLANE_CORPUS_WHOLE").is_some();
    let folder = if whole { folder } else { folder.join(sample) };
    let report = run(kind, Path::new(&folder), engine, &|_, _| {}).expect("the corpus is readable");
    println!("{archive}/{sample}: {} of {} cases in {} files", report.passed, report.cases, report.files);
    assert!(report.cases > 0, "a sample without cases proves nothing");
    assert_eq!(report.failed, Vec::<String>::new(), "{} of {} passed", report.passed, report.cases);
    assert_eq!(report.skipped, Vec::new());
    if engine == Engine::Jit {
        assert!(report.compiled_segments > Some(report.cases as u64 / 2), "the JIT ran what it was to run");
    }
}

#[test]
fn state_tests_sample() {
    passes(Kind::StateTests, "state-dev", "cancun", Engine::Interpreter);
}

#[test]
fn state_tests_large_sample() {
    passes(Kind::StateTests, "state-extra-ethereum-tests-dev", "", Engine::Interpreter);
}

#[test]
fn blockchain_tests_sample() {
    passes(Kind::BlockchainTests, "block-dev", "prague", Engine::Interpreter);
}

#[test]
fn blockchain_tests_before_the_merge_sample() {
    passes(Kind::BlockchainTests, "block-dev", "frontier", Engine::Interpreter);
}

#[test]
fn mainnet_blocks() {
    passes(Kind::MainnetBlocks, "mainnet-blocks-dev", "", Engine::Interpreter);
}

#[test]
fn state_tests_sample_compiled() {
    passes(Kind::StateTests, "state-dev", "cancun", Engine::Jit);
}

#[test]
fn state_tests_large_sample_compiled() {
    passes(Kind::StateTests, "state-extra-ethereum-tests-dev", "", Engine::Jit);
}

#[test]
fn blockchain_tests_sample_compiled() {
    passes(Kind::BlockchainTests, "block-dev", "prague", Engine::Jit);
}

#[test]
fn blockchain_tests_before_the_merge_sample_compiled() {
    passes(Kind::BlockchainTests, "block-dev", "frontier", Engine::Jit);
}

#[test]
fn mainnet_blocks_compiled() {
    passes(Kind::MainnetBlocks, "mainnet-blocks-dev", "", Engine::Jit);
}
