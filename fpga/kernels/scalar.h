/* Numbers modulo the group's order n = 2^256 - c, c of 129 bits (SEC 2, section 2.4.1), always below n, and their halves
 * by the curve's endomorphism. */

CONSTANT u32 ORDER[8] = {0xd0364141u, 0xbfd25e8cu, 0xaf48a03bu, 0xbaaedce6u,
                         0xfffffffeu, 0xffffffffu, 0xffffffffu, 0xffffffffu};
/* (n - 1) / 2 */
CONSTANT u32 HALF_ORDER[8] = {0x681b20a0u, 0xdfe92f46u, 0x57a4501du, 0x5d576e73u,
                              0xffffffffu, 0xffffffffu, 0xffffffffu, 0x7fffffffu};
CONSTANT u32 ORDER_C[5] = {0x2fc9bebfu, 0x402da173u, 0x50b75fc4u, 0x45512319u, 1u};

/* The endomorphism (x, y) -> (beta x, y) multiplies by lambda. With the short vectors (a1, b1) and (a2, b2) of the lattice
 * { (i, j) : i + j lambda = 0 mod n }: SPLIT_1 = round(2^384 b2 / n), SPLIT_2 = round(2^384 (-b1) / n). (Guide to
 * Elliptic Curve Cryptography, algorithm 3.74.) */
CONSTANT u32 SPLIT_1[8] = {0x45dbb031u, 0xe893209au, 0x71e8ca7fu, 0x3daa8a14u,
                           0x9284eb15u, 0xe86c90e4u, 0xa7d46bcdu, 0x3086d221u};
CONSTANT u32 SPLIT_2[8] = {0x8ac47f71u, 0x1571b4aeu, 0x9df506c6u, 0x221208acu,
                           0x0abfe4c4u, 0x6f547fa9u, 0x010e8828u, 0xe4437ed6u};
CONSTANT u32 MINUS_B1[8] = {0x0abfe4c3u, 0x6f547fa9u, 0x010e8828u, 0xe4437ed6u, 0, 0, 0, 0};
CONSTANT u32 MINUS_B2[8] = {0x3db1562cu, 0xd765cda8u, 0x0774346du, 0x8a280ac5u,
                            0xfffffffeu, 0xffffffffu, 0xffffffffu, 0xffffffffu};
CONSTANT u32 MINUS_LAMBDA[8] = {0xb51283cfu, 0xe0cfc810u, 0x8ec739c2u, 0xa880b9fcu,
                                0x77ed9ba4u, 0x5ad9e3fdu, 0x3fa3cf1fu, 0xac9c52b3u};

DEVICE void load_constant(u32 *r, CONSTANT_PTR const u32 *c)
{
    UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = c[i];
}

/* Whether a >= c. */
DEVICE int at_least(const u32 *a, CONSTANT_PTR const u32 *c)
{
    u32 limit[8], t[8];
    load_constant(limit, c);
    return !sub8(t, a, limit);
}

DEVICE int is_zero8(const u32 *a)
{
    u32 any = 0;
    UNROLL
    for (int i = 0; i < 8; i++)
        any |= a[i];
    return any == 0;
}

/* a mod n for a < 2n, its 257th bit in `top`. */
DEVICE void sc_reduce_once(u32 *a, u32 top)
{
    u32 n[8], t[8];
    load_constant(n, ORDER);
    u32 borrow = sub8(t, a, n);
    UNROLL
    for (int i = 0; i < 8; i++)
        a[i] = top || !borrow ? t[i] : a[i];
}

/* low[0..length) += high[0..count) c, where the sum fits into `length` words. */
DEVICE void sc_fold(u32 *low, int length, const u32 *high, int count)
{
    UNROLL
    for (int i = 0; i < count; i++) {
        u64 carry = 0;
        UNROLL
        for (int j = 0; j < 5; j++) {
            carry += (u64)high[i] * ORDER_C[j] + low[i + j];
            low[i + j] = (u32)carry;
            carry >>= 32;
        }
        UNROLL
        for (int j = i + 5; j < length; j++) {
            carry += low[j];
            low[j] = (u32)carry;
            carry >>= 32;
        }
    }
}

