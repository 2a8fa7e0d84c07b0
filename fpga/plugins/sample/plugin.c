/*
 * A sample plug-in of level L0: everything that a vendor writes to bring a card up, with a slow C implementation where
 * the card would be. Replace `answer()` by your card and keep the rest.
 *
 * Options (for tests): "slow=MICROSECONDS" sleeps in each call, "hang" never returns from one.
 */
#include "../../include/ironlane_offload.h"
#include "recover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct card {
    long slow_us;
    int hang;
};

static int32_t open_card(const char *options, void **out) {
    struct card *card = calloc(1, sizeof *card);
    if (!card) return 1;
    if (strncmp(options, "slow=", 5) == 0)
        card->slow_us = strtol(options + 5, NULL, 10);
    else if (strcmp(options, "hang") == 0)
        card->hang = 1;
    else if (*options) {
        fprintf(stderr, "sample plug-in: option not understood: %s\n", options);
        free(card);
        return 2;
    }
    *out = card;
    return 0;
}

static int32_t capabilities(void *card, struct ironlane_capabilities *out) {
    (void)card;
    memset(out, 0, sizeof *out);
    out->magic = IRONLANE_OFFLOAD_MAGIC;
    out->version = IRONLANE_OFFLOAD_VERSION;
    out->entries_max = 4096;
    out->batch_min = 1;
    out->parallelism = 1;
    out->ops = 1u << IRONLANE_OP_NOP | 1u << IRONLANE_OP_RECOVER | 1u << IRONLANE_OP_KECCAK;
    out->features = IRONLANE_FEATURE_ANY_S;
    snprintf(out->vendor, sizeof out->vendor, "Sample");
    snprintf(out->model, sizeof out->model, "recovery in C");
    snprintf(out->build, sizeof out->build, "1.0");
    return 0;
}

static uint32_t nanoseconds_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((now.tv_sec - start->tv_sec) * 1000000000ll + (now.tv_nsec - start->tv_nsec));
}

static void answer(const struct ironlane_submission *asked, struct ironlane_completion *out) {
    struct timespec start;
    uint8_t digest[32];
    clock_gettime(CLOCK_MONOTONIC, &start);
    memset(out, 0, sizeof *out);
    out->tag = asked->tag;
    out->op = asked->op;
    out->epoch = asked->epoch;
    switch (asked->op) {
    case IRONLANE_OP_NOP:
        out->status = asked->flags ? IRONLANE_BAD_FLAGS : IRONLANE_OK;
        break;
    case IRONLANE_OP_RECOVER:
        if (asked->flags & ~IRONLANE_FLAG_ANY_S) {
            out->status = IRONLANE_BAD_FLAGS;
            break;
        }
        out->status = sample_recover(asked->hash, asked->r, asked->s, asked->v,
                                     asked->flags & IRONLANE_FLAG_ANY_S, out->public_key);
        if (out->status == IRONLANE_OK) {
            sample_keccak256(out->public_key, 64, digest);
            memcpy(out->address, digest + 12, 20);
        } else {
            memset(out->public_key, 0, sizeof out->public_key);
        }
        break;
    case IRONLANE_OP_KECCAK:
        if (asked->flags)
            out->status = IRONLANE_BAD_FLAGS;
        else if (asked->v > IRONLANE_KECCAK_MAX)
            out->status = IRONLANE_BAD_LENGTH;
        else /* the message lies across hash, r and s */
            sample_keccak256((const uint8_t *)asked + offsetof(struct ironlane_submission, hash), asked->v,
                             out->public_key);
        break;
    default:
        out->status = IRONLANE_BAD_OP;
    }
    out->nanoseconds = nanoseconds_since(&start);
}

static int32_t recover_batch(void *opaque, const struct ironlane_submission *submissions,
                             struct ironlane_completion *completions, uint32_t count) {
    struct card *card = opaque;
    while (card->hang && count > 1) sleep(3600);
    if (card->slow_us) usleep((useconds_t)card->slow_us);
    for (uint32_t i = 0; i < count; i++) answer(&submissions[i], &completions[i]);
    return 0;
}

static int32_t reset(void *card) {
    (void)card;
    return 0;
}

static const struct ironlane_offload_table TABLE = {
    .version = IRONLANE_OFFLOAD_VERSION,
    .bytes = sizeof(struct ironlane_offload_table),
    .open = open_card,
    .capabilities = capabilities,
    .recover_batch = recover_batch,
    .reset = reset,
    .close = free,
};

const struct ironlane_offload_table *ironlane_offload_v1(void) { return &TABLE; }
