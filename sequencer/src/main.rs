//! The `ironlane` binary.
fn main() {}
