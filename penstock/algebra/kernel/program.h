/* The flat program of a layout: what to keep per row, what to merge per block, which windows, which outputs.
 *
 * A program arrives as one array of int64 (penstock/algebra/program.py writes it, the format is stated there) and is
 * interpreted per field and block, so one compiled loop per op-code serves every definition. */
#ifndef PENSTOCK_PROGRAM_H
#define PENSTOCK_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#define PS_PROGRAM_MAGIC 0x50535031 /* "PSP1" */
#define PS_ALL (-1)                 /* mask index: every row counts */
#define PS_NEVER INT64_MAX          /* known_until of a version never superseded */

enum ps_kind { PS_INT = 0, PS_FLOAT = 1, PS_DECIMAL = 2 }; /* bool and code values are int64 */

enum ps_op {
    PS_COUNT = 0, /* rows whose mask bit is set */
    PS_SUM,       /* int: 128 bits; float: compensated (hi, lo); decimal: 192 bits */
    PS_MOMENTS,   /* n, mean, M2 (Chan's merge) */
    PS_MIN,
    PS_MAX,
    PS_FIRST, /* row index */
    PS_LAST,
    PS_DECAY,       /* sum of v * 2^-((ref - t) / half life), ref = t of the node's last row */
    PS_DECAY_COUNT, /* the same with v = 1 */
    PS_OPS
};

enum ps_window_kind { PS_TIME = 0, PS_LIFETIME = 1, PS_CALENDAR = 2, PS_ROWS = 3 };
enum ps_closed { PS_LEFT = 0, PS_RIGHT = 1, PS_BOTH = 2 };

enum ps_out {
    PS_OUT_COUNT = 0, /* field a, or rows when a is PS_ALL */
    PS_OUT_SUM,       /* int64, double or 128 bits, by kind of the field and size of the output */
    PS_OUT_MEAN,      /* sum a / count b, a double */
    PS_OUT_SHARE,     /* count a / count b */
    PS_OUT_VALUE,     /* min or max a, empty when count b is 0 */
    PS_OUT_VARIANCE,
    PS_OUT_STD,
    PS_OUT_ROW,   /* value of slot at row index a (first, last) */
    PS_OUT_DECAY, /* field a, empty when count b is 0 */
    PS_OUT_RATIO, /* sum a / sum b, a double; empty when b is 0 or nothing was summed (count c, d) */
    PS_OUT_DISTINCT, /* different values of slot under mask c (PS_ALL: any), null with status above d when d > 0 */
    PS_OUTS
};

/* ok; nothing counted: null; null for want of room; null above a limit; something counted but no value (the variance
 * of one value, a ratio by 0): null; nothing counted: 0 */
enum ps_status { PS_OK = 0, PS_EMPTY = 1, PS_OVERFLOW = 2, PS_LIMIT = 3, PS_UNDEFINED = 4, PS_ZERO = 5 };

typedef struct {
    int32_t kind; /* enum ps_kind */
    int32_t size; /* bytes per row: 8, 16, or 0 when only its mask bits are used */
} ps_slot;

typedef struct {
    int32_t op, slot, mask; /* slot PS_ALL when the op takes no value */
    int32_t kind;           /* of the slot */
    int32_t size;           /* bytes per node */
    size_t offset;          /* byte prefix per node inside a level: node array of this field starts at offset * m */
    double half_life;       /* microseconds */
} ps_field;

typedef struct {
    int32_t kind, closed;
    int32_t group;    /* windows that end at the same right edge share one group */
    int32_t calendar; /* index among the calendar windows, or -1 */
    int64_t width, hop, offset, n;
} ps_window;

typedef struct {
    int64_t offset;
    int32_t closed;
    int32_t n_windows;
    int32_t *windows; /* of this group, narrowest first */
} ps_group;

typedef struct {
    int32_t op, window;
    int32_t a, b, c, d; /* fields; PS_ALL stands for the count of visible rows where a count is meant */
    int32_t slot;       /* of PS_OUT_ROW and PS_OUT_DISTINCT */
    int32_t size;       /* 8 or 16 bytes */
    int32_t kind;       /* of the value written */
    double scale;       /* a double result is divided by this (10^scale of a decimal) */
    size_t offset;      /* of the value in an output record; the status byte is at stat_offset + index */
} ps_output;

/* Which rows must stay rows when those below a horizon are folded into the prefix, of those that count under a mask. */
enum ps_keep_op {
    PS_KEEP_FIRST,    /* the n oldest */
    PS_KEEP_LAST,     /* the n newest */
    PS_KEEP_DISTINCT, /* the oldest of each different value of slot; n > 0: of no more than n values */
    PS_KEEP_OPS
};

typedef struct {
    int32_t op, slot, mask;
    int64_t n;
} ps_keep;

typedef struct ps_program {
    int32_t n_slots, n_masks, n_fields, n_windows, n_outputs, n_groups, n_calendar, n_keeps;
    int32_t prefix; /* whether rows that leave a series are merged into its prefix; else they are forgotten */
    int32_t include_self;
    int32_t mask_bytes; /* per row: bit j of a row's mask bytes says whether the row counts under mask j */
    size_t node_bytes;  /* of the fields, per node, without the known-time bounds */
    size_t stat_offset, record_bytes;
    ps_slot *slots;
    ps_field *fields;
    ps_window *windows;
    ps_group *groups;
    ps_output *outputs;
    ps_keep *keeps;
} ps_program;

/* Parses and checks `code`; NULL when it is malformed or memory is short. */
ps_program *ps_program_new(const int64_t *code, int64_t length);
void ps_program_free(ps_program *p);

#endif
