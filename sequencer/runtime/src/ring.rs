//! The bounded link between two stages: one producer, one consumer, no locks.
//!
//! Ownership: an item belongs to the producer until `push` returns `Ok`, to the ring until `pop` returns it, then to the
//! consumer. Order: first in, first out. Full: `push` gives the item back. When both ends are gone, what is left is
//! dropped.
#![allow(unsafe_code)]

use crate::Doorbell;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One index to a cache line, so that the two ends do not slow each other down.
#[repr(align(128))]
struct Padded(AtomicUsize);

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Next slot to write; only the producer stores it. Counts up for ever, the slot is `tail & mask`.
    tail: Padded,
    /// Next slot to read; only the consumer stores it.
    head: Padded,
    high_water: Padded,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    doorbell: Option<Doorbell>,
}

// SAFETY: a slot is touched by one thread at a time. Between head and tail it is the consumer's, elsewhere the
// producer's, and each index is stored with Release after the slot was used and loaded with Acquire before; items cross
// threads, hence `T: Send`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the slots hold only `T`s.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn len(&self) -> usize {
        let head = self.head.0.load(Ordering::Acquire);
        self.tail.0.load(Ordering::Acquire).wrapping_sub(head)
    }

    fn slot(&self, index: usize) -> *mut MaybeUninit<T> {
        self.slots[index & (self.slots.len() - 1)].get()
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = *self.tail.0.get_mut();
        let mut head = *self.head.0.get_mut();
        while head != tail {
            // SAFETY: slots from head to tail hold items that nobody took, and no other reference is left.
            unsafe { (*self.slot(head)).assume_init_drop() };
            head = head.wrapping_add(1);
        }
    }
}

/// The end that fills.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// The newest `head` seen: the ring has at least the room that it implies.
    head_seen: usize,
}

/// The end that empties.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    /// The newest `tail` seen: at least that many items are there.
    tail_seen: usize,
}

/// Reads a ring's depth from any thread.
#[derive(Clone)]
pub struct Gauge {
    name: Arc<str>,
    read: Arc<dyn Fn() -> (usize, usize, usize) + Send + Sync>,
}

impl Gauge {
    /// The link's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Items in the ring now.
    pub fn len(&self) -> usize {
        (self.read)().0
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items it can hold.
    pub fn capacity(&self) -> usize {
        (self.read)().1
    }

    /// Most items that it has held.
    pub fn high_water(&self) -> usize {
        (self.read)().2
    }
}

/// A ring of at least `depth` items (rounded up to a power of two); `doorbell` wakes the consumer's lane.
pub fn ring<T: Send + 'static>(depth: usize, doorbell: Option<Doorbell>) -> (Producer<T>, Consumer<T>) {
    let depth = depth.max(2).next_power_of_two();
    let shared = Arc::new(Shared {
        slots: (0..depth).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        tail: Padded(AtomicUsize::new(0)),
        head: Padded(AtomicUsize::new(0)),
        high_water: Padded(AtomicUsize::new(0)),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
        doorbell,
    });
    let producer = Producer { shared: shared.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, tail_seen: 0 })
}

impl<T: Send + 'static> Producer<T> {
    /// Adds one item and rings the consumer's doorbell, or gives the item back when the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.put(item)?;
        self.publish();
        Ok(())
    }

    /// Adds items until the iterator ends or the ring is full; rings once. Answers how many were taken. An item is only
    /// drawn from the iterator when there is room for it.
    pub fn push_batch(&mut self, items: impl IntoIterator<Item = T>) -> usize {
        let mut items = items.into_iter();
        let before = self.tail;
        while self.free() > 0 {
            let Some(item) = items.next() else { break };
            if self.put(item).is_err() {
                unreachable!("there was room, and only this end fills");
            }
        }
        let taken = self.tail.wrapping_sub(before);
        if taken > 0 {
            self.publish();
        }
        taken
    }

    fn put(&mut self, item: T) -> Result<(), T> {
        if self.free() == 0 {
            return Err(item);
        }
        // SAFETY: the slot at `tail` is free (the consumer's head is less than a ring's length behind), and only this
        // end writes; the consumer sees it after `publish`.
        unsafe { (*self.shared.slot(self.tail)).write(item) };
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    fn publish(&mut self) {
        self.shared.tail.0.store(self.tail, Ordering::Release);
        let depth = self.tail.wrapping_sub(self.head_seen);
        if depth > self.shared.high_water.0.load(Ordering::Relaxed) {
            // `head_seen` may be old and the depth too high: look before recording.
            let depth = self.shared.len();
            self.shared.high_water.0.fetch_max(depth, Ordering::Relaxed);
        }
        if let Some(doorbell) = &self.shared.doorbell {
            doorbell.ring();
        }
    }

    /// Room for so many more items, at least.
    pub fn free(&mut self) -> usize {
        let capacity = self.shared.slots.len();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        }
        capacity - self.tail.wrapping_sub(self.head_seen)
    }

    /// Room for so many more items, exactly, as of now.
    pub fn free_now(&mut self) -> usize {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.free()
    }

    /// Whether the consumer is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.consumer_gone.load(Ordering::Acquire)
    }

    /// A handle that reads the depth.
    pub fn gauge(&self, name: &str) -> Gauge {
        gauge(&self.shared, name)
    }
}

