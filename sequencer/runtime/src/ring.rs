//! The bounded link between two stages: one producer, one consumer, no locks.
//!
//! Ownership: an item belongs to the producer until `push` returns `Ok`, to the ring until `pop` returns it, then to the
//! consumer. Order: first in, first out. Full: `push` gives the item back. When both ends are gone, what is left is
//! dropped.
//!
//! A consumer's lane is rung when items arrive. A producer that found the ring more than half full is rung when the
//! consumer has brought it down to half, so that a lane that fell asleep over a full ring goes on at once, and not with
//! every single item.
#![allow(unsafe_code)]

use crate::Doorbell;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

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
    /// The producer saw more than half a ring, and wants to be rung when it is down to half.
    waiting: AtomicBool,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    doorbell: Option<Doorbell>,
    producer_doorbell: Option<Doorbell>,
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
    /// Items were taken since the producer was last considered.
    unchecked: bool,
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
    ring_between(depth, None, doorbell)
}

/// As [`ring`], and `producer_doorbell` wakes the producer's lane when a ring that was more than half full is down to
/// half.
pub fn ring_between<T: Send + 'static>(
    depth: usize,
    producer_doorbell: Option<Doorbell>,
    doorbell: Option<Doorbell>,
) -> (Producer<T>, Consumer<T>) {
    let depth = depth.max(2).next_power_of_two();
    let shared = Arc::new(Shared {
        slots: (0..depth).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        tail: Padded(AtomicUsize::new(0)),
        head: Padded(AtomicUsize::new(0)),
        high_water: Padded(AtomicUsize::new(0)),
        waiting: AtomicBool::new(false),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
        doorbell,
        producer_doorbell,
    });
    let producer = Producer { shared: shared.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, tail_seen: 0, unchecked: false })
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
            self.look();
        }
        capacity - self.tail.wrapping_sub(self.head_seen)
    }

    /// Learns how far the consumer is; asks to be rung when that is not far.
    fn look(&mut self) {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        let half = self.shared.slots.len() / 2;
        if self.shared.producer_doorbell.is_some() && self.tail.wrapping_sub(self.head_seen) > half {
            self.shared.waiting.store(true, Ordering::Relaxed);
            // Pairs with the fence in `relieve`: either this look sees what the consumer took before it, or the consumer
            // sees `waiting` after it.
            fence(Ordering::SeqCst);
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        }
    }

    /// Room for so many more items, exactly, as of now.
    pub fn free_now(&mut self) -> usize {
        self.look();
        self.shared.slots.len() - self.tail.wrapping_sub(self.head_seen)
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
        let item = self.take()?;
        self.give_back();
        Some(item)
    }

    /// Takes the oldest item; its slot stays out of the producer's reach until `give_back`.
    fn take(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: head is behind the producer's tail, which was loaded with Acquire, so the slot holds an item that
        // nobody else reads; head moves on, so it is read once.
        let item = unsafe { (*self.shared.slot(self.head)).assume_init_read() };
        self.head = self.head.wrapping_add(1);
        self.unchecked = true;
        Some(item)
    }

    fn give_back(&mut self) {
        self.shared.head.0.store(self.head, Ordering::Release);
    }

    /// Rings a producer that waits, once the ring is down to half.
    fn relieve(&mut self) {
        self.unchecked = false;
        let Some(doorbell) = &self.shared.producer_doorbell else { return };
        fence(Ordering::SeqCst);
        if self.shared.waiting.load(Ordering::Relaxed)
            && self.shared.len() <= self.shared.slots.len() / 2
            && self.shared.waiting.swap(false, Ordering::AcqRel)
        {
            doorbell.ring();
        }
    }

    /// Takes up to `max` items, oldest first. Answers how many. The producer sees the room once, at the end.
    pub fn drain(&mut self, max: usize, mut take: impl FnMut(T)) -> usize {
        /// Gives the room back even if `take` panics: what it had taken is no longer in the ring.
        struct Batch<'a, T: Send + 'static>(&'a mut Consumer<T>);
        impl<T: Send + 'static> Drop for Batch<'_, T> {
            fn drop(&mut self) {
                self.0.give_back();
                self.0.relieve();
            }
        }
        if max == 0 || self.is_empty() {
            return 0;
        }
        let batch = Batch(self);
        let mut taken = 0;
        while taken < max {
            let Some(item) = batch.0.take() else { break };
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
        let empty = self.head == self.tail_seen;
        // Whoever takes item by item has come to the end of what there was: the moment to think of the producer.
        if empty && self.unchecked && self.shared.head.0.load(Ordering::Relaxed) == self.head {
            self.relieve();
        }
        empty
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

    #[test]
    fn a_sleeping_producer_is_rung_when_half_is_free() {
        for one_by_one in [false, true] {
            let bell = Doorbell::new().expect("an eventfd");
            let (mut tx, mut rx) = ring_between::<u32>(8, Some(bell.clone()), None);
            assert_eq!(tx.push_batch(0..8), 8);
            assert_eq!(tx.free_now(), 0);
            bell.announce_sleep();
            let mut left = 8;
            while !bell.was_rung() {
                assert!(left > 0, "all was taken and nobody rang");
                left -= match one_by_one {
                    true => usize::from(rx.pop().is_some()),
                    false => rx.drain(2, drop),
                };
                // Item by item the consumer thinks of the producer when it comes to the end.
                rx.is_empty();
            }
            assert!(left <= 4, "rung with {left} of 8 left");
            bell.awake();
        }
    }

    #[test]
    fn two_sleeping_threads_pass_everything_through_a_small_ring() {
        const ITEMS: u64 = 200_000;
        let bells = [Doorbell::new().expect("an eventfd"), Doorbell::new().expect("an eventfd")];
        let (mut tx, mut rx) = ring_between::<u64>(4, Some(bells[0].clone()), Some(bells[1].clone()));
        let sleep = |bell: &Doorbell, ready: &mut dyn FnMut() -> bool| {
            bell.announce_sleep();
            if !ready() {
                let mut fds = [crate::sys::pollfd(bell.fd())];
                crate::sys::wait_readable(&mut fds, std::time::Duration::from_secs(10));
                assert_ne!(fds[0].revents, 0, "nobody rang");
                bell.clear();
            }
            bell.awake();
        };
        std::thread::scope(|scope| {
            let (ours, theirs) = (&bells[0], &bells[1]);
            scope.spawn(move || {
                let mut next = 0;
                while next < ITEMS {
                    next += tx.push_batch(next..(next + 3).min(ITEMS)) as u64;
                    if tx.free_now() == 0 {
                        sleep(ours, &mut || tx.free_now() > 0);
                    }
                }
            });
            scope.spawn(move || {
                let mut expected = 0;
                while expected < ITEMS {
                    let single = expected % 7 == 0;
                    let mut check = |item| {
                        assert_eq!(item, expected);
                        expected += 1;
                    };
                    let taken = match single {
                        true => rx.pop().map(&mut check).into_iter().count(),
                        false => rx.drain(3, &mut check),
                    };
                    if taken == 0 {
                        sleep(theirs, &mut || !rx.is_empty());
                    }
                }
            });
        });
    }

    #[test]
    fn a_panic_while_draining_drops_nothing_twice() {
        let item = Arc::new(());
        let (mut tx, mut rx) = ring::<Arc<()>>(8, None);
        assert_eq!(tx.push_batch(std::iter::repeat_n(item.clone(), 5)), 5);
        let mut seen = 0;
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            rx.drain(5, |_item| {
                seen += 1;
                assert!(seen < 3, "planted");
            })
        }));
        assert!(broken.is_err());
        assert_eq!(rx.len(), 2);
        drop((tx, rx));
        assert_eq!(Arc::strong_count(&item), 1);
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
