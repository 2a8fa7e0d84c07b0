//! From what is on disk to a node that can go on: the newest valid snapshot, then the journal after it.
//!
//! Replay executes every journalled transaction again and compares as it goes: heights and sequence numbers without gaps,
//! each mini-block's parent, its Merkle root over what the transactions did, gas of each block, and each recorded block
//! hash. A difference stops the start with the journal position; nothing is signed over a history that does not repeat.

use crate::config::NodeConfig;
use crate::node::chain::Chain;
use crate::node::checkpoint::{self, Head};
use crate::node::datadir::DataDir;
use crate::node::record::Record;
use crate::node::stages::root::Tip;
use crate::progress::Progress;
use alloy_consensus::Header;
use alloy_eips::Decodable2718;
use alloy_primitives::{B256, Bytes, keccak256};
use anyhow::{Context, bail, ensure};
use ironlane_executor::{BlockHashes, ChainSpec, Engine, Executor, ExecutorConfig, seal_block};
use ironlane_history::{History, HistoryConfig};
use ironlane_journal::{Journal, JournalConfig, JournalError, Keep, Lsn, Recovery, SignerMark};
use ironlane_promise::{Leaf, MerkleTree, Signer, digest};
use ironlane_state::{ChainIdentity, SnapshotDir, SnapshotError, State, StateConfig, StateWriter};
use ironlane_trie::{Trie, TrieConfig};
use ironlane_types::{MiniBlock, SealedBlock, Tx, TxEnvelope};
use std::sync::Arc;

/// From so many accounts on, the state of the genesis is kept as a snapshot: loading that takes a tenth of the time.
const GENESIS_SNAPSHOT_ACCOUNTS_MIN: u64 = 10_000;

/// Everything that the stages go on from.
pub struct Recovered {
    /// State reader.
    pub state: State,
    /// Executor over the state writer; perhaps with a block open.
    pub executor: Executor,
    /// Trie after `tip`.
    pub trie: Trie,
    /// Newest closed block.
    pub tip: Tip,
    /// Its header.
    pub parent: Header,
    /// Published blocks.
    pub history: History,
    /// The journal, ready for appending.
    pub journal: Journal,
    /// The journal's own report.
    pub journal_report: Recovery,
    /// Newest mini-block.
    pub height: u64,
    /// Its digest; the genesis hash at height 0.
    pub digest: B256,
    /// Its wall clock, microseconds.
    pub timestamp_us: u64,
    /// Snapshot folder.
    pub snapshots: SnapshotDir,
    /// Height of the snapshot that was used.
    pub from_snapshot: Option<u64>,
}

/// What the journal and the signer slot are bound to.
pub fn identity(spec: &ChainSpec) -> [u8; 32] {
    let mut bytes = b"ironlane chain v1".to_vec();
    bytes.extend_from_slice(&spec.chain_id.to_be_bytes());
    bytes.extend_from_slice(spec.genesis.hash.as_slice());
    keccak256(bytes).0
}

/// The journal's configuration for a data directory.
pub fn journal_config(config: &NodeConfig, dir: &DataDir, spec: &ChainSpec) -> JournalConfig {
    let mut journal = JournalConfig::new(dir.journal(), identity(spec));
    journal.slot_file = Some(dir.signer_slot());
    journal.segment_bytes = (config.journal.segment_mib << 20).max(journal.commit_bytes_max as u64 * 2);
    journal.keep = match config.journal.keep_segments {
        0 => Keep::All,
        n => Keep::Newest(n as usize),
    };
    journal
}

