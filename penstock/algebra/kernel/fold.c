/* One loop per op-code, kind and mask use. */
#include "fold.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* The series a span of rows reads: itself or the external self row. */
INLINE const ps_series *rows_of(const ps_series *s, const ps_span *span) {
    return span->level == PS_EXTERNAL ? s->external : s;
}
INLINE int is_rows(const ps_span *span) { return span->level == 0 || span->level == PS_EXTERNAL; }

#define EACH_SPAN for (const ps_span *span = spans; span < spans + n; span++)
#define NODES(type, name) const type *name = (const type *)(const void *)ps_node(s, f, span->level)
#define ROWS(type, name)                          \
    const ps_series *r = rows_of(s, span);        \
    const type *name = (const type *)(const void *)r->slot[f->slot]
#define IF_COUNTED(i) if (!masked || ps_bit(r, i, f->mask))
#define UNUSED(x) (void)(x)

/* ---- count ---- */

static void fold_count(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc) {
    int64_t sum = 0;
    EACH_SPAN {
        if (is_rows(span)) {
            const ps_series *r = rows_of(s, span);
            if (f->mask < 0) sum += span->e - span->b;
            else
                for (int32_t i = span->b; i < span->e; i++) sum += ps_bit(r, i, f->mask);
        } else {
            NODES(uint64_t, node);
            for (int32_t i = span->b; i < span->e; i++) sum += (int64_t)node[i];
        }
    }
    acc->i += sum;
}

/* ---- sums ---- */

INLINE void sum_int(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc, int masked) {
    ps_i128 sum = acc->i128;
    EACH_SPAN {
        if (is_rows(span)) {
            ROWS(int64_t, x);
            for (int32_t i = span->b; i < span->e; i++) IF_COUNTED(i) sum += x[i];
        } else {
            NODES(ps_i128, node);
            for (int32_t i = span->b; i < span->e; i++) sum += node[i];
        }
    }
    acc->i128 = sum;
}

/* Adds x exactly: high + low hold the sum and its error (Knuth's two-sum). */
INLINE void two_sum(double *high, double *low, double x) {
    double total = *high + x, part = total - *high;
    *low += (*high - (total - part)) + (x - part);
    *high = total;
}

INLINE void sum_float(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc, int masked) {
    double high = acc->sum.high, low = acc->sum.low;
    EACH_SPAN {
        if (is_rows(span)) {
            ROWS(double, x);
            for (int32_t i = span->b; i < span->e; i++) IF_COUNTED(i) two_sum(&high, &low, x[i]);
        } else {
            NODES(double, node);
            const double *rest = node + s->m[span->level];
            for (int32_t i = span->b; i < span->e; i++) {
                two_sum(&high, &low, node[i]);
                low += rest[i];
            }
        }
    }
    acc->sum.high = high, acc->sum.low = low;
}

INLINE void wide_add(ps_wide *sum, ps_u128 low, int64_t high) {
    sum->low += low;
    sum->high = (int64_t)((uint64_t)sum->high + (uint64_t)high + (sum->low < low));
}

INLINE void sum_decimal(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc, int masked) {
    ps_wide sum = acc->wide;
    EACH_SPAN {
        if (is_rows(span)) {
            ROWS(ps_i128, x);
            for (int32_t i = span->b; i < span->e; i++)
                IF_COUNTED(i) wide_add(&sum, (ps_u128)x[i], x[i] < 0 ? -1 : 0);
        } else {
            NODES(ps_wide, node);
            for (int32_t i = span->b; i < span->e; i++) wide_add(&sum, node[i].low, node[i].high);
        }
    }
    acc->wide = sum;
}

/* ---- n, mean, M2: the spans are one group for Chan's formula in two passes, then merged into acc ---- */

#define MOMENTS(name, type)                                                                                        \
    INLINE void name(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc, int masked) { \
        double count = 0, sum = 0, m2 = 0;                                                                          \
        EACH_SPAN {                                                                                                 \
            if (is_rows(span)) {                                                                                    \
                ROWS(type, x);                                                                                      \
                for (int32_t i = span->b; i < span->e; i++) IF_COUNTED(i) count += 1, sum += (double)x[i];          \
            } else {                                                                                                \
                NODES(double, size);                                                                                \
                const double *mean = size + s->m[span->level];                                                      \
                for (int32_t i = span->b; i < span->e; i++) count += size[i], sum += size[i] * mean[i];             \
            }                                                                                                       \
        }                                                                                                           \
        if (count == 0) return;                                                                                     \
        double center = sum / count;                                                                                \
        EACH_SPAN {                                                                                                 \
            if (is_rows(span)) {                                                                                    \
                ROWS(type, x);                                                                                      \
                for (int32_t i = span->b; i < span->e; i++)                                                         \
                    IF_COUNTED(i) m2 += ((double)x[i] - center) * ((double)x[i] - center);                          \
            } else {                                                                                                \
                NODES(double, size);                                                                                \
                const double *mean = size + s->m[span->level], *part = mean + s->m[span->level];                    \
                for (int32_t i = span->b; i < span->e; i++)                                                         \
                    m2 += part[i] + size[i] * (mean[i] - center) * (mean[i] - center);                              \
            }                                                                                                       \
        }                                                                                                           \
        double total = acc->moments.n + count, delta = center - acc->moments.mean;                                  \
        if (acc->moments.n == 0) acc->moments.mean = center, acc->moments.m2 = m2;                                  \
        else {                                                                                                      \
            double share = count / total;                                                                           \
            acc->moments.mean += delta * share;                                                                     \
            acc->moments.m2 += m2 + delta * delta * acc->moments.n * share;                                         \
        }                                                                                                           \
        acc->moments.n = total;                                                                                     \
    }

