"""Rows written down at the barrier that are not in their table yet: files beside it, one writer each."""

from __future__ import annotations

import contextlib
import fcntl
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

from recstream.io.lance.errors import StoreError, translated

__all__ = ["Journal", "recover"]

_FRAME: Final = struct.Struct("<QI")
"""Before each batch of rows: its length in bytes, and its checksum (CRC 32)."""
_SUFFIX: Final = ".journal"
_OLD_S: Final = 60.0


class Journal:
    """Batches of rows, appended to a file that this process alone writes, and holds locked while it lives.

    A batch whose `append` has returned survives ``kill -9``; like lance it leaves the flush to disk to the
    operating system, so a power cut may lose the last seconds. A batch that was cut short does not count.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[tuple[Path, FileIO]] = []
        weakref.finalize(self, _close, self._open)

    def append(self, rows: Any) -> None:
        """Write down an Arrow table, all of it or nothing.

        Raises:
            StoreError: it cannot be written.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        body = sink.getvalue()
        with translated(str(self._folder), f"writing down {len(rows)} rows"):
            if not self._open:
                self._begin()
            self._write(_FRAME.pack(len(body), zlib.crc32(body)), body)

    def turn(self) -> int:
        """What is appended from now on goes to another file; gives how many files hold what came before."""
        before = len(self._open)
        if before:
            self._begin()
        return before

    def drop(self, files: int) -> None:
        """Drop the oldest files: what they hold is in the table."""
        for path, file in self._open[:files]:
            path.unlink()
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
        name = f"{time.time_ns():020d}-{os.getpid()}"
        nameless = self._folder / f"{name}.new"
        file = FileIO(str(nameless), "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        path = nameless.with_suffix(_SUFFIX)
        nameless.rename(path)
        self._open.append((path, file))


def _close(files: list[tuple[Path, FileIO]]) -> None:
    for _, file in files:
        file.close()


def recover(folder: Path, put: Callable[[list[Any]], None]) -> int:
    """Hand on what processes that died had written down, and drop it; gives how many batches there were.

    ``put`` gets all of them, those of each process in their order. Files whose writers live are left to them.
    The caller sees to it that no one else recovers meanwhile.

    Raises:
        StoreError: a file is damaged, and not just cut short.
    """
    with contextlib.ExitStack() as held:
        paths: list[Path] = []
        batches: list[Any] = []
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            file = held.enter_context(path.open("rb"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            paths.append(path)
            batches += _batches(path, file.read())
        if batches:
            put(batches)
        for path in paths:
            path.unlink()
    for left in folder.glob("*.new"):  # of one that died just then; a new one has its name in a moment
        if time.time() - left.stat().st_mtime > _OLD_S:
            left.unlink()
    return len(batches)


def _batches(path: Path, raw: bytes) -> Iterator[Any]:
    at = 0
    while at + _FRAME.size <= len(raw):
        length, checksum = _FRAME.unpack_from(raw, at)
        at += _FRAME.size
        body = raw[at : at + length]
        if len(body) < length:
            return  # cut short: its epoch has not committed
        if zlib.crc32(body) != checksum:
            raise StoreError(
                str(path),
                f"the rows written down at byte {at} are damaged: got checksum {zlib.crc32(body):08x}, "
                f"wanted {checksum:08x}",
                "delete the file, which loses its users' last seconds, or restore the store from a backup",
            )
        yield pa.ipc.open_stream(body).read_all()
        at += length
