//! Samples of the conformance corpora, so that a change that breaks the rules is seen within seconds. The whole corpora
//! run through `ironlane conformance`; here IRONLANE_CORPUS_WHOLE=1 does the same.

mod common;

use ironlane_executor::conformance::{Engine, Kind, run};
use std::path::Path;

fn passes(kind: Kind, archive: &str, sample: &str) {
    let Some(folder) = common::corpus(archive) else { return };
    let whole = std::env::var_os("IRONLANE_CORPUS_WHOLE").is_some();
    let folder = if whole { folder } else { folder.join(sample) };
    let report =
        run(kind, Path::new(&folder), Engine::Interpreter, &|_, _| {}).expect("the corpus is readable");
    println!("{archive}/{sample}: {} of {} cases in {} files", report.passed, report.cases, report.files);
    assert!(report.cases > 0, "a sample without cases proves nothing");
    assert_eq!(report.failed, Vec::<String>::new(), "{} of {} passed", report.passed, report.cases);
    assert_eq!(report.skipped, Vec::new());
}

#[test]
fn state_tests_sample() {
    passes(Kind::StateTests, "state-dev", "cancun");
}

#[test]
fn state_tests_large_sample() {
    passes(Kind::StateTests, "state-extra-ethereum-tests-dev", "");
}

#[test]
fn blockchain_tests_sample() {
    passes(Kind::BlockchainTests, "block-dev", "prague");
}

#[test]
fn blockchain_tests_before_the_merge_sample() {
    passes(Kind::BlockchainTests, "block-dev", "frontier");
}

#[test]
fn mainnet_blocks() {
    passes(Kind::MainnetBlocks, "mainnet-blocks-dev", "");
}
