//! The stages, in the order of a transaction's way.

pub mod admit;
pub mod commit;
pub mod ingest;
pub mod root;
pub mod sequence;
