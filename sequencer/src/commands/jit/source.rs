//! Where the code comes from: the command line, a file, a snapshot or a node.

use super::InspectArgs;
use crate::node::Chain;
use crate::node::datadir::DataDir;
use alloy_primitives::{Address, Bytes, hex};
use anyhow::{Context, bail, ensure};
use ironlane_state::{ChainIdentity, SnapshotDir, StateConfig};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// A node answers within this time.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read: a code of the largest size in hexadecimal is far below it.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The bytecode that the arguments mean.
pub(super) fn code(args: &InspectArgs) -> anyhow::Result<Bytes> {
    let code = match (&args.datadir, &args.rpc) {
        (Some(datadir), _) => from_snapshot(datadir, address(&args.code)?)?,
        (None, Some(url)) => from_node(url, address(&args.code)?)?,
        (None, None) => from_text(&args.code)?,
    };
    ensure!(!code.is_empty(), "there is no code: nothing to compile");
    Ok(code)
}

fn address(text: &str) -> anyhow::Result<Address> {
    text.parse()
        .with_context(|| format!("`{text}` is no address: with --datadir or --rpc give one of 20 bytes"))
}

fn from_text(text: &str) -> anyhow::Result<Bytes> {
    let path = Path::new(text);
    if !path.is_file() {
        let bytes = hex::decode(text.trim());
        return bytes.map(Bytes::from).with_context(|| {
            format!("`{text}` is neither hexadecimal nor a file; for an address add --datadir or --rpc")
        });
    }
    let content = std::fs::read_to_string(path).with_context(|| format!("{text} cannot be read"))?;
    if path.extension().is_some_and(|extension| extension == "evm") {
        return Ok(ironlane_jit::asm::assemble(&content).with_context(|| text.to_owned())?.into());
    }
    Ok(hex::decode(content.trim()).with_context(|| format!("{text} holds no hexadecimal bytecode"))?.into())
}

fn from_snapshot(datadir: &Path, address: Address) -> anyhow::Result<Bytes> {
    ensure!(datadir.is_dir(), "{} is no directory", datadir.display());
    let dir = DataDir::open(datadir)?;
    let spec = Chain::known(&dir)?.spec;
    let identity = ChainIdentity { chain_id: spec.chain_id, genesis_hash: spec.genesis.hash };
    let snapshots = SnapshotDir::open(&dir.snapshots(), identity)?;
    let Some(snapshot) = snapshots.open_newest()? else {
        bail!("{} has no valid snapshot: let the node write one, or ask it with --rpc", datadir.display());
    };
    let (state, _writer) = ironlane_state::open_snapshot(StateConfig::default(), &snapshot)?;
    let account = state
        .newest_account(&address)
        .with_context(|| format!("{address} does not exist at block {}", snapshot.height()))?;
    state
        .code(&account.code_hash)
        .with_context(|| format!("{address} has no code at block {}", snapshot.height()))
}

fn from_node(url: &str, address: Address) -> anyhow::Result<Bytes> {
    let rest =
        url.strip_prefix("http://").context("a node is asked by plain http: give --rpc http://HOST:PORT")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let body = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "eth_getCode", "params": [address, "latest"]
    })
    .to_string();
    let mut stream = TcpStream::connect(&host).with_context(|| format!("no answer from {host}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection, in one piece.
    write!(
        stream,
        "POST /{path} HTTP/1.0\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .with_context(|| format!("no answer from {host}"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let answer: serde_json::Value =
        serde_json::from_str(body.trim()).with_context(|| format!("{host} does not answer in JSON"))?;
    if let Some(message) = answer["error"]["message"].as_str() {
        bail!("{host} refuses: {message}");
    }
    let code = answer["result"].as_str().with_context(|| format!("{host} answers without a result"))?;
    Ok(hex::decode(code).with_context(|| format!("{host} answers no hexadecimal code"))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn args(code: &str) -> InspectArgs {
        InspectArgs {
            code: code.into(),
            datadir: None,
            rpc: None,
            spec: "osaka".into(),
            cpu: "native".into(),
            opt: "speed".into(),
            function: None,
            pc: None,
            json: false,
        }
    }

    #[test]
    fn code_comes_from_the_command_line_and_from_files() {
        let expected = Bytes::from_static(&[0x60, 0x01, 0x00]);
        assert_eq!(code(&args("0x600100")).unwrap(), expected);
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a.hex", "600100\n"), ("a.evm", "PUSH1 1 ; one\nSTOP")] {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            assert_eq!(code(&args(file.to_str().unwrap())).unwrap(), expected);
        }
        assert!(code(&args("0x")).unwrap_err().to_string().contains("no code"));
        assert!(code(&args("nonsense")).unwrap_err().to_string().contains("--rpc"));
        let with_rpc = InspectArgs { rpc: Some("http://127.0.0.1:1".into()), ..args("0x600100") };
        assert!(code(&with_rpc).unwrap_err().to_string().contains("no address"));
    }

    #[test]
    fn a_node_is_asked_for_the_code_of_an_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            let body = r#"{"jsonrpc":"2.0","id":1,"result":"0x600100"}"#;
            write!(stream, "HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let args = InspectArgs { rpc: Some(url), ..args("0x00000000000000000000000000000000000000aa") };
        assert_eq!(code(&args).unwrap(), Bytes::from_static(&[0x60, 0x01, 0x00]));
        let request = server.join().unwrap();
        assert!(request.starts_with("POST / HTTP/1.0"), "{request}");
    }
}
