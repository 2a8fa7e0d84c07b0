//! A node in a process of its own, and wallets that sign for the development chain.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Signature, TxKind, U256};
use ironlane_executor::DEV_KEYS;
use ironlane_netstack::{Client, ClientConfig};
use secp256k1::{Message, SECP256K1, SecretKey};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for a node to be ready or to end.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A running `ironlane run --dev`.
pub(crate) struct Node {
    child: Child,
    ready: Value,
    log: Arc<Mutex<String>>,
}

/// `through`: a program with its arguments that runs the node. `journal`: more lines of that section.
fn command(through: &[&str], datadir: &Path, journal: &str, extra: &[&str]) -> Command {
    let config = datadir.join("node.toml");
    let text = format!("[pool]\npending_per_account_max = 100000\n[journal]\nsegment_mib = 16\n{journal}\n");
    // It may lie on a full file system, where it was written before.
    if !std::fs::read_to_string(&config).is_ok_and(|known| known == text) {
        std::fs::write(&config, &text).expect("writes the configuration");
    }
    let mut words = through.to_vec();
    words.push(env!("CARGO_BIN_EXE_ironlane"));
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args([
            "run",
            "--dev",
            "--json",
            "--ingest=127.0.0.1:0",
            "--http=127.0.0.1:0",
            "--metrics=127.0.0.1:0",
        ])
        .arg(format!("--datadir={}", datadir.join("data").display()))
        .arg(format!("--config={}", config.display()))
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts a node that must refuse to start; answers what it said.
pub(crate) fn start_fails(datadir: &Path, extra: &[&str]) -> String {
    let output = command(&[], datadir, "", extra).output().expect("runs");
    assert!(!output.status.success(), "the node started although it must not");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Node {
    /// Starts it and waits until it answers.
    pub(crate) fn start(datadir: &Path, extra: &[&str]) -> Self {
        Self::start_configured(datadir, "", extra)
    }

    /// The same with more lines in the configuration's `journal` section.
    pub(crate) fn start_configured(datadir: &Path, journal: &str, extra: &[&str]) -> Self {
        Self::spawn(command(&[], datadir, journal, extra))
            .unwrap_or_else(|log| panic!("the node did not start:\n{log}"))
    }

    /// The same through another program; answers the log when the node does not come up.
    pub(crate) fn try_start(through: &[&str], datadir: &Path, extra: &[&str]) -> Result<Self, String> {
        Self::spawn(command(through, datadir, "", extra))
    }

    fn spawn(mut command: Command) -> Result<Self, String> {
        let mut child = command.spawn().expect("spawns");
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().expect("piped"), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        match serde_json::from_str(&line) {
            Ok(ready) => Ok(Self { child, ready, log }),
            Err(_) => {
                let _ = child.wait();
                Err(log.lock().expect("log").clone())
            }
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself; answers whether with success.
    pub(crate) fn ended(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < WAIT_MAX {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node did not end:\n{}", self.log())
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("log").clone()
    }

    /// Waits until it has logged this: its log comes through a pipe of its own, later than the ready line.
    pub(crate) fn has_logged(&self, wanted: &str) -> bool {
        let start = Instant::now();
        while start.elapsed() < WAIT_MAX {
            if self.log().contains(wanted) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn address(&self, name: &str) -> &str {
        self.ready[name].as_str().expect("an address")
    }

    /// Connects to its ingest port.
    pub(crate) fn client(&self, wants_promises: bool) -> Client {
        let config = ClientConfig {
            wants_promises,
            receive_timeout: Some(Duration::from_secs(20)),
            ..ClientConfig::default()
        };
        Client::connect(self.address("ingest"), &config).expect("connects")
    }

    fn http(&self, name: &str, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address(name)).expect("connects");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("timeout");
        stream.write_all(request.as_bytes()).expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("reads");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).expect("an HTTP answer")
    }

    /// Sends a transaction over JSON-RPC; answers the whole response.
    pub(crate) fn send_raw(&self, raw: &[u8]) -> Value {
        self.answer("eth_sendRawTransaction", json!([alloy_primitives::hex::encode_prefixed(raw)]))
    }

    /// The health page's first line.
    pub(crate) fn health(&self) -> String {
        let mut stream = TcpStream::connect(self.address("metrics")).expect("connects");
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("writes");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("reads");
        line
    }

    fn rpc(&self, method: &str, params: Value) -> Value {
        self.answer(method, params)["result"].clone()
    }

    fn answer(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json";
        let answer = self.http("http", &format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        serde_json::from_str(answer.trim()).expect("JSON")
    }

    /// Next nonce of an account.
    pub(crate) fn nonce(&self, address: Address) -> u64 {
        let text = self.rpc("eth_getTransactionCount", json!([address, "latest"]));
        u64::from_str_radix(text.as_str().expect("hex").trim_start_matches("0x"), 16).expect("a number")
    }

    /// Balance of an account.
    pub(crate) fn balance(&self, address: Address) -> U256 {
        let text = self.rpc("eth_getBalance", json!([address, "latest"]));
        text.as_str().expect("hex").parse().expect("a number")
    }

    /// The Prometheus page.
    pub(crate) fn metrics(&self) -> String {
        self.http("metrics", "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    }

    /// Processor time used so far, in ticks of 10 ms.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("waits");
    }

    /// SIGTERM, and an orderly end.
    pub(crate) fn stop(mut self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(status.success());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                assert!(status.success(), "the node ended with {status}:\n{}", self.log());
                return;
            }
            assert!(start.elapsed() < WAIT_MAX, "the node did not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // After `stop` and `kill` there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A development account.
pub(crate) struct Wallet {
    key: SecretKey,
    /// Its address.
    pub(crate) address: Address,
    /// Its next nonce.
    pub(crate) nonce: u64,
}

impl Wallet {
    /// One of the ten well-known accounts.
    pub(crate) fn dev(index: usize) -> Self {
        let (address, key) = DEV_KEYS[index];
        Self { key: SecretKey::from_byte_array(key.0).expect("a key"), address, nonce: 0 }
    }

    /// Signs the next transfer, of one wei, to an address that follows from `to`: bytes and hash.
    pub(crate) fn transfer(&mut self, to: u64) -> (Vec<u8>, B256) {
        let mut recipient = [0x77; 20];
        recipient[12..].copy_from_slice(&to.to_be_bytes());
        let tx = TxEip1559 {
            chain_id: 31337,
            nonce: self.nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(recipient.into()),
            value: U256::from(1),
            ..TxEip1559::default()
        };
        self.nonce += 1;
        let message = Message::from_digest(tx.signature_hash().0);
        let (parity, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &self.key).serialize_compact();
        let odd = i32::from(parity) == 1;
        let signed = tx.into_signed(Signature::from_bytes_and_parity(&bytes, odd));
        let raw = signed.encoded_2718();
        (raw, *signed.hash())
    }
}

/// A counter with two handles.
pub(crate) fn counter() -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let counter = Arc::new(AtomicUsize::new(0));
    (counter.clone(), counter)
}
