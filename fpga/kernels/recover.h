/* Recovery of signers (SEC 1, section 4.1.6): Q = (s R - z G) / r, and the address: the last 20 bytes of Keccak-256 of Q.
 *
 * Three kernels run one after the other over a batch, because they want different numbers of registers and because the two
 * inversions are shared by a whole work-group:
 *   recover_prepare   ranges, R from its x, 1 / r, the scalars -z/r and s/r split and recoded
 *   recover_multiply  the double multiplication
 *   recover_finish    1 / Z, the affine Q, its hash
 *
 * A request is 25 words: the hash as its 32 bytes, r and s as little-endian words, the parity. An answer is 22 words: a
 * status, the 20 bytes of the address, x and y of Q as little-endian words. Between kernels a request has WORK_WORDS words, word j of request i at work[j stride + i]. */

#define REQUEST_WORDS 25
#define ANSWER_WORDS 22

#define STATUS_FOUND 0
#define STATUS_NO_KEY 1
#define STATUS_PARITY 2
#define STATUS_R 3
#define STATUS_S 4
#define STATUS_HIGH_S 5

#define WORK_X 0
#define WORK_Y 8
#define WORK_Z 16
#define WORK_SCALARS 24
#define SCALAR_WORDS 5
#define WORK_FLAGS 44
#define WORK_WORDS 45

/* Signed windows. A half scalar has 128 bits and is stored with half a window's range added to every window, so that a
 * window's bits, less that half, are its signed digit: no carries. */
#define R_WINDOW 4
#define R_TABLE 8
#define R_WINDOWS 33
#define G_WINDOWS (128 / G_WINDOW + 1)
#define G_TABLE (1 << (G_WINDOW - 1))

DEVICE void work_load(u32 *value, GLOBAL const u32 *work, u32 word, u32 stride, u32 id)
{
    UNROLL
    for (u32 i = 0; i < 8; i++)
        value[i] = work[(word + i) * stride + id];
}

DEVICE void work_store(GLOBAL u32 *work, u32 word, u32 stride, u32 id, const u32 *value)
{
    UNROLL
    for (u32 i = 0; i < 8; i++)
        work[(word + i) * stride + id] = value[i];
}

/* k plus half a window's range at each window. */
DEVICE void store_recoded(GLOBAL u32 *work, u32 word, u32 stride, u32 id, const u32 *k, u32 window, u32 windows)
{
    u32 offset[SCALAR_WORDS];
    UNROLL
    for (u32 i = 0; i < SCALAR_WORDS; i++)
        offset[i] = 0;
    UNROLL
    for (u32 i = 0; i < windows; i++)
        offset[(i * window + window - 1) / 32] |= 1u << ((i * window + window - 1) % 32);
    u64 carry = 0;
    UNROLL
    for (u32 i = 0; i < SCALAR_WORDS; i++) {
        carry += (u64)offset[i] + (i < 4 ? k[i] : 0u);
        work[(word + i) * stride + id] = (u32)carry;
        carry >>= 32;
    }
}

