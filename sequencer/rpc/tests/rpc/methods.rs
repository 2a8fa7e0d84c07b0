//! What each method answers, on a chain whose every block the test made.

use crate::common::*;
use alloy_primitives::{Address, B256, TxKind, U256, hex};
use ironlane_promise::Promise;
use ironlane_state::StateConfig;
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, Reject, StateDelta};
use serde_json::{Value, json};

/// Stores 7 in slot 1 and logs 0x2a under topic 0x11.
const EMITTER: &[u8] = &hex!("6007600155602a5f52601160205fa100");
/// Reverts without data.
const REVERTER: &[u8] = &hex!("5f5ffd");

fn send(server: &Server, raw: &[u8]) -> B256 {
    serde_json::from_value(server.call("eth_sendRawTransaction", json!([hex::encode_prefixed(raw)]))).unwrap()
}

/// A chain with a contract in block 1, a call of it and a transfer in block 2.
struct Story {
    chain: Chain,
    server: Server,
    contract: Address,
    call: B256,
    transfer: B256,
}

fn story() -> Story {
    let mut chain = Chain::dev();
    let server = Server::start(&chain);
    send(&server, &signed(ALICE, 0, TxKind::Create, 0, &deploy_code(EMITTER)));
    chain.block();
    let contract = account(ALICE).create(0);
    let call = send(&server, &signed(ALICE, 1, contract.into(), 0, &[]));
    let transfer = send(&server, &signed(BOB, 0, account(5).into(), 12_345, &[]));
    chain.block();
    Story { chain, server, contract, call, transfer }
}

#[test]
fn the_node_says_who_it_is() {
    let chain = Chain::dev();
    let server = Server::start(&chain);
    for (method, params, expected) in [
        ("web3_clientVersion", json!([]), json!("ironlane/test")),
        (
            "web3_sha3",
            json!(["0x68656c6c6f"]),
            json!("0x1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8"),
        ),
        ("net_version", json!([]), json!("31337")),
        ("net_listening", json!([]), json!(true)),
        ("net_peerCount", json!([]), json!("0x0")),
        ("eth_chainId", json!([]), json!("0x7a69")),
        ("eth_syncing", json!([]), json!(false)),
        ("eth_blockNumber", json!([]), json!("0x0")),
        ("eth_accounts", json!([]), json!([])),
        ("ironlane_sequencer", json!([]), json!(chain.signer.address())),
    ] {
        assert_eq!(server.call(method, params), expected, "{method}");
    }
    assert_eq!(server.fail("eth_nothing", json!([])).0, -32601);
    assert_eq!(server.fail("eth_chainId", json!([1])), (-32602, "too many arguments, want at most 0".into()));
    let config = server.call("eth_config", json!([]));
    assert_eq!(config["current"]["chainId"], "0x7a69");
    assert_eq!(config["next"], Value::Null);
    assert_eq!(config["current"]["precompiles"]["P256VERIFY"], "0x0000000000000000000000000000000000000100");
}

#[test]
fn accounts_are_read_at_any_block_that_is_kept() {
    let Story { server, contract, .. } = story();
    let balance = |block: Value| server.call("eth_getBalance", json!([account(5), block]));
    let before = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    assert_eq!(balance(json!("latest")), json!(format!("{:#x}", before + U256::from(12_345))));
    assert_eq!(balance(json!("0x1")), json!(format!("{before:#x}")));
    assert_eq!(balance(json!("earliest")), balance(json!("0x0")));
    assert_eq!(balance(json!("finalized")), balance(json!("latest")));
    let hash = server.call("eth_getBlockByNumber", json!(["0x1", false]))["hash"].clone();
    assert_eq!(balance(hash.clone()), balance(json!("0x1")));
    assert_eq!(balance(json!({ "blockHash": hash })), balance(json!("0x1")));
    assert_eq!(server.call("eth_getCode", json!([contract, "latest"])), json!(hex::encode_prefixed(EMITTER)));
    assert_eq!(server.call("eth_getCode", json!([contract, "0x0"])), "0x");
    let slot = |block: &str| server.call("eth_getStorageAt", json!([contract, "0x1", block]));
    assert_eq!(slot("latest"), json!(B256::from(U256::from(7))));
    assert_eq!(slot("0x1"), json!(B256::ZERO));
    let values =
        server.call("eth_getStorageValues", json!([{ contract.to_string(): ["0x1", "0x2"] }, "latest"]));
    assert_eq!(values[format!("{contract:?}")], json!([B256::from(U256::from(7)), B256::ZERO]));
    assert_eq!(
        server.fail("eth_getBalance", json!([account(5), "0x63"])),
        (-32000, "header not found".into())
    );
    assert_eq!(
        server.fail("eth_getBalance", json!([account(5), B256::repeat_byte(9)])).1,
        "header for hash not found"
    );
    assert_eq!(server.fail("eth_getBalance", json!([])).1, "missing value for required argument 0");
}

