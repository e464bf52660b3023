"""A shop's log in which people come back to items: habits that come and go, seasons, baskets of one time."""

from __future__ import annotations

import heapq
import random
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Record = dict[str, Any]
Floats = npt.NDArray[np.float64]
_T0: Final = 1_640_995_200
"""2022-01-01, Unix seconds."""
_DAY_S: Final = 86_400
_YEAR: Final = 365.25
_CATEGORIES: Final = 40
_SEASONAL: Final = 14
"""Categories that are bought in one part of the year, each in its own."""
_SEASON_DAYS: Final = 25.0
_WORDS: Final = 12
"""Words a category."""
_AGAIN: Final = 0.34
"""Chance that an item of a basket is one of the user's own: some baskets are first ones, so 31 % are."""
_BASKET: Final = 6.0
"""Mean number of items bought at one time."""
_AWAY: Final = 20.0
"""Median number of days between two visits of a user."""
_HABIT_DAYS: Final = 250.0
"""Mean time after which a user has no more need of an item."""


def items(count: int, *, seed: int = 0) -> list[Record]:
    """Item records: their words tell their category."""
    rng = random.Random(f"shop {seed}")
    records = []
    for number in range(count):
        category = number % _CATEGORIES
        words = [f"c{category}w{rng.randrange(_WORDS)}" for _ in range(5)]
        records.append(
            {
                "item_id": f"i{number}",
                "title": f"Article {number} {words[0]}",
                "text": " ".join(words),
                "categories": [f"c{category}"],
            }
        )
    return records


def events(count: int, *, users: int, items: int, seed: int = 0) -> list[Record]:
    """A log of purchases, in order of time; about 31 % are of items that the user has bought before.

    A user comes every few weeks and fills a basket, all at one time. How often they need an item is drawn
    when they first buy it, most items hardly ever again; after a purchase the need comes back slowly, and
    some day it ends. Whatever is seasonal is bought in its season, new or again.
    """
    rng = np.random.default_rng(seed)
    category = np.arange(items) % _CATEGORIES
    pull = rng.permutation((10.0 + np.arange(items)) ** -0.8)
    peaks = rng.uniform(0.0, _YEAR, _CATEGORIES)
    likes = np.where(rng.random((users, _CATEGORIES)) < 0.12, 6.0, 0.3)
    away = _AWAY * rng.lognormal(0.0, 0.6, users)
    size = _BASKET * rng.lognormal(-0.18, 0.6, users)
    need = np.zeros((users, items))
    ends = np.zeros((users, items))
    last = np.full((users, items), -np.inf)
    waiting = [(float(day), user) for user, day in enumerate(rng.uniform(0.0, 1.2 * _YEAR, users))]
    heapq.heapify(waiting)
    records: list[Record] = []
    while len(records) < count:
        day, user = heapq.heappop(waiting)
        heapq.heappush(waiting, (day + away[user] * rng.lognormal(0.0, 0.5), user))
        season = _season(day, peaks)[category]
        had = need[user] > 0.0
        due = 1.0 - np.exp(-(day - last[user]) / away[user] / 1.5)
        again = np.where(had, need[user] * due * season * np.where(day < ends[user], 1.0, 0.05), 0.0)
        new = np.where(had, 0.0, pull * likes[user][category] * season)
        wanted = 1 + int(rng.poisson(size[user]))
        repeated = min(int(rng.binomial(wanted, _AGAIN)), int(had.sum()))
        basket = [*_drawn(rng, again, repeated), *_drawn(rng, new, wanted - repeated)]
        for item in basket:
            if not need[user, item]:
                need[user, item] = rng.lognormal(0.0, 1.3)
                ends[user, item] = day + rng.exponential(_HABIT_DAYS)
        last[user, basket] = day
        record = {"user_id": f"u{user}", "ts": _T0 + int(day * _DAY_S), "action": "purchase"}
        records += [{**record, "item_id": f"i{item}"} for item in rng.permutation(basket)]
    return records[:count]


def share_of_repeats(log: list[Record]) -> float:
    """Share of the events that are with items which their user had before."""
    pairs = {(record["user_id"], record["item_id"]) for record in log}
    return 1.0 - len(pairs) / len(log)


def _season(day: float, peaks: Floats) -> Floats:
    """How much each category is bought on a day."""
    apart = np.abs((day - peaks + _YEAR / 2) % _YEAR - _YEAR / 2)
    seasonal = 0.05 + 4.0 * np.exp(-np.square(apart / _SEASON_DAYS))
    return np.where(np.arange(_CATEGORIES) < _SEASONAL, seasonal, 1.0)


def _drawn(rng: np.random.Generator, chances: Floats, count: int) -> list[int]:
    """Different items, by their chances; fewer where fewer have one."""
    count = min(count, int((chances > 0.0).sum()))
    if not count:
        return []
    drawn: list[int] = rng.choice(len(chances), count, replace=False, p=chances / chances.sum()).tolist()
    return drawn
