/* The series: the rows of one key in order, and a 16-way block tree of merged fields over them.
 *
 * A series is a view: pointers into memory that someone else owns (columns of a table in a history sweep, one block of
 * an arena in the live engine). It holds no pointers inside that memory, so a block may be mapped anywhere.
 *
 * Rows [head, n) are sorted by (t, kf, ord). Row i is visible at knowledge rank a iff kf[i] <= a < kt[i].
 * Level 0 of the tree is the rows; node j of level l covers rows [j * 16^l, (j + 1) * 16^l) and keeps the least and
 * greatest kf, the least kt, and every field of the program merged over its rows, whether visible or not. A query
 * takes a node whole when all its rows are visible, skips it when none is, else descends. */
#ifndef PENSTOCK_SERIES_H
#define PENSTOCK_SERIES_H

#include <stddef.h>
#include <stdint.h>

#include "program.h"

#define PS_FAN_BITS 4
#define PS_FAN (1 << PS_FAN_BITS)
#define PS_LEVELS 8 /* above the rows: up to 2^31 rows */
#define PS_PREFIX (PS_LEVELS + 1) /* level of the one node of the rows that were folded */
#define PS_EXTERNAL 15 /* level of a span that reads row b of s->external */
#define PS_MAX_SLOTS 256

__extension__ typedef __int128 ps_i128;
__extension__ typedef unsigned __int128 ps_u128;

enum { PS_HAS_KT = 1, PS_HAS_ORD = 2, PS_HAS_PREFIX = 4 };

typedef struct ps_series {
    const ps_program *p;
    int64_t head, n, cap; /* live rows are [head, n); the tree is laid out for cap rows */
    int64_t *t, *kf;
    int64_t *kt;   /* NULL when no row was ever superseded */
    int64_t *ord;  /* NULL when (t, kf) and arrival decide the order */
    int32_t prefixed; /* whether there is a prefix, see prefix.h */
    uint8_t *mask; /* n x mask_bytes, row-major; NULL only when the program has no masks */
    uint8_t *slot[PS_MAX_SLOTS];
    uint8_t *nodes; /* 16-aligned */
    int32_t levels; /* above the rows, for cap */
    int64_t m[PS_LEVELS + 2];   /* nodes of each level, for cap; and of the prefix */
    size_t off[PS_LEVELS + 2];  /* byte offset of each level in nodes */
    size_t bounds;              /* byte prefix per node of the kf and kt bounds inside a level */
    int64_t late;               /* >= max(kf - t) over the rows: older rows need no look at kf; part of the state */
    int64_t min_kt;             /* <= min(kt): part of the state; PS_NEVER when kt is NULL */
    int64_t retired;            /* rows with kt <= retired are left out of the nodes; no query may ask below it */
    const struct ps_series *external; /* one row outside the series that a query may count as its self row, or NULL */
} ps_series;

/* What must be kept beside a block of rows to bind it again; a caller stores it as it likes. */
typedef struct {
    int64_t head, n, cap, late, min_kt, retired;
    int32_t flags; /* PS_HAS_KT | PS_HAS_ORD | PS_HAS_PREFIX */
} ps_state;

/* ---- memory ---- */

/* Bytes of the tree over cap rows, and of the prefix. */
size_t ps_nodes_bytes(const ps_program *p, int64_t cap, int32_t flags);
/* Bytes of one block holding columns, masks and tree for cap rows; 16-aligned. */
size_t ps_block_bytes(const ps_program *p, int64_t cap, int32_t flags);
/* Points the view at a block laid out by ps_block_bytes (16-aligned `memory`). */
void ps_block_bind(ps_series *s, const ps_program *p, uint8_t *memory, const ps_state *state);
void ps_block_state(const ps_series *s, ps_state *state);
/* An empty state for cap rows. */
void ps_state_init(ps_state *state, int64_t cap, int32_t flags);
/* Sets the geometry of the tree (m, off, levels) for cap rows; columns and nodes are the caller's. */
void ps_series_shape(ps_series *s, const ps_program *p, int64_t cap);

/* ---- changes ---- */

/* Rebuilds every node that covers a row >= from; also raises late and lowers min_kt. */
void ps_series_build(ps_series *s, int64_t from);
/* Copies row i of `rows` (a view without a tree: same program; its kt or ord may be NULL) to where it belongs by
 * (t, kf, ord), after equals. Returns its index, or -1 when the block is full, or -2 when the row has a known_until
 * and the block has no kt. Amortised O(levels) at the right end. */
int64_t ps_series_insert(ps_series *s, const ps_series *rows, int64_t i);
/* Appends rows [i, j) of `rows`, which must be sorted and not before the last row; one update of the tree. Returns the
 * number appended (fewer when the block is full). */
int64_t ps_series_extend(ps_series *s, const ps_series *rows, int64_t i, int64_t j);
/* Marks row i as superseded at kt. Returns 0, or -2 when the block has no kt. */
int ps_series_supersede(ps_series *s, int64_t i, int64_t kt);
/* Forgets rows with t < t_min from the left (raises head). Memory comes back with ps_series_copy. Returns the number
 * forgotten. */
int64_t ps_series_drop(ps_series *s, int64_t t_min);
/* Copies the live rows into an empty block `to` of another capacity or other flags, and builds its tree; rows with
 * kt <= to->retired are left behind, and of the first n_marks those with marks[i]. The prefix is not copied. Returns 0,
 * or -1 when `to` is too small. */
int ps_series_copy(const ps_series *from, ps_series *to, const uint8_t *marks, int64_t n_marks);
/* Takes rows with kt <= a out of the nodes for good; later queries have rank >= a. `rows` are the candidates. */
void ps_series_retire(ps_series *s, const int64_t *rows, int64_t n_rows, int64_t a);

/* First row of [head, n) with t >= x; first row after (t, kf, ord). */
int64_t ps_series_lower(const ps_series *s, int64_t x);
int64_t ps_series_place(const ps_series *s, int64_t t, int64_t kf, int64_t ord);
/* Whether every node, bound and the order of rows are what a fresh build would give; for tests and checkpoints. */
int ps_series_check(const ps_series *s, uint8_t *scratch, size_t scratch_bytes);

#endif
