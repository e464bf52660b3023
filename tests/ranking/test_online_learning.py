"""Online learning: which events become training examples, and what they weigh."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import pytest

from recstream.ranking import online_learning as module
from recstream.ranking.online_learning import LearningRules, OnlineLearner
from recstream.ranking.query import query_of
from recstream.ranking.recommender import Recommender
from recstream.records.arrays import AnyArray
from recstream.records.event import Event
from recstream.users.state import UserState
from tests.support.builders import RULES, catalogue_of, event, popular
from tests.support.rules import learning_rules, ranking_rules

ITEMS = [f"i{k}" for k in range(12)]
ALL = learning_rules(all_of=10**9)


class Learning:
    """A learner over a small catalogue in which every item is a candidate, and its users."""

    def __init__(self, rules: LearningRules = ALL, *, repeats: bool | None = None) -> None:
        self.catalogue = catalogue_of(ITEMS)
        statistics = popular({row: 1 + row for row in range(len(ITEMS))})
        self.recommender = Recommender(self.catalogue, statistics, ranking_rules(repeats=repeats))
        self.learner = OnlineLearner(self.recommender, rules, clock=time.perf_counter)
        self.learner.begin()
        self.users: dict[str, UserState] = {}
        self.offset = 0

    @property
    def examples(self) -> float:
        return self.recommender.model.examples

    def allows_repeats(self) -> bool:
        return self.recommender.people_repeat

    def view(self, item_id: str, ts: float, *, user: str = "u1", rec: tuple[int, int] | None = None) -> bool:
        """Offer a view, then apply it; whether something was learned."""
        self.offset += 1
        one: Event = event(ts, "view", item_id, user=user, offset=self.offset)._replace(rec=rec)
        user_state = self.users.setdefault(user, UserState(user))
        item = self.catalogue.handle(item_id)
        assert item is not None
        found = self.learner.offer(one, item, user_state)
        user_state.observe(one, self.catalogue, RULES, 0.0)
        return found


def effects(learning: Learning) -> AnyArray:
    """What each signal is worth."""
    return np.array(list(learning.recommender.model.feature_effects.values()))


def test_each_engagement_of_a_known_user_is_an_example() -> None:
    learning = Learning()
    assert [learning.view(f"i{k}", float(k)) for k in range(4)] == [False, True, True, True]
    assert learning.examples == 3.0


def test_events_at_one_time_and_late_ones_teach_nothing() -> None:
    """What came before them is not known."""
    learning = Learning()
    learning.view("i0", 10.0)
    before = learning.recommender.model.to_bytes()
    assert not learning.view("i1", 10.0)
    assert not learning.view("i2", 3.0)
    assert learning.recommender.model.to_bytes() == before
    assert learning.view("i3", 11.0)


def test_an_item_that_could_not_be_listed_teaches_nothing() -> None:
    learning = Learning(repeats=False)
    learning.view("i0", 1.0)
    assert not learning.view("i0", 2.0)  # seen
    learning.catalogue.put("i5", learning.catalogue.vector(5), available=False)
    assert not learning.view("i5", 3.0)
    assert learning.examples == 0.0
    user_state = learning.users["u1"]
    assert user_state.as_of is not None
    asked = query_of(user_state, user_state.as_of, "event", 0.0)
    assert not learning.recommender.learn(asked, 5)
    assert learning.recommender.learn(asked, 7)


def test_an_example_is_of_the_state_just_before() -> None:
    learning, apart = Learning(), Learning()
    for one in (learning, apart):
        one.view("i0", 1.0)
    user_state = apart.users["u1"]
    assert user_state.as_of is not None
    apart.recommender.learn(query_of(user_state, user_state.as_of, "event", 0.0), 4)
    learning.view("i4", 2.0)
    assert effects(learning) == pytest.approx(effects(apart), abs=1e-6)


def test_an_example_that_answers_a_list_of_ours_weighs_more() -> None:
    plain, answer = Learning(), Learning()
    start = effects(plain)
    for learning, rec in ((plain, None), (answer, (1, 1))):
        learning.view("i0", 1.0)
        learning.view("i4", 2.0, rec=rec)
    moved = [np.abs(effects(learning) - start).sum() for learning in (plain, answer)]
    assert moved[1] > moved[0] > 0.0


def test_a_flood_by_one_user_weighs_no_more_than_a_few_of_its_examples() -> None:
    """Seen in the weights themselves: another model learns the same with the weights wanted."""
    flooded, wanted = Learning(repeats=True), Learning(repeats=True)
    weights = []
    for k in range(200):
        user_state = wanted.users.setdefault("u1", UserState("u1"))
        if user_state.as_of is not None:
            weights.append(math.prod(min(1.0, most / min(k, newest)) for newest, most in module._SHARES))
            asked = query_of(user_state, user_state.as_of._replace(ts=float(k), offset=k + 1), "event", 0.0)
            wanted.recommender.learn(asked, k % 12, weight=weights[-1])
        one = event(float(k), "view", f"i{k % 12}", offset=k + 1)
        user_state.observe(one, wanted.catalogue, RULES, 0.0)
        flooded.view(f"i{k % 12}", float(k))
    assert flooded.recommender.model.to_bytes() == wanted.recommender.model.to_bytes()
    newest, most = module._SHARES[0]
    assert sum(weights[-newest:]) <= most + 1e-9
    assert weights[-1] < weights[most] < weights[0] == 1.0


def test_many_users_all_weigh_in_full() -> None:
    learning, alone = Learning(), Learning()
    for k in range(40):
        learning.view("i0", float(2 * k), user=f"u{k}")
        learning.view(f"i{1 + k % 11}", float(2 * k + 1), user=f"u{k}")
        alone.view("i0", float(2 * k), user=f"u{k}")
        alone.learner = OnlineLearner(
            alone.recommender, ALL, clock=time.perf_counter
        )  # one that has met nobody before
        alone.learner.begin()
        alone.view(f"i{1 + k % 11}", float(2 * k + 1), user=f"u{k}")
    assert learning.recommender.model.to_bytes() == alone.recommender.model.to_bytes()
    assert learning.examples == 40.0


def test_after_the_first_examples_one_in_so_many_is_taken() -> None:
    learning = Learning(learning_rules(all_of=5, every=4))
    taken = [learning.view(f"i{k % 12}", float(k), user="u1" if k < 12 else f"u{k % 7}") for k in range(80)]
    first = [place for place, is_taken in enumerate(taken) if is_taken]
    assert first[:5] == [1, 2, 3, 4, 5]
    later = taken[20:]
    assert 0 < sum(later) <= len(later) / 4


def test_a_stream_that_has_taught_much_is_seldom_learned_from() -> None:
    learning = Learning(learning_rules(all_of=3, every=2, settled=10, seldom=20), repeats=True)
    taken = [learning.view(f"i{k % 12}", float(k), user=f"u{k % 5}") for k in range(200)]
    assert learning.examples >= 10
    settled = [place for place, _ in enumerate(taken) if sum(taken[:place]) >= 10]
    assert 0 < sum(taken[settled[0] :]) <= len(settled) / 20 + 1


class Clock:
    """Each look at it takes a hundredth of a second: so long takes each example."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def test_of_a_live_streams_time_no_more_than_a_share_is_learned_in() -> None:
    """However fast the events come; and what a quiet hour left unused is not all kept for a busy one."""
    learning, clock = Learning(repeats=True), Clock()
    learning.learner = OnlineLearner(
        learning.recommender, dataclasses.replace(ALL, time_share=0.1), clock=clock
    )
    for k in range(20_000):
        if k % 10 == 0:
            learning.learner.begin()
            clock.now += 0.04
        learning.view(f"i{k % 12}", float(k), user=f"u{k % 50}")
    spent, time_there_was = 0.01 * learning.examples, clock.now
    assert 0.05 * time_there_was <= spent <= 0.1 * time_there_was + 0.3
    clock.now += 3600.0
    before = learning.examples
    learning.learner.begin()
    for k in range(1000):
        learning.view(f"i{k % 12}", 1e6 + k, user=f"u{k % 50}")
    assert 15 <= learning.examples - before <= 25