/// Opens everything and replays what the newest usable snapshot does not hold, with the engine that goes on from there.
pub fn recover(
    config: &NodeConfig,
    dir: &DataDir,
    chain: &Chain,
    signer: &Signer,
    engine: Engine,
) -> anyhow::Result<Recovered> {
    let spec = &chain.spec;
    let own = ChainIdentity { chain_id: spec.chain_id, genesis_hash: spec.genesis.hash };
    let snapshots = SnapshotDir::open(&dir.snapshots(), own)?;
    let history_config =
        HistoryConfig { memory_bytes: config.history.memory_mib << 20, ..HistoryConfig::default() };
    let archive = dir.archive();
    let history = History::open((!config.ephemeral).then_some(archive.as_path()), history_config)?;
    let base = open_base(config, chain, &snapshots)?;
    let from_snapshot = base.head.as_ref().map(|head| head.header.number);
    let mut replay = Replay::new(spec, base, history, signer, engine)?;
    let from = replay.from;
    let journal_config = journal_config(config, dir, spec);
    let progress = Progress::new("replaying the journal", "records");
    let opened = Journal::open(&journal_config, from, &mut |at, payload| {
        progress.add(1);
        replay.record(payload).with_context(|| format!("at {at}")).map_err(Into::into)
    });
    progress.finish();
    let (mut journal, journal_report) = match opened {
        Ok(opened) => opened,
        Err(error @ JournalError::Gone { .. }) if from == 1 => {
            return Err(error).context(
                "no usable snapshot of a later block is left, and the journal no longer reaches back to genesis: restore \
                 a snapshot from a backup or a replica",
            );
        }
        Err(error) => return Err(error.into()),
    };
    let tip = SignerMark { height: replay.height, digest: replay.tip_digest().0 };
    journal.confirm_tip(tip)?;
    Ok(Recovered {
        state: replay.state,
        executor: replay.executor,
        trie: replay.trie,
        tip: replay.tip,
        parent: replay.parent,
        history: replay.history,
        journal,
        journal_report,
        height: replay.height,
        digest: replay.digest,
        timestamp_us: replay.timestamp_us,
        snapshots,
        from_snapshot,
    })
}

/// The genesis block as the history holds it.
pub fn genesis_block(spec: &ChainSpec, state_version: u64) -> SealedBlock {
    let header = spec.genesis.header.clone();
    let withdrawals = header.withdrawals_root.map(|_| Vec::new());
    let (txs, ommers) = (Vec::new(), Vec::new());
    SealedBlock { hash: spec.genesis.hash, header, txs, withdrawals, ommers, state_version }
}

/// State and trie to begin from.
struct Base {
    state: State,
    writer: StateWriter,
    trie: Trie,
    head: Option<Head>,
}

fn state_config(config: &NodeConfig) -> StateConfig {
    StateConfig {
        accounts: config.state.accounts,
        slots: config.state.slots,
        undo_bytes: config.state.undo_mib << 20,
        huge_pages: config.state.huge_pages,
        ..StateConfig::default()
    }
}

/// The newest snapshot whose files, trie and root all hold; genesis when there is none.
fn open_base(config: &NodeConfig, chain: &Chain, snapshots: &SnapshotDir) -> anyhow::Result<Base> {
    let mut at_most = u64::MAX;
    loop {
        let reader = match snapshots.open_newest_at_most(at_most) {
            Ok(Some(reader)) => reader,
            Ok(None) if at_most == u64::MAX => {
                let base = genesis_base(config, chain)?;
                if !config.ephemeral {
                    keep_genesis(&base, &chain.spec, snapshots);
                }
                return Ok(base);
            }
            Ok(None) => return genesis_base(config, chain),
            Err(SnapshotError::AllDamaged(damaged)) => {
                tracing::error!(?damaged, "all snapshots are damaged: rebuilding from the journal");
                return genesis_base(config, chain);
            }
            Err(error) => return Err(error.into()),
        };
        let height = reader.height();
        for (damaged, reason) in reader.passed_over() {
            tracing::error!(
                damaged,
                reason,
                "a newer snapshot is damaged: an older one and a longer replay serve"
            );
        }
        let opened = (|| -> anyhow::Result<Base> {
            let head: Head = serde_json::from_slice(reader.metadata()).context("the head is not readable")?;
            ensure!(head.header.hash_slow() == head.hash, "the head's hash is not its header's");
            let trie = Trie::open(TrieConfig::default(), &reader.file(checkpoint::TRIE_FILE)?)?;
            ensure!(
                trie.last_root() == head.header.state_root,
                "the trie's root {} is not the block's state root {}",
                trie.last_root(),
                head.header.state_root
            );
            let (state, writer) = ironlane_state::open_snapshot(state_config(config), &reader)?;
            Ok(Base { state, writer, trie, head: Some(head) })
        })();
        match opened {
            Ok(base) => return Ok(base),
            Err(error) => {
                tracing::error!(
                    height,
                    error = format!("{error:#}"),
                    "a snapshot cannot be used: trying the one before"
                );
                match height.checked_sub(1) {
                    Some(below) => at_most = below,
                    None => return genesis_base(config, chain),
                }
            }
        }
    }
}

