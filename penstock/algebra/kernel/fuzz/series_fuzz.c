/* Drives series, queries and programs with random changes and questions, against brute force; also the parser with
 * broken programs. Built with sanitizers by tests/algebra/test_fuzz.py:
 *     series_fuzz SEED SECONDS        own loop over random inputs; prints how many, exits 1 at the first difference
 * LLVMFuzzerTestOneInput is there for libFuzzer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../prefix.h"
#include "../query.h"

enum { MOST = 1500, SLOTS = 4, MASKS = 9, FIELDS = 12, WINDOWS = 5 };

typedef struct {
    int64_t t, kf, kt, ord;
    int64_t x, b;
    double y;
    ps_i128 d;
    uint8_t mask[2];
} row;

/* ---- entropy: the bytes of the input, then zeros ---- */

typedef struct {
    const uint8_t *data;
    size_t left;
} source;

static uint32_t take(source *in, uint32_t below) {
    uint32_t x = 0;
    for (int i = 0; i < 2 && in->left > 0; i++, in->left--) x = x << 8 | *in->data++;
    return below ? x % below : x;
}

static int64_t instant(source *in) { return (int64_t)take(in, 400) - 200; }

static int fail(const char *what) {
    fprintf(stderr, "difference: %s\n", what);
    return 1;
}

/* ---- a random program ---- */

typedef struct {
    int64_t code[512];
    int64_t n;
    int32_t n_fields, n_windows, n_outputs;
    int64_t field[2 * FIELDS][4], window[WINDOWS][6], output[64][10], keep[80][4];
    int32_t n_keeps;
} design;

static int32_t add_field(design *x, int64_t op, int64_t slot, int64_t mask, int64_t half_life) {
    int64_t *f = x->field[x->n_fields];
    f[0] = op, f[1] = slot, f[2] = mask, f[3] = half_life;
    return x->n_fields++;
}

static void add_output(design *x, int64_t op, int64_t a, int64_t b, int64_t slot, int64_t size, int64_t kind, int window) {
    int64_t made[10] = {op, window, a, b, b, b, slot, size, kind, 0};
    memcpy(x->output[x->n_outputs++], made, sizeof made);
}

static void design_outputs(design *x, int64_t op, int32_t a, int32_t count, int64_t slot, int window) {
    int64_t kind = slot < 3 ? slot : 0, size = kind == PS_DECIMAL ? 16 : 8;
    switch (op) {
        case PS_COUNT: add_output(x, PS_OUT_COUNT, a, -1, -1, 8, PS_INT, window); break;
        case PS_SUM: add_output(x, PS_OUT_SUM, a, count, -1, size, kind, window); break;
        case PS_MOMENTS: add_output(x, PS_OUT_STD, a, -1, -1, 8, PS_FLOAT, window); break;
        case PS_MIN:
        case PS_MAX: add_output(x, PS_OUT_VALUE, a, count, -1, size, kind, window); break;
        case PS_FIRST:
        case PS_LAST: add_output(x, PS_OUT_ROW, a, -1, slot, size, kind, window); break;
        default: add_output(x, PS_OUT_DECAY, a, count, -1, 8, PS_FLOAT, window);
    }
}

static void add_keep(design *x, int64_t op, int64_t slot, int64_t mask, int64_t n) {
    int64_t made[4] = {op, slot, mask, n};
    memcpy(x->keep[x->n_keeps++], made, sizeof made);
}

/* What an output over a lifetime reads as rows. */
static void design_keep(design *x, const int64_t *o) {
    if (x->window[o[1]][0] != PS_LIFETIME) return;
    if (o[0] == PS_OUT_DISTINCT) add_keep(x, PS_KEEP_DISTINCT, o[6], o[4], o[5] ? o[5] + 1 : 0);
    if (o[0] != PS_OUT_ROW) return;
    const int64_t *f = x->field[o[2]];
    add_keep(x, f[0] == PS_FIRST ? PS_KEEP_FIRST : PS_KEEP_LAST, -1, f[2], 1);
}

