//! `ironlane import --datadir`: a foreign chain becomes the beginning of a node's own data directory.
//!
//! The blocks go into the archive, the state after the last one into a snapshot with an empty journal behind it. A node
//! started there serves the chain and sequences on from its head.

use crate::cli::ImportArgs;
use crate::node::Chain;
use crate::node::checkpoint::{Head, TRIE_FILE};
use crate::node::datadir::DataDir;
use crate::node::recovery::genesis_block;
use crate::progress::Progress;
use alloy_primitives::B256;
use anyhow::{Context, ensure};
use ironlane_executor::{ExecutorConfig, ImportReport, Importer};
use ironlane_history::{History, HistoryConfig};
use ironlane_state::{ChainIdentity, SnapshotDir, StateConfig};
use ironlane_trie::{Trie, TrieConfig};
use std::path::Path;
use std::time::Instant;

/// Imports the chain into `datadir`, which must be new.
pub(crate) fn import_into(args: &ImportArgs, datadir: &Path) -> anyhow::Result<ImportReport> {
    let started = Instant::now();
    let bytes = std::fs::read(&args.chain)
        .with_context(|| format!("the chain file {} cannot be read", args.chain.display()))?;
    let dir = DataDir::open(datadir)?;
    ensure!(
        !dir.journal().exists() && !dir.archive().exists() && !dir.snapshots().exists(),
        "{} holds a chain already: import into a new directory",
        datadir.display()
    );
    let spec = Chain::open(&dir, Some(&args.genesis))?.with_accounts()?;
    let history = History::open(Some(&dir.archive()), HistoryConfig::default())?;
    let (state, store) = ironlane_state::open_empty(StateConfig::default())?;
    let trie = Trie::new(TrieConfig::default())?;
    let mut importer = Importer::new(spec.clone(), store, trie, ExecutorConfig::default())?;
    history.publish_block(genesis_block(&spec, state.sealed_version().unwrap_or(0)))?;

    let progress = Progress::new("importing", "blocks");
    let (mut transactions, mut hashes) = (0, vec![(0, spec.genesis.hash)]);
    for sealed in importer.import_all(&bytes) {
        let sealed = sealed?;
        transactions += sealed.txs.len() as u64;
        hashes.push((sealed.header.number, sealed.hash));
        history.publish_block(sealed)?;
        progress.add(1);
    }
    progress.finish();
    history.flush()?;

    let (header, hash) = (importer.head().clone(), importer.head_hash());
    let (_executor, trie) = importer.into_parts();
    let identity = ChainIdentity { chain_id: spec.chain_id, genesis_hash: spec.genesis.hash };
    let mut writer = SnapshotDir::open(&dir.snapshots(), identity)?.create(header.number)?;
    writer.add_file(TRIE_FILE, |out| trie.write_to(out))?;
    state.view().pin()?.write_snapshot(&mut writer)?;
    let newest = hashes.len().saturating_sub(257);
    let head = Head {
        header: header.clone(),
        hash,
        mini_height: 0,
        mini_digest: B256::ZERO,
        next_seq: transactions,
        close_lsn: 0,
        timestamp_us: 0,
        hashes: hashes[newest..].iter().rev().skip(1).copied().collect(),
    };
    writer.finish(&serde_json::to_vec(&head)?)?;
    history.close()?;
    Ok(ImportReport {
        blocks: header.number,
        transactions,
        head_hash: hash,
        state_root: header.state_root,
        seconds: started.elapsed().as_secs_f64(),
    })
}
