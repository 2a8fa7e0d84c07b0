//! Each limit, reached.

use crate::common::ws::Ws;
use crate::common::*;
use alloy_primitives::{Address, B256, TxKind, hex};
use ironlane_rpc::{RpcConfig, RpcStats, serve};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn server(config: RpcConfig) -> (Chain, Server) {
    let chain = Chain::dev();
    let server = Server::start_with(&chain, config);
    (chain, server)
}

fn wait_for(what: &str, reached: impl Fn(&RpcStats) -> bool, server: &Server) {
    let until = Instant::now() + Duration::from_secs(20);
    let stats = server.stats();
    while !reached(&stats) {
        assert!(Instant::now() < until, "{what}: {:?}", stats.all());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A call whose callee has this code.
fn call_code(code: &str) -> Value {
    let to = Address::repeat_byte(0x42);
    json!([{ "to": to }, "latest", { to.to_string(): { "code": code } }])
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let (_chain, server) = server(RpcConfig::default());
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"web3_sha3\",\"params\":[\"0x{}\"]}}",
        "00".repeat(1 << 19)
    );
    assert!(body.len() > 1 << 20);
    let (status, text) = http::post(server.address, &body);
    assert_eq!(status, 413, "{text}");
    assert!(text.contains("request too large"), "{text}");
    assert_eq!(count(&server.stats().refused_bodies), 1);
    // Just below, it is answered.
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"web3_sha3\",\"params\":[\"0x{}\"]}}",
        "00".repeat((1 << 19) - 100)
    );
    assert_eq!(http::post(server.address, &body).0, 200);
}

#[test]
fn a_websocket_message_above_the_limit_is_refused() {
    let (_chain, server) = server(RpcConfig::default());
    let mut ws = Ws::connect(server.address);
    let text = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"web3_sha3\",\"params\":[\"0x{}\"]}}",
        "00".repeat(1 << 19)
    );
    // The server may close before it has all of it.
    if ws.send_text(&text).is_ok() {
        match ws.receive() {
            None => {}
            Some(answer) => assert!(answer.get("error").is_some(), "{answer}"),
        }
    }
    assert_eq!(server.call("eth_chainId", json!([])), "0x7a69");
}

#[test]
fn a_batch_above_the_limit_is_refused_as_a_whole() {
    let (_chain, server) = server(RpcConfig::default());
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    let batch = |n: usize| format!("[{}]", vec![one; n].join(","));
    let answer: Value = serde_json::from_str(&http::post(server.address, &batch(100)).1).unwrap();
    assert_eq!(answer.as_array().unwrap().len(), 100);
    let answer: Value = serde_json::from_str(&http::post(server.address, &batch(101)).1).unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("too large"), "{answer}");
    let empty: Value = serde_json::from_str(&http::post(server.address, "[]").1).unwrap();
    assert_eq!(empty["error"]["code"], -32600);
}

#[test]
fn a_response_above_the_limit_is_an_error() {
    let (_chain, server) = server(RpcConfig { response_bytes_max: 10_000, ..RpcConfig::default() });
    // RETURN of 8,000 zero bytes.
    let (code, message) = server.fail("eth_call", call_code("0x611f405ff3"));
    assert_eq!(code, -32008);
    assert!(message.contains("too big"), "{message}");
}

#[test]
fn connections_are_counted_in_all_and_by_address() {
    let (_chain, server) = server(RpcConfig { connections_per_address_max: 3, ..RpcConfig::default() });
    let held: Vec<_> = (0..3).map(|_| http::connect(server.address)).collect();
    wait_for("three are open", |stats| count(&stats.connections) == 3, &server);
    let (status, text) = http::read_answer(&mut http::connect(server.address));
    assert_eq!(status, 503);
    assert!(text.contains("from your address"), "{text}");
    assert_eq!(count(&server.stats().refused_address_connections), 1);
    drop(held);
    wait_for("they are gone", |stats| count(&stats.connections) == 0, &server);
    assert_eq!(server.call("eth_chainId", json!([])), "0x7a69");
    drop(server);

    let (_chain, server) = self::server(RpcConfig { connections_max: 2, ..RpcConfig::default() });
    let _held = [http::connect(server.address), http::connect(server.address)];
    wait_for("two are open", |stats| count(&stats.connections) == 2, &server);
    let (status, text) = http::read_answer(&mut http::connect(server.address));
    assert_eq!(status, 503);
    assert!(text.contains("too many connections"), "{text}");
    assert_eq!(count(&server.stats().refused_connections), 1);
}

