"""Which events the ranking learns from, and when: a sample, at no time dominated by one user."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from zlib import crc32

from recstream.ranking.query import query_of
from recstream.ranking.recommender import Recommender
from recstream.records.event import Event
from recstream.users.state import AsOf, UserState

__all__ = ["LearningRules", "OnlineLearner", "SamplingState"]

_SHARES: Final = ((64, 8), (1024, 32))
"""Among so many of the newest lessons a user may have so many at full weight. Further ones weigh less, the
less the more there are: so neither a busy hour of one person nor a robot turns the weights."""
_NEWEST: Final = max(newest for newest, _ in _SHARES)
_ATTRIBUTED: Final = 2.0
"""Weight of a lesson that answers a list of ours: what stood before the user is certain."""
_FORGETTING: Final = 0.999
"""By how much the share of repeats forgets with each engagement."""
_SAVED_S: Final = 0.2
"""So much of the time for lessons that a quiet stream has not used is kept for a busy one."""
_REPEATERS: Final = 0.05
"""From this share of repeats on, people come back to items, and lists may hold what was seen."""


@dataclass(frozen=True, slots=True)
class LearningRules:
    """How much is learned."""

    enabled: bool = True
    """Whether the weights of the signals follow what users choose; else they stay as they are."""
    all_of: int = 2_000
    """So many first lessons are all taken; then"""
    every: int = 4
    """one in so many, until there were"""
    settled: int = 25_000
    """so many: from then on"""
    seldom: int = 128
    """one in so many: what an event costs is a fraction of a lesson, and would be lost among many of them."""
    time_share: float | None = None
    """Of the time no more than this share is spent on lessons; None: as much as they take, for what a replay
    learns shall not depend on the time."""


class SamplingState(NamedTuple):
    """Which lessons there were to take."""

    offers: int
    newest: Sequence[int]
    """Whose the newest taken were, as checksums of the users' ids."""


class OnlineLearner:
    """Shows the recommender what users chose, as they stood just before."""

    def __init__(
        self,
        recommender: Recommender,
        rules: LearningRules,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._recommender = recommender
        self._clock = clock
        self._rules = rules
        self._newest: deque[int] = deque(maxlen=_NEWEST)
        self._of: tuple[Counter[int], ...] = tuple(Counter() for _ in _SHARES)
        self._offered = 0
        self._began = clock()
        self._left_s = _SAVED_S
        self.repeats = 0.0
        """Share of engagements, lately, with items that the user had engaged with before."""

    def resume(self, repeats: float) -> None:
        """Go on with the share of repeats that was found before."""
        self.repeats = repeats
        self._recommender.people_repeat = repeats > _REPEATERS

    @property
    def offered(self) -> SamplingState:
        """By what it is decided which lesson is taken next, and how much it weighs."""
        return SamplingState(self._offered, list(self._newest))

    def go_on(self, before: SamplingState) -> None:
        """Decide from here on as where ``before`` was noted."""
        self._offered = before.offers
        for user in before.newest:
            self._share(user)

    def forget(self) -> None:
        """Forget whose the newest lessons were."""
        self._newest.clear()
        for of in self._of:
            of.clear()

    def begin(self) -> None:
        """A micro-batch begins: of the time since the one before, a share is for lessons."""
        now = self._clock()
        if self._rules.time_share is not None:
            self._left_s = min(self._left_s + self._rules.time_share * (now - self._began), _SAVED_S)
        self._began = now

    def meet(self, event: Event, item: int, user_state: UserState) -> bool:
        """An engagement with an item that the user's profile does not hold yet; whether it was a lesson."""
        seen_before = item in user_state.seen
        self.resume(_FORGETTING * self.repeats + (1.0 - _FORGETTING) * seen_before)
        if not self._rules.enabled or user_state.as_of is None:
            return False
        # Of one moment, as of one late event, it is not known what came before.
        if not user_state.recent or event.ts <= user_state.recent[-1].ts:
            return False
        self._offered += 1
        examples = self._recommender.model.examples
        if self._left_s <= 0.0 or self._offered % self._every(examples):
            return False
        begin = self._clock()
        moment = AsOf(event.ts, event.partition.name, event.offset)
        weight = self._share(crc32(event.user_id.encode())) * (1.0 if event.rec is None else _ATTRIBUTED)
        is_lesson = self._recommender.learn(query_of(user_state, moment, "event", 0.0), item, weight=weight)
        if self._rules.time_share is not None:
            # One that was held up, by a swap or a loop compiled, does not stop the learning for long.
            self._left_s = max(self._left_s - (self._clock() - begin), -_SAVED_S)
        return is_lesson

    def _every(self, examples: float) -> int:
        """One in how many events is a lesson now."""
        rules = self._rules
        if examples < rules.all_of:
            return 1
        return rules.every if examples < rules.settled else rules.seldom

    def _share(self, user: int) -> float:
        """Count a lesson of a user among the newest; gives what it weighs for being one of so many."""
        weight = 1.0
        have = len(self._newest)
        for (newest, most), of in zip(_SHARES, self._of, strict=True):
            if have >= newest:
                oldest = self._newest[have - newest]
                of[oldest] -= 1
                if not of[oldest]:
                    del of[oldest]
            of[user] += 1
            weight *= min(1.0, most / of[user])
        self._newest.append(user)
        return weight
