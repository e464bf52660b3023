"""Lists: what is on them, in which order and why."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.items.catalogue import Catalogue
from recstream.items.statistics import Interaction, ItemStatistics
from recstream.ranking.kernels.structs import PER_ITEM, TEXT
from recstream.ranking.query import Query
from recstream.ranking.recommender import RankedItem, rank
from recstream.ranking.signals.table import SIGNALS
from recstream.records.arrays import Vector
from recstream.records.event import Event
from recstream.users.state import UserState
from tests.support.builders import (
    DIM,
    RULES,
    arrived,
    catalogue_of,
    event,
    popular,
    query,
    unit,
    user_state_after,
)
from tests.support.rules import ranking_rules

TOP = ranking_rules(top_n=5)


class World(NamedTuple):
    """A catalogue with what is known of it, and the users who ask."""

    catalogue: Catalogue
    statistics: ItemStatistics
    queries: list[Query]
    user_states: list[UserState]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Items, some unavailable or only heard of; users with all kinds of events; pairs and popularity."""
    count = draw(st.integers(1, 14))
    names = [f"i{k}" for k in range(count)]
    catalogue = Catalogue(DIM)
    for name in names:
        fate = draw(st.sampled_from(["there", "there", "there", "off", "ghost", "deleted"]))
        if fate == "ghost":
            catalogue.intern(name)
        else:
            # few directions, so that there are ties
            vector = np.zeros(DIM, np.float32) if fate == "deleted" else unit(draw(st.integers(0, 4)))
            catalogue.put(name, vector, available=fate == "there")
    known = [name for name in names if catalogue.handle(name) is not None]
    statistics = ItemStatistics(draw(st.sampled_from([2, 8])))
    for _ in range(draw(st.integers(0, 12))):
        item = draw(st.integers(0, count - 1))
        previous = draw(st.lists(st.integers(0, count - 1), unique=True, max_size=4))
        statistics.count([Interaction(item, tuple(p for p in previous if p != item))])
    user_states = []
    for k in range(draw(st.integers(1, 5))):
        events: list[Event] = []
        for at in range(draw(st.integers(0, 8)) if known else 0):
            action = draw(st.sampled_from(["view", "rate", "search", "comment", "dislike", "hide", "skip"]))
            text = draw(st.sampled_from(["great", "jazz"])) if action in ("search", "comment") else None
            about = None if action == "search" else draw(st.sampled_from(known))
            rating = 3.0 if action == "rate" else None
            events.append(event(float(at), action, about, text=text, rating=rating, user=f"u{k}"))
        user_states.append(user_state_after(arrived(events), catalogue, user=f"u{k}"))
    return World(catalogue, statistics, [query(user_state) for user_state in user_states], user_states)


@given(worlds(), st.integers(1, 20), st.booleans())
@settings(max_examples=200)
def test_a_list_holds_what_may_be_shown_best_first(world: World, n: int, repeats: bool) -> None:
    catalogue = world.catalogue
    lists = rank(world.queries, catalogue, world.statistics, ranking_rules(top_n=n, repeats=repeats))
    for user_state, ranked in zip(world.user_states, lists, strict=True):
        barred = set(user_state.hidden) | (set() if repeats else set(user_state.seen))
        free = [row for row in range(len(catalogue)) if catalogue.available[row] and row not in barred]
        touched = [row for row in free if world.statistics.popularity(len(catalogue))[row] > 0.0]
        assert min(n, len(touched)) <= len(ranked) <= min(n, len(free))
        assert {one.item for one in ranked} <= set(free)
        assert len({one.item for one in ranked}) == len(ranked)
        assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


@given(worlds())
@settings(max_examples=200)
def test_signals_add_up_to_the_score_and_nothing_is_nan(world: World) -> None:
    for ranked in rank(world.queries, world.catalogue, world.statistics, TOP):
        for one in ranked:
            assert math.isfinite(one.score)
            assert set(one.signals) <= {*SIGNALS, "other"}
            assert sum(one.signals.values()) == pytest.approx(one.score, abs=1e-4)


