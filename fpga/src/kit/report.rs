//! What the kit found, for people and for machines.
//!
//! The signature covers the report: it is secp256k1 ECDSA over the Keccak-256 of the JSON body, made with a key that the
//! operator names (or one made for the run, which then only proves that nothing was changed since).

use super::engine::{Cell, Soak};
use super::{Failure, Outcome};
use crate::keccak;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1, SecretKey};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Engine as the operator named it.
    pub engine: String,
    /// What it says of itself.
    pub title: String,
    /// Capabilities in words.
    pub capabilities: Vec<(String, String)>,
    /// Checks made.
    pub cases: u64,
    /// Checks passed.
    pub passed: u64,
    /// What failed.
    pub failed: Vec<Failure>,
    /// (test, checks).
    pub tests: Vec<(String, u64)>,
    /// Vector files of others that were used.
    pub vector_files: Vec<String>,
    /// Highest rate of the matrix, requests a second.
    pub throughput_per_s: f64,
    /// One request at a time.
    pub latency_us: super::engine::Quantiles,
    /// Throughput and latency by batch size and depth.
    pub matrix: Vec<Cell>,
    /// The differential soak, if one ran.
    pub soak: Option<Soak>,
    /// (milliwatts, millidegrees Celsius) at the end, where the card measures them.
    pub power_temperature: Option<(u32, i32)>,
    /// Seconds since 1970 when the report was made.
    pub made_at_s: u64,
    /// Version of the kit.
    pub kit: String,
    /// "pass" or "fail".
    pub verdict: String,
}

/// A report with its signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signed {
    /// The report.
    #[serde(flatten)]
    pub report: Report,
    /// The signature.
    pub signature: Signature,
}

/// Who vouches for a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Always "secp256k1 ECDSA over Keccak-256 of the report's JSON".
    pub scheme: String,
    /// Whether the key was made for this report alone.
    pub ephemeral: bool,
    /// Address of the key, hex.
    pub address: String,
    /// r ‖ s ‖ parity, hex.
    pub bytes: String,
}

const SCHEME: &str = "secp256k1 ECDSA over Keccak-256 of the report's JSON";

