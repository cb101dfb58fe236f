/* Preloaded: copies a folder before every nth change of a file below it, whichever thread
   makes it, which is what a kill at that moment would leave. A write is two changes, the
   second half way through it. Changes wait for each other and for the copy. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char folder[PATH_MAX], copies[PATH_MAX];
static long changes, every;
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

void copy_before_changes(const char *below, const char *into, long nth) {
  snprintf(folder, sizeof folder, "%s/", below);
  snprintf(copies, sizeof copies, "%s", into);
  every = nth;
}

long stop_copying(void) { return *folder = 0, changes; }

static void copy(void) {
  char place[PATH_MAX + 32];
  pid_t cp;
  int status;
  snprintf(place, sizeof place, "%s/%ld", copies, changes);
  char *command[] = {"cp", "-r", folder, place, NULL};
  if (posix_spawnp(&cp, "cp", NULL, NULL, command, environ)) abort();
  if (waitpid(cp, &status, 0) < 0 || status) abort();
}

/* Whether it is one below the folder: then the others wait until `done`. */
static int begin(int at, const char *path) {
  char link[64], place[PATH_MAX] = "";
  if (!*folder) return 0;
  if (path && (*path == '/' || at == AT_FDCWD)) {
    snprintf(place, sizeof place, "%s", path);
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    if (readlink(link, place, sizeof place - 1) < 0) return 0;
  }
  if (strncmp(place, folder, strlen(folder))) return 0;
  pthread_mutex_lock(&changing);
  if (++changes % every == 0 && !access(folder, F_OK)) copy();
  return 1;
}

static void done(int begun) {
  if (begun) pthread_mutex_unlock(&changing);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CHANGE(type, name, parameters, at, path, arguments) \
  type name parameters {                                    \
    int begun = begin(at, path);                            \
    type result = REAL(name) arguments;                     \
    done(begun);                                            \
    return result;                                          \
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
    int changed = flags & (O_CREAT | O_TRUNC);                      \
    int begun = changed && begin(at, path);                         \
    int result = REAL(name)(__VA_ARGS__, flags, mode);              \
    done(begun);                                                    \
    return result;                                                  \
  }
#define WRITE(name, parameters, ...)                                \
  ssize_t name parameters {                                         \
    int begun = begin(fd, NULL);                                    \
    size_t half = begun && size > 1 ? size / 2 : size;              \
    ssize_t first = REAL(name)(fd, data, half __VA_ARGS__);         \
    done(begun);                                                    \
    if (half == size || first < (ssize_t)half) return first;        \
    begun = begin(fd, NULL);                                        \
    data = (const char *)data + half, size -= half;                 \
    ssize_t rest = REAL(name)(fd, data, size REST(__VA_ARGS__));    \
    done(begun);                                                    \
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
