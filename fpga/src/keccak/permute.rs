#![allow(unsafe_code)]
//! Keccak-f[1600] and the sponge around it, over vectors of any width: lane j of every vector belongs to message j.

use super::lanes::{Lanes, Row};
use super::{RATE, blocks};
use alloy_primitives::B256;

/// 64-bit words of a block.
const RATE_WORDS: usize = RATE / 8;
const _: () = assert!(RATE_WORDS == 17 && RATE_WORDS < 25, "the capacity of Keccak-256 is eight words");

/// Round constants of ι (Keccak reference, section 1.2).
const ROUND_CONSTANTS: [u64; 24] = [
    0x0000000000000001,
    0x0000000000008082,
    0x800000000000808a,
    0x8000000080008000,
    0x000000000000808b,
    0x0000000080000001,
    0x8000000080008081,
    0x8000000000008009,
    0x000000000000008a,
    0x0000000000000088,
    0x0000000080008009,
    0x000000008000000a,
    0x000000008000808b,
    0x800000000000008b,
    0x8000000000008089,
    0x8000000000008003,
    0x8000000000008002,
    0x8000000000000080,
    0x000000000000800a,
    0x800000008000000a,
    0x8000000080008081,
    0x8000000000008080,
    0x0000000080000001,
    0x8000000080008008,
];

/// The permutation. Word (x, y) of the state is `a[x + 5y]`.
///
/// # Safety
/// As for the methods of `V`.
#[inline(always)]
unsafe fn permute<V: Lanes>(a: &mut [V; 25]) {
    for constant in ROUND_CONSTANTS {
        // SAFETY: the caller has the features of `V`, which is all that its methods ask for.
        unsafe {
            // Written out: a closure would not be compiled with the features of the function it ends up in.
            let c = [
                a[0].xor3(a[5], a[10]).xor3(a[15], a[20]),
                a[1].xor3(a[6], a[11]).xor3(a[16], a[21]),
                a[2].xor3(a[7], a[12]).xor3(a[17], a[22]),
                a[3].xor3(a[8], a[13]).xor3(a[18], a[23]),
                a[4].xor3(a[9], a[14]).xor3(a[19], a[24]),
            ];
            let d = [
                c[4].xor(c[1].rol::<1, 63>()),
                c[0].xor(c[2].rol::<1, 63>()),
                c[1].xor(c[3].rol::<1, 63>()),
                c[2].xor(c[4].rol::<1, 63>()),
                c[3].xor(c[0].rol::<1, 63>()),
            ];
            // θ's second half, ρ and π in one: the word that comes to stand at each place.
            let b = [
                a[0].xor(d[0]),
                a[6].xor(d[1]).rol::<44, 20>(),
                a[12].xor(d[2]).rol::<43, 21>(),
                a[18].xor(d[3]).rol::<21, 43>(),
                a[24].xor(d[4]).rol::<14, 50>(),
                a[3].xor(d[3]).rol::<28, 36>(),
                a[9].xor(d[4]).rol::<20, 44>(),
                a[10].xor(d[0]).rol::<3, 61>(),
                a[16].xor(d[1]).rol::<45, 19>(),
                a[22].xor(d[2]).rol::<61, 3>(),
                a[1].xor(d[1]).rol::<1, 63>(),
                a[7].xor(d[2]).rol::<6, 58>(),
                a[13].xor(d[3]).rol::<25, 39>(),
                a[19].xor(d[4]).rol::<8, 56>(),
                a[20].xor(d[0]).rol::<18, 46>(),
                a[4].xor(d[4]).rol::<27, 37>(),
                a[5].xor(d[0]).rol::<36, 28>(),
                a[11].xor(d[1]).rol::<10, 54>(),
                a[17].xor(d[2]).rol::<15, 49>(),
                a[23].xor(d[3]).rol::<56, 8>(),
                a[2].xor(d[2]).rol::<62, 2>(),
                a[8].xor(d[3]).rol::<55, 9>(),
                a[14].xor(d[4]).rol::<39, 25>(),
                a[15].xor(d[0]).rol::<41, 23>(),
                a[21].xor(d[1]).rol::<2, 62>(),
            ];
            *a = [
                b[0].chi(b[1], b[2]),
                b[1].chi(b[2], b[3]),
                b[2].chi(b[3], b[4]),
                b[3].chi(b[4], b[0]),
                b[4].chi(b[0], b[1]),
                b[5].chi(b[6], b[7]),
                b[6].chi(b[7], b[8]),
                b[7].chi(b[8], b[9]),
                b[8].chi(b[9], b[5]),
                b[9].chi(b[5], b[6]),
                b[10].chi(b[11], b[12]),
                b[11].chi(b[12], b[13]),
                b[12].chi(b[13], b[14]),
                b[13].chi(b[14], b[10]),
                b[14].chi(b[10], b[11]),
                b[15].chi(b[16], b[17]),
                b[16].chi(b[17], b[18]),
                b[17].chi(b[18], b[19]),
                b[18].chi(b[19], b[15]),
                b[19].chi(b[15], b[16]),
                b[20].chi(b[21], b[22]),
                b[21].chi(b[22], b[23]),
                b[22].chi(b[23], b[24]),
                b[23].chi(b[24], b[20]),
                b[24].chi(b[20], b[21]),
            ];
            a[0] = a[0].xor(V::splat(constant));
        }
    }
}

