"""A synthetic world for the benchmarks: items with vectors, and a log of what people did, as raw bytes."""

from __future__ import annotations

import numpy as np
import orjson

from recstream.items.codec import ItemRow
from recstream.records.transport import Partition, RawBatch

DIM = 384
POLL = 1000
"""Records of a batch: the default of ``kafka.poll_max``."""
T0 = 1_700_000_000
ACTIONS = ("view", "view", "view", "click", "like", "rate", "purchase", "dislike")


def item_rows(items: int) -> list[ItemRow]:
    """Items in forty groups, whose vectors resemble each other within a group."""
    random = np.random.default_rng(1)
    centres = random.standard_normal((40, DIM))
    vectors = centres[random.integers(0, 40, items)] + random.standard_normal((items, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        ItemRow(f"i{n}", f"item {n}", ("c",), ("t",), T0, True, False, f"h{n}", row, n + 1)
        for n, row in enumerate(vectors.astype(np.float32))
    ]


def item_numbers(events: int, items: int, seed: int) -> list[int]:
    """Item of each event: Zipf by rank."""
    share = 1.0 / np.arange(1, items + 1)
    chosen: list[int] = np.random.default_rng(seed).choice(items, events, p=share / share.sum()).tolist()
    return chosen


def log(events: int, *, users: int, items: int, seed: int = 2) -> list[bytes]:
    """Events in order of time; a user's sessions are a few events long (20 users a minute of the day)."""
    random = np.random.default_rng(seed)
    who = random.integers(0, users, events).tolist()
    what = item_numbers(events, items, seed + 1)
    how = random.integers(0, len(ACTIONS), events).tolist()
    stars = random.integers(1, 6, events).tolist()
    step = 600.0 / users  # a user acts every ten minutes or so
    lines = []
    for k in range(events):
        record = {
            "user_id": f"user-{who[k]}",
            "ts": round(T0 + k * step, 3),
            "action": ACTIONS[how[k]],
            "item_id": f"i{what[k]}",
        }
        if record["action"] == "rate":
            record["rating"] = stars[k]
        lines.append(orjson.dumps(record))
    return lines


def batches(lines: list[bytes], name: str = "events/0") -> list[RawBatch]:
    """The log as a source reads it, `POLL` records a batch."""
    partition = Partition(name, f"{name}@bench")
    return [
        RawBatch(partition, list(range(at, min(at + POLL, len(lines)))), lines[at : at + POLL])
        for at in range(0, len(lines), POLL)
    ]
