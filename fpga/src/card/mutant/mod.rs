//! Cards with one fault each: what the validation kit is measured with.
//!
//! [`all`] lists them. A [`Mutant`] is the software card of [`super::Device`] whose conduct differs in one respect from the
//! ABI's rules; the kit must tell each of them from an honest card, and a test holds it to that.

mod list;

pub use list::all;

use super::device::{Conduct, Moment, Posting};
use super::software;
use crate::abi::{self, Capabilities, Completion, ENTRY_BYTES, Submission, card_page, host_page, status};
use alloy_primitives::{U256, uint};
use std::time::{Duration, Instant};

const P: U256 = uint!(0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256);
const N: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
const HALF: U256 = uint!(0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0_U256);

/// One fault.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Short name, unique.
    pub name: String,
    /// Group: arithmetic, edge, status, tag, delivery, phase, queue, reset, memory, capability, liveness.
    pub family: &'static str,
    /// What the card does wrong, in one sentence.
    pub what: String,
    pub(crate) kind: Kind,
}

/// When a fault shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Every(u64),
    After(u64),
    Burst(u64, u64),
    HashZero,
    HashAtLeastOrder,
    SAtMost(u64),
    SHalf,
    RSmall,
    RAtLeastHalf,
    ParityOne,
    HashLeadingZero,
    RLeadingZero,
    SLeadingZero,
    KeyXLeadingZero,
    KeyYLeadingZero,
    AddressLeadingZero,
    TagAbove32,
    TagZero,
    TagMax,
    LapEnd,
    LapStart,
    /// The public key is k·G for k in 1..=3.
    KeyIsMultiple(u8),
    /// The public key is −G.
    KeyIsMinusG,
    /// The same hash as the submission before.
    Repeated,
    /// u1·G and u2·R are the same point.
    Doubling,
    SEqualsR,
}

/// What is done to a completion that says OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    KeyBit(usize),
    AddressBit(usize),
    /// −Q with its address.
    Negate,
    /// x and y exchanged.
    SwapXy,
    /// Key in the other byte order, address right.
    KeyReversed,
    AddressFront,
    AddressOfPrefixed,
    AddressOfCompressed,
    AddressOfX,
    AddressReversed,
    AddressZero,
    KeyZero,
    Previous,
    PreviousKey,
    PreviousAddress,
    As(As),
    Status(u16),
    /// Key and address of G.
    Generator,
}

