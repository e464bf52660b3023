"""The table of all signals. A row more is a signal more: nothing else has to name it."""

from __future__ import annotations

from typing import Final

from recstream.ranking.signals.base import Signal

__all__ = ["SIGNALS", "default_weights", "signal_groups"]

_ROWS: Final = (
    Signal(
        "words",
        "likeness of the item's text to the user's latest searches and comments, fading as items follow",
        default_weight=4.0,
        groups=("text", "embeddings"),
        nominates=True,
    ),
    Signal(
        "short_term",
        "likeness of the item's text to the last items, newer ones weighing more",
        default_weight=0.6,
        groups=("text", "embeddings"),
        nominates=True,
    ),
    Signal(
        "long_term",
        "likeness of the item's text to everything engaged with, halving every half-life",
        default_weight=0.4,
        groups=("text", "embeddings"),
        nominates=True,
    ),
    Signal(
        "disliked",
        "likeness of the item's text to what the user turned away from",
        default_weight=-0.5,
        max_weight=-0.1,
        groups=("text", "embeddings", "aversion"),
    ),
    Signal(
        "lexical",
        "words that the item shares with the last items (TF-IDF)",
        default_weight=1.2,
        groups=("text", "lexicon"),
        nominates=True,
    ),
    Signal(
        "lexical_last",
        "words that the item shares with the very last item",
        default_weight=0.8,
        groups=("text", "lexicon"),
    ),
    Signal(
        "category",
        "categories that the item shares with the last items, rare ones weighing more",
        default_weight=0.1,
    ),
    Signal(
        "followed",
        "how often the item came next after one of the user's last three",
        default_weight=0.5,
        groups=("transitions", "sequence"),
        nominates=True,
    ),
    Signal(
        "followed_last",
        "how often the item came next after the user's last one",
        default_weight=0.2,
        groups=("transitions", "sequence"),
    ),
    Signal(
        "together",
        "how often the item goes with the user's last twenty (cosine between their audiences)",
        default_weight=0.5,
        nominates=True,
    ),
    Signal(
        "sessions",
        "whether sessions like the user's own hold the item, near to what they share",
        default_weight=2.0,
        groups=("neighbours", "sequence"),
        nominates=True,
    ),
    Signal(
        "sessions_next",
        "whether the item came soon after what such sessions share with the user's own",
        default_weight=0.8,
        groups=("neighbours", "sequence"),
    ),
    Signal(
        "turned_away",
        "how often the item goes, or shares words, with what the user turned away from",
        default_weight=-1.5,
        max_weight=-0.5,
        groups=("aversion",),
    ),
    Signal(
        "rising",
        "popularity within about the last 100 events of the whole stream",
        default_weight=0.1,
        groups=("trends",),
        nominates=True,
    ),
    Signal(
        "trending",
        "popularity within about the last 1,000 events of the whole stream",
        default_weight=0.4,
        groups=("trends",),
        nominates=True,
    ),
    Signal(
        "lasting",
        "popularity within about the last 10,000 events of the whole stream",
        default_weight=1.0,
        groups=("trends",),
        nominates=True,
    ),
    Signal(
        "popular",
        "popularity of all time: the contrast that marks what is new",
        default_weight=-0.8,
        groups=("trends",),
        nominates=True,
    ),
    Signal(
        "fresh",
        "how recently the item was published: 1 on the day, falling with the root of its years",
        default_weight=0.8,
        groups=("novelty",),
    ),
    Signal(
        "upcoming",
        "the item's day of publication has not come yet",
        default_weight=-1.0,
        groups=("novelty",),
    ),
    Signal(
        "newcomer",
        "how lately the stream met the item first",
        default_weight=0.4,
        groups=("novelty",),
        nominates=True,
    ),
    Signal(
        "untried",
        "nobody has engaged with the item yet",
        default_weight=0.5,
        groups=("novelty",),
    ),
    Signal(
        "repeat",
        "how often and lately the user dealt with the item itself, where repeats are allowed",
        default_weight=1.0,
        nominates=True,
    ),
    Signal(
        "passed_over",
        "the item was shown to the user, who has not touched it since",
        default_weight=-0.3,
        max_weight=0.0,
        groups=("aversion",),
    ),
)

SIGNALS: Final[dict[str, Signal]] = {signal.name: signal for signal in _ROWS}
"""Every signal by name, in the order of the columns of `CandidateFeatures.signals`."""


def default_weights() -> dict[str, float]:
    """What a model that has learned nothing weighs each signal."""
    return {name: signal.default_weight for name, signal in SIGNALS.items()}


def signal_groups() -> dict[str, tuple[str, ...]]:
    """The signals of each group, by name; a signal may be in several or in none.

    >>> signal_groups()["lexicon"]
    ('lexical', 'lexical_last')
    """
    groups: dict[str, tuple[str, ...]] = {}
    for name, signal in SIGNALS.items():
        for group in signal.groups:
            groups[group] = (*groups.get(group, ()), name)
    return groups