static void design_program(design *x, source *in) {
    memset(x, 0, sizeof *x);
    x->n_windows = 1 + (int32_t)take(in, WINDOWS);
    for (int32_t i = 0; i < x->n_windows; i++) {
        int64_t kind = take(in, 8);
        int64_t made[6] = {kind < 4 ? PS_TIME : kind < 6 ? PS_ROWS : kind < 7 ? PS_LIFETIME : PS_CALENDAR, 1 + take(in, 300),
                           take(in, 3) ? 0 : 1 + take(in, 60), take(in, 3) ? 0 : (int64_t)take(in, 20) - 5,
                           take(in, 3) ? PS_LEFT : (int64_t)take(in, 3), 1 + take(in, 90)};
        memcpy(x->window[i], made, sizeof made);
    }
    int fields = 1 + (int)take(in, FIELDS / 2);
    for (int i = 0; i < fields; i++) {
        int64_t op = take(in, PS_OPS), slot = take(in, 3), mask = (int64_t)take(in, MASKS + 1) - 1;
        int valued = op != PS_COUNT && op != PS_DECAY_COUNT && op != PS_FIRST && op != PS_LAST;
        int32_t count = mask < 0 ? PS_ALL : add_field(x, PS_COUNT, -1, mask, 0);
        int32_t a = op == PS_COUNT ? count : add_field(x, op, valued ? slot : -1, mask, 1 + take(in, 50));
        for (int32_t w = 0; w < x->n_windows; w++) design_outputs(x, op, a, count, slot, w);
    }
    for (int32_t w = 0; w < x->n_windows && take(in, 2); w++) {
        add_output(x, PS_OUT_DISTINCT, -1, -1, take(in, 3), 8, PS_INT, w);
        x->output[x->n_outputs - 1][4] = (int64_t)take(in, MASKS + 1) - 1;
        x->output[x->n_outputs - 1][5] = take(in, 2) ? 0 : take(in, 20);
    }
    for (int32_t w = 0; w < x->n_windows; w++)
        if (x->window[w][0] == PS_ROWS) add_keep(x, PS_KEEP_LAST, -1, -1, x->window[w][5]);
    for (int32_t k = 0; k < x->n_outputs; k++) design_keep(x, x->output[k]);
    int64_t header[10] = {PS_PROGRAM_MAGIC, 2, 1, SLOTS, MASKS, x->n_fields, x->n_windows, x->n_outputs, x->n_keeps, 1};
    int64_t slots[2 * SLOTS] = {PS_INT, 8, PS_FLOAT, 8, PS_DECIMAL, 16, PS_INT, 0};
    struct {
        const void *from;
        size_t words;
    } parts[6] = {{header, 10}, {slots, 2 * SLOTS}, {x->field, (size_t)x->n_fields * 4}, {x->window, (size_t)x->n_windows * 6},
                  {x->output, (size_t)x->n_outputs * 10}, {x->keep, (size_t)x->n_keeps * 4}};
    for (int i = 0; i < 6; i++) {
        memcpy(x->code + x->n, parts[i].from, parts[i].words * 8);
        x->n += (int64_t)parts[i].words;
    }
}

/* ---- brute force ---- */

typedef struct {
    row rows[MOST + 1]; /* in order; the last place is room for an external self row */
    row gone[MOST + 1]; /* folded, in order */
    int64_t n, n_gone;
    row self;
} model;

static int after(const row *x, const row *y) {
    if (x->t != y->t) return x->t > y->t;
    if (x->kf != y->kf) return x->kf > y->kf;
    return x->ord > y->ord;
}

typedef struct {
    const row *rows[MOST + 1];
    int64_t n;
} picked;

static int64_t floor_to(int64_t x, int64_t hop) { return hop ? x - ((x % hop) + hop) % hop : x; }

