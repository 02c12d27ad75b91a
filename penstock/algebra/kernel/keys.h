/* Keys: canonical bytes, the published 64-bit hash over them, and dense codes. docs/design/keys.md is the contract. */
#ifndef PENSTOCK_KEYS_H
#define PENSTOCK_KEYS_H

#include <stddef.h>
#include <stdint.h>

/* A part's type is also its tag in the canonical bytes: tag, then 8 bytes (int), 1 byte (bool), 4 bytes (date), or a
 * length of 4 bytes and the bytes (text); numbers little-endian. */
enum ps_part_kind { PS_KEY_INT = 1, PS_KEY_BOOL = 2, PS_KEY_DATE = 3, PS_KEY_TEXT = 4 };

typedef struct {
    int32_t kind;
    int32_t wide;        /* text: offsets are int64, else int32 */
    const void *values;  /* int64, uint8 (0 or 1), int32 days, or bytes of text */
    const void *offsets; /* text: n + 1 of them */
} ps_part;

uint64_t ps_xxh64(const uint8_t *data, size_t length, uint64_t seed);

/* Canonical bytes of row i into out (at most cap); returns their length, which may exceed cap. */
int64_t ps_key_bytes(const ps_part *parts, int32_t n_parts, int64_t i, uint8_t *out, int64_t cap);

/* Hashes of the canonical bytes of n rows. Returns 0, or -1 when memory is short. */
int ps_key_hashes(const ps_part *parts, int32_t n_parts, int64_t n, uint64_t *out);

/* Dense codes by first appearance, kept over calls that pass parts of the same kinds. */
typedef struct ps_encoder ps_encoder;
ps_encoder *ps_encoder_new(void);
void ps_encoder_free(ps_encoder *e);
int64_t ps_encoder_size(const ps_encoder *e);
/* Codes of n rows; -1 where valid[i] is 0 (valid may be NULL) and, unless `add`, where the key is unknown. Returns 0,
 * or -1 when memory is short. */
int ps_encode(ps_encoder *e, const ps_part *parts, int32_t n_parts, int64_t n, const uint8_t *valid, int add,
              int64_t *codes);

#endif
