//! The request and response pairs of the execution-apis, against a server over their own chain.

mod common;

use common::{Server, corpus_chain};

/// Before Byzantium a receipt holds the state root after its transaction in place of a status. A sequencer's own blocks
/// never do, and the history keeps statuses only.
const OLD_RECEIPT: &str = "receipts of before Byzantium hold a state root, which this node does not keep";

/// Pairs that differ, with the reason. Anything else that differs fails the test, and so does one that no longer does.
const EXPECTED_DIFFERENCES: &[(&str, &str)] = &[
    ("eth_getBlockReceipts/get-block-receipts-by-hash.io", OLD_RECEIPT),
    ("eth_getBlockReceipts/get-block-receipts-n.io", OLD_RECEIPT),
    ("eth_getTransactionReceipt/get-legacy-contract.io", OLD_RECEIPT),
    ("eth_getTransactionReceipt/get-legacy-receipt.io", OLD_RECEIPT),
    ("eth_sendRawTransaction/send-blob-tx.io", "the sequencer takes no blob transactions"),
];

#[test]
fn answers_are_those_of_the_execution_apis() {
    let Some((chain, folder)) = corpus_chain() else { return };
    let server = Server::start(&chain);
    let report = ironlane_rpc::conformance::run(&format!("http://{}", server.address), &folder).unwrap();
    for difference in &report.differences {
        println!("{difference}");
    }
    println!("{} of {} pairs, {} left out", report.passed, report.cases, report.skipped.len());
    let expected: Vec<_> = EXPECTED_DIFFERENCES.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(report.failed, expected, "{:#?}", report.differences);
    assert_eq!(report.passed + report.failed.len() as u64, report.cases);
    assert!(report.cases > 70, "the corpus was read");
}

#[test]
fn a_folder_without_pairs_and_an_address_without_sense_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    let refused = |url: &str| ironlane_rpc::conformance::run(url, empty.path()).unwrap_err().to_string();
    assert!(refused("http://127.0.0.1:1").contains("no .io file"));
    assert!(refused("ftp://x").contains("http://host:port"));
}
