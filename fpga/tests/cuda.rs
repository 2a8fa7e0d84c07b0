//! The CUDA build of the kernels without a GPU: NVRTC compiles it, and an interpreter executes the PTX.

mod ptx;
mod vectors;

use alloy_primitives::{Address, B256, U256, keccak256};
use ironlane_fpga::RecoverError;
use ironlane_fpga::backend::gpu::nvrtc::{Nvrtc, NvrtcError, Target};
use ironlane_fpga::backend::gpu::source::Build;
use ptx::{Machine, Module};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use vectors::{N, P, by_libsecp, directed, inverse};

/// One warp a block and a small table: what an interpreter can afford.
const BUILD: Build = Build { group: 32, g_window: 8, small: false, arithmetic: true };

fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find(None) {
        Ok(nvrtc) => Some(nvrtc),
        Err(error @ NvrtcError::Missing { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The PTX of the test's build. Compiling takes seconds, and each test is a process: the text is kept beside the tests, under
/// a name that says what it was made of.
fn module(nvrtc: &Nvrtc) -> Module {
    let source = BUILD.source();
    let id = keccak256(format!("{} {source}", nvrtc.version()));
    let kept = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernels-{id}.ptx"));
    if let Ok(text) = std::fs::read_to_string(&kept) {
        return Module::parse(&text);
    }
    let (code, _) = nvrtc.compile(&source, Target::Ptx(90), &[]).unwrap();
    let text = String::from_utf8(code).unwrap().trim_end_matches('\0').to_owned();
    let aside = kept.with_extension(std::process::id().to_string());
    std::fs::write(&aside, &text).unwrap();
    std::fs::rename(&aside, &kept).unwrap();
    Module::parse(&text)
}

/// What a GPU of one generation would load, with no GPU at hand.
fn compiles_for(arch: u32) {
    let Some(nvrtc) = nvrtc() else { return };
    if !nvrtc.architectures().contains(&arch) {
        return eprintln!("skipped: NVRTC {} does not know sm_{arch}", nvrtc.version());
    }
    let begin = std::time::Instant::now();
    let (cubin, log) =
        nvrtc.compile(&Build::GPU.source(), Target::Cubin(arch), &["--ptxas-options=-v"]).unwrap();
    println!("sm_{arch}: {} bytes in {:?} by NVRTC {}", cubin.len(), begin.elapsed(), nvrtc.version());
    assert!(cubin.starts_with(b"\x7fELF"));
    let names = String::from_utf8_lossy(&cubin);
    for kernel in
        ["recover_prepare", "recover_multiply", "recover_finish", "generator_table", "keccak256_many"]
    {
        assert!(names.contains(&format!(".text.{kernel}")), "{kernel} is in the file");
    }
    let mut kernel = "";
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default();
        }
        if line.contains("Used ") {
            println!("  {kernel}{}", line.split("info").last().unwrap_or_default());
        }
        if line.contains("spill stores") && !line.contains(" 0 bytes spill stores") {
            println!("  {kernel}: {}", line.trim_start_matches(['p', 't', 'x', 'a', 's', ' ', '.', ':']));
            // A few words out of some hundred are no matter; a kernel that lives in spills is.
            let words = line.split_whitespace().collect::<Vec<_>>();
            let at = words.iter().position(|word| *word == "spill").expect("found above");
            assert!(words[at - 2].parse::<u32>().expect("a number of bytes") <= 256, "{kernel}: {line}");
        }
    }
    assert!(!kernel.is_empty(), "ptxas told its figures");
}

#[test]
fn the_kernels_compile_for_sm_80() {
    compiles_for(80);
}

#[test]
fn the_kernels_compile_for_sm_90() {
    compiles_for(90);
}

#[test]
fn the_kernels_compile_for_sm_100() {
    compiles_for(100);
}

#[test]
fn an_error_in_the_source_is_told_with_the_log() {
    let Some(nvrtc) = nvrtc() else { return };
    let error = nvrtc.compile("nonsense", Target::Ptx(90), &[]).unwrap_err().to_string();
    assert!(error.contains("compute_90") && error.contains("error"), "{error}");
    assert!(nvrtc.compile("int x\0;", Target::Ptx(90), &[]).is_err());
}

#[test]
fn a_missing_compiler_is_told_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    let error = Nvrtc::find(Some(folder.path())).err().unwrap();
    assert!(matches!(error, NvrtcError::Missing { .. }));
    assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    let file = folder.path().join("libnvrtc.so");
    std::fs::write(&file, b"not a library").unwrap();
    assert!(matches!(Nvrtc::find(Some(&file)), Err(NvrtcError::Unusable { .. })));
}

fn words(numbers: &[U256]) -> Vec<u32> {
    numbers
        .iter()
        .flat_map(|n| n.as_limbs().map(|limb| [limb as u32, (limb >> 32) as u32]))
        .flatten()
        .collect()
}

