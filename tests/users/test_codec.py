"""User rows: nothing of a state is lost, and nothing of a process is in it."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.items.catalogue import Catalogue
from recstream.items.codec import RowFormatError, encode_state
from recstream.items.statistics import ItemStatistics
from recstream.ranking.recommender import rank
from recstream.records.event import Event
from recstream.records.item import Item
from recstream.users.codec import OPEN_SESSION, UNCONFIRMED, WAITING, user_row, user_state_of
from recstream.users.sessions import Session
from recstream.users.state import (
    Barrier,
    Outcome,
    Refusal,
    Unconfirmed,
    UserState,
    UserStateRules,
    visit_of,
)
from tests.support.builders import (
    RULES,
    arrived,
    assert_same_state,
    catalogue_of,
    event,
    popular,
    query,
    unit,
    user_state_after,
    view,
)
from tests.support.rules import ranking_rules
from tests.support.strategies import hostile_ids
from tests.support.user_events import ITEMS, TIGHT, shuffled, user_events

GOLDEN = Path(__file__).parent.parent / "golden"
randoms = st.randoms(use_true_random=False)


def same_waiting(one: UserState, other: UserState) -> bool:
    def plain(user_state: UserState) -> list[tuple[float, Event, bytes | None]]:
        return [
            (at, waits._replace(vector=None), None if waits.vector is None else waits.vector.tobytes())
            for at, waits in user_state.waiting
        ]

    return plain(one) == plain(other)


@given(user_events(), st.sets(st.sampled_from(ITEMS)), randoms, st.sampled_from([RULES, TIGHT]))
@settings(max_examples=150)
def test_a_state_comes_back_in_a_process_with_other_handles(
    events: list[Event], unknown: set[str], by: random.Random, rules: object
) -> None:
    here = catalogue_of([item for item in ITEMS if item not in unknown])
    there = catalogue_of(by.sample(here.ids, len(here.ids)))
    user_state = user_state_after(arrived(events), here, rules)  # type: ignore[arg-type]  # sampled_from widens
    user_state.announced = 77.5
    back = user_state_of(user_row(user_state, here, 32), there)
    assert_same_state(view(back, there), view(user_state, here))
    assert same_waiting(back, user_state)
    assert (back.offset_ranges, back.as_of, back.announced) == (
        user_state.offset_ranges,
        user_state.as_of,
        77.5,
    )
    assert back.ids == user_state.ids
    assert user_row(back, there, 32).state == user_row(user_state, here, 32).state


@given(user_events(), st.integers(0, 24), randoms)
def test_storing_in_between_changes_nothing(events: list[Event], cut: int, by: random.Random) -> None:
    here, there = catalogue_of(ITEMS), catalogue_of(by.sample(ITEMS, len(ITEMS)))
    events = shuffled(events, by)
    half = user_state_of(user_row(user_state_after(events[:cut], here, TIGHT), here, 32), there)
    for one in events[cut:]:
        half.observe(one, there, TIGHT, 0.0)
    assert_same_state(view(half, there), view(user_state_after(events, here, TIGHT), here))


@given(user_events(), randoms)
@settings(max_examples=50)
def test_a_restored_user_gets_the_same_list(events: list[Event], by: random.Random) -> None:
    here = catalogue_of(ITEMS)
    there = catalogue_of(by.sample(ITEMS, len(ITEMS)))
    user_state = user_state_after(arrived(events), here)
    back = user_state_of(user_row(user_state, here, 32), there)
    one, other = (
        [(catalogue.ids[r.item], pytest.approx(r.score, abs=1e-5)) for r in ranked]
        for catalogue, state in ((here, user_state), (there, back))
        for ranked in rank([query(state)], catalogue, ItemStatistics(4), ranking_rules(repeats=True))
    )
    assert one == other


@given(hostile_ids, hostile_ids, hostile_ids)
def test_any_legal_id_survives(user: str, item_id: str, event_id: str) -> None:
    catalogue = catalogue_of([item_id])
    events = [
        event(1.0, "view", item_id, event_id=event_id, offset=0),
        event(2.0, "view", "?" + item_id, offset=1),
    ]
    user_state = user_state_after([one._replace(user_id=user) for one in events], catalogue, user=user)
    back = user_state_of(user_row(user_state, catalogue, 32), catalogue)
    assert back.user_id == user
    assert_same_state(view(back, catalogue), view(user_state, catalogue))
    assert same_waiting(back, user_state)


def test_an_empty_state_comes_back() -> None:
    catalogue = catalogue_of([])
    row = user_row(UserState("u1"), catalogue, 32)
    assert (row.version, row.events, row.updated_at) == (0, 0, 0.0)
    assert not row.vector.any()
    back = user_state_of(row, catalogue)
    assert_same_state(view(back, catalogue), view(UserState("u1"), catalogue))
    assert (back.as_of, back.announced) == (None, float("-inf"))


def test_an_item_record_that_an_event_carries_is_not_stored_with_it() -> None:
    log = event(1.0).partition
    item = Item("new", "New", None, (), (), None, True, False, None, log, 0, b"{}")
    one = event(1.0, "rate", "new", rating=4.0, event_id="e")._replace(item=item, rec=(3, 1))
    user_state = user_state_after([one], catalogue_of([]))
    back = user_state_of(user_row(user_state, catalogue_of([]), 32), catalogue_of([]))
    assert back.waiting[0].event == one._replace(item=None)
    assert type(back.waiting[0].event.rec) is tuple


def test_after_a_restart_a_waiting_event_is_still_known_by_its_id() -> None:
    catalogue = catalogue_of([])
    user_state = user_state_after([event(1.0, "view", "new", event_id="e", offset=1)], catalogue)
    back = user_state_of(user_row(user_state, catalogue, 32), catalogue)
    again = event(1.0, "view", "new", event_id="e", offset=2)
    assert back.observe(again, catalogue, RULES, 0.0) is Outcome.DUPLICATE


def test_items_that_left_the_catalogue_stay_in_the_state_and_off_the_list() -> None:
    here = catalogue_of(["a", "gone"])
    user_state = user_state_after(arrived([event(1.0, "view", "a"), event(2.0, "view", "gone")]), here)
    there = catalogue_of(["b", "a"])
    back = user_state_of(user_row(user_state, here, 32), there)
    assert {there.ids[item] for item in back.seen} == {"a", "gone"}
    liked = popular({handle: 1 for handle in range(len(there))})
    (ranked,) = rank([query(back)], there, liked, ranking_rules())
    assert [there.ids[one.item] for one in ranked] == ["b"]


def test_the_searchable_vector_is_the_unit_long_term_taste() -> None:
    catalogue = catalogue_of(["a"])
    row = user_row(user_state_after([event(1.0, "like", "a")], catalogue), catalogue, 32)
    np.testing.assert_allclose(row.vector, unit("a"), atol=1e-6)
    assert row.vector.dtype == np.float32


@pytest.mark.parametrize(("state", "named"), [(b"", "layout nothing"), (b"\x09abc", "layout 9")])
def test_a_state_of_another_layout_is_refused_with_the_mend(state: bytes, named: str) -> None:
    catalogue = catalogue_of(["a"])
    row = user_row(UserState("u1"), catalogue, 32)._replace(state=state)
    with pytest.raises(RowFormatError, match=rf"user 'u1' has {named}.*recstream backfill"):
        user_state_of(row, catalogue)


def golden_state() -> tuple[UserState, Catalogue]:
    """The user that the golden state was written of; never change this, add another."""
    catalogue = catalogue_of(["a", "b", "c"])
    rows = [
        event(1000.0, "like", "a", event_id="e1"),
        event(1060.5, "comment", "b", text="great film", rating=4.5, event_id="e2"),
        event(1030.0, "search", text="space travel"),
        event(1100.0, "dislike", "c", event_id="e3"),
        event(1110.0, "hide", "c", partition="old.jsonl"),
        event(1120.0, "impression", "a"),
        event(1130.0, "purchase", "unknown é", event_id="e4"),
    ]
    user_state = user_state_after(arrived(rows), catalogue)
    user_state.announced = 500.0
    return user_state, catalogue


def second_golden_state() -> tuple[UserState, Catalogue]:
    """The same for layout 2: with output that is not confirmed, and a log read from its middle."""
    user_state, catalogue = golden_state()
    late = event(990.0, "view", "b", partition="events/1", offset=40)
    late = late._replace(partition=late.partition._replace(since=33))
    user_state.observe(late, catalogue, RULES, now=0.0)
    given_up = event(1.0, "like", "never", event_id="e9", offset=2)
    user_state.outbox = [
        Unconfirmed(Barrier("recommend", 7), None),
        Unconfirmed(Barrier("recommend", 8), given_up),
        Unconfirmed(Barrier("recommend", 9), Session(900.0, 990.0, 2, {"view": 2}, (1, 0))),
    ]
    user_state.refused = {("events/0@1", 3): Refusal(Barrier("backfill-batch", 9), "too_many_waiting")}
    return user_state, catalogue


def third_golden_state() -> tuple[UserState, Catalogue]:
    """The same for layout 3: with items that the user came back to on several days."""
    user_state, catalogue = second_golden_state()
    again = [event(86400.0 * day, "purchase", item) for day in (1, 5, 9) for item in "aab"]
    for at, one in enumerate(again):
        user_state.observe(one._replace(offset=100 + at), catalogue, RULES, now=0.0)
    return user_state, catalogue


def stored(layout: int) -> bytes:
    return bytes.fromhex((GOLDEN / f"user_state_v{layout}.hex").read_text())


def test_a_state_of_layout_1_keeps_loading() -> None:
    user_state, catalogue = golden_state()
    row = user_row(user_state, catalogue, 32)._replace(state=stored(1))
    back = user_state_of(row, catalogue)
    assert set(back.ids) >= set(user_state.ids), (
        "of all recent events: the state does not say which have an id"
    )
    back.ids = user_state.ids
    assert_same_state(view(back, catalogue), view(user_state, catalogue))
    assert same_waiting(back, user_state)
    assert back.offset_ranges == user_state.offset_ranges
    assert (back.as_of, back.announced) == (user_state.as_of, 500.0)
    assert (back.outbox, back.refused) == ([], {})


def test_a_state_of_layout_2_keeps_loading() -> None:
    user_state, catalogue = second_golden_state()
    back = user_state_of(user_row(user_state, catalogue, 32)._replace(state=stored(2)), catalogue)
    assert_same_state(view(back, catalogue), view(user_state, catalogue))
    assert same_waiting(back, user_state)
    assert (back.offset_ranges, back.ids, back.as_of) == (
        user_state.offset_ranges,
        user_state.ids,
        user_state.as_of,
    )
    assert (back.outbox, back.refused) == (user_state.outbox, user_state.refused)
    assert back.offset_ranges["events/1@1"] == [33, 40]


def test_a_state_of_layout_3_keeps_loading() -> None:
    user_state, catalogue = third_golden_state()
    back = user_state_of(user_row(user_state, catalogue, 32)._replace(state=stored(3)), catalogue)
    assert_same_state(view(back, catalogue), view(user_state, catalogue))
    assert len(back.earlier) > 5


@given(user_events(), st.sampled_from([RULES, TIGHT]))
def test_a_state_of_layout_2_counts_the_recent_events_that_it_holds(
    events: list[Event], rules: UserStateRules
) -> None:
    """All of them where the user had no more; and what was given up stays given up."""
    catalogue = catalogue_of(ITEMS)
    user_state = user_state_after(arrived(events), catalogue, rules)
    row = user_row(user_state, catalogue, 32)
    before = encode_state(2, msgspec.msgpack.decode(row.state[1:])[:-2])
    back = user_state_of(row._replace(state=before), catalogue)
    known = {entry.item for entry in user_state.recent}
    if rules is RULES:
        assert_same_state(view(back, catalogue), view(user_state, catalogue))
    assert {visit_of(key)[1] for key in back.earlier} <= known & user_state.seen.keys()


def test_a_row_says_why_to_come_back_to_its_user() -> None:
    catalogue = catalogue_of(["a"])
    user_state = user_state_after([event(5.0, "view", "a")], catalogue)
    assert user_row(user_state, catalogue, 32).unfinished == 0
    assert user_row(user_state, catalogue, 32, sessions=True).unfinished == OPEN_SESSION
    user_state.announced = 5.0
    assert user_row(user_state, catalogue, 32, sessions=True).unfinished == 0
    user_state.outbox = [Unconfirmed(Barrier("recommend", 7), None)]
    user_state.observe(event(6.0, "view", "new", offset=1), catalogue, RULES, now=0.0)
    assert user_row(user_state, catalogue, 32).unfinished == WAITING | UNCONFIRMED


def test_what_is_written_today_is_what_the_golden_state_says() -> None:
    """Another layout under the same first byte would be read wrongly by the version before."""
    user_state, catalogue = third_golden_state()
    state = user_row(user_state, catalogue, 32).state
    written = stored(3)
    assert (state[0], len(state)) == (written[0], len(written))
    assert state == written
