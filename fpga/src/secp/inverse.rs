//! Modular inversion by Bernstein and Yang's division steps ("Fast constant-time gcd computation and modular inversion",
//! 2019), 62 steps to a transition matrix, in variable time: everything that is inverted here is public.

/// Bits of a limb: leaves room for signs and for the matrix's entries in 64 bits.
const BITS: u32 = 62;
const MASK: u64 = u64::MAX >> 2;
/// Limbs of a 256-bit number with its sign.
const LIMBS: usize = 5;

/// A number in limbs of 62 bits, all but the most significant in [0, 2⁶²).
type Signed = [i64; LIMBS];

/// An odd modulus below 2²⁵⁶.
pub(super) struct Modulus {
    limbs: Signed,
    /// modulus⁻¹ mod 2⁶².
    inverse: u64,
}

impl Modulus {
    pub(super) const fn new(words: [u64; 4]) -> Modulus {
        // Newton: each step doubles the bits that are right, and an odd number is its own inverse modulo 8.
        let mut inverse = words[0];
        let mut step = 0;
        while step < 5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(words[0].wrapping_mul(inverse)));
            step += 1;
        }
        Modulus { limbs: to_signed(&words), inverse: inverse & MASK }
    }
}

const fn to_signed(w: &[u64; 4]) -> Signed {
    [
        (w[0] & MASK) as i64,
        ((w[0] >> 62 | w[1] << 2) & MASK) as i64,
        ((w[1] >> 60 | w[2] << 4) & MASK) as i64,
        ((w[2] >> 58 | w[3] << 6) & MASK) as i64,
        (w[3] >> 56) as i64,
    ]
}

/// The inverse of [`to_signed`] for numbers in [0, 2²⁵⁶).
fn to_words(s: &Signed) -> [u64; 4] {
    let s = s.map(|limb| limb as u64);
    [s[0] | s[1] << 62, s[1] >> 2 | s[2] << 60, s[2] >> 4 | s[3] << 58, s[3] >> 6 | s[4] << 56]
}

/// What 62 division steps do to (f, g), times 2⁶².
struct Matrix {
    u: i64,
    v: i64,
    q: i64,
    r: i64,
}

/// 62 division steps on the low words of f and g. `eta` is the paper's −δ. Each round takes off all zeros at the bottom
/// of g and cancels the next few bits at once with a multiple of f.
fn division_steps(mut eta: i64, f: u64, g: u64) -> (i64, Matrix) {
    let (mut f, mut g) = (f, g);
    let (mut u, mut v, mut q, mut r) = (1u64, 0u64, 0u64, 1u64);
    let mut left = BITS;
    loop {
        let zeros = (g | u64::MAX << left).trailing_zeros();
        g >>= zeros;
        u <<= zeros;
        v <<= zeros;
        eta -= i64::from(zeros);
        left -= zeros;
        if left == 0 {
            break;
        }
        if eta < 0 {
            eta = -eta;
            (f, g) = (g, f.wrapping_neg());
            (u, q) = (q, u.wrapping_neg());
            (v, r) = (r, v.wrapping_neg());
        }
        // Up to six bits of g may go at once, but no more than there are steps left, nor than until the next exchange.
        let count = (eta + 1).min(i64::from(left)).min(6);
        // −g/f modulo 2⁶: f·(2 − f²) is 1/f modulo 2⁶ for every odd f, with the sign turned: f·(f² − 2) = −1/f.
        let factor = f.wrapping_mul(g).wrapping_mul(f.wrapping_mul(f).wrapping_sub(2)) & ((1 << count) - 1);
        g = g.wrapping_add(f.wrapping_mul(factor));
        q = q.wrapping_add(u.wrapping_mul(factor));
        r = r.wrapping_add(v.wrapping_mul(factor));
    }
    (eta, Matrix { u: u as i64, v: v as i64, q: q as i64, r: r as i64 })
}

