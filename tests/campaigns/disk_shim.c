/* Stands between a process and the disk (LD_PRELOAD): tells what was written and synced, and makes calls fail.
 *
 * Environment:
 *   DISK_SHIM_ROOT     only files below this folder (a real path) are looked at
 *   DISK_SHIM_TRACE    file to which each change, each sync and each byte sent to a socket is appended; see disk_shim.py
 *   DISK_SHIM_CONTROL  a page shared with the campaign: which calls fail, with what, from which on
 *   DISK_SHIM_LIE      late-sync: a sync returns before it is done; no-file-sync: only databases are synced
 *
 * A change stands in the trace as it was done, in the order it was done. A sync stands there twice, before and after:
 * what it covers is what was there before it began. What is sent stands there before it is sent.
 */
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536
enum { WRITES = 1, SYNCS = 2, CREATES = 4, READS = 8, MAIN_SYNCS = 16 }; /* the last: of databases, not of their logs */

struct control {
    int32_t kinds;     /* which calls may fail: a sum of the above; 0: none */
    int32_t error;     /* with which errno */
    int32_t every;     /* every n-th call fails */
    int32_t calls;     /* so far, since it was armed */
    int32_t fired;     /* how often one failed */
    int32_t swallow;   /* 1: the caller is told that it went well (sabotage) */
};
struct head {
    uint32_t magic;
    char op;
    char unused[3];
    int32_t pid, tid, fd;
    uint32_t path_length, data_length;
    int64_t number;
} __attribute__((packed));
struct known { dev_t device; ino_t inode; char tracked, database, promised; };

static struct known known[FDS];
static struct control *control;
static char root[PATH_MAX];
static size_t root_length;
static int trace = -1, late, files_unsynced;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int fd, const void *data, size_t size) {
    return syscall(SYS_write, fd, data, size);
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("DISK_SHIM_ROOT"), *file = getenv("DISK_SHIM_TRACE");
    const char *page = getenv("DISK_SHIM_CONTROL"), *lie = getenv("DISK_SHIM_LIE");
    if (!folder) return;
    if (file) {
        int made = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        trace = made < 0 ? -1 : fcntl(made, F_DUPFD_CLOEXEC, 900);
        if (made >= 0) syscall(SYS_close, made);
    }
    if (page) {
        int made = syscall(SYS_openat, AT_FDCWD, page, O_RDWR | O_CLOEXEC, 0);
        void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
        if (shared != MAP_FAILED) control = shared;
        syscall(SYS_close, made);
    }
    late = lie && !strcmp(lie, "late-sync");
    files_unsynced = lie && !strcmp(lie, "no-file-sync");
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
}

/* The absolute path when it lies below the root, else NULL. */
static const char *below(int folder, const char *path, char *room) {
    if (!root_length || !path) return NULL;
    if (path[0] != '/') {
        char link[64];
        ssize_t size = 0;
        if (folder == AT_FDCWD) {
            if (!getcwd(room, PATH_MAX)) return NULL;
            size = strlen(room);
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            size = readlink(link, room, PATH_MAX - 1);
        }
        if (size < 0 || size + strlen(path) + 2 > PATH_MAX) return NULL;
        room[size] = '/';
        strcpy(room + size + 1, path);
        path = room;
    }
    if (strncmp(path, root, root_length) || (path[root_length] != '/' && path[root_length])) return NULL;
    return path;
}

static void record(char op, int fd, int64_t number, const char *path, const struct iovec *data, int parts) {
    if (trace < 0) return;
    struct iovec out[18];
    struct head head = {.magic = 0x44535031, .op = op, .pid = getpid(), .tid = syscall(SYS_gettid), .fd = fd,
                        .number = number, .path_length = path ? strlen(path) : 0};
    if (parts > 16) abort();
    out[0] = (struct iovec){&head, sizeof head};
    out[1] = (struct iovec){(void *)path, head.path_length};
    for (int part = 0; part < parts; part++) {
        out[2 + part] = data[part];
        head.data_length += data[part].iov_len;
    }
    size_t whole = sizeof head + head.path_length + head.data_length;
    if (syscall(SYS_writev, trace, out, 2 + parts) != (ssize_t)whole) abort(); /* a trace with holes proves nothing */
}

