/* Building and changing a series. Only whole nodes exist: level l has n >> 4l of them. */
#include "series.h"

#include <string.h>

#include "fold.h"

static size_t align16(size_t x) { return (x + 15) & ~(size_t)15; }

/* ---- memory ---- */

static size_t shape(const ps_program *p, int64_t cap, int32_t flags, int64_t *m, size_t *off, int32_t *levels) {
    size_t bounds = flags & PS_HAS_KT ? 32 : 16, bytes = 0;
    *levels = 0;
    m[0] = cap, off[0] = 0;
    for (int32_t l = 1; l <= PS_LEVELS && (cap >> (PS_FAN_BITS * l)) > 0; l++) {
        m[l] = cap >> (PS_FAN_BITS * l);
        off[l] = bytes;
        bytes += align16((bounds + p->node_bytes) * (size_t)m[l]);
        *levels = l;
    }
    m[PS_PREFIX] = (flags & PS_HAS_PREFIX) != 0, off[PS_PREFIX] = bytes;
    return bytes + (flags & PS_HAS_PREFIX ? align16(bounds + p->node_bytes) : 0);
}

size_t ps_nodes_bytes(const ps_program *p, int64_t cap, int32_t flags) {
    int64_t m[PS_LEVELS + 2];
    size_t off[PS_LEVELS + 2];
    int32_t levels;
    return shape(p, cap, flags, m, off, &levels);
}

void ps_series_shape(ps_series *s, const ps_program *p, int64_t cap) {
    s->p = p, s->cap = cap;
    s->bounds = s->kt ? 32 : 16;
    shape(p, cap, (s->kt ? PS_HAS_KT : 0) | (s->prefixed ? PS_HAS_PREFIX : 0), s->m, s->off, &s->levels);
}

/* Column c of a block: 16-byte slots first, then 8-byte columns, the tree, and the mask bytes last. */
static size_t lay_columns(ps_series *s, const ps_program *p, uint8_t *memory, int64_t cap, int32_t flags) {
    size_t at = 0, rows = (size_t)cap;
    for (int32_t unit = 16; unit >= 8; unit /= 2)
        for (int32_t i = 0; i < p->n_slots; i++) {
            if (p->slots[i].size != unit) continue;
            if (s) s->slot[i] = memory + at;
            at += rows * (size_t)unit;
        }
    for (int c = 0; c < 4; c++) {
        int present = c < 2 || (c == 2 && (flags & PS_HAS_KT)) || (c == 3 && (flags & PS_HAS_ORD));
        int64_t *column = present && s ? (int64_t *)(void *)(memory + at) : NULL;
        if (s) *(c == 0 ? &s->t : c == 1 ? &s->kf : c == 2 ? &s->kt : &s->ord) = column;
        if (present) at += rows * 8;
    }
    at = align16(at);
    if (s) s->nodes = memory + at;
    at += ps_nodes_bytes(p, cap, flags);
    if (s) s->mask = p->mask_bytes ? memory + at : NULL;
    return align16(at + rows * (size_t)p->mask_bytes);
}

size_t ps_block_bytes(const ps_program *p, int64_t cap, int32_t flags) { return lay_columns(NULL, p, NULL, cap, flags); }

void ps_block_bind(ps_series *s, const ps_program *p, uint8_t *memory, const ps_state *state) {
    memset(s, 0, offsetof(ps_series, slot));
    for (int32_t i = 0; i < p->n_slots; i++) s->slot[i] = NULL;
    s->prefixed = (state->flags & PS_HAS_PREFIX) != 0;
    lay_columns(s, p, memory, state->cap, state->flags);
    ps_series_shape(s, p, state->cap);
    s->head = state->head, s->n = state->n, s->late = state->late, s->min_kt = state->min_kt, s->retired = state->retired;
    s->external = NULL;
}

void ps_block_state(const ps_series *s, ps_state *state) {
    *state = (ps_state){s->head, s->n, s->cap, s->late, s->min_kt, s->retired,
                        (s->kt ? PS_HAS_KT : 0) | (s->ord ? PS_HAS_ORD : 0) | (s->prefixed ? PS_HAS_PREFIX : 0)};
}

void ps_state_init(ps_state *state, int64_t cap, int32_t flags) {
    *state = (ps_state){0, 0, cap, INT64_MIN, PS_NEVER, INT64_MIN, flags};
}

/* ---- the tree ---- */

static int64_t minus(int64_t x, int64_t y) {
    int64_t out;
    return __builtin_sub_overflow(x, y, &out) ? (y > 0 ? INT64_MIN : INT64_MAX) : out;
}

static int is_retired(const ps_series *s, int64_t i) { return s->kt && s->kt[i] <= s->retired; }

