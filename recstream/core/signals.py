"""Signals: the evidence a list is made of, each a small formula over a user and the world."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import Handles, Vector
from recstream.core.loops import FADES
from recstream.core.profile import AsOf, Profile
from recstream.core.recent import NO_ITEM
from recstream.core.rules import OPINIONS

__all__ = [
    "CEILINGS",
    "COLUMN",
    "DEFAULT_WEIGHTS",
    "SIGNALS",
    "Query",
    "Trigger",
    "query_of",
]

Trigger = Literal["event", "request", "drift"]

SIGNALS: Final[dict[str, str]] = {
    "words": "likeness of the item's text to the user's latest searches and comments, fading as items follow",
    "short_term": "likeness of the item's text to the last items, newer ones weighing more",
    "long_term": "likeness of the item's text to everything engaged with, halving every half-life",
    "disliked": "likeness of the item's text to what the user turned away from",
    "lexical": "words that the item shares with the last items (TF-IDF)",
    "lexical_last": "words that the item shares with the very last item",
    "category": "categories that the item shares with the last items, rare ones weighing more",
    "followed": "how often the item came next after one of the user's last three",
    "followed_last": "how often the item came next after the user's last one",
    "together": "how often the item goes with the user's last twenty (cosine between their audiences)",
    "sessions": "whether sessions like the user's own hold the item, near to what they share",
    "sessions_next": "whether the item came soon after what such sessions share with the user's own",
    "turned_away": "how often the item goes, or shares words, with what the user turned away from",
    "rising": "popularity within about the last 100 events of the whole stream",
    "trending": "popularity within about the last 1,000 events of the whole stream",
    "lasting": "popularity within about the last 10,000 events of the whole stream",
    "popular": "popularity of all time: the contrast that marks what is new",
    "fresh": "how recently the item was published: 1 on the day, falling with the root of its years",
    "upcoming": "the item's day of publication has not come yet",
    "newcomer": "how lately the stream met the item first",
    "untried": "nobody has engaged with the item yet",
    "repeat": "how often and lately the user engaged with the item itself, where repeats are allowed",
    "passed_over": "the item was shown to the user, who has not touched it since",
}
"""Every signal and what it measures, in the order of `Evidence.signals`; lists and settings name them."""
COLUMN: Final = {name: column for column, name in enumerate(SIGNALS)}
"""Which column of `Evidence.signals` is a signal's."""

DEFAULT_WEIGHTS: Final[dict[str, float]] = {
    "words": 4.0,
    "short_term": 0.6,
    "long_term": 0.4,
    "disliked": -0.5,
    "lexical": 1.2,
    "lexical_last": 0.8,
    "category": 0.1,
    "followed": 0.5,
    "followed_last": 0.2,
    "together": 0.5,
    "sessions": 2.0,
    "sessions_next": 0.8,
    "turned_away": -1.5,
    "rising": 0.1,
    "trending": 0.4,
    "lasting": 1.0,
    "popular": -0.8,
    "fresh": 0.8,
    "upcoming": -1.0,
    "newcomer": 0.4,
    "untried": 0.5,
    "repeat": 1.0,
    "passed_over": -0.3,
}
"""What a model starts from that has learned nothing yet."""

CEILINGS: Final[dict[str, float]] = {"disliked": -0.1, "turned_away": -0.5, "passed_over": 0.0}
"""Greatest weight that may be learned of what speaks against an item."""

RECENT_ITEMS: Final = 20
"""How many of the user's last items speak for the short term and for what goes together."""
_TURNED_ITEMS: Final = 5
_DISLIKE: Final = 2.0
_PASSED_ITEMS: Final = 50
_AGAIN_ITEMS: Final = 40
_AGAIN_WINDOW: Final = 10.0
_PLACE_WEIGHTS: Final = tuple(FADES[:RECENT_ITEMS].tolist())


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
    words_weight: float
    turned: Handles
    """Items the user turned away from, newest first, distinct."""
    turned_strength: float
    """How decidedly, 0 to 1: a dislike is 1."""
    again: Handles
    """Items of the newest events, those that weigh most first, whether they may be shown again or not."""
    again_weights: npt.NDArray[np.float32]
    passed: Handles
    """Items shown to the user and not touched since."""


def query_of(profile: Profile, as_of: AsOf, trigger: Trigger, received_at: float) -> Query:
    """A user's view for ranking, copied so that it stays true to ``profile.version``."""
    items: dict[int, float] = {}
    turned: dict[int, float] = {}
    again: dict[int, float] = {}
    words: Vector | None = None
    words_weight = 0.0
    spoken = 0
    for place, entry in enumerate(reversed(profile.recent)):
        if entry.weight < 0.0 and entry.action not in OPINIONS:
            if entry.item != NO_ITEM and len(turned) < _TURNED_ITEMS and entry.item not in items:
                turned.setdefault(entry.item, min(-entry.weight / _DISLIKE, 1.0))
            continue
        if entry.item != NO_ITEM:
            again[entry.item] = again.get(entry.item, 0.0) + math.exp(-place / _AGAIN_WINDOW)
        if len(items) == RECENT_ITEMS or place >= 2 * RECENT_ITEMS:
            continue
        # A rating at the middle of its scale, or below, says "engaged with", if nothing about liking.
        weight = _PLACE_WEIGHTS[len(items)] * min(max(entry.weight, 0.5), 3.0)
        if entry.item != NO_ITEM:
            items.setdefault(entry.item, weight)
        elif entry.digest in profile.words:
            weight *= 0.5**spoken  # what was said last is what is meant now
            spoken += 1
            part = np.float32(weight) * profile.words[entry.digest]
            words = part if words is None else words + part
            words_weight += weight
    again = dict(sorted(again.items(), key=lambda one: -one[1])[:_AGAIN_ITEMS])
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
        turned=np.fromiter(turned, np.int32, len(turned)),
        turned_strength=max(turned.values(), default=0.0),
        again=np.fromiter(again, np.int32, len(again)),
        again_weights=np.fromiter(again.values(), np.float32, len(again)),
        passed=_passed_over(profile),
    )


def _passed_over(profile: Profile) -> Handles:
    newest = sorted(profile.shown.items(), key=lambda one: -one[1])[:_PASSED_ITEMS]
    passed = [item for item, ts in newest if profile.seen.get(item, -math.inf) < ts]
    return np.array(passed, np.int32)
