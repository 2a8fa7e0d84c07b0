//! The Ironlane sequencer: the stages of `docs/ARCHITECTURE.md` wired into one node, and the commands around it.
//!
//! Start at [`node::start`]: it opens state, trie, journal and history, replays what the journal holds, and starts the
//! stages in [`node::stages`]. [`verify`] is the second opinion: the same journal through plain revm and a plain trie.

pub mod cli;
pub mod commands;
pub mod config;
pub mod node;
pub mod progress;
pub mod signals;
pub mod verify;
