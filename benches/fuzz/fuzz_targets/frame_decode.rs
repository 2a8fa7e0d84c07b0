//! See the body, which the ordinary tests run as well.
#![no_main]

#[path = "../bodies/frame_decode.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::check(input));
