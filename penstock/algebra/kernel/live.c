/* Keyed series in an arena: applying rows and forgetting them. Finding keys is in live_map.c, answers in live_query.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "live_state.h"

static lv_record *record_of(const ps_live *g, ps_off off) { return (lv_record *)ps_at(g->a, off); }

ps_live *ps_live_new(ps_arena *a, const ps_program *p, int32_t root, int32_t flags) {
    if (root < 0 || root >= PS_ARENA_ROOTS) return NULL;
    ps_live *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->a = a, g->p = p, g->reader = flags & PS_LIVE_READER, g->root = ps_head(a)->root[root];
    g->ordered = (flags & PS_LIVE_INSTANTS) != 0;
    g->scratch = ps_scratch_new(p);
    if (g->scratch && !g->root && !g->reader) {
        ps_off off = ps_arena_alloc(a, sizeof(lv_root));
        if (off) {
            memset(ps_at(a, off), 0, sizeof(lv_root));
            ps_head(a)->root[root] = g->root = off;
        }
    }
    if (!g->scratch || !g->root) {
        ps_live_delete(g);
        return NULL;
    }
    return g;
}

void ps_live_delete(ps_live *g) {
    if (!g) return;
    if (g->scratch) ps_scratch_free(g->scratch);
    free(g->copy);
    free(g->marks);
    free(g);
}

uint32_t ps_live_key(const ps_live *g, ps_off record, const uint8_t **key) {
    if (record < PS_ARENA_HEAD || record + sizeof(lv_record) > g->a->size) return 0;
    const lv_record *r = record_of(g, record);
    if (record + sizeof *r + r->key_bytes > g->a->size) return 0;
    *key = r->key;
    return r->key_bytes;
}

void ps_live_count(const ps_live *g, ps_live_counts *out) { *out = lv_root_of(g)->counts; }

/* ---- one series ---- */

static void bind(const ps_live *g, const lv_record *r, ps_series *s) {
    ps_block_bind(s, g->p, ps_at(g->a, r->block), &r->state);
}

