//! Σ scalar·point over thousands of points: Pippenger's buckets with signed digits, filled by batches of affine additions.
//!
//! A scalar is written in windows of c bits. In each window the points whose digit has magnitude k are summed into
//! bucket k, and the window's sum is Σ k·bucket. With k = hi·2^h + lo that is two sums over far fewer groups; the same
//! step once more, with the bits of hi and lo, leaves one point for each power of two, and one chain of doublings adds
//! them up. Every one of these steps is "sum the members of each group", so there is one routine for all of them. It
//! is exact whatever the points are: equal and opposite ones included.

use super::affine::{Scratch, Sum, Term};
use super::lanes::{Affine, Lanes};
use super::point::Jacobian;
use super::scalar::{Half, recode, window_count};

/// Narrowest and widest windows.
const BITS_MIN: usize = 4;
const BITS_MAX: usize = 12;
const NONE: u32 = u32::MAX;

/// Members by group, each group's in a row.
#[derive(Default)]
struct Groups {
    members: Vec<Term>,
    start: Vec<u32>,
    len: Vec<u32>,
}

impl Groups {
    /// Sizes the groups and lays them out. `count` calls back with the group of every member to come.
    #[inline(always)]
    fn lay_out(&mut self, groups: usize, of: impl Iterator<Item = u32>) {
        self.len.clear();
        self.len.resize(groups, 0);
        for group in of {
            self.len[group as usize] += 1;
        }
        self.start.clear();
        let mut start = 0;
        for len in &mut self.len {
            self.start.push(start);
            start += *len;
            *len = 0;
        }
        self.members.clear();
        self.members.resize(start as usize, Term::new(0, false));
    }

    #[inline(always)]
    fn push(&mut self, group: usize, member: Term) {
        self.members[(self.start[group] + self.len[group]) as usize] = member;
        self.len[group] += 1;
    }

    /// The sum of a group that has been reduced; `None` for infinity.
    #[inline(always)]
    fn sum(&self, group: usize) -> Option<Term> {
        debug_assert!(self.len[group] <= 1);
        (self.len[group] == 1).then(|| self.members[self.start[group] as usize])
    }
}

/// Buffers, kept between calls.
pub(super) struct Msm<F> {
    scratch: Scratch<F>,
    digits: Vec<i16>,
    groups: Groups,
    halves: Groups,
    bits: Groups,
    active: Vec<u32>,
    sums: Vec<Sum>,
    infinities: Vec<u32>,
}

/// The width of windows that costs the fewest additions for so many points.
fn best_bits(points: usize) -> usize {
    (BITS_MIN..=BITS_MAX)
        .min_by_key(|bits| window_count(*bits) * (points + (1 << (bits - 1))))
        .unwrap_or(BITS_MIN)
}

impl<F: Lanes> Msm<F> {
    pub(super) fn new(proof: F::Proof) -> Self {
        Msm {
            scratch: Scratch::new(proof),
            digits: vec![],
            groups: Groups::default(),
            halves: Groups::default(),
            bits: Groups::default(),
            active: vec![],
            sums: vec![],
            infinities: vec![],
        }
    }

