//! Names of engines, as an operator writes them, and a whole validation of one.

use super::report::Report;
use super::vectors::Vectors;
use super::{Outcome, Plan, engine, ring as ring_kit};
use crate::backend::ring::{self, Place, Register, RingEngine};
use crate::backend::{plugin, scalar};
use crate::claim::{ClaimEngine, Plain};
use crate::{Refusal, Waker, abi};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How long a driver may take to leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// The forms of an engine's name.
pub const FORMS: [(&str, &str); 7] = [
    ("scalar", "libsecp256k1 on CPU threads; the reference"),
    ("software", "the software card, in a process of its own (L1)"),
    ("mutant:NAME", "the software card with a fault (L1)"),
    ("plugin:PATH[,OPTIONS]", "a vendor's shared library (L0)"),
    ("exec:PROGRAM ARGUMENTS", "a vendor's driver, started by the node (L1)"),
    ("socket:PATH", "a vendor's driver that listens on a Unix socket (L1)"),
    ("device:PATH[,offset=N][,register=PATH@N][,write=PATH@N]", "rings in a mapped device file (L2)"),
];

/// An engine's name, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineName {
    /// The reference.
    Scalar,
    /// The software card; what starts it is the caller's to say.
    Software,
    /// A card with a fault.
    Mutant(String),
    /// L0.
    Plugin(PathBuf, String),
    /// L1 or L2.
    Card(Place),
}

impl FromStr for EngineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forms = || {
            let list: Vec<&str> = FORMS.iter().map(|(form, _)| *form).collect();
            format!("{text} names no engine; the forms are {}", list.join(", "))
        };
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest.is_empty()) {
            ("scalar", true) => Ok(Self::Scalar),
            ("software", true) => Ok(Self::Software),
            ("mutant", false) => Ok(Self::Mutant(rest.into())),
            ("plugin", false) => {
                let (path, options) = rest.split_once(',').unwrap_or((rest, ""));
                Ok(Self::Plugin(path.into(), options.into()))
            }
            ("exec", false) => {
                let command = rest.split_whitespace().map(ToString::to_string).collect();
                Ok(Self::Card(Place::Spawn { command }))
            }
            ("socket", false) => Ok(Self::Card(Place::Socket { path: rest.into(), users: vec![] })),
            ("device", false) => device(rest).map(Self::Card),
            _ => Err(forms()),
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| format!("{text} is not a number"))
}

fn device(text: &str) -> Result<Place, String> {
    let mut parts = text.split(',');
    let path = PathBuf::from(parts.next().unwrap_or_default());
    let (mut offset, mut register) = (0, None);
    for part in parts {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{part} lacks a value"))?;
        match name {
            "offset" => offset = number(value)?,
            "register" | "write" => {
                let (path, at) = value.split_once('@').unwrap_or((value, "0"));
                register =
                    Some(Register { path: path.into(), offset: number(at)?, mapped: name == "register" });
            }
            _ => return Err(format!("{name} is not an option of a device; offset, register and write are")),
        }
    }
    Ok(Place::Device { path, offset, register })
}

/// How engines are opened.
#[derive(Debug, Clone)]
pub struct Opening {
    /// What starts a software card: program and arguments, to which `--mutant NAME` is added.
    pub card_command: Vec<String>,
    /// Ring entries.
    pub entries: u32,
    /// Threads of the reference engine.
    pub workers: usize,
}

impl Opening {
    fn config(&self, name: &EngineName) -> Option<ring::Config> {
        let mut command = self.card_command.clone();
        let place = match name {
            EngineName::Card(place) => place.clone(),
            EngineName::Software => Place::Spawn { command },
            EngineName::Mutant(fault) => {
                command.extend(["--mutant".into(), fault.clone()]);
                Place::Spawn { command }
            }
            EngineName::Scalar | EngineName::Plugin(..) => return None,
        };
        Some(ring::Config { entries: self.entries, ..ring::Config::new(place) })
    }
}

/// Opens any engine, for whoever checks its claims.
///
/// # Errors
/// [`Refusal`].
pub fn open(
    name: &EngineName,
    opening: &Opening,
    waker: Option<Waker>,
) -> Result<Box<dyn ClaimEngine>, Refusal> {
    if let Some(config) = opening.config(name) {
        return Ok(Box::new(ring::probe(config, waker)?));
    }
    match name {
        EngineName::Plugin(path, options) => {
            Ok(Box::new(plugin::probe(plugin::Config::new(path, options), waker)?))
        }
        _ => {
            let config = scalar::Config { workers: opening.workers, ..Default::default() };
            Ok(Box::new(Plain(scalar::probe(config, waker)?)))
        }
    }
}

