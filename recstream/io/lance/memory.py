"""What lance may hold in memory: bounded caches, few arenas, and what is freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

__all__ = ["bounded_session", "few_arenas", "give_back"]

_MIB: Final = 1024 * 1024
INDEX_CACHE_BYTES: Final = 64 * _MIB
"""Pages of the key's index: those of two million users. What is not in it is read from the file."""
METADATA_CACHE_BYTES: Final = 32 * _MIB
"""Manifests, and the footers of data files."""
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


def few_arenas() -> None:
    """Let this process's threads share two heaps of malloc's rather than have eight a core.

    Lance's threads free what others allocated, which keeps the heaps fragmented: *measured* 650 MB after
    compacting 600 MB, 400 MB with two heaps, as fast. Without effect once there are more, or without glibc.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return freed memory to the system: *measured* 110-230 MB after a compaction, in 10-30 ms."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
