/* Accumulators to values: one loop per output over a block of queries, of one key or of many. */
#include <math.h>
#include <string.h>

#include "scratch.h"

#define INLINE static inline __attribute__((always_inline))

/* Where one output's values and statuses of the block go. */
typedef struct {
    uint8_t *values, *statuses;
    size_t value_step, status_step;
    const int64_t *place;
    int64_t n;
} target;

INLINE void put(const target *to, int64_t i, const void *value, size_t size, int status) {
    memcpy(to->values + (size_t)to->place[i] * to->value_step, value, size);
    to->statuses[(size_t)to->place[i] * to->status_step] = (uint8_t)status;
}

INLINE void put_int(const target *to, int64_t i, int64_t x, int status) { put(to, i, &x, 8, status); }

/* What is null is written as 0. */
INLINE void put_float(const target *to, int64_t i, double x, int status) {
    if (status == PS_OK && !isfinite(x)) status = PS_OVERFLOW;
    x = status == PS_OK ? x : 0;
    put(to, i, &x, 8, status);
}

static double wide_to_double(const ps_wide *x) {
    if (x->high == ((ps_i128)x->low < 0 ? -1 : 0)) return (double)(ps_i128)x->low;
    if (x->high >= 0) return (double)x->high * 0x1p128 + (double)x->low;
    ps_wide minus_x = {~x->low + 1, (int64_t)(~(uint64_t)x->high + (x->low == 0))};
    return -((double)minus_x.high * 0x1p128 + (double)minus_x.low);
}

INLINE double int_to_double(const ps_acc *acc) {
    int64_t small = (int64_t)acc->i128; /* the usual case, without the library's conversion of 128 bits */
    return small == acc->i128 ? (double)small : (double)acc->i128;
}

INLINE double sum_to_double(int32_t kind, const ps_acc *acc) {
    if (kind == PS_FLOAT) return acc->sum.high + acc->sum.low;
    return kind == PS_INT ? int_to_double(acc) : wide_to_double(&acc->wide);
}

/* ---- the block of one output ---- */

typedef struct {
    const ps_scratch *w;
    const ps_output *o;
    const int64_t *rows; /* visible rows per query, of the output's window */
} block;

INLINE const ps_acc *accs(const block *x, int32_t field) { return ps_accs_of(x->w, field, x->o->window); }
INLINE int32_t kind_of(const block *x, int32_t field) { return x->w->p->fields[field].kind; }
INLINE int64_t count_at(const int64_t *rows, const ps_acc *counts, int64_t i) { return counts ? counts[i].i : rows[i]; }
INLINE const ps_acc *counts_of(const block *x, int32_t field) { return field < 0 ? NULL : accs(x, field); }

static void finish_count(const block *x, const target *to) {
    const ps_acc *counts = counts_of(x, x->o->a);
    for (int64_t i = 0; i < to->n; i++) {
        int64_t n = count_at(x->rows, counts, i);
        put_int(to, i, n, n ? PS_OK : PS_ZERO);
    }
}

static void finish_share(const block *x, const target *to) {
    const ps_acc *above = counts_of(x, x->o->a), *below = counts_of(x, x->o->b);
    for (int64_t i = 0; i < to->n; i++) {
        int64_t n = count_at(x->rows, below, i);
        put_float(to, i, (double)count_at(x->rows, above, i) / (double)n, n ? PS_OK : PS_EMPTY);
    }
}

/* 10^38 - 1 is the greatest decimal of 38 digits. */
static int fits_decimal(ps_i128 x) {
    const ps_i128 limit = (ps_i128)10000000000000000000u * 10000000000000000000u;
    return x < limit && x > -limit;
}

static void finish_sum(const block *x, const target *to) {
    const ps_acc *sums = accs(x, x->o->a), *counts = counts_of(x, x->o->b);
    int32_t kind = kind_of(x, x->o->a);
    for (int64_t i = 0; i < to->n; i++) {
        int status = count_at(x->rows, counts, i) ? PS_OK : PS_EMPTY;
        if (x->o->kind == PS_FLOAT) {
            put_float(to, i, sum_to_double(kind, &sums[i]) / x->o->scale, status);
            continue;
        }
        ps_i128 sum = kind == PS_INT ? sums[i].i128 : (ps_i128)sums[i].wide.low;
        int fits = kind == PS_INT || sums[i].wide.high == (sum < 0 ? -1 : 0);
        fits = fits && (x->o->size == 8 ? (int64_t)sum == sum : fits_decimal(sum));
        status = status == PS_OK && !fits ? PS_OVERFLOW : status;
        sum = status == PS_OK ? sum : 0;
        if (x->o->size == 8) put_int(to, i, (int64_t)sum, status);
        else put(to, i, &sum, 16, status);
    }
}

