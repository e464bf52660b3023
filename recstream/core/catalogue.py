"""The catalogue replica of one process: item ids, vectors and availability, by row."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import Matrix, Vector

__all__ = ["Catalogue"]

_RECENTRE_GROWTH = 1.25
"""The mean is taken again once the catalogue has grown by this factor, so that it costs O(1) an item."""


class Catalogue:
    """Items by *handle*: the row of an item in this process, which never changes while the process lives.

    Handles are a matter of this process only; whatever leaves it (stores, lists) carries item ids.
    Vectors are also kept mean-centred: raw sentence vectors share a large common direction, which says
    nothing about taste (Mu and Viswanath, ICLR 2018, "All-but-the-Top").

    >>> items = Catalogue(2)
    >>> items.put("a", np.array([1, 0], "f4")), items.put("b", np.array([0, 1], "f4"))
    (0, 1)
    >>> items.handle("b"), items.handle("zzz"), items.ids
    (1, None, ['a', 'b'])
    >>> items.centred().astype("f8").round(3).tolist()
    [[0.707, -0.707], [-0.707, 0.707]]
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.version = 0
        """The item table's version that this replica reflects."""
        self._handles: dict[str, int] = {}
        self._vectors = np.zeros((0, dim), np.float32)
        self._centred = np.zeros((0, dim), np.float32)
        self._available = np.zeros(0, np.bool_)
        self._known = np.zeros(0, np.bool_)
        self._tiebreak = np.zeros(0, np.float32)
        self._mean = np.zeros(dim)
        self._centred_at = 0
        self._filled = 0

    def __len__(self) -> int:
        return len(self.ids)

    def handle(self, item_id: str) -> int | None:
        """Row of a *known* item: one whose record has arrived (even if it is not available now)."""
        row = self._handles.get(item_id)
        return row if row is not None and self._known[row] else None

    def intern(self, item_id: str) -> int:
        """Row of any item; one that is not known gets a row that is never recommended.

        For state that names items which have left the catalogue since.
        """
        row = self._handles.get(item_id)
        if row is None:
            row = len(self.ids)
            self._handles[item_id] = row
            self.ids.append(item_id)
            self.titles.append("")
            if row >= len(self._known):
                self._grow(max(1024, 2 * row))
            # Ties break by a hash of the id, equal in every process; its weight is far below any signal's.
            self._tiebreak[row] = (crc32(item_id.encode()) & 0xFFFF) / 0xFFFF
        return row

    def put(self, item_id: str, vector: Vector, *, available: bool = True, title: str = "") -> int:
        """Add an item or replace what is known of it; gives its handle.

        Raises:
            ValueError: ``vector`` is not of shape ``(dim,)``.
        """
        if vector.shape != (self.dim,):
            msg = f"item {item_id!r} has a vector of shape {vector.shape}, this catalogue ({self.dim},)"
            raise ValueError(msg)
        row = self.intern(item_id)
        self.titles[row] = title
        self._filled += not self._known[row]
        self._vectors[row] = vector
        self._known[row] = True
        self._available[row] = available
        if self._filled > _RECENTRE_GROWTH * self._centred_at:
            self._centred_at = 0  # the mean is taken anew when it is next asked for
        else:
            self._centred[row] = self._centre(self._vectors[row : row + 1])[0]
        return row

    def vector(self, handle: int) -> Vector:
        """Unit vector of an item, shape ``(dim,)``; zeros for one that is not known."""
        row: Vector = self._vectors[handle]
        return row

    def is_known(self, handle: int) -> bool:
        """Whether the item's record has arrived."""
        return bool(self._known[handle])

    @property
    def known(self) -> int:
        """How many items' records have arrived."""
        return self._filled

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        """Shape ``(n,)``: which rows may be recommended."""
        return self._available[: len(self.ids)]

    @property
    def tiebreak(self) -> npt.NDArray[np.float32]:
        """Shape ``(n,)``, in [0, 1]: a stable hash of each id."""
        return self._tiebreak[: len(self.ids)]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean item vector, shape ``(dim,)``, that ``centred`` was made with."""
        self._recentre()
        return self._mean

    def centred(self) -> Matrix:
        """Mean-centred unit vectors, shape ``(n, dim)``, a view: do not keep it across a ``put``."""
        self._recentre()
        return self._centred[: len(self.ids)]

    def _recentre(self) -> None:
        if self._centred_at or not self._filled:
            return
        n = len(self.ids)
        vectors = self._vectors[:n]
        spoken = vectors.any(axis=1)
        self._mean = vectors[spoken].sum(axis=0, dtype=np.float64) / max(int(spoken.sum()), 1)
        self._centred[:n] = self._centre(vectors)
        self._centred_at = self._filled

    def _centre(self, vectors: Matrix) -> Matrix:
        """Mean-centred unit rows; zeros (an item unknown or deleted) are no direction and stay zeros."""
        centred = _unit_rows(vectors - self._mean)
        centred[~vectors.any(axis=1)] = 0.0
        return centred

    def _grow(self, rows: int) -> None:
        for name in ("_vectors", "_centred", "_available", "_known", "_tiebreak"):
            old = getattr(self, name)
            new = np.zeros((rows, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


def _unit_rows(rows: npt.NDArray[np.floating]) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = (rows / np.where(lengths > 1e-9, lengths, 1.0)).astype(np.float32)
    return unit
