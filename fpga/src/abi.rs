//! The offload ABI 1.0 in Rust: entries, capability block, region layout, statuses. `fpga/include/ironlane_offload.h` is
//! the same in C and a test holds the two together; `docs/offload-abi.md` is the specification.
//!
//! Nothing here touches shared memory. An entry is read from a ring as 128 bytes, copied, and only then interpreted.

use crate::RecoverError;

/// Version: major in the upper half, minor in the lower.
pub const VERSION: u32 = 0x0001_0000;
/// First word of the card page: "IRONLNC1".
pub const MAGIC: u64 = u64::from_le_bytes(*b"IRONLNC1");

/// Completes with [`status::OK`] and does nothing.
pub const OP_NOP: u16 = 0;
/// Recovers a signer.
pub const OP_RECOVER: u16 = 1;
/// Keccak-256 of up to [`KECCAK_MAX`] bytes.
pub const OP_KECCAK: u16 = 2;
/// Take s up to n − 1.
pub const FLAG_ANY_S: u16 = 1;
/// The card knows [`FLAG_ANY_S`].
pub const FEATURE_ANY_S: u64 = 1;
/// Longest message of [`OP_KECCAK`], bytes.
pub const KECCAK_MAX: usize = 96;

/// Bytes of a submission and of a completion.
pub const ENTRY_BYTES: usize = 128;
/// Smallest ring, entries.
pub const ENTRIES_MIN: u32 = 2;
/// Largest ring, entries.
pub const ENTRIES_MAX: u32 = 65_536;
/// Offset of the host page in the region.
pub const HOST_PAGE: usize = 0x1000;
/// Offset of the submission ring.
pub const RINGS: usize = 0x2000;

/// Completion statuses.
pub mod status {
    /// Done.
    pub const OK: u16 = 0;
    /// Parity is neither 0 nor 1.
    pub const BAD_PARITY: u16 = 1;
    /// r is out of range.
    pub const BAD_R: u16 = 2;
    /// s is out of range.
    pub const BAD_S: u16 = 3;
    /// s is above n/2.
    pub const HIGH_S: u16 = 4;
    /// The signature recovers to no key.
    pub const NO_KEY: u16 = 5;
    /// Reserved bytes or seal bits are set, or the phase is wrong.
    pub const MALFORMED: u16 = 16;
    /// Entry of another epoch.
    pub const STALE_EPOCH: u16 = 17;
    /// Unknown operation.
    pub const BAD_OP: u16 = 18;
    /// Unknown flag, or one that operation or card do not have.
    pub const BAD_FLAGS: u16 = 19;
    /// Message too long.
    pub const BAD_LENGTH: u16 = 20;
    /// The card could not.
    pub const INTERNAL: u16 = 32;
    /// The driver is leaving.
    pub const CANCELLED: u16 = 33;
    /// Every status there is.
    pub const ALL: [u16; 13] = [
        OK,
        BAD_PARITY,
        BAD_R,
        BAD_S,
        HIGH_S,
        NO_KEY,
        MALFORMED,
        STALE_EPOCH,
        BAD_OP,
        BAD_FLAGS,
        BAD_LENGTH,
        INTERNAL,
        CANCELLED,
    ];
}

/// Offsets in the region that the card writes (its page begins at 0).
pub mod card_page {
    /// u64 that changes at least every 100 ms.
    pub const HEARTBEAT: usize = 0x100;
    /// u64, statistics.
    pub const COMPLETED: usize = 0x108;
    /// i32, millidegrees Celsius; 0: not measured.
    pub const TEMPERATURE: usize = 0x110;
    /// u32, milliwatts; 0: not measured.
    pub const POWER: usize = 0x114;
    /// u32, one of [`state`](super::state).
    pub const STATE: usize = 0x800;
    /// u32, epoch of the last reset.
    pub const EPOCH: usize = 0x804;
    /// u32, the vendor's error code.
    pub const FAULT: usize = 0x808;
    /// u32, submissions taken.
    pub const SQ_HEAD: usize = 0x840;
    /// u32, 1 while the card sleeps.
    pub const WAITS: usize = 0x880;
}

