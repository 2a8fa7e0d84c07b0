//! The node: stages wired together over what recovery brought back.
//!
//! [`start`] opens everything, replays the journal, builds one stage after the other with the links of the topology, and
//! starts lanes, JSON-RPC and console. [`Node::stop`] ends it in order. The stages themselves are in [`stages`]; what they
//! tell each other outside the rings is in [`shared`].

pub mod chain;
pub mod checkpoint;
pub mod console;
pub mod datadir;
pub mod desk;
pub mod engine;
pub mod ingress;
pub mod lanes;
pub mod messages;
pub mod metrics;
pub mod movable;
pub mod record;
pub mod recovery;
pub mod shared;
pub mod stages;
pub mod start;

pub use chain::Chain;
pub use start::{Addresses, Node, start};
