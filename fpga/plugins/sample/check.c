/* Loads the plug-in as a host does and compares it with known answers: the first thing to run, before the whole
 * validation kit (`ironlane offload validate --engine plugin:./libsample.so`). */
#include "../../include/ironlane_offload.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void hex(const char *text, uint8_t *out, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

static int failures;

static void expect(int holds, const char *what) {
    printf("%s  %s\n", holds ? "ok  " : "FAIL", what);
    failures += !holds;
}

int main(int argc, char **argv) {
    void *library = dlopen(argc > 1 ? argv[1] : "./libsample.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    const struct ironlane_offload_table *(*entry)(void);
    *(void **)&entry = dlsym(library, "ironlane_offload_v1");
    if (!entry) {
        fprintf(stderr, "ironlane_offload_v1 is not exported\n");
        return 2;
    }
    const struct ironlane_offload_table *table = entry();
    expect(table->version >> 16 == 1 && table->bytes >= sizeof *table, "version and size of the table");
    void *card = NULL;
    expect(table->open("", &card) == 0, "the card opens");
    struct ironlane_capabilities caps;
    expect(table->capabilities(card, &caps) == 0 && caps.magic == IRONLANE_OFFLOAD_MAGIC, "capabilities");

    /* The example of EIP-155, then ways to be wrong. */
    enum { CASES = 8 };
    static const uint16_t expected[CASES] = {
        IRONLANE_OK,    IRONLANE_BAD_PARITY, IRONLANE_BAD_R, IRONLANE_BAD_S,
        IRONLANE_HIGH_S, IRONLANE_NO_KEY,    IRONLANE_BAD_OP, IRONLANE_OK};
    static const char *names[CASES] = {"EIP-155's example", "parity 2",  "r = 0",    "s = 0",
                                       "high s",            "no such R", "op 99", "NOP"};
    struct ironlane_submission asked[CASES];
    struct ironlane_completion found[CASES];
    memset(asked, 0, sizeof asked);
    for (int i = 0; i < CASES; i++) {
        asked[i].tag = 1000u + (unsigned)i;
        asked[i].op = IRONLANE_OP_RECOVER;
        hex("daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53", asked[i].hash, 32);
        hex("28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276", asked[i].r, 32);
        hex("67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83", asked[i].s, 32);
    }
    asked[1].v = 2;
    memset(asked[2].r, 0, 32);
    memset(asked[3].s, 0, 32);
    asked[4].s[0] = 0xf0;
    memset(asked[5].r, 0, 32);
    asked[5].r[31] = 5;
    asked[6].op = 99;
    memset(&asked[7], 0, sizeof asked[7]);
    asked[7].tag = 1007;
    expect(table->recover_batch(card, asked, found, CASES) == 0, "a batch of eight");
    uint8_t signer[20];
    hex("9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F", signer, 20);
    for (int i = 0; i < CASES; i++) {
        int at = -1;
        for (int j = 0; j < CASES; j++)
            if (found[j].tag == asked[i].tag) at = j;
        expect(at >= 0 && found[at].status == expected[i] && found[at].op == asked[i].op, names[i]);
        if (i == 0) expect(at >= 0 && memcmp(found[at].address, signer, 20) == 0, "its signer");
    }
    expect(table->reset(card) == 0, "reset");
    table->close(card);
    printf("%s\n", failures ? "FAILED" : "passed");
    return failures != 0;
}