MOMENTS(moments_int, int64_t)
MOMENTS(moments_float, double)
MOMENTS(moments_decimal, ps_i128)

/* ---- min, max: rows and nodes hold the same type ---- */

#define EXTREME(name, type, member, better)                                                                        \
    INLINE void name(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc, int masked) { \
        type best = acc->member;                                                                                    \
        EACH_SPAN {                                                                                                 \
            if (is_rows(span)) {                                                                                    \
                ROWS(type, x);                                                                                      \
                for (int32_t i = span->b; i < span->e; i++) IF_COUNTED(i) best = x[i] better best ? x[i] : best;    \
            } else {                                                                                                \
                NODES(type, node);                                                                                  \
                for (int32_t i = span->b; i < span->e; i++) best = node[i] better best ? node[i] : best;            \
            }                                                                                                       \
        }                                                                                                           \
        acc->member = best;                                                                                         \
    }

EXTREME(min_int, int64_t, i, <)
EXTREME(max_int, int64_t, i, >)
EXTREME(min_float, double, d, <)
EXTREME(max_float, double, d, >)
EXTREME(min_decimal, ps_i128, i128, <)
EXTREME(max_decimal, ps_i128, i128, >)

/* ---- first, last: nodes keep row indices; an accumulator keeps 2 x index + 1, so that the external row, which stands
 * before row `place`, is 2 x place ---- */

static int64_t external_position(const ps_series *s, const ps_field *f, int64_t row) {
    const ps_series *x = s->external;
    if (f->mask >= 0 && !ps_bit(x, row, f->mask)) return -1;
    return 2 * ps_series_place(s, x->t[row], x->kf[row], x->ord ? x->ord[row] : INT64_MAX);
}

static void fold_last(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc) {
    int64_t best = acc->i;
    EACH_SPAN {
        int64_t found = -1;
        if (span->level == PS_EXTERNAL) found = external_position(s, f, span->b);
        else if (span->level == 0) {
            int64_t i = span->e - 1;
            if (f->mask >= 0)
                while (i >= span->b && !ps_bit(s, i, f->mask)) i--;
            if (i >= span->b) found = 2 * i + 1;
        } else {
            NODES(int32_t, node);
            for (int32_t i = span->e - 1; i >= span->b && found < 0; i--)
                if (node[i] >= 0) found = 2 * (int64_t)node[i] + 1;
        }
        if (found > best) best = found;
    }
    acc->i = best;
}

static void fold_first(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc) {
    int64_t best = acc->i;
    EACH_SPAN {
        int64_t found = -1;
        if (span->level == PS_EXTERNAL) found = external_position(s, f, span->b);
        else if (span->level == 0) {
            int64_t i = span->b;
            if (f->mask >= 0)
                while (i < span->e && !ps_bit(s, i, f->mask)) i++;
            if (i < span->e) found = 2 * i + 1;
        } else {
            NODES(int32_t, node);
            for (int32_t i = span->b; i < span->e && found < 0; i++)
                if (node[i] >= 0) found = 2 * (int64_t)node[i] + 1;
        }
        if (found >= 0 && (best < 0 || found < best)) best = found;
    }
    acc->i = best;
}

/* ---- decay ---- */

int64_t ps_prefix_ref(const ps_field *f, int64_t t) {
    int64_t half_life = (int64_t)f->half_life, rest = t % half_life, out;
    if (rest < 0) rest += half_life;
    return !rest || __builtin_add_overflow(t, half_life - rest, &out) ? t : out;
}

INLINE double weight(const ps_field *f, int64_t ref, int64_t t) { return exp2(((double)t - (double)ref) / f->half_life); }

#define DECAY(name, type, value)                                                                                   \
    INLINE void name(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc, int masked) { \
        double sum = acc->decay.sum;                                                                                \
        int64_t ref = acc->decay.ref;                                                                               \
        EACH_SPAN {                                                                                                 \
            if (is_rows(span)) {                                                                                    \
                const ps_series *r = rows_of(s, span);                                                              \
                const type *x = (const type *)(const void *)(f->slot < 0 ? NULL : r->slot[f->slot]);                \
                UNUSED(x);                                                                                          \
                for (int32_t i = span->b; i < span->e; i++) IF_COUNTED(i) sum += value * weight(f, ref, r->t[i]);   \
            } else if (span->level == PS_PREFIX) {                                                                  \
                NODES(double, node);                                                                                \
                if (node[0] != 0) sum += node[0] * weight(f, ref, ps_prefix_ref(f, *ps_prefix_t(s)));               \
            } else {                                                                                                \
                NODES(double, node);                                                                                \
                int32_t shift = PS_FAN_BITS * span->level;                                                          \
                for (int32_t i = span->b; i < span->e; i++)                                                         \
                    if (node[i] != 0) sum += node[i] * weight(f, ref, s->t[(((int64_t)i + 1) << shift) - 1]);       \
            }                                                                                                       \
        }                                                                                                           \
        acc->decay.sum = sum;                                                                                       \
    }

