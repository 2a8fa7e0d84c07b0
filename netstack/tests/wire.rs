//! The wire format against a second decoder, written naively from the text of `docs/formats.md`.

use ironlane_netstack::wire::{
    Ack, AckStatus, Frame, Goaway, GoawayReason, HEADER_BYTES, Hello, Kind, Promise, REJECT_RATE_LIMITED,
    Repr, Submit, TX_BYTES_MAX, Welcome, WireError,
};
use proptest::prelude::*;

/// What the naive decoder says about the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    NeedsMore,
    Bad,
    /// Kind, flags, payload.
    Whole(u8, u8, Vec<u8>),
}

/// One rule after the other, no cleverness.
fn oracle(bytes: &[u8]) -> Verdict {
    if bytes.len() < 8 {
        return Verdict::NeedsMore;
    }
    let length = bytes[0] as usize
        + bytes[1] as usize * 256
        + bytes[2] as usize * 65_536
        + bytes[3] as usize * 16_777_216;
    let (kind, flags) = (bytes[4], bytes[5]);
    let allowed = match (kind, flags) {
        (0x01, 0 | 1) => 16..=16,
        (0x02, 0) => 9..=8 + 131_072,
        (0x02, 1) => 29..=28 + 131_072,
        (0x03 | 0x85, 0) => 8..=8,
        (0x81, 0) => 45..=76,
        (0x82, 0) => 40..=40,
        (0x83, 0) => 9..=8 + 65_536,
        (0x84, 0) => 1..=201,
        _ => return Verdict::Bad,
    };
    if bytes[6] != 0 || bytes[7] != 0 || !allowed.contains(&length) {
        return Verdict::Bad;
    }
    if bytes.len() < 8 + length {
        return Verdict::NeedsMore;
    }
    Verdict::Whole(kind, flags, bytes[8..8 + length].to_vec())
}

fn ours(bytes: &[u8]) -> Verdict {
    match Frame::new_checked(bytes) {
        Ok(frame) => Verdict::Whole(frame.kind() as u8, frame.flags(), frame.payload().to_vec()),
        Err(error) if error.is_truncated() => Verdict::NeedsMore,
        Err(_) => Verdict::Bad,
    }
}

/// Bytes that are likely to come near a frame.
fn near_frames() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        0u32..300,
        Just(131_072 + 8),
        Just(131_072 + 9),
        Just(131_072 + 28),
        Just(131_072 + 29),
        any::<u32>()
    ];
    let kind = prop_oneof![Just(1u8), Just(2), Just(3), 0x80u8..0x88, any::<u8>()];
    let flags = prop_oneof![4 => 0u8..2, 1 => any::<u8>()];
    let reserved = prop_oneof![9 => Just([0u8, 0]), 1 => any::<[u8; 2]>()];
    (length, kind, flags, reserved, prop::collection::vec(any::<u8>(), 0..320), 0usize..9).prop_map(
        |(length, kind, flags, reserved, payload, cut)| {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend([kind, flags]);
            bytes.extend(reserved);
            bytes.extend(payload);
            let left = bytes.len().saturating_sub(cut * cut);
            bytes.truncate(left.max(cut));
            bytes
        },
    )
}

fn any_ack() -> impl Strategy<Value = Ack> {
    (any::<u64>(), 0u8..3, 1u8..=255, any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>()).prop_map(
        |(tag, status, reject, seq, mini_block, position, gas_used)| match status {
            2 => Ack::rejected(tag, reject),
            n => Ack {
                tag,
                status: if n == 0 { AckStatus::Success } else { AckStatus::Reverted },
                reject: 0,
                seq,
                mini_block,
                position,
                gas_used,
            },
        },
    )
}

