//! The contract and this crate agree: `PromiseVerifier.sol`, compiled and committed, judges promises made here.

use alloy_primitives::{Address, B256, Bytes, U256, address, hex, keccak256};
use ironlane_promise::{Leaf, MerkleTree, Promise, Signer, digest, logs_hash};
use ironlane_types::MiniBlockHeader;
use revm::bytecode::Bytecode;
use revm::context::TxEnv;
use revm::database::{CacheDB, EmptyDB};
use revm::state::AccountInfo;
use revm::{Context, ExecuteEvm, MainBuilder, MainContext};

const ARTIFACT: &str = include_str!("../../contracts/promise/PromiseVerifier.json");
const SOURCE: &str = include_str!("../../contracts/promise/PromiseVerifier.sol");
const CONTRACT: Address = address!("00000000000000000000000000000000000000c0");
const SIGNATURE_OF_VERIFY: &str = "verify((uint64,bytes32,uint64,uint64,uint32,uint64,bytes32),\
    (uint64,bytes32,bool,uint64,bytes32),bytes32[],(bytes32,bytes32,uint8),uint64,address)";
const CHAIN: u64 = 31337;

fn artifact() -> serde_json::Value {
    serde_json::from_str(ARTIFACT).expect("the artifact is JSON")
}

fn signer() -> Signer {
    Signer::from_key(&[0x11; 32]).expect("a valid key")
}

fn promise(position: u32, count: u32) -> Promise {
    let leaf = |n: u32| Leaf {
        seq: 500 + u64::from(n),
        tx_hash: keccak256(n.to_be_bytes()),
        success: !n.is_multiple_of(3),
        gas_used: 21_000 + u64::from(n),
        logs_hash: logs_hash(&[]),
    };
    let tree = MerkleTree::new((0..count).map(|n| leaf(n).hash()).collect());
    let header = MiniBlockHeader {
        height: 9,
        parent: B256::repeat_byte(0x55),
        block_number: 3,
        first_seq: 500,
        tx_count: count,
        timestamp_us: 1_700_000_000_000_001,
        txs_root: tree.root(),
    };
    let signature = signer().sign(digest(&header, CHAIN));
    let path = tree.path(position as usize).expect("a leaf");
    Promise { header, signature, leaf: leaf(position), path }
}

/// The call's data: the structs lie in place, the path behind them.
fn call_data(promise: &Promise, chain_id: u64, sequencer: Address) -> Bytes {
    let (header, leaf, signature) = (&promise.header, &promise.leaf, &promise.signature);
    let number = |n: u64| B256::from(U256::from(n));
    let words = [
        number(header.height),
        header.parent,
        number(header.block_number),
        number(header.first_seq),
        number(header.tx_count.into()),
        number(header.timestamp_us),
        header.txs_root,
        number(leaf.seq),
        leaf.tx_hash,
        number(leaf.success.into()),
        number(leaf.gas_used),
        leaf.logs_hash,
        // Where the path lies: behind these eighteen words.
        number(18 * 32),
        B256::from_slice(&signature[..32]),
        B256::from_slice(&signature[32..64]),
        number(signature[64].into()),
        number(chain_id),
        sequencer.into_word(),
        number(promise.path.siblings.len() as u64),
    ];
    let mut data = keccak256(SIGNATURE_OF_VERIFY)[..4].to_vec();
    words.iter().chain(&promise.path.siblings).for_each(|word| data.extend(word));
    data.into()
}

/// What the contract answers; `None` when it reverts.
fn contract_says(promise: &Promise, chain_id: u64, sequencer: Address) -> Option<bool> {
    let code =
        artifact()["deployedBytecode"].as_str().map(hex::decode).expect("a field").expect("hexadecimal");
    let mut db = CacheDB::new(EmptyDB::default());
    let code = Bytecode::new_raw(code.into());
    db.insert_account_info(CONTRACT, AccountInfo::from_bytecode(code));
    let tx = TxEnv::builder().to(CONTRACT).data(call_data(promise, chain_id, sequencer)).gas_limit(1_000_000);
    let mut evm = Context::mainnet().with_db(db).build_mainnet();
    let result = evm.transact(tx.build().expect("a valid call")).expect("it runs").result;
    let output = result.is_success().then(|| result.output().cloned()).flatten()?;
    Some(U256::from_be_slice(&output) == U256::from(1))
}

#[test]
fn the_artifact_was_made_from_the_source_beside_it() {
    let hash = artifact()["sourceKeccak256"].as_str().map(str::to_owned);
    let advice = "PromiseVerifier.sol has changed: run `node build.mjs` in sequencer/contracts/promise";
    assert_eq!(hash, Some(keccak256(SOURCE).to_string()), "{advice}");
}

#[test]
fn the_contract_accepts_every_promise_that_holds() {
    for count in [1, 2, 3, 5, 8, 11] {
        for position in 0..count {
            let promise = promise(position, count);
            assert_eq!(promise.verify(CHAIN, signer().address()), Ok(()));
            let answer = contract_says(&promise, CHAIN, signer().address());
            assert_eq!(answer, Some(true), "{position} of {count}");
        }
    }
}

#[test]
fn the_contract_refuses_what_this_crate_refuses() {
    type Tamper = (&'static str, fn(&mut Promise));
    let tampered: &[Tamper] = &[
        ("height", |p| p.header.height += 1),
        ("parent", |p| p.header.parent.0[0] ^= 1),
        ("block number", |p| p.header.block_number += 1),
        ("first seq", |p| p.header.first_seq += 1),
        ("count", |p| p.header.tx_count += 1),
        ("timestamp", |p| p.header.timestamp_us += 1),
        ("root", |p| p.header.txs_root.0[0] ^= 1),
        ("seq", |p| p.leaf.seq += 1),
        ("seq before the first", |p| p.leaf.seq = 499),
        ("hash", |p| p.leaf.tx_hash.0[0] ^= 1),
        ("status", |p| p.leaf.success = !p.leaf.success),
        ("gas", |p| p.leaf.gas_used += 1),
        ("logs", |p| p.leaf.logs_hash.0[0] ^= 1),
        ("path", |p| p.path.siblings[0].0[0] ^= 1),
        ("short path", |p| p.path.siblings.truncate(1)),
        ("long path", |p| p.path.siblings.push(B256::ZERO)),
        ("r", |p| p.signature[0] ^= 1),
        ("s", |p| p.signature[63] ^= 1),
        ("parity", |p| p.signature[64] ^= 1),
        ("parity as in ecrecover", |p| p.signature[64] += 27),
        ("high s", |p| {
            let order =
                U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
            let s = U256::from_be_slice(&p.signature[32..64]);
            p.signature[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
            p.signature[64] ^= 1;
        }),
    ];
    for (what, tamper) in tampered {
        let mut promise = promise(2, 6);
        tamper(&mut promise);
        assert!(promise.verify(CHAIN, signer().address()).is_err(), "{what}");
        assert_eq!(contract_says(&promise, CHAIN, signer().address()), Some(false), "{what}");
    }
    let good = promise(2, 6);
    assert_eq!(contract_says(&good, CHAIN + 1, signer().address()), Some(false), "another chain");
    assert_eq!(contract_says(&good, CHAIN, CONTRACT), Some(false), "another sequencer");
    assert_eq!(contract_says(&good, CHAIN, Address::ZERO), Some(false), "ecrecover's answer to nonsense");
}