/* Between these two a reader takes nothing of the record or its block for true. */
static void open_record(ps_live *g, ps_off off) {
    ps_touch(g->a, off, sizeof(lv_record));
    lv_record *r = record_of(g, off);
    atomic_store_explicit(&r->sequence, r->sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void close_record(ps_live *g, ps_off off) {
    lv_record *r = record_of(g, off);
    atomic_store_explicit(&r->sequence, r->sequence + 1, memory_order_release);
}

/* Announces a change of rows [from, s->n + more) and the nodes above them. */
static void touch_rows(ps_live *g, const lv_record *r, const ps_series *s, int64_t from, int64_t more) {
    uint64_t bytes = ps_block_bytes(g->p, s->cap, r->state.flags);
    if (bytes <= 2 * PS_CHUNK) {
        ps_touch(g->a, r->block, bytes);
        return;
    }
    uint64_t to = (uint64_t)(s->n + more < s->cap ? s->n + more : s->cap), first = (uint64_t)from;
    if (first >= to) first = to ? to - 1 : 0;
    int64_t *columns[4] = {s->t, s->kf, s->kt, s->ord};
    for (int c = 0; c < 4; c++)
        if (columns[c]) ps_touch(g->a, (uint64_t)((uint8_t *)columns[c] - g->a->base) + first * 8, (to - first) * 8);
    for (int32_t i = 0; i < g->p->n_slots; i++) {
        uint64_t size = (uint64_t)g->p->slots[i].size;
        if (size) ps_touch(g->a, (uint64_t)(s->slot[i] - g->a->base) + first * size, (to - first) * size);
    }
    uint64_t mask_bytes = (uint64_t)g->p->mask_bytes, nodes = (uint64_t)(s->nodes - g->a->base);
    if (mask_bytes) ps_touch(g->a, (uint64_t)(s->mask - g->a->base) + first * mask_bytes, (to - first) * mask_bytes);
    for (int32_t l = 1; l <= s->levels; l++) {
        uint64_t m = (uint64_t)s->m[l], at = nodes + s->off[l], row = s->bounds + g->p->node_bytes;
        uint64_t j = first >> (PS_FAN_BITS * l), k = (to >> (PS_FAN_BITS * l)) + 1;
        if (k > m) k = m;
        if (j >= k) break;
        if (m * row <= PS_CHUNK) {
            ps_touch(g->a, at, m * row);
            continue;
        }
        for (uint64_t b = 0; b < s->bounds; b += 8) ps_touch(g->a, at + b * m + j * 8, (k - j) * 8);
        for (int32_t f = 0; f < g->p->n_fields; f++) {
            uint64_t size = (uint64_t)g->p->fields[f].size;
            ps_touch(g->a, at + (s->bounds + g->p->fields[f].offset) * m + j * size, (k - j) * size);
        }
    }
}

/* What may leave a series now: marks in g->marks of the first n rows. */
typedef struct {
    int64_t n, leaving;
} lv_leaving;

/* Marks the rows that may be folded or forgotten, where it pays. Returns 0 or -1 (no memory). */
static int mark_leaving(ps_live *g, const ps_series *s, const ps_horizon *h, lv_leaving *out) {
    *out = (lv_leaving){0, 0};
    if (h->fold_t == INT64_MIN || s->n == s->head || s->t[s->head] >= h->fold_t) return 0;
    uint64_t rows = (uint64_t)(s->n - s->head);
    if (rows > g->marks_room) {
        free(g->marks);
        g->marks = malloc(rows * 2);
        g->marks_room = g->marks ? rows * 2 : 0;
        if (!g->marks) return -1;
    }
    out->leaving = ps_prefix_marks(s, h, g->marks, &out->n);
    if (out->leaving < 0) return -1;
    if (!ps_prefix_pays(s, out->leaving)) *out = (lv_leaving){0, 0};
    return 0;
}

/* Moves a series into a block for at least `rows` rows, leaving forgotten, folded and settled ones behind. */
static int move_block(ps_live *g, ps_off off, ps_series *s, int64_t rows, int32_t flags, int64_t settled, lv_leaving leaving) {
    lv_record *r = record_of(g, off);
    if (leaving.leaving && g->p->prefix) flags |= PS_HAS_PREFIX;
    uint64_t old_bytes = r->block ? ps_block_bytes(g->p, r->state.cap, r->state.flags) : 0;
    int64_t cap = rows;
    uint64_t room = ps_arena_block(ps_block_bytes(g->p, cap, flags));
    while (ps_block_bytes(g->p, cap + cap / 16 + 1, flags) <= room) cap += cap / 16 + 1; /* the block's class is bigger */
    ps_off block = ps_arena_alloc(g->a, ps_block_bytes(g->p, cap, flags));
    if (!block) return -1;
    ps_state state;
    ps_state_init(&state, cap, flags);
    if (old_bytes && s->kt && settled > s->retired) state.retired = settled;
    else if (old_bytes) state.retired = s->retired;
    ps_series to;
    ps_block_bind(&to, g->p, ps_at(g->a, block), &state);
    if (old_bytes) {
        int64_t before = s->n - s->head;
        if (ps_series_copy(s, &to, g->marks, leaving.n)) return -1;
        if (to.prefixed) ps_prefix_fold(s, &to, g->marks, leaving.n);
        ps_touch(g->a, g->root, sizeof(uint64_t) * 8);
        lv_root_of(g)->counts.n_rows -= (uint64_t)(before - (to.n - to.head));
        lv_root_of(g)->counts.dropped += (uint64_t)leaving.leaving;
        ps_arena_free(g->a, r->block, old_bytes);
    }
    r->block = block;
    ps_block_state(&to, &r->state);
    bind(g, r, s);
    return 0;
}

/* Makes room for `more` rows, and for superseded ones when `kt`. */
static int make_room(ps_live *g, ps_off off, ps_series *s, int64_t more, int kt, const ps_live_rows *rows) {
    lv_record *r = record_of(g, off);
    if (r->block) bind(g, r, s);
    int32_t flags = (r->block ? r->state.flags : g->ordered ? PS_HAS_ORD : 0) | (kt ? PS_HAS_KT : 0);
    if (r->block && flags == r->state.flags && s->n + more <= s->cap) return 0;
    lv_leaving leaving = {0, 0};
    if (r->block) {
        lv_drop(g, s, rows->horizon.cutoff);
        if (mark_leaving(g, s, &rows->horizon, &leaving)) return -1;
    }
    int64_t need = (r->block ? s->n - s->head - leaving.leaving : 0) + more;
    return move_block(g, off, s, need + (need >= 4 ? need / 2 : 0), flags, rows->horizon.settled, leaving);
}

void lv_drop(ps_live *g, ps_series *s, int64_t cutoff) {
    int64_t gone = ps_series_drop(s, cutoff);
    if (!gone) return;
    ps_touch(g->a, g->root, sizeof(uint64_t) * 8);
    lv_root_of(g)->counts.n_rows -= (uint64_t)gone;
    lv_root_of(g)->counts.dropped += (uint64_t)gone;
}

/* ---- corrections ---- */

typedef struct {
    ps_off record;
    int64_t t, kf, ord, kt;
} lv_end;

/* The row of a version, or -1 when it is forgotten. */
static int64_t find_version(const ps_series *s, const lv_end *end) {
    int64_t at = ps_series_place(s, end->t, end->kf, end->ord) - 1;
    return at >= s->head && s->t[at] == end->t && s->kf[at] == end->kf && (!s->ord || s->ord[at] == end->ord) ? at : -1;
}

static int64_t rank_index(const ps_live_rows *rows, int64_t rank) {
    int64_t low = 0, high = rows->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (rows->rank[middle] < rank) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Decides by the ids which former versions end: those of this batch in kt, older ones in `ends`. Returns their number or
 * -1 when memory is short. */
static int64_t resolve(ps_live *g, const ps_live_rows *rows, int64_t *kt, lv_end *ends) {
    int64_t n_ends = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        if (!rows->ids[2 * i]) continue;
        int created;
        ps_off at = lv_id(g, rows->ids + 2 * i, &created);
        if (!at) return -1;
        lv_version *v = (lv_version *)ps_at(g->a, at);
        int same = !created && (rows->corrected_us < 0 || v->k >= rows->k[i] - rows->corrected_us);
        if (same && v->record && v->t >= rows->horizon.cutoff) { /* else its row, or its record, is forgotten */
            int64_t end = g->ordered ? rows->k[i] : rows->rank[i];
            if (v->rank >= rows->rank[0]) kt[rank_index(rows, v->rank)] = end;
            else if (g->ordered) ends[n_ends++] = (lv_end){v->record, v->t, v->k, v->rank, end};
            else ends[n_ends++] = (lv_end){v->record, v->t, v->rank, 0, end};
        }
        ps_touch(g->a, at, sizeof *v);
        v->record = rows->keep[i] ? rows->record[i] : 0;
        v->t = rows->t[i], v->rank = rows->rank[i], v->k = rows->k[i];
    }
    return n_ends;
}

static int end_versions(ps_live *g, const ps_live_rows *rows, const lv_end *ends, int64_t n_ends) {
    for (int64_t i = 0; i < n_ends; i++) {
        ps_series s;
        bind(g, record_of(g, ends[i].record), &s);
        if (find_version(&s, &ends[i]) < 0) continue;
        open_record(g, ends[i].record);
        if (make_room(g, ends[i].record, &s, 0, 1, rows)) return -1;
        lv_record *r = record_of(g, ends[i].record);
        int64_t at = find_version(&s, &ends[i]);
        if (at >= 0) {
            touch_rows(g, r, &s, at, 0);
            ps_series_supersede(&s, at, ends[i].kt);
        }
        ps_block_state(&s, &r->state);
        close_record(g, ends[i].record);
    }
    return 0;
}

/* ---- rows ---- */

/* Gathers rows order[0 .. n) of a batch, so that they lie one after the other. */
static void gather(const ps_live *g, ps_series *to, const ps_series *from, const lv_place *order, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        to->t[i] = from->t[order[i].row];
        to->kf[i] = from->kf[order[i].row];
        if (to->kt) to->kt[i] = from->kt[order[i].row];
        if (to->ord) to->ord[i] = from->ord[order[i].row];
        if (g->p->mask_bytes) memcpy(to->mask + i * g->p->mask_bytes, from->mask + order[i].row * g->p->mask_bytes,
                                     (size_t)g->p->mask_bytes);
        for (int32_t c = 0; c < g->p->n_slots; c++) {
            size_t size = (size_t)g->p->slots[c].size;
            if (size) memcpy(to->slot[c] + (size_t)i * size, from->slot[c] + (size_t)order[i].row * size, size);
        }
    }
}

static int insert_run(ps_live *g, const ps_live_rows *rows, const ps_series *view, const lv_place *order, int64_t n,
                      ps_series *scratch) {
    ps_off off = order[0].record;
    ps_series s;
    int kt = 0, sorted = 1;
    for (int64_t i = 0; i < n; i++) {
        kt |= view->kt && view->kt[order[i].row] != PS_NEVER;
        sorted &= i == 0 || view->t[order[i - 1].row] <= view->t[order[i].row]; /* kf, ord rise anyway */
    }
    open_record(g, off);
    if (make_room(g, off, &s, n, kt, rows)) return -1;
    lv_record *r = record_of(g, off);
    int64_t first = order[0].row, at = ps_series_place(&s, view->t[first], view->kf[first], view->ord ? view->ord[first] : 0);
    if (n > 1 && sorted && at == s.n) {
        touch_rows(g, r, &s, at, n);
        gather(g, scratch, view, order, n);
        if (ps_series_extend(&s, scratch, 0, n) != n) return -1;
    } else {
        for (int64_t i = 0; i < n; i++) {
            int64_t row = order[i].row;
            touch_rows(g, r, &s, ps_series_place(&s, view->t[row], view->kf[row], view->ord ? view->ord[row] : 0), 1);
            if (ps_series_insert(&s, view, row) < 0) return -1;
        }
    }
    ps_block_state(&s, &r->state);
    close_record(g, off);
    return 0;
}

static int insert_all(ps_live *g, const ps_live_rows *rows, int64_t *kt, lv_place *order, uint8_t *memory) {
    ps_series view, scratch;
    memset(&view, 0, offsetof(ps_series, slot));
    view.p = g->p, view.n = view.cap = rows->n, view.kt = kt;
    view.t = (int64_t *)(uintptr_t)rows->t; /* only read, as all of these */
    view.kf = (int64_t *)(uintptr_t)(g->ordered ? rows->k : rows->rank);
    view.ord = g->ordered ? (int64_t *)(uintptr_t)rows->rank : NULL;
    view.mask = (uint8_t *)(uintptr_t)rows->mask;
    for (int32_t c = 0; c < g->p->n_slots; c++) view.slot[c] = (uint8_t *)(uintptr_t)rows->slots[c];
    ps_state state;
    ps_state_init(&state, rows->n, (kt ? PS_HAS_KT : 0) | (g->ordered ? PS_HAS_ORD : 0));
    ps_block_bind(&scratch, g->p, memory, &state);
    int64_t n = lv_order(rows->n, rows->record, rows->keep, order);
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && order[j].record == order[i].record;) j++;
        if (insert_run(g, rows, &view, order + i, j - i, &scratch)) return -1;
    }
    ps_touch(g->a, g->root, sizeof(uint64_t) * 8);
    lv_root_of(g)->counts.n_rows += (uint64_t)n;
    return 0;
}

