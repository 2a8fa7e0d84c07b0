//! Runs the kit over cards with known faults.

use super::vectors::Vectors;
use super::{Outcome, Plan, ring};
use crate::backend::ring::link::Link;
use crate::backend::ring::{HostRing, Limits};
use crate::card::mutant::{Fault, Mutant};
use crate::card::{Conduct, Device, Honest, Software};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Entries of the rings; small, so that they wrap often.
const ENTRIES: u32 = 64;

/// What the kit said about one mutant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// [`Fault::name`].
    pub name: String,
    /// [`Fault::family`].
    pub family: &'static str,
    /// [`Fault::what`].
    pub what: String,
    /// Test and reason that gave it away; `None`: it got away.
    pub caught: Option<(String, String)>,
}

/// Runs the kit over one fault.
pub fn try_out(fault: &Fault, vectors: &Vectors, plan: &Plan) -> Verdict {
    let outcome = run(Mutant::new(fault), vectors, plan);
    Verdict {
        name: fault.name.clone(),
        family: fault.family,
        what: fault.what.clone(),
        caught: outcome.failed.first().map(|failure| (failure.test.clone(), failure.reason.clone())),
    }
}

/// Runs the kit over the software card without a fault.
pub fn honest(vectors: &Vectors, plan: &Plan) -> Outcome {
    run(Honest, vectors, plan)
}

fn run<B: Conduct + 'static>(conduct: B, vectors: &Vectors, plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let (link, card) = match Link::pair(ENTRIES) {
        Ok(pair) => pair,
        Err(error) => {
            outcome.record("shared memory", 0, Err(error.to_string()));
            return outcome;
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let device = std::thread::Builder::new()
        .name("card".into())
        .spawn(move || Device::new(card, Software, conduct).run(&stopped));
    let limits = Limits { start: plan.answer_limit, reset: plan.answer_limit, ..Limits::default() };
    match HostRing::start(link, ENTRIES, limits) {
        Err(error) => outcome.record("start", 0, Err(error.to_string())),
        Ok(mut ring) => outcome.merge(ring::check(&mut ring, vectors, plan, &mut |_| {})),
    }
    stop.store(true, Ordering::Relaxed);
    if let Ok(device) = device {
        let _ = device.join();
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::mutant;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn an_honest_card_passes() {
        let plan = Plan::quick();
        let vectors = Vectors::new(plan.seed, plan.random);
        for _ in 0..3 {
            let outcome = honest(&vectors, &plan);
            assert_eq!(outcome.failed, []);
            assert_eq!(outcome.cases, outcome.passed);
            assert!(outcome.cases > 6_000, "{} cases", outcome.cases);
        }
    }

    #[test]
    fn every_mutant_is_caught() {
        let plan = Plan { stop_at_first: true, ..Plan::quick() };
        let vectors = Vectors::new(plan.seed, plan.random);
        let faults = mutant::all();
        assert!(faults.len() >= 200, "{} mutants", faults.len());
        let names: std::collections::HashSet<_> = faults.iter().map(|fault| &fault.name).collect();
        assert_eq!(names.len(), faults.len(), "names are unique");
        let next = AtomicUsize::new(0);
        let escaped = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = try_out(fault, &vectors, &plan);
                        match &verdict.caught {
                            None => escaped.lock().expect("lock").push(verdict.name.clone()),
                            Some((test, reason)) => eprintln!("{}: {test}: {reason}", verdict.name),
                        }
                    }
                });
            }
        });
        let escaped = escaped.into_inner().expect("lock");
        assert!(escaped.is_empty(), "{} of {} got away: {escaped:?}", escaped.len(), faults.len());
    }
}