/// Offsets in the region that the host writes.
pub mod host_page {
    use super::HOST_PAGE;
    /// u32, one of [`command`](super::command).
    pub const COMMAND: usize = HOST_PAGE;
    /// u32.
    pub const EPOCH: usize = HOST_PAGE + 0x004;
    /// u32, size of either ring.
    pub const ENTRIES_LOG2: usize = HOST_PAGE + 0x008;
    /// u32, submissions written (the doorbell).
    pub const SQ_TAIL: usize = HOST_PAGE + 0x040;
    /// u32, completions consumed.
    pub const CQ_HEAD: usize = HOST_PAGE + 0x080;
    /// u32, 1 while the host sleeps.
    pub const WAITS: usize = HOST_PAGE + 0x0c0;
}

/// What a card does.
pub mod state {
    /// Not ready for anything.
    pub const STARTING: u32 = 0;
    /// Ready for RUN.
    pub const IDLE: u32 = 1;
    /// Takes submissions.
    pub const RUNNING: u32 = 2;
    /// Out of order for good.
    pub const FAILED: u32 = 3;
}

/// What the host wants.
pub mod command {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// Forget everything and say so with the epoch.
    pub const RESET: u32 = 1;
    /// Take submissions.
    pub const RUN: u32 = 2;
    /// Leave.
    pub const STOP: u32 = 3;
}

/// Environment variable with the socket's descriptor number, for a driver that the host starts.
pub const SOCKET_FD_VARIABLE: &str = "IRONLANE_OFFLOAD_FD";

/// Bytes of a region whose rings have `entries` entries.
pub const fn region_bytes(entries: u32) -> usize {
    RINGS + 2 * ENTRY_BYTES * entries as usize
}

/// Offset of entry `index` (free-running) of the submission ring.
pub const fn submission_at(index: u32, log2: u32) -> usize {
    RINGS + ENTRY_BYTES * (index & ((1 << log2) - 1)) as usize
}

/// Offset of entry `index` (free-running) of the completion ring.
pub const fn completion_at(index: u32, log2: u32) -> usize {
    submission_at(index, log2) + (ENTRY_BYTES << log2)
}

/// Phase of the entry with free-running `index`: 1 in the first lap, then 0, and so on.
pub const fn phase(index: u32, log2: u32) -> u32 {
    ((index >> log2) & 1) ^ 1
}

/// Status for a signature that has no signer.
pub const fn status_of(error: RecoverError) -> u16 {
    match error {
        RecoverError::Parity => status::BAD_PARITY,
        RecoverError::R => status::BAD_R,
        RecoverError::S => status::BAD_S,
        RecoverError::HighS => status::HIGH_S,
        RecoverError::NoKey => status::NO_KEY,
    }
}

/// The statement that a status makes about a signature, if it makes one.
pub const fn error_of(status: u16) -> Option<RecoverError> {
    match status {
        status::BAD_PARITY => Some(RecoverError::Parity),
        status::BAD_R => Some(RecoverError::R),
        status::BAD_S => Some(RecoverError::S),
        status::HIGH_S => Some(RecoverError::HighS),
        status::NO_KEY => Some(RecoverError::NoKey),
        _ => None,
    }
}

/// One request, as it lies in a ring.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submission {
    /// The host's; comes back.
    pub tag: u64,
    /// Operation.
    pub op: u16,
    /// Flags.
    pub flags: u16,
    /// Epoch of the last reset.
    pub epoch: u32,
    /// Signing hash.
    pub hash: [u8; 32],
    /// r, big-endian.
    pub r: [u8; 32],
    /// s, big-endian.
    pub s: [u8; 32],
    /// Parity, or length for [`OP_KECCAK`].
    pub v: u8,
    /// Zero.
    pub reserved: [u8; 11],
    /// Bit 0: phase.
    pub seal: u32,
}

