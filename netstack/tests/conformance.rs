//! One body of tests over every device.

mod common;

use common::*;
use ironlane_netstack::wire::{Ack, GoawayReason, Hello, Promise, Repr};
use ironlane_netstack::{DropReason, IngestConfig};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

macro_rules! over_every_device {
    ($($name:ident)*) => {
        mod tcp { $( #[test] fn $name() { super::$name::<super::OverTcp>() } )* }
        mod loopback { $( #[test] fn $name() { super::$name::<super::OverLoopback>() } )* }
    };
}

over_every_device! {
    a_transaction_goes_in_and_its_answer_comes_back
    a_stream_cut_anywhere_means_the_same
    malformed_frames_end_their_connection_alone
    a_full_sink_loses_nothing
    more_than_the_window_is_refused
    who_does_not_read_is_disconnected
    timeouts_end_what_stands_still
    connections_are_limited
    an_address_is_limited
    a_hundred_thousand_frames
    many_connections_at_once
    garbage_harms_nobody_else
    promises_and_pings
    stopping_tells_everyone
    answers_for_the_gone_are_counted
}

fn a_transaction_goes_in_and_its_answer_comes_back<H: Harness>() {
    let mut server = Server::<H>::new(8, IngestConfig::default());
    let mut talker = server.connect();
    talker.send_all(&mut server, &hello());
    let frames = talker.expect(&mut server, 1);
    let [Owned::Welcome(welcome)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((welcome.version, welcome.chain_id, welcome.sequencer), (1, CHAIN_ID, SEQUENCER));
    assert_eq!((welcome.window, welcome.frame_bytes_max), (16_384, 131_100));
    assert_eq!(welcome.durability, "fdatasync");

    talker.send_all(&mut server, &submit(5, None, b"first"));
    talker.send_all(&mut server, &submit(6, Some([9; 20]), b"second"));
    server.until("both frames", |s| s.owner.seen.len() == 2);
    let conn = server.owner.opened[0];
    let expected = [
        Seen { conn, tag: 5, hint: None, tx: b"first".to_vec() },
        Seen { conn, tag: 6, hint: Some([9; 20]), tx: b"second".to_vec() },
    ];
    assert_eq!(server.owner.seen, expected);
    server.ingest.send_ack(conn, &Ack::rejected(6, 13));
    server.ingest.send_ack(conn, &included(5, 1));
    let frames = talker.expect(&mut server, 2);
    assert_eq!(frames, [Owned::Ack(Ack::rejected(6, 13)), Owned::Ack(included(5, 1))]);

    talker.peer.close();
    server.until("the end", |s| s.owner.closed.contains_key(&conn));
    assert_eq!(server.owner.closed[&conn], DropReason::PeerClosed);
    assert_eq!(server.ingest.stats().connections, 0);
    assert_eq!(server.ingest.stats().dropped(DropReason::PeerClosed), 1);
}

fn a_stream_cut_anywhere_means_the_same<H: Harness>() {
    let mut stream = hello();
    let mut expected = Vec::new();
    for (tag, bytes) in [(1u64, 1usize), (2, 40), (3, 7), (4, 90)] {
        let tx: Vec<u8> = (0..bytes).map(|i| (i as u8) ^ tag as u8).collect();
        let hint = (tag % 2 == 0).then_some([tag as u8; 20]);
        stream.extend(submit(tag, hint, &tx));
        expected.push((tag, hint, tx));
    }
    stream.extend(encode(&Repr::Ping(77)));
    let mut server = Server::<H>::new(4, IngestConfig::default());
    let mut run = |pieces: Vec<&[u8]>| {
        let mut talker = server.connect();
        for piece in pieces {
            let before = server.ingest.stats().counters.bytes_in;
            talker.send_all(&mut server, piece);
            server.until("the piece", |s| s.ingest.stats().counters.bytes_in == before + piece.len() as u64);
        }
        let frames = talker.expect(&mut server, 2);
        assert_eq!(frames.last(), Some(&Owned::Pong(77)));
        let seen: Vec<_> = server.owner.seen.drain(..).map(|s| (s.tag, s.hint, s.tx)).collect();
        assert_eq!(seen, expected);
        talker.peer.close();
        server.until("the end", |s| s.ingest.stats().connections == 0);
    };
    for cut in 1..stream.len() {
        let (a, b) = stream.split_at(cut);
        run(vec![a, b]);
    }
    run(stream.chunks(1).collect());
    run(stream.chunks(11).collect());
}

/// Bytes after a Hello, and the code that must answer them.
fn malformed() -> Vec<(&'static str, Vec<u8>, GoawayReason)> {
    let header = |length: u32, kind: u8, flags: u8, reserved: [u8; 2]| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([kind, flags, reserved[0], reserved[1]]);
        bytes
    };
    vec![
        ("zero length", header(0, 2, 0, [0, 0]), GoawayReason::BadLength),
        ("no transaction", header(8, 2, 0, [0, 0]), GoawayReason::BadLength),
        ("hint without transaction", header(28, 2, 1, [0, 0]), GoawayReason::BadLength),
        ("one byte too many", header(8 + 131_073, 2, 0, [0, 0]), GoawayReason::BadLength),
        ("largest length", header(u32::MAX, 2, 0, [0, 0]), GoawayReason::BadLength),
        ("kind zero", header(9, 0, 0, [0, 0]), GoawayReason::UnknownKind),
        ("unknown kind", header(9, 0x7f, 0, [0, 0]), GoawayReason::UnknownKind),
        ("unknown flags", header(9, 2, 2, [0, 0]), GoawayReason::BadHeader),
        ("reserved bytes", header(9, 2, 0, [1, 0]), GoawayReason::BadHeader),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), GoawayReason::UnknownKind),
        ("a second Hello", hello(), GoawayReason::UnexpectedFrame),
        ("a node's frame", encode(&Repr::Ack(included(1, 1))), GoawayReason::UnexpectedFrame),
    ]
}

fn malformed_frames_end_their_connection_alone<H: Harness>() {
    let mut server = Server::<H>::new(8, IngestConfig::default());
    let mut honest = server.greet();
    for (what, bytes, reason) in malformed() {
        let mut talker = server.greet();
        let good = submit(1, None, b"before");
        talker.send_all(&mut server, &[good, bytes, submit(2, None, b"after")].concat());
        assert_eq!(talker.goaway(&mut server), Some(reason as u8), "{what}");
        talker.peer.close();
        server.until("the end", |s| s.ingest.stats().connections == 1);
        let seen: Vec<_> = server.owner.seen.drain(..).map(|s| s.tx).collect();
        assert_eq!(seen, [b"before".to_vec()], "{what}: what came before counts, what comes after does not");
        assert!(server.ingest.stats().dropped(DropReason::Goaway(reason)) > 0, "{what}");
    }
    // Before Hello.
    let old = Hello { version_min: 2, version_max: 9, wants_promises: false };
    let bad_magic = [&hello()[..8], b"HTTPLANE", &hello()[16..]].concat();
    for (bytes, reason) in [
        (submit(1, None, b"x"), GoawayReason::HelloExpected),
        (encode(&Repr::Ping(1)), GoawayReason::HelloExpected),
        (encode(&Repr::Hello(old)), GoawayReason::VersionUnsupported),
        (bad_magic, GoawayReason::BadPayload),
    ] {
        let mut talker = server.connect();
        talker.send_all(&mut server, &bytes);
        assert_eq!(talker.goaway(&mut server), Some(reason as u8));
    }
    honest.send_all(&mut server, &submit(3, None, b"still here"));
    server.until("the honest frame", |s| s.owner.seen.len() == 1);
    server.ack_all();
    assert_eq!(honest.expect(&mut server, 1).len(), 1);
}

fn a_full_sink_loses_nothing<H: Harness>() {
    let mut server = Server::<H>::new(8, IngestConfig::default());
    let mut talkers: Vec<_> = (0..3).map(|_| server.greet()).collect();
    let mut rng = StdRng::seed_from_u64(1);
    let mut streams = Vec::new();
    for _ in 0..talkers.len() {
        let mut stream = Vec::new();
        for tag in 0..400 {
            let mut tx = vec![0u8; rng.random_range(1..3_000)];
            rng.fill_bytes(&mut tx);
            stream.extend(submit(tag, None, &tx));
        }
        streams.push(stream);
    }
    server.owner.room = Some(0);
    let mut left: Vec<&[u8]> = streams.iter().map(|s| &s[..]).collect();
    let mut rounds = 0;
    server.until("all frames", |s| {
        for (talker, left) in talkers.iter_mut().zip(&mut left) {
            *left = &left[talker.peer.send(left)..];
        }
        // Room comes back in small portions, and not in every round.
        rounds += 1;
        if rounds % 3 == 0 && s.ingest.paused() > 0 {
            s.owner.room = Some(rng.random_range(1..40));
            s.ingest.resume_all();
        }
        s.owner.seen.len() == 1_200
    });
    assert!(server.ingest.stats().counters.backpressure > 3, "the sink did refuse");
    for (i, conn) in server.owner.opened.clone().into_iter().enumerate() {
        let mut again = Vec::new();
        for seen in server.owner.seen.iter().filter(|s| s.conn == conn) {
            again.extend(submit(seen.tag, seen.hint, &seen.tx));
        }
        assert!(again == streams[i], "connection {i}: every frame once, in order");
    }
    server.owner.room = None;
    server.ingest.resume_all();
    server.ack_all();
    for talker in &mut talkers {
        assert_eq!(talker.expect(&mut server, 400).len(), 400);
    }
}

fn more_than_the_window_is_refused<H: Harness>() {
    let config = IngestConfig { window: 4, ..IngestConfig::default() };
    let mut server = Server::<H>::new(8, config);
    let mut talker = server.greet();
    let stream: Vec<u8> = (0..7).flat_map(|tag| submit(tag, None, b"x")).collect();
    talker.send_all(&mut server, &stream);
    let refused = talker.expect(&mut server, 3);
    assert_eq!(refused, [4, 5, 6].map(|tag| Owned::Ack(Ack::rejected(tag, 32))));
    assert_eq!(server.owner.seen.len(), 4);
    server.ack_all();
    assert_eq!(talker.expect(&mut server, 4).len(), 4);
    talker.send_all(&mut server, &submit(9, None, b"again"));
    server.until("room in the window", |s| s.owner.seen.len() == 1);
    assert_eq!(server.ingest.stats().counters.over_window, 3);
}

fn who_does_not_read_is_disconnected<H: Harness>() {
    let config = IngestConfig {
        window: 1_000,
        send_buffer_bytes: 256 * 1024,
        send_buffers_bytes: 1 << 20,
        ..IngestConfig::default()
    };
    let mut server = Server::<H>::new(8, config);
    let mut lazy = server.greet();
    let mut honest = server.greet();
    lazy.peer.stop_reading();
    let conn = server.owner.opened[0];
    let mut sent = 0u64;
    while !server.owner.closed.contains_key(&conn) {
        for _ in 0..1_000 {
            server.ingest.send_ack(conn, &included(sent, sent));
            sent += 1;
        }
        server.turn();
        assert!(server.ingest.stats().send_bytes <= 2 * 256 * 1024, "bounded");
        assert!(sent < 1_000_000, "48 MB of answers were never read, and nothing happened");
    }
    let reason = DropReason::Goaway(GoawayReason::SlowReader);
    assert_eq!(server.owner.closed[&conn], reason);
    assert_eq!(server.ingest.stats().dropped(reason), 1);
    assert_eq!(server.ingest.stats().send_bytes, 0, "its answers are gone with it");
    honest.send_all(&mut server, &submit(1, None, b"x"));
    server.until("the honest frame", |s| s.owner.seen.len() == 1);
    server.ack_all();
    assert_eq!(honest.expect(&mut server, 1).len(), 1);

    // One that stops reading, but gets few answers, is found by time.
    let stuck = server.owner.opened[1];
    honest.peer.stop_reading();
    let mut few = 0;
    server.until("a send that waits", |s| {
        if s.ingest.stats().send_bytes == 0 {
            for _ in 0..1_000 {
                few += 1;
                s.ingest.send_ack(stuck, &included(few, few));
            }
        }
        s.turn() == 0 && s.ingest.stats().send_bytes > 0
    });
    server.pass_ms(10_001);
    server.until("the end", |s| s.owner.closed.contains_key(&stuck));
    assert_eq!(server.owner.closed[&stuck], reason);
}

fn timeouts_end_what_stands_still<H: Harness>() {
    let mut server = Server::<H>::new(8, IngestConfig::default());
    let mut silent = server.connect();
    let mut slow = server.greet();
    let mut idle = server.greet();
    let mut waiting = server.greet();
    slow.send_all(&mut server, &submit(1, None, b"never finished")[..12]);
    waiting.send_all(&mut server, &submit(2, None, b"x"));
    server.until("all", |s| s.ingest.stats().connections == 4 && s.owner.seen.len() == 1);
    server.turn();

    server.pass_ms(4_970);
    server.turn();
    assert_eq!(server.ingest.stats().connections, 4);
    server.pass_ms(31);
    assert_eq!(silent.goaway(&mut server), Some(GoawayReason::HandshakeTimeout as u8));
    // A byte now and then does not help.
    slow.send_all(&mut server, &submit(1, None, b"never finished")[12..13]);
    server.turn();
    server.pass_ms(5_000);
    assert_eq!(slow.goaway(&mut server), Some(GoawayReason::FrameTimeout as u8));
    server.pass_ms(50_000);
    assert_eq!(idle.goaway(&mut server), Some(GoawayReason::IdleTimeout as u8));
    // Who goes on without reading the goodbye is cut off a second later.
    server.pass_ms(1_001);
    server.until("three ends", |s| s.ingest.stats().connections == 1);
    assert!(waiting.frames().is_empty(), "who waits for an answer is not idle");
    server.ack_all();
    assert_eq!(waiting.expect(&mut server, 1).len(), 1);
}

fn connections_are_limited<H: Harness>() {
    let config = IngestConfig { connections_per_address_max: 1_000, ..IngestConfig::default() };
    let mut server = Server::<H>::new(4, config);
    let mut talkers: Vec<_> = (0..4).map(|_| server.greet()).collect();
    let mut refused = server.connect();
    assert_eq!(refused.goaway(&mut server), Some(GoawayReason::ConnectionLimit as u8));
    assert_eq!(server.ingest.stats().dropped(DropReason::Goaway(GoawayReason::ConnectionLimit)), 1);
    let mut last = talkers.pop().expect("some");
    last.peer.close();
    let before = talkers.len();
    server.until("room", |s| s.ingest.stats().connections == before);
    server.greet();
}

fn an_address_is_limited<H: Harness>() {
    let config = IngestConfig { connections_per_address_max: 2, ..IngestConfig::default() };
    let mut server = Server::<H>::new(8, config);
    let mut first = server.greet();
    let _second = server.greet();
    let mut third = server.connect();
    assert_eq!(third.goaway(&mut server), Some(GoawayReason::AddressLimit as u8));
    assert_eq!(server.ingest.stats().dropped(DropReason::Goaway(GoawayReason::AddressLimit)), 1);
    first.peer.close();
    server.until("room", |s| s.ingest.stats().connections == 1);
    server.greet();
}

fn a_hundred_thousand_frames<H: Harness>() {
    const COUNT: u64 = 100_000;
    let mut server = Server::<H>::new(8, IngestConfig::default());
    let mut talker = server.greet();
    let tx = [0x5a; 110];
    let stream: Vec<u8> = (0..COUNT).flat_map(|tag| submit(tag, Some([3; 20]), &tx)).collect();
    let mut left = &stream[..];
    let (mut handled, mut answered) = (0, 0);
    server.until("all answers", |s| {
        // Not more than the window at once.
        if handled - answered < 8_000 && !left.is_empty() {
            let portion = left.len().min(64 * 1024);
            left = &left[talker.peer.send(&left[..portion])..];
        }
        for seen in std::mem::take(&mut s.owner.seen) {
            assert_eq!(seen.tag, handled);
            assert_eq!(seen.tx, tx);
            s.ingest.send_ack(seen.conn, &included(seen.tag, handled));
            handled += 1;
        }
        for frame in talker.frames() {
            assert_eq!(frame, Owned::Ack(included(answered, answered)));
            answered += 1;
        }
        answered == COUNT
    });
    let counters = server.ingest.stats().counters;
    assert_eq!((counters.submits, counters.acks, counters.over_window), (COUNT, COUNT, 0));
    let per_1000 = |n: u64| n as f64 * 1000.0 / COUNT as f64;
    assert!(per_1000(counters.receives) < 20.0, "{} receives", counters.receives);
    assert!(per_1000(counters.transmits) < 20.0, "{} transmits", counters.transmits);
}

fn many_connections_at_once<H: Harness>() {
    let config = IngestConfig { connections_per_address_max: 1_000, ..IngestConfig::default() };
    let mut server = Server::<H>::new(300, config);
    let mut talkers: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for talker in &mut talkers {
        let mut stream = hello();
        (0..50).for_each(|tag| stream.extend(submit(tag, None, &[tag as u8; 200])));
        talker.send_all(&mut server, &stream);
    }
    server.until("all frames", |s| s.owner.seen.len() == 300 * 50);
    server.ack_all();
    for talker in &mut talkers {
        let frames = talker.expect(&mut server, 51);
        assert_eq!(frames.len(), 51);
        assert!(matches!(frames[0], Owned::Welcome(_)));
        for (tag, frame) in frames[1..].iter().enumerate() {
            assert!(matches!(frame, Owned::Ack(ack) if ack.tag == tag as u64));
        }
        talker.peer.close();
    }
    server.until("all ends", |s| s.ingest.stats().connections == 0);
    assert_eq!(server.owner.closed.len(), 300);
}

fn garbage_harms_nobody_else<H: Harness>() {
    let config = IngestConfig { connections_per_address_max: 1_000, ..IngestConfig::default() };
    let mut server = Server::<H>::new(16, config);
    let mut honest = server.greet();
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..60u64 {
        let mut wild = if round % 2 == 0 { server.greet() } else { server.connect() };
        let mut bytes = vec![0u8; rng.random_range(1..200_000)];
        match round % 3 {
            0 => rng.fill_bytes(&mut bytes),
            1 => bytes.fill(0xff),
            _ => {
                // Frames of the largest kind, with bits flipped.
                bytes = submit(round, None, &vec![1; 100_000]);
                for _ in 0..4 {
                    let at = rng.random_range(0..24);
                    bytes[at] ^= 1 << rng.random_range(0..8);
                }
            }
        }
        wild.send_all(&mut server, &bytes);
        honest.send_all(&mut server, &submit(round, None, b"honest"));
        server.until("the honest frame", |s| s.owner.seen.iter().any(|t| t.tx == b"honest"));
        server.ack_all();
        let answers = honest.expect(&mut server, 1);
        assert!(answers.iter().all(|a| matches!(a, Owned::Ack(ack) if ack.tag == round)), "{answers:?}");
        wild.peer.close();
        server.until("the end", |s| s.ingest.stats().connections == 1);
    }
}

fn promises_and_pings<H: Harness>() {
    let mut server = Server::<H>::new(8, IngestConfig::default());
    let mut plain = server.greet();
    let mut keen = server.connect();
    let wants = Hello { version_min: 0, version_max: 3, wants_promises: true };
    keen.send_all(&mut server, &encode(&Repr::Hello(wants)));
    keen.expect(&mut server, 1);
    let ids = server.owner.opened.clone();
    assert_eq!(ids.iter().map(|c| server.ingest.wants_promises(*c)).collect::<Vec<_>>(), [false, true]);
    server.ingest.send_ack(ids[1], &included(1, 1));
    server.ingest.send_promise(ids[1], Promise { tag: 1, bytes: b"signed" });
    keen.send_all(&mut server, &encode(&Repr::Ping(9)));
    let frames = keen.expect(&mut server, 3);
    assert_eq!(frames, [Owned::Ack(included(1, 1)), Owned::Promise(1, b"signed".to_vec()), Owned::Pong(9)]);
    plain.send_all(&mut server, &encode(&Repr::Ping(u64::MAX)));
    assert_eq!(plain.expect(&mut server, 1), [Owned::Pong(u64::MAX)]);
}

fn stopping_tells_everyone<H: Harness>() {
    let mut server = Server::<H>::new(8, IngestConfig::default());
    let mut a = server.greet();
    let mut b = server.connect();
    server.until("both", |s| s.ingest.stats().connections == 2);
    server.ingest.shut_down();
    server.ingest.flush();
    for talker in [&mut a, &mut b] {
        assert_eq!(talker.goaway(&mut server), Some(GoawayReason::ShuttingDown as u8));
        talker.peer.close();
    }
    server.until("both ends", |s| s.ingest.stats().connections == 0);
    assert_eq!(server.ingest.stats().dropped(DropReason::Goaway(GoawayReason::ShuttingDown)), 2);
}

fn answers_for_the_gone_are_counted<H: Harness>() {
    let mut server = Server::<H>::new(1, IngestConfig::default());
    let mut first = server.greet();
    let gone = server.owner.opened[0];
    first.send_all(&mut server, &submit(1, None, b"x"));
    server.until("the frame", |s| s.owner.seen.len() == 1);
    first.peer.close();
    server.until("the end", |s| s.owner.closed.contains_key(&gone));
    // The next connection may get the same place, never the same number.
    let mut second = server.greet();
    assert_ne!(server.owner.opened[1], gone);
    server.ack_all();
    server.ingest.resume(gone);
    server.turn();
    assert_eq!(server.ingest.stats().counters.answers_undeliverable, 1);
    assert!(second.frames().is_empty(), "it must not get another's answer");
}
