#![allow(unsafe_code)]
//! The device's dealings with raw memory: the io_uring, the receive buffers that the kernel fills, the send buffers that
//! it reads. Nothing else of the device is unsafe.
//!
//! Who keeps what alive: both kinds of buffers belong to [`Uring`]. A receive buffer is the kernel's until a completion
//! brings it as a [`Filled`], which exists once and is given back by value. A send buffer stays in its slot until its
//! completion was taken. When the ring is dropped, all requests are cancelled and awaited first; where that fails the
//! memory is leaked.

use crate::{ConnId, NetError};
use io_uring::types::{BufRingEntry, CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Set in `io_uring_enter`: run deferred work and post its completions.
const ENTER_GETEVENTS: u32 = 1;

/// The receive buffers' number in the ring.
const BUFFER_GROUP: u16 = 0;

/// What a request was for: the four bits of `user_data` above the connection's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Op {
    Accept = 1,
    ListenerPoll = 2,
    Receive = 3,
    Send = 4,
    Cancel = 5,
}

impl Op {
    const fn of(self, conn: ConnId) -> u64 {
        (self as u64) << ConnId::BITS | conn.0
    }

    const fn split(user_data: u64) -> (Option<Op>, ConnId) {
        let op = match user_data >> ConnId::BITS {
            1 => Some(Op::Accept),
            2 => Some(Op::ListenerPoll),
            3 => Some(Op::Receive),
            4 => Some(Op::Send),
            5 => Some(Op::Cancel),
            _ => None,
        };
        (op, ConnId(user_data & ((1 << ConnId::BITS) - 1)))
    }
}

/// A receive buffer that the kernel has filled and handed over. Give it back with [`Uring::give_back`].
#[derive(Debug)]
pub(super) struct Filled {
    id: u16,
    bytes: u32,
}

/// A completion, copied out of the ring.
#[derive(Debug)]
pub(super) struct Completion {
    /// What for; `None` is not one of ours.
    pub(super) op: Option<Op>,
    /// For which connection.
    pub(super) conn: ConnId,
    /// The system's answer: a count or descriptor, or the negative error number.
    pub(super) result: i32,
    /// Whether more completions of the same request follow.
    pub(super) more: bool,
    /// What a receive brought.
    pub(super) buffer: Option<Filled>,
}

/// A send under way.
#[derive(Debug)]
struct Sending {
    bytes: Vec<u8>,
    /// Its completion was taken: the kernel does not read it any more.
    done: bool,
}

/// An io_uring with its buffers. It is used by one thread: the one that first polls it.
pub(super) struct Uring {
    ring: IoUring,
    enabled: bool,
    /// Requests for which the submission queue had no room.
    backlog: VecDeque<squeue::Entry>,
    pool: ManuallyDrop<BufferPool>,
    sends: ManuallyDrop<Vec<Option<Sending>>>,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("fd", &self.ring.as_raw_fd()).finish_non_exhaustive()
    }
}

/// Sizes of a [`Uring`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Submissions; a power of two. There are four times as many completions.
    pub(super) entries: u32,
    /// Connections that may have a send under way.
    pub(super) connections: usize,
    /// Receive buffers; a power of two, at most 32,768.
    pub(super) buffers: u16,
    /// Bytes of one.
    pub(super) buffer_bytes: u32,
}

