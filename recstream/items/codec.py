"""Items and their statistics as stored rows, and the layout byte that every stored state begins with."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from recstream.items.catalogue import Catalogue
from recstream.items.statistics import ItemStatistics, growth
from recstream.records.arrays import Vector

__all__ = [
    "ItemRow",
    "RowFormatError",
    "StatisticsRow",
    "decode_state",
    "encode_state",
    "put_statistics",
    "statistics_row",
]

_LAYOUT: Final = 2
"""Layout of the state of item statistics; a change raises it. States of layout 1 are read as well."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


class RowFormatError(Exception):
    """A stored state was written by another version of recstream."""


def encode_state(layout: int, state: object) -> bytes:
    r"""Write a state as MessagePack behind one byte that names its layout.

    >>> encode_state(2, ["a"])
    b'\x02\x91\xa1a'
    """
    return bytes((layout,)) + _encode(state)


def decode_state(state: bytes, what: str, layouts: tuple[int, ...]) -> tuple[int, Any]:
    """Read what `encode_state` wrote; gives the layout and the state. ``what`` names it in errors.

    Raises:
        RowFormatError: the layout is none of ``layouts``.
    """
    if not state or state[0] not in layouts:
        got = state[0] if state else "nothing"
        msg = (
            f"the stored state of {what} has layout {got}, this version of recstream reads "
            f"{' and '.join(map(str, layouts))}: run the version that wrote the store, or replay the log "
            "into a new one (recstream backfill)"
        )
        raise RowFormatError(msg)
    return state[0], _decode(memoryview(state)[1:])


class ItemRow(NamedTuple):
    """One item as it is stored, and as catalogue replicas read it."""

    item_id: str
    title: str
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    published_at: float | None
    available: bool
    deleted: bool
    """Whether the item is deleted. Its row stays as a tombstone, so that replicas learn of it."""
    text_hash: str
    """Digest of the encoder's input, so that an unchanged text is not encoded again."""
    vector: Vector
    """Unit vector of the encoder's input; zeros for a tombstone."""
    seq: int
    """Time of the write in ns. It grows with every write of any process: replicas read rows of later ones."""
    terms: bytes = b""
    """Lexical terms as `recstream.items.terms.pack` writes them; ``b""``: not known, as of a tombstone, or of
    an item that was stored before layout 3 and not loaded again since."""


class StatisticsRow(NamedTuple):
    """Statistics of one item as they are stored."""

    item_id: str
    shard: int
    seq: int
    """As of `ItemRow`."""
    tick: float
    """Stream position, in events, at which the decayed counts hold."""
    counts: tuple[float, ...]
    """Decayed and all-time counts, one a scale; then the item's weight and its first tick."""
    state: bytes
    """Bounded neighbour lists, encoded; the first byte is the layout."""


def statistics_row(
    handle: int, statistics: ItemStatistics, catalogue: Catalogue, *, shard: int, seq: int
) -> StatisticsRow:
    """Give one item's statistics as they are stored."""
    counts, neighbours, weights = statistics.row(handle)
    ids = catalogue.ids
    return StatisticsRow(
        item_id=ids[handle],
        shard=shard,
        seq=seq,
        tick=statistics.tick,
        counts=counts,
        state=encode_state(_LAYOUT, [[ids[n] for n in neighbours.tolist()], weights.tobytes()]),
    )


def put_statistics(row: StatisticsRow, statistics: ItemStatistics, catalogue: Catalogue) -> None:
    """Put one item's stored statistics into the replica of this process.

    Raises:
        RowFormatError: the state has a layout that this version does not read.
    """
    layout, (neighbours, raw) = decode_state(row.state, f"statistics of item {row.item_id!r}", (1, _LAYOUT))
    handles = np.array([catalogue.intern(item) for item in neighbours], np.int32)
    weights: npt.NDArray[np.float32] = np.frombuffer(raw, np.float32).reshape(2, len(handles))
    counts = row.counts
    if layout == 1:
        counts, weights = _from_layout_1(row, weights)
    statistics.put_row(
        catalogue.intern(row.item_id), tick=row.tick, counts=counts, neighbours=handles, weights=weights
    )


def _from_layout_1(
    row: StatisticsRow, weights: npt.NDArray[np.float32]
) -> tuple[tuple[float, ...], npt.NDArray[np.float32]]:
    """Bring statistics of layout 1 to layout 2. They had three scales, and pairs that did not age."""
    rising, trending, popular = row.counts
    grown = float(growth(row.tick))
    since = max(row.tick - popular, 1.0)  # at the latest
    return (rising, trending, trending, popular, grown * popular, since), weights * np.float32(grown)