/* Rows that count; self is the place of the self row, -2 the external one, -1 none. */
static void pick(const model *m, const int64_t *w, int64_t q, int64_t a, int64_t self, int64_t calendar, picked *out) {
    int64_t end = q - w[3], left = w[0] == PS_TIME ? floor_to(end - w[1], w[2]) : w[0] == PS_CALENDAR ? calendar : INT64_MIN;
    int64_t right = end + (w[4] != PS_LEFT);
    if (w[4] == PS_RIGHT && left != INT64_MIN) left++;
    int external = self == -2 && w[3] == 0;
    int64_t g = 0;
    out->n = 0;
    for (int64_t i = 0; i <= m->n; i++) {
        for (; g < m->n_gone && (i == m->n || after(&m->rows[i], &m->gone[g])); g++) {
            if (external && after(&m->gone[g], &m->self)) out->rows[out->n++] = &m->self, external = 0;
            if (m->gone[g].t >= left && m->gone[g].t < right && m->gone[g].kf <= a) out->rows[out->n++] = &m->gone[g];
        }
        if (external && (i == m->n || after(&m->rows[i], &m->self))) out->rows[out->n++] = &m->self, external = 0;
        if (i == m->n) break;
        const row *r = &m->rows[i];
        if ((r->t >= left && r->t < right && r->kf <= a && a < r->kt) || (i == self && w[3] == 0)) out->rows[out->n++] = r;
    }
    if (w[0] == PS_ROWS && out->n > w[5]) {
        memmove(out->rows, out->rows + (out->n - w[5]), (size_t)w[5] * sizeof *out->rows);
        out->n = w[5];
    }
}

static double number(const row *r, int64_t slot) { return slot == 0 ? (double)r->x : slot == 1 ? r->y : (double)r->d; }

static int close_to(double found, double wanted, double scale) {
    double size = fabs(wanted) > scale ? fabs(wanted) : scale;
    return fabs(found - wanted) <= 1e-9 * size + 1e-300;
}

static const char *check_floats(const int64_t *f, const picked *p, int64_t op, int64_t ref, double found) {
    double n = 0, mean = 0, m2 = 0, sum = 0, scale = 0;
    for (int64_t i = 0; i < p->n; i++) {
        double x = op == PS_DECAY_COUNT ? 1 : number(p->rows[i], f[1]);
        double weight = op == PS_SUM || op == PS_MOMENTS ? 1 : exp2(-(double)(ref - p->rows[i]->t) / (double)f[3]);
        n += 1, sum += x * weight, scale += fabs(x * weight);
        m2 += (x - mean) * (x - mean) * (n - 1) / n, mean += (x - mean) / n;
    }
    if (op != PS_MOMENTS) return close_to(found, sum, scale) ? NULL : "a float sum";
    return close_to(found, sqrt(m2 / (n - 1)), scale / n + fabs(mean)) ? NULL : "a deviation";
}

static int better(int64_t op, const row *x, const row *y, int64_t slot) {
    int less = slot == 0 ? x->x < y->x : slot == 1 ? x->y < y->y : x->d < y->d;
    int same = slot == 0 ? x->x == y->x : slot == 1 ? x->y == y->y : x->d == y->d;
    return !same && (op == PS_MIN ? less : !less);
}

static int same_value(const row *r, int64_t slot, const uint8_t *value) {
    if (slot == 0) return memcmp(&r->x, value, 8) == 0;
    return slot == 1 ? memcmp(&r->y, value, 8) == 0 : memcmp(&r->d, value, 16) == 0;
}

static int same_row_value(const row *x, const row *y, int64_t slot) {
    return slot == 0 ? x->x == y->x : slot == 1 ? x->y == y->y : x->d == y->d;
}