/// Why a report's signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// Not a report.
    #[error("this is not a signed report: {0}")]
    Format(String),
    /// Changed, or signed by somebody else.
    #[error("the report was changed after {0} signed it, or {0} never did")]
    Changed(String),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_string(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest(report: &Report) -> Result<[u8; 32], BadReport> {
    let json = serde_json::to_vec(report).map_err(|e| BadReport::Format(e.to_string()))?;
    Ok(keccak::keccak256(&json).0)
}

impl Report {
    /// Takes tests over and fixes the verdict.
    pub fn with(mut self, outcome: Outcome) -> Self {
        (self.cases, self.passed) = (outcome.cases, outcome.passed);
        (self.failed, self.tests) = (outcome.failed, outcome.tests);
        self.throughput_per_s = self.matrix.iter().map(|cell| cell.throughput_per_s).fold(0.0, f64::max);
        if let Some(single) = self.matrix.iter().find(|cell| cell.batch == 1 && cell.depth == 1) {
            self.latency_us = single.latency_us;
        }
        let soaked = self.soak.as_ref().is_none_or(|soak| soak.difference.is_none());
        self.verdict =
            if self.failed.is_empty() && self.cases > 0 && soaked { "pass" } else { "fail" }.into();
        self
    }

    /// Signs; `None`: with a key made for this report.
    ///
    /// # Errors
    /// [`BadReport::Format`] when the key is none.
    pub fn sign(self, key: Option<[u8; 32]>) -> Result<Signed, BadReport> {
        let ephemeral = key.is_none();
        let key = match key {
            Some(key) => SecretKey::from_byte_array(key),
            None => loop {
                if let Ok(key) = SecretKey::from_byte_array(rand::random()) {
                    break Ok(key);
                }
            },
        }
        .map_err(|_| BadReport::Format("the signing key is not in [1, n-1]".into()))?;
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest(&self)?), &key);
        let (id, compact) = signature.serialize_compact();
        let mut bytes = compact.to_vec();
        bytes.push(i32::from(id) as u8);
        let public = secp256k1::PublicKey::from_secret_key(SECP256K1, &key).serialize_uncompressed();
        let address = &keccak::keccak256(&public[1..])[12..];
        let signature =
            Signature { scheme: SCHEME.into(), ephemeral, address: hex(address), bytes: hex(&bytes) };
        Ok(Signed { report: self, signature })
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}: {}", self.engine, self.title);
        for (name, value) in &self.capabilities {
            let _ = writeln!(out, "  {name}: {value}");
        }
        for (name, cases) in &self.tests {
            let failed = self.failed.iter().find(|failure| failure.test == *name);
            let mark = if failed.is_some() { "FAIL" } else { "ok" };
            let _ = writeln!(out, "  {mark:4} {name} ({cases} checks)");
            if let Some(failure) = failed {
                let _ = writeln!(out, "       {}", failure.reason);
            }
        }
        if !self.matrix.is_empty() {
            let _ = writeln!(out, "  batch × depth      requests/s    p50 µs    p99 µs    max µs");
            for cell in &self.matrix {
                let _ = writeln!(
                    out,
                    "  {:>6} × {:<2}    {:>12.0}  {:>8.1}  {:>8.1}  {:>8.1}",
                    cell.batch,
                    cell.depth,
                    cell.throughput_per_s,
                    cell.latency_us.p50,
                    cell.latency_us.p99,
                    cell.latency_us.max
                );
            }
        }
        if let Some(soak) = &self.soak {
            let end = soak.difference.as_deref().unwrap_or("no difference to libsecp256k1");
            let _ = writeln!(out, "  soak: {} answers in {:.1} s: {end}", soak.checked, soak.seconds);
        }
        if let Some((power, temperature)) = self.power_temperature {
            let _ =
                writeln!(out, "  {:.1} W, {:.1} °C", f64::from(power) / 1e3, f64::from(temperature) / 1e3);
        }
        let _ = write!(out, "  {} of {} checks passed: {}", self.passed, self.cases, self.verdict);
        out
    }
}

impl Signed {
    /// Reads a report and checks its signature.
    ///
    /// # Errors
    /// [`BadReport`].
    pub fn verify(json: &str) -> Result<Self, BadReport> {
        let signed: Self = serde_json::from_str(json).map_err(|e| BadReport::Format(e.to_string()))?;
        let changed = || BadReport::Changed(signed.signature.address.clone());
        let text = signed.signature.bytes.strip_prefix("0x").ok_or_else(changed)?;
        let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(byte).collect::<Option<_>>().ok_or_else(changed)?;
        let (Some(compact), Some(id)) = (bytes.get(..64), bytes.get(64)) else { return Err(changed()) };
        let id = RecoveryId::try_from(i32::from(*id)).map_err(|_| changed())?;
        let signature = RecoverableSignature::from_compact(compact, id).map_err(|_| changed())?;
        let message = Message::from_digest(digest(&signed.report)?);
        let key = SECP256K1.recover_ecdsa(message, &signature).map_err(|_| changed())?;
        let address = hex(&keccak::keccak256(&key.serialize_uncompressed()[1..])[12..]);
        if address == signed.signature.address { Ok(signed) } else { Err(changed()) }
    }

