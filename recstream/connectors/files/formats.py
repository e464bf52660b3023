"""Record files: which there are, what reading one gives, and what is said when it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from recstream.connectors.base import ConnectorError

__all__ = ["MAX_RECORD", "SUFFIXES", "FileFault", "RecordReader", "suffix_of", "unreadable"]

SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
"""What a file's name must end with."""
MAX_RECORD: Final = 16 * 2**20
"""Bytes of one record that are kept; decoders refuse far smaller ones as ``too_large``."""


class FileFault(ConnectorError):
    """A file cannot be read or written as asked: what, where, got, wanted, and how to mend it.

    Raised within a dataflow it is the cause (``__cause__``) of bytewax's own error.

    >>> print(FileFault("no such file", "events.jsonl", "nothing", "a file", "check the path"))
    no such file: events.jsonl: got nothing, wanted a file; check the path
    """

    def __init__(self, what: str, where: str, got: str, wanted: str, mend: str) -> None:
        super().__init__(what, where, got, wanted, mend)
        self.what, self.where, self.got, self.wanted, self.mend = what, where, got, wanted, mend

    def __str__(self) -> str:
        return f"{self.what}: {self.where}: got {self.got}, wanted {self.wanted}; {self.mend}"


class RecordReader(Protocol):
    """Records of one file in their order; every fault of the file is a :class:`FileFault`."""

    @property
    def offset(self) -> int:
        """Number of the next record."""
        ...

    @property
    def byte(self) -> int | None:
        """Where the next record begins in the file, or None where a file cannot be entered midway."""
        ...

    @property
    def is_ended(self) -> bool:
        """Whether the last record read had a line end; without one it may be half written."""
        ...

    @property
    def total(self) -> int | None:
        """How many records the file has, where it says so itself."""
        ...

    def read(self, n: int) -> list[bytes]:
        """Give the next ``n`` records, fewer only at the end of the file."""
        ...

    def progress(self) -> float:
        """Share of the file read so far, 0 to 1."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def suffix_of(path: Path) -> str:
    """Which of :data:`SUFFIXES` the name ends with.

    Raises:
        FileFault: with none of them.

    >>> suffix_of(Path("2024/events.jsonl.gz"))
    '.jsonl.gz'
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise FileFault(
        "not a record file",
        str(path),
        f"the name {path.name!r}",
        f"one that ends with {', '.join(SUFFIXES)}",
        "rename or convert the file",
    )


def unreadable(path: Path, err: Exception) -> FileFault:
    """Say of any exception of reading a file what went wrong."""
    if isinstance(err, FileNotFoundError):
        return FileFault("no such file", str(path), "nothing", "a file", "check the path")
    if isinstance(err, EOFError):
        got, wanted = "an end in the midst of compressed content", "the whole file"
    else:
        got, wanted = f"{type(err).__name__}: {err}", f"a readable {suffix_of(path)} file"
    mend = "copy or export it again, and check that it may be read"
    return FileFault("cannot read", str(path), got, wanted, mend)
