//! The list of faults.

use super::{As, Caps, Change, Deliver, Fault, Hang, Kind, Post, Queue, Reset, Scribble, TARGETS, When};
use crate::abi::status;
use std::time::Duration;

/// Later than any deadline of the validation kit.
const TOO_LATE: Duration = Duration::from_secs(30);

/// Every fault, in a fixed order.
pub fn all() -> Vec<Fault> {
    let mut list = List(Vec::new());
    list.arithmetic();
    list.edges();
    list.statuses();
    list.tags();
    list.delivery();
    list.rings();
    list.memory();
    list.life();
    list.0
}

struct List(Vec<Fault>);

impl List {
    fn add(&mut self, family: &'static str, name: impl Into<String>, what: impl Into<String>, kind: Kind) {
        self.0.push(Fault { name: name.into(), family, what: what.into(), kind });
    }

    fn arithmetic(&mut self) {
        for bit in (0..512).step_by(17) {
            let kind = Kind::Change(When::Always, Change::KeyBit(bit));
            self.add(
                "arithmetic",
                format!("key-bit-{bit}-always"),
                format!("bit {bit} of the key is wrong"),
                kind,
            );
        }
        for bit in (0..160).step_by(8) {
            let kind = Kind::Change(When::Always, Change::AddressBit(bit));
            self.add(
                "arithmetic",
                format!("address-bit-{bit}-always"),
                format!("bit {bit} of the address is wrong"),
                kind,
            );
        }
        for (name, what, change) in [
            ("signer-negated", "answers -Q with its right address", Change::Negate),
            ("key-swapped", "exchanges x and y", Change::SwapXy),
            ("key-reversed", "writes the key in the other byte order", Change::KeyReversed),
            ("address-front", "takes the first 20 bytes of the hash", Change::AddressFront),
            ("address-prefixed", "hashes the key with its 0x04 prefix", Change::AddressOfPrefixed),
            ("address-compressed", "hashes the compressed key", Change::AddressOfCompressed),
            ("address-of-x", "hashes x alone", Change::AddressOfX),
            ("address-reversed", "writes the address in the other byte order", Change::AddressReversed),
            ("address-missing", "leaves the address zero", Change::AddressZero),
            ("key-missing", "leaves the key zero", Change::KeyZero),
            ("always-generator", "answers G for everything", Change::Generator),
            ("previous-answer", "answers with the result before", Change::Previous),
            ("previous-key", "answers with the key before and the right address", Change::PreviousKey),
            (
                "previous-address",
                "answers with the address before and the right key",
                Change::PreviousAddress,
            ),
        ] {
            self.add("arithmetic", name, what, Kind::Change(When::Always, change));
        }
        for (name, what, input) in [
            ("other-parity", "takes the other R", As::OtherParity),
            ("ignores-parity", "takes every parity for 0", As::ParityZero),
            ("hash-reversed", "reads the hash in the other byte order", As::HashReversed),
            ("hash-plus-one", "adds one to the hash", As::HashPlusOne),
            ("hash-ignored", "takes every hash for zero", As::HashZero),
            ("hash-low", "drops the hash's first byte", As::HashLow31),
            ("hash-high", "drops the hash's last byte", As::HashHigh31),
            ("hash-255-bits", "drops the hash's first bit", As::HashAnd(0x7f)),
            ("r-plus-one", "takes r + 1", As::RPlusOne),
            ("s-plus-one", "takes s + 1", As::SPlusOne),
            ("s-minus-one", "takes s - 1", As::SMinusOne),
            ("s-negated", "takes -s", As::SNegated),
            ("r-s-swapped", "exchanges r and s", As::SwapRs),
            ("hash-negated", "takes -hash", As::HashNegated),
            ("hash-words", "reads the hash's words rotated", As::HashWords),
        ] {
            self.add("arithmetic", name, what, Kind::Change(When::Always, Change::As(input)));
        }
    }

