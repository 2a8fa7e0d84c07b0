//! Batch verification: whether many signatures were all made by the keys that are said to have made them.
//!
//! With a nonce point R known exactly (x = r, and the parity that Ethereum's signatures carry), a signature of key Q holds
//! if (h/s)·G + (r/s)·Q − R is infinity. For random z the sum of z times these is infinity if all hold, and otherwise
//! with a chance of 2⁻¹²⁸ (Bellare, Garay, Rabin 1998: small exponents). The z are 128 bits each from a generator that is
//! seeded by the system after the batch is fixed, so nobody can prepare signatures that cancel.
//!
//! Terms with the same key are merged, and so are those with the same r, whatever the parity: else a client with one nonce for
//! all signatures would send every addition down the slow road.

use super::field::Fe;
use super::lanes::{Affine, Index, LANES_MAX, Lanes};
use super::msm::Msm;
use super::point::{BETA, G};
use super::recover::{lift, set_parity};
use super::scalar::{Half, Scalar};
use crate::RecoverRequest;
use alloy_primitives::U256;
use rand::CryptoRng;
use std::ops::Range;

/// A signature as the equation sees it.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    /// Which nonce point, and whether its negative.
    nonce: u32,
    negative: bool,
    /// Which key.
    key: u32,
    /// h/s and r/s.
    by_g: Scalar,
    by_key: Scalar,
}

/// What has been summed for one nonce point.
#[derive(Debug, Clone, Copy, Default)]
struct NonceSum {
    uses: u32,
    first: Half,
    all: Scalar,
}

/// Buffers, and the batch in work.
pub(crate) struct Verification<F> {
    msm: Msm<F>,
    signatures: Vec<Prepared>,
    /// Nonce points, each x once; then Q and λQ of each key; then G and λG.
    points: Vec<Affine>,
    nonces: usize,
    keys: usize,
    /// Where to find a nonce point by r: indices + 1, open addressing, length a power of two.
    by_r: Vec<u32>,
    /// Parity with which a nonce point stands in `points`, and whether there is one.
    parities: Vec<u8>,
    places: Vec<usize>,
    found: Vec<bool>,
    inverses: Vec<Scalar>,
    before: Vec<Scalar>,
    nonce_sums: Vec<NonceSum>,
    key_sums: Vec<Scalar>,
    bases: Vec<u32>,
    scalars: Vec<Half>,
    /// Odd, random: spreads r over `by_r` in a way that clients cannot foresee.
    spread: u64,
}

impl<F: Lanes> Verification<F> {
    pub(super) fn new(proof: F::Proof, spread: u64) -> Self {
        Verification {
            msm: Msm::new(proof),
            signatures: vec![],
            points: vec![],
            nonces: 0,
            keys: 0,
            by_r: vec![],
            parities: vec![],
            places: vec![],
            found: vec![],
            inverses: vec![],
            before: vec![],
            nonce_sums: vec![],
            key_sums: vec![],
            bases: vec![],
            scalars: vec![],
            spread: spread | 1,
        }
    }

    /// Takes a batch: signatures whose ranges have been checked, each with its key's place in `keys`. The keys are
    /// points of the curve, each there once. Appends to `has_nonce` whether r is the x of a point; where it is not the
    /// signature has no signer at all, and [`verify`](Self::verify) leaves it out.
    #[inline(always)]
    pub(super) fn prepare(
        &mut self,
        proof: F::Proof,
        requests: &[RecoverRequest],
        key_of: &[u32],
        keys: &[Affine],
        has_nonce: &mut Vec<bool>,
    ) {
        assert_eq!(requests.len(), key_of.len());
        self.signatures.clear();
        self.points.clear();
        self.parities.clear();
        self.by_r.clear();
        self.by_r.resize((requests.len() * 2).next_power_of_two().max(2), 0);
        self.inverses.clear();
        self.inverses.extend(requests.iter().map(|q| Scalar::from_u256(&q.s)));
        Scalar::invert_all(&mut self.inverses, &mut self.before);
        for (i, request) in requests.iter().enumerate() {
            let nonce = self.nonce(&request.r, request.parity);
            let inverse = self.inverses[i];
            self.signatures.push(Prepared {
                nonce,
                negative: self.parities[nonce as usize] != request.parity,
                key: key_of[i],
                by_g: Scalar::from_u256(&U256::from_be_bytes(request.hash.0)).mul(&inverse),
                by_key: Scalar::from_u256(&request.r).mul(&inverse),
            });
        }
        self.nonces = self.points.len();
        self.places.clear();
        self.places.extend(0..self.nonces);
        self.found.clear();
        self.found.resize(self.nonces, false);
        lift::<F>(proof, &mut self.points, &self.places, &mut self.found);
        for (point, parity) in self.points.iter_mut().zip(&self.parities) {
            set_parity(point, *parity);
        }
        has_nonce.extend(self.signatures.iter().map(|s| self.found[s.nonce as usize]));
        self.keys = keys.len();
        for key in keys.iter().chain([&G]) {
            self.points.extend([*key, *key]);
        }
        self.turn_copies(proof);
    }

