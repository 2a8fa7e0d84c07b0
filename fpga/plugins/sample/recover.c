/*
 * secp256k1 public-key recovery and Keccak-256 in plain C11 with 128-bit products: a vendor's stand-in for a card, kept
 * short. It is not constant-time and need not be: signatures are public.
 *
 * Numbers are four 64-bit limbs, least significant first. Moduli m = 2^256 - c are reduced by folding with c.
 */
#include "recover.h"

#include "../../include/ironlane_offload.h"

#include <string.h>

typedef unsigned __int128 wide;
typedef struct {
    uint64_t l[4];
} number;
typedef struct {
    number m; /* the modulus */
    number c; /* 2^256 - m */
} modulus;
/* Jacobian coordinates: x/z^2, y/z^3; z = 0 is the point at infinity. */
typedef struct {
    number x, y, z;
} point;

static const modulus FIELD = {
    {{0xfffffffefffffc2full, 0xffffffffffffffffull, 0xffffffffffffffffull, 0xffffffffffffffffull}},
    {{0x00000001000003d1ull, 0, 0, 0}}};
static const modulus ORDER = {
    {{0xbfd25e8cd0364141ull, 0xbaaedce6af48a03bull, 0xfffffffffffffffeull, 0xffffffffffffffffull}},
    {{0x402da1732fc9bebfull, 0x4551231950b75fc4ull, 1, 0}}};
/* (n - 1) / 2 */
static const number HALF = {
    {0xdfe92f46681b20a0ull, 0x5d576e7357a4501dull, 0xffffffffffffffffull, 0x7fffffffffffffffull}};
static const point GENERATOR = {
    {{0x59f2815b16f81798ull, 0x029bfcdb2dce28d9ull, 0x55a06295ce870b07ull, 0x79be667ef9dcbbacull}},
    {{0x9c47d08ffb10d4b8ull, 0xfd17b448a6855419ull, 0x5da4fbfc0e1108a8ull, 0x483ada7726a3c465ull}},
    {{1, 0, 0, 0}}};

static number from_bytes(const uint8_t bytes[32]) {
    number a;
    for (int i = 0; i < 4; i++) {
        uint64_t limb = 0;
        for (int j = 0; j < 8; j++) limb = limb << 8 | bytes[8 * (3 - i) + j];
        a.l[i] = limb;
    }
    return a;
}

static void to_bytes(number a, uint8_t bytes[32]) {
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(a.l[3 - i / 8] >> (56 - 8 * (i % 8)));
}

static int is_zero(number a) { return (a.l[0] | a.l[1] | a.l[2] | a.l[3]) == 0; }

static int is_less(number a, number b) {
    for (int i = 3; i >= 0; i--)
        if (a.l[i] != b.l[i]) return a.l[i] < b.l[i];
    return 0;
}

static int is_equal(number a, number b) { return memcmp(a.l, b.l, sizeof a.l) == 0; }

/* a + b; the carry is returned. */
static uint64_t add_plain(number *sum, number a, number b) {
    wide carry = 0;
    for (int i = 0; i < 4; i++) {
        carry += (wide)a.l[i] + b.l[i];
        sum->l[i] = (uint64_t)carry;
        carry >>= 64;
    }
    return (uint64_t)carry;
}

/* a - b; the borrow is returned. */
static uint64_t subtract_plain(number *difference, number a, number b) {
    uint64_t borrow = 0;
    for (int i = 0; i < 4; i++) {
        wide step = (wide)a.l[i] - b.l[i] - borrow;
        difference->l[i] = (uint64_t)step;
        borrow = (uint64_t)(step >> 64) & 1;
    }
    return borrow;
}

/* In and out below m. */
static number add(number a, number b, const modulus *m) {
    number sum;
    uint64_t carry = add_plain(&sum, a, b);
    if (carry || !is_less(sum, m->m)) (void)subtract_plain(&sum, sum, m->m);
    return sum;
}

static number subtract(number a, number b, const modulus *m) {
    number difference;
    if (subtract_plain(&difference, a, b)) (void)add_plain(&difference, difference, m->m);
    return difference;
}