    /// Right nearly always.
    fn edges(&mut self) {
        for (name, what, when) in [
            ("hash-zero", "the hash is zero", When::HashZero),
            ("hash-above-order", "the hash is at least n", When::HashAtLeastOrder),
            ("s-one", "s is 1", When::SAtMost(1)),
            ("s-tiny", "s is below 256", When::SAtMost(255)),
            ("s-half", "s is (n-1)/2", When::SHalf),
            ("s-is-r", "s equals r", When::SEqualsR),
            ("r-small", "r is below p - n", When::RSmall),
            ("r-large", "r is above n/2", When::RAtLeastHalf),
            ("parity-one", "the parity is 1", When::ParityOne),
            ("hash-leading-zero", "the hash begins with a zero byte", When::HashLeadingZero),
            ("r-leading-zero", "r begins with a zero byte", When::RLeadingZero),
            ("s-leading-zero", "s begins with a zero byte", When::SLeadingZero),
            ("x-leading-zero", "the key's x begins with a zero byte", When::KeyXLeadingZero),
            ("y-leading-zero", "the key's y begins with a zero byte", When::KeyYLeadingZero),
            ("address-leading-zero", "the address begins with a zero byte", When::AddressLeadingZero),
            ("key-is-g", "the key is G", When::KeyIsMultiple(1)),
            ("key-is-2g", "the key is 2G", When::KeyIsMultiple(2)),
            ("key-is-3g", "the key is 3G", When::KeyIsMultiple(3)),
            ("key-is-minus-g", "the key is -G", When::KeyIsMinusG),
            ("doubling", "the final addition is a doubling", When::Doubling),
            ("repeated-hash", "the hash is the one before", When::Repeated),
            ("tag-above-32-bits", "the tag needs more than 32 bits", When::TagAbove32),
            ("tag-zero", "the tag is zero", When::TagZero),
            ("tag-max", "the tag is all ones", When::TagMax),
            ("lap-end", "the entry is the ring's last", When::LapEnd),
            ("lap-start", "the entry is the ring's first, after a wrap", When::LapStart),
            ("every-17th", "it is every 17th request", When::Every(17)),
            ("every-256th", "it is every 256th request", When::Every(256)),
            ("every-1000th", "it is every 1000th request", When::Every(1_000)),
            ("after-1024", "1024 requests were served", When::After(1_024)),
            ("after-2500", "2500 requests were served", When::After(2_500)),
            ("burst-at-700", "it is one of the requests 700 to 707", When::Burst(700, 8)),
        ] {
            let wrong = Kind::Change(when, Change::As(As::HashPlusOne));
            self.add("edge", format!("wrong-if-{name}"), format!("a wrong signer where {what}"), wrong);
        }
        for (name, what, when) in [
            ("hash-zero", "the hash is zero", When::HashZero),
            ("r-small", "r is below p - n", When::RSmall),
            ("doubling", "the final addition is a doubling", When::Doubling),
            ("key-is-g", "the key is G", When::KeyIsMultiple(1)),
            ("every-500th", "it is every 500th request", When::Every(500)),
        ] {
            let refused = Kind::Change(when, Change::Status(status::NO_KEY));
            self.add(
                "edge",
                format!("no-key-if-{name}"),
                format!("says that there is no key where {what}"),
                refused,
            );
        }
    }

    fn statuses(&mut self) {
        let named = [
            ("parity", status::BAD_PARITY),
            ("r", status::BAD_R),
            ("s", status::BAD_S),
            ("high-s", status::HIGH_S),
            ("no-key", status::NO_KEY),
        ];
        let forms = [
            ("malformed", status::MALFORMED),
            ("stale", status::STALE_EPOCH),
            ("op", status::BAD_OP),
            ("flags", status::BAD_FLAGS),
            ("length", status::BAD_LENGTH),
        ];
        for (name, bad) in named.iter().chain(&forms) {
            let kind = Kind::Status(*bad, status::OK);
            self.add("status", format!("{name}-said-valid"), format!("status {bad} becomes OK"), kind);
            let kind = Kind::Status(status::OK, *bad);
            self.add("status", format!("valid-said-{name}"), format!("OK becomes status {bad}"), kind);
        }
        for group in [&named, &forms] {
            for (from_name, from) in group {
                for (to_name, to) in group.iter().filter(|(_, to)| to != from) {
                    self.add(
                        "status",
                        format!("{from_name}-said-{to_name}"),
                        format!("status {from} becomes {to}"),
                        Kind::Status(*from, *to),
                    );
                }
            }
        }
        for (from_name, from) in [("valid", status::OK), ("no-key", status::NO_KEY), ("op", status::BAD_OP)] {
            for to in [6, 15, 21, status::INTERNAL, status::CANCELLED, 34, 0xffff] {
                self.add(
                    "status",
                    format!("{from_name}-said-{to}"),
                    format!("status {from} becomes {to}"),
                    Kind::Status(from, to),
                );
            }
        }
    }

