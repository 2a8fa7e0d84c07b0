//! What a card is asked, and what the answer is: edge cases made by construction, random signatures, and the vectors of
//! others where they lie on this machine. Answers are libsecp256k1's.

use crate::abi::{self, Completion, Submission};
use crate::card::software;
use alloy_primitives::{B256, U256, uint};
use secp256k1::{Message, PublicKey, SECP256K1, Scalar, SecretKey};
use std::path::{Path, PathBuf};

const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
const HALF: U256 = uint!(0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0_U256);
const P: U256 = uint!(0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256);

/// A question with its answer.
#[derive(Debug, Clone)]
pub struct Case {
    /// For reports.
    pub name: String,
    /// The question; tag, epoch and seal are filled in later.
    pub asked: Submission,
    /// The answer, but for tag, epoch, seal and time.
    pub right: Completion,
}

/// Everything that is asked.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// One of each kind.
    pub directed: Vec<Case>,
    /// Random signatures, one in eight of them spoilt.
    pub random: Vec<Case>,
    /// Files of others that were read.
    pub files: Vec<PathBuf>,
}

/// Random numbers from a seed: Keccak-256 of seed and counter.
pub(crate) struct Random(u64, u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed, 0)
    }
    pub(crate) fn word(&mut self) -> B256 {
        self.1 += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..].copy_from_slice(&self.1.to_le_bytes());
        crate::keccak::keccak256(&bytes)
    }
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let word = self.word();
        let mut eight = [0; 8];
        eight.copy_from_slice(&word[..8]);
        u64::from_le_bytes(eight) % limit.max(1)
    }
    fn secret(&mut self) -> SecretKey {
        loop {
            if let Ok(key) = SecretKey::from_byte_array(self.word().0) {
                return key;
            }
        }
    }
}

fn case(name: impl Into<String>, asked: Submission) -> Case {
    Case { name: name.into(), asked, right: software::answer(&asked) }
}

fn recover(hash: B256, r: U256, s: U256, v: u8) -> Submission {
    Submission {
        op: abi::OP_RECOVER,
        hash: hash.0,
        r: r.to_be_bytes(),
        s: s.to_be_bytes(),
        v,
        ..Submission::ZERO
    }
}

/// (r, parity) of k·G, for an x below n.
fn nonce(k: &SecretKey) -> Option<(U256, u8)> {
    let point = PublicKey::from_secret_key(SECP256K1, k).serialize_uncompressed();
    let x = U256::from_be_slice(&point[1..33]);
    (x < N).then_some((x, point[64] & 1))
}

fn scalar(value: U256) -> Option<SecretKey> {
    SecretKey::from_byte_array((value % N).to_be_bytes()).ok()
}

/// a·b mod n, for a, b ≠ 0.
fn product(a: &SecretKey, b: U256) -> Option<SecretKey> {
    a.mul_tweak(&Scalar::from_be_bytes((b % N).to_be_bytes()).ok()?).ok()
}

/// A signature whose recovered key is d·G: hash = s·k − r·d.
fn with_key(k: &SecretKey, s: U256, d: &SecretKey) -> Option<Submission> {
    let (r, parity) = nonce(k)?;
    let hash = product(k, s)?.add_tweak(&Scalar::from(product(d, r)?.negate())).ok()?;
    Some(recover(B256::from(hash.secret_bytes()), r, s, parity))
}

/// Whether u1·G and u2·R, whose sum is the key, are the same point.
pub(crate) fn is_doubling(asked: &Submission) -> bool {
    let mut compressed = [0; 33];
    compressed[0] = 2 | asked.v;
    compressed[1..].copy_from_slice(&asked.r);
    let Ok(point) = PublicKey::from_slice(&compressed) else { return false };
    let Ok(s) = Scalar::from_be_bytes(asked.s) else { return false };
    let Some(hash) = scalar(U256::from_be_bytes(asked.hash)) else { return false };
    // u1·G = u2·R exactly where −hash·G = s·R.
    point.mul_tweak(SECP256K1, &s).is_ok_and(|p| p == PublicKey::from_secret_key(SECP256K1, &hash.negate()))
}

