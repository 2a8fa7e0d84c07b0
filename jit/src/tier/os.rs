#![allow(unsafe_code)]
//! What the background thread asks of the kernel: to be nice, and to stay off the cores that others own.

use std::io;

/// Lowers the calling thread's priority. A thread of its own process may always be nicer.
pub(crate) fn be_nice(nice: i32) -> io::Result<()> {
    // SAFETY: setpriority takes numbers and touches no memory of ours; who = 0 names, on Linux, the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the calling thread run on these processors only. No processors: as it is.
pub(crate) fn run_on(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value: the empty set.
    let mut set = unsafe { std::mem::zeroed::<libc::cpu_set_t>() };
    for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the number lies inside the set, as the filter says.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: the set is alive during the call and as long as the length says; 0 names the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_can_be_nicer_and_keep_to_a_processor() {
        let thread = std::thread::spawn(|| {
            super::be_nice(5).expect("nicer is always allowed");
            let allowed = std::fs::read_to_string("/proc/thread-self/status").expect("the kernel's own file");
            let list = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let first: String =
                list.expect("listed").trim().chars().take_while(char::is_ascii_digit).collect();
            super::run_on(&[first.parse().expect("a number")]).expect("an allowed processor");
            super::run_on(&[]).expect("nothing to do");
            let after = std::fs::read_to_string("/proc/thread-self/status").expect("the kernel's own file");
            let list = after.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            assert_eq!(list.map(str::trim), Some(first.as_str()));
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("the kernel's own file");
            let nice = stat.rsplit(')').next().expect("fields").split_whitespace().nth(16);
            assert_eq!(nice, Some("5"));
        });
        thread.join().expect("no panic");
    }
}