    fn tags(&mut self) {
        for bit in [0, 1, 7, 15, 31, 32, 47, 63] {
            let kind = Kind::Deliver(When::Every(5), Deliver::TagXor(1 << bit));
            self.add("tag", format!("tag-bit-{bit}"), format!("bit {bit} of every fifth tag is wrong"), kind);
        }
        for bits in [16, 32, 48, 63] {
            let kind = Kind::Deliver(When::Always, Deliver::TagAnd((1 << bits) - 1));
            self.add("tag", format!("tag-{bits}-bits"), format!("tags are cut to {bits} bits"), kind);
        }
        for (name, what, when, how) in [
            ("swap-tags-pairs", "exchanges the tags of neighbours", When::Always, Deliver::SwapTags),
            ("swap-tags-every-50", "now and then exchanges two tags", When::Every(50), Deliver::SwapTags),
            ("tag-of-previous", "answers under the tag before", When::Always, Deliver::TagOfPrevious),
            (
                "tag-of-previous-every-9",
                "sometimes answers under the tag before",
                When::Every(9),
                Deliver::TagOfPrevious,
            ),
            ("op-echo", "names another operation", When::Always, Deliver::OpXor(1)),
            ("op-echo-high", "names an impossible operation", When::Every(11), Deliver::OpXor(0x8000)),
            (
                "stale-epoch-in-completion",
                "names the epoch before",
                When::Every(40),
                Deliver::EpochAdd(u32::MAX),
            ),
            ("epoch-plus-one", "names the next epoch", When::Always, Deliver::EpochAdd(1)),
        ] {
            self.add("tag", name, what, Kind::Deliver(when, how));
        }
        for at in [0, 1, 7, 13, 19] {
            let kind = Kind::Deliver(When::Every(3), Deliver::Reserved(at));
            self.add(
                "tag",
                format!("reserved-{at}"),
                format!("reserved byte {at} of completions is set"),
                kind,
            );
        }
    }

    fn delivery(&mut self) {
        for n in [1, 2, 7, 64, 65, 1_000] {
            let when = When::Every(n);
            for (name, what, how) in [
                ("lost", "is not completed", Deliver::Lost),
                ("duplicate", "is completed twice", Deliver::Twice),
                ("late", "is completed far too late", Deliver::Late(TOO_LATE)),
            ] {
                let kind = Kind::Deliver(when, how);
                self.add(
                    "delivery",
                    format!("{name}-every-{n}"),
                    format!("every {n}th request {what}"),
                    kind,
                );
            }
        }
        for ms in [1, 20] {
            let how = Deliver::TwiceLater(Duration::from_millis(ms));
            let what = format!("every 100th request is completed again {ms} ms later");
            self.add("delivery", format!("again-after-{ms}-ms"), what, Kind::Deliver(When::Every(100), how));
        }
        for (name, what, when) in [
            ("lost-if-lap-end", "loses the ring's last entry", When::LapEnd),
            ("lost-if-lap-start", "loses the ring's first entry after a wrap", When::LapStart),
            ("lost-if-tag-zero", "loses tag zero", When::TagZero),
            ("lost-if-hash-zero", "loses requests with hash zero", When::HashZero),
            ("lost-after-2000", "loses everything after 2000 requests", When::After(2_000)),
        ] {
            self.add("delivery", name, what, Kind::Deliver(when, Deliver::Lost));
        }
        let kind = Kind::Deliver(When::Always, Deliver::Held);
        self.add("delivery", "one-behind", "holds each completion until the next one", kind);
    }

