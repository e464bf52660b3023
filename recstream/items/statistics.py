"""Item statistics across users: decayed popularity, and which items go together or follow each other."""

from __future__ import annotations

import math
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.items.jit import compiled
from recstream.records.arrays import AnyArray, Handles

__all__ = ["SCALES", "Interaction", "ItemStatistics", "Pairs", "count_pairs", "pairs_of"]

SCALES: Final = (100.0, 1000.0, 10_000.0, math.inf)
"""Time constants of popularity, in events of the whole stream. The last one never forgets."""

_FOLLOWED_WEIGHTS: Final = (1.0, 0.5, 1.0 / 3.0)
"""Weight of an item as successor of the user's last, second and third last one: 1 / distance."""
_TOGETHER_WEIGHTS: Final = tuple(1.0 / (1.0 + place / 5.0) for place in range(64))
"""Weight of two items as going together, by how many others the user engaged with in between."""
_MAX_EXPONENT: Final = 500.0
"""Greatest exponent of a count, at the shortest time constant, before the landmark moves."""
_GROWTH_EVENTS: Final = 1000.0
"""Events in which the weight of a pair grows by that of one at the beginning: see `growth`."""


class Interaction(NamedTuple):
    """One engagement of a user with an item, and the items they engaged with before it."""

    item: int
    """Catalogue handle."""
    previous: tuple[int, ...]
    """Handles of those items, newest first, distinct, without ``item``."""


class Pairs(NamedTuple):
    """Increments of neighbour lists, shapes ``(pairs,)``: ``others[k]`` is added to that of ``rows[k]``."""

    rows: Handles
    others: Handles
    followed: npt.NDArray[np.float32]
    """By how much ``others[k]`` follows ``rows[k]``."""
    together: npt.NDArray[np.float32]
    """By how much the two go together."""
    order: npt.NDArray[np.int32]
    """Place in the batch of the interaction that each pair comes from."""


def pairs_of(interactions: list[Interaction]) -> Pairs:
    """Give the pairs of some interactions: the newer item follows the older ones, and both go together.

    >>> pairs = pairs_of([Interaction(7, (5, 3))])
    >>> pairs.rows.tolist(), pairs.others.tolist(), pairs.followed.tolist()
    ([5, 7, 3, 7], [7, 5, 7, 3], [1.0, 0.0, 0.5, 0.0])
    >>> pairs.together.round(2).tolist(), pairs.order.tolist()
    ([1.0, 1.0, 0.8299999833106995, 0.8299999833106995], [0, 0, 0, 0])
    """
    rows: list[int] = []
    others: list[int] = []
    followed: list[float] = []
    together: list[float] = []
    order: list[int] = []
    for place, (item, previous) in enumerate(interactions):
        for distance, earlier in enumerate(previous):
            rows += (earlier, item)
            others += (item, earlier)
            followed += (_FOLLOWED_WEIGHTS[distance] if distance < len(_FOLLOWED_WEIGHTS) else 0.0, 0.0)
            weight = _TOGETHER_WEIGHTS[distance]
            together += (weight, weight)
            order += (place, place)
    return Pairs(
        np.array(rows, np.int32),
        np.array(others, np.int32),
        np.array(followed, np.float32),
        np.array(together, np.float32),
        np.array(order, np.int32),
    )


def growth(tick: npt.NDArray[np.floating] | float) -> npt.NDArray[np.floating] | float:
    """Weight of a pair at a stream position, relative to one at the beginning.

    Polynomial forward decay (Cormode et al., ICDE 2009): old pairs fade in proportion to the age of the
    stream, on a short log as on a long one, without a change of what is stored.

    >>> growth(0.0), growth(9000.0)
    (1.0, 10.0)
    """
    return (tick + _GROWTH_EVENTS) / _GROWTH_EVENTS


_EMPTY: Final = {
    "_weights": 0.0,
    "_scales": 1.0,
    "_discounts": 1.0,
    "_since": 0.0,
    "_neighbours": -1,
    "_followed_by": 0.0,
    "_together_with": 0.0,
}
"""Values in the tables of `ItemStatistics` for an item that nothing is known of."""


