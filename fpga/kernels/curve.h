/* Points of secp256k1, y^2 = x^3 + 7, in Jacobian coordinates: (X / Z^2, Y / Z^3). No point has y = 0: the order of the
 * group is an odd prime. */

CONSTANT u32 BETA[8] = {0x719501eeu, 0xc1396c28u, 0x12f58995u, 0x9cf04975u,
                        0xac3434e9u, 0x6e64479eu, 0x657c0710u, 0x7ae96a2bu};
CONSTANT u32 GENERATOR_X[8] = {0x16f81798u, 0x59f2815bu, 0x2dce28d9u, 0x029bfcdbu,
                               0xce870b07u, 0x55a06295u, 0xf9dcbbacu, 0x79be667eu};
CONSTANT u32 GENERATOR_Y[8] = {0xfb10d4b8u, 0x9c47d08fu, 0xa6855419u, 0xfd17b448u,
                               0x0e1108a8u, 0x5da4fbfcu, 0x26a3c465u, 0x483ada77u};

typedef struct {
    fe x, y, z;
    /* The point at infinity; the coordinates are then of no account, but z is 1. */
    int infinite;
} point;

/* p = 2 p, for a finite p: 3M + 4S, with L = 3/2 X^2, S = Y^2, T = -X S: X' = L^2 + 2T, Y' = -(L (X' + T) + S^2), Z' = Y Z.
 * (The formula of libsecp256k1; the constant of the curve does not enter, so it holds on every isomorphic curve.) */
HOT void point_double(point *p)
{
    fe l, s, t, u;
    fe_mul(&p->z, &p->y, &p->z);
    fe_sqr(&s, &p->y);
    fe_sqr(&u, &p->x);
    fe_add(&l, &u, &u);
    fe_add(&l, &l, &u);
    fe_half(&l, &l);
    fe_mul(&t, &p->x, &s);
    fe_neg(&t, &t);
    fe_sqr(&p->x, &l);
    fe_add(&p->x, &p->x, &t);
    fe_add(&p->x, &p->x, &t);
    fe_add(&t, &t, &p->x);
    fe_mul(&t, &t, &l);
    fe_sqr(&s, &s);
    fe_add(&t, &t, &s);
    fe_neg(&p->y, &t);
}

CALLED void point_double_seldom(point *p)
{
    point_double(p);
}

/* p += (x2, y2), exact in every case: 8M + 3S. `zs` is the Z by which p's coordinates stand over those of the second point:
 * p->z itself, or p->z times the Z of an isomorphism. `ratio`: the new Z over the old one, where both are finite and not
 * each other's negative. */
HOT void point_add_affine(point *p, const fe *x2, const fe *y2, const fe *zs, fe *ratio)
{
    fe u, s, h, r, t, v;
    fe_sqr(&t, zs);
    fe_mul(&u, x2, &t);
    fe_mul(&s, zs, &t);
    fe_mul(&s, &s, y2);
    if (p->infinite) {
        p->x = u;
        p->y = s;
        p->infinite = 0;
        return;
    }
    fe_sub(&h, &u, &p->x);
    fe_sub(&r, &s, &p->y);
    if (fe_is_zero(&h)) {
        if (fe_is_zero(&r)) {
            *ratio = p->y;
            point sum = *p;
            point_double_seldom(&sum);
            *p = sum;
        } else {
            p->infinite = 1;
            fe_small(&p->z, 1);
        }
        return;
    }
    *ratio = h;
    fe_mul(&p->z, &p->z, &h);
    fe_sqr(&t, &h);
    fe_mul(&h, &h, &t);
    fe_mul(&v, &p->x, &t);
    fe_sqr(&t, &r);
    fe_sub(&t, &t, &h);
    fe_sub(&t, &t, &v);
    fe_sub(&p->x, &t, &v);
    fe_sub(&t, &v, &p->x);
    fe_mul(&t, &t, &r);
    fe_mul(&h, &p->y, &h);
    fe_sub(&p->y, &t, &h);
}

/* Inverts one value of each item of a work-group for the price of one inversion (Montgomery's trick over a binary tree):
 * node i of the tree is the product of nodes 2i and 2i + 1, the leaves are nodes GROUP to 2 GROUP. Every item of the group
 * must call it, with a value that is not zero. `tree` holds 16 GROUP words. */
#define TREE_WORDS (16 * GROUP)

DEVICE void tree_load(u32 *value, SHARED const u32 *tree, u32 node)
{
    UNROLL
    for (u32 i = 0; i < 8; i++)
        value[i] = tree[i * 2 * GROUP + node];
}

