/* Carry chains over 32-bit words: sums, differences, products and squares of 256-bit numbers.
 *
 * On CUDA each chain is one asm statement, because the carry flag need not survive between two. Outputs are early
 * clobbers: they are written before the last input is read.
 */

#ifdef PTX

/* r = a + b; the carry, 0 or 1. */
DEVICE u32 add8(u32 *r, const u32 *a, const u32 *b)
{
    u32 c, t0, t1, t2, t3, t4, t5, t6, t7;
    asm("add.cc.u32 %0, %9, %17;\n\t"
        "addc.cc.u32 %1, %10, %18;\n\t"
        "addc.cc.u32 %2, %11, %19;\n\t"
        "addc.cc.u32 %3, %12, %20;\n\t"
        "addc.cc.u32 %4, %13, %21;\n\t"
        "addc.cc.u32 %5, %14, %22;\n\t"
        "addc.cc.u32 %6, %15, %23;\n\t"
        "addc.cc.u32 %7, %16, %24;\n\t"
        "addc.u32 %8, 0, 0;"
        : "=&r"(t0), "=&r"(t1), "=&r"(t2), "=&r"(t3), "=&r"(t4), "=&r"(t5), "=&r"(t6), "=&r"(t7), "=&r"(c)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]), "r"(b[0]),
          "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(b[4]), "r"(b[5]), "r"(b[6]), "r"(b[7]));
    r[0] = t0, r[1] = t1, r[2] = t2, r[3] = t3, r[4] = t4, r[5] = t5, r[6] = t6, r[7] = t7;
    return c;
}

/* r = a - b; the borrow, 0 or 1. */
DEVICE u32 sub8(u32 *r, const u32 *a, const u32 *b)
{
    u32 c, t0, t1, t2, t3, t4, t5, t6, t7;
    asm("sub.cc.u32 %0, %9, %17;\n\t"
        "subc.cc.u32 %1, %10, %18;\n\t"
        "subc.cc.u32 %2, %11, %19;\n\t"
        "subc.cc.u32 %3, %12, %20;\n\t"
        "subc.cc.u32 %4, %13, %21;\n\t"
        "subc.cc.u32 %5, %14, %22;\n\t"
        "subc.cc.u32 %6, %15, %23;\n\t"
        "subc.cc.u32 %7, %16, %24;\n\t"
        "subc.u32 %8, 0, 0;"
        : "=&r"(t0), "=&r"(t1), "=&r"(t2), "=&r"(t3), "=&r"(t4), "=&r"(t5), "=&r"(t6), "=&r"(t7), "=&r"(c)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]), "r"(b[0]),
          "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(b[4]), "r"(b[5]), "r"(b[6]), "r"(b[7]));
    r[0] = t0, r[1] = t1, r[2] = t2, r[3] = t3, r[4] = t4, r[5] = t5, r[6] = t6, r[7] = t7;
    return c & 1u;
}

/* r += lo + mid 2^32 + hi 2^64; the carry, 0 or 1. */
DEVICE u32 add3_into8(u32 *r, u32 lo, u32 mid, u32 hi)
{
    u32 c;
    asm("add.cc.u32 %0, %0, %9;\n\t"
        "addc.cc.u32 %1, %1, %10;\n\t"
        "addc.cc.u32 %2, %2, %11;\n\t"
        "addc.cc.u32 %3, %3, 0;\n\t"
        "addc.cc.u32 %4, %4, 0;\n\t"
        "addc.cc.u32 %5, %5, 0;\n\t"
        "addc.cc.u32 %6, %6, 0;\n\t"
        "addc.cc.u32 %7, %7, 0;\n\t"
        "addc.u32 %8, 0, 0;"
        : "+&r"(r[0]), "+&r"(r[1]), "+&r"(r[2]), "+&r"(r[3]), "+&r"(r[4]), "+&r"(r[5]), "+&r"(r[6]), "+&r"(r[7]),
          "=&r"(c)
        : "r"(lo), "r"(mid), "r"(hi));
    return c;
}

