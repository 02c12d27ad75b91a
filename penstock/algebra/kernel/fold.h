/* Folds: merging rows and nodes of one field into an accumulator; the same loops build nodes and answer queries. */
#ifndef PENSTOCK_FOLD_H
#define PENSTOCK_FOLD_H

#include "series.h"

/* Nodes [b, e) of a level (rows when level is 0; row b of s->external when level is PS_EXTERNAL). */
typedef struct {
    int32_t level, b, e;
} ps_span;

typedef struct {
    ps_u128 low;
    int64_t high;
} ps_wide; /* 192 bits, two's complement */

typedef union {
    int64_t i;
    double d;
    ps_i128 i128;
    ps_wide wide;
    struct {
        double high, low;
    } sum;
    struct {
        double n, mean, m2;
    } moments;
    struct {
        double sum;
        int64_t ref; /* instant the sum is decayed to */
    } decay;
} ps_acc;

typedef void (*ps_fold)(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc);

ps_fold ps_fold_of(const ps_field *f);
void ps_acc_init(const ps_field *f, int64_t ref, ps_acc *acc);
/* Writes acc as node `at` of a level. */
void ps_acc_store(const ps_series *s, const ps_field *f, int32_t level, int64_t at, const ps_acc *acc);

static inline uint8_t *ps_node(const ps_series *s, const ps_field *f, int32_t level) {
    return s->nodes + s->off[level] + (s->bounds + f->offset) * (size_t)s->m[level];
}

static inline int64_t *ps_min_kf(const ps_series *s, int32_t level) {
    return (int64_t *)(void *)(s->nodes + s->off[level]);
}
static inline int64_t *ps_max_kf(const ps_series *s, int32_t level) { return ps_min_kf(s, level) + s->m[level]; }
static inline int64_t *ps_node_kt(const ps_series *s, int32_t level) { return ps_min_kf(s, level) + 2 * s->m[level]; }
/* Rows of a node that are not retired; only when s->kt. */
static inline int64_t *ps_alive(const ps_series *s, int32_t level) { return ps_min_kf(s, level) + 3 * s->m[level]; }

/* Of the prefix: how many rows it stands for, and the greatest t among them. */
static inline int64_t *ps_prefix_rows(const ps_series *s) { return (int64_t *)(void *)(s->nodes + s->off[PS_PREFIX]); }
static inline int64_t *ps_prefix_t(const ps_series *s) { return ps_prefix_rows(s) + 1; }
/* The instant that a decayed sum of the prefix is decayed to: a multiple of the half life, so that moving it costs no
 * precision. */
int64_t ps_prefix_ref(const ps_field *f, int64_t t);

static inline int ps_bit(const ps_series *s, int64_t row, int32_t mask) {
    return s->mask[row * s->p->mask_bytes + (mask >> 3)] >> (mask & 7) & 1;
}

#endif
