/* Preloaded: kills the process before the nth change of a file below a folder, whichever
   thread makes it. A write is two changes, the second half way through it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long last;
static atomic_long changes;

void kill_before(const char *below, long change) {
  snprintf(folder, sizeof folder, "%s", below);
  last = change;
  changes = 0;
}

long changes_so_far(void) { return changes; }

static void change(int at, const char *path) {
  char link[64], place[PATH_MAX] = "";
  if (!*folder) return;
  if (path && (*path == '/' || at == AT_FDCWD)) {
    snprintf(place, sizeof place, "%s", path);
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    if (readlink(link, place, sizeof place - 1) < 0) return;
  }
  if (strncmp(place, folder, strlen(folder))) return;
  if (atomic_fetch_add(&changes, 1) + 1 >= last) kill(getpid(), SIGKILL), pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CHANGE(type, name, parameters, at, path, arguments) \
  type name parameters {                                    \
    change(at, path);                                       \
    return REAL(name) arguments;                            \
  }
#define OPEN(name, parameters, at, ...)                             \
  int name parameters {                                             \
    mode_t mode = 0;                                                \
    if (flags & (O_CREAT | O_TMPFILE)) {                            \
      va_list rest;                                                 \
      va_start(rest, flags);                                        \
      mode = va_arg(rest, mode_t);                                  \
      va_end(rest);                                                 \
    }                                                               \
    if (flags & (O_CREAT | O_TRUNC)) change(at, path);              \
    return REAL(name)(__VA_ARGS__, flags, mode);                    \
  }
#define WRITE(name, parameters, ...)                                \
  ssize_t name parameters {                                         \
    change(fd, NULL);                                               \
    if (size < 2) return REAL(name)(fd, data, size __VA_ARGS__);    \
    size_t half = size / 2;                                         \
    ssize_t first = REAL(name)(fd, data, half __VA_ARGS__);         \
    if (first < (ssize_t)half) return first;                        \
    change(fd, NULL);                                               \
    data = (const char *)data + half, size -= half;                 \
    ssize_t rest = REAL(name)(fd, data, size REST(__VA_ARGS__));    \
    return rest < 0 ? first : first + rest;                         \
  }
#define REST(...) __VA_OPT__(__VA_ARGS__ + half)

OPEN(open, (const char *path, int flags, ...), AT_FDCWD, path)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, path)
OPEN(openat, (int at, const char *path, int flags, ...), at, at, path)
OPEN(openat64, (int at, const char *path, int flags, ...), at, at, path)
WRITE(write, (int fd, const void *data, size_t size))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), , at)
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), , at)

/* Of several parts the first: whoever writes has to expect that. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
  while (count > 1 && !parts->iov_len) parts++, count--;
  return count ? write(fd, parts->iov_base, parts->iov_len) : 0;
}

CHANGE(int, rename, (const char *a, const char *b), AT_FDCWD, b, (a, b))
CHANGE(int, renameat, (int x, const char *a, int y, const char *b), y, b, (x, a, y, b))
CHANGE(int, renameat2, (int x, const char *a, int y, const char *b, unsigned how), y, b,
       (x, a, y, b, how))
CHANGE(int, link, (const char *a, const char *b), AT_FDCWD, b, (a, b))
CHANGE(int, symlink, (const char *a, const char *b), AT_FDCWD, b, (a, b))
CHANGE(int, unlink, (const char *path), AT_FDCWD, path, (path))
CHANGE(int, unlinkat, (int at, const char *path, int how), at, path, (at, path, how))
CHANGE(int, rmdir, (const char *path), AT_FDCWD, path, (path))
CHANGE(int, mkdir, (const char *path, mode_t mode), AT_FDCWD, path, (path, mode))
CHANGE(int, mkdirat, (int at, const char *path, mode_t mode), at, path, (at, path, mode))
CHANGE(int, ftruncate, (int fd, off_t size), fd, NULL, (fd, size))
CHANGE(int, ftruncate64, (int fd, off64_t size), fd, NULL, (fd, size))
CHANGE(int, fsync, (int fd), fd, NULL, (fd))
CHANGE(int, fdatasync, (int fd), fd, NULL, (fd))
