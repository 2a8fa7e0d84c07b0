//! The node as a whole, in a process of its own, on real sockets and a real disk.

#[path = "node/faults.rs"]
mod faults;
#[path = "node/rig.rs"]
mod rig;

use alloy_primitives::B256;
use ironlane::node::record::Record;
use ironlane::node::recovery::identity;
use ironlane::verify::verify;
use ironlane_executor::ChainSpec;
use ironlane_journal::Reader;
use ironlane_netstack::wire::{self, AckStatus, Welcome};
use ironlane_promise::Promise;
use ironlane_types::Reject;
use rig::{Node, Wallet};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Sequence number of each transaction in the journal.
fn journalled(datadir: &Path) -> HashMap<B256, u64> {
    let mut reader =
        Reader::open(&datadir.join("journal"), Some(identity(&ChainSpec::dev())), 1).expect("journal opens");
    let mut found = HashMap::new();
    while let Some((_, payload)) = reader.next_record().expect("journal reads") {
        if let Record::Mini { header, txs } = Record::decode(payload).expect("record decodes") {
            for (i, tx) in txs.iter().enumerate() {
                found.insert(alloy_primitives::keccak256(tx.raw), header.first_seq + i as u64);
            }
        }
    }
    found
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    // A few kills in the ordinary run; IRONLANE_KILLS=200 is the figure of the README.
    let kills: u64 = std::env::var("IRONLANE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let mut wallets: Vec<Wallet> = (0..10).map(Wallet::dev).collect();
    let mut acknowledged: HashMap<B256, u64> = HashMap::new();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..kills {
        let mut node = Node::start(dir.path(), &["--snapshot-interval-blocks=2"]);
        for wallet in &mut wallets {
            wallet.nonce = node.nonce(wallet.address);
        }
        let mut client = node.client(false);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let end = Instant::now() + Duration::from_millis(20 + (random >> 33) % 400);
        let mut sent: HashMap<u64, B256> = HashMap::new();
        let mut acks = Vec::new();
        let mut turn = 0;
        while Instant::now() < end {
            for _ in 0..20 {
                let (raw, hash) = wallets[turn % 10].transfer(round * 1_000_000 + turn as u64);
                turn += 1;
                let tag = client.submit(&raw, None).expect("submits");
                sent.insert(tag, hash);
            }
            client.receive(&mut acks).expect("the node answers while it lives");
        }
        node.kill();
        // What is still in the socket was acknowledged as well.
        while client.receive(&mut acks).is_ok_and(|count| count > 0) {}
        for ack in &acks {
            assert_ne!(ack.status, AckStatus::Rejected, "{:?}", Reject::from_code(ack.reject));
            let known = acknowledged.insert(sent[&ack.tag], ack.seq);
            assert_eq!(known, None, "acknowledged once");
        }
    }
    assert!(acknowledged.len() as u64 >= kills, "the test must have sent something");
    // The last start replays everything once more, and then stops in order.
    Node::start(dir.path(), &[]).stop();
    let journal = journalled(&dir.path().join("data"));
    for (hash, seq) in &acknowledged {
        assert_eq!(journal.get(hash), Some(seq), "acknowledged transaction {hash} is lost or moved");
    }
    let report = verify(&dir.path().join("data"), None).expect("verifies");
    assert!(report.state_root_ok && report.receipts_ok, "{report:?}");
    assert_eq!(report.transactions, journal.len() as u64);
    eprintln!("{kills} kills, {} acknowledged of {} journalled", acknowledged.len(), journal.len());
}

#[test]
fn promises_verify_and_refusals_have_reasons() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client(true);
    let welcome = client.welcome().clone();
    assert_eq!((welcome.chain_id, welcome.durability.as_str()), (31337, "durable"));
    let sequencer = welcome.sequencer.into();
    let (checked, counter) = rig::counter();
    client.check_promises(Box::new(move |_: &Welcome, promise: &wire::Promise<'_>| {
        let promise = Promise::decode(promise.bytes).map_err(|error| error.to_string())?;
        promise.verify(31337, sequencer).map_err(|error| error.to_string())?;
        checked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }));
    let mut wallet = Wallet::dev(0);
    let transfers: Vec<_> = (0..50).map(|i| wallet.transfer(i).0).collect();
    for raw in &transfers {
        client.submit(raw, None).expect("submits");
    }
    let again = client.submit(&transfers[0], None).expect("submits");
    let garbage = client.submit(&[0x02, 0xc0], None).expect("submits");
    let blob = client.submit(&[0x03, 0xc0], None).expect("submits");
    let mut acks = Vec::new();
    while acks.len() < 53 {
        assert!(client.receive(&mut acks).expect("answers") > 0);
    }
    let reason = |tag| acks.iter().find(|ack| ack.tag == tag).and_then(|ack| Reject::from_code(ack.reject));
    assert!(matches!(reason(again), Some(Reject::AlreadyKnown | Reject::NonceTooLow)), "{:?}", reason(again));
    assert_eq!(reason(garbage), Some(Reject::Malformed));
    assert_eq!(reason(blob), Some(Reject::BlobUnsupported));
    let included = acks.iter().filter(|ack| ack.status == AckStatus::Success).count();
    assert_eq!(included, 50);
    assert_eq!(counter.load(std::sync::atomic::Ordering::Relaxed), 50, "every promise was checked");
    let metrics = node.metrics();
    for wanted in
        ["ironlane_transactions_executed_total 50", "ironlane_rejects_total{reason=\"blob_unsupported\"} 1"]
    {
        assert!(metrics.contains(wanted), "{wanted} is missing");
    }
    node.stop();
}