class ItemStatistics:
    """Decayed counts and bounded neighbour lists of every item, by catalogue handle.

    Time is counted in events of the whole stream, not in seconds, so that a quiet night does not make
    everything stale: a stream position is a *tick*. Counts use forward decay: stored is
    ``sum(exp((tick - landmark) / scale))``, and a factor that all items share drops out of every ranking.

    >>> stats = ItemStatistics(cap=4)
    >>> stats.count([Interaction(0, ()), Interaction(1, (0,)), Interaction(1, ())])
    >>> stats.popularity(2).round(2).tolist(), stats.tick
    ([1.0, 2.0], 3.0)
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        """Most neighbours kept an item."""
        self.tick = 0.0
        """Stream position: events counted so far."""
        self._landmark = 0.0
        self._counts = np.zeros((len(SCALES), 0))
        self._weights = np.zeros(0)
        self._scales = np.ones(0, np.float32)
        self._discounts = np.ones(0, np.float32)
        self._since = np.zeros(0)
        self._neighbours = np.zeros((0, cap), np.int32)
        self._followed_by = np.zeros((0, cap), np.float32)
        self._together_with = np.zeros((0, cap), np.float32)
        self._dirty: dict[int, None] = {}
        """Handles changed and not taken yet, in order of their first change."""

    def reserve(self, items: int) -> None:
        """Make room for handles below ``items``."""
        have = len(self._weights)
        if items < have:  # one row is always spare, so that a slice of the counts is never the whole array
            return
        rows = max(1024, items + 1, 2 * have)
        counts = np.zeros((len(SCALES), rows))
        counts[:, :have] = self._counts
        self._counts = counts
        for name, empty in _EMPTY.items():
            old = getattr(self, name)
            new = np.full((rows, *old.shape[1:]), empty, old.dtype)
            new[:have] = old
            setattr(self, name, new)

    def count(
        self, interactions: list[Interaction], pairs: Pairs | None = None, *, ticks_each: float = 1.0
    ) -> None:
        """Count interactions in their order, and their pairs (or only ``pairs``, if given).

        ``ticks_each`` is how many events of the whole stream each interaction stands for: the number of
        processes that share the stream.
        """
        pairs = pairs_of(interactions) if pairs is None else pairs
        highest = max([interaction.item for interaction in interactions], default=-1)
        if len(pairs.rows):
            highest = max(highest, int(pairs.rows.max()), int(pairs.others.max()))
        self.reserve(highest + 1)
        begin = self.tick
        for interaction in interactions:
            self.tick += ticks_each
            self._counts[:, interaction.item] += self._gain()
            self._weights[interaction.item] += growth(self.tick)
            self._rescale(interaction.item)
            self._since[interaction.item] = self._since[interaction.item] or self.tick
            self._dirty[interaction.item] = None
        if len(pairs.rows):
            grown = np.asarray(growth(begin + (pairs.order + 1.0) * ticks_each), np.float32)
            count_pairs(
                pairs.rows,
                pairs.others,
                pairs.followed,
                pairs.together,
                grown,
                self._neighbours,
                self._followed_by,
                self._together_with,
            )
            self._dirty.update(dict.fromkeys(np.unique(pairs.rows).tolist()))

    def popularity(self, items: int, scale: int = -1) -> npt.NDArray[np.float64]:
        """Counts of handles below ``items`` at one of `SCALES` as of now, shape ``(items,)``."""
        self.reserve(items)
        now = 1.0 if math.isinf(SCALES[scale]) else math.exp(-(self.tick - self._landmark) / SCALES[scale])
        counts: npt.NDArray[np.float64] = self._counts[scale, :items] * now
        return counts

    def relative_popularity(self, items: int) -> npt.NDArray[np.float64]:
        """Counts of handles below ``items`` at each of `SCALES`, ``(scales, items)``, a view.

        At each scale they lack a factor that all items share.
        """
        self.reserve(items)
        return self._counts[:, :items]

    def weights(self, items: int) -> npt.NDArray[np.float64]:
        """Sum of the weights (see `growth`) of each item's engagements, shape ``(items,)``."""
        self.reserve(items)
        return self._weights[:items]

    @property
    def scales(self) -> npt.NDArray[np.float32]:
        """``(weight + 1) ** -0.5`` of each item: a pair times both items' scales is a cosine."""
        return self._scales

    @property
    def discounts(self) -> npt.NDArray[np.float32]:
        """``(events + 1) ** -0.25`` of each item: a popular item says less about who engaged with it."""
        return self._discounts

    def since(self, items: int) -> npt.NDArray[np.float64]:
        """Stream position at each item's first engagement, shape ``(items,)``; 0 without one."""
        self.reserve(items)
        return self._since[:items]

    @property
    def tables(self) -> tuple[Handles, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Neighbours (int32, -1 where free) and their followed and together weights, ``(rows, cap)`` each."""
        return self._neighbours, self._followed_by, self._together_with

    @property
    def dirty(self) -> int:
        """Number of rows changed and not taken yet."""
        return len(self._dirty)

    def take_dirty(self, most: int | None = None) -> list[int]:
        """Give the handles changed since they were last taken, ascending, and forget that they changed.

        With ``most`` only so many: those that have waited longest.
        """
        dirty = list(islice(self._dirty, most))
        if len(dirty) == len(self._dirty):
            self._dirty.clear()
        else:
            for handle in dirty:
                del self._dirty[handle]
        return sorted(dirty)

    def row(self, handle: int) -> tuple[tuple[float, ...], Handles, npt.NDArray[np.float32]]:
        """Give one item's counts as of ``tick``, its neighbours, and their weights, ``(2, neighbours)``.

        After the counts, one a scale, come the item's `weights` and `since`.
        """
        used = self._neighbours[handle] >= 0
        age = self.tick - self._landmark
        counts = tuple(
            float(count) * math.exp(-age / scale)
            for count, scale in zip(self._counts[:, handle], SCALES, strict=True)
        )
        counts += (float(self._weights[handle]), float(self._since[handle]))
        weights = np.stack([self._followed_by[handle][used], self._together_with[handle][used]])
        return counts, self._neighbours[handle][used], weights

    def put_row(
        self,
        handle: int,
        *,
        tick: float,
        counts: tuple[float, ...],
        neighbours: Handles,
        weights: npt.NDArray[np.float32],
    ) -> None:
        """Replace one item's statistics by those of another process, or an earlier run, as of ``tick``."""
        highest = int(neighbours.max()) if len(neighbours) else -1
        self.reserve(max(handle, highest) + 1)
        self.tick = max(self.tick, tick)
        gain = self._gain(tick)
        *scales, self._weights[handle], self._since[handle] = counts
        self._counts[:, handle] = [count * g for count, g in zip(scales, gain, strict=True)]
        self._rescale(handle)
        kept = min(len(neighbours), self.cap)
        best = np.argsort(-weights.sum(axis=0), kind="stable")[:kept]
        self._neighbours[handle] = -1
        self._neighbours[handle, :kept] = neighbours[best]
        for table, values in ((self._followed_by, weights[0]), (self._together_with, weights[1])):
            table[handle] = 0.0
            table[handle, :kept] = values[best]

    def _rescale(self, item: int) -> None:
        self._scales[item] = (self._weights[item] + 1.0) ** -0.5
        self._discounts[item] = (self._counts[-1, item] + 1.0) ** -0.25

    def _gain(self, tick: float | None = None) -> tuple[float, ...]:
        """Weight of one event at ``tick`` (None: now) relative to the landmark, one a scale."""
        if (self.tick - self._landmark) / SCALES[0] > _MAX_EXPONENT:
            for k, scale in enumerate(SCALES):
                self._counts[k] *= math.exp(-(self.tick - self._landmark) / scale)
            self._landmark = self.tick
        age = (self.tick if tick is None else tick) - self._landmark
        return tuple(math.exp(age / scale) for scale in SCALES)


@compiled
def count_pairs(
    rows: AnyArray,
    others: AnyArray,
    followed: AnyArray,
    together: AnyArray,
    grown: AnyArray,
    neighbours: AnyArray,
    followed_by: AnyArray,
    together_with: AnyArray,
) -> None:
    """Add pair k (``others[k]`` seen with ``rows[k]``), times ``grown[k]``, to the bounded neighbour lists.

    ``neighbours`` is int32 of shape ``(n, cap)``, -1 where free; the two weight tables have its shape
    (float32). A full list drops its lightest neighbour (the first of equals).
    """
    cap = neighbours.shape[1]
    for k in range(len(rows)):
        row, other = rows[k], others[k]
        slot = -1
        lightest, least = 0, np.inf
        for j in range(cap):
            present = neighbours[row, j]
            if present == other or present < 0:
                slot = j
                break
            total = followed_by[row, j] + together_with[row, j]
            if total < least:
                lightest, least = j, total
        if slot < 0:
            slot = lightest
            neighbours[row, slot] = -1
        if neighbours[row, slot] < 0:
            neighbours[row, slot] = other
            followed_by[row, slot] = 0.0
            together_with[row, slot] = 0.0
        followed_by[row, slot] += grown[k] * followed[k]
        together_with[row, slot] += grown[k] * together[k]
