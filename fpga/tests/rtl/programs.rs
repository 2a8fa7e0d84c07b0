//! Builds the simulations with `make -C fpga/rtl` and talks to them in lines.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Path of one of the programs, built if need be; `None`, after saying why, where Verilator is missing.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    if Command::new("verilator").arg("--version").output().is_err() {
        eprintln!("skipped: verilator is not installed (`cargo xtask setup` installs it)");
        return None;
    }
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rtl");
    std::fs::create_dir_all(&out).unwrap();
    // Tests run as processes of their own, side by side; only one may build.
    let lock = File::create(out.join("lock")).unwrap();
    lock.lock().unwrap();
    let path = out.join(name);
    let build = Command::new("make")
        .arg("-C")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/rtl"))
        .arg(format!("OUT={}", out.display()))
        .arg(&path)
        // Flags for another make do not concern this one.
        .env_remove("MAKEFLAGS")
        .output()
        .expect("make is installed");
    let text = String::from_utf8_lossy(&build.stdout).into_owned() + &String::from_utf8_lossy(&build.stderr);
    assert!(build.status.success(), "the simulation does not build:\n{text}");
    Some(path)
}

/// What a program printed.
pub(crate) struct Output {
    /// Lines but those below.
    pub(crate) lines: Vec<String>,
    /// Numbers of the lines `# clocks N`.
    pub(crate) clocks: Vec<u64>,
}

/// Runs a program on `input` to its end.
pub(crate) fn run(path: &PathBuf, arguments: &[&str], input: String) -> Output {
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the simulation starts");
    let mut stdin = child.stdin.take().unwrap();
    // A thread of its own, so that neither side waits for the other with a full pipe.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{} ended with {}", path.display(), output.status);
    writer.join().unwrap().unwrap();
    let (mut lines, mut clocks) = (vec![], vec![]);
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.strip_prefix("# clocks ") {
            Some(number) => clocks.push(number.parse().unwrap()),
            None => lines.push(line.to_owned()),
        }
    }
    Output { lines, clocks }
}
