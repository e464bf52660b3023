"""Items and their statistics in one worker: kept in step with the tables, and written by their owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np

from recstream.dataflow.background import Later, at_once
from recstream.items.catalogue import Catalogue
from recstream.items.codec import ItemRow, StatisticsRow, put_statistics, statistics_row
from recstream.items.statistics import ItemStatistics
from recstream.metrics.base import Meters
from recstream.records.transport import shard_of
from recstream.stores.base import ItemStore, StatisticsStore

__all__ = ["CatalogueReplica"]

_OVERLAP_NS: Final = 10 * 10**9
"""Rows up to this much older than the newest seen are read again: writers' clocks and commits overlap."""

_STATISTICS_A_FLUSH: Final = 500
"""Rows of statistics written together although most of them could wait."""
_ENCODED_AT_ONCE: Final = 8
"""Rows of statistics encoded between two looks at the clock."""
_ROWS_A_WRITE: Final = 4000
_WRITES_MOST: Final = 3
"""Slow writes of the same rows in a row; after so many, others may miss them until their next change."""
_NO_VECTOR: Final = np.zeros(0, np.float32)
"""Kept in place of a stored item's vector, which the catalogue has (and which would pin a whole batch)."""


R = TypeVar("R", ItemRow, StatisticsRow)


