//! Filters that are polled and subscriptions that are pushed.

use crate::common::ws::Ws;
use crate::common::*;
use alloy_primitives::{B256, TxKind, U256, hex};
use serde_json::{Value, json};

/// Logs 0x2a under topic 0x11.
const EMITTER: &[u8] = &hex!("602a5f52601160205fa100");

fn send(server: &Server, raw: &[u8]) -> Value {
    server.call("eth_sendRawTransaction", json!([hex::encode_prefixed(raw)]))
}

#[test]
fn filters_tell_what_is_new_once() {
    let mut chain = Chain::dev();
    let server = Server::start(&chain);
    let contract = account(ALICE).create(0);
    send(&server, &signed(ALICE, 0, TxKind::Create, 0, &deploy_code(EMITTER)));
    chain.block();
    let blocks = server.call("eth_newBlockFilter", json!([]));
    let logs = server.call("eth_newFilter", json!([{ "address": contract }]));
    let pending = server.call("eth_newPendingTransactionFilter", json!([]));
    let changes = |id: &Value| server.call("eth_getFilterChanges", json!([id]));
    for id in [&blocks, &logs, &pending] {
        assert_eq!(changes(id), json!([]));
    }
    let hash = send(&server, &signed(ALICE, 1, contract.into(), 0, &[]));
    let first = chain.block().hash;
    let second = chain.block().hash;
    assert_eq!(changes(&blocks), json!([first, second]));
    assert_eq!(changes(&pending), json!([hash]));
    let found = changes(&logs);
    assert_eq!(found[0]["blockHash"], json!(first));
    for id in [&blocks, &logs, &pending] {
        assert_eq!(changes(id), json!([]), "told once");
    }
    // `latest` is where the chain is now: the whole range has to be named to see older logs.
    assert_eq!(server.call("eth_getFilterLogs", json!([logs])), json!([]));
    let ranged = server
        .call("eth_newFilter", json!([{ "address": contract, "fromBlock": "0x0", "toBlock": "latest" }]));
    assert_eq!(server.call("eth_getFilterLogs", json!([ranged])), found);
    assert_eq!(server.fail("eth_getFilterLogs", json!([blocks])), (-32000, "filter not found".into()));
    assert_eq!(server.call("eth_uninstallFilter", json!([blocks])), true);
    assert_eq!(server.call("eth_uninstallFilter", json!([blocks])), false);
    assert_eq!(server.fail("eth_getFilterChanges", json!([blocks])), (-32000, "filter not found".into()));
}

#[test]
fn subscribers_hear_of_heads_logs_and_transactions() {
    let mut chain = Chain::dev();
    let server = Server::start(&chain);
    let contract = account(ALICE).create(0);
    send(&server, &signed(ALICE, 0, TxKind::Create, 0, &deploy_code(EMITTER)));
    chain.block();
    let mut ws = Ws::connect(server.address);
    assert_eq!(ws.ask("eth_chainId", json!([])).unwrap()["result"], "0x7a69");
    let heads = ws.subscribe(json!(["newHeads"]));
    let logs =
        ws.subscribe(json!(["logs", { "address": contract, "topics": [B256::from(U256::from(0x11))] }]));
    let other_logs = ws.subscribe(json!(["logs", { "address": account(3) }]));
    let hashes = ws.subscribe(json!(["newPendingTransactions"]));
    let whole = ws.subscribe(json!(["newPendingTransactions", true]));
    assert!(heads.starts_with("0x") && heads.len() == 34, "{heads}");
    let hash = send(&server, &signed(ALICE, 1, contract.into(), 0, &[]));
    assert_eq!(ws.notification(&hashes), hash);
    assert_eq!(ws.notification(&whole)["hash"], hash);
    let block = chain.block();
    let head = ws.notification(&heads);
    assert_eq!((head["hash"].clone(), head["number"].clone()), (json!(block.hash), json!("0x2")));
    assert_eq!(head.get("transactions"), None);
    let log = ws.notification(&logs);
    assert_eq!((log["blockHash"].clone(), log["transactionHash"].clone()), (json!(block.hash), hash));
    assert_eq!(ws.ask("eth_unsubscribe", json!([heads])).unwrap()["result"], true);
    assert_eq!(ws.ask("eth_unsubscribe", json!([other_logs])).unwrap()["result"], true);
    chain.block();
    send(&server, &signed(ALICE, 2, contract.into(), 0, &[]));
    chain.block();
    // The next log comes, and no head before it.
    assert_eq!(ws.notification(&logs)["blockNumber"], "0x4");
    let wrong = ws.ask("eth_subscribe", json!(["weather"])).unwrap();
    assert_eq!(wrong["error"]["code"], -32601);
    let wrong =
        ws.ask("eth_subscribe", json!(["logs", { "topics": [null, null, null, null, null] }])).unwrap();
    assert_eq!(wrong["error"]["code"], -32602);
    drop(ws);
    let stats = server.stats();
    for _ in 0..200 {
        if stats.subscriptions.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("subscriptions of a closed connection are still counted");
}

#[test]
fn subscriptions_need_a_websocket() {
    let chain = Chain::dev();
    let server = Server::start(&chain);
    assert!(server.ask("eth_subscribe", json!(["newHeads"])).get("error").is_some());
}
