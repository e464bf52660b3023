"""Record files as a bytewax source: one partition a file, exact to resume, able to stop cleanly."""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from bytewax.inputs import StatefulSourcePartition
from typing_extensions import override

from recstream.connectors.base import RecordSource, never
from recstream.connectors.files.formats import MAX_RECORD, FileFault, RecordReader, files_of, suffix_of
from recstream.connectors.files.records import Key, digest_of, digests, fingerprint, open_records
from recstream.records.transport import Partition, RawBatch

__all__ = ["FileSource", "FileState", "file_partition"]

Mark = tuple[int, int]
"""A number of records from the first, and their digest: what was read is known by it."""
FileState = tuple[str, int, int | None] | tuple[str, int, int | None, Mark]
"""Identity of the log, number of the next record, where it begins in the file if that is known, and the mark
of what was read, which releases before this one did not note."""
_TURN: Final = timedelta(milliseconds=2)
"""How long a file waits before it asks again whether its turn has come, for each file before it."""
_LONGEST_TURN: Final = timedelta(seconds=1)

_SORTED = "+sorted"
"""End of the identity of a log that is read in order of a key: its offsets mean other records."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Reading:
    batch_size: int
    limit: int | None
    max_record: int
    stopping: Callable[[], bool]
    key: Key | None
    turns: _Turns


class _Turns:
    """Has the files that are open in this process read one after another."""

    def __init__(self, names: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._begun: list[int] = []
        """Places of the files that are not read yet, ascending."""
        self._read: dict[int, int] = {}

    def begin(self, name: str) -> None:
        if self._places[name] not in self._begun:
            insort(self._begun, self._places[name])

    def end(self, name: str, read: int) -> None:
        """Note that a file is read, or left; ``read`` is how many of its records were."""
        place = self._places[name]
        if place in self._begun:
            self._begun.remove(place)
        self._read[place] = read

    def ahead(self, name: str) -> int:
        """How many files are to be read before this one."""
        return bisect_left(self._begun, self._places[name])

    def read_before(self, name: str) -> int:
        """How many records were read of the files before this one."""
        place = self._places[name]
        return sum(read for one, read in self._read.items() if one < place)


class FileSource(RecordSource[FileState]):
    """Records of files of JSON lines (`.jsonl`, `.ndjson`, `.json`, plain, `.gz` or `.zst`) and of Parquet.

    * Each path is a file, a folder, a pattern, or several with commas between, as `files_of` has it. Several
      files are read one after another in this order, as parts of one log.
    * Offsets count records (non-blank lines, rows) from 0; a partition is named by the file's base name,
      and by its folders too, as far as needed, where several files have the same one.
    * Blank lines, a byte order mark at the start and CRs before line ends are dropped; any other byte passes.
    * A record beyond ``max_record`` bytes is cut to it and logged, so that a decoder refuses it as too large.
    * A resumed partition goes on with the next record; when the file was replaced by another log meanwhile
      (its fingerprint differs), it starts from that log's first record.
    * A file with the name and the first record of a log that was read, but not with all the records that were
      read of it, is refused: by their offsets, new records would be taken for those. ``positions`` are all
      that are stored of such logs, by whatever read them.
    * With a ``key`` the records of each file are read in its order; they are held in memory.
    * ``limit``: only the first so many records in all. ``stopping``: asked before each batch; when it
      says yes the source ends, which bytewax takes for a clean end.

    Making one opens no file; :meth:`check` does, and names what is wrong before a dataflow starts.

    Raises:
        FileFault: no file, a name with an unknown ending, or the same file twice.

    >>> FileSource(["a/events.jsonl", "b/events.jsonl", "b/more.parquet"]).list_parts()
    ['a/events.jsonl', 'b/events.jsonl', 'more.parquet']
    """

    def __init__(
        self,
        paths: Path | str | Sequence[Path | str],
        *,
        batch_size: int = 512,
        limit: int | None = None,
        max_record: int = MAX_RECORD,
        stopping: Callable[[], bool] = never,
        positions: Sequence[FileState] = (),
        key: Key | None = None,
    ) -> None:
        given = [paths] if isinstance(paths, (Path, str)) else paths
        self._paths = _named([file for path in given for file in files_of(path)])
        for path in self._paths.values():
            suffix_of(path)
        turns = _Turns(list(self._paths))
        self._reading = _Reading(batch_size, limit, max_record, stopping, key, turns)
        self._positions = positions
        self._is_checked = False
        self._progress = dict.fromkeys(self._paths, 0.0)

    @override
    def check(self) -> None:
        """Open every file and read its first record, and all that was read of it before.

        Raises:
            FileFault: a file is missing or unreadable, two are the same log by name and first record, or one
                is no continuation of what was read.
        """
        partitions = [self._partition(name) for name in self._paths]
        for identity, count in Counter(p.identity for p in partitions).items():
            if count > 1:
                twins = [str(self._paths[p.name]) for p in partitions if p.identity == identity]
                raise FileFault(
                    "two files are one log",
                    " and ".join(twins),
                    "the same base name and the same first record",
                    "each log once",
                    "leave one out, or rename it if it is another log",
                )
        for partition in partitions:
            self._check_continues(partition, self._positions)
        self._is_checked = True

    @override
    def progress(self) -> float:
        shares = list(self._progress.values())
        return sum(shares) / len(shares)

    @override
    def list_parts(self) -> list[str]:
        return list(self._paths)

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: FileState | None) -> _FilePartition:
        if not self._is_checked:
            self.check()
        path = self._paths[for_part]
        partition = self._partition(for_part)
        offset, byte = 0, None
        if resume_state is not None and resume_state[0] == partition.identity:
            offset, byte = resume_state[1:3]
            if resume_state not in self._positions:
                self._check_continues(partition, [resume_state])
        elif resume_state is not None:
            log.warning("file=%s was replaced by another log: reading it from its start", path.name)

        def report(share: float) -> None:
            self._progress[for_part] = share

        mark = _mark_in(resume_state) if offset else (0, 0)
        return _FilePartition(self._reading, path, partition, offset, byte, mark, report)

    def _partition(self, name: str) -> Partition:
        partition = file_partition(self._paths[name], name)
        if self._reading.key is None:
            return partition
        return partition._replace(identity=partition.identity + _SORTED)

    def _check_continues(self, partition: Partition, positions: Sequence[FileState]) -> None:
        path = self._paths[partition.name]
        plain = partition.identity.removesuffix(_SORTED)
        if any(state[0] in {plain, plain + _SORTED} - {partition.identity} for state in positions):
            asked, before = ("sorted", "as it is") if self._reading.key else ("as it is", "sorted")
            raise FileFault(
                "a log that was read in another order",
                str(path),
                f"it {asked}, and it was read {before}",
                "one order",
                "replay it into another --state, or in the order of before",
            )
        marks = {_mark_in(state) for state in positions if state[0] == partition.identity}
        wanted = [mark for mark in sorted(filter(None, marks)) if mark[0] > 1]
        reading = self._reading
        counts = {count for count, _ in wanted}
        found = digests(path, counts, max_record=reading.max_record, key=reading.key) if counts else {}
        for count, digest in wanted:
            if found.get(count) != digest:
                raise FileFault(
                    "not the log that was read before under this name",
                    str(path),
                    f"other records among the first {count:,}"
                    if count in found
                    else f"less than {count:,} records",
                    f"the {count:,} that were read, and perhaps more",
                    "a full export that changed: replay it into another --state; another log: give its file "
                    "another name, and all of its events count, but those whose event_id is known",
                )


class _Digest:
    """The mark of what was read so far."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self._half: list[bytes] = []
        """The last record, while it has no line end: it may be half written."""

    def add(self, values: list[bytes], *, is_ended: bool) -> None:
        """Take in the records that follow; ``is_ended``: the last one has a line end."""
        read = [*self._half, *values]
        whole = len(read) if is_ended else len(read) - 1
        count, digest = self.mark
        self.mark = (count + whole, digest_of(read[:whole], digest))
        self._half = read[whole:]


