#![allow(unsafe_code)]
//! Contracts of the corpus and hand-made loops: compiled code and interpreter agree; with `--ignored`, how they compare in
//! time (`cargo test --release -p ironlane-jit --test core_contracts -- --ignored --nocapture`).

mod core_common;

use core_common::{Case, Codes, Engine, code_case, contract_case, corpus, difference, outcome};
use ironlane_jit::{Compiler, CompilerConfig, Limits, OptLevel, Target};
use revm::primitives::hardfork::SpecId;
use std::time::Duration;

const HEAVY: [&str; 8] = [
    "snailtracer",
    "burntpix",
    "curve-stableswap-2pool",
    "fibonacci-calldata",
    "factorial",
    "hash_10k",
    "bswap64",
    "bswap64_opt",
];
const ORDINARY: [&str; 11] = [
    "erc20_transfer",
    "weth",
    "uniswap_v2_pair",
    "univ2_router",
    "airdrop",
    "counter",
    "fiat_token",
    "seaport",
    "usdc_proxy",
    "push0_proxy",
    "eip2935",
];

/// A loop of `body` over a counter that stands on top of the stack at the body's start and end.
fn looped(start: &[u8], count: u64, body: &[u8]) -> Vec<u8> {
    let mut code = start.to_vec();
    code.push(0x67);
    code.extend(count.to_be_bytes());
    let head = code.len() as u16;
    code.push(0x5b);
    code.extend(body);
    // PUSH1 1, SWAP1, SUB, DUP1, PUSH2 head, JUMPI, POP, PUSH0, MSTORE, return 32 bytes
    code.extend([0x60, 1, 0x90, 0x03, 0x80, 0x61]);
    code.extend(head.to_be_bytes());
    code.extend([0x57, 0x50, 0x5f, 0x52, 0x60, 32, 0x5f, 0xf3]);
    code
}

fn loops(scale: u64) -> Vec<Case> {
    let word = [&[0x7f][..], &[0x5b; 32]].concat();
    let xorshift = [
        &[0x90, 0x80, 0x7f][..],
        &[0xa7; 32],
        &[0x02, 0x81, 0x60, 13, 0x1b, 0x18, 0x80, 0x60, 7, 0x1c, 0x18, 0x91, 0x90, 0x50],
    ]
    .concat();
    let mulmod =
        [&[0x90, 0x7f][..], &[0xff; 16], &[0xfe; 16], &[0x81, 0x80, 0x09, 0x60, 5, 0x01, 0x91, 0x90, 0x50]]
            .concat();
    let bodies: [(&str, &[u8], &[u8], u64); 6] = [
        (
            "loop_fibonacci",
            &[0x5f, 0x60, 1],
            &[0x91, 0x81, 0x01, 0x90, 0x91, 0x80, 0x60, 3, 0x10, 0x15, 0x15, 0x50],
            2000,
        ),
        ("loop_xorshift", &word, &xorshift, 2000),
        ("loop_mulmod", &word, &mulmod, 1000),
        ("loop_keccak", &word, &[0x90, 0x5f, 0x52, 0x80, 0x60, 32, 0x52, 0x60, 64, 0x5f, 0x20, 0x90], 500),
        (
            "loop_memory",
            &word,
            &[0x90, 0x80, 0x5f, 0x52, 0x5f, 0x51, 0x01, 0x80, 0x60, 64, 0x52, 0x60, 60, 0x51, 0x18, 0x90],
            2000,
        ),
        (
            "loop_shifts",
            &word,
            &[0x90, 0x80, 0x82, 0x60, 0xff, 0x16, 0x1b, 0x81, 0x83, 0x60, 0x3f, 0x16, 0x1c, 0x18, 0x01, 0x90],
            2000,
        ),
    ];
    bodies
        .into_iter()
        .map(|(name, start, body, count)| {
            code_case(name, SpecId::OSAKA, looped(start, count * scale, body), 1 << 40, vec![])
        })
        .collect()
}

fn contracts(names: &[&str]) -> Vec<Case> {
    let Some(folder) = corpus("contracts-dev") else { return Vec::new() };
    let folder = folder.join("contracts/revmc-data");
    let found: Vec<Case> = names.iter().filter_map(|name| contract_case(&folder, name)).collect();
    assert!(!found.is_empty(), "{} holds contracts", folder.display());
    found
}

#[test]
fn contracts_and_loops_agree() {
    let mut cases = contracts(&HEAVY);
    cases.extend(contracts(&ORDINARY));
    cases.extend(loops(1));
    for opt_level in [OptLevel::Speed, OptLevel::None] {
        for target in [Target::Native, Target::Generic] {
            let config = CompilerConfig { opt_level, target, ..Default::default() };
            let codes = Codes::new(Compiler::new(config).expect("this machine compiles"));
            for case in &cases {
                if let Some(difference) = difference(case, &codes) {
                    panic!("{opt_level:?} {target:?}: {difference}");
                }
            }
        }
    }
}

