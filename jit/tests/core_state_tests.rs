//! State tests of the corpus: compiled code and interpreter agree on everything observable, with every code compiled
//! before its first execution, in the test's own fork and in another one.

mod core_common;

use core_common::{Codes, corpus, difference, json_files, state_test};
use ironlane_jit::{Compiler, CompilerConfig, OptLevel};
use revm::primitives::hardfork::SpecId;

/// Every `JIT_STATE_TEST_STRIDE`-th file; all of them with 1.
fn stride() -> usize {
    std::env::var("JIT_STATE_TEST_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

fn run(archive: &str, config: CompilerConfig, stride: usize) {
    let Some(folder) = corpus(archive) else { return };
    let compiler = Compiler::new(config).expect("this machine compiles");
    let files = json_files(&folder);
    assert!(!files.is_empty(), "{} holds state tests", folder.display());
    let (mut cases, mut failures) = (0usize, Vec::new());
    let codes = Codes::new(compiler);
    for (index, path) in files.iter().enumerate().step_by(stride) {
        if std::env::var("JIT_TRACE").is_ok() {
            eprintln!("{}", path.display());
        }
        for (at, mut case) in state_test(path).into_iter().enumerate() {
            cases += 1;
            failures.extend(difference(&case, &codes));
            // Rules change between forks, and old codes meet new ones: any pair of them is worth a look.
            if let Some(other) = SpecId::try_from_u8(((index + at) % 14) as u8) {
                case.spec = other;
                failures.extend(difference(&case, &codes));
            }
        }
        if failures.len() > 5 {
            break;
        }
    }
    println!("{archive}: {cases} cases");
    assert!(cases > 0);
    assert!(
        failures.is_empty(),
        "{} differences, first:\n{}",
        failures.len(),
        failures.first().map_or("", |f| f)
    );
}

#[test]
fn state_tests_agree() {
    run("state-dev", CompilerConfig { verify_ir: true, ..Default::default() }, stride());
}

#[test]
fn state_tests_agree_unoptimised() {
    run("state-dev", CompilerConfig { opt_level: OptLevel::None, ..Default::default() }, stride() * 4);
}

#[test]
fn extra_state_tests_agree() {
    run("state-extra-ethereum-tests-dev", CompilerConfig::default(), stride());
}