static int due(int kind) {
    if (!control || !(control->kinds & kind) || control->every < 1) return 0;
    if (__sync_add_and_fetch(&control->calls, 1) % control->every) return 0;
    __sync_add_and_fetch(&control->fired, 1);
    return control->error;
}

static int tracked(int fd) {
    struct stat found;
    if (fd < 0 || fd >= FDS || !known[fd].tracked || fstat(fd, &found)) return 0;
    return found.st_dev == known[fd].device && found.st_ino == known[fd].inode;
}

static int fails(int fd, int kind) {
    int error = tracked(fd) ? due(kind) : 0;
    return error;
}

/* --- files --- */

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char room[PATH_MAX];
    const char *ours = below(folder, path, room);
    if (!ours) return syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int is_new = (flags & O_CREAT) && faccessat(AT_FDCWD, ours, F_OK, 0);
    int error = is_new ? due(CREATES) : 0, fd = -1;
    if (error) {
        errno = error;
    } else if ((fd = syscall(SYS_openat, folder, path, flags, mode)) >= 0 && fd < FDS) {
        struct stat found;
        fstat(fd, &found);
        const char *suffix = strstr(ours, ".db");
        known[fd] = (struct known){found.st_dev, found.st_ino, 1, suffix ? suffix[3] ? 1 : 2 : 0, 0};
        record('O', fd, (is_new ? 1 : 0) | (flags & O_TRUNC ? 2 : 0), ours, NULL, 0);
    }
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return fd;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) known[fd].tracked = 0;
    return syscall(SYS_close, fd);
}

static ssize_t written(int fd, const void *data, size_t size, off_t offset, int placed) {
    int error = fails(fd, WRITES);
    if (error && control->swallow) return size;
    if (error) { errno = error; return -1; }
    if (trace < 0 || !tracked(fd)) return placed ? syscall(SYS_pwrite64, fd, data, size, offset) : real_write(fd, data, size);
    pthread_mutex_lock(&lock);
    if (!placed) offset = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t done = placed ? syscall(SYS_pwrite64, fd, data, size, offset) : real_write(fd, data, size);
    int kept = errno;
    if (done > 0) record('W', fd, offset, NULL, &(struct iovec){(void *)data, done}, 1);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return written(fd, data, size, offset, 1); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (tracked(fd)) record('U', fd, 0, "writev", NULL, 0);
    return syscall(SYS_writev, fd, parts, count);
}

