//! As much of an HTTP client as the comparison needs: one POST a connection, plain `http` only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: u64 = 256 << 20;

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: String,
    path: String,
}

impl Endpoint {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = if host.contains(':') { host.to_string() } else { format!("{host}:80") };
        (!host.starts_with(':')).then(|| Endpoint { host, path: format!("/{path}") })
    }

    /// Sends a body and brings back the answer's, whatever its status.
    pub(super) fn post(&self, body: &str) -> Result<String, String> {
        self.exchange(body).map_err(|error| format!("no answer from {}: {error}", self.host))
    }

    fn exchange(&self, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            self.host,
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let (mut length, mut chunked, mut line) = (None, false, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse::<u64>().ok();
            }
            chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        }
        let mut bytes = Vec::new();
        if chunked {
            read_chunks(&mut reader, &mut bytes)?;
        } else {
            reader.take(length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX)).read_to_end(&mut bytes)?;
        }
        String::from_utf8(bytes).map_err(std::io::Error::other)
    }
}

fn read_chunks(reader: &mut impl BufRead, out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(std::io::Error::other)?;
        if size == 0 || out.len() as u64 + size > BODY_BYTES_MAX {
            return Ok(());
        }
        reader.take(size).read_to_end(out)?;
        line.clear();
        reader.read_line(&mut line)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let parse = |url| Endpoint::parse(url).map(|endpoint| (endpoint.host, endpoint.path));
        assert_eq!(parse("http://127.0.0.1:8545"), Some(("127.0.0.1:8545".into(), "/".into())));
        assert_eq!(parse("http://node/rpc/v1"), Some(("node:80".into(), "/rpc/v1".into())));
        assert_eq!(parse("https://node"), None);
    }

    #[test]
    fn chunks_are_joined() {
        let mut out = Vec::new();
        read_chunks(&mut &b"4\r\nabcd\r\n2;x=1\r\nef\r\n0\r\n\r\n"[..], &mut out).unwrap();
        assert_eq!(out, b"abcdef");
    }
}
