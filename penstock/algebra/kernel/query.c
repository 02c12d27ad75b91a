/* A block of queries over one series: edges, spans, one fold pass per field, one finishing pass per output. */
#include "query.h"

#include <stdlib.h>
#include <string.h>

#include "scratch.h"

ps_scratch *ps_scratch_new(const ps_program *p) {
    ps_scratch *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    size_t windows = (size_t)p->n_windows + 1, groups = (size_t)p->n_groups + 1;
    w->p = p, w->cap_spans = 4096;
    w->spans = malloc((size_t)w->cap_spans * sizeof *w->spans);
    w->segments = malloc(PS_BLOCK * windows * sizeof *w->segments);
    w->groups = malloc(PS_BLOCK * groups * sizeof *w->groups);
    w->rows = malloc(PS_BLOCK * windows * sizeof *w->rows);
    w->accs = malloc(PS_BLOCK * windows * ((size_t)p->n_fields + 1) * sizeof *w->accs);
    w->right = calloc(groups, 8), w->left = calloc(windows, 8), w->floor = calloc(windows, 8), w->low = calloc(windows, 8);
    w->with_self = calloc(windows, sizeof(int)), w->order = calloc(windows, sizeof(int32_t));
    w->reaches = malloc(PS_BLOCK * windows * sizeof *w->reaches);
    w->early = malloc(PS_BLOCK * ((size_t)p->n_outputs + 1) * sizeof *w->early);
    int distinct = 0;
    for (int32_t i = 0; i < p->n_outputs; i++) distinct |= p->outputs[i].op == PS_OUT_DISTINCT;
    if (distinct) w->distinct = ps_distinct_new(p);
    if (w->reaches && w->early && (w->distinct || !distinct) && w->spans && w->segments && w->groups && w->rows && w->accs && w->right && w->left && w->floor && w->low &&
        w->with_self && w->order)
        return w;
    ps_scratch_free(w);
    return NULL;
}

void ps_scratch_free(ps_scratch *w) {
    if (!w) return;
    free(w->spans), free(w->segments), free(w->groups), free(w->rows), free(w->accs), free(w->right), free(w->left);
    free(w->floor), free(w->low), free(w->with_self), free(w->order), free(w->indices);
    free(w->reaches), free(w->early), ps_distinct_free(w->distinct);
    free(w);
}

static void reset(ps_scratch *w, int fixed) {
    if (w->distinct) ps_distinct_reset(w->distinct, fixed);
    memset(w->right, 0, (size_t)w->p->n_groups * 8);
    memset(w->left, 0, (size_t)w->p->n_windows * 8);
}

void ps_scratch_reset(ps_scratch *w) { reset(w, 0); }
void ps_scratch_reset_fixed(ps_scratch *w) { reset(w, 1); }
void ps_scratch_retired(ps_scratch *w, const int64_t *rows, int64_t n) {
    if (w->distinct) ps_distinct_retired(w->distinct, rows, n);
}

/* ---- edges ---- */

static int64_t plus(int64_t x, int64_t y) {
    int64_t out;
    return __builtin_add_overflow(x, y, &out) ? (y > 0 ? INT64_MAX : INT64_MIN) : out;
}
static int64_t minus(int64_t x, int64_t y) {
    int64_t out;
    return __builtin_sub_overflow(x, y, &out) ? (y > 0 ? INT64_MIN : INT64_MAX) : out;
}

static int64_t floor_to(int64_t x, int64_t hop) {
    int64_t rest = x % hop;
    return minus(x, rest < 0 ? rest + hop : rest);
}

