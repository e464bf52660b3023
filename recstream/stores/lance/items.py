"""Items in LanceDB: the real :class:`recstream.stores.base.ItemStore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recstream.items.codec import ItemRow
from recstream.stores.lance.arrow import item_rows, items_table

if TYPE_CHECKING:
    from recstream.stores.lance.maintenance import Maintenance
    from recstream.stores.lance.table import KeyedTable

__all__ = ["LanceItemStore"]


class LanceItemStore:
    """Items by id, and what changed since, over the ``items`` table.

    Vectors of rows read are read-only views of the whole answer's buffer.
    """

    def __init__(self, table: KeyedTable, dim: int, maintenance: Maintenance) -> None:
        self._table = table
        self._dim = dim
        self._maintenance = maintenance

    def upsert(self, rows: Sequence[ItemRow]) -> None:
        """Insert or replace in one commit."""
        if rows:
            self._table.upsert([row.item_id for row in rows], items_table(rows, self._table.schema))

    def changed_since(self, seq: int) -> list[ItemRow]:
        """Rows written after ``seq``, by ``(seq, item_id)``."""
        return item_rows(self._table.newer(seq), self._dim)

    def version(self) -> int:
        """Table version as of now; maintenance changes it too."""
        return self._table.version()

    def count(self) -> int:
        """How many items are stored, tombstones included."""
        return self._table.count()

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._maintenance.run_when_due()
