//! The node's default engine: a hot contract is compiled under load, results stay those of plain revm, and a restart
//! begins with what was compiled before.

#[allow(dead_code)]
#[path = "node/rig.rs"]
mod rig;

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, keccak256};
use ironlane::verify::verify;
use ironlane_executor::DEV_KEYS;
use ironlane_netstack::Client;
use ironlane_netstack::wire::AckStatus;
use ironlane_types::Reject;
use rig::Node;
use secp256k1::{Message, SECP256K1, SecretKey};
use std::time::{Duration, Instant};

const WAIT_MAX: Duration = Duration::from_secs(60);
const TOKEN_ARTIFACT: &str = include_str!("../contracts/token/Token.json");

/// The first development account, which owns the token.
struct Owner {
    nonce: u64,
}

impl Owner {
    fn sign(&mut self, to: TxKind, input: Bytes) -> Vec<u8> {
        let tx = TxEip1559 {
            chain_id: 31337,
            nonce: self.nonce,
            gas_limit: if to.is_create() { 3_000_000 } else { 100_000 },
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1,
            to,
            input,
            ..TxEip1559::default()
        };
        self.nonce += 1;
        let key = SecretKey::from_byte_array(DEV_KEYS[0].1.0).expect("a key");
        let message = Message::from_digest(tx.signature_hash().0);
        let (parity, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &key).serialize_compact();
        let signature = Signature::from_bytes_and_parity(&bytes, i32::from(parity) == 1);
        tx.into_signed(signature).encoded_2718()
    }

    /// `transfer(address,uint256)` of one unit to somebody new.
    fn transfer(&mut self, token: Address) -> Vec<u8> {
        let receiver = U256::from(0x7700_0000 + self.nonce).to_be_bytes::<32>();
        let selector = &keccak256("transfer(address,uint256)")[..4];
        let input = [selector, &receiver[..], &U256::ONE.to_be_bytes::<32>()[..]].concat();
        self.sign(TxKind::Call(token), input.into())
    }
}

/// Submits, and waits until every transaction is executed with success.
fn submit(client: &mut Client, raw: &[Vec<u8>]) {
    for raw in raw {
        client.submit(raw, None).expect("submits");
    }
    let mut acks = Vec::new();
    while acks.len() < raw.len() {
        assert!(client.receive(&mut acks).expect("answers") > 0);
    }
    for ack in &acks {
        assert_eq!(ack.status, AckStatus::Success, "{:?}", Reject::from_code(ack.reject));
    }
}

/// A number on the Prometheus page.
fn metric(node: &Node, name: &str) -> u64 {
    let page = node.metrics();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{page}")).parse().expect("a number")
}

fn token() -> (Bytes, Address) {
    let artifact: serde_json::Value = serde_json::from_str(TOKEN_ARTIFACT).expect("JSON");
    let code: Bytes = artifact["bytecode"].as_str().expect("bytecode").parse().expect("hexadecimal");
    let supply = U256::from(1_000_000).to_be_bytes::<32>();
    ([&code[..], &supply].concat().into(), DEV_KEYS[0].0.create(0))
}

#[test]
fn a_hot_contract_is_compiled_and_a_restart_begins_hot() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let (creation, token) = token();
    let mut owner = Owner { nonce: 0 };
    let node = Node::start(dir.path(), &[]);
    assert!(node.has_logged("executor: jit (tiered, threshold 1000000 gas, cache 512 MiB"), "{}", node.log());
    let mut client = node.client(false);
    submit(&mut client, &[owner.sign(TxKind::Create, creation)]);
    // A transfer spends some 30,000 gas in the contract: so many are hot.
    let hot: Vec<_> = (0..200).map(|_| owner.transfer(token)).collect();
    submit(&mut client, &hot);
    let start = Instant::now();
    while metric(&node, "ironlane_jit_codes{where=\"memory\"}") == 0 {
        assert!(start.elapsed() < WAIT_MAX, "never compiled:\n{}", node.metrics());
        std::thread::sleep(Duration::from_millis(20));
    }
    let compiled: Vec<_> = (0..100).map(|_| owner.transfer(token)).collect();
    submit(&mut client, &compiled);
    assert!(metric(&node, "ironlane_jit_segments_total{tier=\"compiled\"}") >= 99, "{}", node.metrics());
    assert!(metric(&node, "ironlane_jit_gas_total{tier=\"compiled\"}") > 1_000_000);
    assert_eq!(metric(&node, "ironlane_jit_code_events_total{what=\"compiled\"}"), 1);
    assert_eq!(metric(&node, "ironlane_jit_compile_seconds_count"), 1);
    assert_eq!(metric(&node, "ironlane_jit_disk_events_total{what=\"write\"}"), 1);
    drop(client);
    node.stop();
    let data = dir.path().join("data");
    let report = verify(&data, None).expect("verifies");
    assert!(report.state_root_ok && report.receipts_ok && report.transactions == 301, "{report:?}");

    // The next life begins with it, for its replay as well.
    let node = Node::start(dir.path(), &[]);
    assert!(node.has_logged("1 codes from disk"), "{}", node.log());
    let replayed = metric(&node, "ironlane_jit_segments_total{tier=\"compiled\"}");
    assert!(replayed >= 290, "{}", node.metrics());
    let mut client = node.client(false);
    let more: Vec<_> = (0..50).map(|_| owner.transfer(token)).collect();
    submit(&mut client, &more);
    assert!(metric(&node, "ironlane_jit_segments_total{tier=\"compiled\"}") >= replayed + 49);
    assert_eq!(
        metric(&node, "ironlane_jit_code_events_total{what=\"compiled\"}"),
        0,
        "nothing is compiled again"
    );
    drop(client);
    node.stop();

    // A damaged file is refused, said and removed, and the node goes on without it.
    let files =
        std::fs::read_dir(data.join("jit-cache")).expect("a folder").map(|file| file.expect("a file").path());
    let file = files.into_iter().next().expect("the compiled contract");
    let mut bytes = std::fs::read(&file).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("writes");
    let node = Node::start(dir.path(), &[]);
    assert!(node.has_logged("a file of compiled code is refused"), "{}", node.log());
    assert_eq!(metric(&node, "ironlane_jit_disk_refusals_total{reason=\"damaged\"}"), 1);
    node.stop();

    // The interpreter alone gives the same.
    let node = Node::start(dir.path(), &["--engine=interpreter"]);
    assert!(node.has_logged("executor: interpreter"), "{}", node.log());
    assert!(!node.metrics().contains("ironlane_jit_segments"));
    submit(&mut node.client(false), &[owner.transfer(token)]);
    node.stop();
    let report = verify(&data, None).expect("verifies");
    assert!(report.state_root_ok && report.receipts_ok && report.transactions == 352, "{report:?}");
}