#[test]
fn a_state_that_is_no_longer_kept_is_a_clear_error() {
    let mut chain = Chain::dev_with(StateConfig {
        huge_pages: false,
        undo_bytes: 0,
        max_accounts: 1 << 16,
        max_slots: 1 << 16,
        ..StateConfig::default()
    });
    let server = Server::start(&chain);
    send(&server, &signed(ALICE, 0, account(5).into(), 1, &[]));
    chain.block();
    assert_ne!(server.call("eth_getBalance", json!([account(5), "0x1"])), "0x0");
    // The store keeps two chunks of old values at least: overwrite more than they hold.
    for round in 0..5u64 {
        let accounts = (0..16_000u64).map(|n| AccountDelta {
            address: Address::left_padding_from(&(n + 1_000).to_be_bytes()),
            info: Some(AccountInfo { nonce: round, balance: U256::from(round), code_hash: KECCAK_EMPTY }),
            storage_wiped: false,
            slots: Vec::new(),
        });
        let delta = StateDelta { accounts: accounts.collect(), codes: Vec::new() };
        let store = chain.executor.store_mut();
        store.apply(&delta).unwrap();
        let version = store.seal();
        chain.history.set_durable_state_version(version);
    }
    let (code, message) = server.fail("eth_getBalance", json!([account(5), "0x1"]));
    assert_eq!(code, -32000);
    assert!(message.starts_with("missing trie node: the state of block 1 is no longer kept"), "{message}");
    server.call("eth_getBalance", json!([account(5), "latest"]));
}

#[test]
fn nonces_count_the_pool_when_pending_is_asked() {
    let Story { server, .. } = story();
    let nonce = |block: &str| server.call("eth_getTransactionCount", json!([account(ALICE), block]));
    assert_eq!((nonce("latest"), nonce("pending"), nonce("0x1")), (json!("0x2"), json!("0x2"), json!("0x1")));
    send(&server, &signed(ALICE, 2, account(5).into(), 1, &[]));
    assert_eq!((nonce("latest"), nonce("pending")), (json!("0x2"), json!("0x3")));
}

