// LD_PRELOAD shim: lets one chosen call that changes a file below a directory fail, or every one from then on.
//
// TPMUX_FAULT_DIRECTORY  real path of the directory
// TPMUX_FAULT_CONTROL    file that the test and the process share, 32-bit words in the machine's byte order:
//                        0 number of calls so far   1 number of the call that fails (0: none)
//                        2 errno                    3 1: every later call fails too
//                        4 number of calls failed
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
  _Atomic uint32_t calls, fail_at, error, sticky, failed;
};

static struct control *control;
static const char *directory;
static size_t directory_length;

__attribute__((constructor)) static void start(void) {
  directory = getenv("TPMUX_FAULT_DIRECTORY");
  const char *path = getenv("TPMUX_FAULT_CONTROL");
  if (directory == NULL || path == NULL) return;
  directory_length = strlen(directory);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *shared = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (shared != MAP_FAILED) control = shared;
}

static int below(const char *path) {
  return strncmp(path, directory, directory_length) == 0 && (path[directory_length] == '/' || path[directory_length] == '\0');
}

static int fails_now(void) {
  uint32_t call = atomic_fetch_add(&control->calls, 1) + 1;
  uint32_t fail_at = atomic_load(&control->fail_at);
  if (fail_at == 0 || call < fail_at || (call > fail_at && !atomic_load(&control->sticky))) return 0;
  atomic_fetch_add(&control->failed, 1);
  errno = (int)atomic_load(&control->error);
  return 1;
}

static int fails_on(int fd) {
  if (control == NULL) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = '\0';
  return below(path) && fails_now();
}

static int fails_at_path(const char *path) {
  return control != NULL && path != NULL && below(path) && fails_now();
}

#define ON_FD(type, name, parameters, arguments)                                          \
  type name parameters {                                                                  \
    static type(*real) parameters;                                                        \
    if (real == NULL) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                 \
    return fails_on(fd) ? -1 : real arguments;                                            \
  }

ON_FD(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
ON_FD(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
ON_FD(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
ON_FD(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size))

int posix_fallocate(int fd, off_t at, off_t size) {
  static int (*real)(int, off_t, off_t);
  if (real == NULL) real = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate");
  return fails_on(fd) ? errno : real(fd, at, size);
}

int msync(void *address, size_t size, int flags) {
  static int (*real)(void *, size_t, int);
  if (real == NULL) real = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync");
  return control != NULL && fails_now() ? -1 : real(address, size, flags);
}

int unlink(const char *path) {
  static int (*real)(const char *);
  if (real == NULL) real = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
  return fails_at_path(path) ? -1 : real(path);
}

int rename(const char *from, const char *to) {
  static int (*real)(const char *, const char *);
  if (real == NULL) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
  return fails_at_path(from) ? -1 : real(from, to);
}