int ftruncate(int fd, off_t size) {
    int error = fails(fd, WRITES);
    if (error && !control->swallow) { errno = error; return -1; }
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_ftruncate, fd, size), kept = errno;
    if (!result && tracked(fd)) record('T', fd, size, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static ssize_t failed_read(int fd) {
    int error = fails(fd, READS);
    if (error) errno = error;
    return error;
}
ssize_t pread64(int fd, void *data, size_t size, off64_t offset) {
    return failed_read(fd) ? -1 : syscall(SYS_pread64, fd, data, size, offset);
}
ssize_t pread(int fd, void *data, size_t size, off_t offset) { return pread64(fd, data, size, offset); }
ssize_t read(int fd, void *data, size_t size) { return failed_read(fd) ? -1 : syscall(SYS_read, fd, data, size); }

int posix_fallocate(int fd, off_t offset, off_t size) {
    REAL(int, "posix_fallocate", int, off_t, off_t);
    if (tracked(fd)) record('U', fd, 0, "posix_fallocate", NULL, 0);
    return real(fd, offset, size);
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
    if (tracked(fd)) record('U', fd, 0, "fallocate", NULL, 0);
    return syscall(SYS_fallocate, fd, mode, offset, size);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t size) {
    if (tracked(out)) record('U', out, 0, "sendfile", NULL, 0);
    return syscall(SYS_sendfile, out, in, offset, size);
}

/* --- syncs --- */

static int noted(char op, int fd, int64_t number) {
    pthread_mutex_lock(&lock);
    record(op, fd, number, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

static int synced(int fd, long call) {
    if (!tracked(fd)) return syscall(call, fd);
    if (files_unsynced && !known[fd].database) return 0;
    if (late) { /* what the sync before this one promised is done now; this one only promises */
        if (known[fd].promised) noted('Z', fd, 0);
        known[fd].promised = 1;
        return noted('Y', fd, 0);
    }
    noted('Y', fd, 0);
    int error = fails(fd, known[fd].database == 2 ? SYNCS | MAIN_SYNCS : SYNCS);
    if (error) {
        noted('Z', fd, error);
        if (control->swallow) return 0;
        errno = error;
        return -1;
    }
    int result = syscall(call, fd), kept = errno;
    noted('Z', fd, result ? kept : 0);
    errno = kept;
    return result;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* --- folders --- */

static int changed(char op, const char *ours, const char *to, int kind, long call, int folder, const char *path, long more) {
    int error = kind ? due(kind) : 0;
    if (error) { errno = error; return -1; }
    pthread_mutex_lock(&lock);
    int result = syscall(call, folder, path, more), kept = errno;
    if (!result) record(op, -1, 0, ours, &(struct iovec){(void *)to, to ? strlen(to) : 0}, to ? 1 : 0);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}

int unlinkat(int folder, const char *path, int flags) {
    char room[PATH_MAX];
    const char *ours = below(folder, path, room);
    if (!ours) return syscall(SYS_unlinkat, folder, path, flags);
    return changed(flags & AT_REMOVEDIR ? 'D' : 'N', ours, NULL, 0, SYS_unlinkat, folder, path, flags);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) { return unlink(path); }

int mkdirat(int folder, const char *path, mode_t mode) {
    char room[PATH_MAX];
    const char *ours = below(folder, path, room);
    if (!ours) return syscall(SYS_mkdirat, folder, path, mode);
    return changed('M', ours, NULL, CREATES, SYS_mkdirat, folder, path, mode);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int renameat(int from, const char *path, int to, const char *target) {
    char room[PATH_MAX], other[PATH_MAX];
    const char *ours = below(from, path, room), *there = below(to, target, other);
    if (!ours || !there) return syscall(SYS_renameat, from, path, to, target);
    int error = due(CREATES);
    if (error) { errno = error; return -1; }
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_renameat, from, path, to, target), kept = errno;
    if (!result) record('R', -1, 0, ours, &(struct iovec){(void *)there, strlen(there)}, 1);
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}
int rename(const char *path, const char *target) { return renameat(AT_FDCWD, path, AT_FDCWD, target); }

int linkat(int from, const char *path, int to, const char *target, int flags) {
    char room[PATH_MAX];
    if (below(to, target, room)) record('U', -1, 0, "linkat", NULL, 0);
    return syscall(SYS_linkat, from, path, to, target, flags);
}
int link(const char *path, const char *target) { return linkat(AT_FDCWD, path, AT_FDCWD, target, 0); }

/* --- answers --- */

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (trace < 0) return syscall(SYS_sendmsg, fd, message, flags);
    pthread_mutex_lock(&lock);
    record('A', fd, 0, NULL, message->msg_iov, message->msg_iovlen);
    ssize_t result = syscall(SYS_sendmsg, fd, message, flags);
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    if (trace < 0) return syscall(SYS_sendto, fd, data, size, flags, to, length);
    pthread_mutex_lock(&lock);
    record('A', fd, 0, NULL, &(struct iovec){(void *)data, size}, 1);
    ssize_t result = syscall(SYS_sendto, fd, data, size, flags, to, length);
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}
ssize_t send(int fd, const void *data, size_t size, int flags) { return sendto(fd, data, size, flags, NULL, 0); }