impl Vectors {
    /// Makes the directed cases and `random` random ones.
    pub fn new(seed: u64, random: usize) -> Self {
        let mut rng = Random::new(seed);
        let mut directed = Vec::new();
        ranges(&mut directed, &mut rng);
        numbers(&mut directed, &mut rng);
        keys(&mut directed, &mut rng);
        zeros(&mut directed, &mut rng);
        any_s(&mut directed, &mut rng);
        keccaks(&mut directed, &mut rng);
        for tag in 0..3 {
            directed.push(case(format!("nop {tag}"), Submission { op: abi::OP_NOP, ..Submission::ZERO }));
        }
        let signers: Vec<SecretKey> = (0..64).map(|_| rng.secret()).collect();
        let random = (0..random).map(|i| random_case(i, &signers[i % 64], &mut rng)).collect();
        Self { directed, random, files: Vec::new() }
    }

    /// Random signatures alone.
    pub fn only_random(seed: u64, random: usize) -> Self {
        let mut rng = Random::new(seed);
        let signers: Vec<SecretKey> = (0..16).map(|_| rng.secret()).collect();
        let random = (0..random).map(|i| random_case(i, &signers[i % 16], &mut rng)).collect();
        Self { directed: Vec::new(), random, files: Vec::new() }
    }

    /// Adds ecRecover vectors (geth's format) and Wycheproof's P1363 file where they lie under `folder`.
    ///
    /// # Errors
    /// A sentence, when a file that is there cannot be understood.
    pub fn add_files(&mut self, folder: &Path) -> Result<(), String> {
        let mut folders = vec![folder.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let read = || -> Result<serde_json::Value, String> {
                    let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
                    serde_json::from_str(&text).map_err(|e| e.to_string())
                };
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let found = match name.as_deref() {
                    Some("ecRecover.json") => read().map(|json| ecrecover(&json)),
                    Some("ecdsa_secp256k1_sha256_p1363_test.json") => read().map(|json| wycheproof(&json)),
                    _ => continue,
                };
                let cases = found.map_err(|e| format!("{}: {e}", path.display()))?;
                if cases.is_empty() {
                    return Err(format!("{} holds no vectors that were understood", path.display()));
                }
                self.directed.extend(cases);
                self.files.push(path);
            }
        }
        Ok(())
    }

    /// The cases that a card of these capabilities can be asked.
    pub fn offered(&self, caps: &abi::Capabilities) -> Vec<&Case> {
        let any_s = caps.features & abi::FEATURE_ANY_S != 0;
        let fits =
            |case: &&Case| caps.offers(case.asked.op) && (case.asked.flags & abi::FLAG_ANY_S == 0 || any_s);
        self.directed.iter().filter(fits).collect()
    }

    /// The cases that any recovery engine can be asked.
    pub fn plain(&self) -> Vec<&Case> {
        let fits = |case: &&Case| case.asked.op == abi::OP_RECOVER && case.asked.flags == 0;
        self.directed.iter().filter(fits).collect()
    }
}

fn random_case(i: usize, signer: &SecretKey, rng: &mut Random) -> Case {
    let hash = rng.word();
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), signer);
    let (id, bytes) = signature.serialize_compact();
    let (mut r, mut s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
    let mut v = i32::from(id) as u8;
    if i % 8 == 5 {
        match rng.below(7) {
            0 => r = U256::from_be_bytes(rng.word().0),
            1 => s = N - s,
            2 => s = U256::from_be_bytes(rng.word().0),
            3 => v = rng.below(256) as u8,
            4 => r = U256::ZERO,
            5 => s = if v == 0 { U256::ZERO } else { N },
            _ => r = U256::from_be_bytes(rng.word().0) >> 1,
        }
    }
    case(format!("random {i}"), recover(hash, r, s, v))
}