/* r -= lo + mid 2^32; the borrow, 0 or 1. */
DEVICE u32 sub2_from8(u32 *r, u32 lo, u32 mid)
{
    u32 c;
    asm("sub.cc.u32 %0, %0, %9;\n\t"
        "subc.cc.u32 %1, %1, %10;\n\t"
        "subc.cc.u32 %2, %2, 0;\n\t"
        "subc.cc.u32 %3, %3, 0;\n\t"
        "subc.cc.u32 %4, %4, 0;\n\t"
        "subc.cc.u32 %5, %5, 0;\n\t"
        "subc.cc.u32 %6, %6, 0;\n\t"
        "subc.cc.u32 %7, %7, 0;\n\t"
        "subc.u32 %8, 0, 0;"
        : "+&r"(r[0]), "+&r"(r[1]), "+&r"(r[2]), "+&r"(r[3]), "+&r"(r[4]), "+&r"(r[5]), "+&r"(r[6]), "+&r"(r[7]),
          "=&r"(c)
        : "r"(lo), "r"(mid));
    return c & 1u;
}

/* acc[0..9) += (a[0], a[2], a[4], a[6] at words 0, 2, 4, 6) b. The caller sees to it that acc[8] does not overflow. */
DEVICE void mad4(u32 *acc, u32 a0, u32 a2, u32 a4, u32 a6, u32 b)
{
    asm("mad.lo.cc.u32 %0, %9, %13, %0;\n\t"
        "madc.hi.cc.u32 %1, %9, %13, %1;\n\t"
        "madc.lo.cc.u32 %2, %10, %13, %2;\n\t"
        "madc.hi.cc.u32 %3, %10, %13, %3;\n\t"
        "madc.lo.cc.u32 %4, %11, %13, %4;\n\t"
        "madc.hi.cc.u32 %5, %11, %13, %5;\n\t"
        "madc.lo.cc.u32 %6, %12, %13, %6;\n\t"
        "madc.hi.cc.u32 %7, %12, %13, %7;\n\t"
        "addc.u32 %8, %8, 0;"
        : "+&r"(acc[0]), "+&r"(acc[1]), "+&r"(acc[2]), "+&r"(acc[3]), "+&r"(acc[4]), "+&r"(acc[5]), "+&r"(acc[6]),
          "+&r"(acc[7]), "+&r"(acc[8])
        : "r"(a0), "r"(a2), "r"(a4), "r"(a6), "r"(b));
}

DEVICE void mad3(u32 *acc, u32 a0, u32 a2, u32 a4, u32 b)
{
    asm("mad.lo.cc.u32 %0, %7, %10, %0;\n\t"
        "madc.hi.cc.u32 %1, %7, %10, %1;\n\t"
        "madc.lo.cc.u32 %2, %8, %10, %2;\n\t"
        "madc.hi.cc.u32 %3, %8, %10, %3;\n\t"
        "madc.lo.cc.u32 %4, %9, %10, %4;\n\t"
        "madc.hi.cc.u32 %5, %9, %10, %5;\n\t"
        "addc.u32 %6, %6, 0;"
        : "+&r"(acc[0]), "+&r"(acc[1]), "+&r"(acc[2]), "+&r"(acc[3]), "+&r"(acc[4]), "+&r"(acc[5]), "+&r"(acc[6])
        : "r"(a0), "r"(a2), "r"(a4), "r"(b));
}

DEVICE void mad2(u32 *acc, u32 a0, u32 a2, u32 b)
{
    asm("mad.lo.cc.u32 %0, %5, %7, %0;\n\t"
        "madc.hi.cc.u32 %1, %5, %7, %1;\n\t"
        "madc.lo.cc.u32 %2, %6, %7, %2;\n\t"
        "madc.hi.cc.u32 %3, %6, %7, %3;\n\t"
        "addc.u32 %4, %4, 0;"
        : "+&r"(acc[0]), "+&r"(acc[1]), "+&r"(acc[2]), "+&r"(acc[3]), "+&r"(acc[4])
        : "r"(a0), "r"(a2), "r"(b));
}

