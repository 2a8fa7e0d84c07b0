#![allow(unsafe_code)]
//! The few system calls that the standard library lacks.

/// Asks a process to end.
pub(super) fn terminate(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // SAFETY: sends a signal; no memory is passed. The process is a child that was not waited for yet, so its number
        // cannot have gone to another.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

/// Clock ticks of `/proc/PID/stat` in a second.
pub(super) fn ticks_per_second() -> u64 {
    // SAFETY: reads a constant; no memory is passed.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Lets this thread's sleeps end on time (the default allows 50 µs more).
pub(super) fn sleep_exactly() {
    // SAFETY: sets one number of the calling thread; no memory is passed.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1usize, 0usize, 0usize, 0usize) };
}
