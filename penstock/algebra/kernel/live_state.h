/* What live state looks like in the arena, and the functions its files share. */
#ifndef PENSTOCK_LIVE_STATE_H
#define PENSTOCK_LIVE_STATE_H

#include "live.h"

#define PS_SHARDS 1024

typedef struct {
    ps_off off; /* 1 << log2 entries */
    uint32_t log2, count;
    _Atomic uint32_t sequence; /* odd while entries move */
    uint32_t unused;
} lv_table;

typedef struct {
    ps_live_counts counts;
    uint64_t reserved[4];
    lv_table keys[PS_SHARDS];
    lv_table ids[PS_SHARDS];
} lv_root;

typedef struct {
    uint64_t hash;
    ps_off record; /* 0: empty */
} lv_entry;

typedef struct {
    _Atomic uint32_t sequence; /* odd while the record or its block changes */
    uint32_t key_bytes;
    uint64_t hash;
    ps_off block; /* 0 before the first row */
    ps_state state;
    uint8_t key[];
} lv_record;

/* The last version of an id; record 0 after a delete, or where the row is not aggregated. */
typedef struct {
    uint64_t id[2]; /* (0, 0): empty */
    ps_off record;
    int64_t t, rank, k;
} lv_version;

struct ps_live {
    ps_arena *a;
    const ps_program *p;
    ps_scratch *scratch;
    ps_off root;
    int32_t reader, ordered;
    uint8_t *copy; /* a reader's copy of a block */
    uint64_t copy_bytes;
    uint8_t *marks; /* what becomes of the rows of a series */
    uint64_t marks_room;
};

typedef struct {
    ps_off record;
    int64_t row;
} lv_place;

static inline lv_root *lv_root_of(const ps_live *g) { return (lv_root *)ps_at(g->a, g->root); }

/* Rows with a record (and keep[i], unless NULL), sorted by record; rows of one record keep their order. Returns how many. */
int64_t lv_order(int64_t n, const ps_off *record, const uint8_t *keep, lv_place *order);
/* The version of an id, made when there is none (*created); 0 when memory is short. */
ps_off lv_id(ps_live *g, const uint64_t *id, int *created);
void lv_drop(ps_live *g, ps_series *s, int64_t cutoff);
void lv_remove_key(ps_live *g, uint32_t shard, uint64_t at);
void lv_sweep_ids(ps_live *g, uint32_t shard, const ps_horizon *h);

#endif
