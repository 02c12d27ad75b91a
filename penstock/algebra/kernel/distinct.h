/* Exact counts of different values in a window. */
#ifndef PENSTOCK_DISTINCT_H
#define PENSTOCK_DISTINCT_H

#include "series.h"

typedef struct ps_distinct ps_distinct;

/* The rows of one window of one query: those of [low, high) visible at a, and the self row when it must be added. */
typedef struct {
    int64_t low, high, a;
    int64_t self; /* index of the row, -2 for s->external, -1 for none */
} ps_range;

ps_distinct *ps_distinct_new(const ps_program *p);
void ps_distinct_free(ps_distinct *d);
/* Forgets the series. `fixed` says that the next one's rows do not change until the next reset: then counts slide from
 * window to window, at a cost of the rows that enter and leave; else each window's rows are counted anew. */
void ps_distinct_reset(ps_distinct *d, int fixed);
/* Takes rows that were just retired out of the counts of a fixed series. */
void ps_distinct_retired(ps_distinct *d, const int64_t *rows, int64_t n);
/* How many different values output `index` (PS_OUT_DISTINCT) has; -1 when memory is short, -2 when above its limit. */
int64_t ps_distinct_count(ps_distinct *d, const ps_series *s, int32_t index, const ps_range *range);

#endif
