//! Arithmetic on secp256k1 for finding out who signed: public values only, so nothing here runs in constant time, and none
//! of it may touch a secret key.
//!
//! From the bottom: `field`, `scalar` and `inverse` (one number at a time), `lanes` (many field elements side by side),
//! `point` (one point, exact in every case), `affine` (many additions with one inversion), `msm` (sums over thousands of
//! points); on these `recover` and `verify`. [`Isa`] is the choice of the vector instructions: a value of it exists only
//! where the CPU has them.

mod affine;
mod field;
mod inverse;
mod isa;
mod lanes;
mod msm;
mod point;
mod recover;
mod scalar;
mod verify;

pub(crate) use isa::{Isa, Recoverer, Verifier};
pub(crate) use lanes::Affine;
pub(crate) use recover::{Outcome, Tables};

#[cfg(test)]
mod tests;
