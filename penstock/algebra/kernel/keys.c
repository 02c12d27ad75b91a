/* XXH64 by its specification (xxHash fast digest algorithm, section "XXH64"), key bytes, and a hash table of codes. */
#include "keys.h"

#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu
#define P3 0x165667B19E3779F9u
#define P4 0x85EBCA77C2B2AE63u
#define P5 0x27D4EB2F165667C5u

static inline uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

/* Numbers are little-endian in the specification; so are all processors this is built for. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian processors only");

static inline uint64_t load8(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}
static inline uint32_t load4(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

static inline uint64_t round64(uint64_t acc, uint64_t lane) { return rotate(acc + lane * P2, 31) * P1; }
static inline uint64_t merge64(uint64_t acc, uint64_t lane) { return (acc ^ round64(0, lane)) * P1 + P4; }

static inline uint64_t avalanche(uint64_t acc) {
    acc = (acc ^ acc >> 33) * P2;
    acc = (acc ^ acc >> 29) * P3;
    return acc ^ acc >> 32;
}

static inline uint64_t finish(uint64_t acc, const uint8_t *p, size_t left) {
    for (; left >= 8; left -= 8, p += 8) acc = rotate(acc ^ round64(0, load8(p)), 27) * P1 + P4;
    if (left >= 4) acc = rotate(acc ^ load4(p) * P1, 23) * P2 + P3, p += 4, left -= 4;
    for (; left > 0; left--, p++) acc = rotate(acc ^ *p * P5, 11) * P1;
    return avalanche(acc);
}

uint64_t ps_xxh64(const uint8_t *data, size_t length, uint64_t seed) {
    if (length < 32) return finish(seed + P5 + length, data, length);
    uint64_t v1 = seed + P1 + P2, v2 = seed + P2, v3 = seed, v4 = seed - P1;
    const uint8_t *p = data, *end = data + length;
    for (; end - p >= 32; p += 32) {
        v1 = round64(v1, load8(p)), v2 = round64(v2, load8(p + 8));
        v3 = round64(v3, load8(p + 16)), v4 = round64(v4, load8(p + 24));
    }
    uint64_t acc = rotate(v1, 1) + rotate(v2, 7) + rotate(v3, 12) + rotate(v4, 18);
    acc = merge64(merge64(merge64(merge64(acc, v1), v2), v3), v4);
    return finish(acc + length, p, (size_t)(end - p));
}

/* ---- canonical bytes ---- */

static const uint8_t *text_of(const ps_part *part, int64_t i, int64_t *length) {
    int64_t begin, end;
    if (part->wide) begin = ((const int64_t *)part->offsets)[i], end = ((const int64_t *)part->offsets)[i + 1];
    else begin = ((const int32_t *)part->offsets)[i], end = ((const int32_t *)part->offsets)[i + 1];
    *length = end - begin;
    return (const uint8_t *)part->values + begin;
}

static int64_t put(uint8_t *out, int64_t cap, int64_t at, const void *bytes, int64_t n) {
    if (n > 0 && at + n <= cap) memcpy(out + at, bytes, (size_t)n);
    return at + n;
}

int64_t ps_key_bytes(const ps_part *parts, int32_t n_parts, int64_t i, uint8_t *out, int64_t cap) {
    int64_t at = 0;
    for (const ps_part *part = parts; part < parts + n_parts; part++) {
        uint8_t tag = (uint8_t)part->kind;
        at = put(out, cap, at, &tag, 1);
        if (part->kind == PS_KEY_INT) at = put(out, cap, at, (const int64_t *)part->values + i, 8);
        else if (part->kind == PS_KEY_BOOL) at = put(out, cap, at, (const uint8_t *)part->values + i, 1);
        else if (part->kind == PS_KEY_DATE) at = put(out, cap, at, (const int32_t *)part->values + i, 4);
        else {
            int64_t length;
            const uint8_t *text = text_of(part, i, &length);
            uint32_t prefix = (uint32_t)length;
            at = put(out, cap, at, &prefix, 4);
            at = put(out, cap, at, text, length);
        }
    }
    return at;
}

