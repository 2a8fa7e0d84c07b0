//! The hashes of the newest blocks, shared between the thread that executes and the thread that computes roots.

use crate::StoreError;
use alloy_primitives::B256;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// How many hashes are kept: what BLOCKHASH can ask for, and one for the parent of the oldest.
const KEPT: usize = 257;

/// The last 256 block hashes. Clones share them.
///
/// A block may open before its parent has a hash. Whoever asks for a hash above the newest known one waits until
/// [`Self::set`] brings it, or until [`Self::close`] ends all waiting.
#[derive(Debug, Clone, Default)]
pub struct BlockHashes {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<Window>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Window {
    /// Number of the first entry of `hashes`.
    first: u64,
    hashes: VecDeque<Option<B256>>,
    closed: bool,
}

impl Window {
    fn get(&self, number: u64) -> Option<B256> {
        let at = number.checked_sub(self.first)?;
        *self.hashes.get(usize::try_from(at).ok()?)?
    }

    /// Whether a number is above everything known.
    fn is_ahead(&self, number: u64) -> bool {
        self.hashes.is_empty() || number >= self.first + self.hashes.len() as u64
    }

    fn set(&mut self, number: u64, hash: B256) {
        if self.hashes.is_empty() {
            self.first = number;
        }
        if number < self.first {
            let missing = self.first - number;
            // Older than the window that follows it.
            if missing + self.hashes.len() as u64 > KEPT as u64 {
                return;
            }
            for _ in 0..missing {
                self.hashes.push_front(None);
            }
            self.first = number;
        }
        let mut at = number - self.first;
        if at >= 2 * KEPT as u64 {
            // A jump: nothing of the old window can be asked for any more.
            self.hashes.clear();
            self.first = number;
            at = 0;
        }
        while self.hashes.len() as u64 <= at {
            self.hashes.push_back(None);
        }
        self.hashes[at as usize] = Some(hash);
        while self.hashes.len() > KEPT {
            self.hashes.pop_front();
            self.first += 1;
        }
    }
}

impl BlockHashes {
    /// None known.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a hash known and wakes who waits for it. Called again for the same number, the later hash wins.
    pub fn set(&self, number: u64, hash: B256) {
        self.lock().set(number, hash);
        self.inner.changed.notify_all();
    }

    /// The hash, if it is known and among the last 256.
    pub fn get(&self, number: u64) -> Option<B256> {
        self.lock().get(number)
    }

    /// The hash, waiting for it when it is above the newest known one. Below it there is nothing to wait for:
    /// [`StoreError::HashMissing`].
    pub fn wait(&self, number: u64) -> Result<B256, StoreError> {
        let mut window = self.lock();
        loop {
            if let Some(hash) = window.get(number) {
                return Ok(hash);
            }
            if !window.is_ahead(number) {
                return Err(StoreError::HashMissing(number));
            }
            if window.closed {
                return Err(StoreError::ShuttingDown(number));
            }
            window = self.inner.changed.wait(window).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all waiting, now and later: the node is going down.
    pub fn close(&self) {
        self.lock().closed = true;
        self.inner.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn keeps_the_newest_and_says_what_is_missing() {
        let hashes = BlockHashes::new();
        for n in 0..1000u64 {
            hashes.set(n, B256::with_last_byte(n as u8));
        }
        assert_eq!(hashes.get(999), Some(B256::with_last_byte(231)));
        assert_eq!(hashes.get(743), Some(B256::with_last_byte(231)));
        assert_eq!(hashes.get(742), None);
        assert_eq!(hashes.wait(742), Err(StoreError::HashMissing(742)));
        hashes.set(5_000, B256::ZERO);
        assert_eq!(hashes.get(999), None);
    }

    #[test]
    fn fills_backwards_and_forwards() {
        let hashes = BlockHashes::new();
        hashes.set(300, B256::with_last_byte(1));
        hashes.set(44, B256::with_last_byte(2));
        assert_eq!(hashes.get(44), Some(B256::with_last_byte(2)));
        hashes.set(43, B256::with_last_byte(3));
        assert_eq!(hashes.get(43), None, "outside the window of 300");
        assert_eq!(hashes.wait(45), Err(StoreError::HashMissing(45)));
    }

    #[test]
    fn a_waiter_is_woken_by_the_hash_and_by_the_end() {
        let hashes = BlockHashes::new();
        hashes.set(1, B256::ZERO);
        let other = hashes.clone();
        let waiter = std::thread::spawn(move || (other.wait(2), other.wait(3)));
        std::thread::sleep(Duration::from_millis(20));
        hashes.set(2, B256::with_last_byte(9));
        std::thread::sleep(Duration::from_millis(20));
        hashes.close();
        assert_eq!(waiter.join().unwrap(), (Ok(B256::with_last_byte(9)), Err(StoreError::ShuttingDown(3))));
    }
}
