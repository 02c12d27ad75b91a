/* Ragged groups of rows: ordering inside groups, and registers of approximate counts. */
#ifndef PENSTOCK_GROUPS_H
#define PENSTOCK_GROUPS_H

#include <stdint.h>

/* Group g owns places [offsets[g], offsets[g + 1]). Writes to order the places of each group by rank, equal ranks in
 * the order they come. Returns 0, or -1 when memory is short. */
int ps_order_groups(int64_t n_groups, const int64_t *offsets, const int64_t *rank, int64_t *order);

enum { PS_HLL_BITS = 12, PS_HLL_RANKS = 64 - PS_HLL_BITS + 2 };

/* How many of the 4,096 HyperLogLog registers of each group hold each rank, 0 to 53: counts[g * 54 + rank]. */
void ps_hll_counts(int64_t n_groups, const int64_t *offsets, const uint64_t *hashes, int32_t *counts);

#endif
