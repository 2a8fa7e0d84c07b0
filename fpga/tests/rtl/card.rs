//! The simulated card's entries: an oracle for what must come back, and a script of lines.

use super::programs::{Output, run};
use alloy_primitives::{B256, U256, uint};
use ironlane_fpga::abi::{self, Completion, FLAG_ANY_S, OP_KECCAK, OP_NOP, OP_RECOVER, Submission, status};
use ironlane_fpga::keccak::keccak256;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;

/// Order of the group.
pub(crate) const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// A request for a recovery.
pub(crate) fn recover(hash: U256, r: U256, s: U256, v: u8, flags: u16) -> Submission {
    let (hash, r, s) = (hash.to_be_bytes(), r.to_be_bytes(), s.to_be_bytes());
    Submission { op: OP_RECOVER, flags, hash, r, s, v, ..Submission::ZERO }
}

/// What libsecp256k1 says about an entry that is well-formed: everything but tag, epoch, time and seal.
pub(crate) fn oracle(entry: &Submission) -> Completion {
    let mut answer = Completion { op: entry.op, ..Completion::ZERO };
    match entry.op {
        OP_NOP => {}
        OP_KECCAK => answer.public_key[..32].copy_from_slice(keccak256(&entry.message()).as_slice()),
        _ => {
            let (r, s) = (U256::from_be_bytes(entry.r), U256::from_be_bytes(entry.s));
            answer.status = if entry.v > 1 {
                status::BAD_PARITY
            } else if r.is_zero() || r >= N {
                status::BAD_R
            } else if s.is_zero() || s >= N {
                status::BAD_S
            } else if s > N / U256::from(2) && entry.flags & FLAG_ANY_S == 0 {
                status::HIGH_S
            } else {
                let mut compact = [0; 64];
                compact[..32].copy_from_slice(&entry.r);
                compact[32..].copy_from_slice(&entry.s);
                let id = [RecoveryId::Zero, RecoveryId::One][usize::from(entry.v)];
                let signature = RecoverableSignature::from_compact(&compact, id).unwrap();
                match SECP256K1.recover_ecdsa(Message::from_digest(entry.hash), &signature) {
                    Ok(key) => {
                        answer.public_key.copy_from_slice(&key.serialize_uncompressed()[1..]);
                        let digest: B256 = keccak256(&answer.public_key);
                        answer.address.copy_from_slice(&digest[12..]);
                        status::OK
                    }
                    Err(_) => status::NO_KEY,
                }
            };
        }
    }
    answer
}

/// Lines for `rtl-lines`, with the seals and epochs that the entries need.
pub(crate) struct Script {
    text: String,
    log2: u32,
    epoch: u32,
    tail: u32,
    sent: HashMap<u64, (Submission, Completion)>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self { text: String::new(), log2: 0, epoch: 0, tail: 0, sent: HashMap::new() }
    }

    /// A reset: what was sent and not waited for will not come back.
    pub(crate) fn reset(&mut self, log2: u32, epoch: u32) {
        (self.log2, self.epoch, self.tail) = (log2, epoch, 0);
        writeln!(self.text, "reset {log2} {epoch}").unwrap();
    }

    /// Any other line.
    pub(crate) fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").unwrap();
    }

    /// An entry that is well-formed. Its tag is its number.
    pub(crate) fn send(&mut self, entry: &Submission) {
        self.send_wrong(entry, oracle(entry), |_| {});
    }

    /// An entry that `spoil` makes wrong after seal and epoch were set, and what must come back (but for tag and epoch).
    pub(crate) fn send_wrong(
        &mut self,
        entry: &Submission,
        expected: Completion,
        spoil: impl Fn(&mut Submission),
    ) {
        let tag = 0x8000_0000_0000_0000 | self.sent.len() as u64;
        let seal = abi::phase(self.tail, self.log2);
        let mut entry = Submission { tag, epoch: self.epoch, seal, ..*entry };
        spoil(&mut entry);
        self.line(&hex::encode(entry.to_bytes()));
        self.tail += 1;
        self.sent.insert(tag, (entry, Completion { tag, epoch: entry.epoch, ..expected }));
    }

    /// An entry whose completion the next reset prevents.
    pub(crate) fn send_in_vain(&mut self, entry: &Submission) {
        let seal = abi::phase(self.tail, self.log2);
        let entry = Submission { tag: 1, epoch: self.epoch, seal, ..*entry };
        self.line(&hex::encode(entry.to_bytes()));
        self.tail += 1;
    }

    /// Runs the script and compares: each entry has exactly one completion, and the right one. Gives the output and the
    /// tags in the order of the completion ring, less their top bit.
    pub(crate) fn check(mut self, program: &PathBuf) -> (Output, Vec<u64>) {
        let output = run(program, &[], self.text);
        let mut order = vec![];
        for line in &output.lines {
            let bytes: [u8; 128] = hex::decode(line).unwrap().try_into().unwrap();
            let found = Completion::from_bytes(&bytes);
            let (entry, expected) =
                self.sent.remove(&found.tag).unwrap_or_else(|| panic!("unexpected: {found:?}"));
            assert_eq!(found.violation(&entry), None);
            assert!(found.nanoseconds > 0 || found.op == OP_NOP, "{found:?}");
            let comparable = Completion { nanoseconds: 0, seal: 0, ..found };
            assert_eq!(comparable, expected, "{entry:?}");
            order.push(found.tag & u64::MAX >> 1);
        }
        assert!(self.sent.is_empty(), "{} entries without a completion", self.sent.len());
        (output, order)
    }
}
