//! `ironbench trie`: the state trie's roots, proofs and files, beside alloy-trie's full rebuild of the same accounts in
//! the same process. Every root is compared with the rebuild's.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount};
use anyhow::ensure;
use ironlane_trie::{EMPTY_ROOT, Trie, TrieConfig};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::index};
use serde_json::{Value, json};
use std::{collections::BTreeMap, hint::black_box, time::Instant};

/// Options of `ironbench trie`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// A small size, in a second: for tests.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Accounts in the trie.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) accounts: usize,
    /// Accounts changed between two roots.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) updates: usize,
    /// Roots of each kind.
    #[arg(long, default_value_t = 9)]
    pub(crate) rounds: usize,
    /// Proofs taken.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) proofs: usize,
    /// Seed of the run.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Accounts as the rebuild needs them: sorted by hashed address. Hashing and sorting are not part of its time.
struct Model {
    addresses: Vec<Address>,
    leaves: BTreeMap<B256, AccountInfo>,
}

impl Model {
    fn rebuild(&self) -> (B256, f64) {
        let started = Instant::now();
        let mut builder = HashBuilder::default();
        let mut rlp = Vec::new();
        for (key, info) in &self.leaves {
            rlp.clear();
            let account = TrieAccount::new(info.nonce, info.balance, EMPTY_ROOT, info.code_hash);
            alloy_rlp::Encodable::encode(&account, &mut rlp);
            builder.add_leaf(Nibbles::unpack(key), &rlp);
        }
        (builder.root(), started.elapsed().as_secs_f64())
    }

    /// A delta that changes `updates` random accounts and adds `fresh` new ones, also made here.
    fn change(&mut self, rng: &mut StdRng, updates: usize, fresh: usize) -> StateDelta {
        let known = self.addresses.len();
        let mut accounts = Vec::with_capacity(updates + fresh);
        for i in index::sample(rng, known, updates.min(known)) {
            accounts.push(self.set(rng, self.addresses[i]));
        }
        for _ in 0..fresh {
            let address = Address::from(rng.random::<[u8; 20]>());
            self.addresses.push(address);
            accounts.push(self.set(rng, address));
        }
        StateDelta { accounts, codes: vec![] }
    }