#[test]
fn blocks_transactions_and_receipts_agree_with_one_another() {
    let Story { chain, server, contract, call, transfer } = story();
    let block = server.call("eth_getBlockByNumber", json!(["latest", true]));
    let sealed = chain.history.head().unwrap();
    assert_eq!(block["hash"], json!(sealed.hash));
    assert_eq!(block["stateRoot"], json!(sealed.header.state_root));
    assert_eq!(block["transactions"].as_array().unwrap().len(), 2);
    assert_eq!(server.call("eth_getBlockByHash", json!([sealed.hash, true])), block);
    let short = server.call("eth_getBlockByNumber", json!(["0x2", false]));
    assert_eq!(short["transactions"], json!([call, transfer]));
    // The size is that of the bytes, and the bytes hash to the block.
    let raw = server.call("debug_getRawBlock", json!(["0x2"]));
    let raw = hex::decode(raw.as_str().unwrap()).unwrap();
    assert_eq!(block["size"], json!(format!("{:#x}", raw.len())));
    let header = server.call("debug_getRawHeader", json!(["0x2"]));
    assert_eq!(alloy_primitives::keccak256(hex::decode(header.as_str().unwrap()).unwrap()), sealed.hash);

    assert_eq!(server.call("eth_getTransactionByHash", json!([transfer])), block["transactions"][1]);
    for (method, key) in [
        ("eth_getTransactionByBlockNumberAndIndex", json!("0x2")),
        ("eth_getTransactionByBlockHashAndIndex", json!(sealed.hash)),
    ] {
        assert_eq!(server.call(method, json!([key, "0x1"])), block["transactions"][1]);
        assert_eq!(server.call(method, json!([key, "0x9"])), Value::Null);
    }
    for method in ["eth_getBlockTransactionCountByNumber", "eth_getUncleCountByBlockNumber"] {
        assert_eq!(server.call(method, json!(["0x63"])), Value::Null);
    }
    assert_eq!(server.call("eth_getBlockTransactionCountByNumber", json!(["0x2"])), "0x2");
    assert_eq!(server.call("eth_getBlockTransactionCountByHash", json!([sealed.hash])), "0x2");
    assert_eq!(server.call("eth_getUncleCountByBlockHash", json!([sealed.hash])), "0x0");

    let receipts = server.call("eth_getBlockReceipts", json!(["0x2"]));
    let receipt = server.call("eth_getTransactionReceipt", json!([call]));
    assert_eq!(receipts[0], receipt);
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["to"], json!(contract));
    let log = &receipt["logs"][0];
    assert_eq!(log["topics"], json!([B256::from(U256::from(0x11))]));
    assert_eq!((log["blockHash"].clone(), log["transactionHash"].clone()), (json!(sealed.hash), json!(call)));
    let raw_receipts = server.call("debug_getRawReceipts", json!(["0x2"]));
    assert_eq!(raw_receipts.as_array().unwrap().len(), 2);
    let raw = server.call("eth_getRawTransactionByHash", json!([transfer]));
    assert_eq!(alloy_primitives::keccak256(hex::decode(raw.as_str().unwrap()).unwrap()), transfer);
    let created = server.call("eth_getBlockReceipts", json!(["0x1"]));
    assert_eq!(created[0]["contractAddress"], json!(contract));
    assert_eq!(server.call("eth_getBlockReceipts", json!(["0x63"])), Value::Null);
    assert_eq!(server.fail("debug_getRawBlock", json!(["0x63"])).0, -32000);
}

#[test]
fn a_receipt_is_there_before_its_block_is_sealed() {
    let mut chain = Chain::dev();
    let server = Server::start(&chain);
    chain.open_block();
    let hash = send(&server, &signed(ALICE, 0, account(5).into(), 1, &[]));
    assert_eq!(server.call("eth_getTransactionReceipt", json!([hash])), Value::Null);
    let waiting = server.call("eth_getTransactionByHash", json!([hash]));
    assert_eq!((waiting["blockHash"].clone(), waiting["blockNumber"].clone()), (Value::Null, Value::Null));
    assert_eq!(server.call("ironlane_transactionStatus", json!([hash])), json!({ "status": "pending" }));

    chain.mini_block();
    let receipt = server.call("eth_getTransactionReceipt", json!([hash]));
    let digest = chain.history.mini_block(1).unwrap().unwrap().digest;
    assert_eq!((receipt["blockHash"].clone(), receipt["blockNumber"].clone()), (json!(digest), json!("0x1")));
    // What a client does next with these two works.
    let by_digest = server.call("eth_getBlockByHash", json!([digest, true]));
    assert_eq!(by_digest["hash"], json!(digest));
    assert_eq!(by_digest["transactions"][0]["hash"], json!(hash));
    assert_eq!(by_digest["timestamp"], receipt_timestamp(&server, &hash));
    server.call("eth_getBalance", json!([account(5), digest]));
    server.call("eth_getBalance", json!([account(5), "0x1"]));
    assert_eq!(server.call("eth_call", json!([{ "to": account(5) }, "0x1"])), "0x");

    let pending = server.call("eth_getBlockByNumber", json!(["pending", false]));
    assert_eq!((pending["number"].clone(), pending["hash"].clone()), (json!("0x1"), Value::Null));
    assert_eq!(pending["transactions"], json!([hash]));
    assert_eq!(server.call("eth_getBlockTransactionCountByNumber", json!(["pending"])), "0x1");
    assert_eq!(server.call("eth_getBlockReceipts", json!(["pending"]))[0], receipt);
    assert_eq!(server.call("eth_blockNumber", json!([])), "0x0");
    assert_eq!(server.call("eth_getBlockByNumber", json!(["latest", false]))["number"], "0x0");
    // `latest` state is the mini-block's.
    assert_eq!(server.call("eth_getTransactionCount", json!([account(ALICE), "latest"])), "0x1");
    let status = server.call("ironlane_transactionStatus", json!([hash]));
    assert_eq!((status["status"].clone(), status["sealed"].clone()), (json!("included"), json!(false)));

    let block = chain.seal();
    let receipt = server.call("eth_getTransactionReceipt", json!([hash]));
    assert_eq!(receipt["blockHash"], json!(block.hash));
    assert_eq!(server.call("eth_getBlockByHash", json!([digest, false]))["hash"], json!(block.hash));
    assert_eq!(server.call("ironlane_transactionStatus", json!([hash]))["sealed"], true);
}