static void finish_mean(const block *x, const target *to) {
    const ps_acc *sums = accs(x, x->o->a), *counts = counts_of(x, x->o->b);
    int32_t kind = kind_of(x, x->o->a);
    for (int64_t i = 0; i < to->n; i++) {
        int64_t n = count_at(x->rows, counts, i);
        put_float(to, i, sum_to_double(kind, &sums[i]) / ((double)n * x->o->scale), n ? PS_OK : PS_EMPTY);
    }
}

static void finish_value(const block *x, const target *to) {
    const ps_acc *best = accs(x, x->o->a), *counts = counts_of(x, x->o->b), none = {.i128 = 0};
    for (int64_t i = 0; i < to->n; i++) {
        int found = count_at(x->rows, counts, i) != 0;
        const ps_acc *value = found ? &best[i] : &none;
        if (x->o->size == 8) put(to, i, value, 8, found ? PS_OK : PS_EMPTY);
        else put(to, i, value, 16, found ? PS_OK : PS_EMPTY);
    }
}

static void finish_moments(const block *x, const target *to) {
    const ps_acc *moments = accs(x, x->o->a);
    int root = x->o->op == PS_OUT_STD;
    double scale = root ? x->o->scale : x->o->scale * x->o->scale;
    for (int64_t i = 0; i < to->n; i++) {
        double n = moments[i].moments.n, variance = moments[i].moments.m2 / (n - 1);
        int status = n < 1 ? PS_EMPTY : n < 2 ? PS_UNDEFINED : PS_OK;
        double found = root ? sqrt(variance) : variance;
        put_float(to, i, scale == 1 ? found : found / scale, status);
    }
}

static void finish_decay(const block *x, const target *to) {
    const ps_acc *sums = accs(x, x->o->a), *counts = counts_of(x, x->o->b);
    int none = x->w->p->fields[x->o->a].op == PS_DECAY_COUNT ? PS_ZERO : PS_EMPTY;
    for (int64_t i = 0; i < to->n; i++)
        put_float(to, i, sums[i].decay.sum / x->o->scale, count_at(x->rows, counts, i) ? PS_OK : none);
}

static void finish_ratio(const block *x, const target *to) {
    const ps_acc *above = accs(x, x->o->a), *below = accs(x, x->o->b), *c = counts_of(x, x->o->c), *d = counts_of(x, x->o->d);
    int32_t kind_above = kind_of(x, x->o->a), kind_below = kind_of(x, x->o->b);
    for (int64_t i = 0; i < to->n; i++) {
        int64_t n_above = count_at(x->rows, c, i), n_below = count_at(x->rows, d, i);
        double denominator = sum_to_double(kind_below, &below[i]);
        int status = !n_above && !n_below ? PS_EMPTY : !n_above || !n_below || denominator == 0 ? PS_UNDEFINED : PS_OK;
        put_float(to, i, sum_to_double(kind_above, &above[i]) / denominator / x->o->scale, status);
    }
}

static void finish_early(const block *x, const target *to, int32_t index) {
    const ps_early *early = x->w->early + (size_t)index * PS_BLOCK;
    for (int64_t i = 0; i < to->n; i++)
        if (x->o->size == 8) put(to, i, early[i].value, 8, early[i].status);
        else put(to, i, early[i].value, 16, early[i].status);
}

static void finish(const block *x, const target *to, int32_t index) {
    switch (x->o->op) {
        case PS_OUT_COUNT: finish_count(x, to); break;
        case PS_OUT_SUM: finish_sum(x, to); break;
        case PS_OUT_MEAN: finish_mean(x, to); break;
        case PS_OUT_SHARE: finish_share(x, to); break;
        case PS_OUT_VALUE: finish_value(x, to); break;
        case PS_OUT_VARIANCE:
        case PS_OUT_STD: finish_moments(x, to); break;
        case PS_OUT_DECAY: finish_decay(x, to); break;
        case PS_OUT_RATIO: finish_ratio(x, to); break;
        default: finish_early(x, to, index);
    }
}

void ps_query_finish(ps_scratch *w, uint8_t *const *values, uint8_t *const *statuses, int64_t status_step,
                     uint8_t *records) {
    const ps_program *p = w->p;
    for (int32_t k = 0; k < p->n_outputs; k++) {
        const ps_output *o = &p->outputs[k];
        block x = {w, o, w->rows + (size_t)o->window * PS_BLOCK};
        target to = {NULL, NULL, (size_t)o->size, (size_t)status_step, w->place, w->n_filled};
        if (records) {
            to.values = records + o->offset, to.statuses = records + p->stat_offset + k;
            to.value_step = to.status_step = p->record_bytes;
        } else to.values = values[k], to.statuses = statuses[k];
        finish(&x, &to, k);
    }
    w->n_filled = 0;
}
