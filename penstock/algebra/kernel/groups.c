/* A counting sort where a group's ranks lie close together, else a merge sort. */
#include "groups.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t *counts, *room;
    int64_t cap_counts, cap_room;
} workspace;

static int reserve(int64_t **memory, int64_t *cap, int64_t n) {
    if (n <= *cap) return 1;
    free(*memory);
    *memory = malloc((size_t)n * 2 * sizeof **memory);
    *cap = *memory ? n * 2 : 0;
    return *memory != NULL;
}

static int by_counting(workspace *w, int64_t first, int64_t n, int64_t least, int64_t range, const int64_t *rank, int64_t *order) {
    if (!reserve(&w->counts, &w->cap_counts, range + 1)) return 0;
    memset(w->counts, 0, (size_t)(range + 1) * sizeof *w->counts);
    for (int64_t i = 0; i < n; i++) w->counts[rank[first + i] - least + 1]++;
    for (int64_t k = 0; k < range; k++) w->counts[k + 1] += w->counts[k];
    for (int64_t i = 0; i < n; i++) order[first + w->counts[rank[first + i] - least]++] = first + i;
    return 1;
}

/* Bottom-up merges of runs of doubling width. */
static int by_merging(workspace *w, int64_t first, int64_t n, const int64_t *rank, int64_t *order) {
    if (!reserve(&w->room, &w->cap_room, n)) return 0;
    int64_t *from = order + first, *to = w->room;
    for (int64_t i = 0; i < n; i++) from[i] = first + i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t a = 0; a < n; a += 2 * width) {
            int64_t b = a + width < n ? a + width : n, c = b + width < n ? b + width : n;
            for (int64_t x = a, y = b, at = a; at < c; at++)
                to[at] = y == c || (x < b && rank[from[x]] <= rank[from[y]]) ? from[x++] : from[y++];
        }
        int64_t *swap = from;
        from = to, to = swap;
    }
    if (from != order + first) memcpy(order + first, from, (size_t)n * sizeof *from);
    return 1;
}

int ps_order_groups(int64_t n_groups, const int64_t *offsets, const int64_t *rank, int64_t *order) {
    workspace w = {NULL, NULL, 0, 0};
    int ok = 1;
    for (int64_t g = 0; g < n_groups && ok; g++) {
        int64_t first = offsets[g], n = offsets[g + 1] - first;
        if (n == 0) continue;
        int64_t least = rank[first], most = rank[first];
        for (int64_t i = first + 1; i < first + n; i++) {
            least = rank[i] < least ? rank[i] : least;
            most = rank[i] > most ? rank[i] : most;
        }
        uint64_t range = (uint64_t)most - (uint64_t)least;
        if (range < 4 * (uint64_t)n + 64) ok = by_counting(&w, first, n, least, (int64_t)range + 1, rank, order);
        else ok = by_merging(&w, first, n, rank, order);
    }
    free(w.counts), free(w.room);
    return ok ? 0 : -1;
}

void ps_hll_counts(int64_t n_groups, const int64_t *offsets, const uint64_t *hashes, int32_t *counts) {
    uint8_t registers[1 << PS_HLL_BITS] = {0};
    for (int64_t g = 0; g < n_groups; g++) {
        int32_t *out = counts + g * PS_HLL_RANKS;
        memset(out, 0, PS_HLL_RANKS * sizeof *out);
        out[0] = 1 << PS_HLL_BITS;
        for (int64_t i = offsets[g]; i < offsets[g + 1]; i++) {
            uint64_t rest = hashes[i] << PS_HLL_BITS | (uint64_t)1 << (PS_HLL_BITS - 1);
            uint8_t rank = (uint8_t)(__builtin_clzll(rest) + 1), *at = &registers[hashes[i] >> (64 - PS_HLL_BITS)];
            if (rank <= *at) continue;
            out[*at]--, out[rank]++;
            *at = rank;
        }
        if (offsets[g + 1] - offsets[g] > 1 << (PS_HLL_BITS - 3)) memset(registers, 0, sizeof registers);
        else
            for (int64_t i = offsets[g]; i < offsets[g + 1]; i++) registers[hashes[i] >> (64 - PS_HLL_BITS)] = 0;
    }
}
