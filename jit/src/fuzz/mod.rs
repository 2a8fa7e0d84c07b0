//! The differential fuzzer: generated transactions through revm's interpreter and through another engine, everything
//! visible compared, differences made small.
//!
//! A case ([`Case`]) is a handful of accounts, one transaction and one fork. [`generate`] makes groups of them from a
//! seed and an index; the same two numbers give the same cases for ever. [`run`] executes one and collects its
//! [`Outcome`], [`Outcome::mismatch`] compares two, [`minimise`] shrinks what fails, and [`Case::to_text`] writes it
//! down. [`fuzz`] is the loop around them, which tests and `ironlane jit fuzz` share.

mod body;
mod case;
mod compiled;
mod exec;
mod generate;
mod json;
mod minimise;
mod mutate;
mod rng;

pub use case::{Case, CaseAccount, CaseError, SENDER, SPECS, parse_spec, spec_name};
pub use compiled::Compiled;
pub use exec::{
    Access, Altered, CaseDb, End, Engine, Event, FrameStep, FuzzContext, FuzzEvm, Interpreter, Mismatch,
    Outcome, PostAccount, Suspended, run,
};
pub use generate::{GROUP, generate};
pub use minimise::minimise;
pub use rng::Rng;

use revm::primitives::hardfork::SpecId;
use std::time::{Duration, Instant};

/// How long and over what.
#[derive(Debug, Clone)]
pub struct FuzzOptions {
    /// Of all cases.
    pub seed: u64,
    /// The first group.
    pub first: u64,
    /// Groups after which it ends.
    pub groups: u64,
    /// Time after which it ends.
    pub limit: Duration,
    /// One fork only.
    pub spec: Option<SpecId>,
    /// Time to make a finding small.
    pub minimise: Duration,
}

impl Default for FuzzOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            first: 0,
            groups: u64::MAX,
            limit: Duration::from_secs(5),
            spec: None,
            minimise: Duration::from_secs(20),
        }
    }
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FuzzStats {
    /// Groups finished.
    pub groups: u64,
    /// Cases compared, times engines.
    pub cases: u64,
    /// Stretches of frames that the reference ran.
    pub frames: u64,
    /// Transactions that succeeded, that reverted, that halted, that were invalid.
    pub ends: [u64; 4],
}

/// Two engines disagree.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The group that showed it.
    pub group: u64,
    /// The name of the engine that is not the interpreter.
    pub engine: String,
    /// The case as generated.
    pub case: Case,
    /// The smallest case found that still differs.
    pub smallest: Case,
    /// How the smallest differs.
    pub mismatch: Mismatch,
}

impl Finding {
    /// A file that `ironlane jit fuzz --replay` takes.
    pub fn to_text(&self) -> String {
        format!(
            "# {}\n# group {}, {} bytes of code before it was made small\nopt {}\n{}",
            self.mismatch.to_string().replace('\n', " "),
            self.group,
            self.case.accounts.iter().map(|account| account.code.len()).sum::<usize>(),
            self.engine,
            self.smallest.to_text()
        )
    }
}

/// How `engine` differs from the interpreter on `case`, if it does.
pub fn check(case: &Case, engine: &mut dyn Engine) -> Option<Mismatch> {
    run(case, &mut Interpreter).mismatch(&run(case, engine))
}

