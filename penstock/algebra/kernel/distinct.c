/* Over rows that stay, each value has a small id and each output a sliding count per id; what is hidden from a query is
 * taken off again. Over rows that may change, a hash set per window. */
#include "distinct.h"

#include <stdlib.h>
#include <string.h>

#include "fold.h"

/* Ids of the values of one (slot, mask): -1 where the mask leaves a row out. */
typedef struct {
    int32_t slot, mask;
    int built;
    int32_t *ids;
    int64_t cap;
    int64_t n_ids;
} column;

typedef struct {
    int32_t column;
    int32_t *counts, *hidden; /* per id */
    int64_t cap;
    int64_t low, high, found;
    int ready;
} tracker;

struct ps_distinct {
    const ps_program *p;
    int fixed;
    int32_t n_columns;
    column *columns;
    tracker *trackers; /* per output */
    int32_t *table;    /* of ids or rows, by hash; 0 is free */
    int64_t table_cap;
    int64_t *rows; /* hidden ones of one query */
    int64_t n_rows, rows_cap;
};

ps_distinct *ps_distinct_new(const ps_program *p) {
    ps_distinct *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->p = p;
    d->columns = calloc((size_t)p->n_outputs + 1, sizeof *d->columns);
    d->trackers = calloc((size_t)p->n_outputs + 1, sizeof *d->trackers);
    if (!d->columns || !d->trackers) {
        ps_distinct_free(d);
        return NULL;
    }
    for (int32_t i = 0; i < p->n_outputs; i++) {
        const ps_output *o = &p->outputs[i];
        if (o->op != PS_OUT_DISTINCT) continue;
        int32_t c = 0;
        while (c < d->n_columns && (d->columns[c].slot != o->slot || d->columns[c].mask != o->c)) c++;
        if (c == d->n_columns) d->columns[d->n_columns++] = (column){.slot = o->slot, .mask = o->c};
        d->trackers[i].column = c;
    }
    return d;
}

void ps_distinct_free(ps_distinct *d) {
    if (!d) return;
    for (int32_t i = 0; d->columns && i < d->n_columns; i++) free(d->columns[i].ids);
    for (int32_t i = 0; d->trackers && i < d->p->n_outputs; i++) free(d->trackers[i].counts), free(d->trackers[i].hidden);
    free(d->columns), free(d->trackers), free(d->table), free(d->rows);
    free(d);
}

void ps_distinct_reset(ps_distinct *d, int fixed) {
    d->fixed = fixed;
    for (int32_t i = 0; i < d->n_columns; i++) d->columns[i].built = 0;
    for (int32_t i = 0; i < d->p->n_outputs; i++) d->trackers[i].ready = 0;
}

/* ---- values ---- */

typedef struct {
    uint64_t low, high;
} value;

static inline value value_at(const ps_series *s, int32_t slot, int64_t row) {
    value v = {0, 0};
    if (s->p->slots[slot].size == 16) memcpy(&v, s->slot[slot] + row * 16, 16);
    else memcpy(&v.low, s->slot[slot] + row * 8, 8);
    return v;
}

static inline uint64_t hash_of(value v) {
    uint64_t x = (v.low ^ (v.high * 0xC2B2AE3D27D4EB4Fu)) * 0x9E3779B185EBCA87u;
    return x ^ x >> 29;
}

static int counts_row(const ps_series *s, const column *c, int64_t row) { return c->mask < 0 || ps_bit(s, row, c->mask); }

/* A cleared table of at least 2n places; the number of places less 1, or 0 when memory is short. */
static uint64_t clear_table(ps_distinct *d, int64_t n) {
    int64_t places = 64;
    while (places < 2 * n) places *= 2;
    if (places > d->table_cap) {
        free(d->table);
        d->table = malloc((size_t)places * sizeof *d->table);
        d->table_cap = d->table ? places : 0;
        if (!d->table) return 0;
    }
    memset(d->table, 0, (size_t)places * sizeof *d->table);
    return (uint64_t)places - 1;
}

/* ---- ids ---- */

/* Ids are value - least where the values lie close together. */
static int build_direct(const ps_series *s, column *c) {
    if (s->p->slots[c->slot].size != 8) return 0;
    const int64_t *x = (const int64_t *)(const void *)s->slot[c->slot];
    int64_t least = INT64_MAX, most = INT64_MIN;
    for (int64_t i = s->head; i < s->n; i++) {
        if (!counts_row(s, c, i)) continue;
        least = x[i] < least ? x[i] : least, most = x[i] > most ? x[i] : most;
    }
    uint64_t range = least <= most ? (uint64_t)most - (uint64_t)least : 0;
    if (range >= 4 * (uint64_t)(s->n - s->head) + 64) return 0;
    for (int64_t i = s->head; i < s->n; i++)
        c->ids[i] = counts_row(s, c, i) ? (int32_t)((uint64_t)x[i] - (uint64_t)least) : -1;
    c->n_ids = (int64_t)range + 1;
    return 1;
}