/// What a validation includes.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Vectors, and for rings the queue tests.
    pub tests: bool,
    /// The matrices.
    pub matrix: bool,
    /// A differential soak of this length.
    pub soak: Option<Duration>,
    /// Folder with vectors of others.
    pub vectors: Option<PathBuf>,
}

/// Says what is being done and how far it is.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64);

/// Validates one engine. What is wrong with a card is in the report; only an operator's mistake is an error.
///
/// # Errors
/// A sentence.
pub fn validate(
    text: &str,
    opening: &Opening,
    plan: &Plan,
    scope: &Scope,
    progress: Progress<'_>,
) -> Result<Report, String> {
    let name: EngineName = text.parse()?;
    let mut vectors = Vectors::new(plan.seed, plan.random);
    if let Some(folder) = &scope.vectors {
        add_files(&mut vectors, folder)?;
    }
    let mut report = Report {
        engine: text.into(),
        kit: env!("CARGO_PKG_VERSION").into(),
        vector_files: vectors.files.iter().map(|path| path.display().to_string()).collect(),
        made_at_s: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        ..Report::default()
    };
    let mut outcome = Outcome::default();
    let started: Result<(), String> = match opening.config(&name) {
        Some(config) => rings(&config, &vectors, plan, scope, &mut report, &mut outcome, progress),
        None => plain(&name, opening, &vectors, plan, scope, &mut report, &mut outcome, progress),
    };
    if let Err(reason) = started {
        outcome.record("start", 0, Err(reason));
    }
    Ok(report.with(outcome))
}

fn add_files(vectors: &mut Vectors, folder: &Path) -> Result<(), String> {
    vectors.add_files(folder)?;
    if vectors.files.is_empty() {
        return Err(format!("{} holds neither ecRecover nor Wycheproof vectors", folder.display()));
    }
    Ok(())
}

fn describe(caps: &abi::Capabilities, report: &mut Report) {
    report.title = caps.title();
    let mut say = |name: &str, value: String| report.capabilities.push((name.into(), value));
    say("ABI", format!("{}.{}", caps.version >> 16, caps.version & 0xffff));
    say("entries", caps.entries_max.to_string());
    say("batch for full rate", caps.batch_min.to_string());
    say("at the same time", caps.parallelism.to_string());
    say("stated latency, µs", caps.latency_us.to_string());
    let ops = [(abi::OP_NOP, "NOP"), (abi::OP_RECOVER, "RECOVER"), (abi::OP_KECCAK, "KECCAK")];
    let offered: Vec<&str> = ops.iter().filter(|(op, _)| caps.offers(*op)).map(|(_, name)| *name).collect();
    say("operations", offered.join(", "));
    say("any s", if caps.features & abi::FEATURE_ANY_S != 0 { "yes" } else { "no" }.into());
}

fn rings(
    config: &ring::Config,
    vectors: &Vectors,
    plan: &Plan,
    scope: &Scope,
    report: &mut Report,
    outcome: &mut Outcome,
    progress: Progress<'_>,
) -> Result<(), String> {
    if scope.tests {
        // Small rings wrap often.
        let small = ring::Config { entries: config.entries.min(64), ..config.clone() };
        let mut ring = ring::open(&small).map_err(|e| e.to_string())?;
        outcome.record("capabilities", 1, Ok(()));
        describe(ring.capabilities(), report);
        outcome.merge(ring_kit::check(&mut ring, vectors, plan, &mut |n| progress("ring tests", n)));
        if !matches!(config.place, Place::Device { .. }) && outcome.failed.is_empty() {
            outcome.merge(ring_kit::removal(&ring, LEAVE_LIMIT));
        }
        if !outcome.failed.is_empty() {
            return Ok(());
        }
    }
    let engine = ring::open(config).map_err(|e| e.to_string())?;
    let mut engine = RingEngine::new(engine, Some(config.clone()), None);
    describe_once(engine.capabilities(), report);
    through_the_trait(&mut engine, vectors, plan, scope, report, outcome, progress);
    let telemetry = engine.telemetry();
    if telemetry.power_mw != 0 || telemetry.temperature_mc != 0 {
        report.power_temperature = Some((telemetry.power_mw, telemetry.temperature_mc));
    }
    Ok(())
}