/// Every border of r, s and parity, and which complaint comes first.
fn ranges(out: &mut Vec<Case>, rng: &mut Random) {
    let (half, hash) = (HALF, rng.word());
    let one = U256::ONE;
    let Some((good_r, parity)) = nonce(&rng.secret()) else { return };
    let good_s = half - U256::from(12_345);
    for v in [0, 1, 2, 3, 4, 26, 27, 28, 29, 35, 128, 254, 255] {
        out.push(case(format!("parity {v}"), recover(hash, good_r, good_s, v)));
    }
    for r in [U256::ZERO, N - one, N, N + one, N + good_r.wrapping_rem(P - N), P - one, P, P + one, U256::MAX]
    {
        for v in [0, 1] {
            out.push(case(format!("r {r:#x}, parity {v}"), recover(hash, r, good_s, v)));
        }
    }
    // x = r + n is below p for these: the card must not take it for R.
    for r in 1..48u64 {
        for v in [0, 1] {
            out.push(case(
                format!("r = {r}, r + n < p, parity {v}"),
                recover(hash, U256::from(r), good_s, v),
            ));
        }
    }
    for s in [
        U256::ZERO,
        one,
        U256::from(2),
        U256::from(3),
        U256::from(255),
        half - one,
        half,
        half + one,
        half + U256::from(2),
        N - U256::from(2),
        N - one,
        N,
        N + one,
        P,
        U256::MAX,
    ] {
        for v in [parity, 1 - parity] {
            out.push(case(format!("s {s:#x}, parity {v}"), recover(hash, good_r, s, v)));
        }
    }
    for (name, r, s, v) in [
        ("parity before r", U256::ZERO, good_s, 2),
        ("parity before s", good_r, U256::ZERO, 2),
        ("parity before high s", good_r, N - one, 27),
        ("parity before no key", U256::from(5), good_s, 2),
        ("r before s", N, N, 0),
        ("r before high s", U256::ZERO, N - one, 1),
        ("s before no key", U256::from(5), N, 0),
        ("high s before no key", U256::from(5), half + one, 0),
        ("everything wrong", N, N, 255),
    ] {
        out.push(case(name, recover(hash, r, s, v)));
    }
}

/// Numbers that carries and reductions stumble over.
fn numbers(out: &mut Vec<Case>, rng: &mut Random) {
    let one = U256::ONE;
    let k = rng.secret();
    let Some((r, v)) = nonce(&k) else { return };
    let s: U256 = U256::from_be_bytes(rng.word().0) >> 2;
    for hash in [
        U256::ZERO,
        one,
        U256::from(2),
        N - one,
        N,
        N + one,
        N + U256::from(12_345),
        P,
        U256::MAX,
        U256::MAX - one,
        (one << 255),
        (one << 255) - one,
        (one << 128),
        (one << 128) - one,
        HALF,
        r,
        s,
    ] {
        for v in [v, 1 - v] {
            out.push(case(format!("hash {hash:#x}, parity {v}"), recover(B256::from(hash), r, s, v)));
        }
    }
    for bit in (0..255).step_by(5) {
        let power: U256 = one << bit;
        out.push(case(format!("hash 2^{bit}"), recover(B256::from(power), r, s, v)));
        out.push(case(format!("s 2^{bit}"), recover(rng.word(), r, power.min(HALF), v)));
        out.push(case(
            format!("s (n-1)/2 - 2^{bit}"),
            recover(rng.word(), r, HALF.saturating_sub(power).max(one), v),
        ));
        let ones = power.wrapping_sub(one);
        out.push(case(format!("hash of {bit} ones"), recover(B256::from(ones), r, s, v)));
    }
    // Half of all r have no point.
    let mut absent = 0;
    while absent < 12 {
        let r = U256::from_be_bytes(rng.word().0) % N;
        let made = case(format!("random r {absent}"), recover(rng.word(), r, s, 0));
        absent += usize::from(made.right.status == abi::status::NO_KEY);
        out.push(made);
    }
    // A hash repeated with other signatures, in a row.
    let hash = rng.word();
    for i in 0..4 {
        if let Some((r, v)) = nonce(&rng.secret()) {
            out.push(case(format!("the same hash, {i}"), recover(hash, r, s, v)));
            out.push(case(format!("the same hash and R mirrored, {i}"), recover(hash, r, s, 1 - v)));
        }
    }
}

