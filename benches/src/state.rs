//! `ironbench state`: lookups, updates, growth and snapshots of the state store, beside hashbrown's map of the same
//! accounts in the same process.

use alloy_primitives::{Address, B256, U256};
use anyhow::{Context, ensure};
use ironlane_state::{
    ChainIdentity, SnapshotDir, State, StateConfig, StateWriter, open_empty, open_snapshot,
};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use serde_json::{Value, json};
use std::{hint::black_box, path::PathBuf, time::Instant};

/// Options of `ironbench state`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A small size, in a second: for tests.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Accounts in the store.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) accounts: usize,
    /// Lookups and updates of each kind.
    #[arg(long, default_value_t = 4_000_000)]
    pub(crate) operations: usize,
    /// Seed of the run.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Folder for the snapshot (a temporary one when not given).
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

/// Keys looked up together, as the executor's admission does.
const BATCH: usize = 32;
/// Operations that one latency sample covers. The clock costs about as much as one lookup, so single ones cannot be timed.
const SAMPLE: usize = 256;

type Map = hashbrown::HashMap<Address, AccountInfo>;

/// Runs the bench.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let accounts = if args.smoke { 20_000 } else { args.accounts.max(1000) };
    let operations = if args.smoke { 40_000 } else { args.operations.max(BATCH) }.next_multiple_of(SAMPLE);
    let mut bench = Bench { rows: Vec::new(), digest: 0, rng: Rng(args.seed) };

    let (state, mut writer) = bench.load(accounts)?;
    let stats = state.stats();
    let map = bench.load_map(accounts);
    let keys: Vec<Address> = (0..operations).map(|_| address(bench.rng.below(accounts as u64))).collect();
    bench.lookups(&writer, &state, &map, &keys)?;
    bench.updates(&mut writer, map, &keys)?;
    let snapshot = bench.snapshots(&state, args.dir.as_ref())?;
    drop((state, writer));
    bench.growth(accounts)?;

    Ok(json!({
        "bench": "state",
        "accounts": accounts,
        "operations": operations,
        "rows": bench.rows,
        "bytes_per_account": stats.account_table_bytes as f64 / accounts as f64,
        "snapshot": snapshot,
        "result_hash": format!("{:016x}", bench.digest),
    }))
}

struct Bench {
    rows: Vec<Value>,
    /// Over all that was read, so that a wrong answer, or work left out, shows.
    digest: u64,
    rng: Rng,
}

impl Bench {
    fn load(&mut self, accounts: usize) -> anyhow::Result<(State, StateWriter)> {
        let (state, mut writer) = open_empty(StateConfig { accounts, ..StateConfig::default() })?;
        let start = Instant::now();
        let mut from = 0;
        while from < accounts {
            let to = (from + 1000).min(accounts);
            writer.apply(&StateDelta {
                accounts: (from..to).map(|n| changed(n as u64, 0)).collect(),
                codes: vec![],
            })?;
            from = to;
        }
        writer.seal();
        let ns = start.elapsed().as_nanos() as f64 / accounts as f64;
        self.rows.push(json!({ "name": "load, sized ahead", "ops_per_s": 1e9 / ns, "p50_ns": ns, "p99_ns": null, "vs": {} }));
        Ok((state, writer))
    }

    fn load_map(&mut self, accounts: usize) -> Map {
        (0..accounts as u64).map(|n| (address(n), info(n, 0))).collect()
    }

    fn lookups(
        &mut self,
        writer: &StateWriter,
        state: &State,
        map: &Map,
        keys: &[Address],
    ) -> anyhow::Result<()> {
        let view = state.view();
        let mut out = [None; BATCH];
        let loop_ns = self.lookup("hashbrown, loop", keys, None, |key, sum| {
            key.iter().for_each(|k| *sum ^= fold(map.get(k)));
        });
        let vs = Some(("hashbrown", loop_ns));
        self.lookup("writer, batches of 32", keys, vs, |keys, sum| {
            for batch in keys.chunks_exact(BATCH) {
                writer.accounts_batch(batch, &mut out);
                out.iter().for_each(|a| *sum ^= fold(a.as_ref()));
            }
        });
        self.lookup("view, batches of 32", keys, vs, |keys, sum| {
            for batch in keys.chunks_exact(BATCH) {
                // A version cannot expire while nothing is written.
                if view.accounts_batch(batch, &mut out).is_ok() {
                    out.iter().for_each(|a| *sum ^= fold(a.as_ref()));
                }
            }
        });
        self.lookup("writer, loop", keys, vs, |keys, sum| {
            keys.iter().for_each(|k| *sum ^= fold(writer.account(k).as_ref()));
        });
        let n = map.len() as u64;
        let dependent_ns =
            self.dependent("hashbrown, dependent", keys.len(), n, None, |k| map.get(k).copied());
        let vs = Some(("hashbrown", dependent_ns));
        self.dependent("writer, dependent", keys.len(), n, vs, |k| writer.account(k));
        self.dependent("view, dependent", keys.len(), n, vs, |k| view.account(k).ok().flatten());
        let known: Vec<u64> = self.rows.iter().filter_map(|row| row["digest"].as_u64()).collect();
        ensure!(known[..4].iter().all(|d| *d == known[0]), "the lookups disagree: {known:?}");
        ensure!(known[4..].iter().all(|d| *d == known[4]), "the dependent lookups disagree: {known:?}");
        Ok(())
    }