static const char *check_distinct(const int64_t *o, const picked *p, int64_t found, int status) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t j = 0;
        while (j < i && !same_row_value(p->rows[j], p->rows[i], o[6])) j++;
        n += j == i;
    }
    if (o[5] && n > o[5]) return status == PS_LIMIT ? NULL : "more than the limit";
    return found == n && status == (n ? PS_OK : PS_ZERO) ? NULL : "different values";
}

/* NULL when output k of a record is right. */
static const char *check_output(const design *x, const model *m, int32_t k, const uint8_t *value, int status,
                                const int64_t *ask, int64_t calendar) {
    const int64_t *o = x->output[k], *w = x->window[o[1]];
    static const int64_t all_rows[4] = {PS_COUNT, -1, -1, 0};
    int64_t mask_only[4] = {PS_COUNT, -1, o[4], 0};
    const int64_t *f = o[0] == PS_OUT_DISTINCT ? mask_only : o[2] < 0 ? all_rows : x->field[o[2]];
    picked p;
    pick(m, w, ask[0], ask[1], ask[2], calendar, &p);
    int64_t kept = 0;
    for (int64_t i = 0; i < p.n; i++)
        if (f[2] < 0 || p.rows[i]->mask[f[2] / 8] >> (f[2] % 8) & 1) p.rows[kept++] = p.rows[i];
    p.n = kept;
    int64_t number_found;
    double float_found;
    memcpy(&number_found, value, 8), memcpy(&float_found, value, 8);
    if (o[0] == PS_OUT_DISTINCT) return check_distinct(o, &p, number_found, status);
    if (f[0] == PS_COUNT) return number_found == p.n ? NULL : "a count";
    if (!p.n) return status == PS_EMPTY || status == PS_ZERO ? NULL : "the status of nothing";
    if (f[0] == PS_FIRST || f[0] == PS_LAST)
        return same_value(p.rows[f[0] == PS_FIRST ? 0 : p.n - 1], o[6], value) ? NULL : "first or last";
    if (f[0] == PS_MIN || f[0] == PS_MAX) {
        const row *best = p.rows[0];
        for (int64_t i = 1; i < p.n; i++)
            if (better(f[0], p.rows[i], best, f[1])) best = p.rows[i];
        return same_value(best, f[1], value) ? NULL : "an extreme";
    }
    if (f[0] == PS_SUM && f[1] != PS_FLOAT) {
        ps_i128 sum = 0, found = number_found;
        for (int64_t i = 0; i < p.n; i++) sum += f[1] == 0 ? (ps_i128)p.rows[i]->x : p.rows[i]->d;
        if (f[1] == 2) memcpy(&found, value, 16);
        return status == PS_OK && found == sum ? NULL : "an exact sum";
    }
    if (f[0] == PS_MOMENTS && p.n < 2) return status == PS_UNDEFINED ? NULL : "the deviation of one value";
    if (status == PS_OVERFLOW && f[0] >= PS_DECAY) return NULL; /* rows far after the query weigh 2^(many half lives) */
    return status == PS_OK ? check_floats(f, &p, f[0], ask[0] - w[3], float_found) : "a status";
}

/* ---- the series under test beside the model ---- */

typedef struct {
    const ps_program *p;
    ps_series *s;
    uint8_t *block, *scratch_nodes;
    size_t scratch_bytes;
    ps_scratch *w;
    model *m;
    int64_t arrived;
    int64_t retired, fold_t, fold_rank;
} world;

static row random_row(world *x, source *in, int with_kt) {
    row r;
    memset(&r, 0, sizeof r);
    r.t = take(in, 3) && x->m->n ? x->m->rows[x->m->n - 1].t + take(in, 3) : instant(in);
    r.kf = r.t + (take(in, 4) ? 0 : (int64_t)take(in, 60) - 10);
    r.kt = with_kt && !take(in, 3) ? r.kf + 1 + take(in, 60) : PS_NEVER;
    r.ord = x->arrived++;
    r.x = take(in, 5) ? (int64_t)take(in, 100) - 50 : (int64_t)take(in, 0) << 40;
    r.y = (double)take(in, 1000) / 7;
    r.d = ((ps_i128)take(in, 0) << 80) - (ps_i128)take(in, 100);
    r.mask[0] = (uint8_t)take(in, 256), r.mask[1] = (uint8_t)take(in, 2);
    return r;
}

