#define _GNU_SOURCE
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROW (16ULL << 20)
#define RUN 16u /* chunks written by one call */

_Static_assert(sizeof(ps_arena_head) <= PS_ARENA_HEAD, "the header fits its page");

/* Size classes: 32 bytes, then four steps to each doubling, so that at most a fifth of a block is lost. */
static unsigned class_of(uint64_t bytes) {
    if (bytes <= 32) return 0;
    unsigned log2 = 63u - (unsigned)__builtin_clzll(bytes - 1); /* 2^log2 < bytes <= 2^(log2 + 1) */
    uint64_t quarter = 1ULL << (log2 - 2);
    unsigned step = (unsigned)((bytes - (1ULL << log2) + quarter - 1) / quarter); /* 1..4 */
    return (log2 - 5) * 4 + step;
}

static uint64_t class_bytes(unsigned class) {
    if (class == 0) return 32;
    unsigned log2 = 5 + (class - 1) / 4, step = (class - 1) % 4 + 1;
    return ((1ULL << log2) + step * (1ULL << (log2 - 2)) + 15) & ~15ULL;
}

uint64_t ps_arena_block(uint64_t bytes) { return class_bytes(class_of(bytes)); }

static int grow(ps_arena *a, uint64_t need) {
    uint64_t size = a->size;
    while (size < need) size += size < (256ULL << 20) ? GROW : size / 8 / GROW * GROW;
    if (size > a->reserve) return ENOMEM;
    if (a->fd >= 0) {
        int failed = posix_fallocate(a->fd, (off_t)a->size, (off_t)(size - a->size));
        if (failed) return failed;
    }
    int flags = a->fd >= 0 ? MAP_SHARED | MAP_FIXED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    void *at = mmap(a->base + a->size, size - a->size, PROT_READ | PROT_WRITE, flags, a->fd,
                    a->fd >= 0 ? (off_t)a->size : 0);
    if (at == MAP_FAILED) return errno;
    a->size = size;
    return 0;
}

