/* Parses and checks a flat program. Whatever the array holds, the result is sound or NULL. */
#include "program.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "series.h"

enum { HEADER = 10, SLOT_WORDS = 2, FIELD_WORDS = 4, WINDOW_WORDS = 6, OUTPUT_WORDS = 10, KEEP_WORDS = 4 };
enum { MAX_COUNT = 4096 };

static int in(int64_t x, int64_t low, int64_t high) { return x >= low && x <= high; }

static int parse_slots(ps_program *p, const int64_t *c) {
    for (int32_t i = 0; i < p->n_slots; i++, c += SLOT_WORDS) {
        if (!in(c[0], PS_INT, PS_DECIMAL) || !(c[1] == 0 || c[1] == (c[0] == PS_DECIMAL ? 16 : 8))) return 0;
        p->slots[i] = (ps_slot){(int32_t)c[0], (int32_t)c[1]};
    }
    return 1;
}

static int32_t field_bytes(int32_t op, int32_t kind) {
    switch (op) {
        case PS_SUM: return kind == PS_DECIMAL ? 32 : 16;
        case PS_MIN:
        case PS_MAX: return kind == PS_DECIMAL ? 16 : 8;
        case PS_MOMENTS: return 24;
        case PS_FIRST:
        case PS_LAST: return 4;
        default: return 8;
    }
}

static int parse_fields(ps_program *p, const int64_t *c) {
    for (int32_t i = 0; i < p->n_fields; i++, c += FIELD_WORDS) {
        ps_field *f = &p->fields[i];
        if (!in(c[0], 0, PS_OPS - 1) || !in(c[1], PS_ALL, p->n_slots - 1) || !in(c[2], PS_ALL, p->n_masks - 1)) return 0;
        f->op = (int32_t)c[0], f->slot = (int32_t)c[1], f->mask = (int32_t)c[2];
        int valued = f->op != PS_COUNT && f->op != PS_FIRST && f->op != PS_LAST && f->op != PS_DECAY_COUNT;
        if (valued && (f->slot < 0 || p->slots[f->slot].size == 0)) return 0;
        if ((f->op == PS_DECAY || f->op == PS_DECAY_COUNT) && !in(c[3], 1, (int64_t)1 << 62)) return 0;
        f->kind = f->slot < 0 ? PS_INT : p->slots[f->slot].kind;
        f->half_life = (double)c[3];
        f->size = field_bytes(f->op, f->kind);
    }
    /* Node arrays by falling alignment: 16, 8, 4 bytes. */
    size_t offset = 0;
    for (int32_t unit = 16; unit >= 4; unit /= 2)
        for (int32_t i = 0; i < p->n_fields; i++) {
            int32_t size = p->fields[i].size, align = size % 16 == 0 ? 16 : size % 8 == 0 ? 8 : 4;
            if (align != unit) continue;
            p->fields[i].offset = offset;
            offset += (size_t)size;
        }
    p->node_bytes = offset;
    return 1;
}

static int parse_windows(ps_program *p, const int64_t *c) {
    for (int32_t i = 0; i < p->n_windows; i++, c += WINDOW_WORDS) {
        ps_window *w = &p->windows[i];
        if (!in(c[0], PS_TIME, PS_ROWS) || c[1] < 0 || c[2] < 0 || !in(c[4], PS_LEFT, PS_BOTH) || c[5] < 0) return 0;
        *w = (ps_window){.kind = (int32_t)c[0], .closed = (int32_t)c[4], .width = c[1], .hop = c[2], .offset = c[3], .n = c[5]};
        w->calendar = w->kind == PS_CALENDAR ? p->n_calendar++ : -1;
        int32_t g = 0, after = w->closed != PS_LEFT;
        while (g < p->n_groups && (p->groups[g].offset != w->offset || p->groups[g].closed != after)) g++;
        if (g == p->n_groups) p->groups[p->n_groups++] = (ps_group){w->offset, after, 0, NULL};
        w->group = g;
        p->groups[g].n_windows++;
    }
    for (int32_t g = 0; g < p->n_groups; g++) {
        ps_group *group = &p->groups[g];
        group->windows = calloc((size_t)group->n_windows, sizeof(int32_t));
        if (!group->windows) return 0;
        int32_t n = 0;
        for (int32_t i = 0; i < p->n_windows; i++) {
            if (p->windows[i].group != g) continue;
            int32_t at = n++;
            for (; at > 0 && p->windows[group->windows[at - 1]].width > p->windows[i].width; at--)
                group->windows[at] = group->windows[at - 1];
            group->windows[at] = i;
        }
    }
    return 1;
}

static int is_op(const ps_program *p, int64_t field, int32_t op) {
    return in(field, 0, p->n_fields - 1) && p->fields[field].op == op;
}

static int is_count(const ps_program *p, int64_t field) { return field == PS_ALL || is_op(p, field, PS_COUNT); }

