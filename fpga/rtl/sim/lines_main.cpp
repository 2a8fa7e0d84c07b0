// Drives the simulated card from lines on standard input, playing the host of the ring ABI. One command a line:
//
//   reset LOG2 EPOCH   resets the card to that epoch, with rings of 2^LOG2 entries, and lets it run; what was under way is lost
//   hold CLOCKS        leaves completions unread for so many clocks from now on
//   run CLOCKS         lets so many clocks pass
//   wait               lets clocks pass until every submission is completed; prints "# clocks N" (since the last `wait`)
//   HEX                128 bytes in lower-case hexadecimal: a submission, put into the ring as it stands when there is room
//
// Prints every completion as 128 bytes in hexadecimal, in the order of the ring. Ends with status 0 at the end of the input, 1
// where the card hangs or breaks the ring's rules, 2 where a line makes no sense.
#include "card.hpp"
#include "lines.hpp"
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>

static const uint64_t HANG_CLOCKS = 4000000;

int main() {
    static const uint64_t bytes = IRONLANE_REGION_BYTES(IRONLANE_ENTRIES_MAX);
    unsigned char *region = (unsigned char *)calloc(1, bytes);
    if (!region) return 1;
    Card card(region, bytes);
    card.introduce("lines");

    uint32_t log2 = 0, tail = 0, head = 0;
    uint64_t hold_until = 0, waited_at = 0;
    bool failed = false;
    auto clock = [&] {
        card.step();
        if (card.clocks < hold_until) return;
        for (;;) {
            unsigned char *at = region + IRONLANE_RINGS + ((uint64_t)IRONLANE_ENTRY_BYTES << log2)
                + (uint64_t)IRONLANE_ENTRY_BYTES * (head & ((1u << log2) - 1));
            ironlane_completion completion;
            memcpy(&completion, at, sizeof completion);
            if (head == tail || (completion.seal & 1) != IRONLANE_PHASE(head, log2)) return;
            if (completion.seal >> 1) {
                fprintf(stderr, "completion %u has seal bits set\n", head);
                failed = true;
            }
            puts(to_hex(at, IRONLANE_ENTRY_BYTES).c_str());
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_CQ_HEAD, ++head);
        }
    };
    // Lets clocks pass until `done`; false when that never comes.
    auto until = [&](auto done, const char *what) {
        for (uint64_t end = card.clocks + HANG_CLOCKS; !done(); clock()) {
            if (card.clocks > end) {
                fprintf(stderr, "no %s after %llu clocks: %u submitted, %u completed, state %u, fault %u\n", what,
                        (unsigned long long)HANG_CLOCKS, tail, head, card.word(IRONLANE_CARD_STATE),
                        card.word(IRONLANE_CARD_FAULT));
                return false;
            }
        }
        return true;
    };
    for (std::string line; !failed && std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string word;
        uint64_t first = 0, second = 0;
        words >> word >> first >> second;
        std::vector<unsigned char> entry;
        if (word == "reset") {
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_EPOCH, second);
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_COMMAND, IRONLANE_COMMAND_RESET);
            tail = head = 0;
            if (!until([&] { return card.word(IRONLANE_CARD_EPOCH) == second; }, "reset")) return 1;
            log2 = first;
            memset(region + IRONLANE_RINGS, 0, bytes - IRONLANE_RINGS);
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_SQ_TAIL, 0);
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_CQ_HEAD, 0);
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_ENTRIES_LOG2, log2);
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_COMMAND, IRONLANE_COMMAND_RUN);
            waited_at = card.clocks;
        } else if (word == "hold") {
            hold_until = card.clocks + first;
        } else if (word == "run") {
            for (uint64_t end = card.clocks + first; card.clocks < end;) clock();
        } else if (word == "wait") {
            if (!until([&] { return head == tail; }, "completion")) return 1;
            printf("# clocks %llu\n", (unsigned long long)(card.clocks - waited_at));
            waited_at = card.clocks;
        } else if (from_hex(word, entry) && entry.size() == IRONLANE_ENTRY_BYTES) {
            auto room = [&] { return tail - card.word(IRONLANE_CARD_SQ_HEAD) < 1u << log2; };
            if (!until(room, "room in the submission ring")) return 1;
            uint64_t slot = tail & ((1u << log2) - 1);
            memcpy(region + IRONLANE_RINGS + IRONLANE_ENTRY_BYTES * slot, entry.data(), IRONLANE_ENTRY_BYTES);
            card.set(IRONLANE_HOST_PAGE + IRONLANE_HOST_SQ_TAIL, ++tail);
        } else if (!word.empty()) {
            fprintf(stderr, "a line that makes no sense: %s\n", line.c_str());
            return 2;
        }
        fflush(stdout);
    }
    return failed;
}