#[test]
fn small_regions_agree() {
    let limits = Limits { region_weight_max: 150, region_blocks_max: 4, ..Default::default() };
    let config = CompilerConfig { limits, ..Default::default() };
    let codes = Codes::new(Compiler::new(config).expect("this machine compiles"));
    for case in contracts(&["weth", "seaport", "fibonacci-calldata"]).iter().chain(&loops(1)) {
        if let Some(difference) = difference(case, &codes) {
            panic!("{difference}");
        }
    }
}

/// Processor time of this thread: other load on the machine does not count.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement: run it in release mode"]
fn measure() {
    let only = std::env::var("JIT_ONLY").unwrap_or_default();
    for opt_level in [OptLevel::Speed, OptLevel::None] {
        let config = CompilerConfig { opt_level, ..Default::default() };
        let codes = Codes::new(Compiler::new(config).expect("this machine compiles"));
        let mut means = Vec::new();
        for (kind, cases) in
            [("heavy", contracts(&HEAVY)), ("loops", loops(20)), ("ordinary", contracts(&ORDINARY))]
        {
            let mut logarithms = Vec::new();
            for case in &cases {
                if !case.name.contains(&only) {
                    continue;
                }
                let (mut interpreted, mut compiled) = (Vec::new(), Vec::new());
                let mut engines = [Engine::new(case, None), Engine::new(case, Some(codes.clone()))];
                let results = [0, 1].map(|which| outcome(&engines[which].run(&case.tx)));
                assert_eq!(results[0], results[1], "{}", case.name);
                let started = thread_time();
                while interpreted.len() < 3
                    || (thread_time() - started < Duration::from_millis(100) && interpreted.len() < 2000)
                {
                    for (engine, times) in engines.iter_mut().zip([&mut interpreted, &mut compiled]) {
                        let started = thread_time();
                        let run = engine.run(&case.tx);
                        times.push((thread_time() - started).as_secs_f64());
                        let _ = std::hint::black_box(run);
                    }
                }
                let (interpreted, compiled) = (median(interpreted) * 1e6, median(compiled) * 1e6);
                let speedup = interpreted / compiled;
                logarithms.push(speedup.ln());
                println!(
                    "{kind:9} {:24} {interpreted:10.1} us {compiled:10.1} us  {speedup:6.2}x",
                    case.name
                );
            }
            if !logarithms.is_empty() {
                means.push((kind, (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp()));
            }
        }
        println!("{opt_level:?}: geometric means {means:.2?}");
        for case in contracts(&HEAVY).iter().chain(&contracts(&ORDINARY)) {
            for account in case.db.cache.accounts.values() {
                let Some(code) = account.info.code.as_ref().filter(|code| code.len() > 2000) else {
                    continue;
                };
                let artifact =
                    codes.compiler.compile(code.original_byte_slice(), SpecId::OSAKA).expect("it compiles");
                let stats = artifact.stats;
                println!(
                    "compile {:24} {:6} B {:7} us ({:5.1} us/B, build {:4.1}%) text {:4.1}x clif {:5} ({:.1}/B) blocks {}/{} regions {}/{}",
                    case.name,
                    stats.bytecode_bytes,
                    stats.compile_us,
                    stats.compile_us as f64 / f64::from(stats.bytecode_bytes),
                    100.0 * stats.build_us as f64 / stats.compile_us as f64,
                    f64::from(stats.text_bytes) / f64::from(stats.bytecode_bytes),
                    stats.clif_instructions,
                    f64::from(stats.clif_instructions) / f64::from(stats.bytecode_bytes),
                    stats.blocks_compiled,
                    stats.blocks,
                    stats.regions_compiled,
                    stats.regions,
                );
            }
        }
    }
}

#[test]
#[ignore = "prints CLIF and machine code of the contract named by JIT_ONLY"]
fn dump() {
    let only = std::env::var("JIT_ONLY").unwrap_or_default();
    let limits = Limits { compile_time_max: Duration::from_secs(10), ..Default::default() };
    let compiler =
        Compiler::new(CompilerConfig { limits, ..Default::default() }).expect("this machine compiles");
    for case in contracts(&HEAVY).iter().chain(&contracts(&ORDINARY)).chain(&loops(1)) {
        if case.name != only {
            continue;
        }
        for account in case.db.cache.accounts.values() {
            let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty()) else { continue };
            let inspection =
                compiler.inspect(code.original_byte_slice(), SpecId::OSAKA).expect("it compiles");
            for region in &inspection.regions {
                println!("region {}\n{}\n{}", region.index, region.clif, region.disassembly);
            }
        }
    }
}
