//! Admission: bytes from clients become transactions that can execute, in the order in which they must.
//!
//! [`Admission`] is a polled component that a stage owns: no threads, no locks, no clock of its own. A submission is
//! decoded and put through every check that costs little; then its sender is recovered by a
//! [`RecoverEngine`](ironlane_fpga::RecoverEngine), in batches; then it is checked against state and pool, and queued by
//! account and nonce. What can execute is handed out in the order in which it became executable, and only as fast as the
//! executor takes it, because what still waits here can be replaced. Whatever is refused or dropped has a
//! [`Reject`](ironlane_types::Reject) that its sender can ask for afterwards.
//!
//! | file | what |
//! | --- | --- |
//! | `decode.rs`, `rlp.rs` | canonical EIP-2718 bytes to an envelope and its signing payload |
//! | `checks.rs` | what can be refused without knowing the sender |
//! | `admission.rs` | the component: batches, recovery, order of arrival |
//! | `pool/` | accounts, nonces, replacement, promotion, limits |
//! | `memory.rs` | reasons of late drops and refusals, by hash |
//!
//! **A fee cap below the base fee** is no reason to refuse (as in geth): the transaction is queued and handed out when
//! the base fee has fallen. It is dropped when it has waited for [`Limits::queued_lifetime_s`].

mod admission;
mod checks;
mod config;
mod decode;
mod door;
mod hash;
mod memory;
mod pool;
mod rlp;

pub use admission::{Admission, UntrustedEngine};
pub use config::{Limits, PoolConfig, Rules, TX_BYTES_MAX, TX_OVERHEAD_BYTES};
pub use door::{
    Accepted, AccountSource, AdmissionOutput, CodeKind, Feedback, Metrics, Pending, Place, PoolAccount,
    PoolTx, Rejection, Status,
};
