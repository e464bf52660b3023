"""Models in LanceDB: the real :class:`recstream.stores.base.ModelStore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recstream.stores.base import ModelRow
from recstream.stores.lance.arrow import model_rows, models_table

if TYPE_CHECKING:
    from recstream.stores.lance.maintenance import Maintenance
    from recstream.stores.lance.table import KeyedTable

__all__ = ["LanceModelStore"]


class LanceModelStore:
    """What was learned about the stream as a whole, over the ``models`` table."""

    def __init__(self, table: KeyedTable, maintenance: Maintenance) -> None:
        self._table = table
        self._maintenance = maintenance

    def upsert(self, rows: Sequence[ModelRow]) -> None:
        """Insert or replace in one commit."""
        if rows:
            self._table.upsert([row.name for row in rows], models_table(rows, self._table.schema))

    def fetch(self, names: Sequence[str] | None = None) -> dict[str, ModelRow]:
        """Those of these rows that exist (None: all), in order of their names."""
        rows = model_rows(self._table.rows() if names is None else self._table.fetch(names))
        return {row.name: row for row in sorted(rows, key=lambda row: row.name)}

    def changed_since(self, seq: int) -> list[ModelRow]:
        """Rows written after ``seq``, by ``(seq, name)``."""
        return model_rows(self._table.newer(seq))

    def delete(self, names: Sequence[str]) -> None:
        """Forget what was learned under these names."""
        self._table.delete(names)

    def version(self) -> int:
        """Table version as of now; maintenance changes it too."""
        return self._table.version()

    def maintain(self) -> None:
        """Compact, index, and drop old versions when due. From one process only."""
        self._maintenance.run_when_due()