/* A view of one row. */
static void view_of(const row *r, const ps_program *p, ps_series *view) {
    memset(view, 0, sizeof *view);
    view->p = p, view->n = view->cap = 1;
    view->t = (int64_t *)(uintptr_t)&r->t, view->kf = (int64_t *)(uintptr_t)&r->kf;
    view->kt = (int64_t *)(uintptr_t)&r->kt, view->ord = (int64_t *)(uintptr_t)&r->ord;
    view->slot[0] = (uint8_t *)(uintptr_t)&r->x, view->slot[1] = (uint8_t *)(uintptr_t)&r->y;
    view->slot[2] = (uint8_t *)(uintptr_t)&r->d, view->mask = (uint8_t *)(uintptr_t)r->mask;
}

static void insert_row(row *rows, int64_t *n, const row *r) {
    int64_t at = *n;
    while (at > 0 && after(&rows[at - 1], r)) at--;
    memmove(rows + at + 1, rows + at, (size_t)(*n - at) * sizeof *rows);
    rows[at] = *r, ++*n;
}

static void model_insert(model *m, const row *r) { insert_row(m->rows, &m->n, r); }

static int is_full(const model *m) { return m->n + m->n_gone >= MOST; }

/* Moves the series to a block of another capacity, less the marked rows. */
static int move_marked(world *x, int64_t cap, int32_t flags, const uint8_t *marks, int64_t n_marks) {
    ps_state state;
    if (x->s && x->s->prefixed) flags |= PS_HAS_PREFIX;
    ps_state_init(&state, cap, flags);
    state.retired = x->retired;
    uint8_t *block = aligned_alloc(64, (ps_block_bytes(x->p, cap, flags) + 63) / 64 * 64 + 64);
    ps_series *s = calloc(1, sizeof *s);
    ps_block_bind(s, x->p, block, &state);
    if (x->s && ps_series_copy(x->s, s, marks, n_marks) != 0) return fail("copy");
    if (x->s && s->prefixed) ps_prefix_fold(x->s, s, marks, n_marks);
    int64_t kept = 0;
    for (int64_t i = 0; i < x->m->n; i++) {
        row r = x->m->rows[i];
        if (i < n_marks && marks[i] == PS_FOLDS) insert_row(x->m->gone, &x->m->n_gone, &r);
        else if (r.kt > x->retired) x->m->rows[kept++] = r;
    }
    x->m->n = kept;
    free(x->s), free(x->block);
    x->s = s, x->block = block;
    ps_scratch_reset(x->w);
    return s->n == kept ? 0 : fail("rows of a copy");
}

static int move_block(world *x, int64_t cap, int32_t flags) { return move_marked(x, cap, flags, NULL, 0); }

/* Folds what a horizon allows, which never goes back. */
static int fold(world *x, source *in) {
    uint8_t marks[MOST + 1];
    int64_t t = instant(in), rank = instant(in), n;
    ps_horizon h = {INT64_MIN, x->retired, t > x->fold_t ? t : x->fold_t, rank > x->fold_rank ? rank : x->fold_rank};
    int64_t leaving = ps_prefix_marks(x->s, &h, marks, &n);
    if (leaving < 0) return fail("marks");
    x->fold_t = h.fold_t, x->fold_rank = h.fold_rank;
    int32_t flags = (x->s->kt ? PS_HAS_KT : 0) | PS_HAS_ORD | PS_HAS_PREFIX;
    return move_marked(x, x->m->n - leaving + 1 + take(in, 50), flags, marks, n);
}

