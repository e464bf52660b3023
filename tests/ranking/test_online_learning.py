"""The learner: which events are lessons, and what they weigh."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from recstream.ranking import online_learning as module
from recstream.ranking.online_learning import LearningRules, OnlineLearner
from recstream.ranking.query import query_of
from recstream.ranking.recommender import RankingRules, Recommender
from recstream.records.event import Event
from recstream.users.state import UserState
from tests.support.builders import RULES, catalogue_of, event, popular

ITEMS = [f"i{k}" for k in range(12)]
ALL = LearningRules(all_of=10**9)


class Lesson:
    """A learner of a small world in which every item is a candidate, and its users."""

    def __init__(self, rules: LearningRules = ALL, *, repeats: bool | None = None) -> None:
        self.catalogue = catalogue_of(ITEMS)
        statistics = popular({row: 1 + row for row in range(len(ITEMS))})
        self.recommender = Recommender(self.catalogue, statistics, RankingRules(repeats=repeats))
        self.learner = OnlineLearner(self.recommender, rules)
        self.learner.begin()
        self.users: dict[str, UserState] = {}
        self.offset = 0

    @property
    def examples(self) -> float:
        return self.recommender.model.examples

    def allows_repeats(self) -> bool:
        return self.recommender.people_repeat

    def meet(self, item_id: str, ts: float, *, user: str = "u1", rec: tuple[int, int] | None = None) -> bool:
        """A view is met, then applied; whether it was a lesson."""
        self.offset += 1
        one: Event = event(ts, "view", item_id, user=user, offset=self.offset)._replace(rec=rec)
        user_state = self.users.setdefault(user, UserState(user))
        item = self.catalogue.handle(item_id)
        assert item is not None
        found = self.learner.meet(one, item, user_state)
        user_state.observe(one, self.catalogue, RULES, 0.0)
        return found


def test_each_engagement_of_a_known_user_is_a_lesson() -> None:
    arrays = Lesson()
    assert [arrays.meet(f"i{k}", float(k)) for k in range(4)] == [False, True, True, True]
    assert arrays.examples == 3.0


def test_events_of_one_moment_and_late_ones_teach_nothing() -> None:
    """What came before them is not known."""
    arrays = Lesson()
    arrays.meet("i0", 10.0)
    before = arrays.recommender.model.to_bytes()
    assert not arrays.meet("i1", 10.0)
    assert not arrays.meet("i2", 3.0)
    assert arrays.recommender.model.to_bytes() == before
    assert arrays.meet("i3", 11.0)


def test_an_item_that_could_not_be_listed_teaches_nothing() -> None:
    arrays = Lesson(repeats=False)
    arrays.meet("i0", 1.0)
    assert not arrays.meet("i0", 2.0)  # seen
    arrays.catalogue.put("i5", arrays.catalogue.vector(5), available=False)
    assert not arrays.meet("i5", 3.0)
    assert arrays.examples == 0.0
    user_state = arrays.users["u1"]
    assert user_state.as_of is not None
    asked = query_of(user_state, user_state.as_of, "event", 0.0)
    assert not arrays.recommender.learn(asked, 5)
    assert arrays.recommender.learn(asked, 7)


def test_a_lesson_is_of_how_the_user_stood_just_before() -> None:
    arrays, apart = Lesson(), Lesson()
    for one in (arrays, apart):
        one.meet("i0", 1.0)
    user_state = apart.users["u1"]
    assert user_state.as_of is not None
    apart.recommender.learn(query_of(user_state, user_state.as_of, "event", 0.0), 4)
    arrays.meet("i4", 2.0)
    assert arrays.recommender.model.linear == pytest.approx(apart.recommender.model.linear, abs=1e-6)


def test_a_lesson_that_answers_a_list_of_ours_weighs_more() -> None:
    plain, answer = Lesson(), Lesson()
    start = plain.recommender.model.linear.copy()
    for arrays, rec in ((plain, None), (answer, (1, 1))):
        arrays.meet("i0", 1.0)
        arrays.meet("i4", 2.0, rec=rec)
    moved = [abs(arrays.recommender.model.linear - start).sum() for arrays in (plain, answer)]
    assert moved[1] > moved[0] > 0.0


def test_a_flood_by_one_user_weighs_no_more_than_a_few_of_its_lessons() -> None:
    """Seen in the weights themselves: a twin is taught the same with the weights that are wanted."""
    flooded, twin = Lesson(repeats=True), Lesson(repeats=True)
    weights = []
    for k in range(200):
        user_state = twin.users.setdefault("u1", UserState("u1"))
        if user_state.as_of is not None:
            weights.append(math.prod(min(1.0, most / min(k, newest)) for newest, most in module._SHARES))
            asked = query_of(user_state, user_state.as_of._replace(ts=float(k), offset=k + 1), "event", 0.0)
            twin.recommender.learn(asked, k % 12, weight=weights[-1])
        one = event(float(k), "view", f"i{k % 12}", offset=k + 1)
        user_state.observe(one, twin.catalogue, RULES, 0.0)
        flooded.meet(f"i{k % 12}", float(k))
    assert flooded.recommender.model.to_bytes() == twin.recommender.model.to_bytes()
    newest, most = module._SHARES[0]
    assert sum(weights[-newest:]) <= most + 1e-9
    assert weights[-1] < weights[most] < weights[0] == 1.0


def test_many_users_all_weigh_in_full() -> None:
    arrays, alone = Lesson(), Lesson()
    for k in range(40):
        arrays.meet("i0", float(2 * k), user=f"u{k}")
        arrays.meet(f"i{1 + k % 11}", float(2 * k + 1), user=f"u{k}")
        alone.meet("i0", float(2 * k), user=f"u{k}")
        alone.learner = OnlineLearner(alone.recommender, ALL)  # one that has met nobody before
        alone.learner.begin()
        alone.meet(f"i{1 + k % 11}", float(2 * k + 1), user=f"u{k}")
    assert arrays.recommender.model.to_bytes() == alone.recommender.model.to_bytes()
    assert arrays.examples == 40.0


def test_after_the_first_lessons_one_in_so_many_is_taken() -> None:
    arrays = Lesson(LearningRules(all_of=5, every=4))
    taken = [arrays.meet(f"i{k % 12}", float(k), user="u1" if k < 12 else f"u{k % 7}") for k in range(80)]
    first = [place for place, is_lesson in enumerate(taken) if is_lesson]
    assert first[:5] == [1, 2, 3, 4, 5]
    later = taken[20:]
    assert 0 < sum(later) <= len(later) / 4


def test_a_stream_that_has_taught_much_is_seldom_learned_from() -> None:
    arrays = Lesson(LearningRules(all_of=3, every=2, settled=10, seldom=20), repeats=True)
    taken = [arrays.meet(f"i{k % 12}", float(k), user=f"u{k % 5}") for k in range(200)]
    assert arrays.examples >= 10
    settled = [place for place, _ in enumerate(taken) if sum(taken[:place]) >= 10]
    assert 0 < sum(taken[settled[0] :]) <= len(settled) / 20 + 1


class Clock:
    """Each look at it takes a hundredth of a second: so long takes each lesson."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def test_of_a_live_streams_time_no_more_than_a_share_is_learned_in() -> None:
    """However fast the events come; and what a quiet hour left unused is not all kept for a busy one."""
    arrays, clock = Lesson(repeats=True), Clock()
    arrays.learner = OnlineLearner(arrays.recommender, dataclasses.replace(ALL, time_share=0.1), clock=clock)
    for k in range(20_000):
        if k % 10 == 0:
            arrays.learner.begin()
            clock.now += 0.04
        arrays.meet(f"i{k % 12}", float(k), user=f"u{k % 50}")
    spent, time_there_was = 0.01 * arrays.examples, clock.now
    assert 0.05 * time_there_was <= spent <= 0.1 * time_there_was + 0.3
    clock.now += 3600.0
    before = arrays.examples
    arrays.learner.begin()
    for k in range(1000):
        arrays.meet(f"i{k % 12}", 1e6 + k, user=f"u{k % 50}")
    assert 15 <= arrays.examples - before <= 25


