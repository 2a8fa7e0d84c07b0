//! The card's side of the offload ABI: what a vendor's driver does, as a software model.
//!
//! A [`Device`] serves the rings; what it computes with is a [`Compute`] ([`Software`] is libsecp256k1, a plug-in of level
//! L0 is another, a simulated netlist would be a third); how well it behaves is a [`Conduct`] ([`Honest`], or one of the
//! listed faults of [`mutant`]). [`serve`] is the process around it.

mod device;
pub mod mutant;
pub mod serve;
pub mod software;

pub use device::{Compute, Conduct, Device, Honest, Moment, Posting, Step};
pub use software::Software;
