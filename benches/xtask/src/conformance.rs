//! Ethereum's conformance tests through `ironlane conformance`.
//!
//! The corpus lies outside the repository: IRONLANE_CORPUS, or `../shared/corpus` beside the checkout. Each archive is
//! unpacked once, into the target folder.

use crate::process;
use crate::report::{Counts, Outcome};
use crate::workspace::Workspace;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const UNPACK_LIMIT: Duration = Duration::from_secs(120);
const RUN_LIMIT: Duration = Duration::from_secs(1200);

/// Of a sampled archive every file whose place in sorted order is a multiple of this runs.
const SAMPLE_EVERY: usize = 5;

struct Part {
    archive: &'static str,
    kind: &'static str,
    /// Small enough to run whole always.
    always_whole: bool,
}

const PARTS: &[Part] = &[
    Part { archive: "state-dev", kind: "state-tests", always_whole: false },
    Part { archive: "state-extra-ethereum-tests-dev", kind: "state-tests", always_whole: true },
    Part { archive: "block-dev", kind: "blockchain-tests", always_whole: false },
    Part { archive: "mainnet-blocks-dev", kind: "mainnet-blocks", always_whole: true },
];

/// Every part runs by each of them.
const ENGINES: [&str; 2] = ["interpreter", "jit"];

/// Runs the corpus, whole or sampled, by every engine.
pub(crate) fn step(workspace: &Workspace, whole: bool) -> anyhow::Result<Outcome> {
    let corpus = match std::env::var_os("IRONLANE_CORPUS") {
        Some(folder) => PathBuf::from(folder),
        None => workspace.root.join("../shared/corpus"),
    };
    if !corpus.is_dir() {
        return Ok(Outcome::skipped(
            "no corpus: IRONLANE_CORPUS is not set, and ../shared/corpus is not there",
        ));
    }
    let mut counts = Counts::default();
    let (mut notes, mut failures, mut left_out) = (vec![], vec![], vec![]);
    for part in PARTS {
        let archive = corpus.join(format!("{}.tar.xz", part.archive));
        if !archive.exists() {
            counts.skipped += 1;
            left_out.push(format!("{}: the archive is not in the corpus", part.archive));
            continue;
        }
        let mut folder = unpack(&archive, &workspace.target.join("corpus"), part.archive)?;
        if !whole && !part.always_whole {
            let (sample, taken, all) = sample(&folder)?;
            left_out.push(format!(
                "{}: sampled, {taken} of {all} files ran; `cargo xtask test --whole-corpus` runs all",
                part.archive
            ));
            folder = sample;
        }
        for engine in ENGINES {
            let mut command = Command::new(workspace.binary("ironlane"));
            command.args(["conformance", part.kind, "--engine", engine]).arg(&folder).arg("--json");
            command.current_dir(&workspace.root);
            let run = process::run(&mut command, RUN_LIMIT, false)?;
            let json = run.json().unwrap_or_default();
            let number = |field: &str| json[field].as_u64().unwrap_or(0);
            let skipped = json["skipped"].as_array().map_or(0, Vec::len);
            let line = format!(
                "{} by {engine}: {} of {} cases passed, {skipped} skipped",
                part.archive,
                number("passed"),
                number("cases")
            );
            eprintln!("    {line}");
            for skip in json["skipped"].as_array().into_iter().flatten() {
                eprintln!("    skipped {}: {}", skip["name"], skip["reason"]);
            }
            if run.success && number("passed") > 0 {
                counts.passed += 1;
                notes.push(line);
            } else {
                for line in run.lines.iter().rev().take(60).rev() {
                    eprintln!("    {line}");
                }
                let why = if run.success { "no case ran".to_owned() } else { run.reason };
                failures.push(format!("{line} ({why})"));
            }
        }
    }
    counts.failed = failures.len() as u64;
    let note = if failures.is_empty() { notes.join("; ") } else { failures.join("; ") };
    Ok(Outcome { counts, note, left_out })
}

/// Unpacks an archive once; answers the folder. Whoever comes at the same time finds the finished folder or makes it.
fn unpack(archive: &Path, into: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = into.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    let fresh = into.join(format!(".{name}.{}", std::process::id()));
    std::fs::create_dir_all(&fresh).with_context(|| format!("making {}", fresh.display()))?;
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(archive).arg("-C").arg(&fresh);
    let finished = process::run(&mut tar, UNPACK_LIMIT, false)?;
    ensure!(finished.success, "unpacking failed: {}; {}", finished.reason, finished.lines.join(" "));
    if std::fs::rename(&fresh, &folder).is_err() {
        std::fs::remove_dir_all(&fresh).context("removing a second copy of the corpus")?;
        ensure!(folder.is_dir(), "{} could not be put in place", folder.display());
    }
    Ok(folder)
}

/// A folder beside `whole` with hard links to some of its files: (folder, files in it, files in all).
fn sample(whole: &Path) -> anyhow::Result<(PathBuf, usize, usize)> {
    let mut files = Vec::new();
    let mut folders = vec![whole.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let sample = whole.with_file_name(format!("{name}-every-{SAMPLE_EVERY}"));
    let taken: Vec<_> = files.iter().step_by(SAMPLE_EVERY).collect();
    for file in &taken {
        let copy = sample.join(file.strip_prefix(whole)?);
        if !copy.exists() {
            let folder = copy.parent().context("a file has a folder")?;
            std::fs::create_dir_all(folder)?;
            std::fs::hard_link(file, &copy).with_context(|| format!("linking {}", copy.display()))?;
        }
    }
    Ok((sample, taken.len(), files.len()))
}