    fn rings(&mut self) {
        for bit in [1, 8, 31] {
            self.add(
                "phase",
                if bit == 1 { "seal-upper-bit".into() } else { format!("seal-bit-{bit}") },
                format!("bit {bit} of the seal is set"),
                Kind::Post(Post::SealBit(bit)),
            );
        }
        for (name, what, post) in [
            ("phase-one", "the phase is always 1", Post::PhaseAlwaysOne),
            ("phase-zero", "the phase is always 0", Post::PhaseAlwaysZero),
            ("phase-inverted", "the phase is inverted", Post::PhaseInvertedFromLap(0)),
            (
                "phase-inverted-lap-1",
                "the phase is inverted from the second lap on",
                Post::PhaseInvertedFromLap(1),
            ),
            (
                "phase-inverted-lap-3",
                "the phase is inverted from the fourth lap on",
                Post::PhaseInvertedFromLap(3),
            ),
            ("phase-inverted-every-9", "every ninth phase is inverted", Post::PhaseInvertedEvery(9)),
            ("phase-inverted-every-500", "every 500th phase is inverted", Post::PhaseInvertedEvery(500)),
            ("torn", "the seal is written before the rest", Post::Torn(Duration::from_millis(2))),
            ("skips-slots", "leaves every tenth slot out", Post::SkipSlotEvery(10)),
            ("skips-slot-late", "leaves every 300th slot out", Post::SkipSlotEvery(300)),
            ("slot-twice", "writes every tenth completion over the one before", Post::PreviousSlotEvery(10)),
            ("one-slot", "writes every completion to the ring's first slot", Post::FirstSlotAlways),
            ("next-lap", "writes with the phase of the next lap", Post::NextLapSlot),
        ] {
            self.add("phase", name, what, Kind::Post(post));
        }
        for (name, what, queue) in [
            ("beyond-doorbell", "takes one entry more than the doorbell says", Queue::TailPlus(1)),
            ("far-beyond-doorbell", "takes eight entries more than the doorbell says", Queue::TailPlus(8)),
            ("one-short", "leaves the last entry until the next doorbell", Queue::TailMinusOne),
            ("full-is-empty", "takes a full ring for an empty one", Queue::TailLap),
            ("head-plus-1", "gives one slot too many back", Queue::HeadPlus(1)),
            ("head-plus-7", "gives seven slots too many back", Queue::HeadPlus(7)),
            ("head-minus-1", "keeps one slot for itself", Queue::HeadMinusOne),
            ("head-zero", "never gives a slot back", Queue::HeadZero),
            ("head-position", "shows the head's position, not the count", Queue::HeadLap),
            ("head-back", "moves the head backwards now and then", Queue::HeadBackEvery(100)),
            ("overflow", "writes over completions that were not consumed", Queue::NoRoom),
            ("entry-before", "takes the entry before a wrap again", Queue::EntryBefore),
            ("entry-short-1", "reads half of each entry", Queue::EntryShort(1)),
            ("entry-short-64", "reads half of every 64th entry", Queue::EntryShort(64)),
        ] {
            self.add("queue", name, what, Kind::Queue(queue));
        }
        for (name, what, reset) in [
            ("reset-epoch-plus-1", "reports the epoch after the one asked for", Reset::EpochAdd(1)),
            ("reset-epoch-before", "reports the epoch before the one asked for", Reset::EpochAdd(u32::MAX)),
            ("reset-epoch-once", "reports the first epoch for ever", Reset::EpochOnce),
            ("reset-remembers", "completes after a reset what was asked before it", Reset::Remembers),
            ("reset-keeps-head", "counts on after a reset", Reset::KeepsHead),
        ] {
            self.add("reset", name, what, Kind::Reset(reset));
        }
    }

