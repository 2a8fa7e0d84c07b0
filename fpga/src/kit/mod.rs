//! The validation kit: tells a right card from a wrong one, and says how fast it is.
//!
//! [`ring::check`] drives a card's rings by hand: vectors, queue tests, resets, malformed entries. [`engine::check`] asks
//! any [`RecoverEngine`](crate::RecoverEngine) (a plug-in, a GPU, the CPU's own) the same vectors through its trait.
//! [`engine::measure`] fills the matrices of throughput and latency; [`engine::soak`] runs random requests against
//! libsecp256k1 for as long as one likes. [`report::Report`] is what comes out: text, JSON, HTML, signed.
//!
//! How good the kit itself is, is measured with the cards of [`crate::card::mutant`], by [`mutants::try_out`].

pub mod engine;
pub mod mutants;
pub mod report;
pub mod ring;
pub mod subject;
pub mod vectors;

use std::time::Duration;

/// How much is tried.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every random choice follows from it.
    pub seed: u64,
    /// Random signatures, besides the directed ones.
    pub random: usize,
    /// How long any answer may take.
    pub answer_limit: Duration,
    /// Whether to stop at the first failure.
    pub stop_at_first: bool,
    /// How long each cell of a matrix is measured.
    pub cell: Duration,
}

impl Plan {
    /// What `validate` does: 20,000 random signatures, one second an answer.
    pub fn full() -> Self {
        Self {
            seed: 1,
            random: 20_000,
            answer_limit: Duration::from_secs(1),
            stop_at_first: false,
            cell: Duration::from_millis(300),
        }
    }

    /// For tests and mutants.
    pub fn quick() -> Self {
        Self { random: 3_000, answer_limit: Duration::from_millis(500), ..Self::full() }
    }
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// Which test.
    pub test: String,
    /// Why.
    pub reason: String,
}

/// What tests came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    /// Answers and rules that were checked.
    pub cases: u64,
    /// How many of them held.
    pub passed: u64,
    /// (test, cases) in their order.
    pub tests: Vec<(String, u64)>,
    /// What did not hold.
    pub failed: Vec<Failure>,
}

impl Outcome {
    pub(crate) fn record(&mut self, test: &str, cases: u64, result: Result<(), String>) {
        self.cases += cases;
        self.passed += cases;
        if let Err(reason) = result {
            self.cases += 1;
            self.failed.push(Failure { test: test.into(), reason });
        }
        self.tests.push((test.into(), cases));
    }

    /// Adds what another part found.
    pub fn merge(&mut self, other: Outcome) {
        self.cases += other.cases;
        self.passed += other.passed;
        self.tests.extend(other.tests);
        self.failed.extend(other.failed);
    }
}