@given(worlds())
@settings(max_examples=200)
def test_a_list_does_not_depend_on_the_other_queries(world: World) -> None:
    together = rank(world.queries, world.catalogue, world.statistics, TOP)
    for one, ranked in zip(world.queries, together, strict=True):
        (alone,) = rank([one], world.catalogue, world.statistics, TOP)
        assert [r.score for r in alone] == pytest.approx([r.score for r in ranked], abs=1e-5)
        for mine, theirs in zip(alone, ranked, strict=True):
            if mine.item != theirs.item:  # only where BLAS rounding decides
                assert mine.score == pytest.approx(theirs.score, abs=1e-5)


def test_many_queries_are_ranked_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = catalogue_of([f"i{k}" for k in range(60)])
    statistics = popular({k: k % 7 for k in range(60)})
    user_states = [
        user_state_after(arrived([event(1.0, "like", f"i{k % 60}", user=f"u{k}")]), catalogue, user=f"u{k}")
        for k in range(300)
    ]
    queries = [query(user_state) for user_state in user_states]
    lists = rank(queries, catalogue, statistics, TOP)
    monkeypatch.setattr("recstream.ranking.features._BLOCK_FLOATS", 1)
    by_one = rank(queries, catalogue, statistics, TOP)
    assert [[one.item for one in ranked] for ranked in lists] == [
        [one.item for one in ranked] for ranked in by_one
    ]


@given(worlds())
def test_causes_are_the_users_own_items_and_at_most_two(world: World) -> None:
    for one, ranked in zip(
        world.queries, rank(world.queries, world.catalogue, world.statistics, TOP), strict=True
    ):
        for item in ranked:
            assert len(set(item.because)) == len(item.because) <= 2
            assert set(item.because) <= set(one.recent.tolist())


def near(direction: str, by: str) -> Vector:
    vector = 2 * unit(direction) + unit(by)
    row: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return row


GENRES = ("jazz", "war", "tea", "law")


def genre_world() -> Catalogue:
    catalogue = Catalogue(DIM)
    for genre in GENRES:
        for k in range(10):
            catalogue.put(f"{genre}{k}", near(genre, f"{genre}{k}"))
    return catalogue


def listed(
    catalogue: Catalogue, *events: Event, statistics: ItemStatistics | None = None, n: int = 5
) -> list[str]:
    user_state = user_state_after(arrived(list(events)), catalogue)
    (ranked,) = rank([query(user_state)], catalogue, ItemStatistics(8), ranking_rules(top_n=n))
    return [catalogue.ids[one.item] for one in ranked]


def place(catalogue: Catalogue, genre: str, *events: Event) -> float:
    """Mean place of a genre's items in the whole order."""
    order = listed(catalogue, *events, n=len(catalogue))
    return float(np.mean([at for at, name in enumerate(order) if name.startswith(genre)]))


@pytest.mark.parametrize("genre", GENRES)
def test_a_user_of_one_genre_gets_that_genre(genre: str) -> None:
    got = listed(genre_world(), *(event(float(k), "like", f"{genre}{k}") for k in range(4)))
    assert all(name.startswith(genre) for name in got)


def test_a_search_moves_the_list_toward_its_words() -> None:
    catalogue, base = genre_world(), [event(1.0, "view", "war0")]
    search = event(2.0, "search", text="tea")
    assert place(catalogue, "tea", *base, search) < place(catalogue, "tea", *base)
    assert listed(catalogue, search)[0].startswith("tea")


def test_a_dislike_moves_the_list_away() -> None:
    catalogue, base = genre_world(), [event(1.0, "view", "war0"), event(2.0, "view", "law0")]
    dislike = event(3.0, "dislike", "war1")
    assert place(catalogue, "war", *base, dislike) > place(catalogue, "war", *base)


def test_the_newest_events_weigh_most() -> None:
    catalogue = genre_world()
    events = [event(float(k), "view", f"war{k}") for k in range(5)]
    events += [event(float(5 + k), "view", f"tea{k}") for k in range(5)]
    assert listed(catalogue, *events, n=3)[0].startswith("tea")


def test_what_followed_the_users_last_item_comes_first_and_says_why() -> None:
    catalogue = genre_world()
    last, next_one = catalogue.handle("war0") or 0, catalogue.handle("law9") or 0
    statistics = ItemStatistics(8)
    statistics.count([Interaction(next_one, (last,))] * 5)
    user_state = user_state_after(arrived([event(1.0, "view", "war0")]), catalogue)
    (ranked,) = rank([query(user_state)], catalogue, statistics, TOP)
    assert (ranked[0].item, ranked[0].because) == (next_one, (last,))
    assert {"followed", "together"} <= set(ranked[0].signals)


