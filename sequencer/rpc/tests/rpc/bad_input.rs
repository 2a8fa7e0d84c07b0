//! What no client should send: a clear error, and the server goes on.

use crate::common::*;
use serde_json::{Value, json};

fn code(address: std::net::SocketAddr, body: &[u8]) -> i64 {
    let (status, text) = http::post_bytes(address, body);
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text:.200}"));
    // Each item of a batch is answered on its own.
    let answer = answer.get(0).unwrap_or(&answer);
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{text:.200}"))
}

#[test]
fn nonsense_is_answered_with_the_right_code() {
    let chain = Chain::dev();
    let server = Server::start(&chain);
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let request = |params: &str| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_getBlockByNumber\",\"params\":{params}}}")
            .into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, &[i64])> = vec![
        ("empty", Vec::new(), &[-32700]),
        ("not JSON", b"hello".to_vec(), &[-32700]),
        ("cut off", br#"{"jsonrpc":"2.0","id":1"#.to_vec(), &[-32700]),
        (
            "bad UTF-8",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_\xff\xfe\"}".to_vec(),
            &[-32700, -32600],
        ),
        ("no method", br#"{"jsonrpc":"2.0","id":1}"#.to_vec(), &[-32600]),
        ("a number", b"5".to_vec(), &[-32600, -32700]),
        (
            "duplicate method",
            br#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","method":"eth_accounts"}"#.to_vec(),
            &[-32600, -32700],
        ),
        ("deep arrays alone", deep("[", "]").into_bytes(), &[-32600, -32700]),
        (
            "deep objects alone",
            format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)).into_bytes(),
            &[-32600, -32700],
        ),
        ("deep arrays as an argument", request(&deep("[", "]")), &[-32602]),
        (
            "deep objects as an argument",
            request(&format!("[{}1{}]", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
            &[-32602],
        ),
        ("deep params that are not closed", request(&"[".repeat(100_000)), &[-32700, -32600]),
        ("an object for arguments", request("{\"block\":\"latest\"}"), &[-32602]),
        ("a huge number", request(&format!("[\"0x{}\"]", "f".repeat(500_000))), &[-32602]),
        ("a wrong type", request("[[],true]"), &[-32602]),
        ("too many arguments", request(&format!("[{}0]", "0,".repeat(100_000))), &[-32602]),
    ];
    for (what, body, codes) in cases {
        assert!(body.len() < 1 << 20, "{what} would be stopped by its size");
        let got = code(server.address, &body);
        assert!(codes.contains(&got), "{what}: {got}");
    }
    assert_eq!(server.call("eth_chainId", json!([])), "0x7a69");
}

#[test]
fn abusive_arguments_of_calls_are_refused() {
    let chain = Chain::dev();
    let server = Server::start(&chain);
    let to = account(5);
    for (params, wanted) in [
        (json!([{ "to": to, "data": "0x1" }]), -32602),
        (json!([{ "to": to, "gas": "0xffffffffffffffffff" }]), -32602),
        (json!([{ "to": "0x12" }]), -32602),
        (json!([{ "to": to, "data": "0x01", "input": "0x02" }]), -32602),
        (json!([{ "to": to }, "latest", { "0x12": {} }]), -32602),
        (json!([{ "to": to }, "latest", { to.to_string(): { "nonce": "-1" } }]), -32602),
        (
            json!([{ "to": to }, "latest", { to.to_string(): { "movePrecompileToAddress": account(6) } }]),
            -32602,
        ),
        (json!([{ "to": to }, "latest", {}, { "baseFee": format!("0x{}", "f".repeat(64)) }]), -32602),
        (json!([{ "to": to, "chainId": "0x1" }]), -32602),
        (json!([{ "to": to }, "0xffffffffffffffff"]), -32000),
    ] {
        assert_eq!(server.fail("eth_call", params.clone()).0, wanted, "{params}");
    }
    // The same key twice in one object.
    let twice = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"eth_call\",\"params\":[{{\"to\":\"{to}\",\"to\":\"{to}\"}}]}}"
    );
    assert_eq!(code(server.address, twice.as_bytes()), -32602);
    // Gas beyond all bounds is cut to the limit, as geth does.
    assert_eq!(server.call("eth_call", json!([{ "to": to, "gas": "0xffffffffffffffff" }])), "0x");
}

#[test]
fn methods_of_http_other_than_post_are_refused() {
    use std::io::Write;
    let chain = Chain::dev();
    let server = Server::start(&chain);
    let mut stream = http::connect(server.address);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(http::read_answer(&mut stream).0, 405);
    let mut stream = http::connect(server.address);
    stream.write_all(b"\x16\x03\x01\x02\x00\x01 this is no HTTP\r\n\r\n").unwrap();
    let (status, _) = http::read_answer(&mut stream);
    assert!(status == 0 || status == 400, "{status}");
    assert_eq!(server.call("eth_chainId", json!([])), "0x7a69");
}
