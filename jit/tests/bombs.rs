//! Bytecode written against compilers: it must compile within the limit, in part if need be, and run equal.

use alloy_primitives::{Address, Bytes};
use ironlane_jit::{
    Compiler, CompilerConfig,
    asm::assemble,
    fuzz::{Case, CaseAccount, Compiled, Interpreter, run},
};
use revm::primitives::hardfork::SpecId;
use std::time::{Duration, Instant};

/// EIP-170.
const BYTES: usize = 24_576;

/// Times slower than a release build on an idle core that the tests' build on a busy machine may be.
const SLACK: u32 = 40;

fn repeated(start: &str, piece: &str) -> Vec<u8> {
    let piece = assemble(piece).expect("assembles");
    let end = assemble("PUSH0 MSTORE PUSH1 32 PUSH0 RETURN").expect("assembles");
    let mut code = assemble(start).expect("assembles");
    while code.len() + piece.len() + end.len() <= BYTES {
        code.extend_from_slice(&piece);
    }
    code.extend(end);
    code
}

fn random() -> Vec<u8> {
    let mut state = 0x1_2345u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..BYTES).map(|_| next()).collect()
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let sixteen = format!("PUSH0 CALLDATALOAD {}", "DUP1 ".repeat(16));
    let input = "PUSH0 CALLDATALOAD";
    vec![
        ("nothing but JUMPDEST", repeated("PUSH0", "JUMPDEST")),
        ("a chain of products", repeated(input, "DUP1 MUL")),
        ("a chain of sums", repeated("PUSH0 CALLDATALOAD PUSH0 CALLDATALOAD", "DUP2 ADD SWAP1")),
        ("a mix over sixteen words", repeated(&sixteen, "DUP16 ADD SWAP16 MUL DUP1 SWAP8 SUB SWAP4")),
        ("loads of what was loaded", repeated(input, "PUSH1 31 AND MLOAD")),
        ("variable shifts", repeated(input, "DUP1 SHL")),
        ("modular products", repeated(input, "DUP1 DUP1 MULMOD")),
        ("powers", repeated(input, "DUP1 EXP")),
        ("a branch every four bytes", repeated("PUSH0", "JUMPDEST GAS PUSH0 JUMPI")),
        ("a dynamic jump every five bytes", repeated(&sixteen, "JUMPDEST SWAP16 DUP16 SWAP1 JUMPI")),
        ("stores of products", repeated(input, "DUP1 DUP1 MUL PUSH1 255 AND DUP1 MSTORE")),
        ("random bytes", random()),
        ("pushes to the stack's end", repeated("", "PUSH32 0x0123456789abcdef")),
        ("deep swaps", repeated(&sixteen, "SWAP15 SWAP1 SWAP14 SWAP2")),
        ("unknown opcodes", vec![0x0c; BYTES]),
        ("destinations in push data", vec![0x7f; BYTES]),
    ]
}

#[test]
fn bombs_compile_within_the_limit() {
    let compiler = Compiler::new(CompilerConfig::default()).expect("this machine compiles");
    let limits = compiler.config().limits;
    for (name, code) in bombs() {
        let start = Instant::now();
        let artifact = compiler.compile(&code, SpecId::OSAKA).expect(name);
        let time = start.elapsed();
        println!(
            "{name}: {} ms, {} of {} regions, {} bytes of code",
            time.as_millis(),
            artifact.stats.regions_compiled,
            artifact.stats.regions,
            artifact.stats.text_bytes
        );
        let most = (limits.compile_time_max + Duration::from_millis(10)) * SLACK;
        assert!(time < most, "{name} took {time:?}");
        // One region may begin just below the limit.
        assert!((artifact.stats.text_bytes as usize) < 2 * limits.text_bytes_max, "{name}");
    }
}

#[test]
fn bombs_run_as_in_the_interpreter() {
    // As a node compiles: within its limits, the rest interpreted.
    let mut engine = Compiled::new(CompilerConfig::default()).expect("this machine compiles");
    for (name, code) in bombs() {
        let address = Address::repeat_byte(0xcc);
        for (data, gas_limit) in [(vec![0x11; 32], 2_000_000), (vec![], 2_000_000), (vec![0xff; 32], 60_000)]
        {
            let case = Case {
                accounts: vec![CaseAccount { address, code: code.clone().into(), ..CaseAccount::default() }],
                to: Some(address),
                data: Bytes::from(data),
                gas_limit,
                ..Case::default()
            };
            let expected = run(&case, &mut Interpreter);
            let actual = run(&case, &mut engine);
            assert!(expected.mismatch(&actual).is_none(), "{name}: {}", expected.mismatch(&actual).unwrap());
        }
    }
}
