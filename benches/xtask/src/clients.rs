//! The client tests: unpatched wallets and libraries of the npm registry against a running node.

use crate::process;
use crate::report::{Counts, Outcome, node_counts};
use crate::workspace::Workspace;
use std::process::Command;
use std::time::Duration;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const TEST_LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn step(workspace: &Workspace) -> anyhow::Result<Outcome> {
    let folder = workspace.root.join("sequencer/tests/clients");
    if !folder.join("package.json").exists() {
        return Ok(Outcome::skipped("there is no sequencer/tests/clients"));
    }
    let npm = || {
        let mut command = Command::new("npm");
        command.current_dir(&folder);
        command
    };
    if npm().arg("--version").output().is_err() {
        return Ok(Outcome::skipped("npm is not installed (Node 20 is needed)"));
    }
    // Not `npm ci`: it wants the lock to hold the optional binaries of every platform.
    let args = ["install", "--no-save", "--no-audit", "--no-fund"];
    let install = process::run(npm().args(args), INSTALL_LIMIT, true)?;
    let mut left_out = vec![];
    if !install.success {
        let reachable = process::run(npm().args(["ping"]), Duration::from_secs(30), false)?.success;
        if reachable {
            return Ok(Outcome::failed(install.reason));
        }
        if !folder.join("node_modules").exists() {
            return Ok(Outcome::skipped(
                "the npm registry could not be reached, and nothing is installed yet",
            ));
        }
        left_out.push("the npm registry could not be reached: the installed packages were used".to_owned());
    }
    let binary = workspace.binary("ironlane");
    let mut command = npm();
    command.args(["test"]).env("IRONLANE_BIN", &binary).env("CARGO_TARGET_DIR", &workspace.target);
    let tests = process::run(&mut command, TEST_LIMIT, true)?;
    let mut counts = node_counts(&tests.lines).unwrap_or_default();
    let note = match (tests.success, counts) {
        (true, Counts { passed: 0, .. }) => "the runner ran no test".to_owned(),
        (true, _) => "viem, ethers, cast and forge against a node".to_owned(),
        (false, _) => tests.reason.clone(),
    };
    if (!tests.success || counts.passed == 0) && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(Outcome { counts, note, left_out })
}
