"""Maintenance of a table: when it is compacted, indexed and cleaned, and what each step costs."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from recstream.stores.base import StoreError
from recstream.stores.lance.errors import is_conflict, translated
from recstream.stores.lance.keyed_table import KeyedTable
from recstream.stores.lance.limits import give_back

__all__ = ["Maintenance", "Upkeep", "disk_bytes"]

log = logging.getLogger(__name__)

_MOST_BEFORE: Final = 1.9
_MERGED_ROWS: Final = 1024 * 1024
"""A file of so many rows is not merged with others any more."""
_PURGE_RUNS: Final = 5
"""Runs of a purge, at most: *measured* one, and two where the table has an index."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How often tables are tidied.

    Raises:
        ValueError: a negative value.
    """

    every_s: float
    """Longest time between two runs on a table that changes."""
    keep_s: float
    """How long a superseded version stays for readers that still use it; without room for it (see
    ``slack_bytes``) it goes at once, and a reader of it has to read again."""
    index_from: int = 10_000
    """Rows from which on the key column has an index: below, a scan is as fast (a few ms)."""
    slack_bytes: int = 64 * 1024 * 1024
    """A run is due at once when the disk holds this much above nearly twice the live data, and superseded
    versions go at once when it holds this much above half of it. As a run writes the live data once more
    before it deletes, the disk never holds more than this, and what one barrier writes, above three times
    of it."""
    fragments: int = 128
    """A run is due early at so many small files, of which each upsert adds one: *measured* at 100 k rows of
    6 KB, fetching one user takes 6 ms after a run, 14 ms at 64, 24 ms at 128 and 46 ms at 256; an upsert of
    300 rows takes 20, 50, 60 and 81 ms."""
    look_s: float = 1.0
    """Shortest time between two looks at the disk; ``run_when_due`` is free in between."""
    rest: float = 10.0
    """A run that took t seconds is followed by ``rest * t`` seconds without one, for writers wait; unless
    the disk fills up."""

    def __post_init__(self) -> None:
        bad = [name for name in self.__slots__ if getattr(self, name) < 0]
        if bad:
            raise ValueError(f"{', '.join(bad)} must not be negative")


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_size
            except FileNotFoundError:
                continue
    return total


class Maintenance:
    """Tidies one table when due. One process of a job calls it; others read and write on.

    A run rewrites what is not compact (lancedb 0.40 can only merge to one file per million rows):
    *measured* 2.3-2.9 s for 100 k users of 6 KB, 4-4.8 s for 200 k, on 2 busy cores. Writers of all
    processes wait for it, readers do not. Only while less than a tenth of a large file is dead, and what
    is newer has no index yet, a run merges the small files alone (0.3 s); the next one merges all.
    """

    def __init__(
        self,
        table: KeyedTable,
        upkeep: Upkeep,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._upkeep = upkeep
        self._clock = clock
        self._files = table.folder / f"{table.name}.lance"
        self._ended = self._looked = clock()
        self._took = 0.0
        self._version: int | None = None
        self._left = 0
        """Bytes on disk after the last run."""
        self._indexed = False

    def run_when_due(self) -> bool:
        """Tidy the table if it is time; whether it was done."""
        now = self._clock()
        if now - self._looked < self._upkeep.look_s:
            return False
        self._looked = now
        return self._due(now) and self.run()

    def run(self) -> bool:
        """Tidy the table now; False when a commit was lost to a writer (only without file locks)."""
        started = self._clock()
        with translated(self._table.where, "maintaining the table"), self._table.lock.alone() as alone:
            done = self._tidy(self._upkeep.keep_s, alone=alone)
        self._note_run(started, done=done)
        return done

    def purge(self) -> bool:
        """Tidy the table until no older version is on the disk, and no row that was replaced or deleted.

        False: some are, for lance leaves them in a file of over a million rows until a tenth of it is dead.

        Raises:
            StoreError: writers were always faster (only without file locks).
        """
        started = self._clock()
        handle, dead = self._table.handle, 0
        with translated(self._table.where, "removing dead rows"), self._table.lock.alone() as alone:
            for number in range(_PURGE_RUNS):
                # the version that an erasure made names whom it erased, so another one has to follow
                done = self._tidy(0.0, alone=alone, rewrites=number == 0 or dead > 0)
                stats = handle.stats()
                dead = _dead_rows(stats)
                is_large = stats["fragment_stats"]["lengths"]["max"] >= _MERGED_ROWS
                if done and not self._old_versions() and (is_large or not dead):
                    break
            else:
                raise StoreError(
                    self._table.where, "older versions cannot be removed", "try again while less is written"
                )
        self._note_run(started, done=done)
        if dead:
            log.warning("erased rows stay in a large file: table=%s rows=%d", self._table.where, dead)
        return not dead

    def _tidy(self, keep_s: float, *, alone: bool, rewrites: bool = False) -> bool:
        """Do the work of a run, under the table's lock; ``rewrites``: also where nothing needs it."""
        handle = self._table.handle
        done = True
        try:
            handle.checkout_latest()  # a handle left behind by a lost commit would lose each time
            stats = handle.stats()
            has_room = disk_bytes(self._files) <= _live_bytes(stats) / 2 + self._upkeep.slack_bytes
            # lancedb warns at 0
            keep = timedelta(seconds=max(keep_s if has_room else 0.0, 0.001))
            if rewrites or _is_lone_with_dead(stats):
                self._table.rewrite_one()  # a file is only merged with another
            self._index()
            # what killed writers left behind may go only while surely nobody writes
            handle.optimize(cleanup_older_than=keep, delete_unverified=alone)
        except RuntimeError as error:
            if not is_conflict(error):
                raise
            log.warning("maintenance lost to a writer, again next time: table=%s", self._table.where)
            done = False
        handle.checkout_latest()
        self._version = int(handle.version) if done else None
        return done

    def _note_run(self, started: float, *, done: bool) -> None:
        give_back()
        self._left = disk_bytes(self._files)
        self._ended = self._clock()
        self._took = self._ended - started
        log.info("maintained: table=%s seconds=%.3f done=%s", self._table.where, self._took, done)

    def _due(self, now: float) -> bool:
        with translated(self._table.where, "looking whether maintenance is due"):
            self._table.handle.checkout_latest()
            stats = self._table.handle.stats()
            version = int(self._table.handle.version)
        on_disk, live = disk_bytes(self._files), _live_bytes(stats)
        # Half the live data must have been written since, or a wrong guess of it had us run all the time.
        if on_disk > max(_MOST_BEFORE * live + self._upkeep.slack_bytes, self._left + live / 2):
            return True
        if now - self._ended < self._upkeep.rest * self._took:
            return False
        if not self._indexed and stats["num_rows"] >= self._upkeep.index_from:
            if not stats["num_indices"]:
                return True
            self._indexed = True
        has_work = version != self._version or self._old_versions() or not _is_compact(stats)
        if has_work and now - self._ended >= self._upkeep.every_s:
            return True
        return bool(stats["fragment_stats"]["num_small_fragments"] >= max(self._upkeep.fragments, 2))

    def _old_versions(self) -> bool:
        names = os.listdir(self._files / "_versions")
        return sum(name.endswith(".manifest") for name in names) > 1

    def _index(self) -> None:
        """Make the key's index. Fetching 1,000 of 100 k rows: *measured* 19 ms with, 38 ms without."""
        from lancedb.index import BTree

        handle = self._table.handle
        if handle.count_rows() >= self._upkeep.index_from and not handle.list_indices():
            handle.create_index(self._table.key, config=BTree())