KERNEL GROUPED void recover_prepare(GLOBAL const u32 *requests, GLOBAL u32 *work, u32 count, u32 stride)
{
#ifdef __OPENCL_VERSION__
    __local u32 tree[TREE_WORDS];
#else
    __shared__ u32 tree[TREE_WORDS];
#endif
    const u32 id = ITEM;
    const u32 item = id < count ? id : 0;
    GLOBAL const u32 *request = requests + (u64)item * REQUEST_WORDS;
    u32 z[8], r[8], s[8], limit[8], t[8];
    UNROLL
    for (int i = 0; i < 8; i++) {
        z[i] = byte_swap(request[7 - i]);
        r[i] = request[8 + i];
        s[i] = request[16 + i];
    }
    const u32 parity = request[24];
    load_constant(limit, HALF_ORDER);
    u32 status = STATUS_FOUND;
    if (parity > 1)
        status = STATUS_PARITY;
    else if (is_zero8(r) || at_least(r, ORDER))
        status = STATUS_R;
    else if (is_zero8(s) || at_least(s, ORDER))
        status = STATUS_S;
    else if (sub8(t, limit, s))
        status = STATUS_HIGH_S;

    u32 inverse[8];
    UNROLL
    for (int i = 0; i < 8; i++)
        inverse[i] = status == STATUS_FOUND ? r[i] : (i == 0);
    group_invert_sc(inverse, tree);
    if (id >= count)
        return;

    /* R has x = r, never r + n: Ethereum's parity has no way to say so. */
    if (status == STATUS_FOUND) {
        fe x, y, square, check;
        UNROLL
        for (int i = 0; i < 8; i++)
            x.w[i] = r[i];
        fe_sqr(&square, &x);
        fe_mul(&square, &square, &x);
        fe_small(&check, 7);
        fe_add(&square, &square, &check);
        fe_sqrt(&y, &square);
        fe_sqr(&check, &y);
        fe_sub(&check, &check, &square);
        if (!fe_is_zero(&check))
            status = STATUS_NO_KEY;
        fe_normalize(&y);
        if ((y.w[0] & 1u) != parity)
            fe_neg(&y, &y);
        work_store(work, WORK_X, stride, id, x.w);
        work_store(work, WORK_Y, stride, id, y.w);
    }
    if (status == STATUS_FOUND) {
        u32 u1[8], u2[8], k1[8], k2[8], signs;
        sc_reduce_once(z, 0);
        sc_mul(u1, z, inverse);
        sc_neg(u1, u1);
        sc_mul(u2, s, inverse);
        signs = sc_split(k1, k2, u2);
        store_recoded(work, WORK_SCALARS, stride, id, k1, R_WINDOW, R_WINDOWS);
        store_recoded(work, WORK_SCALARS + SCALAR_WORDS, stride, id, k2, R_WINDOW, R_WINDOWS);
        signs |= sc_split(k1, k2, u1) << 2;
        store_recoded(work, WORK_SCALARS + 2 * SCALAR_WORDS, stride, id, k1, G_WINDOW, G_WINDOWS);
        store_recoded(work, WORK_SCALARS + 3 * SCALAR_WORDS, stride, id, k2, G_WINDOW, G_WINDOWS);
        work[WORK_FLAGS * stride + id] = signs;
    } else {
        work[WORK_FLAGS * stride + id] = status << 8;
    }
}

/* Window w, counted from the low end, of the recoded scalar `which`. */
DEVICE u32 recoded_window(GLOBAL const u32 *work, u32 which, u32 bit, u32 width, u32 stride, u32 id)
{
    const u32 word = WORK_SCALARS + which * SCALAR_WORDS + bit / 32, shift = bit % 32;
    u32 value = work[word * stride + id] >> shift;
    if (shift + width > 32)
        value |= work[(word + 1) * stride + id] << (32 - shift);
    return value & ((1u << width) - 1u);
}

/* The table of R's multiples is brought to one common Z, without an inversion, by passing to the isomorphic curve on which
 * that Z is 1; multiples of G are mapped there as they are added. */
