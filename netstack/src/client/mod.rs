//! The other end: a small client over plain blocking sockets.
//!
//! [`Client`] does everything in one thread: submit, read acknowledgements, keep within the window. [`Client::split`]
//! gives a [`Sender`] and a [`Receiver`] for two threads, as load generators and gateways want. Submissions are
//! gathered into writes of up to 64 KiB; acknowledgements are read as many as there are.

mod receiver;
mod sender;

pub use receiver::{PromiseCheck, Receiver};
pub use sender::Sender;

use crate::wire::{Ack, Frame, GoawayReason, Hello, Repr, TX_BYTES_MAX, VERSION, Welcome, WireError};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Ask for a Promise for each included transaction.
    pub wants_promises: bool,
    /// For connecting, and for the Welcome.
    pub connect_timeout: Duration,
    /// Longest wait for an answer in [`Client::receive`] and [`Receiver::receive`]; `None`: for ever.
    pub receive_timeout: Option<Duration>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            wants_promises: false,
            connect_timeout: Duration::from_secs(5),
            receive_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// Why a client cannot go on. All but [`ClientError::WindowFull`] and [`ClientError::BadTransaction`] end the connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {addr}: {source}; is the node running, and is this its ingest address?")]
    Connect {
        /// Where to.
        addr: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to the node broke while {what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("the node did not answer in time ({what})")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// The node closed without a word.
    #[error("the node closed the connection while {what}")]
    Closed {
        /// What was being done.
        what: &'static str,
    },
    /// The node said why it closes.
    #[error("the node closes the connection: {text} (code {code})")]
    Goaway {
        /// Number of the reason.
        code: u8,
        /// The reason, where this crate knows the number.
        reason: Option<GoawayReason>,
        /// The node's sentence.
        text: String,
    },
    /// The node's bytes are no frames of this protocol.
    #[error("the node sent what is no valid frame: {0}; is this its ingest port?")]
    Wire(#[from] WireError),
    /// A frame came that a node does not send now.
    #[error("the node sent a {0} frame where none belongs")]
    Unexpected(&'static str),
    /// As many transactions are without an acknowledgement as the node allows.
    #[error("the window is full: {window} transactions wait for their acknowledgement; receive some first")]
    WindowFull {
        /// The node's limit.
        window: u32,
    },
    /// The transaction's bytes cannot be sent.
    #[error("a transaction has 1 to {TX_BYTES_MAX} bytes, not {bytes}")]
    BadTransaction {
        /// Its length.
        bytes: usize,
    },
    /// The check of a promise failed.
    #[error("the promise for the transaction with tag {tag} does not hold: {why}")]
    Promise {
        /// The transaction.
        tag: u64,
        /// What the check said.
        why: String,
    },
}

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    receiver: Receiver,
    next_tag: u64,
    early: Vec<Ack>,
}

impl Client {
    /// Connects, says Hello and waits for the Welcome.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Goaway`] when the node does not take the connection.
    pub fn connect(
        addr: impl ToSocketAddrs + std::fmt::Debug,
        config: &ClientConfig,
    ) -> Result<Client, ClientError> {
        let mut stream = dial(&addr, config.connect_timeout)?;
        let io = |source| ClientError::Io { what: "shaking hands", source };
        stream.set_nodelay(true).map_err(io)?;
        stream.set_read_timeout(Some(config.connect_timeout)).map_err(io)?;
        stream.set_write_timeout(Some(config.connect_timeout)).map_err(io)?;
        let mut hello = Vec::new();
        let versions =
            Hello { version_min: VERSION, version_max: VERSION, wants_promises: config.wants_promises };
        Repr::Hello(versions).emit(&mut hello);
        // A node that refuses the connection may have closed it already: its reason is worth more than this error.
        let said = stream.write_all(&hello);
        let (welcome, rest) = match read_welcome(&mut stream) {
            Err(ClientError::Closed { .. } | ClientError::Io { .. }) if said.is_err() => {
                return Err(said.map_err(io).err().unwrap_or(ClientError::Closed { what: "shaking hands" }));
            }
            other => other?,
        };
        stream.set_read_timeout(config.receive_timeout).map_err(io)?;
        stream.set_write_timeout(None).map_err(io)?;
        let welcome = Arc::new(welcome);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let reader = stream.try_clone().map_err(io)?;
        Ok(Client {
            sender: Sender::new(stream, Arc::clone(&welcome), Arc::clone(&acknowledged)),
            receiver: Receiver::new(reader, welcome, acknowledged, rest),
            next_tag: 0,
            early: Vec::new(),
        })
    }

    /// What the node said of itself.
    pub fn welcome(&self) -> &Welcome {
        self.sender.welcome()
    }

    /// Has every promise checked; one that fails ends [`Client::receive`] with [`ClientError::Promise`].
    pub fn check_promises(&mut self, check: Box<dyn PromiseCheck>) {
        self.receiver.check_promises(check);
    }

    /// Queues a transaction and returns its tag. While the window is full, acknowledgements are read first; they are
    /// kept for [`Client::receive`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn submit(&mut self, tx: &[u8], hint: Option<[u8; 20]>) -> Result<u64, ClientError> {
        while self.sender.room() == 0 {
            self.sender.flush()?;
            self.receiver.receive(&mut self.early)?;
        }
        let tag = self.next_tag;
        self.sender.submit(tag, tx, hint)?;
        self.next_tag += 1;
        Ok(tag)
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.sender.flush()
    }

    /// Sends what is queued, waits for at least one acknowledgement, and appends all that are there to `acks`. Returns how
    /// many came; 0 when nothing is in flight.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn receive(&mut self, acks: &mut Vec<Ack>) -> Result<usize, ClientError> {
        self.sender.flush()?;
        if !self.early.is_empty() {
            let count = self.early.len();
            acks.append(&mut self.early);
            return Ok(count);
        }
        if self.sender.in_flight() == 0 {
            return Ok(0);
        }
        self.receiver.receive(acks)
    }

    /// The two halves, for two threads.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

fn dial(addr: &(impl ToSocketAddrs + std::fmt::Debug), timeout: Duration) -> Result<TcpStream, ClientError> {
    let fail = |source| ClientError::Connect { addr: format!("{addr:?}"), source };
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for candidate in addr.to_socket_addrs().map_err(fail)? {
        let candidate: SocketAddr = candidate;
        match TcpStream::connect_timeout(&candidate, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(fail(last))
}

/// Reads the node's first frame; also returns the bytes after it.
fn read_welcome(stream: &mut TcpStream) -> Result<(Welcome, Vec<u8>), ClientError> {
    let what = "waiting for the Welcome";
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 1024];
    loop {
        match Frame::new_checked(&bytes) {
            Ok(frame) => {
                let total = frame.total_bytes();
                return match Repr::parse(&frame)? {
                    Repr::Welcome(welcome) => Ok((welcome, bytes.split_off(total))),
                    Repr::Goaway(goaway) => Err(ClientError::Goaway {
                        code: goaway.code,
                        reason: GoawayReason::from_code(goaway.code),
                        text: goaway.text.to_owned(),
                    }),
                    _ => Err(ClientError::Unexpected("non-Welcome")),
                };
            }
            Err(error) if !error.is_truncated() => return Err(error.into()),
            Err(_) => {}
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ClientError::Closed { what }),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(ClientError::Timeout { what }),
            Err(source) => return Err(ClientError::Io { what, source }),
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
