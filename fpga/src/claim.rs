//! What an engine of [`Trust::Hint`](crate::Trust::Hint) says, before anybody believes it.

use crate::{RecoverEngine, RecoverError};
use alloy_primitives::Address;

/// One claim about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// [`RecoverRequest::tag`](crate::RecoverRequest::tag).
    pub tag: u64,
    /// What is claimed.
    pub verdict: Verdict,
}

/// The content of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is a signer.
    Signer {
        /// Its address, as claimed.
        address: Address,
        /// Its public key x ‖ y, as claimed, if the engine names it. With it, a check costs less than a recovery.
        key: Option<[u8; 64]>,
    },
    /// There is no signer.
    Invalid(RecoverError),
    /// The engine could not say; the number is the ABI's status. The request is as open as before.
    Declined(u16),
}

/// An engine whose answers can be had as claims.
pub trait ClaimEngine: RecoverEngine {
    /// As [`RecoverEngine::poll`], but with public keys, and with requests that the engine declined.
    fn poll_claims(&mut self, out: &mut Vec<Claim>) -> usize;

    /// Why the engine will not answer any more, in one sentence; `None` while it works.
    fn fault(&self) -> Option<String>;

    /// Tries to bring the engine back, forgetting everything in flight.
    ///
    /// # Errors
    /// A sentence on what is still wrong.
    fn restart(&mut self) -> Result<(), String>;
}

/// Makes claims of the answers of any engine, for those that name no public keys.
pub struct Plain<E>(pub E);

impl<E: RecoverEngine> RecoverEngine for Plain<E> {
    fn caps(&self) -> crate::Caps {
        self.0.caps()
    }
    fn submit(&mut self, batch: &mut Vec<crate::RecoverRequest>) -> Result<(), crate::Full> {
        self.0.submit(batch)
    }
    fn poll(&mut self, out: &mut Vec<crate::RecoverAnswer>) -> usize {
        self.0.poll(out)
    }
    fn in_flight(&self) -> usize {
        self.0.in_flight()
    }
}

impl<E: RecoverEngine> ClaimEngine for Plain<E> {
    fn poll_claims(&mut self, out: &mut Vec<Claim>) -> usize {
        let mut answers = Vec::new();
        self.0.poll(&mut answers);
        out.extend(answers.iter().map(|answer| Claim {
            tag: answer.tag,
            verdict: match answer.result {
                Ok(address) => Verdict::Signer { address, key: None },
                Err(error) => Verdict::Invalid(error),
            },
        }));
        answers.len()
    }

    fn fault(&self) -> Option<String> {
        None
    }

    fn restart(&mut self) -> Result<(), String> {
        Ok(())
    }
}