DEVICE void mad1(u32 *acc, u32 a0, u32 b)
{
    asm("mad.lo.cc.u32 %0, %3, %4, %0;\n\t"
        "madc.hi.cc.u32 %1, %3, %4, %1;\n\t"
        "addc.u32 %2, %2, 0;"
        : "+&r"(acc[0]), "+&r"(acc[1]), "+&r"(acc[2])
        : "r"(a0), "r"(b));
}

/* r[0..16) = x + y; the sum is below 2^512. */
DEVICE void add16(u32 *r, const u32 *x, const u32 *y)
{
    u32 c = add8(r, x, y);
    add8(r + 8, x + 8, y + 8);
    u32 zero = 0;
    asm("add.cc.u32 %0, %0, %8;\n\t"
        "addc.cc.u32 %1, %1, %9;\n\t"
        "addc.cc.u32 %2, %2, %9;\n\t"
        "addc.cc.u32 %3, %3, %9;\n\t"
        "addc.cc.u32 %4, %4, %9;\n\t"
        "addc.cc.u32 %5, %5, %9;\n\t"
        "addc.cc.u32 %6, %6, %9;\n\t"
        "addc.u32 %7, %7, %9;"
        : "+&r"(r[8]), "+&r"(r[9]), "+&r"(r[10]), "+&r"(r[11]), "+&r"(r[12]), "+&r"(r[13]), "+&r"(r[14]),
          "+&r"(r[15])
        : "r"(c), "r"(zero));
}

/* t[0..16) = a b. Products at even words gather in `even`, those at odd words in `odd`, so that each chain runs over
 * disjoint pairs of words. */
DEVICE void mul_wide(u32 *t, const u32 *a, const u32 *b)
{
    u32 even[17], odd[17];
    UNROLL
    for (int i = 0; i < 17; i++)
        even[i] = odd[i] = 0;
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        mad4(even + i, a[0], a[2], a[4], a[6], b[i]);
        mad4(odd + i + 1, a[1], a[3], a[5], a[7], b[i]);
        mad4(odd + i + 1, a[0], a[2], a[4], a[6], b[i + 1]);
        mad4(even + i + 2, a[1], a[3], a[5], a[7], b[i + 1]);
    }
    add16(t, even, odd);
}

/* t[0..16) = a a: the products of unlike words once, doubled, and the squares of the words. */
DEVICE void sqr_wide(u32 *t, const u32 *a)
{
    u32 even[17], odd[17];
    UNROLL
    for (int i = 0; i < 17; i++)
        even[i] = odd[i] = 0;
    mad4(odd + 1, a[1], a[3], a[5], a[7], a[0]);
    mad3(even + 2, a[2], a[4], a[6], a[0]);
    mad3(odd + 3, a[2], a[4], a[6], a[1]);
    mad3(even + 4, a[3], a[5], a[7], a[1]);
    mad3(odd + 5, a[3], a[5], a[7], a[2]);
    mad2(even + 6, a[4], a[6], a[2]);
    mad2(odd + 7, a[4], a[6], a[3]);
    mad2(even + 8, a[5], a[7], a[3]);
    mad2(odd + 9, a[5], a[7], a[4]);
    mad1(even + 10, a[6], a[4]);
    mad1(odd + 11, a[6], a[5]);
    mad1(even + 12, a[7], a[5]);
    mad1(odd + 13, a[7], a[6]);
    add16(t, even, odd);
    UNROLL
    for (int i = 15; i > 0; i--)
        t[i] = __funnelshift_l(t[i - 1], t[i], 1);
    t[0] = 0;
    asm("mad.lo.cc.u32 %0, %16, %16, %0;\n\t"
        "madc.hi.cc.u32 %1, %16, %16, %1;\n\t"
        "madc.lo.cc.u32 %2, %17, %17, %2;\n\t"
        "madc.hi.cc.u32 %3, %17, %17, %3;\n\t"
        "madc.lo.cc.u32 %4, %18, %18, %4;\n\t"
        "madc.hi.cc.u32 %5, %18, %18, %5;\n\t"
        "madc.lo.cc.u32 %6, %19, %19, %6;\n\t"
        "madc.hi.cc.u32 %7, %19, %19, %7;\n\t"
        "madc.lo.cc.u32 %8, %20, %20, %8;\n\t"
        "madc.hi.cc.u32 %9, %20, %20, %9;\n\t"
        "madc.lo.cc.u32 %10, %21, %21, %10;\n\t"
        "madc.hi.cc.u32 %11, %21, %21, %11;\n\t"
        "madc.lo.cc.u32 %12, %22, %22, %12;\n\t"
        "madc.hi.cc.u32 %13, %22, %22, %13;\n\t"
        "madc.lo.cc.u32 %14, %23, %23, %14;\n\t"
        "madc.hi.u32 %15, %23, %23, %15;"
        : "+&r"(t[0]), "+&r"(t[1]), "+&r"(t[2]), "+&r"(t[3]), "+&r"(t[4]), "+&r"(t[5]), "+&r"(t[6]), "+&r"(t[7]),
          "+&r"(t[8]), "+&r"(t[9]), "+&r"(t[10]), "+&r"(t[11]), "+&r"(t[12]), "+&r"(t[13]), "+&r"(t[14]),
          "+&r"(t[15])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]));
}

