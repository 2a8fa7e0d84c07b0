//! Promises from a sealed mini-block to a verifier: JSON, wire, and every way to tamper.

use alloy_consensus::{Signed, TxLegacy};
use alloy_primitives::{Address, B256, Bytes, Log, Signature, U256, hex, keccak256};
use ironlane_promise::{
    Leaf, MerkleTree, Promise, PromiseError, Signer, WIRE_BYTES_MAX, WIRE_BYTES_MIN, digest, logs_hash,
};
use ironlane_types::{ExecutedTx, MiniBlock, MiniBlockHeader, Outcome, Tx, TxEnvelope};
use proptest::prelude::*;
use std::sync::Arc;

const CHAIN: u64 = 31337;

fn signer() -> Signer {
    let key = hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
    Signer::from_key(&key).expect("a valid key")
}

fn executed(seq: u64) -> Arc<ExecutedTx> {
    let unsigned = TxLegacy { nonce: seq, ..TxLegacy::default() };
    let hash = keccak256(seq.to_be_bytes());
    let signature = Signature::new(U256::from(1), U256::from(2), false);
    let envelope = TxEnvelope::Legacy(Signed::new_unchecked(unsigned, signature, hash));
    let tx = Tx { hash, sender: Address::repeat_byte(9), envelope, raw: Bytes::new() };
    let log = Log::new_unchecked(Address::repeat_byte(7), vec![hash], Bytes::from_static(b"data"));
    let outcome = Outcome {
        success: !seq.is_multiple_of(3),
        gas_used: 21_000 + seq,
        effective_gas_price: 1,
        logs: if seq.is_multiple_of(2) { vec![] } else { vec![log] },
        contract_address: None,
    };
    Arc::new(ExecutedTx {
        seq,
        tx: Arc::new(tx),
        outcome,
        cumulative_gas_used: 0,
        index_in_block: 0,
        first_log_index: 0,
    })
}

fn mini_block(first_seq: u64, count: u32) -> MiniBlock {
    let txs: Vec<_> = (first_seq..first_seq + u64::from(count)).map(executed).collect();
    let leaves = txs.iter().map(|tx| Leaf::of(tx).hash()).collect();
    let header = MiniBlockHeader {
        height: 42,
        parent: B256::repeat_byte(1),
        block_number: 7,
        first_seq,
        tx_count: count,
        timestamp_us: 1_700_000_000_123_456,
        txs_root: MerkleTree::new(leaves).root(),
    };
    let digest = digest(&header, CHAIN);
    MiniBlock { signature: signer().sign(digest), header, digest, txs, state_version: 1 }
}

fn promise(position: usize, count: u32) -> Promise {
    Promise::of(&mini_block(1000, count), position).expect("a position in the mini-block")
}

#[test]
fn every_transaction_of_a_mini_block_has_a_promise_that_holds() {
    let block = mini_block(1000, 7);
    for position in 0..7 {
        let promise = Promise::of(&block, position).expect("a transaction");
        assert_eq!(promise.leaf.seq, 1000 + position as u64);
        assert_eq!(promise.verify(CHAIN, signer().address()), Ok(()));
    }
    assert_eq!(Promise::of(&block, 7), None);
}

#[test]
fn another_chain_and_another_sequencer_are_refused() {
    let promise = promise(2, 5);
    let ours = signer().address();
    let theirs = Address::repeat_byte(3);
    assert!(matches!(promise.verify(CHAIN + 1, ours), Err(PromiseError::WrongSigner { .. })));
    assert_eq!(promise.verify(CHAIN, theirs), Err(PromiseError::WrongSigner { got: ours, wanted: theirs }));
}

