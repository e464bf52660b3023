"""Comparing two states: whatever differs is found and named, and what may differ is not."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings

from recstream.items.catalogue import Catalogue
from recstream.records.event import Event
from recstream.users.decayed_sum import DecayedSum
from recstream.users.deduplication import EventIds
from recstream.users.state import AsOf, UserState, WaitingEvent, visit_key
from recstream.users.state_diff import LEFT_OUT, TOLERANCE, differences
from tests.support.builders import arrived, catalogue_of, event, user_state_after
from tests.support.user_events import ITEMS, randoms, user_events

KNOWN = ITEMS[:6]
"""Events of the others wait."""


def state(events: list[Event], known: list[str] = KNOWN) -> tuple[UserState, Catalogue]:
    """The state after these events, and the catalogue of its handles."""
    catalogue = catalogue_of(known)
    return user_state_after(arrived(events), catalogue), catalogue


def between(one: UserState, other: UserState, catalogue: Catalogue) -> list[str]:
    return differences(one, other, catalogue.ids, catalogue.ids)


def _change_sum(part: str) -> Callable[[UserState, random.Random], bool]:
    def change(user_state: UserState, by: random.Random) -> bool:
        total: DecayedSum | None = getattr(user_state, part)
        if total is None:
            return False
        how = by.randrange(4)
        if how == 0:
            setattr(user_state, part, None)
        elif how == 1:
            total.as_of += 1.0
        elif how == 2:
            total.weight *= 1 + 10 * TOLERANCE
        else:
            total.total[by.randrange(len(total.total))] += 10 * TOLERANCE * total.weight
        return True

    return change


def _change_latest(part: str) -> Callable[[UserState, random.Random], bool]:
    def change(user_state: UserState, by: random.Random) -> bool:
        latest: dict[int, float] = getattr(user_state, part)
        spare = [item for item in range(len(KNOWN)) if item not in latest]
        how = by.randrange(3)
        if how == 0 and spare:
            latest[by.choice(spare)] = 3.0
        elif how == 1 and latest:
            del latest[by.choice(list(latest))]
        elif latest:
            latest[by.choice(list(latest))] += 0.25
        else:
            return False
        return True

    return change


def _change_recent(user_state: UserState, by: random.Random) -> bool:
    if not user_state.recent:
        return False
    at = by.randrange(len(user_state.recent))
    entry = user_state.recent[at]
    other = [
        entry._replace(ts=entry.ts + 0.25),
        entry._replace(digest=entry.digest ^ 8),
        entry._replace(item=(entry.item + 1) % len(KNOWN)),
        entry._replace(weight=entry.weight - 0.5),
        entry._replace(action="share"),
    ]
    user_state.recent[at : at + 1] = by.choice([[], [entry, entry], *([one] for one in other)])
    return True


def _change_words(user_state: UserState, by: random.Random) -> bool:
    if not user_state.words:
        return False
    digest = by.choice(list(user_state.words))
    vector = user_state.words.pop(digest)
    how = by.randrange(3)
    if how == 0:
        user_state.words[digest ^ 8] = vector
    elif how == 1:
        user_state.words[digest] = -vector
    return True


def _change_waiting(user_state: UserState, by: random.Random) -> bool:
    if not user_state.waiting:
        return False
    at = by.randrange(len(user_state.waiting))
    wait = user_state.waiting[at]
    other = [
        wait.event._replace(item_id="i99"),
        wait.event._replace(ts=wait.event.ts + 0.25),
        wait.event._replace(action="share"),
        wait.event._replace(rating=4.75),
        wait.event._replace(text="other words"),
        wait.event._replace(event_id="other"),
    ]
    changed = [WaitingEvent(wait.received_at, one) for one in other if one != wait.event]
    user_state.waiting[at : at + 1] = by.choice([[], [wait, wait], *([one] for one in changed)])
    return True


def _change_earlier(user_state: UserState, by: random.Random) -> bool:
    earlier = user_state.earlier
    if not earlier:
        return False
    key = by.choice(list(earlier))
    how = by.randrange(3)
    if how == 0:
        earlier[key] += 1
    elif how == 1:
        del earlier[key]
    else:
        earlier[key + visit_key(200, 0)] = earlier.pop(key)
    return True


def _change_counted_from(user_state: UserState, by: random.Random) -> bool:
    user_state.counted_from += by.choice((-1, 1))
    return True


def _change_version(user_state: UserState, by: random.Random) -> bool:
    user_state.version += by.choice((-1, 1))
    return True


CHANGES: dict[str, tuple[str, Callable[[UserState, random.Random], bool]]] = {
    "version": ("version", _change_version),
    "long_term": ("long_term", _change_sum("long_term")),
    "disliked": ("disliked", _change_sum("disliked")),
    "recent": ("recent", _change_recent),
    "words": ("words", _change_words),
    "seen": ("seen", _change_latest("seen")),
    "earlier": ("earlier", _change_earlier),
    "counted_from": ("counted_from", _change_counted_from),
    "hidden": ("hidden", _change_latest("hidden")),
    "shown": ("shown", _change_latest("shown")),
    "waiting": ("waiting", _change_waiting),
}
"""By part of a state: what a difference in it is called, and what makes one (False: there is nothing)."""


def test_each_part_of_a_state_is_compared_or_named_as_left_out() -> None:
    parts = {one.name for one in dataclasses.fields(UserState)}
    assert parts == {*CHANGES, *LEFT_OUT}


@pytest.mark.parametrize("part", CHANGES)
@given(events=user_events(), by=randoms)
@settings(max_examples=60)
def test_a_change_of_one_part_is_found_and_named(part: str, events: list[Event], by: random.Random) -> None:
    name, change = CHANGES[part]
    user_state, catalogue = state(events)
    other = copy.deepcopy(user_state)
    assume(change(other, by))
    for one, two in ((user_state, other), (other, user_state)):
        lines = between(one, two, catalogue)
        assert [line.split(":")[0] for line in lines] == [name], lines


@given(user_events(), randoms)
def test_a_state_equals_itself_under_other_handles(events: list[Event], by: random.Random) -> None:
    one, ids = state(events)
    other, other_ids = state(events, by.sample(KNOWN, len(KNOWN)))
    assert differences(one, other, ids.ids, other_ids.ids) == []


@given(user_events(), randoms)
def test_handles_alone_say_nothing(events: list[Event], by: random.Random) -> None:
    user_state, catalogue = state(events)
    handles = (
        {entry.item for entry in user_state.recent} - {-1} | user_state.seen.keys() | user_state.shown.keys()
    )
    assume(handles)
    renamed = [f"other {item_id}" for item_id in catalogue.ids]
    assert differences(user_state, user_state, catalogue.ids, renamed)


@given(user_events())
def test_what_depends_on_the_source_or_the_run_is_no_difference(events: list[Event]) -> None:
    user_state, catalogue = state(events)
    other = copy.deepcopy(user_state)
    other.offset_ranges, other.as_of, other.announced = {}, AsOf(9.0, "elsewhere", 9), 1e9
    other.ids, other.outbox, other.refused = EventIds(), [], {}
    other.waiting = [
        WaitingEvent(99.0, wait.event._replace(offset=wait.event.offset + 7, raw=b"other bytes"))
        for wait in reversed(other.waiting)
    ]
    assert between(user_state, other, catalogue) == []


@given(user_events())
def test_sums_may_differ_by_the_tolerance(events: list[Event]) -> None:
    user_state, catalogue = state(events)
    other = copy.deepcopy(user_state)
    for total in (other.long_term, other.disliked):
        if total is not None:
            total.total *= 1 + TOLERANCE / 10
            total.weight *= 1 - TOLERANCE / 10
    assert between(user_state, other, catalogue) == []


def test_totals_that_cancel_out_are_equal_within_what_was_added() -> None:
    catalogue = catalogue_of(["i0"])
    catalogue.put("i1", -catalogue.vector(0))
    forth = [event(float(k), "view", f"i{k % 2}") for k in range(20)]
    one, other = (user_state_after(arrived(log), catalogue) for log in (forth, forth[::-1]))
    assert between(one, other, catalogue) == []


def test_not_a_number_is_a_difference() -> None:
    user_state, catalogue = state([event(1.0, "view", "i0")])
    other = copy.deepcopy(user_state)
    assert other.long_term is not None
    other.long_term.total[0] = float("nan")
    assert between(user_state, other, catalogue) == ["long_term: relative difference nan"]


def test_what_differs_is_named_and_many_are_counted() -> None:
    log: list[Any] = [event(float(k), "view", f"i{k}") for k in range(6)]
    one, catalogue = state(log)
    other, _ = state(log[:1])
    version, long_term, recent, seen = between(one, other, catalogue)
    assert version == "version: 6 in one, 1 in other"
    assert long_term.startswith("long_term: newest event at 5.0 in one, 0.0 in other, weight ")
    assert recent.startswith("recent: only in one view 'i1' at 1.0 (weight 1.0, digest ")
    assert recent.endswith(" and 2 more")
    assert seen == "seen: only in one 'i1' at 1.0, 'i2' at 2.0, 'i3' at 3.0 and 2 more"