    /// Times `run` over the keys in samples; the sums are compared afterwards.
    fn lookup(
        &mut self,
        name: &str,
        keys: &[Address],
        vs: Option<(&str, f64)>,
        mut run: impl FnMut(&[Address], &mut u64),
    ) -> f64 {
        let mut sum = 0;
        let times: Vec<f64> = keys.chunks_exact(SAMPLE).map(|keys| timed(|| run(keys, &mut sum))).collect();
        self.row(name, times, sum, vs)
    }

    /// Each key depends on the value before.
    fn dependent(
        &mut self,
        name: &str,
        n: usize,
        accounts: u64,
        vs: Option<(&str, f64)>,
        get: impl Fn(&Address) -> Option<AccountInfo>,
    ) -> f64 {
        let mut last = 0u64;
        let sample = || {
            timed(|| {
                for i in 0..SAMPLE as u64 {
                    let key = address(mix(last ^ i) % accounts);
                    last = mix(last) ^ fold(black_box(get(&key)).as_ref());
                }
            })
        };
        let times: Vec<f64> = std::iter::repeat_with(sample).take(n / SAMPLE).collect();
        self.row(name, times, last, vs)
    }

    fn updates(&mut self, writer: &mut StateWriter, mut map: Map, keys: &[Address]) -> anyhow::Result<()> {
        let mut nonce = 0;
        let map_ns = self.lookup("hashbrown, update", keys, None, |keys, _| {
            for key in keys {
                nonce += 1;
                map.insert(*key, info_of(nonce));
            }
        });
        drop(map);
        let transfer = |keys: &[Address], nonce: u64| StateDelta {
            accounts: keys.iter().map(|k| delta(*k, info_of(nonce))).collect(),
            codes: vec![],
        };
        // A delta is the executor's to make, so it is made outside the measured time.
        let mut nonce = 0;
        for (name, accounts, seal_every) in [
            ("apply, one transfer (2 accounts, history kept), a seal every 64", 2, 64),
            ("apply, 32 accounts at once (history kept), a seal each", 32, 1),
        ] {
            let mut times = Vec::new();
            for (n, chunk) in keys.chunks_exact(SAMPLE).enumerate() {
                nonce += 1;
                let deltas: Vec<StateDelta> =
                    chunk.chunks_exact(accounts).map(|keys| transfer(keys, nonce)).collect();
                let mut failed = None;
                times.push(timed(|| {
                    for (i, delta) in deltas.iter().enumerate() {
                        failed = failed.take().or(writer.apply(delta).err());
                        if (n * deltas.len() + i).is_multiple_of(seal_every) {
                            writer.seal();
                        }
                    }
                }));
                if let Some(error) = failed {
                    return Err(error).context("apply");
                }
            }
            self.row(name, times, 0, Some(("hashbrown", map_ns)));
        }
        writer.seal();
        Ok(())
    }

