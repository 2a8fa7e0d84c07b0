//! The `ironbench` binary.
fn main() {}
