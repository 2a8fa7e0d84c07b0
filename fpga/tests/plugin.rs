//! The sample plug-in in C: built by its own Makefile, then used as a node would use a vendor's.

use ironlane_fpga::backend::plugin::{self, Config};
use ironlane_fpga::backend::ring::{self, Place};
use ironlane_fpga::backend::scalar;
use ironlane_fpga::checked::{self, Checked, Quarantine};
use ironlane_fpga::kit::vectors::Vectors;
use ironlane_fpga::kit::{Plan, engine, ring as ring_kit};
use ironlane_fpga::{RecoverEngine, Trust};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// `make check`, once; where the library lies then.
fn sample() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let folder =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plugin-{}", std::process::id()));
            let made = Command::new("make")
                .arg("-C")
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/sample"))
                .arg(format!("OUT={}", folder.display()))
                .arg("check")
                .output()
                .expect("make and a C compiler are installed");
            let text = String::from_utf8_lossy(&made.stdout);
            assert!(made.status.success(), "{text}{}", String::from_utf8_lossy(&made.stderr));
            assert!(text.contains("passed") && !text.contains("FAIL"), "{text}");
            folder.join("libsample.so")
        })
        .clone()
}

/// The sample is slow: fewer random cases than usual.
fn plan() -> Plan {
    Plan { random: 600, answer_limit: Duration::from_secs(30), ..Plan::quick() }
}

#[test]
fn the_sample_passes_the_kit_through_the_engine_trait() {
    let config = Config { call_limit: Duration::from_secs(60), ..Config::new(sample(), "") };
    let mut engine = plugin::probe(config, None).expect("the sample");
    assert_eq!(engine.caps().trust, Trust::Hint);
    assert_eq!(engine.capabilities().title(), "Sample recovery in C (1.0)");
    let plan = plan();
    let vectors = Vectors::new(plan.seed, plan.random);
    let outcome = engine::check(&mut engine, &vectors, &plan, &mut |_| {});
    assert_eq!(outcome.failed, []);
    assert!(outcome.cases > 1_500, "{}", outcome.cases);
}

#[test]
fn the_sample_passes_the_kit_behind_rings_in_a_process_of_its_own() {
    let library = sample();
    let command = vec![
        env!("CARGO_BIN_EXE_ironlane-card").to_string(),
        "--plugin".into(),
        library.to_str().expect("utf-8").to_string(),
    ];
    let config = ring::Config { entries: 64, ..ring::Config::new(Place::Spawn { command }) };
    let mut rings = ring::open(&config).expect("the card");
    let plan = plan();
    let vectors = Vectors::new(plan.seed, plan.random);
    let outcome = ring_kit::check(&mut rings, &vectors, &plan, &mut |_| {});
    assert_eq!(outcome.failed, []);
    let removed = ring_kit::removal(&rings, Duration::from_secs(5));
    assert_eq!(removed.failed, []);
}

#[test]
fn a_library_that_hangs_is_left_behind_and_the_cpu_takes_over() {
    // One request at a time is answered, so that the self-test passes; a batch hangs.
    let config = Config { call_limit: Duration::from_secs(30), ..Config::new(sample(), "hang") };
    let engine = plugin::probe(config, None).expect("one request is answered");
    let trusted = scalar::probe(scalar::Config::default(), None).expect("scalar");
    let limits = checked::Config { deadline: Duration::from_millis(50), ..checked::Config::default() };
    let mut engine = Checked::new(engine, Box::new(trusted), None, limits, None);
    let plan = Plan { answer_limit: Duration::from_secs(5), random: 300, ..plan() };
    let vectors = Vectors::new(plan.seed, plan.random);
    let began = Instant::now();
    let outcome = engine::check(&mut engine, &vectors, &plan, &mut |_| {});
    assert_eq!(outcome.failed, []);
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(matches!(engine.quarantine(), Some(Quarantine::Late { .. })));
}

#[test]
fn what_is_no_plug_in_is_refused_with_a_reason() {
    let text = std::env::temp_dir().join(format!("no-plugin-{}.so", std::process::id()));
    std::fs::write(&text, "no library").expect("written");
    for (config, words) in [
        (Config::new("/nonexistent/libcard.so", ""), "cannot be loaded"),
        (Config::new(&text, ""), "cannot be loaded"),
        (Config::new("libm.so.6", ""), "does not export"),
        (Config::new(sample(), "gibberish"), "code 2"),
        (
            Config { call_limit: Duration::from_millis(1), ..Config::new(sample(), "slow=200000") },
            "not returned",
        ),
    ] {
        let refusal = plugin::probe(config, None).err().expect("no plug-in").to_string();
        assert!(refusal.contains(words), "{refusal} does not say {words}");
    }
    std::fs::remove_file(&text).expect("ours");
}
