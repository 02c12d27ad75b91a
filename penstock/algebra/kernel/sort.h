/* Sorting rows by (key, t, kf, ord): a counting sort by key, then a natural merge sort inside keys out of order. */
#ifndef PENSTOCK_SORT_H
#define PENSTOCK_SORT_H

#include <stdint.h>

/* key[i] in [0, n_keys). kf and ord may be NULL (both or ord alone). Writes the sorting permutation to order (n), t in
 * that order to sorted_t (n), and where each key begins to start (n_keys + 1). Equal rows stay in the order they come.
 * Returns 0, or -1 when memory is short. */
int ps_sort_rows(int64_t n, int64_t n_keys, const int64_t *key, const int64_t *t, const int64_t *kf, const int64_t *ord,
                 int64_t *order, int64_t *sorted_t, int64_t *start);

/* out[i] = values[order[i]], of 1, 8 or 16 bytes each. */
void ps_gather(int64_t n, const int64_t *order, int32_t size, const uint8_t *values, uint8_t *out);

#endif
