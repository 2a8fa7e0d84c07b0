//! Signed transactions and malformed bytes from the Ethereum tests, and any transaction of our own: what is decoded is
//! what alloy decodes, and its signer is the one expected.

#[path = "../../../fpga/tests/corpus/mod.rs"]
mod corpus;
mod rig;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{TxEip1559, TxEip2930, TxLegacy};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use ironlane_pool::{AccountSource, Limits, PoolAccount, PoolConfig, Rules};
use ironlane_types::{Reject, TxEnvelope};
use proptest::prelude::*;
use rig::*;

/// Everybody is rich and has the nonce that is asked for next.
fn permissive(chain_id: u64, rules: Rules) -> PoolConfig {
    let limits = Limits { fee_cap_min_wei: 0, ..Limits::default() };
    PoolConfig { unprotected_allowed: true, rules, limits, ..PoolConfig::new(chain_id, 0, u64::MAX) }
}

#[test]
fn senders_of_signed_transactions() {
    let Some(folder) = corpus::unpacked("crypto-dev") else { return };
    let text = corpus::unxz(&folder.join("crypto/ecrecover/eest-tx-sender-dev.jsonl.xz"));
    let (mut taken, mut blobs, mut refused) = (0, 0, std::collections::BTreeMap::<Reject, usize>::new());
    let mut total = 0;
    for line in text.lines() {
        total += 1;
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let raw: Bytes = case["tx"].as_str().unwrap().parse().unwrap();
        let sender: Address = case["sender"].as_str().unwrap().parse().unwrap();
        // Every transaction of these tests is signed for chain 1, some on purpose for another.
        let mut rig = Rig::new(permissive(1, Rules { tx_gas_max: None, ..Rules::PRAGUE }));
        let decoded = TxEnvelope::decode_2718_exact(&raw);
        let nonce = decoded.as_ref().map_or(0, alloy_consensus::Transaction::nonce);
        rig.ledger.edit(sender, |a| (a.nonce, a.balance) = (nonce, U256::MAX));
        match rig.send(raw.clone()) {
            Ok(hash) => {
                taken += 1;
                let tx = rig.admission.get(&hash).unwrap().tx;
                assert_eq!(tx.sender, sender, "{raw}");
                assert_eq!(tx.envelope, decoded.unwrap(), "{raw}");
                assert_eq!(tx.envelope.encoded_2718(), raw);
                assert_eq!(tx.hash, *tx.envelope.hash());
            }
            Err(Reject::BlobUnsupported) => {
                assert_eq!(raw[0], 3);
                blobs += 1;
            }
            Err(reason) => {
                // Each refusal must be one that the test's author expects, or that he could not see without a fork.
                let expected = case["expectException"].as_str().unwrap_or("");
                assert!(
                    !expected.is_empty()
                        || matches!(reason, Reject::WrongChainId | Reject::EmptyAuthorizations),
                    "{reason:?} for a transaction that is in order: {line}"
                );
                *refused.entry(reason).or_default() += 1;
            }
        }
    }
    println!("{total} transactions: {taken} taken, {blobs} with blobs, refused {refused:?}");
    assert_eq!(total, 5_709);
    assert!(taken > 3_000, "{taken} taken, {blobs} with blobs, refused {refused:?}");
}

/// geth's TransactionTests: bytes, and for each fork the sender and hash or the exception.
#[test]
fn transaction_tests() {
    let Some(folder) = corpus::unpacked("crypto-dev") else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder.join("crypto/transaction-tests"))
        .unwrap()
        .flat_map(|kind| std::fs::read_dir(kind.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let (mut valid, mut invalid, mut beyond) = (0, 0, vec![]);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (name, case) in cases.as_object().unwrap() {
            let Ok(raw) = case["txbytes"].as_str().unwrap().parse::<Bytes>() else { continue };
            // The newest fork that every file of this suite covers.
            let result = &case["result"]["Cancun"];
            let sender = result["sender"].as_str().map(|s| s.parse::<Address>().unwrap());
            let mut rig = Rig::new(permissive(1, Rules::SHANGHAI));
            let nonce =
                TxEnvelope::decode_2718_exact(&raw).map_or(0, |tx| alloy_consensus::Transaction::nonce(&tx));
            if let Some(sender) = sender {
                rig.ledger.edit(sender, |a| (a.nonce, a.balance) = (nonce, U256::MAX));
            }
            match (rig.send(raw.clone()), sender) {
                (Ok(hash), Some(sender)) => {
                    assert_eq!(rig.admission.get(&hash).unwrap().tx.sender, sender, "{name}");
                    assert_eq!(hash, result["hash"].as_str().unwrap().parse::<B256>().unwrap(), "{name}");
                    valid += 1;
                }
                (Ok(_), None) => panic!("{name} was taken, though {}", result["exception"]),
                (Err(_), None) => invalid += 1,
                // What the suite calls valid and nobody could pay for or send here.
                (Err(reason), Some(_)) => beyond.push((name.clone(), reason)),
            }
        }
    }
    println!("{valid} valid, {invalid} invalid, refused though valid: {beyond:?}");
    for (name, reason) in &beyond {
        assert!(
            matches!(reason, Reject::InsufficientFunds | Reject::WrongChainId | Reject::TooLarge),
            "{name}: {reason:?}"
        );
    }
    assert!(valid > 40 && invalid > 60, "{valid} valid, {invalid} invalid");
}