fn numbers(words: &[u32]) -> Vec<U256> {
    words
        .chunks_exact(8)
        .map(|w| {
            let limbs = [0, 2, 4, 6].map(|i| u64::from(w[i]) | u64::from(w[i + 1]) << 32);
            U256::from_limbs(limbs)
        })
        .collect()
}

/// Numbers that make carries run: around 0, p, n, 2^256, single words full or empty, and random ones.
fn operands(random: &mut StdRng, below: U256, count: usize) -> Vec<U256> {
    let one = U256::ONE;
    let c = U256::MAX - P + one;
    let mut edges = vec![
        U256::ZERO,
        one,
        U256::from(2),
        U256::MAX,
        U256::MAX - one,
        P,
        P - one,
        P.wrapping_add(one),
        N,
        N - one,
        c,
        c - one,
        U256::MAX - c,
        one << 255,
        (one << 255) - one,
        one << 128,
        (one << 128) - one,
        U256::from(977),
    ];
    for word in 0..8 {
        let full: U256 = U256::from(u32::MAX) << (32 * word);
        edges.extend([full, !full]);
    }
    edges.retain(|edge| *edge < below || below == U256::MAX);
    (0..count)
        .map(|i| match random.random_range(0..4) {
            0 => edges[(i * 7 + random.random_range(0..edges.len())) % edges.len()],
            1 => {
                // Words of all ones and all zeros beside random ones.
                let limbs = [0; 4].map(|_| match random.random_range(0..3) {
                    0 => 0,
                    1 => u64::MAX,
                    _ => random.random(),
                });
                U256::from_limbs(limbs) % below
            }
            _ => U256::from_limbs(random.random()) % below,
        })
        .collect()
}

