//! Signals whose default would end the process where an error is to be handled instead.
#![allow(unsafe_code)]

/// A write beyond the file-size limit (RLIMIT_FSIZE) then fails with EFBIG, which the journal reports as a fault, instead
/// of killing the process.
pub fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is a valid disposition for SIGXFSZ, and no handler of ours runs in signal context.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
