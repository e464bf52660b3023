"""The state of a user: order-free, exactly once, de-duplicated, and exact for events that waited."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.records.event import Event
from recstream.users.deduplication import digest_of
from recstream.users.state import AsOf, Barrier, Outcome, Refusal, UserState, UserStateRules, visit_key
from tests.support.builders import (
    RULES,
    arrived,
    assert_same_state,
    catalogue_of,
    event,
    user_state_after,
    view,
    visits_by_id,
)
from tests.support.user_events import ITEMS, TIGHT, randoms, shuffled, user_events


@given(user_events(), randoms, st.sampled_from([RULES, TIGHT]))
def test_arrival_order_does_not_change_the_state(
    events: list[Event], by: random.Random, rules: UserStateRules
) -> None:
    catalogue = catalogue_of(ITEMS)
    one = user_state_after(arrived(events), catalogue, rules)
    other = user_state_after(shuffled(events, by), catalogue, rules)
    assert_same_state(view(one, catalogue), view(other, catalogue))


@given(user_events(), randoms)
def test_the_order_of_handles_does_not_change_the_state(events: list[Event], by: random.Random) -> None:
    one, other = catalogue_of(ITEMS), catalogue_of(by.sample(ITEMS, len(ITEMS)))
    assert_same_state(
        view(user_state_after(arrived(events), one, TIGHT), one),
        view(user_state_after(arrived(events), other, TIGHT), other),
    )


@given(user_events())
def test_bounds_keep_the_newest(events: list[Event]) -> None:
    catalogue = catalogue_of(ITEMS)
    tight = user_state_after(arrived(events), catalogue, TIGHT)
    wide = user_state_after(arrived(events), catalogue)
    assert tight.recent == wide.recent[-TIGHT.recent :]
    assert tight.recent == sorted(tight.recent)
    for few, all_of_them in ((tight.seen, wide.seen), (tight.hidden, wide.hidden), (tight.shown, wide.shown)):
        newest = sorted(all_of_them.items(), key=lambda pair: (pair[1], catalogue.ids[pair[0]]))
        assert few == dict(newest[-TIGHT.history :])


def counts_by_hand(events: list[Event], rules: UserStateRules) -> tuple[dict[tuple[int, str], int], int]:
    """Days with the items that are kept, less their newest events, and the first day that counts."""
    known = [(one.ts, one.item_id or "") for one in events if rules.decode.actions[one.action].seen]
    newest: dict[str, float] = {}
    for ts, item_id in known:
        newest[item_id] = max(ts, newest.get(item_id, 0.0))
    in_order = sorted(newest, key=lambda item_id: (newest[item_id], item_id))
    left_out = in_order[: -rules.history]
    first = max((int(newest[item_id] // 86400) + 1 for item_id in left_out), default=0)
    days = Counter((int(ts // 86400), item_id) for ts, item_id in known)
    days.subtract((int(ts // 86400), item_id) for item_id, ts in newest.items())
    counted = sorted(key for key, count in days.items() if count and key[0] >= first)
    return {key: days[key] for key in counted[-rules.history :]}, first


@given(user_events(max_size=60), randoms, st.sampled_from([RULES, TIGHT]))
@settings(max_examples=200)
def test_it_is_known_how_often_the_user_dealt_with_an_item_on_which_day(
    events: list[Event], by: random.Random, rules: UserStateRules
) -> None:
    catalogue = catalogue_of(ITEMS)
    user_state = user_state_after(shuffled(events, by), catalogue, rules)
    counts = visits_by_id(user_state.earlier, catalogue.ids)
    assert (counts, user_state.counted_from) == counts_by_hand(events, rules)
    assert {item_id for _, item_id in counts} <= {catalogue.ids[item] for item in user_state.seen}


def test_events_are_counted_long_after_the_newest_ones_are_all_of_other_items() -> None:
    catalogue = catalogue_of([f"i{k}" for k in range(200)])
    habit = [event(86400.0 * k, "purchase", "i0") for k in range(12)]
    others = [event(86400.0 * 30 + k, "view", f"i{1 + k}") for k in range(150)]
    user_state = user_state_after(arrived([*habit, *others]), catalogue)
    assert all(entry.item != 0 for entry in user_state.recent)
    assert user_state.earlier == {visit_key(day, 0): 1 for day in range(11)}
    assert user_state.seen[0] == 86400.0 * 11


@given(user_events())
def test_words_are_kept_for_the_ring_and_nothing_else(events: list[Event]) -> None:
    user_state = user_state_after(arrived(events), catalogue_of(ITEMS), TIGHT)
    assert set(user_state.words) <= {entry.digest for entry in user_state.recent}


def test_of_two_equal_searches_the_words_outlive_the_first_that_is_forgotten() -> None:
    rules = dataclasses.replace(RULES, recent=2)
    events = [event(1.0, "search", text="jazz"), event(1.0, "search", text="jazz"), event(2.0, "view", "i0")]
    user_state = user_state_after(arrived(events), catalogue_of(ITEMS), rules)
    words = [entry for entry in user_state.recent if entry.digest & 1]
    assert len(words) == 1
    assert words[0].digest in user_state.words


@given(user_events(), randoms)
def test_an_event_id_counts_once(events: list[Event], by: random.Random) -> None:
    named = [one for one in events if one.event_id is not None]
    catalogue = catalogue_of(ITEMS)
    once = user_state_after(arrived(named), catalogue)
    twice = UserState("u1")
    again = shuffled(named + named, by)
    outcomes = [twice.observe(one, catalogue, RULES, 0.0) for one in again]
    assert outcomes.count(Outcome.DUPLICATE) == len(named)
    assert_same_state(view(once, catalogue), view(twice, catalogue))


@given(user_events())
def test_the_ids_of_the_newest_events_are_remembered(events: list[Event]) -> None:
    user_state = user_state_after(arrived(events), catalogue_of(ITEMS), TIGHT)
    named = sorted((one.ts, digest_of(one)) for one in events if one.event_id is not None)
    assert list(user_state.ids) == named[-TIGHT.dedup :]


def test_an_event_id_is_remembered_longer_than_the_event() -> None:
    rules = dataclasses.replace(RULES, recent=2, dedup=9)
    events = [event(float(k), "view", "i0", event_id=f"e{k}") for k in range(8)]
    catalogue = catalogue_of(ITEMS)
    user_state = user_state_after(arrived(events), catalogue, rules)
    again = events[0]._replace(offset=99)
    assert user_state.observe(again, catalogue, rules, 0.0) is Outcome.DUPLICATE


def test_the_beginning_of_a_log_counts_after_its_end() -> None:
    catalogue = catalogue_of(ITEMS)
    end = [event(float(at), "view", "i0", offset=at) for at in (7, 9)]
    live = [one._replace(partition=one.partition._replace(since=5)) for one in end]
    user_state = user_state_after(live, catalogue)
    whole = [event(float(at), "view", "i0", offset=at) for at in (1, 4, 7, 9)]
    outcomes = [user_state.observe(one, catalogue, RULES, 0.0).value for one in whole]
    assert outcomes == ["applied", "applied", "absorbed", "absorbed"]


def test_a_refused_event_is_refused_again_when_it_is_read_again() -> None:
    rules = dataclasses.replace(RULES, max_waiting=0)
    catalogue, user_state = catalogue_of([]), UserState("u1")
    one = event(1.0, "view", "i0", offset=4)
    assert user_state.observe(one, catalogue, rules, 0.0) is Outcome.REFUSED
    assert user_state.observe(one, catalogue, rules, 0.0) is Outcome.ABSORBED
    user_state.refused["events/0@1", 4] = Refusal(Barrier("recommend", 1), "unknown_item")
    assert user_state.observe(one, catalogue, rules, 0.0) is Outcome.REFUSED


def test_events_without_an_id_are_never_duplicates() -> None:
    events = arrived([event(1.0, "view", "i0"), event(1.0, "view", "i0")])
    assert user_state_after(events, catalogue_of(ITEMS)).version == 2


@given(user_events(with_ids=False))
def test_an_offset_that_was_read_is_absorbed_and_changes_nothing(events: list[Event]) -> None:
    catalogue = catalogue_of(ITEMS)
    events = arrived(events)
    user_state = user_state_after(events, catalogue)
    before, offset_ranges, as_of = (
        view(user_state, catalogue),
        dict(user_state.offset_ranges),
        user_state.as_of,
    )
    again = [user_state.observe(one, catalogue, RULES, 0.0) for one in events]
    assert set(again) == {Outcome.ABSORBED}
    assert_same_state(before, view(user_state, catalogue))
    assert (user_state.offset_ranges, user_state.as_of) == (offset_ranges, as_of)


def test_offset_ranges_are_kept_by_the_identity_of_a_partition() -> None:
    catalogue = catalogue_of(ITEMS)
    user_state = user_state_after([event(1.0, "view", "i0", offset=7)], catalogue)
    anew = event(2.0, "view", "i1", offset=3)
    anew = anew._replace(partition=anew.partition._replace(identity="events/0@re-created"))
    assert user_state.observe(anew, catalogue, RULES, 0.0) is Outcome.APPLIED
    assert user_state.offset_ranges == {"events/0@1": [0, 7], "events/0@re-created": [0, 3]}


def test_a_duplicate_is_absorbed() -> None:
    catalogue = catalogue_of(ITEMS)
    user_state = UserState("u1")
    outcomes = [
        user_state.observe(event(1.0, "view", "i0", event_id="e", offset=at), catalogue, RULES, 0.0)
        for at in (3, 4, 4)
    ]
    assert outcomes == [Outcome.APPLIED, Outcome.DUPLICATE, Outcome.ABSORBED]


@given(user_events())
def test_the_version_counts_applied_events(events: list[Event]) -> None:
    catalogue, user_state = catalogue_of(ITEMS), UserState("u1")
    for applied, one in enumerate(arrived(events)):
        assert user_state.version == applied
        assert user_state.observe(one, catalogue, RULES, 0.0) is Outcome.APPLIED


@given(user_events(), randoms, st.sets(st.sampled_from(ITEMS)), st.sampled_from([RULES, TIGHT]))
@settings(max_examples=200)
def test_an_event_that_waited_counts_as_if_its_item_had_been_known(
    events: list[Event], by: random.Random, late: set[str], rules: UserStateRules
) -> None:
    known = catalogue_of(ITEMS)
    wanted = view(user_state_after(arrived(events), known, rules), known)
    catalogue = catalogue_of([item for item in ITEMS if item not in late])
    user_state = UserState("u1")
    coming = sorted(late)
    by.shuffle(coming)
    for one in shuffled(events, by):
        if coming and by.random() < 0.5:
            item_id = coming.pop()
            catalogue.put(item_id, known.vector(known.handle(item_id) or 0))
            if by.random() < 0.5:
                user_state.settle(catalogue, rules, now=0.0, wait_s=60.0)
        outcome = user_state.observe(one, catalogue, rules, now=5.0)
        assert (outcome is Outcome.WAITING) == (one.item_id in coming)
    for item_id in coming:
        catalogue.put(item_id, known.vector(known.handle(item_id) or 0))
    user_state.settle(catalogue, rules, now=0.0, wait_s=60.0)
    assert not user_state.waiting
    assert_same_state(view(user_state, catalogue), wanted)


def test_a_waiting_event_is_known_by_its_id() -> None:
    catalogue, user_state = catalogue_of([]), UserState("u1")
    one, again = arrived([event(1.0, "view", "i0", event_id="e"), event(1.0, "view", "i0", event_id="e")])
    assert user_state.observe(one, catalogue, RULES, 0.0) is Outcome.WAITING
    assert user_state.observe(again, catalogue, RULES, 0.0) is Outcome.DUPLICATE


def test_what_waited_too_long_is_given_up_with_its_bytes_and_forgotten() -> None:
    catalogue, user_state = catalogue_of([]), UserState("u1")
    for at, one in enumerate(arrived([event(1.0, "view", "i0", event_id="e"), event(2.0, "view", "i1")])):
        user_state.observe(one, catalogue, RULES, now=100.0 + at)
    applied, given_up = user_state.settle(catalogue, RULES, now=160.0, wait_s=60.0)
    assert (applied, [one.raw for one in given_up]) == ([], [b"u1 1.0 view i0"])
    assert [waiting.event.item_id for waiting in user_state.waiting] == ["i1"]
    again = event(1.0, "view", "i0", event_id="e", offset=9)
    assert user_state.observe(again, catalogue, RULES, 0.0) is Outcome.WAITING


def test_no_more_events_wait_than_allowed() -> None:
    rules = dataclasses.replace(RULES, max_waiting=2)
    catalogue, user_state = catalogue_of([]), UserState("u1")
    events = arrived([event(float(k), "view", f"new{k}") for k in range(3)])
    outcomes = [user_state.observe(one, catalogue, rules, 0.0) for one in events]
    assert outcomes == [Outcome.WAITING, Outcome.WAITING, Outcome.REFUSED]
    assert len(user_state.waiting) == 2
    assert user_state.absorbed(events[2])


def test_a_refused_event_id_may_come_again() -> None:
    rules = dataclasses.replace(RULES, max_waiting=0)
    catalogue, user_state = catalogue_of([]), UserState("u1")
    one, again = arrived([event(1.0, "view", "i0", event_id="e")] * 2)
    assert user_state.observe(one, catalogue, rules, 0.0) is Outcome.REFUSED
    catalogue.put("i0", catalogue_of(["i0"]).vector(0))
    assert user_state.observe(again, catalogue, rules, 0.0) is Outcome.APPLIED


def test_as_of_is_the_last_to_arrive_even_when_it_is_late() -> None:
    events = [event(50.0, "view", "i0", offset=1), event(10.0, "view", "i1", offset=2)]
    assert user_state_after(events, catalogue_of(ITEMS)).as_of == AsOf(10.0, "events/0", 2)


def test_as_of_does_not_step_back_when_a_waiting_event_counts() -> None:
    catalogue, user_state = catalogue_of(["i0"]), UserState("u1")
    user_state.observe(event(1.0, "view", "new", offset=1), catalogue, RULES, 0.0)
    user_state.observe(event(2.0, "view", "i0", offset=2), catalogue, RULES, 0.0)
    catalogue.put("new", catalogue.vector(0))
    user_state.settle(catalogue, RULES, now=0.0, wait_s=60.0)
    assert (user_state.as_of, user_state.version) == (AsOf(2.0, "events/0", 2), 2)


@pytest.mark.parametrize(
    ("one", "liked", "disliked", "seen", "hidden", "shown"),
    [
        (event(1.0, "view", "i0"), 1.0, None, True, False, False),
        (event(1.0, "purchase", "i0"), 5.0, None, True, False, False),
        (event(1.0, "rate", "i0", rating=5.0), 2.0, None, True, False, False),
        (event(1.0, "rate", "i0", rating=3.0), None, None, True, False, False),
        (event(1.0, "rate", "i0", rating=1.0), None, 2.0, True, False, False),
        (event(1.0, "comment", "i0", text="Boring"), None, 1.0, True, False, False),
        (event(1.0, "comment", "i0", text="Great", rating=1.0), None, 1.0, True, False, False),
        (event(1.0, "skip", "i0"), None, 0.5, False, False, False),
        (event(1.0, "dislike", "i0"), None, 2.0, True, False, False),
        (event(1.0, "hide", "i0"), None, 3.0, True, True, False),
        (event(1.0, "impression", "i0"), None, None, False, False, True),
        (event(1.0, "search", text="jazz"), None, None, False, False, False),
    ],
)
def test_each_action_does_what_the_design_says(
    one: Event, liked: float | None, disliked: float | None, seen: bool, hidden: bool, shown: bool
) -> None:
    user_state = user_state_after([one], catalogue_of(["i0"]))
    weights = [
        None if total is None else total.weight for total in (user_state.long_term, user_state.disliked)
    ]
    assert weights == [liked, disliked]
    assert [bool(s) for s in (user_state.seen, user_state.hidden, user_state.shown)] == [seen, hidden, shown]


def test_engaged_items_are_distinct_newest_first_and_never_turned_away_from() -> None:
    actions = [("view", "i0"), ("view", "i1"), ("dislike", "i2"), ("view", "i0"), ("impression", "i3")]
    events = arrived([event(float(k), action, item) for k, (action, item) in enumerate(actions)])
    catalogue = catalogue_of(ITEMS)
    user_state = user_state_after(events, catalogue)
    assert [catalogue.ids[item] for item in user_state.engaged(9)] == ["i0", "i1"]
    assert [catalogue.ids[item] for item in user_state.engaged(1)] == ["i0"]
