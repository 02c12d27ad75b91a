/* Answers from live state, by the writer from the arena itself, by a reader from a copy of each key's block. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "live_state.h"

enum { LV_PATIENCE = 20000 };

static const uint64_t nothing[2];

static void bind_empty(const ps_live *g, ps_series *s) {
    ps_state state;
    ps_state_init(&state, 0, 0);
    ps_block_bind(s, g->p, (uint8_t *)(uintptr_t)nothing, &state);
}

/* A copy of a record and its block as it was at one moment; 0 when the key is gone. */
static int copy_block(ps_live *g, ps_off off, uint64_t hash, lv_record *to) {
    if (off + sizeof *to > g->a->size) return 0;
    lv_record *r = (lv_record *)ps_at(g->a, off);
    for (int32_t tries = 0;; sched_yield()) {
        if (tries++ > LV_PATIENCE) return -2; /* the writer may have died in the middle */
        uint32_t before = atomic_load_explicit(&r->sequence, memory_order_acquire);
        if (before & 1 && r->hash == hash) continue;
        memcpy((void *)to, (const void *)r, sizeof *to);
        atomic_thread_fence(memory_order_acquire);
        if (before != atomic_load_explicit(&r->sequence, memory_order_relaxed)) continue;
        if (to->hash != hash || !to->block) return 0;
        uint64_t bytes = ps_block_bytes(g->p, to->state.cap, to->state.flags);
        if (to->block + bytes > g->a->size) return -2; /* the arena has grown */
        if (bytes > g->copy_bytes) {
            free(g->copy);
            g->copy = aligned_alloc(64, (bytes * 2 + 63) & ~63ULL);
            g->copy_bytes = g->copy ? bytes * 2 : 0;
            if (!g->copy) return -1;
        }
        memcpy(g->copy, ps_at(g->a, to->block), bytes);
        atomic_thread_fence(memory_order_acquire);
        if (before == atomic_load_explicit(&r->sequence, memory_order_relaxed)) return 1;
    }
}

/* The series of a record; `held` keeps what a reader copied. Returns 0, -1 (no memory) or -2 (map the arena again). */
static int series_of(ps_live *g, ps_off off, uint64_t hash, lv_record *held, ps_series *s) {
    if (g->reader && off) {
        int copied = copy_block(g, off, hash, held);
        if (copied < 0) return copied;
        if (copied) ps_block_bind(s, g->p, g->copy, &held->state);
        else bind_empty(g, s);
        return 0;
    }
    const lv_record *r = off ? (const lv_record *)ps_at(g->a, off) : NULL;
    if (r && r->block) ps_block_bind(s, g->p, ps_at(g->a, r->block), &r->state);
    else bind_empty(g, s);
    return 0;
}

/* All queries, grouped by record, unknown keys among them. */
static int64_t order_all(const ps_live_asked *asked, lv_place *order) {
    int64_t n = lv_order(asked->n, asked->record, NULL, order);
    for (int64_t i = 0; i < asked->n; i++)
        if (!asked->record[i]) order[n++] = (lv_place){0, i};
    return n;
}

typedef struct {
    int64_t q[PS_BLOCK], a[PS_BLOCK], self[PS_BLOCK];
    int64_t *calendar;
} lv_block;

static ps_queries gather(const ps_live *g, const ps_live_asked *asked, const ps_series *s, const lv_place *order,
                         int64_t n, lv_block *b) {
    for (int64_t i = 0; i < n; i++) {
        int64_t row = order[i].row;
        b->q[i] = asked->q[row], b->a[i] = asked->a[row], b->self[i] = -1;
        for (int32_t c = 0; c < g->p->n_calendar; c++) b->calendar[c * PS_BLOCK + i] = asked->calendar[c * asked->stride + row];
        if (!asked->self) continue;
        int64_t at = ps_series_place(s, b->q[i], b->a[i], 0) - 1;
        if (at >= s->head && s->t[at] == b->q[i] && s->kf[at] == b->a[i]) b->self[i] = at;
    }
    return (ps_queries){n, b->q, b->a, asked->self ? b->self : NULL, b->calendar, PS_BLOCK};
}

static void finish(ps_live *g, const ps_columns *out) {
    ps_query_finish(g->scratch, out->values, out->statuses, out->status_step > 0 ? out->status_step : 1, NULL);
}

