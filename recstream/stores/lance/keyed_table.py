"""A LanceDB table keyed by a string: the base of all stores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recstream.records.arrays import Vector
from recstream.stores.base import StoreError
from recstream.stores.lance.errors import read_again, translated, write_again
from recstream.stores.lance.locks import TableLock

__all__ = ["KeyedTable", "committed", "creation_mode", "in_filters", "sql_text"]

CHUNK_IDS = 1000
"""Ids in one ``IN`` filter (*measured*: 20 ms per 1,000 of 100 k with a fresh index)."""
CHUNK_CHARS = 256 * 1024
"""Length of one ``IN`` filter: ids may be 10 kB long."""
MOVED = "rows not found where they were a moment ago: the table was compacted meanwhile"
"""Read again, as all that is "not found"."""


def sql_text(text: str) -> str:
    r"""A text as an SQL literal; only the quote has a meaning in it, backslashes have none.

    >>> sql_text("o'neil\\")
    "'o''neil\\'"
    """
    return "'" + text.replace("'", "''") + "'"


def committed(folder: Path, name: str) -> bool:
    """Whether the table exists: a creation that was killed leaves a folder without a version."""
    return any((folder / f"{name}.lance" / "_versions").glob("*.manifest"))


def creation_mode(folder: Path, name: str) -> str:
    """How lancedb is to create a table: over what a killed creation left, or plainly."""
    return "overwrite" if (folder / f"{name}.lance").exists() else "create"


def storable(text: str) -> bool:
    r"""Whether UTF-8 can hold it: any text, NUL included, but half a surrogate pair.

    >>> storable("a\x00b"), storable("\ud800")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def in_filters(column: str, keys: Sequence[str]) -> Iterator[tuple[str, int]]:
    """SQL filters that together select the keys, each once, and how many keys each names.

    >>> list(in_filters("id", ["a", "b", "a"]))
    [("id IN ('a', 'b')", 2)]
    """
    part: list[str] = []
    length = 0
    for key in dict.fromkeys(keys):
        if not storable(key):
            continue  # cannot be stored, so it is not there
        literal = sql_text(key)
        if part and (len(part) == CHUNK_IDS or length + len(literal) > CHUNK_CHARS):
            yield f"{column} IN ({', '.join(part)})", len(part)
            part, length = [], 0
        part.append(literal)
        length += len(literal)
    if part:
        yield f"{column} IN ({', '.join(part)})", len(part)


