/* The sweep: binds a view to each key's slice of the columns, builds its tree in reused memory, answers its queries. */
#include "history.h"

#include <stdlib.h>
#include <string.h>

void ps_free(void *memory) { free(memory); }

/* Working memory of a sweep. */
typedef struct {
    const ps_program *p;
    ps_scratch *scratch;
    ps_series *s;
    uint8_t *nodes;
    size_t nodes_bytes;
    int64_t *ends; /* rows of the key that are ever superseded, by kt */
    int64_t n_ends, cap_ends, next_end;
} sweep;

static void sweep_close(sweep *x) {
    ps_scratch_free(x->scratch);
    free(x->s), free(x->nodes), free(x->ends);
}

static int sweep_open(sweep *x, const ps_program *p) {
    *x = (sweep){.p = p, .scratch = ps_scratch_new(p), .s = calloc(1, sizeof(ps_series))};
    if (x->scratch && x->s) return 1;
    sweep_close(x);
    return 0;
}

static int reserve_nodes(sweep *x, size_t bytes) {
    if (bytes <= x->nodes_bytes) return 1;
    free(x->nodes);
    x->nodes_bytes = bytes * 2;
    x->nodes = aligned_alloc(64, (x->nodes_bytes + 63) / 64 * 64);
    if (!x->nodes) x->nodes_bytes = 0;
    return x->nodes != NULL;
}

static int64_t *column(const int64_t *base, int64_t first) { return base ? (int64_t *)(uintptr_t)(base + first) : NULL; }

/* Heap sort of row indices by kt: no recursion, no extra memory. */
static void sort_ends(int64_t *rows, int64_t n, const int64_t *kt) {
    for (int64_t end = n, root = n / 2;;) {
        int64_t moved;
        if (root > 0) moved = rows[--root];
        else {
            if (--end <= 0) return;
            moved = rows[end], rows[end] = rows[0];
        }
        int64_t at = root;
        for (int64_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
            if (child + 1 < end && kt[rows[child + 1]] > kt[rows[child]]) child++;
            if (kt[rows[child]] <= kt[moved]) break;
            rows[at] = rows[child], at = child;
        }
        rows[at] = moved;
    }
}

/* Rows of the key that end, so that they can be retired as `a` passes. */
static int collect_ends(sweep *x) {
    const ps_series *s = x->s;
    x->n_ends = x->next_end = 0;
    for (int64_t i = 0; s->kt && i < s->n; i++) {
        if (s->kt[i] == PS_NEVER) continue;
        if (x->n_ends == x->cap_ends) {
            int64_t cap = x->cap_ends ? 2 * x->cap_ends : 256, *more = realloc(x->ends, (size_t)cap * 8);
            if (!more) return 0;
            x->ends = more, x->cap_ends = cap;
        }
        x->ends[x->n_ends++] = i;
    }
    if (x->n_ends > 1) sort_ends(x->ends, x->n_ends, s->kt);
    return 1;
}

/* Retires what ended by `a`; all later queries ask at `a` or above. */
static void retire(sweep *x, int64_t a) {
    int64_t first = x->next_end;
    while (x->next_end < x->n_ends && x->s->kt[x->ends[x->next_end]] <= a) x->next_end++;
    if (x->next_end == first) return;
    ps_series_retire(x->s, x->ends + first, x->next_end - first, a);
    ps_scratch_retired(x->scratch, x->ends + first, x->next_end - first);
}

/* Binds the view to the rows of one key and builds its tree. Returns 1, or a negative code. */
static int bind_key(sweep *x, const ps_rows *rows, int64_t key) {
    ps_series *s = x->s;
    int64_t first = rows->start[key], n = rows->start[key + 1] - first;
    if (n > INT32_MAX) return -3;
    s->head = 0, s->n = n, s->late = INT64_MIN, s->min_kt = PS_NEVER, s->retired = INT64_MIN;
    s->t = column(rows->t, first), s->kf = column(rows->kf, first), s->kt = column(rows->kt, first), s->ord = NULL;
    s->mask = rows->mask ? (uint8_t *)(uintptr_t)(rows->mask + first * x->p->mask_bytes) : NULL;
    for (int32_t i = 0; i < x->p->n_slots; i++)
        s->slot[i] = rows->slots[i] ? (uint8_t *)(uintptr_t)(rows->slots[i] + first * x->p->slots[i].size) : NULL;
    if (s->kt) { /* most keys have nothing superseded */
        int64_t i = 0;
        while (i < n && s->kt[i] == PS_NEVER) i++;
        if (i == n) s->kt = NULL;
    }
    ps_series_shape(s, x->p, n);
    if (!reserve_nodes(x, ps_nodes_bytes(x->p, n, s->kt != NULL))) return -1;
    s->nodes = x->nodes;
    ps_series_build(s, 0);
    if (!collect_ends(x)) return -1;
    ps_scratch_reset_fixed(x->scratch);
    return 1;
}

static int is_rising(const int64_t *a, int64_t n) {
    for (int64_t i = 1; i < n; i++)
        if (a[i] < a[i - 1]) return 0;
    return 1;
}

