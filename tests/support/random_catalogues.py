"""Random catalogues with all that signals measure: words, labels, days, pairs, sessions, dislikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recstream.items.catalogue import Catalogue
from recstream.items.session_index import SessionIndex
from recstream.items.statistics import Interaction, ItemStatistics
from recstream.items.terms import pack, text_terms
from recstream.ranking.features import FeatureExtractor
from recstream.ranking.query import Query
from recstream.ranking.signals.table import SIGNALS
from recstream.records.arrays import Handles, Matrix
from recstream.records.event import Event
from recstream.users.state import UserState
from tests.support.builders import DIM, arrived, event, query, unit, user_state_after

DAY = 86400.0
NOW = 20_000 * DAY
WORDS = [f"word{k}" for k in range(40)]
ACTIONS = ("view", "view", "like", "rate", "search", "comment", "dislike", "skip", "hide", "impression")


class RandomCatalogue(NamedTuple):
    """A catalogue with what is known of it, and the users who ask."""

    catalogue: Catalogue
    statistics: ItemStatistics
    sessions: SessionIndex
    user_states: list[UserState]
    queries: list[Query]

    def extractor(self, *, repeats: bool = False, used: Sequence[str] = ()) -> FeatureExtractor:
        """An extractor of these signals; by default of all."""
        weights = {name: float(not used or name in used) for name in SIGNALS}
        made = FeatureExtractor(self.catalogue, self.statistics, self.sessions, weights=weights)
        made.repeats = repeats
        return made


class Extracted(NamedTuple):
    """The features of one list, copied."""

    items: Handles
    signals: Matrix
    sessions: Handles


def extracted(extractor: FeatureExtractor, queries: Sequence[Query]) -> list[Extracted]:
    """The features of each query's list."""
    return [
        Extracted(
            features.items[features.of(k)].copy(),
            features.signals[features.of(k)].copy(),
            features.sessions[k, : features.sessions_found[k]].copy(),
        )
        for features in extractor.extract(queries)
        for k in range(len(features.sessions_found))
    ]


def random_catalogue(
    seed: int, *, items: int = 24, users: int = 4, interactions: int = 200
) -> RandomCatalogue:
    """The drawn of a seed; one item in eight is not available, some are known by id only."""
    random = np.random.default_rng(seed)
    catalogue = Catalogue(DIM)
    for k in range(items):
        fate = random.random()
        if fate < 0.05:
            catalogue.intern(f"i{k}")
            continue
        words = random.choice(WORDS, int(random.integers(0, 5)))
        day = random.choice([np.nan, NOW - random.random() * 900 * DAY, NOW + DAY])
        catalogue.put(
            f"i{k}",
            unit(str(random.integers(0, 2 * items))),
            available=bool(fate > 0.17),
            categories=[f"label{label}" for label in random.integers(0, 6, random.integers(0, 3))],
            published_at=None if np.isnan(day) else float(day),
            terms=pack(text_terms(" ".join(words))),
        )
    known = [name for name in catalogue.ids if catalogue.handle(name) is not None]
    statistics, sessions = ItemStatistics(8), SessionIndex()
    lasts: dict[str, list[int]] = {}
    for _ in range(interactions):
        user = f"u{random.integers(0, 3 * users)}"
        item = int(random.zipf(1.4)) % items  # some are popular, some have no interactions
        last = lasts.setdefault(user, [])
        statistics.count([Interaction(item, tuple(one for one in last if one != item))], ticks_each=7.0)
        sessions.add(user, item, statistics.tick)
        lasts[user] = [item, *(one for one in last if one != item)][:6]
    user_states = [_user_state(random, catalogue, known, f"u{k}") for k in range(users)]
    return RandomCatalogue(
        catalogue, statistics, sessions, user_states, [query(user_state) for user_state in user_states]
    )


def _user_state(random: np.random.Generator, catalogue: Catalogue, known: list[str], user: str) -> UserState:
    events: list[Event] = []
    for at in range(int(random.integers(0, 16)) if known else 0):
        action = str(random.choice(ACTIONS))
        text = str(random.choice(["great", "jazz"])) if action in ("search", "comment") else None
        about = None if action == "search" else str(random.choice(known))
        rating = float(random.integers(1, 6)) if action == "rate" else None
        events.append(event(NOW + at, action, about, text=text, rating=rating, user=user))
    return user_state_after(arrived(events), catalogue, user=user)