    fn memory(&mut self) {
        for (name, offset) in TARGETS {
            let kind = Kind::Scribble(Scribble::Word(offset));
            self.add("memory", format!("scribble-{name}"), format!("writes to offset {offset:#x}"), kind);
        }
        for back in [1, 2] {
            self.add(
                "memory",
                format!("scribble-submission-{back}"),
                "writes into the submission ring",
                Kind::Scribble(Scribble::SubmissionSlot(back)),
            );
        }
        for (name, what, scribble) in [
            ("consumed-tag", "changes a tag after its completion was posted", Scribble::ConsumedTag),
            ("consumed-key", "changes a key after its completion was posted", Scribble::ConsumedKey),
            ("future-slot", "seals the next slot before it is written", Scribble::FutureSlot),
        ] {
            self.add("memory", format!("scribble-{name}"), what, Kind::Scribble(scribble));
        }
    }

    fn life(&mut self) {
        for (name, what, caps) in [
            ("magic", "a wrong magic number", Caps::Magic),
            ("version-2", "a later major version", Caps::VersionMajor),
            ("version-0", "no version", Caps::VersionZero),
            ("reserved-0", "a reserved word set", Caps::Reserved0),
            ("reserved-1", "reserved bytes set", Caps::Reserved1),
            ("reserved-2", "reserved bytes at the end set", Caps::Reserved2),
            ("entries-odd", "a ring size that is no power of two", Caps::EntriesOdd),
            ("entries-zero", "a ring size of zero", Caps::EntriesZero),
            ("entries-huge", "a ring size above the ABI's", Caps::EntriesHuge),
            ("batch-min-zero", "a smallest batch of zero", Caps::BatchMinZero),
            ("batch-min-huge", "a smallest batch above the ring", Caps::BatchMinHuge),
            ("parallelism-zero", "no parallelism", Caps::ParallelismZero),
            ("no-recover", "no recovery", Caps::NoRecover),
            ("no-nop", "no NOP", Caps::NoNop),
            ("unknown-op", "an operation that 1.0 does not have", Caps::UnknownOp),
            ("unknown-feature", "a feature that 1.0 does not have", Caps::UnknownFeature),
            ("hidden-keccak", "no Keccak, but does it", Caps::ClaimsNoKeccakButDoes),
            ("no-keccak", "Keccak, but refuses it", Caps::ClaimsKeccakButNot),
            ("no-any-s", "any s, but refuses it", Caps::ClaimsAnySButNot),
            ("vendor-unterminated", "a vendor without end", Caps::VendorUnterminated),
            ("vendor-empty", "no vendor", Caps::VendorEmpty),
            ("model-not-utf8", "a model that is not UTF-8", Caps::ModelNotUtf8),
            ("build-tail", "bytes after the build's end", Caps::BuildTail),
        ] {
            self.add("capability", format!("caps-{name}"), format!("states {what}"), Kind::Caps(caps));
        }
        for (name, what, hang) in [
            ("hang-at-start", "never states its capabilities", Hang::Start),
            ("hang-at-reset-1", "never does a reset", Hang::Reset(1)),
            ("hang-at-reset-2", "does one reset only", Hang::Reset(2)),
            ("hang-at-run", "never runs", Hang::Run),
            ("hang-at-once", "takes nothing", Hang::Take(0)),
            ("hang-after-1", "takes one batch", Hang::Take(1)),
            ("hang-after-100", "stops after 100 requests", Hang::Take(100)),
            ("hang-after-2000", "stops after 2000 requests", Hang::Take(2_000)),
            ("vanish-at-once", "leaves before it starts", Hang::Vanish(0)),
            ("vanish-after-100", "leaves after 100 requests", Hang::Vanish(100)),
            ("vanish-after-2000", "leaves after 2000 requests", Hang::Vanish(2_000)),
            ("never-rings", "never rings a sleeping host", Hang::NeverRings),
            ("rings-once", "rings a sleeping host once", Hang::RingsOnce),
            ("heart-never", "has no heartbeat", Hang::HeartNever),
            ("heart-stops", "has a heartbeat that stops", Hang::HeartStops(50)),
        ] {
            self.add("liveness", name, what, Kind::Hang(hang));
        }
    }
}