    /// The place of the nonce point with x = r; it stands with the parity of whoever named it first.
    #[inline(always)]
    fn nonce(&mut self, r: &U256, parity: u8) -> u32 {
        let x = Fe::from_u256(r);
        let mask = self.by_r.len() - 1;
        let mixed = x
            .words()
            .iter()
            .fold(0u64, |mixed, word| (mixed ^ word).wrapping_mul(self.spread).rotate_left(29));
        let mut slot = mixed as usize & mask;
        loop {
            match self.by_r[slot] {
                0 => {
                    self.points.push(Affine { x, y: Fe::ZERO });
                    self.parities.push(parity);
                    self.by_r[slot] = self.points.len() as u32;
                    return self.points.len() as u32 - 1;
                }
                taken if self.points[taken as usize - 1].x.words() == x.words() => return taken - 1,
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// Multiplies every second point from the keys on by λ.
    #[inline(always)]
    fn turn_copies(&mut self, proof: F::Proof) {
        let beta = F::splat(proof, &BETA);
        let count = self.keys + 1;
        for first in (0..count).step_by(F::COUNT) {
            let mut index: Index = [0; LANES_MAX];
            for (lane, index) in index.iter_mut().enumerate() {
                *index = (self.nonces + 2 * (first + lane).min(count - 1) + 1) as u32;
            }
            // The last point may stand in several lanes; all of them write the same.
            let (x, y) = F::gather(proof, &self.points, &index);
            F::scatter(&x.mul(&beta), &y, &mut self.points, &index);
        }
    }

    /// Whether the signatures of `range` all hold, those without a nonce point aside.
    #[inline(always)]
    pub(super) fn verify(&mut self, proof: F::Proof, range: Range<usize>, rng: &mut impl CryptoRng) -> bool {
        self.nonce_sums.clear();
        self.nonce_sums.resize(self.nonces, NonceSum::default());
        self.key_sums.clear();
        self.key_sums.resize(self.keys, Scalar::default());
        let mut by_g = Scalar::default();
        for signature in &self.signatures[range] {
            if !self.found[signature.nonce as usize] {
                continue;
            }
            let z = u128::from(rng.next_u64()) | u128::from(rng.next_u64()) << 64;
            let factor = Scalar::from_u128(z);
            by_g = by_g.add(&factor.mul(&signature.by_g));
            let key = &mut self.key_sums[signature.key as usize];
            *key = key.add(&factor.mul(&signature.by_key));
            let nonce = &mut self.nonce_sums[signature.nonce as usize];
            nonce.uses += 1;
            nonce.first = Half { magnitude: z, negative: !signature.negative };
            nonce.all = nonce.all.add(&if signature.negative { factor } else { factor.neg() });
        }
        self.bases.clear();
        self.scalars.clear();
        let given = self.points.len();
        for (i, nonce) in self.nonce_sums.iter().enumerate() {
            if nonce.uses == 1 {
                self.bases.push(i as u32);
                self.scalars.push(nonce.first);
            } else if nonce.uses > 1 {
                let (plain, turned) = nonce.all.split();
                let point = self.points[i];
                self.points.push(Affine { x: point.x.mul(&BETA), y: point.y });
                self.bases.extend([i as u32, self.points.len() as u32 - 1]);
                self.scalars.extend([plain, turned]);
            }
        }
        for (i, sum) in self.key_sums.iter().chain([&by_g]).enumerate() {
            if !sum.is_zero() {
                let (plain, turned) = sum.split();
                let place = (self.nonces + 2 * i) as u32;
                self.bases.extend([place, place + 1]);
                self.scalars.extend([plain, turned]);
            }
        }
        let total = self.msm.sum(proof, &mut self.points, &self.bases, &self.scalars);
        self.points.truncate(given);
        total.is_infinity()
    }
}
