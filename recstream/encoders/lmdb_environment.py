"""One LMDB environment per folder and process, shared by all that use it: LMDB must not be opened twice."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, RLock
from typing import Any

import lmdb

__all__ = ["SharedEnvironment", "lease"]

MIN_MB = 1
MAX_READERS = 510
LOCK_BYTES = 32 * 1024
"""Size of LMDB's lock file with so many readers."""
LOCK_WAIT_S = 2.0
"""How long a writer waits for another process before it gives up."""

_open: dict[tuple[int, str], SharedEnvironment] = {}
_open_lock = Lock()


def lease(folder: Path, max_mb: int) -> SharedEnvironment:
    """The process's environment for ``folder``, opened (and the folder made) when nobody has it yet.

    Raises:
        lmdb.Error: the file is damaged or of another kind.
        OSError: the folder cannot be made or read.
    """
    with _open_lock:
        key = (os.getpid(), str(folder.resolve()))
        for other in [other for other in _open if other[0] != key[0]]:
            _open.pop(other).disown()
        held = _open.get(key)
        if held is None:
            held = _open[key] = SharedEnvironment(key, folder, max_mb)
        held.users += 1
        return held


class SharedEnvironment:
    """An open LMDB file; made by :func:`lease`, given back by :meth:`release`."""

    def __init__(self, key: tuple[int, str], folder: Path, max_mb: int) -> None:
        self.users = 0
        self._key = key
        self._threads = RLock()
        self.can_write = True
        size = max(max_mb, MIN_MB) << 20
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._gate: int | None = os.open(
                folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
            )
            _reserve_lock_file(folder)
            self._env = _checked(folder, map_size=size)
        except (OSError, lmdb.ReadonlyError) as exc:
            if getattr(exc, "errno", errno.EROFS) not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            self.can_write, self._gate = False, None
            self._env = _checked(folder, readonly=True)

    @property
    def is_mine(self) -> bool:
        """Whether this process opened it; a child made by ``fork`` must open its own."""
        return self._key[0] == os.getpid()

    def release(self) -> None:
        """Give the lease back; the last one closes the file."""
        with _open_lock:
            self.users -= 1
            if self.users > 0 or not self.is_mine:
                return
            _open.pop(self._key, None)
        with self._threads:
            self._env.close()
            if self._gate is not None:
                os.close(self._gate)

    def disown(self) -> None:
        """Let go of what the parent process opened, before this child opens its own."""
        self._env.close()

    def adopt_size(self) -> None:
        """Take over the map size that another process set."""
        with self._threads:
            self._env.set_mapsize(0)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A read transaction that gives views into the file."""
        with self._threads, self._env.begin(buffers=True) as txn:
            yield txn

    @contextmanager
    def writing(self) -> Iterator[bool]:
        """Hold the gate against other writers; yields False when it stays shut.

        LMDB's own lock would wait for a stopped process forever.
        """
        with self._threads:
            if self._gate is None or not _seize(self._gate):
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(self._gate, fcntl.LOCK_UN)

    def put(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Write keys and values in one transaction: all or nothing."""
        with self._env.begin(write=True) as txn:
            for key, value in entries:
                txn.put(key, value)

    def fill(self) -> float:
        """Share of the map's pages that hold entries."""
        stat = self._env.stat()
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return float(pages * stat["psize"] / self._env.info()["map_size"])

    def evict(self, share: float, step: int, start: bytes) -> int:
        """Drop ``share`` of all entries, those after ``start`` (keys are digests, so: random ones)."""
        self._env.reader_check()  # slots of dead processes would keep the freed pages from being used
        wanted = max(1, int(self._env.stat()["entries"] * share))
        dropped = 0
        while dropped < wanted:
            with self._env.begin(write=True) as txn:
                cursor = txn.cursor()
                is_placed = cursor.set_range(start) or cursor.first()
                for _ in range(min(step, wanted - dropped)):
                    if not is_placed:
                        break
                    start = bytes(cursor.key())
                    is_placed = cursor.delete()
                    dropped += 1
                if not is_placed and not cursor.first():
                    break
        return dropped


def _seize(gate: int) -> bool:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        else:
            return True


def _reserve_lock_file(folder: Path) -> None:
    """Have the disk's blocks under LMDB's lock file before it is mapped.

    It is made with holes; to write to one on a full disk would kill the process, this is an error.
    """
    handle = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.posix_fallocate(handle, 0, max(os.fstat(handle).st_size, LOCK_BYTES))
    finally:
        os.close(handle)


def _checked(folder: Path, **options: Any) -> Any:
    """Open the file, and make a truncated one as long as it claims to be.

    Reading beyond the end of a mapped file would kill the process; zeros are an error that can be handled.
    """
    env = lmdb.open(str(folder), max_readers=MAX_READERS, metasync=False, readahead=False, **options)
    claimed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    with (folder / "data.mdb").open("rb" if "readonly" in options else "r+b") as file:
        if os.fstat(file.fileno()).st_size < claimed:
            os.posix_fallocate(file.fileno(), claimed - 1, 1)  # unlike truncate, it never shortens
    env.reader_check()
    return env
