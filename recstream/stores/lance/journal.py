"""Journal of rows that are not in their table yet: files beside it, each with one writer."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from recstream.stores.base import StoreError
from recstream.stores.lance.errors import translated

__all__ = ["Journal", "not_merged", "recover"]

_FRAME: Final = struct.Struct("<QI")
"""Before each batch of rows: its length in bytes, and the checksum of length and batch (CRC 32)."""
_SUFFIX: Final = ".journal"
_OLD_S: Final = 60.0
"""Seconds after which a file without its final name is taken to be left over."""
_LOOK_S: Final = 0.05
"""Seconds between two checks whether a process has died."""

log = logging.getLogger(__name__)


class Journal:
    """Batches of rows, appended to a file that this process alone writes, and holds locked while it lives.

    A batch whose `append` has returned survives ``kill -9``; like lance it leaves the flush to disk to the
    operating system, so a power cut may lose the last seconds. A batch that was cut short does not count.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[tuple[Path, FileIO]] = []
        self._named = 0
        self._is_turned = False
        # Not at exit: the process holds its locks until it is gone, with the thread that merges.
        weakref.finalize(self, _close, self._open).atexit = False

    def append(self, rows: Any) -> None:
        """Append an Arrow table, all of it or nothing.

        Raises:
            StoreError: it cannot be written.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        body = sink.getvalue()
        with translated(str(self._folder), f"appending {len(rows)} rows"):
            if self._is_turned or not self._open:
                self._begin()
            _, file = self._open[-1]
            before = file.tell()
            try:
                self._write(_FRAME.pack(len(body), _checksum(len(body), body)), body)
            except OSError:
                file.seek(before)
                file.truncate()  # or what comes after it could not be read
                raise

    def turn(self) -> int:
        """Append to another file from now on; gives how many files hold the batches before."""
        self._is_turned = True
        return len(self._open)

    def drop(self, files: int) -> None:
        """Delete the oldest files, whose rows are in the table."""
        with translated(str(self._folder), "dropping a file"):
            for path, file in self._open[:files]:
                path.unlink()  # before its lock is free: see `recover`
                file.close()
        del self._open[:files]

    def _write(self, *parts: Any) -> None:
        _, file = self._open[-1]
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[file.write(left) :]

    def _begin(self) -> None:
        self._folder.mkdir(exist_ok=True)
        # Never without its lock under a name that `recover` looks for: it would take it for a dead one's.
        self._named = max(self._named + 1, time.time_ns())  # in order, though the clock be set back
        name = f"{self._named:020d}-{os.getppid()}-{os.getpid()}"
        nameless = self._folder / f"{name}.new"
        file = FileIO(str(nameless), "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        path = nameless.with_suffix(_SUFFIX)
        nameless.rename(path)
        self._open.append((path, file))
        self._is_turned = False


def _close(files: list[tuple[Path, FileIO]]) -> None:
    for _, file in files:
        file.close()


def recover(folder: Path, put: Callable[[list[Any]], None], *, wait_s: float = 0.0) -> int:
    """Hand on the journals of processes that died, and delete them; gives how many batches there were.

    ``put`` gets all of them, those of each process in their order. Files whose writers live are left to them:
    at once those of this process and of others with the same parent, which are of one job; for all others'
    end it waits ``wait_s`` seconds, for they may be dying. The caller sees to it that no one else recovers
    meanwhile.

    Raises:
        StoreError: a file is damaged, and not just cut short.
    """
    with contextlib.ExitStack() as held:
        paths: list[Path] = []
        batches: list[Any] = []
        deadline = time.monotonic() + wait_s
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):  # its writer has just dropped it
                file = held.enter_context(path.open("rb"))
                if _is_left(file, path, deadline) and os.fstat(file.fileno()).st_nlink:
                    paths.append(path)
                    batches += _batches(path, file.read())
        if batches:
            put(batches)
        for path in paths:
            path.unlink()
    for left in folder.glob("*.new"):  # of one that died just then; a new one has its name in a moment
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _OLD_S:
                left.unlink()
    return len(batches)


def not_merged(folder: Path) -> list[Any]:
    """The batches that all journals hold now, those of each process in their order.

    Nothing is changed or locked. What was dropped meanwhile is in the table, which is to be read afterwards.

    Raises:
        StoreError: a file is damaged, and not just cut short.
    """
    batches: list[Any] = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            batches += _batches(path, path.read_bytes())
    return batches


def _is_left(file: Any, path: Path, deadline: float) -> bool:
    """Whether a file's writer is dead; if so it is locked."""
    *_, parent, writer = path.stem.split("-")
    is_of_this_job = int(parent) == os.getppid() or int(writer) == os.getpid()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_of_this_job:
                return False
            if time.monotonic() >= deadline:
                log.info("rows written down by process %s, which lives, are left to it: %s", writer, path)
                return False
            time.sleep(_LOOK_S)
        else:
            return True


def _checksum(length: int, body: Any) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<Q", length)))


def _batches(path: Path, raw: bytes) -> Iterator[Any]:
    at = 0
    while at + _FRAME.size <= len(raw):
        length, checksum = _FRAME.unpack_from(raw, at)
        body = memoryview(raw)[at + _FRAME.size : at + _FRAME.size + length]
        if length == 0 or len(body) < length:
            break
        if (got := _checksum(length, body)) != checksum:
            raise StoreError(
                str(path),
                f"the rows at byte {at} are damaged: got checksum {got:08x}, wanted {checksum:08x}",
                "delete the file, which loses its users' last seconds, or restore the store from a backup",
            )
        yield pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        at += _FRAME.size + length
    if at < len(raw):  # its epoch has not committed
        log.info("%d bytes that were cut short are passed over: %s", len(raw) - at, path)