/// One answer, as it lies in a ring.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Of the submission.
    pub tag: u64,
    /// One of [`status`].
    pub status: u16,
    /// Of the submission.
    pub op: u16,
    /// Of the submission.
    pub epoch: u32,
    /// x ‖ y, big-endian.
    pub public_key: [u8; 64],
    /// The signer.
    pub address: [u8; 20],
    /// Time in the card.
    pub nanoseconds: u32,
    /// Zero.
    pub reserved: [u8; 20],
    /// Bit 0: phase.
    pub seal: u32,
}

/// What a card says about itself.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// [`MAGIC`].
    pub magic: u64,
    /// Major and minor version.
    pub version: u32,
    /// Zero.
    pub reserved0: u32,
    /// Largest ring or batch.
    pub entries_max: u32,
    /// Requests at hand for full rate.
    pub batch_min: u32,
    /// Signatures at the same time.
    pub parallelism: u32,
    /// Latency of one request; 0: not stated.
    pub latency_us: u32,
    /// Bit per operation.
    pub ops: u64,
    /// Bit per feature.
    pub features: u64,
    /// Zero.
    pub reserved1: [u8; 16],
    /// UTF-8, zero-padded.
    pub vendor: [u8; 64],
    /// UTF-8, zero-padded.
    pub model: [u8; 64],
    /// UTF-8, zero-padded.
    pub build: [u8; 32],
    /// Zero.
    pub reserved2: [u8; 32],
}

const _: () = assert!(size_of::<Submission>() == ENTRY_BYTES);
const _: () = assert!(size_of::<Completion>() == ENTRY_BYTES);
const _: () = assert!(size_of::<Capabilities>() == 256);

/// Writes little-endian fields one after the other.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (head, tail) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = tail;
    }
}

/// Reads little-endian fields one after the other. The lengths are constants of the layouts below.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn get<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (head, tail) = self.0.split_at(N);
        out.copy_from_slice(head);
        self.0 = tail;
        out
    }
}

impl Submission {
    /// All zero.
    pub const ZERO: Self = Self {
        tag: 0,
        op: 0,
        flags: 0,
        epoch: 0,
        hash: [0; 32],
        r: [0; 32],
        s: [0; 32],
        v: 0,
        reserved: [0; 11],
        seal: 0,
    };

    /// As bytes.
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let mut w = Writer(&mut bytes);
        w.put(&self.tag.to_le_bytes());
        w.put(&self.op.to_le_bytes());
        w.put(&self.flags.to_le_bytes());
        w.put(&self.epoch.to_le_bytes());
        w.put(&self.hash);
        w.put(&self.r);
        w.put(&self.s);
        w.put(&[self.v]);
        w.put(&self.reserved);
        w.put(&self.seal.to_le_bytes());
        bytes
    }

    /// From bytes. Any bytes are a submission, perhaps a malformed one.
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let mut r = Reader(bytes);
        Self {
            tag: u64::from_le_bytes(r.get()),
            op: u16::from_le_bytes(r.get()),
            flags: u16::from_le_bytes(r.get()),
            epoch: u32::from_le_bytes(r.get()),
            hash: r.get(),
            r: r.get(),
            s: r.get(),
            v: r.get::<1>()[0],
            reserved: r.get(),
            seal: u32::from_le_bytes(r.get()),
        }
    }

    /// The message of [`OP_KECCAK`]: `v` bytes from offset 16 on.
    pub fn message(&self) -> Vec<u8> {
        let bytes = self.to_bytes();
        bytes[16..16 + usize::from(self.v).min(KECCAK_MAX)].to_vec()
    }

    /// Makes this a request for the Keccak-256 of `message`, cut at [`KECCAK_MAX`] bytes.
    pub fn keccak(tag: u64, message: &[u8]) -> Self {
        let length = message.len().min(KECCAK_MAX);
        let mut bytes = Self { tag, op: OP_KECCAK, v: length as u8, ..Self::ZERO }.to_bytes();
        bytes[16..16 + length].copy_from_slice(&message[..length]);
        Self::from_bytes(&bytes)
    }
}

impl Completion {
    /// All zero.
    pub const ZERO: Self = Self {
        tag: 0,
        status: 0,
        op: 0,
        epoch: 0,
        public_key: [0; 64],
        address: [0; 20],
        nanoseconds: 0,
        reserved: [0; 20],
        seal: 0,
    };

