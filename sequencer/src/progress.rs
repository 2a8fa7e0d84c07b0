//! A progress bar on a terminal, for what takes longer than a second; silence elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often the bar is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(1);

/// Counts work and shows it.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    drawn: Cell<Instant>,
    count: Cell<u64>,
}

impl Progress {
    /// Work of unknown length: `what` is being done, `unit` is counted.
    pub fn new(what: &str, unit: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        let template = format!("{{spinner}} {what}: {{human_pos}} {unit}, {{per_sec}}, {{elapsed}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self { bar, started: now, drawn: Cell::new(now), count: Cell::new(0) }
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.count.set(self.count.get() + more);
        if self.drawn.get().elapsed() >= DRAW_EVERY && self.started.elapsed() >= QUIET {
            self.drawn.set(Instant::now());
            self.bar.set_position(self.count.get());
        }
    }

    /// All is done; the bar goes away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// How much was counted.
    pub fn count(&self) -> u64 {
        self.count.get()
    }
}
