//! A fixed short budget of the differential fuzzer over every variant of the compiler, and a longer one on request:
//! `IRONLANE_FUZZ_SECONDS=600 cargo test -p ironlane-jit --test fuzz`.

use ironlane_jit::fuzz::{Compiled, Engine, FuzzOptions, fuzz};
use std::time::Duration;

/// Seconds a variant of the compiler gets.
fn seconds() -> u64 {
    std::env::var("IRONLANE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(3)
}

fn agree(variant: &str, seed: u64) {
    let (_, config) = Compiled::variants().into_iter().find(|(name, _)| *name == variant).expect("a variant");
    let engine = Compiled::new(config).expect("this machine compiles");
    let mut engines: [(String, Box<dyn Engine>); 1] = [(variant.into(), Box::new(engine))];
    let options = FuzzOptions { seed, limit: Duration::from_secs(seconds()), ..FuzzOptions::default() };
    // Should the process die, the last line says with which group.
    let (stats, finding) = fuzz(&options, &mut engines, &mut |group, _| {
        if std::env::var_os("IRONLANE_FUZZ_TRACE").is_some() {
            eprintln!("seed {seed} group {group}");
        }
    });
    println!("{variant}: {stats:?}");
    if let Some(finding) = finding {
        panic!("{}", finding.to_text());
    }
    assert!(stats.cases > 0);
}

#[test]
fn optimised_code_agrees_with_the_interpreter() {
    agree("speed", 0x5eed);
}

#[test]
fn unoptimised_code_agrees_with_the_interpreter() {
    agree("none", 0x5eed + 1);
}

#[test]
fn code_for_any_cpu_agrees_with_the_interpreter() {
    agree("generic", 0x5eed + 2);
}

#[test]
fn code_in_tiny_regions_agrees_with_the_interpreter() {
    agree("tiny", 0x5eed + 3);
}