fn receipt_timestamp(server: &Server, hash: &B256) -> Value {
    server.call("eth_getTransactionByHash", json!([hash]))["blockTimestamp"].clone()
}

#[test]
fn promises_and_mini_blocks_can_be_fetched_and_checked() {
    let Story { chain, server, call, transfer, .. } = story();
    for hash in [call, transfer] {
        let promise = server.call("ironlane_getPromise", json!([hash]));
        let promise: Promise = serde_json::from_value(promise).unwrap();
        promise.verify(31337, chain.signer.address()).unwrap();
        assert_eq!(promise.leaf.tx_hash, hash);
    }
    let mini = server.call("ironlane_getMiniBlock", json!(["0x2"]));
    assert_eq!(mini["transactions"], json!([call, transfer]));
    assert_eq!(mini["blockNumber"], "0x2");
    assert_eq!(server.call("ironlane_getMiniBlock", json!(["0x9"])), Value::Null);
    assert_eq!(server.call("ironlane_getPromise", json!([B256::ZERO])), Value::Null);
    assert_eq!(
        server.call("ironlane_transactionStatus", json!([B256::ZERO])),
        json!({ "status": "unknown" })
    );
    let gone = send(&server, &signed(ALICE, 9, account(5).into(), 1, &[]));
    chain.pool.drop_with(gone, Reject::Expired);
    let status = server.call("ironlane_transactionStatus", json!([gone]));
    assert_eq!((status["status"].clone(), status["reason"].clone()), (json!("dropped"), json!("expired")));
}

#[test]
fn proofs_verify_against_the_state_root() {
    let Story { chain, server, contract, .. } = story();
    let proof = server.call("eth_getProof", json!([contract, ["0x1", B256::from(U256::from(2))], "latest"]));
    assert_eq!(proof["storageProof"][0]["key"], "0x1");
    assert_eq!(proof["storageProof"][0]["value"], "0x7");
    assert_eq!(proof["storageProof"][1]["key"], json!(B256::from(U256::from(2))));
    assert_eq!(proof["storageProof"][1]["value"], "0x0");
    let root: B256 = serde_json::from_value(
        server.call("eth_getBlockByNumber", json!(["latest", false]))["stateRoot"].clone(),
    )
    .unwrap();
    let first: alloy_primitives::Bytes = serde_json::from_value(proof["accountProof"][0].clone()).unwrap();
    assert_eq!(alloy_primitives::keccak256(first), root);
    assert_eq!(
        server.call("eth_getProof", json!([contract, [], chain.history.head().unwrap().hash]))["nonce"],
        "0x1"
    );
    let nobody = server.call("eth_getProof", json!([Address::repeat_byte(0x77), []]));
    assert_eq!((nobody["balance"].clone(), nobody["nonce"].clone()), (json!("0x0"), json!("0x0")));
    assert!(server.fail("eth_getProof", json!([contract, [], "0x1"])).1.starts_with("missing trie node"));
    assert_eq!(server.fail("eth_getProof", json!([contract, ["zz"]])).0, -32602);
}

