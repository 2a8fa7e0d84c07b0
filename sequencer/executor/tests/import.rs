//! A whole foreign chain, Frontier to Osaka with its blob forks, and what happens to a block that was tampered with.

mod common;

use ironlane_executor::{ImportError, InvalidBlock, import_chain};

#[test]
fn imports_the_chain_of_the_execution_apis() {
    let Some(folder) = common::corpus("rpc-compat-dev") else { return };
    let (genesis, chain) = (folder.join("genesis.json"), folder.join("chain.rlp"));
    let mut heard = Vec::new();
    let report =
        import_chain(&genesis, &chain, |done, all| heard.push((done, all))).expect("the chain is valid");
    assert_eq!(report.blocks, 54);
    assert_eq!(heard.len(), 54);
    assert!(heard.last().is_some_and(|(done, all)| done == all));

    // One bit of the last block's state root: nothing else may be blamed.
    let mut bytes = std::fs::read(&chain).expect("readable");
    let root = report.state_root;
    let at =
        bytes.windows(32).rposition(|window| window == root.as_slice()).expect("the header holds its root");
    bytes[at] ^= 1;
    let broken = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(broken.path(), &bytes).expect("writable");
    match import_chain(&genesis, broken.path(), |_, _| {}) {
        Err(ImportError::Invalid { number: 54, reason }) => {
            assert!(matches!(*reason, InvalidBlock::Field { field: "stateRoot", .. }), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // Cut anywhere, the file is refused and not half believed.
    std::fs::write(broken.path(), &bytes[..bytes.len() - 1]).expect("writable");
    assert!(matches!(import_chain(&genesis, broken.path(), |_, _| {}), Err(ImportError::Invalid { .. })));
}
