"""Hypothesis strategies for the events of one user, of every kind that changes their state."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from hypothesis import strategies as st

from recstream.records.event import Event
from tests.support.builders import (
    RULES,
    arrived,
    event,
)

ITEMS = [f"i{k}" for k in range(8)]
PARTITIONS = ["events/0", "events/1", "old.jsonl"]
TIGHT = dataclasses.replace(RULES, recent=4, history=3, dedup=3)
"""Bounds that a handful of events exceeds."""
randoms = st.randoms(use_true_random=False)


@st.composite
def user_events(draw: st.DrawFn, max_size: int = 24, with_ids: bool = True) -> list[Event]:
    """Events of one user, of every kind that teaches, with ties of time, in no order and without offsets."""
    count = draw(st.integers(1, max_size))
    events = []
    for k in range(count):
        action = draw(
            st.sampled_from(
                [
                    "view",
                    "like",
                    "purchase",
                    "rate",
                    "search",
                    "comment",
                    "skip",
                    "dislike",
                    "hide",
                    "impression",
                ]
            )
        )
        more: dict[str, Any] = {}
        if action in ("search", "comment"):
            more["text"] = draw(st.sampled_from(["great film", "boring", "on tuesday", "space travel"]))
        if action == "rate" or (action == "comment" and draw(st.booleans())):
            more["rating"] = draw(st.sampled_from([1.0, 2.0, 3.0, 4.5, 5.0]))
        events.append(
            event(
                draw(st.sampled_from([0.0, 10.0, 20.0, 86400.0]) | st.floats(0.0, 9e6)),
                action,
                None if action == "search" else draw(st.sampled_from(ITEMS)),
                partition=draw(st.sampled_from(PARTITIONS)),
                event_id=f"e{k}" if with_ids and draw(st.booleans()) else None,
                **more,
            )
        )
    return events


def shuffled(events: list[Event], by: random.Random) -> list[Event]:
    other = list(events)
    by.shuffle(other)
    return arrived(other)
