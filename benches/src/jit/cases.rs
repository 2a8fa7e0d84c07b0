//! What is measured: cases of the corpus, calls to well-known contracts, and small programs of our own.

use super::ordinary;
use alloy_primitives::{Address, Bytes};
use anyhow::{Context as _, ensure};
use ironlane_jit::{
    asm::assemble,
    fuzz::{Case, CaseAccount},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a case stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// Its time is its own code's.
    Compute,
    /// What chains run: most of its time is state access and the transaction around it.
    Ordinary,
    /// Code written against compilers.
    Bomb,
    /// Bound by one instruction that both engines share, as Keccak.
    Other,
}

impl Set {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Ordinary => "ordinary",
            Self::Bomb => "bomb",
            Self::Other => "other",
        }
    }
}

/// A case under a name.
#[derive(Debug, Clone)]
pub(super) struct WorkCase {
    pub(super) name: String,
    pub(super) set: Set,
    pub(super) case: Case,
}

/// Names whose time is computation.
const COMPUTE: [&str; 10] = [
    "snailtracer",
    "sha1",
    "blake2b",
    "fibonacci",
    "factorial",
    "memory",
    "jump",
    "burntpix",
    "curve",
    "micro/",
];
/// Names that are neither: bound by Keccak or MULMOD, over in a moment, or nothing but JUMPDESTs, which compile to nothing.
const OTHER: [&str; 8] = [
    "hash_10k",
    "swap_math",
    "structarray",
    "signextend",
    "JUMPDEST_n0",
    "loop_with_many_jumpdests",
    "micro/keccak",
    "micro/mulmod",
];

fn set_of(name: &str) -> Set {
    let is = |list: &[&str]| list.iter().any(|part| name.contains(part));
    if is(&OTHER) {
        Set::Other
    } else if is(&COMPUTE) {
        Set::Compute
    } else {
        Set::Ordinary
    }
}

/// All cases, and what was left out and why.
pub(super) fn load(contracts: Option<&Path>, smoke: bool) -> anyhow::Result<(Vec<WorkCase>, String)> {
    if let Some(folder) = contracts {
        ensure!(folder.is_dir(), "{} is no folder: --contracts takes one with JSON cases", folder.display());
        return Ok((folder_cases(folder)?, String::new()));
    }
    let mut cases = programs(if smoke { 50 } else { 20_000 })?;
    if smoke {
        cases.extend(bombs(1_500)?);
        return Ok((cases, "smoke size: no figures".into()));
    }
    let mut note = String::new();
    match corpus() {
        Ok(folder) => {
            cases.extend(folder_cases(&folder)?);
            cases.extend(ordinary::calls(&folder)?);
        }
        Err(error) => {
            note = format!("without the corpus: {error:#}");
            eprintln!("ironbench: {note}");
        }
    }
    cases.extend(bombs(24 << 10)?);
    Ok((cases, note))
}

fn folder_cases(folder: &Path) -> anyhow::Result<Vec<WorkCase>> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        // Collections also hold ABIs and bare bytecodes, which say no transaction.
        let Ok(found) = Case::from_json(&text) else { continue };
        let parent = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        for (name, case) in found {
            let name = format!("{parent}/{name}");
            cases.push(WorkCase { set: set_of(&name), name, case });
        }
    }
    ensure!(!cases.is_empty(), "{} holds no JSON file with pre-state and transactions", folder.display());
    Ok(cases)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    Ok(())
}

/// The unpacked contracts of the corpus.
fn corpus() -> anyhow::Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = std::env::var_os("IRONLANE_CORPUS")
        .map_or_else(|| workspace.join("../shared/corpus"), PathBuf::from)
        .join("contracts-dev.tar.xz");
    ensure!(
        source.is_file(),
        "{} is not there (set IRONLANE_CORPUS to the folder with the archives)",
        source.display()
    );
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let folder = target.join("corpus/contracts-dev");
    if !folder.is_dir() {
        let partial = target.join(format!("corpus/contracts-dev.{}", std::process::id()));
        fs::create_dir_all(&partial)?;
        let status = Command::new("tar").arg("-xJf").arg(&source).arg("-C").arg(&partial).status();
        ensure!(status.is_ok_and(|status| status.success()), "tar cannot unpack {}", source.display());
        // Another process may have been faster.
        if fs::rename(&partial, &folder).is_err() {
            fs::remove_dir_all(&partial)?;
        }
    }
    Ok(folder)
}

const CODE: Address = Address::repeat_byte(0xcc);

/// One account with this code, called with this data.
pub(super) fn program(name: &str, set: Set, code: Vec<u8>, data: Bytes, gas_limit: u64) -> WorkCase {
    let account = CaseAccount { address: CODE, nonce: 1, code: code.into(), ..CaseAccount::default() };
    let case = Case { accounts: vec![account], to: Some(CODE), data, gas_limit, ..Case::default() };
    WorkCase { name: name.into(), set, case }
}

