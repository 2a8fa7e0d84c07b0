//! Codes made to be hard to compile: the budget holds, and cost grows with length, not faster.

mod core_common;

use core_common::{Codes, code_case, difference};
use ironlane_jit::{Compiler, CompilerConfig, OptLevel};
use revm::primitives::hardfork::SpecId;

const CODE_BYTES: usize = 24_576;

fn repeated(start: &[u8], body: &[u8], length: usize) -> Vec<u8> {
    let mut code = start.to_vec();
    while code.len() + body.len() + 6 <= length {
        code.extend(body);
    }
    code.extend([0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3]);
    code
}

fn random(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn bombs(length: usize) -> Vec<(&'static str, Vec<u8>)> {
    let input = [0x5f, 0x35];
    let deep = [&input[..], &[0x80; 16]].concat();
    vec![
        ("jumpdests", repeated(&[], &[0x5b], length)),
        ("squares", repeated(&input, &[0x80, 0x02], length)),
        ("additions", repeated(&[0x5f, 0x35, 0x5f, 0x35], &[0x81, 0x01, 0x90], length)),
        ("deep_mix", repeated(&deep, &[0x8f, 0x01, 0x9f, 0x02, 0x80, 0x97, 0x03, 0x93], length)),
        ("loads", repeated(&input, &[0x51], length)),
        ("shifts", repeated(&input, &[0x80, 0x1b], length)),
        ("static_jumps", repeated(&[], &[0x5b, 0x5a, 0x5f, 0x57], length)),
        ("swaps_and_jumps", repeated(&[], &[0x5b, 0x9f, 0x8f, 0x90, 0x57], length)),
        ("named_jumpdests", {
            let mut code = Vec::new();
            while code.len() + 5 <= length {
                let here = (code.len() + 4) as u16;
                code.extend([0x61, (here >> 8) as u8, here as u8, 0x50, 0x5b]);
            }
            code
        }),
        ("modular", repeated(&input, &[0x80, 0x80, 0x09], length)),
        ("powers", repeated(&input, &[0x80, 0x0a], length)),
        ("stores", repeated(&input, &[0x80, 0x80, 0x02, 0x80, 0x52], length)),
        ("random", random(length)),
    ]
}

#[test]
fn bombs_stay_within_the_budget() {
    for opt_level in [OptLevel::Speed, OptLevel::None] {
        let compiler =
            Compiler::new(CompilerConfig { opt_level, ..Default::default() }).expect("this machine compiles");
        for (name, code) in bombs(CODE_BYTES) {
            let stats = compiler.compile(&code, SpecId::OSAKA).expect("any code compiles").stats;
            println!(
                "{opt_level:?} {name:16} {:7} us {:6.2} us/B text {:5.1}x clif {:6} blocks {}/{} regions {}/{}",
                stats.compile_us,
                stats.compile_us as f64 / code.len() as f64,
                f64::from(stats.text_bytes) / code.len() as f64,
                stats.clif_instructions,
                stats.blocks_compiled,
                stats.blocks,
                stats.regions_compiled,
                stats.regions,
            );
            // Generous for builds without optimisation: ten times the product's own limit.
            assert!(stats.compile_us < 1_000_000, "{name} took {} us", stats.compile_us);
        }
    }
}

#[test]
fn bombs_run_as_the_interpreter_runs_them() {
    let codes = Codes::new(Compiler::new(CompilerConfig::default()).expect("this machine compiles"));
    for (name, code) in bombs(3_000) {
        for gas in [22_000, 30_000, 200_000] {
            let case = code_case(name, SpecId::OSAKA, code.clone(), gas, vec![3; 32]);
            if let Some(difference) = difference(&case, &codes) {
                panic!("{difference}");
            }
        }
    }
}