int ps_arena_open(ps_arena *a, int fd, uint64_t reserve, uint64_t loaded) {
    memset(a, 0, sizeof *a);
    a->fd = fd;
    a->reserve = (reserve + GROW - 1) / GROW * GROW;
    if (a->reserve < GROW) a->reserve = GROW;
    a->base = mmap(NULL, a->reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (a->base == MAP_FAILED) return errno;
    if (fd >= 0) {
        uint64_t n = a->reserve >> PS_CHUNK_BITS;
        a->state = calloc(n, 1); /* untouched pages of these take no memory */
        a->aside = calloc(n, sizeof *a->aside);
        a->pending = calloc(n, sizeof *a->pending);
        if (!a->state || !a->aside || !a->pending) return ENOMEM;
    }
    int failed = grow(a, loaded > PS_ARENA_HEAD ? loaded : PS_ARENA_HEAD);
    if (failed) return failed;
    ps_arena_head *h = ps_head(a);
    if (loaded) {
        if (h->magic != PS_ARENA_MAGIC || h->version != PS_ARENA_VERSION) return EPROTO;
        atomic_store(&h->sequence, 0);
    } else {
        ps_touch(a, 0, PS_ARENA_HEAD);
        h->magic = PS_ARENA_MAGIC;
        h->version = PS_ARENA_VERSION;
        h->n_roots = PS_ARENA_ROOTS;
        h->top = PS_ARENA_HEAD;
        h->known_us = INT64_MIN;
    }
    h->size = a->size;
    return 0;
}

void ps_arena_close(ps_arena *a) {
    if (a->aside)
        for (uint64_t c = 0; c < a->reserve >> PS_CHUNK_BITS && atomic_load(&a->aside_bytes) > 0; c++)
            if (a->aside[c]) {
                free(a->aside[c]);
                atomic_fetch_sub(&a->aside_bytes, PS_CHUNK);
            }
    free((void *)a->state);
    free(a->aside);
    free(a->pending);
    if (a->base && a->base != MAP_FAILED) munmap(a->base, a->reserve);
    memset(a, 0, sizeof *a);
    a->fd = -1;
}

ps_off ps_arena_alloc(ps_arena *a, uint64_t bytes) {
    unsigned class = class_of(bytes ? bytes : 1);
    if (class >= PS_ARENA_CLASSES) {
        a->error = ENOMEM;
        return 0;
    }
    uint64_t size = class_bytes(class);
    ps_arena_head *h = ps_head(a);
    ps_touch(a, 0, PS_ARENA_HEAD);
    ps_off off = h->free[class];
    if (off) {
        memcpy(&h->free[class], ps_at(a, off), sizeof(ps_off));
    } else {
        off = h->top;
        if (off + size > a->size) {
            int failed = grow(a, off + size);
            if (failed) {
                a->error = failed;
                return 0;
            }
            h->size = a->size;
        }
        h->top = off + size;
    }
    h->used += size;
    ps_touch(a, off, size);
    return off;
}

void ps_arena_free(ps_arena *a, ps_off off, uint64_t bytes) {
    if (!off) return;
    unsigned class = class_of(bytes ? bytes : 1);
    ps_arena_head *h = ps_head(a);
    ps_touch(a, 0, PS_ARENA_HEAD);
    ps_touch(a, off, sizeof(ps_off));
    memcpy(ps_at(a, off), &h->free[class], sizeof(ps_off));
    h->free[class] = off;
    h->used -= class_bytes(class);
}

void ps_touch_slow(ps_arena *a, uint64_t c) {
    for (;;) {
        uint8_t was = atomic_load_explicit(&a->state[c], memory_order_acquire);
        if (was == PS_DIRTY) return;
        if (was == PS_CLEAN) { /* only this thread leaves CLEAN */
            atomic_store_explicit(&a->state[c], PS_DIRTY, memory_order_release);
            return;
        }
        if (was == PS_BUSY) { /* the snapshot's thread copies it: microseconds */
            sched_yield();
            continue;
        }
        if (!atomic_compare_exchange_strong(&a->state[c], &was, PS_BUSY)) continue;
        uint8_t *copy = malloc(PS_CHUNK);
        if (!copy) abort(); /* a snapshot without this chunk would be a lie; the process restarts from the last one */
        memcpy(copy, a->base + (c << PS_CHUNK_BITS), PS_CHUNK);
        a->aside[c] = copy;
        atomic_fetch_add(&a->aside_bytes, PS_CHUNK);
        atomic_store_explicit(&a->state[c], PS_DIRTY, memory_order_release);
        return;
    }
}

void ps_arena_begin(ps_arena *a) {
    ps_touch(a, 0, PS_ARENA_HEAD);
    ps_arena_head *h = ps_head(a);
    uint64_t s = atomic_load_explicit(&h->sequence, memory_order_relaxed);
    if (!(s & 1)) atomic_store_explicit(&h->sequence, s + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

void ps_arena_commit(ps_arena *a, uint64_t batch, int64_t known_us) {
    ps_touch(a, 0, PS_ARENA_HEAD);
    ps_arena_head *h = ps_head(a);
    h->batch = batch;
    if (known_us > h->known_us) h->known_us = known_us;
    uint64_t s = atomic_load_explicit(&h->sequence, memory_order_relaxed);
    atomic_store_explicit(&h->sequence, s + (s & 1), memory_order_release);
}

int ps_arena_set_meta(ps_arena *a, const uint8_t *bytes, uint64_t n) {
    ps_arena_head *h = ps_head(a);
    ps_touch(a, 0, PS_ARENA_HEAD);
    if (n > h->meta_capacity) {
        ps_off off = ps_arena_alloc(a, n * 2);
        if (!off) return a->error;
        if (h->meta) ps_arena_free(a, h->meta, h->meta_capacity);
        h->meta = off;
        h->meta_capacity = n * 2;
    }
    if (n) {
        ps_touch(a, h->meta, n);
        memcpy(ps_at(a, h->meta), bytes, n);
    }
    h->meta_bytes = n;
    return 0;
}

uint64_t ps_snapshot_begin(ps_arena *a) {
    uint64_t chunks = (ps_head(a)->top + PS_CHUNK - 1) >> PS_CHUNK_BITS;
    a->n_pending = a->next_pending = 0;
    for (uint64_t c = 0; c < chunks; c++)
        if (atomic_load_explicit(&a->state[c], memory_order_relaxed) == PS_DIRTY) {
            a->pending[a->n_pending++] = c;
            atomic_store_explicit(&a->state[c], PS_PENDING, memory_order_release);
        }
    return a->n_pending;
}

/* Copies chunk c, as it was when the snapshot began, to `to`. */
static void take(ps_arena *a, uint64_t c, uint8_t *to) {
    for (;;) {
        uint8_t was = PS_PENDING;
        if (atomic_compare_exchange_strong(&a->state[c], &was, PS_BUSY)) {
            memcpy(to, a->base + (c << PS_CHUNK_BITS), PS_CHUNK);
            atomic_store_explicit(&a->state[c], PS_CLEAN, memory_order_release);
            return;
        }
        if (was == PS_BUSY) {
            sched_yield();
            continue;
        }
        memcpy(to, a->aside[c], PS_CHUNK); /* the writer came first */
        free(a->aside[c]);
        a->aside[c] = NULL;
        atomic_fetch_sub(&a->aside_bytes, PS_CHUNK);
        return;
    }
}

static int write_all(int fd, const uint8_t *from, uint64_t n, uint64_t at) {
    while (n) {
        ssize_t done = pwrite(fd, from, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return done < 0 ? errno : EIO;
        from += done;
        at += (uint64_t)done;
        n -= (uint64_t)done;
    }
    return 0;
}

int64_t ps_snapshot_write(ps_arena *a, int fd0, int fd1, uint8_t *slot, uint32_t *crc, uint64_t limit) {
    uint8_t *run = malloc(RUN * PS_CHUNK);
    if (!run) return -ENOMEM;
    uint64_t written = 0;
    while (written < limit && a->next_pending < a->n_pending) {
        uint64_t first = a->pending[a->next_pending];
        uint8_t to = (uint8_t)!slot[first];
        uint64_t n = 0;
        do {
            take(a, first + n, run + n * PS_CHUNK);
            crc[first + n] = ps_crc32c(0, run + n * PS_CHUNK, PS_CHUNK);
            slot[first + n] = to;
            n++;
            a->next_pending++;
        } while (n < RUN && written + n < limit && a->next_pending < a->n_pending &&
                 a->pending[a->next_pending] == first + n && slot[first + n] != to);
        int failed = write_all(to ? fd1 : fd0, run, n * PS_CHUNK, first << PS_CHUNK_BITS);
        if (failed) {
            free(run);
            return -failed;
        }
        written += n;
    }
    free(run);
    return (int64_t)written;
}

void ps_snapshot_abandon(ps_arena *a) {
    for (uint64_t i = 0; i < a->n_pending; i++) {
        uint64_t c = a->pending[i];
        atomic_store_explicit(&a->state[c], PS_DIRTY, memory_order_release);
        if (a->aside[c]) {
            free(a->aside[c]);
            a->aside[c] = NULL;
            atomic_fetch_sub(&a->aside_bytes, PS_CHUNK);
        }
    }
    a->n_pending = a->next_pending = 0;
}

static int read_all(int fd, uint8_t *to, uint64_t n, uint64_t at) {
    while (n) {
        ssize_t done = pread(fd, to, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return errno;
        if (done == 0) { /* past the end: the checksum decides */
            memset(to, 0, n);
            return 0;
        }
        to += done;
        at += (uint64_t)done;
        n -= (uint64_t)done;
    }
    return 0;
}

int64_t ps_snapshot_load(int fd, int fd0, int fd1, const uint8_t *slot, const uint32_t *crc, uint64_t n) {
    int failed = n ? posix_fallocate(fd, 0, (off_t)(n << PS_CHUNK_BITS)) : 0;
    if (failed) return -failed;
    uint8_t *to = n ? mmap(NULL, n << PS_CHUNK_BITS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0) : NULL;
    if (to == MAP_FAILED) return -errno;
    int64_t bad = 0;
    for (uint64_t c = 0; c < n && !bad;) {
        uint64_t run = 1;
        while (run < RUN && c + run < n && slot[c + run] == slot[c]) run++;
        failed = read_all(slot[c] ? fd1 : fd0, to + (c << PS_CHUNK_BITS), run << PS_CHUNK_BITS, c << PS_CHUNK_BITS);
        if (failed) bad = -failed;
        for (uint64_t i = c; i < c + run && !bad; i++)
            if (ps_crc32c(0, to + (i << PS_CHUNK_BITS), PS_CHUNK) != crc[i]) bad = 1 + (int64_t)i;
        c += run;
    }
    if (n) munmap(to, n << PS_CHUNK_BITS);
    return bad;
}

/* CRC-32C (Castagnoli, RFC 3720): by the instruction where the processor has it, else by a table. */
static uint32_t crc_table[256];
static _Atomic int crc_ready;

static uint32_t crc_plain(uint32_t crc, const uint8_t *p, uint64_t n) {
    if (!atomic_load_explicit(&crc_ready, memory_order_acquire)) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
            crc_table[i] = c;
        }
        atomic_store_explicit(&crc_ready, 1, memory_order_release);
    }
    for (; n; n--) crc = crc_table[(crc ^ *p++) & 255] ^ crc >> 8;
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_fast(uint32_t crc, const uint8_t *p, uint64_t n) {
    uint64_t wide = crc, word;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; n; n--) crc = __builtin_ia32_crc32qi(crc, *p++);
    return crc;
}
#endif

uint32_t ps_crc32c(uint32_t crc, const uint8_t *bytes, uint64_t n) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~crc_fast(~crc, bytes, n);
#endif
    return ~crc_plain(~crc, bytes, n);
}