    /// As bytes.
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let mut w = Writer(&mut bytes);
        w.put(&self.tag.to_le_bytes());
        w.put(&self.status.to_le_bytes());
        w.put(&self.op.to_le_bytes());
        w.put(&self.epoch.to_le_bytes());
        w.put(&self.public_key);
        w.put(&self.address);
        w.put(&self.nanoseconds.to_le_bytes());
        w.put(&self.reserved);
        w.put(&self.seal.to_le_bytes());
        bytes
    }

    /// From bytes. Any bytes are a completion, perhaps a senseless one.
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let mut r = Reader(bytes);
        Self {
            tag: u64::from_le_bytes(r.get()),
            status: u16::from_le_bytes(r.get()),
            op: u16::from_le_bytes(r.get()),
            epoch: u32::from_le_bytes(r.get()),
            public_key: r.get(),
            address: r.get(),
            nanoseconds: u32::from_le_bytes(r.get()),
            reserved: r.get(),
            seal: u32::from_le_bytes(r.get()),
        }
    }

    /// What a completion that answers `submission` must not say, whatever the signature: the first rule that it breaks.
    pub fn violation(&self, submission: &Submission) -> Option<&'static str> {
        if self.op != submission.op {
            Some("the completion names another operation than the submission")
        } else if self.reserved != [0; 20] {
            Some("reserved bytes of the completion are not zero")
        } else if self.seal >> 1 != 0 {
            Some("reserved bits of the completion's seal are not zero")
        } else if !status::ALL.contains(&self.status) {
            Some("the completion's status is none that the ABI knows")
        } else if (self.status != status::OK || self.op == OP_NOP) && self.public_key != [0; 64] {
            Some("the completion has a public key where none belongs")
        } else if (self.status != status::OK || self.op != OP_RECOVER) && self.address != [0; 20] {
            Some("the completion has an address where none belongs")
        } else if self.op != OP_RECOVER && error_of(self.status).is_some() {
            Some("the completion judges a signature where there is none")
        } else {
            None
        }
    }
}

/// Why capabilities are not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Not a card page.
    #[error("the capability page begins with {0:#018x}, not with the ABI's magic number")]
    Magic(u64),
    /// Another major version.
    #[error("the card speaks ABI {0}.{1}; this host speaks 1.0, so the major version must be 1")]
    Version(u32, u32),
    /// A field out of its range.
    #[error("the capability page is wrong: {0}")]
    Field(&'static str),
}

impl Capabilities {
    /// A block with magic, version and the mandatory operations, to be completed by a card.
    pub fn new(vendor: &str, model: &str, build: &str) -> Self {
        fn text<const N: usize>(text: &str) -> [u8; N] {
            let mut end = text.len().min(N - 1);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let mut out = [0; N];
            out[..end].copy_from_slice(&text.as_bytes()[..end]);
            out
        }
        Self {
            magic: MAGIC,
            version: VERSION,
            reserved0: 0,
            entries_max: ENTRIES_MAX,
            batch_min: 1,
            parallelism: 1,
            latency_us: 0,
            ops: 1 << OP_NOP | 1 << OP_RECOVER,
            features: 0,
            reserved1: [0; 16],
            vendor: text(vendor),
            model: text(model),
            build: text(build),
            reserved2: [0; 32],
        }
    }

    /// As bytes.
    pub fn to_bytes(&self) -> [u8; 256] {
        let mut bytes = [0; 256];
        let mut w = Writer(&mut bytes);
        w.put(&self.magic.to_le_bytes());
        for word in [
            self.version,
            self.reserved0,
            self.entries_max,
            self.batch_min,
            self.parallelism,
            self.latency_us,
        ] {
            w.put(&word.to_le_bytes());
        }
        w.put(&self.ops.to_le_bytes());
        w.put(&self.features.to_le_bytes());
        w.put(&self.reserved1);
        w.put(&self.vendor);
        w.put(&self.model);
        w.put(&self.build);
        w.put(&self.reserved2);
        bytes
    }