/// Public keys and intermediate points where point addition has its exceptions.
fn keys(out: &mut Vec<Case>, rng: &mut Random) {
    let small = |d: u64| scalar(U256::from(d));
    for d in 1..=16u64 {
        let (k, s) = (rng.secret(), U256::from_be_bytes(rng.word().0) >> 2);
        let Some(d_key) = small(d) else { continue };
        out.extend(with_key(&k, s, &d_key).map(|asked| case(format!("key {d}·G"), asked)));
        out.extend(with_key(&k, s, &d_key.negate()).map(|asked| case(format!("key -{d}·G"), asked)));
        // R itself a small multiple of G.
        let key = rng.secret();
        out.extend(with_key(&d_key, s, &key).map(|asked| case(format!("R = {d}·G"), asked)));
        out.extend(with_key(&d_key.negate(), s, &key).map(|asked| case(format!("R = -{d}·G"), asked)));
    }
    for i in 0..6 {
        let k = rng.secret();
        let Some((r, v)) = nonce(&k) else { continue };
        let s: U256 = if i == 0 { U256::from(2) } else { U256::from_be_bytes(rng.word().0) >> 2 };
        let Some(product) = product(&k, s) else { continue };
        let (same, opposite) = (product.negate().secret_bytes(), product.secret_bytes());
        out.push(case(format!("u1·G = u2·R, {i}"), recover(B256::from(same), r, s, v)));
        // u1·G = −u2·R: the key would be the point at infinity.
        out.push(case(format!("the point at infinity, {i}"), recover(B256::from(opposite), r, s, v)));
        out.push(case(
            format!("the mirrored R beside infinity, {i}"),
            recover(B256::from(opposite), r, s, 1 - v),
        ));
        // Q = R: u1·G = (1 − u2)·R.
        out.extend(with_key(&k, s, &k).map(|asked| case(format!("key = R, {i}"), asked)));
        out.extend(with_key(&k, s, &k.negate()).map(|asked| case(format!("key = -R, {i}"), asked)));
    }
    let mut equal = 0;
    while equal < 3 {
        let Some((r, v)) = nonce(&rng.secret()) else { continue };
        if r <= HALF {
            out.push(case(format!("s = r, {equal}"), recover(rng.word(), r, r, v)));
            out.push(case(format!("s = r and hash = r, {equal}"), recover(B256::from(r), r, r, v)));
            equal += 1;
        } else {
            out.push(case(format!("s = n - r, {equal}"), recover(rng.word(), r, N - r, v)));
        }
    }
}

/// Leading zero bytes wherever a number is written or read.
fn zeros(out: &mut Vec<Case>, rng: &mut Random) {
    type Test = fn(&Case) -> bool;
    let wanted: [(&str, Test); 6] = [
        ("hash", |c| c.asked.hash[0] == 0),
        ("r", |c| c.asked.r[0] == 0),
        ("s", |c| c.asked.s[0] == 0),
        ("x", |c| c.right.status == 0 && c.right.public_key[0] == 0),
        ("y", |c| c.right.status == 0 && c.right.public_key[32] == 0),
        ("address", |c| c.right.status == 0 && c.right.address[0] == 0),
    ];
    let signer = rng.secret();
    let mut missing = wanted.to_vec();
    let mut tries = 0;
    while !missing.is_empty() && tries < 20_000 {
        tries += 1;
        // Valid signatures of one key by turns with valid signatures of unknown keys.
        let hash = rng.word();
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &signer);
        let (id, bytes) = signature.serialize_compact();
        let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
        let asked = recover(rng.word(), r, s, i32::from(id) as u8);
        let made = case("leading zero", asked);
        if let Some(at) = missing.iter().position(|(_, test)| test(&made)) {
            let (name, _) = missing.swap_remove(at);
            out.push(Case { name: format!("leading zero byte in {name}"), ..made });
        }
    }
}

/// `FLAG_ANY_S`: what the ecRecover precompile takes.
fn any_s(out: &mut Vec<Case>, rng: &mut Random) {
    let Some((r, v)) = nonce(&rng.secret()) else { return };
    for s in [U256::ONE, HALF, HALF + U256::ONE, N - U256::ONE, N, U256::ZERO, U256::MAX] {
        let asked = Submission { flags: abi::FLAG_ANY_S, ..recover(rng.word(), r, s, v) };
        out.push(case(format!("any s: {s:#x}"), asked));
    }
    for _ in 0..8 {
        let s = N - (U256::from_be_bytes(rng.word().0) >> 2);
        let asked = Submission { flags: abi::FLAG_ANY_S, ..recover(rng.word(), r, s, 1 - v) };
        out.push(case(format!("any s: {s:#x}"), asked));
    }
}

fn keccaks(out: &mut Vec<Case>, rng: &mut Random) {
    for length in (0..=abi::KECCAK_MAX).step_by(8).chain([1, 31, 33, 63, 65, 95]) {
        let message: Vec<u8> = (0..4).flat_map(|_| rng.word().0).take(length).collect();
        out.push(case(format!("Keccak-256 of {length} bytes"), Submission::keccak(0, &message)));
    }
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    if text.len() % 2 == 0 { (0..text.len()).step_by(2).map(digit).collect() } else { None }
}

