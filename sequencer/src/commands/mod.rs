//! One function a command. Each prints for people on stderr, and with `--json` one JSON object on the last line of stdout.

mod check;
mod import_into;
mod offload;
mod run;

pub use check::{conformance, import, promise, snapshot, verify};
pub use offload::offload;
pub use run::run;

use serde::Serialize;

/// Prints the one JSON object.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