/* Appends many rows at once, made from a few bytes of the input. */
static int extend(world *x, source *in) {
    enum { N = 400 };
    static int64_t t[N], kf[N], kt[N], ord[N], ints[N];
    static double floats[N];
    static ps_i128 decimals[N];
    static uint8_t masks[2 * N], noise[40 * N];
    uint32_t seed = take(in, 0), n = 1 + take(in, N);
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    source more = {noise, sizeof noise};
    ps_series view = {.p = x->p, .t = t, .kf = kf, .kt = kt, .ord = ord, .mask = masks};
    view.slot[0] = (uint8_t *)ints, view.slot[1] = (uint8_t *)floats, view.slot[2] = (uint8_t *)decimals;
    for (uint32_t i = 0; i < n && !is_full(x->m); i++) {
        row r = random_row(x, &more, x->s->kt != NULL);
        const row *last = x->m->n ? &x->m->rows[x->m->n - 1] : &r;
        r.t = last->t + take(&more, 2);
        r.kf = r.t == last->t && r.kf < last->kf ? last->kf : r.kf;
        r.kt = r.kt <= r.kf || r.kt <= x->retired ? PS_NEVER : r.kt;
        model_insert(x->m, &r);
        t[i] = r.t, kf[i] = r.kf, kt[i] = r.kt, ord[i] = r.ord, ints[i] = r.x, floats[i] = r.y, decimals[i] = r.d;
        memcpy(masks + 2 * i, r.mask, 2);
        view.n = view.cap = i + 1;
    }
    if (x->s->n + view.n > x->s->cap) {
        int64_t n_model = x->m->n;
        x->m->n -= view.n; /* the block moves without the new rows */
        if (move_block(x, x->s->n + view.n + 10, (x->s->kt ? PS_HAS_KT : 0) | PS_HAS_ORD)) return 1;
        memmove(x->m->rows + x->m->n, x->m->rows + n_model - view.n, (size_t)view.n * sizeof(row));
        x->m->n += view.n;
    }
    return ps_series_extend(x->s, &view, 0, view.n) == view.n ? 0 : fail("extend");
}

static int change(world *x, source *in) {
    ps_series view;
    uint32_t what = take(in, 18);
    if (what == 17) return fold(x, in);
    if (what >= 15) return extend(x, in);
    if (what < 9) { /* insert a few */
        for (uint32_t n = 1 + take(in, 24); n > 0 && !is_full(x->m); n--) {
            row r = random_row(x, in, x->s->kt != NULL);
            if (r.kt <= x->retired) continue;
            view_of(&r, x->p, &view);
            if (x->s->n == x->s->cap && move_block(x, x->s->cap * 2, (x->s->kt ? PS_HAS_KT : 0) | PS_HAS_ORD)) return 1;
            if (ps_series_insert(x->s, &view, 0) < 0) return fail("insert");
            model_insert(x->m, &r);
        }
    } else if (what < 11 && x->s->kt && x->m->n) { /* supersede */
        int64_t i = take(in, (uint32_t)x->m->n), kt = x->m->rows[i].kf + 1 + take(in, 80);
        if (kt > x->retired && x->m->rows[i].kt > x->retired && x->m->rows[i].kf > x->fold_rank) {
            x->m->rows[i].kt = kt;
            if (ps_series_supersede(x->s, x->s->head + i, kt) != 0) return fail("supersede");
        }
    } else if (what < 12 && x->m->n && x->fold_t == INT64_MIN) { /* drop from the left */
        int64_t t = x->m->rows[take(in, (uint32_t)x->m->n) / 2].t, n = 0;
        while (n < x->m->n && x->m->rows[n].t < t) n++;
        memmove(x->m->rows, x->m->rows + n, (size_t)(x->m->n - n) * sizeof *x->m->rows);
        x->m->n -= n;
        if (ps_series_drop(x->s, t) != n) return fail("drop");
    } else if (what < 13) {
        return move_block(x, x->m->n + 1 + take(in, 100), (x->s->kt || take(in, 2) ? PS_HAS_KT : 0) | PS_HAS_ORD);
    } else if (what < 14 && x->s->kt) { /* retire */
        int64_t a = x->retired > -300 ? x->retired + take(in, 40) : -250, rows[2 * MOST], n = 0;
        for (int64_t i = x->s->head; i < x->s->n; i++)
            if (x->s->kt[i] > x->retired && x->s->kt[i] <= a) rows[n++] = i;
        ps_series_retire(x->s, rows, n, a);
        x->retired = a > x->retired ? a : x->retired;
    }
    return 0;
}

