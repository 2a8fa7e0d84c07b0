//! Runs a command with its output passed through and kept, and with an end to its patience.

use anyhow::Context;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a command ended.
pub(crate) struct Finished {
    /// It ended by itself with exit code 0.
    pub(crate) success: bool,
    /// Why not, for people; empty on success.
    pub(crate) reason: String,
    /// Lines of stdout and stderr in the order in which they came.
    pub(crate) lines: Vec<String>,
}

impl Finished {
    /// The last line that is a JSON object.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        self.lines
            .iter()
            .rev()
            .filter(|line| line.starts_with('{'))
            .find_map(|line| serde_json::from_str(line).ok())
    }
}

/// The command line as one would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    command.get_args().fold(name, |line, arg| line + " " + &arg.to_string_lossy())
}

/// Runs `command` for at most `limit`; then it and its children are killed. `loud` passes the output on.
///
/// # Errors
///
/// When the command cannot be started at all.
pub(crate) fn run(command: &mut Command, limit: Duration, loud: bool) -> anyhow::Result<Finished> {
    let line = describe(command);
    eprintln!("  $ {line}");
    // A group of its own, so that the grandchildren (rustc, a node under test) can be ended with it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("`{line}` could not be started"))?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let tee = |stream: Option<Box<dyn Read + Send>>| {
        let lines = lines.clone();
        std::thread::spawn(move || {
            let Some(stream) = stream else { return };
            for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
                if loud {
                    // Nobody reads any more: the result still counts.
                    let _ = writeln!(std::io::stderr(), "    {text}");
                }
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        })
    };
    let out = child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    let err = child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
    let readers = [tee(out), tee(err)];
    let end = Instant::now() + limit;
    let mut killed = false;
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for a command")? {
            break status;
        }
        if Instant::now() > end && !killed {
            killed = true;
            kill_group(child.id());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // A child that outlives its parent holds the pipes open; it is not waited for for ever.
    let patience = Instant::now() + Duration::from_secs(2);
    while readers.iter().any(|reader| !reader.is_finished()) {
        if Instant::now() > patience {
            kill_group(child.id());
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let reason = match (killed, status.success()) {
        (true, _) => format!("`{line}` was ended after {} s", limit.as_secs()),
        (false, true) => String::new(),
        (false, false) => format!("`{line}` ended with {status}"),
    };
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Finished { success: status.success() && !killed, reason, lines })
}

/// Ends a group of processes that `run` made.
fn kill_group(leader: u32) {
    // Whoever has ended already is no error.
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{leader}")]).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Finished {
        run(Command::new("sh").args(["-c", script]), limit, false).expect("sh exists")
    }

    #[test]
    fn output_and_exit_code_are_kept() {
        let limit = Duration::from_secs(20);
        let good = shell("echo one; echo '{\"a\":1}'; echo two >&2", limit);
        assert!(good.success && good.reason.is_empty());
        assert_eq!(good.lines.len(), 3);
        assert_eq!(good.json().expect("an object")["a"], 1);
        let bad = shell("exit 3", limit);
        assert!(!bad.success && bad.reason.contains('3'), "{}", bad.reason);
        assert!(run(&mut Command::new("no-such-program-anywhere"), limit, false).is_err());
    }

    #[test]
    fn patience_ends_for_grandchildren_too() {
        let start = Instant::now();
        let slow = shell("sleep 60 & sleep 60", Duration::from_millis(200));
        assert!(!slow.success && slow.reason.contains("was ended"), "{}", slow.reason);
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