def test_the_cause_of_a_text_match_is_the_item_it_is_like() -> None:
    catalogue = genre_world()
    events = arrived([event(1.0, "view", "war0"), event(2.0, "view", "tea0")])
    (ranked,) = rank(
        [query(user_state_after(events, catalogue))], catalogue, ItemStatistics(8), ranking_rules(top_n=18)
    )
    for one in ranked:
        genre = catalogue.ids[one.item].rstrip("0123456789")
        if genre in ("war", "tea"):
            assert catalogue.ids[one.because[0]] == f"{genre}0"


def test_a_cold_user_gets_what_is_popular_lately() -> None:
    catalogue = genre_world()
    old, new = catalogue.handle("law3") or 0, catalogue.handle("tea4") or 0
    statistics = popular({row: 1 for row in range(len(catalogue))} | {old: 30})
    statistics.count([Interaction(new, ())] * 5, ticks_each=1000.0)
    (ranked,) = rank([query(UserState("nobody"))], catalogue, statistics, TOP)
    assert ranked[0].item == new
    assert ranked[0].because == ()
    assert not set(ranked[0].signals) & {*TEXT, *PER_ITEM, "repeat", "passed_over"}  # nobody has said a thing
    assert len(ranked) == 5


def test_a_user_who_saw_all_gets_an_empty_list_or_repeats() -> None:
    catalogue = catalogue_of(["a", "b"])
    user_state = user_state_after(arrived([event(1.0, "view", "a"), event(2.0, "view", "b")]), catalogue)
    assert rank([query(user_state)], catalogue, ItemStatistics(2), TOP) == [[]]
    (again,) = rank([query(user_state)], catalogue, ItemStatistics(2), ranking_rules(repeats=True))
    assert len(again) == 2


def test_a_hidden_item_never_comes_back_even_with_repeats() -> None:
    catalogue = catalogue_of(["a", "b"])
    user_state = user_state_after(arrived([event(1.0, "like", "a"), event(2.0, "hide", "a")]), catalogue)
    (ranked,) = rank([query(user_state)], catalogue, popular({0: 9, 1: 1}), ranking_rules(repeats=True))
    assert [catalogue.ids[one.item] for one in ranked] == ["b"]


def test_an_empty_catalogue_gives_empty_lists() -> None:
    assert rank([query(UserState("u")), query(UserState("v"))], Catalogue(DIM), ItemStatistics(2), TOP) == [
        [],
        [],
    ]
    assert rank([], catalogue_of(["a"]), ItemStatistics(2), TOP) == []


def test_a_catalogue_of_ghosts_gives_an_empty_list() -> None:
    catalogue = Catalogue(DIM)
    catalogue.intern("ghost")
    assert rank([query(UserState("u"))], catalogue, popular({0: 3}), TOP) == [[]]


def test_a_query_is_not_changed_by_what_the_user_does_next() -> None:
    catalogue = genre_world()
    user_state = user_state_after(arrived([event(1.0, "like", "tea0")]), catalogue)
    asked = query(user_state)
    before = rank([asked], catalogue, ItemStatistics(8), TOP)
    for one in arrived([event(float(k), "like", f"war{k}") for k in range(9)])[1:]:
        user_state.observe(one, catalogue, RULES, 0.0)
    after: list[list[RankedItem]] = rank([asked], catalogue, ItemStatistics(8), TOP)
    assert [[(r.item, r.score) for r in ranked] for ranked in after] == [
        [(r.item, r.score) for r in ranked] for ranked in before
    ]
    assert asked.version == 1 < user_state.version


def test_lists_are_the_same_whatever_the_handles() -> None:
    forward = genre_world()
    backward = Catalogue(DIM)
    for name in reversed(forward.ids):
        backward.put(name, forward.vector(forward.handle(name) or 0))
    events = [event(1.0, "like", "tea0"), event(2.0, "view", "law1"), event(3.0, "search", text="war")]
    assert listed(forward, *events, n=30) == listed(backward, *events, n=30)
