//! The client library against a server that runs on its own thread.

use ironlane_netstack::wire::{Ack, AckStatus, GoawayReason, Promise, Welcome};
use ironlane_netstack::{
    Client, ClientConfig, ClientError, ConnId, Event, Flow, IngestConfig, TcpConfig, TcpIngest,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Answers every transaction with success, and its length as gas; transactions that begin with 0xff are rejected.
struct Echo {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Echo {
    fn start(config: IngestConfig) -> Echo {
        let welcome = Welcome {
            version: 0,
            frame_bytes_max: 0,
            window: 0,
            chain_id: 31_337,
            sequencer: [7; 20],
            durability: "none".into(),
        };
        let mut ingest = TcpIngest::bind(([127, 0, 0, 1], 0).into(), TcpConfig::default(), config, welcome)
            .expect("io_uring is there");
        let addr = ingest.local_addr();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            let mut seq = 0;
            let mut answers: Vec<(ConnId, Ack)> = Vec::new();
            let mut leaving = false;
            loop {
                let now = start.elapsed().as_nanos() as u64;
                let worked = ingest.poll(now, 64, &mut |conn, event| {
                    if let Event::Submit(submit) = event {
                        answers.push((conn, answer(submit.tag, submit.tx, seq)));
                        seq += u64::from(submit.tx[0] != 0xff);
                    }
                    Flow::Accept
                });
                for (conn, ack) in answers.drain(..) {
                    if ingest.wants_promises(conn) && ack.status == AckStatus::Success {
                        let bytes = ack.seq.to_be_bytes();
                        ingest.send_promise(conn, Promise { tag: ack.tag, bytes: &bytes });
                    }
                    ingest.send_ack(conn, &ack);
                }
                ingest.flush();
                ingest.housekeep(now);
                if stopped.load(Ordering::Relaxed) && !leaving {
                    leaving = true;
                    ingest.shut_down();
                }
                if worked == 0 {
                    if leaving && ingest.stats().connections == 0 {
                        return seq;
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        Echo { addr, stop, thread: Some(thread) }
    }

    /// Stops, and says how many transactions were included.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("runs").join().expect("no panic")
    }
}

fn answer(tag: u64, tx: &[u8], seq: u64) -> Ack {
    if tx[0] == 0xff {
        return Ack::rejected(tag, 13);
    }
    Ack {
        tag,
        status: AckStatus::Success,
        reject: 0,
        seq,
        mini_block: 1,
        position: seq as u32,
        gas_used: tx.len() as u64,
    }
}

#[test]
fn one_thread_submits_more_than_the_window_and_gets_every_answer() {
    let echo = Echo::start(IngestConfig { window: 64, ..IngestConfig::default() });
    let mut client = Client::connect(echo.addr, &ClientConfig::default()).expect("connects");
    assert_eq!((client.welcome().chain_id, client.welcome().window), (31_337, 64));
    let mut acks = Vec::new();
    let mut tags = Vec::new();
    for i in 0..1_000usize {
        tags.push(client.submit(&vec![(i % 255) as u8; 1 + i % 300], None).expect("submits"));
    }
    tags.push(client.submit(&[0xff], Some([1; 20])).expect("submits"));
    while acks.len() < tags.len() {
        assert!(client.receive(&mut acks).expect("answers") > 0);
    }
    assert_eq!(acks.iter().map(|a| a.tag).collect::<Vec<_>>(), tags, "in order, each once");
    for (i, ack) in acks[..1_000].iter().enumerate() {
        assert_eq!((ack.status, ack.gas_used), (AckStatus::Success, 1 + i as u64 % 300));
    }
    assert_eq!(acks[1_000], Ack::rejected(1_000, 13));
    assert_eq!(client.receive(&mut acks).expect("nothing in flight"), 0);
    for bad in [0, 131_073] {
        let error = client.submit(&vec![0; bad], None).expect_err("cannot be sent");
        assert!(matches!(error, ClientError::BadTransaction { bytes } if bytes == bad), "{error}");
    }
    client.submit(&vec![1; 131_072], None).expect("the largest can");
    client.receive(&mut acks).expect("answer");
    assert_eq!(acks.last().map(|a| a.gas_used), Some(131_072));
    drop(client);
    assert_eq!(echo.stop(), 1_001);
}

#[test]
fn two_threads_share_a_connection() {
    let echo = Echo::start(IngestConfig::default());
    let client = Client::connect(echo.addr, &ClientConfig::default()).expect("connects");
    let (mut sender, mut receiver) = client.split();
    let reader = std::thread::spawn(move || {
        let mut acks = Vec::new();
        while acks.len() < 50_000 {
            receiver.receive(&mut acks).expect("answers");
        }
        acks
    });
    let tx = [9u8; 120];
    for tag in 0..50_000u64 {
        loop {
            match sender.submit(tag, &tx, None) {
                Ok(()) => break,
                Err(ClientError::WindowFull { .. }) => {
                    sender.flush().expect("sends");
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    sender.flush().expect("sends");
    let acks = reader.join().expect("no panic");
    assert!(acks.iter().enumerate().all(|(i, a)| a.tag == i as u64));
    assert_eq!(sender.in_flight(), 0);
    sender.close();
    assert_eq!(echo.stop(), 50_000);
}

#[test]
fn promises_are_checked() {
    let echo = Echo::start(IngestConfig::default());
    let config = ClientConfig { wants_promises: true, ..ClientConfig::default() };
    let mut client = Client::connect(echo.addr, &config).expect("connects");
    // The echo's "promise" is the sequence number; the third is declared false.
    client.check_promises(Box::new(|node: &Welcome, promise: &Promise<'_>| {
        assert_eq!(node.sequencer, [7; 20]);
        match promise.bytes {
            [.., 2] => Err("the signature is another key's".to_owned()),
            _ => Ok(()),
        }
    }));
    for _ in 0..3 {
        client.submit(b"tx", None).expect("submits");
    }
    let mut acks = Vec::new();
    let error = loop {
        match client.receive(&mut acks) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, ClientError::Promise { tag: 2, why } if why.contains("another key")), "{error}");
    assert_eq!(acks.len(), 2);
    drop(client);
    echo.stop();
}

#[test]
fn errors_say_what_is_wrong() {
    // Nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let error = Client::connect(free, &ClientConfig::default()).expect_err("nobody is there");
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");

    // Not this protocol: a listener that speaks HTTP, and one that says nothing.
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let addr = other.local_addr().expect("an address");
    let quick = ClientConfig { connect_timeout: Duration::from_millis(200), ..ClientConfig::default() };
    let speaker = std::thread::spawn(move || {
        use std::io::Write;
        let (mut a, _) = other.accept().expect("accepts");
        a.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("writes");
        let (b, _) = other.accept().expect("accepts");
        std::thread::sleep(Duration::from_millis(400));
        drop((a, b));
    });
    let error = Client::connect(addr, &quick).expect_err("another protocol");
    assert!(matches!(error, ClientError::Wire(_)), "{error}");
    let error = Client::connect(addr, &quick).expect_err("silence");
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    speaker.join().expect("no panic");

    // The node refuses, or stops.
    let echo = Echo::start(IngestConfig { connections_per_address_max: 1, ..IngestConfig::default() });
    let mut first = Client::connect(echo.addr, &ClientConfig::default()).expect("connects");
    let error = Client::connect(echo.addr, &ClientConfig::default()).expect_err("one an address");
    match error {
        ClientError::Goaway { reason, .. } => assert_eq!(reason, Some(GoawayReason::AddressLimit)),
        other => panic!("{other}"),
    }
    first.submit(b"x", None).expect("submits");
    let mut acks = Vec::new();
    first.receive(&mut acks).expect("answer");
    let stopping = std::thread::spawn(move || echo.stop());
    // In flight while the node says goodbye.
    let error = loop {
        match first.submit(b"x", None).and_then(|_| first.receive(&mut acks)) {
            Ok(_) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, ClientError::Goaway { reason: Some(GoawayReason::ShuttingDown), .. }),
        "{error}"
    );
    drop(first);
    stopping.join().expect("no panic");
}
