#![allow(unsafe_code)]
//! RLIMIT_NOFILE reached: new connections are refused, the others go on. Alone in its file: the limit is the process's.

mod common;

use common::*;
use ironlane_netstack::{DropReason, IngestConfig};
use std::fs::File;
use std::net::TcpStream;
use std::time::Duration;

fn limit_descriptors(to: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid `rlimit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = to;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[test]
fn without_descriptors_new_connections_are_refused_and_the_others_go_on() {
    // First, because the kernel looks at the limit when an accept is armed.
    limit_descriptors(std::fs::read_dir("/proc/self/fd").expect("proc").count() as u64 + 60);
    let config = IngestConfig { connections_per_address_max: 1_000, ..IngestConfig::default() };
    let mut server = Server::<OverTcp>::new(64, config);
    let mut honest = server.greet();
    let mut fillers = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        fillers.push(file);
    }
    fillers.truncate(fillers.len() - 12);
    // The clients' sockets take descriptors too: once none is left, each is given one, and the node's end finds none.
    let addr = server.ingest.local_addr();
    let mut waiting = Vec::new();
    while waiting.len() < 20 {
        match TcpStream::connect(addr) {
            Ok(stream) => waiting.push(stream),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                fillers.pop().expect("enough for every client");
            }
        }
    }
    server.until("refusals", |s| s.ingest.stats().dropped(DropReason::NoDescriptor) > 0);
    for _ in 0..20 {
        server.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    let taken = server.ingest.stats().connections - 1;
    let refused = server.ingest.stats().dropped(DropReason::NoDescriptor);
    assert_eq!(taken as u64 + refused, 20, "each was taken or refused");
    assert!(taken < 20 && refused > 0);
    honest.send_all(&mut server, &submit(1, None, b"x"));
    server.until("the honest frame", |s| s.owner.seen.len() == 1);
    server.ack_all();
    assert_eq!(honest.expect(&mut server, 1).len(), 1);
    // Without new connections nothing spins.
    let mut idle = 0;
    for _ in 0..100 {
        idle += usize::from(server.turn() == 0);
    }
    assert!(idle > 90, "{idle} of 100 turns had nothing to do");

    // Room again: the clients go, then new ones come in.
    drop(fillers);
    drop(waiting);
    server.until("room", |s| s.ingest.stats().connections == 1);
    server.greet();
}
