//! `ironlane offload` as an operator calls it.

use serde_json::Value;
use std::process::{Command, Output};

fn offload(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_ironlane")).arg("offload").args(arguments).output();
    output.expect("ironlane starts")
}

/// The JSON object on the last line of stdout.
fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| {
        panic!("{e}: {last:?}\n{}", String::from_utf8_lossy(&output.stderr));
    })
}

#[test]
fn the_list_names_engines_and_forms() {
    let output = offload(&["list", "--json"]);
    assert!(output.status.success());
    let list = json(&output);
    let engines = list["engines"].as_array().expect("engines");
    assert!(engines.iter().any(|e| e["engine"] == "scalar" && e["trust"] == "trusted"));
    assert!(engines.iter().any(|e| e["engine"] == "software" && e["trust"] == "hint"));
    assert!(list["forms"].as_array().expect("forms").len() >= 7);
}

#[test]
fn a_validation_is_signed_and_the_report_can_be_checked() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| folder.path().join(name).to_str().expect("utf-8").to_string();
    let (report, html, key) = (path("report.json"), path("report.html"), path("key"));
    std::fs::write(&key, format!("0x{}\n", "07".repeat(32))).expect("written");
    let mut arguments = vec!["validate", "--engine", "software", "--quick", "--no-bench", "--json"];
    arguments.extend(["--answer-limit-ms", "5000"]);
    arguments.extend(["--report", &report, "--html", &html, "--sign-key", &key]);
    let output = offload(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&output);
    assert_eq!((&found["engine"], &found["verdict"]), (&"software".into(), &"pass".into()));
    assert_eq!(found["cases"], found["passed"]);
    assert!(found["cases"].as_u64().expect("a number") > 5_000);
    for field in ["failed", "throughput_per_s", "latency_us", "signature"] {
        assert!(found.get(field).is_some(), "{field} is missing");
    }
    assert!(std::fs::read_to_string(&html).expect("a page").starts_with("<!doctype html>"));
    assert!(offload(&["report", &report]).status.success());
    let changed = std::fs::read_to_string(&report).expect("a report").replace("pass\"", "fail\"");
    std::fs::write(&report, changed).expect("written");
    assert!(!offload(&["report", &report]).status.success(), "a changed report is refused");
}

#[test]
fn a_card_with_a_fault_fails_and_says_why() {
    let arguments = ["validate", "--engine", "mutant:duplicate-every-7", "--quick", "--no-bench", "--json"];
    let output = offload(&arguments);
    assert!(!output.status.success());
    let found = json(&output);
    assert_eq!(found["verdict"], "fail");
    assert!(!found["failed"].as_array().expect("failures").is_empty());
    let output = offload(&["validate", "--engine", "gibberish"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("plugin:PATH"));
}

#[test]
fn mutants_are_listed_and_caught() {
    let all = json(&offload(&["mutants", "--json"]));
    assert!(all["mutants"].as_array().expect("names").len() >= 200);
    let output = offload(&["mutants", "--run", "--only", "reset", "--json"]);
    let found = json(&output);
    assert_eq!(found["caught"], found["mutants"]);
    assert!(output.status.success() && found["caught"].as_u64().expect("a number") >= 5);
}

#[test]
fn a_bench_fills_the_matrix() {
    let output = offload(&["bench", "--engine", "scalar", "--quick", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = json(&output);
    assert!(found["matrix"].as_array().expect("cells").len() > 8);
    assert!(found["throughput_per_s"].as_f64().expect("a number") > 0.0);
    assert!(found["latency_us"]["p50"].as_f64().expect("a number") > 0.0);
}
