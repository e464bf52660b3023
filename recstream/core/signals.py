"""Signals: the evidence a list is made of, each a small formula over a user and the world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import Handles, Matrix, Vector
from recstream.core.catalogue import Catalogue
from recstream.core.profile import AsOf, Profile
from recstream.core.recent import NO_ITEM
from recstream.core.statistics import ItemStatistics

__all__ = ["DEFAULT_WEIGHTS", "SIGNALS", "Query", "Trigger", "query_of"]

Trigger = Literal["event", "request", "drift"]

SIGNALS: Final[dict[str, str]] = {
    "words": "cosine of the item's text to the user's latest searches and comments, fading as items follow",
    "short_term": "cosine of the item's text to the last items, newer ones weighing more",
    "long_term": "cosine of the item's text to everything engaged with, halving every half-life",
    "disliked": "cosine of the item's text to what the user turned away from (weight negative)",
    "followed": "how often the item came next after one of the user's last three",
    "together": "how often the item goes with the user's last twenty (cosine between their audiences)",
    "rising": "popularity within about the last 100 events of the whole stream",
    "trending": "popularity within about the last 1,000 events of the whole stream",
    "popular": "popularity of all time: the contrast that marks what is new",
}
"""Every signal and what it measures; the names appear in lists and in the settings."""

DEFAULT_WEIGHTS: Final[dict[str, float]] = {
    "words": 3.0,
    "short_term": 0.4,
    "long_term": 0.2,
    "disliked": -0.2,
    "followed": 0.5,
    "together": 1.0,
    "rising": 0.1,
    "trending": 0.3,
    "popular": -0.1,
}
"""Within the noise of the best found on two logs (IFDB, MovieLens 100K); for other logs set your own."""

RECENT_ITEMS: Final = 20
"""How many of the user's last items speak for the short term and for what goes together."""
FOLLOWED_ITEMS: Final = 3
_WINDOW: Final = 5.0
"""An entry's weight in the short term falls by e every so many places back."""
_POPULARITY: Final = ("rising", "trending", "popular")
_PLACES: Final = np.arange(RECENT_ITEMS, dtype=np.float32)
_PLACE_WEIGHTS: Final = tuple(math.exp(-place / _WINDOW) for place in range(RECENT_ITEMS))
_FOLLOWED: Final = np.where(_PLACES < FOLLOWED_ITEMS, 1.0 / (1.0 + _PLACES), 0.0).astype(np.float32)
_TOGETHER: Final = (1.0 / (1.0 + _PLACES / np.float32(_WINDOW))).astype(np.float32)


class Query(NamedTuple):
    """What ranking needs of one user: a view that later events do not change."""

    user_id: str
    version: int
    as_of: AsOf
    trigger: Trigger
    received_at: float
    """When the event that asks for this list was read, Unix seconds."""
    recent: Handles
    """Items engaged with, newest first, distinct, at most `RECENT_ITEMS`."""
    recent_weights: npt.NDArray[np.float32]
    """What each of them weighs in the short term: by place, and by the action's weight."""
    words: Vector | None
    """Weighted sum of the encoded words among the recent events, ``words_weight`` the sum of its weights."""
    long_term: Vector | None
    """Decayed sum, with ``long_term_weight`` the sum of its weights."""
    long_term_weight: float
    disliked: Vector | None
    disliked_weight: float
    hidden: Handles
    """Never to be shown."""
    excluded: Handles
    """Hidden and seen items."""
    words_weight: float = 0.0


def query_of(profile: Profile, as_of: AsOf, trigger: Trigger, received_at: float) -> Query:
    """A user's view for ranking, copied so that it stays true to ``profile.version``."""
    items: dict[int, float] = {}
    words: Vector | None = None
    words_weight = 0.0
    spoken = 0
    for place, entry in enumerate(reversed(profile.recent)):
        if len(items) == RECENT_ITEMS or place == 2 * RECENT_ITEMS:
            break
        if entry.weight < 0.0:
            continue
        # A rating at the middle of its scale says "engaged with", if nothing about liking: it still counts.
        weight = _PLACE_WEIGHTS[len(items)] * min(max(entry.weight, 0.5), 3.0)
        if entry.item != NO_ITEM:
            items.setdefault(entry.item, weight)
        elif entry.digest in profile.words:
            weight *= 0.5**spoken  # what was said last is what is meant now
            spoken += 1
            part = np.float32(weight) * profile.words[entry.digest]
            words = part if words is None else words + part
            words_weight += weight
    hidden = np.fromiter(profile.hidden, np.int32, len(profile.hidden))
    seen = np.fromiter(profile.seen, np.int32, len(profile.seen))
    long_term, disliked = profile.long_term, profile.disliked
    return Query(
        user_id=profile.user_id,
        version=profile.version,
        as_of=as_of,
        trigger=trigger,
        received_at=received_at,
        recent=np.fromiter(items, np.int32, len(items)),
        recent_weights=np.fromiter(items.values(), np.float32, len(items)),
        words=words,
        long_term=None if long_term is None else long_term.total.astype(np.float32),
        long_term_weight=0.0 if long_term is None else long_term.weight,
        disliked=None if disliked is None else disliked.total.astype(np.float32),
        disliked_weight=0.0 if disliked is None else disliked.weight,
        hidden=hidden,
        excluded=np.concatenate([seen, hidden]),
        words_weight=words_weight,
    )


def popularity(statistics: ItemStatistics, items: int) -> dict[str, npt.NDArray[np.float32]]:
    """The three popularity signals, shape ``(items,)`` in [0, 1]: root of the count over the largest."""
    found = {}
    for scale, name in enumerate(_POPULARITY):
        counts = statistics.popularity(items, scale)
        largest = counts.max(initial=0.0)
        roots = np.sqrt(counts / largest) if largest > 0.0 else counts
        found[name] = roots.astype(np.float32)
    return found


def text_tastes(
    queries: Sequence[Query], catalogue: Catalogue, centred: Matrix, mean: npt.NDArray[np.float64]
) -> dict[str, Matrix]:
    """Unit directions in the centred text space, one row a query (zeros where there is no evidence).

    That of ``words`` is shorter the more items have followed the words.
    """
    shape = (len(queries), catalogue.dim)
    words, short, long_term, disliked = (np.zeros(shape, np.float32) for _ in range(4))
    for k, query in enumerate(queries):
        if len(query.recent):
            short[k] = query.recent_weights @ centred[query.recent]
        if query.words is not None:
            words[k] = query.words - query.words_weight * mean
        if query.long_term is not None:
            long_term[k] = query.long_term - query.long_term_weight * mean
        if query.disliked is not None:
            disliked[k] = query.disliked - query.disliked_weight * mean
    fades = np.array([min(query.words_weight, 1.0) for query in queries], np.float32)
    return {
        "words": _unit(words) * fades[:, None],
        "short_term": _unit(short),
        "long_term": _unit(long_term),
        "disliked": _unit(disliked),
    }


def pair_evidence(query: Query) -> tuple[Handles, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The user's recent items, and how much each counts for ``followed`` and for ``together``."""
    count = len(query.recent)
    if count > len(_PLACES):
        msg = f"{count} recent items, at most {len(_PLACES)} are looked at"
        raise ValueError(msg)
    return query.recent, _FOLLOWED[:count], _TOGETHER[:count]


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / np.where(lengths > 1e-9, lengths, np.float32(1.0))
    return unit