/// Writes the snapshot of block zero, so that the next start need not read a large genesis again.
fn keep_genesis(base: &Base, spec: &ChainSpec, snapshots: &SnapshotDir) {
    if base.state.stats().accounts < GENESIS_SNAPSHOT_ACCOUNTS_MIN {
        return;
    }
    let written = (|| -> anyhow::Result<()> {
        let mut writer = snapshots.create(0)?;
        writer.add_file(checkpoint::TRIE_FILE, |out| base.trie.write_to(out))?;
        base.state.view().pin()?.write_snapshot(&mut writer)?;
        let head = Head {
            header: spec.genesis.header.clone(),
            hash: spec.genesis.hash,
            mini_height: 0,
            mini_digest: B256::ZERO,
            next_seq: 0,
            close_lsn: 0,
            timestamp_us: 0,
            hashes: Vec::new(),
        };
        writer.finish(&serde_json::to_vec(&head)?)?;
        Ok(())
    })();
    if let Err(error) = written {
        tracing::warn!(
            error = format!("{error:#}"),
            "no snapshot of the genesis was written: the next start reads it again"
        );
    }
}

fn genesis_base(config: &NodeConfig, chain: &Chain) -> anyhow::Result<Base> {
    let spec = chain.with_accounts()?;
    let (state, mut writer) = ironlane_state::open_empty(state_config(config))?;
    writer.apply(&spec.genesis.alloc)?;
    writer.seal();
    let mut trie = Trie::new(TrieConfig::default())?;
    trie.apply(&spec.genesis.alloc);
    let root = trie.root();
    ensure!(
        root == spec.genesis.header.state_root,
        "the genesis allocation has the state root {root}, its header says {}",
        spec.genesis.header.state_root
    );
    Ok(Base { state, writer, trie, head: None })
}

/// Replays records in order.
struct Replay<'a> {
    spec: &'a Arc<ChainSpec>,
    signer: &'a Signer,
    state: State,
    executor: Executor,
    trie: Trie,
    history: History,
    hashes: BlockHashes,
    tip: Tip,
    parent: Header,
    height: u64,
    digest: B256,
    timestamp_us: u64,
    from: Lsn,
}

impl<'a> Replay<'a> {
    fn new(
        spec: &'a Arc<ChainSpec>,
        base: Base,
        history: History,
        signer: &'a Signer,
        engine: Engine,
    ) -> anyhow::Result<Self> {
        let Base { state, writer, trie, head } = base;
        let genesis = &spec.genesis;
        let hashes = BlockHashes::new();
        let version = state.sealed_version().unwrap_or(0);
        if history.head_number().is_none() {
            history.publish_block(genesis_block(spec, version))?;
        }
        history.set_durable_state_version(version);
        let (tip, parent, height, digest, timestamp_us, from) = match head {
            None => {
                hashes.set(0, genesis.hash);
                let tip = Tip { number: 0, hash: genesis.hash, next_seq: 0 };
                (tip, genesis.header.clone(), 0, genesis.hash, 0, 1)
            }
            Some(head) => {
                for (number, hash) in head.hashes.iter().rev() {
                    hashes.set(*number, *hash);
                }
                hashes.set(head.header.number, head.hash);
                let tip = Tip { number: head.header.number, hash: head.hash, next_seq: head.next_seq };
                let digest = if head.mini_height == 0 { genesis.hash } else { head.mini_digest };
                (tip, head.header, head.mini_height, digest, head.timestamp_us, head.close_lsn + 1)
            }
        };
        let executor_config = ExecutorConfig { next_seq: tip.next_seq, engine, ..ExecutorConfig::default() };
        let executor = Executor::new(spec.clone(), writer, hashes.clone(), executor_config);
        Ok(Self {
            spec,
            signer,
            state,
            executor,
            trie,
            history,
            hashes,
            tip,
            parent,
            height,
            digest,
            timestamp_us,
            from,
        })
    }

