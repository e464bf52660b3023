"""Messages as lines of a file, without a doubled or torn line after a crash."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import zstandard
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from recstream.connectors.files.formats import FileFault, compression_of, suffix_of
from recstream.records.recommendation import tombstone_line
from recstream.records.transport import Message

__all__ = ["JsonLinesSink"]


class JsonLinesSink(FixedPartitionedSink[Message, int]):
    """The ``value`` of each message as one line of a `.jsonl`, `.jsonl.gz` or `.jsonl.zst` file.

    (`.ndjson` or `.json` for `.jsonl` will do, too.)

    * A tombstone (``value`` None) is a line that says whose list is deleted. Other keys, and headers, are not
      written.
    * A run without recovery state starts the file anew, whatever was in it.
    * A resumed run first cuts the file to where the last committed epoch ended, so that what is written
      again is there once. A compressed file is a sequence of whole members (frames), one an epoch, which
      every reader takes for one file.
    * The lines of an epoch are on the disk (fsync) before the epoch commits.

    One worker writes, in the order in which messages reach it. Items are ``(any string, message)``.

    Raises:
        FileFault: the name ends otherwise.

    >>> JsonLinesSink("out/lists.jsonl.gz").list_parts()
    ['lists.jsonl.gz']
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        if suffix_of(self._path) == ".parquet":
            raise FileFault(
                "cannot write it line by line",
                str(path),
                "a .parquet file",
                "a name that ends with .jsonl, .jsonl.gz or .jsonl.zst",
                "choose another name; convert afterwards",
            )

    @override
    def list_parts(self) -> list[str]:
        return [self._path.name]

    @override
    def part_fn(self, item_key: str) -> int:
        return 0

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Lines:
        return _Lines(self._path, 0 if resume_state is None else resume_state)


class _Compressor(Protocol):
    """Makes one member of a compressed file."""

    def compress(self, piece: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _gzip_member() -> _Compressor:
    return zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)  # 16: with gzip's header and trailer


def _zstd_frame() -> _Compressor:
    compressor: _Compressor = zstandard.ZstdCompressor().compressobj()
    return compressor


_MEMBERS: Final[dict[str, Callable[[], _Compressor] | None]] = {
    "": None,
    ".gz": _gzip_member,
    ".zst": _zstd_frame,
}


class _Lines(StatefulSinkPartition[Message, int]):
    """The open file; its state is the size up to which all is complete and on the disk."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._member = path, _MEMBERS[compression_of(path)]
        self._open_member: _Compressor | None = None
        self._complete = size
        self._is_complete = True
        try:
            self._file = open(path, "ab")
            found = os.fstat(self._file.fileno()).st_size
            if found < size:
                self._file.close()
                raise FileFault(
                    "the output is shorter than what was committed to it",
                    str(path),
                    f"{found} bytes",
                    f"at least {size}",
                    "restore the file, or begin again with an empty recovery folder",
                )
            self._file.truncate(size)
            _sync(self._file.fileno(), path.parent)
        except OSError as err:
            raise self._unwritable(err) from err

    @override
    def write_batch(self, values: list[Message]) -> None:
        lines = [
            tombstone_line(key or b"") if value is None else value
            for key, value, _ in values
            if value is not None or key is not None
        ]
        if any(b"\n" in line for line in lines):
            torn = next(line for line in lines if b"\n" in line)
            raise FileFault(
                "a record would not be one line",
                str(self._path),
                f"a line break at byte {torn.index(10)}",
                "none",
                "write JSON without indentation",
            )
        if not lines:
            return
        piece = b"\n".join([*lines, b""])
        if self._member is not None:
            self._open_member = self._open_member or self._member()
            piece = self._open_member.compress(piece)
        self._is_complete = False
        self._put(piece)

    @override
    def snapshot(self) -> int:
        if not self._is_complete:
            if self._open_member is not None:
                self._put(self._open_member.flush())
                self._open_member = None
            try:
                os.fsync(self._file.fileno())
            except OSError as err:
                raise self._unwritable(err) from err
            self._complete = self._file.tell()
            self._is_complete = True
        return self._complete

    @override
    def close(self) -> None:
        self.snapshot()
        self._file.close()

    def _put(self, piece: bytes) -> None:
        try:
            self._file.write(piece)
            self._file.flush()  # a reader who follows the file sees whole batches
        except OSError as err:
            raise self._unwritable(err) from err

    def _unwritable(self, err: OSError) -> FileFault:
        return FileFault(
            "cannot write",
            str(self._path),
            err.strerror or str(err),
            "a folder that exists, may be written to and has room",
            "free disk space; the same command then goes on where it was"
            if err.errno in (errno.ENOSPC, errno.EDQUOT)
            else "make the folder, or choose another file",
        )


def _sync(file: int, folder: Path) -> None:
    """Put a file's size and its name in the folder on the disk."""
    os.fsync(file)
    listing = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(listing)
    finally:
        os.close(listing)