/* The spans of the children of a node that count: all of them, but for retired rows. */
static int32_t children(const ps_series *s, int32_t level, int32_t node, ps_span *spans) {
    int32_t b = node << PS_FAN_BITS, e = b + PS_FAN, n = 0;
    if (level > 1 || !s->kt || s->min_kt > s->retired) {
        spans[0] = (ps_span){level - 1, b, e};
        return 1;
    }
    for (int32_t i = b; i < e; i++) {
        if (is_retired(s, i)) continue;
        if (n && spans[n - 1].e == i) spans[n - 1].e++;
        else spans[n++] = (ps_span){0, i, i + 1};
    }
    return n;
}

static void build_bounds(const ps_series *s, int32_t level, int32_t node) {
    const int64_t *low = level == 1 ? s->kf : ps_min_kf(s, level - 1), *high = level == 1 ? s->kf : ps_max_kf(s, level - 1);
    int32_t b = node << PS_FAN_BITS, e = b + PS_FAN;
    int64_t min_kf = low[b], max_kf = high[b];
    for (int32_t i = b + 1; i < e; i++) {
        min_kf = low[i] < min_kf ? low[i] : min_kf;
        max_kf = high[i] > max_kf ? high[i] : max_kf;
    }
    ps_min_kf(s, level)[node] = min_kf;
    ps_max_kf(s, level)[node] = max_kf;
    if (!s->kt) return;
    int64_t min_kt = PS_NEVER, alive = 0;
    for (int32_t i = b; i < e; i++) {
        int64_t kt = level == 1 ? s->kt[i] : ps_node_kt(s, level - 1)[i];
        if (level == 1 && kt <= s->retired) continue;
        min_kt = kt < min_kt ? kt : min_kt;
        alive += level == 1 ? 1 : ps_alive(s, level - 1)[i];
    }
    ps_node_kt(s, level)[node] = min_kt;
    ps_alive(s, level)[node] = alive;
}

/* Nodes [from, to) of one level. */
static void build_level(const ps_series *s, int32_t level, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; j++) build_bounds(s, level, (int32_t)j);
    for (int32_t k = 0; k < s->p->n_fields; k++) {
        const ps_field *f = &s->p->fields[k];
        ps_fold fold = ps_fold_of(f);
        ps_span spans[PS_FAN];
        ps_acc empty, acc;
        ps_acc_init(f, 0, &empty);
        for (int64_t j = from; j < to; j++) {
            acc = empty;
            if (f->op == PS_DECAY || f->op == PS_DECAY_COUNT) acc.decay.ref = s->t[((j + 1) << (PS_FAN_BITS * level)) - 1];
            fold(s, f, spans, children(s, level, (int32_t)j, spans), &acc);
            ps_acc_store(s, f, level, j, &acc);
        }
    }
}

static void build_nodes(const ps_series *s, int64_t from, int64_t to) {
    for (int32_t l = 1; l <= s->levels; l++) {
        int64_t first = from >> (PS_FAN_BITS * l), end = to >> (PS_FAN_BITS * l);
        if (first < end) build_level(s, l, first, end);
    }
}

static void widen(ps_series *s, int64_t from) {
    for (int64_t i = from; i < s->n; i++) {
        int64_t late = minus(s->kf[i], s->t[i]);
        s->late = late > s->late ? late : s->late;
    }
    if (s->kt)
        for (int64_t i = from; i < s->n; i++)
            if (s->kt[i] > s->retired && s->kt[i] < s->min_kt) s->min_kt = s->kt[i];
}

void ps_series_build(ps_series *s, int64_t from) {
    widen(s, from);
    build_nodes(s, from, s->n);
}

/* ---- places ---- */

