//! Tests of the store through its door.

mod common;
mod concurrent;
mod model;
mod snapshot;
mod snapshot_faults;
