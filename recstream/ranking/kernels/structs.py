"""What the kernels see of a user, of the catalogue and of the signals: arrays and numbers, no copies."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.items.jit import compiled
from recstream.items.session_index import SESSION_ITEMS, SessionArrays
from recstream.items.tfidf_index import Postings
from recstream.records.arrays import Handles, Matrix

__all__ = [
    "PER_CANDIDATE",
    "PER_ITEM",
    "POPULARITY",
    "RECENCY_WEIGHTS",
    "TEXT",
    "CandidateFeatures",
    "CatalogueArrays",
    "Explanations",
    "Neighbours",
    "SignalColumns",
    "UserArrays",
    "UserBatchArrays",
    "Workspace",
    "user_arrays_of",
]

_RECENCY_SCALE: Final = 5.0
"""Places within a user's recent items, or a session, over which a weight falls by e."""
RECENCY_WEIGHTS: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / _RECENCY_SCALE).astype(np.float32)
"""Weight of an item by how many places away it is, 1 at 0 places."""
TEXT: Final = ("words", "short_term", "long_term", "disliked")
"""Signals that are cosines of text vectors with a direction of the user's."""
PER_ITEM: Final = ("lexical", "followed", "together", "sessions", "sessions_next")
"""Signals whose measures are added up over all items."""
PER_CANDIDATE: Final = ("lexical_last", "category", "followed_last", "turned_away")
"""Signals whose measures are added up over the candidates alone."""
POPULARITY: Final = ("rising", "trending", "lasting", "popular")
"""Signals that are popularity, one for each scale of `ItemStatistics`."""


class SignalColumns(NamedTuple):
    """Columns of the signals that the kernels compute, and what the table says of every signal."""

    text: npt.NDArray[np.int64]
    """In the order of `TEXT`; the next three are in that of their names, too."""
    per_item: npt.NDArray[np.int64]
    per_candidate: npt.NDArray[np.int64]
    popularity: npt.NDArray[np.int64]
    fresh: int
    upcoming: int
    newcomer: int
    untried: int
    repeat: int
    passed_over: int
    nominates: npt.NDArray[np.bool_]
    """One a signal: whether its best items become candidates."""
    used: npt.NDArray[np.bool_]
    """One a signal: the others stay zeros."""


class Neighbours(NamedTuple):
    """Which items go together: see `recstream.items.statistics`."""

    items: Handles
    followed_by: npt.NDArray[np.float32]
    together_with: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    """One an item: a pair times both items' scales is a cosine."""


class CatalogueArrays(NamedTuple):
    """Items, statistics and sessions, the same for all lists; arrays over items have shape ``(items,)``."""

    available: npt.NDArray[np.bool_]
    popularity: npt.NDArray[np.float64]
    """Shape ``(scales, items)``, each scale up to a factor; the last one counts everything."""
    since: npt.NDArray[np.float64]
    published: npt.NDArray[np.float64]
    tiebreak: npt.NDArray[np.float32]
    """A hash of each id, above 0: the order of items of which nothing else is known."""
    top_items: Handles
    """Shape ``(scales + 1, some)``: the most popular items at each scale, then the newest ones, best first;
    each row ends with `NO_MORE` or `MORE`. Empty where sorting does not pay off for so few lists."""
    discounts: npt.NDArray[np.float32]
    """How much a session says for an item: less, the more sessions hold it."""
    tick: float
    neighbours: Neighbours
    lexicon: Postings
    """Words of the items."""
    categories: Postings
    sessions: SessionArrays
    text: Matrix
    """Unit vectors, ``(items, dims)``."""


class UserArrays(NamedTuple):
    """One user."""

    recent: Handles
    """Newest first, distinct."""
    recent_weights: npt.NDArray[np.float32]
    """What each of them weighs in the short term."""
    disliked_items: Handles
    """Items the user turned away from, newest first."""
    dislike_strength: float
    """How decidedly, 0 to 1."""
    repeatable: Handles
    """Items engaged with before that may be shown again; none where repeats are ruled out."""
    repeatable_weights: npt.NDArray[np.float32]
    passed_over: Handles
    """Items shown to the user and not touched since."""
    excluded: Handles
    session: int
    """Number of the user's own session, -1 without one."""
    now: float
    directions: Matrix
    """Shape ``(TEXT, dims)``, unit vectors in the space of the texts."""
    strengths: npt.NDArray[np.float32]
    """One a signal of `TEXT`, 0 to 1: how much is known of it; 0: nothing."""
    products: npt.NDArray[np.int64]
    """One a signal of `TEXT`: which row of the products with all texts is its own, -1 without one."""