def _live_bytes(stats: dict[str, Any]) -> float:
    """Bytes that the rows take without those that were replaced or deleted, about."""
    files = stats["fragment_stats"]
    held = max(files["num_fragments"] * files["lengths"]["mean"], 1)
    return float(stats["total_bytes"] * min(stats["num_rows"] / held, 1.0))


def _dead_rows(stats: dict[str, Any]) -> int:
    """Rows that were replaced or deleted and are still in the files of the newest version."""
    files = stats["fragment_stats"]
    if not files["num_fragments"]:
        return 0
    return int(files["num_fragments"] * files["lengths"]["mean"] - stats["num_rows"] + 0.5)


def _is_compact(stats: dict[str, Any]) -> bool:
    """Whether there are no more files than need be, and no dead rows that a run would get rid of."""
    fewest = max(1, math.ceil(stats["num_rows"] / _MERGED_ROWS))
    return stats["fragment_stats"]["num_fragments"] <= fewest and not _is_lone_with_dead(stats)


def _is_lone_with_dead(stats: dict[str, Any]) -> bool:
    """Whether all is in one file, rows that were deleted too, which lance would leave there for ever.

    It rewrites a file once a tenth of it is dead, or merges it with others; above `_MERGED_ROWS` only the
    former.
    """
    files = stats["fragment_stats"]
    rows = files["lengths"]["max"]
    return bool(files["num_fragments"] == 1 and stats["num_rows"] < rows < _MERGED_ROWS)