/// (f, g) ← matrix · (f, g) / 2⁶², which is exact.
fn update_fg(f: &mut Signed, g: &mut Signed, m: &Matrix) {
    let row = |a: i64, b: i64, f: i64, g: i64| i128::from(a) * i128::from(f) + i128::from(b) * i128::from(g);
    let mut carry_f = row(m.u, m.v, f[0], g[0]) >> BITS;
    let mut carry_g = row(m.q, m.r, f[0], g[0]) >> BITS;
    for i in 1..LIMBS {
        carry_f += row(m.u, m.v, f[i], g[i]);
        carry_g += row(m.q, m.r, f[i], g[i]);
        f[i - 1] = carry_f as i64 & MASK as i64;
        g[i - 1] = carry_g as i64 & MASK as i64;
        carry_f >>= BITS;
        carry_g >>= BITS;
    }
    f[LIMBS - 1] = carry_f as i64;
    g[LIMBS - 1] = carry_g as i64;
}

/// (d, e) ← matrix · (d, e) / 2⁶² modulo the modulus. d and e stay in (−2·modulus, modulus).
fn update_de(d: &mut Signed, e: &mut Signed, m: &Matrix, modulus: &Modulus) {
    let (sign_d, sign_e) = (d[LIMBS - 1] >> 63, e[LIMBS - 1] >> 63);
    let row = |a: i64, b: i64, d: i64, e: i64| i128::from(a) * i128::from(d) + i128::from(b) * i128::from(e);
    // How often the modulus is added: once for a negative operand, and so that the low 62 bits vanish.
    let times = |base: i64, low: i128| {
        let wanted = modulus.inverse.wrapping_mul(low as u64).wrapping_add(base as u64) & MASK;
        base - wanted as i64
    };
    let (mut carry_d, mut carry_e) = (row(m.u, m.v, d[0], e[0]), row(m.q, m.r, d[0], e[0]));
    let times_d = times((m.u & sign_d) + (m.v & sign_e), carry_d);
    let times_e = times((m.q & sign_d) + (m.r & sign_e), carry_e);
    let multiple = |times: i64, i: usize| i128::from(modulus.limbs[i]) * i128::from(times);
    carry_d = (carry_d + multiple(times_d, 0)) >> BITS;
    carry_e = (carry_e + multiple(times_e, 0)) >> BITS;
    for i in 1..LIMBS {
        carry_d += row(m.u, m.v, d[i], e[i]) + multiple(times_d, i);
        carry_e += row(m.q, m.r, d[i], e[i]) + multiple(times_e, i);
        d[i - 1] = carry_d as i64 & MASK as i64;
        e[i - 1] = carry_e as i64 & MASK as i64;
        carry_d >>= BITS;
        carry_e >>= BITS;
    }
    d[LIMBS - 1] = carry_d as i64;
    e[LIMBS - 1] = carry_e as i64;
}

/// `a + b·factor`, carried.
fn add_multiple(a: &mut Signed, b: &Signed, factor: i64) {
    let mut carry = 0i64;
    for (i, (a, b)) in a.iter_mut().zip(b).enumerate() {
        carry += *a + b * factor;
        *a = if i < LIMBS - 1 { carry & MASK as i64 } else { carry };
        carry >>= BITS;
    }
}

/// 1/x modulo the modulus, 0 for 0. `x` must be below the modulus and prime to it unless it is 0.
pub(super) fn invert(x: &[u64; 4], modulus: &Modulus) -> [u64; 4] {
    let (mut d, mut e): (Signed, Signed) = ([0; LIMBS], [1, 0, 0, 0, 0]);
    let (mut f, mut g) = (modulus.limbs, to_signed(x));
    let mut eta = -1;
    while g != [0; LIMBS] {
        let (next, matrix) = division_steps(eta, f[0] as u64, g[0] as u64);
        // f[0] has all 62 low bits of f, and the matrix depends on no more.
        eta = next;
        update_de(&mut d, &mut e, &matrix, modulus);
        update_fg(&mut f, &mut g, &matrix);
    }
    // Now f is the gcd, 1 or −1 (or the modulus, for x = 0, where d is 0), and d·x = f.
    if d[LIMBS - 1] < 0 {
        add_multiple(&mut d, &modulus.limbs, 1);
    }
    if f[LIMBS - 1] < 0 {
        let mut negated = [0; LIMBS];
        add_multiple(&mut negated, &d, -1);
        d = negated;
    }
    if d[LIMBS - 1] < 0 {
        add_multiple(&mut d, &modulus.limbs, 1);
    }
    to_words(&d)
}
