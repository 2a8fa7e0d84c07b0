//! Offload engines: sender recovery and Keccak-256, each behind one door, so that a card, a GPU or a SIMD unit can take
//! the place of plain code without anybody else noticing.
//!
//! **Sender recovery.** An engine is a [`RecoverEngine`]: requests go in by batches ([`RecoverEngine::submit`]), answers
//! come out in any order ([`RecoverEngine::poll`]) and are matched by their tag. An engine that is full says so and
//! leaves the rest of the batch with the caller. Whoever waits parks: the engine rings the [`Waker`] that it was given
//! at construction when there is something to poll for. Three engines work on this CPU's threads, and their answers are
//! trusted: [`backend::scalar`] is libsecp256k1, always there; [`backend::simd`] recovers four or eight signatures side by
//! side in vector lanes; [`backend::batch`] proves hundreds of guesses at once where public keys are known, and recovers
//! the rest. Answers of an engine whose [`Caps::trust`] is [`Trust::Hint`] must be checked before use.
//!
//! **Keccak.** [`keccak::hash_many`] hashes many messages at once with the widest vectors that the CPU has;
//! [`keccak::keccak256`] hashes one.
//!
//! ```
//! use ironlane_fpga::{RecoverEngine, backend::scalar};
//! let mut engine = scalar::probe(scalar::Config { workers: 0, ..Default::default() }, None).unwrap();
//! let mut batch = vec![];
//! engine.submit(&mut batch).unwrap();
//! assert_eq!(engine.in_flight(), 0);
//! ```

pub mod abi;
pub mod backend;
pub mod card;
pub mod checked;
pub mod claim;
mod engine;
pub mod keccak;
pub mod kit;
mod patience;
mod secp;

pub use engine::{
    Caps, Full, RecoverAnswer, RecoverEngine, RecoverError, RecoverRequest, Refusal, Trust, Waker,
};
