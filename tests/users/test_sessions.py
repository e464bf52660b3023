"""Sessions: recent events parted by gaps of event time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.users.sessions import NO_ITEM, RecentEvent, Session, sessions_of
from tests.support.builders import arrived, catalogue_of, event, user_state_after

GAP = 1800.0
ITEMS = ["a", "b", "c"]
times = st.lists(st.integers(0, 60).map(lambda k: k * 600.0) | st.floats(0.0, 40_000.0), max_size=30)


def events_at(stamps: list[float]) -> list[RecentEvent]:
    return [RecentEvent(ts, 2 * k + 2, k % 5, 1.0, "view") for k, ts in enumerate(sorted(stamps))]


@given(times)
def test_sessions_are_the_ring_cut_at_its_gaps_and_nowhere_else(stamps: list[float]) -> None:
    recent = events_at(stamps)
    sessions = sessions_of(recent, GAP)
    assert sum(session.events for session in sessions) == len(recent)
    covered = [[one.ts for one in recent if s.start <= one.ts <= s.end] for s in sessions]
    assert [ts for run in covered for ts in run] == sorted(stamps)
    for session, run in zip(sessions, covered, strict=True):
        assert (session.events, session.start, session.end) == (len(run), run[0], run[-1])
        assert all(later - earlier <= GAP for earlier, later in pairwise(run))
    assert all(later.start - earlier.end > GAP for earlier, later in pairwise(sessions))


@given(times, st.randoms(use_true_random=False))
def test_arrival_order_does_not_matter(stamps: list[float], by: random.Random) -> None:
    events = [event(ts, "view", ITEMS[k % 3], event_id=f"e{k}") for k, ts in enumerate(stamps)]
    other = list(events)
    by.shuffle(other)
    catalogue = catalogue_of(ITEMS)
    one = sessions_of(user_state_after(arrived(events), catalogue).recent, GAP)
    assert one == sessions_of(user_state_after(arrived(other), catalogue).recent, GAP)


@pytest.mark.parametrize(("apart", "sessions"), [(GAP - 1, 1), (GAP, 1), (GAP + 1, 2)])
def test_events_exactly_one_gap_apart_are_one_session(apart: float, sessions: int) -> None:
    assert len(sessions_of(events_at([0.0, apart]), GAP)) == sessions


def test_an_event_between_two_sessions_joins_them() -> None:
    assert len(sessions_of(events_at([0.0, 3000.0]), GAP)) == 2
    assert len(sessions_of(events_at([0.0, 1500.0, 3000.0]), GAP)) == 1


def test_a_comment_is_one_event_though_it_has_two_entries() -> None:
    catalogue = catalogue_of(ITEMS)
    events = [event(1.0, "comment", "a", text="great"), event(2.0, "search", text="jazz")]
    user_state = user_state_after(arrived(events), catalogue)
    assert len(user_state.recent) == 3
    (session,) = sessions_of(user_state.recent, GAP)
    assert session == Session(1.0, 2.0, 2, {"comment": 1, "search": 1}, (0,))


def test_items_are_distinct_in_order_of_appearance() -> None:
    recent = [RecentEvent(float(k), 2 * k, item, 1.0, "view") for k, item in enumerate([7, 3, NO_ITEM, 7, 9])]
    assert sessions_of(recent, GAP)[0].items == (7, 3, 9)


def test_nothing_recent_is_no_session() -> None:
    assert sessions_of([], GAP) == []
