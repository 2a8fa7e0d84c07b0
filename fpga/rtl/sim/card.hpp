// The verilated card (ring_top.v) and the bridge between its wires and a region of the offload ABI in memory.
//
// One `step` is one clock. The bridge is as quick as the card can wish: a submission arrives one clock after it was asked for and
// a completion is written in the clock in which it is offered. Words of the host page are read afresh in every clock.
#pragma once
#include "../../include/ironlane_offload.h"
#include "Vring_top.h"
#include "verilated.h"
#include <cstdint>
#include <cstring>

class Card {
public:
    // `region` is mapped memory of `bytes` bytes; it outlives the card.
    Card(unsigned char *region, uint64_t bytes) : region(region), bytes(bytes) {
        top.rst = 1;
        for (int i = 0; i < 4; i++) step();
        top.rst = 0;
    }

    // Writes the capabilities and the state that lets the host begin. `entries_max` as the region's size allows.
    void introduce(const char *build) {
        uint32_t entries = IRONLANE_ENTRIES_MAX;
        while (entries > IRONLANE_ENTRIES_MIN && IRONLANE_REGION_BYTES(entries) > bytes) entries /= 2;
        ironlane_capabilities caps = {};
        caps.magic = IRONLANE_OFFLOAD_MAGIC;
        caps.version = IRONLANE_OFFLOAD_VERSION;
        caps.entries_max = entries;
        caps.batch_min = ENGINES * CONTEXTS < entries ? ENGINES * CONTEXTS : entries;
        caps.parallelism = ENGINES * CONTEXTS;
        // Of the wall's clock, roughly: what a host should be patient for. Completions carry the netlist's time.
        caps.latency_us = 300000;
        caps.ops = 1u << IRONLANE_OP_NOP | 1u << IRONLANE_OP_RECOVER | 1u << IRONLANE_OP_KECCAK;
        caps.features = IRONLANE_FEATURE_ANY_S;
        strcpy(caps.vendor, "Ironlane");
        strcpy(caps.model, "RTL reference, simulated");
        strncpy(caps.build, build, sizeof caps.build - 1);
        // The magic word says that the rest is there.
        memcpy(region + 8, (const char *)&caps + 8, sizeof caps - 8);
        __atomic_store_n((uint64_t *)region, caps.magic, __ATOMIC_RELEASE);
        show();
    }

    // One clock. True when a completion was written.
    bool step() {
        top.clk = 0;
        top.host_command = word(IRONLANE_HOST_PAGE + IRONLANE_HOST_COMMAND);
        top.host_epoch = word(IRONLANE_HOST_PAGE + IRONLANE_HOST_EPOCH);
        // A ring that the region cannot hold must not reach the memory behind it; the card refuses 0.
        uint32_t log2 = word(IRONLANE_HOST_PAGE + IRONLANE_HOST_ENTRIES_LOG2);
        top.host_entries_log2 = log2 <= 16 && IRONLANE_REGION_BYTES(1u << log2) <= bytes ? log2 : 0;
        top.host_sq_tail = word(IRONLANE_HOST_PAGE + IRONLANE_HOST_SQ_TAIL);
        top.host_cq_head = word(IRONLANE_HOST_PAGE + IRONLANE_HOST_CQ_HEAD);
        top.fetch_ready = fetches < 4;
        top.fetched_valid = fetches > 0;
        if (fetches > 0) memcpy(&top.fetched, fetched[0], IRONLANE_ENTRY_BYTES);
        top.write_ready = 1;
        top.eval();

        bool written = top.write_valid;
        if (written) write(top.write_slot, (const unsigned char *)&top.write_entry);
        if (top.fetched_valid && top.fetched_ready) memmove(fetched[0], fetched[1], sizeof fetched[0] * --fetches);
        if (top.fetch_valid && top.fetch_ready)
            memcpy(fetched[fetches++], region + IRONLANE_RINGS + IRONLANE_ENTRY_BYTES * top.fetch_slot, IRONLANE_ENTRY_BYTES);

        // The ring's size is the one that the card took when it began to run.
        if (top.card_state == IRONLANE_STATE_IDLE) log2_running = top.host_entries_log2;
        top.clk = 1;
        top.eval();
        clocks++;
        if (!top.rst) show();
        return written;
    }

    // Whether further clocks would change nothing before the host says something new.
    bool idle() {
        uint32_t command = word(IRONLANE_HOST_PAGE + IRONLANE_HOST_COMMAND);
        bool told = command == IRONLANE_COMMAND_RESET && word(IRONLANE_HOST_PAGE + IRONLANE_HOST_EPOCH) != top.card_epoch;
        bool starts = command == IRONLANE_COMMAND_RUN && top.card_state == IRONLANE_STATE_IDLE;
        bool work = top.card_state == IRONLANE_STATE_RUNNING
            && (!top.card_idle || word(IRONLANE_HOST_PAGE + IRONLANE_HOST_SQ_TAIL) != top.card_sq_head);
        return !told && !starts && !work && fetches == 0;
    }
    bool finished() { return top.card_idle && fetches == 0; }
    uint32_t command() { return word(IRONLANE_HOST_PAGE + IRONLANE_HOST_COMMAND); }

    uint32_t word(uint64_t at) { return __atomic_load_n((uint32_t *)(region + at), __ATOMIC_ACQUIRE); }
    void set(uint64_t at, uint32_t value) { __atomic_store_n((uint32_t *)(region + at), value, __ATOMIC_RELEASE); }

    uint64_t clocks = 0;

private:
    void show() {
        __atomic_store_n((uint64_t *)(region + IRONLANE_CARD_COMPLETED), (uint64_t)top.card_completed, __ATOMIC_RELAXED);
        set(IRONLANE_CARD_FAULT, top.card_fault);
        set(IRONLANE_CARD_SQ_HEAD, top.card_sq_head);
        set(IRONLANE_CARD_STATE, top.card_state);
        set(IRONLANE_CARD_EPOCH, top.card_epoch);
    }

    void write(uint32_t slot, const unsigned char *entry) {
        unsigned char *at = region + IRONLANE_RINGS + ((uint64_t)IRONLANE_ENTRY_BYTES << log2_running) + IRONLANE_ENTRY_BYTES * slot;
        uint32_t seal;
        memcpy(&seal, entry + offsetof(ironlane_completion, seal), sizeof seal);
        memcpy(at, entry, offsetof(ironlane_completion, seal));
        __atomic_store_n((uint32_t *)(at + offsetof(ironlane_completion, seal)), seal, __ATOMIC_RELEASE);
    }

    Vring_top top;
    unsigned char *region;
    uint64_t bytes;
    uint32_t log2_running = 1;
    unsigned char fetched[4][IRONLANE_ENTRY_BYTES];
    unsigned fetches = 0;
};
