"""Comparing two states: whatever differs is found and named, and what may differ is not."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings

from recstream.core.catalogue import Catalogue
from recstream.core.compare import LEFT_OUT, TOLERANCE, differences
from recstream.core.decay import DecayedSum
from recstream.core.event_ids import EventIds
from recstream.core.events import Event
from recstream.core.profile import AsOf, Profile, Waiting
from tests.builders import arrived, catalogue_of, event, profile_after
from tests.core.test_profile import ITEMS, happenings, randoms

KNOWN = ITEMS[:6]
"""Events of the others wait."""


def state(events: list[Event], known: list[str] = KNOWN) -> tuple[Profile, Catalogue]:
    """The state after these events, and the catalogue of its handles."""
    catalogue = catalogue_of(known)
    return profile_after(arrived(events), catalogue), catalogue


def between(one: Profile, other: Profile, catalogue: Catalogue) -> list[str]:
    return differences(one, other, catalogue.ids, catalogue.ids)


def _change_sum(part: str) -> Callable[[Profile, random.Random], bool]:
    def change(profile: Profile, by: random.Random) -> bool:
        total: DecayedSum | None = getattr(profile, part)
        if total is None:
            return False
        how = by.randrange(4)
        if how == 0:
            setattr(profile, part, None)
        elif how == 1:
            total.as_of += 1.0
        elif how == 2:
            total.weight *= 1 + 10 * TOLERANCE
        else:
            total.total[by.randrange(len(total.total))] += 10 * TOLERANCE * total.weight
        return True

    return change


def _change_latest(part: str) -> Callable[[Profile, random.Random], bool]:
    def change(profile: Profile, by: random.Random) -> bool:
        latest: dict[int, float] = getattr(profile, part)
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


def _change_ring(profile: Profile, by: random.Random) -> bool:
    if not profile.recent:
        return False
    at = by.randrange(len(profile.recent))
    entry = profile.recent[at]
    other = [
        entry._replace(ts=entry.ts + 0.25),
        entry._replace(digest=entry.digest ^ 8),
        entry._replace(item=(entry.item + 1) % len(KNOWN)),
        entry._replace(weight=entry.weight - 0.5),
        entry._replace(action="share"),
    ]
    profile.recent[at : at + 1] = by.choice([[], [entry, entry], *([one] for one in other)])
    return True


def _change_words(profile: Profile, by: random.Random) -> bool:
    if not profile.words:
        return False
    digest = by.choice(list(profile.words))
    vector = profile.words.pop(digest)
    how = by.randrange(3)
    if how == 0:
        profile.words[digest ^ 8] = vector
    elif how == 1:
        profile.words[digest] = -vector
    return True


def _change_waiting(profile: Profile, by: random.Random) -> bool:
    if not profile.waiting:
        return False
    at = by.randrange(len(profile.waiting))
    wait = profile.waiting[at]
    other = [
        wait.event._replace(item_id="i99"),
        wait.event._replace(ts=wait.event.ts + 0.25),
        wait.event._replace(action="share"),
        wait.event._replace(rating=4.75),
        wait.event._replace(text="other words"),
        wait.event._replace(event_id="other"),
    ]
    changed = [Waiting(wait.received_at, one) for one in other]
    profile.waiting[at : at + 1] = by.choice([[], [wait, wait], *([one] for one in changed)])
    return True


def _change_version(profile: Profile, by: random.Random) -> bool:
    profile.version += by.choice((-1, 1))
    return True


CHANGES: dict[str, tuple[str, Callable[[Profile, random.Random], bool]]] = {
    "version": ("version", _change_version),
    "long_term": ("long_term", _change_sum("long_term")),
    "disliked": ("disliked", _change_sum("disliked")),
    "recent": ("ring", _change_ring),
    "words": ("words", _change_words),
    "seen": ("seen", _change_latest("seen")),
    "hidden": ("hidden", _change_latest("hidden")),
    "shown": ("shown", _change_latest("shown")),
    "waiting": ("waiting", _change_waiting),
}
"""By part of a state: what a difference in it is called, and what makes one (False: there is nothing)."""


def test_each_part_of_a_state_is_compared_or_named_as_left_out() -> None:
    parts = {one.name for one in dataclasses.fields(Profile)}
    assert parts == {*CHANGES, *LEFT_OUT}


@pytest.mark.parametrize("part", CHANGES)
@given(events=happenings(), by=randoms)
@settings(max_examples=60)
def test_a_change_of_one_part_is_found_and_named(part: str, events: list[Event], by: random.Random) -> None:
    name, change = CHANGES[part]
    profile, catalogue = state(events)
    other = copy.deepcopy(profile)
    assume(change(other, by))
    for one, two in ((profile, other), (other, profile)):
        told = between(one, two, catalogue)
        assert [line.split(":")[0] for line in told] == [name], told


@given(happenings(), randoms)
def test_a_state_equals_itself_under_other_handles(events: list[Event], by: random.Random) -> None:
    one, ids = state(events)
    other, other_ids = state(events, by.sample(KNOWN, len(KNOWN)))
    assert differences(one, other, ids.ids, other_ids.ids) == []


@given(happenings(), randoms)
def test_handles_alone_say_nothing(events: list[Event], by: random.Random) -> None:
    profile, catalogue = state(events)
    handles = {entry.item for entry in profile.recent} - {-1} | profile.seen.keys() | profile.shown.keys()
    assume(handles)
    renamed = [f"other {item_id}" for item_id in catalogue.ids]
    assert differences(profile, profile, catalogue.ids, renamed)


@given(happenings())
def test_what_depends_on_the_source_or_the_run_is_no_difference(events: list[Event]) -> None:
    profile, catalogue = state(events)
    other = copy.deepcopy(profile)
    other.fence, other.as_of, other.announced = {}, AsOf(9.0, "elsewhere", 9), 1e9
    other.ids, other.outbox, other.refused = EventIds(), [], {}
    other.waiting = [
        Waiting(99.0, wait.event._replace(offset=wait.event.offset + 7, raw=b"other bytes"))
        for wait in reversed(other.waiting)
    ]
    assert between(profile, other, catalogue) == []


@given(happenings())
def test_sums_may_differ_by_the_tolerance(events: list[Event]) -> None:
    profile, catalogue = state(events)
    other = copy.deepcopy(profile)
    for total in (other.long_term, other.disliked):
        if total is not None:
            total.total *= 1 + TOLERANCE / 10
            total.weight *= 1 - TOLERANCE / 10
    assert between(profile, other, catalogue) == []


def test_totals_that_cancel_out_are_equal_within_what_was_added() -> None:
    catalogue = catalogue_of(["i0"])
    catalogue.put("i1", -catalogue.vector(0))
    forth = [event(float(k), "view", f"i{k % 2}") for k in range(20)]
    one, other = (profile_after(arrived(log), catalogue) for log in (forth, forth[::-1]))
    assert between(one, other, catalogue) == []


def test_not_a_number_is_a_difference() -> None:
    profile, catalogue = state([event(1.0, "view", "i0")])
    other = copy.deepcopy(profile)
    assert other.long_term is not None
    other.long_term.total[0] = float("nan")
    assert between(profile, other, catalogue) == ["long_term: relative difference nan"]


def test_what_differs_is_named_and_many_are_counted() -> None:
    log: list[Any] = [event(float(k), "view", f"i{k}") for k in range(6)]
    one, catalogue = state(log)
    other, _ = state(log[:1])
    version, long_term, ring, seen = between(one, other, catalogue)
    assert version == "version: 6 in one, 1 in other"
    assert long_term.startswith("long_term: newest event at 5.0 in one, 0.0 in other, weight ")
    assert ring.startswith("ring: only in one view 'i1' at 1.0 (weight 1.0, digest ")
    assert ring.endswith(" and 2 more")
    assert seen == "seen: only in one 'i1' at 1.0, 'i2' at 2.0, 'i3' at 3.0 and 2 more"
