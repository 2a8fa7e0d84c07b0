//! What waits for the background thread: bounded, each code once, the hottest first.

use super::Key;
use alloy_primitives::Bytes;
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A code that got hot.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) key: Key,
    pub(crate) code: Bytes,
    /// Gas that it spent in the interpreter.
    pub(crate) gas: u64,
}

/// What the background thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    Compile(Request),
    /// Nothing came for a while.
    Idle,
    Stop,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<Request>,
    busy: bool,
    stopped: bool,
}

/// The queue. Only a code that gets hot takes its lock.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    len_max: usize,
}

impl Queue {
    pub(crate) fn new(len_max: usize) -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), len_max }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a code, or adds its gas to what it waits with. False: there is no room.
    pub(crate) fn push(&self, key: Key, gas: u64, code: impl FnOnce() -> Bytes) -> bool {
        let mut waiting = self.lock();
        if let Some(request) = waiting.requests.iter_mut().find(|request| request.key == key) {
            request.gas = request.gas.saturating_add(gas);
            return true;
        }
        if waiting.requests.len() >= self.len_max || waiting.stopped {
            return false;
        }
        waiting.requests.push(Request { key, code: code(), gas });
        self.changed.notify_all();
        true
    }

    /// The hottest request; waits for one. What was taken before counts as done.
    pub(crate) fn take(&self, timeout: Duration) -> Order {
        let mut waiting = self.lock();
        waiting.busy = false;
        self.changed.notify_all();
        if waiting.requests.is_empty() && !waiting.stopped {
            waiting = self.changed.wait_timeout(waiting, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.stopped {
            return Order::Stop;
        }
        let hottest = (0..waiting.requests.len()).max_by_key(|at| waiting.requests[*at].gas);
        let Some(hottest) = hottest else { return Order::Idle };
        waiting.busy = true;
        Order::Compile(waiting.requests.swap_remove(hottest))
    }

    /// Waits until nothing waits or is worked on.
    pub(crate) fn wait_until_done(&self) {
        let mut waiting = self.lock();
        while !waiting.stopped && (waiting.busy || !waiting.requests.is_empty()) {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps, unless the queue is stopped meanwhile. True: it was.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        let waiting = self.lock();
        let result = self.changed.wait_timeout_while(waiting, time, |waiting| !waiting.stopped);
        result.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().requests.len()
    }

    /// Ends the background thread's work; what waits is dropped.
    pub(crate) fn stop(&self) {
        let mut waiting = self.lock();
        waiting.stopped = true;
        waiting.requests.clear();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use revm::primitives::hardfork::SpecId;

    fn key(n: u8) -> Key {
        Key { hash: B256::repeat_byte(n), spec: SpecId::OSAKA }
    }

    #[test]
    fn each_code_once_the_hottest_first_and_no_more_than_fit() {
        let queue = Queue::new(3);
        for (n, gas) in [(1, 10), (2, 30), (3, 20)] {
            assert!(queue.push(key(n), gas, Bytes::new));
        }
        assert!(!queue.push(key(4), 99, || unreachable!("no room, so no copy")), "full");
        assert!(queue.push(key(1), 25, || unreachable!("it waits already")));
        let mut order = Vec::new();
        while let Order::Compile(request) = queue.take(Duration::ZERO) {
            order.push((request.key, request.gas));
        }
        assert_eq!(order, [(key(1), 35), (key(2), 30), (key(3), 20)]);
        queue.wait_until_done();
        queue.push(key(5), 1, Bytes::new);
        queue.stop();
        assert!(matches!(queue.take(Duration::MAX), Order::Stop));
        assert!(!queue.push(key(6), 1, Bytes::new));
    }
}
