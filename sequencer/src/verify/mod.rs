//! `ironlane verify`: does the journal give the roots that were published?
//!
//! The journal is read twice. The first pass collects the roots that the node recorded and recovers every sender again,
//! on all cores. The second executes everything with plain sequential revm ([`plain`]) and compares, mini-block by
//! mini-block, the Merkle root over what the transactions did, and, block by block, the whole header with its receipts
//! root; at the end the state root, by building the trie anew.
//!
//! It begins at genesis, or, where the journal does not reach back that far (an imported chain, recycled segments), at the
//! oldest snapshot that the journal continues, whose state root is built anew first. At the end the signer slot is compared:
//! what it says was signed must be in the journal.

mod plain;

use crate::node::Chain;
use crate::node::checkpoint::Head;
use crate::node::datadir::DataDir;
use crate::node::record::Record;
use crate::node::recovery::identity;
use crate::progress::Progress;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use anyhow::{Context, ensure};
use ironlane_executor::{ChainSpec, assemble_header};
use ironlane_journal::{JournalError, Lsn, Reader, SignerMark};
use ironlane_promise::{Leaf, MerkleTree, digest};
use ironlane_state::{ChainIdentity, SnapshotDir, StateConfig};
use ironlane_types::{MiniBlockHeader, Tx, TxEnvelope};
use plain::PlainChain;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Senders recovered in one go.
const RECOVER_BATCH: usize = 16_384;

/// What verification found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Mini-blocks in the journal.
    pub mini_blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// EVM blocks closed.
    pub blocks: u64,
    /// The first block that was executed again; what was before it is the snapshot's.
    pub first_block: u64,
    /// The state root of the newest closed block, built anew.
    pub state_root: B256,
    /// Whether every recorded root that could be compared was the same.
    pub state_root_ok: bool,
    /// Whether every mini-block's leaves and every block's header were the same.
    pub receipts_ok: bool,
    /// Whether the journal holds what the signer slot says was signed.
    pub signer_slot_ok: bool,
    /// The first difference.
    pub first_mismatch: Option<String>,
}

/// What the node recorded of a block.
#[derive(Clone, Copy)]
struct Recorded {
    hash: B256,
    state_root: B256,
}

/// Verifies a stopped node's data directory. Without `genesis`, the chain is the one that the directory remembers.
pub fn verify(datadir: &Path, genesis: Option<&Path>) -> anyhow::Result<VerifyReport> {
    ensure!(datadir.is_dir(), "{} is no directory: give the --datadir of a stopped node", datadir.display());
    let dir = DataDir::open(datadir)?;
    let chain = match genesis {
        Some(path) => Chain::read(path)?,
        None => Chain::known(&dir)?,
    };
    let spec = chain.spec.clone();
    let journal = Journal { dir: &dir, spec: &spec };
    let first = journal.first()?;
    let FirstPass { recorded, begins_at } = first_pass(&journal, first)?;
    let slot = journal.reader(first)?.slot().map(|slot| slot.signed);
    let (mut second, from) = match begins_at {
        None | Some(1) if first == 1 => (SecondPass::from_genesis(chain.with_accounts()?, recorded), 1),
        _ => SecondPass::from_snapshot(spec.clone(), recorded, &dir, first, begins_at)?,
    };
    second.slot = slot.filter(|signed| signed.height > 0);
    let progress = Progress::new("executing the journal with plain revm", "records");
    second.compare_slot();
    journal.each_record(from, |record| {
        progress.add(1);
        second.record(record)
    })?;
    progress.finish();
    Ok(second.report())
}

/// The journal of a stopped node, with the signer slot that lies beside its folder.
struct Journal<'a> {
    dir: &'a DataDir,
    spec: &'a ChainSpec,
}

impl Journal<'_> {
    fn reader(&self, from: Lsn) -> Result<Reader, JournalError> {
        let (dir, slot) = (self.dir.journal(), self.dir.signer_slot());
        Reader::open_with_slot(&dir, &slot, Some(identity(self.spec)), from)
    }

    /// The oldest record that is there: 1, unless segments were recycled.
    fn first(&self) -> anyhow::Result<Lsn> {
        match self.reader(1) {
            Ok(_) => Ok(1),
            Err(JournalError::Gone { first, .. }) => Ok(first),
            Err(error) => Err(error.into()),
        }
    }

    fn each_record(
        &self,
        from: Lsn,
        mut on_record: impl FnMut(Record<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut reader = self.reader(from)?;
        while let Some((at, payload)) = reader.next_record()? {
            let record = Record::decode(payload).with_context(|| format!("at {at}"))?;
            on_record(record).with_context(|| format!("at {at}"))?;
        }
        Ok(())
    }
}

/// What the first pass collects.
struct FirstPass {
    recorded: BTreeMap<u64, Recorded>,
    /// The first block that opens in the journal.
    begins_at: Option<u64>,
}

