//! The system calls that the standard library does not offer. All of the crate's foreign calls are here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A non-blocking eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers; a non-negative answer is a new descriptor that nobody else owns.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Adds one to an eventfd. A counter at its limit is already readable, so that error is no loss.
pub(crate) fn eventfd_signal(fd: &OwnedFd) {
    let one: u64 = 1;
    // SAFETY: the pointer and the length name the eight bytes of `one`, which outlives the call.
    unsafe {
        libc::write(fd.as_raw_fd(), std::ptr::from_ref(&one).cast(), size_of::<u64>());
    }
}

/// Sets an eventfd back to zero.
pub(crate) fn eventfd_clear(fd: &OwnedFd) {
    let mut count: u64 = 0;
    // SAFETY: the pointer and the length name the eight bytes of `count`, which outlives the call.
    unsafe {
        libc::read(fd.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), size_of::<u64>());
    }
}

/// Sleeps until one of `fds` is readable or the time is over. An interruption counts as waking.
pub(crate) fn wait_readable(fds: &mut [libc::pollfd], timeout: Duration) {
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // SAFETY: the pointer and the count name the caller's slice, `time` outlives the call, no signal mask is given.
    unsafe {
        libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, &time, std::ptr::null());
    }
}

/// A pollfd that waits for input.
pub(crate) fn pollfd(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Sets the calling thread's nice value; it may fail where the value is below the current one, which is harmless.
pub(crate) fn set_thread_nice(nice: i32) {
    // SAFETY: gettid and setpriority take no pointers; on Linux PRIO_PROCESS with a thread id means that thread.
    unsafe {
        let tid = libc::syscall(libc::SYS_gettid);
        libc::setpriority(libc::PRIO_PROCESS, tid as libc::id_t, nice);
    }
}

/// Lets the kernel end the calling thread's timed sleeps at most this late.
pub(crate) fn set_timer_slack(slack: Duration) {
    let ns = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX);
    // SAFETY: PR_SET_TIMERSLACK takes one integer and no pointers. It can only fail on kernels without it, harmlessly.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, ns);
    }
}
