//! The history against a plain list of everything that was published.

mod common;

use alloy_primitives::B256;
use common::{Chain, Made, address, same_block, same_tx, topic};
use ironlane_history::{
    Event, FoundLog, History, HistoryConfig, HistoryError, Interest, LogFilter, Received, TxPlace,
};
use ironlane_types::{ExecutedTx, MiniBlock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::Arc;

/// Small enough that every test crosses the border between memory and archive, and several segments.
fn small() -> HistoryConfig {
    HistoryConfig {
        memory_bytes: 20_000,
        segment_bytes: 30_000,
        segment_blocks: 12,
        ..HistoryConfig::default()
    }
}

fn open(dir: &Path) -> History {
    History::open(Some(dir), small()).unwrap()
}

fn chain(seed: u64, blocks: usize) -> Vec<Made> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xabcd);
    let mut chain = Chain::new(seed);
    (0..blocks)
        .map(|number| {
            if number == 0 {
                chain.next(0, 0)
            } else {
                chain.next(rng.random_range(0..8), rng.random_range(0..4))
            }
        })
        .collect()
}

fn publish(history: &History, made: &Made) {
    for mini in &made.minis {
        history.publish_mini_block(mini.clone()).unwrap();
    }
    history.publish_block(made.block.clone()).unwrap();
}

fn naive_logs(blocks: &[Made], from: u64, to: u64, filter: &LogFilter) -> Vec<FoundLog> {
    let mut found = Vec::new();
    for made in blocks.iter().filter(|made| (from..=to).contains(&made.block.header.number)) {
        let mut log_index = 0;
        for tx in &made.block.txs {
            for log in &tx.outcome.logs {
                let topics = log.data.topics();
                let address = filter.addresses.is_empty() || filter.addresses.contains(&log.address);
                let mut wanted = address;
                for position in 0..4 {
                    let any = &filter.topics[position];
                    wanted &= any.is_empty() || (topics.len() > position && any.contains(&topics[position]));
                }
                if wanted {
                    found.push(FoundLog {
                        block_number: made.block.header.number,
                        block_hash: made.block.hash,
                        block_timestamp: made.block.header.timestamp,
                        tx_hash: tx.tx.hash,
                        tx_index: u64::from(tx.index_in_block),
                        log_index,
                        log: log.clone(),
                    });
                }
                log_index += 1;
            }
        }
    }
    found
}

fn check_mini(found: &MiniBlock, expected: &MiniBlock) {
    assert_eq!(found.header, expected.header);
    assert_eq!(
        (found.digest, found.signature, found.state_version),
        (expected.digest, expected.signature, expected.state_version)
    );
    assert_eq!(found.txs.len(), expected.txs.len());
    assert!(found.txs.iter().zip(&expected.txs).all(|(a, b)| same_tx(a, b)));
}

fn check_tx(history: &History, made: &Made, tx: &Arc<ExecutedTx>) {
    let found = history.transaction(&tx.tx.hash).unwrap().expect("published");
    assert!(same_tx(&found.tx, tx));
    assert_eq!((found.block_number, found.block_hash()), (made.block.header.number, made.block.hash));
    let TxPlace::Sealed(head) = &found.place else { panic!("the block is sealed") };
    assert_eq!(head.header, made.block.header);
    assert_eq!(head.tx_count as usize, made.block.txs.len());
    let at = history.transaction_at(made.block.header.number, tx.index_in_block).unwrap().expect("published");
    assert!(same_tx(&at.tx, tx));
    let mini = history.mini_block_of(&tx.tx.hash).unwrap();
    let expected = made.minis.iter().find(|mini| mini.txs.iter().any(|other| other.tx.hash == tx.tx.hash));
    assert_eq!(mini.is_some(), expected.is_some());
    if let (Some((mini, place)), Some(expected)) = (mini, expected) {
        check_mini(&mini, expected);
        assert_eq!(expected.txs[place as usize].tx.hash, tx.tx.hash);
    }
}

