//! A WebSocket client of a few lines: text messages out, text messages in, pings answered.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Ws {
    pub(crate) stream: TcpStream,
    next_id: u64,
    /// Notifications that came while an answer was awaited.
    waiting: Vec<Value>,
}

impl Ws {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("upgraded")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        let mut stream = super::http::connect(address);
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            .ok()?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        head.starts_with(b"HTTP/1.1 101").then_some(Ws { stream, next_id: 1, waiting: Vec::new() })
    }

    pub(crate) fn send_text(&mut self, text: &str) -> std::io::Result<()> {
        self.send_frame(0x81, text.as_bytes())
    }

    fn send_frame(&mut self, first: u8, payload: &[u8]) -> std::io::Result<()> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        // A mask of zeros leaves the payload as it is.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame)
    }

    /// The next text message; `None` when the connection has ended.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        loop {
            let (kind, payload) = self.frame()?;
            match kind {
                1 => return serde_json::from_slice(&payload).ok(),
                8 => return None,
                9 => self.send_frame(0x8a, &payload).ok()?,
                _ => {}
            }
        }
    }

    /// Opcode and payload of the next frame.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let len = match head[1] & 0x7f {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes).ok()?;
                u64::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes).ok()?;
                u64::from_be_bytes(bytes)
            }
            len => u64::from(len),
        };
        let mut payload = vec![0; len as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0] & 0x0f, payload))
    }

    /// The whole response to a request.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Option<Value> {
        let id = self.next_id;
        self.next_id += 1;
        self.send_text(
            &json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string(),
        )
        .ok()?;
        loop {
            let message = self.receive()?;
            if message["id"] == json!(id) {
                return Some(message);
            }
            self.waiting.push(message);
        }
    }

    pub(crate) fn subscribe(&mut self, params: Value) -> String {
        let answer = self.ask("eth_subscribe", params).expect("answered");
        answer["result"].as_str().unwrap_or_else(|| panic!("{answer}")).to_string()
    }

    /// The next notification of a subscription.
    pub(crate) fn notification(&mut self, subscription: &str) -> Value {
        loop {
            let found =
                self.waiting.iter().position(|message| message["params"]["subscription"] == subscription);
            if let Some(at) = found {
                return self.waiting.remove(at)["params"]["result"].clone();
            }
            let message = self.receive().expect("a notification");
            self.waiting.push(message);
        }
    }

    /// Does nothing but answer pings for a while; `false` when the connection ends.
    pub(crate) fn rest(&mut self, time: Duration) -> bool {
        let until = std::time::Instant::now() + time;
        while std::time::Instant::now() < until {
            self.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let waiting = self.stream.peek(&mut [0]);
            self.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            match waiting {
                Ok(0) => return false,
                Ok(_) => {
                    let Some((kind, payload)) = self.frame() else { return false };
                    if kind == 9 && self.send_frame(0x8a, &payload).is_err() {
                        return false;
                    }
                }
                Err(_) => {}
            }
        }
        true
    }

    /// Whether the server ends the connection within this time.
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        let until = std::time::Instant::now() + time;
        while std::time::Instant::now() < until {
            if self.receive().is_none() {
                return true;
            }
        }
        false
    }
}