/* Whether a window may be asked about although rows were folded. */
static int is_allowed(const world *x, const int64_t *w, int64_t q, int64_t calendar) {
    int64_t end = q - w[3], left = w[0] == PS_TIME ? floor_to(end - w[1], w[2]) : calendar;
    return x->fold_t == INT64_MIN || (w[0] == PS_TIME || w[0] == PS_CALENDAR ? left : end) >= x->fold_t;
}

static int ask(world *x, const design *d, source *in) {
    enum { N = 9 };
    int64_t q[N], a[N], self[N], calendar[WINDOWS * N];
    uint8_t records[N * 2048];
    ps_series external;
    x->m->self = random_row(x, in, 0);
    view_of(&x->m->self, x->p, &external);
    x->s->external = &external;
    if (take(in, 2)) ps_scratch_reset_fixed(x->w);
    else ps_scratch_reset(x->w);
    for (int i = 0; i < N; i++) {
        q[i] = instant(in), a[i] = take(in, 2) ? q[i] : instant(in);
        a[i] = a[i] < x->retired ? x->retired : a[i];
        a[i] = a[i] < x->fold_rank ? x->fold_rank : a[i];
        self[i] = take(in, 2) || !x->m->n ? -(int64_t)take(in, 2) - 1 : x->s->head + take(in, (uint32_t)x->m->n);
        for (int w = 0; w < WINDOWS; w++) calendar[w * N + i] = q[i] - take(in, 90);
    }
    ps_queries queries = {N, q, a, self, calendar, N};
    if (x->p->record_bytes > 2048) return 0;
    if (ps_query_block(x->w, x->s, &queries, 0, N, records) != 0) return fail("a query");
    for (int i = 0; i < N; i++) {
        int64_t asked[3] = {q[i], a[i], self[i] >= 0 ? self[i] - x->s->head : self[i]};
        for (int32_t k = 0; k < x->p->n_outputs; k++) {
            int32_t cut = x->p->windows[x->p->outputs[k].window].calendar;
            if (!is_allowed(x, d->window[x->p->outputs[k].window], q[i], cut < 0 ? 0 : calendar[cut * N + i])) continue;
            const uint8_t *record = records + (size_t)i * x->p->record_bytes;
            int32_t place = x->p->windows[x->p->outputs[k].window].calendar;
            const char *wrong = check_output(d, x->m, k, record + x->p->outputs[k].offset, record[x->p->stat_offset + (size_t)k],
                                             asked, place < 0 ? 0 : calendar[place * N + i]);
            if (wrong) return fail(wrong);
        }
        int32_t window = (int32_t)take(in, (uint32_t)x->p->n_windows), place = x->p->windows[window].calendar;
        if (!is_allowed(x, d->window[window], q[i], place < 0 ? 0 : calendar[place * N + i])) continue;
        if (x->m->n_gone && d->window[window][0] == PS_LIFETIME) continue; /* its rows are not all there */
        int64_t limit = take(in, 2) ? -1 : (int64_t)take(in, 30);
        picked p;
        pick(x->m, d->window[window], asked[0], asked[1], asked[2], place < 0 ? 0 : calendar[place * N + i], &p);
        int32_t mask = (int32_t)take(in, MASKS + 1) - 1;
        int64_t kept = 0;
        for (int64_t j = 0; j < p.n; j++)
            if (mask < 0 || p.rows[j]->mask[mask / 8] >> (mask % 8) & 1) p.rows[kept++] = p.rows[j];
        p.n = kept;
        const int32_t *rows;
        int64_t n = ps_query_rows_where(x->w, x->s, &queries, i, window, mask, limit, &rows), skipped = limit >= 0 && p.n > limit ? p.n - limit : 0;
        if (n != p.n - skipped) return fail("how many rows");
        for (int64_t j = 0; j < n; j++) {
            const row *r = p.rows[skipped + j];
            if (r == &x->m->self ? rows[j] != x->s->n : rows[j] != x->s->head + (r - x->m->rows)) return fail("a row");
        }
    }
    x->s->external = NULL;
    return 0;
}