fn check_all(history: &History, blocks: &[Made]) {
    let newest = blocks.last().unwrap();
    assert_eq!(history.head_number(), Some(newest.block.header.number));
    for made in blocks {
        let number = made.block.header.number;
        assert!(same_block(&history.block(number).unwrap().expect("published"), &made.block));
        assert!(same_block(
            &history.block_by_hash(&made.block.hash).unwrap().expect("published"),
            &made.block
        ));
        assert_eq!(history.state_version_of(number).unwrap(), Some(made.block.state_version));
        made.block.txs.iter().for_each(|tx| check_tx(history, made, tx));
        for mini in &made.minis {
            check_mini(&history.mini_block(mini.header.height).unwrap().expect("published"), mini);
        }
    }
    assert!(history.block(newest.block.header.number + 1).unwrap().is_none());
    assert!(history.block_by_hash(&B256::repeat_byte(0xee)).unwrap().is_none());
    assert!(history.transaction(&B256::repeat_byte(0xee)).unwrap().is_none());
    assert!(history.mini_block(1 << 40).unwrap().is_none());
    assert!(history.mini_block(0).unwrap().is_none());
}

#[test]
fn answers_are_those_of_a_plain_list_across_memory_and_archive_and_restarts() {
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let blocks = chain(seed, 60);
        let history = open(dir.path());
        for (done, made) in blocks.iter().enumerate() {
            publish(&history, made);
            if done % 17 == 5 {
                check_all(&history, &blocks[..=done]);
            }
        }
        history.flush().unwrap();
        assert_eq!(history.archived_up_to(), Some(59));
        assert!(history.memory_bytes() <= small().memory_bytes);
        check_all(&history, &blocks);
        drop(history);

        let history = open(dir.path());
        assert_eq!(history.archived_up_to(), Some(59));
        let newest_mini =
            blocks.iter().flat_map(|made| &made.minis).map(|mini| mini.header.height).max().unwrap();
        assert_eq!(history.newest_mini_block(), newest_mini);
        check_all(&history, &blocks);
    }
}

#[test]
fn recovery_publishes_again_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(9, 50);
    let history = open(dir.path());
    blocks[..40].iter().for_each(|made| publish(&history, made));
    history.close().unwrap();
    drop(history);

    let history = open(dir.path());
    // The snapshot was taken at block 30; what the archive has above it comes again.
    blocks[31..].iter().for_each(|made| publish(&history, made));
    check_all(&history, &blocks);
    history.flush().unwrap();
    check_all(&history, &blocks);
    assert_eq!(history.durable_state_version(), blocks[49].block.state_version);

    // Another chain's block is refused by its hash.
    let other = chain(10, 50);
    let history = open(dir.path());
    let refused = history.publish_block(other[31].block.clone()).unwrap_err();
    assert!(matches!(refused, HistoryError::HashMismatch { number: 31, .. }), "{refused}");
}

#[test]
fn a_lost_index_file_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(3, 60);
    let history = open(dir.path());
    blocks.iter().for_each(|made| publish(&history, made));
    history.close().unwrap();
    drop(history);
    let mut removed = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            std::fs::remove_file(path).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 2);
    check_all(&open(dir.path()), &blocks);
}

