//! The node.

pub mod metrics;
pub mod record;
