//! Snapshots of the whole node: state tables, trie, and the few numbers that say where the journal goes on.

use crate::node::shared::Shared;
use alloy_consensus::Header;
use alloy_primitives::B256;
use ironlane_history::History;
use ironlane_state::{PinnedView, SnapshotDir, SnapshotWriter};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of the trie's file in a snapshot.
pub const TRIE_FILE: &str = "trie";
/// How long a snapshot waits for its block's journal records before it gives up.
const DURABLE_WAIT_MAX: Duration = Duration::from_secs(60);

/// The head that a snapshot was taken at: metadata of its manifest, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// Header of the newest block in the snapshot.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// Newest mini-block in it.
    pub mini_height: u64,
    /// That mini-block's digest (the genesis hash for height 0).
    pub mini_digest: B256,
    /// Sequence number of the next transaction.
    pub next_seq: u64,
    /// Journal position of the block's `close` record: replay goes on after it.
    pub close_lsn: u64,
    /// Wall clock at the newest mini-block, microseconds: time never goes back over a restart.
    pub timestamp_us: u64,
    /// Hashes of up to 256 blocks before it, newest first: (number, hash).
    pub hashes: Vec<(u64, B256)>,
}

/// What the root stage knows at the block; the rest is looked up once it is durable.
pub struct Pending {
    /// The snapshot with the trie's file already in it.
    pub writer: SnapshotWriter,
    /// The state after the block.
    pub view: PinnedView,
    /// The block's header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// Newest mini-block in it.
    pub mini_height: u64,
    /// Sequence number of the next transaction.
    pub next_seq: u64,
    /// Hashes of the blocks before it.
    pub hashes: Vec<(u64, B256)>,
}

/// Writes the state's files, waits until the journal holds the block, and makes the snapshot visible.
pub fn finish(
    pending: Pending,
    dir: &SnapshotDir,
    keep: usize,
    history: &History,
    shared: &Arc<Shared>,
) -> anyhow::Result<()> {
    let Pending { mut writer, view, header, hash, mini_height, next_seq, hashes } = pending;
    view.write_snapshot(&mut writer)?;
    drop(view);
    let start = Instant::now();
    // A snapshot ahead of the journal would have to be refused at the next start.
    let close_lsn = loop {
        if shared.durable_block() >= header.number && shared.durable() >= mini_height {
            break shared.close_position(header.number);
        }
        if shared.is_halted() || shared.is_stopping() || start.elapsed() > DURABLE_WAIT_MAX {
            anyhow::bail!("the journal did not reach block {}: the snapshot is given up", header.number);
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let close_lsn = close_lsn.ok_or_else(|| {
        anyhow::anyhow!("the journal position of block {} is no longer known", header.number)
    })?;
    let (mini_digest, timestamp_us) = match mini_height {
        0 => (B256::ZERO, 0),
        height => {
            let published = loop {
                if let Some(mini) = history.mini_block(height)? {
                    break mini;
                }
                if shared.is_halted() || shared.is_stopping() || start.elapsed() > DURABLE_WAIT_MAX {
                    anyhow::bail!("mini-block {height} was not published: the snapshot is given up");
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            (published.digest, published.header.timestamp_us)
        }
    };
    // Blocks up to this one are not replayed any more, so the archive must hold them durably.
    loop {
        history.flush()?;
        if history.archived_up_to().is_none_or(|newest| newest >= header.number) {
            break;
        }
        if shared.is_halted() || shared.is_stopping() || start.elapsed() > DURABLE_WAIT_MAX {
            anyhow::bail!("the archive did not reach block {}: the snapshot is given up", header.number);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let head = Head { header, hash, mini_height, mini_digest, next_seq, close_lsn, timestamp_us, hashes };
    writer.finish(&serde_json::to_vec(&head)?)?;
    dir.prune(keep)?;
    // The oldest that is left counts: a start that finds the newer ones damaged replays from there. The position of one that
    // an earlier life wrote is not known; the next one's will be.
    let oldest = dir.heights()?.first().and_then(|height| shared.close_position(*height));
    if let Some(position) = oldest {
        shared.set_covered(position);
    }
    Ok(())
}