fn any_tx() -> impl Strategy<Value = Bytes> {
    let number = prop_oneof![0u64..300, any::<u64>()];
    let list =
        prop::collection::vec((any::<[u8; 20]>(), prop::collection::vec(any::<[u8; 32]>(), 0..3)), 0..4);
    let numbers = (number.clone(), number.clone(), number.clone(), any::<[u8; 32]>(), number.clone());
    let rest = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..300), list, 0u8..4, 0u8..32);
    (numbers, rest).prop_map(
        |((nonce, fee, gas_limit, value, authorized), (create, data, list, kind, shift))| {
            let wallet = Wallet::new(fee % 5);
            let value = U256::from_be_bytes(value) >> (8 * usize::from(shift));
            let to = if create { TxKind::Create } else { TxKind::Call(Address::repeat_byte(fee as u8)) };
            let input: Bytes = data.into();
            let item = |(a, k): ([u8; 20], Vec<[u8; 32]>)| AccessListItem {
                address: a.into(),
                storage_keys: k.into_iter().map(B256::from).collect(),
            };
            let access_list = AccessList(list.into_iter().map(item).collect());
            let (max_fee_per_gas, max_priority_fee_per_gas) = (u128::from(fee) << 3, u128::from(fee));
            match kind {
                0 => {
                    let chain_id = (fee % 2 == 0).then_some(CHAIN_ID);
                    let gas_price = max_fee_per_gas;
                    wallet.sign(TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input })
                }
                1 => wallet.sign(TxEip2930 {
                    nonce,
                    gas_price: max_fee_per_gas,
                    gas_limit,
                    to,
                    value,
                    input,
                    access_list,
                    ..eip2930()
                }),
                2 => wallet.sign(TxEip1559 {
                    nonce,
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    gas_limit,
                    to,
                    value,
                    input,
                    access_list,
                    ..eip1559()
                }),
                _ => {
                    let mut tx =
                        eip7702(vec![wallet.authorization(authorized), Wallet::new(3).authorization(nonce)]);
                    (tx.nonce, tx.gas_limit, tx.value, tx.input) = (nonce, gas_limit, value, input);
                    (tx.max_fee_per_gas, tx.access_list) = (max_fee_per_gas, access_list);
                    wallet.sign(tx)
                }
            }
        },
    )
}

/// Alloy's decoder, made strict: encoding again must give the same bytes.
fn alloy(raw: &[u8]) -> Option<TxEnvelope> {
    let tx = TxEnvelope::decode_2718_exact(raw).ok()?;
    (tx.encoded_2718() == raw).then_some(tx)
}

fn rich_rig(sender: Option<Address>, nonce: u64) -> Rig {
    let rules = Rules { init_code_bytes_max: None, floor_gas: false, ..Rules::PRAGUE };
    let rig = Rig::new(permissive(CHAIN_ID, rules));
    if let Some(sender) = sender {
        rig.ledger.edit(sender, |a| *a = PoolAccount { nonce, balance: U256::MAX, ..Default::default() });
        assert!(rig.ledger.account(&sender).is_some());
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever alloy decodes canonically is decoded to the same envelope and the same signer.
    #[test]
    fn any_signed_transaction(raw in any_tx()) {
        let expected = alloy(&raw).expect("alloy reads what alloy wrote");
        let sender = expected.recover_signer().unwrap();
        let mut rig = rich_rig(Some(sender), alloy_consensus::Transaction::nonce(&expected));
        match rig.send(raw.clone()) {
            Ok(hash) => {
                let tx = rig.admission.get(&hash).unwrap().tx;
                prop_assert_eq!(tx.sender, sender);
                prop_assert_eq!(&tx.envelope, &expected);
                prop_assert_eq!(&tx.raw, &raw);
            }
            Err(reason) => prop_assert!(
                matches!(reason, Reject::IntrinsicGas | Reject::InsufficientFunds | Reject::NonceMax | Reject::TipAboveFeeCap),
                "{:?}", reason
            ),
        }
    }

    /// Bytes changed anywhere are never taken unless strict alloy takes them as well, and never bring anything down.
    #[test]
    fn any_change_of_bytes(raw in any_tx(), at in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0u8..4) {
        let mut bytes = raw.to_vec();
        let index = at.index(bytes.len());
        match kind {
            0 => bytes[index] = byte,
            1 => bytes.insert(index, byte),
            2 => drop(bytes.remove(index)),
            _ => bytes.truncate(index),
        }
        let mut rig = rich_rig(None, 0);
        let expected = alloy(&bytes);
        match rig.send(bytes.clone().into()) {
            Ok(_) => prop_assert!(expected.is_some()),
            // Decoded by both and refused for another reason, or by neither.
            Err(Reject::Malformed | Reject::UnknownType) => {
                prop_assert!(expected.is_none(), "alloy takes {}", alloy_primitives::hex::encode(&bytes));
            }
            Err(_) => {}
        }
    }

    /// Noise never brings anything down.
    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut rig = rich_rig(None, 0);
        let _ = rig.send(bytes.into());
    }
}
