//! `ironbench keccak`: Keccak-256 by every width that this CPU has, beside the scalar code in the same process.

use alloy_primitives::{B256, keccak256};
use anyhow::ensure;
use ironlane_fpga::keccak::{Engine, blocks};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Options of `ironbench keccak`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ironbench keccak --json --messages 1024")]
pub(crate) struct Args {
    /// Messages a call.
    #[arg(long, default_value_t = 256)]
    pub(crate) messages: usize,
    /// Seconds a row.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) seconds: f64,
    /// The smallest size that still runs everything.
    #[arg(long)]
    pub(crate) smoke: bool,
}

/// An address, a public key, a full block, a transfer with its signature, a branch of the trie, a large call.
const MESSAGE_BYTES: [usize; 7] = [20, 32, 64, 120, 136, 532, 4_096];

/// Runs the bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let count = if args.smoke { 16 } else { args.messages.max(1) };
    let seconds = if args.smoke { 0.0 } else { args.seconds };
    let (mut rows, mut digest) = (vec![], B256::ZERO);
    for bytes in MESSAGE_BYTES {
        let messages: Vec<Vec<u8>> =
            (0..count).map(|i| (0..bytes).map(|j| (i * 31 + j * 7) as u8).collect()).collect();
        let views: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut expected = vec![B256::ZERO; count];
        let mut scalar_ns = 0.0;
        for engine in Engine::available() {
            let mut out = vec![B256::ZERO; count];
            let ns = median_ns(seconds, count, || engine.hash_many(std::hint::black_box(&views), &mut out));
            if engine == Engine::SCALAR {
                scalar_ns = ns;
                expected.clone_from(&out);
            }
            ensure!(out == expected, "{} and the scalar code disagree at {bytes} bytes", engine.name());
            rows.push(json!({
                "engine": engine.name(),
                "message_bytes": bytes,
                "blocks": blocks(bytes),
                "ns_per_hash": ns,
                "vs_scalar": scalar_ns / ns,
            }));
        }
        let all: Vec<u8> = expected.iter().flat_map(|hash| hash.0).collect();
        digest = keccak256([digest.as_slice(), &all].concat());
    }
    Ok(json!({ "bench": "keccak", "messages": count, "rows": rows, "result_hash": digest }))
}

/// The median time of an item over calls of `work` for about so many seconds, in ns.
fn median_ns(seconds: f64, count: usize, mut work: impl FnMut()) -> f64 {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut samples = vec![];
    while samples.len() < 3 || Instant::now() < end {
        let start = Instant::now();
        work();
        samples.push(start.elapsed().as_secs_f64() * 1e9 / count as f64);
    }
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoke_run_has_a_row_for_each_width_and_size() {
        let result = run(&Args { messages: 1, seconds: 1.0, smoke: true }).unwrap();
        let rows = result["rows"].as_array().unwrap();
        assert_eq!(rows.len(), MESSAGE_BYTES.len() * Engine::available().count());
        assert!(rows.iter().all(|row| row["ns_per_hash"].as_f64().unwrap() > 0.0));
    }
}
