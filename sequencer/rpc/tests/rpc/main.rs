//! Every method, every limit, and bad input, over a real chain and real sockets.

mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod limits;
mod methods;
mod news;