#[test]
fn a_tail_cut_at_every_byte_loses_only_whole_blocks_at_the_end() {
    let config = HistoryConfig { expected_txs: 100, ..HistoryConfig::default() };
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(5, 5);
    let mut ends = vec![0];
    let history = History::open(Some(dir.path()), config.clone()).unwrap();
    let segment = dir.path().join("000000000000.seg");
    for made in &blocks {
        publish(&history, made);
        history.flush().unwrap();
        ends.push(std::fs::metadata(&segment).unwrap().len());
    }
    drop(history);
    let bytes = std::fs::read(&segment).unwrap();
    for len in 0..=bytes.len() {
        std::fs::write(&segment, &bytes[..len]).unwrap();
        let history = History::open(Some(dir.path()), config.clone()).unwrap();
        let whole = ends.iter().filter(|end| **end <= len as u64 && **end > 0).count();
        assert_eq!(history.archived_up_to(), (whole as u64).checked_sub(1), "cut at {len}");
        if whole > 0 {
            check_all(&history, &blocks[..whole]);
        }
        if len % 97 == 0 {
            // What was lost comes again from the journal.
            blocks[whole..].iter().for_each(|made| publish(&history, made));
            history.flush().unwrap();
            check_all(&history, &blocks);
            drop(history);
            assert_eq!(std::fs::read(&segment).unwrap(), bytes);
        }
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(7, 26);
    let history = open(dir.path());
    blocks.iter().for_each(|made| publish(&history, made));
    history.close().unwrap();
    drop(history);
    let mut rng = StdRng::seed_from_u64(1);
    // A finished segment: nothing of it is scanned when it is opened.
    let segment = dir.path().join("000000000000.seg");
    let bytes = std::fs::read(&segment).unwrap();
    for _ in 0..300 {
        let at = rng.random_range(32..bytes.len());
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << rng.random_range(0..8);
        std::fs::write(&segment, &damaged).unwrap();
        let history = open(dir.path());
        let mut seen = 0;
        for made in blocks.iter().take(12) {
            let look = || -> Result<(), HistoryError> {
                let block = history.block(made.block.header.number)?;
                assert!(
                    block.is_none_or(|block| same_block(&block, &made.block)),
                    "a wrong block was handed out"
                );
                for tx in &made.block.txs {
                    let found = history.transaction(&tx.tx.hash)?;
                    assert!(
                        found.is_none_or(|found| same_tx(&found.tx, tx)),
                        "a wrong transaction was handed out"
                    );
                }
                for mini in &made.minis {
                    history.mini_block(mini.header.height)?;
                }
                Ok(())
            };
            if let Err(error) = look() {
                assert!(matches!(error, HistoryError::Corrupt { .. }), "{error}");
                seen += 1;
            }
        }
        assert!(seen > 0, "the flip at byte {at} was not seen");
    }
    std::fs::write(&segment, &bytes).unwrap();
    // The index file beside it.
    let index = dir.path().join("000000000000.idx");
    let sound = std::fs::read(&index).unwrap();
    for at in (0..sound.len()).step_by(53) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&index, &damaged).unwrap();
        let history = match History::open(Some(dir.path()), small()) {
            Ok(history) => history,
            Err(error) => {
                assert!(matches!(error, HistoryError::Format { .. }), "{error}");
                continue;
            }
        };
        for made in blocks.iter().take(12) {
            for tx in &made.block.txs {
                match history.transaction(&tx.tx.hash) {
                    Ok(found) => assert!(same_tx(&found.expect("published").tx, tx)),
                    Err(error) => assert!(matches!(error, HistoryError::Corrupt { .. }), "{error}"),
                }
            }
        }
    }
}

#[test]
fn another_format_version_is_refused_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    publish(&history, &chain(1, 1)[0]);
    history.close().unwrap();
    let segment = dir.path().join("000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8] = 9;
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes[..24]);
    bytes[24..32].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&segment, bytes).unwrap();
    let refused = History::open(Some(dir.path()), small()).unwrap_err();
    assert!(matches!(refused, HistoryError::Format { found: 9, expected: 1, .. }), "{refused}");
}