#[test]
fn a_restart_begins_at_the_newest_valid_snapshot() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let mut wallet = Wallet::dev(0);
    let node = Node::start(dir.path(), &["--snapshot-interval-blocks=1"]);
    let mut client = node.client(false);
    let snapshots = dir.path().join("data/snapshots");
    let finished = || -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&snapshots) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| !name.contains("tmp")).collect();
        names.sort();
        names
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut i = 0;
    while finished().len() < 2 {
        assert!(Instant::now() < deadline, "no snapshots were written");
        client.submit(&wallet.transfer(i).0, None).expect("submits");
        client.receive(&mut Vec::new()).expect("answers");
        i += 1;
    }
    let balance = node.balance(wallet.address);
    drop(client);
    node.stop();
    let newest = finished().pop().expect("two snapshots");

    let node = Node::start(dir.path(), &[]);
    assert!(node.has_logged("state from the snapshot"), "{}", node.log());
    assert_eq!(node.balance(wallet.address), balance);
    node.stop();

    // The newest is damaged (fault 13): the one before and a longer replay give the same.
    let manifest = snapshots.join(&newest).join("manifest");
    let mut bytes = std::fs::read(&manifest).expect("manifest");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&manifest, bytes).expect("writes");
    let node = Node::start(dir.path(), &[]);
    assert!(node.has_logged("damaged"), "{}", node.log());
    assert_eq!(node.balance(wallet.address), balance);
    node.stop();

    // All are damaged (fault 14): the journal alone gives the same.
    for name in finished() {
        std::fs::write(snapshots.join(name).join("manifest"), b"nothing").expect("writes");
    }
    let node = Node::start(dir.path(), &[]);
    assert_eq!(node.balance(wallet.address), balance);
    node.stop();

    // A snapshot ahead of the journal (fault 15) is refused, and so is a journal of another chain's directory.
    let report = verify(&dir.path().join("data"), None).expect("verifies");
    assert!(report.state_root_ok && report.receipts_ok, "{report:?}");
    std::fs::remove_dir_all(dir.path().join("data/journal")).expect("removes");
    let refused = rig::start_fails(dir.path(), &[]);
    assert!(refused.contains("journal"), "{refused}");
}

#[test]
fn a_recycled_journal_is_verified_from_a_snapshot_and_the_signer_slot_is_compared() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let data = dir.path().join("data");
    let mut wallet = Wallet::dev(0);
    let first_record = || match Reader::open(&data.join("journal"), None, 1) {
        Ok(_) => 1,
        Err(ironlane_journal::JournalError::Gone { first, .. }) => first,
        Err(error) => panic!("{error}"),
    };
    // Each start begins a segment; those that the older of two snapshots covers go, but for one.
    let mut lives = 0;
    while lives < 3 || first_record() == 1 {
        let node = Node::start_configured(dir.path(), "keep_segments = 1", &["--snapshot-interval-blocks=1"]);
        let mut client = node.client(false);
        for i in 0..8 {
            client.submit(&wallet.transfer(i).0, None).expect("submits");
            client.receive(&mut Vec::new()).expect("answers");
            std::thread::sleep(Duration::from_millis(500));
        }
        drop(client);
        node.stop();
        lives += 1;
        assert!(lives < 10, "no segment was recycled");
    }
    let report = verify(&data, None).expect("verifies");
    assert!(report.state_root_ok && report.receipts_ok && report.signer_slot_ok, "{report:?}");
    assert!(report.first_block > 1 && report.mini_blocks > 0, "{report:?}");

    // Without a snapshot it says what is needed.
    let (snapshots, aside) = (data.join("snapshots"), dir.path().join("aside"));
    std::fs::rename(&snapshots, &aside).expect("moves");
    let refused = verify(&data, None).expect_err("nothing to begin at").to_string();
    assert!(refused.contains("no whole snapshot is there that it continues"), "{refused}");
    std::fs::remove_dir_all(&snapshots).expect("removes");
    std::fs::rename(&aside, &snapshots).expect("moves back");

    // A journal that lost what the slot, kept outside of its folder, says was signed: an older copy, for instance.
    let older = dir.path().join("older");
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp").success());
    };
    copy(&data.join("journal"), &older);
    let node = Node::start(dir.path(), &[]);
    let mut client = node.client(false);
    client.submit(&wallet.transfer(0).0, None).expect("submits");
    client.receive(&mut Vec::new()).expect("answers");
    drop(client);
    node.stop();
    std::fs::remove_dir_all(data.join("journal")).expect("removes");
    copy(&older, &data.join("journal"));
    let refused = verify(&data, None).map_err(|error| format!("{error:#}"));
    let noticed = match &refused {
        Ok(report) => !report.signer_slot_ok && report.first_mismatch.is_some(),
        Err(refused) => refused.contains("signer slot") || refused.contains("durable"),
    };
    assert!(noticed, "{refused:?}");
}

#[test]
fn an_idle_node_rests() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("tempdir");
    let node = Node::start(dir.path(), &[]);
    std::thread::sleep(Duration::from_secs(1));
    let before = node.cpu_ticks();
    std::thread::sleep(Duration::from_secs(4));
    let used = node.cpu_ticks() - before;
    // A tick is 10 ms of processor time, so this counts work, not speed: 4 s are 400 ticks, and 5% of a core are 20.
    // A spinning lane would use 400; the bound leaves room for a development build.
    assert!(used < 60, "an idle node used {used} ticks of 10 ms in 4 s");
    node.stop();
}
