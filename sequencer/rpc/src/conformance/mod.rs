//! Comparison of a server with the request and response pairs of the Ethereum execution-apis (`.io` files).
//!
//! Lines of a file: `//` comments, `>>` a request, `<<` the answer expected. Answers are compared in full, numbers as
//! numbers; of two errors only the code counts. A file whose comments say `speconly` is checked against the method's
//! result schema in `openrpc.json` instead.

mod client;
mod pattern;
mod schema;

use client::Endpoint;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Names of failures that a report holds at most.
const FAILED_SHOWN_MAX: usize = 50;

/// Methods outside of what this node is for, by prefix or name, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("debug_trace", "tracing of transactions is not part of this node's RPC"),
    ("testing_", "block building by request is a testing interface that a sequencer must not offer"),
    ("eth_simulateV1", "simulation of chains of blocks is not part of this node's RPC"),
];

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
    /// The folder holds no pair.
    #[error("{} holds no .io file: name the folder of the execution-apis tests", .0.display())]
    Empty(PathBuf),
    /// The address of the server makes no sense.
    #[error("{0} is not the address of a server: expected http://host:port")]
    Url(String),
}

/// A pair that was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// `method/file`.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// How a comparison went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Always `rpc`.
    pub kind: &'static str,
    /// Always `server`: what answered stands behind the URL.
    pub engine: &'static str,
    /// Files read.
    pub files: u64,
    /// Files compared.
    pub cases: u64,
    /// Files whose every answer was as expected.
    pub passed: u64,
    /// Names of the others, at most 50.
    pub failed: Vec<String>,
    /// Files that were not run.
    pub skipped: Vec<Skipped>,
    /// For each name in `failed`, what was different first.
    pub differences: Vec<String>,
}

/// Runs every pair under `dir` against the server at `url` (`http://host:port`), one after another.
pub fn run(url: &str, dir: &Path) -> Result<Report, ConformanceError> {
    let endpoint = Endpoint::parse(url).ok_or_else(|| ConformanceError::Url(url.into()))?;
    let mut files = Vec::new();
    collect(dir, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(ConformanceError::Empty(dir.into()));
    }
    let schemas = schema::Schemas::load(&dir.join("openrpc.json"));
    let mut report = Report {
        kind: "rpc",
        engine: "server",
        files: files.len() as u64,
        cases: 0,
        passed: 0,
        failed: Vec::new(),
        skipped: Vec::new(),
        differences: Vec::new(),
    };
    for path in files {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        let method = name.split('/').next().unwrap_or_default();
        if let Some((_, reason)) = LEFT_OUT.iter().find(|(prefix, _)| method.starts_with(prefix)) {
            report.skipped.push(Skipped { name, reason: (*reason).into() });
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| ConformanceError::Read { path, error })?;
        report.cases += 1;
        match run_file(&endpoint, &text, &schemas) {
            Ok(()) => report.passed += 1,
            Err(difference) if report.failed.len() < FAILED_SHOWN_MAX => {
                report.differences.push(format!("{name}: {difference}"));
                report.failed.push(name);
            }
            Err(_) => {}
        }
    }
    Ok(report)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), ConformanceError> {
    let failed = |error| ConformanceError::Read { path: dir.into(), error };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "io") {
            files.push(path);
        }
    }
    Ok(())
}

fn run_file(endpoint: &Endpoint, text: &str, schemas: &schema::Schemas) -> Result<(), String> {
    let spec_only = text.lines().any(|line| line.starts_with("//") && line.contains("speconly"));
    let mut request: Option<&str> = None;
    for line in text.lines() {
        if let Some(sent) = line.strip_prefix(">>") {
            request = Some(sent.trim());
        } else if let Some(expected) = line.strip_prefix("<<") {
            let sent = request.take().ok_or("an answer without a request")?;
            let expected: Value = serde_json::from_str(expected).map_err(|error| error.to_string())?;
            let got = endpoint.post(sent)?;
            let got: Value =
                serde_json::from_str(&got).map_err(|error| format!("the answer is not JSON: {error}"))?;
            if spec_only {
                schemas.check(sent, &expected, &got)?;
            } else {
                compare(&expected, &got)?;
            }
        }
    }
    Ok(())
}

fn compare(expected: &Value, got: &Value) -> Result<(), String> {
    match (expected.get("error"), got.get("error")) {
        (Some(expected), Some(got)) => {
            let code = |error: &Value| error.get("code").and_then(Value::as_i64);
            same("error.code", code(expected), code(got))?;
            difference("error.data", &expected["data"], &got["data"]).map_or(Ok(()), Err)
        }
        (None, None) => difference("result", &expected["result"], &got["result"]).map_or(Ok(()), Err),
        _ => Err(format!("expected {}, got {}", short(expected), short(got))),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, got: T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {got:?}")) }
}

/// The first place where two values differ.
fn difference(at: &str, expected: &Value, got: &Value) -> Option<String> {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let names: std::collections::BTreeSet<_> = expected.keys().chain(got.keys()).collect();
            names.into_iter().find_map(|name| match (expected.get(name), got.get(name)) {
                (Some(expected), Some(got)) => difference(&format!("{at}.{name}"), expected, got),
                (Some(expected), None) => Some(format!("{at}.{name}: missing, expected {}", short(expected))),
                (None, got) => {
                    Some(format!("{at}.{name}: not expected: {}", short(got.unwrap_or(&Value::Null))))
                }
            })
        }
        (Value::Array(expected), Value::Array(got)) => {
            if expected.len() != got.len() {
                return Some(format!("{at}: expected {} items, got {}", expected.len(), got.len()));
            }
            let pairs = expected.iter().zip(got).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (expected, got))| difference(&format!("{at}[{index}]"), expected, got))
        }
        // As numbers: 1 and 1.0 are the same.
        (Value::Number(expected), Value::Number(got)) if expected.as_f64() == got.as_f64() => None,
        (expected, got) if expected == got => None,
        (expected, got) => Some(format!("{at}: expected {}, got {}", short(expected), short(got))),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_compared_in_full_and_errors_by_code() {
        let ok = |expected: Value, got: Value| compare(&expected, &got).is_ok();
        assert!(ok(json!({"result": {"a": 1, "b": [1.0]}}), json!({"result": {"b": [1], "a": 1}})));
        assert!(!ok(json!({"result": {"a": 1}}), json!({"result": {"a": 1, "b": null}})));
        assert!(!ok(json!({"result": [1]}), json!({"result": [1, 2]})));
        assert!(ok(
            json!({"error": {"code": -1, "message": "x"}}),
            json!({"error": {"code": -1, "message": "y"}})
        ));
        assert!(!ok(json!({"error": {"code": -1}}), json!({"error": {"code": -2}})));
        assert!(!ok(json!({"result": 1}), json!({"error": {"code": -2}})));
    }
}