/// Right arithmetic on a wrong input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    OtherParity,
    ParityZero,
    HashReversed,
    HashPlusOne,
    HashZero,
    HashLow31,
    HashHigh31,
    HashAnd(u8),
    RPlusOne,
    SPlusOne,
    SMinusOne,
    SNegated,
    SwapRs,
    HashNegated,
    HashWords,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Deliver {
    Lost,
    Twice,
    TwiceLater(Duration),
    Late(Duration),
    SwapTags,
    TagXor(u64),
    TagAnd(u64),
    TagOfPrevious,
    OpXor(u16),
    EpochAdd(u32),
    Reserved(usize),
    Held,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Post {
    SealBit(u32),
    PhaseAlwaysOne,
    PhaseAlwaysZero,
    PhaseInvertedFromLap(u32),
    PhaseInvertedEvery(u32),
    Torn(Duration),
    SkipSlotEvery(u32),
    PreviousSlotEvery(u32),
    FirstSlotAlways,
    NextLapSlot,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Queue {
    TailPlus(u32),
    TailMinusOne,
    TailLap,
    HeadPlus(u32),
    HeadMinusOne,
    HeadZero,
    HeadLap,
    HeadBackEvery(u32),
    NoRoom,
    EntryBefore,
    EntryShort(u64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Reset {
    EpochAdd(u32),
    EpochOnce,
    Remembers,
    KeepsHead,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Scribble {
    Word(usize),
    SubmissionSlot(u32),
    ConsumedTag,
    ConsumedKey,
    FutureSlot,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Caps {
    Magic,
    VersionMajor,
    VersionZero,
    Reserved0,
    EntriesOdd,
    EntriesZero,
    EntriesHuge,
    BatchMinZero,
    BatchMinHuge,
    ParallelismZero,
    NoRecover,
    NoNop,
    UnknownOp,
    UnknownFeature,
    ClaimsNoKeccakButDoes,
    ClaimsKeccakButNot,
    ClaimsAnySButNot,
    Reserved1,
    Reserved2,
    VendorUnterminated,
    VendorEmpty,
    ModelNotUtf8,
    BuildTail,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Hang {
    Start,
    Reset(u32),
    Run,
    Take(u64),
    Vanish(u64),
    NeverRings,
    RingsOnce,
    HeartStops(u64),
    HeartNever,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Change(When, Change),
    /// Statuses `from` become `to`.
    Status(u16, u16),
    Deliver(When, Deliver),
    Post(Post),
    Queue(Queue),
    Reset(Reset),
    Scribble(Scribble),
    Caps(Caps),
    Hang(Hang),
}

/// The conduct of a card with a fault.
pub struct Mutant {
    kind: Kind,
    /// Completions made so far.
    count: u64,
    log2: u32,
    previous: Option<(Submission, Completion)>,
    held: Vec<(Instant, Completion)>,
    swapped: Option<Completion>,
    resets: u32,
    rung: u32,
    posted: u32,
    skipped: u32,
}

impl Mutant {
    /// A card with this fault.
    pub fn new(fault: &Fault) -> Self {
        Self {
            kind: fault.kind.clone(),
            count: 0,
            log2: 6,
            previous: None,
            held: Vec::new(),
            swapped: None,
            resets: 0,
            rung: 0,
            posted: 0,
            skipped: 0,
        }
    }

    fn applies(&self, when: When, index: u32, asked: &Submission, right: &Completion) -> bool {
        let (hash, r, s) =
            (U256::from_be_bytes(asked.hash), U256::from_be_bytes(asked.r), U256::from_be_bytes(asked.s));
        let recovers = asked.op == abi::OP_RECOVER;
        let answered = recovers && right.status == status::OK;
        let mask = (1 << self.log2) - 1;
        let point = |k: u8| {
            let mut secret = [0; 32];
            secret[31] = k;
            let key = secp256k1::SecretKey::from_byte_array(secret).ok()?;
            let point = secp256k1::PublicKey::from_secret_key(secp256k1::SECP256K1, &key);
            let mut bytes = [0; 64];
            bytes.copy_from_slice(&point.serialize_uncompressed()[1..]);
            Some(bytes)
        };
        match when {
            When::Always => true,
            When::Every(n) => self.count % n == n - 1,
            When::After(n) => self.count >= n,
            When::Burst(from, count) => (from..from + count).contains(&self.count),
            When::HashZero => recovers && hash.is_zero(),
            When::HashAtLeastOrder => recovers && hash >= N,
            When::SAtMost(most) => recovers && s <= U256::from(most),
            When::SHalf => recovers && s == HALF,
            When::RSmall => recovers && r < P - N,
            When::RAtLeastHalf => recovers && r > HALF,
            When::ParityOne => recovers && asked.v == 1,
            When::HashLeadingZero => recovers && asked.hash[0] == 0,
            When::RLeadingZero => recovers && asked.r[0] == 0,
            When::SLeadingZero => recovers && asked.s[0] == 0,
            When::KeyXLeadingZero => answered && right.public_key[0] == 0,
            When::KeyYLeadingZero => answered && right.public_key[32] == 0,
            When::AddressLeadingZero => answered && right.address[0] == 0,
            When::TagAbove32 => asked.tag >> 32 != 0,
            When::TagZero => asked.tag == 0,
            When::TagMax => asked.tag == u64::MAX,
            When::LapEnd => index & mask == mask,
            When::LapStart => index & mask == 0 && index != 0,
            When::KeyIsMultiple(k) => answered && point(k) == Some(right.public_key),
            When::KeyIsMinusG => {
                answered
                    && point(1).is_some_and(|g| {
                        g[..32] == right.public_key[..32] && g[32..] != right.public_key[32..]
                    })
            }
            When::Repeated => recovers && self.previous.is_some_and(|(before, _)| before.hash == asked.hash),
            // s = 2 and hash = −2k are how the kit builds it; see `kit::vectors`.
            When::Doubling => answered && crate::kit::vectors::is_doubling(asked),
            When::SEqualsR => recovers && s == r,
        }
    }

    fn change(&self, change: Change, asked: &Submission, c: &mut Completion) {
        let key = c.public_key;
        let half = |at: usize| -> &[u8] { &key[at..at + 32] };
        match change {
            Change::KeyBit(bit) => c.public_key[bit / 8] ^= 1 << (bit % 8),
            Change::AddressBit(bit) => c.address[bit / 8] ^= 1 << (bit % 8),
            Change::Negate => {
                let y = P - U256::from_be_slice(half(32));
                c.public_key[32..].copy_from_slice(&y.to_be_bytes::<32>());
                c.address = software::address_of(&c.public_key).into();
            }
            Change::SwapXy => {
                c.public_key[..32].copy_from_slice(half(32));
                c.public_key[32..].copy_from_slice(half(0));
            }
            Change::KeyReversed => c.public_key.reverse(),
            Change::AddressFront => {
                c.address.copy_from_slice(&crate::keccak::keccak256(&key)[..20]);
            }
            Change::AddressOfPrefixed => {
                let bytes = [&[4][..], &key].concat();
                c.address.copy_from_slice(&crate::keccak::keccak256(&bytes)[12..]);
            }
            Change::AddressOfCompressed => {
                let bytes = [&[2 | key[63] & 1][..], half(0)].concat();
                c.address.copy_from_slice(&crate::keccak::keccak256(&bytes)[12..]);
            }
            Change::AddressOfX => c.address.copy_from_slice(&crate::keccak::keccak256(half(0))[12..]),
            Change::AddressReversed => c.address.reverse(),
            Change::AddressZero => c.address = [0; 20],
            Change::KeyZero => c.public_key = [0; 64],
            Change::Previous | Change::PreviousKey | Change::PreviousAddress => {
                if let Some((_, before)) = self.previous {
                    if change != Change::PreviousAddress {
                        c.public_key = before.public_key;
                    }
                    if change != Change::PreviousKey {
                        c.address = before.address;
                    }
                }
            }
            Change::As(what) => {
                let mut other = *asked;
                what.apply(&mut other);
                let answer = software::answer(&other);
                (c.status, c.public_key, c.address) = (answer.status, answer.public_key, answer.address);
            }
            Change::Status(status) => {
                (c.status, c.public_key, c.address) = (status, [0; 64], [0; 20]);
            }
            Change::Generator => {
                let (x, y) = (secp256k1::constants::GENERATOR_X, secp256k1::constants::GENERATOR_Y);
                c.public_key[..32].copy_from_slice(&x);
                c.public_key[32..].copy_from_slice(&y);
                c.address = software::address_of(&c.public_key).into();
            }
        }
    }

    fn deliver(&mut self, how: Deliver, right: Completion, out: &mut Vec<Completion>) {
        let mut c = right;
        match how {
            Deliver::Lost => return,
            Deliver::Twice => out.push(c),
            Deliver::TwiceLater(pause) => self.held.push((Instant::now() + pause, c)),
            Deliver::Late(pause) => {
                self.held.push((Instant::now() + pause, c));
                return;
            }
            Deliver::SwapTags => match self.swapped.take() {
                None => {
                    self.swapped = Some(c);
                    return;
                }
                Some(mut other) => {
                    std::mem::swap(&mut other.tag, &mut c.tag);
                    std::mem::swap(&mut other.op, &mut c.op);
                    out.push(other);
                }
            },
            Deliver::TagXor(bits) => c.tag ^= bits,
            Deliver::TagAnd(bits) => c.tag &= bits,
            Deliver::TagOfPrevious => {
                if let Some((before, _)) = self.previous {
                    c.tag = before.tag;
                }
            }
            Deliver::OpXor(bits) => c.op ^= bits,
            Deliver::EpochAdd(more) => c.epoch = c.epoch.wrapping_add(more),
            Deliver::Reserved(at) => c.reserved[at] = 0x40,
            Deliver::Held => match self.swapped.replace(c) {
                // Each completion waits for the next one: the last never comes.
                Some(before) => c = before,
                None => return,
            },
        }
        out.push(c);
    }
}

impl As {
    fn apply(self, s: &mut Submission) {
        let add = |bytes: &mut [u8; 32], more: U256| {
            *bytes = U256::from_be_bytes(*bytes).wrapping_add(more).to_be_bytes();
        };
        match self {
            Self::OtherParity => s.v ^= 1,
            Self::ParityZero => s.v = 0,
            Self::HashReversed => s.hash.reverse(),
            Self::HashPlusOne => add(&mut s.hash, U256::ONE),
            Self::HashZero => s.hash = [0; 32],
            Self::HashLow31 => s.hash[0] = 0,
            Self::HashHigh31 => s.hash[31] = 0,
            Self::HashAnd(mask) => s.hash[0] &= mask,
            Self::RPlusOne => add(&mut s.r, U256::ONE),
            Self::SPlusOne => add(&mut s.s, U256::ONE),
            Self::SMinusOne => add(&mut s.s, U256::MAX),
            Self::SNegated => {
                s.s = (N - U256::from_be_bytes(s.s)).to_be_bytes();
                s.flags |= abi::FLAG_ANY_S;
            }
            Self::SwapRs => {
                std::mem::swap(&mut s.r, &mut s.s);
                s.flags |= abi::FLAG_ANY_S;
            }
            Self::HashNegated => {
                let hash = U256::from_be_bytes(s.hash) % N;
                s.hash = (N - hash).to_be_bytes();
            }
            Self::HashWords => s.hash.rotate_left(8),
        }
    }
}

impl Conduct for Mutant {
    fn capabilities(&mut self, caps: &mut Capabilities) {
        let Kind::Caps(fault) = self.kind else { return };
        match fault {
            Caps::Magic => caps.magic ^= 1 << 56,
            Caps::VersionMajor => caps.version = 0x0002_0000,
            Caps::VersionZero => caps.version = 0,
            Caps::Reserved0 => caps.reserved0 = 1,
            Caps::EntriesOdd => caps.entries_max = 1_000,
            Caps::EntriesZero => caps.entries_max = 0,
            Caps::EntriesHuge => caps.entries_max = 1 << 20,
            Caps::BatchMinZero => caps.batch_min = 0,
            Caps::BatchMinHuge => caps.batch_min = u32::MAX,
            Caps::ParallelismZero => caps.parallelism = 0,
            Caps::NoRecover => caps.ops &= !(1 << abi::OP_RECOVER),
            Caps::NoNop => caps.ops &= !(1 << abi::OP_NOP),
            Caps::UnknownOp => caps.ops |= 1 << 33,
            Caps::UnknownFeature => caps.features |= 1 << 7,
            Caps::ClaimsNoKeccakButDoes => caps.ops &= !(1 << abi::OP_KECCAK),
            Caps::Reserved1 => caps.reserved1[15] = 1,
            Caps::Reserved2 => caps.reserved2[0] = 1,
            Caps::VendorUnterminated => caps.vendor = [b'v'; 64],
            Caps::VendorEmpty => caps.vendor = [0; 64],
            Caps::ModelNotUtf8 => caps.model[3] = 0xc0,
            Caps::BuildTail => caps.build[31] = b'x',
            Caps::ClaimsKeccakButNot | Caps::ClaimsAnySButNot => {}
        }
    }

    fn hangs(&mut self, at: Moment) -> bool {
        if let Moment::Reset(count) = at {
            self.resets = count;
        }
        match (&self.kind, at) {
            (Kind::Hang(Hang::Start), Moment::Start) | (Kind::Hang(Hang::Run), Moment::Run) => true,
            (Kind::Hang(Hang::Reset(n)), Moment::Reset(count)) => count >= *n,
            (Kind::Hang(Hang::Take(n)), Moment::Take(taken)) => taken >= *n,
            _ => false,
        }
    }

    fn vanishes(&mut self, taken: u64) -> bool {
        matches!(self.kind, Kind::Hang(Hang::Vanish(n)) if taken >= n)
    }

    fn tail(&mut self, tail: u32, head: u32) -> u32 {
        match self.kind {
            Kind::Queue(Queue::TailPlus(more)) if tail != head => tail.wrapping_add(more),
            Kind::Queue(Queue::TailMinusOne) if tail != head => tail.wrapping_sub(1),
            // Compares positions instead of counts: a full ring looks empty.
            Kind::Queue(Queue::TailLap) => {
                let mask = (1 << self.log2) - 1;
                head.wrapping_add(tail.wrapping_sub(head) & mask)
            }
            _ => tail,
        }
    }

    fn head(&mut self, head: u32) -> u32 {
        match self.kind {
            Kind::Queue(Queue::HeadPlus(more)) => head.wrapping_add(more),
            Kind::Queue(Queue::HeadMinusOne) => head.wrapping_sub(1),
            Kind::Queue(Queue::HeadZero) => 0,
            Kind::Queue(Queue::HeadLap) => head & ((1 << self.log2) - 1),
            Kind::Queue(Queue::HeadBackEvery(n)) if head > n && head % n < 8 => head - 3,
            _ => head,
        }
    }

    fn taken(&mut self, index: u32, submission: &mut Submission) {
        let keep = |at: usize, submission: &mut Submission| {
            let mut bytes = submission.to_bytes();
            bytes[at..124].fill(0);
            *submission = Submission::from_bytes(&bytes);
        };
        match self.kind {
            Kind::Queue(Queue::EntryBefore) if index & ((1 << self.log2) - 1) == 0 && index > 0 => {
                if let Some((before, _)) = self.previous {
                    *submission = Submission { seal: submission.seal, ..before };
                }
            }
            Kind::Queue(Queue::EntryShort(n)) if u64::from(index) % n == n - 1 => keep(64, submission),
            _ => {}
        }
    }

    fn form(&mut self, submission: &Submission, verdict: u16) -> u16 {
        match self.kind {
            Kind::Caps(Caps::ClaimsKeccakButNot) if submission.op == abi::OP_KECCAK => status::BAD_OP,
            Kind::Caps(Caps::ClaimsAnySButNot) if submission.flags & abi::FLAG_ANY_S != 0 => {
                status::BAD_FLAGS
            }
            Kind::Caps(Caps::ClaimsNoKeccakButDoes) if submission.op == abi::OP_KECCAK => status::OK,
            _ => verdict,
        }
    }

    fn finished(&mut self, index: u32, asked: &Submission, right: Completion, out: &mut Vec<Completion>) {
        let mut c = right;
        match self.kind {
            Kind::Change(when, change)
                if c.status == status::OK
                    && asked.op == abi::OP_RECOVER
                    && self.applies(when, index, asked, &right) =>
            {
                self.change(change, asked, &mut c);
                out.push(c);
            }
            Kind::Status(from, to) if c.status == from && (from != 0 || asked.op == abi::OP_RECOVER) => {
                if to == status::OK && asked.op == abi::OP_RECOVER {
                    self.change(Change::Generator, asked, &mut c);
                    c.status = to;
                } else {
                    self.change(Change::Status(to), asked, &mut c);
                }
                out.push(c);
            }
            Kind::Deliver(when, how) if self.applies(when, index, asked, &right) => {
                self.deliver(how, right, out);
            }
            _ => out.push(right),
        }
        self.count += 1;
        self.previous = Some((*asked, right));
    }

    fn held(&mut self, out: &mut Vec<Completion>) {
        let now = Instant::now();
        self.held.retain(|(due, completion)| {
            let due = *due <= now;
            if due {
                out.push(*completion);
            }
            !due
        });
    }

    fn posting(&mut self, log2: u32, mut posting: Posting) -> Posting {
        self.log2 = log2;
        self.posted += 1;
        let (index, lap) = (posting.index, posting.index >> log2);
        let right = abi::phase(index, log2);
        let Kind::Post(fault) = self.kind else { return posting };
        match fault {
            Post::SealBit(bit) => posting.seal_xor = 1 << bit,
            Post::PhaseAlwaysOne => posting.seal_xor = right ^ 1,
            Post::PhaseAlwaysZero => posting.seal_xor = right,
            Post::PhaseInvertedFromLap(n) if lap >= n => posting.seal_xor = 1,
            Post::PhaseInvertedEvery(n) if index % n == n - 1 => posting.seal_xor = 1,
            Post::Torn(pause) if index % 16 == 5 => posting.torn = Some(pause),
            Post::SkipSlotEvery(n) => {
                if index % n == n - 1 {
                    self.skipped += 1;
                }
                posting.index = index.wrapping_add(self.skipped);
            }
            Post::PreviousSlotEvery(n) if index % n == n - 1 => posting.index = index.wrapping_sub(1),
            Post::FirstSlotAlways => posting.index = index & !((1 << log2) - 1),
            Post::NextLapSlot => posting.index = index.wrapping_add(1 << log2),
            _ => {}
        }
        posting
    }

    fn respects_room(&self) -> bool {
        !matches!(self.kind, Kind::Queue(Queue::NoRoom))
    }

    fn reset_epoch(&mut self, epoch: u32) -> u32 {
        match self.kind {
            Kind::Reset(Reset::EpochAdd(more)) => epoch.wrapping_add(more),
            Kind::Reset(Reset::EpochOnce) if self.resets > 1 => 1,
            _ => epoch,
        }
    }

    fn reset_forgets(&self) -> bool {
        !matches!(self.kind, Kind::Reset(Reset::Remembers))
    }

    fn reset_rewinds(&self) -> bool {
        !(matches!(self.kind, Kind::Reset(Reset::KeepsHead)) && self.resets > 1)
    }

    fn scribbles(&mut self, log2: u32, posted: u32) -> Vec<(usize, u32)> {
        let Kind::Scribble(fault) = self.kind else { return vec![] };
        if posted < 8 {
            return vec![];
        }
        match fault {
            Scribble::Word(offset) => vec![(offset, 0x5a5a_5a5a)],
            Scribble::SubmissionSlot(back) => {
                vec![(abi::submission_at(posted.wrapping_sub(back), log2) + 16, 0x5a5a_5a5a)]
            }
            Scribble::ConsumedTag => {
                vec![(abi::completion_at(posted.wrapping_sub(4), log2), posted ^ 0x5a5a_5a5a)]
            }
            Scribble::ConsumedKey => {
                vec![(abi::completion_at(posted.wrapping_sub(3), log2) + 20, posted ^ 0x5a5a_5a5a)]
            }
            Scribble::FutureSlot => {
                let next = abi::completion_at(posted, log2);
                vec![(next + ENTRY_BYTES - 4, abi::phase(posted, log2))]
            }
        }
    }

    fn rings(&mut self) -> bool {
        self.rung += 1;
        match self.kind {
            Kind::Hang(Hang::NeverRings) => false,
            Kind::Hang(Hang::RingsOnce) => self.rung == 1,
            _ => true,
        }
    }

    fn heartbeat(&mut self, beat: u64) -> u64 {
        match self.kind {
            Kind::Hang(Hang::HeartNever) => 0,
            Kind::Hang(Hang::HeartStops(n)) => beat.min(n),
            _ => beat,
        }
    }
}

/// Offsets in the host's page and the capability block that a scribbling card may hit.
pub(crate) const TARGETS: [(&str, usize); 16] = [
    ("host-command-neighbour", host_page::COMMAND + 0x0c),
    ("host-epoch", host_page::EPOCH),
    ("host-entries", host_page::ENTRIES_LOG2),
    ("host-reserved", abi::HOST_PAGE + 0x800),
    ("host-page-end", abi::RINGS - 8),
    ("host-reserved-first", abi::HOST_PAGE + 0x100),
    ("host-tail", host_page::SQ_TAIL),
    ("host-head", host_page::CQ_HEAD),
    ("caps-magic", 0),
    ("caps-version", 8),
    ("caps-entries", 16),
    ("caps-ops", 32),
    ("caps-vendor", 64),
    ("caps-model", 128),
    ("caps-end", 252),
    ("card-state", card_page::STATE),
];
