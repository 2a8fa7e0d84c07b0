//! `ironlane import --datadir`: a foreign chain becomes the beginning of a node's own data directory.
//!
//! The blocks go into the archive, the state after the last one into a snapshot with an empty journal behind it. A node
//! started there serves the chain and sequences on from its head.

use crate::cli::ImportArgs;
use crate::node::checkpoint::{Head, TRIE_FILE};
use crate::node::datadir::DataDir;
use crate::node::recovery::genesis_block;
use crate::progress::Progress;
use alloy_primitives::B256;
use anyhow::{Context, ensure};
use ironlane_executor::{ChainSpec, ExecutorConfig, ImportReport, Importer};
use ironlane_history::{History, HistoryConfig};
use ironlane_state::{ChainIdentity, SnapshotDir, StateConfig};
use ironlane_trie::{Trie, TrieConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Imports the chain into `datadir`, which must be new.
pub(crate) fn import_into(args: &ImportArgs, datadir: &Path) -> anyhow::Result<ImportReport> {
    let started = Instant::now();
    let json = std::fs::read(&args.genesis)
        .with_context(|| format!("the genesis file {} cannot be read", args.genesis.display()))?;
    let bytes = std::fs::read(&args.chain)
        .with_context(|| format!("the chain file {} cannot be read", args.chain.display()))?;
    let spec = Arc::new(ChainSpec::from_genesis_json(&json)?);
    let dir = DataDir::open(datadir)?;
    ensure!(
        !dir.journal().exists() && !dir.archive().exists() && !dir.snapshots().exists(),
        "{} holds a chain already: import into a new directory",
        datadir.display()
    );
    dir.remember_genesis(&json)?;
    let history = History::open(Some(&dir.archive()), HistoryConfig::default())?;
    let (state, store) = ironlane_state::open_empty(StateConfig::default())?;
    let trie = Trie::new(TrieConfig::default())?;
    let mut importer = Importer::new(spec.clone(), store, trie, ExecutorConfig::default())?;
    history.publish_block(genesis_block(&spec, state.sealed_version().unwrap_or(0)))?;

    let progress = Progress::new("importing", "blocks");
    let (mut rest, mut transactions, mut hashes) = (&bytes[..], 0, vec![(0, spec.genesis.hash)]);
    while !rest.is_empty() {
        let mut payload = rest;
        let item = alloy_rlp::Header::decode(&mut payload)
            .with_context(|| format!("block {} is no RLP", importer.head().number + 1))?;
        let (block, after) = rest.split_at(rest.len() - payload.len() + item.payload_length);
        rest = after;
        // `geth export` begins with the genesis block itself.
        if importer.head().number == 0
            && B256::from(alloy_primitives::keccak256(header_of(block)?)) == spec.genesis.hash
        {
            continue;
        }
        let sealed = importer
            .import(block)
            .with_context(|| format!("block {} is not valid after its parent", importer.head().number + 1))?;
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

/// The header's RLP at the front of a block's.
fn header_of(block: &[u8]) -> anyhow::Result<&[u8]> {
    let mut body = block;
    alloy_rlp::Header::decode(&mut body)?;
    let mut payload = body;
    let header = alloy_rlp::Header::decode(&mut payload)?;
    let length = body.len() - payload.len() + header.payload_length;
    body.get(..length).context("the block ends inside its header")
}