class _FilePartition(StatefulSourcePartition[RawBatch, FileState]):
    """One file. Holds at most one batch and the reader's buffers, once its turn has come."""

    def __init__(
        self,
        reading: _Reading,
        path: Path,
        partition: Partition,
        offset: int,
        byte: int | None,
        mark: Mark | None,
        report: Callable[[float], None],
    ) -> None:
        self._reading, self._partition, self._report = reading, partition, report
        self._path, self._offset, self._byte, self._mark = path, offset, byte, mark
        self._opened: tuple[RecordReader, _Digest] | None = None
        reading.turns.begin(partition.name)

    def _open(self) -> tuple[RecordReader, _Digest]:
        """The file, opened when its turn comes (there may be thousands), and the digest of what was read."""
        if self._opened is None:
            reading, mark = self._reading, self._mark
            reader = open_records(
                self._path,
                offset=self._offset,
                byte=self._byte,
                max_record=reading.max_record,
                key=reading.key,
            )
            if reader.offset < self._offset:
                at, was = reader.offset, self._offset
                log.warning("file=%s resumed at record %d, was at %d", self._path.name, at, was)
            is_known = mark is not None and mark[0] == reader.offset
            digest = _Digest(mark) if mark and is_known else _beginning(self._path, reader.offset, reading)
            self._opened = reader, digest
        return self._opened

    def progress(self) -> float:
        """Share of what will be read of this file, 0 to 1."""
        limit, (reader, _) = self._reading.limit, self._open()
        share = reader.progress()
        return share if not limit else max(share, min(reader.offset / limit, 1.0))

    @override
    def next_batch(self) -> Iterable[RawBatch]:
        if self._reading.stopping():
            raise StopIteration
        turns, name = self._reading.turns, self._partition.name
        if turns.ahead(name):
            return []
        limit, size = self._reading.limit, self._reading.batch_size
        reader, digest = self._open()
        first = reader.offset
        wanted = size if limit is None else min(size, limit - turns.read_before(name) - first)
        values = reader.read(wanted) if wanted > 0 else []
        if not values:
            self._report(1.0)
            turns.end(name, first)
            raise StopIteration
        self._report(self.progress())
        digest.add(values, is_ended=reader.is_ended)
        return [RawBatch(self._partition, list(range(first, first + len(values))), values)]

    @override
    def next_awake(self) -> datetime | None:
        """A file whose turn has not come asks again, the later the more files are before it."""
        ahead = self._reading.turns.ahead(self._partition.name)
        return datetime.now(timezone.utc) + min(ahead * _TURN, _LONGEST_TURN) if ahead else None

    @override
    def snapshot(self) -> FileState:
        identity = self._partition.identity
        if self._opened is not None:
            reader, digest = self._opened
            return (identity, reader.offset, reader.byte, digest.mark)
        if self._mark is None:
            return (identity, self._offset, self._byte)
        return (identity, self._offset, self._byte, self._mark)

    @override
    def close(self) -> None:
        self._reading.turns.end(self._partition.name, self.snapshot()[1])
        if self._opened is not None:
            self._opened[0].close()