    fn snapshots(&mut self, state: &State, dir: Option<&PathBuf>) -> anyhow::Result<Value> {
        let temp = tempfile::tempdir()?;
        let path = dir.cloned().unwrap_or_else(|| temp.path().join("snapshots"));
        let dir = SnapshotDir::open(&path, ChainIdentity { chain_id: 31337, genesis_hash: B256::ZERO })?;
        let start = Instant::now();
        let mut snapshot = dir.create(state.view().version())?;
        state.view().pin()?.write_snapshot(&mut snapshot)?;
        let folder = snapshot.finish(b"")?;
        let write_ms = ms(start);

        let start = Instant::now();
        let reader = dir.open_newest()?.context("the snapshot just written is not there")?;
        let verify_ms = ms(start);
        let start = Instant::now();
        let (reopened, writer) = open_snapshot(StateConfig::default(), &reader)?;
        let first = reopened.view().account(&address(1))?;
        let open_ms = ms(start);
        ensure!(first == state.view().account(&address(1))?, "the reopened store answers otherwise");
        let start = Instant::now();
        let copied =
            open_snapshot(StateConfig { snapshot_in_place: false, ..StateConfig::default() }, &reader)?;
        let open_copied_ms = ms(start);
        drop((copied, writer));
        self.digest = mix(self.digest ^ reader.bytes());
        std::fs::remove_dir_all(folder)?;
        Ok(json!({
            "bytes": reader.bytes(),
            "write_ms": write_ms,
            "verify_ms": verify_ms,
            "open_in_place_and_first_answer_ms": open_ms,
            "open_copied_ms": open_copied_ms,
        }))
    }

    /// From nothing, so that the index grows all the way; the slowest sample shows the longest stop.
    fn growth(&mut self, accounts: usize) -> anyhow::Result<()> {
        let (state, mut writer) = open_empty(StateConfig { accounts: 0, ..StateConfig::default() })?;
        writer.seal();
        let (mut times, mut slowest) = (Vec::new(), 0.0f64);
        for from in (0..accounts as u64).step_by(SAMPLE) {
            let deltas: Vec<StateDelta> = (from..from + SAMPLE as u64)
                .map(|n| StateDelta { accounts: vec![changed(n, 0)], codes: vec![] })
                .collect();
            let mut failed = None;
            times.push(timed(|| {
                for delta in &deltas {
                    let start = Instant::now();
                    failed = failed.take().or(writer.apply(delta).err());
                    slowest = slowest.max(start.elapsed().as_nanos() as f64);
                }
            }));
            if let Some(error) = failed {
                return Err(error).context("apply");
            }
            writer.seal();
        }
        self.row("create while growing from nothing (history kept)", times, state.stats().growths, None);
        if let Some(row) = self.rows.last_mut() {
            row["slowest_ns"] = json!(slowest);
            row["growths"] = json!(state.stats().growths);
            row["bytes_per_account"] =
                json!(state.stats().account_table_bytes as f64 / state.stats().accounts as f64);
        }
        Ok(())
    }

    /// Adds a row from samples of nanoseconds; returns the median for an operation, which ratios are made of.
    fn row(&mut self, name: &str, mut times: Vec<f64>, sum: u64, vs: Option<(&str, f64)>) -> f64 {
        let mean = times.iter().sum::<f64>() / (times.len() * SAMPLE) as f64;
        times.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize] / SAMPLE as f64;
        let median = at(0.5);
        let vs: serde_json::Map<String, Value> =
            vs.map(|(name, ns)| (name.into(), json!(ns / median))).into_iter().collect();
        self.digest = mix(self.digest ^ sum);
        self.rows.push(json!({
            "name": name, "ops_per_s": 1e9 / mean, "p50_ns": median, "p99_ns": at(0.99), "vs": vs, "digest": sum,
        }));
        median
    }
}

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % n
    }
}

fn address(n: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&mix(n + 1).to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    Address::from(bytes)
}

fn info(n: u64, nonce: u64) -> AccountInfo {
    AccountInfo { nonce, balance: U256::from(n), code_hash: KECCAK_EMPTY }
}

fn info_of(nonce: u64) -> AccountInfo {
    info(nonce, nonce)
}

fn delta(address: Address, info: AccountInfo) -> AccountDelta {
    AccountDelta { address, info: Some(info), storage_wiped: false, slots: vec![] }
}

fn changed(n: u64, nonce: u64) -> AccountDelta {
    delta(address(n), info(n, nonce))
}

/// What a reader looks at: it touches the record and its code hash.
#[inline]
fn fold(info: Option<&AccountInfo>) -> u64 {
    info.map_or(u64::MAX, |i| {
        mix(i.balance.as_limbs()[0] ^ i.nonce.rotate_left(32) ^ u64::from(i.code_hash[0]))
    })
}

#[cfg(test)]
mod tests {
    use super::{Args, run};

    #[test]
    fn the_smoke_size_runs_and_repeats() {
        let args = Args { smoke: true, accounts: 0, operations: 0, seed: 3, dir: None };
        let (a, b) = (run(&args).expect("runs"), run(&args).expect("runs"));
        assert_eq!(a["result_hash"], b["result_hash"]);
        assert!(a["rows"].as_array().is_some_and(|rows| rows.len() >= 11), "{a}");
    }
}
