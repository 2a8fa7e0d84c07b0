#![allow(unsafe_code)]
//! Descriptors: eventfds, waiting with a time limit, and passing descriptors over a Unix socket.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Descriptors that one message may carry.
const FDS_MAX: usize = 8;

/// A doorbell between two processes.
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes two integers; the result is checked.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Takes a descriptor that the other side says is an eventfd. Whatever it is, using it cannot block us.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: fcntl with integers on a descriptor that we own.
        let done = unsafe {
            let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(fd)) }
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Rings. A full counter means that the other side has been rung already.
    pub(crate) fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes; the descriptor is open.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Forgets rings.
    pub(crate) fn drain(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes; the descriptor is open and does not block.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of the descriptors can be read or has lost its other end; says which.
pub(crate) fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `polled` holds N initialised entries and lives over the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, limit_ms) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(polled.map(|entry| entry.revents != 0))
}

/// Whether the other end of a stream has gone. Bytes that arrive without being asked for count as gone, too.
pub(crate) fn hung_up(stream: &UnixStream) -> bool {
    !matches!(wait_readable([stream.as_fd()], Duration::ZERO), Ok([false]))
}

/// The user on the other end of a socket, as the kernel knows it.
pub(crate) fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    let mut credentials = MaybeUninit::<libc::ucred>::zeroed();
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the buffer has `length` writable bytes; zeroed is a valid ucred.
    unsafe {
        let result = libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &mut length,
        );
        if result != 0 { Err(io::Error::last_os_error()) } else { Ok(credentials.assume_init().uid) }
    }
}

/// The user that this process acts as.
pub(crate) fn own_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// Sends bytes and descriptors in one message.
pub(crate) fn send_with_fds(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(fds.len() <= FDS_MAX);
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let fd_bytes = size_of_val(fds) as u32;
    // SAFETY: `part` and `control` outlive the call; `control` is aligned and larger than CMSG_SPACE of FDS_MAX
    // descriptors (asserted above: 16 + 8·4 < 128 bytes); zero is a valid msghdr.
    let sent = unsafe {
        let mut message = MaybeUninit::<libc::msghdr>::zeroed().assume_init();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(fd_bytes) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(fd_bytes) as usize;
        let data = libc::CMSG_DATA(header).cast::<RawFd>();
        for (i, fd) in fds.iter().enumerate() {
            data.add(i).write_unaligned(fd.as_raw_fd());
        }
        libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    match usize::try_from(sent) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(sent) if sent < bytes.len() => Err(io::Error::other("the greeting was cut short")),
        Ok(_) => Ok(()),
    }
}

/// Receives exactly `bytes.len()` bytes in one message and the descriptors that come with it.
pub(crate) fn receive_with_fds(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<Vec<OwnedFd>> {
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut fds = Vec::new();
    // SAFETY: the buffers outlive the call and their lengths are given; zero is a valid msghdr.
    let (received, message) = unsafe {
        let mut message = MaybeUninit::<libc::msghdr>::zeroed().assume_init();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        (libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC), message)
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel filled the control buffer and the CMSG macros walk it within msg_controllen; descriptors in
    // an SCM_RIGHTS message are new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                for i in 0..count {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if received == bytes.len() { Ok(fds) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Takes over a descriptor that this process was started with.
///
/// # Errors
/// When no such descriptor is open.
pub(crate) fn inherited_socket(raw: RawFd) -> io::Result<UnixStream> {
    // SAFETY: asks about a number; harmless if it names nothing.
    let flags = unsafe { libc::fcntl(raw, libc::F_GETFD) };
    if flags < 0 || raw <= 2 {
        return Err(io::Error::other(format!("descriptor {raw} is not an inherited socket")));
    }
    // SAFETY: the descriptor is open, and by the ABI's contract it was opened for this process to own.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: fcntl with integers on a descriptor that we own; children of this process need not have it.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    Ok(UnixStream::from(fd))
}

/// Lets the child of `command` keep `fd` open under its number.
pub(crate) fn keep_in_child(command: &mut std::process::Command, fd: &OwnedFd) {
    use std::os::unix::process::CommandExt;
    let raw = fd.as_raw_fd();
    // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if libc::fcntl(raw, libc::F_SETFD, 0) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_travel_and_the_bell_rings_at_the_other_end() {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        let (bell, other) = (EventFd::new().expect("eventfd"), EventFd::new().expect("eventfd"));
        send_with_fds(&ours, b"hello", &[bell.as_fd(), other.as_fd()]).expect("sent");
        let mut text = [0; 5];
        let fds = receive_with_fds(&theirs, &mut text).expect("received");
        assert_eq!((&text, fds.len()), (b"hello", 2));
        let received = EventFd::adopt(fds.into_iter().next().expect("two")).expect("adopted");
        assert_eq!(wait_readable([bell.as_fd()], Duration::ZERO).expect("poll"), [false]);
        received.ring();
        assert_eq!(wait_readable([bell.as_fd()], Duration::from_secs(5)).expect("poll"), [true]);
        bell.drain();
        assert_eq!(wait_readable([bell.as_fd()], Duration::ZERO).expect("poll"), [false]);
        assert_eq!(peer_uid(&ours).expect("credentials"), own_uid());
        assert!(!hung_up(&ours));
        drop(theirs);
        assert!(hung_up(&ours));
    }
}
