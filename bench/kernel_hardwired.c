/* Workload W's columns computed by code written for them alone: the peer of the generic kernel in bench/kernel.py.
 * Same algorithm (16-way blocks, merged only, known time honoured), one struct per block, one fused loop. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOWS = 5, LEVELS = 6, FAN = 16, CATEGORIES = 64 };

typedef struct {
    int64_t n, sum, min, max, max_kf;
    double mean, m2;
} block;

typedef struct {
    int32_t level;
    int64_t b, e;
} span;

static void fold(const block *tree, const int64_t *m, const int64_t *off, const int64_t *x, const span *s, int n, block *acc) {
    int64_t count = 0, sum = 0, least = acc->min, most = acc->max;
    (void)m;
    for (int i = 0; i < n; i++) {
        if (s[i].level == 0)
            for (int64_t j = s[i].b; j < s[i].e; j++) count++, sum += x[j], least = x[j] < least ? x[j] : least, most = x[j] > most ? x[j] : most;
        else
            for (const block *k = tree + off[s[i].level] + s[i].b, *e = tree + off[s[i].level] + s[i].e; k < e; k++)
                count += k->n, sum += k->sum, least = k->min < least ? k->min : least, most = k->max > most ? k->max : most;
    }
    if (!count) return;
    double center = (double)sum / (double)count, m2 = 0;
    for (int i = 0; i < n; i++) {
        if (s[i].level == 0)
            for (int64_t j = s[i].b; j < s[i].e; j++) m2 += ((double)x[j] - center) * ((double)x[j] - center);
        else
            for (const block *k = tree + off[s[i].level] + s[i].b, *e = tree + off[s[i].level] + s[i].e; k < e; k++)
                m2 += k->m2 + (double)k->n * (k->mean - center) * (k->mean - center);
    }
    double total = (double)(acc->n + count), delta = center - acc->mean;
    if (!acc->n) acc->mean = center, acc->m2 = m2;
    else acc->m2 += m2 + delta * delta * (double)acc->n * (double)count / total, acc->mean += delta * (double)count / total;
    acc->n += count, acc->sum += sum, acc->min = least, acc->max = most;
}

static int visible(span *out, int n, const int64_t *kf, int64_t b, int64_t e, int64_t a) {
    for (int64_t i = b; i < e; i++) {
        if (kf[i] > a) continue;
        if (n && out[n - 1].level == 0 && out[n - 1].e == i) out[n - 1].e++;
        else out[n++] = (span){0, i, i + 1};
    }
    return n;
}

static int cut(span *out, int64_t b, int64_t e, int levels) {
    int n = 0, level = 0;
    for (; level < levels; level++) {
        int64_t up = (b + FAN - 1) / FAN, down = e / FAN;
        if (up >= down) break;
        if (b < up * FAN) out[n++] = (span){level, b, up * FAN};
        if (down * FAN < e) out[n++] = (span){level, down * FAN, e};
        b = up, e = down;
    }
    if (b < e) out[n++] = (span){level, b, e};
    return n;
}

/* Columns per query: count x 5, sum x 5, mean x 5, min x 5, max x 5, std x 5, last, distinct; at out[column][place[query]]. */
void hardwired(int64_t n_keys, const int64_t *start, const int64_t *t, const int64_t *kf, const int64_t *amount, const int64_t *category,
               const int64_t *asked, const int64_t *q, const int64_t *place, const int64_t *widths, int64_t **out) {
    int64_t most = 0;
    for (int64_t k = 0; k < n_keys; k++) most = start[k + 1] - start[k] > most ? start[k + 1] - start[k] : most;
    block *tree = malloc((size_t)(most / 8 + 64) * sizeof *tree);
    span *spans = malloc((size_t)(most + 256) * sizeof *spans);
    for (int64_t key = 0; key < n_keys; key++) {
        if (asked[key] == asked[key + 1]) continue;
        const int64_t n = start[key + 1] - start[key], *kt = t + start[key], *kk = kf + start[key], *x = amount + start[key], *c = category + start[key];
        int64_t m[LEVELS + 1], off[LEVELS + 1], at = 0, late = INT64_MIN;
        int levels = 0;
        for (int64_t i = 0; i < n; i++) late = kk[i] - kt[i] > late ? kk[i] - kt[i] : late;
        for (int l = 1; l <= LEVELS && n >> (4 * l); l++) {
            m[l] = n >> (4 * l), off[l] = at, levels = l;
            for (int64_t j = 0; j < m[l]; j++) {
                block made = {0, 0, INT64_MAX, INT64_MIN, 0, 0, 0};
                span s = {l - 1, j * FAN, j * FAN + FAN};
                fold(tree, m, off, x, &s, 1, &made);
                tree[at + j] = made;
            }
            at += m[l];
        }
        int64_t high = 0, low[WINDOWS] = {0}, counts[CATEGORIES] = {0}, from = 0, to = 0, different = 0;
        for (int64_t i = asked[key]; i < asked[key + 1]; i++) {
            int64_t row = place[i];
            while (high < n && kt[high] < q[i]) high++;
            block acc = {0, 0, INT64_MAX, INT64_MIN, 0, 0, 0};
            int64_t right = high, last = -1;
            for (int w = 0; w < WINDOWS; w++) {
                while (low[w] < n && kt[low[w]] < q[i] - widths[w]) low[w]++;
                int64_t b = low[w] < high ? low[w] : high;
                if (b < right) {
                    int parts = q[i] - late >= kt[right - 1] ? cut(spans, b, right, levels) : visible(spans, 0, kk, b, right, q[i]);
                    fold(tree, m, off, x, spans, parts, &acc);
                    right = b;
                }
                double mean = (double)acc.sum / (double)acc.n, deviation = sqrt(acc.m2 / ((double)acc.n - 1));
                out[w][row] = acc.n, out[5 + w][row] = acc.sum, out[15 + w][row] = acc.min, out[20 + w][row] = acc.max;
                memcpy(&out[10 + w][row], &mean, 8), memcpy(&out[25 + w][row], &deviation, 8);
            }
            for (int64_t j = high - 1; j >= 0 && last < 0; j--)
                if (kk[j] <= q[i]) last = j;
            out[30][row] = last < 0 ? 0 : x[last];
            int64_t end = high;
            while (end > low[2] && kk[end - 1] > q[i]) end--;
            for (; to < end; to++) different += counts[c[to]]++ == 0;
            for (; to > end; to--) different -= --counts[c[to - 1]] == 0;
            for (; from < low[2] && from < to; from++) different -= --counts[c[from]] == 0;
            if (from < low[2]) from = to = low[2] < end ? low[2] : end;
            int64_t shown = different, hidden[CATEGORIES] = {0};
            if (end > from && q[i] - late < kt[end - 1])
                for (int64_t j = from; j < end; j++)
                    if (kk[j] > q[i]) shown -= ++hidden[c[j]] == counts[c[j]];
            out[31][row] = shown;
        }
    }
    free(tree), free(spans);
}
