"""Opening a record file by its kind, and what can be learned from its beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, TypeAlias
from zlib import crc32

from recstream.connectors.files.formats import MAX_RECORD, FileFault, RecordReader, suffix_of, unreadable
from recstream.connectors.files.lines import LineReader
from recstream.connectors.files.rows import RowReader

__all__ = ["Key", "digest_of", "digests", "fingerprint", "open_records"]

Key: TypeAlias = Callable[[bytes], float | None]
"""Gives what a record is sorted by; None: it stays behind the one before it."""

_FINGERPRINT: Final = 2**16
_BLOCK: Final = 4096
"""Records digested at once."""


class _SortedReader:
    """Records of a file in order of a key, and of one key in the order of the file. Holds all in memory."""

    byte = None
    """A record cannot be entered by a byte."""
    is_ended = True
    """The last record is the last one of the file as it is now."""

    def __init__(self, reader: RecordReader, key: Key, offset: int) -> None:
        keyed: list[tuple[float, bytes]] = []
        newest = float("-inf")
        try:
            while values := reader.read(_BLOCK):
                for value in values:
                    own = key(value)
                    newest = newest if own is None else own
                    keyed.append((newest, value))
        finally:
            reader.close()
        self._records = [value for _, value in sorted(keyed, key=lambda one: one[0])]
        self.total = len(self._records)
        self.offset = min(offset, self.total)
        """Number of the next record."""

    def read(self, n: int) -> list[bytes]:
        """Give the next ``n`` records, fewer only at the end."""
        records = self._records[self.offset : self.offset + n]
        self.offset += len(records)
        return records

    def progress(self) -> float:
        """Share of the records read so far."""
        return self.offset / self.total if self.total else 1.0

    def close(self) -> None:
        """Let go of the records."""
        self._records = []


def open_records(
    path: Path,
    *,
    offset: int = 0,
    byte: int | None = None,
    max_record: int = MAX_RECORD,
    key: Key | None = None,
) -> RecordReader:
    """Open a file at its record number ``offset``; ``byte``, where known, saves reading up to it.

    With a ``key`` the records are sorted by it, and numbered in that order.

    The reader's ``offset`` is smaller where the file has fewer records, and by one where the record before
    was read while it was being written: it is whole only now.

    Raises:
        FileFault: missing, unreadable, or not of a known kind.
    """
    suffix = suffix_of(path)
    if key is not None:
        return _SortedReader(open_records(path, max_record=max_record), key, offset)
    try:
        if suffix == ".parquet":
            return RowReader(path, offset)
        lines = LineReader(path, max_record)
    except OSError as err:
        raise unreadable(path, err) from err
    try:
        lines.check_format()
        if byte is not None and lines.was_torn(byte):
            offset -= 1
        elif byte is not None and lines.enter(offset, byte):
            return lines
        while lines.offset < offset and lines.read(min(offset - lines.offset, 4096)):
            pass
    except FileFault:
        lines.close()
        raise
    return lines


def fingerprint(path: Path) -> str:
    """12 hex digits of the SHA-256 of the first record (of its first 64 KiB); ``"empty"`` without one.

    The first record alone, so that a log keeps its fingerprint however it grows: a beginning of a log and
    the whole have the same. Two different logs of one name that begin with the same record are told apart
    by the `digests` of what was read.

    Raises:
        FileFault: as :func:`open_records`.
    """
    reader = open_records(path)
    try:
        first = reader.read(1)
    finally:
        reader.close()
    return hashlib.sha256(first[0][:_FINGERPRINT]).hexdigest()[:12] if first else "empty"


def digest_of(values: Sequence[bytes], before: int = 0) -> int:
    """Digest of records that follow those with the digest ``before``: 32 bits, whatever parts they come in.

    >>> digest_of([b"{}", b"[]"]) == digest_of([b"[]"], digest_of([b"{}"])) != digest_of([b"[]", b"{}"])
    True
    """
    return crc32(b"".join(value + b"\n" for value in values), before)


def digests(
    path: Path, counts: Collection[int], *, max_record: int = MAX_RECORD, key: Key | None = None
) -> dict[int, int]:
    """Digest of the first so many records, for each of the counts that the file has records for.

    Raises:
        FileFault: as :func:`open_records`.
    """
    found: dict[int, int] = {}
    digest = 0
    reader = open_records(path, max_record=max_record, key=key)
    try:
        for count in sorted(counts):
            while reader.offset < count:
                values = reader.read(min(count - reader.offset, _BLOCK))
                if not values:
                    return found
                digest = digest_of(values, digest)
            found[count] = digest
    finally:
        reader.close()
    return found
