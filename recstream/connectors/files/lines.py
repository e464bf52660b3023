"""Lines of a text file, plain or compressed, read in bounded memory."""

from __future__ import annotations

import gzip
import io
import logging
import os
import zlib
from pathlib import Path
from typing import IO, Any, Final

import zstandard

from recstream.connectors.files.formats import suffix_of, unreadable

__all__ = ["LineReader"]

_BOM: Final = b"\xef\xbb\xbf"
_BLOCK: Final = 2**18
_FRAME_BLOCK: Final = 2**13

log = logging.getLogger(__name__)


class LineReader:
    """Non-blank lines without their line ends; one longer than ``max_record`` is cut to it."""

    def __init__(self, path: Path, max_record: int) -> None:
        self._path, self._max_record = path, max_record
        self._raw: IO[bytes] = open(path, "rb")
        self._size = os.fstat(self._raw.fileno()).st_size
        self._plain = suffix_of(path) == ".jsonl"
        self._lines = _decompressed(self._raw, suffix_of(path))
        self._at_start = True
        self.offset = 0
        """Number of the next record."""
        self.is_ended = True
        """Whether the last record read had a line end; without one it may be half written."""

    total = None
    """Not known without reading to the end."""

    @property
    def byte(self) -> int | None:
        """Where the next record begins, for a plain file."""
        return self._lines.tell() if self._plain else None

    def enter(self, offset: int, byte: int) -> bool:
        """Go to where record ``offset`` begins, or say no: not a plain file, or no record begins there."""
        if not self._plain or byte > self._size or self.was_torn(byte):
            return False
        self._lines.seek(byte)
        self._at_start, self.offset = byte == 0, offset
        return True

    def was_torn(self, byte: int) -> bool:
        """Tell whether ``byte``, an end of a record once, is now in the midst of one."""
        if not self._plain or byte == 0:
            return False
        self._lines.seek(byte - 1)
        before, after = self._lines.read(1), self._lines.read(1)
        self._lines.seek(0)
        return before != b"\n" and after not in (b"", b"\n", b"\r")

    def read(self, n: int) -> list[bytes]:
        """Give the next ``n`` records, fewer only at the end."""
        records: list[bytes] = []
        limit = self._max_record + 2
        try:
            while len(records) < n:
                line = self._lines.readline(limit)
                if not line:
                    break
                if self._at_start:
                    line, self._at_start = line.removeprefix(_BOM), False
                if len(line) > self._max_record:
                    line = self._cut(line)
                elif not line or line.isspace():
                    continue
                else:
                    self.is_ended = line.endswith(b"\n")
                records.append(line.rstrip(b"\r\n"))
        except (EOFError, OSError, zlib.error, zstandard.ZstdError) as err:
            raise unreadable(self._path, err) from err
        self.offset += len(records)
        return records

    def _cut(self, line: bytes) -> bytes:
        length, rest = len(line), line
        while rest and not rest.endswith(b"\n"):
            rest = self._lines.readline(_BLOCK)
            length += len(rest)
        self.is_ended = rest.endswith(b"\n")
        whole = line.rstrip(b"\r\n")
        kept = whole[: self._max_record]
        if len(whole) > len(kept) or length > len(line):
            log.warning("file=%s record of %d bytes cut to %d", self._path.name, length, len(kept))
        return kept

    def progress(self) -> float:
        """Share of the file's bytes read so far."""
        return min(self._raw.tell() / self._size, 1.0) if self._size else 1.0

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
        self._raw.close()


class _Frames(io.RawIOBase):
    """Bytes of a file of zstd frames. Unlike the package's own reader, a torn last frame is an error."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame: Any = None
        self._input, self._output = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._raw.read(_FRAME_BLOCK)
            if not self._input:
                if self._frame is not None:
                    msg = "the file ends within a zstd frame"
                    raise EOFError(msg)
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._output = memoryview(self._frame.decompress(self._input))
            self._input = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size


def _decompressed(raw: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix == ".jsonl.gz":
        # read by lines in C, in blocks larger than gzip's own
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), _BLOCK)
    if suffix == ".jsonl.zst":
        return io.BufferedReader(_Frames(raw), _BLOCK)
    return raw
