"""Record files: which there are, what reading one gives, and what is said when it cannot be read."""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import Final, Protocol

from recstream.connectors.base import ConnectorError

__all__ = [
    "MAX_RECORD",
    "SUFFIXES",
    "FileFault",
    "RecordReader",
    "compression_of",
    "files_of",
    "suffix_of",
    "unreadable",
]

_LINES: Final = (".jsonl", ".ndjson", ".json")
SUFFIXES: Final = (
    *(name + compression for name in _LINES for compression in ("", ".gz", ".zst")),
    ".parquet",
)
"""What a file's name must end with, in letters of any size. All but the last hold one JSON object a line."""
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

    >>> suffix_of(Path("2024/events.jsonl.gz")), suffix_of(Path("EVENTS.NDJSON"))
    ('.jsonl.gz', '.ndjson')
    """
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    end = Path(name).suffix
    if end in _TABLES:
        mend = "convert it to JSON lines or Parquet; another name would not change what is in it"
    elif end in _PACKED:
        mend = "unpack it; recstream reads gzip and zstd"
    else:
        mend = "convert it, or name it .jsonl if it holds one JSON object a line"
    raise FileFault(
        "not a record file",
        str(path),
        f"the name {path.name!r}",
        f"one that ends with {', '.join(SUFFIXES)}",
        mend,
    )


_TABLES: Final = frozenset(
    (".csv", ".tsv", ".tab", ".txt", ".xls", ".xlsx", ".ods", ".orc", ".avro", ".xml", ".sql")
)
_PACKED: Final = frozenset((".bz2", ".xz", ".lz4", ".zip", ".7z", ".tar", ".tgz", ".snappy", ".br"))


def compression_of(path: Path) -> str:
    """How the lines of a file are compressed: ``".gz"``, ``".zst"``, or empty.

    >>> compression_of(Path("events.json.gz")), compression_of(Path("events.ndjson"))
    ('.gz', '')
    """
    end = Path(suffix_of(path)).suffix
    return end if end in (".gz", ".zst") else ""


def files_of(address: Path | str) -> list[Path]:
    """Give the record files at an address, in the order in which they are read.

    It is a file, a folder with all that is in it, a pattern (``logs/2024-*.jsonl.gz``), or several of these
    with commas between them. Of a folder, files and folders are left out whose names begin with ``_`` or
    ``.``, as Hadoop has it. Files of a folder or pattern are in the order of their names. A lone file need
    not be there.

    Raises:
        FileFault: nothing is there, or a folder holds a file of another kind.
    """
    path = Path(address)
    if path.is_dir():
        return _parts(path)
    text = str(address)
    if path.exists() or not any(sign in text for sign in ",*?["):
        return [path]
    if "," in text:
        return [file for part in text.split(",") if part for file in files_of(part)]
    found = [file for name in sorted(glob(text, recursive=True)) for file in files_of(name)]
    if not found:
        raise FileFault(
            "no such file", text, "nothing that the pattern matches", "at least one file", "check the path"
        )
    return list(dict.fromkeys(found))


def _parts(folder: Path) -> list[Path]:
    within = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    parts = [folder / path for path in within if not any(name[0] in "._" for name in path.parts)]
    if not parts:
        raise FileFault(
            "no record files", str(folder), "a folder without any", f"{', '.join(SUFFIXES)}", "check the path"
        )
    for part in parts:
        suffix_of(part)
    return parts


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