/// Collects recorded roots, and checks that every sender is the signer.
fn first_pass(journal: &Journal<'_>, from: Lsn) -> anyhow::Result<FirstPass> {
    let mut recorded = BTreeMap::new();
    let mut begins_at = None;
    let mut batch: Vec<(Address, Vec<u8>)> = Vec::with_capacity(RECOVER_BATCH);
    let progress = Progress::new("recovering senders", "transactions");
    journal.each_record(from, |record| {
        match record {
            Record::Sealed { number, hash, state_root } => {
                recorded.insert(number, Recorded { hash, state_root });
            }
            Record::Open(context) => {
                begins_at.get_or_insert(context.number);
            }
            Record::Mini { txs, .. } => {
                progress.add(txs.len() as u64);
                batch.extend(txs.iter().map(|tx| (tx.sender, tx.raw.to_vec())));
                if batch.len() >= RECOVER_BATCH {
                    check_senders(&batch)?;
                    batch.clear();
                }
            }
            Record::Close { .. } => {}
        }
        Ok(())
    })?;
    check_senders(&batch)?;
    progress.finish();
    Ok(FirstPass { recorded, begins_at })
}

fn check_senders(batch: &[(Address, Vec<u8>)]) -> anyhow::Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = batch.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let check = |part: &[(Address, Vec<u8>)]| -> anyhow::Result<()> {
            for (sender, raw) in part {
                let envelope = TxEnvelope::decode_2718_exact(raw).context("a journalled transaction")?;
                let signer = envelope.recover_signer().context("a journalled signature")?;
                ensure!(
                    signer == *sender,
                    "{} was signed by {signer}, the journal says {sender}",
                    keccak256(raw)
                );
            }
            Ok(())
        };
        let threads: Vec<_> = batch.chunks(share).map(|part| scope.spawn(move || check(part))).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a recovery thread panicked"))??;
        }
        Ok(())
    })
}

struct SecondPass {
    spec: Arc<ChainSpec>,
    chain: PlainChain,
    recorded: BTreeMap<u64, Recorded>,
    parent_hash: B256,
    height: u64,
    digest: B256,
    root_of_newest: B256,
    last_closed: u64,
    /// Newest mini-block that may have been signed.
    slot: Option<SignerMark>,
    report: VerifyReport,
}

impl SecondPass {
    fn from_genesis(spec: Arc<ChainSpec>, recorded: BTreeMap<u64, Recorded>) -> Self {
        let chain = PlainChain::genesis(spec.clone());
        let (hash, root) = (spec.genesis.hash, spec.genesis.header.state_root);
        Self::new(spec, recorded, chain, hash, root, (0, hash))
    }

    /// From the oldest snapshot that the journal continues; with it, the record to begin at. `first` is the journal's oldest
    /// record, `opens` the first block that opens in it.
    fn from_snapshot(
        spec: Arc<ChainSpec>,
        recorded: BTreeMap<u64, Recorded>,
        dir: &DataDir,
        first: Lsn,
        opens: Option<u64>,
    ) -> anyhow::Result<(Self, Lsn)> {
        let identity = ChainIdentity { chain_id: spec.chain_id, genesis_hash: spec.genesis.hash };
        let snapshots = SnapshotDir::open(&dir.snapshots(), identity)?;
        for height in snapshots.heights()? {
            let snapshot = match snapshots.open_newest_at_most(height) {
                Ok(Some(found)) if found.height() == height => found,
                _ => continue,
            };
            let head: Head = serde_json::from_slice(snapshot.metadata()).context("the snapshot's head")?;
            // Before the first record stands either a block that is journalled, or the last one of an imported chain.
            let continued = match head.close_lsn {
                0 => first == 1 && opens.is_none_or(|number| number == height + 1),
                close => close + 1 >= first,
            };
            if !continued {
                continue;
            }
            let (state, _writer) = ironlane_state::open_snapshot(StateConfig::default(), &snapshot)?;
            let chain = PlainChain::from_view(spec.clone(), &state.view(), head.next_seq)?;
            let root = chain.state_root();
            ensure!(
                root == head.header.state_root && head.header.hash_slow() == head.hash,
                "the state in the snapshot of block {height} has the root {root}, which is not its header's"
            );
            let digest = if head.mini_height == 0 { spec.genesis.hash } else { head.mini_digest };
            let mut pass = Self::new(spec, recorded, chain, head.hash, root, (head.mini_height, digest));
            pass.report.first_block = height + 1;
            return Ok((pass, head.close_lsn + 1));
        }
        anyhow::bail!(
            "the journal begins at record {first}{}, and no whole snapshot is there that it continues: restore the one of a \
             block whose `close` is record {} or later",
            opens.map(|number| format!(" before block {number}")).unwrap_or_default(),
            first - 1
        )
    }

