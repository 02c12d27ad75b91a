/* Which rows fold, and folding them. */
#include "prefix.h"

#include <stdlib.h>
#include <string.h>

#include "fold.h"

/* ---- which ---- */

static int is_settled(const ps_series *s, const ps_horizon *h, int64_t i) {
    return s->kf[i] <= h->fold_rank && (!s->kt || s->kt[i] == PS_NEVER);
}

static int is_kept(const ps_series *s, const ps_horizon *h, const ps_keep *k, int64_t i) {
    return is_settled(s, h, i) && (k->mask < 0 || ps_bit(s, i, k->mask));
}

static uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return x ^ x >> 29;
}

/* The oldest row of each different value stays, of at most k->n values. */
static int keep_distinct(const ps_series *s, const ps_horizon *h, const ps_keep *k, int64_t end, uint8_t *marks) {
    size_t size = (size_t)s->p->slots[k->slot].size, places = 16;
    int64_t most = k->n && k->n < end - s->head ? k->n : end - s->head;
    while (places < 2 * (size_t)most) places *= 2;
    int64_t *table = calloc(places, sizeof *table); /* 1 + index of a row */
    if (!table) return -1;
    for (int64_t i = s->head, n = 0; i < end && n < most; i++) {
        if (!is_kept(s, h, k, i)) continue;
        const uint8_t *value = s->slot[k->slot] + (size_t)i * size;
        uint64_t parts[2] = {0, 0};
        memcpy(parts, value, size);
        size_t at = (size_t)mixed(parts[0] ^ mixed(parts[1])) & (places - 1);
        while (table[at] && memcmp(s->slot[k->slot] + (size_t)(table[at] - 1) * size, value, size)) at = (at + 1) & (places - 1);
        if (table[at]) continue;
        table[at] = i + 1, marks[i - s->head] = PS_STAYS, n++;
    }
    free(table);
    return 0;
}

int64_t ps_prefix_marks(const ps_series *s, const ps_horizon *h, uint8_t *marks, int64_t *n_marks) {
    int64_t end = ps_series_lower(s, h->fold_t), leaving = 0;
    *n_marks = end - s->head;
    for (int64_t i = s->head; i < end; i++) {
        int ended = s->kt && s->kt[i] <= h->settled;
        marks[i - s->head] = ended ? PS_GOES : !is_settled(s, h, i) ? PS_STAYS : s->p->prefix ? PS_FOLDS : PS_GOES;
    }
    for (int32_t j = 0; j < s->p->n_keeps; j++) {
        const ps_keep *k = &s->p->keeps[j];
        int64_t n = 0;
        if (k->op == PS_KEEP_DISTINCT) {
            if (keep_distinct(s, h, k, end, marks)) return -1;
        } else if (k->op == PS_KEEP_FIRST) {
            for (int64_t i = s->head; i < end && n < k->n; i++)
                if (is_kept(s, h, k, i)) marks[i - s->head] = PS_STAYS, n++;
        } else {
            for (int64_t i = end; i > s->head && n < k->n; i--)
                if (is_kept(s, h, k, i - 1)) marks[i - 1 - s->head] = PS_STAYS, n++;
        }
    }
    for (int64_t i = 0; i < *n_marks; i++) leaving += marks[i] != PS_STAYS;
    return leaving;
}

int ps_prefix_pays(const ps_series *s, int64_t n_leaving) {
    if (!s->p->prefix || s->prefixed) return n_leaving > 0;
    size_t row = 16 + (s->kt ? 8 : 0) + (s->ord ? 8 : 0) + (size_t)s->p->mask_bytes;
    for (int32_t i = 0; i < s->p->n_slots; i++) row += (size_t)s->p->slots[i].size;
    return (size_t)n_leaving * row > s->bounds + s->p->node_bytes;
}

/* ---- folding ---- */

static void fold_field(const ps_series *from, ps_series *to, const ps_field *f, const uint8_t *marks, int64_t n_marks) {
    ps_acc acc;
    int decays = f->op == PS_DECAY || f->op == PS_DECAY_COUNT;
    ps_acc_init(f, decays ? ps_prefix_ref(f, *ps_prefix_t(to)) : 0, &acc);
    if (f->op != PS_FIRST && f->op != PS_LAST) { /* those find a row that stays */
        ps_fold fold = ps_fold_of(f);
        ps_span before = {PS_PREFIX, 0, 1};
        if (from->prefixed) fold(from, f, &before, 1, &acc);
        for (int64_t i = 0; i < n_marks; i++) {
            ps_span row = {0, (int32_t)(from->head + i), (int32_t)(from->head + i) + 1};
            if (marks[i] == PS_FOLDS) fold(from, f, &row, 1, &acc);
        }
    }
    ps_acc_store(to, f, PS_PREFIX, 0, &acc);
}

void ps_prefix_fold(const ps_series *from, ps_series *to, const uint8_t *marks, int64_t n_marks) {
    int64_t rows = from->prefixed ? *ps_prefix_rows(from) : 0, t = from->prefixed ? *ps_prefix_t(from) : 0;
    for (int64_t i = 0; i < n_marks; i++) {
        if (marks[i] != PS_FOLDS) continue;
        if (!rows++ || from->t[from->head + i] > t) t = from->t[from->head + i];
    }
    memset((void *)ps_prefix_rows(to), 0, to->bounds);
    *ps_prefix_rows(to) = rows, *ps_prefix_t(to) = t;
    for (int32_t k = 0; k < to->p->n_fields; k++) fold_field(from, to, &to->p->fields[k], marks, n_marks);
}
