/* The prefix: one node that stands for the oldest rows of a series, merged for good.
 *
 * A lifetime window has no left edge, so rows that every query to come covers and knows, and that no correction can
 * reach, need not stay rows: their fields are merged into the prefix, which lifetime windows take whole. Rows that some
 * query may still want as rows stay (the program's `keeps`: the first, the newest n, one of each different value), and
 * are merged when others take their place. A program without a prefix (the newest row as of an instant, windows of
 * the n newest rows) forgets what it does not keep. */
#ifndef PENSTOCK_PREFIX_H
#define PENSTOCK_PREFIX_H

#include "series.h"

/* What may be let go of. Rows before `cutoff` are covered by no query; no query asks below rank `settled` any more.
 * Every query to come covers rows before `fold_t` in all its windows without left edge, and in no other; no correction
 * ends a row of rank at most `fold_rank` any more. */
typedef struct {
    int64_t cutoff, settled, fold_t, fold_rank;
} ps_horizon;

enum ps_mark { PS_STAYS = 0, PS_FOLDS, PS_GOES };

/* What becomes of each row before the horizon's fold_t: marks[i] of row head + i, for the first *n_marks rows. `marks` has
 * room for n - head. Returns how many do not stay, or -1 when memory is short. */
int64_t ps_prefix_marks(const ps_series *s, const ps_horizon *h, uint8_t *marks, int64_t *n_marks);
/* Fills the prefix of `to` with that of `from`, if it has one, and the marked rows of `from`, one after the other, so
 * that it does not matter how many are folded at once. */
void ps_prefix_fold(const ps_series *from, ps_series *to, const uint8_t *marks, int64_t n_marks);
/* Whether the bytes of the rows that leave are more than those of a prefix that is not there yet. */
int ps_prefix_pays(const ps_series *s, int64_t n_leaving);

#endif
