/* Recovery of secp256k1 public keys, and Keccak-256: small, portable, slow. See recover.c. */
#ifndef SAMPLE_RECOVER_H
#define SAMPLE_RECOVER_H

#include <stddef.h>
#include <stdint.h>

/* Statuses of ironlane_offload.h: IRONLANE_OK or why there is no key. All numbers are 32 bytes big-endian. */
uint16_t sample_recover(const uint8_t hash[32], const uint8_t r[32], const uint8_t s[32], uint8_t v, int any_s,
                        uint8_t public_key[64]);
void sample_keccak256(const uint8_t *message, size_t length, uint8_t digest[32]);

#endif