int ps_live_apply(ps_live *g, const ps_live_rows *rows) {
    if (!rows->n) return 0;
    size_t n = (size_t)rows->n;
    int64_t *kt = rows->ids ? malloc(n * sizeof *kt) : NULL;
    lv_end *ends = rows->ids ? malloc(n * sizeof *ends) : NULL;
    lv_place *order = malloc(n * sizeof *order);
    uint8_t *memory = malloc(ps_block_bytes(g->p, rows->n, PS_HAS_KT | PS_HAS_ORD) + 16);
    int failed = !order || !memory || (rows->ids && (!kt || !ends));
    if (!failed && rows->ids) {
        for (size_t i = 0; i < n; i++) kt[i] = PS_NEVER;
        int64_t n_ends = resolve(g, rows, kt, ends);
        failed = n_ends < 0 || end_versions(g, rows, ends, n_ends);
    }
    if (!failed) {
        uint8_t *aligned = memory + (-(uintptr_t)memory & 15);
        failed = insert_all(g, rows, kt, order, aligned);
    }
    free(memory);
    free(order);
    free(ends);
    free(kt);
    return failed ? -1 : 0;
}

/* ---- forgetting ---- */

/* Forgets and folds rows of one key. Returns 0 or -1 (no memory). */
static int sweep_key(ps_live *g, ps_off off, const ps_horizon *h) {
    lv_record *r = record_of(g, off);
    ps_series s;
    bind(g, r, &s);
    int64_t live = s.n - ps_series_lower(&s, h->cutoff);
    lv_leaving leaving;
    if (mark_leaving(g, &s, h, &leaving)) return -1;
    int folds = leaving.leaving * 4 >= live && leaving.leaving;
    if (!folds && live == s.n - s.head) return 0;
    open_record(g, off);
    lv_drop(g, &s, h->cutoff);
    ps_block_state(&s, &r->state);
    live -= folds ? leaving.leaving : 0;
    int failed = (folds || (live < s.cap / 4 && s.cap > 8)) &&
                 move_block(g, off, &s, live + live / 2 + 1, r->state.flags, h->settled, folds ? leaving : (lv_leaving){0, 0});
    close_record(g, off);
    return failed ? -1 : 0;
}