fn round_trip(repr: &Repr<'_>) {
    let mut bytes = vec![0xAA; 3];
    repr.emit(&mut bytes);
    bytes.push(0xBB);
    let frame = Frame::new_checked(&bytes[3..]).expect("what is emitted is a frame");
    assert_eq!(frame.total_bytes(), bytes.len() - 4, "nothing beyond the frame is taken");
    assert_eq!(&Repr::parse(&frame).expect("and has its meaning"), repr);
    assert_ne!(oracle(&bytes[3..]), Verdict::Bad);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn both_decoders_agree(bytes in near_frames()) {
        prop_assert_eq!(ours(&bytes), oracle(&bytes));
        if let Ok(frame) = Frame::new_checked(&bytes) {
            // Whatever has a meaning means exactly these bytes.
            if let Ok(repr) = Repr::parse(&frame) {
                let mut again = Vec::new();
                repr.emit(&mut again);
                prop_assert_eq!(&again[..], &bytes[..frame.total_bytes()]);
            }
        }
    }

    #[test]
    fn a_prefix_never_becomes_bad_by_being_short(bytes in near_frames(), keep in 0usize..400) {
        let whole = ours(&bytes);
        let part = ours(&bytes[..keep.min(bytes.len())]);
        prop_assert!(part == Verdict::NeedsMore || part == whole);
    }

    #[test]
    fn acks_round_trip(ack in any_ack()) {
        round_trip(&Repr::Ack(ack));
        let mut emitted = Vec::new();
        Repr::Ack(ack).emit(&mut emitted);
        prop_assert_eq!(&emitted[..], &ack.to_frame()[..]);
    }

    #[test]
    fn submits_round_trip(
        tag in any::<u64>(),
        hint in any::<Option<[u8; 20]>>(),
        tx in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        round_trip(&Repr::Submit(Submit { tag, hint, tx: &tx }));
    }

    #[test]
    fn the_others_round_trip(
        number in any::<u64>(),
        versions in any::<(u16, u16)>(),
        wants_promises in any::<bool>(),
        sequencer in any::<[u8; 20]>(),
        durability in "[a-zäß-]{0,15}",
        bytes in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        let (a, b) = versions;
        round_trip(&Repr::Ping(number));
        round_trip(&Repr::Pong(number));
        round_trip(&Repr::Hello(Hello { version_min: a.min(b), version_max: a.max(b), wants_promises }));
        round_trip(&Repr::Promise(Promise { tag: number, bytes: &bytes }));
        round_trip(&Repr::Goaway(Goaway { code: a as u8, text: &durability }));
        round_trip(&Repr::Welcome(Welcome {
            version: a,
            frame_bytes_max: number as u32,
            window: u32::from(b),
            chain_id: number,
            sequencer,
            durability,
        }));
    }
}

#[test]
fn lengths_at_the_limits() {
    let tx = vec![7u8; TX_BYTES_MAX];
    for hint in [None, Some([1u8; 20])] {
        round_trip(&Repr::Submit(Submit { tag: 1, hint, tx: &tx }));
        let fixed = if hint.is_some() { 28u32 } else { 8 };
        for (length, good) in [
            (0, false),
            (fixed, false),
            (fixed + 1, true),
            (fixed + 131_072, true),
            (fixed + 131_073, false),
            (u32::MAX, false),
        ] {
            let mut header = length.to_le_bytes().to_vec();
            header.extend([2, u8::from(hint.is_some()), 0, 0]);
            let error = Frame::new_checked(&header).expect_err("no payload is there");
            assert_eq!(error.is_truncated(), good, "length {length}: {error}");
            if !good {
                assert_eq!(error.reason(), GoawayReason::BadLength);
            }
        }
    }
}

#[test]
fn payloads_that_mean_nothing_are_refused() {
    let good = Ack {
        tag: 1,
        status: AckStatus::Success,
        reject: 0,
        seq: 2,
        mini_block: 3,
        position: 4,
        gas_used: 5,
    };
    let frame = good.to_frame();
    // (offset in the frame, value, which field is named)
    for (at, value, field) in [(44, 3, "status"), (44, 2, "reject"), (45, 1, "reject"), (45, 255, "reject")] {
        let mut bytes = frame;
        bytes[at] = value;
        let error = Repr::parse(&Frame::new_checked(&bytes).expect("a frame")).expect_err("no meaning");
        assert_eq!(error, WireError::BadField { kind: Kind::Ack, field });
    }
    for at in [46, 47] {
        let mut bytes = frame;
        bytes[at] = 1;
        let error = Repr::parse(&Frame::new_checked(&bytes).expect("a frame")).expect_err("reserved");
        assert_eq!(error, WireError::Reserved(Kind::Ack));
    }
    let mut hello = Vec::new();
    Repr::Hello(Hello { version_min: 1, version_max: 2, wants_promises: false }).emit(&mut hello);
    for (at, value) in [(8, b'X'), (16, 3), (20, 1)] {
        let mut bytes = hello.clone();
        bytes[at] = value;
        assert!(Repr::parse(&Frame::new_checked(&bytes).expect("a frame")).is_err(), "byte {at}");
    }
}

#[test]
fn numbers_of_the_format_never_move() {
    assert_eq!(HEADER_BYTES, 8);
    assert_eq!(REJECT_RATE_LIMITED, 32);
    for kind in Kind::ALL {
        assert_eq!(Kind::from_code(kind as u8), Some(kind));
    }
    for (i, reason) in GoawayReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, i + 1);
        assert_eq!(GoawayReason::from_code(reason as u8), Some(reason));
        assert!(reason.message().len() <= 200);
    }
    let ack = Ack {
        tag: 0x0102030405060708,
        status: AckStatus::Reverted,
        reject: 0,
        seq: 0x1112131415161718,
        mini_block: 0x2122232425262728,
        position: 0x31323334,
        gas_used: 0x4142434445464748,
    };
    let hex: String = ack.to_frame().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "2800000082000000080706050403020118171615141312112827262524232221484746454443424134333231\
         01000000"
    );
}