    /// The newest mini-block's digest for the signer's check; zero before the first.
    fn tip_digest(&self) -> B256 {
        if self.height == 0 { B256::ZERO } else { self.digest }
    }

    fn record(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        match Record::decode(payload)? {
            Record::Open(context) => {
                ensure!(self.executor.context().is_none(), "block {} opens inside another", context.number);
                ensure!(
                    context.number == self.tip.number + 1,
                    "block {} opens after block {}",
                    context.number,
                    self.tip.number
                );
                self.executor.open_block(context)?;
            }
            Record::Mini { header, txs } => {
                let open = self.executor.context().map(|context| context.number);
                ensure!(open == Some(header.block_number), "mini-block {} outside its block", header.height);
                ensure!(
                    header.height == self.height + 1 && header.parent == self.digest,
                    "mini-block {} does not follow mini-block {}",
                    header.height,
                    self.height
                );
                ensure!(
                    header.first_seq == self.executor.next_seq(),
                    "mini-block {} begins at sequence number {}, expected {}",
                    header.height,
                    header.first_seq,
                    self.executor.next_seq()
                );
                let mut executed = Vec::with_capacity(txs.len());
                for tx in txs {
                    let envelope =
                        TxEnvelope::decode_2718_exact(tx.raw).context("a journalled transaction")?;
                    let raw = Bytes::copy_from_slice(tx.raw);
                    let tx = Tx { hash: keccak256(&raw), sender: tx.sender, envelope, raw };
                    let hash = tx.hash;
                    let done = self.executor.execute(Arc::new(tx));
                    executed.push(done.with_context(|| format!("transaction {hash} was refused at replay"))?);
                }
                let state_version = self.executor.seal_mini_block()?;
                let root = MerkleTree::new(executed.iter().map(|tx| Leaf::of(tx).hash()).collect()).root();
                if root != header.txs_root {
                    bail!(
                        "mini-block {} does not repeat: its transactions now have the root {root}, the journal says {}",
                        header.height,
                        header.txs_root
                    );
                }
                self.height = header.height;
                self.timestamp_us = header.timestamp_us;
                self.digest = digest(&header, self.spec.chain_id);
                let signature = self.signer.sign(self.digest);
                let mini = MiniBlock { header, digest: self.digest, signature, txs: executed, state_version };
                self.history.publish_mini_block(mini)?;
            }
            Record::Close { number, gas_used } => {
                ensure!(
                    self.executor.context().is_some_and(|context| context.number == number),
                    "block {number} closes without being open"
                );
                let mut closed = self.executor.close_block()?;
                closed.last_mini_block = Some(self.height);
                ensure!(
                    closed.gas_used == gas_used,
                    "block {number} used {} gas at replay, the journal says {gas_used}",
                    closed.gas_used
                );
                self.trie.apply(&closed.delta);
                let state_root = self.trie.root();
                let sealed = seal_block(closed, self.tip.hash, state_root);
                self.hashes.set(number, sealed.hash);
                self.tip = Tip { number, hash: sealed.hash, next_seq: self.executor.next_seq() };
                self.parent = sealed.header.clone();
                self.history.publish_block(sealed)?;
            }
            Record::Sealed { number, hash, state_root } => {
                if let Some(known) = self.hashes.get(number) {
                    ensure!(
                        known == hash,
                        "block {number} has the hash {known} at replay, the journal says {hash} (state root {state_root})"
                    );
                }
            }
        }
        Ok(())
    }
}
