//! What is sent: senders, transactions, and their frames, all signed before the clock starts.
//!
//! Transaction `i` comes from sender `i mod S` with nonce `i / S`, over connection `i mod C`; its tag is `i`. S is a multiple of C, so
//! each sender's nonces stay in order on one connection.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use anyhow::{Context, bail};
use ironlane_netstack::wire::{Frame, HEADER_BYTES, Repr, Submit};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Chain id of the benchmark's genesis.
pub(super) const CHAIN_ID: u64 = 1_515;

/// Where the token stands in the benchmark's genesis.
pub(super) const TOKEN: Address = Address::new(*b"ironlane-bench-token");

/// The token's artifact (`sequencer/contracts/token`).
pub(super) const TOKEN_ARTIFACT: &str = include_str!("../../../sequencer/contracts/token/Token.json");

const MAX_FEE_WEI: u128 = 100_000_000_000;
const TIP_WEI: u128 = 1_000_000_000;
const TRANSFER_GAS: u64 = 21_000;
const TOKEN_GAS: u64 = 100_000;

/// What the transactions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Plain transfers of value to recipients drawn from a large space: most are new, some exist.
    Transfer,
    /// Transfers of an ERC-20 token.
    Erc20,
    /// Swaps.
    Uniswap,
    /// Six in ten plain transfers, three in ten token transfers, one in ten token approvals.
    Mixed,
}

/// Whether the node must recover the sender, or is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Auth {
    /// Frames carry the transaction alone.
    Recover,
    /// Frames carry the sender's address as a hint.
    Hinted,
}

/// All that the frames depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) auth: Auth,
    /// Accounts that send; a multiple of `connections`.
    pub(super) senders: u64,
    /// Size of the space from which recipients are drawn.
    pub(super) recipients: u64,
    pub(super) connections: u64,
    /// Transactions in all.
    pub(super) count: u64,
    pub(super) seed: u64,
}

/// One account that sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct SenderKey {
    pub(super) secret: SecretKey,
    pub(super) address: Address,
}

/// The frames of one connection, one after the other.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    pub(super) ends: Vec<usize>,
}

impl Lane {
    /// The bytes of frames `from..to`.
    pub(super) fn slice(&self, from: usize, to: usize) -> &[u8] {
        let start = if from == 0 { 0 } else { self.ends[from - 1] };
        let end = if to == 0 { 0 } else { self.ends[to - 1] };
        &self.bytes[start..end]
    }
}

/// Everything that will be sent.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) lanes: Vec<Lane>,
    pub(super) count: u64,
    pub(super) from_cache: bool,
}

/// The senders of a seed, in order.
pub(super) fn senders(seed: u64, count: u64) -> Vec<SenderKey> {
    (0..count)
        .map(|i| {
            let mut preimage = *b"ironbench sender................";
            preimage[16..24].copy_from_slice(&seed.to_be_bytes());
            preimage[24..].copy_from_slice(&i.to_be_bytes());
            // A hash is no valid key with probability 2^-128.
            let secret = std::iter::successors(Some(keccak256(preimage)), |h| Some(keccak256(h)))
                .find_map(|h| SecretKey::from_byte_array(h.0).ok())
                .unwrap_or_else(|| unreachable!("the iterator has no end"));
            let public = PublicKey::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
            SenderKey { secret, address: Address::from_slice(&keccak256(&public[1..])[12..]) }
        })
        .collect()
}

/// A cheap stream of numbers: the same for the same seed and index.
fn mix(seed: u64, index: u64) -> u64 {
    let mut z =
        seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x632b_e59b_d9b4_e019);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A recipient: an address that no sender and no contract has.
fn recipient(seed: u64, number: u64) -> Address {
    let mut bytes = [0u8; 20];
    bytes[..4].copy_from_slice(b"recv");
    bytes[4..12].copy_from_slice(&mix(seed ^ 0xadd7e55, number).to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Address::new(bytes)
}

fn call(selector: [u8; 4], to: Address, value: u64) -> Bytes {
    let mut data = Vec::with_capacity(68);
    data.extend_from_slice(&selector);
    data.extend_from_slice(to.into_word().as_slice());
    data.extend_from_slice(&U256::from(value).to_be_bytes::<32>());
    data.into()
}

/// `transfer(address,uint256)`.
const TRANSFER_SELECTOR: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];
/// `approve(address,uint256)`.
const APPROVE_SELECTOR: [u8; 4] = [0x09, 0x5e, 0xa7, 0xb3];

