"""Item statistics as stored rows: handles become ids, arrays become bytes, and back."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from recstream.items.catalogue import Catalogue
from recstream.items.rows import StatisticsRow
from recstream.items.statistics import ItemStatistics, growth
from recstream.records.layout import encode, payload

__all__ = ["put_statistics", "statistics_row"]

_STATISTICS: Final = 2
"""The same of item statistics."""


def statistics_row(
    handle: int, statistics: ItemStatistics, catalogue: Catalogue, *, shard: int, seq: int
) -> StatisticsRow:
    """One item's statistics as they are stored."""
    counts, neighbours, weights = statistics.row(handle)
    ids = catalogue.ids
    return StatisticsRow(
        item_id=ids[handle],
        shard=shard,
        seq=seq,
        tick=statistics.tick,
        counts=counts,
        state=bytes((_STATISTICS,)) + encode([[ids[n] for n in neighbours.tolist()], weights.tobytes()]),
    )


def put_statistics(row: StatisticsRow, statistics: ItemStatistics, catalogue: Catalogue) -> None:
    """Take one stored item's statistics into the replica of this process.

    Raises:
        RowFormatError: the state has another layout than this version writes.
    """
    layout, (neighbours, raw) = payload(row.state, f"statistics of item {row.item_id!r}", (1, _STATISTICS))
    handles = np.array([catalogue.intern(item) for item in neighbours], np.int32)
    weights: npt.NDArray[np.float32] = np.frombuffer(raw, np.float32).reshape(2, len(handles))
    counts = row.counts
    if layout == 1:
        counts, weights = _second_statistics(row, weights)
    statistics.put_row(
        catalogue.intern(row.item_id), tick=row.tick, counts=counts, neighbours=handles, weights=weights
    )


def _second_statistics(
    row: StatisticsRow, weights: npt.NDArray[np.float32]
) -> tuple[tuple[float, ...], npt.NDArray[np.float32]]:
    """Statistics of layout 1 in layout 2: three scales, and pairs that did not age with the stream."""
    rising, trending, popular = row.counts
    grown = float(growth(row.tick))
    since = max(row.tick - popular, 1.0)  # at the latest
    return (rising, trending, trending, popular, grown * popular, since), weights * np.float32(grown)