/* Ids by first appearance. The table holds 1 + the first row of each id. */
static int build_hashed(ps_distinct *d, const ps_series *s, column *c) {
    uint64_t mask = clear_table(d, s->n - s->head);
    if (!mask) return 0;
    c->n_ids = 0;
    for (int64_t i = s->head; i < s->n; i++) {
        c->ids[i] = -1;
        if (!counts_row(s, c, i)) continue;
        value v = value_at(s, c->slot, i);
        uint64_t at = hash_of(v) & mask;
        for (; d->table[at]; at = (at + 1) & mask) {
            value other = value_at(s, c->slot, d->table[at] - 1);
            if (other.low == v.low && other.high == v.high) break;
        }
        if (d->table[at]) c->ids[i] = c->ids[d->table[at] - 1];
        else d->table[at] = (int32_t)i + 1, c->ids[i] = (int32_t)c->n_ids++;
    }
    return 1;
}

static int build_column(ps_distinct *d, const ps_series *s, column *c) {
    if (s->n > c->cap) {
        free(c->ids);
        c->ids = malloc((size_t)s->n * 2 * sizeof *c->ids);
        c->cap = c->ids ? s->n * 2 : 0;
        if (!c->ids) return 0;
    }
    c->built = 1;
    return build_direct(s, c) || build_hashed(d, s, c);
}

static int start_tracker(tracker *t, const column *c, int64_t at) {
    if (c->n_ids > t->cap) {
        free(t->counts), free(t->hidden);
        t->cap = c->n_ids * 2;
        t->counts = malloc((size_t)t->cap * sizeof *t->counts), t->hidden = calloc((size_t)t->cap, sizeof *t->hidden);
        if (!t->counts || !t->hidden) {
            t->cap = 0;
            return 0;
        }
    }
    if (c->n_ids) memset(t->counts, 0, (size_t)c->n_ids * sizeof *t->counts);
    t->low = t->high = at, t->found = 0, t->ready = 1;
    return 1;
}

/* ---- sliding ---- */

static int64_t distance(int64_t x, int64_t y) { return x > y ? x - y : y - x; }

/* Retired rows are in no count. */
static inline int counted(const ps_series *s, const int32_t *ids, int64_t i) {
    return ids[i] >= 0 && (!s->kt || s->kt[i] > s->retired);
}

static void slide(const ps_series *s, tracker *t, const int32_t *ids, int64_t low, int64_t high) {
    int32_t *counts = t->counts;
    int64_t found = t->found;
    if (distance(low, t->low) + distance(high, t->high) > t->high - t->low + high - low) {
        for (int64_t i = t->low; i < t->high; i++)
            if (ids[i] >= 0) counts[ids[i]] = 0;
        t->low = t->high = low, found = 0;
    }
    for (; t->high < high; t->high++)
        if (counted(s, ids, t->high)) found += counts[ids[t->high]]++ == 0;
    for (; t->low > low; t->low--)
        if (counted(s, ids, t->low - 1)) found += counts[ids[t->low - 1]]++ == 0;
    for (; t->high > high; t->high--)
        if (counted(s, ids, t->high - 1)) found -= --counts[ids[t->high - 1]] == 0;
    for (; t->low < low; t->low++)
        if (counted(s, ids, t->low)) found -= --counts[ids[t->low]] == 0;
    t->found = found;
}

void ps_distinct_retired(ps_distinct *d, const int64_t *rows, int64_t n) {
    for (int32_t k = 0; k < d->p->n_outputs; k++) {
        tracker *t = &d->trackers[k];
        if (d->p->outputs[k].op != PS_OUT_DISTINCT || !t->ready) continue;
        const int32_t *ids = d->columns[t->column].ids;
        for (int64_t i = 0; i < n; i++)
            if (rows[i] >= t->low && rows[i] < t->high && ids[rows[i]] >= 0) t->found -= --t->counts[ids[rows[i]]] == 0;
    }
}

static int row_visible(const ps_series *s, int64_t a, int64_t i) { return s->kf[i] <= a && (!s->kt || s->kt[i] > a); }

static int note_hidden(ps_distinct *d, int64_t row) {
    if (d->n_rows == d->rows_cap) {
        int64_t cap = d->rows_cap ? 2 * d->rows_cap : 256, *more = realloc(d->rows, (size_t)cap * sizeof *more);
        if (!more) return 0;
        d->rows = more, d->rows_cap = cap;
    }
    d->rows[d->n_rows++] = row;
    return 1;
}

/* Notes the rows of nodes [b, e) of a level that are counted but not visible; nodes all of whose rows are visible are
 * passed over. */