#[test]
fn every_field_that_is_tampered_with_is_noticed() {
    type Tamper = (&'static str, fn(&mut Promise));
    let tampered: &[Tamper] = &[
        ("height", |p| p.header.height += 1),
        ("parent", |p| p.header.parent.0[0] ^= 1),
        ("block number", |p| p.header.block_number += 1),
        ("first seq", |p| p.header.first_seq += 1),
        ("count", |p| p.header.tx_count += 1),
        ("timestamp", |p| p.header.timestamp_us += 1),
        ("root", |p| p.header.txs_root.0[31] ^= 1),
        ("signature", |p| p.signature[40] ^= 1),
        ("parity", |p| p.signature[64] ^= 1),
        ("seq", |p| p.leaf.seq -= 1),
        ("hash", |p| p.leaf.tx_hash.0[5] ^= 1),
        ("status", |p| p.leaf.success = !p.leaf.success),
        ("gas", |p| p.leaf.gas_used -= 1),
        ("logs", |p| p.leaf.logs_hash = logs_hash(&[])),
        ("path", |p| p.path.siblings[1].0[0] ^= 1),
        ("short path", |p| p.path.siblings.truncate(1)),
        ("long path", |p| p.path.siblings.push(B256::ZERO)),
    ];
    for (what, tamper) in tampered {
        let mut promise = promise(3, 6);
        tamper(&mut promise);
        assert!(promise.verify(CHAIN, signer().address()).is_err(), "{what}");
    }
    let mut outside = promise(0, 3);
    outside.leaf.seq = 999;
    let error = outside.verify(CHAIN, signer().address());
    assert_eq!(error, Err(PromiseError::NotInMiniBlock { seq: 999, first: 1000, count: 3 }));
}

#[test]
fn an_inner_node_is_no_leaf() {
    // A path one level shorter, with the inner node's children dressed up as a leaf, cannot verify: tags differ and the
    // path's length is fixed by the count.
    let mut shorter = promise(0, 4);
    shorter.header.tx_count = 2;
    shorter.path.siblings.remove(0);
    assert!(shorter.verify(CHAIN, signer().address()).is_err());
}

#[test]
fn json_has_the_documented_shape() {
    let promise = promise(1, 2);
    let json = serde_json::to_value(&promise).expect("serialises");
    assert_eq!(json["header"]["height"], "0x2a");
    assert_eq!(json["header"]["txCount"], "0x2");
    assert_eq!(json["header"]["timestampUs"], "0x60a2418202240");
    assert_eq!(json["transaction"]["seq"], "0x3e9");
    assert_eq!(json["transaction"]["status"], "0x1");
    assert_eq!(json["path"].as_array().map(Vec::len), Some(1));
    let mut wrong = json.clone();
    wrong["transaction"]["status"] = "0x2".into();
    assert!(serde_json::from_value::<Promise>(wrong).is_err());
    let mut long = json;
    long["path"] = vec![format!("{}", B256::ZERO); 33].into();
    assert!(serde_json::from_value::<Promise>(long).is_err());
}

#[test]
fn the_wire_refuses_damage_with_its_kind() {
    let mut bytes = Vec::new();
    promise(2, 3).encode(&mut bytes);
    assert_eq!(bytes.len(), WIRE_BYTES_MIN + 32);
    for cut in 0..bytes.len() {
        assert!(Promise::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let with = |at: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[at] = value;
        Promise::decode(&changed)
    };
    assert_eq!(with(0, 2), Err(PromiseError::UnknownVersion(2)));
    assert_eq!(with(1 + 100 + 65 + 8 + 32, 2), Err(PromiseError::Status(2)));
    assert_eq!(with(WIRE_BYTES_MIN - 1, 33), Err(PromiseError::PathLength { got: 33, wanted: 32 }));
    bytes.push(0);
    let error = PromiseError::Length { got: bytes.len(), wanted: bytes.len() - 1 };
    assert_eq!(Promise::decode(&bytes), Err(error));
}

proptest! {
    #[test]
    fn both_forms_survive_a_round_trip(count in 1u32..40, place in any::<u32>()) {
        let promise = promise((place % count) as usize, count);
        let mut bytes = Vec::new();
        promise.encode(&mut bytes);
        prop_assert!(bytes.len() <= WIRE_BYTES_MAX);
        prop_assert_eq!(Promise::decode(&bytes), Ok(promise.clone()));
        let json = serde_json::to_string(&promise).expect("serialises");
        prop_assert_eq!(serde_json::from_str::<Promise>(&json).expect("reads back"), promise);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        if let Ok(promise) = Promise::decode(&bytes) {
            prop_assert!(promise.verify(CHAIN, signer().address()).is_err());
            let mut again = Vec::new();
            promise.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}
