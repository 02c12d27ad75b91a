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

/* Rows by part, hash >> 20 modulo parts (a power of two): their places in order of part, and in the order they come
 * inside a part; and where each part begins (parts + 1). */
void ps_split(int64_t n, const uint64_t *hash, int32_t parts, int64_t *order, int64_t *edges);

/* Writes columns of 8 bytes a row to one place per part and column: to[p * columns + c] gets the values of part p. */
void ps_deal(int32_t columns, const uint64_t *const *values, int32_t parts, const int64_t *order, const int64_t *edges,
             uint64_t *const *to);

#endif