/// Hashes up to `V::COUNT` messages side by side. They may differ in length: a lane whose message has ended is read out
/// at that point and runs on unused.
///
/// # Safety
/// As for the methods of `V`.
///
/// # Panics
/// When there are more messages than lanes, or `messages` and `out` differ in length.
#[inline(always)]
pub(super) unsafe fn hash_lanes<V: Lanes>(messages: &[&[u8]], out: &mut [B256]) {
    assert!(messages.len() <= V::COUNT && messages.len() == out.len());
    let rounds = messages.iter().map(|m| blocks(m.len())).max().unwrap_or(0);
    let mut rows = [Row([0; Row::LANES_MAX]); RATE_WORDS];
    // SAFETY: the caller has the features of `V`.
    let mut state = [unsafe { V::splat(0) }; 25];
    for block in 0..rounds {
        for (lane, message) in messages.iter().enumerate() {
            write_block(&mut rows, lane, message, block);
        }
        for (word, row) in state.iter_mut().zip(&rows) {
            // SAFETY: the caller has the features of `V`.
            *word = unsafe { word.xor(V::load(row)) };
        }
        // SAFETY: the caller has the features of `V`.
        unsafe { permute(&mut state) };
        if messages.iter().any(|m| blocks(m.len()) == block + 1) {
            let mut words = [Row([0; Row::LANES_MAX]); 4];
            for (row, word) in words.iter_mut().zip(&state) {
                // SAFETY: the caller has the features of `V`.
                unsafe { word.store(row) };
            }
            for (lane, (message, hash)) in messages.iter().zip(out.iter_mut()).enumerate() {
                if blocks(message.len()) == block + 1 {
                    for (bytes, row) in hash.0.chunks_exact_mut(8).zip(&words) {
                        bytes.copy_from_slice(&row.0[lane].to_le_bytes());
                    }
                }
            }
        }
    }
}

/// Puts block number `block` of `message`, padded where it is the last, into lane `lane` of `rows`. Past the end of the
/// message the lane keeps what it had: nobody reads it any more.
#[inline(always)]
fn write_block(rows: &mut [Row; RATE_WORDS], lane: usize, message: &[u8], block: usize) {
    let start = block * RATE;
    if let Some(full) = message.get(start..start + RATE) {
        for (row, bytes) in rows.iter_mut().zip(full.as_chunks::<8>().0) {
            row.0[lane] = u64::from_le_bytes(*bytes);
        }
    } else if let Some(tail) = message.get(start..) {
        let (words, rest) = tail.as_chunks::<8>();
        for (row, bytes) in rows.iter_mut().zip(words) {
            row.0[lane] = u64::from_le_bytes(*bytes);
        }
        // Keccak's padding (not SHA-3's): a one bit right after the message, a one bit at the end of the block.
        let mut last = [0u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[rest.len()] = 1;
        rows[words.len()].0[lane] = u64::from_le_bytes(last);
        for row in &mut rows[words.len() + 1..] {
            row.0[lane] = 0;
        }
        rows[RATE_WORDS - 1].0[lane] ^= 1 << 63;
    }
}
