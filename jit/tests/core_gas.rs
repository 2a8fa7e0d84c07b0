//! Running out: small programs under every gas limit, full and empty stacks, in every fork. Whatever fails, fails for the
//! same reason and with the same effects as in the interpreter.

mod core_common;

use core_common::{Codes, code_case, difference};
use ironlane_jit::{Compiler, CompilerConfig};
use revm::primitives::hardfork::SpecId;

fn programs() -> Vec<(&'static str, Vec<u8>)> {
    let hex = |text: &str| hex::decode(text).expect("hex");
    vec![
        // PUSH1 1, PUSH1 2, ADD, PUSH1 3, MUL, STOP
        ("arithmetic", hex("600160020160030200")),
        // MSTORE at 0x400, MLOAD at 0x1000, KECCAK256 of 64 bytes, MSTORE8, RETURN
        ("memory", hex("600161040052611000516020526040600020600053610120610020f3")),
        // Memory and then an unknown opcode, an invalid jump, an empty stack.
        ("memory_then_unknown", hex("60016107005260ef600553610900510c")),
        ("memory_then_invalid_jump", hex("600161070052600160105260ff56")),
        ("memory_then_underflow", hex("6001610700526001601052505050")),
        // SSTORE, SLOAD, GAS into storage, LOG1, SSTORE back
        ("storage", hex("600160015560015460025a556001600260205fa16000600155005b")),
        (
            "storage_before_push0",
            hex("60016001556001546002 5a55600160026020 6000a1600060015500".replace(' ', "").as_str()),
        ),
        // A loop of ten rounds: PUSH1 10, JUMPDEST, DUP1, MSTORE(0), PUSH1 1, SWAP1, SUB, DUP1, PUSH1 2, JUMPI
        ("loop", hex("600a5b80600052600190038060025700")),
        // EXP, CALLDATACOPY, CODECOPY, MCOPY
        (
            "copies",
            hex("61010160030a6040600060803760206000602039604060006020 5e6101006000f3"
                .replace(' ', "")
                .as_str()),
        ),
        // A call to itself with little gas, its result stored
        ("call", hex("6020600060206000600030610bb8f160005561012360015500")),
        // Static call to itself that tries to store
        ("static_call", hex("6000600060006000306107d0fa600055600160015500")),
        // CREATE of nothing, then of bad code; the result stored
        ("create", hex("600060006000f06000556001601f53600160 1f6000f060015500".replace(' ', "").as_str())),
        ("selfdestruct", hex("600160005530ff")),
        ("revert", hex("60aa60005260206000fd")),
        // Huge offsets: beyond 32 bits, beyond 64 bits
        ("far_mload", hex("650100000000005100")),
        ("farther_mload", hex("690100000000000000000051600160025500")),
        ("far_mstore8", hex("600167ffffffffffffffff5300")),
        // Jumps that compute their target, into a JUMPDEST and next to it
        ("computed_jump", hex("600460030156005b600160005500")),
        ("computed_jump_beside", hex("600460040156005b600160005500")),
        // Cut short
        ("truncated_push", hex("6001600262")),
        ("jumpdests", vec![0x5b; 40]),
    ]
}

fn specs() -> impl Iterator<Item = SpecId> {
    (0..=SpecId::OSAKA as u8).filter_map(SpecId::try_from_u8)
}

#[test]
fn every_gas_limit_agrees() {
    let codes = Codes::new(Compiler::new(CompilerConfig::default()).expect("this machine compiles"));
    for (name, code) in programs() {
        for (index, spec) in specs().enumerate() {
            // Densely in the newest and one older fork, sparsely in the others.
            let stride = if spec == SpecId::OSAKA || index == name.len() % 13 { 1 } else { 23 };
            for gas in (0..700).step_by(stride).chain((700..60_000).step_by(stride * 397)) {
                let case = code_case(name, spec, code.clone(), 21_000 + gas, vec![1, 2, 3]);
                if let Some(difference) = difference(&case, &codes) {
                    panic!("gas {gas}: {difference}");
                }
            }
        }
    }
}

#[test]
fn full_and_empty_stacks_agree() {
    let codes = Codes::new(Compiler::new(CompilerConfig::default()).expect("this machine compiles"));
    for spec in specs() {
        for pushes in [0usize, 1, 2, 16, 17, 1007, 1008, 1022, 1023, 1024, 1025] {
            for tail in [
                "80",
                "8f",
                "90",
                "9f",
                "50",
                "01",
                "5a",
                "6001600156",
                "5b6001600201",
                "36600057",
                "8050808080",
            ] {
                let mut code = [0x60, 1].repeat(pushes);
                code.extend(hex::decode(tail).expect("hex"));
                code.push(0);
                let case = code_case(tail, spec, code, 100_000, vec![]);
                if let Some(difference) = difference(&case, &codes) {
                    panic!("{pushes} pushes: {difference}");
                }
            }
        }
    }
}