    /// From bytes, unchecked; see [`Self::check`].
    pub fn from_bytes(bytes: &[u8; 256]) -> Self {
        let mut r = Reader(bytes);
        Self {
            magic: u64::from_le_bytes(r.get()),
            version: u32::from_le_bytes(r.get()),
            reserved0: u32::from_le_bytes(r.get()),
            entries_max: u32::from_le_bytes(r.get()),
            batch_min: u32::from_le_bytes(r.get()),
            parallelism: u32::from_le_bytes(r.get()),
            latency_us: u32::from_le_bytes(r.get()),
            ops: u64::from_le_bytes(r.get()),
            features: u64::from_le_bytes(r.get()),
            reserved1: r.get(),
            vendor: r.get(),
            model: r.get(),
            build: r.get(),
            reserved2: r.get(),
        }
    }

    /// Checks everything that this version of the ABI fixes. Operations, features and reserved bytes that a later minor
    /// version may define are an error only where the card says that it speaks 1.0.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), CapabilityError> {
        use CapabilityError::{Field, Magic, Version};
        if self.magic != MAGIC {
            return Err(Magic(self.magic));
        }
        if self.version >> 16 != VERSION >> 16 {
            return Err(Version(self.version >> 16, self.version & 0xffff));
        }
        if !self.entries_max.is_power_of_two() || !(ENTRIES_MIN..=ENTRIES_MAX).contains(&self.entries_max) {
            return Err(Field("entries_max is not a power of two from 2 to 65536"));
        }
        if self.batch_min == 0 || self.batch_min > self.entries_max {
            return Err(Field("batch_min is not from 1 to entries_max"));
        }
        if self.parallelism == 0 {
            return Err(Field("parallelism is zero"));
        }
        let mandatory = 1 << OP_NOP | 1 << OP_RECOVER;
        if self.ops & mandatory != mandatory {
            return Err(Field("NOP and RECOVER are not both offered"));
        }
        if self.version == VERSION {
            if self.ops & !(mandatory | 1 << OP_KECCAK) != 0 {
                return Err(Field("operations are offered that ABI 1.0 does not have"));
            }
            if self.features & !FEATURE_ANY_S != 0 {
                return Err(Field("features are offered that ABI 1.0 does not have"));
            }
            if self.reserved0 != 0 || self.reserved1 != [0; 16] || self.reserved2 != [0; 32] {
                return Err(Field("reserved bytes are not zero"));
            }
        }
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|b| *b == 0)?;
            let tail_is_zero = bytes[end..].iter().all(|b| *b == 0);
            let text = std::str::from_utf8(&bytes[..end]).ok()?;
            (tail_is_zero && !text.is_empty() && !text.chars().any(char::is_control)).then_some(())
        };
        if text(&self.vendor).and(text(&self.model)).and(text(&self.build)).is_none() {
            return Err(Field("vendor, model or build is not zero-padded printable UTF-8, or is empty"));
        }
        Ok(())
    }

    /// Vendor, model and build in one line.
    pub fn title(&self) -> String {
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        format!("{} {} ({})", text(&self.vendor), text(&self.model), text(&self.build))
    }

    /// Whether the card offers an operation.
    pub fn offers(&self, op: u16) -> bool {
        op < 64 && self.ops >> op & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::process::Command;

    /// Compiles a program against the header, strictly, and compares what it prints with this module.
    #[test]
    fn the_header_says_the_same() {
        let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
        let folder = std::env::temp_dir().join(format!("ironlane-abi-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        let mut expected: Vec<(String, u64)> = vec![];
        let mut add = |expression: &str, value: u64| expected.push((expression.into(), value));
        macro_rules! offsets {
            ($rust:ident, $c:literal, $($field:ident),+) => {
                add(concat!("sizeof(struct ", $c, ")"), size_of::<$rust>() as u64);
                $(add(
                    concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"),
                    std::mem::offset_of!($rust, $field) as u64,
                );)+
            };
        }
        offsets!(Submission, "ironlane_submission", tag, op, flags, epoch, hash, r, s, v, reserved, seal);
        offsets!(
            Completion,
            "ironlane_completion",
            tag,
            status,
            op,
            epoch,
            public_key,
            address,
            nanoseconds,
            reserved,
            seal
        );
        offsets!(
            Capabilities,
            "ironlane_capabilities",
            magic,
            version,
            reserved0,
            entries_max,
            batch_min,
            parallelism,
            latency_us,
            ops,
            features,
            reserved1,
            vendor,
            model,
            build,
            reserved2
        );
        for (name, value) in [
            ("OFFLOAD_VERSION", u64::from(VERSION)),
            ("OFFLOAD_MAGIC", MAGIC),
            ("OP_NOP", OP_NOP.into()),
            ("OP_RECOVER", OP_RECOVER.into()),
            ("OP_KECCAK", OP_KECCAK.into()),
            ("FLAG_ANY_S", FLAG_ANY_S.into()),
            ("FEATURE_ANY_S", FEATURE_ANY_S),
            ("OK", status::OK.into()),
            ("BAD_PARITY", status::BAD_PARITY.into()),
            ("BAD_R", status::BAD_R.into()),
            ("BAD_S", status::BAD_S.into()),
            ("HIGH_S", status::HIGH_S.into()),
            ("NO_KEY", status::NO_KEY.into()),
            ("MALFORMED", status::MALFORMED.into()),
            ("STALE_EPOCH", status::STALE_EPOCH.into()),
            ("BAD_OP", status::BAD_OP.into()),
            ("BAD_FLAGS", status::BAD_FLAGS.into()),
            ("BAD_LENGTH", status::BAD_LENGTH.into()),
            ("INTERNAL", status::INTERNAL.into()),
            ("CANCELLED", status::CANCELLED.into()),
            ("KECCAK_MAX", KECCAK_MAX as u64),
            ("CARD_PAGE", 0),
            ("HOST_PAGE", HOST_PAGE as u64),
            ("RINGS", RINGS as u64),
            ("ENTRY_BYTES", ENTRY_BYTES as u64),
            ("ENTRIES_MIN", ENTRIES_MIN.into()),
            ("ENTRIES_MAX", ENTRIES_MAX.into()),
            ("REGION_BYTES(256)", region_bytes(256) as u64),
            ("CARD_HEARTBEAT", card_page::HEARTBEAT as u64),
            ("CARD_COMPLETED", card_page::COMPLETED as u64),
            ("CARD_TEMPERATURE", card_page::TEMPERATURE as u64),
            ("CARD_POWER", card_page::POWER as u64),
            ("CARD_STATE", card_page::STATE as u64),
            ("CARD_EPOCH", card_page::EPOCH as u64),
            ("CARD_FAULT", card_page::FAULT as u64),
            ("CARD_SQ_HEAD", card_page::SQ_HEAD as u64),
            ("CARD_WAITS", card_page::WAITS as u64),
            ("HOST_PAGE + IRONLANE_HOST_COMMAND", host_page::COMMAND as u64),
            ("HOST_PAGE + IRONLANE_HOST_EPOCH", host_page::EPOCH as u64),
            ("HOST_PAGE + IRONLANE_HOST_ENTRIES_LOG2", host_page::ENTRIES_LOG2 as u64),
            ("HOST_PAGE + IRONLANE_HOST_SQ_TAIL", host_page::SQ_TAIL as u64),
            ("HOST_PAGE + IRONLANE_HOST_CQ_HEAD", host_page::CQ_HEAD as u64),
            ("HOST_PAGE + IRONLANE_HOST_WAITS", host_page::WAITS as u64),
            ("STATE_STARTING", state::STARTING.into()),
            ("STATE_IDLE", state::IDLE.into()),
            ("STATE_RUNNING", state::RUNNING.into()),
            ("STATE_FAILED", state::FAILED.into()),
            ("COMMAND_NONE", command::NONE.into()),
            ("COMMAND_RESET", command::RESET.into()),
            ("COMMAND_RUN", command::RUN.into()),
            ("COMMAND_STOP", command::STOP.into()),
            ("PHASE(0, 4)", phase(0, 4).into()),
            ("PHASE(15, 4)", phase(15, 4).into()),
            ("PHASE(16, 4)", phase(16, 4).into()),
            ("PHASE(0xffffffffu, 4)", phase(u32::MAX, 4).into()),
        ] {
            add(&format!("IRONLANE_{name}"), value);
        }
        let mut source =
            "#include <stdio.h>\n#include \"ironlane_offload.h\"\nint main(void) {\n".to_string();
        for (expression, _) in &expected {
            let _ = writeln!(source, "  printf(\"%llu\\n\", (unsigned long long)({expression}));");
        }
        let _ = writeln!(source, "  puts(IRONLANE_OFFLOAD_FD);\n  return 0;\n}}");
        let program = folder.join("abi");
        for (compiler, file, standard) in [("g++", "abi.cc", "-std=c++17"), ("gcc", "abi.c", "-std=c11")] {
            let path = folder.join(file);
            std::fs::write(&path, &source).expect("the folder is ours");
            let strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
            let made = Command::new(compiler)
                .args([standard, "-I", include])
                .args(strict)
                .arg(&path)
                .arg("-o")
                .arg(&program)
                .output();
            match made {
                Ok(made) => assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr)),
                Err(error) if compiler == "g++" => eprintln!("skipped the C++ compilation: {error}"),
                Err(error) => panic!("gcc is needed to check the header: {error}"),
            }
        }
        let output = Command::new(&program).output().expect("the program runs");
        std::fs::remove_dir_all(&folder).expect("the folder is ours");
        let text = String::from_utf8(output.stdout).expect("numbers");
        let mut lines = text.lines();
        for (expression, value) in &expected {
            let line = lines.next().expect("a line an expression");
            assert_eq!(line.parse::<u64>().expect("a number"), *value, "{expression}");
        }
        assert_eq!(lines.next(), Some(SOCKET_FD_VARIABLE));
    }

    #[test]
    fn entries_survive_their_bytes() {
        let bytes: [u8; ENTRY_BYTES] = std::array::from_fn(|i| i as u8 ^ 0x5a);
        assert_eq!(Submission::from_bytes(&bytes).to_bytes(), bytes);
        assert_eq!(Completion::from_bytes(&bytes).to_bytes(), bytes);
        let bytes: [u8; 256] = std::array::from_fn(|i| i as u8 ^ 0xa5);
        assert_eq!(Capabilities::from_bytes(&bytes).to_bytes(), bytes);
        let message: Vec<u8> = (0..96).collect();
        for length in [0, 1, 31, 32, 33, 95, 96] {
            assert_eq!(Submission::keccak(1, &message[..length]).message(), &message[..length]);
        }
    }

    #[test]
    fn capabilities_are_refused_for_their_reason() {
        let good = Capabilities::new("Example", "card", "1");
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.title(), "Example card (1)");
        let broken = |f: &dyn Fn(&mut Capabilities)| {
            let mut caps = good;
            f(&mut caps);
            caps.check().expect_err("broken").to_string()
        };
        assert!(broken(&|c| c.magic = 7).contains("magic"));
        assert!(broken(&|c| c.version = 0x0002_0003).contains("2.3"));
        assert!(broken(&|c| c.entries_max = 3).contains("power of two"));
        assert!(broken(&|c| c.batch_min = 0).contains("batch_min"));
        assert!(broken(&|c| c.parallelism = 0).contains("parallelism"));
        assert!(broken(&|c| c.ops = 1).contains("RECOVER"));
        assert!(broken(&|c| c.ops |= 1 << 40).contains("operations"));
        assert!(broken(&|c| c.features |= 2).contains("features"));
        assert!(broken(&|c| c.reserved2[31] = 1).contains("reserved"));
        assert!(broken(&|c| c.vendor = [b'x'; 64]).contains("UTF-8"));
        assert!(broken(&|c| c.model[0] = 0xff).contains("UTF-8"));
        // A later minor version may use what 1.0 reserves.
        let later = Capabilities { version: VERSION + 1, ops: good.ops | 1 << 40, reserved0: 1, ..good };
        assert_eq!(later.check(), Ok(()));
    }
}
