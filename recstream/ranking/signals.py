"""Signals: the evidence a list is made of, each a small formula over a user and the world."""

from __future__ import annotations

from typing import Final

__all__ = ["CEILINGS", "COLUMN", "DEFAULT_WEIGHTS", "SIGNALS"]

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
"""Every signal and what it measures, in the order of the columns of `CandidateFeatures.signals`."""
COLUMN: Final = {name: column for column, name in enumerate(SIGNALS)}
"""Which column of `CandidateFeatures.signals` is a signal's."""
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