    /// Σ scalars[i]·points[bases[i]]. `points` grows by what is needed on the way and is cut back after it.
    #[inline(always)]
    pub(super) fn sum(
        &mut self,
        proof: F::Proof,
        points: &mut Vec<Affine>,
        bases: &[u32],
        scalars: &[Half],
    ) -> Jacobian {
        assert_eq!(bases.len(), scalars.len(), "a scalar for each point");
        let given = points.len();
        let bits = best_bits(bases.len());
        let windows = window_count(bits);
        self.digits.clear();
        self.digits.resize(bases.len() * windows, 0);
        for (scalar, digits) in scalars.iter().zip(self.digits.chunks_mut(windows)) {
            recode(*scalar, bits, digits);
        }

        // Buckets 1 to 2^(bits−1) of each window.
        let buckets = 1usize << (bits - 1);
        let group = |window: usize, digit: i16| window * buckets + digit.unsigned_abs() as usize - 1;
        let all = self.digits.iter().enumerate().filter(|(_, digit)| **digit != 0);
        self.groups.lay_out(windows * buckets, all.map(|(i, digit)| group(i % windows, *digit) as u32));
        for (base, digits) in bases.iter().zip(self.digits.chunks(windows)) {
            for (window, digit) in digits.iter().enumerate() {
                if *digit != 0 {
                    self.groups.push(group(window, *digit), Term::new(*base as usize, *digit < 0));
                }
            }
        }
        reduce(
            proof,
            &mut self.scratch,
            points,
            &mut self.groups,
            &mut self.active,
            &mut self.sums,
            &mut self.infinities,
        );

        // k = hi·2^h + lo: groups lo = 0 … 2^h − 1, then hi = 0 … 2^(bits−1−h).
        let h = (bits - 1) / 2;
        let (los, his) = (1usize << h, (buckets >> h) + 1);
        let per_window = los + his;
        let parts = |bucket: usize| {
            let (window, k) = (bucket / buckets, bucket % buckets + 1);
            let (hi, lo) = (k >> h, k & (los - 1));
            let base = window * per_window;
            [
                if lo > 0 { (base + lo) as u32 } else { NONE },
                if hi > 0 { (base + los + hi) as u32 } else { NONE },
            ]
        };
        regroup(&self.groups, &mut self.halves, windows * per_window, parts);
        reduce(
            proof,
            &mut self.scratch,
            points,
            &mut self.halves,
            &mut self.active,
            &mut self.sums,
            &mut self.infinities,
        );

        // One group for each power of two.
        let powers = |group: usize| {
            let (window, part) = (group / per_window, group % per_window);
            let (weight, shift) = if part < los { (part, 0) } else { (part - los, h) };
            let mut out = [NONE; BITS_MAX];
            for (bit, out) in out.iter_mut().enumerate() {
                if weight >> bit & 1 == 1 {
                    *out = (window * bits + shift + bit) as u32;
                }
            }
            out
        };
        regroup(&self.halves, &mut self.bits, windows * bits, powers);
        reduce(
            proof,
            &mut self.scratch,
            points,
            &mut self.bits,
            &mut self.active,
            &mut self.sums,
            &mut self.infinities,
        );

        let mut total = Jacobian::INFINITY;
        for power in (0..windows * bits).rev() {
            total = total.double();
            if let Some(term) = self.bits.sum(power) {
                total = total.add_affine(&term.point(points));
            }
        }
        points.truncate(given);
        total
    }
}

/// Puts the sum of each group of `from` into the groups of `to` that `targets` names.
#[inline(always)]
fn regroup<const N: usize>(
    from: &Groups,
    to: &mut Groups,
    groups: usize,
    targets: impl Fn(usize) -> [u32; N],
) {
    let filled = || (0..from.len.len()).filter(|group| from.len[*group] > 0);
    to.lay_out(groups, filled().flat_map(&targets).filter(|target| *target != NONE));
    for group in filled() {
        if let Some(sum) = from.sum(group) {
            for target in targets(group) {
                if target != NONE {
                    to.push(target as usize, sum);
                }
            }
        }
    }
}

/// Adds up the members of each group until none or one is left. Members that stand before the end of `points` now are
/// shared and stay as they are.
#[inline(always)]
fn reduce<F: Lanes>(
    proof: F::Proof,
    scratch: &mut Scratch<F>,
    points: &mut Vec<Affine>,
    groups: &mut Groups,
    active: &mut Vec<u32>,
    sums: &mut Vec<Sum>,
    infinities: &mut Vec<u32>,
) {
    let shared = points.len();
    let mut top = shared;
    active.clear();
    active.extend((0..groups.len.len() as u32).filter(|group| groups.len[*group as usize] > 1));
    while !active.is_empty() {
        sums.clear();
        for group in active.iter() {
            let group = *group as usize;
            let (start, len) = (groups.start[group] as usize, groups.len[group] as usize);
            for pair in 0..len / 2 {
                let (a, b) = (groups.members[start + 2 * pair], groups.members[start + 2 * pair + 1]);
                // A sum that nobody else uses makes room for the next.
                let to = if a.index() as usize >= shared {
                    a.index()
                } else {
                    top += 1;
                    (top - 1) as u32
                };
                sums.push(Sum { a, b, to });
                groups.members[start + pair] = Term::new(to as usize, false);
            }
            if len % 2 == 1 {
                groups.members[start + len / 2] = groups.members[start + len - 1];
            }
            groups.len[group] = len.div_ceil(2) as u32;
        }
        if points.len() < top {
            points.resize(top, Affine::default());
        }
        infinities.clear();
        scratch.add_all(proof, points, sums, infinities);
        if !infinities.is_empty() {
            drop_members(groups, active, infinities);
        }
        active.retain(|group| groups.len[*group as usize] > 1);
    }
}

/// Takes out members that came to infinity.
#[inline(never)]
fn drop_members(groups: &mut Groups, active: &[u32], infinities: &mut [u32]) {
    infinities.sort_unstable();
    for group in active {
        let group = *group as usize;
        let (start, len) = (groups.start[group] as usize, groups.len[group] as usize);
        let mut kept = 0;
        for i in 0..len {
            let member = groups.members[start + i];
            if infinities.binary_search(&member.index()).is_err() {
                groups.members[start + kept] = member;
                kept += 1;
            }
        }
        groups.len[group] = kept as u32;
    }
}