/* Removes a key that has no rows any more. */
static void remove_key(ps_live *g, uint32_t shard, uint64_t at, ps_off off, const ps_horizon *h) {
    lv_record *r = record_of(g, off);
    if (r->block) {
        ps_series s;
        bind(g, r, &s);
        lv_drop(g, &s, h->cutoff);
        ps_arena_free(g->a, r->block, ps_block_bytes(g->p, r->state.cap, r->state.flags));
    }
    open_record(g, off);
    r->hash = 0; /* a reader that still holds it sees that it is gone */
    close_record(g, off);
    lv_remove_key(g, shard, at);
    ps_arena_free(g->a, off, sizeof(lv_record) + r->key_bytes);
}

int ps_live_sweep(ps_live *g, int32_t from, int32_t shards, const ps_horizon *h) {
    for (int32_t shard = from; shard < from + shards && shard < PS_SHARDS; shard++) {
        lv_table *table = &lv_root_of(g)->keys[shard];
        for (uint64_t i = 0; table->off && i < 1ULL << table->log2; i++) {
            ps_off off = ((lv_entry *)ps_at(g->a, table->off))[i].record;
            if (!off) continue;
            const lv_record *r = record_of(g, off);
            ps_series s;
            if (r->block) bind(g, r, &s);
            if (r->block && (s.prefixed || ps_series_lower(&s, h->cutoff) < s.n)) {
                if (sweep_key(g, off, h)) return -1;
                continue;
            }
            remove_key(g, (uint32_t)shard, i, off, h);
            i--; /* another entry may have moved here */
        }
        lv_sweep_ids(g, (uint32_t)shard, h);
    }
    return 0;
}
