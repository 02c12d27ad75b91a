/* What a block of queries leaves between cutting, folding and finishing. */
#ifndef PENSTOCK_SCRATCH_H
#define PENSTOCK_SCRATCH_H

#include "distinct.h"
#include "fold.h"
#include "query.h"

/* A segment is what window `window` adds to the left of the next narrower window of its group. */
typedef struct {
    int32_t window;
    int32_t first, end; /* spans */
    int32_t self;       /* whether the self row of the run counts in this window */
} ps_segment;

typedef struct {
    int64_t low, high, self;
} ps_reach; /* of a window: its rows as positions, visible or not */

typedef struct {
    int64_t ref; /* q - offset */
    int32_t first, end; /* segments */
    ps_span self;
} ps_run;

typedef struct {
    uint8_t value[16];
    int32_t status;
} ps_early;

struct ps_scratch {
    const ps_program *p;
    ps_span *spans;
    int32_t n_spans, cap_spans;
    ps_segment *segments; /* PS_BLOCK x n_windows */
    int32_t n_segments;
    ps_run *groups; /* PS_BLOCK x n_groups */
    int64_t *rows;        /* visible rows per (window, query of the block) */
    ps_acc *accs;         /* n_fields x n_windows x PS_BLOCK */
    ps_early *early;      /* per (output, query of the block): values that need the series */
    int64_t n_filled;     /* queries of the block that are folded */
    int64_t place[PS_BLOCK]; /* where their answers go */
    int64_t *right, *left; /* last positions of edges per group, per window */
    int64_t *floor;        /* last rounded left edge per window: [floor, floor + hop) maps to floor */
    int64_t *low;          /* left positions of the current query, per window */
    int *with_self;        /* whether the self row must be added to a window */
    ps_reach *reaches;        /* per (window, query of the block) */
    ps_distinct *distinct; /* NULL when no output needs it */
    int32_t *order;        /* windows of the current group by falling left position */
    int32_t *indices;      /* of ps_query_rows */
    int64_t cap_indices;
    int failed; /* memory was short */
};

static inline ps_acc *ps_accs_of(const ps_scratch *w, int32_t field, int32_t window) {
    return w->accs + ((size_t)field * (size_t)w->p->n_windows + (size_t)window) * PS_BLOCK;
}

#endif
