//! A connection's socket with its clocks: how long a request may take to arrive, bytes to leave, and nothing to happen.
//! They are kept at the socket, where a WebSocket and plain HTTP look alike, and where a client that neither reads nor
//! writes cannot hide.

use crate::{RpcConfig, RpcStats};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// What a connection is doing.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between requests.
    Idle = 0,
    /// Some of a request is here.
    Reading = 1,
    /// A request is being answered.
    Answering = 2,
    /// An open WebSocket: only silence is too long, and pings break that.
    Upgraded = 3,
}

/// What the socket and the service of one connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    phase: AtomicU8,
    gone: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Connection {
    pub(crate) fn new() -> Self {
        Connection {
            phase: AtomicU8::new(Phase::Idle as u8),
            gone: AtomicBool::new(false),
            waker: Mutex::default(),
        }
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    /// Ends the connection: the next look at its socket is an error.
    pub(crate) fn disconnect(&self) {
        self.gone.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

/// Runs its function when it is dropped: a connection is counted for as long as its socket lives.
pub(crate) struct OnDrop(Option<Box<dyn FnOnce() + Send + Sync>>);

impl OnDrop {
    pub(crate) fn new(run: impl FnOnce() + Send + Sync + 'static) -> Self {
        OnDrop(Some(Box::new(run)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}

/// The socket.
pub(crate) struct Guarded {
    socket: TcpStream,
    connection: Arc<Connection>,
    stats: Arc<RpcStats>,
    read_timeout: Duration,
    write_timeout: Duration,
    idle_timeout: Duration,
    /// When something last came in or went out; a request's clock starts here.
    since: Instant,
    request_since: Option<Instant>,
    read_clock: Pin<Box<Sleep>>,
    write_clock: Pin<Box<Sleep>>,
    /// Set while the client does not take what is sent.
    write_since: Option<Instant>,
    _counted: OnDrop,
}

impl Guarded {
    pub(crate) fn new(
        socket: TcpStream,
        connection: Arc<Connection>,
        stats: Arc<RpcStats>,
        config: &RpcConfig,
        counted: OnDrop,
    ) -> Self {
        let now = Instant::now();
        let clock = || Box::pin(tokio::time::sleep_until(now));
        Guarded {
            socket,
            connection,
            stats,
            read_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
            idle_timeout: config.idle_timeout,
            since: now,
            request_since: None,
            read_clock: clock(),
            write_clock: clock(),
            write_since: None,
            _counted: counted,
        }
    }

    /// Nothing is there to be read: checks and sets the clock.
    fn wait_for_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.is(Phase::Answering) {
            // The answer takes as long as its method's own limit allows; look again when an idle client would be late.
            self.since = Instant::now();
        }
        if !self.connection.is(Phase::Reading) {
            self.request_since = None;
        }
        let (deadline, counter) = match self.request_since {
            Some(since) => (since + self.read_timeout, &self.stats.read_timeouts),
            None => (self.since + self.idle_timeout, &self.stats.idle_timeouts),
        };
        if Instant::now() >= deadline {
            RpcStats::add(counter);
            return Poll::Ready(Err(late("nothing was received in time")));
        }
        self.read_clock.as_mut().reset(deadline);
        match self.read_clock.as_mut().poll(cx) {
            Poll::Ready(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_since = None;
            self.since = Instant::now();
            return result;
        }
        let since = *self.write_since.get_or_insert_with(Instant::now);
        let deadline = since + self.write_timeout;
        if Instant::now() >= deadline {
            RpcStats::add(&self.stats.write_timeouts);
            return Poll::Ready(Err(late("the client did not take what was sent")));
        }
        self.write_clock.as_mut().reset(deadline);
        if self.write_clock.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn check_gone(&self) -> io::Result<()> {
        if self.connection.gone.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "disconnected: too slow a reader"));
        }
        Ok(())
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        *this.connection.waker.lock() = Some(cx.waker().clone());
        this.check_gone()?;
        let before = buf.filled().len();
        match Pin::new(&mut this.socket).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let now = Instant::now();
                this.since = now;
                // The clock of a request runs from its first byte, however slowly others follow.
                if buf.filled().len() > before && this.connection.is(Phase::Idle) {
                    this.connection.set(Phase::Reading);
                    this.request_since = Some(now);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.wait_for_bytes(cx),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_gone()?;
        let result = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.wrote(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_gone()?;
        let result = Pin::new(&mut this.socket).poll_write_vectored(cx, parts);
        this.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