/// Compares `engines`, each under its name, with the interpreter until one differs or the budget is spent. `progress` is
/// told after each group, and before it which group it is.
pub fn fuzz(
    options: &FuzzOptions,
    engines: &mut [(String, Box<dyn Engine>)],
    progress: &mut dyn FnMut(u64, &FuzzStats),
) -> (FuzzStats, Option<Finding>) {
    let start = Instant::now();
    let mut stats = FuzzStats::default();
    for group in options.first..options.first.saturating_add(options.groups) {
        if start.elapsed() >= options.limit {
            break;
        }
        progress(group, &stats);
        for case in generate(options.seed, group, options.spec) {
            let expected = run(&case, &mut Interpreter);
            stats.frames += expected.frames as u64;
            stats.ends[match expected.end {
                End::Success(_) => 0,
                End::Revert(_) => 1,
                End::Halt(_) => 2,
                End::Invalid(_) => 3,
            }] += 1;
            for (name, engine) in engines.iter_mut() {
                stats.cases += 1;
                let Some(mismatch) = expected.mismatch(&run(&case, engine.as_mut())) else { continue };
                let smallest =
                    minimise(&case, options.minimise, &mut |case| check(case, engine.as_mut()).is_some());
                let mismatch = check(&smallest, engine.as_mut()).unwrap_or(mismatch);
                let finding = Finding { group, engine: name.clone(), case, smallest, mismatch };
                return (stats, Some(finding));
            }
        }
        stats.groups += 1;
    }
    (stats, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::bytecode::opcode as op;

    #[test]
    fn the_same_seed_gives_the_same_cases() {
        for index in 0..20 {
            assert_eq!(generate(3, index, None), generate(3, index, None));
        }
        assert_ne!(generate(3, 0, None), generate(4, 0, None));
        assert!(generate(3, 1, Some(SpecId::FRONTIER)).iter().all(|case| case.spec == SpecId::FRONTIER));
    }

    #[test]
    fn the_interpreter_agrees_with_itself_and_cases_end_in_every_way() {
        let options = FuzzOptions { groups: 300, limit: Duration::from_secs(60), ..Default::default() };
        let mut engines: [(String, Box<dyn Engine>); 1] = [("interpreter".into(), Box::new(Interpreter))];
        let (stats, finding) = fuzz(&options, &mut engines, &mut |_, _| {});
        assert!(finding.is_none(), "{}", finding.unwrap().to_text());
        let [success, revert, halt, invalid] = stats.ends;
        println!("{stats:?}");
        assert!(
            success > stats.cases / 5 && revert > stats.cases / 40 && halt > stats.cases / 10,
            "{stats:?}"
        );
        assert!(invalid < stats.cases / 20, "{stats:?}");
        assert!(stats.frames > 2 * stats.cases, "{stats:?}");
    }

    #[test]
    fn a_wrong_opcode_is_found_and_made_small() {
        // The second opcode's behaviour in place of the first's.
        let planted = [
            (op::ADD, op::SUB),
            (op::SDIV, op::DIV),
            (op::SMOD, op::MOD),
            (op::SAR, op::SHR),
            (op::MULMOD, op::ADDMOD),
            (op::SIGNEXTEND, op::BYTE),
            (op::SLT, op::LT),
            (op::MSTORE8, op::MSTORE),
            (op::JUMPDEST, op::STOP),
            (op::CLZ, op::ISZERO),
            (op::MCOPY, op::CALLDATACOPY),
            (op::TLOAD, op::SLOAD),
            (op::BLOBHASH, op::ISZERO),
            (op::EXTCODEHASH, op::BALANCE),
            (op::RETURNDATASIZE, op::CALLDATASIZE),
            (op::RETURNDATACOPY, op::CALLDATACOPY),
            (op::CALLCODE, op::CALL),
            (op::LOG3, op::LOG4),
            (op::SELFDESTRUCT, op::POP),
            (op::MSIZE, op::GAS),
            (op::DUP16, op::DUP15),
            (op::SWAP9, op::SWAP10),
            (op::BLOCKHASH, op::ISZERO),
        ];
        for (opcode, behaves_as) in planted {
            let mut engines: [(String, Box<dyn Engine>); 1] =
                [("altered".into(), Box::new(Altered { opcode, behaves_as }))];
            let options = FuzzOptions {
                groups: 2_000,
                limit: Duration::from_secs(60),
                minimise: Duration::from_secs(1),
                ..Default::default()
            };
            let (stats, finding) = fuzz(&options, &mut engines, &mut |_, _| {});
            let finding = finding.unwrap_or_else(|| panic!("{opcode:#x} not found in {stats:?}"));
            let bytes: usize =
                finding.smallest.accounts.iter().map(|account| account.code.len()).sum::<usize>()
                    + if finding.smallest.to.is_none() { finding.smallest.data.len() } else { 0 };
            println!("{opcode:#x}: group {}, {bytes} bytes, {}", finding.group, finding.mismatch);
            assert!(bytes < 300, "{}", finding.to_text());
            let again = Case::parse(&finding.to_text()).expect("its own text");
            assert_eq!(again, finding.smallest);
            assert!(check(&again, &mut Altered { opcode, behaves_as }).is_some());
        }
    }
}