/* A buffer that holds the canonical bytes of any row. */
typedef struct {
    uint8_t *bytes;
    int64_t cap;
    uint8_t small[256];
} buffer;

/* Length of row i's bytes, now in b->bytes; -1 when memory is short. */
static int64_t fill(buffer *b, const ps_part *parts, int32_t n_parts, int64_t i) {
    if (!b->bytes) b->bytes = b->small, b->cap = (int64_t)sizeof b->small;
    int64_t length = ps_key_bytes(parts, n_parts, i, b->bytes, b->cap);
    if (length <= b->cap) return length;
    uint8_t *more = malloc((size_t)length * 2);
    if (!more) return -1;
    if (b->bytes != b->small) free(b->bytes);
    b->bytes = more, b->cap = length * 2;
    return ps_key_bytes(parts, n_parts, i, b->bytes, b->cap);
}

static void release(buffer *b) {
    if (b->bytes != b->small) free(b->bytes);
}

/* The tag and the 8 bytes of the value, as `finish` would read them, without going through memory. */
static void hash_ints(const int64_t *values, int64_t n, uint64_t *out) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t value = (uint64_t)values[i], acc = P5 + 9;
        acc = rotate(acc ^ round64(0, value << 8 | PS_KEY_INT), 27) * P1 + P4;
        acc = rotate(acc ^ (value >> 56) * P5, 11) * P1;
        out[i] = avalanche(acc);
    }
}

int ps_key_hashes(const ps_part *parts, int32_t n_parts, int64_t n, uint64_t *out) {
    if (n_parts == 1 && parts->kind == PS_KEY_INT) {
        hash_ints(parts->values, n, out);
        return 0;
    }
    buffer b = {.bytes = NULL};
    int64_t length = 0;
    for (int64_t i = 0; i < n && length >= 0; i++) {
        length = fill(&b, parts, n_parts, i);
        if (length >= 0) out[i] = ps_xxh64(b.bytes, (size_t)length, 0);
    }
    release(&b);
    return length < 0 ? -1 : 0;
}

/* ---- codes ---- */

/* Keys of up to 16 bytes are held whole in (a, b); longer ones as (hash, place in the heap of bytes). */
typedef struct {
    uint64_t a, b;
    int32_t length;
    int32_t code; /* -1: free */
} entry;

struct ps_encoder {
    entry *table;
    uint64_t mask; /* table size - 1 */
    int64_t n;
    uint8_t *heap;
    int64_t used, cap;
};

static inline uint64_t place_of(uint64_t mask, uint64_t a, uint64_t b, int32_t length) {
    wide product = (wide)(a ^ P2) * ((length > 16 ? 0 : b) ^ P1 ^ (uint64_t)length);
    return ((uint64_t)product ^ (uint64_t)(product >> 64)) & mask;
}

static int grow(ps_encoder *e, uint64_t size) {
    entry *old = e->table, *made = malloc(size * sizeof *made);
    if (!made) return 0;
    for (uint64_t i = 0; i < size; i++) made[i].code = -1;
    uint64_t former = old ? e->mask + 1 : 0;
    e->table = made, e->mask = size - 1;
    for (uint64_t i = 0; i < former; i++) {
        if (old[i].code < 0) continue;
        uint64_t at = place_of(e->mask, old[i].a, old[i].b, old[i].length);
        while (made[at].code >= 0) at = (at + 1) & e->mask;
        made[at] = old[i];
    }
    free(old);
    return 1;
}

ps_encoder *ps_encoder_new(void) {
    ps_encoder *e = calloc(1, sizeof *e);
    if (e && !grow(e, 1024)) free(e), e = NULL;
    return e;
}