class UserBatchArrays(NamedTuple):
    """Some users, one after the other: each array of a user ends where the next one's begins."""

    recent: Handles
    recent_weights: npt.NDArray[np.float32]
    recent_ends: npt.NDArray[np.int64]
    """Shape ``(users + 1,)``, as all ends: user k's are from the k-th of them up to the next."""
    disliked_items: Handles
    disliked_ends: npt.NDArray[np.int64]
    dislike_strengths: npt.NDArray[np.float64]
    repeatable: Handles
    repeatable_weights: npt.NDArray[np.float32]
    repeatable_ends: npt.NDArray[np.int64]
    passed_over: Handles
    passed_over_ends: npt.NDArray[np.int64]
    excluded: Handles
    excluded_ends: npt.NDArray[np.int64]
    sessions: npt.NDArray[np.int64]
    now: npt.NDArray[np.float64]
    directions: npt.NDArray[np.float32]
    """Shape ``(users, TEXT, dims)``."""
    strengths: npt.NDArray[np.float32]
    products: npt.NDArray[np.int64]


@compiled
def user_arrays_of(users: UserBatchArrays, k: int) -> UserArrays:
    """One of the users."""
    recent = slice(users.recent_ends[k], users.recent_ends[k + 1])
    repeatable = slice(users.repeatable_ends[k], users.repeatable_ends[k + 1])
    return UserArrays(
        users.recent[recent],
        users.recent_weights[recent],
        users.disliked_items[users.disliked_ends[k] : users.disliked_ends[k + 1]],
        users.dislike_strengths[k],
        users.repeatable[repeatable],
        users.repeatable_weights[repeatable],
        users.passed_over[users.passed_over_ends[k] : users.passed_over_ends[k + 1]],
        users.excluded[users.excluded_ends[k] : users.excluded_ends[k + 1]],
        users.sessions[k],
        users.now[k],
        users.directions[k],
        users.strengths[k],
        users.products[k],
    )


class CandidateFeatures(NamedTuple):
    """The candidates of some lists and their signals. Views: valid until the next ones are extracted."""

    items: Handles
    """Shape ``(candidates,)``: those of one list after those of the list before. Distinct within a list, in
    no order that means anything."""
    signals: Matrix
    """Shape ``(candidates, signals)``, float32, columns as in `SIGNALS`; each column is contiguous."""
    ends: npt.NDArray[np.int64]
    """Shape ``(lists + 1,)``: list k's candidates are from ``ends[k]`` up to ``ends[k + 1]``."""
    users: UserBatchArrays
    sessions: npt.NDArray[np.int32]
    """Shape ``(lists, some)``: slots of the sessions that were found most like each user's own."""
    likeness: npt.NDArray[np.float32]
    """How like each of these sessions is."""
    sessions_found: npt.NDArray[np.int64]
    """How many sessions were found, ``(lists,)``."""

    def of(self, k: int) -> slice:
        """Where a list's candidates are."""
        return slice(int(self.ends[k]), int(self.ends[k + 1]))


class Explanations(NamedTuple):
    """Why the items of some lists are in them."""

    signals: npt.NDArray[np.int64]
    """Columns of the signals that contributed most to each item, for or against; -1: no more. Shape
    ``(lists, items, named)``."""
    values: npt.NDArray[np.float64]
    """What each of these signals contributed, rounded to five digits."""
    others: npt.NDArray[np.float64]
    """Sum of all other contributions, rounded likewise, ``(lists, items)``."""
    causes: npt.NDArray[np.int64]
    """Recent items of the user that contributed most, strongest first, as places among them; -1: no more.
    Shape ``(lists, items, causes)``."""


class Workspace(NamedTuple):
    """Room to work in. All but ``slots_met`` and ``rows`` are zeros between calls."""

    terms: npt.NDArray[np.float32]
    """One a term."""
    slots: npt.NDArray[np.float32]
    """One a session."""
    slots_met: npt.NDArray[np.int32]
    """One a session, and one more."""
    places: npt.NDArray[np.int32]
    """One an item."""
    rows: npt.NDArray[np.int32]
    """One an item."""
    marks: npt.NDArray[np.int8]
    """One an item."""