#[test]
fn log_queries_agree_with_a_scan() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(21, 50);
    let history = open(dir.path());
    blocks.iter().for_each(|made| publish(&history, made));
    let mut rng = StdRng::seed_from_u64(2);
    let mut hits = 0;
    for _ in 0..400 {
        let addresses = (0..rng.random_range(0..3)).map(|_| address(rng.random_range(0..6))).collect();
        let mut filter = LogFilter { addresses, ..LogFilter::default() };
        for position in 0..4 {
            filter.topics[position] = (0..rng.random_range(0..8usize).saturating_sub(5))
                .map(|_| topic(rng.random_range(0..7)))
                .collect();
        }
        let (from, to) = (rng.random_range(0..55), rng.random_range(0..55));
        let expected = naive_logs(&blocks, from, to, &filter);
        hits += expected.len();
        assert_eq!(history.logs(from, to, &filter, usize::MAX).unwrap(), expected);
        if !expected.is_empty() {
            let limit = expected.len() - 1;
            assert_eq!(
                history.logs(from, to, &filter, limit).unwrap_err(),
                HistoryError::TooManyLogs { limit }
            );
            assert_eq!(history.logs(from, to, &filter, limit + 1).unwrap().len(), limit + 1);
        }
    }
    assert!(hits > 1_000, "the filters found too little to prove anything: {hits}");
}

