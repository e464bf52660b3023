"""Logs that evaluation is tested on: small, with ties, repeats and events that are no choice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from recstream.records.actions import DEFAULT_ACTIONS, DecodeRules
from recstream.records.event import Event, event_from
from recstream.records.transport import Partition

Record = dict[str, Any]
WORDS = ("space", "love", "war", "sea", "jazz", "tax", "garden", "ghost", "train", "snow")
ACTIONS = {**DEFAULT_ACTIONS, "ask": DEFAULT_ACTIONS["view"]._replace(name="ask")}


def items_of(count: int) -> list[Record]:
    """Items whose texts resemble their neighbours'."""
    return [
        {
            "item_id": f"i{n}",
            "title": f"{WORDS[n % 10]} {WORDS[n // 10 % 10]}",
            "text": f"about {WORDS[n // 3 % 10]}",
        }
        for n in range(count)
    ]


def log_of(count: int, *, users: int = 12, items: int = 40, seed: int = 0) -> list[Record]:
    """Events in order of time; a user goes on near the last item, and a third share their time."""
    rng = random.Random(seed)
    at = dict.fromkeys(range(users), 0)
    made: list[Record] = []
    ts = 1_700_000_000
    for n in range(count):
        ts += rng.choice((0, 0, 1, 60))
        user = rng.randrange(users) if rng.random() < 0.7 or not made else int(made[-1]["user_id"][1:])
        at[user] = (at[user] + rng.choice((0, 1, 1, 2, rng.randrange(items)))) % items
        action = rng.choice(("view", "view", "view", "like", "impression", "request", "search", "ask"))
        record: Record = {"event_id": f"e{n}", "user_id": f"u{user}", "ts": ts, "action": action}
        if action == "search":
            record["text"] = rng.choice(WORDS)
        elif action != "request":
            record["item_id"] = f"i{at[user]}"
        made.append(record)
    return made


def decoded(records: Sequence[Record]) -> list[Event]:
    """The records as the dataflow decodes them, under `ACTIONS`."""
    rules = DecodeRules(actions=ACTIONS)
    made = [
        event_from(record, Partition("log", "log@1"), n, b"", rules=rules, now=2e9)
        for n, record in enumerate(records)
    ]
    assert all(isinstance(event, Event) for event in made), made
    return [event for event in made if isinstance(event, Event)]


def write(path: Path, records: Sequence[Record]) -> Path:
    """A JSONL file of them."""
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


def with_requests(records: Sequence[Record], places: Sequence[int]) -> list[Record]:
    """The log with a request of the same user before each of these places."""
    asked = set(places)
    log: list[Record] = []
    for place, record in enumerate(records):
        if place in asked:
            asks = {name: record[name] for name in ("user_id", "ts")}
            log.append({**asks, "action": "request", "event_id": f"asked-{place}"})
        log.append(record)
    return log