int64_t ps_series_lower(const ps_series *s, int64_t x) {
    int64_t low = s->head, high = s->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (s->t[middle] < x) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Whether row i comes after (t, kf, ord). */
static int is_after(const ps_series *s, int64_t i, int64_t t, int64_t kf, int64_t ord) {
    if (s->t[i] != t) return s->t[i] > t;
    if (s->kf[i] != kf) return s->kf[i] > kf;
    return s->ord ? s->ord[i] > ord : 0;
}

int64_t ps_series_place(const ps_series *s, int64_t t, int64_t kf, int64_t ord) {
    int64_t low = s->head, high = s->n;
    if (low == high || !is_after(s, high - 1, t, kf, ord)) return high;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (is_after(s, middle, t, kf, ord)) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* ---- changes ---- */

/* Moves `count` rows of every column from row `from` of `source` to row `to` of s. */
static void move_rows(ps_series *s, int64_t to, const ps_series *source, int64_t from, int64_t count) {
    size_t rows = (size_t)count, mask_bytes = (size_t)s->p->mask_bytes;
    memmove(s->t + to, source->t + from, rows * 8);
    memmove(s->kf + to, source->kf + from, rows * 8);
    for (int64_t i = 0; s->kt && !source->kt && i < count; i++) s->kt[to + i] = PS_NEVER;
    if (s->kt && source->kt) memmove(s->kt + to, source->kt + from, rows * 8);
    if (s->ord && !source->ord) memset(s->ord + to, 0, rows * 8);
    if (s->ord && source->ord) memmove(s->ord + to, source->ord + from, rows * 8);
    for (int32_t i = 0; i < s->p->n_slots; i++) {
        size_t size = (size_t)s->p->slots[i].size;
        if (size) memmove(s->slot[i] + (size_t)to * size, source->slot[i] + (size_t)from * size, rows * size);
    }
    if (mask_bytes) memmove(s->mask + (size_t)to * mask_bytes, source->mask + (size_t)from * mask_bytes, rows * mask_bytes);
}

int64_t ps_series_insert(ps_series *s, const ps_series *rows, int64_t i) {
    if (s->n == s->cap) return -1;
    if (!s->kt && rows->kt && rows->kt[i] != PS_NEVER) return -2;
    int64_t at = ps_series_place(s, rows->t[i], rows->kf[i], rows->ord ? rows->ord[i] : 0);
    if (at < s->n) move_rows(s, at + 1, s, at, s->n - at);
    move_rows(s, at, rows, i, 1);
    s->n++;
    int64_t late = minus(s->kf[at], s->t[at]);
    s->late = late > s->late ? late : s->late;
    if (s->kt && s->kt[at] > s->retired && s->kt[at] < s->min_kt) s->min_kt = s->kt[at];
    build_nodes(s, at, s->n);
    return at;
}

int64_t ps_series_extend(ps_series *s, const ps_series *rows, int64_t i, int64_t j) {
    int64_t count = j - i < s->cap - s->n ? j - i : s->cap - s->n, from = s->n;
    if (count <= 0) return 0;
    move_rows(s, from, rows, i, count);
    s->n += count;
    ps_series_build(s, from);
    return count;
}

/* Recomputes the nodes above row i. */
static void touch(const ps_series *s, int64_t i) {
    for (int32_t l = 1; l <= s->levels; l++) {
        int64_t node = i >> (PS_FAN_BITS * l);
        if (node >= s->n >> (PS_FAN_BITS * l)) break;
        build_level(s, l, node, node + 1);
    }
}

int ps_series_supersede(ps_series *s, int64_t i, int64_t kt) {
    if (!s->kt) return -2;
    s->kt[i] = kt;
    if (kt > s->retired && kt < s->min_kt) s->min_kt = kt;
    touch(s, i);
    return 0;
}

int64_t ps_series_drop(ps_series *s, int64_t t_min) {
    int64_t head = ps_series_lower(s, t_min), dropped = head - s->head;
    s->head = head;
    return dropped;
}

int ps_series_copy(const ps_series *from, ps_series *to, const uint8_t *marks, int64_t n_marks) {
    int64_t marked = from->head + n_marks;
    for (int64_t i = from->head; i < from->n;) {
        int64_t j = i;
        while (j < from->n && !(from->kt && from->kt[j] <= to->retired) && !(j < marked && marks[j - from->head])) j++;
        if (j - i > to->cap - to->n) return -1;
        if (j > i) move_rows(to, to->n, from, i, j - i);
        to->n += j - i;
        i = j > i ? j : i + 1;
    }
    ps_series_build(to, 0);
    return 0;
}

void ps_series_retire(ps_series *s, const int64_t *rows, int64_t n_rows, int64_t a) {
    if (!s->kt || a <= s->retired) return;
    s->retired = a;
    for (int64_t i = 0; i < n_rows; i++)
        if (s->kt[rows[i]] <= a) touch(s, rows[i]);
}

/* ---- check ---- */

int ps_series_check(const ps_series *s, uint8_t *scratch, size_t scratch_bytes) {
    for (int64_t i = s->head + 1; i < s->n; i++)
        if (is_after(s, i - 1, s->t[i], s->kf[i], s->ord ? s->ord[i] : 0)) return 0;
    for (int64_t i = s->head; i < s->n; i++) {
        if (minus(s->kf[i], s->t[i]) > s->late) return 0;
        if (s->kt && s->kt[i] > s->retired && s->kt[i] < s->min_kt) return 0;
    }
    size_t bytes = ps_nodes_bytes(s->p, s->cap, (s->kt ? PS_HAS_KT : 0) | (s->prefixed ? PS_HAS_PREFIX : 0));
    if (bytes > scratch_bytes) return 0;
    ps_series fresh = *s;
    fresh.nodes = scratch;
    memcpy(scratch, s->nodes, bytes);
    widen(&fresh, s->head);
    for (int32_t l = 1; l <= s->levels; l++) { /* nodes that hold a forgotten row are never read */
        int32_t shift = PS_FAN_BITS * l;
        build_level(&fresh, l, (s->head + ((int64_t)1 << shift) - 1) >> shift, s->n >> shift);
    }
    return memcmp(scratch, s->nodes, bytes) == 0;
}