/// Transaction `i`, unsigned.
fn transaction(plan: &Plan, i: u64) -> TxEip1559 {
    let draw = mix(plan.seed, i);
    let to = recipient(plan.seed, draw % plan.recipients);
    let amount = 1 + (draw >> 40) % 1_000;
    let plain = (TxKind::Call(to), U256::from(amount), Bytes::new(), TRANSFER_GAS);
    let token = |selector| (TxKind::Call(TOKEN), U256::ZERO, call(selector, to, amount), TOKEN_GAS);
    let (to, value, input, gas_limit) = match (plan.workload, (draw >> 50) % 10) {
        (Workload::Transfer, _) | (Workload::Mixed, 0..=5) => plain,
        (Workload::Mixed, 9) => token(APPROVE_SELECTOR),
        (Workload::Erc20 | Workload::Mixed | Workload::Uniswap, _) => token(TRANSFER_SELECTOR),
    };
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce: i / plan.senders,
        gas_limit,
        max_fee_per_gas: MAX_FEE_WEI,
        max_priority_fee_per_gas: TIP_WEI,
        to,
        value,
        input,
        access_list: Default::default(),
    }
}

/// Appends the frame of transaction `i`.
fn frame(plan: &Plan, senders: &[SenderKey], i: u64, out: &mut Vec<u8>) {
    let sender = &senders[(i % plan.senders) as usize];
    let tx = transaction(plan, i);
    let hash: B256 = tx.signature_hash();
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &sender.secret);
    let (recovery, compact) = signature.serialize_compact();
    let signature = Signature::from_bytes_and_parity(&compact, i32::from(recovery) == 1);
    let raw = tx.into_signed(signature).encoded_2718();
    let hint = (plan.auth == Auth::Hinted).then_some(sender.address.0.0);
    Repr::Submit(Submit { tag: i, hint, tx: &raw }).emit(out);
}

