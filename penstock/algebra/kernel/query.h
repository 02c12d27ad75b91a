/* Queries over one series: window edges, spans of the tree, folds, outputs. */
#ifndef PENSTOCK_QUERY_H
#define PENSTOCK_QUERY_H

#include "series.h"

#define PS_BLOCK 64 /* queries folded together */

/* Working memory of one thread; grows as needed, remembers where the last query's edges fell. */
typedef struct ps_scratch ps_scratch;

ps_scratch *ps_scratch_new(const ps_program *p);
void ps_scratch_free(ps_scratch *w);

/* Queries of one series. q and a are instants or ranks; self[i] is the row that counts whatever its kf, -1 for none,
 * -2 for s->external; self NULL means none. calendar holds the left edges of calendar windows: edge of window c of
 * query i at calendar[c * calendar_stride + i]. */
typedef struct {
    int64_t n;
    const int64_t *q, *a, *self, *calendar;
    int64_t calendar_stride;
} ps_queries;

/* Answers queries [from, from + n) (n <= PS_BLOCK) into n records of p->record_bytes: values at output.offset, status
 * bytes at stat_offset. Fastest when q rises from query to query. Returns 0, or -1 when memory is short. */
int ps_query_block(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t from, int64_t n,
                   uint8_t *records);

/* The same in two steps, so that queries of many series finish together: add folds queries (at most ps_query_room of
 * them) whose answers go to place[0 .. n); finish puts out all that were added, to columns (value and status arrays per
 * output; statuses status_step apart) or, when `records` is not NULL, to records, and leaves the block empty. */
int64_t ps_query_room(const ps_scratch *w);
int ps_query_add(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t from, int64_t n,
                 const int64_t *place);
void ps_query_finish(ps_scratch *w, uint8_t *const *values, uint8_t *const *statuses, int64_t status_step,
                     uint8_t *records);

/* Visible rows of one window of one query, in order, at most `limit` of the newest (limit < 0: all); an
 * external self row is row s->n. Writes indices to *rows (owned by w, valid until the next call). Returns their number or -1. */
int64_t ps_query_rows(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t i, int32_t window,
                      int64_t limit, const int32_t **rows);
/* The same of those rows only that count under a mask (PS_ALL: any). */
int64_t ps_query_rows_where(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t i, int32_t window,
                            int32_t mask, int64_t limit, const int32_t **rows);

/* Must be called before queries of another series. */
void ps_scratch_reset(ps_scratch *w);
/* The same, and the rows of the next series do not change until the next reset: then counts of different values slide
 * from query to query. */
void ps_scratch_reset_fixed(ps_scratch *w);
/* Must be called when rows of a fixed series were just retired: each row once, when it is. */
void ps_scratch_retired(ps_scratch *w, const int64_t *rows, int64_t n);

#endif