static int hidden_in(ps_distinct *d, const ps_series *s, int64_t a, int32_t level, int64_t b, int64_t e) {
    for (int64_t j = b; j < e; j++) {
        if (level == 0) {
            if (!row_visible(s, a, j) && !(s->kt && s->kt[j] <= s->retired) && !note_hidden(d, j)) return 0;
            continue;
        }
        if (ps_max_kf(s, level)[j] <= a && (!s->kt || ps_node_kt(s, level)[j] > a)) continue;
        if (!hidden_in(d, s, a, level - 1, j << PS_FAN_BITS, (j + 1) << PS_FAN_BITS)) return 0;
    }
    return 1;
}

static int find_hidden(ps_distinct *d, const ps_series *s, int64_t a, int64_t b, int64_t e) {
    int32_t level = 0;
    for (; level < s->levels; level++) {
        int64_t up = (b + PS_FAN - 1) >> PS_FAN_BITS, down = e >> PS_FAN_BITS;
        if (up >= down) break;
        if (!hidden_in(d, s, a, level, b, up << PS_FAN_BITS) || !hidden_in(d, s, a, level, down << PS_FAN_BITS, e)) return 0;
        b = up, e = down;
    }
    return hidden_in(d, s, a, level, b, e);
}

/* Different values among visible rows: those of the tracker less those all of whose rows are hidden. */
static int64_t count_sliding(ps_distinct *d, const ps_series *s, tracker *t, const ps_range *r) {
    const int32_t *ids = d->columns[t->column].ids;
    int64_t high = r->high, a = r->a, known_to;
    int all_known = s->min_kt > a && high > r->low && !__builtin_sub_overflow(a, s->late, &known_to) &&
                    known_to >= s->t[high - 1];
    while (!all_known && high > r->low && !row_visible(s, a, high - 1)) high--;
    slide(s, t, ids, r->low, high);
    d->n_rows = 0;
    if (!all_known && !find_hidden(d, s, a, r->low, high)) return -1;
    int64_t found = t->found;
    for (int64_t k = 0; k < d->n_rows; k++) {
        int32_t id = ids[d->rows[k]];
        if (id >= 0 && d->rows[k] != r->self) found -= ++t->hidden[id] == t->counts[id];
    }
    int inside = r->self >= r->low && r->self < high && counted(s, ids, r->self);
    if (r->self >= 0 && !inside && ids[r->self] >= 0) found += t->counts[ids[r->self]] == t->hidden[ids[r->self]];
    for (int64_t k = 0; k < d->n_rows; k++)
        if (ids[d->rows[k]] >= 0) t->hidden[ids[d->rows[k]]] = 0;
    return found;
}

/* ---- counting anew ---- */

typedef struct {
    const ps_series *s;
    int32_t *table;
    uint64_t mask;
    int64_t found;
} set;

/* The table holds 1 + the row of each different value; row s->n is the external one. */
static void add_value(set *x, int32_t slot, const ps_series *from, int64_t row, int64_t name) {
    value v = value_at(from, slot, row);
    uint64_t at = hash_of(v) & x->mask;
    for (; x->table[at]; at = (at + 1) & x->mask) {
        int64_t other = x->table[at] - 1;
        value w = other == x->s->n ? value_at(x->s->external, slot, 0) : value_at(x->s, slot, other);
        if (w.low == v.low && w.high == v.high) return;
    }
    x->table[at] = (int32_t)name + 1;
    x->found++;
}

static int64_t count_anew(ps_distinct *d, const ps_series *s, const column *c, const ps_range *r) {
    set x = {s, NULL, clear_table(d, r->high - r->low + 1), 0};
    x.table = d->table;
    if (!x.mask) return -1;
    for (int64_t i = r->low; i < r->high; i++)
        if (row_visible(s, r->a, i) && counts_row(s, c, i)) add_value(&x, c->slot, s, i, i);
    if (r->self >= 0 && counts_row(s, c, r->self)) add_value(&x, c->slot, s, r->self, r->self);
    if (r->self == -2 && counts_row(s->external, c, 0)) add_value(&x, c->slot, s->external, 0, s->n);
    return x.found;
}

int64_t ps_distinct_count(ps_distinct *d, const ps_series *s, int32_t index, const ps_range *r) {
    tracker *t = &d->trackers[index];
    column *c = &d->columns[t->column];
    int64_t limit = d->p->outputs[index].d, found;
    if (!d->fixed || r->self == -2) found = count_anew(d, s, c, r);
    else {
        if (!c->built && !build_column(d, s, c)) return -1;
        if (!t->ready && !start_tracker(t, c, r->low)) return -1;
        found = count_sliding(d, s, t, r);
    }
    return limit > 0 && found > limit ? -2 : found;
}
