//! Counting cases.

use serde::Serialize;
use std::path::Path;

const FAILED_NAMES_MAX: usize = 50;

/// What a run found, as `ironlane conformance … --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConformanceReport {
    /// Kind of corpus.
    pub kind: String,
    /// What ran the bytecode.
    pub engine: String,
    /// Files read.
    pub files: usize,
    /// Cases in them, skipped ones not counted.
    pub cases: usize,
    /// Cases that passed.
    pub passed: usize,
    /// The first 50 cases that failed, each with its reason.
    pub failed: Vec<String>,
    /// Cases that were not run.
    pub skipped: Vec<Skipped>,
    /// With the JIT: how often compiled code was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compiled_segments: Option<u64>,
}

/// A case that was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Which.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// The cases of one file, or of many.
#[derive(Debug, Default)]
pub(super) struct Cases {
    file: String,
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<Skipped>,
}

impl Cases {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.display().to_string(), ..Default::default() }
    }

    pub(super) fn record(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(reason) => self.failed.push(format!("{}: {name}: {reason}", self.file)),
        }
    }

    pub(super) fn skip(&mut self, name: &str, reason: String) {
        self.skipped.push(Skipped { name: format!("{}: {name}", self.file), reason });
    }

    pub(super) fn add(&mut self, other: Cases) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }

    pub(super) fn report(mut self, kind: &str, files: usize) -> ConformanceReport {
        self.failed.sort();
        self.skipped.sort_by(|a, b| a.name.cmp(&b.name));
        let cases = self.passed + self.failed.len();
        self.failed.truncate(FAILED_NAMES_MAX);
        ConformanceReport {
            kind: kind.into(),
            engine: String::new(),
            files,
            cases,
            passed: self.passed,
            failed: self.failed,
            skipped: self.skipped,
            compiled_segments: None,
        }
    }
}
