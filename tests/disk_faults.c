/* A disk that fails below a folder, for a process that loads this library with LD_PRELOAD (see disk_faults.py).

   DISK_FOLDER   the folder, an absolute path without links
   DISK_TRIGGER  the disk fails from the first write on to any file with this text in its path
   DISK_ERRNO    what it then answers; 0: the folder is renamed to FOLDER.away, as a mount that is lost
   DISK_SLEEP_MS the time that each write takes
   DISK_LOCKS    what flock answers there; 0: it works

   A full disk (ENOSPC, EDQUOT) still renames, deletes and reads; a read-only one (EROFS) still reads; any other error
   is of a disk that does nothing. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ, CHANGE, WRITE };

volatile int failing;

static long number(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

static int below(const char *path) {
  const char *folder = getenv("DISK_FOLDER");
  size_t length = folder ? strlen(folder) : 0;
  return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* Return whether the disk refuses an operation on an absolute path, and set errno if so. */
static int refused(const char *path, int kind) {
  const char *trigger = getenv("DISK_TRIGGER");
  if (kind == WRITE && !failing && trigger && strstr(path, trigger)) {
    failing = 1;
    if (!number("DISK_ERRNO")) {
      char away[PATH_MAX];
      snprintf(away, sizeof away, "%s.away", getenv("DISK_FOLDER"));
      rename(getenv("DISK_FOLDER"), away);
    }
  }
  int code = number("DISK_ERRNO");
  if (!failing || !code || !below(path)) return 0;
  if (kind == READ && (code == EROFS || code == ENOSPC || code == EDQUOT)) return 0;
  if (kind == CHANGE && (code == ENOSPC || code == EDQUOT)) return 0;
  errno = code;
  return 1;
}

static int refused_at(int folder, const char *path, int kind) {
  char whole[PATH_MAX] = "";
  if (*path != '/') {
    char link[64];
    if (folder == AT_FDCWD) {
      if (!getcwd(whole, sizeof whole)) return 0;
    } else {
      snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
      ssize_t size = readlink(link, whole, sizeof whole - 1);
      whole[size < 0 ? 0 : size] = 0;
    }
    strncat(whole, "/", sizeof whole - strlen(whole) - 1);
  }
  strncat(whole, path, sizeof whole - strlen(whole) - 1);
  return refused(whole, kind);
}

static int refused_file(int file, int kind) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  if (kind == WRITE && below(path)) usleep(1000 * number("DISK_SLEEP_MS"));
  return refused(path, kind);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, parameters, arguments, fails) \
  type name parameters {                               \
    static __typeof__(&name) real;                     \
    if (!real) real = REAL(name);                      \
    return (fails) ? (type)-1 : real arguments;        \
  }

WRAP(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), refused_file(f, WRITE))
WRAP(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), refused_file(f, WRITE))
WRAP(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), refused_file(f, WRITE))
WRAP(ssize_t, writev, (int f, const struct iovec *v, int n), (f, v, n), refused_file(f, WRITE))
WRAP(int, fsync, (int f), (f), refused_file(f, WRITE))
WRAP(int, fdatasync, (int f), (f), refused_file(f, WRITE))
WRAP(int, ftruncate, (int f, off_t n), (f, n), refused_file(f, WRITE))
WRAP(int, ftruncate64, (int f, off64_t n), (f, n), refused_file(f, WRITE))
WRAP(int, mkdir, (const char *p, mode_t m), (p, m), refused_at(AT_FDCWD, p, WRITE))
WRAP(int, mkdirat, (int d, const char *p, mode_t m), (d, p, m), refused_at(d, p, WRITE))
WRAP(int, rename, (const char *p, const char *q), (p, q), refused_at(AT_FDCWD, q, CHANGE))
WRAP(int, renameat, (int d, const char *p, int e, const char *q), (d, p, e, q), refused_at(e, q, CHANGE))
WRAP(int, unlink, (const char *p), (p), refused_at(AT_FDCWD, p, CHANGE))
WRAP(int, unlinkat, (int d, const char *p, int g), (d, p, g), refused_at(d, p, CHANGE))
WRAP(int, rmdir, (const char *p), (p), refused_at(AT_FDCWD, p, CHANGE))
WRAP(int, chmod, (const char *p, mode_t m), (p, m), refused_at(AT_FDCWD, p, CHANGE))
WRAP(ssize_t, pread, (int f, void *b, size_t n, off_t o), (f, b, n, o), refused_file(f, READ))
WRAP(ssize_t, pread64, (int f, void *b, size_t n, off64_t o), (f, b, n, o), refused_file(f, READ))
WRAP(ssize_t, read, (int f, void *b, size_t n), (f, b, n), refused_file(f, READ))
WRAP(int, stat, (const char *restrict p, struct stat *restrict s), (p, s), refused_at(AT_FDCWD, p, READ))
WRAP(int, stat64, (const char *restrict p, struct stat64 *restrict s), (p, s), refused_at(AT_FDCWD, p, READ))
WRAP(int, lstat, (const char *restrict p, struct stat *restrict s), (p, s), refused_at(AT_FDCWD, p, READ))
WRAP(int, lstat64, (const char *restrict p, struct stat64 *restrict s), (p, s), refused_at(AT_FDCWD, p, READ))

int flock(int file, int operation) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t size = readlink(link, path, sizeof path - 1);
  path[size < 0 ? 0 : size] = 0;
  if (number("DISK_LOCKS") && below(path)) {
    errno = number("DISK_LOCKS");
    return -1;
  }
  return REAL(flock)(file, operation);
}

DIR *opendir(const char *path) { return refused_at(AT_FDCWD, path, READ) ? NULL : REAL(opendir)(path); }

/* A new or truncated file needs the disk; one that is opened to be written to does not yet. */
static int refused_open(int folder, const char *path, int flags) {
  int kind = flags & (O_CREAT | O_TRUNC) ? WRITE : (flags & O_ACCMODE) != O_RDONLY ? CHANGE : READ;
  return refused_at(folder, path, kind);
}

#define MODE                      \
  mode_t mode = 0;                \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                 \
    va_start(rest, flags);        \
    mode = va_arg(rest, int);     \
    va_end(rest);                 \
  }

#define OPEN(name)                                  \
  int name(const char *path, int flags, ...) {      \
    MODE return refused_open(AT_FDCWD, path, flags) ? -1 : REAL(name)(path, flags, mode); \
  }
#define OPENAT(name)                                            \
  int name(int folder, const char *path, int flags, ...) {      \
    MODE return refused_open(folder, path, flags) ? -1 : REAL(name)(folder, path, flags, mode); \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