/* a * b mod m: while there is a high half, high * 2^256 = high * c (mod m). */
static number multiply(number a, number b, const modulus *m) {
    uint64_t t[8] = {0};
    for (int i = 0; i < 4; i++) {
        wide carry = 0;
        for (int j = 0; j < 4; j++) {
            carry += (wide)a.l[i] * b.l[j] + t[i + j];
            t[i + j] = (uint64_t)carry;
            carry >>= 64;
        }
        t[i + 4] = (uint64_t)carry;
    }
    while (t[4] | t[5] | t[6] | t[7]) {
        uint64_t high[4], u[8] = {0};
        memcpy(high, t + 4, sizeof high);
        memcpy(u, t, 4 * sizeof *u);
        for (int i = 0; i < 4; i++) {
            wide carry = 0;
            for (int j = 0; j < 4; j++) {
                carry += (wide)high[i] * m->c.l[j] + u[i + j];
                u[i + j] = (uint64_t)carry;
                carry >>= 64;
            }
            for (int k = i + 4; carry && k < 8; k++) {
                carry += u[k];
                u[k] = (uint64_t)carry;
                carry >>= 64;
            }
        }
        memcpy(t, u, sizeof t);
    }
    number product;
    memcpy(product.l, t, sizeof product.l);
    while (!is_less(product, m->m)) (void)subtract_plain(&product, product, m->m);
    return product;
}

static number power(number base, number exponent, const modulus *m) {
    number result = {{1, 0, 0, 0}};
    for (int i = 255; i >= 0; i--) {
        result = multiply(result, result, m);
        if (exponent.l[i / 64] >> (i % 64) & 1) result = multiply(result, base, m);
    }
    return result;
}

/* Fermat. */
static number inverse(number a, const modulus *m) {
    const number two = {{2, 0, 0, 0}};
    number exponent;
    (void)subtract_plain(&exponent, m->m, two);
    return power(a, exponent, m);
}

static point doubled(point p) {
    const modulus *f = &FIELD;
    if (is_zero(p.z) || is_zero(p.y)) return (point){{{0}}, {{1, 0, 0, 0}}, {{0}}};
    number yy = multiply(p.y, p.y, f);
    number s = multiply(p.x, yy, f);
    s = add(s, s, f);
    s = add(s, s, f);
    number xx = multiply(p.x, p.x, f);
    number m = add(add(xx, xx, f), xx, f);
    point d;
    d.x = subtract(multiply(m, m, f), add(s, s, f), f);
    number yyyy = multiply(yy, yy, f);
    number eight = add(yyyy, yyyy, f);
    eight = add(eight, eight, f);
    eight = add(eight, eight, f);
    d.y = subtract(multiply(m, subtract(s, d.x, f), f), eight, f);
    number yz = multiply(p.y, p.z, f);
    d.z = add(yz, yz, f);
    return d;
}

/* Complete: equal and opposite points and the point at infinity are handled. */
static point added(point p, point q) {
    const modulus *f = &FIELD;
    if (is_zero(p.z)) return q;
    if (is_zero(q.z)) return p;
    number zz1 = multiply(p.z, p.z, f), zz2 = multiply(q.z, q.z, f);
    number u1 = multiply(p.x, zz2, f), u2 = multiply(q.x, zz1, f);
    number s1 = multiply(p.y, multiply(zz2, q.z, f), f), s2 = multiply(q.y, multiply(zz1, p.z, f), f);
    if (is_equal(u1, u2)) {
        if (is_equal(s1, s2)) return doubled(p);
        return (point){{{0}}, {{1, 0, 0, 0}}, {{0}}};
    }
    number h = subtract(u2, u1, f), r = subtract(s2, s1, f);
    number hh = multiply(h, h, f), hhh = multiply(hh, h, f), v = multiply(u1, hh, f);
    point sum;
    sum.x = subtract(subtract(multiply(r, r, f), hhh, f), add(v, v, f), f);
    sum.y = subtract(multiply(r, subtract(v, sum.x, f), f), multiply(s1, hhh, f), f);
    sum.z = multiply(h, multiply(p.z, q.z, f), f);
    return sum;
}

/* a*P + b*Q by Shamir's trick. */
static point combination(number a, point p, number b, point q) {
    point both = added(p, q), sum = {{{0}}, {{1, 0, 0, 0}}, {{0}}};
    for (int i = 255; i >= 0; i--) {
        sum = doubled(sum);
        int bits = (int)(a.l[i / 64] >> (i % 64) & 1) | (int)(b.l[i / 64] >> (i % 64) & 1) << 1;
        if (bits == 1) sum = added(sum, p);
        if (bits == 2) sum = added(sum, q);
        if (bits == 3) sum = added(sum, both);
    }
    return sum;
}

