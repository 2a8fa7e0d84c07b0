//! EVM execution: from a block's context and ordered transactions to outcomes, state changes and a header.
//!
//! A newcomer starts at [`ChainSpec`] (what the rules are: forks, genesis, blob parameters) and at [`Executor`] (what
//! happens: open a block, execute transactions one by one, seal mini-blocks in between, close the block). revm gives
//! the meaning of each opcode and each transaction; this crate gives it our own state store to read ([`StateDb`] over
//! any [`StateRead`]), turns what it changed into [`ironlane_types::StateDelta`], and adds what surrounds transactions
//! in a block: system contracts, withdrawals, rewards, requests, header fields.
//!
//! One executor serves the node, the import of foreign chains ([`import_chain`], [`Importer`]) and the conformance
//! tests ([`conformance`]); there is no second code path. A plain value transfer takes a short cut around the
//! interpreter (`direct.rs`) with the very same result; [`ExecutorConfig::direct_transfers`] turns it off.
//!
//! What a block writes is held in a small write set until its mini-block is sealed; the store sees whole mini-blocks.
//! That is also what makes an invalid foreign block harmless: its write set is dropped.

mod codes;
pub mod conformance;
mod convert;
mod direct;
mod engine;
mod env;
mod error;
mod evm;
mod executor;
mod hashes;
mod header;
mod import;
mod ommers;
mod oracle;
mod recover;
pub mod simulate;
mod simulate_evm;
mod spec;
mod store;
mod system;
mod validate;
mod writes;

pub use codes::CodeCache;
pub use engine::Engine;
pub use env::{block_env, cfg_env, tx_env};
pub use error::{BlockError, ExecuteError, ImportError, InvalidBlock, SpecError, StoreError};
pub use evm::{EvmContext, IronEvm};
pub use executor::{Executor, ExecutorConfig, ExecutorStats};
pub use hashes::BlockHashes;
pub use header::{NextBlock, assemble_header, next_context, seal_block};
pub use import::{ImportReport, ImportedBlock, Importer, Imports, import_chain};
pub use oracle::{OracleTrie, StateRoot};
pub use recover::{decode_transaction, recover_transaction};
pub use spec::{ChainSpec, DEV_KEYS, ForkSchedule, Genesis, GenesisOutline, Parameters};
pub use store::{StateDb, StateRead, StateStore};
pub use validate::{validate_body, validate_header};
pub use writes::WriteSet;

/// The JIT's tier, for whoever gives an executor an [`Engine`].
pub use ironlane_jit::tier;
/// The EVM that this crate is built on; whoever simulates transactions uses the same one.
pub use revm;
