//! What the steps did: outcomes, the table at the end, the counts.

use std::time::Duration;

/// Tests or checks by their result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// How one step ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// One sentence, for the table.
    pub(crate) note: String,
    /// What within the step was left out, and why.
    pub(crate) left_out: Vec<String>,
}

impl Outcome {
    /// One check that holds.
    pub(crate) fn passed(note: impl Into<String>) -> Outcome {
        Outcome { counts: Counts { passed: 1, ..Counts::default() }, note: note.into(), left_out: vec![] }
    }

    /// One check that does not.
    pub(crate) fn failed(note: impl Into<String>) -> Outcome {
        Outcome { counts: Counts { failed: 1, ..Counts::default() }, note: note.into(), left_out: vec![] }
    }

    /// Something that this machine cannot do, and why.
    pub(crate) fn skipped(why: impl Into<String>) -> Outcome {
        Outcome { counts: Counts { skipped: 1, ..Counts::default() }, note: why.into(), left_out: vec![] }
    }

    fn word(&self) -> &'static str {
        match self.counts {
            Counts { failed: 1.., .. } => "FAILED",
            Counts { passed: 1.., .. } => "passed",
            _ => "skipped",
        }
    }
}

/// All steps so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(String, Outcome, Duration)>,
}

impl Report {
    pub(crate) fn add(&mut self, name: &str, outcome: Outcome, took: Duration) {
        self.steps.push((name.to_owned(), outcome, took));
    }

    /// Sums over all steps.
    pub(crate) fn counts(&self) -> Counts {
        self.steps.iter().fold(Counts::default(), |sum, (_, outcome, _)| Counts {
            passed: sum.passed + outcome.counts.passed,
            failed: sum.failed + outcome.counts.failed,
            skipped: sum.skipped + outcome.counts.skipped,
        })
    }

    /// The table, what was left out, and the counts alone on the last line.
    pub(crate) fn render(&self) -> String {
        let width = self.steps.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max(4);
        let mut text = format!("\n{:width$}  {:7}  {:>8}  what\n", "step", "result", "seconds");
        for (name, outcome, took) in &self.steps {
            let (word, seconds) = (outcome.word(), took.as_secs_f64());
            text += &format!("{name:width$}  {word:7}  {seconds:>8.1}  {}\n", outcome.note);
        }
        let total: f64 = self.steps.iter().map(|(.., took)| took.as_secs_f64()).sum();
        text += &format!("{:width$}  {:7}  {total:>8.1}\n", "all", "");
        let left_out: Vec<_> = self
            .steps
            .iter()
            .flat_map(|(name, outcome, _)| {
                outcome.left_out.iter().map(move |what| format!("  {name}: {what}\n"))
            })
            .collect();
        if !left_out.is_empty() {
            text += "\nleft out:\n";
            text += &left_out.concat();
        }
        let Counts { passed, failed, skipped } = self.counts();
        text + &format!("\n{passed} passed, {failed} failed, {skipped} skipped\n")
    }
}

/// Reads the counts of nextest (`Summary [ 1.2s] 12 tests run: 11 passed, 1 failed, 2 skipped`).
pub(crate) fn nextest_counts(lines: &[String]) -> Option<Counts> {
    let line = lines.iter().rev().find(|line| line.contains("Summary [") && line.contains("run:"))?;
    let words: Vec<&str> = line.split("run:").nth(1)?.split_whitespace().collect();
    let number = |label: &str| {
        let at = words.iter().position(|word| word.trim_end_matches(',') == label)?;
        words.get(at.checked_sub(1)?)?.parse::<u64>().ok()
    };
    let timed_out = words.windows(3).find(|w| w[1] == "timed" && w[2].starts_with("out"));
    let timed_out = timed_out.and_then(|w| w[0].parse::<u64>().ok()).unwrap_or(0);
    Some(Counts {
        passed: number("passed").unwrap_or(0),
        failed: number("failed").unwrap_or(0) + timed_out,
        skipped: number("skipped").unwrap_or(0),
    })
}

/// Sums the counts of libtest (`test result: ok. 3 passed; 0 failed; 1 ignored; …`).
pub(crate) fn libtest_counts(lines: &[String]) -> Counts {
    let mut counts = Counts::default();
    for line in lines.iter().filter(|line| line.starts_with("test result:")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let before = |label: &str| {
            let found = words.windows(2).find(|pair| pair[1].trim_end_matches(';') == label);
            found.and_then(|pair| pair[0].parse::<u64>().ok()).unwrap_or(0)
        };
        counts.passed += before("passed");
        counts.failed += before("failed");
        counts.skipped += before("ignored");
    }
    counts
}

/// Reads the counts of Node's test runner (`# pass 12`, or `ℹ pass 12` in its other format).
pub(crate) fn node_counts(lines: &[String]) -> Option<Counts> {
    let number = |label: &str| {
        lines.iter().rev().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["#" | "ℹ", word, count] if word == label => count.parse::<u64>().ok(),
                _ => None,
            }
        })
    };
    let (passed, failed) = (number("pass")?, number("fail")?);
    let (cancelled, skipped) = (number("cancelled").unwrap_or(0), number("skipped").unwrap_or(0));
    Some(Counts { passed, failed: failed + cancelled, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn counts_of_the_runners_are_read() {
        let nextest = lines(
            "PASS a\n     Summary [   1.230s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped",
        );
        assert_eq!(nextest_counts(&nextest), Some(Counts { passed: 10, failed: 2, skipped: 3 }));
        assert_eq!(nextest_counts(&lines("nothing ran")), None);
        let libtest = lines(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.0s\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(libtest_counts(&libtest), Counts { passed: 4, failed: 2, skipped: 1 });
        let node = lines("# tests 4\n# pass 2\n# fail 1\n# cancelled 1\n# skipped 0");
        assert_eq!(node_counts(&node), Some(Counts { passed: 2, failed: 2, skipped: 0 }));
        assert_eq!(node_counts(&lines("ℹ pass 7\nℹ fail 0")).map(|c| c.passed), Some(7));
    }

    #[test]
    fn the_last_line_holds_the_counts_alone() {
        let mut report = Report::default();
        report.add("fmt", Outcome::passed("formatted"), Duration::from_secs(1));
        report.add("clients", Outcome::skipped("npm is not installed"), Duration::ZERO);
        let tests = Outcome { counts: Counts { passed: 5, failed: 2, skipped: 1 }, ..Outcome::failed("two") };
        report.add("tests", tests, Duration::from_secs(2));
        let text = report.render();
        assert_eq!(text.lines().last(), Some("6 passed, 2 failed, 2 skipped"));
        assert!(text.contains("FAILED") && text.contains("npm is not installed"));
    }
}