#[test]
fn calls_run_with_overrides_and_say_why_they_fail() {
    let Story { server, contract, .. } = story();
    let code = |code: &[u8]| json!({ contract.to_string(): { "code": hex::encode_prefixed(code) } });
    // NUMBER, TIMESTAMP, BASEFEE, ADDRESS' balance, SLOAD(1): each as one word.
    let word = |opcode: &str| hex::decode(format!("{opcode}5f5260205ff3")).unwrap();
    let call = |request: Value, state: Value, block: Value| {
        server.ask("eth_call", json!([request, "latest", state, block]))
    };
    let plain = json!({ "to": contract });
    let number =
        |answer: Value| U256::from_be_slice(&hex::decode(answer["result"].as_str().unwrap()).unwrap());
    assert_eq!(number(call(plain.clone(), code(&word("43")), json!({}))), U256::from(2));
    assert_eq!(number(call(plain.clone(), code(&word("43")), json!({ "number": "0x99" }))), U256::from(0x99));
    assert_eq!(number(call(plain.clone(), code(&word("42")), json!({ "time": "0x5" }))), U256::from(5));
    assert_eq!(
        number(call(plain.clone(), code(&word("48")), json!({}))),
        U256::ZERO,
        "no price, no base fee"
    );
    let state = json!({ contract.to_string(): { "code": hex::encode_prefixed(word("600154")), "stateDiff": { B256::from(U256::from(1)).to_string(): B256::from(U256::from(9)) } } });
    assert_eq!(number(call(plain.clone(), state, json!({}))), U256::from(9));
    let state =
        json!({ contract.to_string(): { "code": hex::encode_prefixed(word("600154")), "state": {} } });
    assert_eq!(number(call(plain.clone(), state, json!({}))), U256::ZERO, "all storage replaced");
    let state =
        json!({ contract.to_string(): { "balance": "0x63", "code": hex::encode_prefixed(word("47")) } });
    assert_eq!(number(call(plain.clone(), state, json!({}))), U256::from(0x63));

    let error = |answer: Value| {
        (answer["error"]["code"].as_i64().unwrap(), answer["error"]["message"].as_str().unwrap().to_string())
    };
    let reverted = call(plain.clone(), code(REVERTER), json!({}));
    assert_eq!(reverted["error"]["data"], "0x");
    assert_eq!(error(reverted), (3, "execution reverted".into()));
    assert_eq!(error(call(plain.clone(), code(&hex!("fe")), json!({}))), (-32000, "invalid opcode".into()));
    assert_eq!(error(call(plain.clone(), code(&hex!("5b5f56")), json!({}))), (-32000, "out of gas".into()));
    let poor = json!({ "from": Address::repeat_byte(0x55), "to": contract, "value": "0x1" });
    assert!(error(call(poor, json!({}), json!({}))).1.starts_with("insufficient funds"));
    // A contract may be the sender, and a nonce is not checked.
    let from_contract = json!({ "from": contract, "to": account(5), "nonce": "0x99" });
    assert_eq!(call(from_contract, json!({}), json!({}))["result"], "0x");
    let both = json!({ "to": contract, "gasPrice": "0x1", "maxFeePerGas": "0x1" });
    assert_eq!(error(call(both, json!({}), json!({}))).0, -32602);
    let twice = json!({ contract.to_string(): { "state": {}, "stateDiff": {} } });
    assert!(error(call(plain.clone(), twice, json!({}))).1.contains("both 'state' and 'stateDiff'"));
    let low = json!({ "to": contract, "gasPrice": "0x1", "from": account(ALICE) });
    assert!(error(call(low, json!({}), json!({}))).1.starts_with("max fee per gas less than block base fee"));
    // BLOCKHASH of the parent.
    let parent = server.call("eth_getBlockByNumber", json!(["0x1", false]))["hash"].clone();
    assert_eq!(call(plain.clone(), code(&word("600140")), json!({}))["result"], parent);
    // An older block's state.
    assert_eq!(server.call("eth_call", json!([plain, "0x0"])), "0x");
}

