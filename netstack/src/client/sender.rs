//! The half of a client that submits.

use super::ClientError;
use crate::wire::{Repr, SUBMIT_OVERHEAD_BYTES_MAX, Submit, TX_BYTES_MAX, Welcome};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A write is made when this much is queued: a larger one would gain nothing.
const WRITE_BYTES: usize = 64 * 1024;

/// Submits transactions.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    welcome: Arc<Welcome>,
    /// Counted up by the [`super::Receiver`].
    acknowledged: Arc<AtomicU64>,
    submitted: u64,
    buffer: Vec<u8>,
}

impl Sender {
    pub(super) fn new(stream: TcpStream, welcome: Arc<Welcome>, acknowledged: Arc<AtomicU64>) -> Sender {
        let buffer = Vec::with_capacity(WRITE_BYTES + 4096);
        Sender { stream, welcome, acknowledged, submitted: 0, buffer }
    }

    /// What the node said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Transactions without an acknowledgement.
    pub fn in_flight(&self) -> u64 {
        self.submitted.saturating_sub(self.acknowledged.load(Ordering::Acquire))
    }

    /// How many more the window allows now.
    pub fn room(&self) -> u64 {
        u64::from(self.welcome.window).saturating_sub(self.in_flight())
    }

    /// Queues a transaction under the caller's own number; writes once 64 KiB are queued.
    ///
    /// # Errors
    /// [`ClientError::WindowFull`], [`ClientError::BadTransaction`]: nothing was queued. [`ClientError::Io`].
    pub fn submit(&mut self, tag: u64, tx: &[u8], hint: Option<[u8; 20]>) -> Result<(), ClientError> {
        if tx.is_empty() || tx.len() > TX_BYTES_MAX {
            return Err(ClientError::BadTransaction { bytes: tx.len() });
        }
        self.take_room(1)?;
        if self.buffer.len() + SUBMIT_OVERHEAD_BYTES_MAX + tx.len() > WRITE_BYTES {
            self.flush()?;
        }
        Repr::Submit(Submit { tag, hint, tx }).emit(&mut self.buffer);
        Ok(())
    }

    /// Queues `count` Submit frames that the caller has encoded beforehand.
    ///
    /// # Errors
    /// As [`Sender::submit`].
    pub fn submit_encoded(&mut self, frames: &[u8], count: u64) -> Result<(), ClientError> {
        self.take_room(count)?;
        if self.buffer.len() + frames.len() > WRITE_BYTES {
            self.flush()?;
        }
        if frames.len() >= WRITE_BYTES {
            return self.write(frames);
        }
        self.buffer.extend_from_slice(frames);
        Ok(())
    }

    fn take_room(&mut self, count: u64) -> Result<(), ClientError> {
        if self.room() < count {
            return Err(ClientError::WindowFull { window: self.welcome.window });
        }
        self.submitted += count;
        Ok(())
    }

    /// Asks for a Pong: keeps an idle connection open.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn ping(&mut self, number: u64) -> Result<(), ClientError> {
        Repr::Ping(number).emit(&mut self.buffer);
        self.flush()
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.write(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream
            .write_all(bytes)
            .map_err(|source| ClientError::Io { what: "sending transactions", source })
    }

    /// Ends the connection; the receiver then sees it closed.
    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