uint16_t sample_recover(const uint8_t hash[32], const uint8_t r[32], const uint8_t s[32], uint8_t v, int any_s,
                        uint8_t public_key[64]) {
    number rn = from_bytes(r), sn = from_bytes(s), zn = from_bytes(hash);
    /* The order of these checks is the ABI's. */
    if (v > 1) return IRONLANE_BAD_PARITY;
    if (is_zero(rn) || !is_less(rn, ORDER.m)) return IRONLANE_BAD_R;
    if (is_zero(sn) || !is_less(sn, ORDER.m)) return IRONLANE_BAD_S;
    if (!any_s && is_less(HALF, sn)) return IRONLANE_HIGH_S;
    if (!is_less(zn, ORDER.m)) (void)subtract_plain(&zn, zn, ORDER.m);

    /* R: y = (x^3 + 7)^((p + 1) / 4), if that is a root at all. */
    const number seven = {{7, 0, 0, 0}};
    const number root = {
        {0xffffffffbfffff0cull, 0xffffffffffffffffull, 0xffffffffffffffffull, 0x3fffffffffffffffull}};
    number yy = add(multiply(multiply(rn, rn, &FIELD), rn, &FIELD), seven, &FIELD);
    number y = power(yy, root, &FIELD);
    if (!is_equal(multiply(y, y, &FIELD), yy)) return IRONLANE_NO_KEY;
    const number zero = {{0}};
    if ((y.l[0] & 1) != v) y = subtract(zero, y, &FIELD);
    point nonce = {rn, y, {{1, 0, 0, 0}}};

    /* Q = (s*R - z*G) / r */
    number ri = inverse(rn, &ORDER);
    number u1 = subtract(zero, multiply(zn, ri, &ORDER), &ORDER), u2 = multiply(sn, ri, &ORDER);
    point q = combination(u1, GENERATOR, u2, nonce);
    if (is_zero(q.z)) return IRONLANE_NO_KEY;
    number zi = inverse(q.z, &FIELD), zi2 = multiply(zi, zi, &FIELD);
    to_bytes(multiply(q.x, zi2, &FIELD), public_key);
    to_bytes(multiply(q.y, multiply(zi2, zi, &FIELD), &FIELD), public_key + 32);
    return IRONLANE_OK;
}

/* ---- Keccak-256 (the padding of the original submission, as Ethereum uses it) ---- */

static uint64_t rotated(uint64_t a, unsigned by) { return by ? a << by | a >> (64 - by) : a; }

static void permute(uint64_t a[25]) {
    uint8_t constant = 1; /* the round constants' shift register */
    for (int round = 0; round < 24; round++) {
        uint64_t column[5];
        for (int x = 0; x < 5; x++) column[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        for (int i = 0; i < 25; i++) a[i] ^= column[(i + 4) % 5] ^ rotated(column[(i + 1) % 5], 1);
        uint64_t moving = a[1];
        for (int t = 0, x = 1, y = 0; t < 24; t++) {
            int next = (2 * x + 3 * y) % 5;
            x = y;
            y = next;
            uint64_t kept = a[x + 5 * y];
            a[x + 5 * y] = rotated(moving, (unsigned)((t + 1) * (t + 2) / 2 % 64));
            moving = kept;
        }
        for (int y = 0; y < 25; y += 5) {
            uint64_t row[5];
            memcpy(row, a + y, sizeof row);
            for (int x = 0; x < 5; x++) a[x + y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
        }
        for (int j = 0; j < 7; j++) {
            if (constant & 1) a[0] ^= 1ull << ((1 << j) - 1);
            constant = (uint8_t)(constant << 1 ^ (constant & 0x80 ? 0x71 : 0));
        }
    }
}

void sample_keccak256(const uint8_t *message, size_t length, uint8_t digest[32]) {
    uint64_t state[25] = {0};
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        state[at / 8] ^= (uint64_t)message[i] << (8 * (at % 8));
        if (++at == 136) {
            permute(state);
            at = 0;
        }
    }
    state[at / 8] ^= 1ull << (8 * (at % 8));
    state[16] ^= 1ull << 63;
    permute(state);
    for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(state[i / 8] >> (8 * (i % 8)));
}
