"""Online learning: a sample of the events becomes training examples, never dominated by one user."""

from __future__ import annotations

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
"""Pairs ``(n, most)``: of the newest n examples, a user has at most so many at full weight. Each further one
weighs less, so that neither a busy hour of one person nor a robot moves the weights."""
_NEWEST: Final = max(newest for newest, _ in _SHARES)
_ATTRIBUTED: Final = 2.0
"""Weight of an example that answers a list of ours, for it is certain which items the user saw."""
_FORGETTING: Final = 0.999
"""Factor by which the share of repeats forgets with each engagement."""
_SAVED_S: Final = 0.2
"""Most seconds of learning that a quiet stream saves for a busy one."""
_REPEATERS: Final = 0.05
"""Share of repeats above which lists may hold items that users have seen."""


@dataclass(frozen=True, slots=True)
class LearningRules:
    """How much is learned."""

    enabled: bool
    """Whether the weights of the signals follow what users choose; else they stay as they are."""
    all_of: int = 2_000
    """Number of examples up to which every event offered is taken."""
    every: int = 4
    """After ``all_of`` examples, one in so many events is taken."""
    settled: int = 25_000
    """Number of examples up to which one in ``every`` events is taken."""
    seldom: int = 128
    """After ``settled`` examples, one in so many events is taken: an example costs several times an event."""
    time_share: float | None = None
    """Greatest share of the time spent on learning; None: no limit, so that the result of a replay does not
    depend on the time."""


class SamplingState(NamedTuple):
    """What decides which events become examples."""

    offers: int
    """Events offered so far."""
    newest: Sequence[int]
    """Users of the newest examples, as checksums of their ids."""


class OnlineLearner:
    """Lets the recommender learn what users chose, by their state of just before.

    ``clock`` gives seconds that only grow, to keep to ``rules.time_share``.
    """

    def __init__(
        self,
        recommender: Recommender,
        rules: LearningRules,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._recommender = recommender
        self._clock = clock
        self._rules = rules
        self._newest: deque[int] = deque(maxlen=_NEWEST)
        self._of: tuple[Counter[int], ...] = tuple(Counter() for _ in _SHARES)
        self._offered = 0
        self._began = clock()
        self._left_s = _SAVED_S
        self._has_time = True
        self.repeats = 0.0
        """Share of engagements, lately, with items that the user had engaged with before."""

    def resume(self, repeats: float) -> None:
        """Go on with the share of repeats that was found before."""
        self.repeats = repeats
        self._recommender.people_repeat = repeats > _REPEATERS

    @property
    def sampling_state(self) -> SamplingState:
        """What decides which event is taken next, and how much it weighs."""
        return SamplingState(self._offered, list(self._newest))

    def resume_sampling(self, before: SamplingState) -> None:
        """Go on from a state noted before."""
        self._offered = before.offers
        for user in before.newest:
            self._share(user)

    def forget(self) -> None:
        """Forget which users the newest examples are of."""
        self._newest.clear()
        for of in self._of:
            of.clear()

    def begin(self, *, has_time: bool = True) -> None:
        """Begin a micro-batch: a share of the time since the last one may be spent on learning.

        Without ``has_time`` not in this one, whose events have waited already.
        """
        self._has_time = has_time
        now = self._clock()
        if self._rules.time_share is not None:
            self._left_s = min(self._left_s + self._rules.time_share * (now - self._began), _SAVED_S)
        self._began = now

    def offer(
        self,
        event: Event,
        item: int,
        user_state: UserState,
        *,
        before_learning: Callable[[], None] | None = None,
    ) -> bool:
        """Offer an engagement that ``user_state`` does not hold yet; whether it was learned from.

        ``before_learning`` is called if it is going to be: to bring up to date what it is learned from.
        """
        seen_before = item in user_state.seen
        self.resume(_FORGETTING * self.repeats + (1.0 - _FORGETTING) * seen_before)
        if not self._rules.enabled or user_state.as_of is None:
            return False
        # Of a late event, and of two at the same time, it is not known what came before.
        if not user_state.recent or event.ts <= user_state.recent[-1].ts:
            return False
        self._offered += 1
        examples = self._recommender.model.examples
        if not self._has_time or self._left_s <= 0.0 or self._offered % self._every(examples):
            return False
        if before_learning is not None:
            before_learning()
        begin = self._clock()
        as_of = AsOf(event.ts, event.partition.name, event.offset)
        weight = self._share(crc32(event.user_id.encode())) * (1.0 if event.rec is None else _ATTRIBUTED)
        is_learned = self._recommender.learn(query_of(user_state, as_of, "event", 0.0), item, weight=weight)
        if self._rules.time_share is not None:
            # One that was held up, by a swap or a kernel being compiled, does not stop the learning for long.
            self._left_s = max(self._left_s - (self._clock() - begin), -_SAVED_S)
        return is_learned

    def _every(self, examples: float) -> int:
        """One in how many events is taken now."""
        rules = self._rules
        if examples < rules.all_of:
            return 1
        return rules.every if examples < rules.settled else rules.seldom

    def _share(self, user: int) -> float:
        """Count an example among the newest ones of its user; gives its weight, less if they are many."""
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