DECAY(decay_int, int64_t, (double)x[i])
DECAY(decay_float, double, x[i])
DECAY(decay_decimal, ps_i128, (double)x[i])
DECAY(decay_count, int64_t, 1.0)

/* ---- dispatch ---- */

#define BOTH(name)                                                                                                 \
    static void name##_all(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc) {  \
        name(s, f, spans, n, acc, 0);                                                                              \
    }                                                                                                              \
    static void name##_masked(const ps_series *s, const ps_field *f, const ps_span *spans, int32_t n, ps_acc *acc) { \
        name(s, f, spans, n, acc, 1);                                                                              \
    }
BOTH(sum_int)
BOTH(sum_float)
BOTH(sum_decimal)
BOTH(moments_int)
BOTH(moments_float)
BOTH(moments_decimal)
BOTH(min_int)
BOTH(min_float)
BOTH(min_decimal)
BOTH(max_int)
BOTH(max_float)
BOTH(max_decimal)
BOTH(decay_int)
BOTH(decay_float)
BOTH(decay_decimal)
BOTH(decay_count)

#define BY_KIND(name) {{name##_int_all, name##_float_all, name##_decimal_all}, {name##_int_masked, name##_float_masked, name##_decimal_masked}}
#define SAME(f) {{f, f, f}, {f, f, f}}

static const ps_fold FOLDS[PS_OPS][2][3] = {
    [PS_COUNT] = SAME(fold_count), [PS_SUM] = BY_KIND(sum),       [PS_MOMENTS] = BY_KIND(moments),
    [PS_MIN] = BY_KIND(min),       [PS_MAX] = BY_KIND(max),       [PS_FIRST] = SAME(fold_first),
    [PS_LAST] = SAME(fold_last),   [PS_DECAY] = BY_KIND(decay),
    [PS_DECAY_COUNT] = {{decay_count_all, decay_count_all, decay_count_all}, {decay_count_masked, decay_count_masked, decay_count_masked}},
};

ps_fold ps_fold_of(const ps_field *f) { return FOLDS[f->op][f->mask >= 0][f->kind]; }

#define I128_MAX ((ps_i128)(~(ps_u128)0 >> 1))

void ps_acc_init(const ps_field *f, int64_t ref, ps_acc *acc) {
    memset(acc, 0, sizeof *acc);
    int low = f->op == PS_MAX;
    switch (f->op) {
        case PS_MIN:
        case PS_MAX:
            if (f->kind == PS_INT) acc->i = low ? INT64_MIN : INT64_MAX;
            else if (f->kind == PS_FLOAT) acc->d = low ? -INFINITY : INFINITY;
            else acc->i128 = low ? -I128_MAX - 1 : I128_MAX;
            break;
        case PS_FIRST:
        case PS_LAST: acc->i = -1; break;
        case PS_DECAY:
        case PS_DECAY_COUNT: acc->decay.ref = ref; break;
        default: break;
    }
}

void ps_acc_store(const ps_series *s, const ps_field *f, int32_t level, int64_t at, const ps_acc *acc) {
    uint8_t *node = ps_node(s, f, level);
    double *numbers = (double *)(void *)node;
    int64_t m = s->m[level];
    switch (f->op) {
        case PS_COUNT: ((uint64_t *)(void *)node)[at] = (uint64_t)acc->i; break;
        case PS_FIRST:
        case PS_LAST: ((int32_t *)(void *)node)[at] = acc->i < 0 ? -1 : (int32_t)(acc->i / 2); break;
        case PS_DECAY:
        case PS_DECAY_COUNT: numbers[at] = acc->decay.sum; break;
        case PS_MOMENTS:
            numbers[at] = acc->moments.n, numbers[m + at] = acc->moments.mean, numbers[2 * m + at] = acc->moments.m2;
            break;
        case PS_SUM:
            if (f->kind == PS_FLOAT) numbers[at] = acc->sum.high, numbers[m + at] = acc->sum.low;
            else if (f->kind == PS_INT) ((ps_i128 *)(void *)node)[at] = acc->i128;
            else ((ps_wide *)(void *)node)[at] = acc->wide;
            break;
        default:
            if (f->kind == PS_DECIMAL) ((ps_i128 *)(void *)node)[at] = acc->i128;
            else if (f->kind == PS_FLOAT) numbers[at] = acc->d;
            else ((int64_t *)(void *)node)[at] = acc->i;
    }
}
