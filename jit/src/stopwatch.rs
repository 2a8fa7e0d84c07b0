#![allow(unsafe_code)]
//! Time that the current thread has spent on a core. A compiler on a background thread is budgeted by what it takes from
//! the machine, not by how long it had to wait for its turn.

/// A running measurement of one thread's processor time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    started_us: u64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { started_us: thread_us() }
    }

    /// Microseconds since the start. Only for the thread that started it.
    pub(crate) fn elapsed_us(&self) -> u64 {
        thread_us().saturating_sub(self.started_us)
    }
}

fn thread_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}
