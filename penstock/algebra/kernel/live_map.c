/* From keys to records and from ids to versions: open addressing per virtual shard, linear probes, moved back on removal. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "live_state.h"

static lv_entry *entries_of(const ps_live *g, const lv_table *t) { return (lv_entry *)ps_at(g->a, t->off); }
static lv_version *versions_of(const ps_live *g, const lv_table *t) { return (lv_version *)ps_at(g->a, t->off); }

/* Top bits choose the shard, the bits below them the slot. */
static uint64_t slot_of(uint64_t hash, uint32_t log2) { return (hash << 10) >> (64 - log2); }

static void touch_table(ps_live *g, lv_table *t) {
    ps_touch(g->a, (uint64_t)((uint8_t *)t - g->a->base), sizeof *t);
    ps_touch(g->a, g->root, sizeof(ps_live_counts));
}

static void open_table(ps_live *g, lv_table *t) {
    touch_table(g, t);
    atomic_store_explicit(&t->sequence, t->sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void close_table(lv_table *t) { atomic_store_explicit(&t->sequence, t->sequence + 1, memory_order_release); }

/* ---- keys ---- */

static int grow_keys(ps_live *g, lv_table *t) {
    uint32_t log2 = t->off ? t->log2 + 1 : 3;
    uint64_t size = 1ULL << log2;
    ps_off off = ps_arena_alloc(g->a, size * sizeof(lv_entry));
    if (!off) return -1;
    lv_entry *to = (lv_entry *)ps_at(g->a, off);
    memset(to, 0, size * sizeof *to);
    lv_entry *from = entries_of(g, t);
    for (uint64_t i = 0; t->off && i < 1ULL << t->log2; i++) {
        if (!from[i].record) continue;
        uint64_t at = slot_of(from[i].hash, log2);
        while (to[at].record) at = (at + 1) & (size - 1);
        to[at] = from[i];
    }
    if (t->off) ps_arena_free(g->a, t->off, sizeof(lv_entry) << t->log2);
    t->off = off, t->log2 = log2;
    return 0;
}

static int is_key(const ps_live *g, ps_off off, const uint8_t *key, uint64_t bytes) {
    if (off + sizeof(lv_record) + bytes > g->a->size) return 0; /* a reader may see a torn entry */
    const lv_record *r = (const lv_record *)ps_at(g->a, off);
    return r->key_bytes == bytes && memcmp(r->key, key, bytes) == 0;
}

static ps_off look(const ps_live *g, const lv_table *t, const uint8_t *key, uint64_t bytes, uint64_t hash) {
    if (!t->off || t->log2 > 40 || t->off + (sizeof(lv_entry) << t->log2) > g->a->size) return 0;
    uint64_t size = 1ULL << t->log2, at = slot_of(hash, t->log2);
    const lv_entry *entries = entries_of(g, t);
    for (uint64_t probes = 0; probes < size && entries[at].record; probes++, at = (at + 1) & (size - 1))
        if (entries[at].hash == hash && is_key(g, entries[at].record, key, bytes)) return entries[at].record;
    return 0;
}

enum { LV_PATIENCE = 20000 };
static const ps_off elsewhere = ~0ULL; /* a reader cannot tell before it maps the arena again */

static int is_mapped(const ps_live *g, const lv_table *t) {
    return t->log2 <= 40 && t->off + (sizeof(lv_entry) << t->log2) <= g->a->size;
}

/* A reader's look: again while the writer moves entries. */
static ps_off look_again(const ps_live *g, const lv_table *t, const uint8_t *key, uint64_t bytes, uint64_t hash) {
    for (int32_t tries = 0; tries < LV_PATIENCE; tries++) {
        uint32_t before = atomic_load_explicit(&((lv_table *)(uintptr_t)t)->sequence, memory_order_acquire);
        lv_table copy;
        memcpy((void *)&copy, (const void *)t, sizeof copy);
        ps_off found = before & 1 ? 0 : look(g, &copy, key, bytes, hash);
        int mapped = is_mapped(g, &copy);
        atomic_thread_fence(memory_order_acquire);
        if (!(before & 1) && before == atomic_load_explicit(&((lv_table *)(uintptr_t)t)->sequence, memory_order_relaxed))
            return mapped || !copy.off ? found : elsewhere;
        sched_yield();
    }
    return elsewhere; /* the writer may have died in the middle */
}

static ps_off make_record(ps_live *g, lv_table *t, const uint8_t *key, uint64_t bytes, uint64_t hash) {
    ps_off off = ps_arena_alloc(g->a, sizeof(lv_record) + bytes);
    if (!off) return 0;
    lv_record *r = (lv_record *)ps_at(g->a, off);
    memset((void *)r, 0, sizeof *r);
    r->key_bytes = (uint32_t)bytes, r->hash = hash;
    ps_state_init(&r->state, 0, 0);
    memcpy(r->key, key, bytes);
    open_table(g, t);
    int failed = (!t->off || (t->count + 1) * 4ULL > (3ULL << t->log2)) && grow_keys(g, t);
    if (!failed) {
        uint64_t size = 1ULL << t->log2, at = slot_of(hash, t->log2);
        while (entries_of(g, t)[at].record) at = (at + 1) & (size - 1);
        ps_touch(g->a, t->off + at * sizeof(lv_entry), sizeof(lv_entry));
        entries_of(g, t)[at] = (lv_entry){hash, off};
        t->count++;
        lv_root_of(g)->counts.n_keys++;
    }
    close_table(t);
    return failed ? 0 : off;
}

/* Canonical bytes of row i in a buffer that grows; their number, or -1 when memory is short. */
static int64_t bytes_of(const ps_part *parts, int32_t n_parts, int64_t i, uint8_t **buffer, int64_t *room) {
    int64_t length = ps_key_bytes(parts, n_parts, i, *buffer, *room);
    if (length <= *room) return length;
    uint8_t *wider = realloc(*buffer, (size_t)length * 2);
    if (!wider) return -1;
    *buffer = wider, *room = length * 2;
    return ps_key_bytes(parts, n_parts, i, *buffer, *room);
}

int ps_live_find(ps_live *g, const ps_part *parts, int32_t n_parts, int64_t n, const uint8_t *valid, int32_t create,
                 ps_off *record, uint64_t *hash) {
    int64_t room = 256;
    uint8_t *key = malloc((size_t)room);
    int failed = !key;
    for (int64_t i = 0; i < n && !failed; i++) {
        record[i] = 0, hash[i] = 0;
        if (valid && !valid[i]) continue;
        int64_t length = bytes_of(parts, n_parts, i, &key, &room);
        if (length < 0) {
            failed = 1;
            break;
        }
        uint64_t bytes = (uint64_t)length;
        hash[i] = ps_xxh64(key, bytes, 0);
        lv_table *t = &lv_root_of(g)->keys[hash[i] >> 54];
        record[i] = g->reader ? look_again(g, t, key, bytes, hash[i]) : look(g, t, key, bytes, hash[i]);
        if (!record[i] && create && !(record[i] = make_record(g, t, key, bytes, hash[i]))) failed = 1;
        if (record[i] == elsewhere) failed = 2;
    }
    free(key);
    return -failed;
}

int ps_live_ids(const ps_part *text, int64_t n, const uint8_t *valid, const int32_t *partition, uint64_t *out) {
    int64_t room = 256;
    uint8_t *id = malloc((size_t)room);
    if (!id) return -1;
    for (int64_t i = 0; i < n; i++) {
        out[2 * i] = out[2 * i + 1] = 0;
        if (valid && !valid[i]) continue;
        int64_t length = bytes_of(text, 1, i, &id, &room);
        if (length < 0) {
            free(id);
            return -1;
        }
        uint64_t seed = (uint64_t)(uint32_t)partition[i];
        out[2 * i] = ps_xxh64(id, (size_t)length, seed) | 1;
        out[2 * i + 1] = ps_xxh64(id, (size_t)length, seed ^ 0xa0761d6478bd642fULL);
    }
    free(id);
    return 0;
}

void lv_remove_key(ps_live *g, uint32_t shard, uint64_t at) {
    lv_table *t = &lv_root_of(g)->keys[shard];
    uint64_t size = 1ULL << t->log2, hole = at;
    open_table(g, t);
    ps_touch(g->a, t->off, size * sizeof(lv_entry));
    lv_entry *entries = entries_of(g, t);
    for (uint64_t i = (at + 1) & (size - 1); entries[i].record; i = (i + 1) & (size - 1)) {
        uint64_t home = slot_of(entries[i].hash, t->log2);
        if (((i - home) & (size - 1)) < ((i - hole) & (size - 1))) continue; /* it may not move before its home */
        entries[hole] = entries[i];
        hole = i;
    }
    entries[hole] = (lv_entry){0, 0};
    t->count--;
    lv_root_of(g)->counts.n_keys--;
    close_table(t);
}

/* ---- ids ---- */

static int grow_ids(ps_live *g, lv_table *t) {
    uint32_t log2 = t->off ? t->log2 + 1 : 3;
    uint64_t size = 1ULL << log2;
    ps_off off = ps_arena_alloc(g->a, size * sizeof(lv_version));
    if (!off) return -1;
    lv_version *to = (lv_version *)ps_at(g->a, off), *from = versions_of(g, t);
    memset(to, 0, size * sizeof *to);
    for (uint64_t i = 0; t->off && i < 1ULL << t->log2; i++) {
        if (!from[i].id[0]) continue;
        uint64_t at = slot_of(from[i].id[0], log2);
        while (to[at].id[0]) at = (at + 1) & (size - 1);
        to[at] = from[i];
    }
    if (t->off) ps_arena_free(g->a, t->off, sizeof(lv_version) << t->log2);
    t->off = off, t->log2 = log2;
    return 0;
}

ps_off lv_id(ps_live *g, const uint64_t *id, int *created) {
    lv_table *t = &lv_root_of(g)->ids[id[0] >> 54];
    *created = 0;
    if (t->off) {
        uint64_t size = 1ULL << t->log2, at = slot_of(id[0], t->log2);
        for (lv_version *v = versions_of(g, t); v[at].id[0]; at = (at + 1) & (size - 1))
            if (v[at].id[0] == id[0] && v[at].id[1] == id[1]) return t->off + at * sizeof(lv_version);
    }
    touch_table(g, t);
    if ((!t->off || (t->count + 1) * 4ULL > (3ULL << t->log2)) && grow_ids(g, t)) return 0;
    uint64_t size = 1ULL << t->log2, at = slot_of(id[0], t->log2);
    while (versions_of(g, t)[at].id[0]) at = (at + 1) & (size - 1);
    ps_off off = t->off + at * sizeof(lv_version);
    ps_touch(g->a, off, sizeof(lv_version));
    *(lv_version *)ps_at(g->a, off) = (lv_version){{id[0], id[1]}, 0, 0, 0, 0};
    t->count++;
    lv_root_of(g)->counts.n_ids++;
    *created = 1;
    return off;
}

static void remove_id(ps_live *g, lv_table *t, uint64_t at) {
    uint64_t size = 1ULL << t->log2, hole = at;
    lv_version *v = versions_of(g, t);
    for (uint64_t i = (at + 1) & (size - 1); v[i].id[0]; i = (i + 1) & (size - 1)) {
        uint64_t home = slot_of(v[i].id[0], t->log2);
        if (((i - home) & (size - 1)) < ((i - hole) & (size - 1))) continue;
        v[hole] = v[i];
        hole = i;
    }
    memset(&v[hole], 0, sizeof v[hole]);
    t->count--;
    lv_root_of(g)->counts.n_ids--;
}

void lv_sweep_ids(ps_live *g, uint32_t shard, const ps_horizon *h) {
    lv_table *t = &lv_root_of(g)->ids[shard];
    int touched = 0;
    for (uint64_t i = 0; t->off && i < 1ULL << t->log2; i++) {
        lv_version *v = &versions_of(g, t)[i];
        if (!v->id[0] || (v->t >= h->cutoff && v->rank > h->fold_rank)) continue;
        if (!touched) {
            touch_table(g, t);
            ps_touch(g->a, t->off, sizeof(lv_version) << t->log2);
            touched = 1;
        }
        remove_id(g, t, i);
        i--;
    }
}

/* ---- order ---- */

static int by_record(const void *x, const void *y) {
    const lv_place *a = x, *b = y;
    if (a->record != b->record) return a->record < b->record ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

int64_t lv_order(int64_t n, const ps_off *record, const uint8_t *keep, lv_place *order) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (record[i] && (!keep || keep[i])) order[kept++] = (lv_place){record[i], i};
    if (kept > 1) qsort(order, (size_t)kept, sizeof *order, by_record);
    return kept;
}
