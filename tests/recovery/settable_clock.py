"""A wall clock for a process and its children that can be set while they run."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

__all__ = ["SettableClock"]

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile long *seconds;

__attribute__((constructor)) static void start(void) {
    int file = open(getenv("SET_CLOCK"), O_RDONLY);
    if (file < 0) abort();
    seconds = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (seconds == MAP_FAILED) abort();
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *at) {
    static int (*plain)(clockid_t, struct timespec *);
    if (!plain) plain = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = plain(which, at);
    int is_wall = which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE;
    if (!failed && seconds && is_wall) at->tv_sec += *seconds;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

/* The kernel waits by its own clock. */
static struct timespec by_the_kernel(const struct timespec *until) {
    struct timespec at = *until;
    if (at.tv_sec > 1000000000) at.tv_sec -= *seconds; /* else it is of the monotonic clock */
    return at;
}

int cnd_timedwait(cnd_t *on, mtx_t *held, const struct timespec *until) {
    static int (*plain)(cnd_t *, mtx_t *, const struct timespec *);
    if (!plain) plain = dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec at = by_the_kernel(until);
    return plain(on, held, &at);
}

int pthread_cond_timedwait(pthread_cond_t *on, pthread_mutex_t *held, const struct timespec *until) {
    static int (*plain)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!plain) plain = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!plain) plain = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec at = by_the_kernel(until);
    return plain(on, held, &at);
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


class SettableClock:
    """A library that stands before the C library's clock, and the file that says how far off it is."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("needs a C compiler")
        folder.mkdir()
        self._file, library = folder / "seconds", folder / "clock.so"
        self.set(0)
        (folder / "clock.c").write_text(_SHIM)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(folder / "clock.c"), "-ldl"],
            check=True,
        )
        self.environ = {"LD_PRELOAD": str(library), "SET_CLOCK": str(self._file)}
        """For the processes whose clock it is."""

    def set(self, seconds: int) -> None:
        """Let it be so far ahead, from now on."""
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))