int ps_live_query(ps_live *g, const ps_live_asked *asked, const ps_columns *out) {
    if (!asked->n) return 0;
    size_t calendars = (size_t)g->p->n_calendar + 1;
    lv_place *order = malloc((size_t)asked->n * sizeof *order);
    lv_block block = {.calendar = malloc(calendars * PS_BLOCK * 8)};
    int failed = !order || !block.calendar ? -1 : 0;
    int64_t n = failed ? 0 : order_all(asked, order), place[PS_BLOCK];
    for (int64_t i = 0, j; i < n && !failed; i = j) {
        ps_series s;
        lv_record held;
        uint64_t hash = asked->hash ? asked->hash[order[i].row] : 0;
        for (j = i + 1; j < n && order[j].record == order[i].record;) j++;
        failed = series_of(g, order[i].record, hash, &held, &s);
        ps_scratch_reset(g->scratch);
        for (int64_t k = i, part; k < j && !failed; k += part) {
            part = j - k < ps_query_room(g->scratch) ? j - k : ps_query_room(g->scratch);
            for (int64_t m = 0; m < part; m++) place[m] = order[k + m].row;
            ps_queries queries = gather(g, asked, &s, order + k, part, &block);
            failed = ps_query_add(g->scratch, &s, &queries, 0, part, place);
            if (!ps_query_room(g->scratch)) finish(g, out);
        }
    }
    if (n) finish(g, out); /* also after a failure: the block must be left empty */
    free(block.calendar);
    free(order);
    return failed;
}

/* ---- rows ---- */

typedef struct {
    ps_live_found found;
    int64_t room;
} lv_found;

static int widen(const ps_live *g, lv_found *f, int64_t more) {
    if (f->found.n + more <= f->room) return 0;
    int64_t room = (f->found.n + more) * 2;
    size_t rows = (size_t)room;
    int64_t *t = realloc(f->found.t, rows * 8);
    if (t) f->found.t = t;
    int64_t *rank = realloc(f->found.rank, rows * 8);
    if (rank) f->found.rank = rank;
    uint8_t *mask = realloc(f->found.mask, rows * (size_t)g->p->mask_bytes + 1);
    if (mask) f->found.mask = mask;
    int failed = !t || !rank || !mask;
    for (int32_t c = 0; c < g->p->n_slots; c++) {
        size_t size = (size_t)g->p->slots[c].size;
        if (!size) continue;
        uint8_t *slot = realloc(f->found.slot[c], rows * size);
        if (slot) f->found.slot[c] = slot;
        failed |= !slot;
    }
    if (failed) return -1;
    f->room = room;
    return 0;
}

static void take_row(const ps_live *g, const ps_series *s, int64_t row, ps_live_found *to) {
    int64_t at = to->n++;
    size_t mask_bytes = (size_t)g->p->mask_bytes;
    to->t[at] = s->t[row], to->rank[at] = s->kf[row];
    if (mask_bytes) memcpy(to->mask + (size_t)at * mask_bytes, s->mask + (size_t)row * mask_bytes, mask_bytes);
    for (int32_t c = 0; c < g->p->n_slots; c++) {
        size_t size = (size_t)g->p->slots[c].size;
        if (size) memcpy(to->slot[c] + (size_t)at * size, s->slot[c] + (size_t)row * size, size);
    }
}

static int select_one(ps_live *g, const ps_live_asked *asked, int64_t i, int32_t window, int64_t limit, lv_block *block,
                      lv_found *f, int64_t *length) {
    ps_series s;
    lv_record held;
    int failed = series_of(g, asked->record[i], asked->hash ? asked->hash[i] : 0, &held, &s);
    if (failed) return failed;
    lv_place place = {asked->record[i], i};
    ps_queries queries = gather(g, asked, &s, &place, 1, block);
    const int32_t *rows;
    ps_scratch_reset(g->scratch);
    int64_t n = ps_query_rows(g->scratch, &s, &queries, 0, window, limit, &rows);
    if (n < 0 || widen(g, f, n)) return -1;
    for (int64_t k = 0; k < n; k++) take_row(g, &s, rows[k], &f->found);
    *length = n;
    return 0;
}

ps_live_found *ps_live_select(ps_live *g, const ps_live_asked *asked, int32_t window, int64_t limit, int64_t *lengths) {
    lv_found *f = calloc(1, sizeof *f);
    lv_block block = {.calendar = malloc(((size_t)g->p->n_calendar + 1) * PS_BLOCK * 8)};
    if (f) f->found.slot = calloc((size_t)g->p->n_slots + 1, sizeof *f->found.slot);
    int failed = !f || !f->found.slot || !block.calendar;
    for (int64_t i = 0; i < asked->n && !failed; i++) failed = select_one(g, asked, i, window, limit, &block, f, &lengths[i]);
    free(block.calendar);
    if (failed && f) {
        ps_live_found_free(&f->found, g->p->n_slots);
        f = NULL;
    }
    return f ? &f->found : NULL;
}

void ps_live_found_free(ps_live_found *found, int32_t n_slots) {
    if (!found) return;
    free(found->t);
    free(found->rank);
    free(found->mask);
    for (int32_t c = 0; found->slot && c < n_slots; c++) free(found->slot[c]);
    free(found->slot);
    free(found);
}