KERNEL GROUPED void recover_multiply(GLOBAL u32 *work, GLOBAL const u32 *table, u32 count, u32 stride)
{
    const u32 id = ITEM;
    if (id >= count)
        return;
    const u32 flags = work[WORK_FLAGS * stride + id];
    if (flags >> 8)
        return;
    fe tx[R_TABLE], ty[R_TABLE], ratios[R_TABLE], common_z, beta, t;
    point p;
    work_load(tx[0].w, work, WORK_X, stride, id);
    work_load(ty[0].w, work, WORK_Y, stride, id);
    p.x = tx[0];
    p.y = ty[0];
    p.infinite = 0;
    fe_small(&p.z, 1);
    ratios[1] = p.y;
    /* 2R, then R at a time: 2R to 7R are neither R nor -R. */
    point_double(&p);
    NO_UNROLL
    for (int i = 1;; i++) {
        tx[i] = p.x;
        ty[i] = p.y;
        if (i == R_TABLE - 1)
            break;
        fe z = p.z, x2 = tx[0], y2 = ty[0];
        point_add_affine(&p, &x2, &y2, &z, &t);
        ratios[i + 1] = t;
    }
    common_z = p.z;
    {
        fe q = ratios[R_TABLE - 1], q2, x, y;
        NO_UNROLL
        for (int i = R_TABLE - 2; i >= 0; i--) {
            x = tx[i];
            y = ty[i];
            fe_sqr(&q2, &q);
            fe_mul(&x, &x, &q2);
            fe_mul(&q2, &q2, &q);
            fe_mul(&y, &y, &q2);
            tx[i] = x;
            ty[i] = y;
            if (i > 0) {
                x = ratios[i];
                fe_mul(&q, &q, &x);
            }
        }
    }

    load_constant(beta.w, BETA);
    fe_small(&p.z, 1);
    p.infinite = 1;
    NO_UNROLL
    for (int w = R_WINDOWS - 1; w >= 0; w--) {
        if (!p.infinite) {
            NO_UNROLL
            for (int i = 0; i < R_WINDOW; i++)
                point_double(&p);
        }
        const int last = (w * R_WINDOW) % G_WINDOW == 0 ? 4 : 2;
        /* k1 and k2 of R, then of G: the second of each is lambda times the point, (beta x, y). */
        NO_UNROLL
        for (int which = 0; which < last; which++) {
            const u32 width = which < 2 ? R_WINDOW : G_WINDOW;
            const int digit = (int)recoded_window(work, which, w * R_WINDOW, width, stride, id) - (1 << (width - 1));
            if (digit == 0)
                continue;
            const u32 index = (u32)(digit < 0 ? -digit : digit) - 1;
            fe x2, y2, zs = p.z;
            if (which < 2) {
                x2 = tx[index];
                y2 = ty[index];
            } else {
                UNROLL
                for (int i = 0; i < 8; i++) {
                    x2.w[i] = table[16 * index + i];
                    y2.w[i] = table[16 * index + 8 + i];
                }
                fe_mul(&zs, &zs, &common_z);
            }
            if (which & 1)
                fe_mul(&x2, &x2, &beta);
            if ((digit < 0) != ((flags >> which) & 1u))
                fe_neg(&y2, &y2);
            point_add_affine(&p, &x2, &y2, &zs, &t);
        }
    }
    if (p.infinite) {
        work[WORK_FLAGS * stride + id] = STATUS_NO_KEY << 8;
        return;
    }
    fe_mul(&p.z, &p.z, &common_z);
    work_store(work, WORK_X, stride, id, p.x.w);
    work_store(work, WORK_Y, stride, id, p.y.w);
    work_store(work, WORK_Z, stride, id, p.z.w);
}

/* Bytes 8 i to 8 i + 8 of the big-endian form of a normal element, as a lane. */
DEVICE u64 big_endian_lane(const fe *a, int i)
{
    return (u64)byte_swap(a->w[7 - 2 * i]) | ((u64)byte_swap(a->w[6 - 2 * i]) << 32);
}

KERNEL GROUPED void recover_finish(GLOBAL const u32 *work, GLOBAL u32 *answers, u32 count, u32 stride)
{
#ifdef __OPENCL_VERSION__
    __local u32 tree[TREE_WORDS];
#else
    __shared__ u32 tree[TREE_WORDS];
#endif
    const u32 id = ITEM;
    const u32 status = id < count ? work[WORK_FLAGS * stride + id] >> 8 : STATUS_NO_KEY;
    fe z, t, x, y;
    fe_small(&z, 1);
    if (status == STATUS_FOUND)
        work_load(z.w, work, WORK_Z, stride, id);
    group_invert_fe(z.w, tree);
    if (id >= count)
        return;
    GLOBAL u32 *answer = answers + (u64)id * ANSWER_WORDS;
    answer[0] = status;
    if (status != STATUS_FOUND) {
        UNROLL
        for (int i = 1; i < ANSWER_WORDS; i++)
            answer[i] = 0;
        return;
    }
    work_load(x.w, work, WORK_X, stride, id);
    work_load(y.w, work, WORK_Y, stride, id);
    fe_sqr(&t, &z);
    fe_mul(&x, &x, &t);
    fe_mul(&t, &t, &z);
    fe_mul(&y, &y, &t);
    fe_normalize(&x);
    fe_normalize(&y);
    u64 a[25];
    UNROLL
    for (int i = 0; i < 25; i++)
        a[i] = i < 4 ? big_endian_lane(&x, i) : i < 8 ? big_endian_lane(&y, i - 4) : 0;
    a[8] = 1;
    a[KECCAK_LANES - 1] = 0x8000000000000000UL;
    keccak_permute(a);
    answer[1] = (u32)(a[1] >> 32);
    answer[2] = (u32)a[2];
    answer[3] = (u32)(a[2] >> 32);
    answer[4] = (u32)a[3];
    answer[5] = (u32)(a[3] >> 32);
    UNROLL
    for (int i = 0; i < 8; i++) {
        answer[6 + i] = x.w[i];
        answer[14 + i] = y.w[i];
    }
}
