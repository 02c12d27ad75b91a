/* The arena: one growable block of memory, in a file another process may map, addressed by offsets.
 *
 * One thread writes, between ps_arena_begin and ps_arena_commit; readers of other processes take the header's
 * sequence before and after (odd: a batch is being applied). A snapshot is taken between batches; its chunks are
 * copied while the next batches run, each before its first change. Therefore every change of arena memory is
 * announced first: ps_touch(arena, offset, bytes), then write. Offset 0 is "none".
 *
 * With fd -1 the arena is private memory without snapshots, and ps_touch costs one test.
 */
#ifndef PENSTOCK_ARENA_H
#define PENSTOCK_ARENA_H

#include <stdatomic.h>
#include <stdint.h>

#define PS_ARENA_MAGIC 0x31414e5241534b50ULL /* "PKSARNA1" */
#define PS_ARENA_VERSION 1u
#define PS_CHUNK_BITS 16
#define PS_CHUNK (1ULL << PS_CHUNK_BITS)
#define PS_ARENA_HEAD 4096u
#define PS_ARENA_ROOTS 256
#define PS_ARENA_CLASSES 160

typedef uint64_t ps_off;

/* The first page of the arena; all of it is part of a snapshot but `sequence`, which is reset when one is loaded. */
typedef struct ps_arena_head {
    uint64_t magic;
    uint32_t version;
    uint32_t n_roots;
    _Atomic uint64_t sequence;   /* odd while a batch is applied */
    uint64_t size;               /* bytes backed by the file; a reader maps again when it has grown */
    uint64_t top;                /* first byte never allocated */
    uint64_t used;               /* bytes allocated and not freed */
    uint64_t batch;              /* the last batch applied */
    int64_t known_us;            /* the greatest known time applied */
    ps_off meta;                /* the writer's own bytes: positions and such */
    uint64_t meta_bytes;
    uint64_t meta_capacity;
    ps_off free[PS_ARENA_CLASSES]; /* lists of freed blocks by size class, linked through their first 8 bytes */
    ps_off root[PS_ARENA_ROOTS];   /* where the structures of each stage begin */
} ps_arena_head;

/* The states of a chunk as the writer and the snapshot's thread see it. */
enum { PS_CLEAN = 0, PS_DIRTY = 1, PS_PENDING = 2, PS_BUSY = 3 };

typedef struct ps_arena {
    uint8_t *base;
    uint64_t size;    /* bytes mapped and backed */
    uint64_t reserve; /* bytes of address space */
    int fd;
    int error;                    /* errno of the last failed growth */
    _Atomic uint8_t *state;       /* per chunk; NULL without snapshots */
    uint8_t **aside;              /* per chunk: its bytes as of the snapshot, saved before a change */
    uint64_t *pending;            /* the chunks of the running snapshot, ascending */
    uint64_t n_pending;
    uint64_t next_pending;
    _Atomic uint64_t aside_bytes; /* held in `aside` now */
} ps_arena;

/* Opens an arena over `fd` (-1: private memory), growing to at most `reserve` bytes. The file is empty, or it holds
 * `loaded` bytes of a snapshot. Returns 0 or errno. */
int ps_arena_open(ps_arena *a, int fd, uint64_t reserve, uint64_t loaded);
void ps_arena_close(ps_arena *a);

/* Allocates `bytes`, aligned to 16, not zeroed, already touched; 0 when memory or space is out (a->error says why). */
ps_off ps_arena_alloc(ps_arena *a, uint64_t bytes);
/* Gives back a block of `bytes`, the size it was asked with. */
void ps_arena_free(ps_arena *a, ps_off off, uint64_t bytes);
/* The bytes a block asked with `bytes` really has. */
uint64_t ps_arena_block(uint64_t bytes);

void ps_touch_slow(ps_arena *a, uint64_t chunk);

static inline void *ps_at(const ps_arena *a, ps_off off) { return a->base + off; }

static inline ps_arena_head *ps_head(const ps_arena *a) { return (ps_arena_head *)(void *)a->base; }

/* Announces a change of [off, off + bytes), bytes > 0. */
static inline void ps_touch(ps_arena *a, ps_off off, uint64_t bytes) {
    if (a->state == 0) return;
    uint64_t last = (off + bytes - 1) >> PS_CHUNK_BITS;
    for (uint64_t c = off >> PS_CHUNK_BITS; c <= last; c++)
        if (atomic_load_explicit(&a->state[c], memory_order_acquire) != PS_DIRTY) ps_touch_slow(a, c);
}

void ps_arena_begin(ps_arena *a);
void ps_arena_commit(ps_arena *a, uint64_t batch, int64_t known_us);
/* Replaces the writer's own bytes; inside a batch. Returns 0 or errno. */
int ps_arena_set_meta(ps_arena *a, const uint8_t *bytes, uint64_t n);

/* Begins a snapshot between batches: the chunks changed since the last one. Returns how many. */
uint64_t ps_snapshot_begin(ps_arena *a);
/* Writes up to `limit` chunks of the running snapshot, each into the image file whose slot its last copy does not
 * hold (slot[c] is flipped, crc[c] set). Runs in a thread of its own beside the writer. Returns the number written,
 * 0 at the end, or -errno. */
int64_t ps_snapshot_write(ps_arena *a, int fd0, int fd1, uint8_t *slot, uint32_t *crc, uint64_t limit);
/* Gives up the running snapshot: its chunks count as changed again. The slots it flipped stay flipped, so that the
 * caller must go back to its former slots. Between batches. */
void ps_snapshot_abandon(ps_arena *a);
/* Reads `n` chunks from the image files into the arena's file. Returns 0, -errno, or 1 + the first chunk whose bytes
 * do not match their checksum. */
int64_t ps_snapshot_load(int fd, int fd0, int fd1, const uint8_t *slot, const uint32_t *crc, uint64_t n);

uint32_t ps_crc32c(uint32_t crc, const uint8_t *bytes, uint64_t n);

#endif