/* Turns global self rows into rows of the key; a row of another key counts for nothing. */
static void local_self(const ps_asked *asked, int64_t from, int64_t n, int64_t first, int64_t rows, int64_t *self) {
    for (int64_t i = 0; i < n; i++) {
        int64_t x = asked->self[from + i] - first;
        self[i] = asked->self[from + i] >= 0 && x >= 0 && x < rows ? x : -1;
    }
}

static void finish(sweep *x, const ps_columns *out) {
    ps_query_finish(x->scratch, out->values, out->statuses, out->status_step > 0 ? out->status_step : 1, NULL);
}

int ps_sweep(const ps_program *p, const ps_rows *rows, const ps_asked *asked, int64_t from, int64_t to,
             const ps_columns *out) {
    sweep x;
    if (!sweep_open(&x, p)) return -1;
    int code = 0;
    int64_t self[PS_BLOCK];
    for (int64_t key = from; key < to && code >= 0; key++) {
        int64_t first = asked->start[key], end = asked->start[key + 1];
        if (first == end) continue;
        code = bind_key(&x, rows, key);
        int rising = x.n_ends && is_rising(asked->a + first, end - first);
        while (first < end && code >= 0) {
            ps_queries queries = {end - first, asked->q + first, asked->a + first, NULL, column(asked->calendar, first),
                                  asked->stride};
            int64_t room = ps_query_room(x.scratch), n = end - first < room ? end - first : room, place[PS_BLOCK];
            for (int64_t i = 0; i < n; i++) place[i] = asked->place ? asked->place[first + i] : first + i;
            if (rising) retire(&x, asked->a[first]);
            if (asked->self) local_self(asked, first, n, rows->start[key], x.s->n, self), queries.self = self;
            if (ps_query_add(x.scratch, x.s, &queries, 0, n, place) < 0) code = -1;
            if (ps_query_room(x.scratch) == 0) finish(&x, out);
            first += n;
        }
    }
    if (code >= 0) finish(&x, out);
    sweep_close(&x);
    return code < 0 ? code : 0;
}

/* A growing list of row indices. */
typedef struct {
    int64_t *rows, n, cap;
} row_list;

static int append_rows(row_list *list, const int32_t *rows, int64_t n, int64_t first) {
    if (list->n + n > list->cap) {
        int64_t cap = 2 * (list->n + n) + 1024, *more = realloc(list->rows, (size_t)cap * 8);
        if (!more) return 0;
        list->rows = more, list->cap = cap;
    }
    for (int64_t i = 0; i < n; i++) list->rows[list->n + i] = first + rows[i];
    list->n += n;
    return 1;
}

/* The first key whose queries end after `query`. */
static int64_t key_of(const ps_asked *asked, int64_t keys, int64_t query) {
    int64_t low = 0, high = keys;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (asked->start[middle + 1] <= query) low = middle + 1;
        else high = middle;
    }
    return low;
}

int64_t ps_sweep_rows(const ps_program *p, const ps_rows *rows, const ps_asked *asked, int64_t keys, int64_t from,
                      int32_t window, int32_t mask, int64_t limit, int64_t most, int64_t *lengths, int64_t **indices, int64_t *next) {
    sweep x;
    if (window < 0 || window >= p->n_windows || mask >= p->n_masks || !sweep_open(&x, p)) return -1;
    int code = 0;
    row_list list = {NULL, 0, 0};
    int64_t self, at = from;
    for (int64_t key = key_of(asked, keys, from); key < keys && code >= 0 && list.n < most; key++) {
        int64_t end = asked->start[key + 1];
        if (at >= end) continue;
        code = bind_key(&x, rows, key);
        for (; at < end && code >= 0 && list.n < most; at++) {
            ps_queries queries = {1, asked->q + at, asked->a + at, NULL, column(asked->calendar, at), asked->stride};
            if (asked->self) local_self(asked, at, 1, rows->start[key], x.s->n, &self), queries.self = &self;
            const int32_t *found;
            int64_t n = ps_query_rows_where(x.scratch, x.s, &queries, 0, window, mask, limit, &found);
            if (n < 0 || !append_rows(&list, found, n, rows->start[key])) code = -1;
            else lengths[at - from] = n;
        }
    }
    sweep_close(&x);
    if (code < 0) free(list.rows);
    *indices = code < 0 ? NULL : list.rows, *next = at;
    return code < 0 ? code : list.n;
}

void ps_fill_masks(int64_t n, int32_t n_masks, const int32_t *spec, const uint8_t *const *valid,
                   const uint8_t *const *truth, uint8_t *out) {
    int64_t bytes = (n_masks + 7) / 8;
    memset(out, 0, (size_t)(n * bytes));
    for (int32_t j = 0; j < n_masks; j++) {
        const uint8_t *tests[5] = {NULL};
        for (int k = 0; k < 3; k++) {
            int32_t slot = spec[3 * j + k];
            if (slot < 0) continue;
            tests[k] = valid[slot];
            if (k > 0) tests[k + 2] = truth[slot];
        }
        uint8_t *to = out + j / 8;
        for (int64_t i = 0; i < n; i++, to += bytes) {
            int bit = 1;
            for (int k = 0; k < 5; k++)
                if (tests[k]) bit &= tests[k][i] != 0;
            *to = (uint8_t)(*to | bit << (j % 8));
        }
    }
}