impl<T: Send + 'static> Consumer<T> {
    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: head is behind the producer's tail, which was loaded with Acquire, so the slot holds an item that
        // nobody else reads; moving head on gives the slot back.
        let item = unsafe { (*self.shared.slot(self.head)).assume_init_read() };
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Takes up to `max` items, oldest first. Answers how many.
    pub fn drain(&mut self, max: usize, mut take: impl FnMut(T)) -> usize {
        let mut taken = 0;
        while taken < max {
            let Some(item) = self.pop() else { break };
            take(item);
            taken += 1;
        }
        taken
    }

    /// The oldest item, left in place.
    pub fn peek(&mut self) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: as in `pop`; the borrow of `self` keeps head where it is.
        Some(unsafe { (*self.shared.slot(self.head)).assume_init_ref() })
    }

    /// Whether nothing waits.
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }

    /// Items that wait now.
    pub fn len(&mut self) -> usize {
        self.shared.len()
    }

    /// Whether the producer is gone (what it left can still be taken).
    pub fn is_closed(&self) -> bool {
        self.shared.producer_gone.load(Ordering::Acquire)
    }

    /// A handle that reads the depth.
    pub fn gauge(&self, name: &str) -> Gauge {
        gauge(&self.shared, name)
    }
}

fn gauge<T: Send + 'static>(shared: &Arc<Shared<T>>, name: &str) -> Gauge {
    let weak = Arc::downgrade(shared);
    let capacity = shared.slots.len();
    let read = move || match weak.upgrade() {
        Some(shared) => (shared.len(), capacity, shared.high_water.0.load(Ordering::Relaxed)),
        None => (0, capacity, 0),
    };
    Gauge { name: name.into(), read: Arc::new(read) }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.producer_gone.store(true, Ordering::Release);
        if let Some(doorbell) = &self.shared.doorbell {
            doorbell.ring();
        }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.consumer_gone.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn full_gives_the_item_back_and_dropped_ends_are_seen() {
        let (mut tx, mut rx) = ring::<String>(2, None);
        let gauge = tx.gauge("link");
        tx.push("a".into()).expect("room");
        tx.push("b".into()).expect("room");
        assert_eq!(tx.push("c".into()), Err("c".to_string()));
        assert_eq!((gauge.len(), gauge.capacity(), gauge.high_water(), gauge.name()), (2, 2, 2, "link"));
        assert_eq!(rx.peek().map(String::as_str), Some("a"));
        assert_eq!(rx.pop().as_deref(), Some("a"));
        assert!(!rx.is_closed());
        drop(tx);
        assert!(rx.is_closed());
        assert_eq!(rx.pop().as_deref(), Some("b"), "what was sent can still be taken");
        assert_eq!(rx.pop(), None);
    }

    #[test]
    fn what_nobody_took_is_dropped_once() {
        let item = Arc::new(());
        let (mut tx, mut rx) = ring::<Arc<()>>(8, None);
        assert_eq!(tx.push_batch(std::iter::repeat_n(item.clone(), 5)), 5);
        drop(rx.pop());
        drop((tx, rx));
        assert_eq!(Arc::strong_count(&item), 1);
    }

    #[test]
    fn two_threads_pass_a_million_items_in_order() {
        let (mut tx, mut rx) = ring::<u64>(64, None);
        let sender = std::thread::spawn(move || {
            let mut next = 0u64;
            while next < 1_000_000 {
                let end = (next + 37).min(1_000_000);
                next += tx.push_batch(next..end) as u64;
                std::hint::spin_loop();
            }
        });
        let mut expected = 0;
        while expected < 1_000_000 {
            rx.drain(50, |item| {
                assert_eq!(item, expected);
                expected += 1;
            });
        }
        sender.join().expect("sender");
    }

    proptest! {
        #[test]
        fn behaves_as_a_queue(steps in proptest::collection::vec((any::<bool>(), 0usize..6), 1..200)) {
            let (mut tx, mut rx) = ring::<u32>(4, None);
            let mut model = VecDeque::new();
            let mut next = 0u32;
            for (push, n) in steps {
                if push {
                    let taken = tx.push_batch(next..next + n as u32);
                    prop_assert_eq!(taken, n.min(4 - model.len()));
                    model.extend(next..next + taken as u32);
                    next += taken as u32;
                } else {
                    let mut got = Vec::new();
                    rx.drain(n, |item| got.push(item));
                    let wanted: Vec<u32> = model.drain(..n.min(model.len())).collect();
                    prop_assert_eq!(got, wanted);
                }
                prop_assert_eq!(rx.len(), model.len());
                prop_assert_eq!(tx.free_now(), 4 - model.len());
            }
        }
    }
}
