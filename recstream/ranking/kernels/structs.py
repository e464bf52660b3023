"""What the compiled loops see of a user and of the world: arrays and numbers, no copies."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.items.jit import compiled
from recstream.items.session_index import SESSION_ITEMS, SessionArrays
from recstream.items.tfidf_index import Postings
from recstream.records.arrays import Handles, Matrix, Vector

__all__ = [
    "DENSE",
    "LATER",
    "RECENCY_WEIGHTS",
    "SPARSE",
    "CatalogueArrays",
    "Neighbours",
    "UserArrays",
    "UserBatchArrays",
    "Workspace",
    "user_arrays_of",
]

DENSE: Final = ("words", "short_term", "long_term", "disliked")
"""Signals that are products of text vectors. The last one finds no candidates: it is asked of these alone."""
_DISLIKED: Final = DENSE.index("disliked")
SPARSE: Final = ("lexical", "followed", "together", "sessions", "sessions_next")
"""Signals that few items have, added up over all items: a row of ``raw`` each. The last one finds no
candidates."""
LATER: Final = ("lexical_last", "category", "followed_last", "turned_away")
"""Signals that are added up over the candidates alone, for they find none."""

_RECENCY_SCALE: Final = 5.0
"""Places within a user's recent items, or a session, over which a weight falls by e."""
RECENCY_WEIGHTS: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / _RECENCY_SCALE).astype(np.float32)
"""Weight of an item by how many places away it is, 1 at 0 places."""


class Neighbours(NamedTuple):
    """What goes with what: see `recstream.items.statistics`."""

    items: Handles
    followed_by: npt.NDArray[np.float32]
    together_with: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    """One an item: a pair times both items' scales is a cosine."""


class CatalogueArrays(NamedTuple):
    """What is true of every list of a moment; arrays over items have shape ``(items,)``."""

    available: npt.NDArray[np.bool_]
    popularity: npt.NDArray[np.float64]
    """Shape ``(scales, items)``, each scale up to a factor; the last one counts everything."""
    since: npt.NDArray[np.float64]
    published: npt.NDArray[np.float64]
    filling: npt.NDArray[np.float32]
    """In what order items come of which nothing is known: a hash of each id, above 0."""
    tops: Handles
    """Shape ``(scales + 1, some)``: items most popular at each scale, and those that came last, best
    first, then `NO_MORE` or `MORE`. Empty where it is not worth while for so few lists."""
    discounts: npt.NDArray[np.float32]
    """How much a session says for an item: less of what many hold."""
    tick: float
    near: Neighbours
    lexicon: Postings
    """Words of the items."""
    categories: Postings
    sessions: SessionArrays
    text: Matrix
    """Unit vectors, ``(items, dims)``."""


class UserArrays(NamedTuple):
    """One user as the loops see them."""

    recent: Handles
    """Newest first, distinct."""
    recent_weights: npt.NDArray[np.float32]
    """What each of them weighs in the short term."""
    turned: Handles
    """Items the user turned away from, newest first."""
    turned_strength: float
    """How decidedly, 0 to 1."""
    again: Handles
    """Items engaged with before that may be shown again; none where repeats are ruled out."""
    again_weights: npt.NDArray[np.float32]
    passed: Handles
    """Items shown and passed over."""
    excluded: Handles
    session: int
    """Number of the user's own session, -1 without one."""
    now: float
    strengths: npt.NDArray[np.float32]
    """One a signal of `DENSE`: how much there is of its evidence, 0 to 1."""
    products: npt.NDArray[np.int64]
    """Which rows of the products of tastes and texts are those of each signal of `DENSE` but the last; -1: no
    evidence."""
    disliked: Vector
    """What they turned away from, as a direction in the space of the texts."""


class UserBatchArrays(NamedTuple):
    """Some users, one after the other: each array of theirs ends where the next one's begins."""

    recent: Handles
    recent_weights: npt.NDArray[np.float32]
    recent_ends: npt.NDArray[np.int64]
    """Shape ``(users + 1,)``, as all ends: user k's are from the k-th of them up to the next."""
    turned: Handles
    turned_ends: npt.NDArray[np.int64]
    turned_strengths: npt.NDArray[np.float64]
    again: Handles
    again_weights: npt.NDArray[np.float32]
    again_ends: npt.NDArray[np.int64]
    passed: Handles
    passed_ends: npt.NDArray[np.int64]
    excluded: Handles
    excluded_ends: npt.NDArray[np.int64]
    sessions: npt.NDArray[np.int64]
    now: npt.NDArray[np.float64]
    directions: npt.NDArray[np.float32]
    """Shape ``(users, DENSE, dims)``, unit vectors."""
    strengths: npt.NDArray[np.float32]
    products: npt.NDArray[np.int64]


@compiled
def user_arrays_of(users: UserBatchArrays, k: int) -> UserArrays:
    """One of the users."""
    recent = slice(users.recent_ends[k], users.recent_ends[k + 1])
    again = slice(users.again_ends[k], users.again_ends[k + 1])
    return UserArrays(
        users.recent[recent],
        users.recent_weights[recent],
        users.turned[users.turned_ends[k] : users.turned_ends[k + 1]],
        users.turned_strengths[k],
        users.again[again],
        users.again_weights[again],
        users.passed[users.passed_ends[k] : users.passed_ends[k + 1]],
        users.excluded[users.excluded_ends[k] : users.excluded_ends[k + 1]],
        users.sessions[k],
        users.now[k],
        users.strengths[k],
        users.products[k],
        users.directions[k, _DISLIKED],
    )


class Workspace(NamedTuple):
    """Room to work in. All but ``touched`` and ``rows`` are zeros between calls."""

    terms: npt.NDArray[np.float32]
    """One a term."""
    slots: npt.NDArray[np.float32]
    """One a session."""
    touched: npt.NDArray[np.int32]
    """One a session, and one more."""
    places: npt.NDArray[np.int32]
    """One an item."""
    rows: npt.NDArray[np.int32]
    """One an item."""
    marks: npt.NDArray[np.int8]
    """One an item."""