def file_partition(path: Path, name: str | None = None) -> Partition:
    """Give the partition of a file; ``identity`` is ``<base name>@<fingerprint>``, wherever the file lies.

    Raises:
        FileFault: the file is missing or unreadable.
    """
    return Partition(path.name if name is None else name, f"{path.name}@{fingerprint(path)}")


def _mark_in(state: FileState | None) -> Mark | None:
    """The mark of a stored position, where it has one."""
    if state is None or len(state) == 3:
        return None
    count, digest = state[3]
    return count, digest


def _beginning(path: Path, offset: int, reading: _Reading) -> _Digest:
    """The digest of the first ``offset`` records."""
    digest = _Digest((0, 0))
    reader = open_records(path, max_record=reading.max_record, key=reading.key)
    try:
        while reader.offset < offset and (values := reader.read(min(offset - reader.offset, 4096))):
            digest.add(values, is_ended=reader.is_ended)
    finally:
        reader.close()
    return digest


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    if not paths:
        raise FileFault("nothing to read", "the list of files", "no file", "at least one", "name a file")
    depth, parts = [1] * len(paths), [path.absolute().parts for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(str(p) for p, n in Counter(paths).items() if n > 1)
        raise FileFault("the same file twice", twice, "it twice", "each file once", "leave one out")
    while True:
        names = ["/".join(p[-d:]) for p, d in zip(parts, depth, strict=True)]
        clashes = {name for name, n in Counter(names).items() if n > 1}
        if not clashes:
            return dict(zip(names, paths, strict=True))
        depth = [d + (name in clashes) for d, name in zip(depth, names, strict=True)]
