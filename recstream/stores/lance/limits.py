"""Limits of lance's memory and threads: bounded caches, few arenas, half the cores."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, Final

__all__ = ["be_frugal", "bounded_session", "give_back"]

_MIB: Final = 1024 * 1024
INDEX_CACHE_BYTES: Final = 64 * _MIB
"""Pages of the key's index: those of two million users. What is not in it is read from the file."""
METADATA_CACHE_BYTES: Final = 32 * _MIB
"""Manifests, and the footers of data files."""
READ_AHEAD_BYTES: Final = 32 * _MIB
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2


def bounded_session() -> Any:
    """Caches for one connection.

    Lance puts something into them with every commit and takes nothing out before they are full (lance issue
    1983: *measured* 70 KB a commit), and by default they are full at 7 GiB: at a commit a second, in a day.
    """
    import lancedb

    return lancedb.Session(
        index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES
    )


def be_frugal() -> None:
    """Bound the memory and cores of lance's threads; to be called before lance is first used.

    They have half of the cores: what they do for the background must not hold up the events. *Measured* with
    ``bench_latency``'s job on 2 cores, in two pairs: median latency 111 against 188, 232 against 399 ms.

    Its threads free what others allocated, which keeps malloc's heaps fragmented, eight a core; and it reads
    up to 2 GiB ahead. *Measured* while 500 k users of 6 KB were compacted: 1,510 MB at most, with two heaps
    1,230 MB, and with 32 MiB read ahead too 1,030 MB; not slower. What the environment says is left alone;
    the heaps are only bounded where there is glibc.
    """
    os.environ.setdefault("LANCE_CPU_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(READ_AHEAD_BYTES))
    libc = _glibc()
    if libc is not None and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return freed memory to the system: *measured* 200-450 MB after a compaction of 3 GB."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
