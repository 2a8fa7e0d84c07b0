//! Keccak-256 of many messages on a device.

use crate::keccak;
use alloy_primitives::B256;

/// Bytes of messages that travel at a time.
const BYTES_MAX: usize = 64 << 20;
/// Messages that travel at a time.
const MESSAGES_MAX: usize = 1 << 20;

/// What a backend does for [`Hasher`]. Messages of a batch: at least one, at most [`MESSAGES_MAX`].
pub(super) trait HashDevice: Send {
    /// Brings messages to the device: message i begins at `words[table[2 i]]` and has `table[2 i + 1]` bytes.
    fn load(&mut self, words: &[u32], table: &[u32]) -> Result<(), String>;
    /// Hashes the first `count` loaded messages, `rounds` times over; returns when that is done.
    fn run(&mut self, count: usize, rounds: u32) -> Result<(), String>;
    /// Eight words a hash.
    fn read(&mut self, hashes: &mut [u32]) -> Result<(), String>;
}

/// Keccak-256 on a GPU, for batches large enough to pay for the journey (tens of thousands of messages). Made by
/// [`cuda::hasher`](super::cuda::hasher) or `opencl::hasher`.
///
/// The hashes are claims: whoever builds on them must be able to find out if they are wrong.
pub struct Hasher {
    name: &'static str,
    device: Box<dyn HashDevice>,
    words: Vec<u32>,
    table: Vec<u32>,
    hashes: Vec<u32>,
}

/// A batch of the device failed; `out` is not to be used. Hash on the CPU instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Keccak-256 on {engine} failed: {reason}")]
pub struct HashFailure {
    /// Name of the engine.
    pub engine: &'static str,
    /// What was wrong.
    pub reason: String,
}

impl Hasher {
    /// Tests the device with messages around the block boundaries.
    pub(super) fn start(name: &'static str, device: Box<dyn HashDevice>) -> Result<Hasher, String> {
        let mut hasher = Hasher { name, device, words: vec![], table: vec![], hashes: vec![] };
        let bytes: Vec<u8> = (0..300u32).map(|i| (i * 31 + 7) as u8).collect();
        let messages: Vec<&[u8]> =
            [0, 1, 3, 4, 31, 32, 135, 136, 137, 271, 272, 300].map(|length| &bytes[..length]).to_vec();
        let mut found = vec![B256::ZERO; messages.len()];
        hasher.hash_many(&messages, &mut found).map_err(|failure| failure.reason)?;
        for (message, found) in messages.iter().zip(&found) {
            if *found != keccak::keccak256(message) {
                return Err(format!("the self-test hashed {} bytes to {found}", message.len()));
            }
        }
        Ok(hasher)
    }

    /// Name of the engine.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `out[i] = keccak256(messages[i])`. Returns when all are there.
    ///
    /// # Errors
    /// [`HashFailure`] when the device failed, or a message has 64 MiB or more.
    ///
    /// # Panics
    /// When the two slices differ in length.
    pub fn hash_many(&mut self, messages: &[&[u8]], out: &mut [B256]) -> Result<(), HashFailure> {
        assert_eq!(messages.len(), out.len(), "each message has one hash");
        let mut from = 0;
        while from < messages.len() {
            let mut to = from;
            self.words.clear();
            self.table.clear();
            while to < messages.len() && to - from < MESSAGES_MAX {
                let message = messages[to];
                if 4 * self.words.len() + message.len() > BYTES_MAX {
                    break;
                }
                self.table.extend([self.words.len() as u32, message.len() as u32]);
                let (whole, rest) = message.as_chunks::<4>();
                self.words.extend(whole.iter().map(|bytes| u32::from_le_bytes(*bytes)));
                if !rest.is_empty() {
                    let mut last = [0; 4];
                    last[..rest.len()].copy_from_slice(rest);
                    self.words.push(u32::from_le_bytes(last));
                }
                to += 1;
            }
            if to == from {
                let reason = format!("a message of {} bytes is too long", messages[from].len());
                return Err(HashFailure { engine: self.name, reason });
            }
            self.hashes.clear();
            self.hashes.resize(8 * (to - from), 0);
            self.device
                .load(&self.words, &self.table)
                .and_then(|()| self.device.run(to - from, 1))
                .and_then(|()| self.device.read(&mut self.hashes))
                .map_err(|reason| HashFailure { engine: self.name, reason })?;
            for (out, words) in out[from..to].iter_mut().zip(self.hashes.chunks_exact(8)) {
                for (bytes, word) in out.0.chunks_exact_mut(4).zip(words) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
            from = to;
        }
        Ok(())
    }

    /// Seconds that the kernel alone needs for the messages that were hashed last: the mean of `rounds`.
    ///
    /// # Errors
    /// [`HashFailure`] when the device failed or `rounds` is 0.
    pub fn kernel_seconds(&mut self, rounds: u32) -> Result<f64, HashFailure> {
        let failure = |reason| HashFailure { engine: self.name, reason };
        if rounds == 0 {
            return Err(failure("nothing can be timed in 0 rounds".to_owned()));
        }
        let start = std::time::Instant::now();
        self.device.run(self.table.len() / 2, rounds).map_err(failure)?;
        Ok(start.elapsed().as_secs_f64() / f64::from(rounds))
    }
}
