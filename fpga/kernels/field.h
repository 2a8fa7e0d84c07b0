/* The field of secp256k1: p = 2^256 - 2^32 - 977 (SEC 2, section 2.4.1).
 *
 * An element is any 256-bit number of its class modulo p, unless "normal" is said: then it is below p. 2p exceeds
 * 2^256, so zero has two forms, 0 and p.
 */

/* r += lo + mid 2^32 + hi 2^64 (mod p), for an addend below 2^66. */
DEVICE void fe_add_small(fe *r, u32 lo, u32 mid, u32 hi)
{
    u32 c = add3_into8(r->w, lo, mid, hi);
    /* After an overflow the rest is below 2^66, so this one has none. */
    add3_into8(r->w, c * 977u, c, 0);
}

DEVICE void fe_reduce(fe *r, const u32 *t)
{
    /* The top is below 2^32 + 979, hence its product with 2^32 + 977 below 2^66. */
    u64 top = fold_wide(r->w, t);
    u32 e8 = (u32)top, e9 = (u32)(top >> 32);
    u64 low = (u64)e8 * 977u;
    u64 mid = (low >> 32) + e8 + (u64)(e9 * 977u);
    fe_add_small(r, (u32)low, (u32)mid, (u32)(mid >> 32) + e9);
}

HOT void fe_mul(fe *r, const fe *a, const fe *b)
{
    u32 t[16];
    mul_wide(t, a->w, b->w);
    fe_reduce(r, t);
}

HOT void fe_sqr(fe *r, const fe *a)
{
    u32 t[16];
    sqr_wide(t, a->w);
    fe_reduce(r, t);
}

HOT void fe_add(fe *r, const fe *a, const fe *b)
{
    fe t;
    u32 c = add8(t.w, a->w, b->w);
    fe_add_small(&t, c * 977u, c, 0);
    *r = t;
}

HOT void fe_sub(fe *r, const fe *a, const fe *b)
{
    fe t;
    u32 c = sub8(t.w, a->w, b->w);
    c = sub2_from8(t.w, c * 977u, c);
    /* After a borrow the rest is at least 2^256 - 2^33, so this one has none. */
    sub2_from8(t.w, c * 977u, c);
    *r = t;
}

DEVICE void fe_small(fe *r, u32 value)
{
    UNROLL
    for (int i = 0; i < 8; i++)
        r->w[i] = i == 0 ? value : 0;
}

DEVICE void fe_neg(fe *r, const fe *a)
{
    fe zero;
    fe_small(&zero, 0);
    fe_sub(r, &zero, a);
}

/* r = a / 2: of a and a + p the even one, shifted. */
HOT void fe_half(fe *r, const fe *a)
{
    u32 odd = 0u - (a->w[0] & 1u);
    fe p, t;
    p.w[0] = odd & 0xfffffc2fu;
    p.w[1] = odd & 0xfffffffeu;
    UNROLL
    for (int i = 2; i < 8; i++)
        p.w[i] = odd;
    u32 c = add8(t.w, a->w, p.w);
    UNROLL
    for (int i = 0; i < 7; i++)
        r->w[i] = (t.w[i] >> 1) | (t.w[i + 1] << 31);
    r->w[7] = (t.w[7] >> 1) | (c << 31);
}

/* The normal form: a is at least p exactly when a + 2^32 + 977 overflows, and then the sum is a - p. */
DEVICE void fe_normalize(fe *a)
{
    fe t = *a;
    u32 c = add3_into8(t.w, 977u, 1u, 0);
    UNROLL
    for (int i = 0; i < 8; i++)
        a->w[i] = c ? t.w[i] : a->w[i];
}

DEVICE int fe_is_zero(const fe *a)
{
    u32 any = 0, all = 0xffffffffu;
    UNROLL
    for (int i = 0; i < 8; i++) {
        any |= a->w[i];
        all &= i == 0 ? a->w[i] ^ ~0xfffffc2fu : i == 1 ? a->w[i] ^ 1u : a->w[i];
    }
    return any == 0 || all == 0xffffffffu;
}

/* r = a^(2^n) b. */
CALLED void fe_sqr_n_mul(fe *r, const fe *a, int n, const fe *b)
{
    fe t = *a;
    NO_UNROLL
    for (int i = 0; i < n; i++)
        fe_sqr(&t, &t);
    fe_mul(r, &t, b);
}

/* The common beginning of (p + 1) / 4 and p - 2: 223 ones, a zero, 22 ones; also a^3. */
HOT void fe_power_head(fe *head, fe *x2, const fe *a)
{
    fe x3, x6, x11, x22, x44, t;
    fe_sqr_n_mul(x2, a, 1, a);
    fe_sqr_n_mul(&x3, x2, 1, a);
    fe_sqr_n_mul(&x6, &x3, 3, &x3);
    fe_sqr_n_mul(&t, &x6, 3, &x3);
    fe_sqr_n_mul(&x11, &t, 2, x2);
    fe_sqr_n_mul(&x22, &x11, 11, &x11);
    fe_sqr_n_mul(&x44, &x22, 22, &x22);
    fe_sqr_n_mul(&t, &x44, 44, &x44);
    fe_sqr_n_mul(&t, &t, 88, &t);
    fe_sqr_n_mul(&t, &t, 44, &x44);
    fe_sqr_n_mul(&t, &t, 3, &x3);
    fe_sqr_n_mul(head, &t, 23, &x22);
}

/* r = a^((p + 1) / 4): a root of a where a is a square (p = 3 mod 4), else a root of -a. */
DEVICE void fe_sqrt(fe *r, const fe *a)
{
    fe head, x2, t;
    fe_power_head(&head, &x2, a);
    fe_sqr_n_mul(&t, &head, 6, &x2);
    fe_sqr(&t, &t);
    fe_sqr(r, &t);
}

/* r = a^(p - 2) = 1 / a; 0 for 0. */
DEVICE void fe_invert(fe *r, const fe *a)
{
    fe head, x2, t;
    fe_power_head(&head, &x2, a);
    fe_sqr_n_mul(&t, &head, 5, a);
    fe_sqr_n_mul(&t, &t, 3, &x2);
    fe_sqr_n_mul(r, &t, 2, a);
}