DEVICE void tree_store(SHARED u32 *tree, u32 node, const u32 *value)
{
    UNROLL
    for (u32 i = 0; i < 8; i++)
        tree[i * 2 * GROUP + node] = value[i];
}

#define DEFINE_GROUP_INVERT(NAME, MUL, INVERT)                                                                             \
    DEVICE void NAME(u32 *value, SHARED u32 *tree)                                                                         \
    {                                                                                                                      \
        u32 left[8], right[8], t[8];                                                                                       \
        const u32 lane = LANE;                                                                                             \
        tree_store(tree, GROUP + lane, value);                                                                             \
        NO_UNROLL                                                                                                          \
        for (u32 width = GROUP / 2; width > 0; width >>= 1) {                                                              \
            BARRIER;                                                                                                       \
            if (lane < width) {                                                                                            \
                tree_load(left, tree, 2 * (width + lane));                                                                 \
                tree_load(right, tree, 2 * (width + lane) + 1);                                                            \
                MUL(t, left, right);                                                                                       \
                tree_store(tree, width + lane, t);                                                                         \
            }                                                                                                              \
        }                                                                                                                  \
        BARRIER;                                                                                                           \
        if (lane == 0) {                                                                                                   \
            tree_load(left, tree, 1);                                                                                      \
            INVERT(t, left);                                                                                               \
            tree_store(tree, 1, t);                                                                                        \
        }                                                                                                                  \
        NO_UNROLL                                                                                                          \
        for (u32 width = 1; width < GROUP; width <<= 1) {                                                                  \
            BARRIER;                                                                                                       \
            if (lane < width) {                                                                                            \
                u32 inverse[8];                                                                                            \
                tree_load(inverse, tree, width + lane);                                                                    \
                tree_load(left, tree, 2 * (width + lane));                                                                 \
                tree_load(right, tree, 2 * (width + lane) + 1);                                                            \
                MUL(t, inverse, right);                                                                                    \
                tree_store(tree, 2 * (width + lane), t);                                                                   \
                MUL(t, inverse, left);                                                                                     \
                tree_store(tree, 2 * (width + lane) + 1, t);                                                               \
            }                                                                                                              \
        }                                                                                                                  \
        BARRIER;                                                                                                           \
        tree_load(value, tree, GROUP + lane);                                                                              \
    }

DEVICE void fe_mul_words(u32 *r, const u32 *a, const u32 *b)
{
    u32 t[16];
    fe product;
    mul_wide(t, a, b);
    fe_reduce(&product, t);
    UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = product.w[i];
}

DEVICE void fe_invert_words(u32 *r, const u32 *a)
{
    fe x, y;
    UNROLL
    for (int i = 0; i < 8; i++)
        x.w[i] = a[i];
    fe_invert(&y, &x);
    UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = y.w[i];
}

DEFINE_GROUP_INVERT(group_invert_fe, fe_mul_words, fe_invert_words)
DEFINE_GROUP_INVERT(group_invert_sc, sc_mul, sc_invert)

/* table[16 i ..] = x, y of (i + 1) G, for i below 2^(G_WINDOW - 1). One item each; the count is a multiple of GROUP. */
KERNEL GROUPED void generator_table(GLOBAL u32 *table)
{
#ifdef __OPENCL_VERSION__
    __local u32 tree[TREE_WORDS];
#else
    __shared__ u32 tree[TREE_WORDS];
#endif
    const u32 k = ITEM + 1;
    fe gx, gy, t;
    load_constant(gx.w, GENERATOR_X);
    load_constant(gy.w, GENERATOR_Y);
    point p;
    fe_small(&p.z, 1);
    p.x = gx;
    p.y = gy;
    p.infinite = 1;
    NO_UNROLL
    for (int bit = G_WINDOW - 1; bit >= 0; bit--) {
        if (!p.infinite)
            point_double(&p);
        if ((k >> bit) & 1u) {
            fe z = p.z;
            point_add_affine(&p, &gx, &gy, &z, &t);
        }
    }
    fe z = p.z;
    group_invert_fe(z.w, tree);
    fe_sqr(&t, &z);
    fe_mul(&p.x, &p.x, &t);
    fe_mul(&t, &t, &z);
    fe_mul(&p.y, &p.y, &t);
    fe_normalize(&p.x);
    fe_normalize(&p.y);
    UNROLL
    for (int i = 0; i < 8; i++) {
        table[16 * (k - 1) + i] = p.x.w[i];
        table[16 * (k - 1) + 8 + i] = p.y.w[i];
    }
}
