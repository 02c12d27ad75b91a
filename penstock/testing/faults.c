/* Preloaded into a process, it records every write and sync below one directory, in their order, and can run the
 * disk full. The recording is what crash images are built from (see faults.py).
 *
 * PENSTOCK_FAULT_ROOT      files below this directory are watched
 * PENSTOCK_FAULT_JOURNAL   where the recording goes
 * PENSTOCK_FAULT_BYTES     writes and allocations fail with ENOSPC once so many bytes were taken; none or 0: never
 *
 * One event: u32 magic, u8 kind, u8 synchronous, u16 path length, i64 offset, u64 length, path, data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAGIC 0x50464c54u
enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, RENAME = 4, UNLINK = 5, LINK = 6 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static const char *root;
static size_t root_length;
static long long budget = -1;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("PENSTOCK_FAULT_JOURNAL"), *bytes = getenv("PENSTOCK_FAULT_BYTES");
    root = getenv("PENSTOCK_FAULT_ROOT");
    root_length = root ? strlen(root) : 0;
    if (bytes && atoll(bytes) > 0) budget = atoll(bytes);
    if (path) journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* The path of a descriptor if it is watched. */
static int watched(int fd, char *path) {
    char link[64];
    if (!root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return strncmp(path, root, root_length) == 0;
}

static void record(int kind, int synchronous, const char *path, int64_t offset, const struct iovec *data, int n,
                   uint64_t length) {
    if (journal < 0) return;
    struct __attribute__((packed)) {
        uint32_t magic;
        uint8_t kind, synchronous;
        uint16_t path_length;
        int64_t offset;
        uint64_t length;
    } head = {MAGIC, (uint8_t)kind, (uint8_t)synchronous, (uint16_t)strlen(path), offset, length};
    char *event = malloc(sizeof head + head.path_length + length);
    if (!event) abort();
    memcpy(event, &head, sizeof head);
    memcpy(event + sizeof head, path, head.path_length);
    char *at = event + sizeof head + head.path_length;
    for (int i = 0; i < n && length; i++) {
        size_t part = data[i].iov_len < length ? data[i].iov_len : length;
        memcpy(at, data[i].iov_base, part);
        at += part, length -= part;
    }
    size_t left = (size_t)(at - event);
    for (char *from = event; left;) {
        ssize_t done = syscall(SYS_write, journal, from, left);
        if (done < 0) abort();
        from += done, left -= (size_t)done;
    }
    free(event);
}

static ssize_t put(int fd, const struct iovec *data, int n, off_t offset, int positioned) {
    char path[PATH_MAX];
    int is_watched = watched(fd, path);
    if (is_watched) pthread_mutex_lock(&lock);
    size_t length = 0;
    for (int i = 0; i < n; i++) length += data[i].iov_len;
    if (is_watched && budget >= 0 && (long long)length > budget) {
        pthread_mutex_unlock(&lock);
        errno = ENOSPC;
        return -1;
    }
    int flags = fcntl(fd, F_GETFL);
    if (!positioned) offset = flags & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    if (is_watched) record(WRITE, (flags & O_DSYNC) != 0, path, offset, data, n, length);
    ssize_t done = positioned ? syscall(SYS_pwritev, fd, data, n, (long)offset, 0L) : syscall(SYS_writev, fd, data, n);
    if (is_watched) {
        if (budget >= 0 && done > 0) budget -= done;
        pthread_mutex_unlock(&lock);
    }
    return done;
}

ssize_t write(int fd, const void *data, size_t n) { return put(fd, &(struct iovec){(void *)data, n}, 1, 0, 0); }
ssize_t writev(int fd, const struct iovec *data, int n) { return put(fd, data, n, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return put(fd, &(struct iovec){(void *)data, n}, 1, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return pwrite(fd, data, n, at); }
ssize_t pwritev(int fd, const struct iovec *data, int n, off_t at) { return put(fd, data, n, at, 1); }
ssize_t pwritev64(int fd, const struct iovec *data, int n, off_t at) { return put(fd, data, n, at, 1); }

static int synced(int fd, long call) {
    char path[PATH_MAX];
    int is_watched = watched(fd, path);
    if (is_watched) pthread_mutex_lock(&lock);
    int result = (int)syscall(call, fd);
    if (is_watched) {
        if (result == 0) record(SYNC, 1, path, 0, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    int is_watched = watched(fd, path);
    if (is_watched) pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, size);
    if (is_watched) {
        if (result == 0) record(TRUNCATE, 0, path, size, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    return result;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int posix_fallocate(int fd, off_t offset, off_t length) {
    static int (*real)(int, off_t, off_t);
    char path[PATH_MAX];
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "posix_fallocate");
    if (!watched(fd, path) || budget < 0) return real(fd, offset, length);
    pthread_mutex_lock(&lock);
    int failed = length > budget ? ENOSPC : real(fd, offset, length);
    if (!failed) budget -= length;
    pthread_mutex_unlock(&lock);
    return failed;
}
int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

static int absolute(const char *path, char *full) {
    if (path[0] == '/') return snprintf(full, PATH_MAX, "%s", path) < PATH_MAX;
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && snprintf(full, PATH_MAX, "%s/%s", here, path) < PATH_MAX;
}

static int renamed(const char *from, const char *to, int kind) {
    char full_from[PATH_MAX], full_to[PATH_MAX];
    int known = root && absolute(from, full_from) && absolute(to, full_to) && !strncmp(full_to, root, root_length);
    if (known) pthread_mutex_lock(&lock);
    int result = kind == LINK ? (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0)
                              : (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    if (known) {
        struct iovec data = {full_to, strlen(full_to)};
        if (result == 0) record(kind, 1, full_from, 0, &data, 1, data.iov_len);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int rename(const char *from, const char *to) { return renamed(from, to, RENAME); }
int link(const char *from, const char *to) { return renamed(from, to, LINK); }
int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    if (from_directory == AT_FDCWD && to_directory == AT_FDCWD) return renamed(from, to, LINK);
    return (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
}

static int removed(int directory, const char *path, int flags) {
    char full[PATH_MAX];
    int known = root && directory == AT_FDCWD && absolute(path, full) && !strncmp(full, root, root_length);
    if (known) pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_unlinkat, directory, path, flags);
    if (known) {
        if (result == 0 && !flags) record(UNLINK, 1, full, 0, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int directory, const char *path, int flags) { return removed(directory, path, flags); }
