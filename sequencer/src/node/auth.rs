//! Which engine recovers senders.

use crate::config::{AuthName, NodeConfig};
use anyhow::bail;
use ironlane_fpga::backend::batch::{self, KeyCache, Stats};
use ironlane_fpga::backend::simd::{self, Vectors};
use ironlane_fpga::backend::{Config, scalar};
use ironlane_fpga::{RecoverEngine, Refusal, Waker};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The engine in use, and how it came to be.
pub struct Chosen {
    /// Started and tested.
    pub engine: Box<dyn RecoverEngine>,
    /// One sentence: which, why, and what was refused.
    pub report: String,
    /// Counters of batch verification, where that is the engine.
    pub stats: Option<Arc<Stats>>,
}

/// A counter: its name and how to read it.
pub type Counter = (&'static str, fn(&Stats) -> u64);

/// Counters of batch verification, by name.
pub const COUNTERS: &[Counter] = &[
    ("verified", |stats| stats.verified.load(Ordering::Relaxed)),
    ("recovered", |stats| stats.recovered.load(Ordering::Relaxed)),
    ("checks", |stats| stats.checks.load(Ordering::Relaxed)),
    ("failed_checks", |stats| stats.failed.load(Ordering::Relaxed)),
    ("wrong_guesses", |stats| stats.wrong_guesses.load(Ordering::Relaxed)),
];

/// Starts the engine that the configuration names. `auto` is batch verification, which falls back by itself to recovery in
/// lanes, with the widest vectors of this CPU; without any it is libsecp256k1.
///
/// # Errors
/// When an engine was asked for by name and the host has not got it, or not even libsecp256k1 can be started.
pub fn choose(config: &NodeConfig, layout: &Config, waker: &Waker) -> anyhow::Result<Chosen> {
    let mut refusals = vec![];
    let chosen = match config.auth {
        AuthName::Scalar => None,
        AuthName::Simd => widest(&mut refusals, |vectors| {
            simd::probe(vectors, layout.clone(), Some(waker.clone())).map(|engine| (boxed(engine), None))
        }),
        AuthName::Batch | AuthName::Auto => {
            let keys = Arc::new(KeyCache::new(config.auth_accounts));
            widest(&mut refusals, |vectors| {
                let engine = batch::probe(vectors, keys.clone(), layout.clone(), Some(waker.clone()))?;
                let stats = engine.stats();
                Ok((boxed(engine), Some(stats)))
            })
        }
    };
    let (engine, stats) = match (chosen, config.auth) {
        (Some(chosen), _) => chosen,
        (None, AuthName::Auto | AuthName::Scalar) => {
            (boxed(scalar::probe(layout.clone(), Some(waker.clone()))?), None)
        }
        (None, name) => {
            let name = format!("{name:?}").to_lowercase();
            bail!("auth is \"{name}\", which this host has not got ({}); use \"auto\"", list(&refusals))
        }
    };
    let why = match config.auth {
        AuthName::Auto => "the fastest that this CPU has",
        _ => "as configured",
    };
    let mut report = format!("sender recovery: {}, {} workers, {why}", engine.caps().name, layout.workers);
    if !refusals.is_empty() {
        report = format!("{report}; {}", list(&refusals));
    }
    Ok(Chosen { engine, report, stats })
}

fn boxed(engine: impl RecoverEngine + 'static) -> Box<dyn RecoverEngine> {
    Box::new(engine)
}

/// The first kind of vectors that starts, widest first.
fn widest<T>(refusals: &mut Vec<Refusal>, probe: impl Fn(Vectors) -> Result<T, Refusal>) -> Option<T> {
    Vectors::ALL
        .into_iter()
        .find_map(|vectors| probe(vectors).inspect_err(|refusal| refusals.push(refusal.clone())).ok())
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(auth: AuthName) -> anyhow::Result<Chosen> {
        let config = NodeConfig { auth, ..NodeConfig::default() };
        choose(&config, &Config::default(), &(Arc::new(|| {}) as Waker))
    }

    #[test]
    fn an_engine_can_be_named_and_auto_says_why() {
        let scalar = chosen(AuthName::Scalar).unwrap();
        assert_eq!(scalar.engine.caps().name, "scalar");
        assert!(scalar.report.contains("as configured"), "{}", scalar.report);
        let auto = chosen(AuthName::Auto).unwrap();
        assert!(auto.report.contains("the fastest"), "{}", auto.report);
        assert_eq!(auto.stats.is_some(), auto.engine.caps().name.starts_with("batch"));
        for (name, begins) in [(AuthName::Simd, "simd-"), (AuthName::Batch, "batch-")] {
            match chosen(name) {
                Ok(chosen) => assert!(chosen.engine.caps().name.starts_with(begins)),
                Err(error) => assert!(error.to_string().contains("has not got"), "{error}"),
            }
        }
    }
}