/// hash, v, r, s, 32 bytes each. The precompile takes any s.
fn ecrecover(json: &serde_json::Value) -> Vec<Case> {
    let mut cases = Vec::new();
    for test in json.as_array().into_iter().flatten() {
        let Some(mut input) = test["Input"].as_str().and_then(bytes_of) else { continue };
        input.resize(128, 0);
        let word = |i: usize| U256::from_be_slice(&input[32 * i..32 * i + 32]);
        let v = word(1).checked_sub(U256::from(27)).and_then(|v| u8::try_from(v).ok());
        let asked = recover(B256::from(word(0)), word(2), word(3), v.unwrap_or(2));
        let name = format!("ecRecover {}", test["Name"].as_str().unwrap_or("?"));
        cases.push(case(name.clone(), asked));
        cases.push(case(format!("{name}, any s"), Submission { flags: abi::FLAG_ANY_S, ..asked }));
    }
    cases
}

fn wycheproof(json: &serde_json::Value) -> Vec<Case> {
    use sha2::{Digest, Sha256};
    let mut cases = Vec::new();
    for group in json["testGroups"].as_array().into_iter().flatten() {
        for test in group["tests"].as_array().into_iter().flatten() {
            let parts = (test["msg"].as_str().and_then(bytes_of), test["sig"].as_str().and_then(bytes_of));
            let (Some(message), Some(signature)) = parts else { continue };
            if signature.len() != 64 {
                continue;
            }
            let hash = B256::from_slice(&Sha256::digest(&message));
            for v in [0, 1] {
                let (r, s) = (U256::from_be_slice(&signature[..32]), U256::from_be_slice(&signature[32..]));
                let name = format!("Wycheproof {}, parity {v}", test["tcId"]);
                cases.push(case(name, recover(hash, r, s, v)));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::status;

    #[test]
    fn the_cases_are_what_their_names_say() {
        let vectors = Vectors::new(1, 400);
        let find = |name: &str| -> Vec<&Case> {
            let found: Vec<_> = vectors.directed.iter().filter(|c| c.name.starts_with(name)).collect();
            assert!(!found.is_empty(), "no case begins with {name}");
            found
        };
        let point = |d: u64| {
            let key = scalar(U256::from(d)).expect("small");
            PublicKey::from_secret_key(SECP256K1, &key).serialize_uncompressed()
        };
        for d in 1..=16 {
            for case in find(&format!("key {d}·G")) {
                assert_eq!((case.right.status, &case.right.public_key[..]), (0, &point(d)[1..]), "{d}");
            }
            let minus = find(&format!("key -{d}·G"))[0].right.public_key;
            assert_eq!(minus[..32], point(d)[1..33]);
            assert_ne!(minus[32..], point(d)[33..]);
        }
        for case in find("u1·G = u2·R") {
            assert!(is_doubling(&case.asked) && case.right.status == status::OK);
        }
        assert!(find("the point at infinity").iter().all(|c| c.right.status == status::NO_KEY));
        assert!(find("the mirrored R").iter().all(|c| c.right.status == status::OK));
        for what in ["hash", "r", "s", "x", "y", "address"] {
            assert_eq!(find(&format!("leading zero byte in {what}")).len(), 1);
        }
        assert!(find("s = r").iter().all(|c| c.asked.r == c.asked.s));
        for (name, expected) in [
            ("parity before", status::BAD_PARITY),
            ("r before", status::BAD_R),
            ("s before", status::BAD_S),
            ("high s before", status::HIGH_S),
            ("everything wrong", status::BAD_PARITY),
        ] {
            assert!(find(name).iter().all(|c| c.right.status == expected), "{name}");
        }
        for wanted in [0, 1, 2, 3, 4, 5] {
            assert!(vectors.random.iter().any(|c| c.right.status == wanted), "no random case gives {wanted}");
        }
        let small = find("r = ");
        assert!(small.iter().any(|c| c.right.status == 0) && small.iter().any(|c| c.right.status == 5));
        assert!(vectors.directed.len() > 400, "{}", vectors.directed.len());
    }
}
