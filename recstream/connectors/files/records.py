"""Opening a record file by its kind, and what can be learned from its beginning."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from recstream.connectors.files.formats import MAX_RECORD, FileFault, RecordReader, suffix_of, unreadable
from recstream.connectors.files.lines import LineReader
from recstream.connectors.files.rows import RowReader

__all__ = ["fingerprint", "open_records"]

_FINGERPRINT: Final = 2**16


def open_records(
    path: Path, *, offset: int = 0, byte: int | None = None, max_record: int = MAX_RECORD
) -> RecordReader:
    """Open a file at its record number ``offset``; ``byte``, where known, saves reading up to it.

    The reader's ``offset`` is smaller where the file has fewer records, and by one where the record before
    was read while it was being written: it is whole only now.

    Raises:
        FileFault: missing, unreadable, or not of a known kind.
    """
    suffix = suffix_of(path)
    try:
        if suffix == ".parquet":
            return RowReader(path, offset)
        lines = LineReader(path, max_record)
    except OSError as err:
        raise unreadable(path, err) from err
    try:
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
    the whole have the same. The price: two different logs of one name that begin with the same record are
    taken for one. Give the second another name.

    Raises:
        FileFault: as :func:`open_records`.
    """
    reader = open_records(path)
    try:
        first = reader.read(1)
    finally:
        reader.close()
    return hashlib.sha256(first[0][:_FINGERPRINT]).hexdigest()[:12] if first else "empty"
