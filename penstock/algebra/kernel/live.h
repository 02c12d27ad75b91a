/* Keyed series in an arena: the state of one group, joined outcomes, or a table read as of an instant.
 *
 * A root of the arena holds 1,024 hash tables, one per virtual shard, from key to record. A record holds the key's bytes,
 * the state of its series and where the series' block lies. Rows carry a rank: their place in the one order in which the
 * job applies rows, made to look like a known time; it stands where the series keeps kf. So "known at a position" is
 * "rank at most", and a reader that asks with the last committed rank sees whole batches while the next is applied.
 *
 * With PS_LIVE_INSTANTS the series keeps the known time itself in kf and the rank in ord: "known at an instant", for
 * joins, which ask about instants long gone.
 *
 * One thread writes. A reader in another process works on a copy of a key's block, taken between two equal even values
 * of the record's sequence. */
#ifndef PENSTOCK_LIVE_H
#define PENSTOCK_LIVE_H

#include "arena.h"
#include "history.h"
#include "keys.h"
#include "prefix.h"

typedef struct ps_live ps_live;

enum { PS_LIVE_READER = 1, PS_LIVE_INSTANTS = 2 };

/* Binds root `root` of the arena, making it when it is empty (not by a reader). NULL when memory is short. */
ps_live *ps_live_new(ps_arena *a, const ps_program *p, int32_t root, int32_t flags);
void ps_live_delete(ps_live *g);

typedef struct {
    uint64_t n_keys, n_rows, n_ids, dropped;
} ps_live_counts;
void ps_live_count(const ps_live *g, ps_live_counts *out);

/* The records of n keys and their hashes; record 0 for a null key (valid[i] is 0; valid may be NULL) and, unless `create`,
 * for an unknown one. Returns 0 or -1 (no memory). */
int ps_live_find(ps_live *g, const ps_part *parts, int32_t n_parts, int64_t n, const uint8_t *valid, int32_t create,
                 ps_off *record, uint64_t *hash);
/* 128-bit hashes of ids, each with the partition it belongs to: out[2i], out[2i + 1]; (0, 0) where valid[i] is 0. */
int ps_live_ids(const ps_part *text, int64_t n, const uint8_t *valid, const int32_t *partition, uint64_t *out);
/* The bytes of a record's key; their number, 0 when there is no such record. */
uint32_t ps_live_key(const ps_live *g, ps_off record, const uint8_t **key);

/* Rows to apply, in the order of their ranks. record 0: not aggregated. op 1 keeps the row, 0 only takes back the former
 * version of its id. ids: 2 x n hashes, or NULL when rows are never corrected; k beside them, for the horizon. */
typedef struct {
    int64_t n;
    const ps_off *record;
    const int64_t *t, *rank, *k;
    const uint8_t *keep;
    const uint8_t *mask;
    const uint8_t *const *slots;
    const uint64_t *ids;
    int64_t corrected_us; /* < 0: for ever */
    ps_horizon horizon;
} ps_live_rows;
/* Returns 0, or -1 when memory is short: the arena is then torn. */
int ps_live_apply(ps_live *g, const ps_live_rows *rows);

/* Queries (record, q, a) into columns. self: 0 none; 1: the row (q, a) itself counts. A reader's answer
 * to a record being changed is retried. Returns 0, -1 (no memory), or -2 (a reader must map the arena again). */
typedef struct {
    int64_t n;
    const ps_off *record;
    const uint64_t *hash; /* of the keys; only a reader needs it */
    const int64_t *q, *a;
    int32_t self;
    const int64_t *calendar;
    int64_t stride;
} ps_live_asked;
int ps_live_query(ps_live *g, const ps_live_asked *asked, const ps_columns *out);

/* The visible rows of one window for each query, the newest `limit` (< 0: all), oldest first. */
typedef struct {
    int64_t n;      /* rows found */
    int64_t *t, *rank;
    uint8_t *mask;  /* n x mask_bytes */
    uint8_t **slot; /* by slot; NULL for a slot that is not stored */
} ps_live_found;
ps_live_found *ps_live_select(ps_live *g, const ps_live_asked *asked, int32_t window, int64_t limit, int64_t *lengths);
void ps_live_found_free(ps_live_found *found, int32_t n_slots);

/* Forgets what no query can cover in `shards` shards from `from` on: rows with t < cutoff, keys without rows, ids of
 * forgotten rows and of those that no correction reaches; and folds rows where they are a quarter of a key's. Returns 0
 * or -1. */
int ps_live_sweep(ps_live *g, int32_t from, int32_t shards, const ps_horizon *h);

#endif