/* r[0..8) and `top` = t[0..8) + t[8..16) (2^32 + 977). */
DEVICE u64 fold_wide(u32 *r, const u32 *t)
{
    u32 e[9], o[9];
    UNROLL
    for (int i = 0; i < 8; i++)
        e[i] = t[i], o[i] = 0;
    e[8] = o[8] = 0;
    mad4(e, t[8], t[10], t[12], t[14], 977u);
    mad4(o, t[9], t[11], t[13], t[15], 977u); /* one word up */
    u32 c = add8(e + 1, e + 1, o);
    c += add8(e + 1, e + 1, t + 8);
    UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = e[i];
    return ((u64)c << 32) | e[8];
}

#else

DEVICE u32 add8(u32 *r, const u32 *a, const u32 *b)
{
    u64 c = 0;
    UNROLL
    for (int i = 0; i < 8; i++) {
        c += (u64)a[i] + b[i];
        r[i] = (u32)c;
        c >>= 32;
    }
    return (u32)c;
}

DEVICE u32 sub8(u32 *r, const u32 *a, const u32 *b)
{
    u64 borrow = 0;
    UNROLL
    for (int i = 0; i < 8; i++) {
        u64 d = (u64)a[i] - b[i] - borrow;
        r[i] = (u32)d;
        borrow = d >> 63;
    }
    return (u32)borrow;
}

DEVICE u32 add3_into8(u32 *r, u32 lo, u32 mid, u32 hi)
{
    u64 c = 0;
    UNROLL
    for (int i = 0; i < 8; i++) {
        c += (u64)r[i] + (i == 0 ? lo : i == 1 ? mid : i == 2 ? hi : 0u);
        r[i] = (u32)c;
        c >>= 32;
    }
    return (u32)c;
}

DEVICE u32 sub2_from8(u32 *r, u32 lo, u32 mid)
{
    u64 borrow = 0;
    UNROLL
    for (int i = 0; i < 8; i++) {
        u64 d = (u64)r[i] - (i == 0 ? lo : i == 1 ? mid : 0u) - borrow;
        r[i] = (u32)d;
        borrow = d >> 63;
    }
    return (u32)borrow;
}

DEVICE void mul_wide(u32 *t, const u32 *a, const u32 *b)
{
    UNROLL
    for (int i = 0; i < 8; i++)
        t[i] = 0;
    UNROLL
    for (int i = 0; i < 8; i++) {
        u64 c = 0;
        UNROLL
        for (int j = 0; j < 8; j++) {
            c += (u64)a[j] * b[i] + t[i + j];
            t[i + j] = (u32)c;
            c >>= 32;
        }
        t[i + 8] = (u32)c;
    }
}

DEVICE void sqr_wide(u32 *t, const u32 *a)
{
    mul_wide(t, a, a);
}

DEVICE u64 fold_wide(u32 *r, const u32 *t)
{
    u64 c = 0;
    UNROLL
    for (int i = 0; i < 8; i++) {
        c += (u64)t[8 + i] * 977u + t[i];
        c += i > 0 ? t[7 + i] : 0u;
        r[i] = (u32)c;
        c >>= 32;
    }
    return c + t[15];
}

#endif