/* r = a b mod n. Each fold replaces 2^256 by c: 512 bits become 386, then 261, then one bit more than 256. */
HOT void sc_mul(u32 *r, const u32 *a, const u32 *b)
{
    u32 t[16], x[13], y[9], z[9];
    mul_wide(t, a, b);
    UNROLL
    for (int i = 0; i < 13; i++)
        x[i] = i < 8 ? t[i] : 0;
    sc_fold(x, 13, t + 8, 8);
    UNROLL
    for (int i = 0; i < 9; i++)
        y[i] = i < 8 ? x[i] : 0;
    sc_fold(y, 9, x + 8, 5);
    UNROLL
    for (int i = 0; i < 9; i++)
        z[i] = i < 8 ? y[i] : 0;
    sc_fold(z, 9, y + 8, 1);
    UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = z[i];
    sc_reduce_once(r, z[8]);
}

DEVICE void sc_add(u32 *r, const u32 *a, const u32 *b)
{
    u32 c = add8(r, a, b);
    sc_reduce_once(r, c);
}

/* r = -a. */
DEVICE void sc_neg(u32 *r, const u32 *a)
{
    u32 n[8];
    load_constant(n, ORDER);
    if (is_zero8(a)) {
        UNROLL
        for (int i = 0; i < 8; i++)
            r[i] = 0;
    } else {
        sub8(r, n, a);
    }
}

/* r = a^(n - 2) = 1 / a, by windows of four bits. */
CALLED void sc_invert(u32 *r, const u32 *a)
{
    u32 power[16][8], x[8];
    UNROLL
    for (int i = 0; i < 8; i++)
        power[0][i] = i == 0, x[i] = i == 0;
    NO_UNROLL
    for (int k = 1; k < 16; k++)
        sc_mul(power[k], power[k - 1], a);
    NO_UNROLL
    for (int k = 63; k >= 0; k--) {
        NO_UNROLL
        for (int i = 0; i < 4; i++)
            sc_mul(x, x, x);
        u32 word = ORDER[k >> 3] - (k < 8 ? 2u : 0u);
        sc_mul(x, x, power[(word >> (4 * (k & 7))) & 15u]);
    }
    UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = x[i];
}

/* r = round(a c / 2^384), below 2^128. */
DEVICE void sc_mul_shift_384(u32 *r, const u32 *a, CONSTANT_PTR const u32 *c)
{
    u32 factor[8], t[16];
    load_constant(factor, c);
    mul_wide(t, a, factor);
    u64 carry = t[11] >> 31;
    UNROLL
    for (int i = 0; i < 8; i++) {
        carry += i < 4 ? t[12 + i] : 0;
        r[i] = (u32)carry;
        carry >>= 32;
    }
}

/* k = k1 + lambda k2 with |k1|, |k2| < 2^128: the absolute values; bit 0 and bit 1 of the answer are the signs. */
HOT u32 sc_split(u32 *k1, u32 *k2, const u32 *k)
{
    u32 c1[8], c2[8], t[8], signs = 0;
    sc_mul_shift_384(c1, k, SPLIT_1);
    sc_mul_shift_384(c2, k, SPLIT_2);
    load_constant(t, MINUS_B1);
    sc_mul(c1, c1, t);
    load_constant(t, MINUS_B2);
    sc_mul(c2, c2, t);
    sc_add(k2, c1, c2);
    load_constant(t, MINUS_LAMBDA);
    sc_mul(k1, k2, t);
    sc_add(k1, k1, k);
    if (k1[7] >> 31) {
        sc_neg(k1, k1);
        signs = 1;
    }
    if (k2[7] >> 31) {
        sc_neg(k2, k2);
        signs |= 2;
    }
    return signs;
}