    /// One page without anything from outside: tables, and the matrix as plots.
    pub fn html(&self) -> String {
        let report = &self.report;
        let mut body = String::new();
        let _ = write!(
            body,
            "<h1>{} <span class=\"{}\">{}</span></h1><p>{}</p><p>{} of {} checks passed. Kit {}.</p>",
            escape(&report.engine),
            escape(&report.verdict),
            escape(&report.verdict),
            escape(&report.title),
            report.passed,
            report.cases,
            escape(&report.kit)
        );
        body.push_str("<h2>Card</h2><table>");
        for (name, value) in &report.capabilities {
            let _ = write!(body, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
        }
        if let Some((power, temperature)) = report.power_temperature {
            let (watts, degrees) = (f64::from(power) / 1e3, f64::from(temperature) / 1e3);
            let _ =
                write!(body, "<tr><th>power, temperature</th><td>{watts:.1} W, {degrees:.1} °C</td></tr>");
        }
        body.push_str("</table><h2>Tests</h2><table><tr><th>test</th><th>checks</th><th>result</th></tr>");
        for (name, cases) in &report.tests {
            let failed = report.failed.iter().find(|failure| failure.test == *name);
            let (class, result) = failed.map_or(("pass", "ok"), |failure| ("fail", failure.reason.as_str()));
            let _ = write!(
                body,
                "<tr><td>{}</td><td>{cases}</td><td class=\"{class}\">{}</td></tr>",
                escape(name),
                escape(result)
            );
        }
        body.push_str("</table>");
        if !report.matrix.is_empty() {
            body.push_str("<h2>Throughput and latency</h2>");
            body.push_str(&plot("requests a second", &report.matrix, |cell| cell.throughput_per_s));
            body.push_str(&plot("p50 latency, µs", &report.matrix, |cell| cell.latency_us.p50));
            body.push_str(&plot("p99 latency, µs", &report.matrix, |cell| cell.latency_us.p99));
            body.push_str(
                "<table><tr><th>batch</th><th>in flight</th><th>requests/s</th><th>p50 µs</th><th>p90</th>\
                 <th>p99</th><th>p99.9</th><th>max</th></tr>",
            );
            for cell in &report.matrix {
                let l = cell.latency_us;
                let _ = write!(
                    body,
                    "<tr><td>{}</td><td>{}</td><td>{:.0}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td>\
                     <td>{:.1}</td><td>{:.1}</td></tr>",
                    cell.batch,
                    cell.batch * cell.depth,
                    cell.throughput_per_s,
                    l.p50,
                    l.p90,
                    l.p99,
                    l.p999,
                    l.max
                );
            }
            body.push_str("</table>");
        }
        if let Some(soak) = &report.soak {
            let end = soak.difference.as_deref().unwrap_or("no difference to libsecp256k1");
            let _ = write!(
                body,
                "<h2>Soak</h2><p>{} answers in {:.1} s: {}</p>",
                soak.checked,
                soak.seconds,
                escape(end)
            );
        }
        let _ = write!(
            body,
            "<h2>Signature</h2><p>{}, by {}{}:<br><code>{}</code></p>",
            escape(&self.signature.scheme),
            escape(&self.signature.address),
            if self.signature.ephemeral { " (a key made for this report)" } else { "" },
            escape(&self.signature.bytes)
        );
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{}</title><style>{STYLE}</style>{body}</html>",
            escape(&report.engine)
        )
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1a1a1a}\
table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}\
.pass{color:#0a7a3d}.fail{color:#b3261e}code{word-break:break-all}svg{display:block;margin:1em 0}";

/// Text from a card must not become markup.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}

/// A log-log line a depth, as inline SVG.
fn plot(title: &str, cells: &[Cell], value: impl Fn(&Cell) -> f64) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 240.0;
    const LEFT: f64 = 70.0;
    const BELOW: f64 = 40.0;
    let log = |v: f64| v.max(1e-3).log10();
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    let mut widest = 0.0f64;
    for cell in cells {
        low = low.min(log(value(cell)).floor());
        high = high.max(log(value(cell)).ceil());
        widest = widest.max((cell.batch as f64).log2());
    }
    high = high.max(low + 1.0);
    let x = |batch: usize| LEFT + (batch as f64).log2() / widest.max(1.0) * (WIDTH - LEFT - 20.0);
    let y = |v: f64| 20.0 + (high - log(v)) / (high - low) * (HEIGHT - 20.0 - BELOW);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" role=\"img\" aria-label=\"{}\">\
         <text x=\"{LEFT}\" y=\"12\" font-size=\"13\">{} by batch size</text>",
        escape(title),
        escape(title)
    );
    for decade in low as i32..=high as i32 {
        let v = 10f64.powi(decade);
        let at = y(v);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"end\">{v}</text>",
            WIDTH - 20.0,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let mut depths: Vec<usize> = cells.iter().map(|cell| cell.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    for (depth, colour) in depths.iter().zip(["#1f5fbf", "#c2570c", "#0a7a3d", "#6b3fa0"]) {
        let line: Vec<&Cell> = cells.iter().filter(|cell| cell.depth == *depth).collect();
        let points: Vec<String> =
            line.iter().map(|cell| format!("{:.1},{:.1}", x(cell.batch), y(value(cell)))).collect();
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
        for cell in line {
            let (x, y) = (x(cell.batch), y(value(cell)));
            let _ = write!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"><title>{} × {}: {:.1}</title></circle>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"middle\">{}</text>",
                cell.batch,
                cell.depth,
                value(cell),
                HEIGHT - BELOW + 18.0,
                cell.batch
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::engine::Quantiles;

    fn report() -> Report {
        let cell = |batch: usize, depth, throughput_per_s| Cell {
            batch,
            depth,
            throughput_per_s,
            latency_us: Quantiles { p50: 50.0, p90: 60.0, p99: 90.0, p999: 91.5, max: 100.0 },
        };
        let report = Report {
            engine: "plugin:<script>".into(),
            title: "A & B".into(),
            capabilities: vec![("parallelism".into(), "1".into())],
            matrix: vec![cell(1, 1, 20_000.0), cell(64, 1, 22_500.5), cell(64, 4, 23_000.25)],
            soak: Some(Soak { checked: 7, seconds: 0.125, difference: None }),
            kit: "1".into(),
            ..Report::default()
        };
        let outcome = Outcome { cases: 3, passed: 3, tests: vec![("wrap".into(), 3)], failed: vec![] };
        report.with(outcome)
    }

    #[test]
    fn a_signature_holds_until_a_byte_changes() {
        for key in [None, Some([7; 32])] {
            let signed = report().sign(key).expect("signed");
            let json = serde_json::to_string(&signed).expect("json");
            assert_eq!(Signed::verify(&json).expect("unchanged"), signed);
            assert_eq!(signed.signature.ephemeral, key.is_none());
            for (from, to) in
                [("\"passed\":3", "\"passed\":4"), ("22500.5", "32500.5"), ("\"pass\"", "\"fail\"")]
            {
                let changed = json.replacen(from, to, 1);
                assert_ne!(changed, json);
                assert!(matches!(Signed::verify(&changed), Err(BadReport::Changed(_))), "{from}");
            }
        }
        assert!(matches!(Signed::verify("{}"), Err(BadReport::Format(_))));
        assert!(report().sign(Some([0; 32])).is_err(), "zero is no key");
    }

    #[test]
    fn the_verdict_follows_from_what_was_found() {
        assert_eq!(report().verdict, "pass");
        let mut outcome = Outcome::default();
        outcome.record("wrap", 3, Err("lost an entry".into()));
        let bad = Report::default().with(outcome.clone());
        assert_eq!((bad.verdict.as_str(), bad.cases, bad.passed), ("fail", 4, 3));
        assert!(bad.text().contains("FAIL wrap") && bad.text().contains("lost an entry"));
        assert_eq!(Report::default().with(Outcome::default()).verdict, "fail", "nothing checked is no pass");
        let soak = Some(Soak { difference: Some("tag 3".into()), ..Soak::default() });
        let good = Outcome { cases: 1, passed: 1, ..Outcome::default() };
        assert_eq!(Report { soak, ..Report::default() }.with(good).verdict, "fail");
    }

    #[test]
    fn the_page_stands_alone_and_escapes_what_a_card_says() {
        let html = report().sign(Some([7; 32])).expect("signed").html();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
        assert!(html.contains("<svg") && html.contains("polyline") && html.contains("22500.5"));
        assert!(!html.contains("http"), "nothing is fetched from elsewhere");
    }
}