/// Every operation of the field and of the scalars, as PTX, against whole-number arithmetic.
#[test]
fn the_ptx_computes_what_the_numbers_say() {
    let Some(nvrtc) = nvrtc() else { return };
    let module = module(&nvrtc);
    let mut random = StdRng::seed_from_u64(0x5eed);
    let half = inverse(U256::from(2), P);
    type Reference<'a> = &'a dyn Fn(U256, U256) -> U256;
    let root = (P + U256::ONE) >> 2;
    // Name, cases, modulus, whether inputs are below it, whether the result must be.
    let field: [(&str, usize, Reference<'_>, bool); 8] = [
        ("test_fe_mul", 640, &|a, b| a.mul_mod(b, P), false),
        ("test_fe_sqr", 640, &|a, _| a.mul_mod(a, P), false),
        ("test_fe_add", 640, &|a, b| a.add_mod(b, P), false),
        ("test_fe_sub", 640, &|a, b| (a % P).add_mod(P - b % P, P), false),
        ("test_fe_half", 320, &|a, _| a.mul_mod(half, P), false),
        ("test_fe_normalize", 320, &|a, _| a % P, true),
        ("test_fe_invert", 32, &|a, _| inverse(a % P, P), false),
        ("test_fe_sqrt", 32, &|a, _| (a % P).pow_mod(root, P), false),
    ];
    let scalars: [(&str, usize, Reference<'_>, bool); 4] = [
        ("test_sc_mul", 640, &|a, b| a.mul_mod(b, N), true),
        ("test_sc_add", 640, &|a, b| a.add_mod(b, N), true),
        ("test_sc_neg", 320, &|a, _| if a.is_zero() { a } else { N - a }, true),
        ("test_sc_invert", 32, &|a, _| inverse(a, N), true),
    ];
    for (modulus, below, operations) in [(P, U256::MAX, &field[..]), (N, N, &scalars[..])] {
        for (kernel, count, reference, exact) in operations {
            let (a, b) = (operands(&mut random, below, *count), operands(&mut random, below, *count));
            let mut machine = Machine::new(&module);
            let buffers = [machine.buffer(&words(&a)), machine.buffer(&words(&b))];
            let out = machine.buffer(&vec![0; 8 * count]);
            machine.launch(kernel, &[buffers[0], buffers[1], out], (*count / 32) as u32, 32);
            for (i, found) in numbers(&machine.words(out, 8 * count)).into_iter().enumerate() {
                let expected = reference(a[i], b[i]);
                let found = if *exact { found } else { found % modulus };
                assert_eq!(found, expected, "{kernel}({:#x}, {:#x})", a[i], b[i]);
            }
            println!("{kernel}: {count} cases, {} instructions each", machine.steps / *count as u64);
        }
    }
}

/// The whole way, as PTX: table, ranges, lift, scalars, double multiplication, batch inversion, Keccak; in several blocks, the
/// last of which is not full.
#[test]
fn the_ptx_recovers_what_libsecp_recovers() {
    let Some(nvrtc) = nvrtc() else { return };
    let module = module(&nvrtc);
    let mut machine = Machine::new(&module);
    let table = machine.buffer(&vec![0; BUILD.table_points() * 16]);
    machine.launch("generator_table", &[table], BUILD.table_points() as u32 / BUILD.group, BUILD.group);
    let found = numbers(&machine.words(table, BUILD.table_points() * 16));
    for (i, point) in found.chunks_exact(2).enumerate() {
        let secret = B256::from(U256::from(i + 1));
        let expected = PublicKey::from_secret_key(SECP256K1, &SecretKey::from_byte_array(secret.0).unwrap());
        let expected = expected.serialize_uncompressed();
        assert_eq!(point[0], U256::from_be_slice(&expected[1..33]), "{}·G", i + 1);
        assert_eq!(point[1], U256::from_be_slice(&expected[33..]), "{}·G", i + 1);
    }

    let requests = directed(95);
    let count = requests.len();
    assert!(!count.is_multiple_of(BUILD.group as usize), "the last block has a rest");
    let mut input = vec![];
    for request in &requests {
        input.extend(request.hash.0.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        input.extend(words(&[request.r, request.s]));
        input.push(request.parity.into());
    }
    let stride = count as u64 + 33;
    let input = machine.buffer(&input);
    let work = machine.buffer(&vec![0; 45 * stride as usize]);
    let output = machine.buffer(&vec![0; 22 * count]);
    let blocks = (count as u32).div_ceil(BUILD.group);
    let n = count as u64;
    machine.launch("recover_prepare", &[input, work, n, stride], blocks, BUILD.group);
    machine.launch("recover_multiply", &[work, table, n, stride], blocks, BUILD.group);
    machine.launch("recover_finish", &[work, output, n, stride], blocks, BUILD.group);
    let output = machine.words(output, 22 * count);
    let (mut good, mut errors) = (0, std::collections::HashSet::new());
    for (i, (expected, found)) in by_libsecp(&requests).iter().zip(output.chunks_exact(22)).enumerate() {
        let status = match expected.result {
            Ok(address) => {
                let bytes: Vec<u8> = found[1..6].iter().flat_map(|word| word.to_le_bytes()).collect();
                assert_eq!(Address::from_slice(&bytes), address, "request {i}: {:?}", requests[i]);
                let key: Vec<u8> =
                    numbers(&found[6..22]).iter().flat_map(|n| n.to_be_bytes::<32>()).collect();
                assert_eq!(keccak256(key)[12..], address[..], "the key is the address's");
                good += 1;
                0
            }
            Err(error) => {
                errors.insert(error);
                match error {
                    RecoverError::NoKey => 1,
                    RecoverError::Parity => 2,
                    RecoverError::R => 3,
                    RecoverError::S => 4,
                    RecoverError::HighS => 5,
                }
            }
        };
        assert_eq!(found[0], status, "request {i}: {:?}", requests[i]);
    }
    assert!(good > 60 && errors.len() == 5, "{good} signers, {errors:?}");
    println!("{count} requests, {} instructions each", machine.steps / count as u64);
}

#[test]
fn the_ptx_hashes_every_length() {
    let Some(nvrtc) = nvrtc() else { return };
    let module = module(&nvrtc);
    let mut machine = Machine::new(&module);
    let bytes: Vec<u8> = (0..300u32).map(|i| (i * 167 + 13) as u8).collect();
    let (mut packed, mut table) = (vec![], vec![]);
    for length in 0..=300 {
        table.extend([packed.len() as u32, length as u32]);
        for chunk in bytes[..length].chunks(4) {
            // What fills up the last word must not matter.
            let mut word = [0xa5; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            packed.push(u32::from_le_bytes(word));
        }
    }
    let (words_at, table_at) = (machine.buffer(&packed), machine.buffer(&table));
    let out = machine.buffer(&vec![0; 8 * 301]);
    machine.launch("keccak256_many", &[words_at, table_at, 0, 0, out, 301], 10, 32);
    let digest = |words: &[u32]| {
        B256::from_slice(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    };
    for (length, found) in machine.words(out, 8 * 301).chunks_exact(8).enumerate() {
        assert_eq!(digest(found), keccak256(&bytes[..length]), "{length} bytes");
    }
    // The same with one length and no table: messages at words 0, 9, 18, ...
    let out = machine.buffer(&[0; 8 * 5]);
    machine.launch("keccak256_many", &[words_at, table_at, 9, 33, out, 5], 1, 32);
    let all: Vec<u8> = packed.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (i, found) in machine.words(out, 8 * 5).chunks_exact(8).enumerate() {
        assert_eq!(digest(found), keccak256(&all[36 * i..36 * i + 33]), "message {i}");
    }
}
