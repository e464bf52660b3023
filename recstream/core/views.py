"""What the compiled loops see of a user and of the world: arrays and numbers, no copies."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import Handles

__all__ = ["DENSE", "SPARSE", "Neighbours", "Scratch", "User", "World"]

DENSE: Final = ("words", "short_term", "long_term", "disliked")
"""Signals that are products of text vectors, one score an item."""
SPARSE: Final = (
    "lexical",
    "lexical_last",
    "category",
    "followed",
    "followed_last",
    "together",
    "sessions",
    "sessions_next",
    "turned_away",
)
"""Signals that few items have: a row of ``raw`` each."""


class World(NamedTuple):
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
    first; -1: no more. Empty where it is not worth while for so few lists."""
    discounts: npt.NDArray[np.float32]
    """How much a session says for an item: less of what many hold."""
    tick: float


class Neighbours(NamedTuple):
    """What goes with what: see `recstream.core.statistics`."""

    items: Handles
    followed_by: npt.NDArray[np.float32]
    together_with: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    """One an item: a pair times both items' scales is a cosine."""


class User(NamedTuple):
    """One user as the loops see them."""

    recent: Handles
    """Newest first, distinct."""
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


class Scratch(NamedTuple):
    """Room to work in. All but ``touched`` are zeros between calls."""

    terms: npt.NDArray[np.float32]
    """One a term."""
    slots: npt.NDArray[np.float32]
    """One a session."""
    touched: npt.NDArray[np.int32]
    """One a session."""
    places: npt.NDArray[np.int32]
    """One an item."""
    marks: npt.NDArray[np.int8]
    """One an item."""
