"""Lines of a text file, plain or compressed, read in bounded memory."""

from __future__ import annotations

import gzip
import io
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, Protocol

import zstandard

from recstream.connectors.files.formats import FileFault, compression_of, unreadable
from recstream.records.foreign import foreign_file

__all__ = ["LineReader"]

_BOM: Final = b"\xef\xbb\xbf"
_BLOCK: Final = 2**18
_MEMBER_BLOCK: Final = 2**13
_FAULTS: Final = (EOFError, OSError, zlib.error, zstandard.ZstdError)
"""What a file that is not as its name says, or cannot be read, raises."""

log = logging.getLogger(__name__)


class LineReader:
    """Non-blank lines without their line ends; one longer than ``max_record`` is cut to it."""

    def __init__(self, path: Path, max_record: int) -> None:
        self._path, self._max_record = path, max_record
        self._raw: IO[bytes] = open(path, "rb")
        self._size = os.fstat(self._raw.fileno()).st_size
        self._plain = not compression_of(path)
        self._lines: Any = _decompressed(self._raw, path)
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

    def check_format(self) -> None:
        """Look at the beginning of the file.

        Raises:
            FileFault: it holds something else than JSON lines in UTF-8, or cannot be read.
        """
        try:
            foreign = foreign_file(self._lines.peek(1))
        except _FAULTS as err:
            raise unreadable(self._path, err) from err
        if foreign is not None:
            wanted = "one JSON object a line, in UTF-8"
            raise FileFault("not JSON lines", str(self._path), foreign.what, wanted, foreign.mend)

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
        except _FAULTS as err:
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


class _Member(Protocol):
    """One compressed member of a file that is being read."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, piece: bytes, /) -> bytes: ...


class _Members(io.RawIOBase):
    """Bytes of a file of compressed members (zstd: frames). A last one that is cut off is an error."""

    def __init__(self, raw: IO[bytes], name: str, new_member: Callable[[], _Member], magic: bytes) -> None:
        """Of a file that begins with ``magic``, what follows a member and is none is left out."""
        self._raw, self._name, self._new_member, self._magic = raw, name, new_member, magic
        self._member: _Member | None = None
        self._is_first = True
        self._input, self._output = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._raw.read(_MEMBER_BLOCK)
            if self._member is None:
                if not self._is_at_member():
                    return 0
                self._member, self._is_first = self._new_member(), False
            if not self._input:
                msg = "the file ends within compressed content"
                raise EOFError(msg)
            self._output = memoryview(self._member.decompress(self._input))
            self._input = self._member.unused_data if self._member.eof else b""
            if self._member.eof:
                self._member = None
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _is_at_member(self) -> bool:
        """Whether another member begins here. As `gunzip` does, zeros are skipped, and other bytes end it."""
        if not self._magic:
            return bool(self._input)
        if not self._is_first:
            self._input = self._input.lstrip(b"\0")
        while len(self._input) < len(self._magic) and (more := self._raw.read(_MEMBER_BLOCK)):
            self._input += more
            if not self._is_first:
                self._input = self._input.lstrip(b"\0")
        if not self._input or self._input.startswith(self._magic):
            return bool(self._input)
        if self._is_first:
            msg = f"it begins with {self._input[:8]!r}, which is not compressed by gzip"
            raise gzip.BadGzipFile(msg)
        log.warning(
            "file=%s what follows the end of its compressed content is left out, as gunzip does: %r",
            self._name,
            self._input[:8],
        )
        self._input = b""
        self._raw.seek(0, os.SEEK_END)
        return False


def _gzip_member() -> _Member:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)  # 16: with gzip's header and trailer


def _zstd_frame() -> _Member:
    frame: _Member = zstandard.ZstdDecompressor().decompressobj()
    return frame


def _decompressed(raw: IO[bytes], path: Path) -> IO[bytes]:
    compression = compression_of(path)
    if compression == ".gz":
        return io.BufferedReader(_Members(raw, path.name, _gzip_member, b"\x1f\x8b"), _BLOCK)
    if compression == ".zst":
        return io.BufferedReader(_Members(raw, path.name, _zstd_frame, b""), _BLOCK)
    return raw