#[test]
fn estimates_are_enough_and_not_too_much() {
    let Story { mut chain, server, contract, .. } = story();
    assert_eq!(
        server.call("eth_estimateGas", json!([{ "from": account(ALICE), "to": account(5), "value": "0x1" }])),
        "0x5208"
    );
    let request = json!({ "from": account(BOB), "to": contract });
    let estimate = server.call("eth_estimateGas", json!([request]));
    let estimate = u64::from_str_radix(&estimate.as_str().unwrap()[2..], 16).unwrap();
    send(&server, &signed(BOB, 1, contract.into(), 0, &[]));
    chain.block();
    let used = chain.history.head().unwrap().txs[0].outcome.gas_used;
    assert!(estimate >= used && estimate < used + used / 5, "estimate {estimate}, used {used}");
    let deploy = json!({ "from": account(BOB), "data": hex::encode_prefixed(deploy_code(EMITTER)) });
    server.call("eth_estimateGas", json!([deploy]));
    let state = json!({ contract.to_string(): { "code": "0x5f5ffd" } });
    assert_eq!(server.fail("eth_estimateGas", json!([request, "latest", state])).0, 3);
    let little = json!({ "from": account(BOB), "to": contract, "gas": "0x5300" });
    assert_eq!(
        server.fail("eth_estimateGas", json!([little])).1,
        format!("gas required exceeds allowance ({})", 0x5300)
    );
    let list = server.call("eth_createAccessList", json!([request]));
    assert_eq!(
        list["accessList"],
        json!([{ "address": contract, "storageKeys": [B256::from(U256::from(1))] }])
    );
    assert!(list["gasUsed"].is_string());
    assert_eq!(list.get("error"), None);
}

#[test]
fn prices_follow_the_base_fee() {
    let Story { chain, server, .. } = story();
    let number = |value: Value| u128::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap();
    let head = chain.history.head().unwrap();
    let next = u128::from(chain.spec.next_base_fee(&head.header, head.header.timestamp + 1).unwrap());
    assert_eq!(number(server.call("eth_baseFee", json!([]))), next);
    let tip = number(server.call("eth_maxPriorityFeePerGas", json!([])));
    assert_eq!(tip, next.min(1_000_000_000));
    assert_eq!(number(server.call("eth_gasPrice", json!([]))), next + tip);
    assert_eq!(server.call("eth_blobBaseFee", json!([])), "0x1");
    let history = server.call("eth_feeHistory", json!(["0x2", "latest", [0, 50.5, 100]]));
    assert_eq!(history["oldestBlock"], "0x1");
    assert_eq!(history["baseFeePerGas"].as_array().unwrap().len(), 3);
    assert_eq!(number(history["baseFeePerGas"][2].clone()), next);
    assert_eq!(history["gasUsedRatio"].as_array().unwrap().len(), 2);
    assert_eq!(history["reward"][1], json!(["0x3b9aca00", "0x3b9aca00", "0x3b9aca00"]));
    assert_eq!(server.call("eth_feeHistory", json!([99, "latest"]))["oldestBlock"], "0x0");
    assert_eq!(server.call("eth_feeHistory", json!(["0x0", "latest"]))["oldestBlock"], "0x0");
    for wrong in [json!(["0x1", "latest", [50, 10]]), json!(["0x1", "latest", [101]]), json!(["0x1", "0x63"])]
    {
        assert_eq!(server.fail("eth_feeHistory", wrong).0, -32000);
    }
}