    fn new(
        spec: Arc<ChainSpec>,
        recorded: BTreeMap<u64, Recorded>,
        chain: PlainChain,
        parent_hash: B256,
        root: B256,
        (height, digest): (u64, B256),
    ) -> Self {
        Self {
            chain,
            parent_hash,
            height,
            digest,
            root_of_newest: root,
            last_closed: recorded.keys().next_back().copied().unwrap_or(0),
            recorded,
            spec,
            slot: None,
            report: VerifyReport {
                mini_blocks: 0,
                transactions: 0,
                blocks: 0,
                first_block: 1,
                state_root: root,
                state_root_ok: true,
                receipts_ok: true,
                signer_slot_ok: true,
                first_mismatch: None,
            },
        }
    }

    fn mismatch(&mut self, text: String) {
        self.report.first_mismatch.get_or_insert(text);
    }

    fn record(&mut self, record: Record<'_>) -> anyhow::Result<()> {
        match record {
            Record::Open(context) => self.chain.open(context, self.parent_hash),
            Record::Mini { header, txs } => {
                let txs = txs.iter().map(|tx| -> anyhow::Result<Arc<Tx>> {
                    let envelope = TxEnvelope::decode_2718_exact(tx.raw)?;
                    let raw = Bytes::copy_from_slice(tx.raw);
                    Ok(Arc::new(Tx { hash: keccak256(&raw), sender: tx.sender, envelope, raw }))
                });
                self.mini_block(header, txs.collect::<anyhow::Result<_>>()?)
            }
            Record::Close { number, gas_used } => self.close(number, gas_used),
            Record::Sealed { .. } => Ok(()),
        }
    }

    fn mini_block(&mut self, header: MiniBlockHeader, txs: Vec<Arc<Tx>>) -> anyhow::Result<()> {
        let height = header.height;
        ensure!(
            height == self.height + 1 && header.parent == self.digest,
            "mini-block {height} does not follow mini-block {}",
            self.height
        );
        self.report.transactions += txs.len() as u64;
        let mut leaves = Vec::with_capacity(txs.len());
        for tx in txs {
            leaves.push(Leaf::of(&*self.chain.execute(tx)?).hash());
        }
        let root = MerkleTree::new(leaves).root();
        if root != header.txs_root {
            self.report.receipts_ok = false;
            self.mismatch(format!("mini-block {height}: leaves root {root}, recorded {}", header.txs_root));
        }
        self.height = height;
        self.digest = digest(&header, self.spec.chain_id);
        self.report.mini_blocks += 1;
        self.compare_slot();
        Ok(())
    }

    /// At the height that the signer slot names, the digest must be the one that it names.
    fn compare_slot(&mut self) {
        let height = self.height;
        let Some(signed) = self.slot.take_if(|signed| signed.height <= height) else { return };
        if signed.height == height && self.digest != B256::from(signed.digest) {
            self.report.signer_slot_ok = false;
            let (found, expected) = (self.digest, B256::from(signed.digest));
            self.mismatch(format!("mini-block {height}: digest {found}, the signer slot says {expected}"));
        }
    }

    fn close(&mut self, number: u64, gas_used: u64) -> anyhow::Result<()> {
        let closed = self.chain.close()?;
        ensure!(closed.context.number == number, "block {number} closes without being open");
        self.report.blocks += 1;
        if closed.gas_used != gas_used {
            self.report.receipts_ok = false;
            self.mismatch(format!("block {number}: {} gas used, recorded {gas_used}", closed.gas_used));
        }
        let recorded = self.recorded.get(&number).copied();
        // Only a crash leaves a closed block without its recorded root, and only the newest ones.
        let rebuilt = (recorded.is_none() || number >= self.last_closed).then(|| self.chain.state_root());
        if let Some(root) = rebuilt {
            self.root_of_newest = root;
        }
        let state_root = rebuilt.or(recorded.map(|recorded| recorded.state_root)).unwrap_or_default();
        let header = assemble_header(&closed, self.parent_hash, state_root);
        self.parent_hash = header.hash_slow();
        let Some(recorded) = recorded else { return Ok(()) };
        if state_root != recorded.state_root {
            self.report.state_root_ok = false;
            self.mismatch(format!(
                "block {number}: state root {state_root}, recorded {}",
                recorded.state_root
            ));
        } else if self.parent_hash != recorded.hash {
            self.report.receipts_ok = false;
            let (hash, receipts) = (self.parent_hash, header.receipts_root);
            self.mismatch(format!(
                "block {number}: hash {hash} (receipts root {receipts}), recorded {}",
                recorded.hash
            ));
        }
        self.parent_hash = recorded.hash;
        Ok(())
    }

    fn report(mut self) -> VerifyReport {
        if let Some(signed) = self.slot {
            self.report.signer_slot_ok = false;
            let (newest, height) = (self.height, signed.height);
            self.mismatch(format!(
                "the signer slot says that mini-block {height} was signed, the journal ends at mini-block {newest}"
            ));
        }
        self.report.state_root = self.root_of_newest;
        self.report
    }
}
