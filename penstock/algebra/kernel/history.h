/* A sweep over history: rows sorted by (key, t, order), queries grouped by key, one tree alive at a time. */
#ifndef PENSTOCK_HISTORY_H
#define PENSTOCK_HISTORY_H

#include "query.h"

/* Rows of key c are [start[c], start[c + 1]). kt NULL: nothing was superseded. */
typedef struct {
    const int64_t *start, *t, *kf, *kt;
    const uint8_t *mask;         /* n x mask_bytes, or NULL when the program has no masks */
    const uint8_t *const *slots; /* NULL for a slot of size 0 */
} ps_rows;

/* Queries of key c are [start[c], start[c + 1]), of keys without rows too. self is an index into the rows, or -1. */
typedef struct {
    const int64_t *start, *q, *a, *self; /* self may be NULL */
    const int64_t *calendar;             /* calendar windows x stride */
    int64_t stride;
    const int64_t *place; /* where the answer to query i goes; NULL: to i */
} ps_asked;

/* One column per output: values of output.size bytes, and status bytes status_step apart (0: 1 apart). */
typedef struct {
    uint8_t *const *values;
    uint8_t *const *statuses;
    int64_t status_step;
} ps_columns;

/* Answers all queries of keys [from, to). Returns 0, -1 when memory is short, -3 when a key has 2^31 rows or more. */
int ps_sweep(const ps_program *p, const ps_rows *rows, const ps_asked *asked, int64_t from, int64_t to,
             const ps_columns *out);

/* Visible rows of one window, under a mask or PS_ALL, for queries [from, *next) in the order they are given, at most `limit` of the newest each
 * (< 0: all); stops after the query that brings the number of rows to `most`. lengths[i] is the number of rows of query
 * from + i, *indices (malloc'ed, to be freed by ps_free) the rows. Returns their number or a negative code as above. */
int64_t ps_sweep_rows(const ps_program *p, const ps_rows *rows, const ps_asked *asked, int64_t keys, int64_t from,
                      int32_t window, int32_t mask, int64_t limit, int64_t most, int64_t *lengths, int64_t **indices, int64_t *next);
void ps_free(void *memory);

/* Mask bytes of rows [0, n). For mask j: valid[spec[3j]] and where truth[spec[3j + 1]] and truth[spec[3j + 2]], each
 * index -1 for no condition; truth[i][r] counts where valid too. valid[i] NULL: all valid. */
void ps_fill_masks(int64_t n, int32_t n_masks, const int32_t *spec, const uint8_t *const *valid,
                   const uint8_t *const *truth, uint8_t *out);

#endif