class CatalogueReplica:
    """Catalogue and statistics of one worker, kept in step with the tables by their version.

    A worker applies its own writes at once; others see them once they are flushed and refreshed.
    """

    def __init__(
        self,
        items: ItemStore,
        statistics: StatisticsStore,
        meters: Meters,
        *,
        dim: int,
        neighbours: int,
        keys: int,
        now: Callable[[], float],
        refresh_s: float,
    ) -> None:
        self.catalogue = Catalogue(dim)
        self.statistics = ItemStatistics(neighbours)
        self._items = items
        self._rows = statistics
        self._meters = meters
        self._keys = keys
        self._now = now
        self._refresh_s = refresh_s
        self._owned: set[int] = set()
        self._written: dict[str, ItemRow] = {}
        self._unwritten: dict[str, ItemRow] = {}
        self._carried: dict[str, ItemRow] = {}
        """Items that came with events, until their shard's owner has them; without their vectors."""
        self._versions = (-1, -1)
        self._seqs = (-1, -1)
        self._refreshed_at = float("-inf")
        self._flushed_at = 0
        self._encoded: dict[int, StatisticsRow] = {}
        """Rows of statistics to be written next, by handle."""
        self._is_busy = False
        """Whether events came since the last barrier."""
        self.arrived: list[str] = []
        """Items that became known since `take_arrived` was last called."""
        self.gone: dict[int, None] = {}
        """Items that are no more available, and were, since `take_gone` was last called."""
        self.gone_at = float("-inf")
        """When the last item went, Unix seconds: of those before the start, when their rows were written."""
        self.refresh()

    def own(self, key: int) -> None:
        """Note that this worker counts the statistics under ``key``, and writes them."""
        self._owned.add(key)

    @property
    def ticks_each(self) -> float:
        """Events of the whole stream that each interaction counted here stands for."""
        return self._keys / max(len(self._owned), 1)

    @property
    def newest_seq(self) -> int:
        """Greatest number of a row met so far. Rows written from now on must have a greater one."""
        return max(self._seqs)

    def take_arrived(self) -> list[str]:
        """Take out the items that became known since the last call."""
        arrived, self.arrived = self.arrived, []
        return arrived

    def take_gone(self) -> list[int]:
        """Take out the items that went since the last call."""
        gone, self.gone = list(self.gone), {}
        return gone

    def put(self, row: ItemRow) -> bool:
        """Take an item in at once and write it at the next flush; False when nothing about it changed."""
        known = self._unwritten.get(row.item_id) or self._written.get(row.item_id)
        if known is not None and _same(known, row):
            return False
        self._take(row)
        self._unwritten[row.item_id] = row
        return True

    def put_carried(self, row: ItemRow) -> None:
        """Take an item in at once that came with an event; the owner of its shard writes it."""
        if row.item_id not in self._unwritten and row.item_id not in self._written:
            self._take(row)
            self._carried[row.item_id] = row._replace(vector=_NO_VECTOR)

    def refresh(self, *, force: bool = True) -> None:
        """Read what other processes wrote; without ``force`` only when ``refresh_s`` has passed."""
        now = self._now()
        if not force and now - self._refreshed_at < self._refresh_s:
            return
        self._refreshed_at = now
        first = self._versions == (-1, -1)
        items_at = self._items.version()
        if items_at != self._versions[0]:
            for row in self._items.changed_since(self._seqs[0] - _OVERLAP_NS if not first else -1):
                self._seqs = (max(self._seqs[0], row.seq), self._seqs[1])
                if first and not _is_available(row):
                    self.gone_at = max(self.gone_at, row.seq / 1e9)
                held = self._written.get(row.item_id)
                if row.item_id not in self._unwritten and (held is None or held.seq < row.seq):
                    self._take(row)
                    self._written[row.item_id] = row._replace(vector=_NO_VECTOR)
            self.catalogue.version = items_at
        statistics_at = self._versions[1]
        if first or len(self._owned) < self._keys:
            statistics_at = self._rows.version()
            if statistics_at != self._versions[1]:
                for learned in self._rows.changed_since(self._seqs[1] - _OVERLAP_NS if not first else -1):
                    self._seqs = (self._seqs[0], max(self._seqs[1], learned.seq))
                    if first or shard_of(learned.item_id, self._keys) not in self._owned:
                        put_statistics(learned, self.statistics, self.catalogue)
        self._versions = (items_at, statistics_at)
        self._meter_size()

    def flush_items(self, next_seq: Callable[[], int]) -> int:
        """Write the items taken in; gives their number."""
        rows = list(self._unwritten.values())
        if rows:
            for row in self._in_time(self._items.upsert, rows, next_seq):
                self._written[row.item_id] = row._replace(vector=_NO_VECTOR)
            self._unwritten.clear()
            self.catalogue.version = self._items.version()
            self._meter_size()
        return len(rows)

    def flush_statistics(
        self,
        next_seq: Callable[[], int],
        *,
        turn: int = 0,
        all_of_it: bool = True,
        later: Later = at_once,
    ) -> int:
        """Write the statistics that changed, ``later``; gives the number of rows.

        Without ``all_of_it`` only those that have waited longest, once a ``turn``: an eighth of them but at
        least 500. Each event changes some forty rows, and writing all of them every second would hold up the
        events behind. A row then waits for some ten barriers, and a crash loses its counts of these. While
        events come, most rows were encoded before, between them.
        """
        if turn == self._flushed_at and not all_of_it:
            return 0  # other shards come to the same barrier
        least = 0 if self._is_busy else _STATISTICS_A_FLUSH
        most = self.statistics.dirty if all_of_it else max(least, self._share) - len(self._encoded)
        self._encode(max(most, 0))
        self._flushed_at, self._is_busy = turn, False
        rows, self._encoded = list(self._encoded.values()), {}
        if rows:
            later(lambda: self._in_time(self._rows.upsert, rows, next_seq))
        return len(rows)

    def note_events(self) -> None:
        """Note that events came: what can wait is then done between them."""
        self._is_busy = True

    @property
    def has_rows_to_encode(self) -> bool:
        """Whether `encode_statistics` has something to do: never without events."""
        return self._is_busy and bool(self.statistics.dirty) and self._left_to_encode > 0

    def encode_statistics(self, until: float, clock: Callable[[], float]) -> None:
        """Encode rows of the next write, those that have waited longest, until the clock shows ``until``."""
        while self.has_rows_to_encode and clock() < until:
            self._encode(min(_ENCODED_AT_ONCE, self._left_to_encode))

    @property
    def _left_to_encode(self) -> int:
        return max(_STATISTICS_A_FLUSH, self._share) - len(self._encoded)

    @property
    def waits(self) -> bool:
        """Whether statistics wait to be written."""
        return bool(self.statistics.dirty or self._encoded)

    @property
    def _share(self) -> int:
        """Rows that are to be written together so that none waits for long."""
        return (self.statistics.dirty + len(self._encoded)) // 8

    def _encode(self, most: int) -> None:
        for handle in self.statistics.take_dirty(most):
            key = shard_of(self.catalogue.ids[handle], self._keys)
            row = statistics_row(handle, self.statistics, self.catalogue, shard=key, seq=0)
            self._encoded[handle] = row  # in place of an older one of the item

    def _in_time(
        self, upsert: Callable[[list[R]], None], rows: list[R], next_seq: Callable[[], int]
    ) -> list[R]:
        """Write rows under new numbers, and again where that took so long that others may miss them.

        Others read what is at most `_OVERLAP_NS` older than the newest they know; maintenance, or a busy
        disk, can hold up a write for longer. A lone process (one key) has no others.
        """
        numbered: list[R] = []
        for at in range(0, len(rows), _ROWS_A_WRITE):
            for _ in range(1 if self._keys == 1 else _WRITES_MOST):
                begin = self._now()
                part = [row._replace(seq=next_seq()) for row in rows[at : at + _ROWS_A_WRITE]]
                upsert(part)
                if (self._now() - begin) * 1e9 < _OVERLAP_NS / 2:
                    break
            numbered += part
        return numbered

    def _meter_size(self) -> None:
        self._meters.set("catalogue_items", self.catalogue.known)
        self._meters.set("catalogue_version", self.catalogue.version)

    def _take(self, row: ItemRow) -> None:
        carried = self._carried.pop(row.item_id, None)
        if carried is not None and _same(carried, row):
            return  # the catalogue has it
        if row.deleted and self.catalogue.handle(row.item_id) is None:
            return
        known = self.catalogue.handle(row.item_id)
        new = known is None
        if known is not None and self.catalogue.available[known] and not _is_available(row):
            self.gone[known] = None
            self.gone_at = max(self.gone_at, self._now())
        self.catalogue.put(
            row.item_id,
            row.vector,
            available=_is_available(row),
            title=row.title,
            categories=row.categories,
            published_at=row.published_at,
            terms=row.terms,
        )
        if new:
            self.arrived.append(row.item_id)


def _is_available(row: ItemRow) -> bool:
    return row.available and not row.deleted


def _same(one: ItemRow, other: ItemRow) -> bool:
    return one._replace(seq=0, vector=other.vector) == other._replace(seq=0)
