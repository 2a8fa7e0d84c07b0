//! The development chain, genesis files, and blocks that our own sequencer makes, imported again as foreign ones.

#[path = "common/chain.rs"]
mod chain;

use alloy_consensus::{Block, BlockBody, Transaction, proofs};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, keccak256};
use chain::{Call, executor, next};
use ironlane_executor::{
    BlockHashes, ChainSpec, DEV_KEYS, Executor, ExecutorConfig, Importer, InvalidBlock, OracleTrie,
    SpecError, StateRoot, decode_transaction, next_context, revm::primitives::hardfork::SpecId, seal_block,
};
use ironlane_types::{SealedBlock, Tx};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::sync::Arc;

const PROXY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");

fn secret(index: usize) -> SecretKey {
    SecretKey::from_byte_array(DEV_KEYS[index].1.0).expect("a key")
}

fn signed(call: Call, index: usize) -> Arc<Tx> {
    let key = secret(index);
    let envelope = call.envelope(|hash| {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &key);
        let (id, bytes) = signature.serialize_compact();
        Signature::from_bytes_and_parity(&bytes, i32::from(id) == 1)
    });
    use alloy_eips::Encodable2718;
    let tx = decode_transaction(Bytes::from(envelope.encoded_2718()), SpecId::OSAKA)
        .expect("canonical and signed");
    assert_eq!(tx.sender, DEV_KEYS[index].0);
    Arc::new(tx)
}

fn rlp(block: &SealedBlock) -> Vec<u8> {
    let body = BlockBody {
        transactions: block.txs.iter().map(|tx| tx.tx.envelope.clone()).collect(),
        ommers: block.ommers.clone(),
        withdrawals: block.withdrawals.clone().map(Into::into),
    };
    alloy_rlp::encode(Block::new(block.header.clone(), body))
}

#[test]
fn development_keys_belong_to_their_addresses() {
    for (index, (address, _)) in DEV_KEYS.iter().enumerate() {
        let public = PublicKey::from_secret_key(SECP256K1, &secret(index)).serialize_uncompressed();
        assert_eq!(Address::from_slice(&keccak256(&public[1..])[12..]), *address);
    }
}

#[test]
fn the_development_chain_is_always_the_same() {
    let spec = ChainSpec::dev();
    assert_eq!(spec.chain_id, 31337);
    assert_eq!(spec.spec_id(1, 1), SpecId::default(), "the newest stable fork");
    assert_eq!(spec.genesis.hash, ChainSpec::dev().genesis.hash);
    let header = &spec.genesis.header;
    assert_eq!((header.gas_limit, header.base_fee_per_gas), (30_000_000_000, Some(1_000_000_000)));
    assert_eq!(header.hash_slow(), spec.genesis.hash);
}

/// Three sequencer blocks: transfers, a deployment through the proxy, a call that fails.
fn sequence(spec: &Arc<ChainSpec>) -> Vec<SealedBlock> {
    let mut executor: Executor = executor(spec, ExecutorConfig::default());
    let mut trie = OracleTrie::default();
    trie.apply(&spec.genesis.alloc);
    let (mut parent, mut parent_hash) = (spec.genesis.header.clone(), spec.genesis.hash);
    // Init code that returns the five bytes 60015ff3fd; the salt is zero.
    let init = [&[0x64, 0x60, 0x01, 0x5f, 0xf3, 0xfd, 0x5f, 0x52, 0x60, 5, 0x60, 27, 0xf3][..]].concat();
    let deployment = [&[0u8; 32][..], &init].concat();
    let created = PROXY.create2(B256::ZERO, keccak256(&init));
    let blocks = [
        vec![
            (0, Call { value: U256::from(5), ..Call::plain(Address::repeat_byte(0x77), 0) }),
            (1, Call { kind: 0, value: U256::from(7), ..Call::plain(DEV_KEYS[0].0, 0) }),
            (2, Call { input: deployment.into(), ..Call::plain(PROXY, 0) }),
        ],
        vec![
            (2, Call { kind: 1, input: vec![1].into(), ..Call::plain(created, 1) }),
            (3, Call { to: TxKind::Create, input: vec![0xfe].into(), ..Call::plain(Address::ZERO, 0) }),
        ],
        vec![],
    ];
    blocks
        .into_iter()
        .map(|calls| {
            executor.open_block(next_context(spec, &parent, next(0, DEV_KEYS[9].0))).expect("opens");
            for (index, call) in calls {
                executor.execute(signed(call, index)).expect("valid");
                executor.seal_mini_block().expect("seals");
            }
            let closed = executor.close_block().expect("closes");
            trie.apply(&closed.delta);
            let sealed = seal_block(closed, parent_hash, trie.root());
            (parent, parent_hash) = (sealed.header.clone(), sealed.hash);
            executor.hashes().set(parent.number, parent_hash);
            sealed
        })
        .collect()
}

