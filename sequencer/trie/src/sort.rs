//! Sorting of queued changes by key.

use crate::{nibbles::prefix, tree::OpKey};

/// Below this many a comparison sort is faster.
const RADIX_MIN: usize = 4096;

/// Bits of a digit.
const BITS: usize = 11;

/// Sorts. Kept for its buffers.
#[derive(Default)]
pub(crate) struct Sorter {
    from: Vec<OpKey>,
    to: Vec<OpKey>,
}

impl Sorter {
    /// Appends the numbers of a range in the order of their keys; equal keys stay in the order of their numbers.
    pub(crate) fn order_into<'a>(
        &mut self,
        out: &mut Vec<OpKey>,
        range: std::ops::Range<u32>,
        key: impl Fn(u32) -> &'a [u8; 32],
    ) {
        let from = out.len();
        out.extend(range.map(|op| OpKey { prefix: prefix(key(op)), op }));
        self.sort(&mut out[from..]);
        settle(&mut out[from..], key);
    }

    /// By prefix, then number.
    fn sort(&mut self, ops: &mut [OpKey]) {
        if ops.len() < RADIX_MIN {
            ops.sort_unstable_by_key(|o| (o.prefix, o.op));
            return;
        }
        // Least significant digit first over the top 33 bits; what still collides is nearly in order.
        let Sorter { from, to } = self;
        from.clear();
        from.extend_from_slice(ops);
        to.resize(ops.len(), OpKey { prefix: 0, op: 0 });
        for shift in [31, 42, 53] {
            let digit = |o: &OpKey| (o.prefix >> shift) as usize & ((1 << BITS) - 1);
            let mut starts = [0usize; 1 << BITS];
            for o in &*from {
                starts[digit(o)] += 1;
            }
            let mut sum = 0;
            for start in &mut starts {
                sum += std::mem::replace(start, sum);
            }
            for o in &*from {
                let at = &mut starts[digit(o)];
                to[*at] = *o;
                *at += 1;
            }
            std::mem::swap(from, to);
        }
        ops.copy_from_slice(from);
        for run in ops.chunk_by_mut(|a, b| a.prefix >> 31 == b.prefix >> 31) {
            if run.len() > 1 {
                run.sort_unstable_by_key(|o| (o.prefix, o.op));
            }
        }
    }
}

/// Puts those in order that share a prefix and yet differ.
fn settle<'a>(ops: &mut [OpKey], key: impl Fn(u32) -> &'a [u8; 32]) {
    for run in ops.chunk_by_mut(|a, b| a.prefix == b.prefix) {
        if run.len() > 1 && run.iter().any(|o| key(o.op) != key(run[0].op)) {
            run.sort_unstable_by_key(|o| (*key(o.op), o.op));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_the_whole_key_then_of_arrival() {
        for count in [0usize, 1, 2, 100, 5000, 20_000] {
            // Few distinct first bytes, so that prefixes collide and keys repeat.
            let keys: Vec<[u8; 32]> = (0..count)
                .map(|i| {
                    let mut key = alloy_primitives::keccak256(((i * i) % 977).to_le_bytes()).0;
                    if i % 3 == 0 {
                        key[..8].fill((i % 5) as u8);
                    }
                    key
                })
                .collect();
            let mut out = Vec::new();
            Sorter::default().order_into(&mut out, 0..count as u32, |i| &keys[i as usize]);
            let mut expected: Vec<u32> = (0..count as u32).collect();
            expected.sort_by_key(|i| (keys[*i as usize], *i));
            assert_eq!(out.iter().map(|o| o.op).collect::<Vec<_>>(), expected);
        }
    }
}
