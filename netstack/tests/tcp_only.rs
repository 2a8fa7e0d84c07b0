#![allow(unsafe_code)]
//! What only real sockets can do: descriptors, resets, sleeping on the ring.

mod common;

use common::*;
use ironlane_netstack::{DropReason, IngestConfig};
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

type TcpServer = Server<OverTcp>;

/// Waits until the descriptor is readable; `false` after the timeout.
fn readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one `pollfd` is passed, with the count 1.
    unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a `linger`, with its size.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn the_wake_descriptor_is_readable_exactly_while_there_is_work() {
    let mut server = TcpServer::new(8, IngestConfig::default());
    let fd = server.ingest.wake_fd().expect("a ring has one");
    while server.turn() > 0 {}
    assert!(!readable(fd, 20), "nothing to do");

    let mut stream = TcpStream::connect(server.ingest.local_addr()).expect("connects");
    assert!(readable(fd, 2_000), "a connection waits");
    while server.turn() > 0 {}
    assert!(!readable(fd, 20));

    for round in 0..50u64 {
        let bytes = if round == 0 { hello() } else { submit(round, None, b"x") };
        stream.write_all(&bytes).expect("sends");
        assert!(readable(fd, 2_000), "bytes wait in round {round}");
        while server.turn() > 0 {}
        assert!(!readable(fd, 0), "all was taken in round {round}");
    }
    assert_eq!(server.owner.seen.len(), 49);

    // While a connection is paused, its bytes wake nobody.
    server.owner.room = Some(0);
    stream.write_all(&submit(90, None, b"x")).expect("sends");
    assert!(readable(fd, 2_000));
    while server.turn() > 0 {}
    stream.write_all(&submit(91, None, b"x")).expect("sends");
    assert!(!readable(fd, 50), "paused");
    server.owner.room = None;
    server.ingest.resume_all();
    server.until("both", |s| s.owner.seen.len() == 51);
    drop(stream);
    assert!(readable(fd, 2_000), "the end wakes");
    server.until("the end", |s| s.ingest.stats().connections == 0);
}

#[test]
fn who_sleeps_on_the_wake_descriptor_is_woken_at_once() {
    let mut server = TcpServer::new(8, IngestConfig::default());
    let fd = server.ingest.wake_fd().expect("a ring has one");
    let mut stream = TcpStream::connect(server.ingest.local_addr()).expect("connects");
    stream.write_all(&hello()).expect("sends");
    server.until("the connection", |s| s.owner.opened.len() == 1);
    while server.turn() > 0 {}
    let pause = Duration::from_millis(10);
    let writer = std::thread::spawn(move || {
        for tag in 0..50 {
            std::thread::sleep(pause);
            stream.write_all(&submit(tag, None, b"x")).expect("sends");
        }
        stream
    });
    let mut asleep = Duration::ZERO;
    while server.owner.seen.len() < 50 {
        let since = Instant::now();
        assert!(readable(fd, 5_000), "bytes came, and nobody was woken");
        let slept = since.elapsed();
        // Waiting out the time-limit also ends with a readable descriptor: what counts is when.
        assert!(slept < Duration::from_secs(2), "slept {slept:?} beside waiting bytes");
        asleep += slept;
        while server.turn() > 0 {}
    }
    assert!(asleep > pause * 25, "it did sleep: {asleep:?}");
    drop(writer.join().expect("no panic"));
}

#[test]
fn resets_at_any_moment_leave_nothing_behind() {
    let mut server = TcpServer::new(8, IngestConfig::default());
    let mut honest = server.greet();
    let addr = server.ingest.local_addr();
    for round in 0..200usize {
        let mut stream = TcpStream::connect(addr).expect("connects");
        let bytes = [hello(), submit(1, None, &[1; 5_000])].concat();
        stream.write_all(&bytes[..round * bytes.len() / 200]).expect("sends");
        if round % 3 == 0 {
            server.turn();
        }
        reset(stream);
        server.turn();
    }
    server.until("all ends", |s| s.ingest.stats().connections == 1);
    assert!(server.ingest.stats().dropped(DropReason::Broken) > 0, "resets were seen");
    server.owner.seen.clear();
    honest.send_all(&mut server, &submit(3, None, b"x"));
    server.until("the honest frame", |s| s.owner.seen.len() == 1);
    server.ack_all();
    assert_eq!(honest.expect(&mut server, 1).len(), 1);
}

#[test]
fn a_server_is_opened_on_one_thread_and_polled_on_another() {
    let device = <OverTcp as Harness>::open(8);
    let addr = device.local_addr();
    let handle = std::thread::spawn(move || {
        let mut device = device;
        let limit = Instant::now() + Duration::from_secs(10);
        let mut received = 0;
        while received < 5 && Instant::now() < limit {
            use ironlane_netstack::{Device, DeviceEvent, DeviceFlow};
            device.poll(16, &mut |_, event| {
                if let DeviceEvent::Bytes(bytes) = event {
                    received += bytes.len();
                }
                DeviceFlow::Go
            });
        }
        received
    });
    let mut stream = TcpStream::connect(addr).expect("connects");
    stream.write_all(b"12345").expect("sends");
    assert_eq!(handle.join().expect("no panic"), 5);
}

#[test]
fn dropping_with_requests_under_way_is_clean() {
    let mut server = TcpServer::new(8, IngestConfig::default());
    let mut lazy = server.greet();
    lazy.peer.stop_reading();
    let conn = server.owner.opened[0];
    server.until("a send that waits", |s| {
        (0..2_000).for_each(|tag| s.ingest.send_ack(conn, &included(tag, tag)));
        s.turn();
        s.ingest.stats().send_bytes > 1 << 20
    });
    drop(server);
    let bytes = lazy.peer.receive();
    assert!(bytes.is_empty(), "it does not read");
}

#[test]
fn two_on_one_address_is_an_error_that_says_so() {
    let server = TcpServer::new(1, IngestConfig::default());
    let addr = server.ingest.local_addr();
    let error = ironlane_netstack::TcpDevice::bind(addr, ironlane_netstack::TcpConfig::default())
        .expect_err("the address is taken");
    let text = error.to_string();
    assert!(text.contains(&addr.to_string()) && text.contains("choose a free address"), "{text}");
}

#[test]
fn more_requests_than_the_ring_holds_are_not_lost() {
    // Eight submission entries for forty connections that are welcomed, paused, resumed and answered together.
    let config = ironlane_netstack::TcpConfig { ring_entries: 8, ..ironlane_netstack::TcpConfig::default() };
    let device =
        ironlane_netstack::TcpDevice::bind(([127, 0, 0, 1], 0).into(), config).expect("io_uring is there");
    let limits = IngestConfig { connections_per_address_max: 100, ..IngestConfig::default() };
    let mut server = TcpServer::over(device, limits);
    server.owner.room = Some(0);
    let mut talkers: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for talker in &mut talkers {
        talker.send_all(&mut server, &[hello(), submit(1, None, &[1; 300]), submit(2, None, b"x")].concat());
    }
    server.until("all to be paused", |s| s.ingest.paused() == 40);
    server.owner.room = None;
    server.ingest.resume_all();
    server.until("all frames", |s| s.owner.seen.len() == 80);
    server.ack_all();
    for talker in &mut talkers {
        assert_eq!(talker.expect(&mut server, 3).len(), 3);
    }
}
