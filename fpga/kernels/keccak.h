/* Keccak-256, the hash of Ethereum: Keccak-f[1600], rate 136 bytes, padding 0x01 ... 0x80 (The Keccak reference 3.0). */

CONSTANT u64 KECCAK_ROUND[24] = {
    0x0000000000000001UL, 0x0000000000008082UL, 0x800000000000808aUL, 0x8000000080008000UL, 0x000000000000808bUL,
    0x0000000080000001UL, 0x8000000080008081UL, 0x8000000000008009UL, 0x000000000000008aUL, 0x0000000000000088UL,
    0x0000000080008009UL, 0x000000008000000aUL, 0x000000008000808bUL, 0x800000000000008bUL, 0x8000000000008089UL,
    0x8000000000008003UL, 0x8000000000008002UL, 0x8000000000000080UL, 0x000000000000800aUL, 0x800000008000000aUL,
    0x8000000080008081UL, 0x8000000000008080UL, 0x0000000080000001UL, 0x8000000080008008UL};

#define KECCAK_LANES 17

DEVICE u64 rotate64(u64 x, int n)
{
    return (x << n) | (x >> (64 - n));
}

/* The permutation. Lane (x, y) of the reference is a[5 y + x]. */
HOT void keccak_permute(u64 *a)
{
    NO_UNROLL
    for (int round = 0; round < 24; round++) {
        u64 c[5], d, first, next;
        UNROLL
        for (int x = 0; x < 5; x++)
            c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        UNROLL
        for (int x = 0; x < 5; x++) {
            d = c[(x + 4) % 5] ^ rotate64(c[(x + 1) % 5], 1);
            UNROLL
            for (int y = 0; y < 25; y += 5)
                a[y + x] ^= d;
        }
        /* rho and pi along the one cycle of pi that moves all lanes but the first */
        next = a[1];
#define STEP(TO, BY)                                                                                                       \
    first = a[TO];                                                                                                         \
    a[TO] = rotate64(next, BY);                                                                                            \
    next = first;
        STEP(10, 1) STEP(7, 3) STEP(11, 6) STEP(17, 10) STEP(18, 15) STEP(3, 21) STEP(5, 28) STEP(16, 36)
        STEP(8, 45) STEP(21, 55) STEP(24, 2) STEP(4, 14) STEP(15, 27) STEP(23, 41) STEP(19, 56) STEP(13, 8)
        STEP(12, 25) STEP(2, 43) STEP(20, 62) STEP(14, 18) STEP(22, 39) STEP(9, 61) STEP(6, 20) STEP(1, 44)
#undef STEP
        UNROLL
        for (int y = 0; y < 25; y += 5) {
            UNROLL
            for (int x = 0; x < 5; x++)
                c[x] = a[y + x];
            UNROLL
            for (int x = 0; x < 5; x++)
                a[y + x] = c[x] ^ (~c[(x + 1) % 5] & c[(x + 2) % 5]);
        }
        a[0] ^= KECCAK_ROUND[round];
    }
}

/* Bytes 8 lane to 8 lane + 8 of a message that begins at words[0], padded: `length` is the message's, in bytes. */
DEVICE u64 keccak_padded_lane(GLOBAL const u32 *words, u32 length, u32 lane)
{
    u64 value = 0;
    UNROLL
    for (u32 part = 0; part < 2; part++) {
        const u32 at = 8 * lane + 4 * part;
        u32 word = 0;
        if (at < length) {
            word = words[at / 4];
            if (length - at < 4)
                word &= (1u << (8 * (length - at))) - 1u;
        }
        if (length / 4 == at / 4)
            word |= 1u << (8 * (length % 4));
        value |= (u64)word << (32 * part);
    }
    return value;
}

/* Keccak-256 of many messages. Message i begins at words[table[2 i]] and has table[2 i + 1] bytes; where `stride` is not
 * zero there is no table, message i begins at words[stride i] and each has `length` bytes. Its last word is filled up with
 * anything. hashes[8 i ..] receives the 32 bytes. */
KERNEL GROUPED void keccak256_many(GLOBAL const u32 *words, GLOBAL const u32 *table, u32 stride, u32 length,
                                   GLOBAL u32 *hashes, u32 count)
{
    const u32 id = ITEM;
    if (id >= count)
        return;
    const u32 start = stride ? stride * id : table[2 * id];
    const u32 bytes = stride ? length : table[2 * id + 1];
    GLOBAL const u32 *message = words + start;
    u64 a[25];
    UNROLL
    for (int i = 0; i < 25; i++)
        a[i] = 0;
    const u32 blocks = bytes / (8 * KECCAK_LANES) + 1;
    NO_UNROLL
    for (u32 block = 0; block < blocks; block++) {
        UNROLL
        for (u32 lane = 0; lane < KECCAK_LANES; lane++)
            a[lane] ^= keccak_padded_lane(message, bytes, block * KECCAK_LANES + lane);
        if (block + 1 == blocks)
            a[KECCAK_LANES - 1] ^= 0x8000000000000000UL;
        keccak_permute(a);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        hashes[8 * id + 2 * i] = (u32)a[i];
        hashes[8 * id + 2 * i + 1] = (u32)(a[i] >> 32);
    }
}
