"""Repeats: a user's habits are known beyond the newest events, by how often and how lately they were met."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.items.catalogue import Catalogue
from recstream.items.statistics import ItemStatistics
from recstream.ranking.query import ItemHistory
from recstream.ranking.recommender import rank
from recstream.ranking.repeats import repeatable_items
from recstream.records.actions import DecodeRules, actions_with
from recstream.records.event import Event
from recstream.users.state import DAY_S, UserState
from tests.support.builders import RULES, arrived, catalogue_of, event, query, user_state_after
from tests.support.rules import ranking_rules
from tests.support.user_events import ITEMS, randoms, shuffled, user_events

MANY = [f"i{k}" for k in range(300)]


def order_of(user_state: UserState, catalogue: Catalogue) -> list[str]:
    """Ids of the items that may be repeated, the likeliest first."""
    items, weights = repeatable_items(query(user_state).history, catalogue.tiebreak)
    assert (np.diff(weights) <= 0.0).all()
    assert (weights > 0.0).all()
    return [catalogue.ids[item] for item in items.tolist()]


def habit(item_id: str, times: int, begin: float = 0.0) -> list[Event]:
    return [event(begin + DAY_S * k, "purchase", item_id) for k in range(times)]


def test_a_habit_outlives_hundreds_of_events_with_other_items() -> None:
    catalogue = catalogue_of(MANY)
    events = [
        *habit("i7", 30),
        *habit("i8", 9, begin=7.0),
        *[event(40 * DAY_S + k, "view", f"i{50 + k}") for k in range(200)],
    ]
    user_state = user_state_after(arrived(events), catalogue)
    assert not {7, 8} & {entry.item for entry in user_state.recent}
    assert order_of(user_state, catalogue)[0] == "i7"
    assert order_of(user_state, catalogue).index("i8") < 20
    (ranked,) = rank([query(user_state)], catalogue, ItemStatistics(2), ranking_rules(repeats=True, top_n=20))
    assert 7 in {one.item for one in ranked}


def test_of_items_met_equally_often_the_newest_comes_first() -> None:
    catalogue = catalogue_of(MANY)
    events = [event(float(k), "view", f"i{k}") for k in range(100)]
    wanted = [f"i{k}" for k in reversed(range(100))]
    assert order_of(user_state_after(arrived(events), catalogue), catalogue) == wanted


def test_what_was_bought_at_one_time_has_no_order() -> None:
    catalogue = catalogue_of(MANY)
    baskets = [event(DAY_S * day, "purchase", f"i{20 * day + k}") for day in range(3) for k in range(20)]
    items, weights = repeatable_items(
        query(user_state_after(arrived(baskets), catalogue)).history, catalogue.tiebreak
    )
    by_basket: dict[int, set[float]] = {0: set(), 1: set(), 2: set()}
    for item, weight in zip(items.tolist(), weights.tolist(), strict=True):
        by_basket[item // 20].add(weight)
    assert [len(of_basket) for of_basket in by_basket.values()] == [1, 1, 1]
    assert max(by_basket[0]) < max(by_basket[1]) < max(by_basket[2])


@given(user_events(max_size=40), randoms)
def test_neither_the_order_of_events_nor_that_of_handles_changes_what_is_repeated(
    events: list[Event], by: random.Random
) -> None:
    here, there = catalogue_of(ITEMS), catalogue_of(by.sample(ITEMS, len(ITEMS)))
    one = user_state_after(arrived(events), here)
    other = user_state_after(shuffled(events, by), there)
    assert order_of(one, here) == order_of(other, there)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(1, 4)), min_size=1), randoms)
def test_entries_may_stand_in_any_order(entries: list[tuple[int, int, int]], by: random.Random) -> None:
    tiebreak = np.linspace(1.0, 0.1, 6, dtype=np.float32)
    found = []
    for some in (entries, by.sample(entries, len(entries))):
        columns = [np.array(column) for column in zip(*some, strict=True)]
        history = ItemHistory(columns[0].astype(np.int32), columns[1].astype(float), columns[2].astype(float))
        items, weights = repeatable_items(history, tiebreak)
        assert set(items.tolist()) == set(columns[0].tolist())
        found.append(dict(zip(items.tolist(), weights.tolist(), strict=True)))
    assert found[0] == pytest.approx(found[1])


def test_what_the_user_turned_away_from_last_is_not_repeated() -> None:
    catalogue = catalogue_of(MANY)
    bad, forgiven = [*habit("i1", 3), event(9e6, "dislike", "i1")], [*habit("i2", 3)]
    events = [*bad, event(8e6, "dislike", "i2"), *forgiven, event(9e6 + 1, "view", "i2")]
    assert order_of(user_state_after(arrived(events), catalogue), catalogue) == ["i2"]


def test_recent_items_are_repeated_also_where_the_action_does_not_say_that_the_user_knows_them() -> None:
    rules = dataclasses.replace(RULES, decode=DecodeRules(actions=actions_with({}, {"view": False})))
    catalogue = catalogue_of(MANY)
    events = [event(1.0, "view", "i3"), event(2.0, "view", "i3"), event(3.0, "view", "i4")]
    user_state = user_state_after(arrived(events), catalogue, rules)
    assert not user_state.seen
    assert order_of(user_state, catalogue) == ["i3", "i4"]
