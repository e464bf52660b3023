"""Locks of a table: writers share it, maintenance has it alone, across threads and processes."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["TableLock", "folder_lock", "process_lock"]

log = logging.getLogger(__name__)

UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""What file systems without locks answer; then optimistic commits with retries must do."""

_locks: dict[str, threading.RLock] = {}
_locks_guard = threading.Lock()


def process_lock(path: Path) -> threading.RLock:
    """The one lock of this process for that folder or table, however often it was opened."""
    with _locks_guard:
        return _locks.setdefault(str(path.resolve()), threading.RLock())


@contextmanager
def _held(path: Path, how: int) -> Iterator[bool]:
    """Hold a file lock; False when this file system has none. Freed by the kernel if we die."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, how)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            log.warning("file system has no locks, maintenance may lose to writers: path=%s", path)
            yield False
        else:
            yield True
    finally:
        os.close(handle)


@contextmanager
def folder_lock(path: Path) -> Iterator[bool]:
    """Hold the whole database while it is created or checked; other processes wait."""
    with process_lock(path), _held(path / ".recstream.lock", fcntl.LOCK_EX) as locked:
        yield locked


class TableLock:
    """Writers share it, maintenance has it alone.

    Two files: everyone passes the gate first, so that a stream of overlapping writers cannot keep
    maintenance waiting for ever. Without it compaction, which rewrites what writers touch, loses
    every commit to them on a busy table (and leaves its files behind).
    """

    def __init__(self, folder: Path, table: str) -> None:
        self._threads = process_lock(folder / table)
        self._gate = folder / f".{table}.gate.lock"
        self._work = folder / f".{table}.work.lock"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the table together with other processes' writers; one thread of this process."""
        with self._threads:
            handle = os.open(self._work, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                with _held(self._gate, fcntl.LOCK_SH) as supported:
                    if supported:
                        fcntl.flock(handle, fcntl.LOCK_SH)
                yield
            finally:
                os.close(handle)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold the table with no writer in any process; False where locks do not exist."""
        with (
            self._threads,
            _held(self._gate, fcntl.LOCK_EX) as gate,
            _held(self._work, fcntl.LOCK_EX) as work,
        ):
            yield gate and work
