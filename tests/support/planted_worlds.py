"""Planted worlds: users and items made up, in which it is known why who chooses what."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["PlantedWorld", "Topics", "sequence_world", "text_world", "trend_world"]

Record = dict[str, Any]

_START: Final = 1_700_000_000
"""When the first event happens, Unix seconds."""
_STEP_S: Final = 60
_TOPIC_WORDS: Final = 12
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class PlantedWorld:
    """Records of items and events, as the files of ``recstream eval`` hold them, and what lies behind."""

    items: list[Record]
    events: list[Record]
    """In order of time, one a minute."""
    topic_of: dict[str, int]
    """What each item's text is about; items of one topic share words, others none."""

    def about(self, topic: int) -> list[str]:
        """Items about a topic, in the order of the records."""
        return [item_id for item_id, about in self.topic_of.items() if about == topic]

    def share(self, item_ids: Sequence[str], topic: int) -> float:
        """Share of the items that are about a topic; 0 of no items."""
        return sum(self.topic_of[item_id] == topic for item_id in item_ids) / max(len(item_ids), 1)


class Topics:
    """Texts about topics: near each other for any encoder that sees words, or parts of words, shared.

    Words are letters drawn at random, so that words of different topics have hardly a trigram in common.

    >>> topics = Topics(2, random.Random(0))
    >>> record = topics.item("i1", 1)
    >>> sorted(record), len(set(record["text"].split()) & set(topics.words[1]))
    (['item_id', 'text', 'title'], 6)
    """

    def __init__(self, count: int, rng: random.Random) -> None:
        self._rng = rng
        self.words: list[list[str]] = [[self._word() for _ in range(_TOPIC_WORDS)] for _ in range(count)]

    def item(self, item_id: str, topic: int) -> Record:
        """An item about a topic."""
        words = self.words[topic]
        title = " ".join([*self._rng.sample(words, 2), self._word()])
        return {"item_id": item_id, "title": title, "text": " ".join(self._rng.sample(words, 6))}

    def _word(self) -> str:
        return "".join(self._rng.choices(_LETTERS, k=7))


def text_world(
    *, seed: int, users: int = 30, topics: int = 12, per_topic: int = 60, events: int = 900
) -> PlantedWorld:
    """Users choose what is about the topic they are on, among items that nobody, or hardly anybody, had.

    Each has a topic to come back to, leaves it for another after some 15 events, and returns after some 5:
    interests drift, and long-term taste outlives them. A topic's items are handed out in turn, so who else
    had an item says nothing that its text does not.
    """
    rng = random.Random(seed)
    made = Topics(topics, rng)
    topic_of = {f"t{topic}-{n}": topic for topic in range(topics) for n in range(per_topic)}
    items = [made.item(item_id, topic) for item_id, topic in topic_of.items()]
    supply = {topic: _shuffled_forever(rng, topic, per_topic) for topic in range(topics)}
    home = [user % topics for user in range(users)]
    now = list(home)
    had: list[set[str]] = [set() for _ in range(users)]

    def choice(user: int) -> str:
        if now[user] == home[user] and rng.random() < 1 / 15:
            now[user] = rng.choice([topic for topic in range(topics) if topic != home[user]])
        elif now[user] != home[user] and rng.random() < 1 / 5:
            now[user] = home[user]
        item_id = next(item_id for item_id in supply[now[user]] if item_id not in had[user])
        had[user].add(item_id)
        return item_id

    return PlantedWorld(items, _log(rng, users, events, choice_of=choice), topic_of)


def sequence_world(
    *, seed: int, users: int = 30, items: int = 120, events: int = 1200, noise: float = 0.25
) -> PlantedWorld:
    """Each item is followed by one of two others that have nothing else in common with it.

    With the chance ``noise`` a user chooses any item instead. Every item's text is about a topic of its own.
    """
    rng = random.Random(seed)
    made = Topics(items, rng)
    ids = [f"s{n}" for n in range(items)]
    rings = [_ring(rng, ids) for _ in range(2)]
    at = [rng.choice(ids) for _ in range(users)]
    had: list[deque[str]] = [deque(maxlen=items // 3) for _ in range(users)]

    def choice(user: int) -> str:
        after = [ring[at[user]] for ring in rings if ring[at[user]] not in had[user]]
        item_id = rng.choice(after) if after and rng.random() >= noise else rng.choice(ids)
        at[user] = item_id
        had[user].append(item_id)
        return item_id

    topic_of = {item_id: n for n, item_id in enumerate(ids)}
    records = [made.item(item_id, topic) for item_id, topic in topic_of.items()]
    return PlantedWorld(records, _log(rng, users, events, choice_of=choice), topic_of)


def trend_world(
    *, seed: int, users: int = 150, items: int = 300, events: int = 1200, hot: int = 8, lasts: int = 200
) -> PlantedWorld:
    """Everybody chooses among the same few items, whoever they are; each is in fashion for ``lasts`` events.

    What was in fashion is so no more, and texts are as in `sequence_world`.
    """
    rng = random.Random(seed)
    made = Topics(items, rng)
    ids = [f"h{n}" for n in range(items)]
    coming = iter(rng.sample(ids, items) * (1 + events // lasts))
    fashion = deque([next(coming) for _ in range(hot)])
    done = 0

    def choice(_user: int) -> str:
        nonlocal done
        done += 1
        if done % (lasts // hot) == 0:
            fashion.popleft()
            fashion.append(next(coming))
        return rng.choice(ids) if rng.random() < 0.1 else rng.choice(fashion)

    topic_of = {item_id: n for n, item_id in enumerate(ids)}
    records = [made.item(item_id, topic) for item_id, topic in topic_of.items()]
    return PlantedWorld(records, _log(rng, users, events, choice_of=choice), topic_of)


def _log(rng: random.Random, users: int, events: int, *, choice_of: Callable[[int], str]) -> list[Record]:
    log: list[Record] = []
    for n in range(events):
        user = rng.randrange(users)
        record = {"event_id": f"e{n}", "user_id": f"u{user}", "ts": _START + n * _STEP_S, "action": "view"}
        log.append({**record, "item_id": choice_of(user)})
    return log


def _shuffled_forever(rng: random.Random, topic: int, count: int) -> Iterator[str]:
    while True:
        yield from (f"t{topic}-{n}" for n in rng.sample(range(count), count))


def _ring(rng: random.Random, ids: Sequence[str]) -> dict[str, str]:
    order = rng.sample(ids, len(ids))
    return dict(zip(order, [*order[1:], order[0]], strict=True))