fn describe_once(caps: &abi::Capabilities, report: &mut Report) {
    if report.capabilities.is_empty() {
        describe(caps, report);
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one validation")]
fn plain(
    name: &EngineName,
    opening: &Opening,
    vectors: &Vectors,
    plan: &Plan,
    scope: &Scope,
    report: &mut Report,
    outcome: &mut Outcome,
    progress: Progress<'_>,
) -> Result<(), String> {
    if let EngineName::Plugin(path, options) = name {
        let mut engine =
            plugin::probe(plugin::Config::new(path, options), None).map_err(|e| e.to_string())?;
        describe(engine.capabilities(), report);
        through_the_trait(&mut engine, vectors, plan, scope, report, outcome, progress);
    } else {
        let config = scalar::Config { workers: opening.workers, ..Default::default() };
        let mut engine = Plain(scalar::probe(config, None).map_err(|e| e.to_string())?);
        report.title = "libsecp256k1".into();
        through_the_trait(&mut engine, vectors, plan, scope, report, outcome, progress);
    }
    Ok(())
}

fn through_the_trait(
    engine: &mut dyn ClaimEngine,
    vectors: &Vectors,
    plan: &Plan,
    scope: &Scope,
    report: &mut Report,
    outcome: &mut Outcome,
    progress: Progress<'_>,
) {
    if scope.tests {
        outcome.merge(engine::check(engine, vectors, plan, &mut |n| progress("engine tests", n)));
        if let Some(fault) = engine.fault() {
            outcome.record("engine", 0, Err(fault));
        }
    }
    if scope.matrix && outcome.failed.is_empty() {
        match engine::measure(engine, vectors, plan, &mut |n| progress("cells measured", n)) {
            Ok(matrix) => {
                outcome.record("measurements", matrix.len() as u64, Ok(()));
                report.matrix = matrix;
            }
            Err(reason) => outcome.record("measurements", 0, Err(reason)),
        }
    }
    if let Some(time) = scope.soak.filter(|_| outcome.failed.is_empty()) {
        let soak = engine::soak(engine, plan, time, &mut |n| progress("answers compared", n));
        outcome.record("soak", soak.checked, soak.difference.clone().map_or(Ok(()), Err));
        report.soak = Some(soak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_or_refused_with_the_forms() {
        let parse = |text: &str| text.parse::<EngineName>();
        assert_eq!(parse("scalar"), Ok(EngineName::Scalar));
        assert_eq!(parse("plugin:./a.so,x=1,y"), Ok(EngineName::Plugin("./a.so".into(), "x=1,y".into())));
        let command = vec!["driver".to_string(), "--card".into(), "0".into()];
        assert_eq!(parse("exec:driver --card 0"), Ok(EngineName::Card(Place::Spawn { command })));
        let register = Some(Register { path: "/dev/xdma0_user".into(), offset: 0x100, mapped: false });
        assert_eq!(
            parse("device:/dev/ring,offset=0x10000,write=/dev/xdma0_user@0x100"),
            Ok(EngineName::Card(Place::Device { path: "/dev/ring".into(), offset: 0x10000, register }))
        );
        for text in ["", "gpu?", "plugin:", "device:/dev/x,speed=9", "device:/dev/x,offset=ten", "scalar:1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("fast").expect_err("unknown").contains("plugin:PATH"));
    }

    #[test]
    fn the_reference_passes_and_its_report_says_so() {
        let opening = Opening { card_command: vec![], entries: 64, workers: 1 };
        let plan = Plan { random: 400, cell: Duration::from_millis(5), ..Plan::quick() };
        let scope =
            Scope { tests: true, matrix: true, soak: Some(Duration::from_millis(200)), vectors: None };
        let mut told = 0;
        let report = validate("scalar", &opening, &plan, &scope, &mut |_, _| told += 1).expect("understood");
        assert_eq!((report.failed.as_slice(), report.verdict.as_str()), (&[][..], "pass"));
        assert!(report.cases > 1_000 && report.throughput_per_s > 100.0 && report.latency_us.p50 > 1.0);
        assert!(report.soak.as_ref().is_some_and(|soak| soak.checked > 0) && told > 5);
        assert!(report.text().contains("requests/s"));
        let scope = Scope { vectors: Some("/nonexistent".into()), ..scope };
        assert!(validate("scalar", &opening, &plan, &scope, &mut |_, _| {}).is_err());
    }
}
