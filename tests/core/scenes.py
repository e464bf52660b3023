"""Random worlds with all that evidence is made of: words, labels, days, pairs, sessions, dislikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recstream.core.arrays import Handles, Matrix
from recstream.core.catalogue import Catalogue
from recstream.core.events import Event
from recstream.core.evidence import Gatherer
from recstream.core.lexicon import pack, text_terms
from recstream.core.profile import Profile
from recstream.core.session_window import SessionWindow
from recstream.core.signals import SIGNALS, Query
from recstream.core.statistics import ItemStatistics, Touch
from tests.builders import DIM, arrived, event, profile_after, query, unit

DAY = 86400.0
NOW = 20_000 * DAY
WORDS = [f"word{k}" for k in range(40)]
ACTIONS = ("view", "view", "like", "rate", "search", "comment", "dislike", "skip", "hide", "impression")


class Scene(NamedTuple):
    """A world, and the users who ask in it."""

    catalogue: Catalogue
    statistics: ItemStatistics
    sessions: SessionWindow
    profiles: list[Profile]
    queries: list[Query]

    def gatherer(self, *, repeats: bool = False) -> Gatherer:
        """One that uses all signals."""
        used = np.ones(len(SIGNALS), np.bool_)
        made = Gatherer(self.catalogue, self.statistics, self.sessions, used=used)
        made.repeats = repeats
        return made


class Gathered(NamedTuple):
    """The evidence of one list, copied."""

    items: Handles
    signals: Matrix
    sessions: Handles


def gathered(gatherer: Gatherer, queries: Sequence[Query]) -> list[Gathered]:
    """The evidence of each query's list."""
    return [
        Gathered(
            evidence.items[evidence.of(k)].copy(),
            evidence.signals[evidence.of(k)].copy(),
            evidence.sessions[k, : evidence.found[k]].copy(),
        )
        for evidence in gatherer.gather(queries)
        for k in range(len(evidence.found))
    ]


def scene(seed: int, *, items: int = 24, users: int = 4, touches: int = 200) -> Scene:
    """The world of a seed; one item in eight is away, some are only heard of."""
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
    statistics, sessions = ItemStatistics(8), SessionWindow()
    lasts: dict[str, list[int]] = {}
    for _ in range(touches):
        user = f"u{random.integers(0, 3 * users)}"
        item = int(random.zipf(1.4)) % items  # some are popular, some nobody touched
        last = lasts.setdefault(user, [])
        statistics.count([Touch(item, tuple(one for one in last if one != item))], ticks_each=7.0)
        sessions.add(user, item, statistics.tick)
        lasts[user] = [item, *(one for one in last if one != item)][:6]
    profiles = [_profile(random, catalogue, known, f"u{k}") for k in range(users)]
    return Scene(catalogue, statistics, sessions, profiles, [query(profile) for profile in profiles])


def _profile(random: np.random.Generator, catalogue: Catalogue, known: list[str], user: str) -> Profile:
    events: list[Event] = []
    for at in range(int(random.integers(0, 16)) if known else 0):
        action = str(random.choice(ACTIONS))
        text = str(random.choice(["great", "jazz"])) if action in ("search", "comment") else None
        about = None if action == "search" else str(random.choice(known))
        rating = float(random.integers(1, 6)) if action == "rate" else None
        events.append(event(NOW + at, action, about, text=text, rating=rating, user=user))
    return profile_after(arrived(events), catalogue, user=user)
