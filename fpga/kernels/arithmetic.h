/* Kernels of one operation each, for tests of the arithmetic alone: out[i] = a[i] op b[i], eight words each. */

#define DEFINE_FE_TEST(NAME, OP)                                                                                           \
    KERNEL void NAME(GLOBAL const u32 *a, GLOBAL const u32 *b, GLOBAL u32 *out)                                            \
    {                                                                                                                      \
        const u32 id = ITEM;                                                                                               \
        fe x, y, r;                                                                                                        \
        UNROLL                                                                                                             \
        for (int i = 0; i < 8; i++) {                                                                                      \
            x.w[i] = a[8 * id + i];                                                                                        \
            y.w[i] = b[8 * id + i];                                                                                        \
        }                                                                                                                  \
        OP;                                                                                                                \
        UNROLL                                                                                                             \
        for (int i = 0; i < 8; i++)                                                                                        \
            out[8 * id + i] = r.w[i];                                                                                      \
    }

DEFINE_FE_TEST(test_fe_mul, fe_mul(&r, &x, &y))
DEFINE_FE_TEST(test_fe_sqr, fe_sqr(&r, &x))
DEFINE_FE_TEST(test_fe_add, fe_add(&r, &x, &y))
DEFINE_FE_TEST(test_fe_sub, fe_sub(&r, &x, &y))
DEFINE_FE_TEST(test_fe_half, fe_half(&r, &x))
DEFINE_FE_TEST(test_fe_normalize, (r = x, fe_normalize(&r)))
DEFINE_FE_TEST(test_fe_invert, fe_invert(&r, &x))
DEFINE_FE_TEST(test_fe_sqrt, fe_sqrt(&r, &x))
DEFINE_FE_TEST(test_sc_mul, sc_mul(r.w, x.w, y.w))
DEFINE_FE_TEST(test_sc_add, sc_add(r.w, x.w, y.w))
DEFINE_FE_TEST(test_sc_neg, sc_neg(r.w, x.w))
DEFINE_FE_TEST(test_sc_invert, sc_invert(r.w, x.w))
