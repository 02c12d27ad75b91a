/* Most input comes nearly in order of time, so inside a key the sort merges the runs it finds. */
#include "sort.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t t, kf, ord, row;
} item;

static int is_before(const item *x, const item *y) {
    if (x->t != y->t) return x->t < y->t;
    if (x->kf != y->kf) return x->kf < y->kf;
    return x->ord < y->ord;
}

/* Merges [a, b) and [b, c) of `from` into `to`, the left one first among equals. */
static void merge(const item *from, item *to, int64_t a, int64_t b, int64_t c) {
    for (int64_t x = a, y = b, at = a; at < c; at++)
        to[at] = y == c || (x < b && !is_before(&from[y], &from[x])) ? from[x++] : from[y++];
}

static int64_t run_end(const item *items, int64_t from, int64_t n) {
    int64_t end = from + 1;
    while (end < n && !is_before(&items[end], &items[end - 1])) end++;
    return end < n ? end : n;
}

/* A few rows out of place are moved by insertion; 0 when that would take too long. The items stay a valid array. */
static int insertion(item *items, int64_t n) {
    int64_t moves = 8 * n;
    for (int64_t i = 1; i < n; i++) {
        if (!is_before(&items[i], &items[i - 1])) continue;
        item moved = items[i];
        int64_t at = i;
        for (; at > 0 && is_before(&moved, &items[at - 1]); at--, moves--) items[at] = items[at - 1];
        items[at] = moved;
        if (moves < 0) return 0;
    }
    return 1;
}

/* Sorted items; in `items` or in `room`. */
static item *natural_merge(item *items, item *room, int64_t n) {
    for (int sorted = 0; !sorted;) {
        sorted = 1;
        for (int64_t a = 0; a < n;) {
            int64_t b = run_end(items, a, n), c = b < n ? run_end(items, b, n) : n;
            if (b < n) sorted = 0;
            merge(items, room, a, b, c);
            a = c;
        }
        item *swap = items;
        items = room, room = swap;
    }
    return items;
}

static int in_order(const int64_t *t, int64_t n) {
    for (int64_t i = 1; i < n; i++)
        if (t[i] <= t[i - 1]) return 0;
    return 1;
}

typedef struct {
    item *items, *room;
    int64_t cap;
} workspace;

static int reserve(workspace *w, int64_t n) {
    if (n <= w->cap) return 1;
    free(w->items), free(w->room);
    w->cap = 2 * n;
    w->items = malloc((size_t)w->cap * sizeof(item)), w->room = malloc((size_t)w->cap * sizeof(item));
    return w->items && w->room;
}

static int sort_key(workspace *w, int64_t n, const int64_t *kf, const int64_t *ord, int64_t *order, int64_t *t) {
    if (!reserve(w, n)) return 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = order[i];
        w->items[i] = (item){t[i], kf ? kf[row] : 0, ord ? ord[row] : 0, row};
    }
    item *sorted = insertion(w->items, n) ? w->items : natural_merge(w->items, w->room, n);
    for (int64_t i = 0; i < n; i++) order[i] = sorted[i].row, t[i] = sorted[i].t;
    return 1;
}

int ps_sort_rows(int64_t n, int64_t n_keys, const int64_t *key, const int64_t *t, const int64_t *kf, const int64_t *ord,
                 int64_t *order, int64_t *sorted_t, int64_t *start) {
    memset(start, 0, (size_t)(n_keys + 1) * sizeof *start);
    for (int64_t i = 0; i < n; i++) start[key[i] + 1]++;
    for (int64_t k = 0; k < n_keys; k++) start[k + 1] += start[k];
    for (int64_t i = 0; i < n; i++) { /* start[k] runs to the end of key k, which is where key k + 1 begins */
        int64_t at = start[key[i]]++;
        order[at] = i, sorted_t[at] = t[i];
    }
    memmove(start + 1, start, (size_t)n_keys * sizeof *start);
    start[0] = 0;
    workspace w = {NULL, NULL, 0};
    int ok = 1;
    for (int64_t k = 0; k < n_keys && ok; k++) {
        int64_t first = start[k], count = start[k + 1] - first;
        if (!in_order(sorted_t + first, count)) ok = sort_key(&w, count, kf, ord, order + first, sorted_t + first);
    }
    free(w.items), free(w.room);
    return ok ? 0 : -1;
}

void ps_gather(int64_t n, const int64_t *order, int32_t size, const uint8_t *values, uint8_t *out) {
    const uint64_t *from = (const uint64_t *)(const void *)values;
    uint64_t *to = (uint64_t *)(void *)out;
    if (size == 8)
        for (int64_t i = 0; i < n; i++) to[i] = from[order[i]];
    else if (size == 16)
        for (int64_t i = 0; i < n; i++) to[2 * i] = from[2 * order[i]], to[2 * i + 1] = from[2 * order[i] + 1];
    else
        for (int64_t i = 0; i < n; i++) out[i] = values[order[i]];
}

static int64_t part_of(uint64_t hash, uint64_t mask) { return (int64_t)(hash >> 20 & mask); }

void ps_split(int64_t n, const uint64_t *hash, int32_t parts, int64_t *order, int64_t *edges) {
    uint64_t mask = (uint64_t)parts - 1;
    memset(edges, 0, (size_t)(parts + 1) * sizeof *edges);
    for (int64_t i = 0; i < n; i++) edges[part_of(hash[i], mask) + 1]++;
    for (int32_t p = 0; p < parts; p++) edges[p + 1] += edges[p];
    for (int64_t i = 0; i < n; i++) order[edges[part_of(hash[i], mask)]++] = i; /* edges[p] runs to where p + 1 begins */
    memmove(edges + 1, edges, (size_t)parts * sizeof *edges);
    edges[0] = 0;
}

void ps_deal(int32_t columns, const uint64_t *const *values, int32_t parts, const int64_t *order, const int64_t *edges,
             uint64_t *const *to) {
    for (int32_t c = 0; c < columns; c++)
        for (int32_t p = 0; p < parts; p++) {
            uint64_t *out = to[p * columns + c];
            for (int64_t i = edges[p]; i < edges[p + 1]; i++) *out++ = values[c][order[i]];
        }
}
