/*
 * Ironlane offload ABI 1.0: how a card (or the driver of one) recovers the signers of ECDSA signatures over secp256k1.
 *
 * The specification is docs/offload-abi.md; this header is its C form. Two ways in:
 *   L0       a shared library exports ironlane_offload_v1() and answers synchronous batches;
 *   L1, L2   rings of the same entries in shared memory (L1) or in a mapped device (L2).
 *
 * All integers are little-endian; 256-bit numbers are 32 bytes big-endian, as Ethereum writes them. Licence: MIT or
 * Apache-2.0, at your choice; a vendor's driver may include this file under either.
 */
#ifndef IRONLANE_OFFLOAD_H
#define IRONLANE_OFFLOAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define IRONLANE_STATIC_ASSERT(condition, text) static_assert(condition, text)
extern "C" {
#else
#define IRONLANE_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* Version: major in the upper half, minor in the lower. A different major is refused; a minor only adds. */
#define IRONLANE_OFFLOAD_VERSION 0x00010000u
/* "IRONLNC1", little-endian: first word of the card page. */
#define IRONLANE_OFFLOAD_MAGIC 0x31434e4c4e4f5249ull

/* ---- Operations (submission.op; capability bit 1 << op) ---- */
#define IRONLANE_OP_NOP 0u     /* completes with OK and nothing else; mandatory */
#define IRONLANE_OP_RECOVER 1u /* public key and address of the signer; mandatory */
#define IRONLANE_OP_KECCAK 2u  /* Keccak-256 of the first v bytes (v <= 96) at offset 16; digest in public_key[0..32) */

/* ---- Flags of a submission ---- */
#define IRONLANE_FLAG_ANY_S 0x0001u /* RECOVER: take s up to n-1 (ecRecover) instead of n/2 (EIP-2); needs FEATURE_ANY_S */

/* ---- Features ---- */
#define IRONLANE_FEATURE_ANY_S 0x1ull

/* ---- Completion statuses ---- */
#define IRONLANE_OK 0u
/* 1..15: a statement about the signature. Checked in this order; the first that holds is reported. */
#define IRONLANE_BAD_PARITY 1u /* v is neither 0 nor 1 */
#define IRONLANE_BAD_R 2u      /* r = 0 or r >= n */
#define IRONLANE_BAD_S 3u      /* s = 0 or s >= n */
#define IRONLANE_HIGH_S 4u     /* s > (n-1)/2 without FLAG_ANY_S */
#define IRONLANE_NO_KEY 5u     /* no point with x = r, or the key is the point at infinity */
/* 16..31: the entry was wrong; nothing is said about a signature. Checked before the above, in this order. */
#define IRONLANE_MALFORMED 16u   /* reserved bytes or seal bits are set, or the phase is wrong */
#define IRONLANE_STALE_EPOCH 17u /* entry of another epoch */
#define IRONLANE_BAD_OP 18u      /* operation unknown */
#define IRONLANE_BAD_FLAGS 19u   /* a flag unknown, or of a feature or an operation that does not have it */
#define IRONLANE_BAD_LENGTH 20u  /* KECCAK: v > 96 */
/* 32..47: the card could not; the host does the work itself. */
#define IRONLANE_INTERNAL 32u  /* hardware error */
#define IRONLANE_CANCELLED 33u /* given up while the driver shuts down */

/* ---- Entries ---- */

/* 128 bytes. `seal` is the last word: bit 0 is the phase, bits 1..31 are zero. Ignored by L0. */
struct ironlane_submission {
    uint64_t tag;   /* the host's; comes back unchanged */
    uint16_t op;
    uint16_t flags;
    uint32_t epoch; /* of the last reset; 0 in L0 */
    uint8_t hash[32];
    uint8_t r[32];
    uint8_t s[32];
    uint8_t v;      /* parity of R.y: 0 or 1. KECCAK: length */
    uint8_t reserved[11];
    uint32_t seal;
};

/* 128 bytes. */
struct ironlane_completion {
    uint64_t tag;
    uint16_t status;
    uint16_t op;    /* of the submission */
    uint32_t epoch; /* of the submission */
    uint8_t public_key[64]; /* x, y, big-endian; zero unless status is OK */
    uint8_t address[20];    /* last 20 bytes of Keccak-256(x || y); zero unless status is OK and op is RECOVER */
    uint32_t nanoseconds;   /* spent in the card; 0: not measured */
    uint8_t reserved[20];   /* zero */
    uint32_t seal;
};

#define IRONLANE_KECCAK_MAX 96u

/* ---- Capabilities: the first 256 bytes of the card page ---- */
struct ironlane_capabilities {
    uint64_t magic;
    uint32_t version;
    uint32_t reserved0;
    uint32_t entries_max; /* largest ring, a power of two from 2 to 65536. L0: largest batch */
    uint32_t batch_min;   /* requests at hand from which on the card works at full rate; at least 1 */
    uint32_t parallelism; /* signatures worked on at the same time; at least 1 */
    uint32_t latency_us;  /* of one request on an idle card; 0: not stated */
    uint64_t ops;         /* bit (1 << op); NOP and RECOVER are mandatory */
    uint64_t features;
    uint8_t reserved1[16];
    char vendor[64]; /* UTF-8, zero-padded, at least one zero at the end; not empty */
    char model[64];
    char build[32];  /* of the driver and the bitstream */
    uint8_t reserved2[32];
};

/* ---- Region of L1 and L2: card page, host page, submission ring, completion ring ---- */
#define IRONLANE_CARD_PAGE 0x0000u
#define IRONLANE_HOST_PAGE 0x1000u
#define IRONLANE_RINGS 0x2000u /* submission ring; the completion ring follows it at once */
#define IRONLANE_ENTRY_BYTES 128u
#define IRONLANE_ENTRIES_MIN 2u
#define IRONLANE_ENTRIES_MAX 65536u
#define IRONLANE_REGION_BYTES(entries) ((uint64_t)IRONLANE_RINGS + 2ull * IRONLANE_ENTRY_BYTES * (entries))

/* Offsets in the card page; the card alone writes here. */
#define IRONLANE_CARD_HEARTBEAT 0x100u   /* u64: changes at least every 100 ms while the card lives */
#define IRONLANE_CARD_COMPLETED 0x108u   /* u64: completions since power-on; statistics */
#define IRONLANE_CARD_TEMPERATURE 0x110u /* i32: millidegrees Celsius; 0: not measured */
#define IRONLANE_CARD_POWER 0x114u       /* u32: milliwatts; 0: not measured */
#define IRONLANE_CARD_STATE 0x800u       /* u32: IRONLANE_STATE_* */
#define IRONLANE_CARD_EPOCH 0x804u       /* u32: epoch of the reset that was done last */
#define IRONLANE_CARD_FAULT 0x808u       /* u32: the vendor's own code when FAILED */
#define IRONLANE_CARD_SQ_HEAD 0x840u     /* u32: submissions taken since the reset */
#define IRONLANE_CARD_WAITS 0x880u       /* u32: 1 while the card sleeps and wants the eventfd */

/* Offsets in the host page; the host alone writes here. */
#define IRONLANE_HOST_COMMAND 0x000u      /* u32: IRONLANE_COMMAND_* */
#define IRONLANE_HOST_EPOCH 0x004u        /* u32 */
#define IRONLANE_HOST_ENTRIES_LOG2 0x008u /* u32: size of either ring */
#define IRONLANE_HOST_SQ_TAIL 0x040u      /* u32: submissions written since the reset (the doorbell) */
#define IRONLANE_HOST_CQ_HEAD 0x080u      /* u32: completions consumed since the reset */
#define IRONLANE_HOST_WAITS 0x0c0u        /* u32: 1 while the host sleeps and wants the eventfd */

#define IRONLANE_STATE_STARTING 0u
#define IRONLANE_STATE_IDLE 1u /* capabilities are valid; a reset was done or none was asked for yet */
#define IRONLANE_STATE_RUNNING 2u
#define IRONLANE_STATE_FAILED 3u

#define IRONLANE_COMMAND_NONE 0u
#define IRONLANE_COMMAND_RESET 1u
#define IRONLANE_COMMAND_RUN 2u
#define IRONLANE_COMMAND_STOP 3u /* the driver finishes or cancels what it has, then leaves */

/* Phase of the entry with free-running index i in a ring of 1 << log2 entries: 1 in the first lap, then 0, and so on. */
#define IRONLANE_PHASE(i, log2) ((((uint32_t)(i) >> (log2)) & 1u) ^ 1u)

/* ---- L1: greeting on the Unix socket ---- */
/* The host sends this with three descriptors (SCM_RIGHTS): region, eventfd host-to-card, eventfd card-to-host. */
struct ironlane_hello {
    uint64_t magic;
    uint32_t version;
    uint32_t reserved;
    uint64_t region_bytes;
};
/* The driver answers; status 0 means that it has mapped the region. The socket stays open: its end is the card's end. */
struct ironlane_welcome {
    uint64_t magic;
    uint32_t version;
    uint32_t status;
};
/* A driver that the host starts finds the socket's descriptor number in this environment variable. */
#define IRONLANE_OFFLOAD_FD "IRONLANE_OFFLOAD_FD"

/* ---- L0: the exported table ---- */
struct ironlane_offload_table {
    uint32_t version; /* IRONLANE_OFFLOAD_VERSION */
    uint32_t bytes;   /* sizeof(struct ironlane_offload_table) */
    /* Opens the card. `options` is what the operator wrote after the library's name, never NULL. 0 on success. */
    int32_t (*open)(const char *options, void **card);
    /* Fills in the capabilities. 0 on success. */
    int32_t (*capabilities)(void *card, struct ironlane_capabilities *out);
    /* Answers `count` submissions with `count` completions, in any order, matched by tag. Called from one thread at a
     * time. 0 on success; any other value: the completions mean nothing. */
    int32_t (*recover_batch)(void *card, const struct ironlane_submission *submissions,
                             struct ironlane_completion *completions, uint32_t count);
    /* Forgets whatever state an error left. 0 on success. */
    int32_t (*reset)(void *card);
    void (*close)(void *card);
};

/* The one exported symbol. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct ironlane_offload_table *ironlane_offload_v1(void);

/* ---- What no compiler may change ---- */
IRONLANE_STATIC_ASSERT(sizeof(struct ironlane_submission) == 128, "a submission has 128 bytes");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, op) == 8, "op");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, flags) == 10, "flags");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, epoch) == 12, "epoch");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, hash) == 16, "hash");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, r) == 48, "r");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, s) == 80, "s");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, v) == 112, "v");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, reserved) == 113, "reserved");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_submission, seal) == 124, "seal");
IRONLANE_STATIC_ASSERT(sizeof(struct ironlane_completion) == 128, "a completion has 128 bytes");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, status) == 8, "status");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, op) == 10, "op");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, epoch) == 12, "epoch");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, public_key) == 16, "public_key");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, address) == 80, "address");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, nanoseconds) == 100, "nanoseconds");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, reserved) == 104, "reserved");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_completion, seal) == 124, "seal");
IRONLANE_STATIC_ASSERT(sizeof(struct ironlane_capabilities) == 256, "the capability block has 256 bytes");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_capabilities, entries_max) == 16, "entries_max");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_capabilities, ops) == 32, "ops");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_capabilities, vendor) == 64, "vendor");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_capabilities, model) == 128, "model");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_capabilities, build) == 192, "build");
IRONLANE_STATIC_ASSERT(sizeof(struct ironlane_hello) == 24, "hello");
IRONLANE_STATIC_ASSERT(sizeof(struct ironlane_welcome) == 16, "welcome");
IRONLANE_STATIC_ASSERT(offsetof(struct ironlane_offload_table, open) == 8, "the table's functions begin at byte 8");
IRONLANE_STATIC_ASSERT(sizeof(struct ironlane_offload_table) == 8 + 5 * sizeof(void (*)(void)), "table");

#ifdef __cplusplus
}
#endif
#endif