def test_a_lesson_that_was_held_up_does_not_stop_the_learning_for_long() -> None:
    arrays, clock = Lesson(repeats=True), Clock()
    arrays.learner = OnlineLearner(arrays.recommender, dataclasses.replace(ALL, time_share=0.1), clock=clock)
    learn = arrays.recommender.learn

    def held_up(*args: Any, **more: Any) -> bool:
        clock.now += 600.0  # a loop was compiled, the machine was out of memory
        return learn(*args, **more)

    arrays.meet("i0", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays.recommender, "learn", held_up)
        assert arrays.meet("i1", 1.0)
    arrays.learner.begin()
    arrays.learner._began = clock.now  # of that time nothing is earned
    clock.now += 5.0
    arrays.learner.begin()
    assert arrays.meet("i3", 3.0)


def test_in_a_replay_what_is_learned_does_not_depend_on_the_time() -> None:
    worlds = Lesson(repeats=True), Lesson(repeats=True)
    worlds[1].learner = OnlineLearner(worlds[1].recommender, ALL, clock=Clock())
    for arrays in worlds:
        for k in range(400):
            arrays.learner.begin()
            arrays.meet(f"i{k % 12}", float(k), user=f"u{k % 50}")
    assert worlds[0].examples == worlds[1].examples > 300
    assert worlds[0].recommender.model.to_bytes() == worlds[1].recommender.model.to_bytes()


def test_frozen_it_learns_nothing_but_still_sees_whether_people_come_back() -> None:
    arrays = Lesson(dataclasses.replace(ALL, enabled=False))
    before = arrays.recommender.model.to_bytes()
    for k in range(300):
        arrays.meet("i0", float(k))
    assert arrays.recommender.model.to_bytes() == before
    assert arrays.allows_repeats()


def test_lists_may_hold_what_was_seen_once_people_come_back_to_items() -> None:
    arrays = Lesson()
    for k in range(12):
        arrays.meet(f"i{k}", float(k))
    assert not arrays.allows_repeats()
    user_state = arrays.users["u1"]
    assert user_state.as_of is not None
    asked = query_of(user_state, user_state.as_of, "request", 0.0)
    assert arrays.recommender.rank([asked]) == [[]]
    for k in range(200):
        arrays.meet("i3", 100.0 + k, user="u2")
    assert arrays.allows_repeats()
    assert len(arrays.recommender.rank([asked])[0]) == 12
    met = 0
    while arrays.allows_repeats() and met < 20_000:  # and no more, when all is new to people
        arrays.meet("i3", 1000.0 + met, user=f"new{met}")
        met += 1
    assert 100 < met < 20_000


@pytest.mark.parametrize("repeats", [True, False])
def test_a_setting_overrules_what_people_do(repeats: bool) -> None:
    arrays = Lesson(repeats=repeats)
    for k in range(300):
        arrays.meet("i0" if not repeats else f"i{k % 12}", float(k), user="u1" if not repeats else f"u{k}")
    assert arrays.allows_repeats() is repeats