#[test]
fn an_open_block_is_seen_before_it_is_sealed() {
    let mut chain = Chain::new(4);
    let (genesis, one, two) = (chain.next(0, 0), chain.next(9, 3), chain.next(5, 2));
    let history = History::open(None, HistoryConfig::default()).unwrap();
    let events = history.subscribe(Interest::All);
    let block_events = history.subscribe(Interest::Blocks);
    publish(&history, &genesis);
    for mini in one.minis.iter().chain(&two.minis[..1]) {
        history.publish_mini_block(mini.clone()).unwrap();
    }
    assert_eq!(history.head_number(), Some(0));
    assert_eq!(history.durable_state_version(), two.minis[0].state_version);
    let open = history.open_blocks();
    assert_eq!(open.iter().map(|open| open.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(open[0].txs.len(), 9);
    let found = history.transaction(&one.block.txs[8].tx.hash).unwrap().unwrap();
    assert!(matches!(found.place, TxPlace::Open { .. }));
    assert_eq!(found.block_hash(), one.minis.last().unwrap().digest);
    assert!(history.mini_block_by_digest(&found.block_hash()).is_some());
    let at = history.transaction_at(1, 8).unwrap().unwrap();
    assert_eq!(at.block_hash(), found.block_hash());

    // Block 2 has a mini-block to come.
    history.publish_block(one.block.clone()).unwrap();
    let refused = history.publish_block(two.block.clone()).unwrap_err();
    assert!(matches!(refused, HistoryError::AheadOfMiniBlocks { number: 2, .. }), "{refused}");
    let refused = history.publish_mini_block(one.minis[0].clone()).unwrap_err();
    assert!(matches!(refused, HistoryError::MiniBlockOutOfOrder { .. }), "{refused}");
    let found = history.transaction(&one.block.txs[8].tx.hash).unwrap().unwrap();
    assert_eq!(found.block_hash(), one.block.hash);
    assert_eq!(history.open_blocks().len(), 1);

    let mut kinds = String::new();
    while let Received::Event(event) = events.try_recv() {
        kinds.push(if matches!(event, Event::NewBlock(_)) { 'B' } else { 'm' });
    }
    assert_eq!(kinds, format!("B{}B", "m".repeat(one.minis.len() + 1)));
    for number in 0..2 {
        assert!(
            matches!(block_events.try_recv(), Received::Event(Event::NewBlock(block)) if block.header.number == number)
        );
    }
    assert!(matches!(block_events.try_recv(), Received::Empty));
}

#[test]
fn blocks_out_of_order_are_refused() {
    let blocks = chain(12, 5);
    let history = History::open(None, HistoryConfig::default()).unwrap();
    publish(&history, &blocks[0]);
    publish(&history, &blocks[1]);
    assert!(matches!(
        history.publish_block(blocks[3].block.clone()),
        Err(HistoryError::OutOfOrder { number: 3, head: 1 })
    ));
    let mut stranger = blocks[2].block.clone();
    stranger.header.parent_hash = B256::repeat_byte(1);
    assert!(matches!(history.publish_block(stranger), Err(HistoryError::OutOfOrder { number: 2, head: 1 })));
    history.publish_block(blocks[1].block.clone()).unwrap();
    assert_eq!(history.head_number(), Some(1));
}

#[test]
fn memory_alone_forgets_the_oldest_and_stays_within_its_budget() {
    let blocks = chain(13, 200);
    let config = small();
    let history = History::open(None, config.clone()).unwrap();
    for made in &blocks {
        publish(&history, made);
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while history.memory_bytes() > config.memory_bytes && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(history.memory_bytes() <= config.memory_bytes);
    assert!(history.block(1).unwrap().is_none());
    let forgotten = blocks.iter().flat_map(|made| &made.block.txs).next().unwrap();
    assert!(history.transaction(&forgotten.tx.hash).unwrap().is_none());
    assert!(same_block(&history.block(199).unwrap().unwrap(), &blocks[199].block));
    assert_eq!(history.archived_up_to(), None);
}

#[test]
fn a_slow_subscriber_is_told_how_much_it_lost() {
    let blocks = chain(14, 40);
    let config = HistoryConfig { event_capacity: 8, ..HistoryConfig::default() };
    let history = History::open(None, config).unwrap();
    let events = history.subscribe(Interest::Blocks);
    blocks[..20].iter().for_each(|made| publish(&history, made));
    for number in 0..8 {
        assert!(
            matches!(events.try_recv(), Received::Event(Event::NewBlock(block)) if block.header.number == number)
        );
        if number == 3 {
            publish(&history, &blocks[20]);
        }
    }
    assert!(matches!(events.try_recv(), Received::Lagged(13)));
    publish(&history, &blocks[21]);
    assert!(
        matches!(events.try_recv(), Received::Event(Event::NewBlock(block)) if block.header.number == 21)
    );
    history.close().unwrap();
    assert!(matches!(events.try_recv(), Received::Closed));
}

#[test]
fn the_archive_goes_on_when_its_disk_accepts_writes_again() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(15, 30);
    let history =
        History::open(Some(dir.path()), HistoryConfig { memory_bytes: 1 << 20, ..small() }).unwrap();
    publish(&history, &blocks[0]);
    history.flush().unwrap();
    // A folder in the place of the next segment's file: creating it fails until the folder is gone.
    let next = dir.path().join("000000000012.seg");
    std::fs::create_dir(&next).unwrap();
    blocks[1..20].iter().for_each(|made| publish(&history, made));
    let refused = history.flush().unwrap_err();
    assert!(matches!(refused, HistoryError::ArchiveStopped(_)), "{refused}");
    assert!(history.archive_trouble().is_some());
    check_all(&history, &blocks[..20]);
    std::fs::remove_dir(&next).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while history.flush().is_err() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    blocks[20..].iter().for_each(|made| publish(&history, made));
    history.flush().unwrap();
    assert_eq!(history.archive_trouble(), None);
    drop(history);
    check_all(&open(dir.path()), &blocks);
}

#[test]
fn readers_see_whole_blocks_while_blocks_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = Arc::new(chain(16, 300));
    let history = open(dir.path());
    let readers: Vec<_> = (0..2)
        .map(|seed| {
            let (history, blocks) = (history.clone(), blocks.clone());
            std::thread::spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut looked = 0u64;
                while history.head_number() != Some(299) {
                    let Some(head) = history.head_number() else { continue };
                    let made = &blocks[rng.random_range(0..=head) as usize];
                    assert!(same_block(
                        &history.block(made.block.header.number).unwrap().unwrap(),
                        &made.block
                    ));
                    made.block.txs.iter().for_each(|tx| check_tx(&history, made, tx));
                    looked += 1;
                }
                looked
            })
        })
        .collect();
    blocks.iter().for_each(|made| publish(&history, made));
    for reader in readers {
        reader.join().unwrap();
    }
    check_all(&history, &blocks);
}
