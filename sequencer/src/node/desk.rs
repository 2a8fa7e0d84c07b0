//! Where JSON-RPC submissions wait for what becomes of them.

use crate::node::messages::{End, Verdict};
use alloy_primitives::B256;
use ironlane_types::Reject;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Whoever sent a transaction by JSON-RPC and still wants to know something.
#[derive(Default)]
struct Waiter {
    admitted: Option<oneshot::Sender<Result<B256, Reject>>>,
    ended: Option<oneshot::Sender<End>>,
}

/// Receivers for one submission.
pub struct Ticket {
    /// The submission's tag.
    pub tag: u64,
    /// Resolves with the hash when admitted, or with the reason why not.
    pub admitted: oneshot::Receiver<Result<B256, Reject>>,
    /// Resolves at the end of its way; only when it was asked for.
    pub ended: Option<oneshot::Receiver<End>>,
}

/// All waiting submissions.
#[derive(Default)]
pub struct RpcDesk {
    next: AtomicU64,
    waiters: Mutex<HashMap<u64, Waiter>>,
}

impl RpcDesk {
    /// A place in the queue; `to_the_end`: also for what happens after admission.
    pub fn ticket(&self, to_the_end: bool) -> Ticket {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let (admitted, admitted_rx) = oneshot::channel();
        let (ended, ended_rx) = if to_the_end {
            let (tx, rx) = oneshot::channel();
            (Some(tx), Some(rx))
        } else {
            (None, None)
        };
        self.waiters.lock().insert(tag, Waiter { admitted: Some(admitted), ended });
        Ticket { tag, admitted: admitted_rx, ended: ended_rx }
    }

    /// Nobody waits any more (the submission could not even be sent).
    pub fn forget(&self, tag: u64) {
        self.waiters.lock().remove(&tag);
    }

    /// The submission was admitted.
    pub fn admitted(&self, tag: u64, hash: B256) {
        let mut waiters = self.waiters.lock();
        let Some(waiter) = waiters.get_mut(&tag) else { return };
        if let Some(sender) = waiter.admitted.take() {
            // Whoever asked may have gone.
            let _ = sender.send(Ok(hash));
        }
        if waiter.ended.is_none() {
            waiters.remove(&tag);
        }
    }

    /// The submission's way ended.
    pub fn verdict(&self, verdict: &Verdict) {
        let Some(waiter) = self.waiters.lock().remove(&verdict.origin.tag) else { return };
        if let Some(admitted) = waiter.admitted {
            let answer = match verdict.end {
                End::Rejected(reason) => Err(reason),
                End::Included { .. } => Ok(verdict.hash),
            };
            let _ = admitted.send(answer);
        }
        if let Some(ended) = waiter.ended {
            let _ = ended.send(verdict.end);
        }
    }

    /// Submissions that somebody waits for.
    pub fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironlane_types::Origin;

    fn verdict(tag: u64, end: End) -> Verdict {
        Verdict { origin: Origin { lane: Origin::RPC_LANE, tag }, hash: B256::repeat_byte(1), end }
    }

    #[test]
    fn a_refusal_reaches_whoever_waits_for_admission() {
        let desk = RpcDesk::default();
        let mut ticket = desk.ticket(false);
        desk.verdict(&verdict(ticket.tag, End::Rejected(Reject::NonceTooLow)));
        assert_eq!(ticket.admitted.try_recv(), Ok(Err(Reject::NonceTooLow)));
        assert_eq!(desk.waiting(), 0);
    }

    #[test]
    fn admission_ends_a_plain_ticket_and_not_one_to_the_end() {
        let desk = RpcDesk::default();
        let (mut plain, mut sync) = (desk.ticket(false), desk.ticket(true));
        desk.admitted(plain.tag, B256::ZERO);
        desk.admitted(sync.tag, B256::ZERO);
        assert_eq!(plain.admitted.try_recv(), Ok(Ok(B256::ZERO)));
        assert_eq!(sync.admitted.try_recv(), Ok(Ok(B256::ZERO)));
        assert_eq!(desk.waiting(), 1);
        let end = End::Included { success: true, mini_block: 1, position: 0, seq: 0, gas_used: 21_000 };
        desk.verdict(&verdict(sync.tag, end));
        assert_eq!(sync.ended.as_mut().expect("asked for").try_recv(), Ok(end));
        assert_eq!(desk.waiting(), 0);
        desk.forget(99);
    }
}
