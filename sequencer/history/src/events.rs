//! News for subscribers: a bounded queue for each, so that a slow one loses events (and is told how many) and never
//! holds up a publisher.

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use ironlane_types::{MiniBlock, SealedBlock};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Something was published.
#[derive(Debug, Clone)]
pub enum Event {
    /// A mini-block is durable.
    NewMiniBlock(Arc<MiniBlock>),
    /// A block is sealed.
    NewBlock(Arc<SealedBlock>),
}

/// Which events a subscriber wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Sealed blocks only. Cheap: one wake-up a block.
    Blocks,
    /// Mini-blocks and blocks.
    All,
}

/// What a subscriber finds when it looks.
#[derive(Debug, Clone)]
pub enum Received {
    /// The next event.
    Event(Event),
    /// So many events were lost before the next one, because the queue was full.
    Lagged(u64),
    /// Nothing now.
    Empty,
    /// The history is closed.
    Closed,
}

/// One subscriber's end.
#[derive(Debug)]
pub struct Subscription {
    receiver: Receiver<Event>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// The next event, without waiting.
    pub fn try_recv(&self) -> Received {
        match self.receiver.try_recv() {
            Ok(event) => Received::Event(event),
            Err(TryRecvError::Empty) => self.lag().unwrap_or(Received::Empty),
            Err(TryRecvError::Disconnected) => self.lag().unwrap_or(Received::Closed),
        }
    }

    /// The next event, waiting for at most `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Received {
        match self.try_recv() {
            Received::Empty => match self.receiver.recv_timeout(timeout) {
                Ok(event) => Received::Event(event),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => Received::Empty,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Received::Closed,
            },
            found => found,
        }
    }

    /// Events are lost only while the queue is full, so the loss is told once what was queued has been read.
    fn lag(&self) -> Option<Received> {
        match self.lost.swap(0, Ordering::AcqRel) {
            0 => None,
            lost => Some(Received::Lagged(lost)),
        }
    }
}

#[derive(Debug)]
struct Subscriber {
    sender: Sender<Event>,
    lost: Arc<AtomicU64>,
    interest: Interest,
}

impl Subscriber {
    /// The reader's end shares the counter; once it is gone, this is the only owner.
    fn closed(&self) -> bool {
        Arc::strong_count(&self.lost) == 1
    }
}

/// All subscribers.
#[derive(Debug, Default)]
pub(crate) struct Events {
    subscribers: Mutex<Vec<Subscriber>>,
}

impl Events {
    pub(crate) fn subscribe(&self, interest: Interest, capacity: usize) -> Subscription {
        let (sender, receiver) = bounded(capacity.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        self.subscribers.lock().push(Subscriber { sender, lost: lost.clone(), interest });
        Subscription { receiver, lost }
    }

    pub(crate) fn send(&self, event: &Event) {
        self.subscribers.lock().retain(|subscriber| {
            if subscriber.interest == Interest::Blocks && matches!(event, Event::NewMiniBlock(_)) {
                return true;
            }
            // After a loss nothing is queued until the reader has been told, so that it knows where the hole is.
            if subscriber.lost.load(Ordering::Acquire) > 0 {
                subscriber.lost.fetch_add(1, Ordering::AcqRel);
                return !subscriber.closed();
            }
            match subscriber.sender.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.lost.fetch_add(1, Ordering::AcqRel);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
    }

    pub(crate) fn close(&self) {
        self.subscribers.lock().clear();
    }
}