#[test]
fn the_default_is_32_connections_an_address() {
    let (_chain, server) = server(RpcConfig::default());
    let _held: Vec<_> = (0..32).map(|_| http::connect(server.address)).collect();
    wait_for("32 are open", |stats| count(&stats.connections) == 32, &server);
    assert_eq!(http::read_answer(&mut http::connect(server.address)).0, 503);
}

#[test]
fn subscriptions_of_a_connection_are_counted() {
    let (_chain, server) = server(RpcConfig::default());
    let mut ws = Ws::connect(server.address);
    for _ in 0..32 {
        ws.subscribe(json!(["newHeads"]));
    }
    let refused = ws.ask("eth_subscribe", json!(["newHeads"])).unwrap();
    assert_eq!(refused["error"]["code"], -32006, "{refused}");
    // Another connection is not concerned.
    Ws::connect(server.address).subscribe(json!(["newHeads"]));
}

fn quick() -> RpcConfig {
    RpcConfig {
        read_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(900),
        ..RpcConfig::default()
    }
}

#[test]
fn a_request_that_drips_in_is_cut_off() {
    let (_chain, server) = server(quick());
    // A header, a byte at a time, more slowly than allowed in all although never idle.
    let mut slow = http::connect(server.address);
    let started = Instant::now();
    let mut ended = false;
    for byte in b"POST / HTTP/1.1\r\nhost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".iter() {
        if slow.write_all(&[*byte]).is_err() {
            ended = true;
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(ended || slow.read(&mut [0; 64]).map_or(true, |n| n == 0), "the connection still stands");
    assert!(started.elapsed() < Duration::from_secs(10));
    // A body that does not come.
    let mut slow = http::connect(server.address);
    slow.write_all(
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{",
    )
    .unwrap();
    let (status, _) = http::read_answer(&mut slow);
    assert!(status == 408 || status == 0, "{status}");
    assert!(count(&server.stats().read_timeouts) >= 2, "{:?}", server.stats().all());
    assert_eq!(server.call("eth_chainId", json!([])), "0x7a69");
}

#[test]
fn an_idle_connection_is_closed_and_a_pinged_websocket_is_not() {
    let (_chain, server) = server(RpcConfig { idle_timeout: Duration::from_secs(3), ..quick() });
    let mut idle = http::connect(server.address);
    let mut ws = Ws::connect(server.address);
    let resting = std::thread::spawn(move || {
        // Longer than the limit: answering pings is enough to stay.
        assert!(ws.rest(Duration::from_secs(5)), "a client that answers pings was cut off");
        ws.ask("eth_chainId", json!([])).map(|answer| answer["result"].clone())
    });
    let started = Instant::now();
    assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
    assert!(started.elapsed() >= Duration::from_millis(2_500), "{:?}", started.elapsed());
    assert!(count(&server.stats().idle_timeouts) >= 1);
    assert_eq!(resting.join().unwrap(), Some(json!("0x7a69")));
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (_chain, server) = server(RpcConfig { calls_waiting_max: 10_000, ..quick() });
    let mut deaf = http::connect(server.address);
    deaf.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // RETURN of 400,000 zero bytes, again and again on one connection.
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": call_code("0x62061a805ff3") })
            .to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..40 {
        if deaf.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    wait_for("the connection is cut off", |stats| count(&stats.write_timeouts) >= 1, &server);
    wait_for("and gone", |stats| count(&stats.connections) == 0, &server);
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected() {
    let (chain, server) = server(RpcConfig { ws_buffer_messages: 16, ..RpcConfig::default() });
    let mut ws = Ws::connect(server.address);
    for _ in 0..8 {
        ws.subscribe(json!(["newPendingTransactions"]));
    }
    let until = Instant::now() + Duration::from_secs(30);
    while count(&server.stats().slow_subscribers) == 0 {
        assert!(Instant::now() < until, "{:?}", server.stats().all());
        for _ in 0..256 {
            let _ = chain.pool.pending.send(B256::random());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(ws.ends_within(Duration::from_secs(10)));
    wait_for("the connection is gone", |stats| count(&stats.connections) == 0, &server);
    assert_eq!(server.call("eth_chainId", json!([])), "0x7a69");
}

#[test]
fn log_queries_are_bounded_in_blocks_and_in_logs() {
    let mut chain = Chain::dev();
    let server =
        Server::start_with(&chain, RpcConfig { log_blocks_max: 4, logs_max: 2, ..RpcConfig::default() });
    let contract = account(ALICE).create(0);
    let send = |raw: &[u8]| server.call("eth_sendRawTransaction", json!([hex::encode_prefixed(raw)]));
    send(&signed(ALICE, 0, TxKind::Create, 0, &deploy_code(&hex!("60115f5fa100"))));
    chain.block();
    for nonce in 1..7 {
        send(&signed(ALICE, nonce, contract.into(), 0, &[]));
        chain.block();
    }
    let range = |from: &str, to: &str| json!([{ "fromBlock": from, "toBlock": to }]);
    assert_eq!(server.call("eth_getLogs", range("0x0", "0x3")).as_array().unwrap().len(), 2);
    assert_eq!(
        server.fail("eth_getLogs", range("0x0", "0x4")),
        (-32005, "exceed maximum block range: 4".into())
    );
    let (code, message) = server.fail("eth_getLogs", range("0x2", "0x4"));
    assert_eq!((code, message.starts_with("query returned more than 2 logs")), (-32005, true), "{message}");
    assert_eq!(count(&server.stats().refused_log_queries), 2);
}

#[test]
fn filters_are_bounded_and_expire() {
    let config =
        RpcConfig { filters_max: 2, filter_expiry: Duration::from_millis(300), ..RpcConfig::default() };
    let (_chain, server) = server(config);
    let first = server.call("eth_newBlockFilter", json!([]));
    server.call("eth_newBlockFilter", json!([]));
    assert_eq!(server.fail("eth_newBlockFilter", json!([])).0, -32005);
    assert_eq!(count(&server.stats().refused_filters), 1);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(server.fail("eth_getFilterChanges", json!([first])).1, "filter not found");
    server.call("eth_newBlockFilter", json!([]));
}

#[test]
fn calls_are_bounded_in_gas_time_memory_and_number() {
    let config = RpcConfig {
        call_gas_max: 40_000_000,
        call_time_max: Duration::from_millis(2),
        call_memory_max: 1 << 20,
        ..RpcConfig::default()
    };
    let (_chain, server) = server(config);
    // GAS, as a word: what a call has when it asks for more than the limit.
    let to = Address::repeat_byte(0x42);
    let state = json!({ to.to_string(): { "code": "0x5a5f5260205ff3" } });
    let gas = server.call("eth_call", json!([{ "to": to, "gas": "0xffffffffffff" }, "latest", state]));
    let gas = u64::from_str_radix(&gas.as_str().unwrap()[2..], 16).unwrap();
    assert!((39_000_000..40_000_000).contains(&gas), "{gas}");
    // Calls the identity contract for ever.
    let (code, message) = server.fail("eth_call", call_code("0x5b5f5f5f5f5f60045af1505f56"));
    assert_eq!(code, -32002);
    assert!(message.starts_with("execution aborted (timeout"), "{message}");
    // Each frame takes 256 KiB and calls itself.
    let (code, message) = server.fail("eth_call", call_code("0x600162040000525f5f5f5f5f305af100"));
    assert_eq!((code, message.contains("EVM memory above 1048576 bytes")), (-32002, true), "{message}");
    drop(server);

    let (_chain, server) = self::server(RpcConfig { calls_waiting_max: 0, ..RpcConfig::default() });
    assert_eq!(server.fail("eth_call", call_code("0x00")).0, -32005);
    assert_eq!(count(&server.stats().refused_calls), 1);
}

#[test]
fn storage_keys_are_bounded() {
    let (_chain, server) = server(RpcConfig { storage_keys_max: 2, ..RpcConfig::default() });
    let to = Address::repeat_byte(0x42);
    server.call("eth_getProof", json!([to, ["0x1", "0x2"]]));
    assert_eq!(server.fail("eth_getProof", json!([to, ["0x1", "0x2", "0x3"]])).0, -32602);
    assert_eq!(
        server.fail("eth_getStorageValues", json!([{ to.to_string(): ["0x1", "0x2", "0x3"] }])).0,
        -32602
    );
}

#[test]
fn a_server_that_cannot_work_does_not_start() {
    let (chain, first) = server(RpcConfig::default());
    let start = |config: RpcConfig| {
        first.runtime.block_on(serve(chain.context(), config)).err().map(|error| error.to_string())
    };
    let taken = RpcConfig { listen: first.address, ..RpcConfig::default() };
    assert!(start(taken).unwrap().contains("cannot listen on"));
    let nonsense =
        RpcConfig { calls_at_once: 0, listen: "127.0.0.1:0".parse().unwrap(), ..RpcConfig::default() };
    assert!(start(nonsense).unwrap().contains("calls_at_once"));
}

#[test]
fn a_stopped_server_lets_go_of_its_port() {
    let (chain, mut first) = server(RpcConfig::default());
    let handle = first.handle.take().unwrap();
    first.runtime.block_on(handle.stop());
    let again = RpcConfig { listen: first.address, ..RpcConfig::default() };
    let second = first.runtime.block_on(serve(chain.context(), again)).unwrap();
    assert_eq!(http::post(second.local_addr(), r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#).0, 200);
}

/// The head of an answer to a browser's request.
fn browser(server: &Server, first_line: &str, headers: &str, body: &str) -> String {
    let mut stream = http::connect(server.address);
    let length = body.len();
    let text = format!(
        "{first_line}\r\nhost: node:8545\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.to_ascii_lowercase()
}

#[test]
fn web_pages_may_ask_only_from_the_origins_that_are_named() {
    let ask = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_chainId\"}";
    let from = |page: &str| format!("origin: {page}\r\ncontent-type: application/json\r\n");
    let before = |page: &str| {
        format!(
            "origin: {page}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: content-type,x-key\r\n"
        )
    };
    let upgrade = |page: &str| {
        format!(
            "origin: {page}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
    };
    let named = RpcConfig { cors_origins: vec!["https://app.example".into()], ..RpcConfig::default() };
    let (_chain, server) = server(named);
    let answer = browser(&server, "OPTIONS / HTTP/1.1", &before("https://app.example"), "");
    for wanted in [
        "http/1.1 204",
        "access-control-allow-origin: https://app.example",
        "access-control-allow-methods: post",
        "access-control-allow-headers: content-type,x-key",
        "access-control-max-age: 600",
        "vary: origin",
    ] {
        assert!(answer.contains(wanted), "{wanted}: {answer}");
    }
    let answer = browser(&server, "POST / HTTP/1.1", &from("https://app.example"), ask);
    assert!(answer.contains("access-control-allow-origin: https://app.example"), "{answer}");
    assert!(answer.contains("\"0x7a69\""), "{answer}");

    // Another page gets no permission, and no WebSocket.
    let answer = browser(&server, "OPTIONS / HTTP/1.1", &before("https://evil.example"), "");
    assert!(!answer.contains("access-control"), "{answer}");
    let answer = browser(&server, "POST / HTTP/1.1", &from("https://evil.example"), ask);
    assert!(!answer.contains("access-control"), "{answer}");
    let answer = browser(&server, "GET / HTTP/1.1", &upgrade("https://evil.example"), "");
    assert!(answer.contains("http/1.1 403") && answer.contains("cors_origins"), "{answer}");
    assert_eq!(count(&server.stats().refused_origins), 1);
    // A page of the node's own address, and a program, which sends no origin.
    let answer = browser(&server, "POST / HTTP/1.1", &from("http://node:8545"), ask);
    assert!(answer.contains("\"0x7a69\""), "{answer}");
    drop(Ws::connect(server.address));
}

#[test]
fn every_web_page_may_ask_when_the_star_is_named() {
    let any = RpcConfig { cors_origins: vec!["*".into()], ..RpcConfig::default() };
    let (_chain, server) = server(any);
    let headers = "origin: null\r\naccess-control-request-method: POST\r\n";
    let answer = browser(&server, "OPTIONS / HTTP/1.1", headers, "");
    assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
    assert!(answer.contains("access-control-allow-headers: content-type"), "{answer}");
}