fn importer(spec: &Arc<ChainSpec>) -> Importer<OracleTrie> {
    Importer::new(spec.clone(), chain::store(), OracleTrie::default(), ExecutorConfig::default())
        .expect("its genesis")
}

#[test]
fn own_blocks_are_valid_foreign_blocks() {
    let spec = Arc::new(ChainSpec::dev());
    let blocks = sequence(&spec);
    assert!(blocks[0].txs.iter().all(|tx| tx.outcome.success));
    assert!(blocks[1].txs[0].outcome.success, "the contract that the proxy deployed answers");
    assert!(!blocks[1].txs[1].outcome.success);
    let mut importer = importer(&spec);
    for block in &blocks {
        let imported = importer.import(&rlp(block)).expect("valid");
        assert_eq!(imported.hash, block.hash);
    }
    let code = importer.executor().store().account(&PROXY).map(|info| info.code_hash);
    let proxy = "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";
    assert_eq!(code, Some(keccak256(alloy_primitives::hex::decode(proxy).unwrap())));
    assert_eq!(
        importer.executor().store().account(&Address::repeat_byte(0x77)).unwrap().balance,
        U256::from(5)
    );
}

#[test]
fn every_header_field_is_compared_and_a_refused_block_leaves_nothing_behind() {
    type Change = (&'static str, fn(&mut alloy_consensus::Header));
    const CHANGES: [Change; 16] = [
        ("number", |h| h.number += 1),
        ("timestamp", |h| h.timestamp = 0),
        ("extraData", |h| h.extra_data = vec![0; 33].into()),
        ("gasLimit", |h| h.gas_limit *= 2),
        ("gasUsed", |h| h.gas_used += 1),
        ("difficulty", |h| h.difficulty = U256::ONE),
        ("nonce", |h| h.nonce = [1; 8].into()),
        ("baseFeePerGas", |h| h.base_fee_per_gas = Some(1)),
        ("withdrawalsRoot", |h| h.withdrawals_root = Some(B256::ZERO)),
        ("blobGasUsed", |h| h.blob_gas_used = Some(1)),
        ("excessBlobGas", |h| h.excess_blob_gas = Some(1)),
        ("requestsHash", |h| h.requests_hash = Some(B256::ZERO)),
        ("transactionsRoot", |h| h.transactions_root = B256::ZERO),
        ("receiptsRoot", |h| h.receipts_root = B256::ZERO),
        ("logsBloom", |h| h.logs_bloom.0[3] = 1),
        ("stateRoot", |h| h.state_root = B256::ZERO),
    ];
    let spec = Arc::new(ChainSpec::dev());
    let blocks = sequence(&spec);
    let mut importer = importer(&spec);
    for (name, change) in CHANGES {
        let mut block = blocks[0].clone();
        change(&mut block.header);
        match importer.import(&rlp(&block)) {
            Err(InvalidBlock::Field { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(importer.head_hash(), spec.genesis.hash);
    }
    let mut ommer = blocks[0].clone();
    ommer.ommers.push(blocks[0].header.clone());
    ommer.header.ommers_hash = proofs::calculate_ommers_root(&ommer.ommers);
    assert!(matches!(importer.import(&rlp(&ommer)), Err(InvalidBlock::Field { field: "sha3Uncles", .. })));
    assert!(matches!(importer.import(&rlp(&blocks[1])), Err(InvalidBlock::UnknownParent(_))));
    assert!(matches!(importer.import(&rlp(&blocks[0])[1..]), Err(InvalidBlock::Rlp(_))));
    assert!(matches!(importer.import(&[]), Err(InvalidBlock::Rlp(_))));
    // After all these the real blocks are still what comes next.
    for block in &blocks {
        importer.import(&rlp(block)).expect("valid");
    }
}

#[test]
fn a_transaction_out_of_place_is_named() {
    let spec = Arc::new(ChainSpec::dev());
    let mut block = sequence(&spec)[1].clone();
    let first = sequence(&spec)[0].clone();
    block.txs.swap(0, 1);
    block.txs.push(block.txs[0].clone());
    let envelopes: Vec<_> = block.txs.iter().map(|tx| tx.tx.envelope.clone()).collect();
    block.header.transactions_root = proofs::calculate_transaction_root(&envelopes);
    let mut importer = importer(&spec);
    importer.import(&rlp(&first)).expect("valid");
    match importer.import(&rlp(&block)) {
        Err(InvalidBlock::Transaction { index: 2, reason }) => assert!(reason.contains("nonce"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

const GENESIS: &str = r#"{
    "config": {"chainId": 7, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0, "byzantiumBlock": 0,
        "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 5,
        "terminalTotalDifficulty": 100, "shanghaiTime": 1000, "cancunTime": 2000, "pragueTime": 3000,
        "blobSchedule": {"cancun": {"target": 1, "max": 2, "baseFeeUpdateFraction": 3}},
        "ironlane": {"blockRlpSizeLimit": false}},
    "nonce": "0x42", "timestamp": "0x0", "extraData": "0x", "gasLimit": "0x1388", "difficulty": "0x20000",
    "mixHash": "0x0000000000000000000000000000000000000000000000000000000000000000",
    "coinbase": "0x0000000000000000000000000000000000000000",
    "alloc": {"0000000000000000000000000000000000000001": {"balance": "1"},
        "0x00000000000000000000000000000000000000aa": {"balance": "0x10", "nonce": "0x1", "code": "0x00",
            "storage": {"0x01": "0x02", "0x03": "0x0"}}}
}"#;

#[test]
fn a_genesis_in_geths_format_is_read() {
    let spec = ChainSpec::from_genesis_json(GENESIS.as_bytes()).expect("a genesis");
    assert_eq!(spec.chain_id, 7);
    assert!(!spec.block_rlp_limit);
    assert_eq!(spec.spec_id(0, 0), SpecId::BERLIN);
    assert_eq!(spec.spec_id(5, 0), SpecId::LONDON);
    assert_eq!(spec.parameters_at(6, 10, U256::ZERO).spec_id, SpecId::MERGE);
    assert_eq!(spec.spec_id(9, 3_000), SpecId::PRAGUE);
    assert_eq!(spec.blob_params(1_999), None);
    assert_eq!(spec.blob_params(2_000).map(|p| (p.target_blob_count, p.max_blob_count)), Some((1, 2)));
    assert_eq!(spec.blob_params(3_000).map(|p| p.max_blob_count), Some(9));
    let account = &spec.genesis.alloc.accounts[1];
    assert_eq!(account.slots, vec![(U256::ONE, U256::from(2))], "a zero is no slot");
    assert_eq!(spec.genesis.header.nonce, alloy_primitives::B64::from(0x42u64));
}

#[test]
fn a_bad_genesis_is_refused_with_the_name_of_the_field() {
    let refused = |from: &str, to: &str| {
        assert!(GENESIS.contains(from), "{from}");
        ChainSpec::from_genesis_json(GENESIS.replace(from, to).as_bytes()).expect_err("refused")
    };
    for (from, to, field) in [
        ("\"chainId\": 7", "\"chainId\": true", "config.chainId"),
        ("\"chainId\": 7, ", "", "config.chainId"),
        ("\"gasLimit\": \"0x1388\"", "\"gasLimit\": \"0x10000000000000000\"", "gasLimit"),
        (
            "\"balance\": \"1\"",
            "\"balance\": \"one\"",
            "alloc.0000000000000000000000000000000000000001.balance",
        ),
        ("\"code\": \"0x00\"", "\"code\": \"0xzz\"", "alloc.0x00000000000000000000000000000000000000aa.code"),
        ("\"blockRlpSizeLimit\": false", "\"blockRlpSizeLimit\": 1", "config.ironlane.blockRlpSizeLimit"),
        ("\"blockRlpSizeLimit\"", "\"speed\"", "config.ironlane.speed"),
        (
            "\"baseFeeUpdateFraction\": 3",
            "\"baseFeeUpdateFraction\": 0",
            "config.blobSchedule.cancun.baseFeeUpdateFraction",
        ),
    ] {
        match refused(from, to) {
            SpecError::Field { field: found, .. } => assert_eq!(found, field),
            other => panic!("{to}: {other}"),
        }
    }
    assert!(matches!(refused("\"cancunTime\": 2000", "\"cancunTime\": 4000"), SpecError::ForkOrder { .. }));
    assert!(matches!(refused("\"cancunTime\"", "\"amsterdamTime\""), SpecError::UnknownFork(_)));
    assert!(matches!(ChainSpec::from_genesis_json(b"{"), Err(SpecError::Json(_))));
    assert!(matches!(ChainSpec::from_genesis_json(b"[]"), Err(SpecError::Field { .. })));
}

#[test]
fn a_discarded_block_is_as_if_it_had_never_been() {
    let spec = Arc::new(ChainSpec::dev());
    let mut executor: Executor = executor(&spec, ExecutorConfig::default());
    let context = next_context(&spec, &spec.genesis.header, next(1, Address::ZERO));
    let call =
        || Call { value: U256::from(9), ..Call::plain(Address::repeat_byte(1), 0) }.from(DEV_KEYS[0].0);
    executor.open_block(context.clone()).expect("opens");
    executor.execute(call()).expect("valid");
    executor.finish_block().expect("finishes");
    executor.discard_block();
    assert_eq!(executor.next_seq(), 0);
    assert_eq!(executor.store().account(&Address::repeat_byte(1)), None);
    executor.open_block(context).expect("opens again");
    let executed = executor.execute(call()).expect("the nonce is free");
    assert_eq!((executed.seq, executed.index_in_block), (0, 0));
    let closed = executor.finish_block().expect("finishes");
    assert_eq!(executor.commit_block(), Ok(closed.state_version));
    assert_eq!(
        executor.store().account(&Address::repeat_byte(1)).map(|info| info.balance),
        Some(U256::from(9))
    );
    assert_eq!(executed.tx.envelope.nonce(), 0);
}

#[test]
fn a_full_block_refuses_what_does_not_fit() {
    let dev = ChainSpec::dev();
    let header = alloy_consensus::Header { gas_limit: 50_000, ..dev.genesis.header.clone() };
    let spec = Arc::new(ChainSpec::new(31337, dev.forks, header, dev.genesis.alloc));
    let mut executor =
        Executor::new(spec.clone(), chain::store(), BlockHashes::new(), ExecutorConfig::default());
    executor.store_mut().apply(&spec.genesis.alloc).expect("room");
    executor.store_mut().seal();
    executor.hashes().set(0, spec.genesis.hash);
    executor.open_block(next_context(&spec, &spec.genesis.header, next(1, Address::ZERO))).expect("opens");
    let call =
        |nonce| Call { gas_limit: 21_000, ..Call::plain(Address::repeat_byte(1), nonce) }.from(DEV_KEYS[0].0);
    for nonce in 0..2 {
        executor.execute(call(nonce)).expect("fits");
    }
    assert_eq!(executor.gas_left(), 8_000);
    assert_eq!(executor.execute(call(2)).map(|_| ()), Err(ironlane_types::Reject::GasAboveBlock));
    assert_eq!(executor.tx_count(), 2);
}