impl Uring {
    /// A ring, its receive buffers in the kernel's hands.
    pub(super) fn new(sizes: Sizes) -> Result<Uring, NetError> {
        // The ring starts disabled, so that the thread which first polls, not the one which opens, becomes its owner.
        // Not DEFER_TASKRUN: under it nobody who sleeps in poll(2) on the ring's descriptor is woken by new work, since
        // the completion is only made by the next `io_uring_enter` (measured on Linux 6.18).
        let ring = IoUring::builder()
            .dontfork()
            .setup_cqsize(sizes.entries * 4)
            .setup_submit_all()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(sizes.entries)
            .map_err(|source| NetError::Uring { what: "setting it up", source })?;
        let pool = BufferPool::new(&ring, sizes.buffers, sizes.buffer_bytes)?;
        let sends = (0..sizes.connections).map(|_| None).collect();
        Ok(Uring {
            ring,
            enabled: false,
            backlog: VecDeque::new(),
            pool: ManuallyDrop::new(pool),
            sends: ManuallyDrop::new(sends),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Makes the calling thread the ring's owner; `true` the first time.
    ///
    /// # Errors
    /// The system's answer.
    pub(super) fn enable(&mut self) -> io::Result<bool> {
        if self.enabled {
            return Ok(false);
        }
        self.ring.submitter().register_enable_rings()?;
        self.enabled = true;
        Ok(true)
    }

    // ---- requests: queued here, seen by the kernel at the next `enter` --------------------------------------------

    /// Accepts connections until it says that no more follow.
    pub(super) fn accept(&mut self, listener: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(Op::Accept.of(ConnId(0))));
    }

    /// Completes once when a connection waits to be accepted.
    pub(super) fn poll_listener(&mut self, listener: RawFd) {
        let entry = opcode::PollAdd::new(Fd(listener), libc::POLLIN as u32).build();
        self.push(entry.user_data(Op::ListenerPoll.of(ConnId(0))));
    }

    /// Receives into the pool's buffers until it says that no more follows.
    pub(super) fn receive(&mut self, conn: ConnId, socket: RawFd) {
        let entry = opcode::RecvMulti::new(Fd(socket), BUFFER_GROUP).build();
        self.push(entry.user_data(Op::Receive.of(conn)));
    }

    /// Ends a [`Uring::receive`]; its last completion says ECANCELED.
    pub(super) fn cancel_receive(&mut self, conn: ConnId) {
        let entry = opcode::AsyncCancel::new(Op::Receive.of(conn)).build();
        self.push(entry.user_data(Op::Cancel.of(conn)));
    }

    /// Sends `bytes` from `from` on. The buffer comes back by [`Uring::take_sent`], after its completion.
    ///
    /// # Panics
    /// When a send of this connection's slot is under way.
    pub(super) fn send(&mut self, conn: ConnId, socket: RawFd, bytes: Vec<u8>, from: usize) {
        let place = &mut self.sends[conn.slot()];
        assert!(place.is_none(), "one send a connection at a time");
        let sending = place.insert(Sending { bytes, done: false });
        let left = &sending.bytes[from..];
        // MSG_WAITALL: the kernel goes on by itself when the socket takes only a part.
        let entry = opcode::Send::new(Fd(socket), left.as_ptr(), left.len().min(1 << 30) as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry.user_data(Op::Send.of(conn)));
    }

    /// The buffer of a send that has ended.
    pub(super) fn take_sent(&mut self, conn: ConnId) -> Option<Vec<u8>> {
        let place = &mut self.sends[conn.slot()];
        place.take_if(|s| s.done).map(|s| s.bytes)
    }

    /// Whether a send of this connection's slot is under way, or its buffer was not taken.
    pub(super) fn is_sending(&self, conn: ConnId) -> bool {
        self.sends[conn.slot()].is_some()
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.backlog.push_back(entry);
        self.queue();
        if !self.backlog.is_empty() {
            // Full: hand over what is there. What still finds no room waits for the next `enter`, after completions were
            // taken; to insist here could wait for ever.
            self.enter();
        }
    }

    /// Moves requests to the submission queue while it has room.
    fn queue(&mut self) {
        let mut submission = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: requests are made only above. The one kind that points to memory is `send`, whose heap block
            // lies in `self.sends` unmoved until its completion was taken, or until `drop` saw every request end.
            if unsafe { submission.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    // ---- the kernel -----------------------------------------------------------------------------------------------

    /// Whether the kernel waits for a call: submissions are queued, deferred work is pending, or completions overflowed.
    #[inline]
    pub(super) fn wants_enter(&mut self) -> bool {
        let submission = self.ring.submission();
        let called = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        self.enabled && (called || !self.backlog.is_empty())
    }

    /// Submits what is queued and runs deferred work. Does not wait.
    ///
    /// # Panics
    /// When the kernel refuses the ring itself: nothing could be sent or received any more.
    pub(super) fn enter(&mut self) {
        if !self.enabled {
            return;
        }
        loop {
            self.queue();
            let queued = self.ring.submission().len() as u32;
            // SAFETY: no argument struct is passed, so nothing is read from memory but the ring's own pages.
            let result = unsafe { self.ring.submitter().enter::<()>(queued, 0, ENTER_GETEVENTS, None) };
            match result.map_err(|e| (e.raw_os_error(), e)) {
                Ok(_) if self.backlog.is_empty() => return,
                // Took all, and there is room for more.
                Ok(taken) if taken > 0 => {}
                Ok(_) => return,
                Err((Some(libc::EINTR), _)) => {}
                // No memory for requests now, or the completion queue must be emptied first: the next call tries again.
                Err((Some(libc::EAGAIN | libc::EBUSY), _)) => return,
                Err((_, error)) => panic!("io_uring_enter refused the ingest ring: {error}"),
            }
        }
    }

    /// Moves at most `max` completions to `batch`.
    pub(super) fn take(&mut self, max: usize, batch: &mut Vec<Completion>) {
        for entry in self.ring.completion().take(max) {
            let (op, conn) = Op::split(entry.user_data());
            if op == Some(Op::Send)
                && let Some(Some(sending)) = self.sends.get_mut(conn.slot())
            {
                sending.done = true;
            }
            let bytes = entry.result().max(0) as u32;
            let buffer = cqueue::buffer_select(entry.flags()).map(|id| Filled { id, bytes });
            let more = cqueue::more(entry.flags());
            batch.push(Completion { op, conn, result: entry.result(), more, buffer });
        }
    }

    /// What a receive brought.
    pub(super) fn bytes(&self, buffer: &Filled) -> &[u8] {
        self.pool.bytes(buffer)
    }

    /// Hands a receive buffer back; the kernel sees it after [`Uring::publish_buffers`].
    pub(super) fn give_back(&mut self, buffer: Filled) {
        self.pool.give_back(buffer.id);
    }

    /// Lets the kernel use all receive buffers that were given back.
    pub(super) fn publish_buffers(&mut self) {
        self.pool.publish();
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let ended = !self.enabled || {
            let limit = Timespec::new().sec(1);
            match self.ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any()) {
                Ok(()) => true,
                Err(error) => error.raw_os_error() == Some(libc::ENOENT),
            }
        };
        if ended {
            // SAFETY: no request is left that could use these, and they are not used after this.
            unsafe {
                ManuallyDrop::drop(&mut self.pool);
                ManuallyDrop::drop(&mut self.sends);
            }
        }
    }
}

/// Private, zeroed, page-aligned memory.
#[derive(Debug)]
struct Pages {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pages belong to this value alone; nothing about them is tied to a thread.
unsafe impl Send for Pages {}

impl Pages {
    fn new(bytes: usize) -> Result<Pages, NetError> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()).filter(|_| base != libc::MAP_FAILED) {
            Some(base) => Ok(Pages { base, bytes }),
            None => {
                Err(NetError::Uring { what: "mapping receive buffers", source: io::Error::last_os_error() })
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped; nobody refers to it any more, since `self` is gone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Receive buffers of one size that the kernel picks from for any connection.
#[derive(Debug)]
struct BufferPool {
    ring: Pages,
    buffers: Pages,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
}

impl BufferPool {
    fn new(uring: &IoUring, count: u16, buffer_bytes: u32) -> Result<BufferPool, NetError> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "io_uring takes powers of two up to 32768");
        let ring = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let buffers = Pages::new(usize::from(count) * buffer_bytes as usize)?;
        // SAFETY: `ring` is page-aligned, has room for `count` entries, and lives as long as the pool, which `Uring`
        // drops only after all requests have ended (or leaks).
        unsafe {
            let start = ring.base.as_ptr() as u64;
            uring.submitter().register_buf_ring_with_flags(start, count, BUFFER_GROUP, 0)
        }
        .map_err(|source| NetError::Uring { what: "registering receive buffers", source })?;
        let mut pool = BufferPool { ring, buffers, count, buffer_bytes, tail: 0 };
        for id in 0..count {
            pool.give_back(id);
        }
        pool.publish();
        Ok(pool)
    }

    fn bytes(&self, buffer: &Filled) -> &[u8] {
        assert!(
            buffer.id < self.count && buffer.bytes <= self.buffer_bytes,
            "the kernel answers with our buffers"
        );
        // SAFETY: the range is inside the mapping. A `Filled` exists only while the buffer is ours: it is made from the
        // completion that hands the buffer over, cannot be copied, and giving it back consumes it.
        unsafe {
            let start = self.buffers.base.as_ptr().add(usize::from(buffer.id) * self.buffer_bytes as usize);
            std::slice::from_raw_parts(start, buffer.bytes as usize)
        }
    }

    fn give_back(&mut self, id: u16) {
        assert!(id < self.count, "the kernel answers with our buffers");
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is inside the ring, `id`'s buffer inside the mapping. The kernel reads entries only below the
        // published tail, and this one is above it.
        unsafe {
            let entry = self.ring.base.as_ptr().cast::<BufRingEntry>().add(slot);
            let buffer = self.buffers.base.as_ptr().add(usize::from(id) * self.buffer_bytes as usize);
            (*entry).set_addr(buffer as u64);
            (*entry).set_len(self.buffer_bytes);
            (*entry).set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry's reserved field, which `set_*` above never writes; it is aligned for
        // u16, and is shared with the kernel, hence the atomic store that orders the entries before it.
        unsafe {
            let tail = BufRingEntry::tail(self.ring.base.as_ptr().cast::<BufRingEntry>());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

/// Makes the close of a socket a reset that throws away what is unsent.
pub(super) fn set_reset_on_close(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a `linger`, its size is given, and the kernel copies it before returning.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}

/// Sets how many connections may wait to be accepted.
pub(super) fn set_backlog(fd: RawFd, backlog: i32) {
    // SAFETY: no memory is passed. On a listening socket the call only changes the length of its queue.
    unsafe { libc::listen(fd, backlog) };
}

/// Takes ownership of a descriptor that the ring accepted.
pub(super) fn adopt(fd: i32) -> std::net::TcpStream {
    use std::os::fd::FromRawFd;
    debug_assert!(fd >= 0);
    // SAFETY: the accept's completion gave this process a new descriptor that nothing else owns.
    unsafe { std::net::TcpStream::from_raw_fd(fd) }
}