void ps_encoder_free(ps_encoder *e) {
    if (!e) return;
    free(e->table), free(e->heap);
    free(e);
}

int64_t ps_encoder_size(const ps_encoder *e) { return e->n; }

/* Up to 16 bytes as two numbers: with the length, equal exactly for equal bytes. */
static inline void pack(const uint8_t *p, int64_t length, uint64_t *a, uint64_t *b) {
    *b = 0;
    if (length >= 8) *a = load8(p), *b = load8(p + length - 8);
    else if (length >= 4) *a = load4(p) | (uint64_t)load4(p + length - 4) << 32;
    else if (length > 0) *a = p[0] | (uint64_t)p[length / 2] << 8 | (uint64_t)p[length - 1] << 16;
    else *a = 0;
}

/* Code of a new entry at `at`; -2 when memory is short. */
static int64_t insert(ps_encoder *e, uint64_t at, entry made) {
    if (e->n >= INT32_MAX) return -2;
    made.code = (int32_t)e->n;
    e->table[at] = made;
    e->n++;
    if ((uint64_t)e->n * 2 > e->mask && !grow(e, (e->mask + 1) * 2)) return -2;
    return e->n - 1;
}

static inline int64_t find_short(ps_encoder *e, uint64_t a, uint64_t b, int32_t length, int add) {
    uint64_t at = place_of(e->mask, a, b, length);
    for (; e->table[at].code >= 0; at = (at + 1) & e->mask)
        if (e->table[at].a == a && e->table[at].b == b && e->table[at].length == length) return e->table[at].code;
    return add ? insert(e, at, (entry){a, b, length, -1}) : -1;
}

static int64_t find_long(ps_encoder *e, const uint8_t *bytes, int64_t length, int add) {
    uint64_t hash = ps_xxh64(bytes, (size_t)length, 0), at = place_of(e->mask, hash, 0, (int32_t)length);
    for (; e->table[at].code >= 0; at = (at + 1) & e->mask) {
        const entry *x = &e->table[at];
        if (x->a == hash && x->length == length && memcmp(e->heap + x->b, bytes, (size_t)length) == 0) return x->code;
    }
    if (!add) return -1;
    if (length > INT32_MAX) return -2;
    if (e->used + length > e->cap) {
        uint8_t *more = realloc(e->heap, (size_t)(e->used + length) * 2);
        if (!more) return -2;
        e->heap = more, e->cap = (e->used + length) * 2;
    }
    memcpy(e->heap + e->used, bytes, (size_t)length);
    e->used += length;
    return insert(e, at, (entry){hash, (uint64_t)(e->used - length), (int32_t)length, -1});
}

static inline int64_t find(ps_encoder *e, const uint8_t *bytes, int64_t length, int add) {
    if (length > 16) return find_long(e, bytes, length, add);
    uint64_t a, b;
    pack(bytes, length, &a, &b);
    return find_short(e, a, b, (int32_t)length, add);
}

int ps_encode(ps_encoder *e, const ps_part *parts, int32_t n_parts, int64_t n, const uint8_t *valid, int add,
              int64_t *codes) {
    int one_int = n_parts == 1 && parts->kind == PS_KEY_INT, one_text = n_parts == 1 && parts->kind == PS_KEY_TEXT;
    buffer b = {.bytes = NULL};
    int64_t code = 0;
    for (int64_t i = 0; i < n && code != -2; i++) {
        if (valid && !valid[i]) code = -1;
        else if (one_int) code = find_short(e, (uint64_t)((const int64_t *)parts->values)[i], 0, 8, add);
        else if (one_text) {
            int64_t length;
            const uint8_t *text = text_of(parts, i, &length);
            code = find(e, text, length, add);
        } else {
            int64_t length = fill(&b, parts, n_parts, i);
            code = length < 0 ? -2 : find(e, b.bytes, length, add);
        }
        codes[i] = code;
    }
    release(&b);
    return code == -2 ? -1 : 0;
}
