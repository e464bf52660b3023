"""Item statistics in LanceDB: the real :class:`recstream.stores.base.StatisticsStore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recstream.items.codec import StatisticsRow
from recstream.stores.lance.arrow import statistics_rows, statistics_table

if TYPE_CHECKING:
    from recstream.stores.lance.maintenance import Maintenance
    from recstream.stores.lance.table import KeyedTable

__all__ = ["LanceStatisticsStore"]


class LanceStatisticsStore:
    """What was learned about items, over the ``statistics`` table."""

    def __init__(self, table: KeyedTable, maintenance: Maintenance) -> None:
        self._table = table
        self._maintenance = maintenance

    def upsert(self, rows: Sequence[StatisticsRow]) -> None:
        """Insert or replace in one commit."""
        if rows:
            packed = statistics_table(rows, self._table.schema)
            self._table.upsert([row.item_id for row in rows], packed)

    def changed_since(self, seq: int) -> list[StatisticsRow]:
        """Rows written after ``seq``, by ``(seq, item_id)``."""
        return statistics_rows(self._table.newer(seq))

    def version(self) -> int:
        """Table version as of now; maintenance changes it too."""
        return self._table.version()

    def count(self) -> int:
        """How many items have statistics."""
        return self._table.count()

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._maintenance.run_when_due()
