//! The half of a client that reads answers.

use super::{ClientError, is_timeout};
use crate::wire::{Ack, Frame, GoawayReason, PAYLOAD_BYTES_MAX, Promise, Repr, Welcome, WireError};
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes asked for in one read.
const READ_BYTES: usize = 256 * 1024;

const _: () =
    assert!(READ_BYTES >= PAYLOAD_BYTES_MAX + crate::wire::HEADER_BYTES, "any frame fits the buffer");

/// Looks at promises as they come. Closures will do.
pub trait PromiseCheck: Send {
    /// `Err` says, as a sentence, why the promise does not hold.
    ///
    /// # Errors
    /// Why not.
    fn check(&mut self, node: &Welcome, promise: &Promise<'_>) -> Result<(), String>;
}

impl<F: FnMut(&Welcome, &Promise<'_>) -> Result<(), String> + Send> PromiseCheck for F {
    fn check(&mut self, node: &Welcome, promise: &Promise<'_>) -> Result<(), String> {
        self(node, promise)
    }
}

/// Reads acknowledgements.
pub struct Receiver {
    stream: TcpStream,
    welcome: Arc<Welcome>,
    acknowledged: Arc<AtomicU64>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold received data.
    filled: usize,
    check: Option<Box<dyn PromiseCheck>>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Receiver {
    pub(super) fn new(
        stream: TcpStream,
        welcome: Arc<Welcome>,
        acknowledged: Arc<AtomicU64>,
        early: Vec<u8>,
    ) -> Receiver {
        let mut buffer = vec![0; READ_BYTES];
        buffer[..early.len()].copy_from_slice(&early);
        Receiver { stream, welcome, acknowledged, buffer, filled: early.len(), check: None }
    }

    /// What the node said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Has every promise checked; one that fails ends [`Receiver::receive`] with [`ClientError::Promise`].
    pub fn check_promises(&mut self, check: Box<dyn PromiseCheck>) {
        self.check = Some(check);
    }

    /// Longest wait in [`Receiver::receive`]; `None`: for ever.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        self.stream
            .set_read_timeout(timeout)
            .map_err(|source| ClientError::Io { what: "setting a timeout", source })
    }

    /// Ends the connection, for a sender that waits in a write too.
    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits for answers and appends the acknowledgements among all that one read brings; at least one frame has come
    /// when it returns, so the count may be 0 (a Pong, a Promise).
    ///
    /// # Errors
    /// [`ClientError`]. Acknowledgements that came before the error are in `acks`.
    pub fn receive(&mut self, acks: &mut Vec<Ack>) -> Result<usize, ClientError> {
        let before = acks.len();
        let mut frames = self.parse(acks);
        while let Ok(0) = frames {
            self.read()?;
            frames = self.parse(acks);
        }
        let count = acks.len() - before;
        self.acknowledged.fetch_add(count as u64, Ordering::AcqRel);
        frames.map(|_| count)
    }

    fn read(&mut self) -> Result<(), ClientError> {
        let what = "waiting for acknowledgements";
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(ClientError::Closed { what }),
                Ok(n) => {
                    self.filled += n;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(ClientError::Timeout { what }),
                Err(source) => return Err(ClientError::Io { what, source }),
            }
        }
    }

    /// Handles the whole frames in the buffer and returns how many they were.
    fn parse(&mut self, acks: &mut Vec<Ack>) -> Result<usize, ClientError> {
        let (mut used, mut frames) = (0, 0);
        let result = loop {
            let frame = match Frame::new_checked(&self.buffer[used..self.filled]) {
                Ok(frame) => frame,
                Err(WireError::Truncated { .. }) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            frames += 1;
            used += frame.total_bytes();
            match Repr::parse(&frame) {
                Ok(Repr::Ack(ack)) => acks.push(ack),
                Ok(Repr::Promise(promise)) => {
                    if let Some(check) = &mut self.check
                        && let Err(why) = check.check(&self.welcome, &promise)
                    {
                        break Err(ClientError::Promise { tag: promise.tag, why });
                    }
                }
                Ok(Repr::Pong(_)) => {}
                Ok(Repr::Goaway(goaway)) => {
                    break Err(ClientError::Goaway {
                        code: goaway.code,
                        reason: GoawayReason::from_code(goaway.code),
                        text: goaway.text.to_owned(),
                    });
                }
                Ok(Repr::Welcome(_)) => break Err(ClientError::Unexpected("second Welcome")),
                Ok(Repr::Hello(_) | Repr::Submit(_) | Repr::Ping(_)) => {
                    break Err(ClientError::Unexpected("client's"));
                }
                Err(error) => break Err(error.into()),
            }
        };
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        result.map(|()| frames)
    }
}
