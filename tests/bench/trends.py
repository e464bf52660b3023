"""A log in which lists go stale: items are popular for a short time, users come back after a long one."""

from __future__ import annotations

import heapq
import random
from typing import Any, Final

import numpy as np

Record = dict[str, Any]
_T0: Final = 1_700_000_000
_TOPICS: Final = 20
_WORDS: Final = 12
"""Words a topic."""
_LIFE: Final = 800.0
"""Events of the whole stream within which an item loses most of its pull."""
_SESSION: Final = 3.0
"""Events of a user in a row, on average."""
_SHORTEST_AWAY: Final = 40.0
_AWAY_TAIL: Final = 0.7
"""Times away have a Pareto tail of this exponent: many are short, and their mean is that of the longest."""


def items(count: int, *, seed: int = 0) -> list[Record]:
    """Item records: their words tell their topic."""
    rng = random.Random(f"items {seed}")
    records = []
    for number in range(count):
        topic = number % _TOPICS
        words = [f"t{topic}w{rng.randrange(_WORDS)}" for _ in range(6)]
        records.append(
            {
                "item_id": f"i{number}",
                "title": f"Piece {number} on {words[0]}",
                "text": " ".join(words),
                "categories": [f"t{topic}"],
            }
        )
    return records


def events(count: int, *, users: int, items: int, seed: int = 0) -> list[Record]:
    """A log of views, one a minute. Each item is born once, draws all of its topic, and is soon forgotten.

    A user has a few views in a row, then is away for a time with a heavy tail; in between, thousands of
    views of others pass.
    """
    rng = np.random.default_rng(seed)
    born = np.sort(rng.uniform(-_LIFE, count, items))
    rng.shuffle(born)
    pull = rng.lognormal(0.0, 1.0, items)
    topics = np.arange(items) % _TOPICS
    liked = np.where(rng.random((users, _TOPICS)) < 0.12, 6.0, 0.4)
    seen = np.zeros((users, items), np.bool_)
    waiting = [(float(at), user) for user, at in enumerate(rng.uniform(0.0, count / 20, users))]
    heapq.heapify(waiting)
    records: list[Record] = []
    for number in range(count):
        at, user = heapq.heappop(waiting)
        age = number - born
        drawn = np.where(age >= 0, pull * np.exp(-np.maximum(age, 0.0) / _LIFE), 0.0) * liked[user][topics]
        drawn[seen[user]] = 0.0
        item = int(rng.choice(items, p=drawn / drawn.sum()))
        seen[user, item] = True
        records.append(
            {"user_id": f"u{user}", "ts": _T0 + 60 * number, "action": "view", "item_id": f"i{item}"}
        )
        stays = rng.random() >= 1.0 / _SESSION
        away = rng.uniform(1.0, 20.0) if stays else _SHORTEST_AWAY * (1.0 + rng.pareto(_AWAY_TAIL))
        heapq.heappush(waiting, (at + min(away, float(count)), user))
    return records


def with_requests(log: list[Record], last: float = 0.2) -> list[Record]:
    """The log, and in its last part a request of a user before all that they do in one second."""
    first = int(len(log) * (1.0 - last))
    told: list[Record] = []
    newest: dict[str, float] = {}
    for number, record in enumerate(log):
        is_tied = newest.get(record["user_id"]) == record["ts"]
        newest[record["user_id"]] = record["ts"]
        if number >= first and not is_tied:
            told.append({"user_id": record["user_id"], "ts": record["ts"], "action": "request"})
        told.append(record)
    return told