static int run_series(source *in) {
    design *d = malloc(sizeof *d);
    design_program(d, in);
    world x = {.p = ps_program_new(d->code, d->n), .m = calloc(1, sizeof(model)), .retired = INT64_MIN, .fold_t = INT64_MIN, .fold_rank = INT64_MIN};
    int wrong = x.p ? 0 : fail("a sound program was refused");
    if (x.p) {
        x.w = ps_scratch_new(x.p);
        x.scratch_bytes = ps_nodes_bytes(x.p, 4 * MOST, 1);
        x.scratch_nodes = aligned_alloc(64, (x.scratch_bytes + 63) / 64 * 64 + 64);
        wrong = move_block(&x, 20, (take(in, 2) ? PS_HAS_KT : 0) | PS_HAS_ORD);
        while (!wrong && in->left > 0) {
            wrong = change(&x, in);
            if (!wrong && !take(in, 3)) wrong = ask(&x, d, in);
            if (!wrong && !ps_series_check(x.s, x.scratch_nodes, x.scratch_bytes)) wrong = fail("the tree");
        }
    }
    ps_scratch_free(x.w);
    free(x.s), free(x.block), free(x.m), free(x.scratch_nodes), free(d);
    ps_program_free((ps_program *)(uintptr_t)x.p);
    return wrong;
}

/* A program with some words changed parses or is refused, without harm. */
static void run_parser(source *in) {
    design *d = malloc(sizeof *d);
    design_program(d, in);
    for (uint32_t n = take(in, 6); n > 0; n--) {
        int64_t value = (int64_t)take(in, 40) - 3;
        d->code[take(in, (uint32_t)d->n)] = take(in, 4) ? value : value * ((int64_t)1 << 40);
    }
    int64_t length = take(in, 4) ? d->n : (int64_t)take(in, (uint32_t)d->n);
    ps_program_free(ps_program_new(d->code, length));
    free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    source in = {data, size};
    if (take(&in, 8) == 0) run_parser(&in);
    else if (run_series(&in)) abort();
    return 0;
}

#ifndef PENSTOCK_LIBFUZZER
static uint64_t state;

static uint64_t next(void) { /* splitmix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    uint64_t seed = strtoull(argv[1], NULL, 10);
    double seconds = strtod(argv[2], NULL);
    clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    long runs = 0;
    for (; clock() < end; runs++) {
        uint8_t data[6000];
        state = seed + (uint64_t)runs * 1000003;
        size_t size = 50 + next() % (sizeof data - 50);
        for (size_t i = 0; i < size; i++) data[i] = (uint8_t)next();
        source in = {data, size};
        if (take(&in, 8) == 0) run_parser(&in);
        else if (run_series(&in)) {
            fprintf(stderr, "seed %llu, run %ld\n", (unsigned long long)seed, runs);
            return 1;
        }
    }
    printf("%ld inputs\n", runs);
    return 0;
}
#endif