/// Loops around a body that keeps the height: `x` lies below the counter.
fn programs(times: u32) -> anyhow::Result<Vec<WorkCase>> {
    let bodies = [
        ("micro/fibonacci", "PUSH1 0 PUSH1 1", "SWAP2 DUP2 ADD SWAP1 SWAP2"),
        (
            "micro/fibonacci_mul_shift",
            "PUSH32 0x5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b",
            "SWAP1 DUP1 PUSH32 0xa7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7 MUL \
             DUP2 PUSH1 13 SHL XOR DUP1 PUSH1 7 SHR XOR SWAP1 POP SWAP1",
        ),
        ("micro/jump_routine", "PUSH1 1", "SWAP1 PUSH @back SWAP1 PUSH @double JUMP back: JUMPDEST SWAP1"),
        (
            "micro/memory_words",
            "PUSH1 3",
            "SWAP1 DUP1 PUSH0 MSTORE PUSH0 MLOAD ADD DUP1 PUSH1 64 MSTORE PUSH1 60 MLOAD XOR SWAP1",
        ),
        (
            "micro/jump_overflow_checks",
            "PUSH1 3",
            "SWAP1 PUSH4 0x12345678 DUP2 DUP2 ADD DUP1 DUP3 GT PUSH @panic JUMPI SWAP2 POP POP \
             PUSH8 0xffffffffffffffff AND SWAP1",
        ),
        (
            "micro/variable_shifts_memory_free",
            "PUSH32 0x5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b",
            "SWAP1 DUP1 DUP3 PUSH1 255 AND SHL DUP2 DUP4 PUSH1 63 AND SHR XOR ADD SWAP1",
        ),
        (
            "micro/mulmod",
            "PUSH1 3",
            "SWAP1 PUSH32 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f DUP2 DUP1 MULMOD \
             PUSH1 5 ADD SWAP1 POP SWAP1",
        ),
        (
            "micro/keccak_mapping_slot",
            "PUSH1 3",
            "SWAP1 PUSH0 MSTORE DUP1 PUSH1 32 MSTORE PUSH1 64 PUSH0 KECCAK256 SWAP1",
        ),
    ];
    bodies
        .into_iter()
        .map(|(name, start, body)| {
            // The counter counts down; the routine doubles the word above its return position.
            let text = format!(
                "{start} PUSH4 {times} head: JUMPDEST {body} PUSH1 1 SWAP1 SUB DUP1 PUSH @head JUMPI \
                 POP PUSH0 MSTORE PUSH1 32 PUSH0 RETURN \
                 double: JUMPDEST DUP1 ADD SWAP1 JUMP \
                 panic: JUMPDEST PUSH0 PUSH0 REVERT"
            );
            let text = if body.contains("@double") {
                text
            } else {
                text.replace("double: JUMPDEST DUP1 ADD SWAP1 JUMP", "")
            };
            let text = if body.contains("@panic") {
                text
            } else {
                text.replace("panic: JUMPDEST PUSH0 PUSH0 REVERT", "")
            };
            Ok(program(name, set_of(name), assemble(&text)?, Bytes::new(), 1 << 40))
        })
        .collect()
}

/// Code that costs a compiler far more than a compiler expects of so many bytes.
fn bombs(bytes: usize) -> anyhow::Result<Vec<WorkCase>> {
    let repeated = |start: &str, piece: &str| -> anyhow::Result<Vec<u8>> {
        let (mut code, piece) = (assemble(start)?, assemble(piece)?);
        let end = assemble("PUSH0 MSTORE PUSH1 32 PUSH0 RETURN")?;
        while code.len() + piece.len() + end.len() <= bytes {
            code.extend_from_slice(&piece);
        }
        code.extend(end);
        Ok(code)
    };
    let mut random = Vec::with_capacity(bytes);
    let mut state = 0x1_2345u64;
    while random.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        random.push(state as u8);
    }
    let input = "PUSH0 CALLDATALOAD";
    let sixteen = format!("{input} {}", "DUP1 ".repeat(16));
    let list = [
        ("jumpdest", repeated("PUSH0", "JUMPDEST")?),
        ("dup1 mul", repeated(input, "DUP1 MUL")?),
        ("dup2 add swap1", repeated("PUSH0 CALLDATALOAD PUSH0 CALLDATALOAD", "DUP2 ADD SWAP1")?),
        ("swap mul mix", repeated(&sixteen, "DUP16 ADD SWAP16 MUL DUP1 SWAP8 SUB SWAP4")?),
        ("mload of itself", repeated(input, "PUSH1 31 AND MLOAD")?),
        ("shl by itself", repeated(input, "DUP1 SHL")?),
        ("mulmod", repeated(input, "DUP1 DUP1 MULMOD")?),
        ("exp", repeated(input, "DUP1 EXP")?),
        ("jumpdest gas jumpi", repeated("PUSH0", "JUMPDEST GAS PUSH0 JUMPI")?),
        ("dynamic jumps", repeated(&sixteen, "JUMPDEST SWAP16 DUP16 SWAP1 JUMPI")?),
        ("mstore of products", repeated(input, "DUP1 DUP1 MUL PUSH1 255 AND DUP1 MSTORE")?),
        ("random bytes", random),
    ];
    Ok(list
        .into_iter()
        .map(|(name, code)| {
            let data = Bytes::from(vec![0x11; 32]);
            program(&format!("bomb/{name}"), Set::Bomb, code, data, 10_000_000)
        })
        .collect())
}