class KeyedTable:
    """Upsert, fetch and delete by key; what changed; nearest vectors. Safe for threads to share.

    Writes are visible to all processes at once and survive ``kill -9``. Lance leaves the flush to
    disk to the operating system, so a power cut may lose the last seconds.
    """

    def __init__(self, folder: Path, name: str, key: str, schema: Any, table: Any) -> None:
        self.folder = folder
        self.name = name
        self.key = key
        self.schema = schema
        self.handle = table
        self.lock = TableLock(folder, name)
        self.where = f"{folder}/{name}"

    @classmethod
    def open(
        cls, connection: Any, folder: Path, name: str, schema: Any, *, key: str, create: bool
    ) -> KeyedTable:
        """Open the table, or make an empty one.

        Raises:
            StoreError: it is missing and ``create`` is false, or it has other columns.
        """
        where = f"{folder}/{name}"
        if committed(folder, name):
            with translated(where, "opening the table"):
                table = connection.open_table(name)
                stored = table.schema
            _check_columns(where, stored, schema)
        elif create:
            with translated(where, "creating the table"):
                table = connection.create_table(name, schema=schema, mode=creation_mode(folder, name))
        else:
            mend = "start the job once, which creates it, or correct store.path"
            raise StoreError(where, "there is no such table", mend)
        return cls(folder, name, key, schema, table)

    def upsert(self, keys: Sequence[str], rows: Any) -> None:
        """Insert or replace; ``keys`` are the rows' keys.

        The scalar index is left out of the merge: *measured* at 100 k rows of 2.5 KiB, scanning the key
        column takes 97 ms for 10 k rows and 18-32 ms for 10, asking the index 208-286 and 52-60 ms.

        Raises:
            ValueError: two rows of one key (lance would store both).
        """
        if len(set(keys)) != len(keys):
            seen: set[str] = set()
            double = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add gives None
            raise ValueError(f"{self.key} {double[:100]!r} is there twice in one upsert")

        with translated(self.where, f"writing {len(keys)} rows"), self.lock.writing():
            write_again(lambda: self._merge(rows))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove rows; unknown keys are ignored. The bytes leave the disk with later maintenance."""
        with translated(self.where, f"deleting {len(keys)} rows"), self.lock.writing():
            self.handle.checkout_latest()
            for where, _ in in_filters(self.key, keys):
                write_again(lambda where=where: self.handle.delete(where))  # type: ignore[misc]  # mypy cannot infer it

    def rewrite_one(self) -> None:
        """Write any row again as it is, into a file of its own. The caller holds ``lock.alone()``."""
        self._merge(self.handle.search().limit(1).to_arrow())

    def _merge(self, rows: Any) -> None:
        self.handle.checkout_latest()  # the version it last saw may be gone
        (
            self.handle.merge_insert(self.key)
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .use_index(False)
            .execute(rows)
        )

    def fetch(self, keys: Sequence[str]) -> Any:
        """The rows with those keys, as an Arrow table, in no order.

        First where they are, then what they hold: a filter makes lance read every column of what the index
        does not cover. *Measured* at 100 k users of 6 KB, for 10 of them: 66 ms at once and 17 ms in two
        steps with 64 small files, 331 and 56 ms with 256.

        Raises:
            StoreError: a key is stored twice, or the table cannot be read.
        """
        filters = list(in_filters(self.key, keys))

        def read() -> Any:
            self.handle.checkout_latest()
            return [self._read(where, 2 * asked) for where, asked in filters]

        with translated(self.where, f"reading {len(keys)} rows"):
            parts = read_again(read)
        found = pa.concat_tables(parts) if parts else self.schema.empty_table()
        self._check_single(found)
        return found

    def _read(self, where: str, most: int) -> Any:
        places = self.handle.search().where(where).select([self.key]).with_row_id(True).limit(most).to_arrow()
        rows = self.handle.take_row_ids(places["_rowid"].to_pylist()).to_arrow()
        if sorted(rows[self.key].to_pylist()) != sorted(places[self.key].to_pylist()):
            raise RuntimeError(MOVED)  # compacted by another thread of this process in between
        return rows

    def rows(self) -> Any:
        """All rows, as an Arrow table, in no order.

        Raises:
            StoreError: a key is stored twice, or the table cannot be read.
        """

        def read() -> Any:
            self.handle.checkout_latest()
            return self.handle.search().limit(None).to_arrow()

        with translated(self.where, "reading all rows"):
            found = read_again(read)
        self._check_single(found)
        return found

    def newer(self, seq: int) -> Any:
        """Rows whose ``seq`` is greater, as an Arrow table ordered by ``(seq, key)``."""

        def read() -> Any:
            self.handle.checkout_latest()
            return self.handle.search().where(f"seq > {int(seq)}").limit(None).to_arrow()

        with translated(self.where, f"reading rows after seq {seq}"):
            rows = read_again(read)
        # sorted by the bytes of the key: for UTF-8 that is the order of code points, as in Python
        return rows.sort_by([("seq", "ascending"), (self.key, "ascending")])

    def version(self) -> int:
        """The newest version, by whichever process (*measured*: 0.4 ms)."""
        with translated(self.where, "asking for the version"):
            self.handle.checkout_latest()
            return int(self.handle.version)

    def count(self) -> int:
        """Rows in the newest version."""

        def read() -> int:
            self.handle.checkout_latest()
            return int(self.handle.count_rows())

        with translated(self.where, "counting rows"):
            return read_again(read)

    def keys(self, where: str | None = None) -> list[str]:
        """All keys, or those of the rows that an SQL filter selects, in order of their code points."""

        def read() -> Any:
            self.handle.checkout_latest()
            rows = self.handle.search() if where is None else self.handle.search().where(where)
            return rows.select([self.key]).limit(None).to_arrow()

        with translated(self.where, "reading the keys"):
            rows = read_again(read)
        return sorted(rows[self.key].to_pylist())

    def numbers(self, column: str, where: str) -> dict[str, int]:
        """One integer column of the rows that an SQL filter selects, by key, in order of the keys."""

        def read() -> Any:
            self.handle.checkout_latest()
            return self.handle.search().where(where).select([self.key, column]).limit(None).to_arrow()

        with translated(self.where, f"reading {column}"):
            rows = read_again(read)
        return dict(sorted(zip(rows[self.key].to_pylist(), rows[column].to_pylist(), strict=True)))

    def greatest(self, column: str, n: int) -> Any:
        """The n rows with the greatest numbers in a column, as an Arrow table, in no order."""

        def read() -> Any:
            self.handle.checkout_latest()
            found = self.handle.search().select([column]).with_row_id(True).limit(None).to_arrow()
            first = np.argsort(-found[column].to_numpy(), kind="stable")[: max(n, 0)]
            rows = self.handle.take_row_ids(found["_rowid"].take(first).to_pylist()).to_arrow()
            if len(rows) != len(first):
                raise RuntimeError(MOVED)
            return rows

        with translated(self.where, f"reading the rows of the greatest {column}"):
            return read_again(read)

    def last(
        self, column: str, since: float, before: tuple[float, str], n: int, *, where: str
    ) -> list[tuple[str, float]]:
        """``(key, number)`` of n rows that a filter selects, by a column of floats, the greatest first.

        Equals are in order of their keys. Of those that are at least ``since``, the first n that come after
        ``before``, a number and a key.
        """
        number, key = before
        wanted = [where]
        if math.isfinite(since):
            wanted.append(f"{column} >= {since!r}")
        if math.isfinite(number):
            behind = f"{column} = {number!r} AND {self.key} > {sql_text(key)}"
            wanted.append(f"({column} < {number!r} OR ({behind}))")

        def read() -> Any:
            self.handle.checkout_latest()
            found = self.handle.search().where(" AND ".join(wanted))
            return found.select([self.key, column]).limit(None).to_arrow()

        with translated(self.where, f"reading the greatest {column}"):
            rows = read_again(read)
        rows = rows.sort_by([(column, "descending"), (self.key, "ascending")]).slice(0, max(n, 0))
        return list(zip(rows[self.key].to_pylist(), rows[column].to_pylist(), strict=True))

    def nearest(self, vector: Vector, n: int) -> list[tuple[str, float]]:
        """``(key, cosine)`` of the n rows whose unit ``vector`` is most similar; zeros have cosine 0.

        Asked by dot product: lance's cosine leaves rows of zeros out of the answer.
        """
        norm = float(np.linalg.norm(vector))
        query = (
            np.asarray(vector, np.float32) / np.float32(norm) if norm > 0 else np.asarray(vector, np.float32)
        )

        def read() -> Any:
            self.handle.checkout_latest()
            found = self.handle.search(query, vector_column_name="vector").distance_type("dot")
            return found.select([self.key, "_distance"]).limit(n).to_arrow()

        if n < 1:
            return []
        with translated(self.where, f"searching {n} neighbours"):
            rows = read_again(read)
        pairs = zip(rows[self.key].to_pylist(), rows["_distance"].to_pylist(), strict=True)
        return sorted(
            ((key, 1.0 - distance) for key, distance in pairs), key=lambda pair: (-pair[1], pair[0])
        )

    def _check_single(self, found: Any) -> None:
        keys = found[self.key].to_pylist()
        if len(set(keys)) != len(keys):
            double = sorted({key for key in keys if keys.count(key) > 1})[0]
            raise StoreError(
                self.where,
                f"{self.key} {json.dumps(double[:100])} is stored twice",
                "make sure that only one job writes to this store, and replay into a new one",
            )


def _check_columns(where: str, stored: Any, wanted: Any) -> None:
    problems = [
        f"{name} is {_type(stored, name)}, wanted {_type(wanted, name)}"
        for name in dict.fromkeys([*wanted.names, *stored.names])
        if _type(stored, name) != _type(wanted, name)
    ]
    if problems:
        mend = "use another store.path, or replay into a new store with this release"
        raise StoreError(where, f"the table has other columns: {'; '.join(problems)}", mend)


def _type(schema: Any, name: str) -> str:
    return str(schema.field(name).type) if name in schema.names else "absent"