#[test]
fn the_pool_can_be_looked_into() {
    let Story { server, .. } = story();
    let raw = signed(ALICE, 2, account(5).into(), 7, &[]);
    let hash = send(&server, &raw);
    assert_eq!(server.call("txpool_status", json!([])), json!({ "pending": "0x1", "queued": "0x0" }));
    let sender = account(ALICE).to_checksum(None);
    let content = server.call("txpool_content", json!([]));
    assert_eq!(content["pending"][&sender]["2"]["hash"], json!(hash));
    assert_eq!(
        server.call("txpool_contentFrom", json!([account(ALICE)]))["pending"]["2"]["hash"],
        json!(hash)
    );
    assert_eq!(server.call("txpool_contentFrom", json!([account(BOB)]))["pending"], json!({}));
    let line = server.call("txpool_inspect", json!([]))["pending"][&sender]["2"].clone();
    assert!(line.as_str().unwrap().ends_with(": 7 wei + 1000000 gas × 10000000000 wei"), "{line}");
    let raw_again = server.call("eth_getRawTransactionByHash", json!([hash]));
    assert_eq!(raw_again, json!(hex::encode_prefixed(&raw)));
}

#[test]
fn what_is_refused_is_refused_with_its_reason() {
    let chain = Chain::dev();
    let server = Server::start(&chain);
    let (code, message) = server.fail("eth_sendRawTransaction", json!(["0x1234"]));
    assert_eq!((code, message.starts_with("rlp:")), (-32602, true), "{message}");
    assert_eq!(server.fail("eth_sendRawTransaction", json!(["1234"])).0, -32602);
    assert_eq!(server.fail("eth_sendRawTransactionSync", json!(["0x1234"])).0, -32602);
}

#[test]
fn a_sync_submission_answers_with_the_receipt_or_says_that_the_time_was_up() {
    let mut chain = Chain::dev();
    let server = Server::start(&chain);
    let raw = signed(ALICE, 0, account(5).into(), 7, &[]);
    let (address, body) = (server.address, hex::encode_prefixed(&raw));
    let asking = std::thread::spawn(move || {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransactionSync", "params": [body, 10_000] });
        http::post(address, &request.to_string())
    });
    while server.call("txpool_status", json!([]))["pending"] == "0x0" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    chain.block();
    let (_, text) = asking.join().unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["result"]["transactionHash"], json!(hash_of(&raw)));

    let raw = signed(ALICE, 1, account(5).into(), 7, &[]);
    let late = server.ask("eth_sendRawTransactionSync", json!([hex::encode_prefixed(&raw), 50]));
    assert_eq!(
        (late["error"]["code"].clone(), late["error"]["data"].clone()),
        (json!(4), json!(hash_of(&raw)))
    );
}

#[test]
fn logs_are_found_by_range_hash_address_and_topic() {
    let Story { chain, server, contract, call, .. } = story();
    let logs = |filter: Value| server.call("eth_getLogs", json!([filter]));
    let all = logs(json!({ "fromBlock": "0x0", "toBlock": "latest" }));
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0]["transactionHash"], json!(call));
    assert_eq!(all[0], server.call("eth_getTransactionReceipt", json!([call]))["logs"][0]);
    assert_eq!(logs(json!({ "address": contract })), all, "latest when no range is named");
    assert_eq!(
        logs(
            json!({ "blockHash": chain.history.head().unwrap().hash, "topics": [B256::from(U256::from(0x11))] })
        ),
        all
    );
    assert_eq!(
        logs(json!({ "fromBlock": "earliest", "topics": [[B256::ZERO, B256::from(U256::from(0x11))]] })),
        all
    );
    assert_eq!(logs(json!({ "fromBlock": "earliest", "topics": [null, B256::ZERO] })), json!([]));
    assert_eq!(logs(json!({ "fromBlock": "earliest", "address": [account(3)] })), json!([]));
    assert_eq!(server.fail("eth_getLogs", json!([{ "fromBlock": "0x2", "toBlock": "0x1" }])).0, -32602);
    assert_eq!(server.fail("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "0x63" }])).0, -32602);
    assert_eq!(
        server.fail("eth_getLogs", json!([{ "blockHash": B256::ZERO }])),
        (-32000, "unknown block".into())
    );
}