static int output_fits(const ps_program *p, const int64_t *c) {
    int64_t a = c[2], b = c[3], size = c[7], kind = c[8];
    switch (c[0]) {
        case PS_OUT_COUNT: return is_count(p, a) && kind == PS_INT && size == 8;
        case PS_OUT_SUM:
            if (!is_op(p, a, PS_SUM) || !is_count(p, b)) return 0;
            if (p->fields[a].kind == PS_FLOAT) return kind == PS_FLOAT && size == 8;
            return kind == PS_FLOAT ? size == 8 : kind == PS_INT ? size == 8 : size == 16;
        case PS_OUT_MEAN: return is_op(p, a, PS_SUM) && is_count(p, b) && kind == PS_FLOAT && size == 8;
        case PS_OUT_SHARE: return is_count(p, a) && is_count(p, b) && kind == PS_FLOAT && size == 8;
        case PS_OUT_VALUE:
            if (!(is_op(p, a, PS_MIN) || is_op(p, a, PS_MAX)) || !is_count(p, b)) return 0;
            return kind == p->fields[a].kind && size == (kind == PS_DECIMAL ? 16 : 8);
        case PS_OUT_VARIANCE:
        case PS_OUT_STD: return is_op(p, a, PS_MOMENTS) && kind == PS_FLOAT && size == 8;
        case PS_OUT_ROW:
            if (!(is_op(p, a, PS_FIRST) || is_op(p, a, PS_LAST)) || !in(c[6], 0, p->n_slots - 1)) return 0;
            return kind == p->slots[c[6]].kind && size == p->slots[c[6]].size && size > 0;
        case PS_OUT_DECAY:
            return (is_op(p, a, PS_DECAY) || is_op(p, a, PS_DECAY_COUNT)) && is_count(p, b) && kind == PS_FLOAT && size == 8;
        case PS_OUT_RATIO:
            return is_op(p, a, PS_SUM) && is_op(p, b, PS_SUM) && is_count(p, c[4]) && is_count(p, c[5]) &&
                   kind == PS_FLOAT && size == 8;
        case PS_OUT_DISTINCT:
            return in(c[6], 0, p->n_slots - 1) && p->slots[c[6]].size > 0 && in(c[4], PS_ALL, p->n_masks - 1) &&
                   in(c[5], 0, INT32_MAX) && kind == PS_INT && size == 8;
        default: return 0;
    }
}

static int parse_outputs(ps_program *p, const int64_t *c) {
    size_t offset = 0;
    for (int32_t unit = 16; unit >= 8; unit /= 2) {
        const int64_t *at = c;
        for (int32_t i = 0; i < p->n_outputs; i++, at += OUTPUT_WORDS) {
            if (!output_fits(p, at) || !in(at[1], 0, p->n_windows - 1) || !in(at[9], -38, 38)) return 0;
            if (at[7] != unit) continue;
            p->outputs[i] = (ps_output){(int32_t)at[0], (int32_t)at[1], (int32_t)at[2], (int32_t)at[3], (int32_t)at[4],
                                        (int32_t)at[5], (int32_t)at[6], (int32_t)at[7], (int32_t)at[8],
                                        pow(10.0, (double)at[9]), offset};
            offset += (size_t)unit;
        }
    }
    p->stat_offset = offset;
    p->record_bytes = (offset + (size_t)p->n_outputs + 15) / 16 * 16;
    return 1;
}

static int parse_keeps(ps_program *p, const int64_t *c) {
    for (int32_t i = 0; i < p->n_keeps; i++, c += KEEP_WORDS) {
        if (!in(c[0], 0, PS_KEEP_OPS - 1) || !in(c[2], PS_ALL, p->n_masks - 1) || !in(c[3], 0, INT32_MAX)) return 0;
        int valued = c[0] == PS_KEEP_DISTINCT;
        if (valued ? !in(c[1], 0, p->n_slots - 1) || p->slots[c[1]].size == 0 : c[1] != PS_ALL) return 0;
        p->keeps[i] = (ps_keep){(int32_t)c[0], (int32_t)c[1], (int32_t)c[2], c[3]};
    }
    return 1;
}

static void *array_of(int32_t n, size_t size) { return calloc((size_t)n + 1, size); }

ps_program *ps_program_new(const int64_t *code, int64_t length) {
    if (length < HEADER || code[0] != PS_PROGRAM_MAGIC || code[1] != 2) return NULL;
    for (int i = 3; i < HEADER; i++)
        if (!in(code[i], 0, MAX_COUNT)) return NULL;
    if (code[3] > PS_MAX_SLOTS) return NULL;
    int64_t slots = HEADER, fields = slots + code[3] * SLOT_WORDS, windows = fields + code[5] * FIELD_WORDS,
            outputs = windows + code[6] * WINDOW_WORDS, keeps = outputs + code[7] * OUTPUT_WORDS;
    if (length != keeps + code[8] * KEEP_WORDS) return NULL;
    ps_program *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->include_self = code[2] != 0;
    p->n_slots = (int32_t)code[3], p->n_masks = (int32_t)code[4], p->n_fields = (int32_t)code[5];
    p->n_windows = (int32_t)code[6], p->n_outputs = (int32_t)code[7];
    p->n_keeps = (int32_t)code[8], p->prefix = code[9] != 0;
    p->mask_bytes = (p->n_masks + 7) / 8;
    p->slots = array_of(p->n_slots, sizeof *p->slots);
    p->fields = array_of(p->n_fields, sizeof *p->fields);
    p->windows = array_of(p->n_windows, sizeof *p->windows);
    p->groups = array_of(p->n_windows, sizeof *p->groups);
    p->outputs = array_of(p->n_outputs, sizeof *p->outputs);
    p->keeps = array_of(p->n_keeps, sizeof *p->keeps);
    if (p->slots && p->fields && p->windows && p->groups && p->outputs && p->keeps && parse_slots(p, code + slots) &&
        parse_fields(p, code + fields) && parse_windows(p, code + windows) && parse_outputs(p, code + outputs) &&
        parse_keeps(p, code + keeps))
        return p;
    ps_program_free(p);
    return NULL;
}

void ps_program_free(ps_program *p) {
    if (!p) return;
    for (int32_t g = 0; p->groups && g < p->n_groups; g++) free(p->groups[g].windows);
    free(p->slots), free(p->fields), free(p->windows), free(p->groups), free(p->outputs), free(p->keeps);
    free(p);
}
