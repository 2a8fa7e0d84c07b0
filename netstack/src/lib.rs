//! How transactions come in and answers go out: the ingest wire format, the devices that move its bytes, the polled
//! server over them, and a client library.
//!
//! Read it from the bottom up. [`wire`] turns bytes into frames and back, and does nothing else. A [`Device`] moves bytes
//! of numbered connections: [`TcpDevice`] over io_uring, [`Loopback`] inside one process. [`Ingest`] is the server over
//! any device: handshake, windows, limits, timeouts, batched acknowledgements. It starts no thread, keeps no clock and
//! knows no Ethereum types: whoever owns it polls it, hands it the time, and gives meaning to the transactions' bytes.
//! [`Client`] is the other end, over plain blocking sockets.
//!
//! The format is documented to the byte in `docs/formats.md`, section "Ingest frames".

pub mod client;
mod device;
mod error;
mod ingest;
mod loopback;
mod tcp;
pub mod wire;

pub use client::{Client, ClientConfig, ClientError, Receiver, Sender};
pub use device::{Caps, ConnId, Control, Device, DeviceEvent, DeviceFlow};
pub use error::NetError;
pub use ingest::{Counters, DropReason, Event, Flow, Ingest, IngestConfig, Sink, Stats, TcpIngest};
pub use loopback::{Loopback, LoopbackPeer};
pub use tcp::{TcpConfig, TcpDevice};
