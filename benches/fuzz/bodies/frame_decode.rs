//! Ingest frames from an attacker: the decoder, and the whole server over the loopback device.
//!
//! The first byte chooses how the rest is cut into receives; what the
//! server makes of the bytes must not depend on that.
use ironlane_netstack::wire::{Frame, Hello, Repr, VERSION, Welcome};
use ironlane_netstack::{Event, Flow, Ingest, IngestConfig, Loopback};

pub(crate) fn check(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    decoder(bytes);
    let whole = server(bytes, bytes.len().max(1));
    let pieces = server(bytes, usize::from(cut) + 1);
    assert_eq!(whole, pieces, "the cut of a stream changes its meaning");
}

/// Whatever has a meaning is exactly what that meaning is written as.
fn decoder(bytes: &[u8]) {
    let mut at = 0;
    while let Ok(frame) = Frame::new_checked(&bytes[at..]) {
        if let Ok(repr) = Repr::parse(&frame) {
            let mut again = Vec::new();
            repr.emit(&mut again);
            assert_eq!(again, bytes[at..at + frame.total_bytes()]);
        }
        at += frame.total_bytes();
    }
}

/// One transaction as the sink sees it: tag, hint, bytes.
type Seen = (u64, Option<[u8; 20]>, Vec<u8>);

/// The transactions that reach the sink, and the bytes that the client gets, when `bytes` follow a Hello.
fn server(bytes: &[u8], piece: usize) -> (Vec<Seen>, Vec<u8>) {
    let welcome = Welcome {
        version: 0,
        frame_bytes_max: 0,
        window: 0,
        chain_id: 1,
        sequencer: [0; 20],
        durability: String::new(),
    };
    let config = IngestConfig { window: 16, ..IngestConfig::default() };
    let mut ingest = Ingest::new(Loopback::new(1), config, welcome).expect("the limits make sense");
    let peer = ingest.device_mut().connect().expect("there is room for one");
    let mut hello = Vec::new();
    Repr::Hello(Hello { version_min: VERSION, version_max: VERSION, wants_promises: false }).emit(&mut hello);
    peer.send(&hello);
    bytes.chunks(piece).for_each(|piece| peer.send(piece));
    let mut seen: Vec<Seen> = Vec::new();
    let mut turn = |ingest: &mut Ingest<Loopback>| {
        ingest.poll(1, 16, &mut |_, event| {
            if let Event::Submit(submit) = event {
                seen.push((submit.tag, submit.hint, submit.tx.to_vec()));
            }
            Flow::Accept
        })
    };
    while turn(&mut ingest) > 0 {
        ingest.flush();
    }
    (seen, peer.receive())
}