/// Signs everything, with as many threads as there are cores; `progress` hears how many are done.
fn sign(plan: &Plan, progress: &(dyn Fn(u64) + Sync)) -> Vec<u8> {
    let senders = senders(plan.seed, plan.senders);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = plan.count.div_ceil(threads).max(1);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|t| {
                let (senders, done) = (&senders, &done);
                scope.spawn(move || {
                    let mut out = Vec::new();
                    for i in (t * share).min(plan.count)..((t + 1) * share).min(plan.count) {
                        frame(plan, senders, i, &mut out);
                        if i % 1_024 == 0 {
                            progress(done.fetch_add(1_024, Ordering::Relaxed));
                        }
                    }
                    out
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(part) => all.extend_from_slice(&part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// Deals frames out to the connections. `None` when the bytes are not the plan's frames.
fn deal(plan: &Plan, bytes: &[u8]) -> Option<Vec<Lane>> {
    let mut lanes: Vec<Lane> = (0..plan.connections).map(|_| Lane::default()).collect();
    let mut at = 0;
    for i in 0..plan.count {
        let frame = Frame::new_checked(&bytes[at..]).ok()?;
        let end = at + frame.total_bytes();
        match Repr::parse(&frame) {
            Ok(Repr::Submit(submit)) if submit.tag == i => {}
            _ => return None,
        }
        let lane = &mut lanes[(i % plan.connections) as usize];
        lane.bytes.extend_from_slice(&bytes[at..end]);
        lane.ends.push(lane.bytes.len());
        at = end;
    }
    (at == bytes.len()).then_some(lanes)
}

fn cache_file(plan: &Plan, folder: &Path) -> PathBuf {
    // Not `connections`: frames are dealt out when they are read.
    let key = format!(
        "1 {:?} {:?} {} {} {} {} {MAX_FEE_WEI} {TIP_WEI} {CHAIN_ID} {HEADER_BYTES}",
        plan.workload, plan.auth, plan.senders, plan.recipients, plan.count, plan.seed
    );
    let name = alloy_primitives::hex::encode(&keccak256(key)[..10]);
    folder.join(format!("e2e-{name}.frames"))
}

/// The plan's frames: from the cache, or signed and put there.
///
/// # Errors
/// When the cache folder cannot be written, or the workload is one that does not exist yet.
pub(super) fn corpus(plan: &Plan, cache: &Path, progress: &(dyn Fn(u64) + Sync)) -> anyhow::Result<Corpus> {
    assert!(plan.connections > 0 && plan.senders.is_multiple_of(plan.connections), "nonces stay in order");
    if plan.workload == Workload::Uniswap {
        bail!(
            "the uniswap workload needs the pool contracts, which are not built yet: use transfer, erc20 or mixed"
        );
    }
    let path = cache_file(plan, cache);
    if let Ok(bytes) = std::fs::read(&path)
        && let Some(lanes) = deal(plan, &bytes)
    {
        return Ok(Corpus { lanes, count: plan.count, from_cache: true });
    }
    let bytes = sign(plan, progress);
    let context = || format!("the signed transactions cannot be kept in {}", cache.display());
    std::fs::create_dir_all(cache).with_context(context)?;
    // Written aside and renamed, so that a half-written file is never read; the process number keeps two runs apart.
    let aside = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::File::create(&aside).and_then(|mut f| f.write_all(&bytes)).with_context(context)?;
    std::fs::rename(&aside, &path).with_context(context)?;
    let lanes = deal(plan, &bytes).context("what was signed is not what was planned")?;
    Ok(Corpus { lanes, count: plan.count, from_cache: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::transaction::SignerRecoverable;
    use alloy_consensus::{Transaction, TxEnvelope};
    use alloy_eips::eip2718::Decodable2718;

    fn plan(workload: Workload, auth: Auth) -> Plan {
        Plan { workload, auth, senders: 8, recipients: 100, connections: 4, count: 101, seed: 3 }
    }

    #[test]
    fn every_transaction_is_signed_by_its_sender_in_nonce_order() {
        let folder = tempfile::tempdir().expect("tempdir");
        for (workload, auth) in [
            (Workload::Transfer, Auth::Recover),
            (Workload::Erc20, Auth::Hinted),
            (Workload::Mixed, Auth::Hinted),
        ] {
            let plan = plan(workload, auth);
            let corpus = corpus(&plan, folder.path(), &|_| {}).expect("signs");
            assert!(!corpus.from_cache);
            let senders = senders(plan.seed, plan.senders);
            let (mut plain, mut token) = (0, 0);
            for (c, lane) in corpus.lanes.iter().enumerate() {
                for k in 0..lane.ends.len() {
                    let i = (c + k * 4) as u64;
                    let frame = Frame::new_checked(lane.slice(k, k + 1)).expect("a frame");
                    let Ok(Repr::Submit(submit)) = Repr::parse(&frame) else { panic!("a Submit") };
                    assert_eq!(submit.tag, i);
                    let tx = TxEnvelope::decode_2718_exact(submit.tx).expect("a transaction");
                    let signer = tx.recover_signer().expect("signed");
                    assert_eq!(signer, senders[(i % 8) as usize].address);
                    assert_eq!(submit.hint, (auth == Auth::Hinted).then_some(signer.0.0));
                    assert_eq!((tx.nonce(), tx.chain_id()), (i / 8, Some(CHAIN_ID)));
                    match tx.to() {
                        Some(TOKEN) => token += 1,
                        Some(_) => plain += 1,
                        None => panic!("nothing is created"),
                    }
                }
            }
            match workload {
                Workload::Transfer => assert_eq!((plain, token), (101, 0)),
                Workload::Erc20 => assert_eq!((plain, token), (0, 101)),
                _ => assert!(plain > 30 && token > 15),
            }
        }
    }

    #[test]
    fn the_cache_answers_for_the_same_plan_only_and_is_not_trusted() {
        let folder = tempfile::tempdir().expect("tempdir");
        let plan = plan(Workload::Transfer, Auth::Recover);
        let first = corpus(&plan, folder.path(), &|_| {}).expect("signs");
        let again = corpus(&plan, folder.path(), &|_| {}).expect("reads");
        assert!(!first.from_cache && again.from_cache);
        assert!(first.lanes.iter().zip(&again.lanes).all(|(a, b)| a.bytes == b.bytes && a.ends == b.ends));
        let other = Plan { seed: 4, ..plan };
        assert!(!corpus(&other, folder.path(), &|_| {}).expect("signs").from_cache);
        // Another number of connections is the same frames, dealt out differently.
        let two = corpus(&Plan { connections: 2, ..plan }, folder.path(), &|_| {}).expect("reads");
        assert!(two.from_cache && two.lanes.len() == 2);
        // A damaged file is made again.
        let path = cache_file(&plan, folder.path());
        let bytes = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("writes");
        assert!(!corpus(&plan, folder.path(), &|_| {}).expect("signs").from_cache);
    }

    #[test]
    fn uniswap_is_refused_with_what_is_missing() {
        let plan = plan(Workload::Uniswap, Auth::Recover);
        let error = corpus(&plan, Path::new("."), &|_| {}).expect_err("does not exist");
        assert!(error.to_string().contains("pool contracts"), "{error}");
    }

    #[test]
    fn the_tokens_artifact_belongs_to_its_source() {
        let artifact: serde_json::Value = serde_json::from_str(TOKEN_ARTIFACT).expect("JSON");
        let source = include_str!("../../../sequencer/contracts/token/Token.sol");
        assert_eq!(
            artifact["sourceKeccak256"].as_str(),
            Some(keccak256(source).to_string().as_str()),
            "Token.sol has changed: run `npm ci && npm run build` in sequencer/contracts/token"
        );
        for (signature, selector) in
            [("transfer(address,uint256)", TRANSFER_SELECTOR), ("approve(address,uint256)", APPROVE_SELECTOR)]
        {
            assert_eq!(keccak256(signature)[..4], selector);
        }
    }
}