/* First row of [head, n) with t >= x, searched by doubling steps from where the last search ended. */
static int64_t seek(const ps_series *s, int64_t x, int64_t from) {
    int64_t low, high, step = 1;
    from = from < s->head ? s->head : from > s->n ? s->n : from;
    if (from < s->n && s->t[from] < x) {
        low = from + 1, high = low;
        while (high < s->n && s->t[high] < x) low = high + 1, high = s->n - high > step ? high + step : s->n, step *= 2;
    } else {
        high = from, low = high;
        while (low > s->head && s->t[low - 1] >= x) {
            high = low - 1;
            low = low - s->head > step ? low - step : s->head, step *= 2;
        }
    }
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (s->t[middle] < x) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Left edge of a window that is cut by time. */
static int64_t left_edge(ps_scratch *w, int32_t index, int64_t end, const ps_queries *queries, int64_t i) {
    const ps_window *window = &w->p->windows[index];
    int64_t edge;
    if (window->kind == PS_LIFETIME) return INT64_MIN;
    if (window->kind == PS_CALENDAR) edge = queries->calendar[window->calendar * queries->calendar_stride + i];
    else {
        edge = minus(end, window->width);
        if (window->hop > 0) {
            if (edge < w->floor[index] || edge - w->floor[index] >= window->hop) w->floor[index] = floor_to(edge, window->hop);
            edge = w->floor[index];
        }
    }
    return window->closed == PS_RIGHT ? plus(edge, 1) : edge;
}

/* ---- visibility ---- */

typedef struct {
    const ps_series *s;
    int64_t a;
    int64_t gap; /* the self row, not visible by itself before the right edge, stands before row `gap`; -1: none */
} view;

static int row_visible(const view *v, int64_t i) {
    return v->s->kf[i] <= v->a && (!v->s->kt || v->s->kt[i] > v->a);
}

enum { NONE, SOME, EVERY };

static int node_visible(const view *v, int32_t level, int64_t j) {
    const ps_series *s = v->s;
    if (level == 0) return row_visible(v, j) ? EVERY : NONE;
    if (ps_min_kf(s, level)[j] > v->a) return NONE;
    return ps_max_kf(s, level)[j] <= v->a && (!s->kt || ps_node_kt(s, level)[j] > v->a) ? EVERY : SOME;
}

/* ---- spans ---- */

static void push(ps_scratch *w, int32_t level, int64_t b, int64_t e) {
    if (w->n_spans == w->cap_spans) {
        ps_span *more = w->cap_spans < INT32_MAX / 2 ? realloc(w->spans, 2 * (size_t)w->cap_spans * sizeof *more) : NULL;
        if (!more) {
            w->failed = 1;
            return;
        }
        w->spans = more, w->cap_spans *= 2;
    }
    w->spans[w->n_spans++] = (ps_span){level, (int32_t)b, (int32_t)e};
}

/* The visible part of nodes [b, e) of a level. */
static void push_visible(ps_scratch *w, const view *v, int32_t level, int64_t b, int64_t e) {
    int64_t open = b;
    for (int64_t j = b; j < e; j++) {
        int seen = node_visible(v, level, j);
        if (seen == EVERY) continue;
        if (open < j) push(w, level, open, j);
        open = j + 1;
        if (seen == SOME) push_visible(w, v, level - 1, j << PS_FAN_BITS, (j + 1) << PS_FAN_BITS);
    }
    if (open < e) push(w, level, open, e);
}

/* Rows [b, e) as nodes: climbs while a whole parent fits between the edges. */
static void push_rows(ps_scratch *w, const view *v, int64_t b, int64_t e, int checked) {
    const ps_series *s = v->s;
    int32_t level = 0;
    for (; level < s->levels; level++) {
        int64_t up = (b + PS_FAN - 1) >> PS_FAN_BITS, down = e >> PS_FAN_BITS;
        if (up >= down) break;
        int64_t inner = up << PS_FAN_BITS, outer = down << PS_FAN_BITS;
        if (checked) {
            push_visible(w, v, level, b, inner);
            push_visible(w, v, level, outer, e);
        } else {
            if (b < inner) push(w, level, b, inner);
            if (outer < e) push(w, level, outer, e);
        }
        b = up, e = down;
    }
    if (checked) push_visible(w, v, level, b, e);
    else if (b < e) push(w, level, b, e);
}

/* Whether rows [b, e) may hold an invisible one: rows older than a - late are known, whatever their kf. */
static int needs_check(const view *v, int64_t b, int64_t e) {
    const ps_series *s = v->s;
    if (b >= e) return 0;
    return s->min_kt <= v->a || (s->kt && s->retired > INT64_MIN) || minus(v->a, s->late) < s->t[e - 1];
}

static int64_t rows_in(const ps_series *s, const ps_span *span) {
    if (span->level == 0 || span->level == PS_EXTERNAL) return span->e - span->b;
    if (span->level == PS_PREFIX) return *ps_prefix_rows(s);
    if (!s->kt) return (int64_t)(span->e - span->b) << (PS_FAN_BITS * span->level);
    int64_t sum = 0;
    const int64_t *alive = ps_alive(s, span->level);
    for (int32_t i = span->b; i < span->e; i++) sum += alive[i];
    return sum;
}

/* Left position of the window of the `need` newest rows before `high`, of the visible ones and the self row. */
static int64_t nth_from_right(const view *v, int64_t high, int64_t need, int *with_self) {
    const ps_series *s = v->s;
    int64_t at = high;
    *with_self = 0;
    while (need > 0) {
        if (!*with_self && v->gap >= at) {
            *with_self = 1, need--;
            continue;
        }
        if (at <= s->head) break;
        int32_t level = 0;
        while (level < s->levels && (at & (((int64_t)1 << (PS_FAN_BITS * (level + 1))) - 1)) == 0 &&
               at - ((int64_t)1 << (PS_FAN_BITS * (level + 1))) >= s->head)
            level++;
        for (;; level--) {
            int64_t j = (at >> (PS_FAN_BITS * level)) - 1, begin = j << (PS_FAN_BITS * level);
            if (level > 0 && !*with_self && v->gap > begin) continue;
            int seen = node_visible(v, level, j);
            ps_span span = {level, (int32_t)j, (int32_t)j + 1};
            int64_t count = seen == EVERY ? rows_in(s, &span) : 0;
            if (seen == SOME || count > need) continue;
            need -= count;
            break;
        }
        at -= (int64_t)1 << (PS_FAN_BITS * level);
    }
    return at;
}

/* ---- one query ---- */

/* The self row of a query for one group: it counts once in every window without offset, wherever it lies. */
typedef struct {
    int64_t index; /* of the row, or of the row before which the external one stands */
    int counts, external;
    int inside; /* visible before the right edge, so that a window that reaches it needs nothing more */
} self_row;

static self_row find_self(const ps_series *s, const ps_queries *queries, int64_t i, int64_t offset, int64_t high) {
    self_row self = {queries->self ? queries->self[i] : -1, 0, 0, 0};
    if (offset != 0 || self.index == -1) return self;
    if (self.index == -2) {
        const ps_series *x = s->external;
        if (!x) return self;
        self.index = ps_series_place(s, x->t[0], x->kf[0], x->ord ? x->ord[0] : INT64_MAX);
        self.external = 1;
    } else {
        if (self.index < s->head || self.index >= s->n) return self;
        view v = {s, queries->a[i], -1};
        self.inside = self.index < high && row_visible(&v, self.index);
    }
    self.counts = 1;
    return self;
}

/* Whether window x reaches further left than y; a lifetime reaches further than any row, into the prefix. */
static int is_wider(const ps_scratch *w, int32_t x, int32_t y) {
    if (w->low[x] != w->low[y]) return w->low[x] < w->low[y];
    return w->p->windows[x].kind == PS_LIFETIME && w->p->windows[y].kind != PS_LIFETIME;
}

/* Left positions of the windows of a group; fills w->low and sorts `order` by falling position. A self row is not
 * carried from one segment to the next, so the order need not heed it. */
static void left_positions(ps_scratch *w, const view *v, const ps_group *group, const ps_queries *queries, int64_t i,
                           int64_t end, int64_t high, const self_row *self) {
    const ps_series *s = v->s;
    for (int32_t k = 0; k < group->n_windows; k++) {
        int32_t index = group->windows[k];
        const ps_window *window = &w->p->windows[index];
        if (window->kind == PS_ROWS) {
            w->low[index] = nth_from_right(v, high, window->n, &w->with_self[index]);
        } else {
            w->left[index] = seek(s, left_edge(w, index, end, queries, i), w->left[index]);
            w->low[index] = w->left[index] < high ? w->left[index] : high;
        }
        if (window->kind != PS_ROWS)
            w->with_self[index] = self->counts && !(self->inside && self->index >= w->low[index]);
        int32_t at = k;
        for (; at > 0 && is_wider(w, w->order[at - 1], index); at--) w->order[at] = w->order[at - 1];
        w->order[at] = index;
    }
}

static void cut_group(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t i, int32_t g, int64_t at, int64_t slot) {
    const ps_group *group = &w->p->groups[g];
    int64_t end = minus(queries->q[i], group->offset), high = seek(s, group->closed ? plus(end, 1) : end, w->right[g]);
    w->right[g] = high;
    self_row self = find_self(s, queries, i, group->offset, high);
    view v = {s, queries->a[i], self.counts && !self.inside ? self.index + !self.external : -1};
    left_positions(w, &v, group, queries, i, end, high, &self);
    ps_run *run = &w->groups[at * w->p->n_groups + g];
    int32_t self_at = self.external ? 0 : (int32_t)self.index;
    *run = (ps_run){end, w->n_segments, 0, {self.external ? PS_EXTERNAL : 0, self_at, self_at + 1}};
    int64_t e = high, rows = 0;
    int prefixed = s->prefixed;
    for (int32_t k = 0; k < group->n_windows; k++) {
        int32_t first = w->n_spans, window = w->order[k];
        int64_t b = w->low[window];
        if (b < e) push_rows(w, &v, b, e, needs_check(&v, b, e)), e = b;
        if (prefixed && w->p->windows[window].kind == PS_LIFETIME) push(w, PS_PREFIX, 0, 1), prefixed = 0;
        for (int32_t j = first; j < w->n_spans; j++) rows += rows_in(s, &w->spans[j]);
        int32_t with_self = w->with_self[window];
        w->rows[window * PS_BLOCK + slot] = rows + with_self;
        w->reaches[window * PS_BLOCK + slot] = (ps_reach){b, high, with_self ? (self.external ? -2 : self.index) : -1};
        w->segments[w->n_segments++] = (ps_segment){window, first, w->n_spans, with_self};
    }
    run->end = w->n_segments;
}

/* ---- folding ---- */

static void fold_field(ps_scratch *w, const ps_series *s, int32_t index, int64_t n) {
    const ps_field *f = &w->p->fields[index];
    ps_fold fold = ps_fold_of(f);
    const ps_run *run = w->groups;
    for (int64_t i = 0; i < n; i++)
        for (int32_t g = 0; g < w->p->n_groups; g++, run++) {
            ps_acc acc;
            ps_acc_init(f, run->ref, &acc);
            for (const ps_segment *part = w->segments + run->first; part < w->segments + run->end; part++) {
                if (part->first < part->end) fold(s, f, w->spans + part->first, part->end - part->first, &acc);
                ps_acc *to = ps_accs_of(w, index, part->window) + w->n_filled + i;
                *to = acc;
                if (part->self) fold(s, f, &run->self, 1, to);
            }
        }
}

static int early_row(const ps_series *s, const ps_output *o, int64_t row, uint8_t *value) {
    if (row < 0) return PS_EMPTY;
    const ps_series *r = row % 2 ? s : s->external;
    size_t at = row % 2 ? (size_t)(row / 2) : 0, size = (size_t)o->size;
    memcpy(value, r->slot[o->slot] + at * size, size);
    return PS_OK;
}

static int early_distinct(ps_scratch *w, const ps_series *s, int32_t index, const ps_reach *x, int64_t a, uint8_t *value) {
    ps_range range = {x->low, x->high, a, x->self};
    int64_t found = ps_distinct_count(w->distinct, s, index, &range);
    if (found == -1) w->failed = 1;
    if (found < 0) return PS_LIMIT;
    memcpy(value, &found, 8);
    return found ? PS_OK : PS_ZERO;
}

/* Values that only the series knows: those of rows, and counts of different values. */
static void fill_early(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t from, int64_t n) {
    for (int32_t k = 0; k < w->p->n_outputs; k++) {
        const ps_output *o = &w->p->outputs[k];
        if (o->op != PS_OUT_ROW && o->op != PS_OUT_DISTINCT) continue;
        ps_early *early = w->early + (size_t)k * PS_BLOCK + w->n_filled;
        const ps_reach *reach = w->reaches + (size_t)o->window * PS_BLOCK + w->n_filled;
        for (int64_t i = 0; i < n; i++) {
            memset(early[i].value, 0, sizeof early[i].value);
            if (o->op == PS_OUT_DISTINCT)
                early[i].status = early_distinct(w, s, k, reach + i, queries->a[from + i], early[i].value);
            else early[i].status = early_row(s, o, ps_accs_of(w, o->a, o->window)[w->n_filled + i].i, early[i].value);
        }
    }
}

int64_t ps_query_room(const ps_scratch *w) { return PS_BLOCK - w->n_filled; }

int ps_query_add(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t from, int64_t n,
                 const int64_t *place) {
    w->n_spans = w->n_segments = 0, w->failed = 0;
    for (int64_t i = 0; i < n; i++) {
        w->place[w->n_filled + i] = place[i];
        for (int32_t g = 0; g < w->p->n_groups; g++) cut_group(w, s, queries, from + i, g, i, w->n_filled + i);
    }
    if (w->failed) return -1;
    for (int32_t f = 0; f < w->p->n_fields; f++) fold_field(w, s, f, n);
    fill_early(w, s, queries, from, n);
    w->n_filled += n;
    return w->failed ? -1 : 0;
}

int ps_query_block(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t from, int64_t n,
                   uint8_t *records) {
    int64_t place[PS_BLOCK];
    for (int64_t i = 0; i < n; i++) place[i] = i;
    w->n_filled = 0;
    if (ps_query_add(w, s, queries, from, n, place) < 0) return -1;
    ps_query_finish(w, NULL, NULL, 1, records);
    return 0;
}

/* ---- visible rows ---- */

static int put_index(ps_scratch *w, int64_t at, int64_t row) {
    if (at == w->cap_indices) {
        int64_t cap = w->cap_indices ? 2 * w->cap_indices : 1024;
        int32_t *more = realloc(w->indices, (size_t)cap * sizeof *more);
        if (!more) return 0;
        w->indices = more, w->cap_indices = cap;
    }
    w->indices[at] = (int32_t)row;
    return 1;
}

int64_t ps_query_rows_where(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t i, int32_t window,
                            int32_t mask, int64_t limit, const int32_t **rows) {
    const ps_window *kind = &w->p->windows[window];
    int64_t end = minus(queries->q[i], kind->offset), high = seek(s, kind->closed ? plus(end, 1) : end, w->right[kind->group]);
    self_row self = find_self(s, queries, i, kind->offset, high);
    view v = {s, queries->a[i], self.counts && !self.inside ? self.index + !self.external : -1};
    ps_group alone = {kind->offset, kind->closed != PS_LEFT, 1, &window};
    w->right[kind->group] = high;
    left_positions(w, &v, &alone, queries, i, end, high, &self);
    int64_t low = w->low[window], n = 0, at = self.external ? s->n : self.index;
    int pending = w->with_self[window];
    if (pending && mask >= 0) pending = self.external ? ps_bit(s->external, 0, mask) : ps_bit(s, self.index, mask);
    limit = limit < 0 ? INT64_MAX : limit;
    /* Newest first, then turned round. */
    for (int64_t j = high; n < limit; j--) {
        if (pending && (j <= v.gap || (self.inside && j <= self.index + 1) || j == low)) {
            if (!put_index(w, n++, at)) return -1;
            pending = 0, j++;
            continue;
        }
        if (j <= low) break;
        if ((mask >= 0 && !ps_bit(s, j - 1, mask)) || !row_visible(&v, j - 1)) continue;
        if (!put_index(w, n++, j - 1)) return -1;
    }
    for (int64_t x = 0, y = n - 1; x < y; x++, y--) {
        int32_t swap = w->indices[x];
        w->indices[x] = w->indices[y], w->indices[y] = swap;
    }
    *rows = w->indices;
    return n;
}

int64_t ps_query_rows(ps_scratch *w, const ps_series *s, const ps_queries *queries, int64_t i, int32_t window,
                      int64_t limit, const int32_t **rows) {
    return ps_query_rows_where(w, s, queries, i, window, PS_ALL, limit, rows);
}
