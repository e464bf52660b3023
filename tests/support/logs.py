"""Synthetic logs: records of items and events, JSONL files of them, and the versions they lead to."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

Record = dict[str, Any]


T0 = 1_700_000_000


WORDS = ("space", "love", "war", "sea", "zebra", "jazz", "tax", "garden", "ghost", "train")


def item(number: int, *, seed: int = 0) -> Record:
    """An item record that depends on its number alone."""
    rng = random.Random(f"{seed} {number}")
    words = rng.sample(WORDS, 3)
    return {
        "item_id": f"i{number}",
        "title": f"{words[0].title()} {words[1]} {number}",
        "text": f"About {words[2]} and {words[0]}",
        "categories": [words[0]],
    }


def events(
    count: int, *, users: int = 20, items: int = 40, seed: int = 0, first: int = 0, ids: bool = False
) -> list[Record]:
    """A log in order of time, with ties, in which some users search, comment and rate."""
    rng = random.Random(f"events {seed}")
    made = []
    ts = T0 + first * 10
    for number in range(first, first + count):
        ts += rng.choice((0, 0, 5, 30, 4000))
        record: Record = {"user_id": f"u{rng.randrange(users)}", "ts": ts}
        action = rng.choice(("view", "view", "like", "dislike", "rate", "search", "comment", "hide"))
        record["action"] = action
        if action != "search":
            record["item_id"] = f"i{rng.randrange(items)}"
        if action == "rate":
            record["rating"] = rng.randrange(1, 6)
        if action in ("search", "comment"):
            record["text"] = " ".join(rng.sample(WORDS, 2)) + f" {number}"
        record["event_id"] = f"e{number}"
        if not ids:
            del record["event_id"]
            record["ts"] += number / 1024  # no two events are the same event
        made.append(record)
    return made


def write_lines(path: Path, records: Iterable[Record | bytes]) -> Path:
    """A JSONL file of these records; bytes are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for record in records:
            file.write((record if isinstance(record, bytes) else orjson.dumps(record)) + b"\n")
    return path


def read_lines(path: Path) -> list[Record]:
    """The records of a JSONL file, whose every line must be whole."""
    content = path.read_bytes()
    assert not content or content.endswith(b"\n"), "the last line is torn"
    return [orjson.loads(line) for line in content.splitlines()]


def versions_after(log: Iterable[Record]) -> dict[str, int]:
    """The version of every user after a log of events that all apply."""
    counts: dict[str, int] = {}
    for record in log:
        if record["action"] != "request":
            counts[record["user_id"]] = counts.get(record["user_id"], 0) + 1
    return counts
