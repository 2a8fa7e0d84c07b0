//! Faults planted in the compiler on purpose: these tests show that the checks find faults.

use super::{Case, Compiled, End, Engine, FuzzOptions, Interpreter, check, fuzz, run};
use crate::{CompilerConfig, OptLevel, Sabotage};
use std::{fs, time::Duration};

#[path = "../../tests/common/mod.rs"]
mod corpus;

const FAULTS: [Sabotage; 5] =
    [Sabotage::Gas, Sabotage::AddCarry, Sabotage::SwapDepth, Sabotage::StoreByte, Sabotage::JumpCondition];

fn faulty(fault: Sabotage) -> Compiled {
    let config =
        CompilerConfig { opt_level: OptLevel::None, sabotage: Some(fault), ..CompilerConfig::default() };
    Compiled::new(config).expect("this machine compiles")
}

#[test]
fn the_fuzzer_finds_every_planted_miscompile() {
    for fault in FAULTS {
        let mut engines: [(String, Box<dyn Engine>); 1] = [("none".into(), Box::new(faulty(fault)))];
        let options = FuzzOptions {
            groups: 600,
            limit: Duration::from_secs(3_600),
            minimise: Duration::from_secs(3),
            ..FuzzOptions::default()
        };
        let (stats, finding) = fuzz(&options, &mut engines, &mut |_, _| {});
        let finding = finding.unwrap_or_else(|| panic!("{fault:?} not found in {stats:?}"));
        println!("{fault:?}: group {}, {}", finding.group, finding.mismatch);
        // The file that it would write shows the same difference again, and none without the fault.
        let again = Case::parse(&finding.to_text()).expect("its own text");
        assert!(check(&again, &mut faulty(fault)).is_some(), "{}", finding.to_text());
        let mut sound = Compiled::new(CompilerConfig::default()).expect("this machine compiles");
        assert_eq!(check(&again, &mut sound), None, "{}", finding.to_text());
    }
}

#[test]
fn state_tests_find_planted_miscompiles() {
    let Some(folder) = corpus::contracts() else { return };
    let mut cases = Vec::new();
    for set in ["ipsilon-evm-benchmarks/micro", "revmc-data"] {
        for entry in fs::read_dir(folder.join(set)).expect("the corpus") {
            let Ok(text) = fs::read_to_string(entry.expect("an entry").path()) else { continue };
            cases.extend(Case::from_json(&text).unwrap_or_default());
        }
    }
    cases.iter_mut().for_each(|(_, case)| case.gas_limit = case.gas_limit.min(1_000_000));
    cases.retain(|(_, case)| matches!(run(case, &mut Interpreter).end, End::Success(_)));
    assert!(cases.len() > 10);
    let mut found = 0;
    for fault in FAULTS {
        let mut engine = faulty(fault);
        if let Some((name, _)) = cases.iter().find(|(_, case)| check(case, &mut engine).is_some()) {
            println!("{fault:?}: {name}");
            found += 1;
        }
    }
    // So few programs need not meet all of them; the fuzzer does.
    assert!(found >= 3, "{found} of {} planted miscompiles found", FAULTS.len());
}