def test_an_example_that_was_held_up_does_not_stop_the_learning_for_long() -> None:
    learning, clock = Learning(repeats=True), Clock()
    learning.learner = OnlineLearner(
        learning.recommender, dataclasses.replace(ALL, time_share=0.1), clock=clock
    )
    learn = learning.recommender.learn

    def held_up(*args: Any, **more: Any) -> bool:
        clock.now += 600.0  # a loop was compiled, the machine was out of memory
        return learn(*args, **more)

    learning.view("i0", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning.recommender, "learn", held_up)
        assert learning.view("i1", 1.0)
    learning.learner.begin()
    learning.learner._began = clock.now  # of that time nothing is earned
    clock.now += 5.0
    learning.learner.begin()
    assert learning.view("i3", 3.0)


def test_in_a_replay_what_is_learned_does_not_depend_on_the_time() -> None:
    pair = Learning(repeats=True), Learning(repeats=True)
    pair[1].learner = OnlineLearner(pair[1].recommender, ALL, clock=Clock())
    for learning in pair:
        for k in range(400):
            learning.learner.begin()
            learning.view(f"i{k % 12}", float(k), user=f"u{k % 50}")
    assert pair[0].examples == pair[1].examples > 300
    assert pair[0].recommender.model.to_bytes() == pair[1].recommender.model.to_bytes()


def test_frozen_it_learns_nothing_but_still_sees_whether_people_come_back() -> None:
    learning = Learning(dataclasses.replace(ALL, enabled=False))
    before = learning.recommender.model.to_bytes()
    for k in range(300):
        learning.view("i0", float(k))
    assert learning.recommender.model.to_bytes() == before
    assert learning.allows_repeats()


def test_lists_may_hold_what_was_seen_once_people_come_back_to_items() -> None:
    learning = Learning()
    for k in range(12):
        learning.view(f"i{k}", float(k))
    assert not learning.allows_repeats()
    user_state = learning.users["u1"]
    assert user_state.as_of is not None
    asked = query_of(user_state, user_state.as_of, "request", 0.0)
    assert learning.recommender.rank([asked]) == [[]]
    for k in range(200):
        learning.view("i3", 100.0 + k, user="u2")
    assert learning.allows_repeats()
    assert len(learning.recommender.rank([asked])[0]) == 12
    met = 0
    while learning.allows_repeats() and met < 20_000:  # and no more, when all is new to people
        learning.view("i3", 1000.0 + met, user=f"new{met}")
        met += 1
    assert 100 < met < 20_000


@pytest.mark.parametrize("repeats", [True, False])
def test_a_setting_overrules_what_people_do(repeats: bool) -> None:
    learning = Learning(repeats=repeats)
    for k in range(300):
        learning.view("i0" if not repeats else f"i{k % 12}", float(k), user="u1" if not repeats else f"u{k}")
    assert learning.allows_repeats() is repeats
