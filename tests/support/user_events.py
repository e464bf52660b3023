"""Hypothesis strategies for the events of one user, of every kind that changes their state."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from hypothesis import strategies as st

from recstream.records.actions import DEFAULT_ACTIONS, TRAITS
from recstream.records.event import Event
from tests.support.builders import (
    RULES,
    arrived,
    event,
)

ITEMS = [f"i{k}" for k in range(8)]
ACTIONS = [action for action in DEFAULT_ACTIONS.values() if TRAITS[action.kind].effect == "state"]
PARTITIONS = ["events/0", "events/1", "old.jsonl"]
TIGHT = dataclasses.replace(RULES, recent=4, history=3, dedup=3)
"""Bounds that a handful of events exceeds."""
randoms = st.randoms(use_true_random=False)


@st.composite
def user_events(draw: st.DrawFn, max_size: int = 24, with_ids: bool = True) -> list[Event]:
    """Events of one user: every action that changes the state, ties of time, no order, no offsets."""
    count = draw(st.integers(1, max_size))
    events = []
    for k in range(count):
        action = draw(st.sampled_from(ACTIONS))
        traits = TRAITS[action.kind]
        more: dict[str, Any] = {}
        if traits.needs_text:
            more["text"] = draw(st.sampled_from(["great film", "boring", "on tuesday", "space travel"]))
        if traits.rating == "needed" or (traits.rating == "optional" and draw(st.booleans())):
            more["rating"] = draw(st.sampled_from([1.0, 2.0, 3.0, 4.5, 5.0]))
        events.append(
            event(
                draw(st.sampled_from([0.0, 10.0, 20.0, 86400.0]) | st.floats(0.0, 9e6)),
                action.name,
                draw(st.sampled_from(ITEMS)) if traits.needs_item else None,
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