    fn set(&mut self, rng: &mut StdRng, address: Address) -> AccountDelta {
        let balance = U256::from(rng.random::<u128>() >> 48);
        let info = AccountInfo { nonce: rng.random_range(0..1000), balance, code_hash: KECCAK_EMPTY };
        self.leaves.insert(keccak256(address), info);
        AccountDelta { address, info: Some(info), storage_wiped: false, slots: vec![] }
    }
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// A row: `seconds` of each run, `operations` in a run.
fn row(name: &str, operations: usize, mut seconds: Vec<f64>, vs: Value) -> Value {
    seconds.sort_by(f64::total_cmp);
    let (p50, p99) = (quantile(&seconds, 0.5), quantile(&seconds, 0.99));
    json!({
        "name": name,
        "operations": operations,
        "ops_per_s": (operations as f64 / p50).round(),
        "p50_ns": (p50 * 1e9).round(),
        "p99_ns": (p99 * 1e9).round(),
        "vs": vs,
    })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let value = work();
    (value, started.elapsed().as_secs_f64())
}

/// Runs the bench: rows as every `ironbench` command gives them, and the last root, by which runs can be compared.
pub(crate) fn run(args: &Args) -> anyhow::Result<Value> {
    let mut args = args.clone();
    if args.smoke {
        (args.accounts, args.updates, args.rounds, args.proofs) = (20_000, 2_000, 2, 200);
    }
    let mut rng = StdRng::seed_from_u64(args.seed);
    let mut model = Model { addresses: Vec::new(), leaves: BTreeMap::new() };
    let mut trie = Trie::new(TrieConfig::default())?;
    let mut rows = Vec::new();

    let mut build_s = 0.0;
    for first in (0..args.accounts).step_by(1_000_000) {
        let delta = model.change(&mut rng, 0, (args.accounts - first).min(1_000_000));
        build_s += timed(|| {
            trie.apply(&delta);
            trie.root()
        })
        .1;
    }
    let (expected, rebuild_s) = model.rebuild();
    ensure!(trie.last_root() == expected, "the built trie's root is not the rebuild's");
    rows.push(row(
        "build",
        args.accounts,
        vec![build_s],
        json!({ "alloy_trie_rebuild": rebuild_s / build_s }),
    ));
    rows.push(row("alloy-trie rebuild", args.accounts, vec![rebuild_s], json!({})));

    for (name, fresh) in [("root of random updates", 0), ("root of 90% updates, 10% new", args.updates / 10)]
    {
        let mut seconds = Vec::new();
        for _ in 0..args.rounds {
            let delta = model.change(&mut rng, args.updates - fresh, fresh);
            seconds.push(
                timed(|| {
                    trie.apply(&delta);
                    trie.root()
                })
                .1,
            );
        }
        let (expected, rebuild_s) = model.rebuild();
        ensure!(trie.last_root() == expected, "{name}: the root is not the rebuild's");
        let mut sorted = seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let ratio = rebuild_s / quantile(&sorted, 0.5);
        rows.push(row(name, args.updates, seconds, json!({ "alloy_trie_rebuild": ratio })));
    }
    let root = trie.last_root();

    let mut seconds = Vec::new();
    for _ in 0..args.proofs {
        let address = model.addresses[rng.random_range(0..model.addresses.len())];
        let (proof, s) = timed(|| trie.prove(&address, &[]));
        ensure!(proof.info.is_some(), "an account of the trie has no proof");
        black_box(proof);
        seconds.push(s);
    }
    rows.push(row("account proof", 1, seconds, json!({})));

    let memory = trie.memory();
    let mut file = Vec::with_capacity(trie.file_bytes() as usize);
    let (written, write_s) = timed(|| trie.write_to(&mut file));
    written?;
    drop(trie);
    let (opened, open_s) = timed(|| Trie::open(TrieConfig::default(), &file));
    let mut trie = opened?;
    ensure!(trie.last_root() == root, "the opened trie has another root");
    let (verified, verify_s) = timed(|| trie.verify());
    verified?;
    rows.push(row("write to memory", model.addresses.len(), vec![write_s], json!({})));
    rows.push(row(
        "open and check",
        model.addresses.len(),
        vec![open_s],
        json!({ "alloy_trie_rebuild": rebuild_s / open_s }),
    ));
    rows.push(row("verify every hash", model.addresses.len(), vec![verify_s], json!({})));
    drop(file);

    rows.push(slots(&args, &mut rng, &mut trie, &mut model)?);

    Ok(json!({
        "bench": "trie",
        "accounts": args.accounts,
        "updates": args.updates,
        "keccak": ironlane_fpga::keccak::Engine::best().name(),
        "bytes_per_account": memory.total_bytes() as f64 / memory.accounts as f64,
        "free_bytes_per_account": memory.free_bytes as f64 / memory.accounts as f64,
        "root": root,
        "root_with_storage": trie.last_root(),
        "rows": rows,
    }))
}

/// Roots of blocks that write four slots each in many contracts.
fn slots(args: &Args, rng: &mut StdRng, trie: &mut Trie, model: &mut Model) -> anyhow::Result<Value> {
    const SLOTS_EACH: usize = 4;
    let contracts = args.updates / SLOTS_EACH;
    let mut seconds = Vec::new();
    for round in 0..=args.rounds {
        let mut delta = model.change(rng, 0, if round == 0 { contracts } else { 0 });
        if round > 0 {
            let from = model.addresses.len() - contracts;
            delta.accounts =
                (from..model.addresses.len()).map(|i| model.set(rng, model.addresses[i])).collect();
        }
        for account in &mut delta.accounts {
            let first = rng.random_range(0..16u64);
            account.slots = (first..first + SLOTS_EACH as u64)
                .map(|s| (U256::from(s), U256::from(rng.random::<u64>())))
                .collect();
        }
        let s = timed(|| {
            trie.apply(&delta);
            trie.root()
        })
        .1;
        if round > 0 {
            seconds.push(s);
        }
    }
    Ok(row("root of slot updates, four in a contract", contracts * SLOTS_EACH, seconds, json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke_run_agrees_with_the_rebuild_and_repeats() {
        let args = Args { smoke: true, accounts: 0, updates: 0, rounds: 0, proofs: 0, seed: 7 };
        let (first, second) = (run(&args).unwrap(), run(&args).unwrap());
        assert_eq!(first["root"], second["root"]);
        assert_eq!(first["root_with_storage"], second["root_with_storage"]);
        assert!(first["rows"].as_array().is_some_and(|rows| rows.len() == 9));
    }
}
